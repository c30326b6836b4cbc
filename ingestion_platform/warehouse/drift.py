"""
Drift: columns that come, go, change their name or their type, told once for as long as it lasts.

Belongs here: making events of what the ledger notes of each object, in the order in which objects landed; and what speaks for a rename.
Doesn't: adopting a column (`adopt.py`), telling a person (`orchestration/checks.py`).

An event is a function of the ledger, of raw and of processed's quarantine. It begins with the object that landed first, whichever was
loaded first, so that a rebuilt warehouse tells the same. It lasts as long as a sender who has it hasn't sent an object without it. What is
adopted is no drift any more, and never was.
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Literal

import duckdb
import pyarrow as pa

from ingestion_platform.database import ExtractFile
from ingestion_platform.dataset import Dataset, LandedFiles
from ingestion_platform.format import Avro, Csv, Excel, FixedWidth, Parquet
from ingestion_platform.formats import LeftOver, NotAnObject
from ingestion_platform.remote import RemoteObjects
from ingestion_platform.table import IDENTIFIER, VARCHAR, Column
from ingestion_platform.warehouse.contract import QUARANTINE_COLUMNS, Contract
from ingestion_platform.warehouse.engine import name, relation, text
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.ledger import Ledger

Kind = Literal["new", "missing", "renamed", "retyped"]

LOOKED_AT = 1_000
"""Values of an object that tell what a column holds."""
_ALIKE_SHARE = 0.8
_SAME_SHARE = 0.5
_FITTING_SHARE = 0.95
_LIKE_NAMES = 0.6
_CHANCE = 1e-4
"""That so many records in a row lack a member by chance is less likely than this: then it is missing."""
_WITH_HEADER = (Csv, FixedWidth, Parquet, Excel, Avro, ExtractFile)
_LONGEST_EXAMPLE = 100


@dataclass(frozen=True, slots=True)
class DriftEvent:
    """
    One change of what senders send, from the object that had it first.

    Args:
        dataset: whose.
        kind: `new` (a column that nobody declared), `missing` (a declared one that was there before; of records with members of their
            own, as JSON's, one that by its usual share can't be lacking by chance), `renamed` (a new one that most
            likely is a missing one under another name) or `retyped` (values of a declared one no longer fit its type, in most rows).
        column: its name in the files; of a renamed one, the former.
        now: of a renamed column, its likely name since.
        began_object: the first that has it, as objects landed.
        began_on: that object's day.
        began_at: when it landed, UTC.
        last_object: the last one that has it.
        ended_object: the one with which every sender who had it was back to what was before; None while it lasts.
        ended_at: when that one landed.
        objects: how many have it.
        rows: records in them.
        senders: how many sent them.
        example: a value; empty where values may be personal.
        reason: what speaks for it, of a renamed or retyped column.
        adopt: what to write into the declaration, so that it is part of it from then on.
    """

    dataset: str
    kind: Kind
    column: str
    now: str
    began_object: str
    began_on: date
    began_at: datetime
    last_object: str
    ended_object: str | None
    ended_at: datetime | None
    objects: int
    rows: int
    senders: int
    example: str = ""
    reason: str = ""
    adopt: str = ""

    @property
    def lasts(self) -> bool:
        """Whether it goes on."""
        return self.ended_object is None

    def told(self) -> str:
        """It as a sentence."""
        what = {
            "new": f"column {self.column!r} is new",
            "missing": f"column {self.column!r} is missing",
            "renamed": f"column {self.column!r} is likely called {self.now!r} now ({self.reason})",
            "retyped": f"column {self.column!r} no longer has its type ({self.reason})",
        }[self.kind]
        since = f"since {self.began_object}, {self.began_at:%Y-%m-%d %H:%M} UTC"
        count = f"in {self.objects:,} object{'s' if self.objects != 1 else ''} with {self.rows:,} rows"
        senders = f" of {self.senders:,} senders" if self.senders > 1 else ""
        until = "" if self.ended_at is None else f", until {self.ended_at:%Y-%m-%d %H:%M} UTC"
        example = f"; as in {self.example!r}" if self.example else ""
        return f"{what} {since}, {count}{senders}{until}{example}"


DRIFT_COLUMNS = {
    "dataset": "VARCHAR", "kind": "VARCHAR", "column_name": "VARCHAR", "now": "VARCHAR", "began_object": "VARCHAR", "began_on": "DATE",
    "began_at": "TIMESTAMP", "last_object": "VARCHAR", "ended_object": "VARCHAR", "ended_at": "TIMESTAMP", "objects": "BIGINT",
    "rows": "BIGINT", "senders": "BIGINT", "example": "VARCHAR", "reason": "VARCHAR", "adopt": "VARCHAR",
}  # fmt: skip
"""`platform.drift`: see `DriftEvent`."""


def as_rows(events: Iterable[DriftEvent]) -> list[tuple[object, ...]]:
    """Events as rows of `platform.drift`."""
    return [
        (
            one.dataset, one.kind, one.column, one.now or None, one.began_object, one.began_on.isoformat(), one.began_at.isoformat(),
            one.last_object, one.ended_object, one.ended_at.isoformat() if one.ended_at else None, one.objects, one.rows, one.senders,
            one.example or None, one.reason or None, one.adopt or None,
        )
        for one in events
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sighting:
    """
    What the ledger notes of an object.

    Args:
        key: its own.
        day: of the key.
        landed_at: as the ledger writes it.
        sender: who sent it, as far as its key tells.
        rows: records in it.
        unknown: its columns that nobody declared.
        missing: declared ones that it lacks.
        misfits: declared ones most of whose values don't fit.
    """

    key: str
    day: str
    landed_at: str
    sender: str
    rows: int
    unknown: frozenset[str]
    missing: frozenset[str]
    misfits: frozenset[str]


@dataclass(slots=True)
class _Open:
    """An event on its way."""

    kind: Kind
    column: str
    first: Sighting
    before: Sighting | None
    last: Sighting
    active: set[str]
    senders: set[str]
    objects: int = 0
    rows: int = 0
    end: Sighting | None = None


@dataclass(slots=True)
class _Sender:
    """What is known of a sender."""

    lacks_always: frozenset[str]
    misfits_always: frozenset[str]
    before: Sighting
    drifts: set[tuple[Kind, str]] = field(default_factory=set)


def _episodes(sightings: Iterable[Sighting]) -> list[_Open]:
    """
    Events of objects in the order in which they landed.

    A declared column is missing where its sender has sent it before: one that never came is no change. Likewise for its type.
    """
    found: list[_Open] = []
    going: dict[tuple[Kind, str], _Open] = {}
    senders: dict[str, _Sender] = {}
    for sighting in sightings:
        sender = senders.get(sighting.sender)
        drifts: set[tuple[Kind, str]] = {("new", column) for column in sighting.unknown}
        if sender is not None:
            drifts |= {("missing", column) for column in sighting.missing - sender.lacks_always}
            drifts |= {("retyped", column) for column in sighting.misfits - sender.misfits_always}
        before = sender.before if sender is not None else None
        for drift in sorted(drifts):
            event = going.get(drift)
            if event is None:
                event = going[drift] = _Open(drift[0], drift[1], sighting, before, sighting, set(), set())
                found.append(event)
            event.active.add(sighting.sender)
            event.senders.add(sighting.sender)
            event.last = sighting
            event.objects += 1
            event.rows += sighting.rows
        if sender is None:
            senders[sighting.sender] = _Sender(sighting.missing, sighting.misfits, sighting, drifts)
            continue
        for drift in sender.drifts - drifts:
            event = going.get(drift)
            if event is not None:
                event.active.discard(sighting.sender)
                if not event.active:
                    event.end = sighting
                    del going[drift]
        sender.drifts = drifts
        sender.before = sighting
        sender.lacks_always &= sighting.missing
        # Where it is missing, nothing fits or doesn't.
        sender.misfits_always &= sighting.misfits | sighting.missing
    return found


class Drifts:
    """
    Tells a dataset's drift.

    Args:
        contract: the dataset's.
        ledger: what is known of objects.
        store: where rows are.
        engine: reads them.
    """

    def __init__(self, contract: Contract, ledger: Ledger, store: FileStore, engine: duckdb.DuckDBPyConnection) -> None:
        self._contract = contract
        self._dataset: Dataset = contract.dataset
        self._ledger = ledger
        self._store = store
        self._engine = engine
        self._is_personal = any(column.pii is not None for column in self._dataset.columns)

    def events(self) -> list[DriftEvent]:
        """All events, the first that began first."""
        misfits = self._misfits()
        if not misfits and not self._is_drifting():
            return []
        episodes = _episodes(self._sightings(misfits))
        renamed, folded = self._renames(episodes)
        by_chance = self._by_chance(
            [episode for number, episode in enumerate(episodes) if number not in folded and number not in renamed]
        )
        events = [
            renamed.get(number) or self._event(episode)
            for number, episode in enumerate(episodes)
            if number not in folded and id(episode) not in by_chance
        ]
        return sorted(events, key=lambda one: (one.began_at, one.began_object, one.kind, one.column))

    def _by_chance(self, episodes: Iterable[_Open]) -> set[int]:
        """
        Those (`id`) whose records, having members of their own, may well lack one without anything having changed.

        A file's header says which columns there are. A JSON object says nothing of what it doesn't have: a member that one in ten has is
        often in none of a handful. Its share is that of the sender's last day with it, of what had landed before.
        """
        if isinstance(self._dataset.source.format, _WITH_HEADER):
            return set()
        by_day: dict[str, list[tuple[_Open, Column]]] = {}
        for episode in episodes:
            if episode.kind == "missing" and episode.before is not None:
                column = self._declared(episode.column)
                if not column.required:
                    by_day.setdefault(episode.before.day, []).append((episode, column))
        found: set[int] = set()
        for day, of_day in by_day.items():
            columns = {column.name: column for _, column in of_day}
            counted = self._counted(date.fromisoformat(day), list(columns.values()))
            for episode, column in of_day:
                until = [counts for place, counts in counted if place < (episode.first.landed_at, episode.first.key)]
                rows = sum(counts[""] for counts in until)
                filled = sum(counts[column.name] for counts in until)
                # Of few records nobody knows the share well: two more without it are counted.
                if (1 - filled / (rows + 2)) ** episode.rows > _CHANCE:
                    found.add(id(episode))
        return found

    def _counted(self, day: date, columns: Sequence[Column]) -> list[tuple[tuple[str, str], dict[str, int]]]:
        """Of each object of a day, when it landed and its key; and its rows (under no name) and filled values of columns."""
        raw = relation(
            self._store,
            self._ledger.files(self._dataset.raw, first=day, last=day),
            self._contract.raw_columns,
            verify=False,
        )
        counts = ", ".join(f"count({self._contract.text_of(column)})" for column in columns)
        rows = self._engine.execute(f"select _object, count(*), {counts} from ({raw}) group by 1").fetchall()
        with self._ledger.reading() as connection:
            landed = dict(
                connection.execute(
                    "select key, landed_at from objects where dataset = ? and day = ? and is_current = 1",
                    (self._dataset.name, day.isoformat()),
                ).fetchall()
            )
        names = ["", *(column.name for column in columns)]
        return [((landed.get(key, ""), key), dict(zip(names, of_key, strict=True))) for key, *of_key in rows]

    # --- what the ledger notes

    def _is_drifting(self) -> bool:
        with self._ledger.reading() as connection:
            found = connection.execute(
                "select 1 from objects where dataset = ? and is_current = 1"
                " and (unknown_columns <> '[]' or missing_columns <> '[]') limit 1",
                (self._dataset.name,),
            ).fetchone()
        return found is not None

    def _sightings(self, misfits: dict[str, frozenset[str]]) -> Iterator[Sighting]:
        with self._ledger.reading() as connection:
            rows = connection.execute(
                "select key, day, landed_at, coalesce(sender, shard), rows_read, unknown_columns, missing_columns from objects"
                " where dataset = ? and is_current = 1"
                " and (state = 'loaded' and rows_read > 0 or state = 'rejected' and unknown_columns <> '[]')"
                " order by landed_at, key",
                (self._dataset.name,),
            ).fetchall()
        nothing: frozenset[str] = frozenset()
        sets = {"[]": nothing}
        for key, day, landed_at, sender, read, unknown, missing in rows:
            for written in (unknown, missing):
                if written not in sets:
                    sets[written] = frozenset(json.loads(written))
            yield Sighting(
                key,
                day,
                landed_at,
                sender if sender is not None else self._sender(key),
                read,
                sets[unknown],
                sets[missing],
                misfits.get(key, nothing),
            )

    def _sender(self, key: str) -> str:
        """Who sent an object, where no roster says which part of the key that is: whoever the captures tell."""
        source = self._dataset.source
        if not isinstance(source, LandedFiles | RemoteObjects) or not source.captures:
            return ""
        found = source.match(key)
        return json.dumps(found[1], sort_keys=True) if found else ""

    def _misfits(self) -> dict[str, frozenset[str]]:
        """Object → columns most of whose values don't fit their type, of what was processed."""
        rules = {f"{column.name}: not {column.type}": column for column in self._dataset.columns}
        partitions = [
            row
            for row in self._ledger.partitions(self._dataset.processed)
            if row.quarantine_file_id is not None and not rules.keys().isdisjoint(json.loads(row.details)["reasons"])
        ]
        if not partitions:
            return {}
        ids = {row.quarantine_file_id for row in partitions}
        files = [file for file in self._ledger.files(self._dataset.processed, role="quarantine") if file.file_id in ids]
        source = relation(self._store, files, QUARANTINE_COLUMNS, verify=False)
        wanted = ", ".join(text(rule) for rule in rules)
        counts = self._engine.execute(
            f"select _object, _landed_on, rule, count(*) from (select _object, _landed_on, unnest(rules) as rule from ({source}))"
            f" where rule in ({wanted}) group by all"
        ).fetchall()
        found: dict[str, set[str]] = {}
        by_day: dict[date, list[tuple[str, Column, int]]] = {}
        for key, day, rule, count in counts:
            by_day.setdefault(day, []).append((key, rules[rule], count))
        for day, wrong in by_day.items():
            filled = self._filled(day, {key for key, _, _ in wrong}, {column.name: column for _, column, _ in wrong})
            for key, column, count in wrong:
                if count * 2 > filled.get((key, column.name), 0):
                    found.setdefault(key, set()).add(column.field)
        return {key: frozenset(columns) for key, columns in found.items()}

    def _filled(self, day: date, keys: set[str], columns: dict[str, Column]) -> dict[tuple[str, str], int]:
        """Object and column → rows that have a value there."""
        counts = ", ".join(f"count({self._contract.text_of(column)})" for column in columns.values())
        raw = self._raw(day, ", ".join(text(key) for key in keys))
        rows = self._engine.execute(f"select _object, {counts} from ({raw}) group by 1").fetchall()
        return {(row[0], column): count for row in rows for column, count in zip(columns, row[1:], strict=True)}

    def _raw(self, day: date, keys: str) -> str:
        files = self._ledger.files(self._dataset.raw, first=day, last=day)
        raw = relation(self._store, files, self._contract.raw_columns, verify=False)
        return f"select * from ({raw}) where _object in ({keys})"

    # --- what values tell

    def _rows_of(self, sighting: Sighting) -> str:
        return self._raw(date.fromisoformat(sighting.day), text(sighting.key))

    def _unknown_values(self, sighting: Sighting, column: str) -> list[str]:
        """What an object has in a column that nobody declared."""
        rows = self._engine.execute(
            f"select _extra from ({self._rows_of(sighting)}) where _extra is not null order by _row limit {LOOKED_AT}"
        ).fetchall()
        left_over = LeftOver([column], self._contract.naming.names or "flat")
        values = []
        for (extra,) in rows:
            try:
                (value,), _ = left_over.take(extra)
            except NotAnObject:
                continue
            if value:
                values.append(value)
        return values

    def _values(self, sighting: Sighting, column: Column) -> list[str]:
        """What an object has in a declared column."""
        value = self._contract.text_of(column)
        rows = self._engine.execute(
            f"select {value} from ({self._rows_of(sighting)}) where {value} is not null order by _row limit {LOOKED_AT}"
        ).fetchall()
        return [row[0] for row in rows]

    def _misfit(self, sighting: Sighting, column: Column) -> str:
        source, value = name("text:" + column.name), name("value:" + column.name)
        self._engine.execute(f"set TimeZone = {text(self._contract.time_zone)}")
        rows = self._engine.execute(
            f"select {source} from ({self._contract.values(self._rows_of(sighting))})"
            f" where {source} is not null and {value} is null order by _row limit 1"
        ).fetchall()
        return str(rows[0][0]) if rows else ""

    def _fitting(self, values: Sequence[str], column: Column) -> float:
        """Which share of texts a column's type and rules of one value would take."""
        self._engine.execute(f"set TimeZone = {text(self._contract.time_zone)}")
        self._engine.register("drifting", pa.table({column.name: pa.array(values, pa.string())}))
        try:
            fits = self._contract.fits(column)
            (row,) = self._engine.execute(f"select avg(({fits})::integer) from drifting").fetchall()
        finally:
            self._engine.unregister("drifting")
        return float(row[0] or 0)

    # --- events

    def _event(self, episode: _Open) -> DriftEvent:
        first, end = episode.first, episode.end
        event = DriftEvent(
            self._dataset.name,
            episode.kind,
            episode.column,
            "",
            first.key,
            date.fromisoformat(first.day),
            datetime.fromisoformat(first.landed_at),
            episode.last.key,
            end.key if end else None,
            datetime.fromisoformat(end.landed_at) if end else None,
            episode.objects,
            episode.rows,
            len(episode.senders),
        )
        match episode.kind:
            case "new":
                values = self._unknown_values(first, episode.column)
                return replace(event, example=self._shown(values), adopt=declaration(episode.column, values))
            case "retyped":
                column = self._declared(episode.column)
                example = self._misfit(first, column)
                values = self._values(first, column)
                better = guessed_type(values)
                return replace(
                    event,
                    example=self._shown([example] if example else []),
                    reason=f"most of its values aren't {column.type}",
                    adopt=f"Column({column.name!r}, {better}, …)".replace("'", '"'),
                )
            case _:
                column = self._declared(episode.column)
                return replace(event, reason="required: rows without it are in quarantine" if column.required else "")

    def _shown(self, values: Sequence[str]) -> str:
        return values[0][:_LONGEST_EXAMPLE] if values and not self._is_personal else ""

    def _declared(self, field: str) -> Column:
        return next(column for column in self._dataset.columns if column.capture is None and column.field == field)

    def _renames(self, episodes: Sequence[_Open]) -> tuple[dict[int, DriftEvent], set[int]]:
        """Number of an episode → the rename that it most likely is part of; and the numbers of those that are told by another one."""
        by_object: dict[str, list[int]] = {}
        for number, episode in enumerate(episodes):
            if episode.kind in ("new", "missing"):
                by_object.setdefault(episode.first.key, []).append(number)
        renamed: dict[int, DriftEvent] = {}
        folded: set[int] = set()
        for numbers in by_object.values():
            new = [number for number in numbers if episodes[number].kind == "new"]
            missing = [number for number in numbers if episodes[number].kind == "missing"]
            if not new or not missing:
                continue
            likely = sorted(
                (
                    (score, new_one, missing_one, reason)
                    for new_one in new
                    for missing_one in missing
                    for score, reason in self._likeness(episodes[new_one], episodes[missing_one])
                ),
                key=lambda one: (-one[0], one[1], one[2]),
            )
            for _, new_one, missing_one, reason in likely:
                if {new_one, missing_one} & (folded | renamed.keys()):
                    continue
                event, column = self._event(episodes[new_one]), self._declared(episodes[missing_one].column)
                aliases = ", ".join(json.dumps(alias) for alias in (column.field, *column.aliases))
                renamed[new_one] = replace(
                    event,
                    kind="renamed",
                    column=episodes[missing_one].column,
                    now=episodes[new_one].column,
                    reason=reason,
                    adopt=f"Column({json.dumps(column.name)}, …, source={json.dumps(event.column)}, aliases=({aliases},))",
                )
                folded.add(missing_one)
        return renamed, folded

    def _likeness(self, new: _Open, missing: _Open) -> Iterator[tuple[float, str]]:
        """How much speaks for one being the other, and what; nothing where too little does."""
        if missing.before is None:
            return
        column = self._declared(missing.column)
        former = self._values(missing.before, column)
        values = self._unknown_values(new.first, new.column)
        if not values or not former:
            return
        if self._fitting(values, column) < _FITTING_SHARE:
            return
        alike, same = _share(map(_looks, values), map(_looks, former)), _share(values, former)
        names = difflib.SequenceMatcher(None, new.column.lower(), missing.column.lower()).ratio()
        if alike < _ALIKE_SHARE or (column.type == VARCHAR and same < _SAME_SHARE and names < _LIKE_NAMES):
            return
        told = [f"its values fit {column.type} and look alike"]
        if same >= _SAME_SHARE:
            told.append(f"{same:.0%} of them were there before")
        if names >= _LIKE_NAMES:
            told.append("the names are alike")
        yield alike + same + names, ", ".join(told)


def _looks(value: str) -> str:
    """What a value looks like: digits as 9, letters as a, runs as one."""
    return re.sub(r"a+", "a", re.sub(r"9+", "9", re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", value))))


def _share(values: Iterable[str], known: Iterable[str]) -> float:
    """Which share of *values* is among those *known*."""
    counts, there = Counter(values), set(known)
    return sum(count for value, count in counts.items() if value in there) / max(counts.total(), 1)


def guessed_type(values: Sequence[str]) -> str:
    """The type that all of some texts are of, as a declaration names it."""
    if not values:
        return "VARCHAR"
    if all(re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,17})", value) for value in values):
        return "INTEGER" if all(abs(int(value)) < 10**9 for value in values) else "BIGINT"
    # What begins with a zero and goes on with digits is a number of something, no quantity.
    if all(re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,17})(\.[0-9]{1,9})?", value) for value in values):
        scale = max(len(value.partition(".")[2]) for value in values)
        whole = max(len(value.partition(".")[0].lstrip("+-")) for value in values)
        return f"decimal({min(38, max(12, whole + scale + 2))}, {scale})"
    if all(re.fullmatch(r"[0-9]{4}-[01][0-9]-[0-3][0-9]", value) for value in values):
        return "DATE"
    if all(re.match(r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]", value) for value in values):
        return "TIMESTAMP"
    if all(value.lower() in ("true", "false") for value in values):
        return "BOOLEAN"
    return "VARCHAR"


def declaration(column: str, values: Sequence[str]) -> str:
    """The line that adopts a column, with a type guessed from its values."""
    plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column).lower()).strip("_")
    called = plain if IDENTIFIER.fullmatch(plain) else f"column_{plain}"[:63].rstrip("_")
    source = "" if called == column else f", source={json.dumps(column, ensure_ascii=False)}"
    return f'Column("{called}", {guessed_type(values)}, "…"{source})'
