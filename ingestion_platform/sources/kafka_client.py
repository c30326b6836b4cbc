"""
The client of Kafka, and what its errors mean: which help comes with them, and whether trying again can.

Belongs here: the client's properties, what it logs, its errors in words. Doesn't: reading (`kafka.py`), servers and secrets, which are
the settings'.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException

from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable
from ingestion_platform.stream import Kafka

log = logging.getLogger(__name__)

SAID_AGAIN_SECONDS = 30.0
"""How often the client may log the same line: while it can't connect, it does several times a second."""

OWN = "schema.registry."
"""Properties that aren't the client's: they say where the schema registry is."""

DEFAULTS: Mapping[str, str] = {
    "client.id": "ingestion-platform",
    # Enough to keep reading while a segment is compressed; and a bound: the client's own is 64 MB of each partition.
    "queued.max.messages.kbytes": "32768",
    "queued.min.messages": "100000",
    "fetch.max.bytes": "16777216",
    "topic.metadata.refresh.interval.ms": "60000",
    "reconnect.backoff.ms": "500",
}
FIXED: Mapping[str, str] = {
    # From them it is known which leaders answer.
    "statistics.interval.ms": "5000",
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    # A position that isn't there any more is for us to find and to tell.
    "auto.offset.reset": "error",
    "enable.partition.eof": "true",
    "isolation.level": "read_committed",
    "allow.auto.create.topics": "false",
    "partition.assignment.strategy": "cooperative-sticky",
}

_LOGIN = "check sasl.username, sasl.password, sasl.mechanisms and security.protocol of the cluster in INGESTION_KAFKA_CLUSTERS"
REFUSED: Mapping[int, str] = {
    KafkaError._AUTHENTICATION: _LOGIN,
    KafkaError.SASL_AUTHENTICATION_FAILED: _LOGIN,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: _LOGIN,
    KafkaError.ILLEGAL_SASL_STATE: _LOGIN,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this user to read and to describe the topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "allow this user to use the cluster",
}
NO_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
}
_SECRET = re.compile(r"password|secret|token|user\.info|\.pem$|\.key$|keytab|sasl\.username")


class _Seldom(logging.Filter):
    """Lets a line through that hasn't just been logged."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text, now = record.getMessage(), time.monotonic()
        if now - self._said.get(text, -SAID_AGAIN_SECONDS) < SAID_AGAIN_SECONDS:
            return False
        self._said = {one: at for one, at in self._said.items() if now - at < SAID_AGAIN_SECONDS} | {text: now}
        return True


class Cluster:
    """
    The cluster of a topic, as messages call it, and clients of it.

    Args:
        source: the topic as declared.
        properties: librdkafka's, secrets among them; those of the schema registry are left out.
    """

    def __init__(self, source: Kafka, properties: Mapping[str, str]) -> None:
        self._source = source
        self._properties = properties

    def consumer(
        self, group: str | None, *, on_error: Callable[[KafkaError], object], on_statistics: Callable[[str], None]
    ) -> Consumer:
        """
        A client that reads; it isn't connected yet.

        Args:
            group: that shares the topic's partitions out; None: the client is told which to read.
            on_error: called with what goes wrong beside the messages, while the client is asked for them.
            on_statistics: called every few seconds, in the same way.

        Raises:
            SettingsError: the client doesn't know a property, or can't use its value.
        """
        chosen = {**DEFAULTS, **{name: value for name, value in self._properties.items() if not name.startswith(OWN)}}
        # The client wants a group, also when it isn't used.
        chosen |= {**FIXED, "group.id": group or "ingestion-platform"}
        logger = logging.Logger(log.name)
        logger.parent = log
        logger.addFilter(_Seldom())
        try:
            return Consumer({**chosen, "error_cb": on_error, "stats_cb": on_statistics}, logger=logger)
        except KafkaException as error:
            raise SettingsError(
                f"Kafka cluster {self._source.cluster!r}: {self._without_secrets(error.args[0].str())}",
                "properties are librdkafka's, as texts",
            ) from None

    def as_error(self, error: KafkaError, where: str) -> SourceError:
        """
        What the client met, in words that help.

        Args:
            error: that it met.
            where: in the topic; empty: nowhere in particular.
        """
        what = f"topic {self._source.topic!r}{' ' + where if where else ''}: {self._without_secrets(error.str())}"
        code = error.code()
        if code in NO_TOPIC:
            return SourceError(
                what, f"check its name, and that cluster {self._source.cluster!r} is the one that has it"
            )
        if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return SourceError(what, "allow this user to read in the group")
        if code in REFUSED:
            return SourceError(what, REFUSED[code])
        if error.fatal():
            return SourceError(what)
        return SourceUnavailable(what, "it is tried again; see whether the cluster is well")

    def unavailable(self, what: str, trouble: str) -> SourceUnavailable:
        """
        The cluster gives no answer.

        Args:
            what: wasn't answered.
            trouble: the last thing that the client said, if anything.
        """
        said = f" ({self._without_secrets(trouble)})" if trouble else ""
        return SourceUnavailable(
            f"topic {self._source.topic!r} of Kafka cluster {self._source.cluster!r}: {what}{said}",
            "check bootstrap.servers and security.protocol, and whether the cluster is up",
        )

    def _without_secrets(self, text: str) -> str:
        for name, value in self._properties.items():
            if value and _SECRET.search(name):
                text = text.replace(value, "…")
        return text
