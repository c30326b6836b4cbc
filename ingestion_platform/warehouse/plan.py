"""
What a backfill would do, told before it is done: it is done in a shadow, and the difference between the shadow and the warehouse is told.

Belongs here: comparing the two. Doesn't: the shadow (`shadow.py`), the work in it (`backfill.py`), words for a person (`plan_text.py`).

So the numbers are those of the backfill because they are a backfill's. A plan costs what the backfill costs; with *sample_days* some
days are done and the rest is estimated by them.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

import duckdb
import pyarrow as pa

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import IngestionError, WarehouseError
from ingestion_platform.landing import same_version
from ingestion_platform.warehouse.backfill import Asked, Backfill, Failure, Tell, backfill, followers
from ingestion_platform.warehouse.contract import QUARANTINE_COLUMNS
from ingestion_platform.warehouse.derive import state_in
from ingestion_platform.warehouse.differences import Difference, compare
from ingestion_platform.warehouse.discards import discards_table
from ingestion_platform.warehouse.engine import name, parquet, relation
from ingestion_platform.warehouse.ledger import Ledger
from ingestion_platform.warehouse.ledger_rows import ObjectRow, PartitionRow
from ingestion_platform.warehouse.process import DISCARDED_ROWS, is_discarded
from ingestion_platform.warehouse.results import Balance, TableDay, Waiting
from ingestion_platform.warehouse.shadow import Shadow, shadow_of
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

Why = Literal["new", "changed", "touched", "declaration", "set free", "by force"]
"""
Why an object is read: it is new; it has other content; it only looks so; it is to be read otherwise by now; the one that it was a duplicate
of has changed; a replay reads everything.
"""
WHYS: tuple[Why, ...] = ("new", "changed", "touched", "declaration", "set free", "by force")

SHOWN = 5
"""How many objects are named of each sort."""


@dataclass(frozen=True, slots=True)
class Objects:
    """How many, and how many bytes."""

    count: int = 0
    bytes: int = 0

    def __add__(self, other: "Objects") -> "Objects":
        return Objects(self.count + other.count, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that is rejected, and wasn't."""

    key: str
    reason: str
    rows_before: int


@dataclass(frozen=True, slots=True)
class Lost:
    """
    What landed as it did, stood in a processed table, and would no longer.

    What a person has discarded isn't lost.

    Args:
        rows: by what becomes of them: the rule that quarantines them; `its object is rejected`; `gone`.
        values: column → rows whose value becomes NULL, or goes with its column.
        examples: object and row number of some of the rows.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """
    What becomes of a dataset's objects.

    Args:
        dataset: its name.
        days: that are looked at.
        read: why → objects that are read.
        states: state → objects read that have it then.
        refused: objects that are rejected and were not; `refused_count` of them.
        rows_before: in raw, on these days; `rows_after` then.
        rows_added: that come into raw; `rows_gone`: that leave it with the former version of their object.
        unread_before: records that couldn't be read; `unread_after` then.
        waiting: objects in an archive, which would be asked for.
        unmarked: objects without their marker or manifest.
        lost: of its processed rows.
        seconds: that reading takes.
    """

    dataset: str
    days: tuple[date, ...]
    read: Mapping[Why, Objects]
    states: Mapping[str, int]
    refused: tuple[Refused, ...]
    refused_count: int
    rows_before: int
    rows_after: int
    rows_added: int
    rows_gone: int
    unread_before: int
    unread_after: int
    waiting: tuple[Waiting, ...]
    unmarked: tuple[str, ...]
    lost: Lost
    seconds: float

    @property
    def objects(self) -> Objects:
        """All that are read."""
        return sum(self.read.values(), Objects())


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """
    What becomes of a processed or report partition.

    Args:
        table: `processed.sales`, `reports.daily_sales`.
        day: None of a table without days.
        difference: of its rows.
        is_same: whether its content is the same, byte for byte: nothing that is made of it is computed again.
        balance: of a processed day.
        quarantined: rule → rows that come into quarantine, without those that a person has discarded.
        released: rule → rows that leave it, of objects that are as they were; discarded ones stay.
        discarded: how many more of its quarantined rows are discarded then.
        withdrawn: rows that leave it with the former version of their object.
        checks: check → rows that fail it before and then, where that is another number.
        is_new: whether there was no such partition.
        state: what the report is said to be before and then, `provisional`, `final` or `restated`; empty where nothing is said.
        why: what makes it that then.
        content: SHA-256 of the partition's file then: the backfill's is the same.
        seconds: that computing it takes.
    """

    table: str
    day: date | None
    difference: Difference
    is_same: bool
    balance: Balance | None
    quarantined: Mapping[str, int]
    released: Mapping[str, int]
    discarded: int
    withdrawn: int
    checks: Mapping[str, tuple[int, int]]
    is_new: bool
    state: tuple[str, str]
    why: str
    content: str
    seconds: float

    @property
    def is_other_state(self) -> bool:
        """Whether a report that there was is said to be something else."""
        return not self.is_new and self.state[0] != self.state[1]


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    What of the backfill wasn't done in the shadow: told by its share.

    Args:
        days: dataset → days that weren't done.
        read: why → objects that would be read, counted from their listings; changed ones may turn out to be merely touched.
        seconds: about, for reading and computing them; None: nothing is known of the speed.
        rows_changed: about how many processed rows would come, go or change; None: nothing was done that tells.
    """

    days: Mapping[str, int]
    read: Mapping[Why, Objects]
    seconds: float | None
    rows_changed: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What a backfill would do.

    Args:
        asked: of it.
        datasets: whose objects are read.
        partitions: that are computed, in order.
        failures: what couldn't be done.
        left: table → partitions that are stale and stay so, on days that weren't asked for.
        estimate: of days that weren't done here; None: all were.
        seconds: that the backfill takes, as measured here.
        seconds_planning: that this plan took.
    """

    asked: Asked
    datasets: tuple[DatasetPlan, ...]
    partitions: tuple[PartitionPlan, ...]
    failures: tuple[Failure, ...]
    left: Mapping[str, int]
    estimate: Estimate | None
    seconds: float
    seconds_planning: float

    @property
    def expected_seconds(self) -> float | None:
        """About how long the backfill takes; None when that can't be told."""
        if self.estimate is None:
            return self.seconds
        return None if self.estimate.seconds is None else self.seconds + self.estimate.seconds

    @property
    def does_nothing(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.partitions
            or self.failures
            or self.estimate
            or any(one.objects.count or one.waiting for one in self.datasets)
        )


def plan(
    warehouse: Warehouse,
    asked: Asked | Callable[[Warehouse], Asked],
    *,
    sample_days: int | None = None,
    tell: Tell = log.info,
) -> Plan:
    """
    Tell what a backfill would do. Nothing of it is done.

    Args:
        warehouse: only read, and best not opened: closing one makes the file anew that people open.
        asked: of the backfill; or what says so of the shadow.
        sample_days: how many days of each dataset are done in the shadow, spread over all, the rest being estimated; None: all; 0: none,
            and the past tells the speed.
        tell: told how far it is.

    Raises:
        WarehouseError: there is no room for temporary files.
        LandingUnavailable: the landing zone gave no answer.
    """
    began = time.perf_counter()
    try:
        with shadow_of(warehouse) as shadow:
            asked = asked(shadow) if callable(asked) else asked
            done = asked if sample_days is None else _sample(asked, sample_days)
            work = backfill(shadow, done, tell=tell)
            estimate = _estimate(shadow, asked, done, work) if sample_days is not None else None
            told = _Told(shadow, done, work)
            made = Plan(
                asked=asked,
                datasets=tuple(told.datasets()),
                partitions=tuple(told.partitions()),
                failures=work.failures,
                # Of a sample, what is left is what is estimated.
                left=work.left if sample_days is None else {},
                estimate=None,
                seconds=work.seconds,
                seconds_planning=time.perf_counter() - began,
            )
            return replace(made, estimate=_with_rows(estimate, made)) if estimate else made
    except (OSError, duckdb.IOException) as error:
        raise _no_room(error) from error
    except IngestionError as error:
        if isinstance(error.__cause__, OSError | duckdb.IOException):
            raise _no_room(error.__cause__) from error
        raise


def _no_room(error: BaseException) -> WarehouseError:
    return WarehouseError(
        f"the plan's temporary files can't be written or read: {error}",
        "is the disk of TMPDIR full? Name another folder there, or plan fewer days (--sample-days); nothing was changed",
    )


class _Told:
    """What is different in a shadow after its work."""

    def __init__(self, shadow: Shadow, asked: Asked, work: Backfill) -> None:
        self._shadow = shadow
        self._asked = asked
        self._work = work
        self._engine = shadow.engine
        self._objects = {name: self._changes_of(name) for name in self._names()}

    def _names(self) -> list[str]:
        """The datasets that were loaded, or computed because they refer to one that was."""
        computed = [one.table.removeprefix("processed.") for one in self._work.computed]
        return [name for name in self._shadow.datasets if name in self._asked.days or name in computed]

    def _changes_of(self, dataset: str) -> dict[str, tuple[ObjectRow | None, ObjectRow]]:
        """Key → the object before and now, of all that were decided anew."""
        days = {day for one in self._work.loads if one.dataset == dataset for day in (one.day, *one.other_days)}
        found = {}
        for day in sorted(days):
            before = self._shadow.before.current(dataset, day)
            for key, row in self._shadow.ledger.current(dataset, day).items():
                if row != before.get(key):
                    found[key] = (before.get(key), row)
        return found

    def _replaced(self, dataset: str) -> list[str]:
        """Objects whose content is another one now: their rows aren't those that stood under the same numbers."""
        return [key for key, (before, now) in self._objects[dataset].items() if before and before.sha256 != now.sha256]

    # --- objects

    def datasets(self) -> Iterator[DatasetPlan]:
        for dataset in self._asked.days:
            loads = [one for one in self._work.loads if one.dataset == dataset]
            read_keys = {key for one in loads for key in one.new_keys}
            others = {day for one in loads for day in one.other_days}
            read: dict[Why, Objects] = {}
            states: Counter[str] = Counter()
            refused = []
            rows_added = rows_gone = 0
            for key, (before, now) in self._objects[dataset].items():
                if before is not None and before.state == "loaded":
                    rows_gone += before.rows_loaded
                if now.state == "loaded":
                    rows_added += now.rows_loaded
                if why := self._why(before, now, is_read=key in read_keys or date.fromisoformat(now.day) in others):
                    read[why] = read.get(why, Objects()) + Objects(1, now.size_bytes)
                    if why != "touched":
                        states[now.state] += 1
                if now.state == "rejected" and before is not None and before.state in ("loaded", "duplicate"):
                    refused.append(Refused(key, now.reason, before.rows_loaded))
            days = {one.day for one in loads} | others
            before_rows = [row for day in days for row in self._shadow.before.current(dataset, day).values()]
            after_rows = [row for day in days for row in self._shadow.ledger.current(dataset, day).values()]
            yield DatasetPlan(
                dataset=dataset,
                days=tuple(self._asked.days[dataset]),
                read={why: read[why] for why in WHYS if why in read},
                states=dict(sorted(states.items())),
                refused=tuple(refused[:SHOWN]),
                refused_count=len(refused),
                rows_before=sum(row.rows_loaded for row in before_rows),
                rows_after=sum(row.rows_loaded for row in after_rows),
                rows_added=rows_added,
                rows_gone=rows_gone,
                unread_before=sum(row.rows_quarantined for row in before_rows),
                unread_after=sum(row.rows_quarantined for row in after_rows),
                waiting=tuple(wait for one in loads for wait in one.waiting),
                unmarked=tuple(key for one in loads for key in one.unmarked),
                lost=self._lost(self._shadow.datasets[dataset]),
                seconds=sum(one.seconds for one in loads),
            )

    def _why(self, before: ObjectRow | None, now: ObjectRow, *, is_read: bool) -> Why | None:
        """Why an object was read; None: it wasn't, and is only decided otherwise."""
        if before is None:
            return "new" if now.state != "replaced" else None
        if not is_read:
            is_touched = (before.version, before.token) != (now.version, now.token) and before.sha256 == now.sha256
            return "touched" if is_touched else None
        if before.sha256 != now.sha256:
            return "changed"
        if before.reader != now.reader:
            return "declaration"
        if before.state == "pending" or (before.state == "duplicate" and now.state == "loaded"):
            return "set free"
        return "by force" if self._asked.replay else "changed"

    # --- partitions

    def partitions(self) -> Iterator[PartitionPlan]:
        for done in self._work.computed:
            before = self._shadow.before.partition(done.table, done.day)
            after = self._shadow.ledger.partition(done.table, done.day)
            assert after is not None, "it was computed"
            quarantined, released, withdrawn = self._quarantine(done, before, after)
            details = json.loads(before.details) if before else {}
            failed = details.get("failed_checks", {})
            yield PartitionPlan(
                table=done.table,
                day=done.day,
                difference=self._difference(done, before, after),
                is_same=before is not None and before.content == after.content,
                balance=done.balance,
                quarantined=quarantined,
                released=released,
                discarded=(done.balance.rows_discarded if done.balance else 0) - details.get("rows_discarded", 0),
                withdrawn=withdrawn,
                checks={
                    check: (failed.get(check, 0), count)
                    for check, count in done.failed_checks.items()
                    if failed.get(check, 0) != count
                },
                is_new=before is None,
                state=(state_in(before) if before else "", done.state),
                why=done.why,
                content=after.content,
                seconds=done.seconds,
            )

    def _difference(self, done: TableDay, before: PartitionRow | None, after: PartitionRow) -> Difference:
        if before is not None and before.content == after.content:
            return Difference(before.rows, after.rows)
        key: Sequence[str]
        if done.table in self._shadow.sql_tables:
            table = self._shadow.sql_tables[done.table]
            return compare(
                self._engine, self._rows([before], self._shadow.before), self._rows([after]), table.primary_key
            )
        dataset = self._shadow.datasets[done.table.split(".", 1)[1]]
        key = dataset.row_key or ("_object", "_row")
        # Where a row came from may change while it stays the same to whoever reads it.
        origin = () if not dataset.row_key else ("_object", "_row", "_landed_on")
        found = compare(
            self._engine, self._rows([before], self._shadow.before), self._rows([after]), key, leave_out=origin
        )
        personal = {column.name for column in dataset.columns if column.pii is not None}
        return without_values_of(found, personal)

    def _rows(self, partitions: Sequence[PartitionRow | None], ledger: Ledger | None = None) -> str | None:
        """SQL of the rows of partitions, with the columns that their files have; None: there are no partitions."""
        files = (ledger or self._shadow.ledger).partition_files([row for row in partitions if row is not None])
        for file in files:
            self._shadow.store.verify(file.path, file.size_bytes, file.sha256)
        sources = [f"select * from {parquet(self._shadow.store.absolute(file.path))}" for file in files]
        return " union all by name ".join(sources) if sources else None

    # --- quarantine

    def _quarantine(
        self, done: TableDay, before: PartitionRow | None, after: PartitionRow
    ) -> tuple[dict[str, int], dict[str, int], int]:
        """Rule → rows that come into quarantine, and that leave it; and how many leave it with their object's former version."""
        dataset = done.table.split(".", 1)[1]
        if done.table in self._shadow.sql_tables or done.day is None:
            return {}, {}, 0
        self._register_replaced(dataset)
        was = self._set_aside(self._shadow.before, dataset, done.day, before)
        is_ = self._set_aside(self._shadow.ledger, dataset, done.day, after)
        same = "a._object = b._object and a._row = b._row and a._object not in (select key from replaced)"
        count = "select rule, count(*) from (select unnest(rules) as rule from {} a anti join {} b on {}{}) group by 1 order by 2 desc, 1"
        self._register_discarded(dataset)
        open_ = f"(select * from ({is_}) where not {is_discarded()})"
        quarantined = self._engine.execute(count.format(open_, f"({was})", same, "")).fetchall()
        self._engine.unregister(DISCARDED_ROWS)
        unchanged = " where a._object not in (select key from replaced)"
        released = self._engine.execute(count.format(f"({was})", f"({is_})", same, unchanged)).fetchall()
        withdrawn = self._engine.execute(
            f"select count(*) from ({was}) where _object in (select key from replaced)"
        ).fetchall()
        self._engine.unregister("replaced")
        return dict(quarantined), dict(released), int(withdrawn[0][0])

    def _set_aside(self, ledger: Ledger, dataset: str, day: date, partition: PartitionRow | None) -> str:
        """SQL of a day's quarantine: rows that broke a rule, and records that couldn't be read."""
        files = ledger.raw_input(dataset, day, has_objects=False)[1]
        if partition is not None and partition.quarantine_file_id is not None:
            files = [*files, *ledger.quarantine_files([partition])]
        return relation(self._shadow.store, files, QUARANTINE_COLUMNS)

    def _register_replaced(self, dataset: str) -> None:
        self._engine.register("replaced", pa.table({"key": pa.array(self._replaced(dataset), pa.string())}))

    def _register_discarded(self, dataset: str) -> None:
        """What people have decided isn't the backfill's doing."""
        discarded = self._shadow.discards.effective(dataset)
        self._engine.register(DISCARDED_ROWS, discards_table(dataset, discarded))

    # --- losses

    def _lost(self, dataset: Dataset) -> Lost:
        """What of the restated days landed as it did, isn't discarded, and is processed no longer; values that become NULL."""
        pairs = []
        for done in self._work.computed:
            if done.table == dataset.processed:
                before = self._shadow.before.partition(done.table, done.day)
                after = self._shadow.ledger.partition(done.table, done.day)
                assert after is not None, "it was computed"
                if before is not None and before.content != after.content:
                    pairs.append((before, after))
        if not pairs:
            return Lost()
        was, is_ = self._rows([before for before, _ in pairs], self._shadow.before), self._rows([a for _, a in pairs])
        assert was is not None, "every partition has a file"
        assert is_ is not None, "every partition has a file"
        self._register_replaced(dataset.name)
        kinds_before, kinds_after = self._columns(was), self._columns(is_)
        key = [column for column in dataset.row_key if column in kinds_before and column in kinds_after]
        if len(key) < len(dataset.row_key) or not key:
            key = ["_object", "_row"]
        elif dataset.kind != "events":
            key.append("_day")
        same = " and ".join(
            f"a.{name(column)}::varchar is not distinct from b.{name(column)}::varchar" for column in key
        )
        landed_as_it_did = "b._object not in (select key from replaced)"
        self._register_discarded(dataset.name)
        self._engine.execute(
            "create or replace temp table lost as select b._object, b._row from"
            f" (select * from ({was}) b where {landed_as_it_did} and not {is_discarded()}) b anti join ({is_}) a on {same}"
        )
        set_aside = " union all by name ".join(
            f"({self._set_aside(self._shadow.ledger, dataset.name, date.fromisoformat(after.day), after)})"
            for _, after in pairs
        )
        rejected = [key for key, (_, now) in self._objects[dataset.name].items() if now.state == "rejected"]
        self._engine.register("rejected", pa.table({"key": pa.array(rejected, pa.string())}))
        rows = self._engine.execute(
            "select case when q._object is not null then array_to_string(q.rules, ', ')"
            " when l._object in (select key from rejected) then 'its object is rejected' else 'gone' end, count(*)"
            f" from lost l left join ({set_aside}) q on q._object = l._object and q._row = l._row group by 1 order by 2 desc, 1"
        ).fetchall()
        examples = self._engine.execute(
            f"select _object, _row from lost order by length(_object), _object, _row limit {SHOWN}"
        ).fetchall()
        values = {}
        columns = [column for column in kinds_before if not column.startswith("_")]
        if columns:
            counts = ", ".join(
                f"count(*) filter (where b.{name(column)} is not null"
                + (f" and a.{name(column)} is null)" if column in kinds_after else ")")
                for column in columns
            )
            (found,) = self._engine.execute(
                f"select {counts} from ({was}) b join ({is_}) a on a._object = b._object and a._row = b._row"
                f" where {landed_as_it_did}"
            ).fetchall()
            values = {column: count for column, count in zip(columns, found, strict=True) if count}
        self._engine.unregister("rejected")
        self._engine.unregister(DISCARDED_ROWS)
        self._engine.unregister("replaced")
        return Lost(dict(rows), values, tuple(examples))

    def _columns(self, source: str) -> dict[str, str]:
        return {
            column: kind for column, kind, *_ in self._engine.execute(f"describe select * from ({source})").fetchall()
        }


def without_values_of(difference: Difference, columns: set[str]) -> Difference:
    """A difference whose examples don't show these columns: before they were masked they may hold what is personal."""

    def hidden(values: Mapping[str, object]) -> dict[str, object]:
        return {column: "(personal)" if column in columns else value for column, value in values.items()}

    return replace(
        difference,
        examples=tuple(
            replace(one, key=hidden(one.key), before=hidden(one.before), after=hidden(one.after))
            for one in difference.examples
        ),
    )


# --- what isn't done, but estimated


def _sample(asked: Asked, count: int) -> Asked:
    """Some days of each dataset, spread over all of them, the first and the last among them."""
    days = {}
    for dataset, all_days in asked.days.items():
        if count >= len(all_days):
            days[dataset] = all_days
        elif count == 1:
            days[dataset] = [all_days[-1]]
        else:
            places = {round(number * (len(all_days) - 1) / (count - 1)) for number in range(count)} if count else set()
            days[dataset] = [all_days[place] for place in sorted(places)]
    return replace(asked, days=days, is_bounded=True, has_whole_tables=False)


def _estimate(shadow: Shadow, asked: Asked, done: Asked, work: Backfill) -> Estimate | None:
    """What is left when the sample is done; None: nothing."""
    read: dict[Why, Objects] = {}
    days: dict[str, int] = {}
    seconds: float | None = 0.0
    news: dict[str, set[date | None]] = {}
    for dataset_name, all_days in asked.days.items():
        dataset = shadow.datasets[dataset_name]
        rest = [day for day in all_days if day not in done.days[dataset_name]]
        size = 0
        for day in rest:
            for why, landed in _would_read(shadow, dataset, day, is_forced=asked.replay):
                read[why] = read.get(why, Objects()) + Objects(1, landed)
                size += landed
                news.setdefault(dataset.processed, set()).add(day)
        if rest:
            days[dataset_name] = len(rest)
        if size:
            loads = [one for one in work.loads if one.dataset == dataset_name]
            pace = sum(one.bytes_read for one in loads), sum(one.seconds for one in loads)
            if not pace[0]:
                pace = shadow.before.reading_pace(dataset_name)
            if not pace[0]:
                # That of the others is better than none.
                paces = [shadow.before.reading_pace(other) for other in shadow.datasets]
                pace = sum(size for size, _ in paces), sum(took for _, took in paces)
            seconds = seconds + size / pace[0] * pace[1] if pace[0] and seconds is not None else None
    pace_of = shadow.before.computing_pace()
    for table in {one.table for one in work.computed}:
        took = [one.seconds for one in work.computed if one.table == table]
        pace_of[table] = sum(took) / len(took)
    usual = sum(pace_of.values()) / len(pace_of) if pace_of else None
    for table in followers(shadow, asked.days):
        todo: set[date | None] = {day for day in shadow.stale_days(table) if asked.has(table, day)} | news.get(
            table, set()
        )
        if table in shadow.sql_tables:
            for other in shadow.sql_tables[table].depends_on:
                todo |= news.get(other, set())
        news[table] = todo
        one_takes = pace_of.get(table, usual)
        if todo:
            seconds = seconds + len(todo) * one_takes if seconds is not None and one_takes is not None else None
    if not days and not any(news.values()):
        return None
    return Estimate(days, {why: read[why] for why in WHYS if why in read}, seconds, None)


def _would_read(shadow: Shadow, dataset: Dataset, day: date, *, is_forced: bool) -> Iterator[tuple[Why, int]]:
    """Why a load of the day would read an object, and its bytes, as far as a listing tells."""
    listed = shadow.listing(dataset, day)
    news = {landed.key for landed in shadow.news(dataset, day, listed)}
    known = shadow.before.current(dataset.name, day)
    for landed in listed:
        before = known.get(landed.key)
        if landed.key in news:
            if before is None:
                yield "new", landed.size_bytes
            elif not same_version(before.token, landed.token):
                yield "changed", landed.size_bytes
            else:
                yield ("set free" if before.state == "pending" else "declaration"), landed.size_bytes
        elif is_forced:
            yield "by force", landed.size_bytes


def _with_rows(estimate: Estimate, made: Plan) -> Estimate:
    """With the processed rows that would change, by the bytes that were read for those that did."""
    read = sum((one.objects.bytes for one in made.datasets), 0)
    left = sum(objects.bytes for objects in estimate.read.values())
    if not read:
        return estimate
    rows = sum(one.difference.rows for one in made.partitions if one.table.startswith("processed."))
    return replace(estimate, rows_changed=round(rows * left / read))
