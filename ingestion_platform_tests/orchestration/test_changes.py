"""The current table of changes as an asset: computed with the history, restated after it, its lineage shown."""

from pathlib import Path

import dagster as dg
import pytest

from ingestion_platform.dataset import Datasets
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.graph import Graph, asset_key
from ingestion_platform.orchestration.restatements import Asked, plan
from ingestion_platform_tests.orchestration.world import evaluations, materializations, run
from ingestion_platform_tests.warehouse.building import DAY, Bench
from ingestion_platform_tests.warehouse.streaming import day_of
from ingestion_platform_tests.warehouse.test_changes import CHANGED, current, history, put
from ingestion_platform_tests.warehouse.test_history import PEOPLE, Told, shown
from ingestion_platform_tests.warehouse.test_history import put as put_people

CURRENT = "processed.orders_current"
CHAIN = ["raw.orders", "processed.orders", CURRENT]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A warehouse of one table's changes."""
    return Bench(tmp_path, datasets=CHANGED)


def test_the_current_table_is_an_asset_made_of_the_history(bench: Bench) -> None:
    """A run over a day computes it behind its history; the UI shows columns, where they come from, the query and the rows."""
    definitions = build_definitions(bench.settings, CHANGED, bench.sql_tables)
    graph = definitions.resolve_asset_graph()
    assert graph.get(asset_key(CURRENT)).parent_keys == {asset_key("processed.orders")}
    assert list(Graph(CHANGED, bench.sql_tables).chain(CHANGED["orders"])) == CHAIN
    put(bench, history(("a", 1), ("b", 2), ("a", 3), ("b", None)))
    result = run(definitions, dg.DagsterInstance.ephemeral(), CHAIN, DAY)
    assert result.success
    assert materializations(result, CURRENT) == [str(DAY)]
    assert evaluations(result, CURRENT, "primary_key")[str(DAY)].passed
    (event,) = [
        event for event in result.all_events if event.is_step_materialization and event.asset_key == asset_key(CURRENT)
    ]
    shown = event.step_materialization_data.materialization.metadata
    assert shown["rows"].value == 1
    lineage = shown["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert lineage.deps_by_column["amount_zar"] == [dg.TableColumnDep(asset_key("processed.orders"), "amount_zar")]
    assert "row_number()" in (graph.get(asset_key(CURRENT)).description or "")
    assert current(bench) == {"a": 3}


def test_days_after_a_late_change_are_asked_for(bench: Bench) -> None:
    """A segment that lands for an old day: every later state is asked for in one run."""
    changes = history(("a", 1), ("b", 2), ("c", 3), ("a", None))
    definitions = build_definitions(bench.settings, CHANGED, bench.sql_tables)
    instance = dg.DagsterInstance.ephemeral()
    put(bench, changes[:1])
    put(bench, changes[2:3], day=day_of(1))
    put(bench, changes[3:], day=day_of(2))
    assert run(definitions, instance, CHAIN, DAY, day_of(2)).success
    put(bench, changes[1:2])
    assert run(definitions, instance, CHAIN, DAY).success
    found = plan(Graph(CHANGED, bench.sql_tables), bench.open(), Asked(), day_of(5), lambda *_: False)
    assert [(one.tables, one.first, one.last) for one in found.runs] == [((CURRENT,), day_of(1), day_of(2))]
    assert run(definitions, instance, [CURRENT], day_of(1), day_of(2)).success
    assert current(bench, day_of(1)) == {"a": 1, "b": 2, "c": 3}
    assert current(bench) == {"b": 2, "c": 3}
    assert not bench.open().stale_days(CURRENT)


def test_the_history_is_an_asset_beside_the_current_table(tmp_path: Path) -> None:
    """Where changes say when they happened: computed in the same run, its keys and positions checked, restated after a late change."""
    bench = Bench(tmp_path, datasets=Datasets([PEOPLE]))
    definitions = build_definitions(bench.settings, bench.datasets, bench.sql_tables)
    chain = ["raw.people", "processed.people", "processed.people_current", "processed.people_history"]
    assert sorted(Graph(bench.datasets, bench.sql_tables).chain(PEOPLE)) == sorted(chain)
    instance = dg.DagsterInstance.ephemeral()
    put_people(bench, "a", [Told(1, "insert", 1, 0, "Durban")])
    put_people(bench, "b", [Told(3, "update", 1, 5, "George")], day=1)
    result = run(definitions, instance, chain, DAY, day_of(1))
    assert result.success
    assert evaluations(result, chain[-1], "primary_key")[str(day_of(1))].passed
    put_people(bench, "c", [Told(2, "update", 1, 2, "Knysna")])
    assert run(definitions, instance, chain, DAY).success
    found = plan(Graph(bench.datasets, bench.sql_tables), bench.open(), Asked(), day_of(5), lambda *_: False)
    assert {table for one in found.runs for table in one.tables} == set(chain[2:])
    assert {(one.first, one.last) for one in found.runs} == {(day_of(1), day_of(1))}
    assert run(definitions, instance, chain[2:], day_of(1)).success
    assert [row[1] for row in shown(bench)] == ["Durban", "George", "Knysna"]
