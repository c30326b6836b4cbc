"""
The demo: land the example with every trouble, run the whole path as a user would, land what comes later, run again, and tell
what became of it all.

Belongs here: driving and telling. Doesn't: any of the work, which Dagster does; what is told is looked up in the warehouse,
never taken from the plan.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from textwrap import shorten

from tqdm import tqdm

from ingestion_platform.assembly import open_warehouse
from ingestion_platform.demo.broker import serve
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.events import LATE_DAYS, TOPIC, Told, tell_events
from ingestion_platform.demo.plan import ALL_TROUBLES, Plan
from ingestion_platform.demo.producer import FolderProducer
from ingestion_platform.demo.retailer import Incident, Outcome, Step, Story, tell
from ingestion_platform.errors import IngestionError, SettingsError
from ingestion_platform.landing import LandingZone, open_landing
from ingestion_platform.settings import Settings, inherited
from ingestion_platform.warehouse import LedgerEntry, Warehouse

_DONE = re.compile(r" - ((?:raw|processed|reports)\.\w+) (\d{4}-\d{2}-\d{2}): (?!check )")
"""A line of Dagster's log that says that a day of a table is done."""


class DemoFailed(IngestionError):
    """What became of a trouble isn't what should have."""


def run(plan: Plan | None = None, *, say: Callable[[str], None] = print) -> None:
    """
    Run the demo in the settings' landing zone and warehouse.

    Args:
        plan: default: 60 stores, 7 days, every trouble.
        say: takes each line.

    Raises:
        SettingsError: the landing zone isn't a folder, or holds something else.
        DemoFailed: the platform did something else than it promises.
    """
    began = time.monotonic()
    plan = plan or Plan(troubles=ALL_TROUBLES)
    settings = Settings.load()
    if "://" in settings.landing:
        raise SettingsError(
            f"the demo lands files in a folder, and INGESTION_LANDING is {settings.landing}", "unset it for the demo"
        )
    story = tell(plan, has_segments=False)
    Path(settings.landing).mkdir(parents=True, exist_ok=True)
    _refuse_foreign(open_landing(settings.landing), story)
    producer = FolderProducer(Path(settings.landing))
    last = plan.dates[-1]
    say(
        f"A retail chain of {plan.stores} stores, {plan.days} days from {plan.dates[0]}, and everything that goes wrong with files."
    )
    log = settings.warehouse.parent / "demo.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    told = tell_events(Business(plan))
    parts = (told.during, told.afterwards)
    if next(iter(open_landing(settings.landing).list("streams/")), None) is not None:
        # The broker of an earlier run is gone. This one has the same records at the same offsets, and never fewer than have landed.
        parts = (told.during + told.afterwards, ())
    with serve() as broker:
        for number, step in enumerate(story.steps, 1):
            moment = time.monotonic()
            landed = step.land(producer)
            sent = broker.send(TOPIC, parts[number - 1])
            say(
                f"{number}. {step.description}\n   {landed:,} objects landed in {settings.landing}, and the tills sent {sent:,} events to a"
                f" Kafka broker on {broker.servers} ({time.monotonic() - moment:.1f} s)"
            )
            moment = time.monotonic()
            days = sorted(_days_of(step, settings))
            done = _materialize(days[0], days[-1], log, broker.servers)
            say(
                f"   landing → raw → processed → reports, {days[0]} to {days[-1]}:"
                f" {done:,} table days by Dagster ({time.monotonic() - moment:.1f} s)"
            )
            while stale := _stale_days(settings):
                moment = time.monotonic()
                done = _materialize(stale[0], stale[-1], log, broker.servers)
                say(
                    f"   what that made stale elsewhere, {stale[0]} to {stale[-1]}:"
                    f" {done:,} table days by Dagster ({time.monotonic() - moment:.1f} s)"
                )
    with open_warehouse(settings) as warehouse:
        wrong = _tell_incidents(warehouse, story, say)
        wrong += _tell_stream(warehouse, told, say)
        _tell_balance(warehouse, say)
        _tell_report(warehouse, last, say)
        warehouse.publish()
    say(f"\nDone in {time.monotonic() - began:.0f} s. Dagster's own words are in {log}.")
    say("Next: `make dev` opens all of it at http://127.0.0.1:3000; or replay a day, which changes nothing:")
    say(
        f"  .venv/bin/dagster asset materialize -m ingestion_platform.definitions --select '*' --partition-range {last}...{last}"
    )
    if wrong:
        raise DemoFailed(f"{len(wrong)} troubles didn't end as promised: {'; '.join(wrong)}", f"see {log}")


def _refuse_foreign(zone: LandingZone, story: Story) -> None:
    """The demo doesn't mix with files that aren't its own."""
    ours = {arrival.key for step in story.steps for arrival in step.objects}
    for landed in zone.list():
        if landed.key not in ours and not landed.key.startswith("streams/pos/"):
            raise SettingsError(
                f"{zone.url} holds {landed.key}, which isn't the demo's",
                "`make clean-data` empties data/; or set INGESTION_LANDING and INGESTION_WAREHOUSE to other places",
            )


def _days_of(step: Step, settings: Settings) -> set[date]:
    """The days that the step's objects landed for."""
    with open_warehouse(settings) as warehouse:
        keys = [arrival.key for arrival in step.objects]
        found = [dataset.source.match(key) for dataset in warehouse.datasets.values() for key in keys]
    return {match[0] for match in found if match is not None}


def _stale_days(settings: Settings) -> list[date]:
    """Days of any table whose inputs have changed since it was computed: what the restatement sensor would ask for."""
    with open_warehouse(settings) as warehouse:
        tables = [*(dataset.processed for dataset in warehouse.datasets.values()), *warehouse.sql_tables]
        return sorted({day for table in tables for day in warehouse.stale_days(table) if day is not None})


def _materialize(first: date, last: date, log: Path, kafka_servers: str) -> int:
    """Run everything for these days, as a user would, streams drained; the answer is how many days of tables were done."""
    command = [
        sys.executable, "-m", "dagster", "asset", "materialize", "-m", "ingestion_platform.definitions",
        "--select", "*", "--partition-range", f"{first}...{last}",
    ]  # fmt: skip
    done: set[str] = set()
    with (
        log.open("a") as kept,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=inherited(streams="pos", kafka_servers=kafka_servers),
        ) as process,
    ):
        assert process.stdout is not None, "asked for a pipe"
        # disable=None: quiet when it isn't a terminal.
        with tqdm(desc="   ", unit=" table days", disable=None, leave=False) as bar:
            for line in process.stdout:
                kept.write(line)
                found = _DONE.search(line)
                if found and (day := f"{found[1]} {found[2]}") not in done:
                    done.add(day)
                    bar.update()
    if process.returncode:
        errors = [
            line.split(" - ", 6)[-1]
            for line in log.read_text().splitlines()
            if " - ERROR - " in line and "Not executing" not in line
        ]
        raise DemoFailed(
            "Dagster's run failed:\n" + "\n".join(f"  {line}" for line in errors[:5]), f"all of it is in {log}"
        )
    return len(done)


def _tell_incidents(warehouse: Warehouse, story: Story, say: Callable[[str], None]) -> list[str]:
    """One line per trouble; the answer names those that ended otherwise than they should."""
    say("\nWhat went wrong, and what became of it:")
    wrong = []
    for incident in story.incidents:
        became, is_right, where = _look_up(warehouse, incident)
        if not is_right:
            wrong.append(f"{incident.what} {became}")
        say(f"  {'·' if is_right else '✗'} {incident.what} → {became} [{where}]")
    return wrong


def _look_up(warehouse: Warehouse, incident: Incident) -> tuple[str, bool, str]:
    """What became of an incident, whether it should have, and where to look."""
    dataset = warehouse.datasets[incident.dataset]
    key = incident.keys[0]
    entries = {entry.key: entry for entry in warehouse.raw_day(dataset, incident.day).entries}
    entry = entries.get(incident.keys[-1] if incident.outcome is Outcome.DUPLICATE else key)
    in_ledger = f"platform.ledger, {entry.key if entry else key}"
    match incident.outcome:
        case Outcome.MISSING:
            missing = warehouse.senders(dataset, incident.day).missing
            named = incident.store_id in missing
            return (
                f"{'named as' if named else 'not named as'} missing",
                named,
                f"raw/{dataset.name} {incident.day}, check all_senders_reported",
            )
        case Outcome.REJECTED:
            return f"rejected: {_short(entry)}", entry is not None and entry.state == "rejected", in_ledger
        case Outcome.DUPLICATE:
            twin = entry.duplicate_of if entry else None
            return f"not loaded again: same content as {twin}", twin == incident.duplicate_of, in_ledger
        case Outcome.LOADED_LATER | Outcome.REJECTED_THEN_LOADED:
            return (
                f"{_rows(entry)} loaded, {incident.day} restated",
                entry is not None and entry.state == "loaded",
                in_ledger,
            )
        case Outcome.REPLACED:
            former = (
                warehouse.query(f"select count(*) from platform.ledger where key = '{key}' and state = 'replaced'")
                .column(0)[0]
                .as_py()
            )
            return (
                f"{_rows(entry)} took the place of the first version's, {incident.day} restated",
                bool(former),
                in_ledger,
            )
        case Outcome.QUARANTINED:
            found = set(_quarantined(warehouse, key))
            return (
                f"{len(found & set(incident.rows)):,} rows in quarantine, each with its reasons",
                set(incident.rows) <= found,
                f"platform.quarantine, {key}",
            )
        case Outcome.SUPERSEDED:
            done = warehouse.table_day(dataset.processed, incident.day)
            lost = done.balance.rows_superseded if done and done.balance else 0
            return (
                f"{lost:,} superseded: one row stands per key",
                lost == len(incident.rows),
                f"processed/{dataset.name} {incident.day}",
            )
        case Outcome.OTHER_DAY:
            days = {str(day): count for day, count in incident.event_days.items()}
            found_days = warehouse.query(
                f"select _day::varchar, count(*) from processed.{dataset.name} where _object = '{key}' and _day <> _landed_on group by 1"
            ).to_pylist()
            moved = {row["CAST(_day AS VARCHAR)"]: row["count_star()"] for row in found_days}
            return (
                f"processed with {', '.join(sorted(moved))}, which were restated",
                moved == days,
                f"processed/{dataset.name}",
            )
        case Outcome.KEPT:
            kept = entry is not None and incident.column in entry.unknown_columns
            return "kept in _extra, and told as drift", kept, f"raw/{dataset.name} {incident.day}, check schema_drift"


def _short(entry: LedgerEntry | None) -> str:
    return shorten(entry.reason.split(" (hint")[0], 110, placeholder=" …") if entry else "it isn't in the ledger"


def _rows(entry: LedgerEntry | None) -> str:
    return f"{entry.rows_loaded:,} rows" if entry else "nothing"


def _quarantined(warehouse: Warehouse, key: str) -> Iterator[int]:
    for row in warehouse.query(f"select _row from platform.quarantine where _object = '{key}'").to_pylist():
        yield row["_row"]


def _tell_stream(warehouse: Warehouse, told: Told, say: Callable[[str], None]) -> list[str]:
    """What became of the tills' events, and of what went wrong with them; the answer names what ended otherwise than it should."""

    def number(sql: str) -> int:
        return int(warehouse.query(sql).column(0)[0].as_py() or 0)

    def row(store_and_day: tuple[str, date]) -> dict[str, int]:
        store_id, day = store_and_day
        found = warehouse.query(
            f"select * from reports.stream_reconciliation where store_id = '{store_id}' and sold_on = date '{day}'"
        ).to_pylist()
        return found[0] if found else {}

    tables = ("pos_events", "till_sessions", "pos_unknown")
    raw = {table: number(f"select count(*) from raw.{table}") for table in tables}
    broken = number("select count(*) from platform.quarantine where dataset = 'pos_unknown'")
    again = number("select count(*) from (select distinct _shard, _position from raw.pos_events)")
    superseded = sum(
        done.balance.rows_superseded
        for day in warehouse.days("processed.pos_events")
        if (done := warehouse.table_day("processed.pos_events", day)) is not None and done.balance is not None
    )
    silent, offline = row(told.silent), row(told.offline)
    late = number(
        f"select count(*) from processed.pos_events where store_id = '{told.offline[0]}'"
        f" and _day = date '{told.offline[1]}' and _landed_on > _day"
    )
    say("\nWhat the tills told as it happened, and what became of it:")
    wrong = []
    for is_right, line in (
        (
            sum(raw.values()) + broken == told.count and again == raw["pos_events"],
            f"{told.count:,} events sent → {sum(raw.values()):,} rows in raw of {len(tables)} tables + {broken} in quarantine,"
            " each position once",
        ),
        (
            broken == told.broken,
            f"{told.broken} that can't be read → in quarantine with bytes and position [platform.quarantine]",
        ),
        (
            raw["pos_unknown"] == told.unknown,
            f"{told.unknown} of a type that nobody declared → kept [raw.pos_unknown, check known_types]",
        ),
        (superseded == told.twice, f"{told.twice} sales sent twice → {superseded} superseded: one row stands per key"),
        (
            late == told.offline_lines,
            f"{told.offline[0]} was offline on {told.offline[1]}, its events came {LATE_DAYS} days later → {late} rows in their own day,"
            " restated",
        ),
        (
            bool(silent.get("only_in_files"))
            and not silent.get("lines_in_stream")
            and not offline.get("only_in_stream"),
            f"{told.silent[0]} told nothing on {told.silent[1]} → {silent.get('only_in_files', 0)} lines that only its file has"
            " [reports.stream_reconciliation]",
        ),
    ):
        say(f"  {'·' if is_right else '✗'} {line}")
        if not is_right:
            wrong.append(line)
    return wrong


def _tell_balance(warehouse: Warehouse, say: Callable[[str], None]) -> None:
    say("\nEvery row accounted for:")
    for dataset in warehouse.datasets.values():
        balances = [
            done.balance
            for day in warehouse.days(dataset.processed)
            if (done := warehouse.table_day(dataset.processed, day)) is not None and done.balance is not None
        ]
        read = sum(each.rows_raw for each in balances)
        processed = sum(each.rows_processed for each in balances)
        superseded = sum(each.rows_superseded for each in balances)
        quarantined = sum(each.rows_quarantined for each in balances)
        sign = "=" if all(each.holds for each in balances) else "≠"
        say(
            f"  {dataset.name:<16} {read:>7,} read {sign} {processed:,} processed + {superseded:,} duplicates + {quarantined:,} quarantined"
        )


def _tell_report(warehouse: Warehouse, day: date, say: Callable[[str], None]) -> None:
    say(f"\nThe top of reports.daily_sales, {day}:")
    best = warehouse.query(
        f"select store_id, store_name, region, transactions, units, net_zar from reports.daily_sales where sold_on = date '{day}'"
        " order by net_zar desc, store_id limit 5"
    )
    for line in best.to_pandas().to_string(index=False).splitlines():
        say(f"  {line}")
