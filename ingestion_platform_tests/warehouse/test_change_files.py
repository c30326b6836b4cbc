"""Change files that others land: the tables after each of them, and any histories in any kind of file."""

import base64
import gzip
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.change_log import ChangeLog, Debezium, Dms, DynamoDbExport, Maxwell
from ingestion_platform.dataset import Changes, Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError, ObjectRejected
from ingestion_platform.format import DETECT, Csv, Parquet
from ingestion_platform.formats import Field, read_records
from ingestion_platform.stream import StreamSegments
from ingestion_platform.table import INTEGER, VARCHAR, Column, decimal
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, Bench
from ingestion_platform_tests.warehouse.streaming import POS, day_of, segment


def dataset(
    name: str,
    format: ChangeLog,
    columns: Sequence[Column],
    *,
    template: str = "cdc/%Y-%m-%d/{file}.jsonl",
    changes: Changes | None = None,
) -> Dataset:
    """A dataset of one table's changes."""
    return Dataset(
        name=name,
        description="One row per change.",
        kind="changes",
        source=LandedFiles(template, format),
        columns=tuple(columns),
        primary_key=(columns[0].name,),
        changes=changes,
        daily=Daily(DAY),
    )


def test_what_was_loaded_comes_before_the_changes_of_dms(tmp_path: Path) -> None:
    """Whatever their names sort as; loaded rows have no operation, and an unknown one is set aside."""
    columns = (Column("id", INTEGER, "Who.", required=True), Column("name", VARCHAR, "How called."))
    people = dataset("people", Dms(("Op", "id", "name")), columns, template="dms/%Y/%m/%d/{file}.csv")
    bench = Bench(tmp_path, datasets=Datasets([people]))
    folder = f"dms/{DAY:%Y/%m/%d}"
    bench.put(f"{folder}/20241001-080000123.csv", "U,1,Ann\nX,2,Ben\nD,3,\n")
    bench.put(f"{folder}/LOAD0000000A.csv", "1,Anne\n2,Bob\n3,Cid\n")
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.people_current", "id", "name", "operation") == [
        (1, "Ann", "update"),
        (2, "Bob", "snapshot"),
    ]
    assert bench.rows("processed.people_history", "id", "valid_from")[1][1] is not None
    (reasons,) = [row[0] for row in bench.rows("platform.quarantine", "reasons")]
    assert reasons == ["operation: 'X' is not one of insert, update, snapshot, delete, truncate, message, tombstone"]


def test_files_without_a_day_belong_to_a_declared_one(tmp_path: Path) -> None:
    """As those of DMS's first load do, which stand beside the files of changes; both in Parquet, with what DMS adds."""
    columns = (Column("id", INTEGER, "Who.", required=True), Column("name", VARCHAR, "How called."))
    format = Dms(inside=Parquet(), changed_at="at", position="seq")
    source = LandedFiles(
        "hr/people/%Y%m%d-{time}.parquet", format, undated=("hr/people/LOAD{number}.parquet",), undated_day=DAY
    )
    people = replace(dataset("people", format, columns), source=source)
    bench = Bench(tmp_path, datasets=Datasets([people]))

    def put(key: str, *rows: dict[str, Any]) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(rows)), sink)
        bench.put(key, sink.getvalue().to_pybytes())

    at = "2024-10-01 10:00:00.123456"
    put("hr/people/20241003-100000123.parquet", {"Op": "U", "at": at, "seq": "20", "id": 1, "name": "Ann"})
    put("hr/people/LOAD00000001.parquet", {"at": "2024-10-01 09:00:00", "seq": "10", "id": 1, "name": "Anne"})
    upkeep.catch_up(bench.warehouse)
    assert bench.warehouse.days("raw.people") == [DAY, day_of(2)]
    assert bench.rows("processed.people_history", "name", "valid_from", "is_current") == [
        ("Ann", datetime(2024, 10, 1, 10, 0, 0, 123456), True), ("Anne", datetime(2024, 10, 1, 9), False),
    ]  # fmt: skip
    assert [entry.missing_columns for entry in bench.warehouse.raw_day(people, DAY).entries] == [()]
    with pytest.raises(DeclarationError, match="undated and undated_day go together"):
        replace(source, undated_day=None)
    with pytest.raises(DeclarationError, match="gives a day, or a part of one"):
        _ = replace(source, undated=("hr/%Y/LOAD.parquet",)).keys


def test_files_of_dms_may_name_their_columns() -> None:
    """What is empty is no moment; a record of another length is set aside, and a name that DMS doesn't give rejects its file."""
    fields = [Field(one, one) for one in ("id", "@operation", "@source_position", "@changed_at")]
    format = Dms(inside=Csv(header_rows=1), changed_at="ts")
    content = gzip.compress(b"Op,ts,id,x\nI,2024-10-01 10:00:00.000001,1,7\nD,,2,\nU,2024-10-01 10:00:00Z\n")
    found = read_records(format, content, fields, key="a/20241001-080000123.csv.gz")
    assert [tuple(row.values()) for row in found.table.to_pylist()] == [
        ("1", "insert", "202410010800001230:1", "2024-10-01 10:00:00.000001+00:00", '{"x":"7"}', 1),
        ("2", "delete", "202410010800001230:2", None, '{"x":""}', 2),
    ]
    assert [record.row for record in found.rejected] == [3]
    assert (found.unknown_columns, found.missing_columns) == (("x",), ())
    with pytest.raises(ObjectRejected, match="a name that DMS doesn't give"):
        read_records(format, content, fields, key="a/other.csv.gz")


def event(table: str, op: str, lsn: int, **images: Any) -> str:
    """A line of Debezium for PostgreSQL."""
    source = {
        "connector": "postgresql",
        "db": "shop",
        "schema": "public",
        "table": table,
        "lsn": lsn,
        "ts_ms": 1727762400000 + lsn,
    }
    return json.dumps({"op": op, "source": source, "ts_ms": 1, **images}) + "\n"


def test_several_tables_in_one_file_are_told_apart(tmp_path: Path) -> None:
    """Each dataset takes its own; those that nobody takes are told by name and number, and tombstones are counted."""
    columns = (Column("id", INTEGER, "Its number.", required=True), Column("name", VARCHAR, "How called."))
    both = Datasets(
        [dataset("people", Debezium("public.people"), columns), dataset("shops", Debezium("shops"), columns)]
    )
    bench = Bench(tmp_path, datasets=both)
    lines = [
        event("people", "c", 1, after={"id": 1, "name": "Ann"}),
        event("shops", "c", 2, after={"id": 1, "name": "North"}),
        event("tills", "c", 3, after={"id": 1}),
        event("people", "d", 4, before={"id": 1}),
        "null\n",
        '{"op": "c"\n',
    ]
    bench.put(f"cdc/{DAY}/a.jsonl", "".join(lines))
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.people_current") == []
    assert bench.rows("processed.shops_current", "name") == [("North",)]
    assert sorted(str(row[0]) for row in bench.rows("processed.people", "operation")) == [
        "delete",
        "insert",
        "tombstone",
    ]
    (entry,) = bench.warehouse.raw_day(both["people"], DAY).entries
    assert (entry.rows_read, entry.rows_quarantined, entry.missing_columns) == (4, 1, ())
    assert entry.departures == ("has changes of tables that no dataset takes: shop.public.tills (1)",)
    records = bench.rows("platform.quarantine", "dataset", "record")
    assert records == [("people", '{"op": "c"'), ("shops", '{"op": "c"')]


def test_values_that_debezium_did_not_send_are_those_before(tmp_path: Path) -> None:
    """As of a TOAST value that didn't change; a change of the key removes the former row."""
    columns = (
        Column("id", INTEGER, "Its number.", required=True),
        Column("name", VARCHAR, "How called."),
        Column("life", VARCHAR, "The long story.", required=True),
    )
    bench = Bench(tmp_path, datasets=Datasets([dataset("people", Debezium("people"), columns)]))
    unavailable = "__debezium_unavailable_value"
    first = event("people", "r", 1, after={"id": 1, "name": "Ann", "life": "long"})
    second = event("people", "u", 2, after={"id": 1, "name": "Anne", "life": unavailable})
    third = event("people", "u", 3, before={"id": 1}, after={"id": 2, "name": "Anne", "life": "longer"})
    bench.put(f"cdc/{day_of(1)}/b.jsonl", second)
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.people_current", "id", "name", "life") == [(1, "Anne", None)]
    bench.put(f"cdc/{DAY}/a.jsonl", first)
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.people_current", "id", "name", "life") == [(1, "Anne", "long")]
    bench.put(f"cdc/{day_of(2)}/c.jsonl", third)
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.people_current", "id", "life") == [(2, "longer")]
    assert bench.rows("processed.people_history", "id", "life", "is_current") == [
        (1, "long", False), (1, "long", False), (2, "longer", True),
    ]  # fmt: skip
    assert bench.rows("platform.quarantine", "reasons") == []
    assert upkeep.verify(bench.warehouse) == []


# --- any history, as each kind of file

ITEM_COLUMNS = (
    Column("id", INTEGER, "Its number.", required=True),
    Column("price", decimal(12, 2), "What it costs."),
    Column("note", VARCHAR, "About it."),
)

Step = tuple[str, int, int, str | None]
"""Operation, key, price in cents, note."""


def rendered_as_debezium(position: int, step: Step) -> str:
    """With the price as Debezium writes it by default."""
    what, key, cents, note = step
    price = base64.b64encode(cents.to_bytes(3, "big", signed=True)).decode()
    row = {"id": key, "price": price, "note": note}
    match what:
        case "put":
            return event("items", "u", position, after=row)
        case "delete":
            return event("items", "d", position, before={"id": key})
        case _:
            return event("items", "t", position)


def rendered_as_maxwell(position: int, step: Step) -> str:
    """With positions as `output_binlog_position` gives them."""
    what, key, cents, note = step
    row = {"id": key, "price": float(Decimal(cents) / 100), "note": note}
    told = {
        "database": "shop",
        "table": "items",
        "type": "update" if what == "put" else "delete",
        "ts": 1727762400 + position,
    }
    return json.dumps({**told, "position": f"bin.000009:{position}", "xoffset": 0, "data": row, "old": {}}) + "\n"


def rendered_as_export(position: int, step: Step) -> str:
    """As an incremental export has it."""
    what, key, cents, note = step
    line: dict[str, Any] = {
        "Metadata": {"WriteTimestampMicros": {"N": str(1727762400000000 + position)}},
        "Keys": {"id": {"N": str(key)}},
    }
    if what == "put":
        noted = {"NULL": True} if note is None else {"S": note}
        line["NewImage"] = {"id": {"N": str(key)}, "price": {"N": str(Decimal(cents) / 100)}, "note": noted}
    return json.dumps(line) + "\n"


def rendered_as_dms(_position: int, step: Step) -> str:
    """With its operation before the row."""
    what, key, cents, note = step
    return f"{'U' if what == 'put' else 'D'},{key},{Decimal(cents) / 100},{note or ''}\n"


KINDS: dict[str, tuple[ChangeLog, Callable[[int, Step], str]]] = {
    "debezium": (Debezium("public.items", decimals="base64"), rendered_as_debezium),
    "maxwell": (Maxwell("items"), rendered_as_maxwell),
    "dynamodb": (DynamoDbExport(), rendered_as_export),
    "dms": (Dms(("Op", "id", "price", "note")), rendered_as_dms),
}

item_steps = st.tuples(
    st.sampled_from(["put", "put", "put", "delete", "truncate"]),
    st.integers(1, 3),
    st.integers(-99_999, 99_999),
    st.one_of(st.none(), st.sampled_from(["new", "Môre", '"; drop'])),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(item_steps, st.integers(0, 2)), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_history_gives_the_table_that_a_loop_gives(kind: str, drawn: list[tuple[Step, int]], random: Any) -> None:
    """As each kind of file, loaded in any order: the last state, and each state with the one after it."""
    format, rendered = KINDS[kind]
    steps = [(step, day) for step, day in drawn if kind == "debezium" or step[0] != "truncate"]
    if kind == "dms":
        # Its changes ascend by the names of files, which begin with the day; a quote in a cell is another test's.
        plain = [((what, key, cents, note and note.strip('"')), day) for (what, key, cents, note), day in steps]
        steps = sorted(plain, key=lambda one: one[1])
    template = "cdc/%Y%m%d-{time}.csv" if kind == "dms" else "cdc/%Y%m%d-{time}.jsonl"
    state: dict[int, tuple[Any, ...]] = {}
    ended: list[tuple[Any, ...]] = []
    for what, key, cents, note in (step for step, _ in steps):
        gone = list(state) if what == "truncate" else [key]
        ended += [state.pop(one) for one in gone if one in state]
        if what == "put":
            state[key] = (key, Decimal(cents) / 100, note)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), datasets=Datasets([dataset("items", format, ITEM_COLUMNS, template=template)]))
        numbered = list(enumerate(steps, start=1))
        for position, (step, day) in random.sample(numbered, len(numbered)):
            name = f"cdc/{day_of(day):%Y%m%d}-{position:06}000.{'csv' if kind == 'dms' else 'jsonl'}"
            bench.put(name, rendered(position, step))
            if random.random() < 0.2:
                upkeep.catch_up(bench.warehouse)
        upkeep.catch_up(bench.warehouse)
        if not steps:
            return
        assert bench.rows("platform.quarantine", "reasons") == []
        assert sorted(bench.rows("processed.items_current", "id", "price", "note"), key=repr) == sorted(
            state.values(), key=repr
        )
        history = bench.rows("processed.items_history", "is_current", "id", "price", "note")
        assert sorted([row[1:] for row in history if not row[0]], key=repr) == sorted(ended, key=repr)
        assert sorted([row[1:] for row in history if row[0]], key=repr) == sorted(state.values(), key=repr)


# --- declarations


def test_a_dataset_gets_what_every_change_tells() -> None:
    """Unless it declares the columns itself, under names of its own."""
    short = dataset("items", Debezium("items"), ITEM_COLUMNS)
    assert [column.name for column in short.columns[3:]] == ["operation", "position", "changed_at", "unsent"]
    assert short.changes is not None
    assert (short.changes.removes, short.changes.moment) == (("delete",), "changed_at")
    own = Column("what", VARCHAR, "What happened.", source="@operation", required=True)
    named = dataset("items", Debezium("items"), (*ITEM_COLUMNS, own))
    assert [column.name for column in named.columns[3:]] == ["what", "position", "changed_at", "unsent"]
    assert named.changes is not None
    assert named.changes.operation == "what"


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "events": (lambda: replace(dataset("items", Maxwell("items"), ITEM_COLUMNS), kind="snapshots", changes=None), "holds snapshots"),
    "no columns": (lambda: Dms(), "its files have no header, and columns names none"),
    "no operation": (lambda: Dms(("id", "name")), "'Op' is none of its columns"),
    "detected": (lambda: Dms(inside=Csv(delimiter=DETECT)), "left to be detected"),
    "one table twice": (
        lambda: Datasets([dataset("one", Debezium("items"), ITEM_COLUMNS), dataset("two", Debezium("items"), ITEM_COLUMNS)]),
        "both claim keys",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_declaration_of_change_files_is_told(mistake: str) -> None:
    """At import."""
    declare, message = MISTAKES[mistake]
    with pytest.raises(DeclarationError, match=message):
        declare()


# --- out of a topic


@pytest.mark.parametrize("kind", ["debezium", "maxwell"])
def test_records_of_a_topic_are_changes_as_lines_of_a_file_are(tmp_path: Path, kind: str) -> None:
    """Many at once and one by one: other tables left out, keys that change, tombstones, and what is no event."""
    format, rendered = KINDS[kind]
    assert isinstance(format, Debezium | Maxwell)
    items = replace(dataset("items", format, ITEM_COLUMNS), source=StreamSegments(POS, format))
    bench = Bench(tmp_path, datasets=Datasets([items]))
    values: list[bytes | None] = [
        rendered(position, ("put", position % 3, 100 * position, f"n{position}")).encode() for position in range(1, 7)
    ]
    values.append(rendered(8, ("delete", 1, 0, None)).encode())
    values.append(rendered(9, ("put", 0, 5, None)).replace("items", "others").encode())
    values += [None, b"{", b"\xff"]
    moved = {"id": 7, "price": "AA==" if kind == "debezium" else 0, "note": None}
    if kind == "debezium":
        values.append(event("items", "u", 10, before={"id": 2}, after=moved).encode())
    else:
        told = {"database": "shop", "table": "items", "type": "update", "ts": 1, "position": "bin.000009:10"}
        values.append(json.dumps({**told, "data": moved, "old": {"id": 2}}).encode())
    bench.put(*segment(0, len(values) - 1, values=values))
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.items_current", "id", "price", "note") == [
        (0, Decimal("6.00"), "n6"),
        (7, Decimal("0.00"), None),
    ]
    found = bench.rows("(select operation, count(*)::int from processed.items group by 1)")
    counts = {str(operation): number for operation, number in found}
    assert counts == {"update": 6, "delete": 2, "insert": 1, "tombstone": 1}
    assert len(bench.rows("platform.quarantine", "reasons")) == 2
    (entry,) = bench.warehouse.raw_day(items, DAY).entries
    assert (entry.unknown_columns, entry.missing_columns) == ((), ())
    assert upkeep.verify(bench.warehouse) == []
