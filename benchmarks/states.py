"""
A state that is carried on: balances of a million accounts, day by day; and the ways to fold a day's movements in order.

    .venv/bin/python benchmarks/states.py                                  # 1,000,000 accounts, 8 days of 100,000 movements
    .venv/bin/python benchmarks/states.py --accounts 10000 --movements 1000

On the first day every account is paid into. A day must cost the same however many went before. The folds must all come to the same balances
and refusals.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb

from ingestion_platform.dataset import Datasets
from ingestion_platform.datasets.bank import account_events
from ingestion_platform.landing import open_landing
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import Warehouse, load_sql_tables
from ingestion_platform.warehouse.sql_tables import FOLDER

FIRST = date(2024, 10, 1)
EVENTS = replace(account_events, columns=tuple(replace(one, references=None) for one in account_events.columns))


def land(folder: Path, day: date, count: int, accounts: int, *, is_first: bool) -> None:
    """Write a day's movements; those of the first day are a deposit into each account."""
    path = folder / f"account_events/{day:%Y/%m/%d}/tills.csv"
    path.parent.mkdir(parents=True)
    account = "number" if is_first else f"hash(number, {day.toordinal()}) % {accounts}"
    kind = "'deposit'" if is_first else f"if(hash(number, {day.toordinal()}, 1) % 2 = 0, 'deposit', 'withdrawal')"
    with duckdb.connect() as engine:
        engine.execute(
            f"copy (select 'E{day:%y%m%d}' || number as event_id, 'A' || ({account}) as account_id, 'S0001' as store_id,"
            f" timestamp '{day} 08:00:00' + (hash(number, 2) % 36000) * interval '1 second' as happened_at, {kind} as kind,"
            f" (1 + hash(number, {day.toordinal()}, 3) % 20000)::decimal(12, 2) / 100 as amount_zar"
            f" from range({count}) as numbers(number)) to '{path}' (header)"
        )


def carry_on(accounts: int, days: int, movements: int) -> None:
    """Load and compute day after day, and print what each took."""
    with tempfile.TemporaryDirectory(prefix="bench-") as root:
        landing = Path(root) / "landing"
        landing.mkdir()
        (Path(root) / "sql/processed").mkdir(parents=True)
        for name in ("account_balances", "refused_withdrawals"):
            shutil.copy(FOLDER / f"processed/{name}.sql", Path(root) / "sql/processed")
        settings = Settings.model_validate(
            {
                "landing": str(landing),
                "warehouse": Path(root) / "w.duckdb",
                "publish": Path(root) / "published",
                "pii_salt": "salt",
            }
        )
        datasets = Datasets([EVENTS])
        tables = load_sql_tables(datasets, zone=settings.zone, folder=Path(root) / "sql")
        balances, refused = tables["processed.account_balances"], tables["processed.refused_withdrawals"]
        print(
            "| day | movements | load s | events s | balances s | refused s | accounts | refused |\n" + "|---" * 8 + "|"
        )
        with Warehouse(settings, open_landing(str(landing)), datasets, tables) as warehouse:
            for number in range(days):
                day, count = FIRST + timedelta(days=number), movements if number else accounts
                land(landing, day, count, accounts, is_first=not number)
                moments = [time.perf_counter()]
                warehouse.load(EVENTS, day)
                moments.append(time.perf_counter())
                warehouse.process(EVENTS, day)
                moments.append(time.perf_counter())
                state = warehouse.derive(balances, day)
                moments.append(time.perf_counter())
                no = warehouse.derive(refused, day)
                moments.append(time.perf_counter())
                took = " | ".join(f"{after - before:.2f}" for before, after in pairwise(moments))
                print(f"| {number + 1} | {count:,} | {took} | {state.rows:,} | {no.rows:,} |", flush=True)
            (file,) = warehouse.ledger.partition_files(warehouse.ledger.partitions(balances.key)[-1:])
            began = time.perf_counter()
            stale = warehouse.stale_days(balances.key)
            print(
                f"\nthe last state: {file.size_bytes / 1e6:.0f} MB; asking what is stale: {time.perf_counter() - began:.3f} s"
            )
            if stale:
                raise SystemExit(f"still stale: {stale}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


Result = tuple[int, int, int]
"""Accounts, the sum of balances in cents, refusals."""


def by_list_reduce(engine: duckdb.DuckDBPyConnection) -> Result:
    """A list of each account's movements, reduced."""
    return _row(
        engine,
        "with asked as (select account, list({'id': event_id, 'cents': cents} order by moment, event_id) as movements"
        " from events group by account),"
        " moved as (select list_reduce(movements, lambda state, movement: case when state.cents + movement.cents < 0"
        " then {'cents': state.cents, 'refused': list_append(state.refused, {'id': movement.id, 'cents': state.cents})}"
        " else {'cents': state.cents + movement.cents, 'refused': state.refused} end,"
        " {'cents': 0::bigint, 'refused': []}) as state from asked)"
        " select count(*), sum(state.cents), sum(len(state.refused)) from moved",
    )


def by_recursion(engine: duckdb.DuckDBPyConnection) -> Result:
    """A recursive query: in each step the next movement of every account."""
    return _row(
        engine,
        "with recursive placed as (select *, row_number() over (partition by account order by moment, event_id) as place from events),"
        " moved as (select account, 0::bigint as cents, 0::bigint as place, 0 as refused from (select distinct account from events)"
        " union all select moved.account, if(moved.cents + placed.cents < 0, moved.cents, moved.cents + placed.cents), placed.place,"
        " (moved.cents + placed.cents < 0)::int"
        " from moved join placed on placed.account = moved.account and placed.place = moved.place + 1)"
        " select count(distinct account), (select sum(cents) from"
        " (select cents from moved qualify row_number() over (partition by account order by place desc) = 1)), sum(refused) from moved",
    )


def by_python(engine: duckdb.DuckDBPyConnection) -> Result:
    """Sorted by DuckDB, gone through row by row in Python."""
    rows = engine.execute("select account, cents from events order by account, moment, event_id")
    cents: dict[int, int] = {}
    refused = 0
    while some := rows.fetchmany(100_000):
        for account, amount in some:
            balance = cents.get(account, 0) + amount
            if balance < 0:
                refused += 1
                cents.setdefault(account, 0)
            else:
                cents[account] = balance
    return len(cents), sum(cents.values()), refused


def _row(engine: duckdb.DuckDBPyConnection, query: str) -> Result:
    (found,) = engine.execute(query).fetchall()
    return int(found[0]), int(found[1]), int(found[2])


FOLDS: dict[str, Callable[[duckdb.DuckDBPyConnection], Result]] = {
    "list_reduce": by_list_reduce,
    "recursive query": by_recursion,
    "Python, row by row": by_python,
}


def fold(movements: int) -> None:
    """Fold so many movements of many accounts, of few, and of one, in each way."""
    print(
        "\n| accounts | "
        + " | ".join(f"{name}, movements/s" for name in FOLDS)
        + " |\n"
        + "|---" * (1 + len(FOLDS))
        + "|"
    )
    with duckdb.connect() as engine:
        for accounts in (movements // 4, 1_000, 1):
            engine.execute(
                f"create or replace table events as select number as event_id, hash(number) % {accounts} as account,"
                " (hash(number, 1) % 36000)::bigint as moment, (hash(number, 2) % 20001)::bigint - 10000 as cents"
                f" from range({movements}) as numbers(number)"
            )
            told, results = [], set[Result]()
            for name, way in FOLDS.items():
                if name == "recursive query" and movements / accounts > 1_000:
                    told.append("(one step for each)")
                    continue
                began = time.perf_counter()
                results.add(way(engine))
                told.append(f"{movements / (time.perf_counter() - began):,.0f}")
            if len(results) != 1:
                raise SystemExit(f"the ways differ: {results}")
            print(f"| {accounts:,} | {' | '.join(told)} |", flush=True)
        few = movements // 10
        engine.execute(
            f"create or replace table events as select number as event_id, 1 as account, number as moment, -1::bigint as cents"
            f" from range({few}) as numbers(number)"
        )
        began = time.perf_counter()
        by_list_reduce(engine)
        print(f"\none account, {few:,} withdrawals, all refused, by list_reduce: {time.perf_counter() - began:.2f} s")


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=8)
    parser.add_argument("--movements", type=int, default=100_000, help="a day")
    chosen = parser.parse_args()
    print(f"{chosen.accounts:,} accounts, {os.cpu_count()} cores, DuckDB {duckdb.__version__}\n")
    carry_on(chosen.accounts, chosen.days, chosen.movements)
    fold(2 * chosen.movements)


if __name__ == "__main__":
    main()
