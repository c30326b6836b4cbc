"""
Rows as bytes, in the format that a dataset declares.

Belongs here: writing as a sender of that format would. Doesn't: what is in the rows (`made.py`), reading (`formats/`).
"""

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.chaos.made import CantMake, Row, text_like
from ingestion_platform.dataset import Dataset
from ingestion_platform.format import Csv, FixedWidth, Json, JsonLines, Parquet, Xml
from ingestion_platform.table import Column

Value = Any
"""What JSON can hold."""


def written(dataset: Dataset, rows: Sequence[Row], key: str, chance: Random) -> bytes:
    """
    An object.

    Args:
        dataset: whose.
        rows: in it.
        key: of the object; its ending says how it is packed.
        chance: decides on what the declaration leaves open.

    Raises:
        CantMake: nothing here writes that format.
    """
    source = dataset.source
    columns = [column for column in dataset.columns if column.capture is None]
    match source.format:
        case Csv() as dialect:
            content = _csv(dialect, columns, rows, chance)
        case FixedWidth() as widths:
            content = _fixed_width(widths, columns, rows)
        case JsonLines() as lines:
            content = "".join(json.dumps(_record(columns, row), ensure_ascii=False) + "\n" for row in rows).encode(
                lines.encoding
            )
        case Json() as document:
            content = _json(document, columns, rows)
        case Xml() as document:
            content = _xml(document, columns, rows)
        case Parquet():
            content = _parquet(columns, rows)
        case other:
            raise CantMake(f"nothing here writes {type(other).__name__}: give what has landed (--landed)")
    return _packed(key, content)


def _packed(key: str, content: bytes) -> bytes:
    if key.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    if key.endswith(".bz2"):
        return bz2.compress(content)
    if key.endswith(".zst"):
        return bytes(pa.compress(content, codec="zstd", asbytes=True))
    if key.endswith(".zip"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(key.rsplit("/", 1)[-1].removesuffix(".zip")), content)
        return packed.getvalue()
    return content


# --- text


def _csv(dialect: Csv, columns: Sequence[Column], rows: Sequence[Row], chance: Random) -> bytes:
    plain = Csv()

    def said(name: str) -> Any:
        return getattr(plain if name in dialect.undetected else dialect, name)

    delimiter, quote, escape, encoding = said("delimiter"), said("quote"), said("escape"), said("encoding")
    end = "\n" if dialect.line_end == "any" else dialect.line_end

    def cell(value: str | None) -> str:
        text = str(value or "")
        if not any(mark and mark in text for mark in (delimiter, quote, escape, dialect.comment, "\n", "\r")):
            return text
        if not quote:
            return "".join(letter for letter in text if letter not in f"{delimiter}\r\n{dialect.comment}")
        if escape:
            text = text.replace(escape, escape * 2)
        return f"{quote}{text.replace(quote, (escape or quote) + quote)}{quote}"

    header_rows, header_at = said("header_rows"), said("header_at")
    if header_rows > 1:
        raise CantMake("nothing here writes a header of several lines: give what has landed (--landed)")
    is_like = isinstance(dialect.footer, str)
    footer = [text_like(str(dialect.footer), chance)] if is_like else ["the end"] * int(dialect.footer)
    lines = ["a line before the header"] * (header_at if isinstance(header_at, int) else 0)
    if header_rows:
        lines.append(delimiter.join(cell(column.field) for column in columns))
    lines += [delimiter.join(cell(row[column.name]) for column in columns) for row in rows]
    lines += footer
    return str(end.join(lines) + (end if dialect.final_newline else "")).encode(encoding)


def _fixed_width(widths: FixedWidth, columns: Sequence[Column], rows: Sequence[Row]) -> bytes:
    names = {column.field: column.name for column in columns}
    lines = [b"a line before the records"] * widths.header_lines
    for row in rows:
        line = b""
        for field, width in widths.fields:
            text = (row[names[field]] or "") if field in names else ""
            value = text.encode(widths.encoding, errors="replace")
            if widths.unit == "characters":
                value = text[:width].ljust(width).encode(widths.encoding, errors="replace")
            else:
                value = value[:width].ljust(width)
            line += value
        lines.append(line)
    content = b"\n".join(lines)
    return content + b"\n" if widths.final_newline and lines else content


# --- trees


def _value(column: Column, text: str) -> Value:
    if column.type.sql == "JSON":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _put(holder: dict[str, Value], path: str, value: Value) -> None:
    *names, last = path.split(".")
    for name in names:
        holder = holder.setdefault(name, {})
    holder[last] = value


def _record(columns: Sequence[Column], row: Row) -> dict[str, Value]:
    record: dict[str, Value] = {}
    for column in columns:
        text = row[column.name]
        if text is not None and not column.field.startswith("../"):
            _put(record, column.field, _value(column, text))
    return record


def _json(document: Json, columns: Sequence[Column], rows: Sequence[Row]) -> bytes:
    records = [_record(columns, row) for row in rows]
    value: Value = records if document.steps and document.steps[-1] == "[*]" else records[0]
    level = 0
    for number, step in enumerate(reversed(document.steps)):
        if step == "[*]":
            value = value if number == 0 else [value]
            continue
        level += 1
        value = {step: value} | _above(columns, rows[0], level)
    return json.dumps(value, ensure_ascii=False).encode()


def _above(columns: Sequence[Column], row: Row, level: int) -> dict[str, Value]:
    """What stands so many objects above the records; of all that the first row says."""
    found: dict[str, Value] = {}
    for column in columns:
        rest, up = column.field, 0
        while rest.startswith("../"):
            rest, up = rest[3:], up + 1
        if up == level and (text := row[column.name]) is not None:
            _put(found, rest, _value(column, text))
    return found


def _xml(document: Xml, columns: Sequence[Column], rows: Sequence[Row]) -> bytes:
    root_name, *names, record_name = document.record.split("/")
    root = ElementTree.Element(root_name)
    above = [root]
    for name in names:
        above.append(ElementTree.SubElement(above[-1], name))
    for row in rows:
        record = ElementTree.SubElement(above[-1], record_name)
        for column in columns:
            if (text := row[column.name]) is not None:
                _put_xml([*above, record], column.field, text)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _put_xml(ancestors: Sequence[ElementTree.Element], path: str, text: str) -> None:
    steps = path.split("/")
    node = ancestors[-1]
    up = 0
    while steps and steps[0] == "..":
        steps, up = steps[1:], up + 1
    if up >= len(ancestors) or not steps:
        return
    node = ancestors[-1 - up]
    for step in steps:
        if step.startswith("@"):
            node.attrib.setdefault(step[1:], text)
            return
        found = node.find(step)
        node = found if found is not None else ElementTree.SubElement(node, step)
    node.text = node.text or text


def _parquet(columns: Sequence[Column], rows: Sequence[Row]) -> bytes:
    tree: Mapping[str, Any] = {}
    nested: dict[str, Any] = {}
    for column in columns:
        _put(nested, column.field, pa.string())
    tree = nested

    def kind(node: Any) -> Any:
        return (
            pa.struct([pa.field(name, kind(inside)) for name, inside in node.items()])
            if isinstance(node, dict)
            else node
        )

    records = []
    for row in rows:
        record: dict[str, Any] = {}
        for column in columns:
            _put(record, column.field, row[column.name])
        records.append(record)
    schema = pa.schema([pa.field(name, kind(node)) for name, node in tree.items()])
    packed = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=schema), packed)
    return packed.getvalue()
