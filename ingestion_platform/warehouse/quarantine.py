"""
The quarantine for a person: look at rows, count them, export them, and decide: redrive, discard, reopen.

Belongs here: which rows are chosen, landing what was decided about them, and telling what came of it. Doesn't: how rows get into quarantine
(`load.py`, `process.py`), what a discarded row means for its day (`process.py`, `discards.py`).

A decision lands before anything follows from it. It names each object with its SHA-256, and its rows by number: what is sent anew later was
never meant. Deciding the same again changes nothing, and says so.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa

from ingestion_platform.dataset import Dataset
from ingestion_platform.decisions import MAX_BYTES, Decision
from ingestion_platform.errors import NotMaterialized, WarehouseError
from ingestion_platform.warehouse.contract import QUARANTINE_COLUMNS
from ingestion_platform.warehouse.discards import Decided, ObjectRows, discards_table, rows_of, runs_of
from ingestion_platform.warehouse.engine import name, relation, text
from ingestion_platform.warehouse.ledger_rows import FileRow
from ingestion_platform.warehouse.replay import Replayed, replay
from ingestion_platform.warehouse.results import Only, told_waiting
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

By = Literal["rule", "reason", "sender", "day", "object", "dataset"]
State = Literal["open", "discarded", "all"]
Format = Literal["csv", "parquet", "jsonl"]

_GROUPS: dict[str, str] = {
    "rule": "unnest(rules)", "reason": "unnest(reasons)", "sender": "sender", "day": "_day", "object": "_object", "dataset": "dataset",
}  # fmt: skip

SHOWN_COLUMNS = (
    "dataset", "_day", "_landed_on", "_object", "_row", "sender", "rules", "reasons", "record", "discarded_at", "discarded_by",
    "discarded_why",
)  # fmt: skip

ROWS_A_DECISION = MAX_BYTES // 64
"""Runs of rows that one object of a decision holds; more of them land as several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """
    Which rows of the quarantine; every condition must hold.

    Args:
        dataset: of one dataset; empty: of all.
        rules: with one of these rules, as `count --by rule` names them.
        reason: text that one of its reasons contains, whatever the case; empty: any.
        sender: as the ledger has it; empty: any.
        first: business day; None: from the first.
        last: likewise, included.
        objects: keys.
        rows: numbers of rows in their object.
        state: what nobody has decided about, what is discarded, or both.
    """

    dataset: str = ""
    rules: tuple[str, ...] = ()
    reason: str = ""
    sender: str = ""
    first: date | None = None
    last: date | None = None
    objects: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    state: State = "open"

    @property
    def is_narrowed(self) -> bool:
        """Whether it chooses less than everything of its dataset."""
        return bool(self.rules or self.reason or self.sender or self.first or self.last or self.objects or self.rows)

    def told(self) -> dict[str, Any]:
        """What was chosen by, as a decision keeps it."""
        values: dict[str, Any] = {
            "rules": list(self.rules), "reason": self.reason, "sender": self.sender,
            "first": str(self.first or ""), "last": str(self.last or ""), "objects": list(self.objects), "rows": list(self.rows),
        }  # fmt: skip
        return {key: value for key, value in values.items() if value}


@dataclass(frozen=True)
class Discarded:
    """
    What a discard, or taking one back, came to.

    Args:
        rows: that it is about; 0: nothing was decided.
        objects: that hold them.
        already: chosen rows about which the same had been decided before.
        keys: of the decision's objects.
        days: processed days that were computed again, for their counts.
        behind: partitions behind them that were, because a row came back or went.
    """

    rows: int
    objects: int
    already: int
    keys: tuple[str, ...] = ()
    days: tuple[date, ...] = ()
    behind: tuple[tuple[str, date | None], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """
    Where the rows of a redrive are now.

    Args:
        chosen: how many they were.
        released: in the processed table.
        superseded: read well, and another row of their key counts instead.
        remaining: still in quarantine.
        discarded: still there, and discarded.
        changed: of objects that were sent anew meanwhile, or are read as another number of records now: nobody can say which row is which.
        why: rule → rows that remain because of it; a row with two counts under both.
        examples: reasons of the first rows that remain, with their object and number.
    """

    chosen: int = 0
    released: int = 0
    superseded: int = 0
    remaining: int = 0
    discarded: int = 0
    changed: int = 0
    why: dict[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [
            f"of {self.chosen:,} rows {self.released:,} are in the table now, {self.remaining:,} are still in quarantine"
        ]
        if self.superseded:
            told.append(f"{self.superseded:,} are read, and lost against another row of their key")
        if self.discarded:
            told.append(f"{self.discarded:,} are discarded")
        if self.changed:
            told.append(f"{self.changed:,} are of objects that have changed meanwhile")
        return "; ".join(told)


@dataclass(frozen=True)
class Redriven:
    """
    What a redrive came to.

    Args:
        outcome: where the rows are now.
        replayed: what was gone through; None: nothing was chosen.
        keys: of the decision's objects.
    """

    outcome: Outcome
    replayed: Replayed | None = None
    keys: tuple[str, ...] = ()

    @property
    def has_changed(self) -> bool:
        """Whether any table is another one now."""
        return self.replayed is not None and bool(self.replayed.changed or self.outcome.released)


# --- looking


def rows(warehouse: Warehouse, chosen: Chosen, *, limit: int | None = None) -> pa.Table:
    """
    The chosen rows, by dataset, day, object and number.

    Raises:
        NotMaterialized: there is no such dataset.
    """
    with _source(warehouse, chosen) as source:
        cut = f" limit {int(limit)}" if limit is not None else ""
        shown = ", ".join(map(name, SHOWN_COLUMNS))
        found: pa.Table = warehouse.engine.sql(
            f"select {shown} from ({source}) order by dataset, _day, _object, _row{cut}"
        ).to_arrow_table()
        return found


def count(warehouse: Warehouse, chosen: Chosen, by: By) -> list[tuple[str, int]]:
    """How many rows there are of each rule, sender, day …; the most frequent first, days in order. A row counts under each of its rules."""
    with _source(warehouse, chosen) as source:
        order = "1" if by == "day" else "2 desc, 1"
        values = f"select {_GROUPS[by]}::varchar as value from ({source})"
        found = warehouse.engine.execute(
            f"select coalesce(value, ''), count(*) from ({values}) group by 1 order by {order}"
        ).fetchall()
    return [(str(value), int(rows_)) for value, rows_ in found]


def total(warehouse: Warehouse, chosen: Chosen) -> int:
    """How many rows are chosen."""
    with _source(warehouse, chosen) as source:
        (found,) = warehouse.engine.execute(f"select count(*) from ({source})").fetchall()
    return int(found[0])


def export(warehouse: Warehouse, chosen: Chosen, path: Path, format: Format) -> int:
    """
    Write the chosen rows to a file that only its owner can read: they are as they were sent, personal values too.

    In CSV a cell that a spreadsheet would run as a formula gets an apostrophe before it.

    Returns:
        How many.

    Raises:
        WarehouseError: the file can't be written.
    """
    half = path.with_name(f".{path.name}.half")
    try:
        os.close(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with _source(warehouse, chosen) as source:
            columns = ", ".join(_exported(column, format) for column in SHOWN_COLUMNS)
            query = f"select {columns} from ({source}) order by dataset, _day, _object, _row"
            options = {
                "csv": "(format csv, header true)", "parquet": "(format parquet, compression zstd)", "jsonl": "(format json)",
            }[format]  # fmt: skip
            (written,) = warehouse.engine.execute(
                f"copy ({query}) to {text(str(half.absolute()))} {options}"
            ).fetchall()
        half.chmod(0o600)
        half.replace(path)
    except (OSError, duckdb.IOException) as error:
        raise WarehouseError(f"{path} can't be written: {error}", "is the folder there, and is there room?") from error
    finally:
        half.unlink(missing_ok=True)
    return int(written[0])


def _exported(column: str, format: Format) -> str:
    if format != "csv":
        return name(column)
    value = f"to_json({name(column)})::varchar" if column in ("rules", "reasons") else f"{name(column)}::varchar"
    return f"case when regexp_matches({value}, '^[=+\\-@\\t\\r\\n]') then '''' || {value} else {value} end as {name(column)}"


# --- deciding


def discard(warehouse: Warehouse, chosen: Chosen, *, by: str, why: str, run_id: str = "") -> Discarded:
    """
    Discard the chosen rows that are open: they stay in quarantine, with who, when and why, and count as open no more.

    Raises:
        WarehouseError: no dataset is named.
        LandingError: there is no name or no reason.
    """
    return _decide(warehouse, chosen, "discard", by=by, why=why, run_id=run_id)


def reopen(warehouse: Warehouse, chosen: Chosen, *, by: str, why: str, run_id: str = "") -> Discarded:
    """
    Take back what was discarded of the chosen rows: what the declaration accepts by now goes into the table.

    Raises:
        WarehouseError: no dataset is named.
        LandingError: there is no name or no reason.
    """
    return _decide(warehouse, chosen, "reopen", by=by, why=why, run_id=run_id)


def _decide(warehouse: Warehouse, chosen: Chosen, kind: str, *, by: str, why: str, run_id: str) -> Discarded:
    dataset = _one_dataset(warehouse, chosen)
    _check_decider(kind, dataset, by, why)
    warehouse.take_in(dataset)
    _bring_up_to_date(warehouse, dataset, chosen, run_id)
    before, after = ("open", "discarded") if kind == "discard" else ("discarded", "open")
    named = _named(warehouse, _as(chosen, before))  # type: ignore[arg-type]
    already = total(warehouse, _as(chosen, after))  # type: ignore[arg-type]
    if not named:
        return Discarded(0, 0, already)
    keys = _land(warehouse, dataset, kind, named, chosen, by=by, why=why)
    warehouse.take_in(dataset)
    days = sorted(
        {day for day in warehouse.stale_days(dataset.processed) if day is not None and _may_have(dataset, named, day)}
    )
    done = replay(warehouse, dataset, {}, also=days, is_followed=False, run_id=run_id)
    behind = tuple(one for one in done.computed if one[0] != dataset.processed)
    return Discarded(sum(one.count for one in named), len(named), already, keys, tuple(days), behind)


def redrive(
    warehouse: Warehouse,
    chosen: Chosen,
    *,
    by: str,
    why: str,
    run_id: str = "",
    tell: Callable[[str], None] = log.info,
) -> Redriven:
    """
    Read the objects that hold the chosen open rows again, with today's declaration, and compute their days and all tables behind.

    Other rows of these objects come out as they were, unless the declaration says otherwise of them too.

    Raises:
        WarehouseError: no dataset is named.
        LandingError: there is no name or no reason.
        LandingUnavailable: the landing zone gave no answer; a redrive of the same rows goes on.
    """
    dataset = _one_dataset(warehouse, chosen)
    _check_decider("redrive", dataset, by, why)
    warehouse.take_in(dataset)
    named = _named(warehouse, _as(chosen, "open"))
    if not named:
        return Redriven(Outcome())
    days = {date.fromisoformat(day) for (day, _) in count(warehouse, _as(chosen, "open"), "day")}
    keys = _land(warehouse, dataset, "redrive", named, chosen, by=by, why=why)
    by_day: dict[date, set[str]] = {}
    for one in named:
        by_day.setdefault(one.day, set()).add(one.object)
    done = replay(
        warehouse,
        dataset,
        {day: Only(keys=frozenset(objects)) for day, objects in by_day.items()},
        also=days,
        run_id=run_id,
        tell=tell,
    )
    if done.missing:
        tell(
            f"{len(done.missing):,} objects aren't in the landing zone any more, and their rows stay as they are: {done.missing[0]}, …"
        )
    if done.waiting:
        tell(f"{told_waiting(done.waiting)}; redrive again when they are there")
    warehouse.take_in(dataset)
    return Redriven(outcome_of(warehouse, dataset, named), done, keys)


def outcome_of(warehouse: Warehouse, dataset: Dataset, named: Sequence[ObjectRows]) -> Outcome:
    """Where rows that a decision names are now."""
    chosen = Chosen(dataset=dataset.name, state="all")
    rows_chosen = sum(one.count for one in named)
    with warehouse.ledger.reading():
        valid, homes = [], set[date]()
        for one in named:
            row = warehouse.ledger.current_object(dataset.name, one.object)
            if row is None or row.sha256 != one.sha256 or (one.records is not None and row.rows_read != one.records):
                continue
            if row.state == "loaded":
                valid.append(one)
                homes |= {date.fromisoformat(home) for home in (row.day, *row.days)}
        source_processed = _processed_rows(warehouse, dataset, homes)
        with _source(warehouse, chosen) as source, _registered(warehouse, valid) as table:
            engine = warehouse.engine
            of_chosen = f"exists (select 1 from {table} as n where n.object = _object and _row between n.first_row and n.last_row)"
            held = engine.execute(
                f"select _object, _row, rules, reasons, discarded_at is not null from ({source}) where {of_chosen} order by 1, 2"
            ).fetchall()
            released = 0
            if source_processed:
                (found,) = engine.execute(f"select count(*) from ({source_processed}) where {of_chosen}").fetchall()
                released = int(found[0])
    still = sum(one.count for one in valid)
    open_rows = [row for row in held if not row[4]]
    why = Counter(rule for row in open_rows for rule in row[2])
    return Outcome(
        chosen=rows_chosen,
        released=released,
        superseded=still - released - len(held),
        remaining=len(open_rows),
        discarded=len(held) - len(open_rows),
        changed=rows_chosen - still,
        why=dict(why.most_common()),
        examples=tuple(f"{row[0]}:{row[1]} {'; '.join(row[3])}" for row in open_rows[:5]),
    )


def history(warehouse: Warehouse, dataset: Dataset) -> list[Decided]:
    """
    Every decision about a dataset's quarantine, the oldest first, as the landing zone has them now.

    Raises:
        LandingUnavailable: the landing zone gave no answer.
    """
    warehouse.take_in(dataset)
    return list(warehouse.discards.decided(dataset.name))


def outcome_of_decision(warehouse: Warehouse, dataset: Dataset, decided: Decided) -> Outcome:
    """
    Where the rows of a decision are now.

    Raises:
        NotMaterialized: the decision itself can't be read any more: it holds, but a rebuild wouldn't know it.
        LandingUnavailable: the landing zone gave no answer.
    """
    others = {one.key for one in warehouse.discards.decided(dataset.name)} - {decided.key}
    landed = warehouse.decisions.list(decided.kind, dataset.name, known=others)
    one = next((found for found in landed.decisions if found.key == decided.key), None)
    if one is None:
        cut = next((broken.reason for broken in landed.broken if broken.key == decided.key), None)
        raise NotMaterialized(
            f"which rows it chose isn't known: {cut or f'{decided.key} is gone from the landing zone'}",
            "restore it from a backup; it holds until a rebuild, which would not know it",
        )
    return outcome_of(warehouse, dataset, rows_of(one.decision))


# --- pieces


def _as(chosen: Chosen, state: State) -> Chosen:
    return Chosen(
        dataset=chosen.dataset, rules=chosen.rules, reason=chosen.reason, sender=chosen.sender, first=chosen.first, last=chosen.last,
        objects=chosen.objects, rows=chosen.rows, state=state,
    )  # fmt: skip


def _one_dataset(warehouse: Warehouse, chosen: Chosen) -> Dataset:
    if not chosen.dataset:
        raise WarehouseError(
            "a decision is about one dataset, and none is named", f"one of {', '.join(warehouse.datasets)}"
        )
    return _dataset(warehouse, chosen.dataset)


def _dataset(warehouse: Warehouse, called: str) -> Dataset:
    if called not in warehouse.datasets:
        raise NotMaterialized(f"there is no dataset {called!r}", f"datasets: {', '.join(warehouse.datasets)}")
    return warehouse.datasets[called]


def _check_decider(kind: str, dataset: Dataset, by: str, why: str) -> None:
    """Refuse a decision without a name or a reason before anything is done."""
    Decision(kind, dataset.name, datetime.now(UTC), by, why)


def _bring_up_to_date(warehouse: Warehouse, dataset: Dataset, chosen: Chosen, run_id: str) -> None:
    """Compute the chosen days that are stale: their quarantine may name rows of files that have been sent anew since."""
    for day in warehouse.stale_days(dataset.processed):
        if (
            day is not None
            and (chosen.first is None or chosen.first <= day)
            and (chosen.last is None or day <= chosen.last)
        ):
            warehouse.process(dataset, day, run_id=run_id)


def _may_have(dataset: Dataset, named: Sequence[ObjectRows], day: date) -> bool:
    lateness = dataset.daily.allowed_lateness_days
    return any(0 <= (one.day - day).days <= lateness for one in named)


def _named(warehouse: Warehouse, chosen: Chosen) -> list[ObjectRows]:
    """The chosen rows by object, each object as it is now."""
    with _source(warehouse, chosen) as source:
        found = warehouse.engine.execute(
            f"select _object, sha256, landed_day, records, list(distinct _row) from ({source}) where sha256 is not null"
            " group by all order by _object"
        ).fetchall()
    return [
        ObjectRows(object_, sha256, date.fromisoformat(day), records, runs_of(numbers))
        for object_, sha256, day, records, numbers in found
    ]


def _land(
    warehouse: Warehouse, dataset: Dataset, kind: str, named: Sequence[ObjectRows], chosen: Chosen, *, by: str, why: str
) -> tuple[str, ...]:
    """Land a decision, in as many objects as its rows need."""
    keys = []
    for part in _parts(named):
        what = {"filters": chosen.told(), "objects": [one.written() for one in part]}
        keys.append(warehouse.decisions.put(Decision(kind, dataset.name, datetime.now(UTC), by, why, what)))
    return tuple(keys)


def _parts(named: Sequence[ObjectRows]) -> Iterator[list[ObjectRows]]:
    part: list[ObjectRows] = []
    size = 0
    for one in named:
        for begin in range(0, len(one.rows), ROWS_A_DECISION):
            piece = ObjectRows(one.object, one.sha256, one.day, one.records, one.rows[begin : begin + ROWS_A_DECISION])
            # A key has up to a kilobyte, and a run of rows up to forty characters and its line ends.
            weight = len(piece.rows) + 64
            if part and size + weight > ROWS_A_DECISION:
                yield part
                part, size = [], 0
            part.append(piece)
            size += weight
    if part:
        yield part


@contextmanager
def _source(warehouse: Warehouse, chosen: Chosen) -> Iterator[str]:
    """SQL of the chosen rows with what is known of their objects, seen in one state; usable inside of it."""
    engine = warehouse.engine
    datasets = [_dataset(warehouse, chosen.dataset)] if chosen.dataset else list(warehouse.datasets.values())
    with warehouse.ledger.reading() as connection:
        files: list[FileRow] = []
        discards = []
        objects: list[tuple[Any, ...]] = []
        for dataset in datasets:
            for table in (dataset.raw, dataset.processed):
                files += warehouse.ledger.files(table, role="quarantine", first=chosen.first, last=chosen.last)
            discards.append(discards_table(dataset.name, warehouse.discards.effective(dataset.name)))
            objects += connection.execute(
                "select dataset, key, sender, sha256, day, iif(shard is null, rows_read, null) from objects"
                " where dataset = ? and is_current = 1 and state = 'loaded'",
                (dataset.name,),
            ).fetchall()
        rows_ = relation(warehouse.store, files, QUARANTINE_COLUMNS)
    columns = list(zip(*objects, strict=True)) or [()] * 6
    kinds: list[Any] = [pa.string()] * 5 + [pa.int64()]
    names = ("dataset", "key", "sender", "sha256", "landed_day", "records")
    arrays = [pa.array(list(column), kind) for column, kind in zip(columns, kinds, strict=True)]
    engine.execute("set TimeZone = 'UTC'")
    engine.register("quarantined_objects", pa.Table.from_arrays(arrays, names=list(names)))
    engine.register("quarantine_discards", pa.concat_tables(discards))
    try:
        yield (
            "select q.*, o.sender, o.sha256, o.landed_day, o.records, timezone('UTC', d.discarded_at) as discarded_at,"
            f" d.discarded_by, d.discarded_why from ({rows_}) as q"
            " left join quarantined_objects as o on o.dataset = q.dataset and o.key = q._object"
            " left join quarantine_discards as d on d.dataset = q.dataset and d.discarded_object = q._object"
            f" and q._row between d.first_row and d.last_row where {_condition(chosen)}"
        )
    finally:
        engine.unregister("quarantined_objects")
        engine.unregister("quarantine_discards")


def _condition(chosen: Chosen) -> str:
    conditions = ["true"]
    if chosen.state != "all":
        conditions.append(f"d.decision is {'null' if chosen.state == 'open' else 'not null'}")
    if chosen.rules:
        conditions.append(f"list_has_any(q.rules, {_list(chosen.rules)})")
    if chosen.reason:
        conditions.append(
            f"list_bool_or(list_transform(q.reasons, lambda one: contains(lower(one), lower({text(chosen.reason)}))))"
        )
    if chosen.sender:
        conditions.append(f"o.sender = {text(chosen.sender)}")
    if chosen.first is not None:
        conditions.append(f"q._day >= date {text(chosen.first.isoformat())}")
    if chosen.last is not None:
        conditions.append(f"q._day <= date {text(chosen.last.isoformat())}")
    if chosen.objects:
        conditions.append(f"list_contains({_list(chosen.objects)}, q._object)")
    if chosen.rows:
        conditions.append(f"q._row in ({', '.join(str(int(row)) for row in chosen.rows)})")
    return " and ".join(conditions)


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(text, values))}]::varchar[]"


@contextmanager
def _registered(warehouse: Warehouse, named: Sequence[ObjectRows]) -> Iterator[str]:
    flat = [(one.object, first, last) for one in named for first, last in one.rows]
    table = pa.table(
        {
            "object": pa.array([row[0] for row in flat], pa.string()),
            "first_row": pa.array([row[1] for row in flat], pa.int64()),
            "last_row": pa.array([row[2] for row in flat], pa.int64()),
        }
    )
    warehouse.engine.register("named_rows", table)
    try:
        yield "named_rows"
    finally:
        warehouse.engine.unregister("named_rows")


def _processed_rows(warehouse: Warehouse, dataset: Dataset, days: set[date]) -> str:
    partitions = [
        row for day in sorted(days) if (row := warehouse.ledger.partition(dataset.processed, day)) is not None
    ]
    files = warehouse.ledger.partition_files(partitions)
    return relation(warehouse.store, files, [("_object", "VARCHAR"), ("_row", "BIGINT")]) if files else ""


def as_json(decided: Decided) -> str:
    """What a decision was chosen by, on one line."""
    return json.dumps(dict(decided.filters), ensure_ascii=False, sort_keys=True)
