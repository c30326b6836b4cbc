"""
Rows of the quarantine that people have discarded: taken in from the landing zone, and held against the objects as they are now.

Belongs here: the ledger's tables of these decisions, and which rows they cover today. Doesn't: choosing rows (`quarantine.py`), what a
discarded row means for a day (`process.py`).

A discard names its rows by the object's key and SHA-256 and by their numbers, and says how many records the object had. So a file that is
sent anew isn't touched by what was decided about the former one, nor is one that a changed declaration takes apart otherwise: row 7 may be
another record then. Of objects of the same content the one that stands for it is meant. A later decision counts for more.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from ingestion_platform.decisions import Decision
from ingestion_platform.errors import LandingError
from ingestion_platform.warehouse.decided import BrokenDecision, LandedDecision, LandedDecisions
from ingestion_platform.warehouse.ledger_file import LedgerFile, seal

log = logging.getLogger(__name__)

KINDS = ("discard", "reopen", "redrive")
"""What is decided about rows of the quarantine. The first two have consequences, all of them are remembered."""

SCHEMA = """
create table if not exists quarantine_decisions (
    key text primary key, kind text not null, dataset text not null, at text not null, by_name text not null, why text not null,
    rows integer not null, objects integer not null, filters text not null, seal text not null
) strict, without rowid;
create table if not exists quarantine_broken (
    key text primary key, kind text not null, dataset text not null, reason text not null
) strict, without rowid;
create table if not exists discards (
    decision text not null, dataset text not null, object text not null, sha256 text not null, records integer,
    first_row integer not null, last_row integer not null, seal text not null,
    primary key (decision, object, first_row)
) strict, without rowid;
create index if not exists discards_by_object on discards (dataset, object);
"""

_DECISION_COLUMNS = ("key", "kind", "dataset", "at", "by_name", "why", "rows", "objects", "filters")
_DISCARD_COLUMNS = ("decision", "dataset", "object", "sha256", "records", "first_row", "last_row")

_EFFECTIVE = """
select o.key as object, d.first_row, d.last_row, q.kind, q.at, q.by_name, q.why, q.key as decision
from discards d
join quarantine_decisions q on q.key = d.decision
join objects b on b.dataset = d.dataset and b.key = d.object and b.is_current = 1 and b.sha256 = d.sha256
join objects o on o.dataset = d.dataset and o.is_current = 1 and o.state = 'loaded' and o.sha256 = d.sha256
    and o.key = iif(b.state = 'duplicate', b.duplicate_of, b.key)
where d.dataset = ? and o.day >= ? and o.day <= ? and (o.shard is not null or d.records is null or o.rows_read = d.records)
order by q.at, q.key, o.key, d.first_row
"""


@dataclass(frozen=True, slots=True)
class ObjectRows:
    """
    Rows of one object, as a decision names them.

    Args:
        object: key.
        sha256: of its content.
        day: of its key.
        records: that were read of it; None of a stream's segment, whose records have their numbers from the stream.
        rows: first and last number of each run of rows, ascending.
    """

    object: str
    sha256: str
    day: date
    records: int | None
    rows: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(last - first + 1 for first, last in self.rows)

    def written(self) -> dict[str, Any]:
        """As a decision says it."""
        return {
            "object": self.object,
            "sha256": self.sha256,
            "day": self.day.isoformat(),
            "records": self.records,
            "rows": [list(run) for run in self.rows],
        }


def rows_of(decision: Decision) -> tuple[ObjectRows, ...]:
    """
    The rows that a decision names.

    Raises:
        LandingError: its details aren't rows.
    """
    try:
        return tuple(_parsed(one) for one in decision.what["objects"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LandingError(
            f"the decision {decision.key} doesn't say which rows it is about: {error!r}",
            "move it out of the landing zone, and decide again",
        ) from error


def _parsed(values: Mapping[str, Any]) -> ObjectRows:
    key, sha256, records = values["object"], values["sha256"], values["records"]
    if not (isinstance(key, str) and isinstance(sha256, str) and (records is None or _is_count(records))):
        raise ValueError("an object is a key, a SHA-256 and a number of records")
    runs: list[tuple[int, int]] = []
    for first, last in values["rows"]:
        if not (_is_count(first) and _is_count(last) and first <= last) or (runs and first <= runs[-1][1]):
            raise ValueError(f"{[first, last]!r:.100} is no run of rows after those before it")
        runs.append((first, last))
    return ObjectRows(key, sha256, date.fromisoformat(values["day"]), records, tuple(runs))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def runs_of(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Row numbers as first and last of each run of them."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class Discard:
    """Rows of an object that a person has discarded, and nobody has taken back since."""

    object: str
    first_row: int
    last_row: int
    at: str
    by: str
    why: str
    decision: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision about rows of the quarantine, as it is remembered."""

    key: str
    kind: str
    dataset: str
    at: datetime
    by: str
    why: str
    rows: int
    objects: int
    filters: Mapping[str, Any]


class Discards:
    """
    What the ledger knows of decisions about the quarantine.

    Args:
        file: the ledger's.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    # --- taking in

    def take_in(self, landed: LandedDecisions, dataset: str) -> tuple[BrokenDecision, ...]:
        """
        Note what has been decided since the last look.

        Returns:
            What lies among the decisions and can't be read; it counts for nothing.

        Raises:
            LandingUnavailable: no answer after every attempt.
        """
        known = self._known(dataset)
        new: list[tuple[LandedDecision, tuple[ObjectRows, ...]]] = []
        broken: list[tuple[str, BrokenDecision]] = []
        for kind in KINDS:
            found = landed.list(kind, dataset, known=known)
            broken += [(kind, one) for one in found.broken]
            for one in found.decisions:
                try:
                    new.append((one, rows_of(one.decision)))
                except LandingError as error:
                    broken.append((kind, BrokenDecision(one.key, str(error))))
        for _, one_broken in broken:
            log.warning("%s", one_broken.reason)
        if new or broken or self.broken(dataset):
            self._note(dataset, new, broken)
        return tuple(one for _, one in broken)

    def _known(self, dataset: str) -> frozenset[str]:
        with self._file.reading() as connection:
            rows = connection.execute("select key from quarantine_decisions where dataset = ?", (dataset,))
            return frozenset(key for (key,) in rows)

    def _note(
        self,
        dataset: str,
        new: Sequence[tuple[LandedDecision, tuple[ObjectRows, ...]]],
        broken: Sequence[tuple[str, BrokenDecision]],
    ) -> None:
        with self._file.writing() as connection:
            for landed, named in new:
                decision = landed.decision
                filters = decision.what.get("filters", {})
                values = (
                    landed.key, decision.kind, dataset, decision.at.isoformat(timespec="microseconds"), decision.by, decision.why,
                    sum(one.count for one in named), len(named), json.dumps(filters, sort_keys=True),
                )  # fmt: skip
                connection.execute(
                    "insert or replace into quarantine_decisions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, seal(values)),
                )
                if decision.kind == "redrive":
                    continue
                rows = [
                    (landed.key, dataset, one.object, one.sha256, one.records, first, last)
                    for one in named
                    for first, last in one.rows
                ]
                connection.executemany(
                    "insert or replace into discards values (?, ?, ?, ?, ?, ?, ?, ?)",
                    [(*row, seal(row)) for row in rows],
                )
            connection.execute("delete from quarantine_broken where dataset = ?", (dataset,))
            connection.executemany(
                "insert into quarantine_broken values (?, ?, ?, ?)",
                [(one.key, kind, dataset, one.reason) for kind, one in broken],
            )

    def strike(self, key: str) -> None:
        """Strike out what was taken in of a decision that isn't in the landing zone any more."""
        with self._file.writing() as connection:
            connection.execute("delete from quarantine_decisions where key = ?", (key,))
            connection.execute("delete from discards where decision = ?", (key,))

    # --- asking

    def broken(self, dataset: str) -> tuple[BrokenDecision, ...]:
        """What lay among the decisions at the last look, and couldn't be read."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "select key, reason from quarantine_broken where dataset = ? order by key", (dataset,)
            ).fetchall()
        return tuple(BrokenDecision(key, reason) for key, reason in rows)

    def decided(self, dataset: str) -> tuple[Decided, ...]:
        """Every decision about a dataset's quarantine, the oldest first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "select * from quarantine_decisions where dataset = ? order by at, key", (dataset,)
            ).fetchall()
        for row in rows:
            self._file.check_seal(row, tuple(row[name] for name in _DECISION_COLUMNS), f"decision {row['key']!r}")
        return tuple(
            Decided(
                row["key"], row["kind"], dataset, datetime.fromisoformat(row["at"]), row["by_name"], row["why"],
                row["rows"], row["objects"], json.loads(row["filters"]),
            )
            for row in rows
        )  # fmt: skip

    def effective(self, dataset: str, first: date = date.min, last: date = date.max) -> tuple[Discard, ...]:
        """
        The rows that are discarded today: of each object, ascending and apart from each other.

        Args:
            dataset: whose.
            first: day of the objects' keys.
            last: likewise, included.
        """
        with self._file.reading() as connection:
            if connection.execute("select 1 from discards where dataset = ? limit 1", (dataset,)).fetchone() is None:
                return ()
            self._check(connection, dataset)
            rows = connection.execute(_EFFECTIVE, (dataset, first.isoformat(), last.isoformat())).fetchall()
        standing: dict[str, list[Discard]] = {}
        for row in rows:
            one = Discard(
                row["object"], row["first_row"], row["last_row"], row["at"], row["by_name"], row["why"], row["decision"]
            )
            of_object = standing.setdefault(one.object, [])
            if row["kind"] == "reopen":
                standing[one.object] = [left for before in of_object for left in _without(before, [one])]
            else:
                # Who discarded a row first has discarded it.
                of_object += _without(one, of_object)
        return tuple(
            one for object_ in sorted(standing) for one in sorted(standing[object_], key=lambda found: found.first_row)
        )

    def _check(self, connection: Any, dataset: str) -> None:
        for row in connection.execute("select * from discards where dataset = ?", (dataset,)):
            self._file.check_seal(row, tuple(row[name] for name in _DISCARD_COLUMNS), f"discard {row['decision']!r}")

    def of_processed_day(self, dataset: str, day: date, last: date) -> tuple[Discard, ...]:
        """Those that a processed day may have rows of: of objects of its own day, and of those up to *last*."""
        return self.effective(dataset, day, last)


def _without(one: Discard, others: Iterable[Discard]) -> Iterator[Discard]:
    """What is left of *one* where others are taken away."""
    first = one.first_row
    for other in sorted(others, key=lambda found: found.first_row):
        if other.last_row < first or other.first_row > one.last_row:
            continue
        if other.first_row > first:
            yield _cut(one, first, other.first_row - 1)
        first = other.last_row + 1
    if first <= one.last_row:
        yield _cut(one, first, one.last_row)


def _cut(one: Discard, first: int, last: int) -> Discard:
    return Discard(one.object, first, last, one.at, one.by, one.why, one.decision)


def digest_of(discards: Iterable[Discard]) -> str:
    """Changes whenever other rows are discarded; empty without any."""
    rows = [(one.object, one.first_row, one.last_row) for one in discards]
    return hashlib.sha256(repr(rows).encode()).hexdigest() if rows else ""


_DISCARDED_TYPES: dict[str, pa.DataType] = {
    "dataset": pa.string(),
    "discarded_object": pa.string(),
    "first_row": pa.int64(),
    "last_row": pa.int64(),
    "discarded_at": pa.timestamp("us", "UTC"),
    "discarded_by": pa.string(),
    "discarded_why": pa.string(),
    "decision": pa.string(),
}


def discards_table(dataset: str, discards: Sequence[Discard]) -> pa.Table:
    """As the engine takes them."""
    if not discards:
        # An array of values would import pandas, half a second of CPU for nothing.
        return pa.schema(_DISCARDED_TYPES).empty_table()
    return pa.table(
        {
            "dataset": pa.array([dataset] * len(discards), pa.string()),
            "discarded_object": pa.array([one.object for one in discards], pa.string()),
            "first_row": pa.array([one.first_row for one in discards], pa.int64()),
            "last_row": pa.array([one.last_row for one in discards], pa.int64()),
            "discarded_at": pa.array([datetime.fromisoformat(one.at) for one in discards], pa.timestamp("us", "UTC")),
            "discarded_by": pa.array([one.by for one in discards], pa.string()),
            "discarded_why": pa.array([one.why for one in discards], pa.string()),
            "decision": pa.array([one.decision for one in discards], pa.string()),
        }
    )
