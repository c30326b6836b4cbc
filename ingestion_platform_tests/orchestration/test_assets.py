"""Assets: one materialization a partition, ranges that keep what is done, checks that block, metadata that Dagster can plot."""

from datetime import date

import dagster as dg
import pytest

from ingestion_platform.errors import LandingUnavailable, WarehouseDamaged
from ingestion_platform.orchestration.assets import format_kind
from ingestion_platform.orchestration.graph import asset_key
from ingestion_platform.warehouse import SqlTables
from ingestion_platform_tests.orchestration.world import (
    World,
    by_shop,
    evaluations,
    materializations,
    run,
    world,
)

DAY = date(2024, 10, 10)
NEXT = date(2024, 10, 11)
LAST = date(2024, 10, 12)
CHAIN = ["raw.tills", "processed.tills", "reports.by_shop", "reports.ever"]


@pytest.fixture
def made() -> World:
    """A world with objects of three days."""
    place = world()
    place.expected = ("A", "B")
    for day in (DAY, NEXT, LAST):
        place.land("tills", day, "A", "B")
        place.land("shops", day, "shops")
    return place


@pytest.fixture
def instance() -> dg.DagsterInstance:
    """A Dagster that forgets."""
    return dg.DagsterInstance.ephemeral()


def metadata(result: dg.ExecuteInProcessResult, table: str) -> dict[str | None, dict[str, object]]:
    """What each partition of a table shows."""
    return {
        event.partition: {
            name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
        }
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == asset_key(table)
    }


def failure_of(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What a step failed with."""
    for event in result.all_events:
        if event.is_step_failure and event.step_key == step:
            data = event.step_failure_data.user_failure_data
            error = event.step_failure_data.error
            return (data.description if data is not None else None) or (error.message if error is not None else "")
    raise AssertionError(f"{step} didn't fail")


def test_one_run_goes_from_raw_to_the_reports(made: World, instance: dg.DagsterInstance) -> None:
    """A day's run loads, processes and derives, each after what it is made of, tables without days included."""
    result = run(made.definitions(), instance, CHAIN, DAY)
    assert result.success
    assert made.done == [("raw.tills", DAY), ("processed.tills", DAY), ("reports.by_shop", DAY), ("reports.ever", None)]


def test_each_partition_is_materialized_once(made: World, instance: dg.DagsterInstance) -> None:
    """Dagster is told of each partition once, in a run of one day and in a range."""
    one = run(made.definitions(), instance, CHAIN[:3], DAY)
    several = run(made.definitions(), instance, CHAIN[:3], DAY, LAST)
    for table in CHAIN[:3]:
        assert materializations(one, table) == [str(DAY)]
        assert materializations(several, table) == [str(DAY), str(NEXT), str(LAST)]


def test_the_days_that_a_state_lacks_are_computed_first(made: World, instance: dg.DagsterInstance) -> None:
    """A day that carries on what was never computed computes that too, and Dagster is told of each."""
    carried = by_shop(layer="processed", carries_on=True)
    made.sql_tables = SqlTables({carried.key: carried})
    made.missing[carried.key, LAST] = [DAY, NEXT]
    result = run(made.definitions(), instance, [carried.key], LAST)
    assert result.success
    assert made.done == [(carried.key, DAY), (carried.key, NEXT), (carried.key, LAST)]
    assert materializations(result, carried.key) == [str(DAY), str(NEXT), str(LAST)]


def test_today_is_a_partition(made: World, instance: dg.DagsterInstance) -> None:
    """What lands today can be loaded today."""
    from datetime import datetime

    today = datetime.now(made.resource.zone).date()
    made.land("tills", today, "A")
    result = run(made.definitions(), instance, CHAIN[:2], today)
    assert materializations(result, "processed.tills") == [str(today)]


def test_a_failing_day_keeps_the_others(made: World, instance: dg.DagsterInstance) -> None:
    """In a range, the days before and after a failing one are done and shown; the failure names the failing one, its reason and hint."""
    made.errors["raw.tills", NEXT] = WarehouseDamaged("a file is cut", "make rebuild")
    result = run(made.definitions(), instance, CHAIN[:2], DAY, LAST)
    assert not result.success
    assert materializations(result, "raw.tills") == [str(DAY), str(LAST)]
    assert set(evaluations(result, "raw.tills", "ledger_balance")) == {str(DAY), str(LAST)}
    told = failure_of(result, "raw__tills")
    assert "1 of 3 days failed: 2024-10-11" in told
    assert "a file is cut" in told
    assert "make rebuild" in told
    assert materializations(result, "processed.tills") == []


def test_what_is_no_platform_error_costs_the_others_nothing_either(made: World, instance: dg.DagsterInstance) -> None:
    """In a range, a surprise on one day fails that day alone, by its type and message."""
    made.errors["raw.tills", NEXT] = ZeroDivisionError("division by zero")
    result = run(made.definitions(), instance, ["raw.tills"], DAY, LAST)
    assert materializations(result, "raw.tills") == [str(DAY), str(LAST)]
    assert "ZeroDivisionError: division by zero" in failure_of(result, "raw__tills")


def test_an_error_becomes_a_failure_with_its_hint(made: World, instance: dg.DagsterInstance) -> None:
    """A platform error is shown as what and hint, not retried where that can't help."""
    made.errors["processed.tills", DAY] = WarehouseDamaged("a file is cut", "make rebuild")
    result = run(made.definitions(), instance, CHAIN[:2], DAY)
    assert failure_of(result, "processed__tills") == "processed.tills 2024-10-10: a file is cut\nHint: make rebuild"
    assert made.calls["process"] == 1


def test_an_error_that_may_pass_is_tried_again(made: World, instance: dg.DagsterInstance) -> None:
    """A retryable error is retried by the step's policy, and then fails."""
    made.errors["raw.tills", DAY] = LandingUnavailable("no answer", "")
    assert not run(made.definitions(), instance, ["raw.tills"], DAY).success
    assert made.calls["load"] == 2


def test_a_second_attempt_leaves_what_is_done(made: World, instance: dg.DagsterInstance) -> None:
    """When a range is tried again, the days that were done aren't done or shown twice."""
    made.errors["raw.tills", NEXT] = LandingUnavailable("no answer", "")
    result = run(made.definitions(), instance, ["raw.tills"], DAY, LAST)
    assert materializations(result, "raw.tills") == [str(DAY), str(LAST)]
    assert [day for _, day in made.done] == [DAY, NEXT, LAST, NEXT]


def test_a_blocking_check_of_a_first_attempt_blocks_after_the_second(made: World) -> None:
    """A blocking check that failed on a day of the first attempt isn't forgotten when the second one succeeds."""

    class Recovers(dict):  # type: ignore[type-arg]
        """Gives an error once."""

        def get(self, key: object, default: object = None) -> object:
            return self.pop(key, default)

    made.errors = Recovers({("raw.tills", NEXT): LandingUnavailable("no answer", "")})
    made.unbalanced.add(("raw.tills", DAY))
    result = run(made.definitions(), dg.DagsterInstance.ephemeral(), CHAIN[:2], DAY, LAST)
    assert materializations(result, "raw.tills") == [str(DAY), str(LAST), str(NEXT)]
    assert not result.success
    assert materializations(result, "processed.tills") == []


@pytest.mark.parametrize("last", [None, LAST])
@pytest.mark.parametrize(("table", "check"), [("raw.tills", "ledger_balance"), ("processed.tills", "row_balance")])
def test_a_blocking_check_stops_what_comes_after(
    made: World, instance: dg.DagsterInstance, table: str, check: str, last: date | None
) -> None:
    """A balance that doesn't hold fails its check on that day, and nothing made of the table runs after it."""
    made.unbalanced.add((table, DAY))
    result = run(made.definitions(), instance, CHAIN, DAY, last)
    found = evaluations(result, table, check)
    assert not found[str(DAY)].passed
    assert found[str(DAY)].blocking
    assert all(one.passed for day, one in found.items() if day != str(DAY))
    after = CHAIN[CHAIN.index(table) + 1]
    assert materializations(result, table)[0] == str(DAY)
    assert materializations(result, after) == []
    assert not result.success


def test_a_declared_blocking_check_stops_what_comes_after(made: World, instance: dg.DagsterInstance) -> None:
    """A check that is declared blocking blocks; one that is declared to warn doesn't."""
    made.failed_checks["processed.tills", DAY] = {"units_make_sense": 3}
    assert run(made.definitions(), instance, CHAIN, DAY).success
    made.failed_checks["processed.tills", DAY] = {"no_future_sales": 1}
    result = run(made.definitions(), instance, CHAIN, DAY)
    assert not result.success
    assert materializations(result, "reports.by_shop") == []


def test_a_rejected_object_is_an_error_that_blocks_nobody(made: World, instance: dg.DagsterInstance) -> None:
    """One broken file fails its check, by name and reason, and the good ones go on to the reports."""
    made.rejected.add("tills/2024/10/10/B.csv")
    result = run(made.definitions(), instance, CHAIN, DAY)
    found = evaluations(result, "raw.tills", "no_rejected_objects")[str(DAY)]
    assert result.success
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert "tills/2024/10/10/B.csv" in str(found.description)
    examples = found.metadata["examples"]
    assert isinstance(examples, dg.TableMetadataValue)
    assert examples.records[0].data["reason"] == "the last record is cut off"
    assert materializations(result, "reports.by_shop") == [str(DAY)]


def test_checks_have_a_result_for_each_partition(made: World, instance: dg.DagsterInstance) -> None:
    """A range gives each check one result a day, and no other."""
    result = run(made.definitions(), instance, CHAIN[:3], DAY, LAST)
    for table in CHAIN[:3]:
        for spec in made.definitions().resolve_asset_graph().get_check_keys_for_assets({asset_key(table)}):
            assert set(evaluations(result, table, spec.name)) == {str(DAY), str(NEXT), str(LAST)}


def test_numbers_are_numbers(made: World, instance: dg.DagsterInstance) -> None:
    """Rows, quarantined, duplicates, bytes, seconds, rows per second and missing senders are numeric, by partition."""
    made.quarantined["processed.tills", DAY] = 2
    made.expected = ("A", "B", "C")
    result = run(made.definitions(), instance, CHAIN[:3], DAY, NEXT)
    raw = metadata(result, "raw.tills")[str(DAY)]
    assert raw["rows"] == 20
    assert raw["missing_senders"] == 1
    assert raw["rows_per_second"] == 40.0
    processed = metadata(result, "processed.tills")
    assert (processed[str(DAY)]["rows"], processed[str(NEXT)]["rows"]) == (18, 20)
    assert (processed[str(DAY)]["quarantined"], processed[str(NEXT)]["quarantined"]) == (2, 0)
    names = {
        "raw.tills": {"rows", "quarantined", "bytes", "bytes_read", "seconds", "objects"},
        "processed.tills": {"rows", "quarantined", "duplicates", "bytes", "seconds", "rows_per_second"},
        "reports.by_shop": {"rows", "bytes", "seconds", "rows_per_second"},
    }
    for table, wanted in names.items():
        for shown in metadata(result, table).values():
            for name in wanted:
                assert type(shown[name]) in (int, float), f"{table} {name}"


def test_columns_preview_and_origins_are_shown(made: World, instance: dg.DagsterInstance) -> None:
    """A partition shows its columns with docs, its first rows, and where each column comes from, twice: as a table and as lineage."""
    result = run(made.definitions(), instance, CHAIN[:3], DAY)
    shown = metadata(result, "processed.tills")[str(DAY)]
    schema = shown["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert [column.description for column in schema.columns] == ["Who.", "How many."]
    lineage = shown["dagster/column_lineage"]
    assert isinstance(lineage, dg.TableColumnLineage)
    assert lineage.deps_by_column["units"] == [dg.TableColumnDep(asset_key("raw.tills"), "units")]
    assert shown["column_origins"]
    report = metadata(result, "reports.by_shop")[str(DAY)]["dagster/column_lineage"]
    assert isinstance(report, dg.TableColumnLineage)
    assert report.deps_by_column["units"] == [dg.TableColumnDep(asset_key("processed.tills"), "units")]


def test_what_strangers_sent_is_no_markup(made: World, instance: dg.DagsterInstance) -> None:
    """A preview's cells can't break the table or reach the page as HTML."""
    result = run(made.definitions(), instance, ["raw.tills"], DAY)
    shown = str(metadata(result, "raw.tills")[str(DAY)]["preview"])
    assert "<script>" not in shown
    assert shown.count("\n") == 2


def test_a_long_range_is_previewed_once(made: World, instance: dg.DagsterInstance) -> None:
    """Of 40 days, only the last shows rows and columns; all show their numbers."""
    result = run(made.definitions(), instance, ["raw.tills"], date(2024, 10, 1), date(2024, 11, 9))
    shown = metadata(result, "raw.tills")
    assert len(shown) == 40
    assert [day for day, one in shown.items() if "preview" in one] == ["2024-11-09"]
    assert all("rows" in one for one in shown.values())


def test_reload_and_force_reach_the_warehouse(made: World, instance: dg.DagsterInstance) -> None:
    """Launch configuration says whether to read again and to compute again."""
    config: dict[str, dict[str, object]] = {
        "raw__tills": {"reload": True},
        "processed__tills": {"force": True},
        "reports__by_shop": {"force": True},
    }
    run(made.definitions(), instance, CHAIN[:3], DAY, config=config)
    run(made.definitions(), instance, CHAIN[:3], DAY)
    assert made.flags == [True, True, True, False, False, False]


def test_each_step_closes_its_warehouse(made: World, instance: dg.DagsterInstance) -> None:
    """Every step closes the warehouse it opened, failing ones too."""
    made.errors["processed.tills", DAY] = WarehouseDamaged("a file is cut", "")
    run(made.definitions(), instance, CHAIN[:2], DAY)
    assert made.closed == 2


def test_processed_reads_the_raw_days_of_its_lateness(made: World) -> None:
    """A processed day depends on the raw days in which its rows may land, and on the day of the roster it refers to."""
    graph = made.definitions().resolve_asset_graph()
    mapping = graph.get_partition_mapping(asset_key("processed.tills"), asset_key("raw.tills"))
    assert isinstance(mapping, dg.TimeWindowPartitionMapping)
    assert (mapping.start_offset, mapping.end_offset) == (0, 3)
    assert graph.get(asset_key("processed.tills")).parent_keys == {asset_key("raw.tills"), asset_key("processed.shops")}


def test_a_landing_asset_is_observed_by_day(made: World, instance: dg.DagsterInstance) -> None:
    """Observing what has landed gives objects, bytes and senders of each day."""
    job = made.definitions().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(["landing", "tills"])], partition_key=str(DAY)
    )
    events = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    assert len(events) == 1
    observed = events[0].asset_observation_data.asset_observation
    assert observed.partition == str(DAY)
    assert {name: observed.metadata[name].value for name in ("objects", "bytes", "senders")} == {
        "objects": 2,
        "bytes": 200,
        "senders": 2,
    }


def test_assets_say_what_they_are(made: World) -> None:
    """Groups, kinds, owners, descriptions and freshness are there for the UI."""
    nodes = made.definitions().resolve_asset_graph()
    raw, report = nodes.get(asset_key("raw.tills")), nodes.get(asset_key("reports.by_shop"))
    assert (raw.group_name, report.group_name) == ("raw", "reports")
    assert raw.kinds == {"duckdb", "csv"}
    assert report.kinds == {"duckdb", "sql"}
    assert list(raw.owners) == ["team:retail-data"]
    assert "sum(units)" in str(report.description)
    assert raw.freshness_policy is not None
    assert format_kind(made.datasets["tills"]) == "csv"
