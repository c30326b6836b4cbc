"""
What a live rule is: whose events it looks at, how they are told apart, what it knows beforehand, and how one after the other is judged.

Belongs here: the declaration and what can be told wrong with it alone. Doesn't: the kinds of rules (`kinds.py`), judging (`judge.py`).
"""

import difflib
import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, Literal, Protocol, TypeAlias

from ingestion_platform.alert import Action
from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import DeclarationError
from ingestion_platform.table import IDENTIFIER, Mask

OWN = ("at", "key", "version")
"""What an event has beside the columns that rules take: event time (UTC, without a zone), key, and where it stands in its stream."""

LONGEST_LOOK_BACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What a step has found: an alert is deserved.

    Args:
        deserved_by: the key of the event that deserves it, or of the one that its episode began with; once a subject and day.
        happened_at: UTC, without a zone; of the event that shows it.
        score: how sure, 0 to 1.
        reasons: in words, the weightiest first.
        details: numbers behind them.
        action: None: the rule's.
    """

    deserved_by: str
    happened_at: datetime
    score: float
    reasons: tuple[str, ...]
    details: Mapping[str, str] = field(default_factory=dict)
    action: Action | None = None


Step: TypeAlias = tuple[Any, Sequence[Finding]]
"""The state after an event, and what the event shows. A state is never changed, but replaced."""


class Kind(Protocol):
    """
    How one event after the other is judged; a frozen dataclass, so that its `repr` says all of it.

    `step` is a pure function. It is given the state after the event before (None before the first one), the event (a named tuple of `OWN`
    and the columns taken), and what is known of the subject beforehand (a named tuple of the profile's columns; None when nothing is).
    """

    @property
    def takes(self) -> tuple[str, ...]:
        """The columns that it reads of events."""
        ...

    @property
    def asks(self) -> tuple[str, ...]:
        """The columns that it reads of what is known beforehand."""
        ...

    @property
    def looks_back(self) -> timedelta:
        """How long before a day events matter to it; 0: each day begins anew."""
        ...

    def step(self, state: Any, event: Any, known: Any) -> Step:
        """Judge an event."""
        ...


@dataclass(frozen=True, kw_only=True)
class Known:
    """
    What is known of subjects beforehand: a row each of a table with days.

    Args:
        table: `processed.customer_habits`; its columns `by` are those of the rule, by the same names.
        by: those columns of the rule's `by` that the table has a row for each of.
        of_day: `settled`: of the last day before that late data can't reach any more, so that it is the same whenever it is asked;
            `same`: of the day itself, or the newest before, as of what was counted in the morning.
    """

    table: str
    by: tuple[str, ...]
    of_day: Literal["settled", "same"] = "settled"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """
    One live rule, declared next to the dataset whose events it judges.

    Args:
        name: snake_case; with subject and event it makes an alert's id.
        description: what an alert of it says.
        on: a dataset of events with a primary key.
        by: columns of a subject: `("customer_id",)`. Events in which one of these is NULL belong to none. Empty: all events are one's.
        kind: how events are judged.
        where: SQL over the processed columns: other events are left out.
        known: what it knows of subjects beforehand.
        priority: 1 comes before 9, in telling, and when more comes than can be judged.
        action: what is to be done, where the kind doesn't say.
        version: counts up when the kind's code comes to something else.
    """

    name: str
    description: str
    on: Dataset
    by: tuple[str, ...]
    kind: Kind
    where: str = ""
    known: Known | None = None
    priority: int = 5
    action: Action = "review"
    version: int = 1

    def __post_init__(self) -> None:
        self._require(IDENTIFIER.fullmatch(self.name) is not None, "a name is snake_case and starts with a letter")
        self._require(bool(self.description.strip()), "it has no description", "say what an alert of it says")
        self._require(1 <= self.priority <= 9, f"priority is 1 to 9, not {self.priority}")
        self._require(
            self.on.kind == "events" and bool(self.on.primary_key),
            f"dataset {self.on.name!r} holds {self.on.kind}{'' if self.on.primary_key else ' without a primary key'}",
            "rules judge events that have a key",
        )
        for column in (*self.by, *self.kind.takes):
            names = [one.name for one in self.on.columns]
            near = difflib.get_close_matches(column, names, 1)
            self._require(
                column in names,
                f"column {column!r} is not among those of {self.on.name!r}",
                f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(names)}",
            )
            self._require(column not in OWN, f"column {column!r} has a name that every event has already", "rename it")
        for column in self.by:
            mask = self.on.column(column).pii
            self._require(
                mask in (None, Mask.HASH),
                f"column {column!r} of its subjects is masked by {mask}: different ones would look the same",
                "Mask.HASH keeps different values different",
            )
        self._require(
            timedelta() <= self.kind.looks_back <= LONGEST_LOOK_BACK,
            f"it looks back {self.kind.looks_back}",
            f"at most {LONGEST_LOOK_BACK}; what is older belongs into a table that it knows beforehand",
        )
        self._require(
            not self.kind.asks or self.known is not None,
            f"its kind asks for {', '.join(self.kind.asks)}, and nothing is known beforehand",
            "known=Known(table=…, by=…)",
        )
        if self.known is not None:
            self._require(
                set(self.known.by) <= set(self.by),
                f"what is known is by {self.known.by}, and its subjects by {self.by}",
                "by columns of the subject",
            )

    def _require(self, holds: bool, what: str, hint: str = "") -> None:
        if not holds:
            raise DeclarationError(f"rule {self.name!r}: {what}", hint)

    @property
    def digest(self) -> str:
        """Changes whenever the same rows would deserve other alerts."""
        said = (
            self.name,
            self.by,
            repr(self.kind),
            self.where,
            repr(self.known),
            self.priority,
            self.action,
            self.version,
        )
        return hashlib.sha256(repr(said).encode()).hexdigest()


class Rules(Mapping[str, Rule]):
    """All rules by name."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._by_name: dict[str, Rule] = {}
        for rule in rules:
            if rule.name in self._by_name:
                raise DeclarationError(f"rule {rule.name!r} is declared twice", "rename one of them")
            self._by_name[rule.name] = rule

    def on(self, dataset: str) -> tuple[Rule, ...]:
        """The rules that judge a dataset's events, the most urgent first."""
        found = (rule for rule in self._by_name.values() if rule.on.name == dataset)
        return tuple(sorted(found, key=lambda rule: (rule.priority, rule.name)))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets whose events are judged."""
        return tuple(sorted({rule.on.name for rule in self._by_name.values()}))

    def __getitem__(self, name: str) -> Rule:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def find_rules(package: ModuleType) -> Rules:
    """
    Gather the rules that the modules of *package* declare at top level.

    Raises:
        DeclarationError: one is wrong; the message names the file.
    """
    found: dict[int, Rule] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        try:
            module = importlib.import_module(f"{package.__name__}.{info.name}")
        except DeclarationError as error:
            place = f"{package.__name__.replace('.', '/')}/{info.name}.py"
            raise DeclarationError(f"{place}: {error.what}", error.hint) from error
        # One that another module imports is the same one.
        found |= {id(rule): rule for _, rule in inspect.getmembers(module, lambda value: isinstance(value, Rule))}
    return Rules(found.values())
