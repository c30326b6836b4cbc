"""Avro object container files: blocks, how they are compressed, and what isn't whole."""

import bz2
import lzma
import zlib

import pyarrow as pa
import pytest

from ingestion_platform.format import Avro
from ingestion_platform_tests.formats.reading import extras, read, refusal, rows
from ingestion_platform_tests.formats.workbooks import MARK, avro, number, text

SCHEMA = {
    "type": "record",
    "name": "sale",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {
            "name": "shop",
            "type": {"type": "record", "name": "shop", "fields": [{"name": "code", "type": ["null", "int"]}]},
        },
    ],
}
ONE = text(b"A1") + text(b"\x30\x39") + number(1_727_778_600_000_001) + number(1) + number(-7)
TWO = text(b"A2") + text(b"\xff") + number(0) + number(0)
FOUND = [("A1", "123.45", "2024-10-01T10:30:00.000001+00:00", "-7"), ("A2", "-0.01", "1970-01-01T00:00:00+00:00", None)]
SOURCES = ("id", "amount", "at", "shop.code")


def test_logical_types_are_exact() -> None:
    """Decimals keep their digits, timestamps their microseconds, nested fields have paths."""
    assert rows(read(Avro(), avro(SCHEMA, [[ONE], [TWO]]), *SOURCES)) == FOUND
    records = read(Avro(), avro(SCHEMA, [[ONE]]), "id", "none")
    assert extras(records) == [{"amount": 123.45, "at": "2024-10-01T10:30:00.000001+00:00", "shop": {"code": -7}}]
    assert records.missing_columns == ("none",)


@pytest.mark.parametrize("codec", ["deflate", "deflate as some write it", "bzip2", "xz", "zstandard", "snappy"])
def test_every_codec_is_read(codec: str) -> None:
    """Those of Avro's specification."""
    block = ONE + TWO
    packed = {
        "deflate": zlib.compress(block)[2:-4],
        "deflate as some write it": zlib.compress(block)[2:-1],
        "bzip2": bz2.compress(block),
        "xz": lzma.compress(block),
        "zstandard": pa.compress(block, codec="zstd", asbytes=True),
        "snappy": pa.compress(block, codec="snappy", asbytes=True) + zlib.crc32(block).to_bytes(4, "big"),
    }[codec]
    name = codec.partition(" ")[0]
    header = avro(SCHEMA, [], codec=name)
    whole = header + number(2) + number(len(packed)) + packed + MARK
    assert rows(read(Avro(), whole, *SOURCES)) == FOUND
    # A codec without a check sum can't know every bit: but what is cut is known.
    for size in range(len(header) + 1, len(whole)):
        assert refusal(Avro(), whole[:size], *SOURCES).startswith("is ")


def test_what_is_no_whole_file_is_refused() -> None:
    """Another beginning, a block with another mark or another size, a schema that is none, a codec that nobody knows."""
    whole = avro(SCHEMA, [[ONE, TWO]])
    assert "is not Avro" in refusal(Avro(), b"Obj\x02" + whole[4:], "id")
    assert "is empty" in refusal(Avro(), b"", "id")
    assert "doesn't end with the file's mark" in refusal(Avro(), whole[:-1] + b"x", "id")
    assert "damaged Avro: block 1" in refusal(Avro(), avro(SCHEMA, [[ONE + b"more"]]), "id")
    assert "can't be used" in refusal(Avro(), avro({"type": "nothing"}, [[ONE]]), "id")
    assert "is no record" in refusal(Avro(), avro("string", [[text(b"x")]]), "id")
    assert "compressed by “lzo”" in refusal(Avro(), avro(SCHEMA, [[ONE]], codec="lzo"), "id")


def test_blocks_that_would_fill_memory_are_refused() -> None:
    """A size, a count or a packed block beyond measure."""
    header = avro(SCHEMA, [])
    assert "more than the" in refusal(Avro(max_record_bytes=1000), header + number(1) + number(10**12), "id")
    assert "records in 1 bytes" in refusal(Avro(), header + number(10**9) + number(1) + b"x" + MARK, "id")
    bomb = zlib.compress(bytes(10**6))[2:-4]
    packed = avro(SCHEMA, [], codec="deflate") + number(1) + number(len(bomb)) + bomb + MARK
    assert "once decompressed" in refusal(Avro(max_record_bytes=10_000), packed, "id")
