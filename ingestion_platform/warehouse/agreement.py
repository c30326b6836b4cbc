"""
What was raised live, held against what the batch says of the same day.

Belongs here: alert by alert, and why one differs, where that is known. Doesn't: judging (`judged.py`), what a person is told of it
(`orchestration/checks.py`).

Live judges what comes, the batch what the day's tables hold in the end; they differ only where something else came to one of them: events
that came after the live horizon, while nobody judged, or that were left over; other rows of what is known beforehand.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import duckdb

from ingestion_platform.dataset import Dataset
from ingestion_platform.landing import LandingZone
from ingestion_platform.own_roots import LIVE
from ingestion_platform.rules import notes
from ingestion_platform.rules.rule import Rules
from ingestion_platform.warehouse.engine import name, text

MOST_EXPLAINED = 1_000
"""Differences whose events are looked up one by one; more than these are no accident."""

NOBODY_JUDGED = "its events came while no worker judged"
KNOWN_ANEW = "what is known beforehand was another then"


@dataclass(frozen=True, slots=True)
class Difference:
    """
    An alert that only one of the two has.

    Args:
        side: `live`: it stands, and the batch doesn't say so; `batch`: it was never raised, or was withdrawn.
        alert_id: its id.
        rule: its rule.
        about: its subject, as JSON.
        deserved_by: by which event.
        happened_at: UTC.
        why: empty when nobody knows.
    """

    side: str
    alert_id: str
    rule: str
    about: str
    deserved_by: str
    happened_at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    How a day's live alerts and those of the batch agree.

    Args:
        both: alerts that both have.
        differences: alerts that one has.
        was_judged: whether any worker judged on that day.
        until: UTC; the last moment up to which one did.
        left: events left to the batch, by why.
    """

    both: int
    differences: tuple[Difference, ...] = ()
    was_judged: bool = True
    until: datetime | None = None
    left: Mapping[str, int] = field(default_factory=dict)

    @property
    def unexplained(self) -> tuple[Difference, ...]:
        """Those of which nobody knows why."""
        return tuple(one for one in self.differences if not one.why)


def read_notes(landing: LandingZone, day: date) -> list[notes.Note]:
    """
    What workers noted of a day, by time.

    Raises:
        LandingError: it can't be read.
    """
    found = []
    for landed in landing.list(f"{LIVE}{day:%Y/%m/%d}/"):
        found.append(notes.read(landing.read(landed), day))
    return sorted(found, key=lambda note: note.until)


def compare(
    engine: duckdb.DuckDBPyConnection,
    day: date,
    *,
    live: str,
    batch: str,
    noted: Sequence[notes.Note],
    rules: Rules,
    arrivals: Callable[[Dataset, str], datetime | None],
    content: Callable[[str, date], str | None],
) -> Agreement:
    """
    Hold a day's alerts against each other.

    Args:
        engine: that both relations are of.
        day: business day.
        live: SQL of the rows of `processed.alerts`.
        batch: SQL of those of `processed.alerts_in_batch`.
        noted: what workers noted of the day.
        rules: as they are declared now.
        arrivals: when the last event of a subject (an SQL condition over the dataset's processed rows) arrived, UTC.
        content: of the newest partition of a table up to a day.
    """
    known_rules = ", ".join(map(text, rules)) or "''"
    columns = "alert_id, rule, about::varchar as about, deserved_by, happened_at, action"
    standing = (
        f"select {columns} from (select *, row_number() over (partition by alert_id order by ordinal desc) as place from ({live}))"
        f" where place = 1 and change = 'raised' and rule in ({known_rules})"
    )
    both = int(
        engine.execute(
            f"select count(*) from ({standing}) semi join ({batch}) as batch using (alert_id, action)"
        ).fetchall()[0][0]
    )
    rows: list[tuple[str, Any]] = []
    for side, one, other in (("batch", f"select {columns} from ({batch})", standing), ("live", standing, batch)):
        found = engine.execute(
            f"select * exclude (action) from ({one}) as one anti join ({other}) as other using (alert_id, action)"
            " order by happened_at, alert_id"
        ).fetchall()
        rows += [(side, row) for row in found]
    until = max((note.until for note in noted), default=None)
    left: dict[tuple[str, str], str] = {}
    counted: dict[str, int] = {}
    for note in noted:
        for entry in note.left:
            left[entry.rule, _written(entry.about)] = entry.why
            counted[entry.why] = counted.get(entry.why, 0) + entry.events
    is_other = _known_anew(noted, content)
    differences = []
    for number, (side, (alert_id, rule, about, deserved_by, happened_at)) in enumerate(rows):
        subject = json.loads(about)
        why = left.get((rule, _written(subject)), "") or left.get((notes.ALL, _written({})), "")
        if not why and until is None:
            why = NOBODY_JUDGED
        known = rules[rule].known
        if not why and is_other(rules[rule].on.references, known.table if known is not None else None):
            why = KNOWN_ANEW
        if not why and until is not None and number < MOST_EXPLAINED:
            arrived = arrivals(rules[rule].on, _condition(subject))
            if arrived is not None and arrived > until:
                why = NOBODY_JUDGED
        differences.append(Difference(side, alert_id, rule, about, deserved_by, happened_at, why))
    return Agreement(both, tuple(differences), bool(noted), until, counted)


def _known_anew(
    noted: Sequence[notes.Note], content: Callable[[str, date], str | None]
) -> Callable[[Sequence[tuple[Any, str, str]], str | None], bool]:
    """Whether what a rule knew when it was judged last is another now, by its references and its table."""
    last: dict[str, str] = {}
    for note in noted:
        last |= note.known
    changed = set()
    for place, then in last.items():
        table, _, day = place.partition("@")
        if (content(table, date.fromisoformat(day)) or "") != then:
            changed.add(table)
    return lambda references, table: bool(
        changed & {*(f"processed.{other}" for _, other, _ in references), *([table] if table else [])}
    )


def _condition(subject: Mapping[str, str]) -> str:
    return " and ".join(f"{name(column)}::varchar = {text(str(value))}" for column, value in subject.items()) or "true"


def _written(about: Mapping[str, Any]) -> str:
    return json.dumps(dict(about), sort_keys=True)


def as_moment(said: str | None) -> datetime | None:
    """A moment as raw has it."""
    return datetime.fromisoformat(said).astimezone(UTC) if said else None
