"""The README is held to: its settings are the settings; its dataset, its API, its remote files and its report work to the letter."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.remote import RemoteFiles
from ingestion_platform.settings import RemoteSettings, Settings
from ingestion_platform.sources.opening import open_remote
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import Bench

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DAY = date(2024, 10, 1)


def _block(language: str, holding: str) -> str:
    """The code block of that language that holds a text."""
    for found in re.finditer(rf"```{language}\n(.*?)```", README, re.DOTALL):
        if holding in found[1]:
            return found[1]
    raise AssertionError(f"the README has no {language} block with {holding!r}")


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    """The table of settings is the fields of `Settings`, in their order, in their words."""
    table = re.findall(r"^\| `INGESTION_(\w+)` \| (.+?) \| (.+?) \|$", README, re.MULTILINE)
    assert [name.lower() for name, _, _ in table] == list(Settings.model_fields)
    for name, default, meaning in table:
        field = Settings.model_fields[name.lower()]
        assert default == (f"`{field.default}`" if field.default not in (None, "") else "none"), name
        assert meaning == field.description, name


def test_the_dataset_and_the_report_of_the_readme_work(tmp_path: Path) -> None:
    """What a newcomer pastes loads one row, quarantines the other, and gives the report."""
    declared: dict[str, object] = {}
    exec(compile(_block("python", "loyalty_points = Dataset("), "loyalty.py", "exec"), declared)
    loyalty = declared["loyalty_points"]
    assert isinstance(loyalty, Dataset)
    reports = tmp_path / "sql" / "reports"
    reports.mkdir(parents=True)
    (reports / "points_by_day.sql").write_text(_block("sql", "points_earned"), encoding="utf-8")
    (tmp_path / "sql" / "processed").mkdir()
    balances = _block("sql", "processed.points_balances as before")
    (tmp_path / "sql" / "processed" / "points_balances.sql").write_text(balances, encoding="utf-8")
    bench = Bench(tmp_path, Datasets([loyalty]), sql=tmp_path / "sql")
    landed = re.search(r"printf '(.+?)'", README)
    assert landed is not None
    bench.put("loyalty/2024/10/01/north.csv", landed[1].replace("\\n", "\n"))
    bench.load("loyalty_points")
    done = bench.process("loyalty_points")
    assert str(done.balance) == "2 read = 1 processed + 0 duplicates + 1 quarantined"
    assert done.reasons == {"points: not INTEGER": 1}
    bench.warehouse.derive(bench.sql_tables["processed.points_balances"], DAY)
    assert bench.rows("processed.points_balances", "points") == [(120,)]
    bench.warehouse.derive(bench.sql_tables["reports.points_by_day"], DAY)
    published = (tmp_path / "published" / "points_by_day" / "2024-10-01.csv").read_text(encoding="utf-8")
    assert published == "booked_on,points_earned,points_spent\n2024-10-01,120,0\n"


def test_the_changes_of_the_readme_work(tmp_path: Path) -> None:
    """What a newcomer pastes gives a driver who moved: two states, of which the second has the address that wasn't sent again."""
    declared: dict[str, object] = {}
    exec(compile(_block("python", "drivers = Dataset("), "fleet.py", "exec"), declared)
    drivers = declared["drivers"]
    assert isinstance(drivers, Dataset)
    bench = Bench(tmp_path, Datasets([drivers]))
    landed = re.search(r"<<'END'\n(.+?)END\n", _block("sh", "fleet/2024/10/01/0001.jsonl"), re.DOTALL)
    assert landed is not None
    bench.put("fleet/2024/10/01/0001.jsonl", landed[1])
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.drivers_history", "city", "is_current") == [("Durban", False), ("George", True)]
    assert len(bench.warehouse.query("select distinct email from processed.drivers_history").to_pylist()) == 1
    questions = re.findall(r'query "(.+?)"', _block("sh", "fleet/2024/10/01/0001.jsonl"))
    assert [len(bench.warehouse.query(question).to_pylist()) for question in questions] == [2, 1]


def test_the_api_of_the_readme_works(tmp_path: Path) -> None:
    """What a newcomer pastes and types, in two shells in a checkout, fetches a day, loads 24 rows, and quarantines the other one."""
    shutil.copytree(ROOT / "ingestion_platform", tmp_path / "ingestion_platform")
    (tmp_path / "ingestion_platform" / "datasets" / "reviews.py").write_text(
        _block("python", "product_reviews = Dataset("), encoding="utf-8"
    )
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    # What `make dev` makes.
    (tmp_path / "data" / "landing").mkdir(parents=True)
    (tmp_path / "data" / "dagster_home").mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.yaml", tmp_path / "data" / "dagster_home")
    shutil.copy(ROOT / "demo.env", tmp_path / "ingestion.env")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
    }
    second = subprocess.Popen(
        ["bash", "-euc", f"exec {_block('sh', 'ingestion_platform.demo apis')}"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert second.stdout is not None
        said = [second.stdout.readline(), second.stdout.readline()]
        typed = _block("sh", "--select landing/reviews")
        assert said[1].strip() in typed
        done = subprocess.run(
            ["bash", "-euc", typed],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
    finally:
        second.send_signal(signal.SIGINT)
        ended = second.wait(timeout=60)
    assert done.returncode == 0, done.stdout
    assert ended == 0
    assert "landing.reviews 2024-10-01: 25 records on 3 pages, landed" in done.stdout
    assert "25 read = 24 processed + 0 duplicates + 1 quarantined" in done.stdout
    assert "is above 5" in done.stdout
    assert list((tmp_path / "data/landing/apis/reviews/2024/10/01").glob("*/00001.parquet"))


def test_the_remote_files_of_the_readme_work(tmp_path: Path) -> None:
    """What a newcomer pastes and types in a checkout copies a file, loads one row of two, and both when the file was mended."""
    shutil.copytree(ROOT / "ingestion_platform", tmp_path / "ingestion_platform")
    (tmp_path / "ingestion_platform" / "datasets" / "settlements.py").write_text(
        _block("python", "card_settlements = Dataset("), encoding="utf-8"
    )
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    shutil.copy(ROOT / "demo.env", tmp_path / "ingestion.env")
    done = subprocess.run(
        ["bash", "-euc", _block("sh", "> data/remotes.toml") + _block("sh", "s/lots/80.00/")],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "landing.settlements 2024-10-01: 1 files: 1 new, 0 changed, 0 unchanged" in done.stdout
    assert "2 read = 1 processed + 0 duplicates + 1 quarantined" in done.stdout
    assert "landing.settlements 2024-10-01: 1 files: 0 new, 1 changed, 0 unchanged" in done.stdout
    assert "2 read = 2 processed + 0 duplicates + 0 quarantined" in done.stdout
    assert "R1,north,120.50\nR2,north,80.00\n" in done.stdout


def test_the_settings_of_a_real_server_are_what_sftp_is_told() -> None:
    """The table of the README opens a folder; nothing is connected."""
    table = tomllib.loads(_block("toml", "[settlements]"))["settlements"]
    declared: dict[str, object] = {}
    exec(compile(_block("python", "card_settlements = Dataset("), "settlements.py", "exec"), declared)
    outbox = declared["outbox"]
    assert isinstance(outbox, RemoteFiles)
    assert open_remote(outbox, {"settlements": RemoteSettings(None, table)}).url == "sftp://files.bank.example/outbox"
