"""
Certificates: what a replay has changed, table by table and day by day, and why as far as the platform knows.

Belongs here: the state before, kept until the certificate is made; comparing; landing the certificate and taking it in again. Doesn't: the
replay itself (`replay.py`), fingerprints (`fingerprints.py`).

Files that leave their table are deleted a day later: those of a state that a certificate still needs stay. A replay that was killed is gone
on with by the next one of the same days, and the certificate is about the state before the first of them.
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from ingestion_platform.decisions import Decision
from ingestion_platform.errors import LandingError, WarehouseError
from ingestion_platform.warehouse.decided import LandedDecision, LandedDecisions
from ingestion_platform.warehouse.fingerprints import Difference, State, compare
from ingestion_platform.warehouse.ledger_file import LedgerFile, now, seal
from ingestion_platform.warehouse.ledger_rows import FileRow

if TYPE_CHECKING:
    from ingestion_platform.dataset import Dataset
    from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

KIND = "certificate"

KEEP_BEGUN = timedelta(days=7)
"""How long the state before a replay that never came to its end keeps its files."""

NAMED = 5
"""Objects, tables, … that a reason names."""

Verdict = Literal["equal", "differs", "new", "gone"]

SCHEMA = """
create table if not exists replays (
    id text primary key, dataset text not null, first text not null, last text not null, began_at text not null, state text not null
) strict, without rowid;
create table if not exists replay_files (replay text not null, path text not null, primary key (replay, path)) strict, without rowid;
create table if not exists certificates (
    certificate text not null, dataset text not null, made_at text not null, by_name text not null, why text not null,
    first_day text not null, last_day text not null, table_name text not null, day text not null, verdict text not null,
    rows_before integer not null, rows_after integer not null, hash_before text not null, hash_after text not null,
    added integer not null, gone integer not null, changed integer not null, reasons text not null, details text not null,
    seal text not null, primary key (certificate, table_name, day)
) strict, without rowid;
create index if not exists certificates_by_table on certificates (table_name, day, made_at);
"""

COLUMNS = (
    "certificate", "dataset", "made_at", "by_name", "why", "first_day", "last_day", "table_name", "day", "verdict", "rows_before",
    "rows_after", "hash_before", "hash_after", "added", "gone", "changed", "reasons", "details",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """
    One partition before and after.

    Args:
        table: `raw.sales`, `quarantine.sales`, `processed.sales`, `reports.daily_sales`.
        day: None of a table without days.
        verdict: `equal`, `differs`; `new` and `gone` where one of the two states isn't there at all.
        rows_before: in it.
        rows_after: likewise.
        hash_before: see `fingerprints.py`; empty where there was no such partition.
        hash_after: likewise.
        difference: row by row; nothing differs in an equal one.
        why: what has changed of what it is made of; empty of an equal one.
        is_explained: whether that is a reason; a difference that has none is a fault of the platform, or of a query that isn't a function.
    """

    table: str
    day: date | None
    verdict: Verdict
    rows_before: int
    rows_after: int
    hash_before: str
    hash_after: str
    difference: Difference = field(default_factory=Difference)
    why: tuple[str, ...] = ()
    is_explained: bool = True

    def __str__(self) -> str:
        day = f" {self.day}" if self.day else ""
        if self.verdict == "equal":
            return f"{self.table}{day}: equal, {self.rows_after:,} rows"
        found = self.difference
        told = [f"{self.table}{day}: {self.verdict}, {self.rows_before:,} rows before, {self.rows_after:,} after"]
        told.append(f"{found.added:,} added, {found.gone:,} gone, {found.changed:,} changed")
        if found.columns:
            told.append("in " + ", ".join(f"{column} ({rows:,})" for column, rows in found.columns.items()))
        told += [f"column {column} is new" for column in found.new_columns]
        told += [f"column {column} is no more" for column in found.lost_columns]
        told += [f"column {column} was {old} and is {new}" for column, (old, new) in found.retyped.items()]
        told += self.why or ("nothing that it is made of has changed",)
        return "; ".join(told)


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    What a replay came to.

    Args:
        key: where it landed.
        dataset: that was replayed.
        first: day of keys.
        last: likewise, included.
        at: when it was made, UTC.
        by: who asked for the replay.
        why: his reason.
        compared: every partition that was gone through, and every other one behind that changed meanwhile.
    """

    key: str
    dataset: str
    first: date
    last: date
    at: datetime
    by: str
    why: str
    compared: tuple[Compared, ...]

    @property
    def is_equal(self) -> bool:
        """Whether everything came out as it was."""
        return all(one.verdict == "equal" for one in self.compared)

    @property
    def is_explained(self) -> bool:
        """Whether every difference has a reason."""
        return all(one.is_explained for one in self.compared)

    def __str__(self) -> str:
        other = [one for one in self.compared if one.verdict != "equal"]
        told = f"{len(self.compared):,} partitions compared: "
        if not other:
            return told + "all equal"
        unexplained = sum(not one.is_explained for one in other)
        return (
            f"{told}{len(self.compared) - len(other):,} equal, {len(other):,} different"
            f"{f', {unexplained:,} of them for no reason that is known' if unexplained else ''}"
        )


@dataclass(frozen=True, slots=True)
class Certified:
    """
    What a certificate says of one partition.

    Args:
        key: of the certificate.
        at: when it was made, UTC.
        by: who asked for it.
        verdict: `equal`, `differs`, `new` or `gone`.
        added: rows whose key is new.
        gone: rows whose key isn't there any more.
        changed: rows with other values.
        why: what has changed of what the partition is made of.
    """

    key: str
    at: datetime
    by: str
    verdict: str
    added: int = 0
    gone: int = 0
    changed: int = 0
    why: tuple[str, ...] = ()

    @property
    def is_explained(self) -> bool:
        """Whether it is equal, or differs for a reason that is known."""
        return self.verdict == "equal" or bool(self.why)


Partition = tuple[str, str]
"""A table and its day as the ledger writes it."""


@dataclass(frozen=True, slots=True)
class Held:
    """
    A state before a replay.

    Args:
        id: of the replay.
        began_at: when.
        is_resumed: whether a former replay of the same days began it and was killed.
        files: partition → its files.
        made_of: partition → digests of what it was made of.
        objects: day → key → SHA-256, how it was read, state.
    """

    id: str
    began_at: str
    is_resumed: bool
    files: Mapping[Partition, Sequence[FileRow]]
    made_of: Mapping[Partition, Mapping[str, Any]]
    objects: Mapping[str, Mapping[str, Sequence[str]]]


class Certificates:
    """
    What the ledger knows of certificates, and of states that are kept for one.

    Args:
        file: the ledger's.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def held_paths(self) -> frozenset[str]:
        """Files that a certificate still needs."""
        since = (datetime.now(UTC) - KEEP_BEGUN).isoformat()
        with self._file.reading() as connection:
            rows = connection.execute(
                "select path from replay_files where replay in (select id from replays where began_at > ?)", (since,)
            )
            return frozenset(path for (path,) in rows)

    def hold(self, dataset: str, first: date, last: date, take: Callable[[], dict[str, Any]]) -> Held:
        """
        Keep the state before a replay; that of a former one of the same days that never came to its end, if there is one.

        Args:
            take: gives the state; called inside the transaction.
        """
        since = (datetime.now(UTC) - KEEP_BEGUN).isoformat()
        with self._file.writing() as connection:
            old = "select id from replays where began_at <= ?"
            connection.execute(f"delete from replay_files where replay in ({old})", (since,))
            connection.execute("delete from replays where began_at <= ?", (since,))
            row = connection.execute(
                "select id, began_at, state from replays where dataset = ? and first = ? and last = ?",
                (dataset, first.isoformat(), last.isoformat()),
            ).fetchone()
            if row is not None:
                return _held(row["id"], row["began_at"], json.loads(row["state"]), is_resumed=True)
            state = take()
            id_, moment = uuid.uuid4().hex, now()
            connection.execute(
                "insert into replays values (?, ?, ?, ?, ?, ?)",
                (id_, dataset, first.isoformat(), last.isoformat(), moment, json.dumps(state)),
            )
            paths = {file["path"] for one in state["partitions"] for file in one["files"]}
            connection.executemany("insert into replay_files values (?, ?)", [(id_, path) for path in sorted(paths)])
            return _held(id_, moment, state, is_resumed=False)

    def let_go(self, held: Held) -> None:
        """The certificate is made: its files may go as all others do."""
        with self._file.writing() as connection:
            connection.execute("delete from replay_files where replay = ?", (held.id,))
            connection.execute("delete from replays where id = ?", (held.id,))

    def take_in(self, landed: LandedDecisions, dataset: str) -> None:
        """Note the certificates of a dataset that have landed since the last look; one that can't be read is told, and left out."""
        with self._file.reading() as connection:
            rows = connection.execute("select distinct certificate from certificates where dataset = ?", (dataset,))
            known = frozenset(key for (key,) in rows)
        found = landed.list(KIND, dataset, known=known)
        for broken in found.broken:
            log.warning("%s", broken.reason)
        for one in found.decisions:
            try:
                self._note(one)
            except LandingError as error:
                log.warning("%s", error)

    def _note(self, landed: LandedDecision) -> None:
        decision, what = landed.decision, landed.decision.what
        try:
            rows = [
                (
                    landed.key, decision.dataset, decision.at.isoformat(timespec="microseconds"), decision.by, decision.why,
                    str(what["first"]), str(what["last"]), str(one["table"]), str(one["day"]), str(one["verdict"]),
                    int(one["rows_before"]), int(one["rows_after"]), str(one["hash_before"]), str(one["hash_after"]),
                    int(one["difference"]["added"]), int(one["difference"]["gone"]), int(one["difference"]["changed"]),
                    json.dumps(one["why"], ensure_ascii=False), json.dumps(one["difference"], ensure_ascii=False),
                )
                for one in what["compared"]
            ]  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LandingError(
                f"{landed.key} is no certificate: {error!r}", "move it out of the landing zone"
            ) from error
        with self._file.writing() as connection:
            connection.executemany(
                f"insert or replace into certificates values ({', '.join('?' * (len(COLUMNS) + 1))})",
                [(*row, seal(row)) for row in rows],
            )

    def strike(self, key: str) -> None:
        """Strike out what was taken in of a decision that isn't in the landing zone any more."""
        with self._file.writing() as connection:
            connection.execute("delete from certificates where certificate = ?", (key,))

    def last(self, table: str, day: date | None) -> "Certified | None":
        """What the newest certificate says of a partition; None when none speaks of it."""
        with self._file.reading() as connection:
            row = connection.execute(
                "select * from certificates where table_name = ? and day = ? order by made_at desc, certificate desc limit 1",
                (table, day.isoformat() if day else ""),
            ).fetchone()
        if row is None:
            return None
        self._file.check_seal(row, tuple(row[name] for name in COLUMNS), f"certificate {row['certificate']!r}")
        return Certified(
            row["certificate"], datetime.fromisoformat(row["made_at"]), row["by_name"], row["verdict"], row["added"], row["gone"],
            row["changed"], tuple(json.loads(row["reasons"])),
        )  # fmt: skip

    def rows(self) -> list[tuple[Any, ...]]:
        """Every partition of every certificate."""
        with self._file.reading() as connection:
            found = connection.execute(
                "select * from certificates order by made_at, certificate, table_name, day"
            ).fetchall()
        for row in found:
            self._file.check_seal(row, tuple(row[name] for name in COLUMNS), f"certificate {row['certificate']!r}")
        return [tuple(row[name] for name in COLUMNS) for row in found]


def _held(id_: str, began_at: str, state: Mapping[str, Any], *, is_resumed: bool) -> Held:
    files = {
        (one["table"], one["day"]): [FileRow(**{**file, "excluded": tuple(file["excluded"])}) for file in one["files"]]
        for one in state["partitions"]
    }
    made_of = {(one["table"], one["day"]): one["made_of"] for one in state["partitions"]}
    return Held(id_, began_at, is_resumed, files, made_of, state["objects"])


# --- taking a state, and comparing two


def state_of(warehouse: "Warehouse", dataset: "Dataset", first: date, last: date) -> dict[str, Any]:
    """What a replay of these days may change, as it is now: files, what they are made of, and the objects behind. As JSON has it."""
    ledger = warehouse.ledger
    earliest = first - timedelta(days=dataset.daily.allowed_lateness_days)
    partitions: dict[Partition, dict[str, Any]] = {}

    def add(table: str, day: str, files: Iterable[FileRow], made_of: Mapping[str, Any]) -> None:
        one = partitions.setdefault((table, day), {"table": table, "day": day, "files": [], "made_of": dict(made_of)})
        one["files"] += [asdict(file) for file in files]

    with ledger.reading():
        objects = {}
        for day in ledger.object_days(dataset.name):
            if first <= day <= last:
                rows = ledger.current(dataset.name, day).values()
                objects[day.isoformat()] = {row.key: (row.sha256, row.reader, row.state) for row in rows}
        for file in ledger.files(dataset.raw, first=first, last=last):
            add(dataset.raw, file.day, [file], {})
        for table in (dataset.raw, dataset.processed):
            for file in ledger.files(table, role="quarantine", first=earliest, last=last):
                add(f"quarantine.{dataset.name}", file.day, [file], {})
        reached = {dataset.processed}
        for row in ledger.partitions(dataset.processed, earliest.isoformat(), last.isoformat()):
            add(row.table_name, row.day, ledger.partition_files([row]), _made_of(row.details))
        for key, table_ in warehouse.sql_tables.items():
            if reached & set(table_.depends_on):
                reached.add(key)
                for row in ledger.partitions(key):
                    if not row.day or row.day >= earliest.isoformat():
                        add(key, row.day, ledger.partition_files([row]), _made_of(row.details))
    return {"partitions": list(partitions.values()), "objects": objects}


def _made_of(details: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(details).get("made_of", {})
    return found


def certify(
    warehouse: "Warehouse",
    dataset: "Dataset",
    held: Held,
    first: date,
    last: date,
    gone_through: Iterable[tuple[str, date | None]],
    *,
    by: str,
    why: str,
) -> Certificate:
    """
    Compare the state before a replay with the one that is there now, and land what was found.

    Args:
        warehouse: whose.
        dataset: that was replayed.
        held: the state before.
        first: day of keys.
        last: likewise.
        gone_through: partitions that the replay went through; others are told when they changed.
        by: who asked for it.
        why: his reason.

    Raises:
        WarehouseDamaged: a file isn't what was written.
        LandingUnavailable: the certificate couldn't land; another replay of the same days goes on.
    """
    after = _held("", "", state_of(warehouse, dataset, first, last), is_resumed=False)
    through = {(table, day.isoformat() if day else "") for table, day in gone_through}
    through |= {
        (table, day)
        for table, day in {**held.files, **after.files}
        if table in (dataset.raw, f"quarantine.{dataset.name}")
    }
    found: list[Compared] = []
    differing: set[Partition] = set()
    for partition in sorted({*held.files, *after.files}, key=lambda one: (_order(warehouse, dataset, one[0]), one[1])):
        is_same = _paths(held, partition) == _paths(after, partition)
        if is_same and partition not in through:
            continue
        one = _compared(warehouse, dataset, held, after, partition, differing)
        if one.verdict != "equal":
            differing.add(partition)
        found.append(one)
    what = {
        "first": first.isoformat(),
        "last": last.isoformat(),
        "began_at": held.began_at,
        "compared": [{**asdict(one), "day": one.day.isoformat() if one.day else ""} for one in found],
    }
    at = datetime.now(UTC)
    key = warehouse.decisions.put(Decision(KIND, dataset.name, at, by, why, what))
    warehouse.certificates.take_in(warehouse.decisions, dataset.name)
    warehouse.certificates.let_go(held)
    return Certificate(key, dataset.name, first, last, at, by, why, tuple(found))


def _paths(state: Held, partition: Partition) -> list[tuple[str, tuple[str, ...]]]:
    return sorted((file.path, file.excluded) for file in state.files.get(partition, ()))


def _order(warehouse: "Warehouse", dataset: "Dataset", table: str) -> int:
    order = [dataset.raw, f"quarantine.{dataset.name}", dataset.processed, *warehouse.sql_tables]
    return order.index(table)


def _compared(
    warehouse: "Warehouse", dataset: "Dataset", held: Held, after: Held, partition: Partition, differing: set[Partition]
) -> Compared:
    table, iso = partition
    former = State(warehouse.engine, warehouse.store, held.files.get(partition, ()))
    later = State(warehouse.engine, warehouse.store, after.files.get(partition, ()))
    was, is_ = former.fingerprint(), later.fingerprint()
    is_there = (partition in held.files, partition in after.files)
    day = date.fromisoformat(iso) if iso else None
    hashes = (was.hex if is_there[0] else "", is_.hex if is_there[1] else "")
    if hashes[0] == hashes[1]:
        return Compared(table, day, "equal", was.rows, is_.rows, *hashes)
    verdict: Verdict = "differs" if all(is_there) else "new" if is_there[1] else "gone"
    key, hidden = _key_and_hidden(warehouse, dataset, table)
    difference = compare(warehouse.engine, former, later, key, hidden)
    reasons = _why(dataset, held, after, partition, differing)
    return Compared(
        table, day, verdict, was.rows, is_.rows, *hashes, difference, tuple(reasons), is_explained=bool(reasons)
    )


def _key_and_hidden(warehouse: "Warehouse", dataset: "Dataset", table: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The columns that tell a table's rows apart, and those whose values aren't for everybody."""
    place = ("_object", "_row")
    personal = {column.name for column in dataset.columns if column.pii is not None}
    beside = {"_extra", "_key", "_headers", "_url", "record"} if personal else set[str]()
    if table == dataset.raw:
        return place, frozenset(personal | beside)
    if table == dataset.processed:
        return dataset.row_key or place, frozenset()
    if table in warehouse.sql_tables:
        return warehouse.sql_tables[table].primary_key, frozenset()
    return place, frozenset(beside)


def _why(dataset: "Dataset", held: Held, after: Held, partition: Partition, differing: set[Partition]) -> list[str]:
    table, day = partition
    if table == dataset.raw:
        return _why_objects(held.objects.get(day, {}), after.objects.get(day, {}))
    if table == f"quarantine.{dataset.name}":
        of_objects = _why_objects(held.objects.get(day, {}), after.objects.get(day, {}))
        processed = (dataset.processed, day)
        return of_objects or _why_made_of(held.made_of.get(processed, {}), after.made_of.get(processed, {}), differing)
    return _why_made_of(held.made_of.get(partition, {}), after.made_of.get(partition, {}), differing)


def _why_objects(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> list[str]:
    """What has changed of a day's objects."""
    both = sorted(before.keys() & after.keys())
    anew = [key for key in both if before[key][0] != after[key][0]]
    otherwise = [key for key in both if before[key][0] == after[key][0] and before[key][1] != after[key][1]]
    stood = [key for key in both if tuple(before[key][:2]) == tuple(after[key][:2]) and before[key][2] != after[key][2]]
    told = (
        ("came for the first time", sorted(after.keys() - before.keys())),
        ("are no more", sorted(before.keys() - after.keys())),
        ("were sent anew", anew),
        ("are read as another declaration says", otherwise),
        ("count otherwise beside other objects", stood),
    )
    return [f"{len(keys):,} objects {what}: {_named(keys)}" for what, keys in told if keys]


_CAUSES = {
    "declaration": "its columns, rules or days are declared otherwise",
    "salt": "the salt of hashed columns is another one",
    "discards": "rows were discarded or reopened",
    "query": "its query, time zone or checks are others",
    "raw": "its raw rows are others, or are read otherwise",
}


def _why_made_of(before: Mapping[str, Any], after: Mapping[str, Any], differing: set[Partition]) -> list[str]:
    """What has changed of what a computed partition is made of."""
    if not before and after:
        return ["it was never computed before"]
    if before and not after:
        return ["nothing is left that it is made of"]
    found = [told for cause, told in _CAUSES.items() if before.get(cause) != after.get(cause)]
    for cause in ("references", "reads"):
        old, new = before.get(cause, {}), after.get(cause, {})
        others = sorted(other for other in {*old, *new} if old.get(other) != new.get(other))
        for other in others[:NAMED]:
            days = sorted(day for table, day in differing if table == other and day)
            found.append(f"{other} has changed{f': {_named(days)}' if days else ''}")
    return found


def _named(keys: Sequence[str]) -> str:
    return ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else "")


def require_days(first: date, last: date) -> None:
    """
    Refuse days that are none.

    Raises:
        WarehouseError: the last is before the first.
    """
    if last < first:
        raise WarehouseError(f"the last day {last} is before the first {first}", "the other way round?")
