"""The short campaign: every fault is met and survived, its twin is caught by it and by nothing else; and what a campaign tells."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.chaos.campaign import Result
from ingestion_platform.chaos.command import Wanted, run, table
from ingestion_platform.chaos.faults import FAULTS
from ingestion_platform.errors import DeclarationError, SettingsError


def campaign(root: Path, plan: str) -> Mapping[str, Mapping[str, Any]]:
    """What came of a plan, by fault."""
    done = subprocess.run(
        [sys.executable, "-m", "ingestion_platform_tests.chaos.short", str(root), plan],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Mapping[str, Mapping[str, Any]] = json.loads(done.stdout)
    return found


GROUPS = {
    "kills": ("kill", "kill-at-steps"),
    "how objects land": ("twice", "order", "growing", "half", "corrected"),
    "clocks and others": ("clock", "two", "slow"),
    "what is read": ("read-error", "denied", "storm"),
    "what is written": ("disk-full",),
}


def test_every_fault_is_in_a_group() -> None:
    """None is left out of the short campaign."""
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(fault.name for fault in FAULTS)


@pytest.mark.parametrize("names", GROUPS.values(), ids=GROUPS.keys())
def test_a_fault_is_met_and_survived_and_its_twin_caught(tmp_path: Path, names: Sequence[str]) -> None:
    """After each fault the tables are the clean run's, the ledger balances, nothing is left over; a broken loader is told apart."""
    found = campaign(tmp_path, ",".join(f"{name}=1" for name in names))
    assert set(found) == set(names)
    for name, result in found.items():
        assert result["needs"] == "", name
        assert result["wrong"] == {}, name
        assert result["is_met"], (name, result["met"])
        assert result["survived"] == result["rounds"] == 1, name
        assert result["caught"], f"the twin of {name} passes"


def test_killed_at_any_moment_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    """After dozens of kills at random moments and lasting steps, of one run and of three at once, the next one makes the clean tables."""
    found = campaign(tmp_path, "kill=4,kill-at-steps=4")
    for name, result in found.items():
        assert result["wrong"] == {}, name
        assert result["survived"] == 4
        assert result["met"]["kills"] >= 12, (name, result["met"])
    assert len([what for what in found["kill-at-steps"]["met"] if what.startswith("killed: ")]) >= 3, (
        "all at one kind of step"
    )


def test_a_twin_is_sound_while_nothing_happens(tmp_path: Path) -> None:
    """Each broken loader makes the clean run's tables as long as its fault isn't there: what catches it is the fault."""
    found = campaign(tmp_path, "calm")
    assert {name: result["caught"] for name, result in found.items() if result["caught"]} == {}


def test_a_fault_that_was_not_met_was_not_survived() -> None:
    """Rounds in which nothing happened prove nothing: the table says so, and the campaign fails."""
    result = Result(FAULTS[0], rounds=3, survived=3, twin_caught="raw.lines isn't the clean run's")
    assert not result.holds
    assert "NOT DELIVERED: kills" in table([result])[1]


def test_a_fault_that_was_met_and_survived_is_told_with_its_counts() -> None:
    """Rounds, those survived, whether the twin was caught, and what was met."""
    met = Counter({"kills": 2})
    result = Result(FAULTS[0], rounds=3, survived=3, met=met, twin_caught="raw.lines isn't the clean run's")
    assert result.holds
    assert table([result])[1].split() == ["kill", "3", "3", "caught", "2", "kills"]


def test_a_twin_that_passes_fails_the_campaign() -> None:
    """A fault that a broken loader survives isn't one, or nobody sees it."""
    result = Result(FAULTS[0], rounds=1, survived=1, met=Counter({"kills": 2}))
    assert not result.holds
    assert "NOT CAUGHT" in table([result])[1]


def test_what_is_not_there_is_told_by_name() -> None:
    """A fault or a dataset that nobody knows is refused with those that there are."""
    with pytest.raises(SettingsError, match="kill-at-steps"):
        run(Wanted(faults=("flood",)))
    with pytest.raises(DeclarationError, match="no dataset 'nothing'"):
        run(Wanted(datasets=("nothing",)))
