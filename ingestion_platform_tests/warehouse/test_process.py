"""Raw to processed: the contract held row by row, and every row accounted for."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.errors import SettingsError
from ingestion_platform.format import Csv
from ingestion_platform.senders import Senders
from ingestion_platform.table import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    JSON,
    TIMESTAMP,
    VARCHAR,
    Check,
    Column,
    DataType,
    Mask,
    decimal,
)
from ingestion_platform_tests.warehouse.building import BUSINESS, DAY, HEADER, SHOPS, TILLS, Bench, line

A = "tills/2024-10-01/a.csv"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A warehouse whose shops are known."""
    bench = Bench(tmp_path)
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    return bench


def reasons(bench: Bench) -> dict[int, list[str]]:
    """Row number → what it is in quarantine for."""
    return {int(str(row)): list(rules) for row, rules in bench.rows("platform.quarantine", "_row", "rules")}  # type: ignore[call-overload]


def test_a_good_row_is_typed(bench: Bench) -> None:
    """Money is decimal, moments are UTC, and a personal column shows its hash."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    done = bench.process()
    assert done.rows == 1
    assert bench.rows(
        "processed.tills", "id", "at", "units", "price_zar", "card", "_day", "_landed_on", "_object", "_row"
    ) == [("1", datetime(2024, 10, 1, 8), 1, Decimal("2.50"), sha256(b"saltc").hexdigest(), DAY, DAY, A, 1)]


def test_every_reason_of_a_row_is_told(bench: Bench) -> None:
    """A row that breaks three rules has three reasons, and its record as it was sent."""
    bench.put(A, HEADER + line("", shop="zz", units="many") + line("2"))
    bench.load()
    done = bench.process()
    assert reasons(bench) == {1: ["id: missing", "shop: not in shops.shop", "units: not INTEGER"]}
    assert done.reasons == {"id: missing": 1, "shop: not in shops.shop": 1, "units: not INTEGER": 1}
    ((record, texts),) = bench.rows("platform.quarantine", "record", "reasons")
    assert '"units":"many"' in str(record)
    assert "units: 'many' is not exactly of type INTEGER" in texts  # type: ignore[operator]
    assert str(done.balance) == "2 read = 1 processed + 0 duplicates + 1 quarantined"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (BIGINT, ["0", "-12", "+7", "007", "9223372036854775807"], ["1.0", "1.7", "1e3", " 1", "1 ", "", "9223372036854775808", "x"]),
        (decimal(8, 2), ["2.5", "2.50", "2.500", "-0.01", ".5", "3.", "123456.78"], ["2.505", "1e2", "1234567.00", " 2", "NaN", "2,5"]),
        (DOUBLE, ["1", "1.5", "-1e-3", ".5"], ["nan", "inf", " 1", "1,5", "1e999"]),
        (BOOLEAN, ["true", "False", "yes", "N", "1", "0"], ["2", "on", "oui"]),
        (DATE, ["2024-02-29"], ["2023-02-29", "2024-2-9", "2024/02/09", "29-02-2024", "2024-02-29 10:00"]),
        (TIMESTAMP, ["2024-10-01 10:00:00", "2024-10-01T10:00:00.123456+02:00", "2024-10-01T08:00Z"],
            ["2024-10-01", "10:00", "2024-13-01 10:00:00", " 2024-10-01 10:00:00"]),
        (JSON, ["{}", "[1]", '"x"'], ["{", "x"]),
    ],
)  # fmt: skip
def test_a_value_counts_only_when_its_text_says_exactly_that(
    tmp_path: Path, kind: DataType, good: list[str], bad: list[str]
) -> None:
    """Nothing is rounded, trimmed or guessed."""
    things = Dataset(
        name="things",
        description="One row per thing.",
        source=LandedFiles("things/%Y-%m-%d.csv", Csv(delimiter="|", quote="~")),
        columns=(Column("at", TIMESTAMP, "When."), Column("value", kind, "What.", null_values=())),
        event_time="at",
        daily=Daily(DAY),
    )
    bench = Bench(tmp_path, Datasets([things]))
    texts = [*good, *bad]
    bench.put("things/2024-10-01.csv", "at|value\n" + "".join(f"2024-10-01 10:00:00|{text}\n" for text in texts))
    bench.load("things")
    bench.process("things")
    kept = {texts[int(str(row[0])) - 1] for row in bench.rows("processed.things", "_row")}
    assert kept == set(good)
    assert bench.warehouse.table_day("processed.things", DAY).balance.holds  # type: ignore[union-attr]


def test_a_moment_without_an_offset_is_in_the_datasets_time_zone(tmp_path: Path) -> None:
    """Ten o'clock in London in winter is ten o'clock UTC, whatever the business day's zone is."""
    bench = Bench(tmp_path, Datasets([SHOPS, replace(TILLS, time_zone="Europe/London")]))
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    bench.put(
        "tills/2024-12-01/a.csv",
        HEADER + line("1", at="2024-12-01 10:00:00") + line("2", at="2024-12-01T10:00:00+05:00"),
    )
    day = date(2024, 12, 1)
    bench.load(day=day)
    bench.process(day=day)
    assert bench.rows("processed.tills", "at") == [(datetime(2024, 12, 1, 5),), (datetime(2024, 12, 1, 10),)]


def test_a_late_row_goes_to_the_day_it_happened(bench: Bench) -> None:
    """It is added to that day's rows when the day is computed again; the days in between have nothing of it."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    bench.process()
    bench.put(
        "tills/2024-10-03/a.csv", HEADER + line("2", at="2024-10-01 11:00:00") + line("3", at="2024-10-03 11:00:00")
    )
    bench.load(day=date(2024, 10, 3))
    assert bench.warehouse.stale_days("processed.tills") == [DAY, date(2024, 10, 3)]
    assert bench.process().rows == 2
    assert bench.process(day=date(2024, 10, 3)).rows == 1
    assert bench.warehouse.stale_days("processed.tills") == []
    assert bench.rows("processed.tills", "id", "_day", "_landed_on") == [
        ("1", DAY, DAY),
        ("2", DAY, date(2024, 10, 3)),
        ("3", date(2024, 10, 3), date(2024, 10, 3)),
    ]


def test_a_row_later_than_allowed_is_quarantined_on_the_day_it_came(bench: Bench) -> None:
    """Three days late with two allowed; and a row from the future."""
    day = date(2024, 10, 4)
    bench.put(
        "tills/2024-10-04/a.csv",
        HEADER + line("1") + line("2", at="2024-10-05 00:00:00") + line("3", at="2024-10-04 23:59:59"),
    )
    bench.load(day=day)
    done = bench.process(day=day)
    assert done.reasons == {"at: after its object's day": 1, "at: too late": 1}
    assert str(done.balance) == "3 read = 1 processed + 0 duplicates + 2 quarantined"


def test_one_row_stands_for_a_key(bench: Bench) -> None:
    """The last by event time; at the same moment the one that landed last."""
    bench.put(
        A,
        HEADER
        + line("1", at="2024-10-01 12:00:00", units="1")
        + line("1", at="2024-10-01 11:00:00", units="2")
        + line("2", units="3")
        + line("2", units="4"),
    )
    bench.load()
    done = bench.process()
    assert bench.rows("processed.tills", "id", "units") == [("1", 1), ("2", 4)]
    assert str(done.balance) == "4 read = 2 processed + 2 duplicates + 0 quarantined"


def test_a_broken_row_does_not_supersede_a_good_one(bench: Bench) -> None:
    """A later row with the same key that breaks a rule goes to quarantine; the earlier one stands."""
    bench.put(A, HEADER + line("1", units="1") + line("1", at="2024-10-01 12:00:00", units="99"))
    bench.load()
    bench.process()
    assert bench.rows("processed.tills", "units") == [(1,)]


def test_losing_rows_can_be_quarantined(tmp_path: Path) -> None:
    """Where the declaration says that a key must not come twice, the losers are set aside."""
    bench = Bench(tmp_path, Datasets([SHOPS, replace(TILLS, duplicate_keys="quarantine")]))
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    bench.put(A, HEADER + line("1", units="1") + line("1", units="2") + line("x", units="oops"))
    bench.load()
    done = bench.process()
    assert str(done.balance) == "3 read = 1 processed + 0 duplicates + 2 quarantined"
    assert reasons(bench) == {1: ["primary key: superseded"], 3: ["units: not INTEGER"]}


def test_without_a_key_every_row_stands(tmp_path: Path) -> None:
    """Equal rows are real rows when nothing says what identifies one."""
    bench = Bench(tmp_path, Datasets([SHOPS, replace(TILLS, primary_key=())]))
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    bench.put(A, HEADER + line("1") + line("1"))
    bench.load()
    assert bench.process().rows == 2


def test_references_are_looked_up_as_of_the_day(bench: Bench) -> None:
    """A shop that opens on the third is not known on the first, and is on the third and after."""
    bench.put_shops("a", "new", day=date(2024, 10, 3))
    bench.load("shops", date(2024, 10, 3))
    bench.process("shops", date(2024, 10, 3))
    for day in (DAY, date(2024, 10, 3), date(2024, 10, 5)):
        bench.put(f"tills/{day}/new.csv", HEADER + line(str(day), shop="new", at=f"{day} 10:00:00"))
        bench.load(day=day)
        bench.process(day=day)
    assert bench.rows("processed.tills", "_day") == [(date(2024, 10, 3),), (date(2024, 10, 5),)]


def test_when_a_reference_changes_the_days_that_used_it_are_stale(bench: Bench) -> None:
    """Days before the change are not."""
    for day in (DAY, date(2024, 10, 4)):
        bench.put(f"tills/{day}/a.csv", HEADER + line(str(day), at=f"{day} 10:00:00"))
        bench.load(day=day)
        bench.process(day=day)
    bench.put_shops("a", day=date(2024, 10, 2))
    bench.load("shops", date(2024, 10, 2))
    bench.process("shops", date(2024, 10, 2))
    assert bench.warehouse.stale_days("processed.tills") == [date(2024, 10, 4)]


def test_a_later_snapshot_of_a_sender_replaces_the_former(tmp_path: Path) -> None:
    """Of a day's objects of one sender the last by key counts; the rows of the others are superseded."""
    counts = Dataset(
        name="counts",
        description="One row per shop and product.",
        kind="snapshots",
        source=LandedFiles("counts/%Y-%m-%d/{shop}-{hour}.csv"),
        columns=(
            Column("shop", VARCHAR, "Where.", capture="shop"),
            Column("product", VARCHAR, "What.", required=True),
            Column("units", BIGINT, "How many."),
        ),
        primary_key=("shop", "product"),
        daily=Daily(DAY),
        senders=Senders("shops", "shop"),
    )
    bench = Bench(tmp_path, Datasets([SHOPS, counts]))
    bench.put("counts/2024-10-01/a-06.csv", "product,units\nx,1\ny,1\n")
    bench.put("counts/2024-10-01/a-22.csv", "product,units\nx,7\n")
    bench.put("counts/2024-10-01/b-06.csv", "product,units\nx,1\ny,1\n")
    bench.load("counts")
    done = bench.process("counts")
    assert bench.rows("processed.counts", "shop", "product", "units") == [("a", "x", 7), ("b", "x", 1), ("b", "y", 1)]
    assert str(done.balance) == "5 read = 3 processed + 2 duplicates + 0 quarantined"


def test_masks(tmp_path: Path) -> None:
    """A hash, the last four characters, or nothing; reasons never show what is personal."""
    people = Dataset(
        name="people",
        description="One row per person.",
        source=LandedFiles("people/%Y-%m-%d.csv"),
        columns=(
            Column("at", TIMESTAMP, "When."),
            Column("phone", VARCHAR, "Number.", pii=Mask.LAST4),
            Column("mail", VARCHAR, "Address.", pii=Mask.REDACT),
            Column("age", BIGINT, "Years.", pii=Mask.HASH, minimum=18),
        ),
        event_time="at",
        daily=Daily(DAY),
    )
    bench = Bench(tmp_path, Datasets([people]))
    at = "2024-10-01 10:00:00"
    bench.put("people/2024-10-01.csv", f"at,phone,mail,age\n{at},0821234567,x@y,40\n{at},,,17\n{at},12,,\n")
    bench.load("people")
    bench.process("people")
    assert bench.rows("processed.people", "phone", "mail", "age") == [
        ("**", None, None),
        ("******4567", None, sha256(b"salt40").hexdigest()),
    ]
    ((texts,),) = bench.rows("platform.quarantine", "reasons")
    assert texts == ["age: the value is below 18"]


def test_without_a_salt_nothing_is_hashed(bench: Bench) -> None:
    """A missing salt fails with the variable's name; hashes without one could be guessed."""
    bench.put(A, HEADER + line("1"))
    bench.load()
    bare = Bench(bench.root, overrides={"pii_salt": None})
    with pytest.raises(SettingsError, match="INGESTION_PII_SALT"):
        bare.process()


def test_computing_again_changes_nothing(bench: Bench) -> None:
    """Unchanged inputs aren't computed again; forced, they give the same file, byte for byte."""
    bench.put(A, HEADER + "".join(line(str(number), units="oops" if number % 7 == 0 else "1") for number in range(100)))
    bench.load()
    first = bench.process()
    assert not bench.process().has_changed
    again = bench.process(force=True)
    assert again.has_changed
    assert again.content == first.content


def test_a_changed_rule_makes_every_day_stale_and_a_changed_doc_none(bench: Bench) -> None:
    """The declaration is one of the inputs, as far as rows depend on it."""
    bench.put(A, HEADER + line("1", units="5"))
    bench.load()
    bench.process()
    columns = tuple(replace(column, maximum=4) if column.name == "units" else column for column in TILLS.columns)
    stricter = Bench(bench.root, Datasets([SHOPS, replace(TILLS, columns=columns)]))
    assert stricter.warehouse.stale_days("processed.tills") == [DAY]
    documented = Bench(bench.root, Datasets([SHOPS, replace(TILLS, description="Told otherwise.")]))
    assert documented.warehouse.stale_days("processed.tills") == []


def test_declared_checks_count_rows_that_fail(tmp_path: Path) -> None:
    """NULL passes, as in SQL's own CHECK."""
    checked = replace(TILLS, checks=(Check("has_units", "units > 0"),))
    bench = Bench(tmp_path, Datasets([SHOPS, checked]))
    bench.put_shops()
    bench.load("shops")
    bench.process("shops")
    bench.put(A, HEADER + line("1") + line("2", units="0") + line("3", units=""))
    bench.load()
    assert bench.process().failed_checks == {"has_units": 1}


def test_senders_are_held_against_the_roster(bench: Bench) -> None:
    """Who is expected by the roster, who came, whose file was rejected."""
    bench.put(A, HEADER + line("1"))
    bench.put("tills/2024-10-01/b.csv", "not a till")
    bench.put("tills/2024-10-01/zz.csv", HEADER + line("2"))
    bench.load()
    report = bench.warehouse.senders(BUSINESS["tills"], DAY)
    assert (report.missing, report.of("unreadable"), report.unexpected) == (("b", "c"), ("b",), ("zz",))
