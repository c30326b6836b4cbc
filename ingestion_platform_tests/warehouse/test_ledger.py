"""Who may write when: waiting for a named holder, many processes at once, readers who are never in the way nor see half of anything."""

import json
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.errors import WarehouseBusy, WarehouseDamaged
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, HEADER, Bench, differences, line

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin immediate")
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(bench: Bench) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of a transaction on the ledger, until its input ends."""
    command = [sys.executable, "-c", HOLD, str(bench.warehouse.folder / "ledger.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        assert process.stdin is not None
        if not process.stdin.closed:
            process.stdin.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Eight days of three shops that have landed, and the roster loaded and published."""
    bench = Bench(tmp_path / "bench")
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    for number in range(8):
        day = DAY + timedelta(days=number)
        for shop in "abc":
            rows = "".join(line(f"{shop}{day}{row}", shop, f"{day} 10:00:00") for row in range(200))
            bench.put(
                f"tills/{day}/{shop}.csv",
                HEADER + rows + line(f"{shop}{day}late", shop, f"{day - timedelta(days=1 if number else 0)} 09:00:00"),
            )
    bench.warehouse.publish()
    return bench


def contend(bench: Bench, scenario: str) -> dict[str, Any]:
    """Run a scenario of `contending.py`; what its processes say is shown when the test fails."""
    bench.warehouse._let_go()
    done = subprocess.run(
        [sys.executable, "-m", "ingestion_platform_tests.warehouse.contending", str(bench.root), scenario],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "Traceback" not in done.stderr, done.stderr
    return told


def equals_a_calm_one(bench: Bench, tmp_path: Path) -> bool:
    """Whether a warehouse that one process loads alone has the same tables."""
    upkeep.catch_up(bench.warehouse)
    calm = Bench(tmp_path / "calm", zone=bench.landing)
    upkeep.catch_up(calm.warehouse)
    found = list(differences(bench.export(), calm.export()))
    assert not found, found
    return upkeep.verify(bench.warehouse) == []


def test_the_holder_is_named_while_waiting_and_work_goes_on_when_he_lets_go(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Our log says which process and which command; nobody has to do anything else than let go."""
    with holder(bench) as process, caplog.at_level(logging.WARNING):
        work = threading.Thread(target=bench.load)
        work.start()
        began = time.monotonic()
        while not caplog.records and time.monotonic() - began < 20:
            time.sleep(0.05)
        assert process.stdin is not None
        process.stdin.close()
        work.join(timeout=30)
        assert not work.is_alive()
    assert f"process {process.pid} ({sys.executable} -c" in caplog.text
    assert "ledger.sqlite" in caplog.text
    assert len(bench.rows("raw.tills", "id")) == 603


def test_the_holder_is_named_when_patience_ends(bench: Bench) -> None:
    """`WarehouseBusy` names him, may be retried, and has lost nothing."""
    bench.warehouse.ledger._patience = 1.0
    with holder(bench) as process:
        with pytest.raises(WarehouseBusy, match=rf"held by process {process.pid} \(") as told:
            bench.load()
        assert told.value.can_retry
        assert bench.warehouse.ledger.current("tills", DAY) == {}, "reading doesn't wait for a writer"
    assert bench.load().rows == 603


def test_reading_does_not_wait_for_a_writer(bench: Bench) -> None:
    """While another process is in the middle of its transaction, queries are answered at once, from the last committed state."""
    bench.load()
    with holder(bench):
        began = time.monotonic()
        assert bench.warehouse.read("raw.tills").num_rows == 603
        assert bench.rows("(select count(*) as rows from raw.tills)", "rows") == [(603,)]
        assert time.monotonic() - began < 1.9, "it waited for the lock"


def test_a_reader_is_in_nobodys_way(bench: Bench) -> None:
    """In the middle of a reader's state, others commit; he goes on seeing his own."""
    bench.load()
    other = bench.open()
    with bench.warehouse.ledger.reading():
        before = bench.warehouse.ledger.commits()
        other.load(bench.datasets["tills"], DAY + timedelta(days=1))
        assert bench.warehouse.ledger.commits() == before
        assert other.ledger.commits() > before
    assert bench.warehouse.ledger.commits() > before


def test_a_ledger_of_an_older_schema_gets_the_tables_that_it_lacks(bench: Bench) -> None:
    """What it holds stays, and nobody has to rebuild for a table more."""
    bench.load()
    bench.warehouse.close()
    with sqlite3.connect(bench.warehouse.ledger.path, isolation_level=None) as connection:
        connection.execute("drop table waits")
        connection.execute("update meta set value = 1 where name = 'schema'")
    connection.close()
    assert bench.warehouse.places.waits("tills") == {}
    assert len(bench.rows("raw.tills", "id")) == 603


def test_a_ledger_whose_columns_are_others_is_told_as_that(bench: Bench) -> None:
    """It isn't damage, and what helps is the same."""
    bench.load()
    bench.warehouse.close()
    with sqlite3.connect(bench.warehouse.ledger.path, isolation_level=None) as connection:
        connection.execute("alter table objects drop column departures")
        connection.execute("update meta set value = 1 where name = 'schema'")
    connection.close()
    with pytest.raises(
        WarehouseDamaged, match="is that of another version of the platform: its table objects has no departures"
    ) as told:
        bench.load()
    assert "rebuild" in told.value.hint


def test_eight_days_at_once_beside_readers_and_people(bench: Bench, tmp_path: Path) -> None:
    """Eight processes, one a day; one that reads in a loop; one that has the DuckDB file open for reading, one for writing: all succeed."""
    assert contend(bench, "days") == {"workers": 9, "readers": 1, "people": 2}
    assert equals_a_calm_one(bench, tmp_path)
    assert len(bench.rows("raw.tills", "id")) == 8 * 603


def test_four_times_the_same_day_at_once(bench: Bench, tmp_path: Path) -> None:
    """One of them loads it, the others find it loaded; nothing is doubled, and no version is in the ledger twice."""
    assert contend(bench, "day") == {"workers": 5, "readers": 1, "people": 2}
    assert bench.rows("(select count(*) as rows, count(distinct id) as ids from raw.tills)", "rows", "ids") == [
        (603, 603)
    ]
    assert bench.rows("(select count(*) as versions from platform.ledger where dataset = 'tills')", "versions") == [
        (3,)
    ]
    assert equals_a_calm_one(bench, tmp_path)


def test_a_query_sees_one_state_though_a_load_commits_in_the_middle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The views and the ledger's table of one query are of the same commit."""
    bench.load()
    other = bench.open()
    catalog = type(bench.warehouse._catalog)
    show_ledger = catalog._show_ledger

    def meanwhile(self: Any, engine: Any) -> None:
        other.load(bench.datasets["tills"], DAY + timedelta(days=1))
        show_ledger(self, engine)

    monkeypatch.setattr(catalog, "_show_ledger", meanwhile)
    (found,) = bench.warehouse.query(
        "select (select count(*) from raw.tills) as rows, (select sum(rows_loaded) from platform.ledger where dataset = 'tills') as counted"
    ).to_pylist()
    assert found["rows"] == found["counted"] == 603
