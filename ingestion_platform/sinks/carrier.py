"""
The ways to tell somebody: each takes one message, once.

Belongs here: what every way answers alike, and which one a sink takes. Doesn't: trying again, pace, order (`outbox.py`).
"""

from typing import Protocol

from ingestion_platform.sinks.message import Message
from ingestion_platform.sinks.sink import Sink


class Carrier(Protocol):
    """Brings messages to a sink. Nothing is connected before the first one; one thread uses it."""

    def send(self, message: Message) -> None:
        """
        Tell it, once.

        Raises:
            SinkUnavailable: it wasn't taken, and may be taken later.
            SinkRefused: this message won't be taken; others may be.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_carrier(sink: Sink) -> Carrier:
    """
    The way to a sink.

    Raises:
        SettingsError: what is said of it can't be used.
    """
    match sink.kind:
        case "log":
            from ingestion_platform.sinks.log_lines import LogLines

            return LogLines(sink)
        case "webhook":
            from ingestion_platform.sinks.webhook import Webhook

            return Webhook(sink)
        case "sns":
            from ingestion_platform.sinks.aws_topics import Topic

            return Topic(sink)
        case "sqs":
            from ingestion_platform.sinks.aws_topics import Queue

            return Queue(sink)
