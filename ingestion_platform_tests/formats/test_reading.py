"""Choosing the reader, gzip around the bytes, and the size that is allowed."""

import gzip
import zlib

import pytest

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Csv, Format, JsonLines, Parquet, Xml
from ingestion_platform.formats import read_records
from ingestion_platform_tests.formats.reading import fields, read, refusal, rows

PLAIN = b"a,b\n1,2\n3,4\n"


def test_a_key_that_ends_in_gz_is_decompressed() -> None:
    """Gzip around an object changes nothing of its records; several members one after the other are one object."""
    assert rows(read(Csv(), gzip.compress(PLAIN), "a", "b", key="x.csv.gz")) == [("1", "2"), ("3", "4")]
    members = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n") + b"\0" * 8
    assert rows(read(Csv(), members, "a", "b", key="x.csv.gz")) == [("1", "2"), ("3", "4")]
    line = gzip.compress(b'{"a":1}\n')
    assert rows(read(JsonLines(), line, "a", key="x.jsonl.gz")) == [("1",)]


def test_gzip_that_is_cut_anywhere_is_rejected() -> None:
    """A gzip object without its end is never taken for a shorter one."""
    whole = gzip.compress(PLAIN)
    for size in range(len(whole)):
        assert refusal(Csv(final_newline=False), whole[:size], "a", "b", key="x.csv.gz").startswith("is ")
    assert "is cut" in refusal(Csv(), whole[:-1], "a", "b", key="x.csv.gz")


def test_damaged_gzip_is_rejected() -> None:
    """A changed check sum or junk after the last member is noticed."""
    whole = gzip.compress(PLAIN)
    flipped = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    assert "damaged gzip" in refusal(Csv(), flipped, "a", key="x.csv.gz")
    assert "damaged gzip" in refusal(Csv(), whole + b"junk", "a", key="x.csv.gz")


def test_the_key_and_the_bytes_must_agree_about_gzip() -> None:
    """Plain bytes under .gz and gzip under another name are both rejected, and the message names the repair."""
    assert "is not gzip, though its key ends in .gz" in refusal(Csv(), PLAIN, "a", key="x.csv.gz")
    assert "is not gzip" in refusal(Csv(), b"", "a", key="x.csv.gz")
    assert "name it .gz" in refusal(Csv(), gzip.compress(PLAIN), "a", key="x.csv")


def test_no_more_is_inflated_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small object that would inflate to a gigabyte is rejected after the bytes allowed, and a step of the decompressor."""
    bomb = gzip.compress(b"\n" * 200_000_000)
    inflated = 0
    make = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self.real = make(wbits)

        def decompress(self, data: bytes, size: int = 0) -> bytes:
            nonlocal inflated
            piece = self.real.decompress(data, size)
            inflated += len(piece)
            return piece

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    with pytest.raises(ObjectRejected, match="more than the 1,000,000 bytes allowed"):
        read_records(Csv(max_bytes=1_000_000), bomb, fields("a"), key="x.csv.gz")
    assert 1_000_000 < inflated < 1_300_000


@pytest.mark.parametrize(
    "format", [Csv(max_bytes=5), JsonLines(max_bytes=5), Xml(record="a", max_bytes=5), Parquet(max_bytes=5)]
)
def test_an_object_larger_than_allowed_is_rejected(format: Format) -> None:
    """Every format has its limit, and what is larger isn't looked at."""
    assert "more than the 5 allowed" in refusal(format, b"123456", "a")


def test_an_object_as_large_as_allowed_is_read() -> None:
    """The limit itself is allowed, compressed or not."""
    assert read(Csv(max_bytes=len(PLAIN)), PLAIN, "a", "b").rows_read == 2
    assert read(Csv(max_bytes=len(PLAIN)), gzip.compress(PLAIN), "a", "b", key="x.gz").rows_read == 2
