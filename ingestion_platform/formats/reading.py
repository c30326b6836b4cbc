"""
The door of this room: one object's bytes to its records, whatever the format.

Belongs here: choosing the reader, gzip around the bytes, the size that is allowed. Doesn't: any format's own rules.
"""

import gzip
import io
import zlib
from collections.abc import Sequence

from ingestion_platform.api import Pages
from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Csv, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.formats.delimited import read_delimited
from ingestion_platform.formats.json_documents import read_json
from ingestion_platform.formats.json_lines import read_json_lines
from ingestion_platform.formats.pages import read_pages
from ingestion_platform.formats.parquet_files import read_parquet
from ingestion_platform.formats.records import Field, Records
from ingestion_platform.formats.segments import read_segment
from ingestion_platform.formats.xml_records import read_xml
from ingestion_platform.stream import LandedName, Segments

_STEP_BYTES = 1024**2
_GZIP = b"\x1f\x8b"


def read_records(
    format: Format | Segments | Pages, content: bytes, fields: Sequence[Field], *, key: str = ""
) -> Records:
    """
    Read one landed object whole.

    May be called from several threads at once.

    Args:
        format: how the bytes are to be read.
        content: the object as it landed.
        fields: the values wanted of every record.
        key: the object's; one that ends in `.gz` is decompressed.

    Raises:
        ObjectRejected: it isn't a whole object of that format.
        DeclarationError: the format says something that can't be (an encoding that nobody knows, a path above the root).
    """
    content = _plain(content, key, format.max_bytes)
    match format:
        case Csv():
            return read_delimited(format, content, fields)
        case JsonLines():
            return read_json_lines(content, fields)
        case Json():
            return read_json(format, content, fields)
        case Xml():
            return read_xml(format, content, fields)
        case Parquet():
            return read_parquet(format, content, fields)
        case Pages():
            return read_pages(format, content, fields, read_records)
        case Segments():
            name = LandedName.parse(key)
            return read_segment(
                format, content, fields, named=(name.shard, name.span) if name is not None and name.span else None
            )


def _plain(content: bytes, key: str, max_bytes: int) -> bytes:
    if key.endswith(".gz"):
        return _decompressed(content, max_bytes)
    if len(content) > max_bytes:
        raise ObjectRejected(
            f"has {len(content):,} bytes, more than the {max_bytes:,} allowed",
            "raise max_bytes of its format, or split it",
        )
    if content.startswith(_GZIP):
        raise ObjectRejected("is gzip, though its key doesn't end in .gz", "name it .gz, or send it plain")
    return content


def _decompressed(content: bytes, max_bytes: int) -> bytes:
    if not content.startswith(_GZIP):
        raise ObjectRejected("is not gzip, though its key ends in .gz", "compress it, or name it without .gz")
    pieces, size = [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unpacked:
            while piece := unpacked.read(min(_STEP_BYTES, max_bytes + 1 - size)):
                size += len(piece)
                if size > max_bytes:
                    raise ObjectRejected(
                        f"has more than the {max_bytes:,} bytes allowed, once decompressed",
                        "raise max_bytes of its format, or split it",
                    )
                pieces.append(piece)
    except EOFError as error:
        raise ObjectRejected("is cut: its gzip stream has no end", "it is read again when it changes") from error
    except (OSError, zlib.error) as error:
        raise ObjectRejected(f"is damaged gzip: {error}") from error
    return b"".join(pieces)
