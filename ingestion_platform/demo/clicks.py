"""
The web shop's clicks as they happen, for trying a stream by hand: a topic `web.clicks` on a broker of its own, until somebody ends it.

Belongs here: making clicks up and sending them. Doesn't: the broker (`broker.py`), the example's story (`retailer.py`): these clicks are of
now, and never the same.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count

from ingestion_platform.demo.broker import serve
from ingestion_platform.demo.event import TillEvent

TOPIC = "web.clicks"
PAGES = ("/", "/bread", "/milk", "/coffee", "/basket", "/checkout")
BROKEN_ONE_IN = 200


def clicks(chance: random.Random) -> Iterator[TillEvent]:
    """Clicks of now, one after the other, without end; now and then one that is no JSON."""
    for number in count():
        now = datetime.now(UTC)
        visitor = f"V{chance.randint(1, 500):04}"
        value = json.dumps(
            {
                "click_id": f"{now:%Y%m%d%H%M%S}-{number:08}",
                "clicked_at": now.isoformat(timespec="milliseconds"),
                "visitor_id": visitor,
                "page": chance.choice(PAGES),
                "device": {"kind": chance.choice(("phone", "desktop"))},
            }
        )
        if number % BROKEN_ONE_IN == BROKEN_ONE_IN - 1:
            value = value[: len(value) // 2]
        yield TillEvent(visitor, value.encode(), now, {"agent": "demo"})


def run(rate: int, *, tell: Callable[[str], None] = print, rounds: int | None = None) -> None:
    """
    Serve and send until interrupted.

    Args:
        rate: clicks a second.
        tell: takes lines for a person.
        rounds: end after so many tenths of a second; None: never.
    """
    source = clicks(random.Random())
    with serve() as broker:
        tell(f"topic {TOPIC} with {rate} clicks a second at {broker.servers}, until ctrl-C")
        tell(f"export INGESTION_KAFKA_SERVERS={broker.servers}")
        sent = 0
        began = time.monotonic()
        for number in count(1):
            due = int(rate * number / 10)
            broker.send(TOPIC, [next(source) for _ in range(due - sent)])
            sent = due
            if number == rounds:
                return
            time.sleep(max(0.0, began + number / 10 - time.monotonic()))
