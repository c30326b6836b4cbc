"""`python -m ingestion_platform …`: what each command prints, and its exit code."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

import ingestion_platform
from ingestion_platform.__main__ import main
from ingestion_platform_tests.example import FIRST, HEADER, SECOND, land_example, put, sale
from ingestion_platform_tests.s3_faults import S3Server

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings by variables, as a person has them; the example has landed."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("INGESTION_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("INGESTION_PII_SALT", "salt")
    land_example(tmp_path / "data" / "landing")
    return tmp_path


@pytest.fixture
def command(environment: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command; exit code, what it printed, what it said of errors."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def table(text: str) -> list[dict[str, str]]:
    """CSV that was printed."""
    return list(csv.DictReader(io.StringIO(text)))


def tables_in(environment: Path) -> list[Path]:
    """The files of raw sales."""
    return sorted((environment / "data" / "warehouse" / "tables" / "raw" / "sales").rglob("*.parquet"))


def test_who_has_sent_is_listed_noted_and_excused(command: Command, environment: Path) -> None:
    """Each sender and day with its status, as CSV; a note to one of them; and an excuse, which lands and counts at once."""
    command("catch-up")
    code, out, err = command("senders", "--dataset", "sales", "--first", str(FIRST), "--last", str(FIRST))
    assert code == 0
    rows = {row["sender"]: row for row in table(out)}
    assert rows
    assert sum(int(word.split()[0]) for word in err.split(": ", 1)[1].split(", ")) == len(rows)
    missing = [
        row["sender"] for row in table(command("senders", "--dataset", "stock_counts", "--status", "missing")[1])
    ]
    assert missing
    code, out, _ = command("note", "--sender", missing[0], "--format", "csv")
    assert code == 0
    assert {row["problem"] for row in table(out)} >= {"missing"}
    code, out, _ = command(
        "excuse",
        "--dataset",
        "stock_counts",
        "--sender",
        missing[0],
        "--first",
        str(FIRST),
        "--by",
        "Nomsa",
        "--why",
        "flood",
    )
    assert code == 0
    assert (environment / "data" / "landing" / out.split()[-1]).exists()
    excused = table(command("senders", "--dataset", "stock_counts", "--status", "excused", "--first", str(FIRST))[1])
    assert [(row["sender"], row["reason"]) for row in excused] == [(missing[0], "excused by Nomsa: flood")]
    assert command("senders", "--dataset", "products")[0] == 1


def test_catch_up_loads_and_computes_everything(command: Command, environment: Path) -> None:
    """A line for each table; reports are published; the file that people open is there."""
    code, out, err = command("catch-up")
    assert (code, err) == (0, "")
    assert "raw.sales: 3 rows of 2 days" in out
    assert "reports.daily_sales: 2 partitions computed" in out
    assert (environment / "data" / "published" / "daily_sales" / "2024-10-01.csv").exists()
    assert (environment / "data" / "warehouse.duckdb").exists()


def test_status_shows_rows_quarantined_rejected_and_stale(command: Command, environment: Path) -> None:
    """A line for each table, in columns."""
    put(environment / "data" / "landing", "sales/2024/10/02/S0002.csv", (HEADER + "T9,S0").encode())
    command("catch-up")
    code, out, _ = command("status")
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert code == 0
    assert lines["table"] == ["days", "rows", "rejected", "quarantined", "stale"]
    assert lines["raw.sales"] == ["2", "3", "1", "0"]
    assert lines["processed.sales"] == ["2", "2", "1"]
    assert lines["reports.daily_sales"] == ["2", "2"]
    assert "raw.deliveries" in lines


def test_status_before_anything_was_loaded(command: Command) -> None:
    """Every table with nothing in it."""
    code, out, err = command("status")
    assert (code, err) == (0, "")
    assert all(line.split()[1:3] == ["0", "0"] for line in out.splitlines()[1:])


def test_read_prints_csv(command: Command) -> None:
    """Money with its cents, moments in UTC, days chosen by the business day."""
    command("catch-up")
    code, out, _ = command("read", "processed.sales", "--first", "2024-10-02")
    assert code == 0
    (row,) = table(out)
    assert (row["transaction_id"], row["amount_zar"], row["sold_at"], row["_day"]) == (
        "T3",
        "25.00",
        "2024-10-02 08:00:00",
        "2024-10-02",
    )
    code, out, _ = command("read", "processed.sales", "--last", "2024-10-01")
    assert [row["transaction_id"] for row in table(out)] == ["T1"]


def test_query_prints_values_exactly(command: Command) -> None:
    """A whole number beside a missing one, a large one, a list: as they are."""
    command("catch-up")
    code, out, _ = command(
        "query",
        "select * from (values (1, 9007199254740993, ['a', 'b, c'], true), (null, null, null, null)) as t(small, large, list, truth)",
    )
    assert code == 0
    assert table(out) == [
        {"small": "1", "large": "9007199254740993", "list": '["a", "b, c"]', "truth": "True"},
        {"small": "", "large": "", "list": "", "truth": ""},
    ]


def test_the_quarantine_can_be_asked(command: Command) -> None:
    """Why the bad line isn't there."""
    command("catch-up")
    _, out, _ = command("query", "select _row, reasons from platform.quarantine")
    assert table(out) == [{"_row": "2", "reasons": "[\"quantity: 'many' is not exactly of type INTEGER\"]"}]


@pytest.mark.parametrize(
    ("words", "kind", "message", "hint"),
    [
        (("read", "reports.dayly"), "NotMaterialized", "there is no table 'reports.dayly'", "reports.daily_sales"),
        (
            ("read", "reports.daily_sales", "--first", "2030-01-01"),
            "NotMaterialized",
            "nothing yet from 2030-01-01",
            "dagster asset materialize",
        ),
        (("query", "selekt"), "WarehouseError", "syntax error", "one select statement"),
        (("query", "select * from sale"), "WarehouseError", "sale", "one select statement"),
    ],
)
def test_an_error_is_one_line_and_a_hint(
    command: Command, words: tuple[str, ...], kind: str, message: str, hint: str
) -> None:
    """On standard error, with exit code 1; nothing of Python's is shown."""
    command("catch-up")
    code, out, err = command(*words)
    assert (code, out) == (1, "")
    assert err.startswith(f"{kind}: ")
    assert message in err
    assert hint in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("hint: ")
    assert "Traceback" not in err


def test_a_wrong_setting_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of its variable."""
    monkeypatch.setenv("INGESTION_TIMEZONE", "Mars/Olympus")
    code, _, err = command("status")
    assert code == 1
    assert err.startswith("SettingsError: INGESTION_TIMEZONE")


def test_a_missing_salt_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is hashed without one."""
    monkeypatch.delenv("INGESTION_PII_SALT")
    code, _, err = command("catch-up")
    assert code == 1
    assert "INGESTION_PII_SALT" in err


@pytest.mark.parametrize(
    "words", [(), ("nonsense",), ("read",), ("query",), ("read", "raw.sales", "--first", "2024-13-01")]
)
def test_a_command_that_is_none_ends_with_two(command: Command, words: tuple[str, ...]) -> None:
    """As command lines do."""
    with pytest.raises(SystemExit) as ended:
        command(*words)
    assert ended.value.code == 2


def test_verify_and_repair(command: Command, environment: Path) -> None:
    """Sound: 0. Damaged: 1, with the file. Repaired: 0 again, and sound."""
    command("catch-up")
    assert command("verify") == (0, "everything is as it was written\n", "")
    assert command("repair") == (0, "nothing is damaged\n", "")
    path = tables_in(environment)[0]
    path.write_bytes(b"x" + path.read_bytes()[1:])
    code, out, err = command("verify")
    assert (code, err) == (1, "")
    assert f"raw.sales 2024-10-01: {path.relative_to(environment)}" in out or str(path) in out
    assert "1 damaged (hint: repair, or rebuild)" in out
    code, out, _ = command("read", "raw.sales")
    assert code == 1
    code, out, _ = command("repair")
    assert code == 0
    assert out == "making raw.sales 2024-10-01 anew\n1 damaged files made anew\n"
    assert command("verify")[0] == 0
    assert [row["transaction_id"] for row in table(command("read", "raw.sales")[1])] == ["T1", "T2", "T3"]


def test_rebuild_of_a_damaged_ledger(command: Command, environment: Path) -> None:
    """Every command says that it is damaged and which one helps; that one does, and keeps the former one aside."""
    command("catch-up")
    before = command("read", "processed.sales")[1]
    ledger = environment / "data" / "warehouse" / "ledger.sqlite"
    os.truncate(ledger, 5000)
    for words in (
        ("status",),
        ("catch-up",),
        ("read", "raw.sales"),
        ("query", "select 1"),
        ("verify",),
        ("repair",),
        ("publish",),
    ):
        code, out, err = command(*words)
        assert code == 1, words
        assert "ledger" in out + err
        assert "rebuild" in out + err
        assert "Traceback" not in err
    code, out, _ = command("rebuild")
    assert code == 0
    assert "setting the former warehouse aside" in out
    assert "once you trust the new one, delete" in out
    assert command("read", "processed.sales")[1] == before
    assert command("verify")[0] == 0


def test_publish_makes_the_file_that_people_open(command: Command, environment: Path) -> None:
    """Also when it was spoilt or deleted."""
    command("catch-up")
    path = environment / "data" / "warehouse.duckdb"
    path.write_bytes(b"no database")
    code, out, _ = command("publish")
    assert (code, out) == (0, "data/warehouse.duckdb shows the newest state\n")
    with duckdb.connect(str(path), read_only=True) as engine:
        assert engine.sql("select count(*) from processed.sales").fetchall() == [(2,)]


def test_a_reader_who_has_enough_is_no_error(command: Command, environment: Path) -> None:
    """`… | head -1`: no traceback, exit code 0, for an answer that is longer than a pipe and for a short one."""
    put(
        environment / "data" / "landing",
        "sales/2024/10/01/S0001.csv",
        (HEADER + "".join(sale(f"T{number}", FIRST) for number in range(3000))).encode(),
    )
    command("catch-up")
    for words in (["read", "raw.sales"], ["query", "select 1 as one"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "ingestion_platform", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=with_path(),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        if words[0] == "read":
            assert process.stdout.readline().startswith("transaction_id")
        process.stdout.close()
        err = process.stderr.read()
        assert (process.wait(), err) == (0, "")


def with_path() -> dict[str, str]:
    """The environment, with the project found from any folder."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def test_age_moves_what_is_due(command: Command, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says what went where; status and a query say how much is where."""
    for name in ("warm", "cold"):
        (environment / name).mkdir()
        monkeypatch.setenv(f"INGESTION_LANDING_{name.upper()}", str(environment / name))
    command("catch-up")
    for path in (environment / "data" / "landing" / "sales").rglob("*.csv"):
        os.utime(path, (0, 0))
    code, out, _ = command("age")
    assert (code, out.split(";")[0]) == (
        0,
        out.split(" to cold")[0] + f" to cold ({bytes_in(environment / 'cold')} bytes)",
    )
    assert "nothing moved" in command("age")[1]
    assert "objects, bytes" in command("status")[1]
    _, out, _ = command("query", "select distinct place from platform.ledger where dataset = 'sales'")
    assert table(out) == [{"place": "cold"}]
    assert "raw.sales: 3 rows" in command("catch-up")[1]


def bytes_in(folder: Path) -> str:
    """Of all files below it, as the commands write numbers."""
    return f"{sum(path.stat().st_size for path in folder.rglob('*.csv')):,}"


def test_lifecycle_is_of_s3(command: Command) -> None:
    """Of a folder there are no rules: it says which command moves its objects."""
    code, _, err = command("lifecycle")
    assert code == 1
    assert "python -m ingestion_platform age" in err


def test_lifecycle_prints_sets_and_is_settled(
    command: Command, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration as JSON, what changes beside it; nothing is set before --apply, and nothing twice."""
    bucket = s3_server.new_bucket()
    monkeypatch.setenv("INGESTION_LANDING", f"s3://{bucket}/in")
    code, out, err = command("lifecycle")
    assert code == 0
    assert "ingestion-platform in/sales/" in [rule["ID"] for rule in json.loads(out)["Rules"]]
    assert "+ 'ingestion-platform in/sales/': after" in err
    assert "set" not in err.splitlines()
    assert command("lifecycle", "--apply")[2].splitlines()[-1] == "set"
    again = command("lifecycle", "--apply")[2]
    assert again.splitlines() == ["the bucket has these rules already"]


def test_a_plan_is_told_and_the_backfill_does_it(command: Command, environment: Path) -> None:
    """What would be read, and restated; then it is; then there is nothing to do."""
    landing = environment / "data" / "landing"
    command("catch-up")
    put(landing, "sales/2024/10/02/S0001.csv", (HEADER + sale("T3", SECOND, "3")).encode())
    before = {path: path.read_bytes() for path in environment.rglob("*") if path.is_file()}
    code, out, err = command("plan", "--dataset", "sales", "--first", "2024-10-02", "--last", "2024-10-02")
    assert (code, err) == (0, "")
    assert out.startswith("The backfill reads 1 object (")
    assert "2024-10-02: 1 of 1 rows changes (quantity); quantity +1" in out
    assert {path: path.read_bytes() for path in environment.rglob("*") if path.is_file()} == before
    code, out, _ = command("backfill", "--dataset", "sales", "--first", "2024-10-02", "--last", "2024-10-02")
    assert code == 0
    assert "raw.sales: 1 objects of 1 days read" in out
    _, out, _ = command("plan", "--format", "markdown")
    assert out.startswith("**There is nothing to do")


def test_a_plan_for_a_program(command: Command) -> None:
    """JSON, before there is any warehouse; an estimate alone reads nothing."""
    code, out, _ = command("plan", "--sample-days", "0", "--format", "json")
    told = json.loads(out)
    assert code == 0
    assert told["estimate"]["read"]["new"]["count"] == 4
    assert told["partitions"] == []


def test_a_dataset_that_is_not_there_is_told_with_those_that_are(command: Command) -> None:
    """Nothing is planned."""
    code, _, err = command("plan", "--dataset", "sale")
    assert code == 1
    assert "there is no dataset 'sale'" in err
    assert "sales" in err


def test_a_trial_needs_something_to_hold_against(command: Command, environment: Path) -> None:
    """Neither tables nor a checkout."""
    code, _, err = command("try")
    assert code == 1
    assert "--against" in err
    code, _, err = command("try", "--against", str(environment))
    assert code == 1
    assert "is no checkout" in err


@pytest.fixture
def checkout(environment: Path) -> Path:
    """Another checkout, as a pull request has changed it or not yet."""
    folder = environment / "checkout"
    shutil.copytree(
        Path(ingestion_platform.__file__).parent,
        folder / "ingestion_platform",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return folder


def tried(checkout: Path, *words: str) -> tuple[int, str, str]:
    """`try` in a checkout, as CI runs it: in a process of its own, with what has landed and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "ingestion_platform", "try", "--dataset", "sales", "--days", "2", *words],
        cwd=checkout,
        env={
            **os.environ,
            "PYTHONPATH": str(checkout),
            "INGESTION_LANDING": str(checkout.parent / "data" / "landing"),
            "INGESTION_WAREHOUSE": str(checkout.parent / "nowhere" / "warehouse.duckdb"),
            "INGESTION_PII_SALT": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def change(checkout: Path, file: str, old: str, new: str) -> None:
    """Edit a declaration."""
    path = checkout / "ingestion_platform" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_pull_request_that_tightens_a_rule_fails_and_a_harmless_one_passes(checkout: Path, environment: Path) -> None:
    """Against the code as it is here, without a warehouse and without a salt; nothing is written anywhere."""
    here = str(Path(ingestion_platform.__file__).parent.parent)
    before = {path for path in environment.rglob("*") if "__pycache__" not in path.parts}
    change(checkout, "datasets/tills.py", "One row per till line", "A row for each till line")
    change(checkout, "datasets/tills.py", "maximum=999", "maximum=1999")
    code, out, err = tried(checkout, "--against", here)
    assert (code, err) == (0, ""), err
    assert out.startswith("Passed: nothing is lost, tried on the last 2 days of sales.")
    change(checkout, "datasets/tills.py", "maximum=1999", "maximum=1")
    code, out, _ = tried(checkout, "--against", here, "--format", "markdown")
    assert code == 1
    assert out.startswith("### Failed: processed rows that go")
    assert "**processed rows that go: 2 (to allow it: --allow rows=2)**" in out
    assert "quantity: above maximum" in out
    assert {path for path in environment.rglob("*") if "__pycache__" not in path.parts} == before


def test_a_declaration_that_does_not_bind_fails_the_trial(checkout: Path) -> None:
    """With the file, the name and the hint, as at import."""
    change(checkout, "sql/reports/daily_sales.sql", "from processed.", "from processed.no_")
    code, _, err = tried(checkout, "--against", str(Path(ingestion_platform.__file__).parent.parent))
    assert code == 1
    assert "daily_sales.sql" in err


def test_the_quarantine_is_looked_at_and_decided_about(command: Command, environment: Path) -> None:
    """List, count, export, discard, reopen, redrive and history, each in its words; deciding again does nothing."""
    command("catch-up")
    code, out, _ = command("quarantine", "list", "--dataset", "sales")
    assert (code, out) == (
        0,
        "sales 2024-10-01  S0001  sales/2024/10/01/S0001.csv:2  quantity: 'many' is not exactly of type INTEGER\n",
    )
    _, out, _ = command("quarantine", "list", "--rule", "quantity: nothing")
    assert out.splitlines() == ["nothing is in quarantine that is like this", "rules there: quantity: not INTEGER"]
    _, out, _ = command("quarantine", "count", "--by", "sender")
    assert [line.split() for line in out.splitlines()] == [["1", "S0001"], ["1", "rows", "in", "all"]]
    code, out, _ = command("quarantine", "export", str(environment / "rows.csv"))
    assert "1 rows written" in out
    assert [row["_row"] for row in table((environment / "rows.csv").read_text())] == ["2"]
    who = ("--by", "Thandi", "--why", "a test")
    _, out, _ = command("quarantine", "discard", "--dataset", "sales", "--everything", "--dry-run", *who)
    assert out == "1 rows would be chosen; nothing was done\n"
    _, out, _ = command("quarantine", "discard", "--dataset", "sales", "--everything", *who)
    assert out.startswith(
        "1 rows of 1 objects are discarded by Thandi; 1 days computed again\nrecorded as decisions/discard/sales/"
    )
    _, out, _ = command("quarantine", "discard", "--dataset", "sales", "--everything", *who)
    assert out == "nothing to do: 1 rows are discarded already\n"
    code, out, _ = command("status")
    assert [line.split() for line in out.splitlines() if line.startswith("processed.sales ")] == [
        ["processed.sales", "2", "2"]
    ]
    _, out, _ = command("quarantine", "list", "--state", "discarded")
    assert "[discarded by Thandi on " in out
    _, out, _ = command("quarantine", "redrive", "--dataset", "sales", "--everything", *who)
    assert "nothing is open in quarantine that is like this: nothing was read again" in out
    _, out, _ = command("quarantine", "reopen", "--dataset", "sales", "--everything", *who)
    assert out.startswith("1 rows of 1 objects are reopened by Thandi")
    _, out, _ = command("quarantine", "redrive", "--dataset", "sales", "--everything", *who)
    assert "of 1 rows 0 are in the table now, 1 are still in quarantine" in out
    assert "nothing has changed: today's declaration says of them what it said before" in out
    code, out, err = command("quarantine", "history")
    assert (code, err) == (0, "")
    assert [line.split()[3] for line in out.splitlines()[::2]] == ["discard", "reopen", "redrive"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("discard", "--dataset", "sales", "--why", "x"), "nothing says which rows to discard"),
        (("discard", "--everything", "--why", "x"), "a decision is about one dataset"),
        (("discard", "--dataset", "sale", "--everything", "--why", "x"), "there is no dataset 'sale'"),
        (("redrive", "--dataset", "sales", "--everything", "--why", " "), "why is a reason"),
        (("export", "rows.xls"), ".xls is no format"),
        (("history", "--dataset", "sale"), "there is no dataset 'sale'"),
    ],
)
def test_a_decision_that_says_too_little_is_refused(command: Command, words: tuple[str, ...], said: str) -> None:
    """With what is missing; nothing is decided."""
    command("catch-up")
    code, _, err = command("quarantine", *words)
    assert code == 1
    assert said in err


def test_a_decision_that_was_cut_is_told(command: Command, environment: Path) -> None:
    """The history says which one and what to do, and its exit code is no success."""
    command("catch-up")
    command("quarantine", "discard", "--dataset", "sales", "--everything", "--by", "Thandi", "--why", "a test")
    (path,) = (environment / "data" / "landing" / "decisions").rglob("*.json")
    path.write_bytes(path.read_bytes()[:-3])
    (environment / "data" / "warehouse" / "ledger.sqlite").unlink()
    command("rebuild")
    code, out, err = command("quarantine", "history")
    assert (code, out) == (1, "nothing has been decided\n")
    assert "it was cut or changed after it was written" in err
    assert "decide again" in err


def test_a_decision_that_was_cut_once_it_was_known_hides_no_other(command: Command, environment: Path) -> None:
    """It holds until a rebuild; the history says that it was cut, and tells what became of the others."""
    command("catch-up")
    for action in ("discard", "reopen"):
        assert command("quarantine", action, "--dataset", "sales", "--everything", "--why", "a test")[0] == 0
    (path,) = (environment / "data" / "landing" / "decisions" / "discard").rglob("*.json")
    path.write_bytes(path.read_bytes()[:-3])
    code, out, _ = command("quarantine", "history")
    assert code == 1
    assert "which rows it chose isn't known" in out
    assert "it was cut or changed after it was written" in out
    assert out.count("today: of ") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("note", "--sender", "S9999"), "no sender 'S9999' is known from"),
        (("excuse", "--dataset", "sales", "--sender", "S9999", "--first", str(FIRST), "--why", "flood"), "known are S0001"),
        (("excuse", "--dataset", "sales", "--sender", "S0001\nS0002", "--first", str(FIRST), "--why", "flood"), "on one line"),
        (("backfill", "--first", "2024-10-02", "--last", "2024-10-01"), "is before the first"),
    ],
)  # fmt: skip
def test_a_mistaken_sender_or_day_is_told_and_nothing_lands(
    command: Command, environment: Path, words: tuple[str, ...], said: str
) -> None:
    """Nobody is told that all is in order of somebody whom nobody knows; the ids that there are stand in the hint."""
    command("catch-up")
    code, _, err = command(*words)
    assert code == 1
    assert said in err
    assert not (environment / "data" / "landing" / "decisions").exists()


def test_a_day_that_is_none_is_told(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """In words, without the name of a function."""
    with pytest.raises(SystemExit):
        command("plan", "--first", "2024-02-30")
    assert "'2024-02-30' is no day, as 2024-10-01 is" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command("try", "--days", "-1")
    assert "-1 isn't 0 or more" in capsys.readouterr().err


def test_a_replay_ends_with_a_certificate(command: Command, environment: Path) -> None:
    """Equal when nothing has changed; a file that was sent anew is told by table, day, row and reason; the table keeps both."""
    command("catch-up")
    arguments = ("replay", "--dataset", "sales", "--first", "2024-10-01", "--certificate", "--by", "Thandi")
    code, out, _ = command(*arguments)
    assert (code, out.splitlines()[-2].endswith("all equal")) == (0, True)
    put(environment / "data" / "landing", "sales/2024/10/01/S0001.csv", (HEADER + sale("T1", FIRST, "3")).encode())
    code, out, _ = command(*arguments)
    assert code == 0
    assert (
        "processed.sales 2024-10-01: differs, 1 rows before, 1 after; 0 added, 0 gone, 1 changed; in quantity (1)"
        in out
    )
    assert "changed transaction_id T1: quantity: '2' → '3'" in out
    assert "1 objects were sent anew: sales/2024/10/01/S0001.csv" in out
    _, out, _ = command(
        "query", "select distinct verdict from platform.certificates where table_name = 'processed.sales' order by 1"
    )
    assert out.split() == ["verdict", "differs", "equal"]
    code, out, _ = command("replay", "--dataset", "sales", "--first", "2024-10-01", "--last", "2024-10-02")
    assert code == 0
    assert "2 objects read again" in out.splitlines()[-1]
    code, _, err = command("replay", "--dataset", "sales", "--first", "2023-10-01")
    assert (code, "has nothing from 2023-10-01" in err) == (1, True)


def test_drift_tells_what_changed_and_what_adopts_it(command: Command, environment: Path) -> None:
    """A column that nobody declared is told with its file, and with the line to paste; without drift that is said."""
    command("catch-up")
    assert command("drift") == (0, "every object has the declared columns, as far as they ever came\n", "")
    with_tip = HEADER.rstrip("\n") + ",tip_zar\n" + sale("T9", FIRST).rstrip("\n") + ",2.50\n"
    put(environment / "data" / "landing", "sales/2024/10/01/S0002.csv", with_tip.encode())
    command("catch-up")
    code, out, _ = command("drift", "--dataset", "sales")
    assert code == 0
    assert "sales: column 'tip_zar' is new since" in out
    assert 'to adopt it: Column("tip_zar", decimal(12, 2), "…")' in out
    code, _, err = command("drift", "--dataset", "sails")
    assert code == 1
    assert "there is no dataset 'sails'" in err
    rows = table(command("query", "select column_name, objects from platform.drift")[1])
    assert rows == [{"column_name": "tip_zar", "objects": "1"}]
