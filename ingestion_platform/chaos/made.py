"""
Values and rows made up from a declaration: rows that fit it, and for each of its rules rows that break it.

Belongs here: what a column may hold, and what it may not. Doesn't: how a row is written down (`writing.py`).

Equal seeds give equal rows. What can't be made up is said (`CantMake`), never guessed: a person then gives what has landed.
"""

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.table import Column

Row = dict[str, str | None]
"""Column → value as text; None: it isn't there."""

MOST_TRIES = 200
"""For a key that no row has yet."""
FROM_OPENING = 8
"""Hours of the day between which things happen, so that no time zone moves them to another day."""
TO_CLOSING = 18
_ANYTHING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_CATEGORIES = {"CATEGORY_DIGIT": "0123456789", "CATEGORY_SPACE": " ", "CATEGORY_WORD": _ANYTHING + "_"}


class CantMake(Exception):
    """Nothing can be made up that fits a declaration; the message says why."""


def text_like(pattern: str, chance: Random) -> str:
    """
    A text that a pattern matches as a whole.

    Raises:
        CantMake: none was found.
    """
    # Python's own reading of the pattern: nothing else in the standard library takes one apart.
    parsed = importlib.import_module("re._parser").parse(pattern)
    for _ in range(10):
        found = "".join(_pieces(parsed, chance))
        if re.fullmatch(pattern, found):
            return found
    raise CantMake(f"no text was found that the pattern {pattern!r} matches")


def _pieces(parsed: Any, chance: Random) -> Iterator[str]:
    for code, argument in parsed:
        match str(code):
            case "LITERAL":
                yield chr(argument)
            case "NOT_LITERAL":
                yield chance.choice([letter for letter in _ANYTHING if ord(letter) != argument])
            case "ANY":
                yield chance.choice(_ANYTHING)
            case "IN":
                yield chance.choice(_members(argument))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inside = argument
                for _ in range(chance.randint(least, min(int(most), least + 6))):
                    yield from _pieces(inside, chance)
            case "SUBPATTERN":
                yield from _pieces(argument[-1], chance)
            case "ATOMIC_GROUP":
                yield from _pieces(argument, chance)
            case "BRANCH":
                yield from _pieces(chance.choice(argument[1]), chance)
            case "CATEGORY":
                yield chance.choice(_CATEGORIES.get(str(argument), _ANYTHING))
            case "AT":
                pass
            case other:
                raise CantMake(f"its pattern has {other.lower()}, which nothing is made up for")


def _members(inside: Any) -> str:
    found = ""
    is_negated = False
    for code, argument in inside:
        match str(code):
            case "NEGATE":
                is_negated = True
            case "LITERAL":
                found += chr(argument)
            case "RANGE":
                found += "".join(map(chr, range(argument[0], min(argument[1], argument[0] + 200) + 1)))
            case "CATEGORY":
                found += _CATEGORIES.get(str(argument), "")
    if is_negated:
        found = "".join(letter for letter in _ANYTHING if letter not in found)
    if not found:
        raise CantMake("its pattern has a class of characters that nothing is made up for")
    return found


@dataclass(frozen=True)
class Made:
    """
    What one sender says on a day.

    Args:
        dataset: whose.
        day: of the key.
        captures: of the key.
        rows: that a parser can read.
    """

    dataset: Dataset
    day: date
    captures: Mapping[str, str]
    rows: Sequence[Row]


@dataclass
class Maker:
    """
    Makes rows up.

    Args:
        datasets: all that are to have some.
        first_day: of each.
        days: how many.
        senders: of each dataset with senders of its own.
        rows: of each object, about.
        chance: decides.
        zone_hours: none; times are written as the dataset's zone has them.
    """

    datasets: Datasets
    first_day: date
    days: int
    senders: int
    rows: int
    chance: Random
    _known: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _keys: dict[str, set[tuple[str | None, ...]]] = field(default_factory=dict)

    @property
    def dates(self) -> list[date]:
        """The days, oldest first."""
        return [self.first_day + timedelta(days=number) for number in range(self.days)]

    def make(self, dataset: Dataset, template: int = 0) -> list[Made]:
        """
        What all senders of a dataset say on all days. Datasets that it refers to come first.

        Raises:
            CantMake: a column's rule, or a key's capture, is one that nothing can be made up for.
        """
        found: list[Made] = []
        for number, captures in enumerate(self._captures(dataset)):
            state: list[Row] | None = None
            for day in self.dates:
                if dataset.kind == "snapshots":
                    # The same rows every day, a value of them another one.
                    state = state or [self._row(dataset, day, captures) for _ in range(max(self.rows, self.senders))]
                    for row in state:
                        self._change(dataset, row, day)
                    rows = [dict(row) for row in state]
                else:
                    rows = [
                        self._row(dataset, day, captures)
                        for _ in range(self.chance.randint(self.rows // 2 + 1, self.rows + self.rows // 2))
                    ]
                    if number % 2 == 0:
                        rows += self._late(dataset, day, captures)
                if number % 3 == 1 or (dataset.kind == "events" and number == 0 and day == self.dates[0]):
                    rows += self._bad(dataset, rows, day, captures)
                found.append(Made(dataset, day, captures, rows))
                self._remember(dataset, rows)
        return found

    def _remember(self, dataset: Dataset, rows: Sequence[Row]) -> None:
        for column in dataset.columns:
            known = self._known.setdefault((dataset.name, column.name), [])
            for row in rows:
                value = row[column.name]
                if value and value not in known and not list(self._broken(column, value)):
                    known.append(value)

    def _broken(self, column: Column, value: str) -> Iterator[str]:
        if column.pattern is not None and not re.fullmatch(column.pattern, value):
            yield "pattern"
        if not column.type.can_be(value):
            yield "type"

    def _captures(self, dataset: Dataset) -> list[dict[str, str]]:
        names = sorted(dataset.source.captures)
        if not names:
            return [{}]
        found = []
        for number in range(self.senders):
            captures = {}
            for name in names:
                column = next((one for one in dataset.columns if one.capture == name), None)
                senders = dataset.senders
                if senders is not None and name == senders.key_capture:
                    roster = self._known.get((senders.dataset, senders.column), [])
                    if not roster:
                        raise CantMake(f"its senders are in {senders.dataset}, which nothing is made up of")
                    captures[name] = roster[number % len(roster)]
                elif column is not None:
                    captures[name] = self._value(dataset, column, self.first_day)
                else:
                    captures[name] = f"{name[:1]}{number + 1}"
                if "/" in captures[name] or not captures[name]:
                    raise CantMake(f"a key can't have {captures[name]!r} as {name}")
            if captures not in found:
                found.append(captures)
        return found

    def _row(self, dataset: Dataset, day: date, captures: Mapping[str, str]) -> Row:
        taken = self._keys.setdefault(dataset.name, set())
        for _ in range(MOST_TRIES):
            row = {
                column.name: captures[column.capture]
                if column.capture is not None
                else self._maybe(dataset, column, day)
                for column in dataset.columns
            }
            key = tuple(row[name] for name in dataset.primary_key)
            if not key or key not in taken:
                taken.add(key)
                return row
        raise CantMake(f"no more keys are found that its {', '.join(dataset.primary_key)} may have")

    def _maybe(self, dataset: Dataset, column: Column, day: date) -> str | None:
        is_needed = column.required or column.name in dataset.primary_key or column.name == dataset.event_time
        if not is_needed and self.chance.random() < 0.15:
            return None
        return self._value(dataset, column, day)

    def _value(self, dataset: Dataset, column: Column, day: date) -> str:
        chance = self.chance
        if column.references is not None:
            other, _, name = column.references.partition(".")
            known = self._known.get((other, name), [])
            if not known:
                raise CantMake(f"{column.name} refers to {column.references}, which nothing is made up of")
            return chance.choice(known)
        if column.one_of:
            return chance.choice(column.one_of)
        if column.pattern is not None:
            return text_like(column.pattern, chance)
        number = self._numbers[dataset.name] = self._numbers.get(dataset.name, 0) + 1
        is_key = column.name in dataset.primary_key
        sql = column.type.sql
        if sql in ("INTEGER", "BIGINT"):
            least = int(str(column.minimum)) if column.minimum is not None else 0
            most = int(str(column.maximum)) if column.maximum is not None else least + 10_000
            return str(min(most, least + number) if is_key else chance.randint(least, min(most, least + 10_000)))
        if column.type.is_decimal or sql == "DOUBLE":
            digits = column.type.scale if column.type.is_decimal else 3
            room = 10 ** max(column.type.precision - digits, 0) - 1 if column.type.is_decimal else 10_000
            low = Decimal(str(column.minimum)) if column.minimum is not None else Decimal(0)
            high = Decimal(str(column.maximum)) if column.maximum is not None else low + min(room, 1_000)
            share = Decimal(chance.randint(0, 10_000)) / 10_000
            return f"{low + (high - low) * share:.{digits}f}"
        match sql:
            case "BOOLEAN":
                return chance.choice(("true", "false"))
            case "DATE":
                return (day - timedelta(days=chance.randint(0, 30))).isoformat()
            case "TIMESTAMP":
                return self._moment(day)
            case "JSON":
                return f'[{{"number": {number}, "of": "{column.name}"}}]'
        return f"{column.name[:2].upper()}{number:06d}" + (
            "" if is_key else chance.choice(("", " and so", " é", ", too"))
        )

    def _moment(self, day: date) -> str:
        hour = self.chance.randint(FROM_OPENING, TO_CLOSING)
        moment = datetime.combine(day, time(hour, self.chance.randint(0, 59), self.chance.randint(0, 59)))
        return moment.isoformat(sep=" ")

    def _change(self, dataset: Dataset, row: Row, day: date) -> None:
        """Let a day's snapshot say something else than the day before."""
        free = [one for one in dataset.columns if one.name not in dataset.primary_key and one.capture is None]
        free = [one for one in free if one.references is None and not one.one_of and one.type.sql != "DATE"]
        if free and self.chance.random() < 0.3:
            column = self.chance.choice(free)
            row[column.name] = self._value(dataset, column, day)

    def _late(self, dataset: Dataset, day: date, captures: Mapping[str, str]) -> list[Row]:
        """Rows of former days: the last of them later than is allowed."""
        if dataset.event_time is None:
            return []
        found = []
        for back in (1, dataset.daily.allowed_lateness_days + 1):
            row = self._row(dataset, day, captures)
            row[dataset.event_time] = self._moment(day - timedelta(days=back))
            found.append(row)
        return found

    def _bad(self, dataset: Dataset, rows: Sequence[Row], day: date, captures: Mapping[str, str]) -> list[Row]:
        """For each rule of the declaration a row that breaks it, and one whose key is there already."""
        found: list[Row] = []
        for column in dataset.columns:
            if column.capture is not None:
                continue
            for value in self._bad_values(column):
                found.append(self._row(dataset, day, captures) | {column.name: value})
        if dataset.primary_key and rows:
            again = dict(rows[0])
            self._change(dataset, again, day)
            found.append(again)
        return found

    @staticmethod
    def _bad_values(column: Column) -> Iterator[str | None]:
        if column.required:
            yield None
        if column.type.sql not in ("VARCHAR",):
            yield "lots"
        if column.minimum is not None:
            yield str(Decimal(str(column.minimum)) - 1)
        if column.maximum is not None:
            yield str(Decimal(str(column.maximum)) + 1)
        if column.one_of:
            yield "something else"
        if column.pattern is not None and not re.fullmatch(column.pattern, "~"):
            yield "~"
        if column.references is not None:
            yield "nobody"
