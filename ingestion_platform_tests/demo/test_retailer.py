"""The generator: the same plan gives the same bytes, as declared; each trouble really is in them, and in nothing else."""

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest

from ingestion_platform.dataset import Datasets
from ingestion_platform.demo import Incident, Outcome, Plan, Story, Trouble, files, generate, tell
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.producer import FolderProducer
from ingestion_platform.demo.retailer import TOO_LATE_DAYS
from ingestion_platform.errors import DeclarationError
from ingestion_platform_tests.demo.conftest import HEALTHY, PLAN


def landed(story: Story, step: int) -> dict[str, bytes]:
    """Key → content of a step."""
    return {arrival.key: arrival.content for arrival in story.steps[step].objects}


def incidents(story: Story, trouble: Trouble) -> list[Incident]:
    """What a trouble did."""
    return [incident for incident in story.incidents if incident.trouble is trouble]


def with_only(*troubles: Trouble) -> Plan:
    """The plan with these troubles and no others."""
    return replace(PLAN, troubles=frozenset(troubles))


def rows_of(content: bytes, key: str = "") -> list[list[str]]:
    """The cells of a sales file, header included."""
    text = (gzip.decompress(content) if key.endswith(".gz") else content).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="")))


HEALTHY_OBJECTS = landed(tell(HEALTHY, has_sources=False), 0)
STORY = tell(PLAN, has_sources=False)
FIRST, LATER = landed(STORY, 0), landed(STORY, 1)


def test_equal_plans_give_equal_bytes() -> None:
    """Telling a plan again gives the same objects in the same order, Parquet and gzip included."""
    again = tell(replace(PLAN), has_sources=False)
    for step, other in zip(STORY.steps, again.steps, strict=True):
        assert list(step.objects) == list(other.objects)
    assert again.incidents == STORY.incidents


def test_another_seed_gives_other_bytes() -> None:
    """The seed changes every sales file."""
    other = landed(tell(replace(HEALTHY, seed=7)), 0)
    sales = [key for key in HEALTHY_OBJECTS if key.startswith("sales/")]
    assert all(other[key] != HEALTHY_OBJECTS[key] for key in sales)


def test_a_store_and_day_can_be_made_alone() -> None:
    """A sales file doesn't depend on which others were made before it."""
    business = Business(HEALTHY)
    store, day = business.stores[6], HEALTHY.dates[4]
    content = files.sales_bytes(store, map(files.sales_row, business.lines(store, day)))
    assert content == HEALTHY_OBJECTS[files.sales_key(store, day)]


def test_more_days_do_not_change_the_ones_before() -> None:
    """A longer plan begins with the objects of the shorter one."""
    longer = landed(tell(replace(HEALTHY, days=8)), 0)
    assert {key: longer[key] for key in HEALTHY_OBJECTS} == HEALTHY_OBJECTS


def test_every_object_is_declared(declared: Datasets) -> None:
    """Each key fits one dataset, or those of one stream or endpoint, or is a fetch's note; every dataset and each day gets objects."""
    seen: Counter[str] = Counter()
    days: set[date] = set()
    with_sources = tell(PLAN)
    for key in [*landed(with_sources, 0), *landed(with_sources, 1)]:
        if re.fullmatch(r"apis/.*/done-1\.json", key):
            continue
        fits = [(name, found) for name, dataset in declared.items() if (found := dataset.source.match(key)) is not None]
        sources = [declared[name].source for name, _ in fits]
        shared = {getattr(source, "stream", None) or getattr(source, "endpoint", source) for source in sources}
        assert len(shared) == 1, key
        seen.update(name for name, _ in fits)
        days.add(fits[0][1][0])
    # Alerts are what a worker lands that follows the tills.
    assert set(seen) == set(declared) - {"alerts"}
    assert days == set(PLAN.dates)


def test_headers_are_the_declared_columns(declared: Datasets) -> None:
    """A healthy sales file has the declared columns in their order."""
    key = next(key for key in HEALTHY_OBJECTS if key.startswith("sales/"))
    assert rows_of(HEALTHY_OBJECTS[key], key)[0] == [column.field for column in declared["sales"].columns]


def test_senders_have_their_habits() -> None:
    """Among the sales are gzip, CRLF, a byte-order mark and quoted cells; among the manifests are namespaces."""
    sales = {key: content for key, content in HEALTHY_OBJECTS.items() if key.startswith("sales/")}
    assert any(key.endswith(".gz") for key in sales)
    plain = [content for key, content in sales.items() if not key.endswith(".gz")]
    assert any(b"\r\n" in content for content in plain)
    assert any(content.startswith(b"\xef\xbb\xbf") for content in plain)
    assert any(content.startswith(b'"') for content in plain)
    manifests = [
        ElementTree.fromstring(content) for key, content in HEALTHY_OBJECTS.items() if key.startswith("deliveries/")
    ]
    assert {root.tag for root in manifests} == {"manifest", "{urn:example:manifest:2}manifest"}


def test_payments_are_numbers_with_two_decimals() -> None:
    """Amounts stand in the JSON as they are spoken: 12.50, not 12.5 and not a text."""
    contents = [content.decode() for key, content in HEALTHY_OBJECTS.items() if key.startswith("mobile_payments/")]
    for line in "".join(contents).splitlines():
        payment = json.loads(line, parse_float=lambda text: text)
        for amount in (payment["payment"]["amount"], *(item["amount"] for item in payment["items"])):
            whole, cents = amount.split(".")
            assert whole.isdecimal()
            assert len(cents) == 2
        assert payment["paid_at"].endswith("+02:00")


def test_the_provider_disagrees_a_little() -> None:
    """Some stores' payments differ from their tills, most don't."""
    business = Business(Plan())
    days = list(business.days())
    differing = [
        one
        for one in days
        if sum(payment.amount_cents for payment in one.payments)
        != sum(line.amount_cents for line in one.lines if line.payment_method == "mobile")
    ]
    assert 0 < len(differing) < len(days) / 10


def test_counts_follow_from_deliveries_and_sales() -> None:
    """A count is the former one plus deliveries less sales, less a unit now and then, and never below zero."""
    former: dict[str, dict[str, int]] = {}
    lost = 0
    for one in Business(HEALTHY).days():
        if one.store.store_id in former:
            for product, units in former[one.store.store_id].items():
                assert one.count[product] >= 0
                gone = units - one.count[product]
                assert gone in (0, 1) or one.count[product] == 0
                lost += gone == 1
        after = Counter(one.count)
        for product, units, _ in one.delivery.lines if one.delivery else ():
            after[product] += units
        for line in one.lines:
            after[line.product_id] -= line.quantity
        former[one.store.store_id] = dict(after)
    assert lost > 0


def test_counts_are_parquet_with_a_time_zone() -> None:
    """Counts tell their moment with a time zone: UTC, and the local one at some stores."""
    zones = {
        pq.read_schema(io.BytesIO(content)).field("counted_at").type.tz
        for key, content in HEALTHY_OBJECTS.items()
        if key.startswith("stock_counts/")
    }
    assert zones == {UTC.tzname(None), "Africa/Johannesburg"}


def test_there_are_returns_and_none_by_phone() -> None:
    """Some quantities are negative; what was paid by phone isn't returned, since payments can't be negative."""
    lines = [line for one in Business(HEALTHY).days() for line in one.lines]
    assert any(line.quantity < 0 for line in lines)
    assert all(line.quantity > 0 for line in lines if line.payment_method == "mobile")
    assert all(line.amount_cents == line.unit_price_cents * line.quantity for line in lines)


def test_a_store_opens_on_the_fourth_day() -> None:
    """The last store isn't on the roster and sends nothing before it opens."""
    business = Business(HEALTHY)
    new = business.stores[-1]
    for index, day in enumerate(HEALTHY.dates):
        is_open = index >= 3
        assert (files.sales_key(new, day) in HEALTHY_OBJECTS) is is_open
        assert (new.store_id.encode() in HEALTHY_OBJECTS[files.stores_key(day)]) is is_open


def test_a_healthy_plan_has_one_step_and_no_incidents() -> None:
    """Nothing goes wrong that wasn't asked for."""
    story = tell(HEALTHY)
    assert story.incidents == ()
    assert [step.name for step in story.steps] == ["nightly"]


@pytest.mark.parametrize("trouble", list(Trouble))
def test_a_trouble_touches_only_the_objects_that_it_names(trouble: Trouble) -> None:
    """Switching one on changes the keys of its incidents and no others, and the same ones whether it comes alone or with all."""
    story = tell(with_only(trouble), has_sources=False)
    alone = landed(story, 0)
    named = {key for incident in story.incidents for key in incident.keys}
    changed = {key for key in alone.keys() | HEALTHY_OBJECTS.keys() if alone.get(key) != HEALTHY_OBJECTS.get(key)}
    assert changed == named
    assert tuple(incidents(STORY, trouble)) == story.incidents
    assert all(alone.get(key) == FIRST.get(key) for key in named)


@pytest.mark.parametrize("trouble", list(Trouble))
def test_what_arrives_afterwards_is_the_healthy_object(trouble: Trouble) -> None:
    """Late, rewritten and completed files end as the healthy plan has them."""
    story = tell(with_only(trouble), has_sources=False)
    later = landed(story, 1) if len(story.steps) > 1 else {}
    expected = {
        key
        for incident in story.incidents
        if incident.outcome in (Outcome.LOADED_LATER, Outcome.REPLACED, Outcome.REJECTED_THEN_LOADED)
        for key in incident.keys
    }
    assert set(later) == expected
    assert all(content == HEALTHY_OBJECTS[key] for key, content in later.items())


def test_a_missing_store_never_sends() -> None:
    """The key is in neither step."""
    (incident,) = incidents(STORY, Trouble.MISSING_STORE)
    assert incident.outcome is Outcome.MISSING
    assert incident.keys[0] in HEALTHY_OBJECTS
    assert incident.keys[0] not in FIRST.keys() | LATER.keys()


def test_a_late_file_is_absent_at_first() -> None:
    """The key is in the second step alone, under the day it belongs to."""
    (incident,) = incidents(STORY, Trouble.LATE_FILE)
    assert incident.keys[0] not in FIRST
    assert f"{incident.day:%Y/%m/%d}" in incident.keys[0]
    assert incident.keys[0] in LATER


def test_a_rewritten_file_first_has_wrong_amounts() -> None:
    """The first version differs from the second in a few amounts and nothing else."""
    (incident,) = incidents(STORY, Trouble.REWRITTEN_FILE)
    before, after = rows_of(FIRST[incident.keys[0]]), rows_of(LATER[incident.keys[0]])
    differing = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert len(differing) == 3
    assert all(one[:6] == other[:6] and one[6] != other[6] and one[7:] == other[7:] for one, other in differing)


def test_the_same_bytes_stand_under_two_names() -> None:
    """The copy is of the same day and equal to the byte."""
    (incident,) = incidents(STORY, Trouble.SAME_BYTES_TWICE)
    assert incident.duplicate_of is not None
    assert FIRST[incident.keys[0]] == FIRST[incident.duplicate_of]
    assert incident.keys[0].rsplit("/", 1)[0] == incident.duplicate_of.rsplit("/", 1)[0]


def test_a_half_written_file_is_cut_inside_a_row() -> None:
    """What is there is a beginning of the whole file that doesn't end with a line; a gzip is cut inside the stream."""
    found = incidents(STORY, Trouble.HALF_WRITTEN)
    assert [incident.outcome for incident in found] == [
        Outcome.REJECTED,
        Outcome.REJECTED_THEN_LOADED,
        Outcome.REJECTED_THEN_LOADED,
    ]
    for incident in found:
        (key,) = incident.keys
        half, whole = FIRST[key], HEALTHY_OBJECTS[key]
        assert whole.startswith(half)
        assert len(half) < len(whole)
        if key.endswith(".gz"):
            with pytest.raises(EOFError):
                gzip.decompress(half)
        else:
            assert not half.endswith(b"\n")
            assert whole[len(half) :][:1] not in (b"\r", b"\n")


def test_bad_rows_stand_where_the_incident_says(declared: Datasets) -> None:
    """The named rows aren't in the healthy file, break every kind of rule, and without them and the resent rows it is the healthy file."""
    quarantined, superseded = incidents(STORY, Trouble.BAD_ROWS)
    (key,) = quarantined.keys
    header, *rows = rows_of(FIRST[key])
    healthy = rows_of(HEALTHY_OBJECTS[key])
    left = [row for number, row in enumerate(rows, 1) if number not in quarantined.rows]
    assert [header, *left[:-2]] == healthy
    assert left[-2] == healthy[-1]
    assert left[-1][0] == healthy[1][0]
    assert left[-1][2] > healthy[1][2]
    assert [rows[number - 1] for number in sorted(superseded.rows)] == [healthy[1], healthy[-1]]
    broken = {rule.split(": ")[1] for rules in quarantined.rows.values() for rule in rules}
    assert broken >= {
        "missing",
        "not INTEGER",
        "above maximum",
        "below minimum",
        "not an allowed value",
        "can't be read",
    }
    assert {rule.split(": ")[0] for rules in quarantined.rows.values() for rule in rules} <= {
        "record",
        *(column.name for column in declared["sales"].columns),
    }
    assert any(len(rules) > 1 for rules in quarantined.rows.values())


def test_late_rows_are_of_the_days_before(declared: Datasets) -> None:
    """The rows stand after the healthy ones; all but one are of days within the allowed lateness."""
    moved, too_late = incidents(STORY, Trouble.LATE_ROWS)
    (key,) = moved.keys
    rows, healthy = rows_of(FIRST[key]), rows_of(HEALTHY_OBJECTS[key])
    assert rows[: len(healthy)] == healthy
    days = [date.fromisoformat(row[2][:10]) for row in rows[len(healthy) :]]
    allowed = declared["sales"].daily.allowed_lateness_days
    assert allowed < TOO_LATE_DAYS
    assert Counter(days[:-1]) == Counter(moved.event_days)
    assert all(timedelta(0) < moved.day - day <= timedelta(days=allowed) for day in days[:-1])
    assert too_late.day - days[-1] == timedelta(days=TOO_LATE_DAYS)
    assert set(too_late.rows) == {len(rows) - 1}


def test_an_extra_column_comes_with_the_fourth_day() -> None:
    """From then on every file of the store has it, before that none, and the other columns are untouched."""
    (incident,) = incidents(STORY, Trouble.EXTRA_COLUMN)
    assert incident.day == PLAN.dates[3]
    assert len(incident.keys) == PLAN.days - 3
    for key in incident.keys:
        rows = rows_of(FIRST[key])
        assert rows[0][-1] == incident.column == "till_version"
        assert [row[:-1] for row in rows] == rows_of(HEALTHY_OBJECTS[key])


def test_what_is_not_csv_is_a_picture_and_a_web_page() -> None:
    """The contents are a PNG's and an HTML page's, the names end in .csv."""
    picture, page = incidents(STORY, Trouble.NOT_CSV)
    assert FIRST[picture.keys[0]].startswith(b"\x89PNG\r\n\x1a\n")
    assert FIRST[page.keys[0]].startswith(b"<!DOCTYPE html>")
    assert all(incident.keys[0].endswith(".csv") for incident in (picture, page))


def test_a_plan_too_small_for_its_troubles_says_so() -> None:
    """Two troubles that would meet in one file, or a trouble without its days, are refused with the reason."""
    with pytest.raises(DeclarationError, match="two troubles meet"):
        tell(Plan(stores=1, days=1, troubles=frozenset({Trouble.MISSING_STORE, Trouble.LATE_FILE})))
    with pytest.raises(DeclarationError, match="'extra_column' needs 4 days, the plan has 3"):
        Plan(days=3, troubles=frozenset({Trouble.EXTRA_COLUMN}))
    with pytest.raises(DeclarationError, match="not 0 stores"):
        Plan(stores=0)


@pytest.mark.parametrize("trouble", list(Trouble))
def test_one_trouble_does_with_a_few_stores(trouble: Trouble) -> None:
    """Three stores and four days are enough for any single trouble."""
    story = tell(Plan(stores=3, days=4, lines_per_store_day=5, troubles=frozenset({trouble})))
    assert incidents(story, trouble)


def test_generate_lands_every_step(tmp_path: Path) -> None:
    """The folder ends with the first step's objects, those of the second over them; segments of the stream among them."""
    story = generate(FolderProducer(tmp_path), PLAN)
    assert folder(tmp_path.rglob("*"), tmp_path) == landed(story, 0) | landed(story, 1)


def folder(paths: Iterable[Path], root: Path) -> dict[str, bytes]:
    """Key → content of files."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()}
