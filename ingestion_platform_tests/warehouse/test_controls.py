"""What senders say of their files: totals that must be so, and markers without which a file isn't read."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import cast

import pytest

from ingestion_platform.control import Control
from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import Csv, FixedWidth, Format, JsonLines
from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.lifecycle import RestoreTier
from ingestion_platform.table import VARCHAR, Column, decimal
from ingestion_platform.warehouse import load, upkeep
from ingestion_platform_tests.warehouse.building import DAY, Bench, Through, differences

KEY = f"payments/{DAY}/a.csv"
RECORDS = "id,paid\n1,2.50\n2,-1.25\n3,\n"
TRAILER = r"TRAILER;(?P<records>[0-9]+);(?P<sum>-?[0-9.]+)"
WITH_TRAILER = Control(trailer=TRAILER, sum_of="paid_zar")
FOOTED = Csv(footer="TRAILER;.*")


def bench(root: Path, control: Control, format: Format = FOOTED) -> Bench:
    """A warehouse of one dataset."""
    dataset = Dataset(
        name="payments",
        description="One row per payment.",
        kind="snapshots",
        source=LandedFiles("payments/%Y-%m-%d/{file}.csv", format, control),
        columns=(Column("id", VARCHAR, "Which."), Column("paid_zar", decimal(12, 2), "How much.", source="paid")),
        daily=Daily(date(2024, 1, 1)),
    )
    return Bench(root, Datasets([dataset]))


def test_a_trailer_that_is_so_lets_the_object_pass(tmp_path: Path) -> None:
    """It is no record, and its count and sum are those of the records; an empty amount counts nothing."""
    one = bench(tmp_path, WITH_TRAILER)
    one.put(KEY, RECORDS + "TRAILER;3;1.25\n")
    (entry,) = one.load("payments").entries
    assert (entry.state, entry.rows_loaded, entry.departures) == ("loaded", 3, ())


@pytest.mark.parametrize(
    ("trailer", "reason"),
    [
        ("TRAILER;4;1.25\n", "has 3 records, and its sender says 4"),
        ("TRAILER;3;1.26\n", "has 1.25 as the sum of paid_zar, and its sender says 1.26"),
        ("", "has no trailer"),
        ("TRAILER;3;1.25\nTRAILER;3;1.25\n", "has several trailers"),
        ("TRAILER;three;1.25\n", "has no trailer"),
        ("TRAILER;3;1.2.5\n", "totals that are no numbers"),
    ],
)
def test_a_trailer_that_is_not_so_rejects_the_object(trailer: str, reason: str, tmp_path: Path) -> None:
    """With both numbers; it is read again when it changes."""
    one = bench(tmp_path, WITH_TRAILER)
    one.put(KEY, RECORDS + trailer)
    (entry,) = one.load("payments").entries
    assert entry.state == "rejected"
    assert reason in entry.reason
    one.put(KEY, RECORDS + "TRAILER;3;1.25\n")
    one.load("payments")
    assert one.states("payments") == {KEY: "loaded"}


def test_a_trailer_of_fixed_width_is_held_against_its_records(tmp_path: Path) -> None:
    """As banks send them: what the last line says is so, or the file is rejected."""
    format = FixedWidth(fields=(("id", 3), ("paid", 8)), footer="T[0-9 .-]*")
    control = Control(trailer=r"T(?P<records>[0-9]{3}) *(?P<sum>[0-9.-]+)", sum_of="paid_zar")
    one = bench(tmp_path, control, format)
    one.put(KEY, "001    2.50\n002   -1.25\nT002    1.25\n")
    one.put(KEY.replace("a.csv", "b.csv"), "001    2.50\nT002    2.50\n")
    good, bad = one.load("payments").entries
    assert (good.state, good.rows_loaded) == ("loaded", 2)
    assert (bad.state, bad.reason.split(",")[0]) == ("rejected", "has 1 records")


def test_a_mismatch_may_go_to_quarantine(tmp_path: Path) -> None:
    """Every record is there, with its values and the reason; none of them is a row."""
    one = bench(tmp_path, Control(trailer=TRAILER, sum_of="paid_zar", on_mismatch="quarantine"))
    one.put(KEY, "id,paid,note\n1,2.50,x\n2\nTRAILER;3;1.25\n")
    (entry,) = one.load("payments").entries
    assert (entry.state, entry.rows_read, entry.rows_loaded, entry.rows_quarantined) == ("loaded", 2, 0, 2)
    assert one.rows("platform.quarantine", "_row", "reasons", "record") == [
        (
            1,
            ["record: its object has 2 records, and its sender says 3"],
            '{"id": "1", "paid_zar": "2.50", "note": "x"}',
        ),
        (2, ["record: has 1 cell, the header 3"], "2"),
    ]
    upkeep.catch_up(one.warehouse)
    done = one.warehouse.table_day("processed.payments", DAY)
    assert done is not None
    assert done.balance is not None
    assert done.balance.holds


def test_one_bad_record_does_not_make_the_sum_wrong(tmp_path: Path) -> None:
    """Its amount isn't known: that the sum couldn't be compared is told, the count is compared, the others load."""
    one = bench(tmp_path, WITH_TRAILER)
    one.put(KEY, "id,paid\n1,2.50\n2\n3,much\nTRAILER;3;9.99\n")
    (entry,) = one.load("payments").entries
    assert (entry.state, entry.rows_loaded) == ("loaded", 2)
    assert entry.departures == (
        "the sum 9.99 of paid_zar that its sender says can't be compared: 2 of its records have no number there",
    )


def test_a_large_object_is_held_against_its_trailer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it goes to a file of its own, which is thrown away on a mismatch."""
    monkeypatch.setattr(load, "IN_MEMORY_BYTES", 1000)
    lines = "".join(f"{number},0.01\n" for number in range(20_000))
    one = bench(tmp_path, WITH_TRAILER)
    one.put(KEY, f"id,paid\n{lines}TRAILER;20000;200.00\n")
    one.put(KEY.replace("a.csv", "b.csv"), f"id,paid\n{lines}TRAILER;20001;200.00\n")
    (first, second) = one.load("payments").entries
    assert (first.state, first.rows_loaded, second.state) == ("loaded", 20_000, "rejected")
    assert upkeep.verify(one.warehouse) == []


def test_an_object_is_not_read_before_its_marker(tmp_path: Path) -> None:
    """Half a file under its final name costs nothing: without the marker it doesn't count."""
    one = bench(tmp_path, Control(marker="{key}.done"), Csv())
    one.put(KEY, "id,paid\n1,2.5")
    loaded = one.load("payments")
    assert not loaded.has_changed
    assert loaded.unmarked == (KEY,)
    one.put(KEY, RECORDS)
    assert one.states("payments") == {}
    one.put(f"{KEY}.done", "")
    assert [landed.key for landed in one.warehouse.listing(one.datasets["payments"], DAY)] == [KEY]
    one.load("payments")
    assert one.states("payments") == {KEY: "loaded"}


@pytest.mark.parametrize(
    ("marker", "there"),
    [
        ("{stem}.done", f"payments/{DAY}/a.done"),
        ("{folder}/_SUCCESS", f"payments/{DAY}/_SUCCESS"),
        ("markers/{key}", f"markers/{KEY}"),
    ],
)
def test_a_marker_may_stand_elsewhere(marker: str, there: str, tmp_path: Path) -> None:
    """Beside the object, one for its whole folder, or in another folder."""
    one = bench(tmp_path, Control(marker=marker), Csv())
    one.put(KEY, RECORDS)
    assert not one.load("payments").has_changed
    one.put(there, "")
    assert one.load("payments").has_changed


def test_a_manifest_is_waited_for_and_believed(tmp_path: Path) -> None:
    """Of any format: without it the object isn't read; when it is corrected, the object is held against it again."""
    control = Control(manifest="{stem}.json", says=r'"records": (?P<records>[0-9]+)')
    one = bench(tmp_path, control, JsonLines())
    one.put(KEY, '{"id": "1", "paid": 2}\n{"id": "2", "paid": 3}\n')
    assert not one.load("payments").has_changed
    one.put(f"payments/{DAY}/a.json", '{"records": 3}')
    (entry,) = one.load("payments").entries
    assert entry.state == "rejected"
    assert "has 2 records, and its sender says 3" in entry.reason
    assert not one.load("payments").has_changed
    payments = one.datasets["payments"]
    before_correction = one.warehouse.listing(payments, DAY)
    assert not one.warehouse.news(payments, DAY, before_correction)
    one.put(f"payments/{DAY}/a.json", '{"records": 2, "corrected": true}')
    assert one.warehouse.listing(payments, DAY) != before_correction
    assert one.warehouse.news(payments, DAY, one.warehouse.listing(payments, DAY))
    one.load("payments")
    assert one.states("payments") == {KEY: "loaded"}
    before = one.export()
    one.load("payments")
    assert not list(differences(before, one.export()))


class ManifestsInAnArchive(Through):
    """A landing zone whose manifests have to be fetched back before they can be read."""

    asked: tuple[str, ...] = ()
    is_back = False

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """With manifests that aren't at hand."""
        for landed in super().list(prefix, start_after=start_after):
            yield replace(landed, is_at_hand=not landed.key.endswith(".json"))

    def read(self, object_: LandedObject) -> bytes:
        """Unless it is in the archive."""
        assert self.is_at_hand(object_)
        return super().read(object_)

    def is_at_hand(self, object_: LandedObject) -> bool:
        """Once it is back."""
        return object_.is_at_hand or self.is_back

    def fetch_back(self, object_: LandedObject, *, days: int, tier: RestoreTier) -> timedelta | None:
        """It takes five hours."""
        if self.is_at_hand(object_):
            return None
        self.asked += (object_.key,)
        return timedelta(hours=5)


def test_a_manifest_in_an_archive_is_waited_for(tmp_path: Path) -> None:
    """It is asked for with its object, nothing is news until it is back, and then the object is loaded."""
    control = Control(manifest="{stem}.json", says=r'"records": (?P<records>[0-9]+)')
    one = bench(tmp_path, control, JsonLines())
    one.put(KEY, '{"id": "1", "paid": 2}\n')
    one.put(f"payments/{DAY}/a.json", '{"records": 1}')
    zone = ManifestsInAnArchive(one.landing)
    one.warehouse.landing = cast("LandingZone", zone)
    payments = one.datasets["payments"]
    assert [waiting.key for waiting in one.load("payments").waiting] == [KEY]
    assert zone.asked == (f"payments/{DAY}/a.json",)
    assert not one.warehouse.news(payments, DAY, one.warehouse.listing(payments, DAY))
    zone.is_back = True
    assert one.warehouse.news(payments, DAY, one.warehouse.listing(payments, DAY))
    raw = one.load("payments")
    assert [entry.state for entry in raw.entries] == ["loaded"]
    assert not raw.waiting


def test_one_manifest_may_speak_of_a_folder(tmp_path: Path) -> None:
    """By the object's name; one that it doesn't name is rejected."""
    control = Control(
        manifest="{folder}/MANIFEST", says=r"(?m)^{name} (?P<records>[0-9]+) (?P<sum>\S+)$", sum_of="paid_zar"
    )
    one = bench(tmp_path, control, Csv())
    for name in "abc":
        one.put(f"payments/{DAY}/{name}.csv", RECORDS.replace("1,", f"{name},"))
    one.put(f"payments/{DAY}/MANIFEST", "a.csv 3 1.25\nb.csv 2 1.25\nxa.csv 9 9\n")
    one.load("payments")
    reasons = {entry.key[-5:]: entry.reason for entry in one.warehouse.raw_day(one.datasets["payments"], DAY).entries}
    assert reasons["a.csv"] == ""
    assert "says 2" in reasons["b.csv"]
    assert "says nothing of it" in reasons["c.csv"]
