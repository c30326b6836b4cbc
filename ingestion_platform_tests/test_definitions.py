"""The code location as Dagster's server, daemon and command line load it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest

from ingestion_platform.demo import Plan
from ingestion_platform.orchestration.graph import asset_key, landing_key
from ingestion_platform.settings import Settings

ROOT = Path(__file__).parent.parent
DAY = str(Plan().first_day)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of a deployment in *folder*, with nothing of the caller's."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "DAGSTER_HOME": str(folder / "dagster"),
        "INGESTION_LANDING": str(folder / "landing"),
        "INGESTION_WAREHOUSE": str(folder / "warehouse.duckdb"),
        "INGESTION_PUBLISH": str(folder / "published"),
        "INGESTION_PII_SALT": "salt",
        **more,
    }


def python(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run this Python in *folder*."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    """The code location."""
    from ingestion_platform.definitions import defs

    return defs


def test_the_code_location_loads(defs: dg.Definitions) -> None:
    """Dagster finds nothing wrong with it."""
    dg.Definitions.validate_loadable(defs)


def test_loading_writes_and_says_nothing(tmp_path: Path) -> None:
    """With every warning on, loading prints none, and touches neither landing zone nor warehouse."""
    done = python(
        tmp_path, "-W", "always", "-c", "from ingestion_platform.definitions import defs; defs.get_repository_def()"
    )
    assert done.returncode == 0
    noise = [line for line in done.stderr.splitlines() if "Beta" in line or "Preview" in line or "Supersession" in line]
    assert noise == []
    assert [path.name for path in tmp_path.iterdir()] == []


def test_every_dataset_and_query_is_an_asset(defs: dg.Definitions) -> None:
    """Each dataset is landing, raw and processed, with a sensor; each SQL file is an asset that depends on what its query reads."""
    from ingestion_platform import datasets as declarations
    from ingestion_platform.dataset import find_datasets
    from ingestion_platform.rules import find_rules
    from ingestion_platform.settings import Settings
    from ingestion_platform.warehouse import load_sql_tables

    found = find_datasets(declarations)
    sql_tables = load_sql_tables(found, zone=Settings.load().zone, rules=find_rules(declarations))
    graph = defs.resolve_asset_graph()
    wanted = {landing_key(one) for one in found.values()} | {asset_key(one.raw) for one in found.values()}
    wanted |= {asset_key(one.processed) for one in found.values()} | {asset_key(key) for key in sql_tables}
    assert graph.get_all_asset_keys() == wanted
    for key, table in sql_tables.items():
        assert graph.get(asset_key(key)).parent_keys == {
            asset_key(other) for other in (*table.depends_on, *([key] if table.carries_on else []))
        }
    sensors = {sensor.name for sensor in defs.sensors or ()}
    assert sensors == {f"{name}_arrives" for name in found} | {
        "restatement",
        "alert_failed_runs",
        "alert_failed_checks",
        "cutoffs",
    }


def test_runs_are_in_process_by_default(defs: dg.Definitions) -> None:
    """A run takes one process: a step of its own costs seconds."""
    assert defs.executor is dg.in_process_executor


def test_everything_can_be_backfilled_in_one_run(defs: dg.Definitions) -> None:
    """Every asset with days that is made here takes a range in a single run, as `--partition-range` asks for."""
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        if node.partitions_def is not None:
            assert node.backfill_policy == dg.BackfillPolicy.single_run(), key


def test_one_code_location_has_one_name() -> None:
    """`dagster dev` and `dg` show the same code location."""
    workspace = (ROOT / "workspace.yaml").read_text()
    module = dict(re.findall(r"^\s+(module_name|location_name): (\S+)$", workspace, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert module["location_name"] == project["code_location_name"]
    assert module["module_name"] == project["code_location_target_module"] == "ingestion_platform.definitions"


def test_the_instance_is_what_we_say(tmp_path: Path) -> None:
    """Dagster takes `dagster.yaml`: no telemetry, four runs at once, runs that died found out, ticks not kept for ever."""
    shutil.copy(ROOT / "deploy" / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 4
        assert instance.run_monitoring_enabled
        assert instance.python_log_level == "INFO"


def test_the_environment_wins_over_the_file_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For Dagster's commands as for ours: the file has a name that Dagster doesn't read by itself."""
    (tmp_path / "ingestion.env").write_text("INGESTION_TIMEZONE=Europe/London\nINGESTION_PII_SALT=of-the-file\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INGESTION_TIMEZONE", raising=False)
    monkeypatch.setenv("INGESTION_PII_SALT", "of-the-environment")
    settings = Settings.load()
    assert settings.timezone == "Europe/London"
    assert settings.pii_salt is not None
    assert settings.pii_salt.get_secret_value() == "of-the-environment"
    assert Settings.model_config.get("env_file") != ".env"
