"""
Telling dead letters because a person says so, those that were refused among them.

Belongs here: one pass through a sink's open dead letters. Doesn't: telling what lands (`outbox.py`).
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingestion_platform.errors import SinkError, SinkUnavailable
from ingestion_platform.landing import LandingZone
from ingestion_platform.sinks import notes
from ingestion_platform.sinks.carrier import Carrier
from ingestion_platform.sinks.message import Message
from ingestion_platform.sinks.sink import Sink
from ingestion_platform.sinks.waiting import Batch, Waiting, wait_after
from ingestion_platform.sources.pace import Pace

_MARGIN = timedelta(minutes=10)


@dataclass
class Resent:
    """
    What came of it.

    Args:
        told: alerts that the sink has taken now.
        withdrawn: that needn't be told any more, or were told already.
        left: that it still doesn't take.
        error: why, the last reason.
    """

    told: int = 0
    withdrawn: int = 0
    left: int = 0
    error: str = ""


def resend(
    zone: LandingZone,
    sink: Sink,
    carrier: Carrier,
    pace: Pace,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> Resent:
    """
    Tell a sink its dead letters, the most urgent first.

    Args:
        zone: where they are.
        sink: which.
        carrier: the way to it.
        pace: of the sink.
        clock: now, UTC.
        sleep: waits for so many seconds.

    Raises:
        LandingError: the landing zone can't be read, or can't note what was told.
    """
    letters = notes.open_letters(zone, sink.name)
    if not letters:
        return Resent()
    since = min(alert.raised_at for letter in letters for alert in letter.alerts) - _MARGIN
    noted = notes.noted_since(zone, sink.name, since).both
    last = dict(noted)
    for one in notes.landed_since(zone, since):
        id_ = one.alert.id
        last[id_] = max(one.alert.ordinal, last.get(id_, -1))
    # A sink may have been told to take other alerts since: these are its own all the same.
    waiting = Waiting(sink.model_copy(update={"rules": (), "actions": (), "up_to_priority": 2**31}), most=2**31)
    open_: dict[str, set[str]] = {}
    for letter in letters:
        open_[letter.key] = {alert.id for alert in letter.alerts}
        for alert in letter.alerts:
            # What has changed since is told, or withdrawn, by the outbox.
            if alert.ordinal >= last.get(alert.id, -1) and alert.ordinal > noted.get(alert.id, -1):
                waiting.offer(alert, 0.0, letter=letter.key)
    resent = Resent()
    now = 0.0
    waits = {id_ for ids in open_.values() for id_ in ids}
    began, failures, is_over = time.monotonic(), 0, False
    left: set[str] = set()
    while not is_over and (next_at := waiting.next_at()) is not None:
        # Nobody waits for windows: all of it is late already.
        now = max(now, next_at)
        batch = waiting.take(now)
        if batch is None:
            continue
        pace.wait()
        try:
            carrier.send(Message(batch.alerts, sink.shown))
        except SinkUnavailable as error:
            resent.error = str(error)
            failures += 1
            waiting.failed(batch, now)
            is_over = time.monotonic() - began > sink.patience_seconds
            if not is_over:
                sleep(max(wait_after(failures) * random.uniform(0.5, 1.0), min(error.again_seconds or 0.0, 60.0)))
        except SinkError as error:
            resent.error = str(error)
            if len(batch.items) > 1:
                waiting.halved(batch, now)
            else:
                waiting.given_up(batch)
                left.add(batch.items[0].id)
        else:
            began, failures = time.monotonic(), 0
            waiting.told(batch)
            resent.told += len(batch.items)
            _note(zone, sink, batch, clock())
            for item in batch.items:
                waits.discard(item.id)
    left |= {id_ for id_ in waits if waiting.has(id_)}
    resent.left = len(left)
    resent.withdrawn = len(waits - left)
    for key, ids in open_.items():
        if not ids & left:
            notes.settle(zone, key, clock(), "told, or withdrawn")
    return resent


def _note(zone: LandingZone, sink: Sink, batch: Batch, moment: datetime) -> None:
    notes.note_told(zone, sink.name, {item.id: item.alert.ordinal for item in batch.items}, moment)
