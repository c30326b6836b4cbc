"""
The suite: what the platform adds to what DuckDB, Dagster or S3's client need for the same, item by item.

    .venv/bin/python benchmarks/suite.py                               # everything; see docs/benchmarks.md for how long that takes
    .venv/bin/python benchmarks/suite.py --quick                       # small sizes: a few minutes
    .venv/bin/python benchmarks/suite.py --only day tick --rounds 3 --json results.json

The sides of a case take turns, each in a process of its own, after a round that doesn't count. What is shown is the median; what all
sides have made must be equal before a time counts. `table.py` writes what `--json` has kept
into the README and docs/benchmarks.md.

Belongs here: turns, and what is kept of them. Doesn't: what sides do (`items/`), goals and tables (`table.py`).
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import items
import sides
import table
from cases import Case, Ground, Side
from sides import Run

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("duckdb", "pyarrow", "pandas", "dagster", "boto3")
ROUNDS = {"full": 5, "quick": 1, "tiny": 1}


def main() -> None:
    """Measure, tell, and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=items.NAMES, metavar="ITEM", help=f"some of {', '.join(items.NAMES)}"
    )
    parser.add_argument("--rounds", type=int, help="that count; default: 5, with small sizes 1")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", default="full", help="small sizes")
    parser.add_argument(
        "--tiny", dest="size", action="store_const", const="tiny", help="only to see that everything works"
    )
    parser.add_argument("--json", type=Path, help="where to keep every run")
    parser.add_argument("--disk", default="", help="what kind of disk it is, for the record: 'NVMe'")
    parser.add_argument("--folder", type=Path, help="where to land and load; default: the system's temporary folder")
    parser.add_argument("--without-dlt", action="store_true", help="where its virtual environment can't be made")
    chosen = parser.parse_args()
    if not chosen.without_dlt and not (sides.OTHER_BIN / "python").exists():
        raise SystemExit("dlt has no virtual environment yet (hint: make bench makes it; or --without-dlt)")
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=chosen.folder))
    kept: list[dict[str, Any]] = []
    result = {**about(chosen.size, chosen.disk, has_dlt=not chosen.without_dlt), "cases": kept}
    try:
        ground = Ground(root)
        for name in chosen.only or items.NAMES:
            module = importlib.import_module(f"items.{name}")
            for case in module.cases(chosen.size, ground):
                rounds, is_full = chosen.rounds or ROUNDS[chosen.size], chosen.size == "full"
                kept.append(measured(case, ground, rounds, has_dlt=not chosen.without_dlt, has_warm_up=is_full))
                print(table.case_text(kept[-1]), flush=True)
                result["took_seconds"] = round(time.monotonic() - began)
                if chosen.json:
                    # Whatever comes to an end early has been measured all the same.
                    chosen.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(root)
    print(f"\n{table.goals_text(result)}")


def measured(case: Case, ground: Ground, rounds: int, *, has_dlt: bool, has_warm_up: bool = True) -> dict[str, Any]:
    """
    Measure the sides of a case, in turn.

    Args:
        case: which.
        ground: what has landed.
        rounds: that count, unless the case has fewer.
        has_dlt: whether there is a virtual environment for it.
        has_warm_up: whether a round that doesn't count comes first, where the case has one.

    Raises:
        SystemExit: a side failed, or the sides don't agree.
    """
    warm_ups = int(has_warm_up and case.has_warm_up)
    rounds = min(rounds, case.most_rounds or rounds)
    taking_part = [side for side in case.sides if has_dlt or not side.has_dlt]
    runs: dict[str, list[Run]] = {side.name: [] for side in taking_part}
    with ground.folder("out") as out:
        for number in range(warm_ups + rounds):
            is_warm_up = number < warm_ups
            for side in taking_part:
                if side.most_rounds is not None and (is_warm_up or number - warm_ups >= side.most_rounds):
                    continue
                run = _one(case, side, out, number)
                if not is_warm_up:
                    runs[side.name].append(run)
    totals: dict[int, set[str]] = {}
    for run in (run for of in runs.values() for run in of if "total" in run.told):
        totals.setdefault(run.told["rows"], set()).add(run.told["total"])
    if any(len(found) > 1 for found in totals.values()):
        raise SystemExit(f"{case.item}, {case.name}: the sides don't agree: {totals}")
    return {
        "item": case.item,
        "case": case.name,
        "what": case.what,
        "curve": case.curve,
        "has_warm_up": bool(warm_ups),
        "sides": {
            name: {"median": sides.medians(of), "runs": [run.as_json() for run in of]} for name, of in runs.items()
        },
    }


def _one(case: Case, side: Side, out: Path, number: int) -> Run:
    folder = out / side.name.replace(" ", "-").replace(",", "")
    if folder.exists() and not case.keeps_folder:
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    side.begin(folder, number)
    module, function = f"items.{case.item}", side.function or side.name
    given = {**case.given, **side.given, "out": str(folder), "round": number}
    extra = side.environment(folder)
    if side.command is not None:
        run = sides.measure_command(side.command(folder), extra=extra, folder=folder)
        if side.counted_by is not None:
            told = sides.measure(*side.counted_by, given, extra=extra).told
            run = Run(run.wall_seconds, run.cpu_seconds, run.peak_mb, told)
    else:
        python = (sides.OTHER_BIN if side.has_dlt else sides.BIN) / "python"
        run = sides.measure(module, function, given, python=python, extra=extra)
    expected = side.rows if side.rows is not None else case.rows
    if expected is not None and run.told.get("rows") != expected:
        raise SystemExit(
            f"{case.item}, {case.name}: {side.name} has made {run.told.get('rows')} rows, not {expected:,}"
        )
    if not case.keeps_folder:
        shutil.rmtree(folder)
    return run


def about(size: str, disk: str, *, has_dlt: bool) -> dict[str, Any]:
    """The machine, the versions and the moment."""
    versions = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in VERSIONS}}
    if has_dlt:
        asked = "import importlib.metadata as m; print(m.version('dlt'), m.version('duckdb'))"
        told = subprocess.run(
            [str(sides.OTHER_BIN / "python"), "-c", asked], capture_output=True, text=True, check=True
        ).stdout.split()
        versions |= {"dlt": told[0], "dlt's duckdb": told[1]}
    return {
        "size": size,
        "measured_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "commit": "".join(_git("rev-parse", "--short=12", "HEAD")),
        "is_changed": any(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "processor": _processor(),
            "system": f"{platform.system()} {platform.release()}",
            "disk": disk,
            "load_before": round(os.getloadavg()[0], 1),
        },
        "versions": versions,
    }


def _git(*arguments: str) -> Iterator[str]:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    yield from done.stdout.split()


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
