"""
Workbooks and Avro files written by hand, so that tests can write what no library would.

Belongs here: bytes. Doesn't: assertions.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from xml.sax.saxutils import escape

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
KINDS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
MARK = bytes(range(16))


def workbook(
    *sheets: tuple[str, str],
    texts: Sequence[str] = (),
    styles: str = "",
    is_1904: bool = False,
    hidden: Sequence[str] = (),
) -> bytes:
    """
    A workbook.

    Args:
        sheets: name and rows of each, as XML.
        texts: that cells share.
        styles: inside `styleSheet`, as XML.
        is_1904: dates are counted from 1904.
        hidden: names of sheets.
    """
    named = "".join(
        f'<sheet name="{escape(name)}" sheetId="{at}" r:id="s{at}" state="{"hidden" if name in hidden else "visible"}"/>'
        for at, (name, _) in enumerate(sheets, 1)
    )
    related = [("worksheet", f"s{at}", f"worksheets/s{at}.xml") for at in range(1, len(sheets) + 1)]
    related += [("sharedStrings", "t", "t.xml"), ("styles", "y", "y.xml")]
    parts = {
        "_rels/.rels": _relations([("officeDocument", "r", "xl/workbook.xml")]),
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{KINDS}"><workbookPr date1904="{int(is_1904)}"/>'
        f"<sheets>{named}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": _relations(related),
        "xl/t.xml": f'<sst xmlns="{MAIN}">' + "".join(f"<si><t>{escape(text)}</t></si>" for text in texts) + "</sst>",
        "xl/y.xml": f'<styleSheet xmlns="{MAIN}">{styles}</styleSheet>',
    }
    for number, (_, rows) in enumerate(sheets, 1):
        parts[f"xl/worksheets/s{number}.xml"] = f'<worksheet xmlns="{MAIN}">{rows}</worksheet>'
    return zipped(parts)


def _relations(related: Sequence[tuple[str, str, str]]) -> str:
    lines = (f'<Relationship Id="{id_}" Type="{KINDS}/{kind}" Target="{path}"/>' for kind, id_, path in related)
    return f'<Relationships xmlns="{PACKAGE}">{"".join(lines)}</Relationships>'


def zipped(parts: dict[str, str]) -> bytes:
    """A zip of texts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def sheet(*rows: Sequence[str | None], after: str = "") -> str:
    """Rows of texts; None is an empty cell."""
    lines = []
    for number, row in enumerate(rows, 1):
        cells = "".join(
            f'<c r="{chr(65 + at)}{number}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
            for at, value in enumerate(row)
            if value is not None
        )
        lines.append(f'<row r="{number}">{cells}</row>')
    return f"<sheetData>{''.join(lines)}</sheetData>{after}"


def number(value: int) -> bytes:
    """A number as Avro writes it."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def text(value: bytes) -> bytes:
    """Bytes as Avro writes them."""
    return number(len(value)) + value


def avro(schema: object, blocks: Sequence[Sequence[bytes]], codec: str = "null") -> bytes:
    """A container file of encoded records, block by block."""
    header = {b"avro.schema": json.dumps(schema).encode(), b"avro.codec": codec.encode()}
    found = (
        b"Obj\x01" + number(len(header)) + b"".join(text(name) + text(value) for name, value in header.items()) + b"\0"
    )
    found += MARK
    for block in blocks:
        packed = b"".join(block)
        if codec == "deflate":
            packer = zlib.compressobj(wbits=-15)
            packed = packer.compress(packed) + packer.flush()
        found += number(len(block)) + number(len(packed)) + packed + MARK
    return found
