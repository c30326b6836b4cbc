"""
What has to be computed again: days of processed and report tables whose inputs have changed since, told by the warehouse.

Belongs here: the decision alone. Doesn't: Dagster's sensor around it (`sensors.py`).

Late data, a corrected file, a new roster, a changed declaration or query: all look alike here. Days that stand together go in one run,
with the tables made of them behind their checks; where a table carries its state on, a run is asked for when the one before it has ended.
A state is asked for once, and once more each business day while it stays stale: a run that fails isn't repeated all night. What a failing
blocking check holds back stays held back.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from ingestion_platform.orchestration import checks
from ingestion_platform.orchestration.assets import checks_of
from ingestion_platform.orchestration.digest import fingerprint
from ingestion_platform.orchestration.graph import Graph, Table
from ingestion_platform.orchestration.partitions import runs_of_days
from ingestion_platform.warehouse import Warehouse

LONGEST_RUN_DAYS = 31
"""A range run is cheap by the day, but a failing day holds up what comes after in its run: a month is the middle."""
MOST_RUNS = 8
"""Runs asked for at once; the rest is asked for at later looks."""


@dataclass(frozen=True)
class Asked:
    """State of each stale table's day when a run was last asked for; days that aren't stale any more are dropped."""

    states: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "Asked":
        """Read one; one that can't be read is an empty one: at worst a state is asked for twice."""
        try:
            return cls({str(key): str(state) for key, state in json.loads(text or "{}").items()})
        except (ValueError, AttributeError):
            return cls()

    def __str__(self) -> str:
        return json.dumps(dict(self.states), sort_keys=True)


@dataclass(frozen=True)
class Restatement:
    """
    One run to ask for.

    Args:
        tables: in order.
        first: None for tables without days.
        last: included.
        run_key: of the stale state.
        stale: the tables that asked for it; the others are made of them.
    """

    tables: tuple[str, ...]
    first: date | None
    last: date | None
    run_key: str
    stale: tuple[str, ...]

    def has(self, table: str, day: date) -> bool:
        """Whether it computes that table's day."""
        return (
            table in self.tables and self.first is not None and self.last is not None and self.first <= day <= self.last
        )


@dataclass(frozen=True)
class Plan:
    """Runs to ask for, what to remember, and what is held back by which check."""

    runs: tuple[Restatement, ...]
    asked: Asked
    held_back: tuple[str, ...]


def plan(
    graph: Graph,
    warehouse: Warehouse,
    asked: Asked,
    today: date,
    is_busy: Callable[[str, date | None], bool],
) -> Plan:
    """
    Decide what to compute again.

    Args:
        graph: all tables.
        warehouse: says what is stale.
        asked: what was asked for before.
        today: the business day.
        is_busy: whether a run for that table and day is queued or under way.
    """
    is_waiting = False
    states: dict[str, str] = {}
    held_back: list[str] = []
    carried: dict[str, list[date]] = {}
    fresh: dict[date | None, set[str]] = {}
    for key in graph.computed():
        table = graph.tables[key]
        stale_days = warehouse.stale_days(key)
        if table.sql is not None and table.sql.carries_on:
            carried[key] = [day for day in stale_days if day is not None]
        for day in stale_days:
            if day is not None and (not table.has_day(day) or day > today):
                continue
            blockers = _blockers(graph, warehouse, table, day)
            if blockers:
                held_back.append(f"{key}{f' {day}' if day else ''} by {', '.join(blockers)}")
                continue
            name = f"{key}|{day or ''}"
            state = fingerprint([warehouse.inputs(key, day), today.isoformat()])
            if is_busy(key, day):
                is_waiting = True
                if name in asked.states:
                    states[name] = asked.states[name]
                continue
            if asked.states.get(name) == state:
                states[name] = state
                continue
            fresh.setdefault(day, set()).add(key)
            states[name] = state
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[date]] = {}
    runs: list[Restatement] = []
    for day in sorted(day for day in fresh if day is not None):
        stale = graph.in_order(fresh[day])
        tables = tuple(
            key
            for key in graph.in_order([*stale, *graph.followers(stale)])
            if graph.tables[key].has_day(day) and not is_busy(key, day)
        )
        groups.setdefault((tables, stale), []).append(day)
    for (tables, stale), days in groups.items():
        for first, last in runs_of_days(days, LONGEST_RUN_DAYS):
            runs.append(_restatement(tables, stale, first, last, states))
    runs.sort(key=lambda run: (run.first or today, run.tables))
    waiting = [run for run, is_early in _in_turn(runs, carried, is_busy) if is_early]
    for early in waiting:
        runs.remove(early)
        is_waiting = True
        for name in _names(early):
            states.pop(name, None)
    if None in fresh and not runs and not is_waiting:
        # Tables without days read all days: they wait for those that are about to be done.
        stale = graph.in_order(fresh[None])
        runs.append(_restatement(stale, stale, None, None, states))
    elif None in fresh:
        for key in fresh[None]:
            states.pop(f"{key}|", None)
    for late in runs[MOST_RUNS:]:
        for name in _names(late):
            states.pop(name, None)
    return Plan(tuple(runs[:MOST_RUNS]), Asked(states), tuple(held_back))


def _in_turn(
    runs: Sequence[Restatement],
    carried: Mapping[str, Sequence[date]],
    is_busy: Callable[[str, date | None], bool],
) -> Iterator[tuple[Restatement, bool]]:
    """Each run, and whether it would carry on a state of a former day that another run is still to compute, or computes just now."""
    for number, run in enumerate(runs):
        others = [other for at, other in enumerate(runs) if at != number]
        yield (
            run,
            any(
                is_busy(key, day) or any(other.has(key, day) for other in others)
                for key in run.stale
                for day in carried.get(key, ())
                if run.first is not None and day < run.first
            ),
        )


def _restatement(
    tables: tuple[str, ...], stale: tuple[str, ...], first: date | None, last: date | None, states: Mapping[str, str]
) -> Restatement:
    run = Restatement(tables, first, last, "", stale)
    key = fingerprint([*tables, *(f"{name}={states[name]}" for name in _names(run))])
    return Restatement(tables, first, last, f"restatement|{first or ''}|{last or ''}|{key}", stale)


def _names(run: Restatement) -> list[str]:
    if run.first is None or run.last is None:
        return [f"{key}|" for key in run.stale]
    ordinals = range(run.first.toordinal(), run.last.toordinal() + 1)
    return [f"{key}|{date.fromordinal(number)}" for key in run.stale for number in ordinals]


def _blockers(graph: Graph, warehouse: Warehouse, table: Table, day: date | None) -> list[str]:
    """`processed.sales row_balance` for each failing blocking check of what the day is made of."""
    found: list[str] = []
    for key in table.reads:
        other = graph.tables[key]
        if other.is_daily and day is None:
            continue
        if other.layer == "raw":
            assert other.dataset is not None
            assert day is not None
            if any(
                one.rows_read != one.rows_loaded + one.rows_quarantined
                for one in warehouse.raw_day(other.dataset, day).entries
            ):
                found.append(f"{key} {checks.LEDGER_BALANCE.name}")
            continue
        state = warehouse.table_day(key, day if other.is_daily else None)
        if state is not None:
            found += [f"{key} {name}" for name in checks.blocking_failures(checks_of(other), state)]
    return found
