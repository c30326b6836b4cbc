"""Streams as assets and the worker: what Dagster is told of a drain, of its lag, of what is gone, and of what went wrong."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from ingestion_platform.assembly import declared_datasets
from ingestion_platform.errors import DeclarationError, SettingsError, SourceError, SourceUnavailable
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.orchestration import worker as worker_module
from ingestion_platform.orchestration.progress import DaysProgress, DrainProgress, LoadProgress
from ingestion_platform.orchestration.resource import StreamsResource, is_drained
from ingestion_platform.orchestration.streams import checks_of, drain_schedule, judge_lag, stream_asset
from ingestion_platform.orchestration.worker import run_worker
from ingestion_platform.settings import Settings
from ingestion_platform.sources.drain import LandedSegment, ShardState
from ingestion_platform.sources.reading import Arrived, Behind, Event, StreamReader, Throttled, Where
from ingestion_platform.stream import LandedName, Postgres, Span, Stream
from ingestion_platform_tests.sinks.telling import land, some_alert, until
from ingestion_platform_tests.sources.memory import MemoryStream
from ingestion_platform_tests.sources.test_drain import MORNING, declared, everything, filled

DAY = date(2024, 10, 1)
ZONE = ZoneInfo("Africa/Johannesburg")
ROOT = Path(__file__).parents[2]
KEY = dg.AssetKey(["landing", "pos"])
CHECKS = [dg.AssetCheckKey(KEY, name) for name in ("lag", "no_gaps")]
NOW = datetime.now(UTC)
TODAY = NOW.astimezone(ZONE).date()


class Lagging:
    """A stream that tells before its records how far behind they are, and how often it was asked to wait."""

    def __init__(self, memory: MemoryStream, seconds: float) -> None:
        self._memory = memory
        self._seconds = seconds

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """See `StreamReader.read`."""
        for event in self._memory.read(where, until=until, shards=shards):
            yield event
            if isinstance(event, Arrived):
                yield Behind(event.shard, 7, self._seconds)
                yield Throttled(event.shard, "too fast", 0.5)


class Deployment:
    """
    A deployment with one stream.

    Args:
        folder: of its landing zone.
        reader: of the stream.
        stream: as declared.
        streams: INGESTION_STREAMS.
    """

    def __init__(
        self, folder: Path, reader: StreamReader, *, stream: Stream | None = None, streams: str = "all"
    ) -> None:
        (folder / "landing").mkdir(exist_ok=True)
        self.stream = stream or declared()
        self.settings = Settings.model_validate(
            {"landing": str(folder / "landing"), "streams": streams, "timezone": ZONE.key}
        )
        self.resource = StreamsResource(self.settings, lambda _stream, _connections: reader)
        self.instance = dg.DagsterInstance.ephemeral()
        self.asset = stream_asset(self.stream, time_zone=ZONE.key, store="file", retries=dg.RetryPolicy(max_retries=0))

    def materialize(self, day: date = DAY, **config: object) -> dg.ExecuteInProcessResult:
        """Materialize the stream's asset, as the schedule does."""
        return dg.materialize(
            [self.asset],
            partition_key=day.isoformat(),
            instance=self.instance,
            resources={"streams": self.resource},
            run_config={"ops": {"landing__pos": {"config": config}}},
            raise_on_error=False,
        )

    def told(self) -> dict[str | None, Mapping[str, object]]:
        """The newest metadata of each partition."""
        records = self.instance.fetch_materializations(KEY, limit=100, ascending=True).records
        return {
            record.partition_key: {name: value.value for name, value in record.asset_materialization.metadata.items()}
            for record in records
            if record.asset_materialization is not None
        }

    def verdicts(self) -> dict[str, tuple[bool, str]]:
        """Check → whether it passed when it was last looked at, and its words."""
        found = {}
        for key in CHECKS:
            for record in self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1):
                assert record.event is not None
                evaluation = record.event.dagster_event.asset_check_evaluation_data  # type: ignore[union-attr]
                found[key.name] = evaluation.passed, evaluation.description or ""
        return found

    def landed(self) -> list[tuple[str, int]]:
        """Shard and position of every record in the names of the segments."""
        names = filter(None, (LandedName.parse(path.name) for path in (Path(self.settings.landing)).rglob("*")))
        spans = [(name.shard, name.span) for name in names if name.kind == "segment" and name.span]
        return sorted((shard, at) for shard, span in spans for at in range(span.first, span.last + 1))


def test_a_drain_tells_each_day_that_it_landed_something_for(tmp_path: Path) -> None:
    """Segments, records, bytes and shards of each day; the chosen day also when nothing came for it."""
    memory = filled(30, every=timedelta(hours=1))
    place = Deployment(tmp_path, memory)
    assert place.materialize(date(2024, 10, 9)).success
    told = place.told()
    assert sorted(filter(None, told)) == ["2024-10-01", "2024-10-02", "2024-10-09"]
    assert (told["2024-10-01"]["records_landed"], told["2024-10-01"]["segments"]) == (32, 32)
    assert (told["2024-10-02"]["records_landed"], told["2024-10-09"]["segments"]) == (28, 0)
    assert place.landed() == everything(memory)
    assert place.verdicts() == {
        "lag": (True, "2 shards, at most 0 s behind; 900 s allowed"),
        "no_gaps": (True, "nothing is known to be gone"),
    }


def test_lag_and_throttles_are_numbers_that_can_be_plotted_and_a_check(tmp_path: Path) -> None:
    """A drain that ends too far behind fails the check and names the shards; the run itself is good."""
    place = Deployment(tmp_path, Lagging(filled(30), 3600.0))
    assert place.materialize().success
    told = place.told()["2024-10-01"]
    assert (told["lag_seconds"], told["lag_records"]) == (3600.0, 14)
    assert (told["throttles"], told["throttled_seconds"]) == (6, 3.0)
    passed, words = place.verdicts()["lag"]
    assert not passed
    assert "0 by 3600 s" in words
    assert "make worker" in words


def test_a_gap_fails_the_run_once_and_its_check_until_it_is_filled(tmp_path: Path) -> None:
    """What came after the gap has landed. Once the records come after all, the check passes again."""
    memory = filled(10, shards=1)
    place = Deployment(tmp_path, memory)
    assert place.materialize().success
    for minute in range(10, 20):
        memory.put("0", b"later", MORNING + timedelta(minutes=minute))
    memory.forget("0", 15)
    failed = place.materialize()
    assert not failed.success
    (failure,) = [event for event in failed.all_events if event.is_step_failure]
    words = failure.step_failure_data.user_failure_data.description or ""  # type: ignore[union-attr]
    assert "shard 0" in words
    assert "older than the retention" in words
    assert place.landed() == [("0", at) for at in [*range(10), *range(15, 20)]]
    assert not place.verdicts()["no_gaps"][0]

    assert place.materialize().success, "the gap is known by now"
    assert not place.verdicts()["no_gaps"][0]
    memory.oldest.clear()
    assert place.materialize(replay=True).success
    assert place.landed() == everything(memory)
    assert place.verdicts()["no_gaps"][0]


def test_what_had_landed_when_the_source_broke_is_told(tmp_path: Path) -> None:
    """The run fails with the source's words, its landed segments are there, and the next run goes on."""
    memory = filled(30, shards=1)

    def breaks(_shard: str, position: int) -> None:
        if position == 20:
            raise SourceUnavailable("the broker is away", "look after it")

    memory.before = breaks
    place = Deployment(tmp_path, memory)
    failed = place.materialize()
    assert not failed.success
    assert place.told()["2024-10-01"]["records_landed"] == 20
    memory.before = None
    assert place.materialize().success
    assert place.told()["2024-10-01"]["records_landed"] == 10
    assert place.landed() == everything(memory)


def test_a_replay_reads_the_chosen_days_again_into_the_same_names(tmp_path: Path) -> None:
    """What is there stays there, byte for byte; what is missing comes back."""
    memory = filled(30, every=timedelta(hours=1))
    place = Deployment(tmp_path, memory)
    place.materialize()
    folder = Path(place.settings.landing)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    lost = sorted(before)[3]
    lost.unlink()
    assert place.materialize(replay=True).success
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    assert before.keys() == after.keys()
    assert {path for path in before if before[path] != after[path]} == {lost}


def test_a_stream_that_another_deployment_drains_is_only_looked_at(tmp_path: Path) -> None:
    """Nobody connects; the asset shows what has landed."""
    place = Deployment(tmp_path, filled(10), streams="")
    assert place.materialize().success
    assert place.told()["2024-10-01"]["segments"] == 0
    assert place.verdicts()["lag"] == (True, "not drained from here")


def test_the_schedule_asks_for_today_and_not_while_a_drain_is_under_way(tmp_path: Path) -> None:
    """One run at a time; the partition is the business day."""
    place = Deployment(tmp_path, filled())
    schedule = drain_schedule(place.stream, ZONE, is_running=True)
    assert schedule is not None
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING

    # As in `test_endpoints`: what definitions are loaded with would stay behind.
    with set_defs_state_storage(None), dg.instance_for_test() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2024, 10, 4, 22, 30, tzinfo=UTC),
            repository_def=dg.Definitions(
                assets=[place.asset], schedules=[schedule], resources={"streams": place.resource}
            ).get_repository_def(),
        )
        asked = schedule.evaluate_tick(context)
        assert [request.partition_key for request in asked.run_requests or ()] == ["2024-10-05"]
        instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED, tags={"ingestion/stream": "pos"})
        asked = schedule.evaluate_tick(context)
    assert not asked.run_requests
    assert "under way" in (asked.skip_message or "")


def _job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None:
        """Do nothing."""

    @dg.job
    def something() -> None:
        """Anything."""
        nothing()

    return something


def test_a_schedule_that_is_no_cron_line_is_told_with_the_stream() -> None:
    """Not with Dagster's trace."""
    with pytest.raises(DeclarationError, match="stream 'pos': drain_schedule 'now and then' is no cron line"):
        drain_schedule(declared(drain_schedule="now and then"), ZONE, is_running=False)
    assert drain_schedule(declared(drain_schedule=None), ZONE, is_running=False) is None


def test_both_checks_are_daily_ones_of_the_landing_asset() -> None:
    """As Dagster lists them."""
    assert [(spec.asset_key, spec.name) for spec in checks_of(declared(), ZONE.key)] == [
        (KEY, "lag"),
        (KEY, "no_gaps"),
    ]


# --- the worker


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker reports all the time, and doesn't wait long."""
    monkeypatch.setattr(worker_module, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(worker_module, "FIRST_WAIT_SECONDS", 0.01)


def follow(place: Deployment, *, until: int, names: Sequence[str] = ()) -> int:
    """Run the worker until so many records are told of, or half a minute is over; its exit code."""
    stop = threading.Event()

    def watch() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end and not stop.is_set() and sum(_landed(place)) < until:
            time.sleep(0.05)
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return run_worker(
            {"pos": place.stream},
            names,
            settings=place.settings,
            resource=place.resource,
            instance=place.instance,
            stop=stop,
        )
    finally:
        stop.set()
        watcher.join()


def _landed(place: Deployment) -> list[int]:
    records = place.instance.fetch_materializations(KEY, limit=100).records
    return [
        int(record.asset_materialization.metadata["records_landed"].value)  # type: ignore[arg-type]
        for record in records
        if record.asset_materialization is not None
    ]


def test_the_worker_reports_what_lands_as_it_goes(tmp_path: Path, often: None) -> None:
    """Each record is told of once, under the day of its segment; the checks are those of the asset."""
    memory = filled(30)
    place = Deployment(tmp_path, memory, stream=declared(segment_seconds=0.05))
    assert follow(place, until=60) == 0
    assert sum(_landed(place)) == 60
    assert place.landed() == everything(memory)
    assert place.verdicts()["lag"][0]


def test_the_worker_tells_alerts_and_says_so(tmp_path: Path, often: None) -> None:
    """Alerts that have landed are told to the sinks of the settings; Dagster hears whether they are."""
    place = Deployment(tmp_path, filled(3, shards=1), stream=declared(segment_seconds=0.05))
    file = tmp_path / "sinks.toml"
    file.write_text(f'[audit]\nkind = "log"\nwhere = "{tmp_path}/told.jsonl"\n')
    place.settings = place.settings.model_copy(update={"sinks": file})
    land(LocalLanding(place.settings.landing), [some_alert()])
    stop, told = threading.Event(), tmp_path / "told.jsonl"

    def watch() -> None:
        try:
            until(lambda: told.exists() and told.read_bytes().endswith(b"\n"))
        finally:
            stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    streams = {"pos": place.stream}
    assert (
        run_worker(streams, settings=place.settings, resource=place.resource, instance=place.instance, stop=stop) == 0
    )
    watcher.join()
    assert len(told.read_bytes().splitlines()) == 1
    records = place.instance.get_event_records(dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION))
    events = [record.event_log_entry.dagster_event for record in records]
    checked = {event.asset_check_evaluation_data.asset_check_key for event in events if event is not None}
    assert dg.AssetCheckKey(dg.AssetKey(["processed", "alerts"]), "alerts_are_told") in checked


def test_the_worker_begins_again_when_the_source_was_away(tmp_path: Path, often: None) -> None:
    """However often; nothing is lost and nothing doubled, and the check says why nothing comes."""
    memory = filled(30, shards=1)
    times = iter(range(3))

    def breaks(_shard: str, position: int) -> None:
        if position >= 10 and next(times, None) is not None:
            raise SourceUnavailable("the broker is away")

    memory.before = breaks
    place = Deployment(tmp_path, memory, stream=declared(segment_seconds=0.05))
    assert follow(place, until=30) == 0
    assert place.landed() == everything(memory)
    assert next(times, None) is None


def test_the_worker_gives_up_what_no_retry_helps_and_says_so(tmp_path: Path, often: None) -> None:
    """The exit code is 1, and the check tells the reason."""
    memory = filled(5, shards=1)

    def refuses(_shard: str, _position: int) -> None:
        raise SourceError("access to topic 't' is refused", "ask for it")

    memory.before = refuses
    place = Deployment(tmp_path, memory, stream=declared(max_lag_seconds=0.001))
    assert follow(place, until=1) == 1
    passed, words = place.verdicts()["lag"]
    assert not passed
    assert "access to topic 't' is refused" in words


def test_a_source_that_stays_away_fails_the_check_however_often_it_is_asked(tmp_path: Path, often: None) -> None:
    """Each new attempt knows of no shard and no lag: that is no reason to pass."""
    memory = filled(5, shards=1)

    def away(_shard: str, _position: int) -> None:
        raise SourceUnavailable("the broker is away")

    memory.before = away
    place = Deployment(tmp_path, memory, stream=declared(max_lag_seconds=0.3))
    stop = threading.Event()
    worker = threading.Thread(
        target=run_worker,
        args=({"pos": place.stream},),
        kwargs={"settings": place.settings, "resource": place.resource, "instance": place.instance, "stop": stop},
    )
    worker.start()
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and place.verdicts().get("lag", (True, ""))[0]:
            time.sleep(0.05)
        time.sleep(0.5)
        passed, words = place.verdicts()["lag"]
    finally:
        stop.set()
        worker.join()
    assert not passed
    assert "the broker is away" in words


def test_a_stream_that_was_given_up_fails_its_check(tmp_path: Path, often: None) -> None:
    """At once, whatever lag is allowed: nobody will read it."""
    memory = filled(5, shards=1)

    def refuses(_shard: str, _position: int) -> None:
        raise SourceError("access to topic 't' is refused")

    memory.before = refuses
    place = Deployment(tmp_path, memory)
    assert follow(place, until=1) == 1
    passed, words = place.verdicts()["lag"]
    assert not passed
    assert "given up" in words


def test_a_gap_of_yesterday_is_not_forgotten_by_a_worker_that_begins_today(tmp_path: Path, often: None) -> None:
    """The check fails until the records have landed after all."""
    place = Deployment(tmp_path, filled(30), stream=declared(segment_seconds=0.05))
    place.resource.landed(place.stream).put_gap(
        datetime.combine(TODAY - timedelta(days=1), datetime.min.time()), "7", Span(3, 9), "retention"
    )
    assert follow(place, until=60) == 0
    passed, words = place.verdicts()["no_gaps"]
    assert not passed
    assert "shard 7" in words


def test_a_surprise_ends_its_stream_only_after_it_was_told(tmp_path: Path, often: None) -> None:
    """What nobody foresaw is named, not retried for ever."""
    memory = filled(5, shards=1)

    def surprises(_shard: str, _position: int) -> None:
        raise ZeroDivisionError("division by zero")

    memory.before = surprises
    place = Deployment(tmp_path, memory, stream=declared(max_lag_seconds=0.001))
    assert follow(place, until=1) == 1
    assert "ZeroDivisionError: division by zero" in place.verdicts()["lag"][1]


def test_the_worker_follows_what_the_settings_or_the_command_name(tmp_path: Path) -> None:
    """Another name, or none, is told with what there is."""
    place = Deployment(tmp_path, filled(), streams="")
    with pytest.raises(SettingsError, match="there is no stream to follow"):
        run_worker({"pos": place.stream}, settings=place.settings)
    with pytest.raises(SettingsError, match="no stream is called 'clicks'") as told:
        run_worker({"pos": place.stream}, ["clicks"], settings=place.settings)
    assert "pos" in (told.value.hint or "")


def test_the_command_ends_in_order_when_it_is_told_to(tmp_path: Path) -> None:
    """SIGTERM: what is held lands, and the exit code is 0. The broker isn't there: that is told, and waited for."""
    (tmp_path / "home").mkdir()
    (tmp_path / "landing").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "ingestion_platform", "worker", *declared_datasets().streams],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path / "home"),
            "INGESTION_LANDING": str(tmp_path / "landing"), "INGESTION_STREAMS": "all",
            "INGESTION_KAFKA_SERVERS": "127.0.0.1:1", "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if "following" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, "".join(told) + rest
    assert "Traceback" not in "".join(told) + rest


def test_the_worker_goes_on_while_dagster_can_t_be_told(
    tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What couldn't be told is told with the next report; each record once."""
    memory = filled(30)
    place = Deployment(tmp_path, memory, stream=declared(segment_seconds=0.05))
    report, times = place.instance.report_runless_asset_event, iter(range(2))

    def fails(event: dg.AssetMaterialization) -> None:
        if next(times, None) is not None:
            raise OSError("database is locked")
        report(event)

    monkeypatch.setattr(place.instance, "report_runless_asset_event", fails)
    assert follow(place, until=60) == 0
    assert sum(_landed(place)) == 60
    assert "couldn't report to Dagster" in caplog.text


def test_a_day_that_was_told_is_not_told_again_when_a_later_event_fails(
    tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the next day's event fails or that of a check: only what wasn't told comes with the next report."""
    memory = filled(30, every=timedelta(hours=1))
    place = Deployment(tmp_path, memory, stream=declared(segment_seconds=0.05))
    report = place.instance.report_runless_asset_event
    days: list[str | None] = []
    failed: list[type] = []

    def fails(event: dg.AssetMaterialization | dg.AssetCheckEvaluation) -> None:
        is_day = isinstance(event, dg.AssetMaterialization)
        if days and type(event) not in failed:
            failed.append(type(event))
            raise OSError("database is locked")
        report(event)
        if is_day:
            days.append(event.partition)

    monkeypatch.setattr(place.instance, "report_runless_asset_event", fails)
    assert follow(place, until=60) == 0
    assert set(failed) == {dg.AssetMaterialization, dg.AssetCheckEvaluation}
    assert sum(_landed(place)) == 60
    assert place.verdicts()["lag"][0]


# --- progress


def test_progress_tells_rate_and_time_left() -> None:
    """Every ten seconds, not for each object."""
    said: list[str] = []
    seconds = iter([0.0, 5.0, 20.0, 21.0])
    progress = LoadProgress("raw.pos 2024-10-01", said.append, lambda: next(seconds))
    for number in (1, 2, 3):
        progress.object_read(number, 10, 1000)
    assert said == ["raw.pos 2024-10-01: 2 of 10 objects, 2,000 rows, 100 a second, 80 s to go"]


def test_progress_of_days_tells_how_many_are_left() -> None:
    """Behind the story of each day; a single day needs none."""
    seconds = iter([0.0, 10.0, 20.0, 30.0])
    progress = DaysProgress(3, lambda: next(seconds))
    assert [progress.day_done() for _ in range(3)] == [
        " (1 of 3 days, about 20 s to go)",
        " (2 of 3 days, about 10 s to go)",
        " (3 of 3 days)",
    ]
    assert DaysProgress(1, lambda: 0.0).day_done() == ""


def test_progress_of_a_replay_tells_how_much_of_its_window_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the hours that its segments have reached."""
    said: list[str] = []
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = DrainProgress(declared(), said.append)
    progress.covers(datetime(2024, 10, 1, tzinfo=UTC), datetime(2024, 10, 2, tzinfo=UTC))
    now[0] = 30.0
    progress.landed(LandedSegment("k", "0", Span(0, 9), datetime(2024, 10, 1, 6), 10, 1), ShardState())
    assert said == ["pos: 10 records landed, 0 a second, at 2024-10-01 06h, about 25 %, 90 s to go"]


CAPTURE = Postgres(database="shop", tables=("public.customers",), max_slot_bytes=1_000)


def test_a_slot_that_keeps_too_much_of_a_databases_log_fails_the_check() -> None:
    """However near the capture is: the database's disk fills up."""
    stream = declared(source=CAPTURE)
    near = judge_lag(stream, {"log": ShardState(behind_seconds=0.0, kept_bytes=1_000)})
    full = judge_lag(stream, {"log": ShardState(behind_seconds=0.0, kept_bytes=1_001)})
    assert near.passed
    assert not full.passed
    assert "keeps 1,001 bytes of its log for the capture; 1,000 allowed" in full.story
    assert full.details["kept_log_bytes"].value == 1_001


def test_a_database_that_the_settings_do_not_name_is_not_asked(tmp_path: Path) -> None:
    """Though all streams are drained from here; one that has a table there is."""
    (tmp_path / "databases.toml").write_text("[other]\nhost = 'x'\n")
    stream = declared(source=CAPTURE)
    assert not is_drained(stream, Settings.model_validate({"streams": "all"}))
    said = {"streams": "all", "databases": str(tmp_path / "databases.toml")}
    assert not is_drained(stream, Settings.model_validate(said))
    (tmp_path / "databases.toml").write_text("[shop]\nhost = 'x'\nport = 5432\n")
    settings = Settings.model_validate(said)
    assert is_drained(stream, settings)
    assert settings.database_properties() == {"shop": {"host": "x", "port": "5432"}}
    assert not is_drained(stream, Settings.model_validate(said | {"streams": "other"}))


def test_only_a_database_can_be_begun_anew(tmp_path: Path) -> None:
    """Other streams lose what they lose by themselves, and go on."""
    place = Deployment(tmp_path, filled(3))
    assert not place.materialize(anew=True).success
    assert place.landed() == []
