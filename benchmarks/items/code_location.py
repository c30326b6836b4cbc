"""
`load of the code location` with 200 datasets against an empty one, and how long a person waits for the first output of the platform's
own commands.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from cases import Case, Ground, Side, Size, dagster, home, in_dagster, location


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """Dagster's command that loads a code location; the platform's command line."""
    del size  # Two hundred are two hundred.

    def begin(folder: Path, number: int) -> None:
        if number == 0:
            home(folder)

    with ground.folder("nothing-landed") as landing:

        def loading(name: str, of: str) -> Side:
            return Side(
                name,
                command=lambda _: dagster("definitions", "validate", "-f", location(of)),
                environment=in_dagster(str(landing)),
                begin=begin,
            )

        yield Case(
            "code_location",
            "load",
            "`dagster definitions validate`, 200 datasets of ten columns: 600 assets, 201 sensors",
            (loading("empty", "empty"), loading("ours, one dataset", "one"), loading("ours, 200 datasets", "many")),
            keeps_folder=True,
        )
        python = str(Path(sys.executable))

        def output(name: str, *arguments: str) -> Side:
            return Side(name, command=lambda _: [python, *arguments], environment=in_dagster(str(landing)))

        yield Case(
            "code_location",
            "first output",
            "`python -m ingestion_platform …` with the declarations of the demo, nothing loaded",
            (
                output("import duckdb, pyarrow", "-c", "import duckdb, pyarrow"),
                output("--help", "-m", "ingestion_platform", "--help"),
                output("status", "-m", "ingestion_platform", "status"),
            ),
        )
