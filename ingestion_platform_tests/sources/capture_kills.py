"""
A campaign against a capture: killed at random moments while a bank is busy, it must miss nothing and have nothing twice.

Accounts count their changes in a column, the ledger is only ever added to, notes are so long that the database doesn't send them with
every change, and what is waiting is truncated now and then. So what the history must say is known from the tables alone.
"""

import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from ingestion_platform.dataset import CAPTURED, CAPTURED_COLUMNS, Daily, Dataset, Datasets
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain, Drained
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform.stream import Postgres, Stream, StreamSegments
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.sources.postgres_server import Server
from ingestion_platform_tests.warehouse.building import Bench

ZONE = ZoneInfo("Africa/Johannesburg")
TABLES = {
    "accounts": ("id", "version", "balance", "notes"),
    "ledger": ("id", "account", "delta"),
    "waiting": ("id", "account"),
}
MADE = (
    "create table accounts (id bigint primary key, version int, balance numeric(14,2), notes text)",
    "alter table accounts alter notes set storage external",
    "create table ledger (id bigserial primary key, account bigint, delta numeric(14,2))",
    "create table waiting (id bigserial primary key, account bigint)",
)
ACCOUNTS = 200
MEAN_SECONDS = 1.0
"""How long a capture lives on average, its start included."""


@dataclass(frozen=True)
class Site:
    """
    Where the campaign takes place; it can be sent to another process.

    Args:
        folder: of the landing zone.
        properties: of the database.
        stream: the capture.
    """

    folder: str
    properties: dict[str, str]
    stream: Stream

    def drain(self) -> Drain:
        """A drain, as a new process begins it."""
        landing = Path(self.folder) / "landing"
        landing.mkdir(parents=True, exist_ok=True)
        reader = open_reader(self.stream, Connections(databases={"bank": self.properties}))
        return Drain(LandedStream(self.stream, LocalLanding(landing), ZONE), reader)


def follow(site: Site) -> None:
    """Be the process that is killed."""
    site.drain().follow(threading.Event())


@dataclass
class Outcome:
    """What the campaign did, and what was found wrong."""

    changes: int
    kills: int
    segments: int
    seconds: float
    wrong: list[str]


def campaign(server: Server, folder: Path, *, changes: int, kills: int, seed: int = 1) -> Outcome:
    """
    Kill the capture again and again while at least so many changes are made; then hold what has landed against the tables.

    Args:
        server: of a database that is made for it.
        folder: of the landing zone and the warehouse.
        changes: at least.
        kills: at least.
        seed: of chance.
    """
    began = time.monotonic()
    database = server.new_database(
        *MADE, f"insert into accounts select i, 0, 0, repeat('n', 3000) from generate_series(1, {ACCOUNTS}) i"
    )
    source = Postgres(database="bank", tables=tuple(f"public.{table}" for table in TABLES))
    stream = Stream(
        name=f"bank_{database}", description="A bank.", first_day=date(2024, 10, 1), source=source, segment_seconds=0.2
    )
    site = Site(str(folder), server.properties(database), stream)
    load = _Load(server, database, changes, seed, pause_seconds=kills * MEAN_SECONDS / changes)
    chance = random.Random(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "ingestion_platform.sources.postgres", "pandas"])
    done = 0
    load.start()
    try:
        while done < kills or load.is_alive():
            process = context.Process(target=follow, args=(site,), daemon=True)
            process.start()
            process.join(chance.uniform(0.1, 2 * MEAN_SECONDS))
            process.kill()
            process.join()
            done += 1
    finally:
        load.enough.set()
        load.join()
    drained = _last(site)
    wrong = [] if drained.is_caught_up else ["the last drain didn't come to the end"]
    wrong += _differences(server, database, folder, stream)
    segments = sum(1 for _ in (folder / "landing").rglob("*.parquet"))
    return Outcome(load.made, done, segments, time.monotonic() - began, wrong)


def _last(site: Site) -> Drained:
    return site.drain().to_now()


class _Load(threading.Thread):
    """Changes the tables, in transactions of any size, until there are enough changes and nobody needs more."""

    def __init__(self, server: Server, database: str, changes: int, seed: int, *, pause_seconds: float) -> None:
        super().__init__(name="load")
        self.pause_seconds = pause_seconds
        self.server = server
        self.database = database
        self.changes = changes
        self.chance = random.Random(seed)
        self.made = 0
        self.enough = threading.Event()

    def run(self) -> None:
        """Make changes."""
        with self.server.connect(self.database) as connection:
            while self.made < self.changes:
                statements = self._transaction()
                connection.execute("begin; " + "; ".join(statements) + "; commit")
                if self.enough.wait(self.pause_seconds * len(statements)):
                    break

    def _transaction(self) -> Sequence[str]:
        chance, statements = self.chance, []
        for _ in range(chance.choice((1, 2, 5, 20, 60))):
            account = chance.randint(1, ACCOUNTS)
            what = chance.random()
            if what < 0.6:
                delta = chance.randint(-9999, 9999) / 100
                statements += [
                    f"update accounts set version = version + 1, balance = balance + {delta} where id = {account}",
                    f"insert into ledger (account, delta) values ({account}, {delta})",
                ]
            elif what < 0.7:
                statements.append(
                    f"update accounts set version = version + 1, notes = repeat('{chance.choice('abc')}', 3000) where id = {account}"
                )
            elif what < 0.9:
                statements.append(f"insert into waiting (account) values ({account})")
            elif what < 0.99:
                statements.append("delete from waiting where id = (select min(id) from waiting)")
            else:
                statements.append("truncate waiting")
        self.made += len(statements)
        return statements


def _differences(server: Server, database: str, folder: Path, stream: Stream) -> list[str]:
    datasets = Datasets(
        [
            Dataset(
                name=table,
                description=f"Changes of {table}.",
                kind="changes",
                changes=CAPTURED,
                source=StreamSegments(stream, routed_by="@header.table", types=(f"public.{table}",)),
                columns=(
                    Column("id", VARCHAR, "Key.", required=True),
                    *(Column(name, VARCHAR, name) for name in columns[1:]),
                    *CAPTURED_COLUMNS,
                ),
                primary_key=("id",),
                daily=Daily(stream.first_day),
            )
            for table, columns in TABLES.items()
        ]
    )
    bench = Bench(folder, datasets=datasets)
    upkeep.catch_up(bench.warehouse)
    wrong = []
    with server.connect(database) as connection:
        for table, columns in TABLES.items():
            listed = ", ".join(f"{column}::text" for column in columns)
            there = sorted(connection.execute(f"select {listed} from {table}").fetchall())
            here = sorted(bench.rows(f"processed.{table}_current", *columns), key=str)
            if sorted(there, key=str) != here:
                wrong.append(
                    f"{table}: {len(there)} rows there, {len(here)} here, {len(set(there) ^ set(here))} of them differ"
                )
        versions = dict(connection.execute("select id::text, version from accounts").fetchall())
        entries = connection.execute("select count(*) from ledger").fetchall()[0][0]
    came = Counter(
        (id_, int(str(version)))
        for id_, version, operation in bench.rows("processed.accounts", "id", "version", "operation")
        if operation == "UPDATE"
    )
    # Those that were there when the tables were read are in no change.
    first = {
        id_: int(str(version))
        for id_, version, operation in sorted(bench.rows("processed.accounts", "id", "version", "operation"), key=str)
        if operation == "SNAPSHOT"
    }
    for id_, version in versions.items():
        for one in range(first.get(id_, 0) + 1, version + 1):
            if came[(id_, one)] != 1:
                wrong.append(f"account {id_}: change {one} of {version} is there {came[(id_, one)]} times")
    lines = Counter(id_ for (id_,) in bench.rows("processed.ledger", "id") if id_ is not None)
    inserted = bench.rows("processed.ledger", "id", "operation")
    twice = Counter(id_ for id_, operation in inserted if operation == "INSERT")
    if len(lines) != entries or any(number > 1 for number in twice.values()):
        wrong.append(
            f"ledger: {entries} lines there, {len(lines)} here, {sum(number > 1 for number in twice.values())} more than once"
        )
    quarantined = bench.rows("platform.quarantine", "reasons")
    if quarantined:
        wrong.append(f"{len(quarantined)} rows are in quarantine: {quarantined[0]}")
    return wrong
