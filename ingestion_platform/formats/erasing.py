"""
The door to taking records out of landed objects: one object's bytes again without some records, whatever the format.

Belongs here: choosing what writes, and packing again what is packed. Doesn't: any format's own rules (`erase_…` beside each reader), which
records go (`warehouse/forget/`), putting the bytes in the place of the object (`landing/erasing.py`).
"""

import bz2
import gzip
import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import BinaryIO, cast

import pyarrow as pa

from ingestion_platform.api import Pages
from ingestion_platform.change_log import ChangeLog, Debezium, Dms, DynamoDbExport, Maxwell
from ingestion_platform.database import ExtractFile
from ingestion_platform.errors import NotErasable, ObjectRejected
from ingestion_platform.format import Avro, Bounded, Csv, Excel, FixedWidth, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.formats.change_files import inner_fields
from ingestion_platform.formats.content import DAMAGED, Content, open_zip, packing_of
from ingestion_platform.formats.delimited import erase_delimited
from ingestion_platform.formats.erasure import Erasure
from ingestion_platform.formats.fixed_width import erase_fixed_width
from ingestion_platform.formats.json_documents import erase_json
from ingestion_platform.formats.json_lines import erase_json_lines
from ingestion_platform.formats.parquet_edit import erase_extract, erase_pages, erase_parquet, erase_segment
from ingestion_platform.formats.records import Field
from ingestion_platform.formats.xml_edit import erase_xml
from ingestion_platform.stream import JsonValues, Segments

_STEP_BYTES = 1024**2
_LEVEL = 6
_NO_TIME = 0


@dataclass(frozen=True)
class OfPages:
    """
    What goes out of a group of pages.

    Args:
        pages: number of the page in the group, from 0 → what goes out of its body, by the numbers that records have in it.
        around: what may stand nowhere around bodies, too.
    """

    pages: Mapping[int, Erasure]
    around: Erasure


def erase_records(
    format: Format | ChangeLog | Segments | Pages | ExtractFile,
    file: BinaryIO,
    fields: Sequence[Field],
    erasure: Erasure | OfPages,
    target: BinaryIO,
    *,
    key: str = "",
) -> None:
    """
    Write a landed object again without some of its records.

    Args:
        format: how its bytes are read; nothing of a dialect is to be detected any more.
        file: the object as it landed: seekable. It isn't closed.
        fields: as it is read with.
        erasure: what goes.
        target: takes the bytes, packed as the object is.
        key: the object's.

    Raises:
        NotErasable: this can't be done without touching other records.
        ObjectRejected: it isn't a whole object of that format.
    """
    if isinstance(format, Excel):
        raise NotErasable("rows can't be taken out of a workbook", "have the object removed whole")
    content = Content(
        file, key, max_bytes=format.max_bytes, zip_member=format.zip_member if isinstance(format, Bounded) else ""
    )
    try:
        with _packing(file, key, format.zip_member if isinstance(format, Bounded) else "", target) as inner:
            _erase(format, content, fields, erasure, inner, key)
    finally:
        content.close()


def _erase(
    format: Format | ChangeLog | Segments | Pages | ExtractFile,
    content: Content,
    fields: Sequence[Field],
    erasure: Erasure | OfPages,
    target: BinaryIO,
    key: str,
) -> None:
    if isinstance(format, Pages):
        assert isinstance(erasure, OfPages), "a group of pages has records in its pages"
        inside = format.inside

        def erase_inside(body: bytes, of_body: Erasure) -> bytes:
            sink = io.BytesIO()
            inner = [one for one in fields if not one.source.startswith("@") or isinstance(inside, Xml)]
            erase_records(inside, io.BytesIO(body), inner, of_body, sink)
            return sink.getvalue()

        erase_pages(content.stream().read(), erasure.pages, erasure.around.words, erase_inside, target)
        return
    assert isinstance(erasure, Erasure), "only a group of pages has pages"
    match format:
        case Csv():
            erase_delimited(format, content, fields, erasure, target)
        case JsonLines():
            erase_json_lines(format, content, erasure, target)
        case Json():
            erase_json(format, content, erasure, target)
        case Xml():
            erase_xml(format, content, erasure, target)
        case FixedWidth():
            erase_fixed_width(format, content, erasure, target)
        case Avro():
            # Its library is only wanted where there is Avro.
            from ingestion_platform.formats.avro_files import erase_avro

            erase_avro(format, content, erasure, target)
        case Parquet():
            erase_parquet(content, erasure, target)
        case ExtractFile():
            erase_extract(content, erasure, target)
        case Segments():
            if erasure.emptied and not isinstance(format.values, JsonValues):
                raise NotErasable(
                    "values that aren't plain JSON can't be emptied", "erase='row' takes records out whole"
                )
            erase_segment(content.stream().read(), erasure, target)
        case Debezium() | Maxwell() | DynamoDbExport():
            if isinstance(format, Debezium) and format.layout == "document":
                text = content.stream().read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
                erase_json(Json("[*]" if text[:1] == b"[" else ""), content, erasure, target)
            else:
                limits = JsonLines(max_bytes=format.max_bytes, max_record_bytes=format.max_record_bytes)
                erase_json_lines(limits, content, erasure, target)
        case Dms():
            if isinstance(format.inside, Csv):
                erase_delimited(format.inside, content, inner_fields(format, fields, key), erasure, target)
            else:
                erase_parquet(content, erasure, target)
        case _:
            raise NotErasable(
                f"nobody knows how to write {type(format).__name__} again", "have the object removed whole"
            )


@contextmanager
def _packing(file: BinaryIO, key: str, member: str, target: BinaryIO) -> Iterator[BinaryIO]:
    """Takes bytes and packs them into *target* as *key* says."""
    kind = packing_of(key)
    if not kind:
        yield target
        return
    with tempfile.TemporaryFile() as unpacked:
        yield cast(BinaryIO, unpacked)
        unpacked.seek(0)
        match kind:
            case "gzip":
                with gzip.GzipFile("", "wb", _LEVEL, target, _NO_TIME) as zipped:
                    shutil.copyfileobj(unpacked, zipped, _STEP_BYTES)
            case "bzip2":
                packer = bz2.BZ2Compressor()
                while piece := unpacked.read(_STEP_BYTES):
                    target.write(packer.compress(piece))
                target.write(packer.flush())
            case "zstd":
                with pa.CompressedOutputStream(pa.PythonFile(_Kept(target), "w"), "zstd") as stream:
                    while piece := unpacked.read(_STEP_BYTES):
                        stream.write(piece)
            case "zip":
                _zip_again(file, member, cast(BinaryIO, unpacked), target)


class _Kept(io.RawIOBase):
    """A file that Arrow may close when it likes: the file itself stays open."""

    def __init__(self, target: BinaryIO) -> None:
        super().__init__()
        self._target = target

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: object, /) -> int:
        """As any file."""
        return self._target.write(bytes(memoryview(data)))  # type: ignore[arg-type]  # Arrow gives buffers


def _zip_again(file: BinaryIO, wanted: str, unpacked: BinaryIO, target: BinaryIO) -> None:
    """The same archive with one member's bytes in the place of those that it had."""
    archive = open_zip(file)
    with zipfile.ZipFile(target, "w") as written:
        for one in archive.infolist():
            is_data = not one.is_dir() and not one.filename.startswith("__MACOSX/")
            info = zipfile.ZipInfo(one.filename, one.date_time)
            info.compress_type, info.external_attr, info.create_system = (
                one.compress_type,
                one.external_attr,
                one.create_system,
            )
            if one.is_dir():
                written.writestr(info, b"")
                continue
            try:
                with (
                    written.open(info, "w", force_zip64=True) as to,
                    (
                        archive.open(one)
                        if not is_data or (wanted and not fnmatchcase(one.filename, wanted))
                        else unpacked
                    ) as source,
                ):
                    shutil.copyfileobj(source, to, _STEP_BYTES)
            except DAMAGED as error:
                raise ObjectRejected(f"is damaged zip: {error}") from error
