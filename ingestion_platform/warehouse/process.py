"""
Raw to processed, by contract.

Belongs here: computing one processed day from the raw rows that belong to it. Doesn't: the SQL of casts and rules
(`contract.py`), the transaction
(`ledger.py`).

A processed day is a pure function of its raw rows, the declaration and the referenced datasets as of that day. One statement
casts, judges and writes
the good rows; only when rows are missing from its result are the others read again, for their reasons.
"""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb

from ingestion_platform.dataset import Dataset, Datasets, WholeFetches
from ingestion_platform.errors import SettingsError
from ingestion_platform.table import Check
from ingestion_platform.warehouse.adopt import Adopter
from ingestion_platform.warehouse.contract import QUARANTINE_COLUMNS, Contract, Rule, in_order
from ingestion_platform.warehouse.discards import Discard, Discards, digest_of, discards_table
from ingestion_platform.warehouse.engine import COPY_OPTIONS, LANDING_ORDER, name, parquet, relation, text
from ingestion_platform.warehouse.files import FileStore, StoredFile
from ingestion_platform.warehouse.ledger import Conflict, Ledger
from ingestion_platform.warehouse.ledger_rows import FileRow, ObjectRow, PartitionRow
from ingestion_platform.warehouse.results import Balance, TableDay

log = logging.getLogger(__name__)

SUPERSEDED = "primary key: superseded"
"""The rule under which a losing row goes to quarantine where the declaration says so."""


DISCARDED = "discarded"
"""The rule under which a row stays in quarantine that breaks no other: a person has discarded it."""

DISCARDED_ROWS = "discarded_rows"
"""What the engine calls the rows that are discarded, while a day is computed."""


@dataclass(frozen=True, slots=True)
class _Computed:
    """Files and numbers of a processed day, not yet committed."""

    rows: StoredFile
    quarantine: StoredFile | None
    superseded: int
    reasons: dict[str, int]
    failed_checks: dict[str, int]


class Processor:
    """
    Processes a dataset's days.

    Args:
        contract: the dataset's.
        datasets: all of them, for references.
        ledger: what raw holds.
        store: where rows are written.
        engine: computes.
        pii_salt: of hashed columns; None when there is none.
        adopter: brings raw to the declaration.
    """

    def __init__(
        self,
        contract: Contract,
        datasets: Datasets,
        ledger: Ledger,
        store: FileStore,
        engine: duckdb.DuckDBPyConnection,
        pii_salt: str | None,
        adopter: Adopter,
    ) -> None:
        self._adopter = adopter
        self._discards = Discards(ledger)
        self._contract = contract
        self._dataset: Dataset = contract.dataset
        self._datasets = datasets
        self._ledger = ledger
        self._store = store
        self._engine = engine
        self._salt = pii_salt
        self._digest = contract.digest
        changes = contract.dataset.changes
        self._order = LANDING_ORDER
        if changes is not None:
            key = ", ".join(name(column) for column in contract.dataset.primary_key)
            self._order = f"order by {key}, {in_order(changes)}"

    # --- what it depends on

    def made_of(self, day: date, raw_digest: str) -> dict[str, object]:
        """What a day is made of, each as a digest: so that a person can be told what has changed."""
        references = {}
        for other in sorted({other for _, other, _ in self._dataset.references}):
            row = self._ledger.partition_as_of(self._datasets[other].processed, day)
            references[self._datasets[other].processed] = row.content if row else ""
        salt = hashlib.sha256(f"salt:{self._salt}".encode()).hexdigest() if self._contract.needs_salt else ""
        return {
            "declaration": self._digest,
            "raw": raw_digest,
            "references": references,
            "salt": salt,
            "discards": digest_of(self._discarded(day)),
        }

    def inputs(self, day: date, raw_digest: str) -> str:
        """Changes whenever the day would come out otherwise."""
        return hashlib.sha256(repr(sorted(self.made_of(day, raw_digest).items())).encode()).hexdigest()

    def _discarded(self, day: date) -> tuple[Discard, ...]:
        """The discarded rows that may belong to a day."""
        last = day + timedelta(days=self._dataset.daily.allowed_lateness_days)
        return self._discards.effective(self._dataset.name, day, last)

    def stale_days(self) -> list[date]:
        """Days whose raw rows, references or declaration have changed since they were computed, or that never were."""
        raw = self._ledger.raw_days(self._dataset.name)
        computed = {row.day: row.inputs for row in self._ledger.partitions(self._dataset.processed)}
        return [day for day, digest in raw.items() if computed.get(day.isoformat()) != self.inputs(day, digest)]

    # --- computing

    def process(self, day: date, *, force: bool, run_id: str) -> TableDay:
        """
        Compute a day, unless nothing that it depends on has changed.

        Raises:
            SettingsError: a column is to be hashed and there is no salt.
        """
        if self._contract.needs_salt and not self._salt:
            raise SettingsError(
                f"dataset {self._dataset.name!r} hashes personal columns, and INGESTION_PII_SALT isn't set",
                "set it to a long random text, in the environment or in ingestion.env (`make dev` makes one to try with), and keep it:"
                " with another salt the same person gets another hash",
            )
        began = time.perf_counter()
        # Rows that the day may have, or may get when a column has its values.
        last = day + timedelta(days=self._dataset.daily.allowed_lateness_days)
        self._adopter.adopt(day, last, run_id=run_id)
        while True:
            # In one state: what is computed is what the digest is of.
            with self._ledger.reading():
                # An API's day holds the groups of one fetch, and together they are its snapshot.
                can_replace = self._dataset.kind == "snapshots" and not isinstance(self._dataset.source, WholeFetches)
                files, unread, objects, (digest, rows_raw, rows_unread) = self._ledger.raw_input(
                    self._dataset.name, day, has_objects=can_replace
                )
                inputs = self.inputs(day, digest)
                made_of = self.made_of(day, digest)
                discarded = self._discarded(day)
            former = self._ledger.partition(self._dataset.processed, day)
            if former is not None and former.inputs == inputs and not force:
                return self.describe(former, has_changed=False)
            self._engine.register(DISCARDED_ROWS, discards_table(self._dataset.name, discarded))
            try:
                computed = self._compute(day, files, objects, rows_raw, has_discarded=bool(discarded))
                rows_discarded = self._count_discarded(computed.quarantine, unread) if discarded else 0
            finally:
                # Any query may ask for a variable: the salt is there for this one alone.
                self._engine.execute("reset variable pii_salt")
                self._engine.unregister(DISCARDED_ROWS)
            details = {
                "rows_raw": rows_raw + rows_unread,
                "rows_superseded": computed.superseded,
                "rows_quarantined": (computed.quarantine.rows if computed.quarantine else 0)
                + self._count_unread(unread),
                "rows_discarded": rows_discarded,
                "reasons": computed.reasons,
                "failed_checks": computed.failed_checks,
                "bytes": computed.rows.size_bytes,
                "made_of": made_of,
            }
            try:
                row = self._ledger.commit_partition(
                    self._dataset.processed,
                    day,
                    inputs=inputs,
                    content=computed.rows.sha256,
                    file=computed.rows,
                    quarantine_file=computed.quarantine,
                    details=details,
                    run_id=run_id,
                    inputs_now=lambda: self.inputs(day, self._ledger.raw_days(self._dataset.name).get(day, "0")),
                )
            except Conflict:
                log.info("%s %s: its inputs have changed meanwhile; computing again", self._dataset.processed, day)
                self._store.discard(computed.rows.path)
                if computed.quarantine is not None:
                    self._store.discard(computed.quarantine.path)
                continue
            return self.describe(row, has_changed=True, seconds=time.perf_counter() - began)

    @staticmethod
    def describe(row: PartitionRow, *, has_changed: bool, seconds: float = 0.0) -> TableDay:
        """A partition of the ledger, as a person is shown it."""
        details = json.loads(row.details)
        balance = None
        if "rows_raw" in details:
            balance = Balance(
                details["rows_raw"],
                row.rows,
                details["rows_superseded"],
                details["rows_quarantined"],
                details.get("rows_discarded", 0),
            )
        return TableDay(
            table=row.table_name,
            day=date.fromisoformat(row.day) if row.day else None,
            rows=row.rows,
            bytes=details["bytes"],
            seconds=seconds,
            has_changed=has_changed,
            balance=balance,
            reasons=details.get("reasons", {}),
            failed_checks=details["failed_checks"],
            content=row.content,
            state=details.get("state", ""),
            why=details.get("why", ""),
            final_at=datetime.fromisoformat(details["final_at"]) if "final_at" in details else None,
        )

    def _count_unread(self, files: list[FileRow]) -> int:
        if not files:
            return 0
        unread = relation(self._store, files, QUARANTINE_COLUMNS)
        return _one(self._engine, f"select count(*) from ({unread})")

    def _count_discarded(self, quarantine: StoredFile | None, unread: list[FileRow]) -> int:
        """How many of a day's quarantined rows are discarded."""
        parts = [f"select _object, _row from {self._parquet(quarantine.path)}"] if quarantine is not None else []
        if unread:
            parts.append(f"select _object, _row from ({relation(self._store, unread, QUARANTINE_COLUMNS)})")
        if not parts:
            return 0
        return _one(self._engine, f"select count(*) from ({' union all '.join(parts)}) where {is_discarded()}")

    def _replaced_objects(self, objects: list[ObjectRow]) -> list[str]:
        """Of a snapshot's day: objects that a later one of the same sender replaces."""
        newest: dict[str, str] = {}
        for row in objects:
            newest[self._sender_of(row)] = max(newest.get(self._sender_of(row), ""), row.key)
        return [row.key for row in objects if newest[self._sender_of(row)] != row.key]

    def _sender_of(self, row: ObjectRow) -> str:
        if row.sender is not None:
            return row.sender
        found = self._dataset.source.match(row.key)
        return json.dumps(found[1] if found else {}, sort_keys=True)

    def _references(self, day: date) -> dict[str, str]:
        relations = {}
        for column, other, there in self._dataset.references:
            row = self._ledger.partition_as_of(self._datasets[other].processed, day)
            files = self._ledger.partition_files([row]) if row else []
            source = relation(self._store, files, [(there, "VARCHAR")])
            relations[column.name] = (
                f"select distinct {name(there)}::varchar as value from ({source}) where {name(there)} is not null"
            )
        return relations

    def _compute(
        self, day: date, files: list[FileRow], objects: list[ObjectRow], rows_raw: int, *, has_discarded: bool
    ) -> _Computed:
        contract, engine = self._contract, self._engine
        engine.execute(f"set TimeZone = {text(contract.time_zone)}")
        engine.execute("set variable pii_salt = $salt", {"salt": self._salt or ""})
        rules = contract.rules(day, self._references(day))
        raw = relation(self._store, files, contract.raw_columns)
        replaced = self._replaced_objects(objects)
        if replaced:
            raw = f"select * from ({raw}) where _object not in ({', '.join(text(key) for key in replaced)})"
        candidates = f"select * from ({contract.values(raw)}) where {contract.belongs_to(day)}"
        broken = " or ".join(f"coalesce({rule.broken}, false)" for rule in rules) or "false"
        judged = f"select *, ({broken}) as _is_broken from ({candidates})"
        if has_discarded:
            # A person has said so: what he discarded stays where it is, whatever the declaration says by now.
            rules.append(
                Rule(
                    DISCARDED,
                    f"_is_discarded and not ({broken})",
                    "'it breaks no rule by itself, and a person has discarded it'",
                )
            )
            marked = f"select *, {is_discarded()} as _is_discarded from ({candidates})"
            judged = f"select *, (_is_discarded or {broken}) as _is_broken from ({marked})"
        shown = ", ".join(
            f"cast({contract.shown(column)} as {kind}) as {name(column.name)}"
            for column, (_, kind) in zip(self._dataset.columns, contract.processed_columns, strict=False)
        )
        own_day = f"date '{day.isoformat()}'"
        good = (
            f"select {shown}, {own_day} as _day, _day as _landed_on, _object, _row from ({judged}) where not _is_broken"
        )
        path = self._store.new_path(self._dataset.processed, day.isoformat())
        # Sums of floating point, and whatever a query takes first, depend on the order of rows: it is that of one load of
        # everything. One file has it already.
        # The history of changes has each key's changes side by side.
        is_in_order = len(files) <= 1 and self._dataset.changes is None
        rows = self._copy(good if is_in_order else f"{good} {self._order}", path)
        quarantine_parts = []
        superseded = sum(row.rows_loaded for row in objects if row.key in set(replaced))
        # What was counted when it was loaded, and isn't good: only then are reasons looked for.
        if rows < rows_raw - superseded:
            quarantine_parts.append(self._quarantined(judged, rules, own_day))
        path, rows, lost = self._keep_one_per_key(path, rows, day)
        losers_path = None
        if lost is not None:
            losers_path, losers = lost
            if self._dataset.duplicate_keys == "quarantine":
                quarantine_parts.append(self._quarantined_losers(judged, losers_path, own_day))
            else:
                superseded += losers
        quarantine = None
        reasons: dict[str, int] = {}
        if quarantine_parts:
            quarantine_path = self._store.new_path(f"quarantine.{self._dataset.name}", day.isoformat())
            union = " union all ".join(f"({part})" for part in quarantine_parts)
            count = self._copy(f"select * from ({union}) order by _object, _row", quarantine_path)
            quarantine = self._store.describe(quarantine_path, count)
            found = engine.execute(
                f"select rule, count(*) from (select unnest(rules) as rule from {self._parquet(quarantine_path)}"
                f"{f' where not {is_discarded()}' if has_discarded else ''}) group by 1 order by 2 desc, 1"
            ).fetchall()
            reasons = dict(found)
        if losers_path is not None:
            self._store.discard(losers_path)
        return _Computed(self._store.describe(path, rows), quarantine, superseded, reasons, self._check(path))

    def _quarantined(self, judged: str, rules: Sequence[Rule], own_day: str) -> str:
        names = ", ".join(f"case when {rule.broken} then {text(rule.name)} end" for rule in rules)
        reasons = ", ".join(f"case when {rule.broken} then {rule.reason} end" for rule in rules)
        return (
            f"select {text(self._dataset.name)} as dataset, {own_day} as _day, _day as _landed_on, _object, _row,"
            f" list_filter([{names}], lambda rule: rule is not null) as rules,"
            f" list_filter([{reasons}], lambda reason: reason is not null) as reasons,"
            f" {self._contract.record()} as record from ({judged}) where _is_broken"
        )

    def _quarantined_losers(self, judged: str, losers_path: str, own_day: str) -> str:
        key = ", ".join(self._dataset.primary_key)
        return (
            f"select {text(self._dataset.name)} as dataset, {own_day} as _day, _day as _landed_on, _object, _row,"
            f" [{text(SUPERSEDED)}] as rules, [{text(f'primary key ({key}): another row of this key came later')}] as reasons,"
            f" {self._contract.record()} as record from ({judged})"
            f" semi join {self._parquet(losers_path)} using (_object, _row)"
        )

    def _keep_one_per_key(self, path: str, rows: int, day: date) -> tuple[str, int, tuple[str, int] | None]:
        """
        Let one row per key stand: the last by event time, then by landing order (day of the object, its key, its row).

        Returns:
            The file that holds them, its rows, and, when rows lost, a file with their `_object` and `_row` and how many they are.
        """
        key = ", ".join(name(column) for column in self._dataset.row_key)
        if not key or not rows:
            return path, rows, None
        good = self._parquet(path)
        changes = self._dataset.changes
        if changes is not None and changes.operation is not None and changes.ignores:
            # What changes no row has no key, and is no double of anything.
            ignored = f"{name(changes.operation)} in ({', '.join(map(text, changes.ignores))})"
            good = f"(select * from {good} where not {ignored})"
            rows_of_keys = _one(self._engine, f"select count(*) from {good}")
        else:
            rows_of_keys = rows
        if _one(self._engine, f"select count(*) from (select distinct {key} from {good})") == rows_of_keys:
            return path, rows, None
        event = f"{name(self._dataset.event_time)} desc nulls last, " if self._dataset.event_time else ""
        same = ["_object", "_row"]
        if changes is not None:
            # A record that gives a row another key is two changes.
            same += [name(column) for column in self._dataset.row_key]
        one = ", ".join(f"good.{column}" for column in same)
        keys = [name(column) for column in self._dataset.row_key]
        # A change that removes all rows has no key.
        is_double = " and ".join(f"good.{column} is not distinct from double.{column}" for column in keys)
        losers = (
            f"select {', '.join(same)} from (select {one}, row_number() over"
            f" (partition by {key} order by {event}_landed_on desc, _object desc, _row desc) as place"
            f" from {good} as good semi join (select {key} from {good} group by all having count(*) > 1) as double on {is_double})"
            " where place > 1"
        )
        losers_path = self._store.new_path(self._dataset.processed, day.isoformat())
        lost = self._copy(losers, losers_path)
        kept_path = self._store.new_path(self._dataset.processed, day.isoformat())
        is_lost = " and ".join(f"good.{column} is not distinct from losers.{column}" for column in same)
        kept = self._copy(
            f"select * from {self._parquet(path)} as good anti join {self._parquet(losers_path)} as losers on {is_lost} {self._order}",
            kept_path,
        )
        self._store.discard(path)
        return kept_path, kept, (losers_path, lost)

    def _check(self, path: str) -> dict[str, int]:
        """Rows that fail each declared check."""
        return count_failures(self._engine, self._dataset.checks, self._parquet(path))

    def _copy(self, query: str, path: str) -> int:
        return _one(self._engine, f"copy ({query}) to {self._quoted(path)} {COPY_OPTIONS}")

    def _parquet(self, path: str) -> str:
        return parquet(self._store.absolute(path))

    def _quoted(self, path: str) -> str:
        return text(str(self._store.absolute(path).absolute()))


def is_discarded() -> str:
    """SQL: whether a row with `_object` and `_row` is one of `DISCARDED_ROWS`."""
    return f"exists (select 1 from {DISCARDED_ROWS} where discarded_object = _object and _row between first_row and last_row)"


def count_failures(engine: duckdb.DuckDBPyConnection, checks: Sequence[Check], source: str) -> dict[str, int]:
    """
    Count the rows that fail each check.

    Args:
        checks: each a condition over one row.
        source: SQL of the relation.
    """
    if not checks:
        return {}
    counts = ", ".join(f"count(*) filter (where not ({check.expression}))" for check in checks)
    # fetchall, since after fetchone DuckDB 2.0 holds the result open and refuses other work on the connection.
    (found,) = engine.execute(f"select {counts} from {source}").fetchall()
    return {check.name: int(count) for check, count in zip(checks, found, strict=True)}


def _one(engine: duckdb.DuckDBPyConnection, query: str) -> int:
    (row,) = engine.execute(query).fetchall()
    return int(row[0])
