"""
How often an API is asked: at most so many requests in any time of some length, by all processes and threads of the machine together.

Belongs here: waiting for one's turn, and holding everybody back when the API asks for it. Doesn't: asking (`http_client.py`).
"""

import fcntl
import io
import math
import os
import random
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ingestion_platform.api import Rate
from ingestion_platform.errors import SourceError

LONGEST_HOLD_SECONDS = 3600.0
"""Whoever asks to be left alone for longer is asked again after so long: one request an hour does no harm, a slip of the hand might."""

_HEAD = struct.Struct("<8sQQd")
"""Of the file: what it is, the number of moments, where the oldest one is thought to be, and until when everybody is held back."""
_MAGIC = b"pace 1\n\0"
_MOMENT = struct.Struct("<d")


class HeldBack(Exception):
    """The API has asked to be left alone for longer than somebody is willing to wait: for so many *seconds*."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(seconds)


class Pace:
    """
    The pace of one API.

    The file holds a moment for each of the rate's requests: its last one. A request takes the place of one that is old enough, so in any
    time of the rate's length each place is taken once at most, in whatever order, and whatever became of those who took the others.
    Moments are of the machine's monotonic clock, which all processes share and nobody sets. After a start of the machine it begins anew:
    what seems to lie ahead was before the start.

    Args:
        rate: how often; None: as often as one likes, unless everybody is held back.
        file: that is shared; None: threads of this process share, and nobody else.
        clock: seconds, the same for all processes of the machine.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        rate: Rate | None,
        file: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._places = rate.requests if rate else 0
        # The server counts when requests come, and the way of one may take longer than that of another.
        self._seconds = rate.seconds + min(max(rate.seconds * 0.05, 0.02), 0.5) if rate else 0.0
        self._file = file
        self._clock = clock
        self._sleep = sleep
        self._memory = io.BytesIO()
        self._memory_lock = threading.Lock()
        self._queue = threading.Lock()

    def wait(self, patience: float = math.inf) -> float:
        """
        Wait for one's turn, and take it.

        Args:
            patience: seconds that one is willing to be held back; waiting for one's turn isn't being held back.

        Returns:
            How many seconds it took.

        Raises:
            HeldBack: it would take longer.
            SourceError: the file can't be written.
        """
        began, held = self._clock(), 0.0
        # One thread of a process waits at the file, the others wait for it: each gets its turn sooner or later.
        with self._queue:
            while True:
                with self._opened() as file:
                    now = self._clock()
                    back = self._held(file, now)
                    left = back or self._take(file, now)
                if back and back > patience - held:
                    raise HeldBack(back)
                if not left:
                    return now - began
                held += back
                # Those who wait for the same moment don't all come at once.
                self._sleep(left + random.uniform(0, min(0.002, left)))

    def hold(self, seconds: float) -> None:
        """
        Hold everybody back for so many seconds from now, if nothing holds them back for longer.

        Raises:
            SourceError: the file can't be written.
        """
        with self._opened() as file:
            now = self._clock()
            until = now + min(max(seconds, 0.0), LONGEST_HOLD_SECONDS)
            if until - now > self._held(file, now):
                _, places, oldest, _ = self._head(file)
                self._write_head(file, places, oldest, until)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The file, for nobody else. It is opened each time: a lock belongs to who opened it, and a forked process inherits that."""
        if self._file is None:
            with self._memory_lock:
                self._settle(self._memory)
                yield self._memory
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._settle(file)
                yield file
        except OSError as error:
            raise SourceError(
                f"{self._file}, which keeps an API's pace, can't be written: {error.strerror}",
                "its folder stands beside the warehouse's file: check its rights and the disk",
            ) from error

    def _settle(self, file: BinaryIO) -> None:
        """Make a file of this rate out of whatever it is."""
        magic, places, oldest, until = self._head(file)
        if magic == _MAGIC and places == self._places and oldest < max(places, 1):
            size = file.seek(0, os.SEEK_END)
            if size == _HEAD.size + places * _MOMENT.size:
                return
        moments = self._moments(file) if magic == _MAGIC else array("d")
        # The newest first: should this be cut short, what stands there is still true.
        kept = array("d", sorted(moments, reverse=True)[: self._places])
        kept.extend([-math.inf] * (self._places - len(kept)))
        file.seek(_HEAD.size)
        file.write(kept.tobytes())
        file.truncate(_HEAD.size + self._places * _MOMENT.size)
        self._write_head(file, self._places, max(self._places - 1, 0), until if magic == _MAGIC else -math.inf)

    def _take(self, file: BinaryIO, now: float) -> float:
        """Take a place; seconds until there may be one when there is none."""
        if not self._places:
            return 0.0
        _, places, oldest, until = self._head(file)
        file.seek(_HEAD.size + oldest * _MOMENT.size)
        (moment,) = _MOMENT.unpack(file.read(_MOMENT.size))
        left = self._left(moment, now)
        if left:
            # The head may be wrong about the oldest one: somebody was killed between two writes.
            lefts = [self._left(moment, now) for moment in self._moments(file)]
            left = min(lefts)
            oldest = lefts.index(left)
        if left:
            return left
        file.seek(_HEAD.size + oldest * _MOMENT.size)
        file.write(_MOMENT.pack(now))
        self._write_head(file, places, (oldest + 1) % places, until)
        return 0.0

    def _left(self, moment: float, now: float) -> float:
        """Seconds until a place that was taken at a moment may be taken again."""
        if moment > now:  # before the machine was started
            moment = 0.0
        left = moment + self._seconds - now
        return left if left > 0 else 0.0  # also for what isn't a number

    def _held(self, file: BinaryIO, now: float) -> float:
        """Seconds for which everybody is held back yet."""
        left = self._head(file)[3] - now
        # What is left of the longest hold, just taken, is rounded up as often as down.
        return left if 0 < left <= LONGEST_HOLD_SECONDS + 0.001 else 0.0

    def _head(self, file: BinaryIO) -> tuple[bytes, int, int, float]:
        file.seek(0)
        found = file.read(_HEAD.size)
        if len(found) < _HEAD.size:
            return b"", 0, 0, -math.inf
        magic, places, oldest, until = _HEAD.unpack(found)
        return magic, places, oldest, until

    def _write_head(self, file: BinaryIO, places: int, oldest: int, until: float) -> None:
        file.seek(0)
        file.write(_HEAD.pack(_MAGIC, places, oldest, until))

    def _moments(self, file: BinaryIO) -> "array[float]":
        file.seek(_HEAD.size)
        found = file.read()
        moments: array[float] = array("d")
        moments.frombytes(found[: len(found) // _MOMENT.size * _MOMENT.size])
        return moments
