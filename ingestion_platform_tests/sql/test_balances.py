"""Balances of accounts and points: any order and any replay of the same events give what plain Python says of what has landed."""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Datasets, LandedFiles
from ingestion_platform.datasets.bank import account_events
from ingestion_platform.datasets.head_office import stores
from ingestion_platform.datasets.point_of_sale import loyalty_events
from ingestion_platform.warehouse import Warehouse, upkeep
from ingestion_platform.warehouse.backfill import ask, backfill
from ingestion_platform.warehouse.replay import certified_replay
from ingestion_platform.warehouse.sql_tables import FOLDER
from ingestion_platform_tests.end_to_end.agreement import disagreements
from ingestion_platform_tests.oracle import expected
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences

TABLES = ("account_balances", "refused_withdrawals", "loyalty_balances")
POINTS = dataclasses.replace(
    loyalty_events,
    source=LandedFiles("points/%Y/%m/%d/{batch}.csv"),
    columns=tuple(
        dataclasses.replace(column, source=None, required=False) if column.name == "arrived_at" else column
        for column in loyalty_events.columns
    ),
)
BUSINESS = Datasets([stores, account_events, POINTS])
DAYS = 3
"""Of events; what comes late lands on up to four days more."""
ALL_DAYS = [DAY + timedelta(days=number) for number in range(DAYS + 4)]
ROSTER = (
    "store_id,store_name,region,country,latitude,longitude,opened_on\nS0001,Sandton,Gauteng,ZA,-26.1,28.0,2020-01-01\n"
)


@dataclass(frozen=True)
class Event:
    """
    An event as a test means it.

    Args:
        number: of the event; two with the same are one that was sent again.
        who: number of the account and of the customer.
        day: of the event, from the first.
        minute: of the day.
        amount: cents, and points; negative are asked for.
        late: days after its day on which it lands; above three it is too late.
        batch: the file that it comes in.
    """

    number: int
    who: int
    day: int
    minute: int
    amount: int
    late: int = 0
    batch: str = "a"

    @property
    def place(self) -> tuple[date, str]:
        """Day and name of its file."""
        return DAY + timedelta(days=self.day + self.late), self.batch

    @property
    def at(self) -> str:
        """Local time."""
        return f"{DAY + timedelta(days=self.day)} {self.minute // 60:02d}:{self.minute % 60:02d}:00"

    @property
    def movement(self) -> str:
        """As the bank tells it."""
        kind, cents = "deposit" if self.amount > 0 else "withdrawal", abs(self.amount)
        return f"M{self.number},A{self.who},S0001,{self.at},{kind},{cents // 100}.{cents % 100:02d}\n"

    @property
    def points(self) -> str:
        """As the till tells it."""
        kind = "points_earned" if self.amount > 0 else "points_redeemed"
        return f"P{self.number},C{self.who},S0001,{self.at},{kind},{abs(self.amount)},\n"


HEADERS = {
    "account_events": "event_id,account_id,store_id,happened_at,kind,amount_zar\n",
    "points": "event_id,customer_id,store_id,happened_at,event_type,points,arrived_at\n",
}


def land(bench: Bench, events: list[Event]) -> None:
    """Land each file with all of these events that come in it, over what was there."""
    files: dict[tuple[date, str], list[Event]] = {}
    for event in events:
        files.setdefault(event.place, []).append(event)
    for (day, batch), of_file in files.items():
        for root, header in HEADERS.items():
            lines = "".join(event.movement if root == "account_events" else event.points for event in of_file)
            bench.put(f"{root}/{day:%Y/%m/%d}/{batch}.csv", header + lines)


@contextmanager
def bank() -> Iterator[Bench]:
    """An empty one, with its roster."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "sql/processed").mkdir(parents=True)
        for name in TABLES:
            shutil.copy(FOLDER / f"processed/{name}.sql", root / "sql/processed")
        bench = Bench(root, BUSINESS, sql=root / "sql")
        bench.put(f"reference/stores/{DAY:%Y/%m/%d}/stores.csv", ROSTER)
        upkeep.catch_up(bench.warehouse)
        yield bench
        bench.warehouse.close()


def is_right(bench: Bench) -> None:
    """Assert that every table of every day is what plain Python makes of the files, and nothing is to be done."""
    answer = expected(bench.landing_folder, BUSINESS, ALL_DAYS, salt="salt", reports=TABLES)
    assert disagreements(bench.warehouse, answer, days_of(bench.warehouse)) == []
    assert [table for table in bench.sql_tables if bench.warehouse.stale_days(table)] == []
    for table in bench.sql_tables:
        for day in bench.warehouse.days(table):
            done = bench.warehouse.table_day(table, day)
            assert done is not None
            assert not any(done.failed_checks.values()), (table, day)


def days_of(warehouse: Warehouse) -> list[date]:
    """The days that have a state; those without are the days before."""
    return [day for day in ALL_DAYS if day in warehouse.days("processed.account_balances")]


def balance(bench: Bench, day: date | None = None) -> Any:
    """Of the only account there is."""
    (row,) = bench.warehouse.read("processed.account_balances", last=day).to_pylist()
    return row


def test_a_withdrawal_that_would_overdraw_is_refused() -> None:
    """It doesn't count for those after it, and is recorded with the balance at that moment; to take the last cent is allowed."""
    with bank() as bench:
        land(
            bench,
            [
                Event(1, 1, 0, 600, 10_000),
                Event(2, 1, 0, 601, -10_001),
                Event(3, 1, 0, 602, -6_000),
                Event(4, 1, 1, 600, -5_000),
                Event(5, 1, 1, 601, -4_000),
                Event(6, 1, 1, 602, -1),
            ],
        )
        upkeep.catch_up(bench.warehouse)
        assert [str(value) for value in list(balance(bench).values())[1:5]] == ["0.00", "100.00", "100.00", "3"]
        assert str(balance(bench, DAY)["balance_zar"]) == "40.00"
        refused = bench.rows("processed.refused_withdrawals", "event_id", "amount_zar", "balance_zar", "short_zar")
        assert [tuple(map(str, row)) for row in refused] == [
            ("M2", "100.01", "100.00", "0.01"),
            ("M4", "50.00", "40.00", "10.00"),
            ("M6", "0.01", "0.00", "0.01"),
        ]
        (points,) = bench.rows("processed.loyalty_balances")
        assert points[1:6] == (0, 10_000, 10_000, 3, "gold")
        is_right(bench)


def test_a_late_deposit_takes_a_refusal_back() -> None:
    """It lands two days later, and was before the withdrawal: the refused one is paid, and what was paid since may be refused now."""
    with bank() as bench:
        events = [Event(1, 1, 0, 700, -5_000), Event(2, 1, 1, 600, 4_000), Event(3, 1, 2, 600, -4_000)]
        land(bench, events)
        upkeep.catch_up(bench.warehouse)
        assert bench.rows("processed.refused_withdrawals", "event_id") == [("M1",)]
        land(bench, [Event(4, 1, 0, 600, 5_500, late=2, batch="b")])
        upkeep.catch_up(bench.warehouse)
        assert bench.rows("processed.refused_withdrawals", "event_id") == []
        assert str(balance(bench)["balance_zar"]) == "5.00"
        land(bench, [Event(4, 1, 0, 600, 500, late=2, batch="b")])
        upkeep.catch_up(bench.warehouse)
        assert bench.rows("processed.refused_withdrawals", "event_id") == [("M1",)]
        is_right(bench)


def test_at_the_same_moment_the_key_decides() -> None:
    """Whatever file came first."""
    with bank() as bench:
        land(bench, [Event(2, 1, 0, 600, -1_000), Event(1, 1, 0, 600, 1_000, batch="z")])
        upkeep.catch_up(bench.warehouse)
        assert bench.rows("processed.refused_withdrawals", "event_id") == []
        is_right(bench)


events = st.builds(
    Event,
    number=st.integers(1, 30),
    who=st.integers(1, 3),
    day=st.integers(0, DAYS - 1),
    minute=st.sampled_from([0, 1, 600, 601, 1439]),
    amount=st.integers(1, 400) | st.integers(-400, -1),
    late=st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
    batch=st.sampled_from("ab"),
)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    rounds=st.lists(st.lists(events, max_size=12), min_size=2, max_size=2),
    ways=st.lists(st.sampled_from(["catch up", "one dataset", "replay", "rebuild"]), min_size=2, max_size=2),
)
def test_any_order_and_any_replay_give_the_same_balances(rounds: list[list[Event]], ways: list[str]) -> None:
    """
    Events land in any files in any order: sent twice, sent anew with other values, in a file that a later one replaces, late within the
    allowance and beyond. After each round the tables are what a fold in plain Python says, by a run, a replay or a rebuild; and one
    warehouse that sees all of it at once has the same rows.
    """
    with bank() as bench:
        for round_, way in zip(rounds, ways, strict=False):
            land(bench, round_)
            if way == "one dataset":
                backfill(bench.warehouse, ask(bench.warehouse, [BUSINESS["account_events"]]))
                backfill(bench.warehouse, ask(bench.warehouse, [BUSINESS["loyalty_events"]]))
            upkeep.catch_up(bench.warehouse)
            if way == "replay" and (days := bench.warehouse.days("raw.account_events")):
                replayed = certified_replay(
                    bench.warehouse,
                    BUSINESS["account_events"],
                    days[0],
                    days[len(days) // 2],
                    by="Thandi",
                    why="to see",
                )
                assert replayed.is_equal, replayed
            if way == "rebuild":
                bench.warehouse.close()
                upkeep.rebuild(bench.open)
            is_right(bench)
        with bank() as fresh:
            shutil.copytree(bench.landing_folder, fresh.landing_folder, dirs_exist_ok=True)
            upkeep.catch_up(fresh.warehouse)
            assert list(differences(bench.export(), fresh.export())) == []
