"""Changes as history and current table: whatever lands in whatever order, both say what the changes in their order say."""

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

from ingestion_platform.dataset import Changes, Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError
from ingestion_platform.formats.segments import ENVELOPE, write_segment
from ingestion_platform.stream import DynamoDbChanges, DynamoDbStream, Span, Stream, StreamSegments
from ingestion_platform.table import BIGINT, TIMESTAMP, VARCHAR, Column, Mask, decimal
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences
from ingestion_platform_tests.warehouse.streaming import day_of

STREAM = Stream(
    name="orders_changes", description="Changes of orders.", source=DynamoDbStream(table="orders"), first_day=DAY
)

COLUMNS = (
    Column("order_id", VARCHAR, "Its number.", source="keys.id", required=True),
    Column("operation", VARCHAR, "What happened.", required=True),
    Column("position", VARCHAR, "Where in the stream.", source="@position"),
    Column("changed_at", TIMESTAMP, "When."),
    Column("amount_zar", decimal(38, 10), "What it costs.", source="new.amount"),
    Column("amount_before_zar", decimal(38, 10), "What it did cost.", source="old.amount"),
)

ORDERS = Dataset(
    name="orders",
    description="One row per change of an order.",
    kind="changes",
    changes=Changes(only_in_history=("amount_before_zar",)),
    source=StreamSegments(STREAM, DynamoDbChanges()),
    columns=COLUMNS,
    primary_key=("order_id",),
    daily=Daily(DAY),
)

CHANGED = Datasets([ORDERS])

BASE = 10**38
"""Positions of 39 digits: more than any number that DuckDB has."""


@dataclass(frozen=True)
class Change:
    """A change as a test means it: an amount of None removes the order."""

    position: int
    key: str
    amount: int | None
    before: int | None = None

    @property
    def operation(self) -> str:
        """As DynamoDB calls it."""
        if self.amount is None:
            return "REMOVE"
        return "INSERT" if self.before is None else "MODIFY"

    @property
    def record(self) -> bytes:
        """As the stream gives it."""
        change: dict[str, object] = {
            "ApproximateCreationDateTime": 1727762400 + self.position,
            "Keys": {"id": {"S": self.key}},
            "SequenceNumber": str(BASE + self.position),
        }
        for name, amount in (("NewImage", self.amount), ("OldImage", self.before)):
            if amount is not None:
                change[name] = {"id": {"S": self.key}, "amount": {"N": str(amount)}}
        return json.dumps({"eventID": f"e{self.position}", "eventName": self.operation, "dynamodb": change}).encode()


def history(*changes: tuple[str, int | None]) -> list[Change]:
    """Changes of keys in order, each knowing what was there before."""
    found, state = [], dict[str, int | None]()
    for position, (key, amount) in enumerate(changes):
        found.append(Change(position, key, amount, state.get(key)))
        state[key] = amount
    return found


def put(bench: Bench, changes: Sequence[Change], *, shard: str = "s1", day: date = DAY) -> None:
    """Land a segment of these changes."""
    hour = datetime(day.year, day.month, day.day, 8)
    rows = [
        {
            "position": str(BASE + change.position),
            "part": None,
            "arrived_at": hour.replace(tzinfo=UTC),
            "key": json.dumps({"id": {"S": change.key}}).encode(),
            "headers": None,
            "value": change.record,
            "schema": None,
        }
        for change in changes
    ]
    span = Span(BASE + changes[0].position, BASE + changes[-1].position)
    batch = pa.RecordBatch.from_pylist(rows, schema=ENVELOPE)
    bench.put(STREAM.segment_key(hour, shard, span), write_segment([batch], stream=STREAM.name, shard=shard, span=span))


def current(bench: Bench, day: date | None = None) -> dict[str, int]:
    """Order → amount, of the current table at the end of a day."""
    table = bench.warehouse.read("processed.orders_current", last=day).to_pylist()
    assert len({row["order_id"] for row in table}) == len(table)
    return {row["order_id"]: int(row["amount_zar"]) for row in table}


def expected(changes: Sequence[Change]) -> dict[str, int]:
    """The same, from the changes in their order."""
    state: dict[str, int] = {}
    for change in sorted(changes, key=lambda change: change.position):
        if change.amount is None:
            state.pop(change.key, None)
        else:
            state[change.key] = change.amount
    return state


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A warehouse of one table's changes."""
    return Bench(tmp_path, datasets=CHANGED)


def test_the_history_has_every_change_and_the_current_table_the_last_of_each_key(bench: Bench) -> None:
    """What was removed is in the history alone; numbers keep their digits, positions of 39 digits their order."""
    put(bench, history(("a", 1), ("b", 2), ("a", 3), ("b", None), ("c", 5)))
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.orders", "order_id", "operation", "position", "amount_zar", "amount_before_zar") == [
        ("a", "INSERT", str(BASE), 1, None),
        ("a", "MODIFY", str(BASE + 2), 3, 1),
        ("b", "INSERT", str(BASE + 1), 2, None),
        ("b", "REMOVE", str(BASE + 3), None, 2),
        ("c", "INSERT", str(BASE + 4), 5, None),
    ]
    assert bench.rows("processed.orders_current", "order_id", "operation", "position", "amount_zar") == [
        ("a", "MODIFY", str(BASE + 2), 3),
        ("c", "INSERT", str(BASE + 4), 5),
    ]
    columns = [column.name for column in bench.warehouse.columns("processed.orders_current")]
    assert columns == ["order_id", "operation", "position", "changed_at", "amount_zar", "_landed_on", "_object", "_row"]


def test_each_day_has_its_state(bench: Bench) -> None:
    """A day without changes has the state of the day before; the table as a whole is the newest state."""
    changes = history(("a", 1), ("b", 2), ("a", 3), ("b", None))
    put(bench, changes[:2])
    put(bench, changes[2:], day=day_of(3))
    upkeep.catch_up(bench.warehouse)
    assert current(bench, DAY) == current(bench, day_of(2)) == {"a": 1, "b": 2}
    assert current(bench) == {"a": 3}
    assert bench.rows("processed.orders_current", "order_id") == [("a",)]


def test_a_state_of_nothing_is_a_state(bench: Bench) -> None:
    """When the last key is removed the current table is empty, and doesn't fall back on the day before."""
    changes = history(("a", 1), ("a", None))
    put(bench, changes[:1])
    put(bench, changes[1:], day=day_of(1))
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == {}
    assert bench.rows("processed.orders_current", "order_id") == []


def test_a_late_segment_restates_the_days_after_it(bench: Bench) -> None:
    """What lands for an old day changes that day's state and every later one, unless something later was known of its keys."""
    changes = history(("a", 1), ("b", 2), ("c", 3), ("b", 4))
    put(bench, changes[:1])
    put(bench, changes[3:], day=day_of(2))
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == {"a": 1, "b": 4}
    put(bench, changes[1:3], day=day_of(1))
    bench.load("orders", day_of(1))
    bench.process("orders", day_of(1))
    assert bench.warehouse.stale_days("processed.orders_current") == [day_of(1), day_of(2)]
    upkeep.catch_up(bench.warehouse)
    assert current(bench, day_of(1)) == {"a": 1, "b": 2, "c": 3}
    assert current(bench) == {"a": 1, "b": 4, "c": 3}


def test_a_removal_that_came_first_keeps_removing(bench: Bench) -> None:
    """A key's changes may land in other days than their order says; what an earlier day has removed stays removed."""
    changes = history(("a", 1), ("a", None), ("a", 7))
    put(bench, changes[1:2], shard="child")
    put(bench, changes[:1], shard="parent", day=day_of(1))
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == {}
    put(bench, changes[2:], shard="child", day=day_of(2))
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == {"a": 7}


def test_a_state_is_made_of_the_one_before(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the history since is gone through, and nothing is computed when nothing has changed."""
    changes = history(("a", 1), ("b", 2), ("a", 3))
    put(bench, changes[:2])
    upkeep.catch_up(bench.warehouse)
    put(bench, changes[2:], day=day_of(1))
    deriver = type(bench.warehouse._deriver)
    made: list[str] = []
    advance = deriver._advance

    def watch(self: object, table: object, state: object, *rest: object) -> int:
        made.append(state.day)  # type: ignore[attr-defined]
        return advance(self, table, state, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(deriver, "_advance", watch)
    upkeep.catch_up(bench.warehouse)
    assert made == [DAY.isoformat()]
    assert current(bench) == {"a": 3, "b": 2}
    upkeep.catch_up(bench.warehouse)
    assert made == [DAY.isoformat()]


def test_what_cannot_be_read_stops_nothing(bench: Bench) -> None:
    """A change that is none goes to quarantine with its position; the others stand."""
    changes = history(("a", 1), ("b", 2), ("c", 3))
    broken = replace(changes[1], key="")
    put(bench, [changes[0], broken, changes[2]])
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == {"a": 1, "c": 3}
    assert bench.rows("platform.quarantine", "reasons") == [(["order_id: required, but there is no value"],)]


def test_a_damaged_state_is_made_anew(bench: Bench) -> None:
    """From the history, not from the states before."""
    changes = history(("a", 1), ("b", 2), ("a", 3))
    put(bench, changes[:2])
    put(bench, changes[2:], day=day_of(1))
    upkeep.catch_up(bench.warehouse)
    for row in bench.warehouse.ledger.partitions("processed.orders_current"):
        (file,) = bench.warehouse.ledger.partition_files([row])
        bench.warehouse.store.absolute(file.path).write_bytes(b"damaged")
    again = bench.open()
    assert {damage.table for damage in upkeep.repair(again)} == {"processed.orders_current"}
    assert current(bench) == {"a": 3, "b": 2}


def test_a_report_sees_the_state_of_its_own_day(tmp_path: Path) -> None:
    """Days of a report that reads the current table aren't restated by later changes."""
    (tmp_path / "sql" / "reports").mkdir(parents=True)
    (tmp_path / "sql" / "reports" / "open_orders.sql").write_text(
        '/*\ndescription = "One row per day."\nprimary_key = ["on"]\n[columns]\non = "Day."\norders = "How many."\n*/\n'
        "select $day as on, count(*) as orders from processed.orders_current\n"
    )
    bench = Bench(tmp_path, datasets=CHANGED, sql=tmp_path / "sql")
    changes = history(("a", 1), ("b", 2), ("c", 3))
    put(bench, changes[:1])
    put(bench, changes[1:2], day=day_of(1))
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("reports.open_orders") == [(DAY, 1), (day_of(1), 2)]
    put(bench, changes[2:], day=day_of(2))
    bench.load("orders", day_of(2))
    bench.process("orders", day_of(2))
    bench.warehouse.derive(bench.sql_tables["processed.orders_current"], day_of(2))
    assert bench.warehouse.stale_days("reports.open_orders") == [day_of(2)]


def test_columns_of_the_current_table_know_where_they_come_from(bench: Bench) -> None:
    """As those of a SQL file do."""
    origins = bench.sql_tables["processed.orders_current"].origins
    assert origins["amount_zar"] == (("processed.orders", "amount_zar"),)
    assert origins["_object"] == (("processed.orders", "_object"),)


steps = st.tuples(
    st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 9)), st.sampled_from(["s1", "s2"]), st.integers(0, 3)
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_any_changes_in_any_order_give_the_last_state(
    step: list[tuple[str, int | None, str, int]], random: object
) -> None:
    """Whatever day and shard each change lands in, and whenever it is loaded: history and states are those of a rebuild."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), datasets=CHANGED)
        changes = history(*((key, amount) for key, amount, _, _ in step))
        shuffled = list(zip(changes, step, strict=True))
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        for change, (_, _, shard, day) in shuffled:
            put(bench, [change], shard=shard, day=day_of(day))
            if random.random() < 0.3:  # type: ignore[attr-defined]
                put(bench, [change], shard=shard, day=day_of((day + 1) % 4))
            if random.random() < 0.3:  # type: ignore[attr-defined]
                upkeep.catch_up(bench.warehouse)
            elif random.random() < 0.3:  # type: ignore[attr-defined]
                bench.load("orders", day_of(day))
                bench.process("orders", day_of(day))
                bench.warehouse.derive(bench.sql_tables["processed.orders_current"], day_of(day))
        upkeep.catch_up(bench.warehouse)
        assert current(bench) == expected(changes)
        assert len(bench.rows("processed.orders", "position")) == len(changes)
        assert upkeep.verify(bench.warehouse) == []
        fresh = Bench(Path(folder) / "fresh", zone=bench.landing, datasets=CHANGED)
        upkeep.catch_up(fresh.warehouse)
        assert not list(differences(bench.export(), fresh.export()))
        for day in range(4):
            if bench.warehouse.table_day("processed.orders_current", day_of(day)) is None:
                continue
            fresh.warehouse.derive(fresh.sql_tables["processed.orders_current"], day_of(day), force=True)
            state, whole = (one.warehouse.read("processed.orders_current", last=day_of(day)) for one in (bench, fresh))
            assert state.equals(whole)


_POSITION = Column("position", VARCHAR, "Where.", source="@position")

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no changes": ({"changes": None}, "changes need changes=Changes"),
    "files may lack the position": ({"source": LandedFiles("orders/%Y-%m-%d.csv")}, "position 'position' of a change may be missing"),
    "a stream without position": ({"changes": Changes(position=None)}, "no position says in which order"),
    "moment is none": ({"changes": Changes(moment="operation")}, "moment 'operation' is VARCHAR, not plain TIMESTAMP"),
    "name of the history's": (
        {"changes": Changes(moment="changed_at"), "columns": (*COLUMNS, Column("valid_to", TIMESTAMP, "Until when."))},
        "column 'valid_to' has the name of one that its history table adds",
    ),
    "unsent is none": ({"changes": Changes(unsent="changed_at")}, "unsent 'changed_at' is TIMESTAMP, not plain VARCHAR"),
    "doubles in quarantine": ({"duplicate_keys": "quarantine"}, "the same change sent twice is one"),
    "no key": ({"primary_key": ()}, "changes need primary_key"),
    "key may be missing": ({"columns": (replace(COLUMNS[0], required=False), *COLUMNS[1:])}, "primary_key 'order_id' of a change may"),
    "no operation": ({"changes": Changes(operation="what")}, "operation 'what' is not among its columns"),
    "operation may be missing": ({"columns": (COLUMNS[0], replace(COLUMNS[1], required=False), *COLUMNS[2:])}, "'operation' of a change"),
    "no position": ({"changes": Changes(position="changed_at")}, "position 'changed_at' is TIMESTAMP, not plain VARCHAR"),
    "another position": ({"changes": Changes(position="operation")}, "'operation' of a record, not its place in the order"),
    "masked position": ({"columns": (*COLUMNS[:2], replace(_POSITION, pii=Mask.HASH), *COLUMNS[3:])}, "masked by hash"),
    "nothing removes": ({"changes": Changes(removes=())}, "no operation removes a row"),
    "key only in history": ({"changes": Changes(only_in_history=("order_id",))}, "can't do without 'order_id'"),
    "late": ({"daily": Daily(DAY, allowed_lateness_days=1)}, "changes have no lateness"),
    "required image": ({"columns": (*COLUMNS, Column("n", BIGINT, "N.", source="new.n", required=True))}, "'new.n'"),
    "not changes": ({"kind": "events", "event_time": "changed_at"}, "says what its changes are, and holds events"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_declaration_of_changes_is_told(mistake: str) -> None:
    """At import, with the column that it is about."""
    named, message = MISTAKES[mistake]
    with pytest.raises(DeclarationError, match=message):
        replace(ORDERS, **named)


def test_a_dataset_is_not_called_as_a_current_table_is() -> None:
    """The name would stand for two tables."""
    with pytest.raises(DeclarationError, match="has the name of the current table of 'orders'"):
        Datasets([ORDERS, replace(ORDERS, name="orders_current")])
