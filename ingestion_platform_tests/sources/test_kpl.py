"""Aggregated records: taken apart exactly, and kept whole where they aren't what they look like."""

from datetime import UTC, datetime
from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.sources import kpl
from ingestion_platform.sources.kinesis_records import gather
from ingestion_platform.sources.kpl import MAGIC, Part, put_together, take_apart

PARTS = st.lists(
    st.builds(
        Part,
        st.binary(max_size=40),
        st.binary(max_size=300),
        st.none() | st.integers(0, 2**128 - 1).map(lambda number: str(number).encode()),
        st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=30,
)


def sealed(message: bytes) -> bytes:
    """A message with its magic number and its checksum."""
    return MAGIC + message + md5(message, usedforsecurity=False).digest()


@given(PARTS)
def test_what_is_put_together_is_taken_apart(parts: list[Part]) -> None:
    """Keys, data, hash keys and tags come back, in order."""
    assert take_apart(put_together(parts)) == parts


def test_the_format_is_the_one_that_others_write() -> None:
    """The example that the Elixir implementation documents, byte for byte."""
    theirs = bytes.fromhex(
        "f3899ac2 0a0d706172746974696f6e5f6b6579 1a080800 1a0464617461 d03699da5a222fa32108ad1bd955a14e"
    )
    assert put_together([Part(b"partition_key", b"data")]) == theirs
    assert take_apart(theirs) == [Part(b"partition_key", b"data")]


@given(st.binary(max_size=200))
def test_bytes_that_are_none_are_left_whole(data: bytes) -> None:
    """Whatever bytes come: behind a right checksum too, they are parts or they aren't; nothing is raised."""
    assert take_apart(data) is None or data.startswith(MAGIC)
    found = take_apart(sealed(data))
    assert found is None or all(isinstance(part, Part) for part in found)


@given(PARTS, st.data())
def test_a_flipped_byte_is_noticed(parts: list[Part], data: st.DataObject) -> None:
    """The checksum tells; the record is kept as it came."""
    record = bytearray(put_together(parts))
    at = data.draw(st.integers(0, len(record) - 1))
    record[at] ^= data.draw(st.integers(1, 255))
    assert take_apart(bytes(record)) is None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x1a\x05\x08\x00\x1a\x01x",  # a key that isn't in the table
        b"\x0a\x01k\x1a\x02\x08\x00",  # no data
        b"\x0a\x01k\x1a\x03\x1a\x01x",  # no key
        b"\x0a\x01k\x1a\x06\x08\x00\x1a\x09xx",  # longer than there is
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # more than 64 bits
        b"\x0a\x80",  # a number cut off
        b"\x08\x01",  # a table that is a number
        b"\x1b\x1c",  # a group
        b"\x00\x00",  # field 0
        b"\x79\x00",  # eight bytes that aren't there
        b"\x0a\x01k\x1a\x09\x08\x00\x10\x05\x1a\x01x\x22\x00",  # a hash key that isn't in the table
    ],
)
def test_a_malformed_message_is_left_whole(message: bytes) -> None:
    """A right checksum over a wrong message doesn't make it a message."""
    assert take_apart(sealed(message)) is None


def test_tables_may_come_last_and_unknown_fields_are_passed_over() -> None:
    """Protobuf leaves the order of fields free, and newer producers may add some."""
    message = b"\x1a\x05\x08\x00\x1a\x01x" + b"\x28\x07" + b"\x32\x02zz" + b"\x3d1234" + b"\x0a\x01k"
    assert take_apart(sealed(message)) == [Part(b"k", b"x")]


def test_a_small_record_cannot_become_a_huge_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One long key or hash key named by many parts, very many parts, or tags: what would grow beyond the bound is left whole."""
    monkeypatch.setattr(kpl, "MAX_TAKEN_APART_BYTES", 100_000)
    assert take_apart(put_together([Part(b"k" * 10_000, b"")] * 20)) is None
    assert take_apart(put_together([Part(b"k", b"")] * 5_000)) is None
    assert take_apart(put_together([Part(b"k", b"", b"9" * 10_000)] * 20)) is None
    assert take_apart(put_together([Part(b"k", b"", None, ((b"", b""),) * 900)] * 3)) is None
    assert take_apart(put_together([Part(b"k", b"")] * 100)) == [Part(b"k", b"")] * 100


def test_the_size_of_a_batch_counts_hash_keys_and_tags() -> None:
    """They are in the headers, and a batch isn't larger for them than it says: a record that holds many begins a new one."""
    whole = put_together([Part(b"k", b"", b"9" * 1_000, ((b"t" * 500, b"x" * 500),))] * 5_000)
    records = [{"SequenceNumber": str(number), "PartitionKey": "k", "Data": whole} for number in (1, 2)]
    found = list(gather("s", records, [1, 2], [datetime.now(UTC)] * 2, 0, 2))
    assert [(one.first, one.last) for one in found] == [(1, 1), (2, 2)]
    assert all(one.size_bytes >= 5_000 * 2_000 for one in found)
