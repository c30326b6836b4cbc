"""
A trial of changed declarations: what of the last days' landed files they would lose, for a check of a pull request.

Belongs here: which differences of a plan are losses, how many are allowed, and what to hold against where there is no warehouse. Doesn't:
finding differences (`plan.py`).

A loss is what landed as it did and would be worth less: a processed row that goes, a value that becomes NULL, an object that is rejected, a
report's row that goes, a check that begins to fail, a table that can't be made. What came new or was changed by its sender is none.
"""

import dataclasses
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import SettingsError, WarehouseError
from ingestion_platform.settings import inherited
from ingestion_platform.warehouse import plan_text
from ingestion_platform.warehouse.backfill import Asked, Tell, backfill
from ingestion_platform.warehouse.plan import Plan
from ingestion_platform.warehouse.shadow import ShadowLanding
from ingestion_platform.warehouse.upkeep import landed_days
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

Kind = Literal["rows", "values", "objects", "report_rows", "checks", "failures"]
KINDS: Mapping[Kind, str] = {
    "rows": "processed rows that go",
    "values": "values that become NULL",
    "objects": "objects that were loaded and are rejected",
    "report_rows": "rows that go from reports and other derived tables",
    "checks": "rows that fail a check which all passed",
    "failures": "tables that can't be made",
}
"""Of losses."""


@dataclass(frozen=True, slots=True)
class Loss:
    """
    One loss of one table.

    Args:
        kind: of it.
        table: whose.
        count: how many.
        of: of how many there were.
        what: in words.
    """

    kind: Kind
    table: str
    count: int
    of: int
    what: str


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many losses of a kind are no reason to fail: a number, or a share of what there was, of all tables together."""

    count: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> tuple[Kind, "Allowance"]:
        """
        Read `rows=10` or `rows=0.5%`.

        Raises:
            SettingsError: it is neither.
        """
        found = re.fullmatch(r"(\w+)=([0-9]+)|(\w+)=([0-9]+(?:\.[0-9]+)?)%", text)
        kind = (found[1] or found[3]) if found else None
        for known in KINDS:
            if found is not None and kind == known:
                return known, cls(int(found[2])) if found[2] else cls(share=float(found[4]) / 100)
        raise SettingsError(f"--allow {text!r} is none", f"as in rows=10, or rows=0.5%; there are {', '.join(KINDS)}")

    def covers(self, losses: Sequence[Loss]) -> bool:
        """Whether these losses, all of one kind, are allowed."""
        count, of = sum(loss.count for loss in losses), sum(loss.of for loss in losses)
        return count <= self.count or (of > 0 and count <= of * self.share)

    def __str__(self) -> str:
        return f"{self.share * 100:g}%" if self.share else f"{self.count:,}"


@dataclass(frozen=True, slots=True)
class Trial:
    """
    A plan, judged.

    Args:
        plan: of the days.
        losses: all of them.
        allowed: kind → how many are no reason to fail.
    """

    plan: Plan
    losses: tuple[Loss, ...]
    allowed: Mapping[Kind, Allowance]

    @property
    def too_much(self) -> tuple[Kind, ...]:
        """Kinds of which more is lost than is allowed."""
        found = []
        for kind in KINDS:
            ours = [loss for loss in self.losses if loss.kind == kind]
            if ours and not self.allowed.get(kind, Allowance()).covers(ours):
                found.append(kind)
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether nothing is lost beyond what is allowed."""
        return not self.too_much


def judge(plan: Plan, allowed: Mapping[Kind, Allowance] | None = None) -> Trial:
    """Which of a plan's differences are losses."""
    return Trial(plan, tuple(_losses(plan)), allowed or {})


def _losses(plan: Plan) -> Iterator[Loss]:
    for failure in plan.failures:
        yield Loss("failures", failure.table, 1, 1, f"{failure.day or ''} {failure.what}".strip())
    for dataset in plan.datasets:
        read = sum(one.count for one in dataset.read.values())
        if dataset.refused_count:
            first = dataset.refused[0]
            yield Loss(
                "objects", f"raw.{dataset.dataset}", dataset.refused_count, max(read, dataset.refused_count),
                f"the first is {first.key}: {first.reason}",
            )  # fmt: skip
        table = f"processed.{dataset.dataset}"
        rows = sum(one.difference.rows_before for one in plan.partitions if one.table == table)
        where = ", ".join(f"{key} row {row:,}" for key, row in dataset.lost.examples)
        for fate, count in dataset.lost.rows.items():
            yield Loss("rows", table, count, rows, f"{fate} ({where})")
        for column, count in dataset.lost.values.items():
            yield Loss("values", table, count, rows, column)
    for one in plan.partitions:
        when = f"{one.day or ''} ".lstrip()
        if one.balance is None:
            if one.difference.gone:
                yield Loss(
                    "report_rows", one.table, one.difference.gone, one.difference.rows_before,
                    f"{when}{plan_text.story(one.difference)}",
                )  # fmt: skip
            for column, count in one.difference.emptied.items():
                yield Loss("values", one.table, count, one.difference.rows_before, f"{when}{column}")
        if not one.is_new:
            for check, (before, after) in one.checks.items():
                if after and not before:
                    yield Loss("checks", one.table, after, one.difference.rows_after, f"{when}{check}")


# --- the days, and what to hold against


def last_days(warehouse: Warehouse, datasets: Sequence[Dataset], count: int) -> Asked:
    """The last days of each dataset that the warehouse has objects of, or, of one that it doesn't know, that have landed."""
    days = {}
    for dataset in datasets or warehouse.datasets.values():
        known = warehouse.ledger.object_days(dataset.name) if warehouse.ledger.exists else []
        days[dataset.name] = (known or landed_days(warehouse, dataset))[-count:]
    return Asked(days, is_bounded=True)


def make_baseline(warehouse: Warehouse, datasets: Sequence[Dataset], count: int, *, tell: Tell = log.info) -> None:
    """
    Make a warehouse of the last days alone, for a trial to hold others against: of the datasets, and of what stands beside them in
    reports.

    Args:
        warehouse: where it is to be, with nothing in it yet, and not opened. Its landing zone is only read.
        datasets: none: all.
        count: how many days of each.
    """
    blind = Warehouse(
        warehouse.settings,
        ShadowLanding(warehouse.landing),
        warehouse.datasets,
        warehouse.sql_tables,
        clock=warehouse.clock,
    )
    days = last_days(blind, datasets, count).days
    all_days = [day for some in days.values() for day in some]
    if not all_days:
        return
    first, last = min(all_days), max(all_days)
    for dataset in warehouse.datasets.values():
        landed = landed_days(blind, dataset)
        within = [day for day in landed if first <= day <= last]
        # What refers to a snapshot refers to the newest that there is by then.
        before = [day for day in landed if day < first][-1:] if dataset.kind == "snapshots" else []
        days[dataset.name] = sorted({*before, *within, *days.get(dataset.name, ())})
    with blind:
        for failure in backfill(blind, Asked(days), tell=tell).failures:
            # What couldn't be made before can't be lost.
            tell(f"{failure.table} {failure.day or ''}: {failure.what}")


def baseline_of(checkout: Path, warehouse: Warehouse, datasets: Sequence[str], count: int, folder: Path) -> None:
    """
    Let another checkout of the platform make its tables of the last days, by a process of its own.

    Args:
        checkout: its folder.
        warehouse: whose landing zone and settings it takes.
        datasets: names; none: all.
        count: how many days of each.
        folder: for its warehouse.

    Raises:
        SettingsError: there is no checkout.
        WarehouseError: it fails.
    """
    if not (checkout / "ingestion_platform" / "__main__.py").exists():
        raise SettingsError(
            f"{checkout} is no checkout of the platform", "as of `git worktree add ../before origin/main`"
        )
    settings = warehouse.settings
    far = "://" in settings.landing
    changes = {
        "landing": settings.landing if far else str(Path(settings.landing).absolute()),
        "landing_warm": settings.landing_warm and str(Path(settings.landing_warm).absolute()),
        "landing_cold": settings.landing_cold and str(Path(settings.landing_cold).absolute()),
        "warehouse": str(folder / "warehouse.duckdb"),
        "publish": str(folder / "published"),
        "timezone": settings.timezone,
        "threads": str(settings.threads),
        "memory_limit": settings.memory_limit,
        "pii_salt": settings.pii_salt.get_secret_value() if settings.pii_salt else "",
    }
    names = [word for name in datasets for word in ("--dataset", name)]
    done = subprocess.run(
        [sys.executable, "-m", "ingestion_platform", "baseline", "--days", str(count), *names],
        cwd=checkout,
        env={**inherited(**changes), "PYTHONPATH": str(checkout.absolute())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-3:]
        raise WarehouseError(
            f"{checkout} can't make its tables: {' '.join(said)}",
            "is it of before `try`? Try against a warehouse then, without --against",
        )


# --- words


def as_text(trial: Trial) -> str:
    """For a terminal."""
    lines = [_headline(trial), ""]
    for kind, told in _told(trial):
        lines.append(kind)
        lines += [f"  {line}" for line in told]
        lines.append("")
    return "\n".join([*lines, "What would change:", "", plan_text.as_text(trial.plan)])


def as_markdown(trial: Trial) -> str:
    """For a pull request."""
    lines = [f"### {_headline(trial)}", ""]
    for kind, told in _told(trial):
        lines += [f"**{kind}**", "", *(f"- {plan_text.escaped(line)}" for line in told), ""]
    details = ["<details><summary>What would change</summary>", "", plan_text.as_markdown(trial.plan), "", "</details>"]
    return "\n".join([*lines, *details])


def as_json(trial: Trial) -> str:
    """For a program."""
    told = {
        "passed": trial.passed,
        "too_much": trial.too_much,
        "losses": [dataclasses.asdict(loss) for loss in trial.losses],
        "allowed": {kind: str(allowance) for kind, allowance in trial.allowed.items()},
        "plan": json.loads(plan_text.as_json(trial.plan)),
    }
    return json.dumps(told, indent=2)


def _headline(trial: Trial) -> str:
    days = max((len(days) for days in trial.plan.asked.days.values()), default=0)
    names = list(trial.plan.asked.days)
    what = ", ".join(names) if len(names) <= 3 else f"{len(names):,} datasets"
    tried = f"tried on the last {days:,} {'day' if days == 1 else 'days'} of {what}"
    if trial.passed:
        lost = sum(loss.count for loss in trial.losses)
        return f"Passed: nothing is lost, {tried}." if not lost else f"Passed: what is lost is allowed, {tried}."
    return f"Failed: {', '.join(KINDS[kind] for kind in trial.too_much)}; {tried}."


def _told(trial: Trial) -> Iterator[tuple[str, list[str]]]:
    for kind, words in KINDS.items():
        ours = [loss for loss in trial.losses if loss.kind == kind]
        if not ours:
            continue
        allowed: Allowance | None = trial.allowed.get(kind)
        count, of = sum(loss.count for loss in ours), sum(loss.of for loss in ours)
        title = f"{words}: {count:,}" + (f" of {of:,}" if of > count else "")
        if allowed is not None:
            title += f" (allowed: {allowed})"
        elif kind != "failures":
            title += f" (to allow it: --allow {kind}={count})"
        yield title, list(_lines(ours))


def _lines(losses: Sequence[Loss]) -> Iterator[str]:
    shown = sorted(losses, key=lambda loss: -loss.count)[: plan_text.SHOWN_DAYS]
    for loss in shown:
        yield f"{loss.table}: {loss.count:,}: {loss.what}"
    if len(losses) > len(shown):
        rest = sum(loss.count for loss in losses) - sum(loss.count for loss in shown)
        yield f"and {rest:,} more in {len(losses) - len(shown):,} other places"
