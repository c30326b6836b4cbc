"""Third-party events with known answers; they stand beside the checkout."""

import json
from pathlib import Path

import pytest

from ingestion_platform.sources.aws_events import arrivals, decode

EVENTS = Path(__file__).resolve().parents[3] / "shared" / "cases" / "05-aws-events"
EXPECTED = {
    name: events
    for name, events in json.loads((EVENTS / "expected.json").read_text(encoding="utf-8")).items()
    if events[0]["kind"] != "dynamodb"
}
"""The changes of DynamoDB have a decoder, and tests, of their own."""


@pytest.mark.parametrize("name", EXPECTED)
def test_events_that_aws_documents_are_decoded(name: str) -> None:
    """Exactly as they are known to mean."""
    assert decode((EVENTS / name).read_bytes()) == EXPECTED[name]


@pytest.mark.parametrize("name", [name for name in EXPECTED if EXPECTED[name][0]["kind"] in ("kinesis", "kafka")])
def test_records_of_streams_arrive_as_their_readers_give_them(name: str) -> None:
    """Each at its shard and position."""
    (batches,) = arrivals((EVENTS / name).read_bytes()).values()
    values = [value or b"" for batch in batches for value in batch.records.column("value").to_pylist()]
    known = [one.get("data") or one.get("value") for one in EXPECTED[name]]
    assert [value.decode() for value in values] == known
