"""
The outbox: alerts that have landed are offered to it, and a thread for each sink tells them.

Belongs here: threads, retries, pace, and landing what was told and what couldn't be. Doesn't: which message comes next (`waiting.py`), how
one is sent (`carrier.py`), what the landing zone's notes say (`notes.py`).

It is opened without any memory: what landed in the last hours and isn't noted as told is told, and dead letters are told when their sink
takes messages again.
"""

import itertools
import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from ingestion_platform.alert import Alert
from ingestion_platform.api import Rate
from ingestion_platform.errors import IngestionError, LandingError, SinkError, SinkRefused, SinkUnavailable
from ingestion_platform.landing import LandingZone
from ingestion_platform.settings import Settings
from ingestion_platform.sinks import notes
from ingestion_platform.sinks.carrier import Carrier, open_carrier
from ingestion_platform.sinks.message import Message
from ingestion_platform.sinks.notes import DeadLetter, Landed
from ingestion_platform.sinks.sink import Sink, read_sinks
from ingestion_platform.sinks.waiting import MOST_WAITING, Batch, Item, Waiting, wait_after
from ingestion_platform.sources.pace import HeldBack, Pace

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

NOTE_SECONDS = 1.0
"""What was told is noted so often: a kill in between has it told again."""
MOST_NOTED = 5000
"""Alerts in one note."""
MOST_BURIED = 500
"""Alerts in one dead letter."""
MOST_OFFERED = 50_000
"""Alerts that a thread may not have got round to looking at."""
CLOSE_SECONDS = 5.0
LANDING_WAIT_SECONDS = 5.0
_OVERDUE_SECONDS = 1.0
_STATUS_SECONDS = 0.2
"""Counting takes as long as there are alerts that wait."""
_REFUSALS_IN_A_ROW = 20
"""A sink that refuses so many messages in a row refuses everything, and not one alert among others."""
_LOOK_MARGIN = timedelta(minutes=10)
"""By which clocks of machines that land may differ."""


@dataclass(frozen=True)
class SinkStatus:
    """
    How it stands with a sink, as its thread sees it.

    Args:
        sink: its name.
        told: alerts since the outbox was opened.
        messages: by which they were.
        waiting: alerts that are to be told yet, those in dead letters left out.
        oldest_seconds: for which the oldest of them has waited.
        dead: alerts in dead letters.
        failing_seconds: for which the sink has taken nothing; 0: it took the last message.
        last_error: what was wrong last, empty: nothing.
        seconds_left: until all that waits is told, at its pace.
        is_late: the oldest has waited for longer than alerts may.
    """

    sink: str
    told: int
    messages: int
    waiting: int
    oldest_seconds: float
    dead: int
    failing_seconds: float
    last_error: str
    seconds_left: float
    is_late: bool = False

    @property
    def is_in_order(self) -> bool:
        """Whether whoever is to be told is told."""
        return not self.dead and not self.is_late

    def __str__(self) -> str:
        parts = [f"{self.told:,} told in {self.messages:,} messages"]
        if self.waiting:
            parts.append(
                f"{self.waiting:,} waiting, the oldest for {self.oldest_seconds:.0f} s, all told in {self.seconds_left:.0f} s at its pace"
            )
        if self.dead:
            parts.append(f"{self.dead:,} in dead letters")
        if self.failing_seconds:
            parts.append(f"takes nothing for {self.failing_seconds:.0f} s")
        if self.last_error and (self.failing_seconds or not self.is_in_order):
            parts.append(self.last_error)
        return f"sink {self.sink}: {'; '.join(parts)}"


class Outbox:
    """
    Tells alerts to sinks.

    Args:
        zone: where they have landed.
        sinks: that are told.
        clock: now, UTC.
        pace_folder: where the machine's processes share each sink's pace; None: they don't.
        carriers: opens the way to a sink.
        most_waiting: alerts in memory for each sink.
    """

    def __init__(
        self,
        zone: LandingZone,
        sinks: Sequence[Sink],
        *,
        clock: Clock = lambda: datetime.now(UTC),
        pace_folder: Path | None = None,
        carriers: Callable[[Sink], Carrier] = open_carrier,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._zone = zone
        self._clock = clock
        self._stop = threading.Event()
        self._wanted = threading.Event()
        self._tellers = [
            _Teller(
                sink, carriers(sink), zone, clock, self._stop, self._wanted, pace_folder=pace_folder, most=most_waiting
            )
            for sink in sinks
        ]
        self._looker = threading.Thread(target=self._look, name="outbox-look", daemon=True)

    def offer(self, alerts: Sequence[Alert]) -> None:
        """Have alerts told that have landed. It takes microseconds, and never waits for a sink."""
        for teller in self._tellers:
            teller.offer(alerts)

    def start(self) -> None:
        """Begin to tell."""
        for teller in self._tellers:
            teller.thread.start()
        if self._tellers:
            self._looker.start()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """
        End: what is ready is told, and noted. What isn't, or takes longer, is told by the next outbox.

        Args:
            seconds: for all of it.
        """
        for teller in self._tellers:
            teller.until = time.monotonic() + seconds / 2
        self._stop.set()
        self._wanted.set()
        until = time.monotonic() + seconds
        for teller in self._tellers:
            teller.wake()
        for thread in (*(teller.thread for teller in self._tellers), self._looker):
            if thread.ident is not None:
                thread.join(max(until - time.monotonic(), 0.0))

    def status(self) -> list[SinkStatus]:
        """How it stands with each sink."""
        return [teller.status() for teller in self._tellers]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> None:
        """Look through the landing zone: when the outbox opens, and whenever a sink has room for what didn't fit."""
        failures = 0
        while not self._stop.is_set():
            self._wanted.clear()
            wanting = [teller for teller in self._tellers if teller.wants_look()]
            if not wanting:
                # Whoever closes says stop before he wakes us: one of the two is seen.
                if not self._stop.is_set():
                    self._wanted.wait()
                continue
            try:
                look_for(self._zone, wanting, self._clock())
                failures = 0
            except IngestionError as error:
                for teller in wanting:
                    teller.want_look()
                failures += 1
                wait = random.uniform(0.5, 1.0) * wait_after(failures)
                log.error("alerts that haven't been told can't be looked for: %s; again in %.0f s", error, wait)
                self._stop.wait(wait)


def open_outbox(settings: Settings, zone: LandingZone, clock: Clock = lambda: datetime.now(UTC)) -> Outbox:
    """
    The outbox that the settings name; without sinks in them it tells nobody. It is to be started.

    Args:
        settings: of the deployment.
        zone: where alerts land.
        clock: now, UTC.

    Raises:
        SettingsError: what is said of a sink can't be used.
    """
    return Outbox(zone, read_sinks(settings.sink_tables()), clock=clock, pace_folder=settings.warehouse_folder / "pace")


def look_for(zone: LandingZone, tellers: "Sequence[_Teller]", now: datetime) -> None:
    """
    Hand tellers what has landed and isn't noted as told, and the dead letters of their sinks.

    Args:
        zone: the landing zone.
        tellers: that want to know.
        now: the moment, UTC.
    """
    letters = {teller.sink.name: notes.open_letters(zone, teller.sink.name) for teller in tellers}
    since = {}
    for teller in tellers:
        began = now - timedelta(hours=teller.sink.look_back_hours)
        # What became of an alert in a dead letter may have landed soon after it was raised.
        raised = [alert.raised_at for letter in letters[teller.sink.name] for alert in letter.alerts]
        since[teller.sink.name] = min(began, *(moment - _LOOK_MARGIN for moment in raised)) if raised else began
    landed = notes.landed_since(zone, min(since.values()))
    for teller in tellers:
        name = teller.sink.name
        noted = notes.noted_since(zone, name, since[name]).both
        recent = now - timedelta(hours=teller.sink.look_back_hours)
        changes: dict[str, dict[int, Landed]] = defaultdict(dict)
        wanted: dict[str, None] = {}
        for letter in letters[name]:
            for alert in letter.alerts:
                id_ = alert.id
                wanted[id_] = None
                changes[id_].setdefault(alert.ordinal, Landed(alert, letter.at))
        for one in landed:
            if teller.sink.takes(one.alert) and one.at >= since[name]:
                id_ = one.alert.id
                changes[id_][one.alert.ordinal] = one
                if one.at >= recent:
                    wanted[id_] = None
        teller.looked(noted, letters[name], [[one for _, one in sorted(changes[id_].items())] for id_ in wanted])


class _NotYet(Exception):
    """It isn't one's turn for so many *seconds*."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(seconds)


def _not_yet(seconds: float) -> NoReturn:
    raise _NotYet(seconds)


class _Teller:
    """
    Tells one sink, in a thread of its own.

    Args:
        sink: which.
        carrier: the way to it.
        zone: where alerts have landed.
        clock: now, UTC.
        stop: set when it is to end.
        wanted: set when it wants the landing zone to be looked through.
        pace_folder: where processes share the sink's pace.
        most: alerts in memory.
    """

    def __init__(
        self,
        sink: Sink,
        carrier: Carrier,
        zone: LandingZone,
        clock: Clock,
        stop: threading.Event,
        wanted: threading.Event,
        *,
        pace_folder: Path | None,
        most: int,
    ) -> None:
        self.sink = sink
        self.until = 0.0
        self.thread = threading.Thread(target=self._run, name=f"tell-{sink.name}", daemon=True)
        self._carrier = carrier
        self._zone = zone
        self._clock = clock
        self._stop = stop
        self._wanted = wanted
        self._most = most
        file = pace_folder / f"sink-{sink.name}.pace" if pace_folder is not None else None
        self._pace = Pace(Rate(sink.messages_per_minute, 60.0), file, sleep=_not_yet)
        self._waiting = Waiting(sink, most=most)
        self._wake = threading.Condition()
        self._offered: list[Sequence[Alert]] = []
        self._offered_count = 0
        self._opened_at = clock()
        self._looks: list[tuple[Mapping[str, int], Sequence[DeadLetter], Sequence[Sequence[Landed]]]] = []
        self._has_looked = False
        self._is_short = True
        self._kept_back: list[Alert] = []
        self._letters: dict[str, set[str]] = {}
        self._settled: dict[str, str] = {}
        self._unnoted: dict[str, int] = {}
        self._unnoted_since = 0.0
        self._land_again_at = 0.0
        self._next_try = 0.0
        self._failures = 0
        self._refusals = 0
        self._failing_since: float | None = None
        self._overdue_at = 0.0
        self._told = 0
        self._messages = 0
        self._status_at = 0.0
        self._last_error = ""
        self._status = SinkStatus(sink.name, 0, 0, 0, 0.0, 0, 0.0, "", 0.0)

    # --- asked by others

    def offer(self, alerts: Sequence[Alert]) -> None:
        """Take alerts in; what is too much is read from the landing zone later."""
        with self._wake:
            if self._offered_count + len(alerts) > MOST_OFFERED:
                self._is_short = True
            else:
                self._offered.append(alerts)
                self._offered_count += len(alerts)
            self._wake.notify()

    def looked(
        self, noted: Mapping[str, int], letters: Sequence[DeadLetter], alerts: Sequence[Sequence[Landed]]
    ) -> None:
        """
        Take in what the landing zone knows.

        Args:
            noted: id → the last ordinal of which nothing is to be done any more.
            letters: open ones.
            alerts: of each alert its changes, ascending.
        """
        with self._wake:
            self._looks.append((noted, letters, alerts))
            self._wake.notify()

    def wants_look(self) -> bool:
        """Whether the landing zone is to be looked through; it is asked once for each look."""
        with self._wake:
            wants = (
                self._is_short and (not self._has_looked or len(self._waiting) <= self._most // 2) and not self._looks
            )
            if wants:
                self._is_short = False
            return wants

    def want_look(self) -> None:
        """Have the landing zone looked through (again)."""
        with self._wake:
            self._is_short = True

    def wake(self) -> None:
        """Have it see that it is to end."""
        with self._wake:
            self._wake.notify()

    def status(self) -> SinkStatus:
        """How it stands."""
        return self._status

    # --- the thread

    def _run(self) -> None:
        while True:
            try:
                wait = self._step()
            except Exception as error:
                # What nobody foresaw mustn't end the telling: the next step begins again, and until one succeeds the check fails.
                log.exception("sink %s: telling failed, and begins again", self.sink.name)
                self._last_error = f"telling failed by a fault of the platform: {type(error).__name__}: {error}"
                self._status = replace(self._status, is_late=True, last_error=self._last_error)
                wait = LANDING_WAIT_SECONDS
            if self._stop.is_set() and (wait > 0 or self._is_over()):
                break
            with self._wake:
                if not self._offered and not self._looks and not self._stop.is_set():
                    self._wake.wait(wait)
        self._land(is_last=True)
        self._carrier.close()

    def _step(self) -> float:
        """Do what is due; seconds until something may be."""
        self._take_in()
        now = time.monotonic()
        self._bury_overdue(now)
        wait = self._send(now) if not self._is_over() else NOTE_SECONDS
        self._land()
        if wait > 0 or now - self._status_at >= _STATUS_SECONDS:
            self._tell_status()
        return wait

    def _is_over(self) -> bool:
        """Whether the outbox has been closed, and the time is over that there was for what is ready."""
        return self._stop.is_set() and time.monotonic() >= self.until

    def _take_in(self) -> None:
        with self._wake:
            offered, self._offered, self._offered_count = self._offered, [], 0
            looks, self._looks = self._looks, []
        now = time.monotonic()
        for noted, letters, alerts in looks:
            self._take_look(noted, letters, alerts, now)
            self._has_looked = True
            kept, self._kept_back = self._kept_back, []
            offered.append(kept)
        for some in offered:
            for alert in some:
                if alert.ordinal and not self._has_looked and not self._waiting.knows(alert):
                    # Whether its raising was told, the notes know.
                    self._kept_back.append(alert)
                else:
                    self._waiting.offer(alert, now)
        if self._waiting.is_short:
            with self._wake:
                self._is_short = True
        if self._is_short and len(self._waiting) <= self._most // 2:
            self._wanted.set()
        self._take_settled()

    def _take_look(
        self,
        noted: Mapping[str, int],
        letters: Sequence[DeadLetter],
        alerts: Sequence[Sequence[Landed]],
        now: float,
    ) -> None:
        self._waiting.is_short = False
        self._waiting.know(noted)
        last = {changes[-1].alert.id: changes[-1].alert.ordinal for changes in alerts}
        dead: dict[str, str] = {}
        for letter in letters:
            ids = {alert.id: alert.ordinal for alert in letter.alerts}
            self._letters.setdefault(letter.key, set()).update(ids)
            for alert in letter.alerts:
                reference = f"{alert.id}.{alert.ordinal}"
                if ids[alert.id] < last[alert.id] or ids[alert.id] <= noted.get(alert.id, -1):
                    self._settle(letter.key, alert.id, "told, or another change came after it")
                elif letter.is_refused:
                    self._waiting.hold_dead(alert, letter.key)
                else:
                    dead[reference] = letter.key
        for changes in alerts:
            id_ = changes[-1].alert.id
            # What landed before this outbox was there may have been told by one that was killed before it could note it.
            is_doubtful = changes[-1].at < self._opened_at
            for one in changes[-1:] if is_doubtful else changes:
                ordinal = one.alert.ordinal
                if ordinal > noted.get(id_, -1):
                    letter_key = dead.get(f"{id_}.{ordinal}", "")
                    self._waiting.offer(one.alert, now, letter=letter_key, is_doubtful=is_doubtful)

    def _take_settled(self) -> None:
        """Dead letters of which nothing is to be told any more."""
        for item in self._waiting.settled:
            self._settle(item.letter, item.id, "withdrawn, or told by somebody else")
        self._waiting.settled.clear()

    def _settle(self, letter: str, id_: str, why: str) -> None:
        left = self._letters.get(letter)
        if left is None:
            return
        left.discard(id_)
        if not left:
            del self._letters[letter]
            self._settled[letter] = why

    def _send(self, now: float) -> float:
        """Send the next message, if there is one and it is our turn; seconds until there may be another."""
        next_at = self._waiting.next_at()
        if next_at is None:
            return NOTE_SECONDS
        due = max(next_at, self._next_try)
        if due > now:
            return min(due - now, NOTE_SECONDS)
        try:
            self._pace.wait(0.0)
        except _NotYet as turn:
            return min(turn.seconds, NOTE_SECONDS)
        except HeldBack as held:
            return min(held.seconds, NOTE_SECONDS)
        batch = self._waiting.take(now)
        if batch is None:
            return 0.0
        message = Message(batch.alerts, self.sink.shown)
        try:
            if batch.is_dead and all(notes.is_settled(self._zone, key) for key in {one.letter for one in batch.items}):
                # Somebody else has told it meanwhile, or a person has dropped it.
                self._note(batch)
                return 0.0
            self._carrier.send(message)
        except SinkRefused as error:
            self._refused(batch, error)
        except SinkUnavailable as error:
            self._unavailable(batch, error)
        except SinkError as error:
            self._refused(batch, error)
        except LandingError as error:
            self._waiting.postponed(batch, now, LANDING_WAIT_SECONDS)
            self._complain(str(error))
        except Exception as error:
            log.exception("sink %s: a message couldn't be sent", self.sink.name)
            self._unavailable(batch, SinkUnavailable(type(error).__name__, may_be_taken=True))
        else:
            self._was_told(batch)
        self._take_settled()
        return 0.0

    def _was_told(self, batch: Batch) -> None:
        if self._failing_since is not None:
            log.warning(
                "sink %s takes messages again, after %.0f s", self.sink.name, time.monotonic() - self._failing_since
            )
            if self._failures > 2:
                self._waiting.hurry(time.monotonic())
        self._failing_since, self._failures, self._refusals, self._next_try = None, 0, 0, 0.0
        self._messages += 1
        self._told += len(batch.items)
        self._note(batch)

    def _note(self, batch: Batch) -> None:
        self._waiting.told(batch)
        if not self._unnoted:
            self._unnoted_since = time.monotonic()
        for item in batch.items:
            self._unnoted[item.id] = max(item.alert.ordinal, self._unnoted.get(item.id, 0))
            if item.letter:
                self._settle(item.letter, item.id, "told")

    def _unavailable(self, batch: Batch, error: SinkUnavailable) -> None:
        now = time.monotonic()
        self._failures += 1
        self._failing_since = now if self._failing_since is None else self._failing_since
        self._waiting.failed(batch, now, may_be_taken=error.may_be_taken)
        wait = wait_after(self._failures) * random.uniform(0.5, 1.0)
        if error.again_seconds is not None:
            wait = max(wait, min(error.again_seconds, 3600.0)) if error.again_seconds > 0 else wait
            self._pace.hold(error.again_seconds)
        self._next_try = now + wait
        if self._last_error != str(error) or self._failures in (1, 10):
            log.warning("%s; tried again in %.1f s", error, wait)
        self._last_error = str(error)

    def _refused(self, batch: Batch, error: SinkError) -> None:
        self._refusals += 1
        self._last_error = str(error)
        now = time.monotonic()
        if len(batch.items) > 1 and self._refusals <= _REFUSALS_IN_A_ROW and batch.items[0].halvings < 40:
            self._waiting.halved(batch, now)
            return
        try:
            self._bury(batch.items, str(error), is_refused=True)
        except LandingError as landing:
            self._waiting.postponed(batch, now, LANDING_WAIT_SECONDS)
            self._complain(str(landing))
            return
        self._waiting.given_up(batch)
        for item in batch.items:
            self._waiting.hold_dead(item.alert, item.letter)

    def _bury_overdue(self, now: float) -> None:
        if now < self._overdue_at:
            return
        self._overdue_at = now + min(_OVERDUE_SECONDS, self.sink.patience_seconds / 4)
        items = self._waiting.overdue(now, self._failing_since)
        for begin in range(0, len(items), MOST_BURIED):
            some = items[begin : begin + MOST_BURIED]
            try:
                letter = self._bury(some, self._last_error or "it took nothing", is_refused=False)
            except LandingError as error:
                self._overdue_at = now + LANDING_WAIT_SECONDS
                self._complain(f"alerts can't be made dead letters: {error}")
                return
            self._waiting.buried(some, letter, now)

    def _bury(self, items: Sequence[Item], reason: str, *, is_refused: bool) -> str:
        """Land alerts as a dead letter, and say so."""
        letter = notes.bury(
            self._zone, self.sink.name, [item.alert for item in items], reason, self._clock(), is_refused=is_refused
        )
        for item in items:
            # One that was in another letter, and is refused now, is in this one.
            self._settle(item.letter, item.id, "refused, and in another dead letter")
            if is_refused:
                item.letter = letter
        self._letters[letter] = {item.id for item in items}
        log.error(
            "sink %s: %s alerts are dead letters now (%s); %s, %s",
            self.sink.name,
            f"{len(items):,}",
            letter,
            "it refuses them" if is_refused else f"it took nothing for {self.sink.patience_seconds:.0f} s",
            reason,
        )
        return letter

    def _land(self, *, is_last: bool = False) -> None:
        """Note what was told, and which dead letters are settled, when that is due."""
        now = time.monotonic()
        needless = self._waiting.needless
        if not (self._unnoted or self._settled or needless):
            return
        count = len(self._unnoted) + len(needless)
        is_due = now - self._unnoted_since >= NOTE_SECONDS or count >= MOST_NOTED
        if not is_last and (not is_due or now < self._land_again_at):
            return
        try:
            while self._unnoted or needless:
                told = dict(itertools.islice(self._unnoted.items(), MOST_NOTED))
                others = dict(itertools.islice(needless.items(), MOST_NOTED - len(told)))
                notes.note_told(self._zone, self.sink.name, told, self._clock(), others)
                for some, all_ in ((told, self._unnoted), (others, needless)):
                    for id_ in some:
                        del all_[id_]
            for letter, why in list(self._settled.items()):
                notes.settle(self._zone, letter, self._clock(), why)
                del self._settled[letter]
        except LandingError as error:
            self._land_again_at = now + LANDING_WAIT_SECONDS
            self._complain(f"what was told can't be noted, and may be told again: {error}")
        else:
            self._unnoted_since = now

    def _complain(self, what: str) -> None:
        self._last_error = what
        log.error("sink %s: %s", self.sink.name, what)

    def _tell_status(self) -> None:
        now = self._status_at = time.monotonic()
        waiting, dead_waiting, oldest = self._waiting.counts()
        dead = sum(map(len, self._letters.values()))
        oldest_seconds = now - oldest if oldest is not None else 0.0
        self._status = SinkStatus(
            sink=self.sink.name,
            told=self._told,
            messages=self._messages,
            waiting=waiting - dead_waiting,
            oldest_seconds=oldest_seconds,
            dead=dead,
            failing_seconds=now - self._failing_since if self._failing_since is not None else 0.0,
            last_error=self._last_error,
            seconds_left=self._waiting.messages() * 60.0 / self.sink.messages_per_minute,
            is_late=oldest_seconds > self.sink.unsent_minutes * 60,
        )
