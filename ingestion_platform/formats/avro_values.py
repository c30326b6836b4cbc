"""Avro values of stream records, as JSON objects."""

from collections.abc import Callable, Mapping

from ingestion_platform.stream import AvroValues


def avro_decoder(values: AvroValues, schemas: Mapping[str, str]) -> Callable[[bytes, str | None], bytes]:
    """What turns Avro values into JSON objects."""
    raise AssertionError
