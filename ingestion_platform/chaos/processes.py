"""
Work in forked processes, and a tally of what they met.

Belongs here: forking, ending, handing results back, counting. Doesn't: what the work is. Whoever forks has no threads: nothing of the
warehouse is done in the process that a campaign runs in.
"""

import os
import pickle
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ingestion_platform.errors import IngestionError

T = TypeVar("T")

FAILED, BROKEN = 3, 4
"""How a process ends that the platform told an error to, and one that anything else went wrong in."""


class Tally:
    """
    What was met, counted by any number of processes; what a killed one has counted stays.

    Args:
        path: of the file that holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, what: str, times: int = 1) -> None:
        """Count something that was met."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One write of so few bytes isn't torn, whoever else writes.
            os.write(descriptor, f"{times} {what}\n".encode())
        finally:
            os.close(descriptor)

    def counts(self) -> Counter[str]:
        """What → how often."""
        found: Counter[str] = Counter()
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                times, _, what = line.partition(" ")
                found[what] += int(times)
        return found


@dataclass(frozen=True)
class Ended:
    """
    How a process ended.

    Args:
        code: its exit code; `None`: a signal ended it.
        signal: that ended it, or 0.
        said: what it had to say of what went wrong.
    """

    code: int | None
    signal: int
    said: str

    @property
    def is_well(self) -> bool:
        """Whether it did what it was to do."""
        return self.code == 0

    @property
    def is_killed(self) -> bool:
        """Whether it was killed."""
        return self.signal == signal.SIGKILL

    def __str__(self) -> str:
        return f"ended by signal {self.signal}" if self.signal else f"ended with {self.code}: {self.said.strip()}"


class Process:
    """
    A forked process.

    Args:
        work: what it does.
        said: file for what it has to say of what went wrong.
    """

    def __init__(self, work: Callable[[], object], said: Path) -> None:
        self._said = said
        self._status: int | None = None
        said.unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(work)

    def _work(self, work: Callable[[], object]) -> None:
        code = BROKEN
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            # What a run warns of under chaos is no news; why it failed is said.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            code = 0
        except IngestionError as error:
            code = FAILED
            self._said.write_text(f"{type(error).__name__}: {error}")
        except BaseException:
            self._said.write_text(traceback.format_exc())
        finally:
            os._exit(code)

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)

    def is_over(self) -> bool:
        """Whether it has ended, without waiting for it."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def end(self) -> Ended:
        """Wait for its end."""
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        status = self._status
        said = self._said.read_text() if self._said.exists() else ""
        if os.WIFSIGNALED(status):
            return Ended(None, os.WTERMSIG(status), said)
        return Ended(os.WEXITSTATUS(status), 0, said)


def ask(question: Callable[[], T], folder: Path) -> T:
    """
    The answer of another process, which has threads and engines of its own and is gone then.

    Args:
        question: what is asked.
        folder: where the answer is handed over.

    Raises:
        ChildFailed: it didn't come to an answer.
    """
    answer = folder / f"answer-{os.getpid()}"

    def work() -> None:
        answer.write_bytes(pickle.dumps(question()))

    ended = Process(work, folder / f"question-{os.getpid()}.txt").end()
    if not ended.is_well:
        raise ChildFailed(ended)
    # Written by our own process a moment ago.
    found: T = pickle.loads(answer.read_bytes())
    answer.unlink()
    return found


class ChildFailed(Exception):
    """
    A process that was to end well didn't.

    Args:
        ended: how it ended.
    """

    def __init__(self, ended: Ended) -> None:
        self.ended = ended
        super().__init__(str(ended))
