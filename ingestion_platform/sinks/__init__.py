"""
Telling alerts that have landed: to a log, a webhook, SNS or SQS; at least once each, and by an id that tells doubles.

Belongs here: who is told what, when, and what became of it. Doesn't: when an alert is raised (`live/`), failed runs and checks
(`orchestration/notices.py`).

An alert is landed before it is offered, what was told is noted in the landing zone, and what couldn't be told lands as a dead letter. So a
process may be killed at any moment, and a new one without any memory goes on: at worst it tells again what was told and not yet noted.
"""

from ingestion_platform.sinks.outbox import Outbox, open_outbox
from ingestion_platform.sinks.sink import Sink

__all__ = ["Outbox", "Sink", "open_outbox"]
