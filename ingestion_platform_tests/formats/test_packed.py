"""What is around the bytes of any format: gzip, zstd, bzip2 and zip, as the key says; and what isn't unpacked."""

import bz2
import gzip
import io
import random
import zipfile
from collections.abc import Callable

import pyarrow as pa
import pytest

from ingestion_platform.format import Csv, Format, JsonLines, Parquet
from ingestion_platform.formats import content
from ingestion_platform_tests.formats.reading import read, refusal, rows

PLAIN = b"a,b\n1,2\n3,4\n"
ROWS = [("1", "2"), ("3", "4")]


def zstd(plain: bytes) -> bytes:
    """A frame of zstd."""
    return pa.compress(plain, codec="zstd", asbytes=True)


def zipped(*files: tuple[str, bytes]) -> bytes:
    """A zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, plain in files:
            archive.writestr(name, plain)
    return buffer.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstd,
    ".zip": lambda plain: zipped(("x", plain)),
}


@pytest.mark.parametrize(
    ("ending", "packed"),
    [
        (".gz", gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n")),
        (".bz2", bz2.compress(b"a,b\n1,2\n") + bz2.compress(b"3,4\n")),
        (".zst", zstd(b"a,b\n1,2\n") + zstd(b"3,4\n")),
        (".zip", zipped(("folder/x.csv", PLAIN))),
        (".zip", zipped(("x.csv", PLAIN), ("__MACOSX/._x.csv", b"what macOS adds"))),
    ],
    # Not the bytes: the moment of packing is in them, and each process of the tests has its own.
    ids=["gzip", "bzip2", "zstd", "zip", "zip of macOS"],
)
def test_what_the_key_says_is_unpacked(ending: str, packed: bytes) -> None:
    """Several members or frames one after the other are one object; a zip holds one file, whatever its name."""
    assert rows(read(Csv(), packed, "a", "b", key=f"x.csv{ending}")) == ROWS


@pytest.mark.parametrize(
    ("ending", "packed"), [(".bz2", bz2.compress(PLAIN)), (".zst", zstd(PLAIN)), (".zip", zipped(("x.csv", PLAIN)))]
)
def test_key_and_bytes_must_agree(ending: str, packed: bytes) -> None:
    """Plain bytes under a packed name, packed ones under a plain name, junk behind them, and anything cut."""
    assert "though its key ends in" in refusal(Csv(), PLAIN, "a", key=f"x.csv{ending}")
    assert "though its key doesn't end in" in refusal(Csv(), packed, "a", key="x.csv")
    for size in range(len(packed)):
        assert refusal(Csv(final_newline=False), packed[:size], "a", "b", key=f"x{ending}").startswith("is ")
    if ending != ".zip":
        assert "damaged" in refusal(Csv(), packed + b"junk", "a", key=f"x{ending}")


def test_text_may_begin_as_bzip2_does() -> None:
    """Three letters alone prove nothing."""
    assert rows(read(Csv(), b"BZh,b\n1,2\n", "BZh")) == [("1",)]


def test_of_several_files_in_a_zip_the_declared_one_is_read() -> None:
    """Exactly one must be meant: by being alone, or by its name."""
    both = zipped(("data.csv", PLAIN), ("read me.txt", b"hello"), ("folder/", b""))
    assert "a zip of 2 files" in refusal(Csv(), both, "a", key="x.zip")
    assert rows(read(Csv(zip_member="*.csv"), both, "a", "b", key="x.zip")) == ROWS
    assert "0 of them named “*.json”" in refusal(Csv(zip_member="*.json"), both, "a", key="x.zip")
    assert "a zip of 0 files" in refusal(Csv(), zipped(), "a", key="x.zip")


def test_a_name_in_a_zip_is_never_a_path() -> None:
    """A name that climbs out is a name as any other: nothing is written under it; control characters aren't shown."""
    assert rows(read(Csv(), zipped(("../../etc/passwd", PLAIN)), "a", "b", key="x.zip")) == ROWS
    assert rows(read(Csv(), zipped(("/etc/passwd", PLAIN)), "a", "b", key="x.zip")) == ROWS
    why = refusal(Csv(), zipped(("\x1b[31m'\"", PLAIN), ("b\nc", b"")), "a", key="x.zip")
    assert why.isprintable()


def test_an_encrypted_zip_is_refused() -> None:
    """There is no password to be declared."""
    packed = bytearray(zipped(("x.csv", PLAIN)))
    packed[6] |= 1
    packed[packed.rindex(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refusal(Csv(), bytes(packed), "a", key="x.zip")


def test_a_zip_of_thousands_of_files_is_refused_before_they_are_listed() -> None:
    """Its directory would be held in memory."""
    packed = bytearray(zipped(("x.csv", PLAIN)))
    at = packed.rindex(b"PK\x05\x06")
    packed[at + 12 : at + 16] = (2 * 1024**2).to_bytes(4, "little")
    assert "thousands of files" in refusal(Csv(), bytes(packed), "a", key="x.zip")


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst", ".zip"])
def test_a_bomb_is_refused(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes hundreds of times larger is no data, long before the bytes that are allowed; data that packs well is read."""
    monkeypatch.setattr(content, "BOMB_BYTES", 200_000)
    pack = PACKINGS[ending]
    assert "is a bomb, most likely" in refusal(Csv(), pack(b"a\n" + b"\n" * 4_000_000), "a", key=f"x{ending}")
    dice = random.Random(1)
    data = b"a\n" + b"".join(b"%d\n" % dice.randrange(10) for _ in range(300_000))
    assert read(Csv(), pack(data), "a", key=f"x{ending}").rows_read == 300_000


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst", ".zip"])
def test_no_more_is_unpacked_than_allowed(ending: str) -> None:
    """The limit counts unpacked bytes, in every packing."""
    pack = PACKINGS[ending]
    why = refusal(Csv(max_bytes=1000), pack(b"a\n" + b"1\n" * 1000), "a", key=f"x{ending}")
    assert "more than the 1,000 bytes allowed, once decompressed" in why


@pytest.mark.parametrize(
    ("format", "plain"),
    [
        (Csv(max_record_bytes=5000), b"a,b\n1,2\n" + b"x" * 20_000 + b",1\n"),
        (Csv(max_record_bytes=5000), b"a,b\n1,2\n" + b"x" * 20_000),
        (Csv(max_record_bytes=5000), b"a,b\n1,2\n" + b"\0" * 20_000),
        (Csv(max_record_bytes=5000), b'a,b\n1,"' + b"2,\n" * 20_000),
        (Csv(max_record_bytes=5000), b"x" * 20_000),
        (Csv(max_record_bytes=5000, final_newline=False), b"a,b\n" + b"1,2\n" * 5000 + b"x" * 20_000 + b",1"),
        (JsonLines(max_record_bytes=5000), b'{"a":1}\n{"a":"' + b"x" * 20_000 + b'"}\n'),
    ],
)
def test_a_record_that_is_too_long_is_refused(format: Format, plain: bytes) -> None:
    """A line of a gigabyte would be held in memory: the object is refused when it has seen as much of it as is allowed."""
    why = refusal(format, plain, "a", "b")
    assert "allowed" in why or "NUL" in why or "is cut" in why


def test_parquet_may_be_packed_again() -> None:
    """It is unpacked to a temporary file, because it is read from its end."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({"a": ["1"]}), sink)
    assert rows(read(Parquet(), gzip.compress(sink.getvalue()), "a", key="x.parquet.gz")) == [("1",)]
