"""
`restate`: one late file lands among a year of data, and its day is made again: raw, processed, report, from the start of Dagster's
command to its end.
"""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import tills
from cases import Case, Ground, Side, Size, dagster, home, in_dagster, location
from sides import Given, Steps, measure

from items.year import SIZES

LATE = "L"
"""Stores that send late are called so; no other is."""


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """One."""
    shape = SIZES[size]
    year = ground.tills(**shape)
    day = tills.DAY + timedelta(days=shape["days"] // 2)
    with ground.folder("restated") as root:
        landing = root / "landing"
        tills.copy(year, landing)

        def begin(folder: Path, number: int) -> None:
            if number == 0:
                home(folder)

        def begin_ours(folder: Path, number: int) -> None:
            begin(folder, number)
            if number == 0:
                measure("tills", "fill", {"landing": str(landing), "out": str(folder)})
            tills.write(landing, f"{LATE}{number:05}", day, shape["rows"], random.Random(number))

        yield Case(
            "restate",
            "one late file",
            f"one late file among {shape['files'] * shape['days']:,} of {shape['days']} days",
            (
                Side(
                    "bare Dagster",
                    command=lambda _: materialize("bare", f"{day}"),
                    environment=in_dagster(str(landing)),
                    begin=begin,
                ),
                Side(
                    "ours",
                    command=lambda _: materialize("one", f"{day}"),
                    environment=in_dagster(str(landing)),
                    begin=begin_ours,
                    rows=shape["files"] * shape["rows"] * shape["days"],
                    counted_by=("items.restate", "count"),
                ),
            ),
            {"landing": str(landing), "late": shape["rows"]},
            keeps_folder=True,
        )


def materialize(name: str, day: str) -> list[str]:
    """The command."""
    return dagster("asset", "materialize", "-f", location(name), "--select", "*", "--partition", day)


def count(given: Given) -> Steps:
    """Rows, those of the late files that have landed until this round left out: if one is missing, they are too few."""
    yield None
    yield None
    found = tills.processed(given["landing"], Path(given["out"]), tills.declared())
    yield {"rows": found["rows"] - given["late"] * (given["round"] + 1)}
