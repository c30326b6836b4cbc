"""
How it stands with telling, by what the landing zone knows: for those who aren't the outbox.

Belongs here: alerts that stand, and what of them was told to whom. Doesn't: telling (`outbox.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingestion_platform.landing import LandingZone
from ingestion_platform.sinks import notes
from ingestion_platform.sinks.notes import DeadLetter, Landed
from ingestion_platform.sinks.sink import Sink


@dataclass(frozen=True)
class SinkStanding:
    """
    How it stands with a sink.

    Args:
        sink: its name.
        is_declared: the settings name it; otherwise all that is known of it are its dead letters.
        told: alerts of whose changes it was told in the hours that its outbox looks back.
        waiting: alerts that have landed in these hours, and that it hasn't been told of yet.
        late: those among them that landed longer ago than they may wait.
        oldest_at: when the oldest of those that wait landed, UTC.
        dead: alerts in dead letters.
        refused: those among them that it won't take.
        dead_since: when the oldest open dead letter landed, UTC.
        last_error: why alerts became dead letters last.
    """

    sink: str
    is_declared: bool
    told: int = 0
    waiting: int = 0
    late: int = 0
    oldest_at: datetime | None = None
    dead: int = 0
    refused: int = 0
    dead_since: datetime | None = None
    last_error: str = ""

    @property
    def is_in_order(self) -> bool:
        """Whether whoever is to be told is told."""
        return not self.late and not self.dead


def standings(zone: LandingZone, sinks: Sequence[Sink], now: datetime) -> list[SinkStanding]:
    """
    How it stands with each sink, and with those that have dead letters and aren't declared any more.

    Args:
        zone: where alerts and notes land.
        sinks: that the settings name.
        now: the moment, UTC.
    """
    found = []
    longest = max((sink.look_back_hours for sink in sinks), default=0.0)
    landed = notes.landed_since(zone, now - timedelta(hours=longest)) if sinks else []
    for sink in sinks:
        since = now - timedelta(hours=sink.look_back_hours)
        noted = notes.noted_since(zone, sink.name, since)
        letters = notes.open_letters(zone, sink.name)
        dead = {alert.id for letter in letters for alert in letter.alerts}
        waiting = due(
            (one for one in landed if one.at >= since and sink.takes(one.alert) and one.alert.id not in dead),
            noted.both,
        )
        late = now - timedelta(minutes=sink.unsent_minutes)
        found.append(
            _with_letters(
                SinkStanding(
                    sink=sink.name,
                    is_declared=True,
                    told=len(noted.told),
                    waiting=len(waiting),
                    late=sum(one.at < late for one in waiting),
                    oldest_at=min((one.at for one in waiting), default=None),
                ),
                letters,
            )
        )
    declared = {sink.name for sink in sinks}
    for name in notes.names_of_sinks(zone):
        letters = notes.open_letters(zone, name) if name not in declared else []
        if letters:
            found.append(_with_letters(SinkStanding(name, False), letters))
    return found


def due(landed: Iterable[Landed], noted: Mapping[str, int]) -> list[Landed]:
    """
    The last change of each alert that a sink is to be told of.

    Args:
        landed: changes that it takes.
        noted: id → the last ordinal of which nothing is to be done any more.
    """
    return [one for id_, one in _last(landed).items() if one.alert.ordinal > noted.get(id_, -1)]


def standing_alerts(landed: Iterable[Landed]) -> list[Landed]:
    """The alerts that stand, each as it was raised last."""
    return [one for one in _last(landed).values() if one.alert.change == "raised"]


def _last(landed: Iterable[Landed]) -> dict[str, Landed]:
    """The last change of each alert, by its id."""
    last: dict[str, Landed] = {}
    for one in landed:
        id_ = one.alert.id
        if id_ not in last or one.alert.ordinal > last[id_].alert.ordinal:
            last[id_] = one
    return last


def _with_letters(standing: SinkStanding, letters: Sequence[DeadLetter]) -> SinkStanding:
    refused: dict[str, bool] = defaultdict(bool)
    for letter in letters:
        for alert in letter.alerts:
            refused[alert.id] |= letter.is_refused
    return SinkStanding(
        standing.sink,
        standing.is_declared,
        standing.told,
        standing.waiting,
        standing.late,
        standing.oldest_at,
        dead=len(refused),
        refused=sum(refused.values()),
        dead_since=letters[0].at if letters else None,
        last_error=letters[-1].reason if letters else "",
    )
