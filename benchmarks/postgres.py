"""
PostgreSQL's log: changes a second from the database to the landing zone, against a client that receives the same messages and does nothing.

    .venv/bin/python benchmarks/postgres.py                    # 400,000 changes
    .venv/bin/python benchmarks/postgres.py --kills 100        # and then 100,000 changes while the capture is killed a hundred times

The load is pgbench's own idea of a bank: each transaction updates an account, a teller and a branch, and inserts a line into a history;
here 50 of these make one transaction, so that it is the log that is measured and not the writing of it. With --kills another load is
written while the capture is killed (SIGKILL) so often, and what came of it is held against the tables.
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

import psycopg

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform.stream import Postgres, Stream
from ingestion_platform_tests.sources.capture_kills import campaign
from ingestion_platform_tests.sources.postgres_server import Server, serve
from ingestion_platform_tests.sources.postgres_world import PostgresBank

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
        "create table history (id bigserial primary key, teller bigint, branch bigint, account bigint, delta numeric(14,2),"
        " at timestamptz, filler text)",
        f"insert into branches select i, 0, repeat('b', {FILLER}) from generate_series(1, 20) i",
        f"insert into tellers select i, i % 20 + 1, 0, repeat('t', {FILLER}) from generate_series(1, 200) i",
        f"insert into accounts select i, i % 20 + 1, 0, repeat('a', {FILLER}) from generate_series(1, {accounts}) i",
    ]


def transaction(chance: random.Random, accounts: int, changes: int) -> str:
    """SQL of one transaction of so many changes."""
    statements = []
    for _ in range(max(1, changes // 4)):
        account, teller, branch = chance.randint(1, accounts), chance.randint(1, 200), chance.randint(1, 20)
        delta = chance.randint(-500_000, 500_000) / 100
        statements += [
            f"update accounts set balance = balance + {delta} where id = {account}",
            f"update tellers set balance = balance + {delta} where id = {teller}",
            f"update branches set balance = balance + {delta} where id = {branch}",
            f"insert into history (teller, branch, account, delta, at, filler) values ({teller}, {branch}, {account}, {delta}, now(), 'h')",
        ]
    return "begin; " + "; ".join(statements) + "; commit"


def stream(**changes: Any) -> Stream:
    """The capture."""
    source = Postgres(database="bank", tables=tuple(f"public.{table}" for table in TABLES))
    said = {"name": "bank", "description": "A bank.", "first_day": date(2024, 10, 1), "source": source, **changes}
    return Stream(**said)


def drain(folder: Path, server: Server, database: str, declared: Stream) -> Drain:
    """A drain of the capture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = open_reader(declared, Connections(databases={"bank": server.properties(database)}))
    return Drain(LandedStream(declared, LocalLanding(folder), ZONE), reader)


def receive(server: Server, database: str, slot: str, until: int) -> tuple[int, float]:
    """Receive the slot's messages up to a place of the log, and do nothing with them; how many changes, and seconds."""
    properties = server.properties(database)
    with closing(psycopg.connect(**properties, replication="database", autocommit=True)) as connection:  # type: ignore[arg-type]
        began = time.perf_counter()
        pgconn = connection.pgconn
        pgconn.exec_(
            f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names 'ingestion_bank')".encode()
        )
        found = 0
        while True:
            _, data = pgconn.get_copy_data(0)
            if data[0] == 0x77:
                found += data[25] in b"IUD"
                if int.from_bytes(bytes(data[1:9])) >= until:
                    break
            elif int.from_bytes(bytes(data[1:9])) >= until:
                break
        return found, time.perf_counter() - began


def measure(changes: int) -> None:
    """Print both speeds, and that of reading the tables."""
    accounts = 100_000
    with serve() as server, tempfile.TemporaryDirectory() as folder:
        database = server.new_database(*tables(accounts))
        root, declared = Path(folder), stream(drain_seconds=3600.0)
        began = time.perf_counter()
        first = drain(root / "landing", server, database, declared).to_now()
        took = time.perf_counter() - began
        print(f"snapshot: {first.records:,} rows in {took:.1f} s, {first.records / took:,.0f} rows/s")
        with server.connect(database) as connection:
            connection.execute("select pg_create_logical_replication_slot('raw', 'pgoutput')")
            chance, began = random.Random(7), time.perf_counter()
            for _ in range(changes // 200):
                connection.execute(transaction(chance, accounts, 200))  # type: ignore[arg-type]
            print(f"load: {changes:,} changes written in {time.perf_counter() - began:.1f} s")
            end = connection.execute("select (pg_current_wal_flush_lsn() - '0/0')::bigint").fetchone()
            assert end is not None
            kept = connection.execute(
                "select pg_current_wal_lsn() - confirmed_flush_lsn from pg_replication_slots where slot_name = 'ingestion_bank_1'"
            ).fetchone()
            assert kept is not None
            print(f"the log since then: {int(kept[0]) / 1e6:,.0f} MB")
            found, seconds = receive(server, database, "raw", int(end[0]))
        print(f"received and thrown away: {found:,} changes in {seconds:.1f} s, {found / seconds:,.0f} changes/s")
        cpu = time.process_time()
        began = time.perf_counter()
        done = drain(root / "landing", server, database, declared).to_now()
        took = time.perf_counter() - began
        size = sum(segment.size_bytes for segment in done.segments)
        print(
            f"captured: {done.records:,} changes in {took:.1f} s, {done.records / took:,.0f} changes/s"
            f" ({seconds / took * done.records / found:.2f} of the former), {len(done.segments)} segments, {size / 1e6:,.0f} MB,"
            f" {time.process_time() - cpu:.1f} s of CPU here"
        )


def survive(kills: int) -> None:
    """Print what came of a campaign."""
    with serve() as server, tempfile.TemporaryDirectory() as folder:
        came = campaign(PostgresBank(server), Path(folder), changes=100_000, kills=kills)
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
