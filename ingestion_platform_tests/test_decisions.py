"""
What people decide: one immutable object each, told from one that was cut, changed or never a decision.

Belongs here: the object, and putting and listing it in every landing zone. Doesn't: what follows from a decision.
"""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform import decisions
from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.decisions import Decision
from ingestion_platform.errors import DeclarationError, LandingError
from ingestion_platform.landing import LandingZone
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform.own_roots import (
    DEAD_LETTERS,
    DECISIONS,
    FORGOTTEN,
    LIVE,
    OWN_ROOTS,
    RECEIPTS,
    TOLD,
)
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse.decided import LandedDecisions
from ingestion_platform_tests.conftest import Producer

AT = datetime(2024, 10, 3, 8, 15, 0, 123456, tzinfo=UTC)


def decision(**changes: Any) -> Decision:
    """One that is right, with *changes*."""
    values: dict[str, Any] = {
        "kind": "discard",
        "dataset": "visits",
        "at": AT,
        "by": "Thandi M.",
        "why": "a test line\nof the till",
        "what": {"rows": [1, 2]},
    }
    return Decision(**(values | changes))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=50).filter(str.strip)
moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))


@given(
    moments, names, names, st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=3)
)
def test_a_decision_comes_back_as_it_was_written(at: datetime, by: str, why: str, what: dict[str, Any]) -> None:
    """Whatever the moment, the names and the details are; and its key is one that every landing zone takes."""
    one = decision(at=at, by=by, why=why, what=what)
    assert decisions.parse(one.key, one.content) == one
    assert one.key.startswith(decisions.folder("discard", "visits"))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "../discard"},
        {"kind": ""},
        {"dataset": "Visits"},
        {"dataset": "a/b"},
        {"at": AT.replace(tzinfo=None)},
        {"at": AT.astimezone(timezone(timedelta(hours=2)))},
        {"by": "  "},
        {"by": "x" * 201},
        {"by": "two\nlines"},
        {"why": ""},
        {"why": "\x1b[31mred"},
        {"why": "x" * 4001},
        {"what": [1]},
    ],
)
def test_what_is_no_decision_is_refused_at_once(changes: dict[str, Any]) -> None:
    """Without a name, a reason, a moment in UTC, or with a name that would leave its folder, nothing lands."""
    with pytest.raises(LandingError, match="no decision"):
        decision(**changes)


@pytest.mark.parametrize("what", [{"a": float("nan")}, {"a": object()}, {"a": "\ud800"}])
def test_details_that_are_no_json_are_refused(what: dict[str, Any]) -> None:
    """They are told before anything lands."""
    with pytest.raises(LandingError, match="can't be written as JSON"):
        _ = decision(what=what).content


def _hostile() -> list[tuple[str, bytes]]:
    good = decision()
    values = json.loads(good.content)

    def other(**changes: object) -> tuple[str, bytes]:
        content = json.dumps(values | changes).encode()
        return _as_if_ours(good.key, content), content

    return [
        (good.key, good.content[:-20]),
        (good.key, good.content.replace(b"Thandi", b"Mandla")),
        (good.key, b""),
        (f"{decisions.folder('discard', 'visits')}readme.txt", b"hello"),
        (f"{decisions.folder('discard', 'visits')}a/b.json", b"{}"),
        other(kind="redrive"),
        other(dataset="other"),
        other(at="2024-10-03T08:15:00"),
        other(at="tomorrow"),
        other(at=5),
        other(by=""),
        other(what=[]),
        other(more=1),
        other(what={"a": [[[0]] * 3]}, at="0001-01-01T00:00:00+14:00"),
        (_as_if_ours(good.key, b"[" * 100_000), b"[" * 100_000),
        (_as_if_ours(good.key, b'{"what": NaN}'), b'{"what": NaN}'),
        (_as_if_ours(good.key, b"\xff\xfe"), b"\xff\xfe"),
        (_as_if_ours(good.key, b"9" * 5000), b"9" * 5000),
    ]


def _as_if_ours(key: str, content: bytes) -> str:
    import hashlib

    return f"{key.rpartition('-')[0]}-{hashlib.sha256(content).hexdigest()[:16]}.json"


@pytest.mark.parametrize(("key", "content"), _hostile())
def test_what_was_cut_or_changed_or_forged_is_told_by_its_key(key: str, content: bytes) -> None:
    """It counts for nothing, and the message has the key and what to do."""
    with pytest.raises(LandingError, match="can't be read") as told:
        decisions.parse(key, content)
    assert key in told.value.what
    assert told.value.hint


@given(st.binary(max_size=200))
def test_any_bytes_are_a_decision_or_told(content: bytes) -> None:
    """Nothing but our own error leaves the reader."""
    with pytest.raises(LandingError):
        decisions.parse(_as_if_ours(decision().key, content), content)


def test_a_decision_lands_once(landing: LandingZone) -> None:
    """Putting it again changes nothing; others of its kind come in the order in which they were made."""
    landed = LandedDecisions(landing)
    second = decision(at=AT + timedelta(seconds=1), by="Mandla")
    keys = [landed.put(second), landed.put(decision()), landed.put(decision())]
    assert keys == [second.key, decision().key, decision().key]
    found = landed.list("discard", "visits")
    assert [one.decision for one in found.decisions] == [decision(), second]
    assert found.broken == ()
    assert landed.list("discard", "visits", known={second.key}).decisions == found.decisions[:1]
    assert landed.list("redrive", "visits").decisions == ()
    assert landed.list("discard", "visit").decisions == ()


def test_a_broken_decision_stops_no_other(landing: LandingZone, producer: Producer) -> None:
    """One that was cut is told with its key, and the others are there."""
    landed = LandedDecisions(landing)
    landed.put(decision())
    cut = decision(by="Mandla")
    producer.put(cut.key, cut.content[:-5])
    found = landed.list("discard", "visits")
    assert [one.decision for one in found.decisions] == [decision()]
    assert [one.key for one in found.broken] == [cut.key]
    assert "cut or changed" in found.broken[0].reason
    with pytest.raises(LandingError, match="is there already"):
        landed.put(cut)


def _dataset(template: str, lifecycle: Lifecycle | None = None) -> Dataset:
    return Dataset(
        name="visits",
        description="One row per visit.",
        kind="snapshots",
        source=LandedFiles(template),
        columns=(Column("visit_id", VARCHAR, "Its number."),),
        daily=Daily(date(2024, 10, 1)),
        lifecycle=lifecycle,
    )


@pytest.mark.parametrize("root", OWN_ROOTS)
@pytest.mark.parametrize(
    "rest",
    ["%Y/%m/%d/{shop}.csv", "discard/visits/%Y%m%dT{rest}"],
)
def test_no_dataset_lands_among_the_notes(root: str, rest: str) -> None:
    """A dataset under whose keys the platform writes notes of its own is refused at import."""
    with pytest.raises(DeclarationError, match=f"keeps under {root}"):
        Datasets([_dataset(f"{root}{rest}")])


@pytest.mark.parametrize(
    ("template", "own"),
    [
        ("{a}/{b}/{c}/%Y%m%dT{rest}", DECISIONS),
        ("f{a}/%Y%m%dT{stamp}/{name}.json", FORGOTTEN),
        ("t{a}/{b}/%Y/%m/%d/{stamp}Z-{digest}.json", TOLD),
        ("dead{a}/{b}/%Y/%m/%d/{name}.json", DEAD_LETTERS),
        ("l{a}/%Y/%m/%d/{name}.json", LIVE),
        ("r{a}/sales/%Y/%m/%d/{name}.json", RECEIPTS),
        ("{kind}/{sub}/sales/%Y%m%d{rest}.json", DECISIONS),
        ("{x}/%Y%m%d{id}/done.json", DECISIONS),
        ("{kind}s/%Y/%m/%d/{name}n", DECISIONS),
    ],
)
def test_no_dataset_may_take_a_note_for_a_file(template: str, own: str) -> None:
    """Neither is one whose keys have no beginning of their own, where one of the platform's could be one of them."""
    with pytest.raises(DeclarationError, match=f"keeps under {own}"):
        Datasets([_dataset(template)])


@pytest.mark.parametrize(
    "template", ["{region}/%Y/%m/%d/{shop}.csv", "s{region}/%Y/%m/%d/{shop}.json", "%Y/%m/%d/{shop}.json"]
)
def test_keys_that_can_be_no_notes_need_no_beginning_of_their_own(template: str) -> None:
    """By their first name or by their end."""
    Datasets([_dataset(template)])


def test_decisions_do_not_age_with_what_lands_beside_them() -> None:
    """A lifecycle of everything would take them into an archive."""
    template = "{region}/%Y/%m/%d/{shop}.csv"
    Datasets([_dataset(template)])
    with pytest.raises(DeclarationError, match="would age with it"):
        Datasets([_dataset(template, Lifecycle(cold_after_days=90))])
