"""
The door of this room: one object's bytes to its records, whatever the format.

Belongs here: choosing the reader. Doesn't: any format's own rules, what is around the bytes (`content.py`).
"""

import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa

from ingestion_platform.api import Pages
from ingestion_platform.change_log import ChangeLog, Debezium, Dms, DynamoDbExport, Maxwell
from ingestion_platform.database import ExtractFile
from ingestion_platform.format import Avro, Bounded, Csv, Excel, FixedWidth, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.formats.change_files import read_changes, read_dms
from ingestion_platform.formats.content import BLOCK_BYTES, Content
from ingestion_platform.formats.delimited import read_delimited
from ingestion_platform.formats.detection import Detected, departures, detect
from ingestion_platform.formats.excel_sheets import read_excel
from ingestion_platform.formats.extracts import read_extract
from ingestion_platform.formats.fixed_width import read_fixed_width
from ingestion_platform.formats.json_documents import read_json
from ingestion_platform.formats.json_lines import read_json_lines
from ingestion_platform.formats.pages import read_pages
from ingestion_platform.formats.parquet_files import read_parquet
from ingestion_platform.formats.records import Ending, Field, Piece, Pieces, Records, RejectedRecord
from ingestion_platform.formats.segments import read_segment
from ingestion_platform.formats.xml_records import read_xml
from ingestion_platform.stream import LandedName, Segments

LEAST_BLOCK_BYTES = 16


class RecordReader:
    """
    Reads one object's records, piece by piece: iterate over it, once, to its end.

    What it has given counts only when it has come to its end; a piece that `is_anew` begins again.

    Args:
        pieces: what reads.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._ending: Ending | None = None

    def __iter__(self) -> Iterator[Piece]:
        self._ending = yield from self._pieces

    @property
    def ending(self) -> Ending:
        """What only the end can tell."""
        assert self._ending is not None, "it hasn't been read to its end"
        return self._ending


def open_records(
    format: Format | ChangeLog | Segments | Pages | ExtractFile,
    file: BinaryIO,
    fields: Sequence[Field],
    *,
    key: str = "",
    block_bytes: int = BLOCK_BYTES,
) -> RecordReader:
    """
    Read one landed object, of any size, in little memory.

    Args:
        format: how the bytes are to be read.
        file: the object as it landed: seekable. It isn't closed.
        fields: the values wanted of every record.
        key: the object's; one that ends in `.gz`, `.zst`, `.bz2` or `.zip` is decompressed.
        block_bytes: how much of it is read and taken apart at a time, about.

    Raises:
        ObjectRejected: now or while its records are read: it isn't a whole object of that format.
        DeclarationError: the format says something that can't be (an encoding that nobody knows, a path above the root).
    """
    return RecordReader(_pieces(format, file, fields, key, max(block_bytes, LEAST_BLOCK_BYTES)))


def read_records(
    format: Format | ChangeLog | Segments | Pages | ExtractFile,
    content: bytes,
    fields: Sequence[Field],
    *,
    key: str = "",
    block_bytes: int = BLOCK_BYTES,
) -> Records:
    """
    Read one small object whole; see `open_records`.

    May be called from several threads at once.
    """
    tables: list[pa.Table] = []
    rejected: list[RejectedRecord] = []
    reader = open_records(format, io.BytesIO(content), fields, key=key, block_bytes=block_bytes)
    for piece in reader:
        if piece.is_anew:
            tables, rejected = [], []
        tables.append(piece.table)
        rejected += piece.rejected
    ending = reader.ending
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    return Records(
        table,
        tuple(rejected),
        ending.unknown_columns,
        ending.missing_columns,
        ending.positions,
        ending.trailers,
        ending.departures,
    )


def detect_dialect(format: Csv, file: BinaryIO, fields: Sequence[Field], *, key: str = "") -> Detected:
    """
    Find out what *format* leaves to be detected, from one object; see `detection.py`.

    Raises:
        ObjectRejected: it can't be told.
    """
    content = _content(format, file, key)
    try:
        return detect(format, content, fields)
    finally:
        content.close()


def dialect_departures(
    declared: Csv, recorded: Csv, file: BinaryIO, fields: Sequence[Field], *, key: str = ""
) -> tuple[str, ...]:
    """
    How an object departs from the dialect that is recorded for its dataset, for a person.

    Raises:
        ObjectRejected: it isn't packed as its key says.
    """
    content = _content(declared, file, key)
    try:
        return departures(declared, recorded, content, fields)
    finally:
        content.close()


def _content(format: Csv, file: BinaryIO, key: str) -> Content:
    return Content(file, key, max_bytes=format.max_bytes, zip_member=format.zip_member)


def _pieces(
    format: Format | ChangeLog | Segments | Pages | ExtractFile,
    file: BinaryIO,
    fields: Sequence[Field],
    key: str,
    block_bytes: int,
) -> Pieces:
    content = Content(
        file,
        key,
        max_bytes=format.max_bytes,
        zip_member=format.zip_member if isinstance(format, Bounded) else "",
        is_zip=isinstance(format, Excel),
    )
    try:
        match format:
            case Csv():
                return (yield from read_delimited(format, content, fields, block_bytes=block_bytes))
            case JsonLines():
                return (yield from read_json_lines(format, content, fields, block_bytes=block_bytes))
            case Json():
                return (yield from read_json(format, content, fields, block_bytes=block_bytes))
            case Xml():
                return (yield from read_xml(format, content, fields, block_bytes=block_bytes))
            case FixedWidth():
                return (yield from read_fixed_width(format, content, fields, block_bytes=block_bytes))
            case Avro():
                # Its library is only wanted where there is Avro.
                from ingestion_platform.formats.avro_files import read_avro

                return (yield from read_avro(format, content, fields, block_bytes=block_bytes))
            case Excel():
                return (yield from read_excel(format, content, fields, block_bytes=block_bytes))
            case Parquet():
                return (yield from read_parquet(format, content, fields, block_bytes=block_bytes))
            case Debezium() | Maxwell() | DynamoDbExport():
                return (yield from read_changes(format, content, fields, key=key, block_bytes=block_bytes))
            case Dms():
                return (yield from read_dms(format, content, fields, key=key, block_bytes=block_bytes))
            case ExtractFile():
                return (yield from read_extract(format, content, fields, block_bytes=block_bytes))
            case Pages():
                return (yield from _whole(read_pages(format, content.stream().read(), fields, read_records)))
            case Segments():
                name = LandedName.parse(key)
                named = (name.shard, name.span) if name is not None and name.span else None
                return (yield from _whole(read_segment(format, content.stream().read(), fields, named=named)))
    finally:
        content.close()


def _whole(records: Records) -> Pieces:
    """What is small by its nature, in one piece: a segment or a group of pages is closed before it is large."""
    yield Piece(records.table, records.rejected)
    return Ending(records.unknown_columns, records.missing_columns, records.positions, departures=records.departures)
