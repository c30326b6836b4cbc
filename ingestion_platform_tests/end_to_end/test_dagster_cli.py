"""Real `dagster asset materialize` processes: one, eight at once beside readers and sensors, and killed at random moments."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from ingestion_platform.assembly import declared_datasets
from ingestion_platform.demo import Plan
from ingestion_platform.demo.plan import ALL_TROUBLES
from ingestion_platform.errors import NotMaterialized
from ingestion_platform.orchestration.graph import landing_key
from ingestion_platform.reading import query, read_table
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.end_to_end.agreement import disagreements
from ingestion_platform_tests.end_to_end.dagster_runs import Orchestra
from ingestion_platform_tests.end_to_end.places import SALT, Place
from ingestion_platform_tests.oracle import expected
from ingestion_platform_tests.warehouse.building import differences, export

ROOT = Path(__file__).parent.parent.parent
PLAN = Plan(stores=12, days=8, lines_per_store_day=5, troubles=ALL_TROUBLES)
FIRST, LAST = PLAN.dates[0], PLAN.dates[-1]
READER = """
import duckdb, os, sys, time
while not os.path.exists(sys.argv[2]):
    with duckdb.connect(sys.argv[1], read_only=True) as shell:
        for _ in range(5):
            shell.execute("select count(*), sum(amount_zar) from processed.sales").fetchall()
            shell.execute("select count(*) from platform.ledger").fetchall()
            time.sleep(0.05)
    print("read", flush=True)
"""


class Shop:
    """
    A deployment, Dagster's home, and everything that its processes said.

    Args:
        root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.place = Place(root)
        self.home = root / "dagster"
        self.said: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes: nothing of the caller's but what finds programs."""
        settings = self.place.settings
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place.root),
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self.home),
            "INGESTION_LANDING": settings.landing,
            "INGESTION_WAREHOUSE": str(settings.warehouse),
            "INGESTION_PUBLISH": str(settings.publish),
            "INGESTION_TIMEZONE": settings.timezone,
            "INGESTION_PII_SALT": SALT,
            # The command line warns of itself before it loads anything of ours; nothing else is left out.
        }

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a Python program in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def materialize(self, select: str, *more: str) -> subprocess.Popen[str]:
        """Start `dagster asset materialize`."""
        return self.begin(
            "-m", "dagster", "asset", "materialize", "-m", "ingestion_platform.definitions", "--select", select, *more
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for a process; the answer is its exit code and what it said."""
        told, _ = process.communicate(timeout=200)
        self.said.append(told)
        return process.returncode, told

    def export(self) -> dict[str, str]:
        """Every table, sorted."""
        with self.place.open() as warehouse:
            return export(warehouse)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Everything has landed; all but sales and what is made of it is there; Dagster's home is made, as `make dev` makes it."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.place.tell(PLAN)
    shop.home.mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.yaml", shop.home)
    code, told = shop.end(shop.begin("-m", "dagster", "instance", "info"))
    assert code == 0, told
    with shop.place.open() as warehouse:
        for dataset in sorted(warehouse.datasets.values(), key=lambda dataset: bool(dataset.references)):
            if dataset.name != "sales":
                for day in PLAN.dates:
                    warehouse.load(dataset, day)
                # What comes late belongs to days before.
                for day in PLAN.dates:
                    warehouse.process(dataset, day)
        of_sales = {"processed.sales"}
        for table in warehouse.sql_tables.values():
            if of_sales & set(table.depends_on):
                of_sales.add(table.key)
                continue
            for day in PLAN.dates:
                warehouse.derive(table, day)
        warehouse.publish()
    return shop


@pytest.fixture(scope="module")
def calm(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tables of one process with nobody beside it; they are the oracle's."""
    place = shop.place.beside(tmp_path_factory.mktemp("calm"))
    place.catch_up()
    with place.open() as warehouse:
        assert (
            disagreements(
                warehouse, expected(place.landing_folder, declared_datasets(), PLAN.dates, salt=SALT), PLAN.dates
            )
            == []
        )
        return export(warehouse)


@contextmanager
def reading(settings: Settings) -> Iterator[list[int]]:
    """Somebody who reads tables all the while; the answer is the rows that he has seen."""
    seen: list[int] = []
    trouble: list[Exception] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.wait(0.3):
            try:
                total = query("select count(*) as rows from processed.sales", settings=settings).to_pylist()[0]["rows"]
                assert read_table("processed.stores", settings=settings).num_rows > 0
                try:
                    assert read_table("processed.sales", settings=settings).num_rows >= total
                except NotMaterialized:
                    assert total == 0
                seen.append(total)
            except Exception as error:
                trouble.append(error)
                return

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    try:
        yield seen
    finally:
        is_over.set()
        reader.join()
    assert trouble == []


def tell_nothing_that_nobody_can_act_on(told: str) -> None:
    """Assert that the output has no notice of Dagster's about itself, no lock, no trace, and no secret."""
    for word in (
        "is superseded and",
        "SupersessionWarning",
        "BetaWarning",
        "PreviewWarning",
        "currently in beta",
        "currently in preview",
        "DeprecationWarning",
    ):
        assert word not in told, [line for line in told.splitlines() if word in line]
    for word in ("database is locked", "Could not set lock", "Conflicting lock", "Traceback"):
        assert word not in told, told
    assert SALT not in told


def keep_the_secret(shop: Shop) -> None:
    """Assert that the salt of hashed columns is in nothing that was said, in no file of Dagster's or the platform's, and in no table."""
    assert not any(SALT in told for told in shop.said)
    for path in shop.place.root.rglob("*"):
        if path.is_file() and not path.is_relative_to(shop.place.landing_folder):
            assert SALT.encode() not in path.read_bytes(), path
    assert not any(SALT in text for text in shop.export().values())


@pytest.mark.timeout(900)
def test_eight_at_once_beside_readers_and_sensors(shop: Shop, calm: dict[str, str]) -> None:
    """Eight runs of different days of the same tables succeed beside readers and sensors, and end in the tables of a calm run."""
    runs = {}
    asked: list[dg.RunRequest] = []
    with dg.DagsterInstance.from_config(str(shop.home)) as instance:
        dagster = Orchestra(shop.place, instance)
        enough = shop.place.root / "read-enough"
        shell = shop.begin("-c", READER, str(shop.place.settings.warehouse), str(enough))
        with reading(shop.place.settings) as seen:
            for day in PLAN.dates:
                runs[day] = shop.materialize("raw/sales*", "--partition", str(day))
            while any(run.poll() is None for run in runs.values()):
                asked += dagster.tick("sales_arrives")
                asked += dagster.tick("restatement")
                time.sleep(1)
        enough.touch()
        code, read = shop.end(shell)
        assert code == 0, read
        assert set(read.splitlines()) == {"read"}, read
        for day, run in runs.items():
            code, told = shop.end(run)
            assert code == 0, told
            tell_nothing_that_nobody_can_act_on(told)
            assert f"raw.sales {day}:" in told
            assert f"reports.store_comparison {day}:" in told
        assert seen[0] < seen[-1], "the reader came too late"
        assert seen == sorted(seen), "rows were there, and then they weren't"
        assert len(seen) > 10

        # What the days need of each other (late rows, trailing averages) came in no order: the sensors ask for the rest, some of it
        # while the runs were still going on; that is done then, as Dagster's queue would.
        for request in asked:
            assert dagster.do(request).success
        for name in ("sales_arrives", "restatement"):
            dagster.settle(name)
            assert dagster.tick(name) == []
    assert list(differences(shop.export(), calm)) == []
    keep_the_secret(shop)
    with shop.place.open() as warehouse:
        assert upkeep.verify(warehouse) == []


@pytest.mark.timeout(900)
def test_twenty_kills_leave_no_lock_and_no_half_done_work(shop: Shop, calm: dict[str, str]) -> None:
    """After SIGKILL to the groups of twenty working runs, command lines among them, the next one finishes with the right tables."""
    chance = random.Random(7)
    days = [str(day) for day in PLAN.dates]
    campaign = shop.begin("-m", "ingestion_platform_tests.end_to_end.killing", "18", "7", "3", *days[:3])
    real = [shop.materialize("raw/sales*", "--partition", days[index], "--config-json", REPLAY) for index in (2, 5)]
    for run in real:
        assert run.stdout is not None
        # The first line is the first day done: from here on it is at work.
        first = run.stdout.readline()
        assert "raw.sales" in first, first + run.stdout.read()
        time.sleep(chance.uniform(0, 1.5))
        os.killpg(run.pid, signal.SIGKILL)
        assert shop.end(run)[0] == -signal.SIGKILL
    code, told = shop.end(campaign)
    assert code == 0, told
    assert int(told.split()[-1]) >= 18

    began = time.monotonic()
    code, told = shop.end(shop.materialize("raw/sales*", "--partition-range", f"{FIRST}...{LAST}"))
    assert code == 0, told
    tell_nothing_that_nobody_can_act_on(told)
    assert "waiting for the ledger" not in told
    assert time.monotonic() - began < 120
    assert len(re.findall(r" - processed\.sales \d{4}-\d\d-\d\d: (?!check)", told)) == PLAN.days
    assert list(differences(shop.export(), calm)) == []
    keep_the_secret(shop)
    with shop.place.open() as warehouse:
        assert upkeep.verify(warehouse) == []
        files = {str(path.relative_to(warehouse.folder)) for path in (warehouse.folder / "tables").rglob("*.parquet")}
        assert files == warehouse.ledger.known_paths(sorted(files)), "a killed run's files were not swept up"


REPLAY = '{"ops": {"raw__sales": {"config": {"reload": true}}, "processed__sales": {"config": {"force": true}}}}'


def test_exit_codes_tell_success_from_failure(shop: Shop) -> None:
    """What can't be done ends with an exit code other than 0 and a message that says why, and a hint where there is one."""
    with shop.place.open() as warehouse:
        day = PLAN.dates[-1]
        warehouse.load(warehouse.datasets["sales"], day)
        (file, *_) = warehouse.ledger.files("raw.sales", first=day, last=day)
        path = warehouse.store.absolute(file.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    try:
        config = '{"ops": {"processed__sales": {"config": {"force": true}}}}'
        damaged = shop.materialize("processed/sales", "--partition", str(day), "--config-json", config)
        nobody = shop.materialize("raw/nothing", "--partition", str(day))
        code, told = shop.end(damaged)
        assert code == 1
        assert f"{len(whole) - 50:,} bytes, {len(whole):,} were written" in told
        assert "python -m ingestion_platform repair" in told
        code, told = shop.end(nobody)
        assert code != 0
        assert "nothing" in told
    finally:
        path.write_bytes(whole)


def test_dg_finds_the_definitions_and_nothing_wrong(shop: Shop) -> None:
    """`dg list defs` and `dg check defs` work in the project's folder, and warn of nothing."""
    programs = Path(sys.executable).parent
    commands = (("list", "defs", "--json"), ("check", "defs"))
    begun = [
        subprocess.Popen(
            [str(programs / "dg"), *command],
            cwd=ROOT,
            env=shop.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for command in commands
    ]
    (code, listed), (checked_code, checked) = (shop.end(process) for process in begun)
    assert code == 0, listed
    assert checked_code == 0, checked
    tell_nothing_that_nobody_can_act_on(listed + checked)
    for name, dataset in declared_datasets().items():
        assert f'"{landing_key(dataset).to_user_string()}"' in listed
        assert f'"raw/{name}"' in listed
        assert f'"processed/{name}"' in listed
