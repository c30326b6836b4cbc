"""Schedules: which business day they cover, and what."""

from datetime import UTC, date, datetime

import dagster as dg
import pytest

from ingestion_platform.dataset import Daily
from ingestion_platform.errors import DeclarationError
from ingestion_platform.orchestration.graph import table_of
from ingestion_platform.orchestration.runs import RANGE_END, RANGE_START
from ingestion_platform.orchestration.schedules import dataset_schedule
from ingestion_platform_tests.orchestration.world import ZONE, World, run, shops, tills, world


def tick(place: World, name: str, at: datetime) -> list[dg.RunRequest]:
    """The runs that the schedule asks for at that moment."""
    definitions = place.definitions()
    repository = definitions.get_repository_def()
    with dg.build_schedule_context(
        dg.DagsterInstance.ephemeral(), scheduled_execution_time=at, repository_def=repository
    ) as context:
        return list(repository.get_schedule_def(name).evaluate_tick(context).run_requests or ())


@pytest.mark.parametrize(
    ("local", "day"),
    [
        ((2024, 10, 11, 2), "2024-10-10"),
        ((2024, 11, 1, 2), "2024-10-31"),
        ((2024, 12, 1, 2), "2024-11-30"),
        ((2025, 1, 1, 2), "2024-12-31"),
        ((2025, 3, 1, 2), "2025-02-28"),
        ((2028, 3, 1, 2), "2028-02-29"),
    ],
)
def test_the_close_of_the_day_is_for_yesterday(local: tuple[int, int, int, int], day: str) -> None:
    """At 02:00 in business time yesterday is closed, over the ends of months and years."""
    asked = tick(world(), "close_of_the_day", datetime(*local, tzinfo=ZONE).astimezone(UTC))
    assert [one.partition_key for one in asked] == [day]


def test_the_business_day_counts_not_utc() -> None:
    """At 02:00 in Johannesburg it is midnight in Greenwich; at 00:30 in Johannesburg Greenwich is a day behind: local time decides."""
    asked = tick(world(), "close_of_the_day", datetime(2024, 10, 10, 22, 30, tzinfo=UTC))
    assert asked[0].partition_key == "2024-10-10"


def test_the_close_of_the_day_covers_everything() -> None:
    """Every table is in it, so that a missing sender is noticed although nothing has come."""
    place = world()
    asked = tick(place, "close_of_the_day", datetime(2024, 10, 11, 0, tzinfo=UTC))[0]
    assert {table_of(key) for key in asked.asset_selection or ()} == {
        "raw.shops",
        "processed.shops",
        "raw.tills",
        "processed.tills",
        "reports.by_shop",
        "reports.ever",
    }


def test_the_close_notices_who_has_not_sent() -> None:
    """Run for a day on which nothing came, it warns of everybody on the roster."""
    place = world()
    place.expected = ("A",)
    result = run(place.definitions(), dg.DagsterInstance.ephemeral(), ["raw.tills"], date(2024, 10, 10))
    failed = [one.check_name for one in result.get_asset_check_evaluations() if not one.passed]
    assert failed == ["all_senders_reported"]


def test_a_dataset_that_has_not_begun_is_left_out() -> None:
    """A dataset whose first day is still to come isn't in the close of the day before."""
    place = world(datasets=(shops(), tills(daily=Daily(date(2024, 11, 1), 3))))
    asked = tick(place, "close_of_the_day", datetime(2024, 10, 11, 0, tzinfo=UTC))[0]
    names = {table_of(key) for key in asked.asset_selection or ()}
    assert "raw.tills" not in names
    assert "raw.shops" in names
    later = tick(place, "close_of_the_day", datetime(2024, 11, 11, 0, tzinfo=UTC))[0]
    assert (later.tags[RANGE_START], later.tags[RANGE_END]) == ("2024-11-10", "2024-11-10")


def test_a_declared_schedule_covers_its_dataset() -> None:
    """A dataset's own cron line, in business time, runs its chain for yesterday."""
    place = world(datasets=(shops(), tills(schedule="30 5 * * *")))
    schedule = place.definitions().get_repository_def().get_schedule_def("tills_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 5 * * *", "Africa/Johannesburg")
    asked = tick(place, "tills_schedule", datetime(2024, 11, 1, 3, 30, tzinfo=UTC))[0]
    assert asked.partition_key == "2024-10-31"
    assert "raw.shops" not in {table_of(key) for key in asked.asset_selection or ()}


def test_a_cron_line_that_is_none_is_refused() -> None:
    """A wrong schedule fails with the dataset's name."""
    place = world(datasets=(shops(), tills(schedule="at five")))
    with pytest.raises(DeclarationError, match=r"dataset 'tills': schedule 'at five'"):
        dataset_schedule(place.datasets["tills"], place.graph, ZONE)
