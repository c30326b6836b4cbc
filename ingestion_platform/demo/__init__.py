"""
The example business: a retail chain whose files are made up, any number of stores and days of them, with troubles on demand.

Belongs here: inventing what senders send, and writing it as they would. Doesn't: what the platform makes of it.

    plan.py       how large the example is, and what goes wrong in it
    business.py   what truly happened: till lines, payments, deliveries, stock
    files.py      how each sender writes it down: bytes
    retailer.py   what lands and when, troubles included: the story
    events.py     what the tills tell as it happens, and what goes wrong with it
    broker.py     a Kafka broker for them, in this process
    outside.py    what others know: rates of exchange, weather, a catalogue, charts
    replies.py    how APIs answer with it
    pages.py      what fetches of those land, for examples without a server
    apis.py       a server of those APIs, in this process
    clicks.py     a topic of web clicks of now, to try a stream with
    producer.py   where senders put their files
    driver.py     the demo: land, run, land, run, tell
"""

from ingestion_platform.demo.plan import Plan, Trouble
from ingestion_platform.demo.producer import FolderProducer, Producer, ZoneProducer
from ingestion_platform.demo.retailer import Arrival, Incident, Outcome, Step, Story, generate, tell

__all__ = [
    "Arrival",
    "FolderProducer",
    "Incident",
    "Outcome",
    "Plan",
    "Producer",
    "Step",
    "Story",
    "Trouble",
    "ZoneProducer",
    "generate",
    "tell",
]
