"""Changed declarations are tried on the last landed days: what counts as a loss, and what is allowed."""

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion_platform.errors import SettingsError
from ingestion_platform.warehouse import trial, upkeep
from ingestion_platform.warehouse.plan import plan
from ingestion_platform.warehouse.trial import Allowance, Kind, Loss, Trial, judge, last_days
from ingestion_platform_tests.warehouse.building import DAY, HEADER, TILLS, Bench, line
from ingestion_platform_tests.warehouse.planning import CHANGES, bench_of, untouched
from ingestion_platform_tests.warehouse.test_plan import NEXT, two_days


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place for temporary files of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def tried(bench: Bench, days: int = 3, **allowed: str) -> Trial:
    """A trial of a bench's declarations against its tables."""
    allowances = dict(Allowance.parse(f"{kind}={text}") for kind, text in allowed.items())
    return judge(plan(bench.open(), lambda shadow: last_days(shadow, [], days)), allowances)


def after(root: Path, change: str, more: str = "") -> Bench:
    """Two days as they were declared, and another declaration."""
    two_days(root).warehouse.close()
    return bench_of(root, CHANGES[change], more=more)


def found(judged: Trial) -> set[tuple[Kind, str, int]]:
    """Kind, table and count of losses."""
    return {(loss.kind, loss.table, loss.count) for loss in judged.losses}


@pytest.mark.parametrize("change", ["nothing", "a rule loosened", "a column added"])
def test_a_harmless_change_passes(tmp_path: Path, change: str) -> None:
    """Rows that are released, columns that come: nothing is lost."""
    judged = tried(after(tmp_path / "root", change))
    assert judged.passed
    assert judged.losses == ()
    assert trial.as_text(judged).startswith("Passed: nothing is lost, tried on the last 2 days of shops, tills.")


def test_a_tightened_rule_fails_with_the_rule_and_the_row(tmp_path: Path) -> None:
    """And nothing is written."""
    bench = after(tmp_path / "root", "a rule tightened")
    with untouched(tmp_path / "root"):
        judged = tried(bench)
    assert found(judged) == {("rows", "processed.tills", 1), ("report_rows", "reports.ever", 1)}
    assert judged.too_much == ("rows", "report_rows")
    told = trial.as_text(judged)
    assert told.startswith(
        "Failed: processed rows that go, rows that go from reports and other derived tables; tried on the last 2 days of shops, tills."
    )
    assert f"processed.tills: 1: units: above maximum (tills/{DAY}/a.csv row 2)" in told
    assert "(to allow it: --allow rows=1)" in told


def test_a_column_that_is_read_from_elsewhere_loses_its_values(tmp_path: Path) -> None:
    """The new source isn't in the files: every value becomes NULL."""
    judged = tried(after(tmp_path / "root", "a column read from elsewhere"))
    assert ("values", "processed.tills", 3) in found(judged)


def test_a_column_that_goes_loses_its_values(tmp_path: Path) -> None:
    """Whoever reads it is told before."""
    assert ("values", "processed.tills", 3) in found(tried(after(tmp_path / "root", "a column removed")))


def test_objects_that_would_be_rejected_are_a_loss(tmp_path: Path) -> None:
    """With the first one's reason."""
    bench = two_days(tmp_path / "root")
    bench.put(f"tills/{DAY}/x.csv", HEADER.replace("\n", ",till\n") + line("7").replace("\n", ",3\n"))
    upkeep.catch_up(bench.warehouse)
    bench.warehouse.close()
    judged = tried(bench_of(tmp_path / "root", CHANGES["unknown columns fail"]))
    assert {("objects", "raw.tills", 1), ("rows", "processed.tills", 1)} <= found(judged)
    (refused,) = (loss for loss in judged.losses if loss.kind == "objects")
    assert refused.what == f"the first is tills/{DAY}/x.csv: it has columns that aren't declared: till"
    (rows,) = (loss for loss in judged.losses if loss.kind == "rows")
    assert rows.what.startswith("its object is rejected (")


def test_rows_that_go_from_a_report_are_a_loss(tmp_path: Path) -> None:
    """A query that leaves more out."""
    judged = tried(after(tmp_path / "root", "nothing", more="and id <> '4'"))
    assert found(judged) == {("report_rows", "reports.by_shop", 1)}


def test_a_report_that_fails_is_never_allowed_by_chance(tmp_path: Path) -> None:
    """Each day of it."""
    judged = tried(after(tmp_path / "root", "nothing", more="and error('no')::int = 1"))
    assert found(judged) == {("failures", "reports.by_shop", 1)}
    assert not judged.passed


def test_a_check_that_begins_to_fail_is_a_loss(tmp_path: Path) -> None:
    """One that failed before isn't."""
    bench = two_days(tmp_path / "root")
    for number in range(5, 9):
        bench.put(f"tills/{DAY}/{number}.csv", HEADER + line(str(number), units="50"))
    upkeep.catch_up(bench.warehouse)
    bench.warehouse.close()
    judged = tried(bench_of(tmp_path / "root", CHANGES["a rule loosened"]))
    assert found(judged) == {("checks", "reports.by_shop", 1)}


def test_what_a_sender_has_changed_is_no_loss_of_the_declaration(tmp_path: Path) -> None:
    """A file that came again with fewer rows."""
    bench = two_days(tmp_path / "root")
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1"))
    judged = tried(bench)
    assert not [loss for loss in judged.losses if loss.kind in ("rows", "values")]
    assert judged.plan.datasets[1].rows_gone == 2


def test_only_the_last_days_are_tried(tmp_path: Path) -> None:
    """A loss of the day before isn't seen."""
    judged = tried(after(tmp_path / "root", "a rule tightened"), days=1)
    assert judged.plan.asked.days["tills"] == [NEXT]
    assert judged.passed


def test_a_new_dataset_is_tried_on_what_has_landed(tmp_path: Path) -> None:
    """It has lost nothing yet."""
    bench = bench_of(tmp_path / "root")
    bench.put_shops("a")
    bench.load("shops")
    bench.process("shops")
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1"))
    judged = tried(bench)
    assert judged.passed
    assert judged.plan.datasets[1].objects.count == 1


@pytest.mark.parametrize(
    ("text", "covers"),
    [("rows=1", False), ("rows=2", True), ("rows=1%", False), ("rows=2%", True), ("rows=0.5%", False)],
)
def test_so_many_losses_are_allowed(text: str, *, covers: bool) -> None:
    """A number, or a share of all there was."""
    kind, allowance = Allowance.parse(text)
    assert kind == "rows"
    losses = [Loss("rows", "processed.tills", 1, 60, ""), Loss("rows", "processed.shops", 1, 40, "")]
    assert allowance.covers(losses) is covers


@pytest.mark.parametrize("text", ["rows", "rows=", "rows=-1", "lines=3", "rows=1%%", "rows=1.5"])
def test_what_is_no_allowance_is_refused(text: str) -> None:
    """With the kinds that there are."""
    with pytest.raises(SettingsError, match="rows, values, objects"):
        Allowance.parse(text)


def test_an_allowed_loss_passes_and_is_told(tmp_path: Path) -> None:
    """The count stands beside what is allowed."""
    judged = tried(after(tmp_path / "root", "a rule tightened"), rows="50%", report_rows="1")
    assert judged.passed
    told = trial.as_markdown(judged)
    assert told.startswith("### Passed: what is lost is allowed")
    assert "**processed rows that go: 1 of 3 (allowed: 50%)**" in told


def test_a_program_gets_everything_as_json(tmp_path: Path) -> None:
    """The verdict, the losses, the plan."""
    told = json.loads(trial.as_json(tried(after(tmp_path / "root", "a rule tightened"))))
    assert told["passed"] is False
    assert told["too_much"] == ["rows", "report_rows"]
    assert told["losses"][0]["count"] == 1
    assert told["plan"]["datasets"][1]["lost"]["rows"] == {"units: above maximum": 1}


def test_what_senders_write_is_no_markup(tmp_path: Path) -> None:
    """A file's name comes from outside; a pull request shows it as it is."""
    bench = two_days(tmp_path / "root")
    bench.put(f"tills/{DAY}/<img src=x>.csv", HEADER + line("7", units="3"))
    upkeep.catch_up(bench.warehouse)
    bench.warehouse.close()
    stricter = replace(TILLS, columns=CHANGES["a rule tightened"].columns)
    told = trial.as_markdown(tried(bench_of(tmp_path / "root", stricter)))
    assert re.search(r"[^\\]<img", told) is None
    assert r"\<img src=x\>" in told
