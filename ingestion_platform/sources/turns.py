"""
A few threads that take turns over many shards, and the one queue that they fill: so a thousand shards cost no more than ten.

Belongs here: who is next, handing events over, ending. Doesn't: what is done in a turn (`kinesis.py`, `dynamodb_streams.py`).
"""

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count

from ingestion_platform.sources.reading import Event, Idle

_IDLE_SECONDS = 0.5


class Stopped(Exception):
    """Nobody takes what is read any more: whoever is at work ends."""


@dataclass(eq=False)
class Turn:
    """
    Somebody who takes turns: one request each, so that nobody holds a thread while he waits.

    Args:
        take: takes one. Gives the moment of the next one, by `time.monotonic`; None when none is wanted. It may raise what whoever reads is
            to know.
    """

    take: Callable[[], float | None]
    due: float = 0.0
    number: int = -1
    is_taken: bool = False


class Turns:
    """
    Threads for one reading; they are started when there is work for them, and end with `events`.

    Args:
        name: of the threads, which are numbered.
        threads: at most; None: one for each who takes turns.
        held_bytes: what is handed over and not taken yet; a single event may be larger.
    """

    def __init__(self, name: str, *, threads: int | None, held_bytes: int) -> None:
        self._name = name
        self._most_threads = threads
        self._held_bytes = held_bytes
        self._lock = threading.Lock()
        self._has_turn = threading.Condition(self._lock)
        self._has_event = threading.Condition(self._lock)
        self._has_room = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._due: list[tuple[float, int, Turn]] = []
        self._numbers = count()
        self._waiting: set[Turn] = set()
        self._taken = 0
        self._queue: deque[tuple[Event | BaseException, int]] = deque()
        self._queued_bytes = 0
        self._is_done = False
        self._is_stopped = False

    # --- the one who reads

    def events(self) -> Generator[Event, None, None]:
        """
        Everything that is told in turns, until nobody wants one; `Idle` where nothing comes.

        Raises:
            Exception: what a turn raised, after what had been told before.
        """
        try:
            while (found := self._next()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            with self._lock:
                self._is_stopped = True
                self._queue.clear()
                for condition in (self._has_turn, self._has_room):
                    condition.notify_all()
            for thread in self._threads:
                thread.join()

    def _next(self) -> Event | BaseException | None:
        with self._lock:
            if not self._has_event.wait_for(lambda: self._queue or self._is_done, _IDLE_SECONDS):
                return Idle()
            if not self._queue:
                return None
            found, size_bytes = self._queue.popleft()
            self._queued_bytes -= size_bytes
            self._has_room.notify_all()
            return found

    # --- those who take turns

    def tell(self, event: Event, size_bytes: int = 0) -> None:
        """
        Hand an event over; wait while too much is held.

        Raises:
            Stopped: nobody takes it any more.
        """
        with self._lock:
            while (
                size_bytes
                and self._queued_bytes
                and self._queued_bytes + size_bytes > self._held_bytes
                and not self._is_stopped
            ):
                self._has_room.wait()
            if self._is_stopped:
                raise Stopped
            self._queue.append((event, size_bytes))
            self._queued_bytes += size_bytes
            self._has_event.notify()

    def check(self) -> None:
        """
        See in a long turn whether it is still wanted.

        Raises:
            Stopped: it isn't.
        """
        if self._is_stopped:
            raise Stopped

    def schedule(self, turn: Turn, due: float) -> None:
        """
        Give somebody a turn.

        Whoever has one later gets it sooner. Whoever is taking one gets another after it: he may have missed what it is for.

        Args:
            turn: whose.
            due: when, by `time.monotonic`.
        """
        with self._lock:
            self._schedule(turn, due)

    def _schedule(self, turn: Turn, due: float) -> None:
        if turn not in self._waiting or due < turn.due:
            turn.due = due
            self._waiting.add(turn)
            if not turn.is_taken:
                self._push(turn)

    def _push(self, turn: Turn) -> None:
        turn.number = next(self._numbers)
        heapq.heappush(self._due, (turn.due, turn.number, turn))
        tasks = len(self._waiting) + self._taken
        most = tasks if self._most_threads is None else min(tasks, self._most_threads)
        if len(self._threads) < most and not self._is_stopped:
            name = f"{self._name}-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()
        self._has_turn.notify()

    def _work(self) -> None:
        """Take turns until nobody wants to know. Runs in threads of its own."""
        while (turn := self._whose()) is not None:
            try:
                due = turn.take()
            except Stopped:
                return
            except BaseException as error:  # whatever it is, the one who reads is to know
                with self._lock:
                    self._queue.append((error, 0))
                    self._has_event.notify()
                return
            with self._lock:
                self._taken -= 1
                if due is not None:
                    # Before it may be pushed: it may have been given another turn meanwhile, and the sooner one counts.
                    self._schedule(turn, due)
                turn.is_taken = False
                if turn in self._waiting:
                    self._push(turn)
                if not self._waiting and not self._taken:
                    self._is_done = True
                    self._has_event.notify()

    def _whose(self) -> Turn | None:
        """Wait for whoever is due; None at the end."""
        with self._lock:
            while not self._is_stopped:
                if not self._due:
                    self._has_turn.wait()
                    continue
                due, number, turn = self._due[0]
                if turn.number != number:
                    heapq.heappop(self._due)  # has another due by now
                elif due > time.monotonic():
                    self._has_turn.wait(due - time.monotonic())
                else:
                    heapq.heappop(self._due)
                    self._waiting.discard(turn)
                    turn.is_taken = True
                    self._taken += 1
                    # Who is woken for a turn may be the one that had waited for this one.
                    self._has_turn.notify()
                    return turn
            return None
