"""
What is known of subjects beforehand, as rules ask for it: a row each of a table with days.

Belongs here: which day's rows a rule gets, and finding a subject's. Doesn't: where the rows are (`warehouse/`).
"""

from collections import namedtuple
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from ingestion_platform.rules.judge import About
from ingestion_platform.rules.rule import Known, Rule

Read = Callable[[str, date, Sequence[str]], pa.Table | None]
"""Table, day and columns → the newest rows up to that day; None: there are none."""


def day_known(rule: Rule, day: date) -> date:
    """The last day of its table that a rule knows on a day."""
    assert rule.known is not None, "it knows something"
    if rule.known.of_day == "same":
        return day
    return day - timedelta(days=1 + rule.on.daily.allowed_lateness_days)


class Knowledge:
    """
    What rules know.

    Args:
        rules: all that ask.
        read: gives rows of a table.
        missing: told of a rule and day that nothing is known for.
    """

    def __init__(self, rules: Sequence[Rule], read: Read, missing: Callable[[Rule, date], None]) -> None:
        self._read = read
        self._missing = missing
        self._rows: dict[tuple[Known, date], dict[About, Any]] = {}
        self._asked: dict[Known, list[str]] = {}
        for rule in rules:
            if rule.known is not None:
                asked = self._asked.setdefault(rule.known, [])
                asked += [column for column in rule.kind.asks if column not in asked]

    def __call__(self, rule: Rule, day: date, about: About) -> Any:
        """What a rule knows of a subject on a day: a named tuple, or None."""
        assert rule.known is not None, "it knows something"
        known = day_known(rule, day)
        rows = self._rows.get((rule.known, known))
        if rows is None:
            rows = self._rows[rule.known, known] = self._of_day(rule, known, day)
        places = [rule.by.index(column) for column in rule.known.by]
        return rows.get(tuple(about[place] for place in places))

    def _of_day(self, rule: Rule, known: date, day: date) -> dict[About, Any]:
        assert rule.known is not None, "it knows something"
        asked = self._asked[rule.known]
        table = self._read(rule.known.table, known, (*rule.known.by, *asked))
        if table is None:
            self._missing(rule, day)
            return {}
        made: Any = namedtuple("Known", asked)  # type: ignore[misc]
        make = made._make
        columns = [column.to_pylist() for column in table.columns]
        keys = len(rule.known.by)
        return dict(zip(zip(*columns[:keys], strict=True), map(make, zip(*columns[keys:], strict=True)), strict=True))

    def forget(self) -> None:
        """Ask again when it is needed."""
        self._rows.clear()
