"""The generator's command."""

from pathlib import Path

import pytest

from ingestion_platform.demo import Plan, Trouble, tell
from ingestion_platform.demo.__main__ import main


def files_in(folder: Path) -> list[Path]:
    """Everything in a landing zone that senders put there themselves."""
    return [path for path in folder.rglob("*") if path.is_file() and "streams" not in path.relative_to(folder).parts]


def test_the_command_lands_what_the_plan_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its options are the plan's; it tells the objects and the incidents."""
    arguments = ["generate", "--landing", str(tmp_path), "--stores", "3", "--days", "2", "--seed", "5", "--lines", "6"]
    assert main([*arguments, "--trouble", "missing_store"]) == 0
    story = tell(Plan(3, 2, seed=5, lines_per_store_day=6, troubles=frozenset({Trouble.MISSING_STORE})))
    objects = {arrival.key: arrival.content for arrival in story.steps[0].objects}
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == objects
    said = capsys.readouterr().out
    assert f"nightly: {len(objects)} objects" in said
    assert f"missing_store → missing: {story.incidents[0].what}" in said


def test_the_command_lands_one_step(tmp_path: Path) -> None:
    """With --step 1 the late file is absent, with --step 2 it comes."""
    arguments = ["generate", "--landing", str(tmp_path), "--stores", "3", "--days", "2", "--trouble", "late_file"]
    assert main([*arguments, "--step", "1"]) == 0
    before = set(files_in(tmp_path))
    assert main([*arguments, "--step", "2"]) == 0
    assert len(set(files_in(tmp_path)) - before) == 1


def test_the_command_says_what_is_wrong_with_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan that can't be is one line on stderr and exit code 1."""
    assert main(["generate", "--landing", str(tmp_path), "--stores", "0"]) == 1
    assert "1 to 9,999 stores" in capsys.readouterr().err
