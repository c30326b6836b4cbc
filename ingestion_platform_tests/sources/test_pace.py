"""The pace of an API: kept by threads and processes together, through kills and damage, whatever the clock says."""

import math
import os
import random
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.api import Rate
from ingestion_platform.errors import SourceError
from ingestion_platform.sources.pace import LONGEST_HOLD_SECONDS, HeldBack, Pace

ASKING = """
import os, struct, sys, time
from pathlib import Path
from ingestion_platform.api import Rate
from ingestion_platform.sources.pace import Pace

file, log, requests, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
looked = 0.0

def clock():
    global looked
    looked = time.monotonic()
    return looked

pace = Pace(Rate(requests, seconds), file, clock=clock)
moments = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
while not os.path.exists(log + ".over"):
    pace.wait()
    os.write(moments, struct.pack("<dq", looked, os.getpid()))
"""


class Clock:
    """A clock that only goes on when somebody sleeps."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The moment."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def _most(moments: Sequence[float], seconds: float) -> int:
    """The most moments in any time of this length."""
    ordered = sorted(moments)
    begin = most = 0
    for end, moment in enumerate(ordered):
        while moment - ordered[begin] >= seconds:
            begin += 1
        most = max(most, end - begin + 1)
    return most


def _turns(pace: Pace, clock: Clock, count: int) -> list[float]:
    moments = []
    for _ in range(count):
        pace.wait()
        moments.append(clock.now)
    return moments


# --- the rate


@given(
    requests=st.integers(1, 12),
    seconds=st.floats(0.01, 100),
    pauses=st.lists(st.floats(0, 150), min_size=1, max_size=60),
)
def test_no_time_of_the_rates_length_has_more(requests: int, seconds: float, pauses: list[float]) -> None:
    """Wherever one looks, and however requests come, there are no more than declared, nor does anybody wait without need."""
    clock = Clock()
    pace = Pace(Rate(requests, seconds), None, clock=clock, sleep=clock.sleep)
    moments: list[float] = []
    for pause in pauses:
        clock.now += pause
        came = clock.now
        waited = pace.wait()
        assert waited == clock.now - came
        if waited and len(moments) >= requests:
            margin = min(max(seconds * 0.05, 0.02), 0.5) + 0.003
            assert clock.now <= moments[-requests] + seconds + margin
        else:
            assert waited == 0
        moments.append(clock.now)
    assert _most(moments, seconds) <= requests


def test_without_a_rate_nobody_waits(tmp_path: Path) -> None:
    """An API without a rate is asked as one likes."""
    clock = Clock()
    assert _turns(Pace(None, tmp_path / "x.pace", clock=clock, sleep=clock.sleep), clock, 100) == [1000.0] * 100


def test_two_processes_share_the_file(tmp_path: Path) -> None:
    """What one has taken, another one lacks, and a third that begins later too."""
    clock = Clock()
    paces = [Pace(Rate(3, 10), tmp_path / "deep/x.pace", clock=clock, sleep=clock.sleep) for _ in range(3)]
    moments = [_turns(pace, clock, 1)[0] for pace in paces * 4]
    assert moments[:3] == [1000.0] * 3
    assert _most(moments, 10) == 3
    assert 1031.5 <= moments[-1] < 1031.6


def test_threads_of_a_process_share_it_too() -> None:
    """Eight threads with one pace and no file together keep the rate; each of them gets its turns."""
    looked = threading.local()

    def clock() -> float:
        looked.at = time.monotonic()
        return float(looked.at)

    pace = Pace(Rate(20, 0.2), None, clock=clock)
    moments: list[float] = []

    def ask(thread: int) -> None:
        del thread
        for _ in range(10):
            pace.wait()
            moments.append(looked.at)  # its turn's, however long it took to get here

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    assert len(moments) == 80
    assert _most(moments, 0.2) <= 20


def _start(file: Path, log: Path, rate: Rate) -> "subprocess.Popen[bytes]":
    arguments = [file, log, rate.requests, rate.seconds]
    return subprocess.Popen([sys.executable, "-c", ASKING, *map(str, arguments)])


def test_eight_processes_keep_it_through_kills(tmp_path: Path) -> None:
    """Eight processes ask as often as they may, and some of them are killed at any moment: the rate is kept, and it goes on."""
    file, log, rate = tmp_path / "x.pace", tmp_path / "log", Rate(20, 0.5)
    log.touch()
    processes = [_start(file, log, rate) for _ in range(8)]

    def turns() -> list[tuple[float, int]]:
        written = log.read_bytes()
        return list(struct.iter_unpack("<dq", written[: len(written) // 16 * 16]))

    deadline = time.monotonic() + 200
    try:
        for wanted in range(20, 161, 20):
            while len(turns()) < wanted or len({process for _, process in turns()}) < 2:
                assert time.monotonic() < deadline
                threading.Event().wait(random.uniform(0.0, 0.05))
            killed = random.randrange(len(processes))
            processes[killed].kill()
            processes[killed].wait()
            processes[killed] = _start(file, log, rate)
        (tmp_path / "log.over").touch()
        for process in processes:
            assert process.wait(100) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    # Who is killed right after its turn hasn't written it down: there may be fewer than there were.
    assert _most([moment for moment, _ in turns()], rate.seconds) <= rate.requests


def test_a_killed_process_leaves_the_lock(tmp_path: Path) -> None:
    """Who is killed with the file open and locked holds up nobody."""
    file = tmp_path / "x.pace"
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl, time\nfile = open({str(file)!r}, 'a')\nfcntl.flock(file, fcntl.LOCK_EX)\nprint(flush=True)\ntime.sleep(99)",
        ],
        stdout=subprocess.PIPE,
    )
    assert held.stdout is not None
    held.stdout.readline()
    waiting = ThreadPoolExecutor(1).submit(Pace(Rate(1, 1), file).wait)
    assert not waiting.done()
    held.kill()
    held.wait()
    held.stdout.close()
    assert waiting.result(60) >= 0


# --- what may have become of the file


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 16, 31, 32, 33, 40, 55])
def test_a_file_that_was_cut_is_usable(tmp_path: Path, keep: int) -> None:
    """A file that ends anywhere is made whole again; what it still tells counts."""
    file, clock = tmp_path / "x.pace", Clock()
    _turns(Pace(Rate(3, 10), file, clock=clock, sleep=clock.sleep), clock, 3)
    os.truncate(file, keep)
    moments = _turns(Pace(Rate(3, 10), file, clock=clock, sleep=clock.sleep), clock, 8)
    assert _most(moments, 10) <= 3
    assert file.stat().st_size == 32 + 3 * 8


@given(damage=st.binary(max_size=80), at=st.integers(0, 60))
def test_whatever_stands_in_the_file_it_is_usable(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, at: int
) -> None:
    """Any bytes in the file: requests go on within the hold and the rate's length, and from then on the rate is kept."""
    file, clock = tmp_path_factory.mktemp("pace") / "x.pace", Clock()
    pace = Pace(Rate(3, 10), file, clock=clock, sleep=clock.sleep)
    _turns(pace, clock, 2)
    whole = bytearray(file.read_bytes())
    whole[at : at + len(damage)] = damage
    file.write_bytes(whole)
    moments = _turns(pace, clock, 9)
    assert _most(moments[3:], 10) <= 3
    assert moments[0] - 1000 <= LONGEST_HOLD_SECONDS + 11
    assert moments[-1] - moments[0] <= 45


def test_a_kill_between_two_writes_costs_nothing(tmp_path: Path) -> None:
    """A note of the oldest place that is wrong in any way changes neither the rate nor the waits."""
    for wrong in (0, 1, 2, 3, 99, 2**64 - 1):
        file, clock = tmp_path / f"{wrong}.pace", Clock()
        pace = Pace(Rate(3, 10), file, clock=clock, sleep=clock.sleep)
        moments = _turns(pace, clock, 2)
        clock.now += 5
        moments += _turns(pace, clock, 1)
        with file.open("r+b") as opened:
            opened.seek(16)
            opened.write(struct.pack("<Q", wrong))
        moments += _turns(pace, clock, 3)
        assert _most(moments, 10) <= 3
        assert [int(moment) for moment in moments[3:]] == [1010, 1010, 1015], wrong


def test_a_machine_that_was_started_anew_forgets_in_time(tmp_path: Path) -> None:
    """Moments that lie ahead were before the start: they count as the start, and hold up nobody for longer than the rate's length."""
    file, clock = tmp_path / "x.pace", Clock(10**6)
    _turns(Pace(Rate(2, 10), file, clock=clock, sleep=clock.sleep), clock, 2)
    clock = Clock(3.0)
    moments = _turns(Pace(Rate(2, 10), file, clock=clock, sleep=clock.sleep), clock, 4)
    assert [round(moment, 1) for moment in moments] == [10.5, 10.5, 21.0, 21.0]


def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day may jump either way: the pace doesn't look at it."""
    pace = Pace(Rate(1, 0.2), tmp_path / "x.pace")
    pace.wait()
    began = time.monotonic()
    for jump in (10**6, -(10**6)):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: jump * 10**9)
        pace.wait()
    assert 0.35 < time.monotonic() - began < 30


@pytest.mark.parametrize(("before", "after"), [(5, 2), (2, 5), (1000, 1), (1, 1000)])
def test_another_rate_takes_over_what_was_asked(tmp_path: Path, before: int, after: int) -> None:
    """When the declared rate changes, the last requests still count; so do two processes with two rates not forget each other's."""
    file, clock = tmp_path / "x.pace", Clock()
    old = Pace(Rate(before, 10), file, clock=clock, sleep=clock.sleep)
    new = Pace(Rate(after, 10), file, clock=clock, sleep=clock.sleep)
    moments = _turns(old, clock, before)
    taken = _turns(new, clock, 1)[0]
    assert taken == (1000.0 if after > before else pytest.approx(1010.5, abs=0.01))
    moments += _turns(new, clock, min(after, 20))
    assert _most([moment for moment in moments if moment >= taken], 10) <= after
    old.wait()
    new.wait()
    assert file.stat().st_size == 32 + after * 8


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The error names the file, and what to look at."""
    (tmp_path / "pace").write_text("a file where the folder should be")
    with pytest.raises(SourceError, match=r"x\.pace, which keeps an API's pace, can't be written") as failed:
        Pace(Rate(1, 1), tmp_path / "pace" / "x.pace").wait()
    assert "warehouse" in failed.value.hint


# --- holding everybody back


def test_everybody_is_held_back(tmp_path: Path) -> None:
    """A hold counts for all who share the file, until it is over; a shorter one doesn't end a longer one."""
    clock = Clock()
    one, other = (Pace(Rate(100, 1), tmp_path / "x.pace", clock=clock, sleep=clock.sleep) for _ in range(2))
    one.hold(30)
    one.hold(5)
    one.hold(-5)
    assert other.wait() == pytest.approx(30, abs=0.01)
    assert one.wait() == 0


def test_the_impatient_are_told_at_once(tmp_path: Path) -> None:
    """Who isn't willing to be held back for so long doesn't wait at all; waiting for one's turn isn't being held back."""
    clock = Clock()
    pace = Pace(Rate(1, 50), tmp_path / "x.pace", clock=clock, sleep=clock.sleep)
    pace.hold(30)
    with pytest.raises(HeldBack) as failed:
        pace.wait(29)
    assert (failed.value.seconds, clock.now) == (30, 1000)
    assert pace.wait(30) == pytest.approx(30, abs=0.01)
    assert pace.wait(0) > 50


def test_a_hold_ends_in_the_end(tmp_path: Path) -> None:
    """Nobody holds an API back for more than an hour, whatever he asks for, nor with what isn't a number."""
    clock = Clock()
    pace = Pace(None, tmp_path / "x.pace", clock=clock, sleep=clock.sleep)
    pace.hold(10**9)
    assert pace.wait() == pytest.approx(LONGEST_HOLD_SECONDS, abs=0.01)
    pace.hold(math.inf)
    assert pace.wait() == pytest.approx(LONGEST_HOLD_SECONDS, abs=0.01)
    pace.hold(math.nan)
    assert pace.wait() <= LONGEST_HOLD_SECONDS + 0.01


def test_a_hold_of_before_the_start_is_over(tmp_path: Path) -> None:
    """After the machine has started anew, a hold that lies further ahead than any may is none."""
    clock = Clock(10**6)
    Pace(None, tmp_path / "x.pace", clock=clock, sleep=clock.sleep).hold(60)
    clock = Clock(5.0)
    assert Pace(None, tmp_path / "x.pace", clock=clock, sleep=clock.sleep).wait() == 0


def test_a_turn_is_taken_fast(tmp_path: Path) -> None:
    """With many places, a turn takes a fraction of a millisecond: no more than a tenth of one is meant, ten are allowed here."""
    pace = Pace(Rate(100_000, 60), tmp_path / "x.pace")
    pace.wait()
    began = time.perf_counter()
    for _ in range(200):
        pace.wait()
    assert (time.perf_counter() - began) / 200 < 0.01
