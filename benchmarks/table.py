"""
What was measured, as tables: for the terminal, the README and docs/benchmarks.md; and the goals that the figures are held against.

    .venv/bin/python benchmarks/table.py data/bench.json   # takes a whole result over as benchmarks/results.json, and writes both files
    .venv/bin/python benchmarks/table.py --check           # says whether they hold it

Belongs here: goals, and showing. Doesn't: measuring (`suite.py`). Needs nothing but Python, so that a test may use it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
PLACES = {"goals": ROOT / "README.md", "cases": ROOT / "docs" / "benchmarks.md"}
BEGIN, END = "<!-- measured: {} -->", "<!-- /measured: {} -->"

Result = Mapping[str, Any]


class NotMeasured(Exception):
    """A result doesn't have it: only some items were measured, or dlt wasn't there."""


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
            NotMeasured: the case or the side.
        """
        sides = self._case(item, case)["sides"]
        if side not in sides:
            raise NotMeasured(f"{item}, {case}: {side}")
        return float(sides[side]["median"][figure])

    def what(self, item: str, case: str) -> str:
        """
        What was measured, with its sizes.

        Raises:
            NotMeasured: the case.
        """
        return str(self._case(item, case)["what"])

    def case(self, item: str, index: int) -> str:
        """
        The name of an item's first or last case.

        Raises:
            NotMeasured: the item.
        """
        found = [case for of, case in self._cases if of == item]
        if not found:
            raise NotMeasured(item)
        return found[index]

    def _case(self, item: str, case: str) -> Mapping[str, Any]:
        if (item, case) not in self._cases:
            raise NotMeasured(f"{item}, {case}")
        return self._cases[item, case]


@dataclass(frozen=True)
class Goal:
    """
    What the platform is to reach.

    Args:
        work: as a person calls it.
        goal: as a person reads it; empty: there is none, the figure is shown beside the others.
        figure: taken out of the medians.
        told: the figure and what it was made of, for a person.
        bound: that the figure must not exceed, or must reach; None: there is none.
        is_at_least: it must be reached, not kept below.
    """

    work: Callable[[Figures], str]
    goal: str
    figure: Callable[[Figures], float]
    told: Callable[[Figures], str]
    bound: float | None
    is_at_least: bool = False

    def is_met(self, figures: Figures) -> bool:
        """Whether the figure reaches it."""
        if self.bound is None:
            return True
        found = self.figure(figures)
        return found >= self.bound if self.is_at_least else found <= self.bound


def _ratio(item: str, case: str, side: str, other: str, *, name: str, other_name: str, bound: float | None) -> Goal:
    """*side* takes so many times what *other* takes, at the most."""

    def found(figures: Figures) -> float:
        return figures.of(item, case, side) / figures.of(item, case, other)

    def told(figures: Figures) -> str:
        took, others = figures.of(item, case, side), figures.of(item, case, other)
        return f"{found(figures):.2f} × {other_name}: {_seconds(took)} against {_seconds(others)}"

    goal = f"≤ {bound} ×" if bound is not None else ""
    return Goal(lambda figures: f"{name}: {figures.what(item, case)}", goal, found, told, bound)


def _cheaper_than(side: str, bound: float | None) -> Goal:
    """Ours takes so many times less CPU than *side*, at the least."""

    def found(figures: Figures) -> float:
        return figures.of("day", "a tenth", side, "cpu_seconds") / figures.of("day", "a tenth", "ours", "cpu_seconds")

    def told(figures: Figures) -> str:
        took, others = (figures.of("day", "a tenth", one, "cpu_seconds") for one in ("ours", side))
        return f"{found(figures):.1f} × less: {_seconds(took)} against {_seconds(others)} of CPU"

    goal = f"≥ {bound:.0f} × less" if bound is not None else ""
    return Goal(
        lambda figures: f"a tenth of the day against {side}'s load alone: {figures.what('day', 'a tenth')}",
        goal,
        found,
        told,
        bound,
        is_at_least=True,
    )


def _at_most(item: str, case: int | str, side: str, figure: str, *, name: str, bound: float) -> Goal:
    """*side* takes so much, at the most; the case by name, or by its place among the item's."""
    told_as, unit = (_seconds, "s") if figure == "wall_seconds" else (_megabytes, "MB")

    def case_of(figures: Figures) -> str:
        return figures.case(item, case) if isinstance(case, int) else case

    def found(figures: Figures) -> float:
        return figures.of(item, case_of(figures), side, figure)

    return Goal(
        lambda figures: f"{name}: {figures.what(item, case_of(figures))}",
        f"≤ {bound:,.0f} {unit}",
        found,
        lambda figures: told_as(found(figures)),
        bound,
    )


def _more_than_dagster(bound: float) -> Goal:
    """How much longer than a bare command the same command takes when there is nothing to do."""
    case = ("nothing_new", "the command again")

    def found(figures: Figures) -> float:
        return figures.of(*case, "ours") - figures.of(*case, "bare Dagster")

    def told(figures: Figures) -> str:
        ours, bare = figures.of(*case, "ours"), figures.of(*case, "bare Dagster")
        return (
            f"{_seconds(found(figures))} on top of the bare Dagster command: {_seconds(ours)} against {_seconds(bare)}"
        )

    return Goal(lambda figures: f"nothing new: {figures.what(*case)}", f"≤ {bound:.0f} s on top", found, told, bound)


def _flat_memory(bound: float) -> Goal:
    """What a look at the most objects takes of memory, against one at the fewest."""

    def peaks(figures: Figures) -> tuple[float, float]:
        first, last = (figures.of("tick", figures.case("tick", index), "ours", "peak_mb") for index in (0, -1))
        return first, last

    def found(figures: Figures) -> float:
        first, last = peaks(figures)
        return last / first

    def told(figures: Figures) -> str:
        first, last = peaks(figures)
        return f"{_megabytes(last)} against {_megabytes(first)} among {figures.case('tick', 0)}"

    return Goal(
        lambda figures: f"memory of that, among {figures.case('tick', -1)} objects",
        f"flat: ≤ {bound} ×",
        found,
        told,
        bound,
    )


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def _megabytes(value: float) -> str:
    return f"{value:,.0f} MB"


GOALS = (
    _ratio("day", "local", "ours", "limit", name="a day, local", other_name="the limit", bound=1.2),
    _ratio("day", "s3", "ours", "limit", name="a day", other_name="the limit", bound=None),
    _cheaper_than("dlt", 15),
    _cheaper_than("dlt, Arrow", None),
    _more_than_dagster(1),
    _ratio(
        "year", "backfill", "ours, one run", "limit", name="a year in one run", other_name="one bulk load", bound=1.3
    ),
    _at_most("tick", -1, "ours", "wall_seconds", name="a tick of the sensor", bound=2),
    _flat_memory(1.1),
    _ratio(
        "one_bad",
        "isolated",
        "a file that was cut",
        "clean",
        name="a file is cut",
        other_name="the clean day",
        bound=1.3,
    ),
    _ratio(
        "one_bad",
        "isolated",
        "a stray quote",
        "clean",
        name="a quote is never closed",
        other_name="the clean day",
        bound=1.3,
    ),
    _at_most("restate", "one late file", "ours", "wall_seconds", name="from Dagster's start", bound=5),
    _at_most("day", "local", "ours", "peak_mb", name="memory of a day", bound=1500),
    *(
        _at_most("one_big_file", kind, "ours", "peak_mb", name=f"memory of {name}", bound=1500)
        for kind, name in (
            ("csv", "one CSV file"),
            ("gzip", "one gzipped CSV file"),
            ("json-lines", "one file of JSON lines"),
            ("parquet", "one Parquet file"),
        )
    ),
    _ratio(
        "code_location",
        "load",
        "ours, 200 datasets",
        "empty",
        name="load of the code location",
        other_name="an empty one",
        bound=1.3,
    ),
)
"""As issue 9 has them; what has no bound is shown beside them."""


def goals_table(result: Result) -> list[str]:
    """The goals whose items were measured, and whether they are met: lines of Markdown."""
    figures = Figures(result)
    found = ["| work | measured | goal | |", "|---|---|---|---|"]
    for goal in GOALS:
        try:
            verdict = "" if goal.bound is None else "met" if goal.is_met(figures) else "**not met**"
            if verdict and result["size"] != "full":
                verdict += " at this size"
            found.append(f"| {goal.work(figures)} | {goal.told(figures)} | {goal.goal} | {verdict} |")
        except NotMeasured:
            continue
    return found


def left_out(result: Result) -> int:
    """How many goals nothing was measured for."""
    return len(GOALS) + 2 - len(goals_table(result))


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
    # What others do at the same time falls on both sides, but not evenly.
    is_busy = machine["load_before"] > machine["cores"] / 2
    busy = f" **Others were at work on the machine** (load {machine['load_before']:.0f})." if is_busy else ""
    return (
        f"{result['measured_at'][:10]}, {machine['cores']} cores ({machine['processor']}), {machine['memory_gb']:.0f} GB{disk};"
        f" commit {result['commit']}{changed}; {told}.{small[result['size']]}{busy}"
    )


def goals_text(result: Result) -> str:
    """The goals for a person."""
    missing = left_out(result)
    told = f" {missing} rows are missing: their items weren't measured." if missing else ""
    return "\n".join([*goals_table(result), "", about_text(result) + told])


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


def curve_text(title: str, cases: Sequence[Mapping[str, Any]]) -> str:
    """A curve: a case each row, the sides beside each other."""
    names = list(cases[0]["sides"])
    head = ["what", *(f"{name}{unit}" for name in names for unit in (", wall", ", CPU", ", peak MB")), "×"]
    lines = [f"\n### {title}\n", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for case in cases:
        middles = [case["sides"][name]["median"] for name in names]
        told = [
            figure
            for middle in middles
            for figure in (
                _seconds(middle["wall_seconds"]), _seconds(middle["cpu_seconds"]), f"{middle['peak_mb']:,.0f}",
            )
        ]  # fmt: skip
        ratio = middles[-1]["wall_seconds"] / middles[0]["wall_seconds"]
        lines.append(f"| {case['what']} | {' | '.join(told)} | {ratio:.2f} |")
    return "\n".join(lines)


def rendered(place: str, result: Result) -> str:
    """What stands between a place's marks."""
    if place == "goals":
        return goals_text(result)
    found = [about_text(result)]
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for case in result["cases"]:
        if case["curve"]:
            curves.setdefault(f"{case['item']}: {case['curve']}", []).append(case)
        else:
            found.append(case_text(case))
    return "\n".join([*found, *(curve_text(title, cases) for title, cases in curves.items())])


def placed(text: str, place: str, inside: str) -> str:
    """A file's text with this between its marks."""
    begin, end = BEGIN.format(place), END.format(place)
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"there are no marks {begin} … {end}")
    return f"{before}{begin}\n\n{inside.strip()}\n\n{end}{after}"


def objection(result: Result, kept: Result | None) -> str:
    """Why a result doesn't take the place of the one that is kept; empty: it does."""
    if missing := left_out(result):
        return f"{missing} goals weren't measured"
    sizes = ("tiny", "quick", "full")
    if result["size"] == "tiny" or (kept is not None and sizes.index(result["size"]) < sizes.index(kept["size"])):
        return f"these are {result['size']} sizes"
    return ""


def main() -> int:
    """Take over, write, or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument(
        "result", type=Path, nargs="?", help="what the suite has kept; default: what was taken over last"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; say whether both files hold it")
    chosen = parser.parse_args()
    if chosen.result:
        result = json.loads(chosen.result.read_text(encoding="utf-8"))
        kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else None
        if why := objection(result, kept):
            print(f"the README keeps its table: {why}; {chosen.result} has every run")
            return 0
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    for place, path in PLACES.items():
        before = path.read_text(encoding="utf-8")
        after = placed(before, place, rendered(place, result))
        if chosen.check and after != before:
            print(f"{path.name} doesn't hold what was measured (hint: python benchmarks/table.py)", file=sys.stderr)
            return 1
        if not chosen.check:
            path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
