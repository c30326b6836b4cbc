"""The contract's statement on rows of the running stream: planned once, and read by what is there by now."""

from datetime import timedelta

import pyarrow as pa
import pytest

from ingestion_platform.errors import DeclarationError
from ingestion_platform.rules import Rule
from ingestion_platform.rules.kinds import Signs, TooMany
from ingestion_platform.warehouse.live_rows import LiveRows
from ingestion_platform_tests.live.shop import DAY, ZONE, paid

SALT = "5a" * 64


def rule(where: str = "") -> Rule:
    """A rule on payments."""
    kind = Signs(signs=(TooMany(within=timedelta(minutes=1), more_than=0, weight=1.0),), from_score=0.5)
    return Rule(name="r", description="A rule.", on=paid, by=("customer",), where=where, kind=kind)


def rows(live: LiveRows, *ids: str, amount: str = "1.00") -> pa.Table:
    """Payments as text."""
    of_column = {"paid_at": "2024-10-01T10:00:00Z", "customer": "C1", "amount_zar": amount}
    columns: dict[str, list[str | None]] = {
        field.name: [of_column.get(field.name) for _ in ids] for field in live.fields
    }
    columns["id"] = list(ids)
    texts = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    extra = pa.array([None for _ in ids], pa.string())
    return pa.table({**texts, "_extra": extra, "_row": pa.array(range(1, len(ids) + 1), pa.int64())})


def test_a_statement_reads_the_rows_that_there_are() -> None:
    """Again and again, other ones and other days, and the salt makes the same hashes."""
    live = LiveRows(paid, [rule()], ZONE, SALT)
    other = LiveRows(paid, [rule()], ZONE, "another salt")
    first = live.events(rows(live, "P1", "P2"), DAY, [(1,), (2,)])
    second = live.events(rows(live, "P3"), DAY, [(3,)])
    late = live.events(rows(live, "P4"), DAY + timedelta(days=1), [(4,)])
    third = live.events(rows(live, "P5", amount="-1"), DAY, [(5,)])
    assert [event.key for event in (*first.events, *second.events, *late.events)] == ["P1", "P2", "P3", "P4"]
    assert (third.events, third.broken) == ([], 1)
    assert len({event.customer for event in (*first.events, *second.events)}) == 1
    assert other.events(rows(other, "P1"), DAY, [(1,)]).events[0].customer != first.events[0].customer
    for one in (live, other):
        one.close()


def test_more_days_than_are_kept_are_planned_anew() -> None:
    """Late events come for many days."""
    live = LiveRows(paid, [rule()], ZONE, SALT)
    for number in range(30):
        day = DAY + timedelta(days=number % 11)
        judged = live.events(rows(live, f"P{number}"), day, [(number,)])
        assert len(judged.events) == (1 if number % 11 <= 2 else 0)
    live.close()


def test_a_condition_that_fails_says_so_without_the_salt() -> None:
    """What the engine tells of a statement that fails isn't passed on."""
    live = LiveRows(paid, [rule(where="id[2:]::integer > 5")], ZONE, SALT)
    with pytest.raises(DeclarationError, match=r"rules on dataset 'paid' fail on an event: .*try_cast") as error:
        live.events(rows(live, "PX"), DAY, [(1,)])
    assert SALT[:8] not in f"{error.value!r}{error.value}{error.value.__cause__}{error.value.__context__}"
    assert "LINE 1" not in str(error.value)
    assert len(live.events(rows(live, "P9"), DAY, [(1,)]).events) == 1
    live.close()
