r"""
JSON lines to records: one JSON object a line, RFC 8259 to the letter.

Only `\n` ends a line (a `\r` before it is white space to JSON); blank lines are no records. Nothing is converted: numbers keep the digits
they were written with, objects and arrays stay the JSON they are.
"""

import io
from collections.abc import Iterator, Sequence

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats import tables
from ingestion_platform.formats.json_members import NotAnObject, Taker
from ingestion_platform.formats.records import Field, Records, RejectedRecord
from ingestion_platform.formats.texts import BOM, as_it_stands, decode_marking, excerpt, is_utf_8, refuse_binary


def read_json_lines(content: bytes, fields: Sequence[Field]) -> Records:
    """
    Read JSON lines.

    Raises:
        ObjectRejected: it isn't text, its last line is cut, or it has several lines and none of them is a JSON object.
    """
    if content.startswith(BOM):
        content = content[len(BOM) :]
    refuse_binary(content, content[: content.find(b"\n") + 1] or content, "utf-8")
    if content[:200].lstrip().startswith(b"[") and content[-200:].rstrip().endswith(b"]") and b"\n" in content.strip():
        raise ObjectRejected(
            "is not JSON lines: it is one JSON array over several lines", "one object a line, no array around them"
        )
    reader = _Reader(fields)
    table = tables.from_rows(fields, reader.rows(content))
    if not table.num_rows and len(reader.rejected) > 1:
        first = reader.rejected[0]
        raise ObjectRejected(
            f"is not JSON lines: none of its {len(reader.rejected):,} lines is a JSON object; the first: {excerpt(first.record)}",
            "one object a line, no array around them",
        )
    missing = (
        dict.fromkeys(field.source for field in fields if field.source not in reader.taker.seen)
        if reader.records
        else {}
    )
    return Records(table, tuple(reader.rejected), tuple(reader.taker.unknown), tuple(missing))


class _Reader:
    def __init__(self, fields: Sequence[Field]) -> None:
        self.taker = Taker([wanted.source for wanted in fields])
        self.rejected: list[RejectedRecord] = []
        self.records = 0

    def rows(self, content: bytes) -> Iterator[Sequence[str | int | None]]:
        row = 0
        is_clean = is_utf_8(content)
        for line in io.BytesIO(content):
            stripped = line.strip(b" \t\r\n")
            if not stripped:
                continue
            row += 1
            try:
                values, extra = self.taker.take(stripped, is_clean=is_clean)
            except NotAnObject as error:
                if not line.endswith(b"\n"):
                    raise ObjectRejected(
                        f"is cut: its last line has no line end and {error}", "it is read again when it changes"
                    ) from error
                text = decode_marking(line.rstrip(b"\n").removesuffix(b"\r"), "utf-8")
                self.rejected.append(RejectedRecord(row, str(error), as_it_stands(text)))
                continue
            self.records += 1
            values.append(extra)
            values.append(row)
            yield values
