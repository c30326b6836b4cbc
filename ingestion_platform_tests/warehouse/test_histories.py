"""Invariant 4 and 8 on histories nobody thought of: whatever landed and was loaded in whatever order, the tables are those of a rebuild."""

import os
import tempfile
from datetime import date, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, HEADER, Bench, differences, line

DAYS = [DAY + timedelta(days=offset) for offset in range(3)]
NAMES = ["a", "b", "a-copy"]

contents = st.lists(
    st.builds(
        line,
        st.sampled_from(["1", "2", "3", ""]),
        st.sampled_from(["a", "b", "zz"]),
        st.sampled_from(
            ["2024-10-01 10:00:00", "2024-10-02 00:30:00", "2024-10-03 23:59:59", "2024-09-01 10:00:00", "soon"]
        ),
        st.sampled_from(["1", "2", "oops"]),
    ),
    max_size=3,
).map("".join) | st.sampled_from(["1,a\n", '1,"a\n', line("1")[:-3]])

actions = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from(DAYS), contents),
    st.tuples(st.just("shops"), st.just(""), st.sampled_from(DAYS), st.sampled_from(["a", "a,b", "b"])),
    st.tuples(st.just("touch"), st.sampled_from(NAMES), st.sampled_from(DAYS), st.just("")),
    st.tuples(
        st.sampled_from(["load", "reload", "process", "reopen"]), st.just(""), st.sampled_from(DAYS), st.just("")
    ),
)


@settings(max_examples=18, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(actions, min_size=4, max_size=14))
def test_any_history_ends_as_a_rebuild_does(history: list[tuple[str, str, date, str]]) -> None:
    """Sorted exports are equal, nothing is damaged, every balance holds, and each object version is in the ledger once."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.put_shops("a", "b")
        for number, (action, name, day, content) in enumerate(history):
            act(bench, action, name, day, content, number)
        upkeep.catch_up(bench.warehouse)
        fresh = Bench(Path(folder) / "fresh", zone=bench.landing)
        upkeep.catch_up(fresh.warehouse)
        assert not list(differences(bench.export(), fresh.export()))
        assert upkeep.verify(bench.warehouse) == []
        for dataset in bench.datasets.values():
            for day in bench.warehouse.days(dataset.processed):
                done = bench.warehouse.table_day(dataset.processed, day)
                assert done is not None
                assert done.balance is not None
                assert done.balance.holds, f"{dataset.name} {day}: {done.balance}"
        states = bench.rows(
            "(select dataset, key, count(*) filter (where state <> 'replaced') as current from platform.ledger group by all)",
            "current",
        )
        assert all(count == (1,) for count in states)
        assert not bench.rows("(select 1 as pending from platform.ledger where state = 'pending')", "pending")


def act(bench: Bench, action: str, name: str, day: date, content: str, number: int) -> None:
    """Do one thing of a history."""
    key = f"tills/{day}/{name}.csv"
    if action == "put":
        bench.put(key, HEADER + content)
    elif action == "shops":
        bench.put_shops(*content.split(","), day=day)
    elif action == "touch":
        if (bench.landing_folder / key).exists():
            os.utime(bench.landing_folder / key, (number, number))
    elif action in ("load", "reload"):
        for dataset in bench.datasets:
            bench.load(dataset, day, reload=action == "reload")
    elif action == "process":
        for dataset in bench.datasets:
            bench.process(dataset, day)
    else:
        bench.warehouse.close()
        bench.warehouse = bench.open()
