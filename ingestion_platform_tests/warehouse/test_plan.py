"""A plan tells what the backfill then does, and does nothing."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.dataset import Datasets, LandedFiles
from ingestion_platform.decisions import Decision
from ingestion_platform.errors import WarehouseError
from ingestion_platform.format import DETECT, Csv
from ingestion_platform.landing import LandedObject
from ingestion_platform.warehouse import plan_text, upkeep
from ingestion_platform.warehouse.backfill import Asked, ask, backfill
from ingestion_platform.warehouse.discards import ObjectRows, runs_of
from ingestion_platform.warehouse.files import FileStore
from ingestion_platform.warehouse.plan import Objects, Plan, plan
from ingestion_platform.warehouse.shadow import PREFIX, ShadowStore, shadow_of, sweep
from ingestion_platform.warehouse.trial import judge
from ingestion_platform_tests.warehouse.building import DAY, HEADER, SHOPS, TILLS, Bench, line
from ingestion_platform_tests.warehouse.planning import (
    CHANGES,
    Counted,
    State,
    agrees,
    bench_of,
    digest_of,
    state_of,
    untouched,
)
from ingestion_platform_tests.warehouse.test_histories import act, actions

NEXT = DAY + timedelta(days=1)
DAYS = [DAY + timedelta(days=offset) for offset in range(3)]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary files of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def planned(bench: Bench, *names: str, replay: bool = False, sample_days: int | None = None) -> Plan:
    """A plan of all days of some datasets; none: all."""
    warehouse = bench.open()
    asked = ask(warehouse, [bench.datasets[name] for name in names], replay=replay)
    return plan(warehouse, asked, sample_days=sample_days)


def done(bench: Bench, *names: str, replay: bool = False) -> tuple[State, State]:
    """The states before and after the same backfill."""
    before = state_of(bench.warehouse)
    backfill(bench.warehouse, ask(bench.warehouse, [bench.datasets[name] for name in names], replay=replay))
    return before, state_of(bench.warehouse)


def two_days(root: Path) -> Bench:
    """Two shops, two days, loaded and computed."""
    bench = bench_of(root)
    bench.put_shops("a", "b")
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1") + line("2", units="2"))
    bench.put(
        f"tills/{NEXT}/b.csv",
        HEADER + line("3", "b", f"{NEXT} 10:00:00", units="oops") + line("4", at=f"{NEXT} 11:00:00"),
    )
    upkeep.catch_up(bench.warehouse)
    return bench


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=st.lists(actions, min_size=1, max_size=8),
    later=st.lists(actions, min_size=0, max_size=4),
    change=st.sampled_from(sorted(CHANGES)),
    more=st.sampled_from(["", "and units::int > 0", "and id <> '1'"]),
    names=st.sampled_from([(), ("tills",), ("shops",)]),
    span=st.sampled_from([(None, None), (DAYS[0], DAYS[1]), (DAYS[1], DAYS[1]), (DAYS[2], None)]),
    replay=st.booleans(),
)
def test_the_numbers_are_those_of_the_backfill(
    history: list[tuple[str, str, date, str]],
    later: list[tuple[str, str, date, str]],
    change: str,
    more: str,
    names: tuple[str, ...],
    span: tuple[date | None, date | None],
    replay: bool,
) -> None:
    """Whatever was loaded, whatever came since, whatever is declared otherwise: object by object, row by row, byte by byte."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bench = bench_of(root)
        bench.put_shops("a", "b")
        for number, (action, name, day, content) in enumerate(history):
            act(bench, action, name, day, content, number)
        upkeep.catch_up(bench.warehouse)
        for number, (action, name, day, content) in enumerate(later, 100):
            act(bench, action, name, day, content, number)
        # The file that people open isn't made in the middle of a look.
        before = state_of(bench.warehouse)
        bench.warehouse.close()
        changed = bench_of(root, CHANGES[change], more=more)
        changed.landing = counted = Counted(changed.landing)
        datasets = [changed.datasets[name] for name in names]
        with untouched(root):
            warehouse = changed.open()
            asked = ask(warehouse, datasets, first=span[0], last=span[1], replay=replay)
            made = plan(warehouse, asked)
        assert counted.asked["put"] == 0
        work = backfill(changed.warehouse, asked)
        agrees(made, before, state_of(changed.warehouse))
        assert [(one.table, one.day, one.content) for one in made.partitions] == [
            (one.table, one.day, one.content) for one in work.computed
        ]
        assert made.failures == work.failures
        assert made.left == work.left
        read = sum(one.objects.count - one.read.get("touched", Objects()).count for one in made.datasets)
        assert read >= sum(len(one.new_keys) for one in work.loads)
        assert list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")) == []
        changed.warehouse.close()


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    """When everything is loaded and computed."""
    assert planned(two_days(tmp_path)).does_nothing


def test_a_replay_reads_everything_and_restates_nothing(tmp_path: Path) -> None:
    """The objects are read by force; their rows come and go, and no processed day is computed."""
    made = planned(two_days(tmp_path), "tills", replay=True)
    (tills,) = made.datasets
    assert {why: objects.count for why, objects in tills.read.items()} == {"by force": 2}
    assert (tills.rows_added, tills.rows_gone, made.partitions) == (4, 4, ())


def test_why_an_object_is_read_is_said(tmp_path: Path) -> None:
    """New, changed, merely touched, freed by another's change, and all of them by a declaration."""
    bench = two_days(tmp_path)
    bench.put(f"tills/{DAY}/a-copy.csv", HEADER + line("1") + line("2", units="2"))
    upkeep.catch_up(bench.warehouse)
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1", units="3"))
    bench.put(f"tills/{DAY}/c.csv", HEADER + line("9"))
    os.utime(bench.landing_folder / f"tills/{NEXT}/b.csv", (1, 1))
    (tills,) = planned(bench, "tills").datasets
    assert {why: objects.count for why, objects in tills.read.items()} == {
        "new": 1,
        "changed": 1,
        "touched": 1,
        "set free": 1,
    }
    assert tills.read["changed"] == Objects(1, len(HEADER + line("1", units="3")))
    bench.warehouse.close()
    otherwise = bench_of(tmp_path, CHANGES["a column read from elsewhere"])
    (tills,) = planned(otherwise, "tills").datasets
    assert tills.read["declaration"].count == 2


def test_a_tightened_rule_says_what_it_takes_from_whom(tmp_path: Path) -> None:
    """Rows into quarantine by rule, processed rows lost, the report's sums."""
    two_days(tmp_path).warehouse.close()
    made = planned(bench_of(tmp_path, CHANGES["a rule tightened"]), "tills")
    assert made.datasets[0].lost.rows == {"units: above maximum": 1}
    assert made.datasets[0].lost.examples == ((f"tills/{DAY}/a.csv", 2),)
    first = next(one for one in made.partitions if one.table == "processed.tills" and one.day == DAY)
    assert (first.quarantined, first.released, first.difference.gone) == ({"units: above maximum": 1}, {}, 1)
    report = next(one for one in made.partitions if one.table == "reports.by_shop" and one.day == DAY)
    assert report.difference.sums["units"].delta == -2


def test_a_loosened_rule_says_what_it_releases(tmp_path: Path) -> None:
    """By the rule that had held it."""
    bench = two_days(tmp_path)
    bench.put(f"tills/{DAY}/c.csv", HEADER + line("7", units="50"))
    upkeep.catch_up(bench.warehouse)
    bench.warehouse.close()
    made = planned(bench_of(tmp_path, CHANGES["a rule loosened"]), "tills")
    first = next(one for one in made.partitions if one.table == "processed.tills" and one.day == DAY)
    assert (first.released, first.quarantined, first.difference.added) == ({"units: above maximum": 1}, {}, 1)


def decide(bench: Bench, kind: str, key: str, *rows: int) -> None:
    """A person's word about rows of an object, as another process lands it: no load has taken it in."""
    day = DAY if str(DAY) in key else NEXT
    found = bench.warehouse.ledger.current("tills", day)[key]
    named = ObjectRows(key, found.sha256, day, found.rows_read, runs_of(rows))
    decision = Decision(
        kind, "tills", datetime.now(UTC), "Thandi", "a till that was tested", {"objects": [named.written()]}
    )
    bench.put(decision.key, decision.content)


def test_a_discarded_row_is_neither_released_nor_lost_nor_quarantined(tmp_path: Path) -> None:
    """Whatever the declaration says by now: it is told as discarded, and the numbers are those of the backfill."""
    bench = two_days(tmp_path)
    a, b = f"tills/{DAY}/a.csv", f"tills/{NEXT}/b.csv"
    bench.put(f"tills/{DAY}/c.csv", HEADER + line("7", units="50") + line("8", units="60"))
    upkeep.catch_up(bench.warehouse)
    # One that is in quarantine, one that is processed.
    decide(bench, "discard", f"tills/{DAY}/c.csv", 1)
    decide(bench, "discard", a, 2)
    bench.warehouse.close()
    loose = bench_of(tmp_path, CHANGES["a rule loosened"])
    made = planned(loose, "tills")
    first = next(one for one in made.partitions if (one.table, one.day) == ("processed.tills", DAY))
    assert (first.quarantined, first.released, first.discarded) == ({}, {"units: above maximum": 1}, 2)
    assert (first.difference.added, first.difference.gone) == (1, 1)
    assert made.datasets[0].lost.rows == {}
    assert "discarded by people: 2 more" in plan_text.as_text(made)
    assert not any(loss.kind == "rows" for loss in judge(made).losses)
    before, after = done(loose, "tills")
    assert {one.content for one in made.partitions} == {
        after.partitions[one.table, str(one.day or "")][0] for one in made.partitions
    }
    assert (f"tills/{DAY}/c.csv", 1) in after.quarantine["tills", str(DAY)]
    assert (a, 2) in after.quarantine["tills", str(DAY)].keys() - before.quarantine["tills", str(DAY)].keys()
    # Taken back, it is released by the rule that held it.
    decide(loose, "reopen", f"tills/{DAY}/c.csv", 1)
    made = planned(loose, "tills")
    (first,) = [one for one in made.partitions if one.table == "processed.tills"]
    assert (sum(first.released.values()), first.discarded, first.difference.added) == (1, -1, 1)
    assert b not in str(made.partitions)


def test_before_there_is_a_warehouse_discarded_rows_are_told_apart(tmp_path: Path) -> None:
    """What a rebuild would set aside and a person has discarded isn't told as coming into quarantine."""
    bench = two_days(tmp_path / "one")
    decide(bench, "discard", f"tills/{NEXT}/b.csv", 1)
    bench.warehouse.close()
    other = bench_of(tmp_path / "two", zone=bench.landing)
    made = planned(other)
    second = next(one for one in made.partitions if (one.table, one.day) == ("processed.tills", NEXT))
    assert (second.quarantined, second.discarded) == ({}, 1)


def test_a_report_whose_query_fails_is_told_and_the_others_are_planned(tmp_path: Path) -> None:
    """With the day that it fails on."""
    bench = two_days(tmp_path)
    bench.warehouse.close()
    made = planned(bench_of(tmp_path, more="and error('no')::int = 1"))
    assert {(one.table, one.day) for one in made.failures} == {("reports.by_shop", DAY), ("reports.by_shop", NEXT)}


def test_days_that_were_not_asked_for_are_counted_as_left(tmp_path: Path) -> None:
    """They were stale before, and stay so."""
    two_days(tmp_path).warehouse.close()
    bench = bench_of(tmp_path, CHANGES["a rule tightened"])
    warehouse = bench.open()
    made = plan(warehouse, ask(warehouse, [bench.datasets["tills"]], first=DAY, last=DAY))
    assert {(one.table, one.day) for one in made.partitions} == {
        ("processed.tills", DAY),
        ("reports.by_shop", DAY),
        ("reports.ever", None),
    }
    assert made.left == {"processed.tills": 1}


def test_before_there_is_a_warehouse_everything_is_new(tmp_path: Path) -> None:
    """And none is made."""
    bench = bench_of(tmp_path)
    bench.put_shops("a")
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1"))
    with untouched(tmp_path):
        made = planned(bench)
    assert not bench.settings.warehouse_folder.exists()
    assert sum(one.difference.added for one in made.partitions) == 4
    agrees(made, *done(bench))


def test_a_personal_value_of_before_it_was_masked_is_not_shown(tmp_path: Path) -> None:
    """A column that is masked from now on held it in the clear."""
    clear = replace(TILLS, columns=tuple(replace(one, pii=None) for one in TILLS.columns))
    bench = bench_of(tmp_path, clear)
    bench.put_shops("a")
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1", card="4111-1111"))
    upkeep.catch_up(bench.warehouse)
    bench.warehouse.close()
    made = planned(bench_of(tmp_path), "tills")
    assert "'card': '(personal)'" in repr(made)
    assert "4111" not in repr(made)


def test_a_detected_dialect_is_not_recorded(tmp_path: Path) -> None:
    """The plan reads by what it found out, and the landing zone stays as it is."""
    detecting = replace(TILLS, source=LandedFiles("tills/%Y-%m-%d/{shop}.csv", Csv(delimiter=DETECT)))
    bench = Bench(tmp_path, datasets=Datasets([SHOPS, detecting]))
    bench.put(f"tills/{DAY}/a.csv", (HEADER + line("1")).replace(",", ";"))
    with untouched(tmp_path):
        made = planned(bench, "tills")
    assert made.datasets[0].states == {"loaded": 1}


class Archive(Counted):
    """A landing zone whose tills are in an archive."""

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """As the zone does, some of it not at hand."""
        for landed in super().list(prefix, start_after=start_after):
            yield replace(landed, place="cold", is_at_hand=not landed.key.startswith("tills"))

    def is_at_hand(self, object_: LandedObject) -> bool:
        """It isn't."""
        return not object_.key.startswith("tills")


def test_what_is_in_an_archive_is_told_and_not_asked_for(tmp_path: Path) -> None:
    """How many, and about when they would be there."""
    bench = bench_of(tmp_path)
    bench.put_shops("a")
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1"))
    bench.landing = Archive(bench.landing)
    made = planned(bench, "tills")
    (waiting,) = made.datasets[0].waiting
    assert (waiting.key, waiting.expected_at - waiting.asked_at) == (f"tills/{DAY}/a.csv", timedelta(hours=48))
    assert not made.does_nothing


def test_a_run_that_commits_meanwhile_does_not_disturb_a_plan(tmp_path: Path) -> None:
    """The plan is of the state that it found, though the files of that have left their tables."""
    bench = two_days(tmp_path)
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1", units="3"))
    alone = planned(bench)
    told: list[str] = []

    def meanwhile(text: str) -> None:
        if not told:
            upkeep.catch_up(bench.open())
            bench.put_shops("a", "b", "c", "d", day=NEXT)
            upkeep.catch_up(bench.open())
        told.append(text)

    warehouse = bench.open()
    beside = plan(warehouse, Asked({"shops": [DAY], "tills": [DAY, NEXT]}), tell=meanwhile)
    assert len(told) > 1
    assert beside.datasets[1].objects == alone.datasets[1].objects
    assert [(one.table, one.day, one.content) for one in beside.partitions] == [
        (one.table, one.day, one.content) for one in alone.partitions
    ]


def test_two_plans_at_once_say_the_same(tmp_path: Path) -> None:
    """Neither sees, waits for, or sweeps up the other."""
    bench = two_days(tmp_path)
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1", units="3"))
    made: list[Plan] = []
    threads = [threading.Thread(target=lambda: made.append(planned(bench))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3
    assert len({tuple((one.table, one.day, one.content) for one in each.partitions) for each in made}) == 1


KILLED = """
import os, sys
from pathlib import Path
from ingestion_platform.warehouse.backfill import ask
from ingestion_platform.warehouse.plan import plan
from ingestion_platform_tests.warehouse.planning import bench_of
bench = bench_of(Path(sys.argv[1]))
lines = []
def tell(line):
    lines.append(line)
    if len(lines) == int(sys.argv[2]):
        os._exit(9)
warehouse = bench.open()
plan(warehouse, ask(warehouse, []), tell=tell)
"""


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_killed_plan_leaves_nothing(tmp_path: Path, temporary: Path, step: int) -> None:
    """The warehouse is as it was, and the next plan deletes the shadow."""
    root = tmp_path / "root"
    bench = two_days(root)
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1", units="3"))
    bench.warehouse.close()
    with untouched(root):
        code = subprocess.run(
            [sys.executable, "-c", KILLED, str(root), str(step)],
            env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path.cwd())},
            check=False,
        ).returncode
    assert code == 9
    assert len(list(temporary.glob(f"{PREFIX}*"))) == 1
    agrees(planned(bench), *done(bench))
    assert list(temporary.iterdir()) == []


def test_a_shadow_that_lives_and_what_others_put_there_are_not_swept(tmp_path: Path, temporary: Path) -> None:
    """Only what a dead process has left is."""
    bench = two_days(tmp_path / "root")
    (tmp_path / "elsewhere").mkdir()
    (temporary / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    (temporary / f"{PREFIX}file").write_text("mine")
    dead = temporary / f"{PREFIX}dead"
    dead.mkdir()
    (dead / "lock").touch()
    with shadow_of(bench.warehouse) as shadow:
        assert not dead.exists()
        assert sweep() == []
        assert shadow.folder.exists()
    assert sorted(path.name for path in temporary.iterdir()) == [f"{PREFIX}file", f"{PREFIX}link"]


def test_a_full_disk_ends_the_plan_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is touched, and the shadow is gone."""
    bench = two_days(tmp_path / "root")
    bench.put(f"tills/{DAY}/a.csv", HEADER + line("1", units="3"))
    bench.warehouse.close()

    def full(store: FileStore, path: str, rows: int) -> object:
        assert isinstance(store, ShadowStore)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileStore, "describe", full)
    with (
        untouched(tmp_path / "root"),
        pytest.raises(WarehouseError, match=r"No space left.*TMPDIR.*nothing was changed"),
    ):
        planned(bench)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_sample_is_exact_and_the_rest_is_counted(tmp_path: Path) -> None:
    """Days in between are listed, not read; the sampled ones are as the backfill makes them."""
    bench = bench_of(tmp_path)
    bench.put_shops("a")
    bench.load("shops")
    bench.process("shops")
    days = [DAY + timedelta(days=offset) for offset in range(6)]
    for day in days:
        bench.put(f"tills/{day}/a.csv", HEADER + line("1", at=f"{day} 10:00:00"))
    bench.landing = counted = Counted(bench.landing)
    made = planned(bench, "tills", sample_days=2)
    assert counted.asked["read"] == 2
    assert {one.day for one in made.partitions if one.day} == {days[0], days[-1]}
    assert made.estimate is not None
    assert made.estimate.days == {"tills": 4}
    assert made.estimate.read == {"new": Objects(4, 4 * len(HEADER + line("1")))}
    assert made.estimate.rows_changed == 4
    assert made.expected_seconds is not None
    assert made.expected_seconds > made.seconds


def test_an_estimate_alone_reads_nothing(tmp_path: Path) -> None:
    """The past tells the speed, where there is one."""
    bench = bench_of(tmp_path)
    bench.put_shops("a")
    for shop in "abc":
        bench.put(f"tills/{DAY}/{shop}.csv", HEADER + line(shop))
    bench.landing = counted = Counted(bench.landing)
    first = planned(bench, sample_days=0)
    assert counted.asked["read"] == 0
    assert first.expected_seconds is None
    bench.warehouse = bench.open()
    upkeep.catch_up(bench.warehouse)
    bench.warehouse.close()
    later = planned(bench, "tills", replay=True, sample_days=0)
    assert later.estimate is not None
    assert later.estimate.read == {"by force": Objects(3, 3 * len(HEADER + line("a")))}
    assert later.expected_seconds is not None


def test_a_ledger_in_a_folder_that_is_read_only_is_planned_on(tmp_path: Path) -> None:
    """As a copy for a trial may be."""
    bench = two_days(tmp_path / "root")
    bench.warehouse.close()
    before = digest_of(tmp_path / "root")
    (tmp_path / "root" / "warehouse").chmod(0o555)
    try:
        assert planned(bench).does_nothing
    finally:
        (tmp_path / "root" / "warehouse").chmod(0o755)
    assert digest_of(tmp_path / "root") == before


def test_a_writer_with_an_open_transaction_does_not_hold_up_a_plan(tmp_path: Path) -> None:
    """The plan sees what was committed."""
    bench = two_days(tmp_path)
    with bench.warehouse.ledger.writing():
        assert planned(bench).does_nothing
