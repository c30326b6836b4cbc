"""
What was measured, as tables: for the terminal, the README and docs/benchmarks.md; and the goals that the figures are held against.

    .venv/bin/python benchmarks/table.py                   # writes benchmarks/results.json into both files, between their marks
    .venv/bin/python benchmarks/table.py --check           # says whether they hold it

Belongs here: goals, and showing. Doesn't: measuring (`suite.py`). Needs nothing but Python, so that a test may use it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
PLACES = {"goals": ROOT / "README.md", "cases": ROOT / "docs" / "benchmarks.md"}
BEGIN, END = "<!-- measured: {} -->", "<!-- /measured: {} -->"

Result = Mapping[str, Any]


class Figures:
    """
    The medians of a result.

    Args:
        result: as the suite keeps it.
    """

    def __init__(self, result: Result) -> None:
        self._cases = {(one["item"], one["case"]): one for one in result["cases"]}

    def of(self, item: str, case: str, side: str, figure: str = "wall_seconds") -> float:
        """
        One of them.

        Raises:
            KeyError: it wasn't measured.
        """
        return float(self._cases[item, case]["sides"][side]["median"][figure])

    def what(self, item: str, case: str) -> str:
        """What was measured, with its sizes."""
        return str(self._cases[item, case]["what"])

    def case(self, item: str, index: int) -> str:
        """The name of an item's first or last case."""
        return [case for of, case in self._cases if of == item][index]


@dataclass(frozen=True)
class Goal:
    """
    What the platform is to reach.

    Args:
        item: of the suite.
        work: as a person calls it.
        goal: as a person reads it.
        bound: the figure that it must not exceed, or must reach.
        figure: takes it out of the medians.
        told: the figure and what it was made of, for a person.
        is_at_least: it must be reached, not kept below.
    """

    item: str
    work: Callable[[Figures], str]
    goal: str
    bound: float
    figure: Callable[[Figures], float]
    told: Callable[[Figures], str]
    is_at_least: bool = False

    def is_met(self, figures: Figures) -> bool:
        """Whether the figure reaches it."""
        found = self.figure(figures)
        return found >= self.bound if self.is_at_least else found <= self.bound


def _ratio(
    item: str,
    case: str,
    side: str,
    other: str,
    bound: float,
    goal: str,
    name: str,
    other_name: str,
    figure: str = "wall_seconds",
) -> Goal:
    """*side* takes so many times what *other* takes."""

    def found(figures: Figures) -> float:
        return figures.of(item, case, side, figure) / figures.of(item, case, other, figure)

    return Goal(
        item,
        lambda figures: f"{name}: {figures.what(item, case)}",
        goal,
        bound,
        found,
        lambda figures: (
            f"{found(figures):.2f} × {other_name}: {_seconds(figures.of(item, case, side, figure))}"
            f" against {_seconds(figures.of(item, case, other, figure))}"
        ),
    )


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def _dlt(side: str) -> Goal:
    def found(figures: Figures) -> float:
        return figures.of("day", "a tenth", side, "cpu_seconds") / figures.of("day", "a tenth", "ours", "cpu_seconds")

    return Goal(
        "day",
        lambda figures: f"the same, {figures.what('day', 'a tenth')}, against {side}'s load alone",
        "CPU ≥ 15 × less" if side == "dlt" else "",
        15 if side == "dlt" else 0,
        found,
        lambda figures: (
            f"{found(figures):.1f} × less: {_seconds(figures.of('day', 'a tenth', 'ours', 'cpu_seconds'))}"
            f" against {_seconds(figures.of('day', 'a tenth', side, 'cpu_seconds'))} of CPU"
        ),
        is_at_least=True,
    )


GOALS = (
    _ratio("day", "local", "ours", "limit", 1.2, "≤ 1.2 × the limit", "a day from a local folder, everything checked", "the limit"),
    _ratio("day", "s3", "ours", "limit", 1.2, "", "a day from S3", "the limit"),
    _dlt("dlt"),
    _dlt("dlt, Arrow"),
)  # fmt: skip


def goals_table(result: Result) -> list[str]:
    """The goals, and whether they are met: lines of Markdown."""
    figures = Figures(result)
    found = ["| work | measured | goal |", "|---|---|---|"]
    for goal in GOALS:
        try:
            met = f"{goal.goal}: {'met' if goal.is_met(figures) else '**not met**'}" if goal.goal else ""
            found.append(f"| {goal.work(figures)} | {goal.told(figures)} | {met} |")
        except KeyError:
            continue
    return found


def about_text(result: Result) -> str:
    """Where and of what it was measured, in a sentence or two."""
    machine, versions = result["machine"], result["versions"]
    disk = f", {machine['disk']}" if machine["disk"] else ""
    small = {
        "full": "",
        "quick": " Small sizes (`--quick`): no more than a first impression.",
        "tiny": " Tiny sizes: these figures mean nothing.",
    }
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    changed = " with changes" if result["is_changed"] else ""
    return (
        f"{result['measured_at'][:10]}, {machine['cores']} cores ({machine['processor']}), {machine['memory_gb']:.0f} GB{disk};"
        f" commit {result['commit']}{changed}; {told}.{small[result['size']]}"
    )


def goals_text(result: Result) -> str:
    """The goals for a person."""
    return "\n".join([*goals_table(result), "", about_text(result)])


def case_text(case: Mapping[str, Any]) -> str:
    """One case: every side of it."""
    lines = [
        f"\n### {case['item']}, {case['case']}: {case['what']}\n",
        "| side | wall | CPU | peak MB | × | rounds |",
        "|---|---|---|---|---|---|",
    ]
    first = next(iter(case["sides"].values()))["median"]
    for name, side in case["sides"].items():
        middle = side["median"]
        lines.append(
            f"| {name} | {_seconds(middle['wall_seconds'])}{_parts(middle)} | {_seconds(middle['cpu_seconds'])} | {middle['peak_mb']:,.0f}"
            f" | {middle['wall_seconds'] / first['wall_seconds']:.2f} | {len(side['runs'])} |"
        )
    return "\n".join(lines)


def _parts(middle: Mapping[str, float]) -> str:
    told = [
        f"{name.removesuffix('_part_seconds')} {value:.2f}"
        for name, value in middle.items()
        if name.endswith("_part_seconds")
    ]
    return f" ({', '.join(told)})" if told else ""


def rendered(place: str, result: Result) -> str:
    """What stands between a place's marks."""
    if place == "goals":
        return goals_text(result)
    return "\n".join([about_text(result), *(case_text(case) for case in result["cases"])])


def placed(text: str, place: str, inside: str) -> str:
    """A file's text with this between its marks."""
    begin, end = BEGIN.format(place), END.format(place)
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"there are no marks {begin} … {end}")
    return f"{before}{begin}\n\n{inside.strip()}\n\n{end}{after}"


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--check", action="store_true")
    is_checked = parser.parse_args().check
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    for place, path in PLACES.items():
        before = path.read_text(encoding="utf-8")
        after = placed(before, place, rendered(place, result))
        if is_checked and after != before:
            print(f"{path.name} doesn't hold what was measured (hint: python benchmarks/table.py)", file=sys.stderr)
            return 1
        if not is_checked:
            path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
