"""The history of changes: every state of each row with its validity, the same whatever lands in whatever order."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Changes, Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import JsonLines
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, Mask
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences
from ingestion_platform_tests.warehouse.streaming import day_of

PEOPLE = Dataset(
    name="people",
    description="One row per change of a person.",
    kind="changes",
    changes=Changes(removes=("delete",), truncates=("truncate",), moment="changed_at", unsent="unsent"),
    source=LandedFiles("people/%Y-%m-%d/{file}.jsonl", JsonLines()),
    columns=(
        Column("person_id", INTEGER, "Who.", required=True),
        Column("name", VARCHAR, "How called.", source="who.name", required=True, pii=Mask.HASH),
        Column("city", VARCHAR, "Where."),
        Column("operation", VARCHAR, "What happened.", required=True),
        Column("position", VARCHAR, "Where in the log.", required=True),
        Column("changed_at", TIMESTAMP, "When."),
        Column("unsent", VARCHAR, "What isn't said."),
    ),
    primary_key=("person_id",),
    daily=Daily(DAY),
)
IN_LANDING_ORDER = replace(
    PEOPLE,
    changes=Changes(removes=("delete",), truncates=("truncate",), position=None, moment="changed_at", unsent="unsent"),
)

START = datetime(2024, 10, 1, 8)


@dataclass(frozen=True)
class Told:
    """
    A change as a test means it.

    Args:
        position: its place in the order.
        operation: what happened.
        key: whose; None of a truncation.
        minute: of the moment; None where it isn't said.
        city: the value; `...` where it isn't said.
    """

    position: int
    operation: str
    key: int | None
    minute: int | None
    city: Any = None

    @property
    def line(self) -> str:
        """As it lands."""
        record: dict[str, Any] = {"operation": self.operation, "position": str(self.position)}
        if self.minute is not None:
            record["changed_at"] = (START + timedelta(minutes=self.minute)).isoformat() + "Z"
        if self.key is not None:
            record["person_id"] = self.key
        if self.operation not in ("delete", "truncate"):
            record["who"] = {"name": f"P{self.key}"}
            if self.city is ...:
                record["unsent"] = '["city"]'
                if self.position % 2:
                    del record["who"]
                    record["unsent"] = ["city", "who"]
            else:
                record["city"] = self.city
        return json.dumps(record)


def versions(told: Sequence[tuple[int, Told]]) -> list[tuple[Any, ...]]:
    """
    Key, city, from, to and whether it is current, of every version; by a loop.

    Args:
        told: day on which each change landed, and the change; in their order.
    """
    found: list[list[Any]] = []
    open_: dict[int, list[Any]] = {}
    latest: dict[int, datetime] = {}
    truncated = datetime.min
    done: set[tuple[int | None, int]] = set()
    for day, change in told:
        if (change.key, change.position) in done:
            continue
        done.add((change.key, change.position))
        # Midnight in Johannesburg.
        landed = datetime.combine(day_of(day), datetime.min.time()) - timedelta(hours=2)
        moment = START + timedelta(minutes=change.minute) if change.minute is not None else landed
        if change.operation == "truncate":
            truncated = max(truncated, moment)
            for key, version in list(open_.items()):
                version[3] = latest[key] = max(latest[key], truncated)
                del open_[key]
            continue
        assert change.key is not None
        at = latest[change.key] = max(moment, truncated, latest.get(change.key, datetime.min))
        former = open_.pop(change.key, None)
        if former is not None:
            former[3] = at
        if change.operation != "delete":
            city = change.city if change.city is not ... else (former[1] if former else None)
            open_[change.key] = [change.key, city, at, None, change.position]
            found.append(open_[change.key])
    # Where a truncation ended versions, later ones of the key began no earlier.
    return sorted(((key, city, from_, to, to is None, position) for key, city, from_, to, position in found), key=repr)


def put(bench: Bench, name: str, changes: Sequence[Told], day: int = 0) -> None:
    """Land a file of these changes."""
    bench.put(f"people/{day_of(day)}/{name}.jsonl", "".join(change.line + "\n" for change in changes))


def shown(bench: Bench, day: int | None = None) -> list[tuple[Any, ...]]:
    """The history table at a day's end, as `versions` gives it."""
    table = bench.warehouse.read("processed.people_history", last=day_of(day) if day is not None else None)
    found = (
        (row["person_id"], row["city"], row["valid_from"], row["valid_to"], row["is_current"], int(row["position"]))
        for row in table.to_pylist()
    )
    return sorted(found, key=repr)


def current(bench: Bench) -> list[tuple[Any, ...]]:
    """The current table: key, city, position."""
    found = bench.rows("processed.people_current", "person_id", "city", "position")
    return sorted(((key, city, int(str(position))) for key, city, position in found), key=repr)


def compute(bench: Bench, day: int) -> None:
    """Everything of one day."""
    bench.load("people", day_of(day))
    bench.process("people", day_of(day))
    for table in bench.sql_tables.values():
        bench.warehouse.derive(table, day_of(day))


def kept_of(bench: Bench, day: int) -> list[Any]:
    """What is in a day's file of the history, in its order."""
    row = bench.warehouse.ledger.partition("processed.people_history", day_of(day))
    assert row is not None
    (file,) = bench.warehouse.ledger.partition_files([row])
    return pq.read_table(bench.warehouse.store.absolute(file.path)).to_pylist()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A warehouse of people's changes."""
    return Bench(tmp_path, datasets=Datasets([PEOPLE]))


def test_every_state_of_a_row_has_its_validity(bench: Bench) -> None:
    """A removal ends it and leaves nothing open; who comes back begins anew; a moment has one state at most."""
    changes = [
        Told(1, "insert", 1, 0, "Durban"),
        Told(2, "update", 1, 10, "Cape Town"),
        Told(3, "delete", 1, 20),
        Told(4, "insert", 1, 30, "Durban"),
        Told(5, "insert", 2, 30, "Knysna"),
        Told(6, "update", 2, 30, "George"),
    ]
    put(bench, "a", changes)
    upkeep.catch_up(bench.warehouse)
    assert shown(bench) == versions([(0, change) for change in changes])
    as_of = (
        "select person_id, city from processed.people_history where valid_from <= timestamp '2024-10-01 08:{}:00'"
        " and (valid_to is null or valid_to > timestamp '2024-10-01 08:{}:00') order by all"
    )
    found = {
        minute: [tuple(row.values()) for row in bench.warehouse.query(as_of.format(minute, minute)).to_pylist()]
        for minute in ("05", "10", "25", "30")
    }
    assert found == {"05": [(1, "Durban")], "10": [(1, "Cape Town")], "25": [], "30": [(1, "Durban"), (2, "George")]}
    names = bench.warehouse.query("select distinct name from processed.people_history").to_pylist()
    assert len(names) == 2
    assert all(len(row["name"]) == 64 for row in names), "masked as in the table of changes"
    columns = [column.name for column in bench.warehouse.columns("processed.people_history")]
    assert columns[-6:] == ["valid_from", "valid_to", "is_current", "_landed_on", "_object", "_row"]


def test_a_value_that_is_not_sent_is_the_one_before(bench: Bench) -> None:
    """Also over days, and under any name above it; required or not; what was never said is NULL."""
    put(bench, "a", [Told(1, "insert", 1, 0, "Durban"), Told(2, "update", 1, 1, ...), Told(3, "update", 2, 2, ...)])
    put(bench, "b", [Told(5, "update", 1, 5, ...)], day=1)
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == [(1, "Durban", 5), (2, None, 3)]
    put(bench, "c", [Told(4, "update", 1, 4, "George")], day=2)
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == [(1, "George", 5), (2, None, 3)]
    assert [row[1] for row in shown(bench) if row[0] == 1] == ["Durban", "Durban", "George", "George"]
    assert bench.rows("platform.quarantine", "reasons") == []
    assert {row[0] for row in bench.rows("processed.people_current", "name")} != {None}


def test_a_truncation_ends_everything(bench: Bench) -> None:
    """It has no key, and no row is left; what comes after it stands."""
    put(bench, "a", [Told(1, "insert", 1, 0, "Durban"), Told(2, "insert", 2, 0, "George")])
    put(bench, "b", [Told(3, "truncate", None, 9), Told(4, "insert", 2, 10, "Knysna")], day=1)
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == [(2, "Knysna", 4)]
    assert [row[3] for row in shown(bench) if row[5] < 3] == [START + timedelta(minutes=9)] * 2
    assert bench.rows("platform.quarantine", "reasons") == []
    assert bench.rows("processed.people", "operation", "person_id")[-1] == ("truncate", None)


def test_what_is_removed_is_not_judged_by_its_values(bench: Bench) -> None:
    """A removal with a former image that breaks a rule, or with the key alone, removes all the same."""
    put(bench, "a", [Told(1, "insert", 1, 0, "Durban")])
    bench.put(
        f"people/{day_of(1)}/b.jsonl",
        '{"operation": "delete", "position": "2", "person_id": 1, "changed_at": "some day", "city": 7}\n',
    )
    upkeep.catch_up(bench.warehouse)
    assert current(bench) == []
    assert bench.rows("platform.quarantine", "reasons") == []
    assert [row[3] for row in shown(bench)] == [datetime(2024, 10, 1, 22)], (
        "the beginning of the day on which it landed"
    )


def test_a_report_reads_the_history_of_its_day(tmp_path: Path) -> None:
    """What was known by then: later changes don't restate it."""
    (tmp_path / "sql" / "reports").mkdir(parents=True)
    (tmp_path / "sql" / "reports" / "moves.sql").write_text(
        '/*\ndescription = "One row per day."\nprimary_key = ["on"]\n[columns]\non = "Day."\nstates = "How many."\n*/\n'
        "select $day as on, count(*) as states from processed.people_history\n"
    )
    bench = Bench(tmp_path, datasets=Datasets([PEOPLE]), sql=tmp_path / "sql")
    put(bench, "a", [Told(1, "insert", 1, 0, "Durban"), Told(2, "update", 1, 1, "George")])
    put(bench, "b", [Told(3, "update", 1, 2, "Durban")], day=1)
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("reports.moves") == [(DAY, 2), (day_of(1), 3)]
    put(bench, "c", [Told(4, "delete", 1, 3)], day=2)
    compute_first = ("people", day_of(2))
    bench.load(*compute_first)
    bench.process(*compute_first)
    bench.warehouse.derive(bench.sql_tables["processed.people_history"], day_of(2))
    assert bench.warehouse.stale_days("reports.moves") == [day_of(2)]
    origins = bench.sql_tables["processed.people_history"].origins
    assert ("processed.people", "city") in origins["city"]


def test_changes_without_a_moment_have_no_history(tmp_path: Path) -> None:
    """Nobody could tell from when a row was as it was."""
    assert PEOPLE.changes is not None
    bench = Bench(tmp_path, datasets=Datasets([replace(PEOPLE, changes=replace(PEOPLE.changes, moment=None))]))
    assert list(bench.sql_tables) == ["processed.people_current"]


steps = st.tuples(
    st.sampled_from(["insert", "update", "update", "delete", "truncate"]),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(0, 9)),
    st.one_of(st.none(), st.just(...), st.sampled_from(["Durban", "George"])),
    st.integers(0, 3),
)


def told(step: Sequence[tuple[str, int, int | None, Any, int]]) -> list[tuple[int, Told]]:
    """The day on which each change lands, and the change."""
    return [
        (day, Told(number, what, None if what == "truncate" else key, minute, city))
        for number, (what, key, minute, city, day) in enumerate(step, start=1)
    ]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_any_changes_in_any_order_give_the_states_that_a_loop_gives(step: list[Any], random: Any) -> None:
    """Whatever day each lands in, late ones, doubles and truncations among them, whenever it is loaded: at every day's end."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), datasets=Datasets([PEOPLE]))
        changes = told(step)
        landed = list(changes)
        for index in random.sample(range(len(changes)), len(changes)):
            day, change = changes[index]
            put(bench, f"{index}", [change], day)
            if change.minute is not None and random.random() < 0.3:
                again = random.randrange(4)
                put(bench, f"again-{index}", [change], again)
                landed.append((again, change))
            if random.random() < 0.3:
                upkeep.catch_up(bench.warehouse)
            elif random.random() < 0.3:
                compute(bench, day)
        upkeep.catch_up(bench.warehouse)
        in_order = sorted(landed, key=lambda one: one[1].position)
        last = versions(in_order)
        assert shown(bench) == last
        assert current(bench) == sorted(((row[0], row[1], row[5]) for row in last if row[4]), key=repr)
        assert upkeep.verify(bench.warehouse) == []
        for day in range(4):
            if bench.warehouse.table_day("processed.people_history", day_of(day)) is None:
                continue
            by_then = [one for one in in_order if one[0] <= day]
            assert shown(bench, day) == versions(by_then)
        fresh = Bench(Path(folder) / "fresh", zone=bench.landing, datasets=Datasets([PEOPLE]))
        upkeep.catch_up(fresh.warehouse)
        assert not list(differences(bench.export(), fresh.export()))
        for day in range(3, -1, -1):
            table = fresh.sql_tables["processed.people_history"]
            if fresh.warehouse.table_day(table.key, day_of(day)) is not None:
                before = kept_of(fresh, day)
                fresh.warehouse.derive(table, day_of(day), force=True)
                assert kept_of(fresh, day) == before
        whole = fresh.warehouse.query(fresh.sql_tables["processed.people_history"].sql)
        kept = fresh.warehouse.query("select * from processed.people_history")
        assert sorted(map(repr, whole.to_pylist())) == sorted(map(repr, kept.to_pylist()))


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_without_positions_changes_ascend_as_they_landed(step: list[Any], random: Any) -> None:
    """By the day of the object, its key (shorter ones first) and the row, whenever each is loaded; equal lines are two changes."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), datasets=Datasets([IN_LANDING_ORDER]))
        changes = told(step)
        files: dict[tuple[int, int], list[Told]] = {}
        for day, change in changes:
            files.setdefault((day, random.choice((2, 9, 10, 11))), []).append(change)
        for day, file in random.sample(sorted(files), len(files)):
            put(bench, f"part-{file}", files[day, file], day)
            if random.random() < 0.4:
                compute(bench, day)
        upkeep.catch_up(bench.warehouse)
        in_order = [(day, change) for day, file in sorted(files) for change in files[day, file]]
        assert shown(bench) == versions(in_order)
