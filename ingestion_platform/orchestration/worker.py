"""
The worker: follows streams without end, and reports what lands to Dagster as it goes, so that the UI shows the same as of a drain by
schedule.

Belongs here: starting a stream again when its source was away, ending in order, and reporting. Doesn't: draining (`sources/drain.py`),
what is
reported of it (`streams.py`).

It may be killed at any moment, and run beside schedules and other workers: see `sources/drain.py`. Rules that act on the running stream are
`Watcher`s, given to it.
"""

import logging
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias

import dagster as dg

from ingestion_platform.alert import Alert
from ingestion_platform.errors import IngestionError, LandingError, SettingsError
from ingestion_platform.landing import open_landing
from ingestion_platform.live.worker import LiveWorker
from ingestion_platform.orchestration import streams
from ingestion_platform.orchestration.checks import Verdict, evaluation
from ingestion_platform.orchestration.graph import stream_key, table_of
from ingestion_platform.orchestration.quiet import quieten
from ingestion_platform.orchestration.resource import StreamsResource, is_drained
from ingestion_platform.orchestration.telling import Telling
from ingestion_platform.settings import Settings
from ingestion_platform.sinks import Outbox, open_outbox
from ingestion_platform.sources.drain import Drain, LandedSegment, ShardState, Watcher
from ingestion_platform.sources.landed import FILLED_WITHIN_DAYS
from ingestion_platform.stream import Span, Stream

log = logging.getLogger(__name__)

REPORT_SECONDS = 30.0
"""Dagster's event log takes about ten milliseconds an event: one report of a stream and day, not one of every segment."""
QUIET_SECONDS = 180.0
"""A source that is read for so long without an error is there, also when nothing has come of it."""
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0


@dataclass
class _Pending:
    """What has landed since the last report."""

    segments: dict[date, list[LandedSegment]] = field(default_factory=lambda: defaultdict(list))


class Following:
    """
    Follows one stream in a thread of its own.

    Args:
        stream: which.
        resource: opens it.
        instance: of Dagster, that is told.
        watchers: look at what arrives.
        stop: set when the worker is to end.
    """

    def __init__(
        self,
        stream: Stream,
        resource: StreamsResource,
        instance: dg.DagsterInstance,
        watchers: Sequence[Watcher],
        stop: threading.Event,
    ) -> None:
        self.stream = stream
        self.error: Exception | None = None
        self._resource = resource
        self._instance = instance
        self._watchers = watchers
        self._stop = stop
        self._lock = threading.Lock()
        self._pending = _Pending()
        self._reported = time.monotonic()
        self._was_well = time.monotonic()
        self._told_gaps: set[tuple[str, Span]] = set()
        self._has_reported = False
        self._began = time.monotonic()
        self._problem = ""
        self._drain: Drain | None = None

    def run(self) -> None:
        """Follow until told to stop; begin again whenever that can help."""
        waits = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._began = time.monotonic()
                self._drain = Drain(
                    self._resource.landed(self.stream),
                    self._resource.reader(self.stream),
                    watchers=self._watchers,
                    on_landed=self._landed,
                )
                log.info("%s: following", self.stream.name)
                self._drain.follow(self._stop)
            except IngestionError as error:
                self._problem = str(error)
                # A full disk or a bucket that is closed is mended by somebody while the worker waits; a wrong topic by another deployment.
                if not error.can_retry and not isinstance(error, LandingError):
                    self.error = error
                    log.error("%s: given up: %s", self.stream.name, error)
                    self.report()
                    return
                self.report()
                waits = 0 if time.monotonic() - began > LONGEST_WAIT_SECONDS else waits + 1
                bound = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0**waits)
                wait = random.uniform(bound / 2, bound)
                log.warning("%s: %s; again in %.0f s", self.stream.name, error, wait)
                self._stop.wait(wait)
            except Exception as error:
                # What nobody foresaw comes again however often it is tried: this stream ends, loudly, and the others go on.
                self.error = error
                self._problem = f"{type(error).__name__}: {error}"
                log.exception("%s: given up", self.stream.name)
                self.report()
                return
        self.report()

    def _landed(self, segment: LandedSegment, _state: ShardState) -> None:
        with self._lock:
            self._pending.segments[segment.hour.date()].append(segment)

    def _known_gaps(self) -> list[tuple[str, Span, str]]:
        """What is noted as gone of the last days, and hasn't landed since."""
        landed, today = self._resource.landed(self.stream), self._resource.today()
        days = (today - timedelta(days=number) for number in range(FILLED_WITHIN_DAYS))
        return [gap for day in days if day >= self.stream.first_day for gap in landed.gaps(day)]

    def report_when_due(self) -> None:
        """Report when enough time has gone by."""
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self.report()

    def report(self) -> None:
        """Tell Dagster what has landed since the last report, each day once; the lag or why nothing is read; and what is gone."""
        with self._lock:
            pending, self._pending = self._pending, _Pending()
            seconds, self._reported = time.monotonic() - self._reported, time.monotonic()
        try:
            self._report(pending, seconds)
        except Exception:
            # Landing goes on without Dagster. What couldn't be told now is told with the next report.
            log.exception("%s: couldn't report to Dagster; tried again in %.0f s", self.stream.name, REPORT_SECONDS)
            with self._lock:
                for day, segments in pending.segments.items():
                    self._pending.segments[day][:0] = segments

    def _report(self, pending: _Pending, seconds: float) -> None:
        """Report; what is then still in *pending* wasn't told."""
        shards: Mapping[str, ShardState] = self._drain.states() if self._drain is not None else {}
        has_answered = any(state.records or state.is_caught_up or state.has_ended for state in shards.values())
        # A worker of a group may have no partition; a reader gives a source that doesn't answer up sooner than that.
        if self.error is None and (has_answered or time.monotonic() - self._began > QUIET_SECONDS):
            self._problem = ""
            self._was_well = time.monotonic()
        landed = 0
        for day, segments in sorted(pending.segments.items()):
            numbers = streams.of_drain(shards, segments, seconds)
            self._instance.report_runless_asset_event(streams.materialization(self.stream, day, numbers))
            # Told: an event that fails after it mustn't bring it back.
            del pending.segments[day]
            landed += sum(segment.records for segment in segments)
        lag = streams.judge_lag(self.stream, shards)
        gaps = [
            (shard, span, why)
            for shard, state in shards.items()
            for span, why in state.gaps
            if (shard, span) not in self._told_gaps
        ]
        away = time.monotonic() - self._was_well
        if self.error is not None:
            lag = Verdict(streams.LAG, False, f"given up, not read for {away:.0f} s: {self._problem}", lag.details)
        elif self._problem or (not shards and away > REPORT_SECONDS):
            why = self._problem or "nothing has been heard of it yet"
            lag = Verdict(
                streams.LAG, away <= self.stream.max_lag_seconds, f"not read for {away:.0f} s: {why}", lag.details
            )
        # Of no partition: Dagster takes one verdict of a partition and a run, and these belong to no run.
        table = table_of(stream_key(self.stream))
        self._instance.report_runless_asset_event(evaluation(table, None, lag))
        if gaps or not self._has_reported:
            verdict = streams.judge_gaps([*gaps, *self._known_gaps()])
            self._instance.report_runless_asset_event(evaluation(table, None, verdict))
        self._has_reported = True
        self._told_gaps |= {(shard, span) for shard, span, _ in gaps}
        landed = sum(segment.records for segments in pending.segments.values() for segment in segments)
        log.info("%s: %s records landed in %.0f s; %s", self.stream.name, f"{landed:,}", seconds, lag.story)


OpenLive: TypeAlias = Callable[[Sequence[Stream], Settings, Callable[[Sequence[Alert]], None]], LiveWorker]
"""Makes the live rules of streams, by the settings; alerts that have landed are given to the last."""


def run_worker(
    declared: Mapping[str, Stream],
    names: Sequence[str] = (),
    *,
    settings: Settings | None = None,
    resource: StreamsResource | None = None,
    instance: dg.DagsterInstance | None = None,
    watchers: Sequence[Watcher] = (),
    outbox: Outbox | None = None,
    live: OpenLive | None = None,
    stop: threading.Event | None = None,
) -> int:
    """
    Follow streams until the process is told to end (SIGTERM, SIGINT), then land what is held.

    Args:
        declared: every stream by name.
        names: of streams to follow; default: those that the settings say are drained from here.
        settings: default: those of the environment.
        resource: default: what the settings name.
        instance: of Dagster; default: the one of DAGSTER_HOME.
        watchers: look at what arrives, beside the live rules.
        outbox: tells the alerts that these raise; default: the one that the settings name.
        live: makes the live rules of the streams that are followed; None: none are judged.
        stop: ends the worker when set, as the signals do.

    Returns:
        0 when it was told to end, 1 when a stream had to be given up.

    Raises:
        SettingsError: there is no such stream, or none to follow.
    """
    quieten()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Dagster opens its database again and again, and each time that is told.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = settings or Settings.load()
    unknown = sorted(set(names) - set(declared))
    if unknown:
        raise SettingsError(f"no stream is called {unknown[0]!r}", f"streams: {', '.join(sorted(declared)) or 'none'}")
    chosen = [
        stream for name, stream in declared.items() if name in names or (not names and is_drained(stream, settings))
    ]
    if not chosen:
        raise SettingsError(
            "there is no stream to follow", f"set INGESTION_STREAMS to some of {', '.join(sorted(declared))}, or to all"
        )
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    instance = instance or dg.DagsterInstance.get()
    resource = resource or StreamsResource(settings)
    outbox = outbox or open_outbox(settings, open_landing(*settings.landing_places))
    judged = live(chosen, settings, outbox.offer) if live is not None else None
    if judged is not None:
        watchers = (*watchers, judged.rules)
    following = [Following(stream, resource, instance, watchers, stop) for stream in chosen]
    threads = [threading.Thread(target=one.run, name=f"follow-{one.stream.name}") for one in following]
    log.info(
        "worker: %s; began %s", ", ".join(stream.name for stream in chosen), datetime.now(UTC).isoformat("T", "seconds")
    )
    telling = Telling(outbox, instance)
    with outbox:
        if judged is not None:
            judged.start()
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for one, thread in zip(following, threads, strict=True):
                # One that was given up is told of again and again, for as long as the others go on.
                if not stop.is_set():
                    one.report_when_due()
                thread.join(0.5)
            if not stop.is_set():
                telling.report_when_due()
            if judged is not None:
                judged.tell_when_due()
        if judged is not None:
            # What it lands last is told, too.
            judged.close()
    telling.report()
    return 1 if any(one.error is not None for one in following) else 0
