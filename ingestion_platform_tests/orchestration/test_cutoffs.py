"""The sensor that has a day judged again when a cutoff has passed."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.cutoffs import LONGEST_SLEEP, has_clock, passed
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.senders import Cutoff, Sender, senders_from, senders_listed
from ingestion_platform.warehouse import SqlTables
from ingestion_platform_tests.warehouse.building import DAY, SHOPS, TILLS, Bench

SENDERS = senders_listed(
    Sender("a", time_zone="Asia/Tokyo"),
    Sender("b", time_zone="America/New_York"),
    capture="shop",
    cutoff=Cutoff(at=time(6)),
)
WAITED_FOR = replace(TILLS, senders=SENDERS)
TOKYO = datetime(2024, 10, 1, 21, tzinfo=UTC)
NEW_YORK = datetime(2024, 10, 2, 10, tzinfo=UTC)
BUSINESS = datetime(2024, 10, 2, 4, tzinfo=UTC)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Two shops, far apart."""
    return Bench(tmp_path, Datasets([SHOPS, WAITED_FOR]))


def found(bench: Bench, since: datetime, until: datetime) -> list[tuple[date, datetime]]:
    """Days of which a cutoff has passed."""
    return [(one.day, one.at) for one in passed(bench.warehouse, [bench.datasets["tills"]], since, until)]


def test_a_day_is_judged_at_each_cutoff_and_not_before(bench: Bench) -> None:
    """By the clock of whoever's turn it is; each moment once."""
    second = timedelta(seconds=1)
    assert found(bench, TOKYO - timedelta(hours=1), TOKYO - second) == []
    assert found(bench, TOKYO - second, TOKYO) == [(DAY, TOKYO)]
    assert found(bench, TOKYO, BUSINESS - second) == []
    assert found(bench, BUSINESS, NEW_YORK) == [(DAY, NEW_YORK)]
    assert found(bench, NEW_YORK, TOKYO + timedelta(days=1) - second) == []


def test_a_daemon_that_slept_catches_up_by_days(bench: Bench) -> None:
    """A day whose cutoffs have all passed meanwhile is judged once; what is long ago isn't."""
    until = NEW_YORK + timedelta(days=3)
    assert found(bench, TOKYO - timedelta(hours=1), until) == [
        (DAY + timedelta(days=number), NEW_YORK + timedelta(days=number)) for number in range(4)
    ]
    assert len(found(bench, DAY_BEFORE_ALL, NEW_YORK + timedelta(days=100))) == LONGEST_SLEEP.days + 1


DAY_BEFORE_ALL = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dataset", "has"),
    [
        (TILLS, False),
        (replace(TILLS, senders=None), False),
        (replace(TILLS, senders=senders_from("shops", "shop", cutoff=Cutoff())), True),
        (replace(TILLS, senders=senders_from("shops", "shop", time_zone="since")), True),
        (replace(TILLS, time_zone="Asia/Tokyo"), True),
        (WAITED_FOR, True),
    ],
)
def test_whoever_has_the_businesss_clock_is_judged_at_the_close(dataset: Dataset, has: bool) -> None:
    """Only cutoffs of their own need the sensor."""
    assert has_clock(dataset) is has


def test_the_sensor_asks_for_the_raw_day(bench: Bench) -> None:
    """Its first look asks for nothing; the next for each day of which a cutoff has passed, under a key of that moment."""
    moment = [TOKYO - timedelta(minutes=1)]
    bench.clock = lambda: moment[0]
    resource = WarehouseResource(bench.open, ZoneInfo("Africa/Johannesburg"))
    definitions = build_definitions(bench.settings, bench.datasets, SqlTables({}), warehouse=resource)
    sensor = definitions.resolve_sensor_def("cutoffs")

    def look(cursor: str | None) -> SensorExecutionData:
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_sensor_context(
                instance, cursor=cursor, definitions=definitions, resources={"warehouse": resource}
            ) as context,
        ):
            return sensor.evaluate_tick(context)

    first = look(None)
    assert not first.run_requests
    moment[0] = TOKYO
    second = look(first.cursor)
    assert [(one.run_key, one.partition_key) for one in second.run_requests or ()] == [
        (f"cutoff|tills|{DAY}|{TOKYO.isoformat()}", str(DAY))
    ]
    assert not look(second.cursor).run_requests
    assert not look("no cursor").run_requests
