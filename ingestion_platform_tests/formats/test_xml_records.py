"""XML: paths down, up and to attributes, what is left over, and what is refused before it is read."""

import pytest

from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Xml
from ingestion_platform_tests.formats.reading import extras, read, refusal, rejections, rows

LINES = Xml(record="manifest/lines/line")
MANIFEST = b"""<?xml version="1.0" encoding="UTF-8"?>
<manifest id="M1" version="2">
  <lines>
    <line number="1"><product_id>P1</product_id><quantity>5</quantity><unit_cost currency="ZAR">1.50</unit_cost></line>
    <line number="2"><product_id><![CDATA[P<2>]]></product_id><quantity/></line>
  </lines>
  <header><store_id>S&amp;1</store_id></header>
</manifest>
"""


def test_paths_lead_down_up_and_to_attributes() -> None:
    """Children, own and children's attributes, and what is above, also where it comes after the lines."""
    sources = (
        "../../@id",
        "../../header/store_id",
        "@number",
        "product_id",
        "quantity",
        "unit_cost",
        "unit_cost/@currency",
    )
    records = read(LINES, MANIFEST, *sources)
    assert rows(records) == [
        ("M1", "S&1", "1", "P1", "5", "1.50", "ZAR"),
        ("M1", "S&1", "2", "P<2>", "", None, None),
    ]
    assert extras(records) == [None, None]


def test_header_elements_may_come_first() -> None:
    """The order of header and lines makes no difference."""
    content = b"<m><h><s>1</s></h><line/><h2/></m>"
    assert rows(read(Xml(record="m/line"), content, "../h/s")) == [("1",)]


def test_namespaces_make_no_difference() -> None:
    """Default, prefixed and attributes' namespaces are ignored on both sides."""
    content = b'<x:m xmlns:x="urn:1" xmlns="urn:2"><line x:n="1"><x:q>5</x:q></line></x:m>'
    assert rows(read(Xml(record="m/line"), content, "@n", "q")) == [("1", "5")]


def test_each_record_sees_its_own_parents() -> None:
    """With several groups, what is above a record is its own group's."""
    content = b'<m><g id="1"><line/></g><g id="2"><line/><line/></g></m>'
    assert rows(read(Xml(record="m/g/line"), content, "../@id")) == [("1",), ("2",), ("2",)]


def test_what_no_field_asks_for_is_kept() -> None:
    """Unknown attributes, children, repeated ones and stray text of a record are in `_extra` under their paths."""
    content = b'<m><line w="1">x<a b="2">1</a><k>1</k><k q="2">2<z/></k>y</line></m>'
    records = read(Xml(record="m/line"), content, "a")
    assert rows(records) == [("1",)]
    assert extras(records) == [{"@w": "1", "a/@b": "2", "k": ["1", {"@q": "2", "z": "", "#text": "2"}], "#text": "xy"}]
    assert records.unknown_columns == ("@w", "a/@b", "k", "#text")


def test_text_and_what_surrounds_it() -> None:
    """Text is as sent, white space included; empty is empty, nil is NULL, absent is NULL and reported."""
    content = b'<m xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><line><a> 1 </a><b></b><c xsi:nil="true"/></line></m>'
    records = read(Xml(record="m/line"), content, "a", "b", "c", "d", "../@v")
    assert rows(records) == [(" 1 ", "", None, None, None)]
    assert records.missing_columns == ("d", "../@v")


def test_an_element_there_twice_costs_its_record() -> None:
    """A field has one value or none; which of two it is, nobody guesses."""
    records = read(Xml(record="m/line"), b"<m><line><a>1</a><a>2</a></line><line><a>3</a></line></m>", "a")
    assert rows(records) == [("3",)]
    assert rejections(records) == [(1, "has a 2 times, one was expected", "<line><a>1</a><a>2</a></line>")]
    above = read(Xml(record="m/line"), b"<m><s>1</s><line/><line/><s>2</s></m>", "../s")
    assert [record.row for record in above.rejected] == [1, 2]


def test_a_document_without_records_is_an_object_without_records() -> None:
    """The root says that it is the declared document; it has no lines."""
    records = read(LINES, b"<manifest><lines/></manifest>", "quantity")
    assert (records.rows_read, records.missing_columns) == (0, ())


def test_another_document_is_refused() -> None:
    """A root with another name is another kind of document."""
    assert "its root is <html>, not <manifest>" in refusal(LINES, b"<html/>", "quantity")


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE m [<!ENTITY a "b">]><manifest>&a;</manifest>',
        b'<!DOCTYPE manifest SYSTEM "file:///etc/passwd"><manifest/>',
        b"<!DOCTYPE manifest><manifest/>",
    ],
)
def test_dtds_and_entities_are_refused(content: bytes) -> None:
    """Nothing is expanded and nothing is fetched."""
    assert "DTD" in refusal(LINES, content, "quantity")


def test_a_document_that_is_cut_anywhere_is_refused() -> None:
    """A prefix of a document is never a document."""
    whole = MANIFEST.strip()
    for size in range(len(whole)):
        assert refusal(LINES, whole[:size], "quantity").startswith("is ")


@pytest.mark.parametrize(
    "content",
    [
        b"<manifest><a></manifest>",
        b"<manifest/><manifest/>",
        b"<manifest>\0</manifest>",
        b"<manifest>\xff</manifest>",
        b"<manifest>&nbsp;</manifest>",
        b'<?xml version="1.0" encoding="nope"?><manifest/>',
        b'<?xml version="1.0" encoding="shift_jis"?><manifest/>',
        b'{"a":1}',
    ],
)
def test_what_is_not_well_formed_is_refused(content: bytes) -> None:
    """Crossed tags, two roots, bytes that aren't text, entities nobody declared, encodings nobody can read."""
    assert "no well-formed XML" in refusal(LINES, content, "quantity")


def test_other_encodings_are_read_as_they_say() -> None:
    """The document names its encoding itself."""
    for encoding in ("iso-8859-1", "utf-16", "cp1252"):
        content = f'<?xml version="1.0" encoding="{encoding}"?><m><line>é</line></m>'.encode(encoding)
        assert extras(read(Xml(record="m/line"), content)) == [{"#text": "é"}]


def test_hostile_shapes_are_refused() -> None:
    """Nesting beyond 200 elements, and elements with more than 1,000 attributes."""
    deep = b"<manifest>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</manifest>"
    assert "nested deeper" in refusal(LINES, deep, "quantity")
    wide = b"<manifest " + b" ".join(b'a%d=""' % number for number in range(1_001)) + b"/>"
    assert "attributes" in refusal(LINES, wide, "quantity")


@pytest.mark.parametrize("source", ["../../../x", "..", "", "a//b", "a/@", "a/../b", "@a/b", "."])
def test_a_source_that_leads_nowhere_is_the_declarations_fault(source: str) -> None:
    """Above the root, empty steps, an attribute in the middle: no object could ever have it."""
    with pytest.raises(DeclarationError, match="no path"):
        read(LINES, MANIFEST, source)


def test_a_record_path_that_leads_nowhere_is_the_declarations_fault() -> None:
    """It names elements from the root on."""
    for record in ("", "a//b", "../a", "a/@b"):
        with pytest.raises(DeclarationError, match="no path of elements"):
            read(Xml(record=record), MANIFEST, "x")
