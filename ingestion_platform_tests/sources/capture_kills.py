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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from ingestion_platform.dataset import CAPTURED, CAPTURED_COLUMNS, Daily, Dataset, Datasets
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain, Drained
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform.stream import CapturedDatabase, Stream, StreamSegments
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import Bench

ZONE = ZoneInfo("Africa/Johannesburg")
TABLES = {
    "accounts": ("id", "version", "balance", "notes"),
    "ledger": ("id", "account", "delta"),
    "waiting": ("id", "account"),
}
ACCOUNTS = 200
MEAN_SECONDS = 1.0
"""How long a capture lives on average, its start included."""


class Bank(Protocol):
    """
    A database with `TABLES`: accounts with notes of 3,000 characters, so many as `ACCOUNTS` says, and two empty tables whose ids count.

    Args:
        name: of the database; the stream's name has it.
        source: the capture of the tables.
        properties: of the database, for the settings.
        module: of the reader, loaded before the processes that are killed.
        names: table → what the capture calls it.
    """

    name: str
    source: CapturedDatabase
    properties: dict[str, str]
    module: str
    names: Mapping[str, str]

    def run(self, statements: Sequence[str]) -> None:
        """Run statements in one transaction, on a connection that stays."""
        ...

    def rows(self, table: str, columns: Sequence[str]) -> list[tuple[str | None, ...]]:
        """Rows of a table as they are now, each value as text."""
        ...


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


def campaign(bank: Bank, folder: Path, *, changes: int, kills: int, seed: int = 1) -> Outcome:
    """
    Kill the capture again and again while at least so many changes are made; then hold what has landed against the tables.

    Args:
        bank: made for it.
        folder: of the landing zone and the warehouse.
        changes: at least.
        kills: at least.
        seed: of chance.
    """
    began = time.monotonic()
    stream = Stream(
        name=f"bank_{bank.name}",
        description="A bank.",
        first_day=date(2024, 10, 1),
        source=bank.source,
        segment_seconds=0.2,
    )
    site = Site(str(folder), bank.properties, stream)
    load = _Load(bank, changes, seed, pause_seconds=kills * MEAN_SECONDS / changes)
    chance = random.Random(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, bank.module, "pandas"])
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
    wrong += _differences(bank, folder, stream)
    segments = sum(1 for _ in (folder / "landing").rglob("*.parquet"))
    return Outcome(load.made, done, segments, time.monotonic() - began, wrong)


def _last(site: Site) -> Drained:
    return site.drain().to_now()


class _Load(threading.Thread):
    """Changes the tables, in transactions of any size, until there are enough changes and nobody needs more."""

    def __init__(self, bank: Bank, changes: int, seed: int, *, pause_seconds: float) -> None:
        super().__init__(name="load")
        self.pause_seconds = pause_seconds
        self.bank = bank
        self.changes = changes
        self.chance = random.Random(seed)
        self.made = 0
        self.enough = threading.Event()

    def run(self) -> None:
        """Make changes."""
        while self.made < self.changes:
            statements = self._transaction()
            self.bank.run(statements)
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
                statements.append(
                    "delete from waiting where id = (select first from (select min(id) as first from waiting) oldest)"
                )
            else:
                statements.append("truncate waiting")
        self.made += len(statements)
        return statements


def _differences(bank: Bank, folder: Path, stream: Stream) -> list[str]:
    datasets = Datasets(
        [
            Dataset(
                name=table,
                description=f"Changes of {table}.",
                kind="changes",
                changes=CAPTURED,
                source=StreamSegments(stream, routed_by="@header.table", types=(bank.names[table],)),
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
    for table, columns in TABLES.items():
        there = sorted(bank.rows(table, columns), key=str)
        here = sorted(bench.rows(f"processed.{table}_current", *columns), key=str)
        if there != here:
            wrong.append(
                f"{table}: {len(there)} rows there, {len(here)} here, {len(set(there) ^ set(here))} of them differ"
            )
    versions = {id_: int(str(version)) for id_, version in bank.rows("accounts", ("id", "version"))}
    entries = len(bank.rows("ledger", ("id",)))
    came = Counter(
        (id_, int(str(version)))
        for id_, version, operation in bench.rows("processed.accounts", "id", "version", "operation")
        if operation == "UPDATE"
    )
    # Those that were there when the tables were read are in no change.
    first: dict[Any, int] = {}
    for id_, version, operation in bench.rows("processed.accounts", "id", "version", "operation"):
        if operation == "SNAPSHOT":
            # Killed while it read the tables, a capture reads them again.
            first[id_] = max(first.get(id_, 0), int(str(version)))
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
