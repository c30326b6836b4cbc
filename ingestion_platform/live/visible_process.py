"""
Rows of landed alerts, made by a process of its own: judging neither holds it up nor waits for it.

Belongs here: that process, and what goes to and fro. Doesn't: making rows (`visible.py`).

It ends when its parent does, however that ends. When it dies, it is started again, and looks at all of the days that it was told of: what
it hadn't done is done then.
"""

import logging
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date
from multiprocessing.connection import Connection

from ingestion_platform.live.visible import VisibleAlerts
from ingestion_platform.warehouse import Warehouse

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 60.0
"""Between two starts of one that dies again and again."""
LOOK_SECONDS = 1.0
"""How often each of the two looks whether the other one is there."""
MOST_DAYS = 7
"""Days that are looked at again by one that is started anew."""


class VisibleProcess:
    """
    Makes rows of landed alerts, as `VisibleAlerts` does, in another process.

    Args:
        open_warehouse: opens one of its own, with the dataset `alerts`; goes to the other process, so it can be pickled.
        on_visible: told of each day whose rows are there, and since when (`time.monotonic`) what had landed by then is.
    """

    def __init__(
        self, open_warehouse: Callable[[], Warehouse], on_visible: Callable[[date, float], None] | None = None
    ) -> None:
        self._open = open_warehouse
        self._on_visible = on_visible
        self._context = multiprocessing.get_context("spawn")
        self._news = threading.Condition()
        self._waiting: list[tuple[date, str]] = []
        self._last: dict[date, str] = {}
        self._is_closed = False
        self._process: multiprocessing.process.BaseProcess | None = None
        self._thread = threading.Thread(target=self._run, name="visible-process", daemon=True)

    @property
    def pid(self) -> int | None:
        """Of the other process, while there is one."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def landed(self, objects: Iterable[tuple[date, str]]) -> None:
        """Alerts have landed in objects of these days and keys. Never waits."""
        with self._news:
            for day, key in objects:
                self._waiting.append((day, key))
                self._last[day] = key
            while len(self._last) > MOST_DAYS:
                del self._last[min(self._last)]
            self._news.notify()

    def close(self) -> None:
        """Have rows made of what is left, and end."""
        with self._news:
            self._is_closed = True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        deaths = 0
        while True:
            began = time.monotonic()
            if self._serve():
                return
            deaths = 0 if time.monotonic() - began > LONGEST_WAIT_SECONDS else deaths + 1
            wait = min(LONGEST_WAIT_SECONDS, 2.0**deaths / 2)
            log.error("the process that makes rows of alerts has died; another one is started in %.0f s", wait)
            with self._news:
                self._news.wait_for(lambda: self._is_closed, wait)
                if self._is_closed and deaths > 1:
                    # They have landed: the sensor makes rows of them.
                    return
                # All that it was told of those days, done or not.
                self._waiting = [*self._last.items()]

    def _serve(self) -> bool:
        """Have one process work until all is done (whether that came about), or it dies."""
        ours, theirs = self._context.Pipe()
        process = self._process = self._context.Process(
            target=_work, args=(theirs, self._open), name="alerts-visible", daemon=True
        )
        process.start()
        theirs.close()
        listening = threading.Thread(target=self._listen, args=(ours,), name="visible-listening", daemon=True)
        listening.start()
        try:
            while True:
                with self._news:
                    while not self._waiting and not self._is_closed:
                        if not self._news.wait(LOOK_SECONDS) and not process.is_alive():
                            return False
                    waiting, self._waiting = self._waiting, []
                    is_over = self._is_closed and not waiting
                ours.send(None if is_over else waiting)
                if is_over:
                    process.join()
                    return process.exitcode == 0
        except OSError:
            return False
        finally:
            process.join(1.0)
            ours.close()

    def _listen(self, connection: Connection) -> None:
        # It ends with the other end, or with ours.
        with suppress(EOFError, OSError):
            while True:
                day, since = connection.recv()
                if self._on_visible is not None:
                    self._on_visible(day, since)


def _work(connection: Connection, open_warehouse: Callable[[], Warehouse]) -> None:
    """The other process: make rows of what it is told of, until it is told to end or nobody is there to tell."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Whoever ends all processes at once ends the one that this one waits for.
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def on_visible(day: date, since: float) -> None:
        # Nobody may be there any more to hear it.
        with suppress(OSError):
            connection.send((day, since))

    visible = VisibleAlerts(open_warehouse, on_visible)
    visible.start()
    with suppress(EOFError, OSError):
        while visible.is_working:
            if connection.poll(LOOK_SECONDS):
                objects = connection.recv()
                if objects is None:
                    break
                visible.landed(objects)
    if not visible.is_working:
        # The next one begins anew, and whoever started this one says so.
        sys.exit(1)
    visible.close()
