"""
`nothing new`: the command that loaded a day, given again when nothing has landed since; against the bare command on an asset that does
nothing.
"""

from collections.abc import Iterator
from pathlib import Path

import tills
from cases import Case, Ground, Side, Size, dagster, home, in_dagster, location
from sides import measure

from items.day import SIZES


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """One."""
    files, rows = SIZES[size]["files"], SIZES[size]["rows"]
    landing = ground.tills(files=files, rows=rows)

    def begin(folder: Path, number: int) -> None:
        if number == 0:
            home(folder)

    def begin_ours(folder: Path, number: int) -> None:
        begin(folder, number)
        if number == 0:
            measure("tills", "fill", {"landing": str(landing), "out": str(folder)})

    yield Case(
        "nothing_new",
        "the command again",
        f"a day of {files:,} files that are all loaded",
        (
            Side(
                "bare Dagster",
                command=lambda _: materialize("bare"),
                environment=in_dagster(str(landing)),
                begin=begin,
                rows=0,
                counted_by=("items.nothing_new", "nothing"),
            ),
            Side(
                "ours",
                command=lambda _: materialize("one"),
                environment=in_dagster(str(landing)),
                begin=begin_ours,
                counted_by=("tills", "count"),
            ),
        ),
        {"landing": str(landing)},
        rows=files * rows,
        keeps_folder=True,
    )


def materialize(name: str, day: str = f"{tills.DAY}") -> list[str]:
    """The command."""
    return dagster("asset", "materialize", "-f", location(name), "--select", "*", "--partition", day)


def nothing(_: object) -> "Iterator[dict[str, int] | None]":
    """What an asset that does nothing has made."""
    yield None
    yield None
    yield {"rows": 0}
