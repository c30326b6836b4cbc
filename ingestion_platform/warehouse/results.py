"""What the warehouse tells about a piece of work: plain, frozen, ready to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from ingestion_platform.completeness import REMARKABLE, UNUSABLE, SenderDay, Status
from ingestion_platform.lifecycle import Place

ObjectState = Literal["loaded", "duplicate", "rejected", "replaced", "pending"]


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """
    One version of one object, and what became of it.

    Args:
        dataset: whose it is.
        key: in the landing zone.
        day: of its key.
        state: `loaded`; `duplicate` (same content as `duplicate_of`); `rejected` (can't be read: `reason`); `replaced` (a later version
            came); `pending` (the one it was a duplicate of has changed: it is loaded next).
        sha256: of its bytes; empty when they couldn't be read to the end.
        size_bytes: as read.
        landed_at: UTC, as the landing zone says.
        sender: the capture that names who sent it; None when the dataset has no senders.
        reason: why it isn't loaded; empty otherwise.
        duplicate_of: key of the object with the same content.
        rows_read: records in it; `rows_loaded + rows_quarantined`.
        rows_loaded: records that entered raw.
        rows_quarantined: records that couldn't be read.
        unknown_columns: names that the declaration doesn't know.
        missing_columns: declared ones that it lacks.
        place: where it was when it was last listed.
        departures: how else it isn't as declared or recorded, though it is read.
    """

    dataset: str
    key: str
    day: date
    state: ObjectState
    sha256: str
    size_bytes: int
    landed_at: datetime
    sender: str | None = None
    reason: str = ""
    duplicate_of: str | None = None
    rows_read: int = 0
    rows_loaded: int = 0
    rows_quarantined: int = 0
    unknown_columns: tuple[str, ...] = ()
    missing_columns: tuple[str, ...] = ()
    place: Place = "hot"
    departures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    An object that is to be read, and is being fetched back from an archive.

    Args:
        dataset: that needs it.
        day: of its key.
        key: in the landing zone.
        size_bytes: as listed.
        asked_at: UTC; when it was asked for.
        expected_at: UTC; about when it is there, as a rule at the latest.
    """

    dataset: str
    day: date
    key: str
    size_bytes: int
    asked_at: datetime
    expected_at: datetime


def told_waiting(waiting: Sequence[Waiting]) -> str:
    """What is waited for, in a sentence."""
    if not waiting:
        return "nothing waits for an archive"
    asked, expected = min(one.asked_at for one in waiting), max(one.expected_at for one in waiting)
    return (
        f"{len(waiting):,} {'object is' if len(waiting) == 1 else 'objects are'} being fetched back from the archive"
        f" ({sum(one.size_bytes for one in waiting):,} bytes):"
        f" asked for since {asked:%Y-%m-%d %H:%M} UTC, expected by {expected:%Y-%m-%d %H:%M} UTC;"
        f" the first is {min(one.key for one in waiting)}"
    )


@dataclass(frozen=True, slots=True)
class Only:
    """
    Which of a day's objects a load takes; the others stay news.

    Args:
        keys: those that may be taken; None: any.
        up_to_bytes: none that is larger; None: of any size.
    """

    keys: frozenset[str] | None = None
    up_to_bytes: int | None = None

    def takes(self, key: str, size_bytes: int) -> bool:
        """Whether an object may be taken."""
        return (self.keys is None or key in self.keys) and (self.up_to_bytes is None or size_bytes <= self.up_to_bytes)

    @property
    def takes_all(self) -> bool:
        """Whether it leaves nothing out."""
        return self.keys is None and self.up_to_bytes is None


EVERYTHING = Only()
"""No limit."""


@dataclass(frozen=True, slots=True)
class RawDay:
    """
    A raw partition after a load.

    Args:
        dataset: its name.
        day: of the objects' keys.
        entries: what the ledger now says of the day's objects, former versions left out, by key.
        new_keys: objects that this load read.
        rows: rows of the partition as they now stand.
        rows_quarantined: records of it that couldn't be read.
        bytes_read: by this load.
        seconds: that this load took, wall time.
        touched_days: processed days whose rows this load added or took away.
        other_days: raw days that changed along with it (a duplicate elsewhere took the place of an object here).
        waiting: objects of the day that are to be read, and are being fetched back from an archive: they are loaded when they are there.
        unmarked: keys of objects that aren't read before their marker or manifest is there, and it isn't.
    """

    dataset: str
    day: date
    entries: tuple[LedgerEntry, ...]
    new_keys: tuple[str, ...]
    rows: int
    rows_quarantined: int
    bytes_read: int
    seconds: float
    touched_days: tuple[date, ...]
    other_days: tuple[date, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    unmarked: tuple[str, ...] = ()

    def keys(self, state: ObjectState) -> tuple[str, ...]:
        """Keys of the day's objects in that state."""
        return tuple(entry.key for entry in self.entries if entry.state == state)

    @property
    def has_changed(self) -> bool:
        """Whether this load changed anything."""
        return bool(self.new_keys)


@dataclass(frozen=True, slots=True)
class Balance:
    """
    A processed day's rows, counted where they came from and where they went; see invariant 6.

    Args:
        rows_raw: rows of raw, and records that couldn't be read, that belong to the day. Counted when they were loaded.
        rows_processed: rows in the processed table; counted in its file.
        rows_superseded: rows that lost against another with their key.
        rows_quarantined: rows in quarantine; counted in its file.
        rows_discarded: those of them that a person has discarded.
    """

    rows_raw: int
    rows_processed: int
    rows_superseded: int
    rows_quarantined: int
    rows_discarded: int = 0

    @property
    def rows_open(self) -> int:
        """Rows in quarantine that nobody has decided about."""
        return self.rows_quarantined - self.rows_discarded

    @property
    def holds(self) -> bool:
        """Whether nothing appeared and nothing disappeared."""
        return self.rows_raw == self.rows_processed + self.rows_superseded + self.rows_quarantined

    def __str__(self) -> str:
        sign = "=" if self.holds else "≠"
        discarded = f" ({self.rows_open:,} open, {self.rows_discarded:,} discarded)" if self.rows_discarded else ""
        return (
            f"{self.rows_raw:,} read {sign} {self.rows_processed:,} processed + {self.rows_superseded:,} duplicates"
            f" + {self.rows_quarantined:,} quarantined{discarded}"
        )


@dataclass(frozen=True, slots=True)
class TableDay:
    """
    A processed or report partition after its computation.

    Args:
        table: `processed.sales`, `reports.daily_sales`.
        day: None for a table without days.
        rows: in the partition as it now stands.
        bytes: of its file.
        seconds: of this computation; 0 when nothing had changed.
        has_changed: False when the inputs, the declaration and the code were those of the last time: nothing was computed.
        balance: processed tables only.
        reasons: quarantined rows by reason, discarded ones left out; a row with two reasons counts under both.
        failed_checks: name of each declared check → rows that fail it.
        content: SHA-256 of the partition's file; equal content, equal table.
        state: of a report that waits for senders: `provisional`, `final` or `restated`; empty of any other.
        why: what makes it that.
        final_at: since when it is final, or will be at the latest, UTC; None: it always was.
    """

    table: str
    day: date | None
    rows: int
    bytes: int
    seconds: float
    has_changed: bool
    balance: Balance | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    failed_checks: Mapping[str, int] = field(default_factory=dict)
    content: str = ""
    state: str = ""
    why: str = ""
    final_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SenderReport:
    """
    Who was expected to send on a day, and what came of it.

    Args:
        days: one for each sender who was expected, was closed, or sent; see `completeness.judge`.
        at: the moment by which it is judged, UTC.
        final_at: when the day counts as it is, UTC: when the last one who was expected had sent, or his deadline had passed.
        cutoff_at: when the last cutoff of the day has passed, UTC.
    """

    days: tuple[SenderDay, ...]
    at: datetime
    final_at: datetime | None = None
    cutoff_at: datetime | None = None

    def of(self, *statuses: Status) -> tuple[str, ...]:
        """The senders with one of these statuses."""
        return tuple(row.sender for row in self.days if row.status in statuses)

    @property
    def expected(self) -> tuple[str, ...]:
        """Who had to send; nobody when the roster itself hasn't been loaded."""
        return tuple(row.sender for row in self.days if row.is_expected)

    @property
    def reported(self) -> tuple[str, ...]:
        """Who sent something usable, expected or not."""
        return tuple(row.sender for row in self.days if row.first_landed_at is not None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Expected, and nothing usable has come, whether it is time or not."""
        return self.of("awaited", "missing", "unreadable", "repeated")

    @property
    def overdue(self) -> tuple[SenderDay, ...]:
        """Expected, nothing usable has come, and the cutoff has passed."""
        return tuple(
            row for row in self.days if row.is_expected and row.status in UNUSABLE and row.cutoff_at <= self.at
        )

    @property
    def remarkable(self) -> tuple[SenderDay, ...]:
        """Late, empty, twice, or not expected."""
        return tuple(row for row in self.days if row.status in REMARKABLE)

    @property
    def unexpected(self) -> tuple[str, ...]:
        """Came, and wasn't expected."""
        return self.of("unexpected", "unknown")
