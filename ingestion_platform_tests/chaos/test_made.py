"""Objects made up from declarations: they are what the declaration says, and for each rule there are rows that break it."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from random import Random

import pytest

from ingestion_platform.chaos.landed import chosen, copied, made_up
from ingestion_platform.chaos.made import CantMake, text_like
from ingestion_platform.control import Control
from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError, SettingsError
from ingestion_platform.format import Avro, Csv, FixedWidth, Format, Json, JsonLines, Parquet, Xml
from ingestion_platform.table import BIGINT, DATE, TIMESTAMP, VARCHAR, Column
from ingestion_platform.warehouse import SqlTables, upkeep
from ingestion_platform_tests.warehouse.building import BUSINESS, Bench

NO_TABLES = SqlTables({})


def slips(format: Format, ending: str, sources: Sequence[str] = ("slip", "at", "cents", "kind", "due")) -> Dataset:
    """A dataset in that format."""
    slip, at, cents, kind, due = sources
    return Dataset(
        name="slips",
        description="One row per slip.",
        source=LandedFiles(f"slips/%Y/%m/%d/{{till}}{ending}", format),
        columns=(
            Column("slip", VARCHAR, "Its number.", source=slip, required=True, pattern="[A-Z]{2}-[0-9]{4}"),
            Column("at", TIMESTAMP, "When.", source=at, required=True),
            Column("cents", BIGINT, "How much.", source=cents, minimum=0, maximum=99_999),
            Column("kind", VARCHAR, "Of what kind.", source=kind, one_of=("cash", "card")),
            Column("due", DATE, "Until when.", source=due),
        ),
        primary_key=("slip",),
        event_time="at",
        daily=Daily(date(2024, 10, 1), allowed_lateness_days=1),
    )


FORMATS = {
    "csv": slips(Csv(), ".csv"),
    "csv with all it can say": slips(
        Csv(delimiter=";", quote="'", header_at=2, footer="Total;[0-9]+", line_end="\r\n", encoding="cp1252"), ".csv.gz"
    ),
    "csv without header": slips(Csv(header_rows=0, delimiter="||", quote=""), ".txt.bz2"),
    "fixed width": slips(
        FixedWidth(fields=(("slip", 8), ("", 2), ("at", 20), ("cents", 9), ("kind", 15), ("due", 10))), ".dat"
    ),
    "json lines": slips(JsonLines(), ".jsonl.zst", ("slip", "when.at", "pay.cents", "pay.kind", "due")),
    "json": slips(Json("till.slips[*]"), ".json", ("slip", "at", "pay.cents", "pay.kind", "../due")),
    "xml": slips(Xml(record="till/slips/slip"), ".xml.zip", ("@number", "at", "pay/@cents", "pay", "../../@due")),
    "parquet": slips(Parquet(), ".parquet"),
}


@pytest.mark.parametrize("dataset", FORMATS.values(), ids=FORMATS.keys())
def test_what_is_written_is_read(tmp_path: Path, dataset: Dataset) -> None:
    """Every object in a format that can be written is loaded, whole; good rows are processed, and each rule has rows that break it."""
    business = made_up(Datasets([dataset]), NO_TABLES, Bench(tmp_path).settings, 1)
    bench = Bench(tmp_path, business.datasets)
    for arrival in business.arrivals:
        bench.put(arrival.key, arrival.content)
    upkeep.catch_up(bench.warehouse)
    days = upkeep.landed_days(bench.warehouse, dataset)
    entries = [entry for day in days for entry in bench.warehouse.raw_day(dataset, day).entries]
    assert len(entries) == len(business.arrivals) >= 4
    assert {entry.state for entry in entries} == {"loaded"}, [entry.reason for entry in entries]
    assert not any(entry.unknown_columns for entry in entries)
    assert len(bench.rows("processed.slips", "slip")) >= 20
    rules = {rule for (rules,) in bench.rows("platform.quarantine", "rules") for rule in rules}  # type: ignore[attr-defined]
    for beginning in ("slip: ", "at: ", "cents: ", "kind: "):
        assert any(rule.startswith(beginning) for rule in rules), (beginning, rules)


def test_equal_seeds_give_equal_objects(tmp_path: Path) -> None:
    """Who repeats a seed repeats the bytes; another one makes others."""
    settings = Bench(tmp_path).settings
    one, again, other = (made_up(BUSINESS, NO_TABLES, settings, seed).arrivals for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_references_and_senders_are_those_that_are_made_up_too(tmp_path: Path) -> None:
    """Most rows refer to rows that there are, and the senders are those of the roster."""
    business = made_up(BUSINESS, NO_TABLES, Bench(tmp_path).settings, 1)
    bench = Bench(tmp_path)
    for arrival in business.arrivals:
        bench.put(arrival.key, arrival.content)
    upkeep.catch_up(bench.warehouse)
    assert len(bench.rows("processed.tills", "id")) >= 20
    day = BUSINESS["tills"].daily.from_
    senders = bench.warehouse.senders(BUSINESS["tills"], day)
    assert set(senders.reported) <= set(senders.expected)
    assert senders.reported


@pytest.mark.parametrize(
    "dataset",
    [
        slips(Avro(), ".avro"),
        slips(Csv(header_rows=2), ".csv"),
    ],
)
def test_what_cant_be_made_up_is_said(tmp_path: Path, dataset: Dataset) -> None:
    """Nothing is guessed: a format that can't be written, or a sender's totals, need what has landed."""
    with pytest.raises(DeclarationError, match="--landed"):
        made_up(Datasets([dataset]), NO_TABLES, Bench(tmp_path).settings, 1)


def test_a_senders_totals_are_not_made_up(tmp_path: Path) -> None:
    """An object whose sender says how many records it has would be rejected with any other number."""
    plain = slips(Csv(), ".csv")
    source = LandedFiles("slips/%Y/%m/%d/{till}.csv", Csv(), control=Control(marker="{key}.done"))
    marked = Dataset(
        name="slips", description="Slips.", source=source, columns=plain.columns, event_time="at", daily=plain.daily
    )
    with pytest.raises(DeclarationError, match="totals and markers"):
        made_up(Datasets([marked]), NO_TABLES, Bench(tmp_path).settings, 1)


def test_what_has_landed_is_copied(tmp_path: Path) -> None:
    """The objects of the last days, byte for byte, and nothing older; a landing zone that holds nothing is said."""
    bench = Bench(tmp_path)
    with pytest.raises(SettingsError, match="nothing has landed"):
        copied(BUSINESS, NO_TABLES, bench.settings, bench.landing, 1)
    for arrival in made_up(BUSINESS, NO_TABLES, bench.settings, 1).arrivals:
        bench.put(arrival.key, arrival.content)
    found = copied(BUSINESS, NO_TABLES, bench.settings, bench.landing, 1).arrivals
    assert {arrival.key.split("/")[1][:10] for arrival in found} == {"2024-10-02"}
    assert all((bench.landing_folder / arrival.key).read_bytes() == arrival.content for arrival in found)
    with pytest.raises(SettingsError, match="fewer days"):
        copied(BUSINESS, NO_TABLES, bench.settings, bench.landing, 1, most_bytes=10)


def test_a_dataset_comes_with_those_it_refers_to() -> None:
    """Whoever names one gets its roster and its references, too."""
    assert set(chosen(BUSINESS, ["tills"])) == {"tills", "shops"}
    assert set(chosen(BUSINESS, ["shops"])) == {"shops"}


@pytest.mark.parametrize("pattern", [r"S\d{4}", "[A-Z]{2}", "(ab|cd)+x?", "[^a-c]-.", r"\w+@\w+\.(com|org)", "a{2,5}"])
def test_a_text_matches_the_pattern_that_it_is_made_for(pattern: str) -> None:
    """Whatever the dice say."""
    for seed in range(50):
        assert re.fullmatch(pattern, text_like(pattern, Random(seed)))


def test_a_pattern_that_nothing_is_made_for_is_said() -> None:
    """A look-behind isn't guessed at."""
    with pytest.raises(CantMake):
        text_like(r"a(?<=b)c", Random(1))
