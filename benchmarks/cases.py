"""
What an item of the suite is made of: cases, the sides of each, and the ground that they stand on.

Belongs here: what an item says. Doesn't: taking turns (`suite.py`), starting processes (`sides.py`).
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import object_server
import sides
import tills

Size = str
"""`full`; `quick`, a minute or two for all; `tiny`, which only shows that everything works."""
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Side:
    """
    One side of a case.

    Args:
        name: as the table calls it; the item's function of that name, with `_` for `-`, does it, unless *function* or *command* does.
        function: of the item's module.
        given: what it is called with beside what the case gives.
        rows: that it must have made; None: as many as the case says.
        most_rounds: for what takes long: fewer than the others, and no warm-up.
        has_dlt: it runs in dlt's virtual environment.
        command: what is run and measured from its start to its end, given the folder of this round; None: a function is.
        counted_by: what says afterwards what a command has made: module and function.
        environment: of its process.
        begin: makes the round's folder ready, given it and the round's number; not measured.
    """

    name: str
    function: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None
    most_rounds: int | None = None
    has_dlt: bool = False
    command: Callable[[Path], Sequence[str]] | None = None
    counted_by: tuple[str, str] | None = None
    environment: Callable[[Path], Mapping[str, str]] = lambda _: {}
    begin: Callable[[Path, int], None] = lambda _, __: None


@dataclass(frozen=True)
class Case:
    """
    What is measured in one go, side against side.

    Args:
        item: of the suite.
        name: of the case within it.
        what: a person reads, with its sizes.
        sides: the first is what the others are held against.
        given: to every side, beside `out`, an empty folder of each round.
        rows: that each side must have made, unless it says otherwise; None: nothing is made.
        most_rounds: fewer than were asked for, where a round takes long.
        has_warm_up: a round that doesn't count comes first; not where one takes minutes and what is read was just written.
        keeps_folder: a side finds its folder again in the next round: what is measured is done to what is there.
        curve: what grows from case to case of the item; empty: the case stands alone.
    """

    item: str
    name: str
    what: str
    sides: Sequence[Side]
    given: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None
    most_rounds: int | None = None
    has_warm_up: bool = True
    keeps_folder: bool = False
    curve: str = ""


class Ground:
    """
    What has landed, made once and shared by the items that ask for the same.

    Args:
        root: an empty folder, on the disk that is measured.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._asked: set[tuple[int, int, int]] = set()

    def tills(self, *, files: int, rows: int, days: int = 1) -> Path:
        """A landing zone with so many files of each day, and so many rows in each."""
        folder = self.root / f"tills-{files}-{rows}-{days}"
        if (files, rows, days) not in self._asked:
            # A process that has written millions of rows is large for good; whoever measures stays small.
            sides.measure("tills", "land_one", {"folder": str(folder), "files": files, "rows": rows, "days": days})
            self._asked.add((files, rows, days))
        return folder

    def forget(self, folder: Path) -> None:
        """Make room: nobody asks for it again."""
        shutil.rmtree(folder)
        self._asked = {asked for asked in self._asked if folder.name != "tills-{}-{}-{}".format(*asked)}

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A folder for a while."""
        made = self.root / name
        made.mkdir()
        try:
            yield made
        finally:
            shutil.rmtree(made)


@contextmanager
def serving(*arguments: str) -> Iterator[dict[str, str]]:
    """An S3 server on 127.0.0.1 in a process of its own; what a client's environment needs."""
    process, port = object_server.start(arguments, sides.environment())
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        process.terminate()
        process.wait()


def dagster(*arguments: str) -> list[str]:
    """Dagster's command line."""
    return [str(Path(sys.executable).parent / "dagster"), *arguments]


def location(name: str) -> str:
    """A code location of the suite."""
    return str(Path(__file__).resolve().parent / "locations" / f"{name}.py")


def home(folder: Path) -> None:
    """Make Dagster's home, as `make dev` does: an empty one is filled by whoever comes first, and that isn't measured."""
    made = folder / "dagster"
    made.mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "dagster.yaml", made / "dagster.yaml")
    sides.measure_command(
        dagster("instance", "info"), extra={"DAGSTER_HOME": str(made), "HOME": str(folder)}, folder=folder
    )


def in_dagster(landing: str) -> Callable[[Path], Mapping[str, str]]:
    """The environment of Dagster's commands over a deployment in the round's folder."""
    return lambda out: {**tills.environment(landing, out), "HOME": str(out)}
