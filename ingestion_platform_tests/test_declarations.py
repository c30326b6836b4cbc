"""
Every dataset as it is declared, and what a person is told who declares one wrongly.

Belongs here: rules that hold for all declarations at once. Doesn't: what loading or processing makes of them.
"""

import dataclasses
import re
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import ingestion_platform.datasets
from ingestion_platform.api import ApiPages
from ingestion_platform.control import Control
from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles, find_datasets
from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Csv, FixedWidth, JsonLines, Parquet, Xml
from ingestion_platform.key_template import KeyTemplate
from ingestion_platform.senders import senders_from
from ingestion_platform.stream import StreamSegments
from ingestion_platform.table import (
    DATE,
    DOUBLE,
    INTEGER,
    TIMESTAMP,
    VARCHAR,
    Check,
    Column,
    DataType,
    Mask,
    decimal,
)

DATASETS = find_datasets(ingestion_platform.datasets)

each_dataset = pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))


def _dataset(**changes: Any) -> Dataset:
    """A small dataset that is right, with *changes*."""
    arguments: dict[str, Any] = {
        "name": "visits",
        "description": "One row per visit.",
        "source": LandedFiles("visits/%Y/%m/%d/{shop_id}.csv", Csv()),
        "columns": (
            Column("visit_id", VARCHAR, "Its number."),
            Column("shop_id", VARCHAR, "Where."),
            Column("came_at", TIMESTAMP, "When."),
        ),
        "primary_key": ("visit_id",),
        "event_time": "came_at",
        "daily": Daily(date(2024, 10, 1)),
    }
    return Dataset(**(arguments | changes))


def _shops(**changes: Any) -> Dataset:
    """A small dataset of snapshots that others may reference, with *changes*."""
    arguments: dict[str, Any] = {
        "name": "shops",
        "kind": "snapshots",
        "source": LandedFiles("shops/%Y/%m/%d/shops.csv"),
        "columns": (Column("shop_id", VARCHAR, "Its number."), Column("opened_on", DATE, "First day.")),
        "primary_key": ("shop_id",),
        "event_time": None,
    }
    return _dataset(**(arguments | changes))


def _referencing(references: str) -> Dataset:
    return _dataset(
        columns=(
            Column("visit_id", VARCHAR, "Its number."),
            Column("shop_id", VARCHAR, "Where.", references=references),
            Column("came_at", TIMESTAMP, "When."),
        )
    )


def test_there_are_datasets() -> None:
    """The package declares datasets, so that the tests below test something."""
    assert len(DATASETS) > 0


@each_dataset
def test_every_dataset_and_column_is_described(dataset: Dataset) -> None:
    """A dataset says what one row is, a column says what is in it, and somebody owns it."""
    assert dataset.description.endswith(".")
    assert dataset.owners
    for column in dataset.columns:
        assert column.description.endswith("."), column.name


@each_dataset
def test_money_is_exact(dataset: Dataset) -> None:
    """Columns in rand are DECIMAL with two digits or more after the point, and no other column is DOUBLE money in disguise."""
    for column in dataset.columns:
        if column.name.endswith("_zar"):
            assert column.type.is_decimal, f"{column.name} is {column.type}"
            assert column.type.scale >= 2, f"{column.name} is {column.type}"
        if re.search(r"(?:^|_)(?:amount|price|cost|total)(?:_|$)", column.name):
            assert column.type != DOUBLE, f"{column.name} is {column.type}"


@each_dataset
def test_names_tell_the_kind_of_time(dataset: Dataset) -> None:
    """Exactly the timestamps end in `_at` and exactly the dates end in `_on`."""
    for column in dataset.columns:
        assert column.name.endswith("_at") == (column.type == TIMESTAMP), f"{column.name} is {column.type}"
        assert column.name.endswith("_on") == (column.type == DATE), f"{column.name} is {column.type}"


@each_dataset
def test_who_is_masked_can_be_forgotten(dataset: Dataset) -> None:
    """A column that is hashed, or shows a few digits, is somebody's key: it says whose, so that `forget` finds the row."""
    keys = [column for column in dataset.columns if column.pii in (Mask.HASH, Mask.LAST4)]
    assert [column.name for column in keys if column.person is None] == []


@each_dataset
def test_names_are_snake_case(dataset: Dataset) -> None:
    """Datasets, columns and checks are named in snake_case, without doubled or trailing underscores."""
    names = [dataset.name, *(column.name for column in dataset.columns), *(check.name for check in dataset.checks)]
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", name)] == []


@each_dataset
def test_keys_are_required(dataset: Dataset) -> None:
    """A row without its key or its event time can't be told from another or put on a day: those columns are required."""
    for name in dataset.primary_key:
        assert dataset.column(name).required, name
    if dataset.event_time is not None:
        assert dataset.column(dataset.event_time).required


@each_dataset
def test_references_fit(dataset: Dataset) -> None:
    """A column that references another is there, is that dataset's whole primary key, and has its type."""
    for column, other, name in dataset.references:
        assert DATASETS[other].primary_key == (name,)
        assert DATASETS[other].column(name).type == column.type


@each_dataset
def test_landing_prefixes_are_its_own(dataset: Dataset) -> None:
    """A key that one dataset's template gives is matched by no other dataset, but those of the same stream or endpoint."""
    source = dataset.source
    sharing: tuple[Dataset, ...] = (dataset,)
    given: dict[str, str] = {}
    if isinstance(source, StreamSegments):
        sharing = DATASETS.of_stream(source.stream)
    elif isinstance(source, ApiPages):
        sharing = DATASETS.of_endpoint(source.endpoint)
        given = {"fetch": "20241005T090000000000Z-0a1b2c", "group": "00001"}
    for template in source.keys:
        key = template.key(date(2024, 10, 5), **(dict.fromkeys(template.captures, "1") | given))
        assert [other.name for other in DATASETS.values() if other.source.match(key)] == [one.name for one in sharing]


WRONG: dict[str, tuple[Callable[[], object], str, str]] = {
    "a misspelt primary key": (
        lambda: _dataset(primary_key=("visitid",)),
        r"dataset 'visits': primary_key 'visitid' is not among its columns \['visit_id', 'shop_id', 'came_at'\]",
        "did you mean 'visit_id'",
    ),
    "a primary key like nothing declared": (
        lambda: _dataset(primary_key=("zzz",)),
        r"dataset 'visits': primary_key 'zzz' is not among its columns",
        "fix the name, or declare the column",
    ),
    "events without event_time": (
        lambda: _dataset(event_time=None),
        r"dataset 'visits': events need event_time",
        "name the TIMESTAMP column",
    ),
    "a misspelt event_time": (
        lambda: _dataset(event_time="come_at"),
        r"dataset 'visits': event_time 'come_at' is not among",
        "did you mean 'came_at'",
    ),
    "an event_time that is text": (
        lambda: _dataset(event_time="visit_id"),
        r"dataset 'visits': event_time 'visit_id' is VARCHAR, not TIMESTAMP",
        "declare it as TIMESTAMP",
    ),
    "a column declared twice": (
        lambda: _dataset(columns=(*_dataset().columns, Column("shop_id", VARCHAR, "Again."))),
        r"dataset 'visits': columns declared twice: \['shop_id'\]",
        "each column once",
    ),
    "no columns": (
        lambda: _dataset(columns=(), primary_key=(), event_time=None, kind="snapshots"),
        r"dataset 'visits': it has no columns",
        "declare at least one",
    ),
    "a column from an unknown capture": (
        lambda: _dataset(columns=(*_dataset().columns, Column("region", VARCHAR, "Where.", capture="region_id"))),
        r"dataset 'visits': column 'region' takes capture 'region_id'",
        r"captures: \['shop_id'\]",
    ),
    "senders named by an unknown capture": (
        lambda: _dataset(senders=senders_from("shops", "till_id")),
        r"dataset 'visits': senders are named by capture 'till_id'",
        r"captures: \['shop_id'\]",
    ),
    "snapshots with lateness": (
        lambda: _shops(daily=Daily(date(2024, 10, 1), allowed_lateness_days=2)),
        r"dataset 'shops': snapshots have no lateness",
        "leave allowed_lateness_days out",
    ),
    "an unknown time zone": (
        lambda: _dataset(time_zone="Africa/Atlantis"),
        r"dataset 'visits': time_zone 'Africa/Atlantis' is unknown",
        "Africa/Johannesburg",
    ),
    "a name that is no identifier": (
        lambda: _dataset(name="Visits 2"),
        r"dataset 'Visits 2': a name is snake_case",
        "rename it",
    ),
    "a dataset without description": (
        lambda: _dataset(description=" "),
        r"dataset 'visits': it has no description",
        "say what one row is",
    ),
    "a column named as in the file": (
        lambda: Column("Visit ID", VARCHAR, "Its number."),
        r"column 'Visit ID': a name is snake_case",
        "source=",
    ),
    "a column of the platform's own": (
        lambda: Column("_row", VARCHAR, "Its number."),
        r"column '_row': a name is snake_case",
        "source=",
    ),
    "a column without description": (
        lambda: Column("visit_id", VARCHAR, ""),
        r"column 'visit_id' has no description",
        "one sentence",
    ),
    "a column from record and key": (
        lambda: Column("visit_id", VARCHAR, "Its number.", source="id", capture="id"),
        r"column 'visit_id' has both source and capture",
        "from the record or from the key",
    ),
    "a pattern that is none": (
        lambda: Column("visit_id", VARCHAR, "Its number.", pattern="(["),
        r"column 'visit_id': pattern '\(\[' is no regular expression",
        "",
    ),
    "a reference without column": (
        lambda: Column("shop_id", VARCHAR, "Where.", references="shops"),
        r"column 'shop_id': references is 'dataset.column', not 'shops'",
        "",
    ),
    "a reference to an unknown dataset": (
        lambda: Datasets([_referencing("shop.shop_id"), _shops()]),
        r"dataset 'visits': column 'shop_id' references shop.shop_id, but no dataset is called 'shop'",
        "did you mean 'shops'",
    ),
    "a reference to an unknown column": (
        lambda: Datasets([_referencing("shops.shopid"), _shops()]),
        r"dataset 'shops': column 'shopid' is not among its columns",
        "did you mean 'shop_id'",
    ),
    "a reference to events": (
        lambda: Datasets(
            [_referencing("calls.visit_id"), _dataset(name="calls", source=LandedFiles("calls/%Y-%m-%d/{shop}.csv"))]
        ),
        r"dataset 'visits': column 'shop_id' references calls.visit_id, but 'calls' holds events",
        "only snapshots have a state",
    ),
    "senders from an unknown dataset": (
        lambda: Datasets([_dataset(senders=senders_from("tills", "shop_id")), _shops()]),
        r"dataset 'visits': senders come from tills.shop_id, but no dataset is called 'tills'",
        r"datasets: \['shops', 'visits'\]",
    ),
    "two datasets of one name": (
        lambda: Datasets([_dataset(), _dataset(description="Another.")]),
        r"dataset 'visits' is declared twice",
        "rename one of them",
    ),
    "a lateness of years": (
        lambda: Daily(date(2024, 10, 1), allowed_lateness_days=1000),
        r"Daily: allowed_lateness_days is 0 to 366, not 1000",
        "",
    ),
    "a quote of two characters": (
        lambda: Csv(quote="''"),
        r"Csv: delimiter is one character at least, quote and escape are one each",
        "",
    ),
    "a quote that is part of the delimiter": (
        lambda: Csv(delimiter='";"'),
        r"Csv: neither quote nor escape is a part of the delimiter",
        "tell them apart",
    ),
    "a header's pattern that is none": (
        lambda: Csv(header_at="(id"),
        r"Csv: header_at '\(id' is no pattern",
        "re",
    ),
    "a footer's pattern that matches everything": (
        lambda: Csv(footer=".*"),
        r"Csv: footer '.\*' matches a line without a single character",
        "say more",
    ),
    "a pattern of a header that isn't there": (
        lambda: Csv(header_rows=0, header_at="id.*"),
        r"Csv: a pattern finds the header, and it has none",
        "how many lines",
    ),
    "a footer without end": (
        lambda: Csv(footer=5000),
        r"Csv: footer is 0 to 1,000 lines, not 5000",
        "",
    ),
    "a control that says nothing": (lambda: Control(), r"Control: it says nothing", "trailer, manifest or marker"),
    "a manifest without totals": (
        lambda: Control(manifest="{key}.json"),
        r"Control: manifest and says belong together",
        "where",
    ),
    "a marker of nobody": (lambda: Control(marker="done"), r"Control: marker 'done' doesn't say whose it is", "key"),
    "a sum of no column": (
        lambda: Control(trailer="T;(?P<sum>.+)"),
        r"Control: the group sum and sum_of belong together",
        "which column",
    ),
    "a trailer that is a record": (
        lambda: LandedFiles("x/%Y/%m/%d/a.csv", Csv(), Control(trailer="T;(?P<records>[0-9]+)")),
        r"Control: a trailer is a line of the footer of a CSV or of fixed width, and its format has none",
        "footer",
    ),
    "money without room": (
        lambda: decimal(2, 4),
        r"decimal\(2, 4\): precision must be 1 to 38",
        "decimal\\(12, 2\\)",
    ),
    "a check that is no identifier": (
        lambda: Check("is fine", "true"),
        r"check 'is fine': a name is snake_case",
        "",
    ),
    "keys without a day": (
        lambda: LandedFiles("visits/{shop_id}.csv").keys,
        r"key template 'visits/\{shop_id\}.csv' doesn't give the day",
        "every object belongs to a day",
    ),
    "keys with an unknown directive": (
        lambda: LandedFiles("visits/%Y/%j/{shop_id}.csv").keys,
        r"key template .*: %j is not understood",
        "%Y, %m, %d and %H are",
    ),
    "keys with a capture that is no name": (
        lambda: LandedFiles("visits/%Y/%m/%d/{Shop}.csv").keys,
        r"key template .*: \{Shop\} is no capture",
        "snake_case",
    ),
    "keys that leave the landing zone": (
        lambda: LandedFiles("../%Y/%m/%d/{shop_id}.csv").keys,
        r"key template .* leaves the landing zone",
        "without \\.\\.",
    ),
}


@pytest.mark.parametrize(("declare", "what", "hint"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_declaration_is_told_with_its_repair(declare: Callable[[], object], what: str, hint: str) -> None:
    """A mistake fails when it is declared; the message names the thing and the rule, the hint says how to mend it."""
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert re.search(what, caught.value.what)
    assert re.search(hint, caught.value.hint)
    assert not caught.value.can_retry


def test_the_pattern_dataset_is_right() -> None:
    """The datasets that the cases above get wrong are right before that, so each case fails for its own reason."""
    datasets = Datasets([_referencing("shops.shop_id"), _shops()])
    assert list(datasets) == ["visits", "shops"]


@pytest.mark.parametrize(
    "declare",
    [
        lambda: _dataset(primarykey=("visit_id",)),
        lambda: Column("visit_id", VARCHAR, "Its number.", nullable=True),  # type: ignore[call-arg]
        lambda: Csv(separator=";"),  # type: ignore[call-arg]
        lambda: JsonLines(path="$"),  # type: ignore[call-arg]
        lambda: Xml(record="a/b", rows="a"),  # type: ignore[call-arg]
        lambda: Parquet(columns=()),  # type: ignore[call-arg]
        lambda: Check("is_fine", "true", sql="true"),  # type: ignore[call-arg]
        lambda: _dataset(kind="event"),
        lambda: _dataset(on_unknown_column="drop"),
    ],
    ids=["dataset", "column", "csv", "json", "xml", "parquet", "check", "kind", "on_unknown_column"],
)
def test_a_word_that_no_declaration_has_is_refused(declare: Callable[[], object]) -> None:
    """A misspelt argument, or a value outside the allowed ones, is refused and not passed over."""
    with pytest.raises(
        (ValidationError, TypeError), match=r"primarykey|nullable|separator|path|rows|columns|sql|events|keep"
    ):
        declare()


@pytest.mark.parametrize("change", [{"name": "other"}, {"columns": ()}, {"primary_key": ()}], ids=str)
def test_a_declaration_does_not_change(change: dict[str, object]) -> None:
    """Declarations are frozen: what the assets were built from stays what it was."""
    dataset = _dataset()
    (name, value), *_ = change.items()
    with pytest.raises((ValidationError, AttributeError), match=r"frozen|assign"):
        setattr(dataset, name, value)


def _package(folder: Path, name: str, **modules: str) -> ModuleType:
    """A package of declarations at *folder*, not yet imported module by module."""
    room = folder / name
    room.mkdir()
    for module, text in ({"__init__": '"""Declarations."""\n'} | modules).items():
        (room / f"{module}.py").write_text(text, encoding="utf-8")
    package = ModuleType(name)
    package.__path__ = [str(room)]
    return package


GOOD_MODULE = '''"""Shops."""
from datetime import date
from ingestion_platform.dataset import Daily, Dataset, LandedFiles
from ingestion_platform.table import VARCHAR, Column

shops = Dataset(
    name="shops", description="One row per shop.", kind="snapshots",
    source=LandedFiles("shops/%Y/%m/%d/shops.csv"),
    columns=(Column("shop_id", VARCHAR, "Its number."),), primary_key=("shop_id",),
    daily=Daily(date(2024, 10, 1)),
)
'''


def test_datasets_are_found_by_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new module in the package is all it takes: what it declares at top level is found, without a list of names."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    package = _package(tmp_path, "declared_well", head_office=GOOD_MODULE)
    assert list(find_datasets(package)) == ["shops"]


def test_a_mistake_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong declaration is told with the file it stands in, the dataset, and the hint; the file's other faults wait."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    wrong = GOOD_MODULE.replace('primary_key=("shop_id",)', 'primary_key=("shopid",)')
    package = _package(tmp_path, "declared_badly", head_office=wrong)
    with pytest.raises(DeclarationError) as caught:
        find_datasets(package)
    assert str(caught.value) == (
        "declared_badly/head_office.py: dataset 'shops': primary_key 'shopid' is not among its columns ['shop_id']"
        " (hint: did you mean 'shop_id'?)"
    )


segments = st.text(
    st.characters(codec="utf-8", exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=12
)
days = st.dates(date.min, date(9999, 12, 31))
TEMPLATES = (
    "sales/%Y/%m/%d/{first}.csv",
    "sales/year=%Y/month=%m/day=%d/{first}.csv.gz",
    "in/{first}/%Y%m%d.jsonl",
    "a+b (c)/%Y-%m-%d/{first}/{second}.xml",
)


@pytest.mark.parametrize("text", TEMPLATES)
@given(day=days, first=segments, second=segments)
def test_a_key_tells_what_it_was_made_of(text: str, day: date, first: str, second: str) -> None:
    """The key that a template makes of a day and captures is matched to that same day and those captures."""
    template = KeyTemplate(text)
    captures = {name: value for name, value in {"first": first, "second": second}.items() if name in template.captures}
    key = template.key(day, **captures)
    assert template.match(key) == (day, captures)
    assert key.startswith(template.prefix(day))
    assert key.startswith(template.root)


@given(key=st.text(max_size=60))
def test_any_text_may_be_offered_as_a_key(key: str) -> None:
    """A landing zone holds what it likes: a text that is no key of the template is no match, and no error."""
    for text in TEMPLATES:
        found = KeyTemplate(text).match(key)
        assert found is None or KeyTemplate(text).key(found[0], **found[1]) == key


@pytest.mark.parametrize(
    "key",
    [
        "sales/2024/02/30/S0001.csv",
        "sales/0000/01/01/S0001.csv",
        "sales/2024/1/1/S0001.csv",
        "sales/2024/10/05/north/S0001.csv",
        "sales/2024/10/05/.csv",
        "sales/2024/10/05/S0001.csv.part",
        "x/sales/2024/10/05/S0001.csv",
        "sales/2024/10/05/S0001.csv\n",
        "sales/٢٠٢٤/١٠/٠٥/S0001.csv",
    ],
)
def test_a_key_that_only_resembles_is_no_match(key: str) -> None:
    """No such day, another depth, another ending, digits of another script: such an object isn't the dataset's."""
    assert KeyTemplate(TEMPLATES[0]).match(key) is None


@given(day=days, other=days)
def test_a_days_prefix_lists_that_day_alone(day: date, other: date) -> None:
    """Where the day stands before the captures, the prefix of one day holds no key of another."""
    template = KeyTemplate(TEMPLATES[0])
    assert template.key(other, first="S0001").startswith(template.prefix(day)) == (day == other)


@given(precision=st.integers(-5, 45), scale=st.integers(-5, 45))
def test_a_decimal_knows_its_digits(precision: int, scale: int) -> None:
    """A decimal that can be declared gives back its precision and scale; every other pair is refused."""
    if 1 <= precision <= 38 and 0 <= scale <= precision:
        declared = decimal(precision, scale)
        assert (declared.precision, declared.scale) == (precision, scale)
        assert declared == DataType(f"DECIMAL({precision},{scale})")
    else:
        with pytest.raises(DeclarationError):
            decimal(precision, scale)


def test_daily_counts_from_its_first_day() -> None:
    """The first day is taken as written; a text in ISO form is read as that date."""
    assert Daily("2024-10-01").from_ == date(2024, 10, 1)  # type: ignore[arg-type]
    assert Daily(date(2024, 10, 1)).from_ + timedelta(days=1) == date(2024, 10, 2)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"minimum": "low"}, "minimum 'low' is no INTEGER"),
        ({"maximum": 1.5}, "maximum 1.5 is no INTEGER"),
        ({"one_of": ("1", "two")}, "one_of 'two' is no INTEGER"),
        ({"pattern": "(?!0)[0-9]+"}, "looks around"),
    ],
)
def test_a_rule_that_cannot_be_held_fails_at_import(rule: dict[str, object], said: str) -> None:
    """A limit that isn't of the column's type, and a pattern that the warehouse's engine can't run, are told with the column's name."""
    with pytest.raises(DeclarationError, match=re.escape(said)):
        Column("units", INTEGER, "How many.", **rule)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('Dataset(name="x", primary_key="id", **REST)', "the comma makes it a tuple"),
        ('Dataset(name="x", event_tiem="at", **REST)', "did you mean event_time?"),
        ('Column("x", "INTEGER", "What.")', "Column, type"),
        ('Api(name="x", baseurl="https://x.example")', "Api has no argument 'baseurl' (hint: did you mean base_url?)"),
        ('Api(name="x")', "Api needs base_url"),
        ('Endpoint(name="x", record_keys=("id",))', "did you mean record_key?"),
        ('Offset(ofset="skip")', "did you mean offset?"),
        ('Dataset(name="x", source=LandedFiles("x/{a}.csv"), **REST)', "dataset 'x': key template"),
    ],
)
def test_what_a_declaration_gets_wrong_is_told_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    """An argument that isn't one, a value of another kind, a template without a day: file, name and hint."""
    package = tmp_path / "wrong_declarations"
    package.mkdir()
    (package / "__init__.py").write_text("")
    source = "" if "source=" in code else 'source=LandedFiles("x/%Y-%m-%d.csv"),'
    (package / "tills.py").write_text(
        "from datetime import date\n"
        "from ingestion_platform.dataset import Daily, Dataset, LandedFiles\n"
        "from ingestion_platform.table import TIMESTAMP, Column\n"
        "from ingestion_platform.api import Api, Endpoint, Offset\n"
        f'REST = dict(description="x", {source} columns=(Column("at", TIMESTAMP, "When."),), daily=Daily(date(2024, 1, 1)))\n'
        f"thing = {code}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("wrong_declarations")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DeclarationError, match=r"wrong_declarations/tills\.py") as told:
        find_datasets(__import__("wrong_declarations"))
    assert said in str(told.value)


def test_two_datasets_cannot_claim_one_object() -> None:
    """An object would be loaded twice, into two tables, and nobody would have said so."""
    one = Dataset(
        name="one",
        description="x",
        source=LandedFiles("x/%Y-%m-%d/{shop}.csv"),
        columns=(Column("at", TIMESTAMP, "When."),),
        event_time="at",
        daily=Daily(date(2024, 1, 1)),
    )
    with pytest.raises(DeclarationError, match="both claim"):
        Datasets([one, dataclasses.replace(one, name="two", source=LandedFiles("x/%Y-%m-%d/{region}.csv"))])


def test_a_column_of_fixed_width_is_one_of_its_fields() -> None:
    """Its lines can have no other, whatever is sent: the mistake is told at import."""
    lines = FixedWidth(fields=(("visit_id", 5), ("shop_id", 3), ("came", 19)))
    with pytest.raises(
        DeclarationError, match=r"'came_at' is none of the fields that its lines have .*visit_id, shop_id, came"
    ):
        _dataset(source=LandedFiles("visits/%Y/%m/%d.txt", lines))
