"""
The sides of a benchmark over a folder of landed objects, each run in a process of its own so that neither warms or crowds the other.

Belongs here: starting a side, and what it took. Doesn't: what a side does, and what is landed for it (`day.py`, `replay.py`).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Side = Callable[[Path, Path], int]
"""Takes the landing zone and an empty folder for what is made; gives the rows. May write more numbers to stderr, a line of JSON."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser of the command line, for both who measures and a side."""
    found = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    for name, kind in (("--side", str), ("--folder", Path), ("--out", Path)):
        found.add_argument(name, type=kind, help=argparse.SUPPRESS)
    return found


def ran_as_side(chosen: argparse.Namespace, sides: Mapping[str, Side]) -> bool:
    """Run a side where this process was started for one; whether it was."""
    if not chosen.side:
        return False
    began = time.perf_counter()
    rows = sides[chosen.side](chosen.folder, chosen.out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "wall_seconds": time.perf_counter() - began, "peak_mb": peak}))
    return True


def measure(side: str, folder: Path) -> dict[str, float]:
    """Run one side of this script in a process of its own: wall and CPU seconds, peak memory, rows, and what else it tells."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, sys.argv[0], "--side", side, "--folder", str(folder), "--out", out],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = json.loads(done.stdout.splitlines()[-1])
        told["cpu_seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        for line in done.stderr.splitlines():
            if line.startswith("{"):
                told |= json.loads(line)
        return dict(told)


def in_turn(sides: Mapping[str, Side], folder: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Measure all sides, one after the other, so many times."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in found:
            found[side].append(measure(side, folder))
    return found


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each number."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def parts(middle: Mapping[str, float]) -> str:
    """What loading and processing took of a side that tells them, for behind its wall time."""
    if "load_seconds" not in middle:
        return ""
    return f" (load {middle['load_seconds']:.1f}, process {middle['process_seconds']:.1f})"
