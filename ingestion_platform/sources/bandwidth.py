"""
How fast files are read: at most so many bytes a second, by all threads of a run together.

Belongs here: waiting for one's turn. Doesn't: how often an API is asked (`pace.py`).
"""

import threading
import time
from collections.abc import Callable

BURST_SECONDS = 1.0
"""So much of what nobody has used may be taken at once."""


class Bandwidth:
    """
    A bucket that fills with bytes at a rate, and holds those of one second.

    Args:
        bytes_per_second: None: as fast as it goes.
        clock: seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        bytes_per_second: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until = clock()

    def piece_bytes(self, most: int) -> int:
        """How much to read at a time: no more than a quarter of a second's bytes, so that the flow is even."""
        return most if self._rate is None else max(1, min(most, self._rate // 4))

    def take(self, size_bytes: int) -> None:
        """Wait until *size_bytes* may have been read."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            # Whoever comes later waits behind this one, whether it sleeps already or not.
            self._paid_until = max(self._paid_until, now - BURST_SECONDS) + size_bytes / self._rate
            wait = self._paid_until - now
        if wait > 0:
            self._sleep(wait)
