"""Reports that wait for senders: provisional, final, restated, over a clock that the test turns."""

import csv
import os
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random

import pytest

from ingestion_platform.dataset import Datasets
from ingestion_platform.errors import DeclarationError
from ingestion_platform.senders import Cutoff, senders_from
from ingestion_platform.warehouse import plan_text, upkeep
from ingestion_platform.warehouse.backfill import ask, backfill
from ingestion_platform.warehouse.derive import Deriver
from ingestion_platform.warehouse.plan import Plan, plan
from ingestion_platform_tests.warehouse.building import DAY, HEADER, SHOPS, TILLS, Bench, line

WAITED_FOR = replace(TILLS, senders=senders_from("shops", "shop", cutoff=Cutoff(at=time(2), grace_hours=24)))
BY_SHOP = """/*
description = "One row per shop."
primary_key = ["shop"]
[columns]
shop = "Which."
units = "Units."
*/
select shop, cast(sum(units) as bigint) as units from processed.tills where _day = $day group by shop
"""
TWO_DAYS = """/*
description = "One row per shop: of its day and the one before."
history_days = 1
[columns]
shop = "Which."
units = "Units."
*/
select shop, cast(sum(units) as bigint) as units from reports.by_shop where $day is not null group by shop
"""
REGARDLESS = TWO_DAYS.replace("history_days = 1", "waits_for_senders = false")


class Clock:
    """Stands where it was set."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        """The moment."""
        return self.moment


def at(hour: int, day: date = DAY) -> datetime:
    """An hour of a day, UTC; the business is two hours ahead."""
    return datetime.combine(day, time(), UTC) + timedelta(hours=hour)


class Shop(Bench):
    """A bench whose objects land by its clock."""

    def land(self, shop: str, moment: datetime, *records: str, day: date = DAY) -> None:
        """Put a shop's till lines there."""
        key = f"tills/{day}/{shop}.csv"
        self.put(key, HEADER + "".join(records))
        os.utime(self.landing_folder / key, ns=(int(moment.timestamp() * 1e9),) * 2)

    def settle(self) -> list[str]:
        """Load what is there and compute what is stale; the answer is which reports were."""
        for day in upkeep.landed_days(self.warehouse, self.datasets["tills"]):
            self.load("tills", day)
        for stale_day in self.warehouse.stale_days("processed.tills"):
            assert stale_day is not None
            self.process("tills", stale_day)
        done = []
        for key, table in self.warehouse.sql_tables.items():
            for stale in self.warehouse.stale_days(key):
                self.warehouse.derive(table, stale)
                done.append(f"{key} {stale}")
        return done

    def state(self, table: str = "reports.by_shop", day: date = DAY) -> str:
        """What a report's day is said to be."""
        found = self.warehouse.table_day(table, day)
        return found.state if found is not None else "none"

    def history(self, table: str = "reports.by_shop", day: date = DAY) -> list[tuple[int, str]]:
        """Its versions."""
        return [(one.number, one.state) for one in self.warehouse.versions.of(table, day)]


@pytest.fixture
def clock() -> Clock:
    """It is the evening of the day."""
    return Clock(at(20))


@pytest.fixture
def shop(tmp_path: Path, clock: Clock) -> Shop:
    """Two shops are expected."""
    sql = tmp_path / "sql" / "reports"
    sql.mkdir(parents=True)
    for name, text in (("by_shop", BY_SHOP), ("two_days", TWO_DAYS), ("regardless", REGARDLESS)):
        (sql / f"{name}.sql").write_text(text)
    bench = Shop(tmp_path, Datasets([SHOPS, WAITED_FOR]), sql=tmp_path / "sql", clock=clock)
    bench.put_shops("a", "b")
    bench.load("shops")
    bench.process("shops")
    return bench


def test_a_report_is_provisional_then_final_then_restated(shop: Shop, clock: Clock) -> None:
    """Until the last sender has sent; from then on; and when something comes after that."""
    shop.land("a", at(19), line("1"))
    shop.settle()
    assert shop.state() == "provisional"
    assert shop.warehouse.table_day("reports.by_shop", DAY).why.startswith("waits for tills 2024-10-01: b until")  # type: ignore[union-attr]
    shop.land("b", at(21), line("2", "b"))
    clock.moment = at(22)
    shop.settle()
    assert shop.state() == "final"
    clock.moment = at(30)
    assert shop.settle() == []
    shop.land("a", at(31), line("1"), line("3"))
    clock.moment = at(32)
    shop.settle()
    assert shop.state() == "restated"
    assert shop.history() == [(1, "provisional"), (2, "final"), (3, "restated")]
    assert shop.rows("reports.by_shop") == [("a", 2, "restated"), ("b", 1, "restated")]


def test_at_the_deadline_a_day_is_final_without_those_who_are_missing(shop: Shop, clock: Clock) -> None:
    """By the clock alone: the report is stale then, nothing is computed, and what comes later restates it."""
    shop.land("a", at(19), line("1"))
    shop.settle()
    former = shop.warehouse.ledger.partition("reports.by_shop", DAY)
    clock.moment = at(48) - timedelta(seconds=1)
    assert shop.settle() == []
    clock.moment = at(48)
    assert "reports.by_shop 2024-10-01" in shop.settle()
    assert shop.state() == "final"
    found = shop.warehouse.ledger.partition("reports.by_shop", DAY)
    assert former is not None
    assert found is not None
    assert (found.file_id, found.content) == (former.file_id, former.content)
    assert "without tills 2024-10-01: b" in shop.warehouse.table_day("reports.by_shop", DAY).why  # type: ignore[union-attr]
    shop.land("b", at(50), line("2", "b"))
    clock.moment = at(51)
    shop.settle()
    assert shop.state() == "restated"


def test_a_state_alone_makes_nothing_behind_it_stale(shop: Shop, clock: Clock) -> None:
    """Only rows travel down: a report that says nothing of its state isn't computed again when one that it reads becomes final."""
    shop.land("a", at(19), line("1"))
    shop.settle()
    clock.moment = at(48)
    assert shop.settle() == ["reports.by_shop 2024-10-01", "reports.two_days 2024-10-01"]
    assert shop.state("reports.regardless") == ""
    assert "_state" not in shop.warehouse.read("reports.regardless").column_names


def test_a_report_waits_for_all_days_that_it_is_made_of(shop: Shop, clock: Clock) -> None:
    """Through other reports too: the second day is complete, the first isn't."""
    second = DAY + timedelta(days=1)
    shop.land("a", at(19), line("1"))
    for number, name in enumerate("ab"):
        shop.land(name, at(20, second), line(f"2{number}", name, f"{second} 10:00:00"), day=second)
    clock.moment = at(21, second)
    shop.settle()
    assert (shop.state(day=second), shop.state("reports.two_days", second)) == ("final", "provisional")


def test_late_rows_in_a_later_days_file_restate_the_day_that_they_belong_to(shop: Shop, clock: Clock) -> None:
    """What counts is when rows of the day landed, in whichever object."""
    for name in "ab":
        shop.land(name, at(19), line(f"1{name}", name))
    shop.settle()
    assert shop.state() == "final"
    second = DAY + timedelta(days=1)
    shop.land("a", at(44), line("late"), line("next", at=f"{second} 10:00:00"), day=second)
    clock.moment = at(45)
    shop.settle()
    assert shop.state() == "restated"


def test_an_object_that_is_touched_restates_nothing(shop: Shop, clock: Clock) -> None:
    """Its content is what it was, and so is the moment at which it first was there, after a rebuild too."""
    for name in "ab":
        shop.land(name, at(19), line(f"1{name}", name))
    shop.settle()
    shop.land("a", at(70), line("1a", "a"))
    clock.moment = at(71)
    assert shop.settle() == []
    assert shop.state() == "final"
    rebuilt(shop)
    assert shop.state() == "final"


def test_a_correction_restates_the_report_after_a_rebuild_too(shop: Shop, clock: Clock) -> None:
    """What was overwritten is noted in the landing zone: before the deadline, nothing else could tell that the day had been final."""
    for name in "ab":
        shop.land(name, at(19), line(f"1{name}", name))
    shop.settle()
    shop.land("a", at(25), line("1a", "a", units="3"))
    clock.moment = at(26)
    shop.settle()
    assert shop.state() == "restated"
    rebuilt(shop)
    assert shop.state() == "restated"


def test_an_excused_sender_isnt_waited_for(shop: Shop, clock: Clock) -> None:
    """The day is final from the moment at which he was excused, unless that is withdrawn; a rebuild knows it all."""
    shop.land("a", at(19), line("1"))
    clock.moment = at(30)
    shop.settle()
    excuses, tills = shop.warehouse.excuses, shop.datasets["tills"]
    excuses.excuse(tills, ["b"], DAY, DAY, by="Nomsa", why="flood", at=at(29))
    assert "reports.by_shop 2024-10-01" in shop.settle()
    assert shop.state() == "final"
    assert shop.warehouse.table_day("reports.by_shop", DAY).final_at == at(29)  # type: ignore[union-attr]
    rebuilt(shop)
    assert shop.state() == "final"
    shop.warehouse.excuses.excuse(
        tills, ["b"], DAY, DAY, by="Nomsa", why="the road is dry", at=at(30), is_withdrawn=True
    )
    shop.settle()
    assert shop.state() == "provisional"


def test_published_files_say_what_they_are(shop: Shop, clock: Clock) -> None:
    """As CSV and in Parquet; and again when a process was killed before it came to that, without another version."""
    shop.land("a", at(19), line("1"))
    shop.settle()
    published = shop.settings.publish / "by_shop" / f"{DAY}.csv"
    with published.open() as lines:
        assert list(csv.DictReader(lines)) == [{"shop": "a", "units": "1", "_state": "provisional"}]
    clock.moment = at(48)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deriver, "_write_published", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.settle()
    assert "provisional" in published.read_text()
    shop.warehouse.derive(shop.warehouse.sql_tables["reports.by_shop"], DAY)
    assert published.read_text().splitlines()[1:] == ["a,1,final"]
    assert shop.history() == [(1, "provisional"), (2, "final")]


def test_a_killed_relabelling_leaves_the_former_state(shop: Shop, clock: Clock) -> None:
    """State and version are one transaction: both, or neither."""
    shop.land("a", at(19), line("1"))
    shop.settle()
    clock.moment = at(48)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shop.warehouse.versions, "note", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.settle()
    assert (shop.state(), shop.history()) == ("provisional", [(1, "provisional")])
    shop.settle()
    assert (shop.state(), shop.history()) == ("final", [(1, "provisional"), (2, "final")])


def test_a_changed_query_makes_a_version_that_is_no_restatement(shop: Shop, clock: Clock, tmp_path: Path) -> None:
    """Its rows are others, and no sender was late: the history says so."""
    for name in "ab":
        shop.land(name, at(19), line(f"1{name}", name))
    shop.settle()
    (tmp_path / "sql/reports/by_shop.sql").write_text(BY_SHOP.replace("sum(units)", "2 * sum(units)"))
    shop.warehouse.close()
    other = Shop(tmp_path, shop.datasets, sql=tmp_path / "sql", clock=clock)
    other.settle()
    assert other.history() == [(1, "final"), (2, "final")]
    assert "not by senders" in other.warehouse.versions.of("reports.by_shop", DAY)[-1].why


def test_a_column_of_that_name_is_refused(shop: Shop, tmp_path: Path) -> None:
    """The platform's own column isn't a report's."""
    (tmp_path / "sql/reports/by_shop.sql").write_text(BY_SHOP.replace("units", "_state").replace("sum(_state)", "0"))
    with pytest.raises(DeclarationError, match="a column is called _state"):
        Shop(tmp_path, shop.datasets, sql=tmp_path / "sql")


@pytest.mark.parametrize("seed", range(4))
def test_states_are_a_function_of_what_landed_when(shop: Shop, clock: Clock, seed: int) -> None:
    """However often one looks, in whatever order things come: in the end all is as a rebuild at that moment says, and never went back."""
    random = Random(seed)
    moment = at(12)
    days = [DAY + timedelta(days=number) for number in range(3)]
    for number in range(14):
        moment += timedelta(minutes=random.randrange(1, 600))
        clock.moment = moment
        day, name = random.choice(days), random.choice("ab")
        records = [line(f"{name}{day}{one}", name, f"{day} 09:00:00") for one in range(random.randrange(3))]
        if random.random() < 0.15:
            records = ["no till line at all\n", f"{number},"]
        if random.random() < 0.8:
            shop.land(name, moment, *records, day=day)
        if random.random() < 0.6:
            shop.settle()
    clock.moment = moment + timedelta(hours=random.choice((1, 30, 90)))
    shop.settle()
    for table in ("reports.by_shop", "reports.two_days"):
        for day in days:
            order = [("provisional", "final", "restated").index(state) for _, state in shop.history(table, day)]
            assert order == sorted(order)
    before = {table: shop.rows(table) for table in ("reports.by_shop", "reports.two_days", "platform.senders")}
    rebuilt(shop)
    assert {table: shop.rows(table) for table in before} == before


def rebuilt(shop: Shop) -> None:
    """Make the warehouse anew."""
    shop.warehouse.close()
    upkeep.rebuild(shop.open)
    shop.warehouse = shop.open()


def planned_and_done(shop: Shop) -> Plan:
    """A plan of everything, held against the backfill that is done at the same moment."""

    def states() -> dict[tuple[str, date | None], tuple[str, str]]:
        return {
            (key, day): (found.content, found.state)
            for key in shop.warehouse.sql_tables
            for day in shop.warehouse.days(key)
            if (found := shop.warehouse.table_day(key, day)) is not None
        }

    before = states()
    versions = shop.warehouse.versions.of()
    made = plan(shop.open(), ask(shop.open(), []))
    assert (states(), shop.warehouse.versions.of()) == (before, versions)
    backfill(shop.warehouse, ask(shop.warehouse, []))
    after = states()
    reports = [one for one in made.partitions if one.table in shop.warehouse.sql_tables]
    assert {(one.table, one.day): (one.content, one.state[1]) for one in reports} == {
        place: found for place, found in after.items() if found != before.get(place)
    }
    for one in reports:
        assert one.state[0] == before.get((one.table, one.day), ("", ""))[1]
        assert one.is_same == (one.content == before.get((one.table, one.day), ("", ""))[0])
    assert plan(shop.open(), ask(shop.open(), [])).does_nothing
    return made


def test_a_plan_judges_by_the_warehouses_clock_and_tells_a_state_from_rows(shop: Shop, clock: Clock) -> None:
    """Before the deadline nothing is to do; after it reports become final with the same rows; a late file changes rows and state."""
    shop.land("a", at(19), line("1"))
    assert {one.state for one in planned_and_done(shop).partitions if one.table == "reports.by_shop"} == {
        ("", "provisional")
    }
    clock.moment = at(48) - timedelta(seconds=1)
    assert planned_and_done(shop).does_nothing
    clock.moment = at(48)
    made = planned_and_done(shop)
    assert [(one.table, one.state, one.is_same, one.difference.rows) for one in made.partitions] == [
        ("reports.by_shop", ("provisional", "final"), True, 0),
        ("reports.two_days", ("provisional", "final"), True, 0),
    ]
    told = plan_text.as_text(made)
    assert (
        "restates 0 processed days and 0 partitions of reports and other derived tables, 2 reports become final;"
        in told
    )
    assert "reports.by_shop, 2024-10-01: 1 with the same rows under another state" in told
    assert "  2024-10-01: provisional → final: final since 2024-10-03 00:00 UTC, without tills 2024-10-01: b" in told
    shop.land("b", at(50), line("2", "b"))
    clock.moment = at(51)
    made = planned_and_done(shop)
    assert [(one.table, one.state, one.is_same, one.difference.added) for one in made.partitions] == [
        ("processed.tills", ("", ""), False, 1),
        ("reports.by_shop", ("final", "restated"), False, 1),
        ("reports.regardless", ("", ""), False, 1),
        ("reports.two_days", ("final", "restated"), False, 1),
    ]
    assert "2 reports become restated" in plan_text.headline(made)


def test_a_late_file_without_rows_moves_no_state(shop: Shop, clock: Clock) -> None:
    """The plan says what the backfill does: the empty file is loaded, and the report stays final."""
    for name in "ab":
        shop.land(name, at(19), line(f"1{name}", name))
    planned_and_done(shop)
    shop.land("c", at(50))
    clock.moment = at(51)
    made = planned_and_done(shop)
    assert not any(one.is_other_state for one in made.partitions)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_lands_when_a_plan_tells_states_as_the_backfill_makes_them(
    shop: Shop, clock: Clock, seed: int
) -> None:
    """Files of two shops and two days, in time and late, sent anew and touched; a plan and a backfill after each."""
    random = Random(seed)
    moment = at(12)
    for number in range(7):
        moment += timedelta(minutes=random.randrange(1, 900))
        clock.moment = moment
        day, name = DAY + timedelta(days=random.randrange(2)), random.choice("ab")
        records = [line(f"{name}{day}{one}", name, f"{day} 09:00:00") for one in range(random.randrange(3))]
        if random.random() < 0.7:
            shop.land(name, moment - timedelta(minutes=number), *records, day=day)
        planned_and_done(shop)
