"""Changes captured from a database's log: truncated tables, values that weren't sent, rows of which only the key is known."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import CAPTURED, CAPTURED_COLUMNS, Changes, Daily, Dataset, Datasets
from ingestion_platform.errors import DeclarationError
from ingestion_platform.formats.segments import ENVELOPE, write_segment
from ingestion_platform.stream import JsonValues, Postgres, Span, Stream, StreamSegments
from ingestion_platform.table import INTEGER, VARCHAR, Column, Mask
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences
from ingestion_platform_tests.warehouse.streaming import day_of

SOURCE = Postgres(database="shop", tables=("public.customers",))
STREAM = Stream(name="shop", description="Changes.", source=SOURCE, first_day=DAY)
CUSTOMERS = Dataset(
    name="customers",
    description="One row per change of a customer.",
    kind="changes",
    changes=CAPTURED,
    source=StreamSegments(STREAM),
    columns=(
        Column("id", VARCHAR, "Key.", required=True),
        Column("points", INTEGER, "How many.", required=True),
        Column("story", VARCHAR, "Long.", source="notes"),
        *CAPTURED_COLUMNS,
    ),
    primary_key=("id",),
    daily=Daily(DAY),
)
BASE = 10**33


@dataclass(frozen=True)
class Change:
    """A change as the log tells it: `story` of "" isn't sent."""

    position: int
    operation: str
    id: str | None = None
    points: int | None = None
    story: str | None = None


def put(bench: Bench, changes: Sequence[Change], day: date = DAY) -> None:
    """Land a segment of these changes."""
    hour = datetime(day.year, day.month, day.day, 8)
    rows = []
    for change in changes:
        headers = [
            {"name": "table", "value": b"public.customers"},
            {"name": "operation", "value": change.operation.encode()},
        ]
        value: dict[str, Any] | None = None
        if change.id is not None:
            value = {
                "id": change.id,
                "points": None if change.points is None else str(change.points),
                "notes": change.story,
            }
        if value is not None and change.story == "":
            del value["notes"]
            headers.append({"name": "unsent", "value": b'["notes"]'})
        rows.append(
            {
                "position": str(BASE + change.position), "part": None, "arrived_at": hour.replace(tzinfo=UTC), "key": None,
                "headers": headers, "value": None if value is None else json.dumps(value).encode(), "schema": None,
            }
        )  # fmt: skip
    span = Span(BASE + changes[0].position, BASE + changes[-1].position)
    batch = pa.RecordBatch.from_pylist(rows, schema=ENVELOPE)
    bench.put(STREAM.segment_key(hour, "log", span), write_segment([batch], stream=STREAM.name, shard="log", span=span))


def current(bench: Bench) -> dict[str, tuple[int, str | None]]:
    """Customer → points and story, of the current table."""
    rows: list[Any] = bench.rows("processed.customers_current", "id", "points", "story")
    assert len({row[0] for row in rows}) == len(rows)
    return {id_: (points, story) for id_, points, story in rows}


def expected(changes: Sequence[Change]) -> dict[str, tuple[int | None, str | None]]:
    """The same, from the changes in their order."""
    state: dict[str, tuple[int | None, str | None]] = {}
    for change in changes:
        if change.id is None:
            state.clear()
        elif change.operation == "DELETE":
            state.pop(change.id, None)
        else:
            state[change.id] = (change.points, state[change.id][1] if change.story == "" else change.story)
    return state


def history(steps: Sequence[tuple[str, str, int, str | None]]) -> list[Change]:
    """Changes that a database could tell of: a value that isn't sent was there before."""
    found: list[Change] = []
    known: set[str] = set()
    for what, id_, points, story in steps:
        position = len(found)
        if what == "clear":
            known.clear()
            found.append(Change(position, "TRUNCATE" if points % 2 else "RESTART"))
        elif what == "delete" and id_ in known:
            known.discard(id_)
            found.append(Change(position, "DELETE", id_))
        elif what == "set" and story == "" and id_ not in known:
            continue
        elif what == "set":
            found.append(Change(position, "UPDATE" if id_ in known else "INSERT", id_, points, story))
            known.add(id_)
    return found


def test_what_was_not_sent_is_there_and_what_was_cleared_is_not(tmp_path: Path) -> None:
    """Of removals and truncates only what is known is required; nothing goes to quarantine."""
    bench = Bench(tmp_path, datasets=Datasets([CUSTOMERS]))
    changes = [
        Change(0, "RESTART"), Change(1, "SNAPSHOT", "a", 1, "long"), Change(2, "SNAPSHOT", "b", 2, "other"),
        Change(3, "UPDATE", "a", 3, ""), Change(4, "DELETE", "b"), Change(5, "UPDATE", "a", 4, ""),
    ]  # fmt: skip
    put(bench, changes)
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == {"a": (4, "long")}
    put(bench, [Change(6, "TRUNCATE"), Change(7, "INSERT", "c", 5, None)], day_of(1))
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == {"c": (5, None)}
    assert bench.rows("platform.quarantine", "reasons") == []
    history = bench.rows("processed.customers", "operation", "id", "story", "unsent")
    assert ("UPDATE", "a", None, '["notes"]') in history
    assert ("TRUNCATE", None, None, None) in history


def test_what_is_required_of_a_row_that_is_there_is_required(tmp_path: Path) -> None:
    """Of an update a required value may not be missing, nor the key of a removal."""
    bench = Bench(tmp_path, datasets=Datasets([CUSTOMERS]))
    put(bench, [Change(0, "INSERT", "a", None, "x"), Change(1, "DELETE"), Change(2, "INSERT", "b", 1, "x")])
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == {"b": (1, "x")}
    reasons: list[Any] = bench.rows("platform.quarantine", "reasons")
    assert sorted(reason for (found,) in reasons for reason in found) == [
        "id: required, but there is no value",
        "points: required, but there is no value",
    ]


steps = st.tuples(
    st.sampled_from(["set", "set", "set", "set", "delete", "clear"]),
    st.sampled_from("abc"),
    st.integers(0, 9),
    st.sampled_from(["x", "y", None, "", "", ""]),
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_changes_on_any_days_in_any_order_give_the_last_state(
    step: list[tuple[str, str, int, str | None]], random: Any
) -> None:
    """Whatever day each change lands on, and whenever it is loaded: states are those of a rebuild, the last is the table's."""
    changes = history(step)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), datasets=Datasets([CUSTOMERS]))
        shuffled = list(changes)
        random.shuffle(shuffled)
        for change in shuffled:
            put(bench, [change], day=day_of(random.randrange(3)))
            if random.random() < 0.4:
                upkeep.catch_up(bench.warehouse)
        if not changes:
            return
        upkeep.catch_up(bench.warehouse)
        assert current(bench) == expected(changes)
        fresh = Bench(Path(folder) / "fresh", zone=bench.landing, datasets=Datasets([CUSTOMERS]))
        upkeep.catch_up(fresh.warehouse)
        assert not list(differences(bench.export(), fresh.export()))
        for day in range(3):
            if bench.warehouse.table_day("processed.customers_current", day_of(day)) is None:
                continue
            fresh.warehouse.derive(fresh.sql_tables["processed.customers_current"], day_of(day), force=True)
            state, whole = (
                one.warehouse.read("processed.customers_current", last=day_of(day)) for one in (bench, fresh)
            )
            assert state.equals(whole)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no such column": ({"changes": replace(CAPTURED, unsent="kept")}, "unsent 'kept' is not among its columns"),
    "only in history": (
        {"changes": replace(CAPTURED, only_in_history=("unsent",))},
        "the current table can't do without 'unsent'",
    ),
    "masked": (
        {"columns": (*CUSTOMERS.columns[:-1], replace(CUSTOMERS.columns[-1], pii=Mask.HASH))},
        "unsent 'unsent' is masked by",
    ),
    "others' operations": ({"changes": Changes(operation="what")}, "operation 'what' is not among its columns"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_declaration_is_told(mistake: str) -> None:
    """At import."""
    named, message = MISTAKES[mistake]
    with pytest.raises(DeclarationError, match=message):
        replace(CUSTOMERS, **named)


def test_each_captured_table_is_somebodys() -> None:
    """What comes by a capture is known: no dataset for the rest is needed, and none of the tables may be nobody's."""
    both = replace(STREAM, source=replace(SOURCE, tables=("public.customers", "public.orders")))
    customers = replace(
        CUSTOMERS, source=StreamSegments(both, JsonValues(), routed_by="@header.table", types=("public.customers",))
    )
    orders = replace(
        CUSTOMERS,
        name="orders",
        source=StreamSegments(both, JsonValues(), routed_by="@header.table", types=("public.orders",)),
    )
    assert set(Datasets([customers, orders])) == {"customers", "orders"}
    with pytest.raises(DeclarationError, match=r"captures table 'public\.orders', and no dataset takes its changes"):
        Datasets([customers])
    with pytest.raises(DeclarationError, match="captures 2 tables, and a dataset takes the changes of all of them"):
        Datasets([replace(CUSTOMERS, source=StreamSegments(both))])


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"tables": ()}, "has no tables"),
        ({"tables": ("customers",)}, r"is not schema\.table"),
        ({"tables": ("a.b", "a.b")}, "names 'a.b' twice"),
        ({"connections": 0}, "connections must be more than 0"),
    ],
)
def test_a_mistake_in_a_capture_is_told(named: dict[str, Any], message: str) -> None:
    """At import."""
    with pytest.raises(DeclarationError, match=message):
        Postgres(**{"database": "shop", "tables": ("public.customers",)} | named)
