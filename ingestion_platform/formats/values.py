"""
What a stream record's value is, as a JSON object: whatever it was written in.

Belongs here: choosing the decoder. Doesn't: the decoders of more than a line (`avro_values.py`, `dynamodb_values.py`), taking members
out of
the object (`json_members.py`).
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ingestion_platform.change_log import Debezium, Maxwell
from ingestion_platform.stream import AvroValues, BytesValues, DynamoDbChanges, JsonValues, Values

Decoder: TypeAlias = Callable[[bytes, str | None], bytes]
"""Value and the name of its schema → a JSON object's text. Raises `NotAnObject` when it can't be one."""


def decoder_of(values: Values, schemas: Mapping[str, str]) -> Decoder:
    """
    What turns values into JSON objects.

    Args:
        values: as declared.
        schemas: name → writer's schema, as the segment holds them.
    """
    match values:
        case JsonValues() | BytesValues():
            return _as_it_is
        case AvroValues():
            from ingestion_platform.formats.avro_values import avro_decoder

            return avro_decoder(values, schemas)
        case Debezium() | Maxwell():
            # A record may be several objects, or none: the reader of segments asks `change_records.py` itself.
            return _as_it_is
        case DynamoDbChanges():
            from ingestion_platform.formats.dynamodb_values import decode_change

            return decode_change


def _as_it_is(value: bytes, _schema: str | None) -> bytes:
    return value.strip(b" \t\r\n")
