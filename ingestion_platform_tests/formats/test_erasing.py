"""Records taken out of objects: all others stay byte for byte, or value for value where a format has no bytes of its own for a record."""

import gzip
import io
import json
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.errors import NotErasable
from ingestion_platform.format import Avro, Csv, Excel, FixedWidth, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.formats import Emptying, Erasure, Field, Words, erase_records, read_records
from ingestion_platform_tests.formats.writing import ORDINARY, cells_of, written

FIELDS = [Field("id", "id"), Field("who", "who"), Field("what", "what")]
WHO = "C0012345"
WORDS = Words((WHO,))
FEW = settings(max_examples=30)


def erased(format: Format, content: bytes, erasure: Erasure, key: str = "", fields: list[Field] | None = None) -> bytes:
    """An object's bytes without records."""
    sink = io.BytesIO()
    erase_records(format, io.BytesIO(content), FIELDS if fields is None else fields, erasure, sink, key=key)
    return sink.getvalue()


def keeping(*names: str) -> Emptying:
    """Only these stay."""
    return Emptying(frozenset(names))


def values(format: Format, content: bytes, key: str = "") -> list[tuple[object, ...]]:
    """What is read of an object."""
    table = read_records(format, content, FIELDS, key=key).table
    return [tuple(row.values())[:3] for row in table.to_pylist()]


DIALECTS = st.sampled_from(
    [
        Csv(), Csv(delimiter=";", quote="'"), Csv(delimiter="||"), Csv(escape="\\"), Csv(bare_quotes=True), Csv(encoding="cp1252"),
        Csv(encoding="utf-16"), Csv(encoding="utf-16-be"), Csv(line_end="\r\n"), Csv(footer="TRAILER.*"), Csv(comment="#"),
        Csv(encoding="utf-8-sig"), Csv(final_newline=False),
    ]
)  # fmt: skip


@FEW
@given(st.data(), DIALECTS)
def test_csv_keeps_all_others_byte_for_byte(data: st.DataObject, format: Csv) -> None:
    """In any dialect, what is left is what would have been written without these records."""
    alphabet = "ab1 .é" if format.encoding == "cp1252" else ORDINARY
    marks = f"{format.delimiter}{format.quote}{format.escape}\n" + ("" if format.line_end == "\r\n" else "\r")
    cell = cells_of(alphabet + marks)
    rows = data.draw(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=8))
    rows = [row for row in rows if row != ("id", "who", "what")]
    gone = frozenset(data.draw(st.sets(st.integers(1, max(len(rows), 1)))))
    names = ("id", "who", "what")
    footer = ["TRAILER;3"] if format.footer else []
    quotes_all = data.draw(st.booleans()) or format.bare_quotes is True
    encoding = str(format.encoding)

    def content(left: list[tuple[str, str, str]]) -> bytes:
        return written(format, names, left, quotes_all=quotes_all, footer=footer).encode(encoding)

    whole = content(rows)
    assert erased(format, whole, Erasure(gone)) == content([row for at, row in enumerate(rows, 1) if at not in gone])
    emptied = {row: keeping("id", "what") for row in gone}
    left = values(format, erased(format, whole, Erasure(emptied=emptied)))
    before = values(format, whole)
    assert left == [(a, "" if at in gone else b, c) for at, (a, b, c) in enumerate(before, 1)]


def test_a_record_that_cannot_be_read_goes_by_its_number() -> None:
    """One with too few cells counts, and goes with its line alone; blank lines and lines that are no records stay."""
    content = b"id,who,what\r\n1,a\r\n\r\n2,b,c\n#note\r3,d,e\r\n"
    assert erased(Csv(comment="#"), content, Erasure(frozenset({1, 3}))) == b"id,who,what\r\n\r\n2,b,c\n#note\r"


@FEW
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["id", "who", "what", 'x"\\y']), st.text(max_size=8) | st.integers() | st.none()
        )
    ),
    st.data(),
)
def test_json_lines_keep_all_others_byte_for_byte(records: list[dict[str, object]], data: st.DataObject) -> None:
    """Blank lines between them, too."""
    lines = [json.dumps(one, ensure_ascii=data.draw(st.booleans())).encode() + b"\n\n" for one in records]
    gone = frozenset(data.draw(st.sets(st.integers(1, max(len(lines), 1)))))
    left = erased(JsonLines(), b"".join(lines), Erasure(gone))
    assert left == b"".join(b"\n" if at in gone else line for at, line in enumerate(lines, 1))


@FEW
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4),
    st.sets(st.integers(1, 16)),
    st.sampled_from([None, 1]),
)
def test_json_documents_lose_records_with_their_commas(
    groups: list[list[int]], gone: set[int], indent: int | None
) -> None:
    """Records of lists in lists: what is left is the document without them; an outer element goes with its last record."""
    number = 0
    left = []
    for group in groups:
        kept = []
        for one in group:
            number += 1
            if number not in gone:
                kept.append({"id": one})
        if kept or not group:
            left.append({"items": kept})
    document = {"a": "],{", "groups": [{"items": [{"id": one} for one in group]} for group in groups], "z": [1]}
    content = json.dumps(document, indent=indent).encode()
    format = Json("groups[*].items[*]")
    assert json.loads(erased(format, content, Erasure(frozenset(gone)))) == {**document, "groups": left}


@FEW
@given(st.lists(st.tuples(st.text("ab<&é\"'> ", max_size=4), st.booleans()), max_size=6), st.sets(st.integers(1, 6)))
def test_xml_keeps_all_others_byte_for_byte(items: list[tuple[str, bool]], gone: set[int]) -> None:
    """Elements with and without an end tag, attributes with any signs in them, comments between them."""
    texts = [
        f"<item who={quoteattr(text)}/>" if is_empty else f"<item><id>{escape(text)}</id><!-- <item> --></item >"
        for text, is_empty in items
    ]
    content = "<?xml version='1.0'?>\n<list>{}</list>\n"
    whole = content.format("\n ".join(["", *texts, ""])).encode()
    left = content.format(
        "\n ".join(["", *("" if at in gone else text for at, text in enumerate(texts, 1)), ""])
    ).encode()
    assert erased(Xml(record="list/item"), whole, Erasure(frozenset(gone))) == left


def test_an_xml_parent_goes_with_its_last_record_and_is_emptied_with_one_that_stays() -> None:
    """What stands above records is theirs: an order whose lines are all gone goes; of one that stays, the customer goes."""
    content = b'<r><o who="%s"><l id="1"/></o><o who="%s"><n>x</n><l id="2"><t>y</t></l></o></r>' % (
        (WHO.encode(),) * 2
    )
    one = Emptying(frozenset({"@id"}), frozenset({"../@who"}))
    left = erased(Xml(record="r/o/l"), content, Erasure(frozenset({1}), {2: one}, WORDS))
    assert left == b'<r><o who=""><n>x</n><l id="2"><t></t></l></o></r>'


@FEW
@given(
    st.lists(st.tuples(st.text("aé ", min_size=3, max_size=3), st.text("b ", min_size=2, max_size=2)), max_size=6),
    st.sets(st.integers(1, 6)),
    st.sampled_from(["utf-8", "cp1252", "utf-16-le"]),
)
def test_fixed_width_keeps_all_others_and_empties_with_spaces(
    rows: list[tuple[str, str]], gone: set[int], encoding: str
) -> None:
    """A line that is emptied is as long as before."""
    format = FixedWidth(fields=(("id", 3), ("who", 2)), header_lines=1, footer="T[0-9]*", encoding=encoding)
    lines = [a + b + "\r\n" for a, b in rows]

    def content(left: list[str]) -> bytes:
        return ("HEAD\n" + "".join(left) + "T3\n").encode(encoding)

    left = erased(format, content(lines), Erasure(frozenset(gone)), fields=FIELDS[:2])
    assert left == content([line for at, line in enumerate(lines, 1) if at not in gone])
    emptied = erased(format, content(lines), Erasure(emptied={row: keeping("id") for row in gone}), fields=FIELDS[:2])
    assert emptied == content([a + ("  " if at in gone else b) + "\r\n" for at, (a, b) in enumerate(rows, 1)])


@FEW
@given(
    st.integers(0, 12),
    st.sets(st.integers(1, 12)),
    st.integers(1, 5),
    st.sampled_from(["zstd", "snappy", "none", "gzip"]),
)
def test_parquet_keeps_schema_metadata_compression_and_all_other_rows(
    rows: int, gone: set[int], group: int, compression: str
) -> None:
    """Row groups stay apart; types that text can't say stay exact."""
    fields: list[pa.Field[Any]] = [
        pa.field("id", pa.int64()), pa.field("who", pa.string()), pa.field("at", pa.timestamp("ns", "UTC")),
        pa.field("tags", pa.list_(pa.string())),
    ]  # fmt: skip
    schema = pa.schema(fields)
    table = pa.Table.from_pylist(
        [{"id": at, "who": WHO, "at": at, "tags": ["t"]} for at in range(rows)],
        schema=schema.with_metadata({"by": "us"}),
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group, compression=compression)  # type: ignore[arg-type]
    left = pq.ParquetFile(io.BytesIO(erased(Parquet(), sink.getvalue(), Erasure(frozenset(gone)))))
    assert left.schema_arrow.metadata[b"by"] == b"us"
    assert left.read().equals(table.filter(pa.array([at + 1 not in gone for at in range(rows)], pa.bool_())))
    if rows:
        expected = pq.ParquetFile(io.BytesIO(sink.getvalue())).metadata.row_group(0).column(0).compression
        assert left.metadata.row_group(0).column(0).compression == expected
    emptied = erased(Parquet(), sink.getvalue(), Erasure(emptied={row: keeping("id") for row in gone}, words=WORDS))
    assert [row["who"] for row in pq.read_table(io.BytesIO(emptied)).to_pylist()] == [
        None if at + 1 in gone else WHO for at in range(rows)
    ]


@FEW
@given(st.integers(1, 12), st.sets(st.integers(1, 12)), st.sampled_from(["null", "deflate", "bzip2", "xz"]))
def test_avro_keeps_its_other_blocks_byte_for_byte(rows: int, gone: set[int], codec: str) -> None:
    """Its header, too; a block without records goes."""
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "id", "type": "long"}, {"name": "who", "type": ["null", "string"]}],
    }
    records = [{"id": at, "who": WHO if at % 2 else None} for at in range(rows)]
    sink = io.BytesIO()
    fastavro.writer(sink, schema, records, codec=codec, sync_interval=12)
    content = sink.getvalue()
    left = erased(Avro(), content, Erasure(frozenset(gone)))
    assert list(fastavro.reader(io.BytesIO(left))) == [one for at, one in enumerate(records, 1) if at not in gone]
    if gone.isdisjoint(range(1, rows + 1)):
        assert left == content
    assert read_records(Avro(), left, FIELDS[:2]).rows_read == rows - len(gone & set(range(1, rows + 1)))


def test_what_is_packed_is_packed_again() -> None:
    """As its key says; the same bytes whenever it is done."""
    content = gzip.compress(b"id,who,what\n1,a,b\n2,c,d\n")
    left = erased(Csv(), content, Erasure(frozenset({1})), "x.csv.gz")
    assert gzip.decompress(left) == b"id,who,what\n2,c,d\n"
    assert left == erased(Csv(), content, Erasure(frozenset({1})), "x.csv.gz")


@pytest.mark.parametrize(
    ("format", "content", "erasure"),
    [
        (Excel(), b"PK", Erasure(frozenset({1}))),
        (Json(""), b'{"id": 1}', Erasure(frozenset({1}))),
        (JsonLines(), b"[1]\n", Erasure(emptied={1: keeping("id")})),
        (Csv(encoding="utf-7"), b"id,who,what\n1,a,b\n2,+AGE-,y\n", Erasure(frozenset({1}))),
        (Csv(quote=""), b'id,who,what\n1,a,"b"\n', Erasure(emptied={1: Emptying(frozenset(), frozenset())})),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(format: Format, content: bytes, erasure: Erasure) -> None:
    """Rather than touching anything else: the error says what helps."""
    if isinstance(format, Csv) and format.quote == "":
        assert erased(format, content, erasure) == b"id,who,what\n,,\n"
        return
    with pytest.raises(NotErasable) as told:
        erased(format, content, erasure)
    assert told.value.hint


def test_a_word_within_another_is_none() -> None:
    """C0012345 isn't found in C00123456, nor in a longer number; signs and spaces end words."""
    assert not WORDS.hold(f"x{WHO}")
    assert not WORDS.hold(f"{WHO}6")
    assert WORDS.hold(f"({WHO})")
    assert WORDS.hold_bytes(f'"{WHO}"'.encode())
    assert WORDS.blanked(f"of {WHO}.", "…") == "of …."
    assert not Words(("12",))
    assert Words(("+27821234567",)).hold("call +27821234567 now")
