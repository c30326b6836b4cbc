"""
MariaDB's log: changes a second from the database to the landing zone, against a client that receives the same events and does nothing.

    .venv/bin/python benchmarks/mariadb.py                    # 400,000 changes
    .venv/bin/python benchmarks/mariadb.py --kills 100        # and then 100,000 changes while the capture is killed a hundred times

The load is that of `benchmarks/postgres.py`: pgbench's bank, 50 of its transactions in one. With --kills another load is written while the
capture is killed (SIGKILL) so often, and what came of it is held against the tables.
"""

import argparse
import random
import tempfile
import time
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources import mariadb_client as client
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform.stream import MariaDb, Stream
from ingestion_platform_tests.sources.capture_kills import campaign
from ingestion_platform_tests.sources.mariadb_server import Server, serve
from ingestion_platform_tests.sources.mariadb_world import MariaDbBank

ZONE = ZoneInfo("UTC")
TABLES = {
    "accounts": ("id", "branch", "balance", "filler"),
    "tellers": ("id", "branch", "balance", "filler"),
    "branches": ("id", "balance", "filler"),
    "history": ("id", "teller", "branch", "account", "delta", "at", "filler"),
}
FILLER = 84
"""Characters, as in pgbench's accounts."""


def tables(accounts: int) -> list[str]:
    """SQL that makes the tables."""
    return [
        "create table branches (id bigint primary key, balance numeric(14,2), filler text)",
        "create table tellers (id bigint primary key, branch bigint, balance numeric(14,2), filler text)",
        "create table accounts (id bigint primary key, branch bigint, balance numeric(14,2), filler text)",
        "create table history (id bigint auto_increment primary key, teller bigint, branch bigint, account bigint, delta numeric(14,2),"
        " at timestamp(6), filler text)",
        f"insert into branches select seq, 0, repeat('b', {FILLER}) from seq_1_to_20",
        f"insert into tellers select seq, seq % 20 + 1, 0, repeat('t', {FILLER}) from seq_1_to_200",
        f"insert into accounts select seq, seq % 20 + 1, 0, repeat('a', {FILLER}) from seq_1_to_{accounts}",
        "analyze table accounts",
    ]


def transaction(chance: random.Random, accounts: int, changes: int) -> list[str]:
    """SQL of one transaction of so many changes."""
    statements = []
    for _ in range(max(1, changes // 4)):
        account, teller, branch = chance.randint(1, accounts), chance.randint(1, 200), chance.randint(1, 20)
        delta = chance.randint(-500_000, 500_000) / 100
        statements += [
            f"update accounts set balance = balance + {delta} where id = {account}",
            f"update tellers set balance = balance + {delta} where id = {teller}",
            f"update branches set balance = balance + {delta} where id = {branch}",
            "insert into history (teller, branch, account, delta, at, filler)"
            f" values ({teller}, {branch}, {account}, {delta}, now(6), 'h')",
        ]
    return statements


def drain(folder: Path, server: Server, database: str) -> Drain:
    """A drain of the capture into a folder."""
    source = MariaDb(database="bank", tables=tuple(f"{database}.{table}" for table in TABLES))
    declared = Stream(
        name="bank", description="A bank.", first_day=date(2024, 10, 1), source=source, drain_seconds=3600.0
    )
    folder.mkdir(parents=True, exist_ok=True)
    reader = open_reader(declared, Connections(databases={"bank": server.properties(database)}))
    return Drain(LandedStream(declared, LocalLanding(folder), ZONE), reader)


def receive(server: Server, file: str, offset: int) -> tuple[int, float]:
    """Receive the log's events up to its end, and do nothing with them; how many with rows, and seconds."""
    began, found = time.perf_counter(), 0
    with closing(
        client.Log(client.access(server.properties(), "bank"), file, offset, replica=4_000_000_000, follows=False)
    ) as log:
        for event in log.events():
            found += event is not None and event[4] in (23, 24, 25)
    return found, time.perf_counter() - began


def measure(changes: int) -> None:
    """Print both speeds, and that of reading the tables."""
    accounts = 100_000
    with serve() as server, tempfile.TemporaryDirectory() as folder:
        database = server.new_database(*tables(accounts))
        root = Path(folder) / "landing"
        began = time.perf_counter()
        first = drain(root, server, database).to_now()
        took = time.perf_counter() - began
        print(f"snapshot: {first.records:,} rows in {took:.1f} s, {first.records / took:,.0f} rows/s")
        (file, offset, *_), *_ = server.run("show master status")
        chance, began = random.Random(7), time.perf_counter()
        with closing(server.connect(database)) as connection, connection.cursor() as cursor:
            for _ in range(changes // 200):
                connection.begin()
                for statement in transaction(chance, accounts, 200):
                    cursor.execute(statement)
                connection.commit()
        size: Any = sum(row[1] for row in server.run("show binary logs")) - offset
        print(
            f"load: {changes:,} changes written in {time.perf_counter() - began:.1f} s; the log since then: {size / 1e6:,.0f} MB"
        )
        found, seconds = receive(server, file, offset)
        print(f"received and thrown away: {found:,} changes in {seconds:.1f} s, {found / seconds:,.0f} changes/s")
        cpu, began = time.process_time(), time.perf_counter()
        done = drain(root, server, database).to_now()
        took = time.perf_counter() - began
        landed = sum(segment.size_bytes for segment in done.segments)
        print(
            f"captured: {done.records:,} changes in {took:.1f} s, {done.records / took:,.0f} changes/s"
            f" ({seconds / took * done.records / found:.2f} of the former), {len(done.segments)} segments, {landed / 1e6:,.0f} MB,"
            f" {time.process_time() - cpu:.1f} s of CPU here"
        )


def survive(kills: int) -> None:
    """Print what came of a campaign."""
    with serve() as server, tempfile.TemporaryDirectory() as folder:
        came = campaign(MariaDbBank(server), Path(folder), changes=100_000, kills=kills)
    print(
        f"killed: {came.kills} times during {came.changes:,} changes in {came.seconds:.0f} s, {came.segments} segments;"
        f" wrong: {'; '.join(came.wrong) or 'nothing'}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=400_000)
    parser.add_argument("--kills", type=int, default=0)
    chosen = parser.parse_args()
    measure(chosen.changes)
    if chosen.kills:
        survive(chosen.kills)
