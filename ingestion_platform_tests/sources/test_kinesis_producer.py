"""Writing into Kinesis: exactly what failed is sent again, keys keep their order, and what can't be sent is kept."""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.aws import Waits
from ingestion_platform.errors import SourceError
from ingestion_platform.sources.kinesis_producer import KinesisProducer, Outgoing
from ingestion_platform.sources.reading import Arrived, Oldest
from ingestion_platform_tests.sources.kinesis_worlds import PATIENT, MotoWorld, plain_client


def producer(moto_world: MotoWorld, **changes: Any) -> KinesisProducer:
    """A producer of the moto_world's stream."""
    named: dict[str, Any] = {"client": plain_client(moto_world.url), "waits": PATIENT, **changes}
    return KinesisProducer(moto_world.stream, **named)


def outgoing(number: int, keys: int = 40) -> list[Outgoing]:
    """Numbered records."""
    return [Outgoing(f"k{index % keys}", b"%06d" % index) for index in range(number)]


def arrived(moto_world: MotoWorld) -> dict[str, list[bytes]]:
    """Key → values, in order, as a reader sees them."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for event in moto_world.reader().read(lambda _: Oldest(), until=datetime.now(UTC)):
        if isinstance(event, Arrived):
            columns = (event.records.column(name).to_pylist() for name in ("key", "value"))
            for key, value in zip(*columns, strict=True):
                found[(key or b"").decode()].append(value or b"")
    return dict(found)


def expected(records: list[Outgoing]) -> dict[str, list[bytes]]:
    """What a reader is to see."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for record in records:
        found[record.key].append(record.data)
    return dict(found)


@pytest.mark.parametrize("is_aggregated", [False, True])
def test_exactly_the_records_that_failed_are_sent_again(moto_world: MotoWorld, is_aggregated: bool) -> None:
    """Half of a request is refused, again and again: everything arrives once, each key's records in order."""
    records = outgoing(600)
    moto_world.faults.fail_records(4, every=2)
    told = producer(moto_world, is_aggregated=is_aggregated).put(records)
    assert (told.sent, told.failed, told.dead_letters) == (600, 0, None)
    assert told.retried > 0
    assert arrived(moto_world) == expected(records)


def test_throttled_and_failed_requests_are_sent_again(moto_world: MotoWorld) -> None:
    """The whole request was refused, so all of it is sent again."""
    records = outgoing(100)
    moto_world.faults.throttle(2, operation="PutRecords")
    moto_world.faults.refuse(500, "InternalFailure", 2, operation="PutRecords")
    moto_world.faults.cut(1, operation="PutRecords")
    assert producer(moto_world).put(records).sent == 100
    assert arrived(moto_world) == expected(records)


def test_a_lost_answer_may_double_but_not_lose(moto_world: MotoWorld) -> None:
    """Nobody knows whether it was done, so it is done again."""
    moto_world.faults.cut(1, is_done=True, operation="PutRecords")
    producer(moto_world).put(outgoing(10, keys=10))
    assert {key: set(found) for key, found in arrived(moto_world).items()} == {
        key: set(found) for key, found in expected(outgoing(10, keys=10)).items()
    }


def test_what_is_given_up_is_in_the_dead_letter_file(moto_world: MotoWorld, tmp_path: Path) -> None:
    """With its data, its key and the reason; the result says so, and later failures are added."""
    dead = tmp_path / "dead.jsonl"
    moto_world.faults.throttle(None, operation="PutRecords")
    sender = producer(moto_world, waits=Waits(attempts=3, first_seconds=0.01), dead_letters=dead)
    told = sender.put([Outgoing("a", b"\x00\xff"), Outgoing("b", b"2", "7")])
    assert (told.sent, told.failed, told.dead_letters) == (0, 2, dead)
    sender.put([Outgoing("a", b"3")])
    lines = [json.loads(line) for line in dead.read_text().splitlines()]
    assert [(line["key"], line["hash_key"], base64.b64decode(line["data_base64"])) for line in lines] == [
        ("a", None, b"\x00\xff"),
        ("b", "7", b"2"),
        ("a", None, b"3"),
    ]
    assert {(line["why"], line["attempts"]) for line in lines} == {("400 ProvisionedThroughputExceededException", 3)}
    assert {line["stream"] for line in lines} == {moto_world.stream}


def test_a_record_that_no_stream_takes_harms_no_other(moto_world: MotoWorld, tmp_path: Path) -> None:
    """Too large, or without a key: it would fail its whole request, so it isn't sent at all."""
    records = [Outgoing("a", b"1"), Outgoing("a", b"x" * 1024**2), Outgoing("", b"2"), Outgoing("k" * 257, b"3")]
    told = producer(moto_world, dead_letters=tmp_path / "dead.jsonl").put([*records, Outgoing("a", b"4")])
    assert told.sent == 2
    assert [letter.record for letter in told.dead] == records[1:]
    assert arrived(moto_world) == {"a": [b"1", b"4"]}


def test_requests_keep_to_the_limits(moto_world: MotoWorld) -> None:
    """500 records and 5 MiB at most: larger ones would be refused whole."""
    producer(moto_world).put(outgoing(1200, keys=1200))
    assert moto_world.faults.requests.count("PutRecords") == 3
    moto_world.faults.clear()
    large = [Outgoing(f"k{index}", b"x" * 1_000_000) for index in range(21)]
    assert producer(moto_world).put(large).sent == 21
    assert moto_world.faults.requests.count("PutRecords") == 5


def test_a_refusal_is_raised_and_nothing_is_forgotten(moto_world: MotoWorld, tmp_path: Path) -> None:
    """Access denied won't pass: the error comes at once, and what wasn't sent is kept."""
    moto_world.faults.refuse(400, "AccessDeniedException", None, operation="PutRecords")
    dead = tmp_path / "dead.jsonl"
    with pytest.raises(SourceError, match="AccessDenied"):
        producer(moto_world, dead_letters=dead).put(outgoing(10))
    assert len(dead.read_text().splitlines()) == 10


@pytest.mark.parametrize("is_aggregated", [False, True])
@pytest.mark.parametrize("error", [LookupError("no more"), KeyboardInterrupt()])
def test_records_before_one_that_cannot_be_had_are_kept(
    moto_world: MotoWorld, tmp_path: Path, error: BaseException, is_aggregated: bool
) -> None:
    """Whoever gives the records fails, or is interrupted: what had come and wasn't sent is in the file, misfits too."""

    def fails() -> Iterator[Outgoing]:
        yield from [Outgoing("", b"1"), Outgoing("a", b"2"), Outgoing("a", b"3")]
        raise error

    dead = tmp_path / "dead.jsonl"
    with pytest.raises(type(error)):
        producer(moto_world, dead_letters=dead, is_aggregated=is_aggregated).put(fails())
    lines = [json.loads(line) for line in dead.read_text().splitlines()]
    assert [base64.b64decode(line["data_base64"]) for line in lines] == [b"1", b"2", b"3"]


def test_half_of_a_surrogate_pair_is_no_key(moto_world: MotoWorld, tmp_path: Path) -> None:
    """It can't be sent, and harms no other."""
    told = producer(moto_world, dead_letters=tmp_path / "dead.jsonl").put(
        [Outgoing("\ud800", b"1"), Outgoing("a", b"2")]
    )
    assert (told.sent, told.failed) == (1, 1)
    assert "surrogate" in told.dead[0].why


def test_few_keys_are_fast_when_aggregated(moto_world: MotoWorld) -> None:
    """The records of a key go together, as many as fit into 50 KiB; what is read is what was sent."""
    records = [Outgoing(f"k{index % 2}", b"%06d" % index + b"x" * 300) for index in range(1000)]
    assert producer(moto_world, is_aggregated=True).put(records).sent == 1000
    assert moto_world.faults.requests.count("PutRecords") <= 5
    assert arrived(moto_world) == expected(records)
