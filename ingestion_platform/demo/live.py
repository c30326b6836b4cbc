"""
The last day of the example as it happens: played to a broker while a worker follows, and what its live rules say.

Belongs here: playing, waiting for alerts, telling them. Doesn't: what is played (`events.py`, `watched.py`), judging (`rules/`, `live/`).
"""

import subprocess
import sys
import time as clock
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import groupby
from pathlib import Path

from ingestion_platform import alert
from ingestion_platform.alert import Alert
from ingestion_platform.demo.broker import Broker
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.event import TOPIC, TillEvent
from ingestion_platform.demo.watched import Planted, bulk, planted
from ingestion_platform.errors import IngestionError
from ingestion_platform.landing import LandingZone
from ingestion_platform.settings import inherited

PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_HOUR_SECONDS = 0.1
"""How long an hour of the last day takes when it is played."""


class NotAsItHappened(IngestionError):
    """The live rules didn't say what they should have."""


def play(
    broker: Broker,
    business: Business,
    first: Sequence[TillEvent],
    last_day: Sequence[TillEvent],
    zone: LandingZone,
    log: Path,
    say: Callable[[str], None],
) -> int:
    """
    Follow the stream with a worker, as `make worker` does, while the last day is played, and tell what it says.

    Args:
        first: events that come before.
        last_day: by time.
        zone: where alerts land.
        log: takes what the worker says.

    Returns:
        How many events were sent.

    Raises:
        NotAsItHappened: one of the planted events wasn't found in time, or the worker has ended.
    """
    day = business.plan.dates[-1]
    hours, plants = _in_order(business, last_day)
    sent = 0
    with _worker(broker, log) as is_alive:
        sent += broker.send(TOPIC, first)
        for of_hour in hours:
            sent += broker.send(TOPIC, of_hour)
            clock.sleep(_HOUR_SECONDS)
        for one in plants:
            moment = clock.monotonic()
            sent += broker.send(TOPIC, one.events)
            found = _wait_for(one, day, zone, is_alive, log)
            say(
                f"   · {one.what} → {found.rule}, to {found.action}, {clock.monotonic() - moment:.1f} s later:"
                f" {'; '.join(found.reasons)}"
            )
    return sent


def in_order(business: Business, last_day: Sequence[TillEvent]) -> Iterator[TillEvent]:
    """The last day's events as they are played."""
    hours, plants = _in_order(business, last_day)
    for of_hour in hours:
        yield from of_hour
    for one in plants:
        yield from one.events


def _in_order(business: Business, last_day: Sequence[TillEvent]) -> tuple[list[list[TillEvent]], list[Planted]]:
    """What is told hour by hour, and what then happens."""
    sold_out = bulk(business, last_day)
    plants = [*([sold_out] if sold_out is not None else []), *planted(business)]
    withheld = {event.value for one in plants for event in one.events}
    everyday = (event for event in last_day if event.value not in withheld)
    return [list(of_hour) for _, of_hour in groupby(everyday, key=lambda event: event.at.hour)], plants


def _wait_for(one: Planted, day: date, zone: LandingZone, is_alive: Callable[[], bool], log: Path) -> Alert:
    until = clock.monotonic() + PATIENCE_SECONDS
    read: set[str] = set()
    while clock.monotonic() < until and is_alive():
        for landed in zone.list(f"{alert.ROOT}{day:%Y/%m/%d}/"):
            if landed.key in read:
                continue
            read.add(landed.key)
            for found in alert.read(zone.read(landed), day):
                if found.rule == one.rule and found.deserved_by in one.keys:
                    return found
        clock.sleep(_LOOK_SECONDS)
    raise NotAsItHappened(
        f"{one.what}, and {one.rule} said nothing of it in {PATIENCE_SECONDS:.0f} s",
        f"what the worker said is in {log}",
    )


@contextmanager
def _worker(broker: Broker, log: Path) -> Iterator[Callable[[], bool]]:
    """A worker that follows the broker; whether it still does."""
    command = [sys.executable, "-m", "ingestion_platform", "worker", "pos"]
    environment = inherited(streams="pos", kafka_servers=broker.servers)
    with log.open("a") as kept, subprocess.Popen(command, stdout=kept, stderr=kept, env=environment) as process:
        try:
            yield lambda: process.poll() is None
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
    if process.returncode:
        raise NotAsItHappened(f"the worker ended with {process.returncode}", f"what it said is in {log}")
