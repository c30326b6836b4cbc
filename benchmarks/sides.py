"""
The sides of a benchmark, each run in a process of its own so that neither warms or crowds the other, and what each took.

    python benchmarks/sides.py items.day limit '{"landing": "…", "out": "…"}'      what `measure` starts

A side is a generator: until its first `yield` it imports what it needs, until its second it is measured, and the third gives what it
has made: `rows`, and whatever else all sides must agree on or a person wants to see.

Belongs here: starting a side or a command, and counting. Doesn't: what a side does (`items/`, `replay.py`), the turns that sides take
(`suite.py`).
"""

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
OTHER_BIN = HERE.parent / ".servers" / "dlt" / "bin"
"""Of the virtual environment that `make bench` makes for dlt."""

Told = dict[str, Any]
Given = Mapping[str, Any]
Steps = Iterator[Told | None]
"""Nothing when it is prepared, nothing when it is done, and last what it has made."""


@dataclass(frozen=True)
class Run:
    """
    What a side took.

    Args:
        wall_seconds: from its preparation's end to its end; of a command from its start to its end.
        cpu_seconds: of the process and all that it started and waited for, user and system, in the same time.
        peak_mb: the most resident memory that one of these processes had, its imports included.
        told: what it says it has made.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    told: Told = field(default_factory=dict)

    def as_json(self) -> Told:
        """For the file of results."""
        return {
            "wall_seconds": round(self.wall_seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "peak_mb": round(self.peak_mb, 1),
            **self.told,
        }


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    A child's environment: nothing of the caller's that changes what is measured.

    Modules must be compiled once: with PYTHONDONTWRITEBYTECODE each process would compile those that have no bytecode yet anew.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("INGESTION_", "AWS_", "DAGSTER_", "PYTHON"))
    }
    return {**kept, "PYTHONPATH": str(HERE), "PYTHONUTF8": "1", **(extra or {})}


def run_side(module: str, side: str, given: Given) -> Run:
    """Run a side in this process: the one that `measure` started for it."""
    steps: Steps = getattr(importlib.import_module(module), side)(given)
    next(steps)
    cpu_before, began = _cpu_seconds(), time.perf_counter()
    next(steps)
    wall, cpu = time.perf_counter() - began, _cpu_seconds() - cpu_before
    peak = _peak_mb()
    return Run(wall, cpu, peak, next(steps) or {})


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_mb() -> float:
    """Of this process, as its own memory has it: what `getrusage` says begins with what the process that started it had."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    status = Path("/proc/self/status")
    if not status.is_file():
        return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, children / 1024)
    own = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return max(own / 1024, children)


def measure(
    module: str,
    side: str,
    given: Given,
    *,
    python: Path = BIN / "python",
    extra: Mapping[str, str] | None = None,
) -> Run:
    """
    Run one side in a process of its own.

    Args:
        module: that has the side: `items.day`.
        side: its function.
        given: what it is called with; must be JSON.
        python: the interpreter.
        extra: variables of its environment.

    Raises:
        SystemExit: it failed; with what it said.
    """
    done = subprocess.run(
        [str(python), str(HERE / "sides.py"), module, side, json.dumps(dict(given))],
        capture_output=True,
        text=True,
        env=environment(extra),
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{module} {side} failed:\n{done.stdout[-2000:]}{done.stderr[-6000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Run(**found)


def measure_command(command: Sequence[str], *, extra: Mapping[str, str], folder: Path) -> Run:
    """
    Run a command, from its start to its end.

    Raises:
        SystemExit: it failed; with what it said.
    """
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment(extra), cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read().decode(errors='replace')[-6000:]}")
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def in_turn(measured: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """Measure all sides, one after the other, so many times."""
    found: dict[str, list[Run]] = {side: [] for side in measured}
    for _ in range(rounds):
        for side, one in measured.items():
            found[side].append(one())
    return found


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """The median of each number that every run has."""
    all_of = [one.as_json() for one in runs]
    return {
        name: statistics.median(one[name] for one in all_of)
        for name, value in all_of[0].items()
        if isinstance(value, (int, float)) and all(name in one for one in all_of)
    }


def parts(middle: Mapping[str, float]) -> str:
    """What the parts of a side took that tells them, for behind its wall time."""
    told = [
        f"{name.removesuffix('_part_seconds')} {value:.1f}"
        for name, value in middle.items()
        if name.endswith("_part_seconds")
    ]
    return f" ({', '.join(told)})" if told else ""


if __name__ == "__main__":
    ran = run_side(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    print(
        json.dumps(
            {
                "wall_seconds": ran.wall_seconds,
                "cpu_seconds": ran.cpu_seconds,
                "peak_mb": ran.peak_mb,
                "told": ran.told,
            }
        )
    )
