"""
Avro object container files to records.

Belongs here: what is around the records: the header, blocks, how they are compressed. Doesn't: the records' values (`avro_values.py`).

A file's blocks each say how many records and bytes they have, and end with the file's own mark of 16 bytes. What isn't so was damaged or
cut, and then the object is rejected whole: nobody can tell where its next record begins.
"""

import bz2
import lzma
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

import pyarrow as pa

from ingestion_platform.errors import NotErasable, ObjectRejected
from ingestion_platform.format import Avro
from ingestion_platform.formats import tables
from ingestion_platform.formats.avro_values import places_in_block, read_block
from ingestion_platform.formats.content import BLOCK_BYTES, Content, Stream
from ingestion_platform.formats.erasure import Erasure
from ingestion_platform.formats.json_members import NotAnObject
from ingestion_platform.formats.json_objects import Objects, gathered
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, RejectedRecord
from ingestion_platform.formats.texts import excerpt

_MAGIC = b"Obj\x01"
_MARK_BYTES = 16
_HEADER_BYTES = 1024**2
_LONG_BYTES = 10
_LEFT_BYTES = 4
_AGAIN = "it is read again when it changes"


def read_avro(format: Avro, content: Content, fields: Sequence[Field], *, block_bytes: int = BLOCK_BYTES) -> Pieces:
    """
    Read an Avro file.

    Raises:
        ObjectRejected: it is cut or damaged, compressed in a way that nobody knows, or its schema is that of no record.
    """
    file = _File(content.stream(), format.max_record_bytes)
    objects = Objects([field.source for field in fields], format.max_columns)
    records = 0
    for texts in gathered(file.records(), block_bytes):
        taken = objects.take(texts)
        rejected = tuple(
            RejectedRecord(records + at + 1, reason, texts[at].decode(errors="replace")) for at, reason in taken.refused
        )
        numbers = [record.row for record in rejected]
        yield Piece(tables.from_columns(fields, taken.columns, taken.extra, numbers, records + 1), rejected)
        records += len(texts)
    missing = dict.fromkeys(field.source for field in fields if records and field.source not in objects.seen)
    return Ending(objects.unknown, tuple(missing))


def erase_avro(format: Avro, content: Content, erasure: Erasure, target: BinaryIO) -> None:
    """
    Write an Avro file again without some records; blocks that have none of them stay byte for byte.

    Args:
        format: of the object.
        content: the object.
        erasure: what goes.
        target: takes the file.

    Raises:
        NotErasable: records are to be emptied.
        ObjectRejected: it is cut or damaged.
    """
    if erasure.emptied:
        raise NotErasable("records of Avro can't be emptied", "erase='row' takes them out whole")
    _File(content.stream(), format.max_record_bytes).erase(erasure, target)


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


class _File:
    """
    A container file, read once.

    Args:
        stream: of it.
        most_bytes: of one block, compressed or not.
    """

    def __init__(self, stream: Stream, most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self._kept: list[bytes] | None = None
        """What was read of the header, while it is kept."""

    def records(self) -> Iterator[bytes]:
        """
        Its records as JSON objects.

        Raises:
            ObjectRejected: it isn't a whole file.
        """
        schema, codec, mark = self._beginning()
        for number, (count, packed) in enumerate(self._blocks(mark), start=1):
            try:
                yield from read_block(schema, self._unpacked(codec, packed, number), count)
            except NotAnObject as error:
                raise self._damaged(number, f"it {error}") from error

    def erase(self, erasure: Erasure, target: BinaryIO) -> None:
        """Write it again without some records."""
        self._kept = []
        schema, codec, mark = self._beginning()
        target.write(b"".join(self._kept))
        self._kept = None
        before = 0
        for number, (count, packed) in enumerate(self._blocks(mark), start=1):
            gone = {row - before for row in erasure.rows if before < row <= before + count}
            before += count
            if gone:
                block = self._unpacked(codec, packed, number)
                try:
                    ends = places_in_block(schema, block, count)
                except NotAnObject as error:
                    raise self._damaged(number, f"it {error}") from error
                records = [block[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
                kept = [one for row, one in enumerate(records, start=1) if row not in gone]
                if not kept:
                    continue
                count, packed = len(kept), _packed(codec, b"".join(kept))
            target.write(_as_long(count) + _as_long(len(packed)) + packed + mark)

    def _beginning(self) -> tuple[str, str, bytes]:
        """The writer's schema, how blocks are compressed, and the file's mark."""
        beginning = self._stream.read(len(_MAGIC))
        if beginning != _MAGIC:
            raise ObjectRejected("is not Avro: it doesn't begin with Obj and 1" if beginning else "is empty", _AGAIN)
        if self._kept is not None:
            self._kept.append(beginning)
        header = self._header()
        mark = self._exactly(_MARK_BYTES)
        schema = header.get("avro.schema", b"").decode(errors="replace")
        return schema, header.get("avro.codec", b"null").decode(errors="replace"), mark

    def _blocks(self, mark: bytes) -> Iterator[tuple[int, bytes]]:
        """How many records each block has, and its bytes as they are."""
        number = 0
        while True:
            first = self._stream.read(1)
            if not first:
                return
            number += 1
            count, size = self._long(first), self._long()
            if count < 0 or size < 0:
                raise self._damaged(number, "it says that it has fewer records or bytes than none")
            if size > self._most_bytes:
                raise ObjectRejected(
                    f"has a block of {size:,} bytes, more than the {self._most_bytes:,} allowed",
                    "raise max_record_bytes of its format if it may be so large",
                )
            packed = self._exactly(size)
            if self._exactly(_MARK_BYTES) != mark:
                raise self._damaged(number, "it doesn't end with the file's mark")
            yield count, packed

    def _header(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        size = 0
        while count := self._long():
            if count < 0:
                # Then the size of this part of the map comes first.
                count = -count
                self._long()
            for _ in range(count):
                parts = []
                for _ in range(2):
                    length = self._long()
                    size += length + 1
                    if length < 0 or size > _HEADER_BYTES:
                        raise ObjectRejected(
                            "is damaged Avro: its header is no map of texts, or larger than a schema", _AGAIN
                        )
                    parts.append(self._exactly(length))
                found[parts[0].decode(errors="replace")] = parts[1]
        return found

    def _exactly(self, size: int) -> bytes:
        found = self._stream.read(size)
        if len(found) < size:
            raise ObjectRejected("is cut: its last block has no end", _AGAIN)
        if self._kept is not None:
            self._kept.append(found)
        return found

    def _long(self, first: bytes = b"") -> int:
        """A number of variable length: seven bits a byte, the lowest first, its sign in the lowest of all."""
        value = shift = 0
        for _ in range(_LONG_BYTES):
            byte = (first or self._exactly(1))[0]
            first = b""
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise ObjectRejected("is damaged Avro: a number has no end", _AGAIN)

    def _unpacked(self, codec: str, packed: bytes, number: int) -> bytes:
        most = self._most_bytes + 1
        try:
            match codec:
                case "null":
                    found = packed
                case "deflate":
                    inflater = zlib.decompressobj(-15)
                    found = inflater.decompress(packed, most)
                    self._require_end(number, inflater, len(found) == most)
                case "bzip2" | "xz":
                    unpacker = bz2.BZ2Decompressor() if codec == "bzip2" else lzma.LZMADecompressor()
                    found = unpacker.decompress(packed, most)
                    self._require_end(number, unpacker, len(found) == most)
                case "zstandard":
                    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
                        found = stream.read(most)
                case "snappy":
                    found = self._unsnapped(packed, number)
                case _:
                    raise ObjectRejected(
                        f"is Avro compressed by {excerpt(codec, 40)}, which can't be read",
                        "null, deflate, snappy, zstandard, bzip2 and xz can",
                    )
        except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError, pa.ArrowException) as error:
            raise self._damaged(number, f"its {codec} stream is damaged: {excerpt(str(error), 100)}") from error
        if len(found) > self._most_bytes:
            raise ObjectRejected(
                f"has a block of more than the {self._most_bytes:,} bytes allowed, once decompressed",
                "raise max_record_bytes of its format if it may be so large",
            )
        return found

    def _require_end(self, number: int, unpacker: "_Unpacker", is_full: bool) -> None:
        # Some writers leave zlib's check sum, or a part of it, behind the stream.
        if not is_full and (not unpacker.eof or len(unpacker.unused_data) > _LEFT_BYTES):
            raise self._damaged(number, "its compressed stream doesn't end where the block does")

    def _unsnapped(self, packed: bytes, number: int) -> bytes:
        """Snappy says its size first; Avro adds a check sum of what was packed."""
        size = shift = 0
        for byte in packed[:5]:
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if size > self._most_bytes:
            return bytes(self._most_bytes + 1)
        found = pa.decompress(packed[:-4], decompressed_size=size, codec="snappy", asbytes=True)
        if zlib.crc32(found) != int.from_bytes(packed[-4:], "big"):
            raise self._damaged(number, "its check sum is another one")
        return bytes(found)

    @staticmethod
    def _damaged(number: int, why: str) -> ObjectRejected:
        return ObjectRejected(f"is damaged Avro: block {number:,}: {why}", _AGAIN)


def _as_long(value: int) -> bytes:
    """A number of variable length, as `_File._long` reads it; it isn't negative."""
    value <<= 1
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _packed(codec: str, block: bytes) -> bytes:
    """A block as *codec* compresses it."""
    match codec:
        case "deflate":
            deflater = zlib.compressobj(wbits=-15)
            return deflater.compress(block) + deflater.flush()
        case "bzip2":
            return bz2.compress(block)
        case "xz":
            return lzma.compress(block)
        case "zstandard":
            sink = pa.BufferOutputStream()
            with pa.CompressedOutputStream(sink, "zstd") as stream:
                stream.write(block)
            return bytes(sink.getvalue().to_pybytes())
        case "snappy":
            return bytes(pa.compress(block, codec="snappy", asbytes=True)) + zlib.crc32(block).to_bytes(4, "big")
    return block
