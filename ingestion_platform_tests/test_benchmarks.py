"""The benchmark suite is held to: its tables are what was measured, its server answers as S3 does, and a case can be measured."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


table = _module("table")
object_server = _module("object_server")


def _result(ours_seconds: float) -> dict[str, Any]:
    """A result in which nothing but a day was measured."""

    def side(seconds: float) -> dict[str, object]:
        run = {"wall_seconds": seconds, "cpu_seconds": seconds, "peak_mb": 100.0}
        return {"median": run, "runs": [run]}

    case = {
        "item": "day", "case": "local", "what": "two files", "curve": "",
        "sides": {"limit": side(2.0), "ours": side(ours_seconds)},
    }  # fmt: skip
    machine = {"cores": 2, "memory_gb": 4, "processor": "some", "disk": "", "load_before": 0.1}
    return {
        "size": "full", "measured_at": "2026-11-21T00:00:00Z", "commit": "abc", "is_changed": False, "machine": machine,
        "versions": {"duckdb": "2"}, "cases": [case],
    }  # fmt: skip


def test_the_tables_are_what_was_measured() -> None:
    """The README and docs/benchmarks.md hold what `table.py` makes of the committed results, to the letter."""
    result = json.loads(table.RESULTS.read_text(encoding="utf-8"))
    for place, path in table.PLACES.items():
        text = path.read_text(encoding="utf-8")
        assert table.placed(text, place, table.rendered(place, result)) == text, (
            f"{path.name} (hint: benchmarks/table.py)"
        )


def test_every_goal_has_a_figure_in_the_committed_results() -> None:
    """What is committed was measured whole, with dlt."""
    result = json.loads(table.RESULTS.read_text(encoding="utf-8"))
    assert table.left_out(result) == 0


@pytest.mark.parametrize(("seconds", "verdict"), [(2.4, "| met |"), (2.5, "| **not met** |")])
def test_a_goal_is_met_up_to_its_bound(seconds: float, verdict: str) -> None:
    """1.2 times the limit is met, more isn't, and the row says both times."""
    [row] = [line for line in table.goals_table(_result(seconds)) if "× the limit" in line]
    assert f"{seconds / 2:.2f} × the limit: {seconds:.2f} s against 2.00 s" in row
    assert row.endswith(verdict)


def test_what_was_not_measured_is_said() -> None:
    """A result of some items doesn't pass for one of all, and doesn't take its place."""
    assert "rows are missing: their items weren't measured" in table.goals_text(_result(1.0))
    assert "weren't measured" in table.objection(_result(1.0), None)


def test_small_sizes_do_not_take_the_place_of_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole result replaces one of the same or smaller sizes."""
    monkeypatch.setattr(table, "GOALS", table.GOALS[:1])
    full = _result(1.0)
    quick = {**full, "size": "quick"}
    assert [table.objection(*pair) for pair in ((quick, quick), (full, quick), (full, full))] == ["", "", ""]
    assert table.objection(quick, full) == "these are quick sizes"
    assert table.objection({**full, "size": "tiny"}, None) == "these are tiny sizes"


def test_a_busy_machine_is_said() -> None:
    """Figures that were taken while others were at work are shown as such."""
    result = _result(1.0)
    assert "Others were at work" not in table.about_text(result)
    assert "Others were at work" in table.about_text({**result, "machine": {**result["machine"], "load_before": 5.0}})


def test_the_server_pages_and_answers_as_s3_does(tmp_path: Path) -> None:
    """S3's own client lists all keys in order, a thousand a page, and reads an object whole, in part, and in the version that it names."""
    process, port = object_server.start(
        ("--first", "2024-01-01", "--days", "3", "--a-day", "700", "--new", "5"), {"PYTHONPATH": str(BENCHMARKS)}
    )
    try:
        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", config=Config(signature_version=UNSIGNED)
        )  # fmt: skip
        pages = list(client.get_paginator("list_objects_v2").paginate(Bucket="bench", Prefix="tills/"))
        found = [item for page in pages for item in page["Contents"]]
        assert [page["KeyCount"] for page in pages] == [1000, 1000, 105]
        assert [item["Key"] for item in found] == sorted({item["Key"] for item in found})
        day = client.list_objects_v2(
            Bucket="bench", Prefix="tills/2024/01/03/", StartAfter="tills/2024/01/03/S00699.csv"
        )
        assert [item["Key"][-9:] for item in day["Contents"]] == [f"007{number:02}.csv" for number in range(5)]
        first = found[0]
        whole = client.get_object(Bucket="bench", Key=first["Key"], IfMatch=first["ETag"])["Body"].read()
        assert len(whole) == first["Size"]
        part = client.get_object(Bucket="bench", Key=first["Key"], Range="bytes=5-9")
        assert (part["Body"].read(), part["ResponseMetadata"]["HTTPStatusCode"]) == (whole[5:10], 206)
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.get_object(Bucket="bench", Key=first["Key"], IfMatch='"another"')
        with pytest.raises(ClientError, match="NoSuchKey"):
            client.get_object(Bucket="bench", Key="tills/nothing")
    finally:
        process.terminate()
        process.wait()


def test_a_day_can_be_measured(tmp_path: Path) -> None:
    """Tiny: the sides agree, each has all figures, and the result can be shown."""
    kept = tmp_path / "results.json"
    done = subprocess.run(
        [
            sys.executable, str(BENCHMARKS / "suite.py"), "--tiny", "--only", "one_bad", "--without-dlt", "--json", str(kept),
            "--folder", str(tmp_path),
        ],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [case] = json.loads(kept.read_text(encoding="utf-8"))["cases"]
    assert [side["median"]["rows"] for side in case["sides"].values()] == [600, 550, 599]
    for side in case["sides"].values():
        assert min(side["median"][name] for name in ("wall_seconds", "cpu_seconds", "peak_mb", "load_part_seconds")) > 0
    assert sorted(tmp_path.iterdir()) == [kept], "what has landed is gone"
