"""
Dagster over a deployment, in this process: runs, and sensors with their cursors.

Belongs here: asking Dagster. Doesn't: its command line (`test_dagster_cli.py`).
"""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from ingestion_platform.assembly import declared_datasets, declared_sql_tables
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.graph import asset_key, table_of
from ingestion_platform.orchestration.partitions import days_between
from ingestion_platform.orchestration.runs import CAUSE, RANGE_END, RANGE_START
from ingestion_platform_tests.end_to_end.places import Place

Work = set[tuple[str, date]]
"""Tables and days."""


class Orchestra:
    """
    Dagster over a deployment.

    Args:
        place: the deployment.
        instance: keeps runs and events.
    """

    def __init__(self, place: Place, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        settings = place.settings
        self.definitions = build_definitions(settings, declared_datasets(), declared_sql_tables(settings.timezone))
        self._cursors: dict[str, str | None] = {}
        self._keys: set[str | None] = set()

    def run(self, tables: Sequence[str], first: date, last: date, **tags: str) -> dg.ExecuteInProcessResult:
        """Materialize *tables* from *first* to *last* in one run, as a backfill with a single-run policy does."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=[asset_key(table) for table in tables],
            tags={RANGE_START: str(first), RANGE_END: str(last), **tags},
            raise_on_error=False,
        )

    def begin_and_die(self, tables: Sequence[str], day: date) -> str:
        """What Dagster keeps of a run whose process was killed in the middle of it; the answer is its id."""
        run = self.instance.create_run_for_job(
            self.definitions.resolve_implicit_global_asset_job_def(),
            asset_selection=frozenset(asset_key(table) for table in tables),
            tags={RANGE_START: str(day), RANGE_END: str(day)},
        )
        for kind in (dg.DagsterEventType.RUN_STARTING, dg.DagsterEventType.RUN_START):
            self.instance.report_dagster_event(dg.DagsterEvent(kind.value, run.job_name), run.run_id)
        return run.run_id

    def tick(self, name: str) -> list[dg.RunRequest]:
        """The runs that a sensor asks for now; those it has asked for before left out, as Dagster does."""
        sensor = self.definitions.get_repository_def().get_sensor_def(name)
        with dg.build_sensor_context(
            self.instance,
            cursor=self._cursors.get(name),
            definitions=self.definitions,
            resources={"warehouse": (self.definitions.resources or {})["warehouse"]},
        ) as context:
            found = sensor.evaluate_tick(context)
        self._cursors[name] = found.cursor
        fresh = [one for one in found.run_requests or () if one.run_key not in self._keys]
        self._keys |= {one.run_key for one in fresh}
        return fresh

    def do(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What Dagster does when it is asked for a run."""
        days = sorted(day for _, day in work_of([request]))
        return self.run(
            [table_of(key) for key in request.asset_selection or ()], days[0], days[-1], **{CAUSE: request.tags[CAUSE]}
        )

    def settle(self, name: str) -> Work:
        """Let a sensor ask until it is content, and do what it asks for; the answer is what that was."""
        done: Work = set()
        while asked := self.tick(name):
            for request in asked:
                assert self.do(request).success
            done |= work_of(asked)
        return done


def work_of(requests: Sequence[dg.RunRequest]) -> Work:
    """Tables and days that runs cover."""
    found: Work = set()
    for one in requests:
        first, last = one.tags.get(RANGE_START, one.partition_key), one.tags.get(RANGE_END, one.partition_key)
        assert first is not None
        assert last is not None
        days = days_between(date.fromisoformat(first), date.fromisoformat(last))
        found |= {(table_of(key), day) for key in one.asset_selection or () for day in days}
    return found
