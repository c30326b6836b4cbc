"""
The reader of a declared stream: which client it takes, and what that is told of the deployment.

Belongs here: choosing. Doesn't: any client; each is imported when a stream of its kind is opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingestion_platform.errors import SettingsError
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import DynamoDbStream, Kafka, Kinesis, Stream


@dataclass(frozen=True)
class Connections:
    """
    What a deployment knows of its streams' servers. Kinesis and DynamoDB are reached as boto3 reads its environment.

    Args:
        kafka: cluster → librdkafka's properties, secrets among them.
    """

    kafka: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Connections(kafka={sorted(self.kafka)})"


def is_configured(stream: Stream, connections: Connections) -> bool:
    """Whether the deployment says where the stream's server is; AWS is always somewhere."""
    return not isinstance(stream.source, Kafka) or stream.source.cluster in connections.kafka


def open_reader(stream: Stream, connections: Connections) -> StreamReader:
    """
    The reader of a stream. Nothing is connected before it is read.

    Raises:
        SettingsError: the deployment doesn't say where its server is.
    """
    match stream.source:
        case Kinesis():
            from ingestion_platform.sources.kinesis import KinesisReader

            return KinesisReader(stream.source)
        case Kafka():
            from ingestion_platform.sources.kafka import KafkaReader

            if not is_configured(stream, connections):
                raise SettingsError(
                    f"stream {stream.name!r} is read from Kafka cluster {stream.source.cluster!r}, and no such cluster is configured",
                    "set INGESTION_KAFKA_SERVERS, or name it in the file of INGESTION_KAFKA_CLUSTERS",
                )
            return KafkaReader(stream.source, connections.kafka[stream.source.cluster])
        case DynamoDbStream():
            from ingestion_platform.sources.dynamodb_streams import DynamoDbStreamReader

            return DynamoDbStreamReader(stream.source)
