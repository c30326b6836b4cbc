"""Excel workbooks: cells as Excel shows them, and what isn't one value in one cell."""

import io
import zipfile

import pytest

from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Excel
from ingestion_platform.formats.excel_values import Kind, NoValue, kind_of, moment_text, number_text
from ingestion_platform_tests.formats.reading import extras, read, refusal, rejections, rows
from ingestion_platform_tests.formats.workbooks import sheet, workbook, zipped

STYLES = (
    '<numFmts><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd hh:mm"/>'
    '<numFmt numFmtId="165" formatCode="0.00 &quot;days&quot;"/></numFmts><cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs>'
    '<xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="21"/><xf numFmtId="46"/></cellXfs>'
)
HEADER = '<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c><c r="B1" t="inlineStr"><is><t>b</t></is></c></row>'


def cells(*written: str, **named: object) -> bytes:
    """A workbook whose column a has these cells, as XML without their place."""
    lines = "".join(f'<row r="{at}"><c r="A{at}" {cell}</c></row>' for at, cell in enumerate(written, 2))
    return workbook(("S", f"<sheetData>{HEADER}{lines}</sheetData>"), styles=STYLES, **named)  # type: ignore[arg-type]


def test_cells_are_what_excel_shows() -> None:
    """Texts, shared or not, numbers, dates by their format, truth values, errors, what formulas gave."""
    content = cells(
        "t=\"s\"><v>1</v>", "t=\"str\"><f>B1</f><v>é _x0041_</v>", "><v>0.30000000000000004</v>", "><v>12345678901234567</v>",
        "s=\"1\"><v>45566</v>", "s=\"2\"><v>45566.4375</v>", "s=\"3\"><v>2.5</v>", "s=\"4\"><v>0.5</v>", "s=\"5\"><v>1.25</v>",
        "t=\"b\"><v>1</v>", "t=\"e\"><v>#N/A</v>", "t=\"d\"><v>2024-10-01T00:00:00</v>",
        texts=("zero", " one & <two> "),
    )  # fmt: skip
    assert [value for (value,) in rows(read(Excel(), content, "a"))] == [
        " one & <two> ", "é A", "0.3", "12345678901234568", "2024-10-01", "2024-10-01T10:30:00", "2.5", "12:00:00", "30:00:00",
        "true", "#N/A", "2024-10-01T00:00:00",
    ]  # fmt: skip


def test_dates_may_be_counted_from_1904() -> None:
    """As old workbooks of the Macintosh are."""
    assert rows(read(Excel(), cells('s="1"><v>44104</v>', is_1904=True), "a")) == [("2024-10-01",)]


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [
        (0, None, "number"), (14, None, "date"), (22, None, "datetime"), (46, None, "elapsed"), (9, "0%", "number"),
        (164, "[$-409]d/m/yy", "date"), (164, "[Red]0.00;-0.00", "number"), (164, '"day" 0', "number"), (164, "mmm", "date"),
        (164, "General", "number"), (164, "[h]:mm", "elapsed"), (164, "h:mm AM/PM", "time"), (164, "0.00E+00", "number"),
        (164, "dd.mm.yyyy hh:mm:ss", "datetime"), (164, r"0\d", "number"), (164, "@", "number"),
    ],
)  # fmt: skip
def test_formats_say_what_numbers_are(number: int, code: str | None, kind: Kind) -> None:
    """Letters of dates and times count where they aren't text."""
    assert kind_of(number, code) == kind


def test_numbers_and_moments_beyond_excel_are_told() -> None:
    """Days that never were, before the first or after the last; numbers that are none."""
    assert number_text("1E-7") == "0.0000001"
    assert number_text("-0.5") == "-0.5"
    assert moment_text("1", "date", is_1904=False) == "1900-01-01"
    assert moment_text("61", "date", is_1904=False) == "1900-03-01"
    assert moment_text("45566.999988426", "datetime", is_1904=False) == "2024-10-01T23:59:59"
    for written, kind in (
        ("60", "date"),
        ("-1", "date"),
        ("1e9", "date"),
        ("x", "date"),
        ("1e400", "date"),
        ("NaN", "time"),
    ):
        with pytest.raises(NoValue):
            moment_text(written, kind, is_1904=False)  # type: ignore[arg-type]
    for written in ("x", "NaN", "1e400"):
        with pytest.raises(NoValue):
            number_text(written)


def test_empty_rows_are_no_records_and_empty_cells_no_values() -> None:
    """Records are numbered without the rows between them; a preamble is above the declared header."""
    content = workbook(("S", sheet(["Sales of October"], ["a", "b"], ["1", None], [], [None, None], ["", "2"])))
    records = read(Excel(header_row=2), content, "a", "b")
    assert rows(records) == [("1", None), (None, "2")]
    assert records.table["_row"].to_pylist() == [1, 2]


def test_what_is_not_one_value_in_one_cell_is_set_aside() -> None:
    """Merged cells, a value in a column without a name, a formula that was never computed, a text that isn't there."""
    merged = sheet(
        ["a", "b"],
        ["1", "2"],
        ["3", None],
        [None, None, "stray"],
        after='<mergeCells><mergeCell ref="A2:A3"/></mergeCells>',
    )
    records = read(Excel(), workbook(("S", merged)), "a", "b")
    assert [(row, reason) for row, reason, _ in rejections(records)] == [
        (1, "has merged cells, A2:A3: one value stands for several"),
        (2, "has merged cells, A2:A3: one value stands for several"),
        (3, "has a value in column C, which has no name"),
    ]
    broken = read(
        Excel(), cells("><f>1+1</f>", 't="s"><v>9</v>', 't="s"><v>0</v>', 't="zz"><v>0</v>', texts=("x",)), "a"
    )
    assert rows(broken) == [("x",)]
    assert [row for row, _, _ in rejections(broken)] == [1, 2, 4]


def test_the_sheet_is_the_declared_one() -> None:
    """Or the only one that isn't hidden; which there are, is told."""
    two = [("One", sheet(["a"], ["1"])), ("Two", sheet(["a"], ["2"]))]
    assert rows(read(Excel(sheet="Two"), workbook(*two), "a")) == [("2",)]
    assert rows(read(Excel(), workbook(*two, hidden=["One"]), "a")) == [("2",)]
    assert "2 sheets that aren't hidden, only “One”, “Two”" in refusal(Excel(), workbook(*two), "a")
    assert "no sheet “Three”" in refusal(Excel(sheet="Three"), workbook(*two), "a")


def test_a_header_that_is_not_the_declared_one_is_refused() -> None:
    """Empty, other names, a name twice."""
    assert "has no header" in refusal(Excel(), workbook(("S", sheet([], ["1"]))), "a")
    assert "has no header" in refusal(Excel(header_row=9), workbook(("S", sheet(["a"]))), "a")
    assert "none of the columns" in refusal(Excel(), workbook(("S", sheet(["x"], ["1"]))), "a")
    assert "twice" in refusal(Excel(), workbook(("S", sheet(["a", "a"], ["1"]))), "a")
    records = read(Excel(), workbook(("S", sheet(["a", "x"], ["1", "2"]))), "a", "z")
    assert (records.unknown_columns, records.missing_columns, extras(records)) == (("x",), ("z",), [{"x": "2"}])
    with pytest.raises(DeclarationError):
        Excel(header_row=0)


def test_what_is_no_workbook_is_refused() -> None:
    """Old and encrypted ones, other zips, parts that are missing, entities, cells out of their place."""
    assert "old Excel workbook" in refusal(Excel(), b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "a")
    assert "it is no zip" in refusal(Excel(), b"a,b\n1,2\n", "a")
    assert "is empty" in refusal(Excel(), b"", "a")
    assert "names no main part" in refusal(Excel(), zipped({"x": "y"}), "a")
    laughs = (
        '<!DOCTYPE x [<!ENTITY a "haha">]><worksheet><sheetData><row><c><v>&a;</v></c></row></sheetData></worksheet>'
    )
    whole = workbook(("S", "X"))
    assert "refused" in refusal(Excel(), _with_part(whole, "xl/worksheets/s1.xml", laughs), "a")
    twice = '<worksheet><sheetData><row r="1"><c t="str"><v>a</v></c></row><row r="1"/></sheetData></worksheet>'
    assert "comes after" in refusal(Excel(), _with_part(whole, "xl/worksheets/s1.xml", twice), "a")
    place = '<worksheet><sheetData><row r="1"><c r="B1"/><c r="A1"/></row></sheetData></worksheet>'
    assert "isn't in its place" in refusal(Excel(), _with_part(whole, "xl/worksheets/s1.xml", place), "a")


def _with_part(whole: bytes, name: str, text: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {one: archive.read(one).decode() for one in archive.namelist()}
    return zipped({**parts, name: text})
