"""
A campaign against an outbox: killed at random moments while alerts land, it must leave nobody untold.

Each life lands alerts and withdrawals, offers them, and is killed. The sink is a file to which single lines are added: it knows the truth.
"""

import itertools
import json
import multiprocessing
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sinks import notes
from ingestion_platform.sinks.outbox import Outbox
from ingestion_platform.sinks.sink import Sink
from ingestion_platform.sinks.standing import standings
from ingestion_platform_tests.sinks.telling import land, sink, some_alert, until

MEAN_SECONDS = 0.12
"""How long an outbox lives on average."""


@dataclass(frozen=True)
class Told:
    """
    What came of it.

    Args:
        kills: so many.
        landed: alerts; the last change of each.
        heard: alerts; every change that the sink has heard, in order, doubles among them.
        waiting: what the landing zone says is to be told yet, at the end.
    """

    kills: int
    landed: dict[str, int]
    heard: dict[str, list[int]]
    waiting: int


def live(folder: Path, said: Sink, seed: int) -> None:
    """Be the process that is killed: land and offer without end."""
    zone, chance = LocalLanding(folder / "landing"), random.Random(seed)
    with Outbox(zone, [said]) as outbox:
        for number in itertools.count(seed * 1_000_000):
            changes = 1 + chance.choice((0, 0, 0, 1, 1, 2))
            for ordinal in range(changes):
                # Alerts of a few days and priorities, several in an object.
                alert = some_alert(number, ordinal=ordinal, priority=1 + number % 3)
                land(zone, [alert])
                if chance.random() < 0.9:
                    outbox.offer([alert])
                time.sleep(chance.random() * 0.004)


def campaign(folder: Path, *, kills: int, window_seconds: float = 0.0, seed: int = 1) -> Told:
    """
    Kill outboxes, then let one live, and see who was told.

    Args:
        folder: empty.
        kills: so many.
        window_seconds: of the sink's groups.
        seed: of chance.
    """
    said = sink("security", "log", str(folder / "told.jsonl"), window_seconds=window_seconds)
    (folder / "landing").mkdir(parents=True)
    chance, context = random.Random(seed), multiprocessing.get_context("fork")
    for number in range(kills):
        process = context.Process(target=live, args=(folder, said, number + 1), daemon=True)
        process.start()
        process.join(chance.uniform(0.0, 2 * MEAN_SECONDS))
        process.kill()
        process.join()
    zone = LocalLanding(folder / "landing")
    everything = some_alert(0).raised_at
    with Outbox(zone, [said]) as outbox:
        until(lambda: not standings(zone, [said], datetime.now(UTC))[0].waiting)
        until(lambda: not outbox.status()[0].waiting)
    landed: dict[str, int] = {}
    for one in notes.landed_since(zone, everything):
        landed[one.alert.id] = max(one.alert.ordinal, landed.get(one.alert.id, 0))
    heard: dict[str, list[int]] = defaultdict(list)
    for line in (folder / "told.jsonl").read_bytes().splitlines():
        try:
            ids = json.loads(line)["ids"]
        except ValueError:
            continue  # a line that was cut by a kill
        for reference in ids:
            id_, _, ordinal = reference.partition(".")
            heard[id_].append(int(ordinal))
    waiting = standings(zone, [said], datetime.now(UTC))[0].waiting
    return Told(kills, landed, dict(heard), waiting)
