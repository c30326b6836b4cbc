"""Checks: what passes, what fails, and whether the story names what a person needs."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.completeness import Status
from ingestion_platform.orchestration import checks
from ingestion_platform.orchestration.checks import Verdict
from ingestion_platform.warehouse import Balance, DriftEvent, LedgerEntry, RawDay, SenderReport, TableDay
from ingestion_platform_tests.orchestration.world import by_shop, sender_report, tills

DAY = date(2024, 10, 10)
NOBODY = sender_report(())


def entry(key: str, **changes: object) -> LedgerEntry:
    """A loaded object of ten rows."""
    loaded = LedgerEntry(
        "tills", key, DAY, "loaded", "00", 100, datetime(2024, 10, 10, tzinfo=UTC), rows_read=10, rows_loaded=10
    )
    return replace(loaded, **changes)  # type: ignore[arg-type]


def raw_day(*entries: LedgerEntry) -> RawDay:
    """A day of these objects."""
    return RawDay("tills", DAY, entries, (), sum(one.rows_loaded for one in entries), 0, 0, 0.0, ())


def judged(
    raw: RawDay, senders: SenderReport = NOBODY, trailing: tuple[int, ...] = (), *, is_over: bool = True
) -> Mapping[str, Verdict]:
    """Verdicts by check."""
    return {one.check.name: one for one in checks.judge_raw(tills(), raw, senders, trailing, is_over=is_over)}


def test_types_that_nobody_declared_are_named() -> None:
    """Only the dataset that takes the rest of its stream is asked; a warning, because nothing is lost."""
    verdicts = {
        one.check.name: one
        for one in checks.judge_raw(
            tills(), raw_day(entry("a")), None, (), is_over=True, unknown_types={"price_override": 7, "": 2}
        )
    }
    known = verdicts["known_types"]
    assert not known.passed
    assert known.check.severity == "warn"
    assert "9 records are of types that no dataset takes: price_override (7), no type at all (2)" in known.story
    assert "known_types" not in judged(raw_day(entry("a")))


def table_day(**changes: object) -> TableDay:
    """A processed day that is in order."""
    made = TableDay("processed.tills", DAY, 90, 1000, 1.0, True, Balance(100, 90, 6, 4), {"units: at most 9": 4})
    return replace(made, **changes)  # type: ignore[arg-type]


def processed(day: TableDay) -> Mapping[str, Verdict]:
    """Verdicts by check."""
    return {one.check.name: one for one in checks.judge_processed(tills(), day)}


def report(rows: int, inputs: Mapping[str, int | None], **changes: object) -> Mapping[str, Verdict]:
    """Verdicts by check."""
    made = TableDay("reports.by_shop", DAY, rows, 10, 1.0, True)
    day = replace(made, **changes)  # type: ignore[arg-type]
    return {one.check.name: one for one in checks.judge_sql(by_shop(), day, inputs)}


def records(verdict: Verdict, name: str) -> list[Mapping[str, object]]:
    """A table of examples."""
    found = verdict.details[name]
    assert isinstance(found, dg.TableMetadataValue)
    return [record.data for record in found.records]


def test_a_days_objects_in_order_pass_everything() -> None:
    """Objects that were read whole, with the declared columns, by everybody expected, pass every check."""
    verdicts = judged(raw_day(entry("a"), entry("b")), sender_report(("A", "B"), ("A", "B")), (19, 20, 21))
    assert [one.story for one in verdicts.values() if not one.passed] == []


def test_rejected_objects_are_named_with_their_reasons() -> None:
    """The story names the first objects and counts the others; the table holds 20 at most, with sender and reason."""
    broken = [entry(f"o{n:02}", state="rejected", reason=f"reason {n}", sender=f"S{n}") for n in range(30)]
    verdict = judged(raw_day(*broken, entry("good")))["no_rejected_objects"]
    assert "30 of 31 objects" in verdict.story
    assert "o00, o01, o02, o03, o04 and 25 more" in verdict.story
    assert len(records(verdict, "examples")) == 20
    assert records(verdict, "examples")[0] == {"object": "o00", "sender": "S0", "bytes": 100, "reason": "reason 0"}
    assert not verdict.blocks


def test_missing_senders_are_named_when_the_day_is_over() -> None:
    """Who hasn't sent is named, and whether something of his was rejected; while the day lasts, he is only awaited."""
    senders = sender_report(("A", "B", "C"), ("A",), ("B",))
    verdict = judged(raw_day(entry("a")), senders)["all_senders_reported"]
    assert not verdict.passed
    assert "2 of 3 senders are missing: B, C" in verdict.story
    assert records(verdict, "missing_senders") == [
        {"sender": "B", "what came": "only rejected objects", "cutoff": "2024-10-21 00:00:00+00:00"},
        {"sender": "C", "what came": "nothing", "cutoff": "2024-10-21 00:00:00+00:00"},
    ]
    early = sender_report(("A", "B", "C"), ("A",), ("B",), is_over=False)
    awaited = judged(raw_day(entry("a")), early)["all_senders_reported"]
    assert awaited.passed
    assert "still to come" in awaited.story


def test_senders_who_are_late_empty_twice_or_unexpected_are_named() -> None:
    """All is there, and yet somebody should look: each is named under what he did."""
    others: dict[str, Status] = {"A": "late", "B": "empty", "C": "twice", "D": "unexpected", "E": "late"}
    verdicts = judged(raw_day(entry("a")), sender_report(("A", "B", "C", "E"), "ABCDE", others=others))
    assert verdicts["all_senders_reported"].passed
    verdict = verdicts["senders_in_order"]
    assert not verdict.passed
    assert verdict.story == "1 empty: B; 2 late: A, E; 1 twice: C; 1 unexpected: D"
    assert [row["sender"] for row in records(verdict, "senders")] == ["A", "B", "C", "D", "E"]


def test_without_a_roster_nobody_is_missing() -> None:
    """An empty roster passes, and says so."""
    verdict = judged(raw_day(entry("a")), sender_report(()))["all_senders_reported"]
    assert verdict.passed
    assert "isn't loaded" in verdict.story


def test_drifted_columns_are_named_with_their_objects() -> None:
    """Unknown and missing columns are named, and the objects that have or lack them."""
    verdict = judged(raw_day(entry("a", unknown_columns=("tip",)), entry("b", missing_columns=("units",))))[
        "schema_drift"
    ]
    assert not verdict.passed
    for name in ("tip", "units", "a", "b"):
        assert name in verdict.story
    assert records(verdict, "examples")[1] == {
        "object": "b",
        "unknown columns": "",
        "missing columns": "units",
        "departures": "",
    }


def drift(**changes: object) -> DriftEvent:
    """A column that came with an object."""
    moment = datetime(2024, 10, 10, 6, tzinfo=UTC)
    event = DriftEvent(
        "tills",
        "new",
        "tip",
        "",
        "a",
        DAY,
        moment,
        "a",
        None,
        None,
        3,
        30,
        2,
        "2.50",
        "",
        'Column("tip", decimal(12, 2), "…")',
    )
    return replace(event, **changes)  # type: ignore[arg-type]


def test_drift_is_told_with_its_beginning_and_with_what_adopts_it() -> None:
    """The column, since when, in how many objects, an example, and the line to paste; what the declaration ignores isn't told."""
    raw = replace(raw_day(entry("a", unknown_columns=("tip",))), new_keys=("a",))
    (verdict,) = [
        one
        for one in checks.judge_raw(tills(), raw, NOBODY, (), is_over=True, drift=[drift()])
        if one.check.name == "schema_drift"
    ]
    assert not verdict.passed
    assert (
        "Column 'tip' is new since a, 2024-10-10 06:00 UTC, in 3 objects with 30 rows of 2 senders; as in '2.50'"
        in verdict.story
    )
    assert 'To adopt it, declare Column("tip", decimal(12, 2), "…")' in verdict.story
    assert records(verdict, "events")[0]["to adopt it"] == 'Column("tip", decimal(12, 2), "…")'
    assert checks.TOLD_BEFORE not in verdict.details


def test_drift_that_began_before_is_shown_and_not_told_again() -> None:
    """The check of the next day fails too; whoever was told yesterday isn't told again, unless something else came."""
    before = drift(began_object="z", began_on=date(2024, 10, 9))
    raw = replace(raw_day(entry("a", unknown_columns=("tip",))), new_keys=("a",))

    def is_told(events: list[DriftEvent], raw: RawDay) -> bool:
        verdicts = checks.judge_raw(tills(), raw, NOBODY, (), is_over=True, drift=events)
        (verdict,) = [one for one in verdicts if one.check.name == "schema_drift"]
        assert not verdict.passed
        return checks.TOLD_BEFORE not in verdict.details

    assert not is_told([before], raw)
    assert is_told([before, drift(column="other")], raw)
    assert not is_told([drift()], replace(raw, new_keys=()))
    departed = replace(
        raw_day(entry("a", unknown_columns=("tip",), departures=("another delimiter",))), new_keys=("a",)
    )
    assert is_told([before], departed)


def test_an_object_that_waits_for_its_marker_is_named() -> None:
    """While the day goes on it may still come; afterwards somebody has forgotten it."""
    raw = replace(raw_day(entry("a")), unmarked=("b.csv",))
    assert judged(raw, is_over=False)["no_rejected_objects"].passed
    verdict = judged(raw, is_over=True)["no_rejected_objects"]
    assert not verdict.passed
    assert "1 objects wait for their marker or manifest: b.csv" in verdict.story


def test_a_dialect_that_departs_is_told_with_its_object() -> None:
    """What differs is named, though the object was read."""
    verdict = judged(raw_day(entry("a", departures=("delimiter ';', where ',' is recorded",))))["schema_drift"]
    assert not verdict.passed
    assert "delimiter ';', where ',' is recorded" in verdict.story
    assert records(verdict, "examples")[0]["object"] == "a"


@pytest.mark.parametrize(
    ("rows", "trailing", "passed"),
    [
        (100, (100, 100, 100), True),
        (51, (100, 100, 100), True),
        (49, (100, 100, 100), False),
        (151, (100, 100, 100), False),
        (0, (100, 100, 100), False),
        (0, (0, 0, 0), True),
        (5, (0, 0, 0), False),
        (1, (100, 100), True),
        (100, (1, 100, 100, 100, 9999), True),
    ],
)
def test_volume_is_held_against_the_median_of_the_trailing_days(
    rows: int, trailing: tuple[int, ...], passed: bool
) -> None:
    """More than 50 % off the median warns; fewer than three days to compare with, or outliers among them, don't."""
    raw = replace(raw_day(), rows=rows)
    assert judged(raw, trailing=trailing)["volume"].passed is passed
    assert judged(raw, trailing=trailing, is_over=False)["volume"].passed


def test_a_ledger_entry_out_of_balance_blocks() -> None:
    """Rows that were read and are neither loaded nor in quarantine fail a blocking check, by object."""
    verdict = judged(raw_day(entry("a"), entry("b", rows_loaded=8, rows_quarantined=1)))["ledger_balance"]
    assert verdict.blocks
    assert records(verdict, "examples") == [{"object": "b", "read": 10, "loaded": 8, "quarantined": 1}]


def test_a_balance_that_does_not_hold_blocks() -> None:
    """A row that is neither processed nor superseded nor in quarantine fails a blocking check, with the numbers."""
    verdict = processed(table_day(balance=Balance(100, 90, 6, 3)))["row_balance"]
    assert verdict.blocks
    assert verdict.details["rows_missing"].value == 1
    assert processed(table_day())["row_balance"].passed
    assert processed(table_day(balance=None))["row_balance"].blocks


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-3, 3))
@settings(max_examples=50)
def test_the_balance_check_is_arithmetic(kept: int, superseded: int, aside: int, lost: int) -> None:
    """Whatever the numbers are, the check passes exactly when they add up."""
    balance = Balance(kept + superseded + aside + lost, kept, superseded, aside)
    assert processed(table_day(balance=balance))["row_balance"].passed is (lost == 0)


def test_too_many_quarantined_rows_fail_without_blocking() -> None:
    """Above the declared share the check fails as an error that blocks nothing, and names the most frequent reason."""
    fine = processed(table_day())["quarantine_share"]
    assert fine.passed
    assert "4 of 100 rows (4.00 %)" in fine.story
    verdict = processed(table_day(balance=Balance(100, 84, 6, 10), reasons={"a": 2, "b": 8}))["quarantine_share"]
    assert not verdict.passed
    assert not verdict.blocks
    assert "most often: b (8)" in verdict.story
    assert "quarantine list --dataset" in verdict.story


def test_declared_checks_keep_their_severity_and_blocking() -> None:
    """A declared check that fails counts its rows and shows the query that finds them; it blocks when it is declared so."""
    verdicts = processed(table_day(failed_checks={"units_make_sense": 2, "no_future_sales": 1}))
    assert not verdicts["units_make_sense"].passed
    assert not verdicts["units_make_sense"].blocks
    assert verdicts["no_future_sales"].blocks
    assert "2 of 90 rows" in verdicts["units_make_sense"].story
    assert "where not (units < 9)" in str(verdicts["units_make_sense"].details["look"].value)
    event = checks.evaluation("processed.tills", str(DAY), verdicts["units_make_sense"])
    assert (event.severity, event.blocking, event.partition) == (dg.AssetCheckSeverity.WARN, False, str(DAY))


def test_a_report_may_be_empty_only_when_its_inputs_are() -> None:
    """No rows warns when all it reads has rows; not when one of them has none, or nothing is known of them."""
    assert not report(0, {"processed.tills": 5, "processed.shops": 2})["not_empty"].passed
    assert report(0, {"processed.tills": 0, "processed.shops": 2})["not_empty"].passed
    assert report(0, {"processed.tills": None})["not_empty"].passed
    assert report(1, {"processed.tills": 5})["not_empty"].passed


def test_a_reports_key_is_checked() -> None:
    """Two rows with the same declared key fail a blocking check."""
    assert report(2, {}, failed_checks={"primary_key": 1})["primary_key"].blocks
    assert report(2, {})["primary_key"].passed


def test_blocking_failures_are_known_without_dagster() -> None:
    """What a computed day is blocked by is told from its own results, whichever run computed it."""
    declared = checks.processed_checks(tills())
    assert checks.blocking_failures(declared, table_day(failed_checks={"units_make_sense": 2})) == []
    assert checks.blocking_failures(declared, table_day(failed_checks={"no_future_sales": 1})) == ["no_future_sales"]
    assert checks.blocking_failures(declared, table_day(balance=Balance(2, 1, 0, 0))) == ["row_balance"]
