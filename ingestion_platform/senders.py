"""
Who is expected to send a dataset's objects, on which days, and by when.

Belongs here: what a declaration says of senders, and the moments that follow from it. Doesn't: on which days they are open
(`opening_days.py`), what came of it (`completeness.py`), reading rosters (`warehouse/`).
"""

from dataclasses import dataclass as plain
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError
from ingestion_platform.opening_days import OpeningDays, Weekday
from ingestion_platform.table import STRICT


def known_zone(name: str) -> ZoneInfo | None:
    """The time zone of that name; None when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Cutoff:
    """
    By when a sender's object of a day is expected, by his own clock, and how long it is waited for.

    Args:
        at: local time; of a clock that shows it twice the second, of one that leaves it out the moment after.
        days_after: how many days after the object's own; 1: the next morning.
        grace_hours: after the cutoff, until the deadline: then the day counts as it is.
    """

    at: time = time(2)
    days_after: int = 1
    grace_hours: int = 24

    def __post_init__(self) -> None:
        if self.at.tzinfo is not None:
            raise DeclarationError("Cutoff: at is a local time, each sender's own, and has no time zone", "time(6)")
        if not 0 <= self.days_after <= 31:
            raise DeclarationError(f"Cutoff: days_after is 0 to 31, not {self.days_after}")
        if not 0 <= self.grace_hours <= 24 * 31:
            raise DeclarationError(f"Cutoff: grace_hours is 0 to {24 * 31}, not {self.grace_hours}")

    def moment(self, day: date, zone: ZoneInfo) -> datetime:
        """The cutoff of a day, UTC."""
        if (date.max - day).days <= self.days_after + 1:
            return datetime.max.replace(tzinfo=UTC)
        local = datetime.combine(day + timedelta(days=self.days_after), self.at, zone)
        # Of an hour that the clock leaves out, one fold is before the gap and one after it.
        return max(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))

    def deadline(self, day: date, zone: ZoneInfo) -> datetime:
        """The moment after which a day isn't waited for, UTC: so many hours after the cutoff, whatever clocks do."""
        cutoff = self.moment(day, zone)
        grace = timedelta(hours=self.grace_hours)
        return cutoff if datetime.max.replace(tzinfo=UTC) - cutoff < grace else cutoff + grace


CLOSE_OF_THE_DAY = Cutoff()
"""Where none is declared: when the close of the day runs."""


@dataclass(frozen=True, config=STRICT)
class Sender:
    """
    One sender of a list in a declaration.

    Args:
        id: as the capture in the keys says it.
        country: ISO 3166 alpha-2, `ZA`, or a part of it, `DE-BY`: whose public holidays are his.
        time_zone: his clock; None: the dataset's.
        active_from: the first day on which he is expected.
        active_until: the last one.
        weekdays: on which he is open; empty: as `OpeningDays` says.
    """

    id: str
    country: str | None = None
    time_zone: str | None = None
    active_from: date | None = None
    active_until: date | None = None
    weekdays: tuple[Weekday, ...] = ()

    def __post_init__(self) -> None:
        if not self.id:
            raise DeclarationError("Sender: an id isn't empty")
        if self.time_zone is not None and known_zone(self.time_zone) is None:
            raise DeclarationError(
                f"Sender {self.id!r}: time_zone {self.time_zone!r} is unknown", "as in Africa/Windhoek"
            )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ClosuresFrom:
    """
    A snapshots dataset that lists closures, one a row.

    Args:
        dataset: its name.
        first: its DATE column with the first closed day.
        last: its DATE column with the last one; where it is NULL, or there is no such column, the first alone.
        sender: its column with the sender's id; where it is NULL, or there is no such column, every sender is closed.
        country: its column with a country: only the senders of it are closed.
        reason: its column that says why.
    """

    dataset: str
    first: str
    last: str | None = None
    sender: str | None = None
    country: str | None = None
    reason: str | None = None

    @property
    def columns(self) -> dict[str, str]:
        """Column → the type that is read of it."""
        dates = {name: "DATE" for name in (self.first, self.last) if name is not None}
        return dates | {name: "VARCHAR" for name in (self.sender, self.country, self.reason) if name is not None}


@dataclass(frozen=True, config=STRICT)
class Senders:
    """
    Who is expected to send, on which days, and by when.

    Args:
        dataset: a snapshots dataset that lists them.
        column: its column with the sender's id.
        capture: the capture in this dataset's keys that names the sender. Default: the column's name.
        active_from: its DATE column with the first day on which a sender is expected.
        active_until: its DATE column with the last one; NULL: there is none yet.
        time_zone: its column with the sender's time zone, `Africa/Windhoek`. Default: the dataset's, or the business time zone.
        country: its column with the sender's country, `NA`: whose public holidays are his.
        weekdays: its column with the weekdays on which a sender is open, `mon-sat`; where it is NULL, as `opening_days` says.
        listed: the senders themselves, instead of a dataset.
        opening_days: on which days they are open.
        closures: a dataset that lists closures, beside the declared ones.
        cutoff: by when an object of a day has to be there. With one, reports made of this dataset say whether they are provisional, final
            or restated; None: whoever hasn't sent when the day is closed is missing, and reports say nothing of it.
        judged_from: the first day that is held against the clock; what is older was handed over as history, and came when it came.
    """

    dataset: str = ""
    column: str = ""
    capture: str | None = None
    active_from: str | None = None
    active_until: str | None = None
    time_zone: str | None = None
    country: str | None = None
    weekdays: str | None = None
    listed: tuple[Sender, ...] = ()
    opening_days: OpeningDays = OpeningDays()
    closures: ClosuresFrom | None = None
    cutoff: Cutoff | None = None
    judged_from: date | None = None

    def __post_init__(self) -> None:
        if bool(self.dataset) == bool(self.listed):
            raise DeclarationError(
                "Senders are listed by a dataset, or here: one of both", "senders_from(…) or senders_listed(…)"
            )
        if self.dataset and not self.column:
            raise DeclarationError("Senders: column isn't said, the one with the sender's id")
        if self.listed and not self.capture:
            raise DeclarationError("Senders: capture isn't said, the one in the keys that names the sender")
        ids = [sender.id for sender in self.listed]
        if twice := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
            raise DeclarationError(f"Senders: listed twice: {twice}", "each sender once")

    @property
    def key_capture(self) -> str:
        """The capture in the keys that names the sender."""
        return self.capture or self.column

    @property
    def columns(self) -> dict[str, str]:
        """Column of the roster → the type that is read of it."""
        found = {self.column: "VARCHAR"} if self.dataset else {}
        found |= {name: "DATE" for name in (self.active_from, self.active_until) if name is not None}
        return found | {name: "VARCHAR" for name in (self.time_zone, self.country, self.weekdays) if name is not None}

    @property
    def due(self) -> Cutoff:
        """The cutoff that counts."""
        return self.cutoff or CLOSE_OF_THE_DAY

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets that it is read from."""
        return tuple(name for name in (self.dataset, self.closures.dataset if self.closures else "") if name)


def senders_from(
    dataset: str,
    column: str,
    *,
    capture: str | None = None,
    active_from: str | None = None,
    active_until: str | None = None,
    time_zone: str | None = None,
    country: str | None = None,
    weekdays: str | None = None,
    opening_days: OpeningDays | None = None,
    closures: ClosuresFrom | None = None,
    cutoff: Cutoff | None = None,
    judged_from: date | None = None,
) -> Senders:
    """Expect one object a day from each sender that *dataset* lists in *column*; see `Senders` for the rest."""
    return Senders(
        dataset, column, capture, active_from, active_until, time_zone, country, weekdays,
        opening_days=opening_days or OpeningDays(), closures=closures, cutoff=cutoff, judged_from=judged_from,
    )  # fmt: skip


def senders_listed(
    *senders: str | Sender,
    capture: str,
    opening_days: OpeningDays | None = None,
    closures: ClosuresFrom | None = None,
    cutoff: Cutoff | None = None,
    judged_from: date | None = None,
) -> Senders:
    """Expect one object a day from each of these, whom *capture* names in the keys; see `Senders` for the rest."""
    return Senders(
        capture=capture,
        listed=tuple(Sender(one) if isinstance(one, str) else one for one in senders),
        opening_days=opening_days or OpeningDays(), closures=closures, cutoff=cutoff, judged_from=judged_from,
    )  # fmt: skip


@plain(frozen=True, slots=True)
class Member:
    """
    A sender as a roster says it.

    Args:
        sender: his id.
        zone: his clock.
        country: whose public holidays are his; None: nobody's.
        active_from: the first day on which he is expected; None: always was.
        active_until: the last one; None: always will be.
        weekdays: as `date.weekday()` counts; None: as declared.
        remark: what of the roster's row couldn't be understood; empty: all could.
    """

    sender: str
    zone: ZoneInfo
    country: str | None = None
    active_from: date | None = None
    active_until: date | None = None
    weekdays: frozenset[int] | None = None
    remark: str = ""
