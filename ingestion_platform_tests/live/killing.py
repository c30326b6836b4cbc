"""
Kills the process that judges, at random moments, again and again; then lets one end, and tells what has landed.

Run as a process of its own: whoever forks has no threads.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from ingestion_platform.live.landed_alerts import read_day
from ingestion_platform.live.visible import VisibleAlerts
from ingestion_platform.sources.drain import Drain
from ingestion_platform_tests.live.shop import DAY, NOON, Shop, payment, reading
from ingestion_platform_tests.sources.memory import MemoryStream

RECORDS = 400
STEPS = 12
"""Batches that come and alerts that land before a process is killed, at most."""


def records(seed: int) -> list[tuple[str, bytes, datetime]]:
    """
    What the shop tells: shard, value, and when it arrives.

    Two shards tell of the same customers, some events a little late, some twice; a freezer is warm twice.
    """
    random = Random(seed)
    told = []
    for number in range(RECORDS):
        at = NOON + timedelta(seconds=9 * number)
        if number % 5 == 0:
            warm = number % 200 > 100
            value = reading(number, f"F{number % 2}", at, -5 if warm and number % 2 == 0 else -20)
            told.append(("0", value, at))
            continue
        late = timedelta(seconds=random.choice([0, 0, 0, 7]))
        value = payment(number, f"C{random.randrange(4)}", at - late)
        told.append((str(random.randrange(2)), value, at))
        if random.random() < 0.1:
            told.append((told[-1][0], value, at))
    return told


def judge(folder: Path, seed: int, *, tell: int | None) -> dict[str, Any]:
    """
    Follow the stream and judge it; what has landed in the end.

    Args:
        tell: a descriptor that gets a byte for each step; somebody kills this process then. None: to the end.
    """

    def step(*_: object) -> None:
        if tell is not None:
            os.write(tell, b".")
        time.sleep(0.01)

    shop = Shop(folder, now=NOON + timedelta(minutes=70), has_tables=tell is None)
    source = MemoryStream(batch=8, before=step)
    for shard, value, at in records(seed):
        source.put(shard, value, at)
    visible = VisibleAlerts(shop.warehouse)
    engine = shop.engine([step], on_objects=visible.landed, settled_seconds=3.0, slow_seconds=300.0)
    stop = threading.Event()
    drain = Drain(shop.landed(), source, watchers=[engine], clock=lambda: shop.now)
    following = threading.Thread(target=drain.follow, args=(stop,), daemon=True)
    visible.start()
    engine.start()
    following.start()
    while len(drain.states()) < 2 or not all(state.is_caught_up for state in drain.states().values()):
        time.sleep(0.01)
    while engine.standing().queued or not engine.is_settled:
        time.sleep(0.01)
    if tell is not None:
        os._exit(0)
    stop.set()
    following.join()
    engine.close()
    visible.close()
    with shop.warehouse() as warehouse:
        # What landed while nobody made rows of it.
        warehouse.load(shop.datasets["alerts"], DAY)
        warehouse.process(shop.datasets["alerts"], DAY)
        rows = warehouse.read("processed.alerts").to_pylist()
        for name in ("paid", "readings"):
            warehouse.load(shop.datasets[name], DAY)
            warehouse.process(shop.datasets[name], DAY)
        table = shop.sql_tables["processed.alerts_in_batch"]
        warehouse.derive(table, DAY)
        batch = warehouse.read(table.key).to_pylist()
        agreement = warehouse.agreement(table, DAY)
    landed = Counter((one.id, one.ordinal) for one in read_day(shop.zone, DAY))
    return {
        "rows": sorted([row["alert_id"], row["ordinal"], row["change"]] for row in rows),
        "batch": sorted(row["alert_id"] for row in batch),
        "by_rule": Counter(row["rule"] for row in batch),
        "landed_more_than_once": sum(1 for count in landed.values() if count > 1),
        "differences": len(agreement.differences),
    }


def campaign(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many processes, then let one end; what has landed, and how many alerts had landed at each kill."""
    random = Random(seed)
    landed_at_kills = []
    for _ in range(kills):
        heard, tell = os.pipe()
        process = os.fork()
        if process == 0:
            judge(folder, seed, tell=tell)
            os._exit(1)
        os.close(tell)
        for _ in range(random.randrange(1, STEPS)):
            if not os.read(heard, 1):
                break
        time.sleep(random.uniform(0, 0.02))
        os.close(heard)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        landed_at_kills.append(sum(1 for _ in (folder / "landing" / "alerts").rglob("*.jsonl")))
    return judge(folder, seed, tell=None) | {"landed_at_kills": landed_at_kills}


if __name__ == "__main__":
    print(json.dumps(campaign(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
