"""A person is forgotten: in every format, every table, every note; all else is as it was."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion_platform.control import Control
from ingestion_platform.dataset import Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError, WarehouseBusy
from ingestion_platform.format import Avro, Csv
from ingestion_platform.landing.s3 import S3Landing
from ingestion_platform.table import VARCHAR, Column
from ingestion_platform.warehouse import quarantine
from ingestion_platform.warehouse.forget import forget, person_of, plan, returned, who_returned
from ingestion_platform.warehouse.quarantine import Chosen
from ingestion_platform.warehouse.upkeep import catch_up, verify
from ingestion_platform_tests.s3_faults import S3Server
from ingestion_platform_tests.warehouse.building import HEADER, SHOPS, TILLS, Bench, differences, line
from ingestion_platform_tests.warehouse.forgetting import (
    COMMON,
    DAY,
    EVERYTHING,
    OTHER,
    SMALL,
    WHO,
    WORKBOOKS,
    forgotten,
    found_in,
    hashed,
    landed,
    segment,
    table,
)


def bench_of(root: Path, datasets: Datasets = EVERYTHING) -> Bench:
    """A business with the person in it, caught up."""
    bench = Bench(root, datasets)
    for key, content in landed([one for one in COMMON if one.name in datasets]):
        bench.put(key, content)
    bench.put(*segment())
    with bench.open() as warehouse:
        catch_up(warehouse)
    return bench


def rebuilt(bench: Bench, root: Path) -> Bench:
    """Another warehouse, made of the same landing zone."""
    other = Bench(root, bench.datasets, zone=bench.landing)
    with other.open() as warehouse:
        catch_up(warehouse)
    return other


@pytest.fixture(scope="module")
def caught_up(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The small business before anybody is forgotten; to be copied."""
    return bench_of(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture
def bench(caught_up: Bench, tmp_path: Path) -> Bench:
    """A copy of it."""
    shutil.copytree(caught_up.root, tmp_path / "bench")
    return Bench(tmp_path / "bench", SMALL)


def test_a_person_is_gone_from_every_format_and_nobody_else_is(tmp_path: Path) -> None:
    """No file holds the key or its hash; rows of others, and what stays of emptied ones, are the same; a rebuild agrees."""
    bench = bench_of(tmp_path / "bench")
    before = {dataset.name: bench.rows(dataset.processed, "id", "units") for dataset in COMMON}
    others = {dataset.name: bench.rows(f"raw.{dataset.name}", "id", "who", "units") for dataset in COMMON}
    assert len(found_in(bench.root, WHO, hashed())) > 20
    done = forgotten(bench)
    assert (done.stuck, done.waiting, done.is_done) == ((), (), True)
    assert found_in(bench.root, WHO, hashed()) == []
    assert found_in(bench.root, OTHER)
    bench.warehouse = bench.open()
    assert verify(bench.warehouse) == []
    for dataset in COMMON:
        after = bench.rows(dataset.processed, "id", "units")
        if dataset.erase == "columns":
            assert after == before[dataset.name], dataset.name
        else:
            assert after == [("a2", 2), ("a4", 4)], dataset.name
        kept = [row for row in others[dataset.name] if row[1] != WHO]
        assert [row for row in bench.rows(f"raw.{dataset.name}", "id", "who", "units") if row in kept] == kept
    assert bench.rows("processed.told", "id", "who") == [("t0", None), ("t1", hashed(OTHER))]
    assert bench.rows("processed.visits", "id") == [("t3",)]
    assert [row[0] for row in bench.rows("raw.others", "value")] == ['{"type":"stranger","talks":"of nobody"}']
    other = rebuilt(bench, tmp_path / "other")
    assert list(differences(bench.export(), other.export())) == []


def test_asking_again_changes_nothing(bench: Bench) -> None:
    """A person who is forgotten already isn't found anywhere, and no object changes."""
    assert forgotten(bench).is_done
    tables = bench.export()
    again = forgotten(bench)
    assert (again.is_done, again.changes) == (True, ())
    bench.warehouse = bench.open()
    assert list(differences(tables, bench.export())) == []


def test_a_plan_changes_nothing(bench: Bench) -> None:
    """Without being told to, nothing is done: the landing zone and the ledger are byte for byte what they were."""
    files = {path: path.read_bytes() for path in bench.root.rglob("*") if path.is_file()}
    made = plan(bench.warehouse, person_of(bench.warehouse, [("csv_rows.who", WHO)]))
    assert made.rows == {"csv_rows": 2, "csv_emptied": 2, "lines": 2, "told": 1, "visits": 2, "others": 2}
    assert {path: path.read_bytes() for path in files} == files


def test_the_certificate_holds_nothing_of_the_person(bench: Bench) -> None:
    """It says who asked, why, which objects with their digests, and how many rows; of the person a salted digest."""
    done = forgotten(bench)
    text = (bench.landing_folder / done.certificate).read_text()
    assert all(told in text for told in ("request 7", "the officer", "csv_rows/2024-10-01/s1.csv"))
    assert not any(told in text for told in (WHO, hashed()))


def test_killed_at_any_step_it_goes_on_and_ends_in_the_same_state(bench: Bench) -> None:
    """Whatever call to the file system is the last one, asking for the same person again leaves the same tables and nothing of him."""
    command = [sys.executable, "-m", "ingestion_platform_tests.warehouse.forget_kills", str(bench.root), "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 4


def test_two_at_once_are_one_after_the_other(bench: Bench) -> None:
    """Who comes second is told that somebody is being forgotten, and may ask again."""
    (bench.warehouse.folder).mkdir(exist_ok=True)
    with (bench.warehouse.folder / "forget.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WarehouseBusy, match="being forgotten"):
            forgotten(bench)
    assert forgotten(bench).is_done


def test_what_people_have_decided_about_rows_goes_along(bench: Bench) -> None:
    """A discarded row of another person stays discarded, by the same person at the same moment, though its number is another one now."""
    bench.put("csv_rows/2024-10-01/s2.csv", f"id,who,units\nb1,{WHO},1\nb2,{OTHER},many\nb3,{WHO},x\nb4,,y\n")
    with bench.open() as warehouse:
        catch_up(warehouse)
        chosen = Chosen(dataset="csv_rows", rows=(2, 3))
        assert quarantine.discard(warehouse, chosen, by="Ann", why=f"asked by {WHO}").rows == 2
    assert forgotten(bench).is_done
    assert found_in(bench.root, WHO, hashed()) == []
    shown = "select _row, record, discarded_by, discarded_why from platform.quarantine where dataset = 'csv_rows' order by 1"
    rows = [tuple(row.values()) for row in bench.open().query(shown).to_pylist()]
    assert [(row, by, why) for row, _, by, why in rows] == [(1, "Ann", "asked by forgotten"), (2, None, None)]
    other = rebuilt(bench, bench.root.parent / "other")
    assert [tuple(row.values()) for row in other.warehouse.query(shown).to_pylist()] == rows


def test_one_who_comes_back_is_told_and_taken_out_again(bench: Bench) -> None:
    """A file that is sent again brings the person back; that is told by object, by the digest alone, after a rebuild, too."""
    original = (bench.landing_folder / "csv_rows/2024-10-01/s1.csv").read_bytes()
    assert forgotten(bench).is_done
    dataset = bench.datasets["csv_rows"]
    assert returned(bench.open(), dataset, DAY, DAY) == []
    bench.put("csv_rows/2024-10-01/s1.csv", original)
    bench.warehouse = bench.open()
    bench.load("csv_rows")
    assert [(one.key, one.rows) for one in returned(bench.warehouse, dataset, DAY, DAY)] == [
        ("csv_rows/2024-10-01/s1.csv", 2)
    ]
    other = rebuilt(bench, bench.root.parent / "other")
    assert len(returned(other.warehouse, dataset, DAY, DAY)) == 1
    assert who_returned(bench.warehouse) == [("customer", WHO)]
    assert forgotten(bench).is_done
    assert found_in(bench.root, WHO, hashed()) == []
    assert who_returned(bench.open()) == []


def test_files_that_left_their_table_go_at_once(bench: Bench) -> None:
    """A former version's rows aren't kept for a day, as others are."""
    bench.put("csv_rows/2024-10-01/s1.csv", f"id,who,units\na1,{OTHER},1\n")
    with bench.open() as warehouse:
        catch_up(warehouse)
    assert [one for one in found_in(bench.root / "warehouse", WHO) if "/csv_rows/" in one]
    assert forgotten(bench).is_done
    assert found_in(bench.root, WHO, hashed()) == []


def test_a_double_and_an_object_that_was_never_loaded_are_cleared(bench: Bench) -> None:
    """A file under a second name, one of a day before the dataset, and one that has just landed hold nothing afterwards."""
    content = (bench.landing_folder / "csv_rows/2024-10-01/s1.csv").read_bytes()
    bench.put("csv_rows/2024-10-01/copy.csv", content)
    with bench.open() as warehouse:
        catch_up(warehouse)
    bench.put("csv_rows/2023-01-01/s1.csv", content)
    bench.put("csv_rows/2024-10-02/s1.csv", content)
    assert forgotten(bench).is_done
    assert found_in(bench.root, WHO, hashed()) == []
    bench.warehouse = bench.open()
    assert bench.rows("processed.csv_rows", "id") == [("a2",), ("a4",)]


def test_what_cannot_be_rewritten_is_named_and_removed_only_when_asked(tmp_path: Path) -> None:
    """A workbook, an object of no dataset, and one that can't be read: the forgetting isn't done, until they may be removed."""
    bench = bench_of(tmp_path / "bench", Datasets([*SMALL.values(), WORKBOOKS]))
    for key, content in landed([WORKBOOKS]):
        bench.put(key, content)
    bench.put("elsewhere/list.txt", f"call {WHO} back")
    bench.put("csv_rows/2024-10-01/broken.csv", f"not,of,this {WHO}\n")
    with bench.open() as warehouse:
        catch_up(warehouse)
    done = forgotten(bench)
    assert not done.is_done
    assert [one.partition(":")[0] for one in done.stuck if "/" in one.partition(":")[0]][:3] == [
        "csv_rows/2024-10-01/broken.csv", "elsewhere/list.txt", "workbooks/2024-10-01/s1.xlsx",
    ]  # fmt: skip
    done = forgotten(bench, remove_objects=True)
    assert (done.stuck, done.is_done) == ((), True)
    assert found_in(bench.root, WHO, hashed()) == []
    bench.warehouse = bench.open()
    assert bench.rows("processed.workbooks") == []
    assert bench.states("workbooks") == {}
    assert verify(bench.warehouse) == []


def test_an_object_whose_key_names_the_person_goes_whole(tmp_path: Path) -> None:
    """Its rows, its ledger entry and its key are nowhere; the certificate has a digest of the key."""
    own = table(
        "own", Csv(), ".csv", columns=(Column("id", VARCHAR, "Which."), Column("who", VARCHAR, "Whose.", capture="shop", person="customer"))
    )  # fmt: skip
    bench = Bench(tmp_path / "bench", Datasets([own]))
    bench.put(f"own/2024-10-01/{WHO}.csv", "id\n1\n")
    bench.put(f"own/2024-10-01/{OTHER}.csv", "id\n2\n")
    with bench.open() as warehouse:
        catch_up(warehouse)
    done = forgotten(bench)
    assert (done.stuck, done.is_done) == ((), True)
    assert found_in(bench.root, WHO) == []
    bench.warehouse = bench.open()
    assert bench.rows("processed.own", "id") == [("2",)]


def test_a_key_in_a_column_of_another_meaning_is_told_and_goes_when_asked(bench: Bench) -> None:
    """Such a row is another person's, as far as is declared: it stays and is counted; `everywhere` says that it is this person's."""
    bench.put("lines/2024-10-01/s2.jsonl", json.dumps({"id": WHO, "who": OTHER, "units": 1}) + "\n")
    with bench.open() as warehouse:
        catch_up(warehouse)
    done = forgotten(bench)
    assert (done.is_done, done.elsewhere) == (True, 1)
    assert {one.rpartition(": ")[0] for one in found_in(bench.landing_folder, WHO)} == {"lines/2024-10-01/s2.jsonl"}
    assert forgotten(bench, everywhere=True).elsewhere == 0
    assert found_in(bench.root, WHO, hashed()) == []


def test_a_short_key_tells_in_its_columns_only(tmp_path: Path) -> None:
    """Key 12 is a number that stands in many places: rows of others with it in other columns stay."""
    bench = Bench(tmp_path / "bench", Datasets([one for one in COMMON if one.name == "csv_rows"]))
    bench.put("csv_rows/2024-10-01/s1.csv", "id,who,units\na,12,1\nb,13,12\nc, 12 ,3\n")
    with bench.open() as warehouse:
        catch_up(warehouse)
    assert forgotten(bench, "12").is_done
    bench.warehouse = bench.open()
    assert bench.rows("raw.csv_rows", "id", "who", "units") == [("b", "13", "12")]
    assert found_in(bench.root, hashed("12"), hashed(" 12 ")) == []


def test_totals_of_a_sender_still_fit(tmp_path: Path) -> None:
    """A trailer counts records that aren't there any more; the object isn't rejected for it, here or in a rebuild."""
    format = Csv(footer="TRAILER;.*")
    one = table("counted", format, ".csv")
    assert isinstance(one.source, LandedFiles)
    source = replace(one.source, control=Control(trailer="TRAILER;(?P<records>[0-9]+)"))
    bench = Bench(tmp_path / "bench", Datasets([replace(one, source=source)]))
    bench.put("counted/2024-10-01/s1.csv", f"id,who,units\na,{WHO},1\nb,{OTHER},2\nTRAILER;2\n")
    with bench.open() as warehouse:
        catch_up(warehouse)
    assert forgotten(bench).is_done
    bench.warehouse = bench.open()
    assert bench.rows("raw.counted", "id") == [("b",)]
    other = rebuilt(bench, tmp_path / "other")
    assert other.rows("raw.counted", "id") == [("b",)]


@pytest.mark.parametrize("pairs", [[("nobody", "x")], [("csv_rows.units", "x")], [("customer", " ")], []])
def test_a_key_that_no_column_holds_is_refused(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    """Kinds of keys are those that columns are declared to hold; a value isn't empty."""
    bench = Bench(tmp_path, EVERYTHING)
    with pytest.raises(Exception, match=r"person|empty|nobody|no column"):
        person_of(bench.warehouse, pairs)


def test_a_reason_that_names_the_person_is_refused(tmp_path: Path) -> None:
    """What lands for good holds nothing of the person, whoever wrote it."""
    bench = Bench(tmp_path, EVERYTHING)
    person = person_of(bench.warehouse, [("customer", WHO)])
    with pytest.raises(Exception, match="holds a key"):
        forget(bench.warehouse, person, by="me", why=f"{WHO} asked for it")


def test_on_s3_a_person_is_gone_with_all_versions_and_senders_were_on_time(s3_server: S3Server, tmp_path: Path) -> None:
    """In a bucket that keeps versions none holds the key; a rebuild agrees; what is rewritten later still landed when it did."""
    name = s3_server.new_bucket()
    zone = S3Landing(f"s3://{name}/zone")
    client = zone._client
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    bench = Bench(tmp_path / "bench", SMALL, zone=zone)
    for key, content in [*landed([one for one in COMMON if one.name in SMALL]), segment()]:
        zone.put_if_absent(key, content)
    s3_server.put(name, "zone/csv_rows/2024-10-01/s1.csv", f"id,who,units\na,{WHO},1\nb,{OTHER},2\n".encode())
    with bench.open() as warehouse:
        catch_up(warehouse)
    done = forgotten(bench)
    assert (done.stuck, done.waiting, done.is_done) == ((), (), True)
    assert found_in(bench.root, WHO, hashed()) == []
    versions = client.list_object_versions(Bucket=name)["Versions"]
    folder = tmp_path / "bucket"
    for number, one in enumerate(versions):
        body = client.get_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])["Body"].read()
        path = folder / str(number) / Path(one["Key"]).name
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
    assert found_in(folder, WHO, hashed()) == []
    bench.warehouse = bench.open()
    other = rebuilt(bench, tmp_path / "other")
    assert list(differences(bench.export(), other.export())) == []


def test_what_is_in_an_archive_waits_and_the_forgetting_is_not_done(s3_server: S3Server, tmp_path: Path) -> None:
    """It is asked for; when it is back, asking for the same person again ends it, with one certificate."""
    name = s3_server.new_bucket()
    zone = S3Landing(f"s3://{name}/zone")
    bench = Bench(tmp_path / "bench", SMALL, zone=zone)
    keys = ["csv_rows/2024-10-01/s1.csv", "csv_rows/2024-10-01/s2.csv"]
    zone.put_if_absent(keys[0], f"id,who,units\na,{WHO},1\nb,{OTHER},2\n".encode())
    zone.put_if_absent(keys[1], f"id,who,units\nc,{OTHER},1\n".encode())
    with bench.open() as warehouse:
        catch_up(warehouse)
    for key in keys:
        s3_server.move(name, f"zone/{key}", "GLACIER")
    done = forgotten(bench)
    # What raw knows to have nothing isn't asked for.
    assert (done.is_done, done.waiting) == (False, (keys[0],))
    s3_server.restored(name, f"zone/{keys[0]}")
    done = forgotten(bench)
    assert (done.stuck, done.waiting, done.is_done) == ((), (), True)
    assert found_in(bench.root, WHO, hashed()) == []
    bench.warehouse = bench.open()
    assert bench.rows("raw.csv_rows", "id") == [("b",), ("c",)]


def test_what_has_aged_is_cleared_with_what_is_hidden(tmp_path: Path) -> None:
    """Objects in a colder folder are rewritten there; a former version that a producer has overwritten since goes."""
    roots = {place: tmp_path / "bench" / place for place in ("warm", "cold")}
    for root in roots.values():
        root.mkdir(parents=True)
    bench = Bench(
        tmp_path / "bench",
        SMALL,
        overrides={"landing_warm": str(roots["warm"]), "landing_cold": str(roots["cold"])},
    )
    for key, content in [*landed([one for one in COMMON if one.name in SMALL]), segment()]:
        bench.put(key, content)
    with bench.open() as warehouse:
        catch_up(warehouse)
    with bench.landing.ageing():
        for number, one in enumerate(list(bench.landing.list())):
            bench.landing.age(one, "cold" if number % 2 else "warm", "")
    bench.put("lines/2024-10-01/s1.jsonl", json.dumps({"id": "new", "who": OTHER, "units": 1}) + "\n")
    done = forgotten(bench)
    assert (done.stuck, done.is_done) == ((), True)
    assert found_in(bench.root, WHO, hashed()) == []
    assert found_in(roots["cold"], OTHER)
    bench.warehouse = bench.open()
    other = rebuilt(bench, tmp_path / "other")
    assert list(differences(bench.export(), other.export())) == []


def test_while_others_load_and_compute_it_ends_in_the_same_state(bench: Bench) -> None:
    """Others load and compute the same days all the time, each with a warehouse of his own: nothing is left when all have ended."""
    stop = threading.Event()

    def work(number: int) -> int:
        rounds = 0
        while not stop.is_set():
            with bench.open() as warehouse:
                for dataset in bench.datasets.values():
                    warehouse.load(dataset, DAY, reload=number == 0)
                    warehouse.process(dataset, DAY)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(work, number) for number in range(2)]
        try:
            done = forgotten(bench)
        finally:
            stop.set()
        assert all(one.result() > 0 for one in others)
    done = forgotten(bench) if not done.is_done else done
    assert (done.stuck, done.is_done) == ((), True)
    bench.warehouse = bench.open()
    for dataset in bench.datasets.values():
        bench.load(dataset.name)
        bench.process(dataset.name)
    assert forgotten(bench).is_done
    assert found_in(bench.root, WHO, hashed()) == []
    assert verify(bench.open()) == []


def test_who_was_on_time_stays_so(tmp_path: Path) -> None:
    """A rewritten file isn't one that its sender has corrected: the status of each sender and day is what it was, here and in a rebuild."""
    tills = replace(
        TILLS, columns=tuple(replace(one, person="customer") if one.name == "card" else one for one in TILLS.columns)
    )
    bench = Bench(tmp_path / "bench", Datasets([SHOPS, tills]))
    bench.put_shops()
    for shop in ("a", "b"):
        bench.put(
            f"tills/{DAY}/{shop}.csv", HEADER + line(f"{shop}1", shop=shop, card=WHO) + line(f"{shop}2", shop=shop)
        )
    with bench.open() as warehouse:
        catch_up(warehouse)

    def statuses(one: Bench) -> list[tuple[str, str, int, object]]:
        with one.open() as warehouse:
            found = warehouse.sender_days(one.datasets["tills"], DAY, DAY)
        return [(row.sender, row.status, row.corrections, row.first_landed_at) for row in found]

    before = statuses(bench)
    assert len(before) == 3
    assert forgotten(bench).is_done
    assert found_in(bench.root, WHO, hashed()) == []
    assert statuses(bench) == before
    assert statuses(rebuilt(bench, tmp_path / "other")) == before


def test_notes_that_belong_to_no_dataset_keep_all_else(bench: Bench) -> None:
    """A JSON document beside the data, as the note of a fetch, has another word in the place of the key; it isn't removed for it."""
    bench.put("notes/done-1.json", json.dumps({"url": f"https://x.example/customers/{WHO}?page=1", "pages": 1}))
    assert forgotten(bench, remove_objects=True).is_done
    note = json.loads((bench.landing_folder / "notes/done-1.json").read_bytes())
    assert note == {"url": "https://x.example/customers/forgotten?page=1", "pages": 1}


def test_what_a_killed_process_has_half_written_goes_too(bench: Bench) -> None:
    """A temporary file of the landing zone that nobody writes any more is looked through as everything else."""
    half = bench.landing_folder / "csv_rows" / f".landing-{'0' * 32}.tmp"
    half.write_text(f"id,who,units\na,{WHO},1\n")
    os.utime(half, (0, 0))
    assert forgotten(bench).is_done
    assert found_in(bench.root, WHO, hashed()) == []


def test_what_stands_beside_tables_is_told(bench: Bench) -> None:
    """A former warehouse that a rebuild has set aside, and a file that is on its way from elsewhere, hold it up: they are named."""
    aside = bench.root / "warehouse.aside-20240101T000000.000000"
    aside.mkdir()
    spooled = bench.warehouse.folder / "spool" / "bank" / "file"
    spooled.parent.mkdir(parents=True)
    spooled.write_text(f"{WHO} paid")
    done = forgotten(bench)
    assert not done.is_done
    assert [one.partition(":")[0] for one in done.stuck] == [str(spooled), str(aside)]
    aside.rmdir()
    spooled.unlink()
    assert forgotten(bench).is_done


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"columns": (Column("id", VARCHAR, "Which.", person="customer"),)}, "can't be empty"),
        ({"columns": (Column("who", VARCHAR, "Whose.", person="customer", required=True),), "primary_key": ()}, "can't be empty"),
        ({"columns": (Column("id", VARCHAR, "Which."),)}, "no column tells whose"),
        ({"source": LandedFiles("x/%Y-%m-%d/{shop}.avro", Avro())}, "can't be emptied"),
        (
            {"columns": (Column("id", VARCHAR, "Which."), Column("who", VARCHAR, "Whose.", person="customer", capture="shop"))},
            "told by the object's key",
        ),
    ],
)  # fmt: skip
def test_a_declaration_whose_emptied_rows_would_break_a_rule_is_refused(changes: dict[str, object], what: str) -> None:
    """Rows that stay for the books are rows still: they don't go to quarantine for what they have lost."""
    with pytest.raises(DeclarationError, match=what):
        table("own", Csv(), ".csv", erase="columns", **changes)


def test_keys_below_the_notes_of_forgetting_are_nobody_elses() -> None:
    """A dataset can't claim them."""
    with pytest.raises(DeclarationError, match="keeps under forgotten/"):
        Datasets([table("own", Csv(), ".csv", source=LandedFiles("forgotten/%Y-%m-%d/{shop}.csv"))])


def test_a_key_that_stands_outside_of_records_is_not_overlooked(tmp_path: Path) -> None:
    """A comment of a CSV and what is around a document's list belong to no record: such objects are named, and removed when asked."""
    commented = table("commented", Csv(comment="#"), ".csv")
    documents = next(one for one in COMMON if one.name == "documents")
    bench = Bench(tmp_path / "bench", Datasets([commented, documents]))
    bench.put("commented/2024-10-01/s1.csv", f"# asked for by {WHO}\nid,who,units\na,{OTHER},1\n")
    bench.put("commented/2024-10-01/s2.csv", f"# asked for by {WHO}\nid,who,units\na,{WHO},1\nb,{OTHER},2\n")
    bench.put("documents/2024-10-01/s1.json", json.dumps({"of": WHO, "items": [{"id": "a", "who": OTHER, "units": 1}]}))
    with bench.open() as warehouse:
        catch_up(warehouse)
    done = forgotten(bench)
    assert not done.is_done
    assert sum("outside of its records" in one for one in done.stuck) == 3
    done = forgotten(bench, remove_objects=True)
    assert (done.stuck, done.is_done) == ((), True)
    assert found_in(bench.root, WHO, hashed()) == []
