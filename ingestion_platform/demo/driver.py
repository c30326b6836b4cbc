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
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from tqdm import tqdm

from ingestion_platform import alert
from ingestion_platform.api import Endpoint
from ingestion_platform.assembly import open_warehouse
from ingestion_platform.datasets.exchange_rates import daily_rates
from ingestion_platform.datasets.point_of_sale import pos
from ingestion_platform.datasets.supplier_catalogue import prices, products
from ingestion_platform.demo import apis, broker
from ingestion_platform.demo.business import Business
from ingestion_platform.demo.customers import customer_changes
from ingestion_platform.demo.event import TOPIC
from ingestion_platform.demo.events import LATE_DAYS, Told, tell_events
from ingestion_platform.demo.live import in_order, play
from ingestion_platform.demo.outside import CHART_LENGTH, NEW_FAMILY, REGIONS
from ingestion_platform.demo.pages import ENDPOINTS, EVENING, down_on
from ingestion_platform.demo.plan import ALL_TROUBLES, ZONE, Plan
from ingestion_platform.demo.producer import DatedProducer, FolderProducer
from ingestion_platform.demo.retailer import BANK_CLOSES, Incident, Outcome, Step, Story, tell
from ingestion_platform.errors import IngestionError, SettingsError
from ingestion_platform.landing import LandingZone, open_landing
from ingestion_platform.own_roots import OWN_ROOTS
from ingestion_platform.settings import Settings, inherited
from ingestion_platform.sources.fetch import Fetch
from ingestion_platform.sources.fetched import LandedEndpoint
from ingestion_platform.sources.opening import open_client
from ingestion_platform.warehouse import LedgerEntry, Warehouse

_DONE = re.compile(r" - ((?:raw|processed|reports)\.\w+) (\d{4}-\d{2}-\d{2}): (?!check )")
"""A line of Dagster's log that says that a day of a table is done."""


PATIENCE_SECONDS = 2.0
"""The demo has no five minutes to wait for rates that it has switched off itself."""


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
    story = tell(plan, has_sources=False)
    Path(settings.landing).mkdir(parents=True, exist_ok=True)
    refuse_foreign(open_landing(*settings.landing_places), story)
    folder = FolderProducer(Path(settings.landing))
    last = plan.dates[-1]
    say(
        f"A retail chain of {plan.stores} stores, {plan.days} days from {plan.dates[0]}, and everything that goes wrong with files."
    )
    log = settings.warehouse.parent / "demo.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    business = Business(plan)
    told = tell_events(business)
    before_last = tuple(event for event in told.during if event.at.astimezone(ZONE).date() < last)
    last_day = told.during[len(before_last) :]
    zone = open_landing(*settings.landing_places)
    if next(iter(zone.list("streams/")), None) is not None:
        # The broker of an earlier run is gone. This one has the same records at the same offsets, and never fewer than have landed.
        before_last, last_day = (*before_last, *told.afterwards, *in_order(business, last_day)), ()
    apis_file = settings.warehouse.parent / "apis.toml"
    settings = settings.model_copy(update={"apis": apis_file})
    with broker.serve() as kafka, apis.serve(plan, settings_file=apis_file) as server:
        # The server of an earlier run is gone, too: what had appeared in the catalogue then is still there.
        server.replies.has_appeared = next(iter(zone.list(products.root)), None) is not None
        asked_again: set[date] = set()
        for number, step in enumerate(story.steps, 1):
            moment = time.monotonic()
            # Files come in the evening; what comes afterwards, when nobody waits for it any longer.
            landed = step.land(DatedProducer(folder, timedelta(hours=19) if number == 1 else timedelta(days=3)))
            sent = kafka.send(TOPIC, before_last) if number == 1 else 0
            say(
                f"{number}. {step.description}\n   {landed:,} objects landed in {settings.landing}"
                + (f", and the tills sent {sent:,} events to a Kafka broker on {kafka.servers}" if sent else "")
                + f" ({time.monotonic() - moment:.1f} s)"
            )
            moment = time.monotonic()
            if number == 1:
                moment = time.monotonic()
                _fetch_rates(server, settings, plan)
                say(
                    f"   the rates of exchange of {plan.dates[0]} to {last} were asked for with each day's own clock, since the bank tells"
                    f" the present only ({time.monotonic() - moment:.1f} s)"
                )
            days = sorted(_days_of(step, settings))
            if number == len(story.steps) and last_day:
                days = sorted({*days, last})
                say(
                    f"   {last} is told as it happens, by the hour, while a worker follows (`make worker`) and its live rules look:"
                )
                sent = play(kafka, business, told.afterwards, last_day, zone, log, say)
                say(f"   the tills sent {sent:,} events ({time.monotonic() - moment:.1f} s)")
            moment = time.monotonic()
            before = server.total()
            if number > 1:
                asked_again = {day for day in plan.dates if days[0] <= day <= days[-1]}
            done = _materialize(days[0], days[-1], log, kafka.servers, apis_file)
            asked = server.total()
            say(
                f"   landing → raw → processed → reports, {days[0]} to {days[-1]}: {done:,} table days by Dagster, which asked the APIs"
                f" {asked.requests - before.requests:,} times, {asked.not_modified - before.not_modified:,} of them for what hasn't"
                f" changed ({time.monotonic() - moment:.1f} s)"
            )
            while stale := _stale_days(settings):
                moment = time.monotonic()
                # Nothing is new out there: what is stale is so by what has landed.
                done = _materialize(stale[0], stale[-1], log, kafka.servers, None)
                say(
                    f"   what that made stale elsewhere, {stale[0]} to {stale[-1]}:"
                    f" {done:,} table days by Dagster ({time.monotonic() - moment:.1f} s)"
                )
    with open_warehouse(settings) as warehouse:
        wrong = _tell_incidents(warehouse, story, say)
        wrong += _tell_stream(warehouse, told, say)
        wrong += _tell_states(warehouse, business, say)
        wrong += _tell_alerts(warehouse, last, say)
        wrong += _tell_apis(warehouse, server, asked_again, log.read_text(), say)
        _tell_balance(warehouse, say)
        _tell_reports(warehouse, last, say)
        warehouse.publish()
    say(f"\nDone in {time.monotonic() - began:.0f} s. Dagster's own words are in {log}.")
    say("Next: `make dev` opens all of it at http://127.0.0.1:3000; or replay a day, which changes nothing:")
    say(
        f"  .venv/bin/dagster asset materialize -m ingestion_platform.definitions --select '*' --partition-range {last}...{last}"
    )
    say(
        f"The APIs are gone with the demo. `.venv/bin/python -m ingestion_platform.demo apis --settings {apis_file}` serves them again, for"
        f" `INGESTION_APIS={apis_file} make dev`."
    )
    if wrong:
        raise DemoFailed(f"{len(wrong)} troubles didn't end as promised: {'; '.join(wrong)}", f"see {log}")


def refuse_foreign(zone: LandingZone, story: Story) -> None:
    """The demo doesn't mix with files that aren't its own."""
    fetched = (
        pos.root,
        alert.ROOT,
        *OWN_ROOTS,
        *(endpoint.root for endpoint in ENDPOINTS),
    )
    ours = {arrival.key for step in story.steps for arrival in step.objects}
    for landed in zone.list():
        if landed.key not in ours and not landed.key.startswith(fetched):
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


def _fetch_rates(server: apis.ApiServer, settings: Settings, plan: Plan) -> None:
    """
    Ask for the rates of every day of the plan, one day after the other, each with a clock that says that it is six in the evening then:
    what tells the present only can't be asked for days that are over.
    """
    endpoint = replace(daily_rates, api=replace(daily_rates.api, patience_seconds=PATIENCE_SECONDS))
    landed = LandedEndpoint(endpoint, open_landing(*settings.landing_places))
    with open_client(endpoint.api, settings.api_settings(), settings.warehouse_folder) as client:
        for day in plan.dates:
            evening = datetime.combine(day, EVENING, ZONE).astimezone(UTC)
            server.replies.today = day
            server.rates_are_down = day == down_on(plan)
            Fetch(landed, client, settings.zone, now=partial(_same, evening)).run(day)
    server.rates_are_down = False


def _same(moment: datetime) -> datetime:
    """A clock that stands still."""
    return moment


def _materialize(first: date, last: date, log: Path, kafka_servers: str, apis_file: Path | None) -> int:
    """
    Run everything for these days, as a user would: streams drained, APIs asked where a file names them; the answer is how many days of
    tables were done.
    """
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
            env=inherited(streams="pos", kafka_servers=kafka_servers, apis=str(apis_file or "")),
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

    tables = ("pos_events", "till_sessions", "loyalty_events", "payments", "freezer_readings", "pos_unknown")
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


def _tell_states(warehouse: Warehouse, business: Business, say: Callable[[str], None]) -> list[str]:
    """What is carried on from day to day; the answer names what isn't as it should be."""

    def one(sql: str) -> dict[str, Any]:
        return warehouse.query(sql).to_pylist()[0]

    dates = business.plan.dates
    movements = [move for day in dates for store in business.roster(day) for move in business.movements(store, day)]
    closing = datetime.combine(dates[-1], BANK_CLOSES)
    sent = sum(move.happened_at < closing for move in movements)
    accounts = one(
        "select count(*) as accounts, min(balance_zar) as lowest, sum(balance_zar) as balance_zar, sum(withdrawals_refused) as refused"
        " from processed.account_balances"
    )
    booked = one(
        "select count(*) as movements, sum(case when events.kind = 'deposit' then events.amount_zar"
        " when refused.event_id is null then -events.amount_zar else 0 end) as balance_zar, count(refused.event_id) as refused"
        " from processed.account_events as events left join processed.refused_withdrawals as refused on refused.event_id = events.event_id"
    )
    points = one(
        "select count(*) as customers, min(points) as lowest, sum(points_earned) as earned, sum(points_redeemed) as redeemed,"
        " sum(redemptions_refused) as refused from processed.loyalty_balances"
    )
    stock = one(
        "select count(*) as places, max(counted_at) as counted_at, sum(units_on_hand) as units from processed.stock_levels"
    )
    told = [change for _, changes in customer_changes(business.plan) for change in changes]
    there = {change.customer.customer_id: change for change in told}
    standing = [change.customer for change in there.values() if change.operation != "d"]
    customers = one(
        "select count(*) as customers, count(*) filter (wants_mail) as want_mail, count(distinct email) as emails"
        " from processed.customers_current"
    )
    history = one(
        "select count(*) as versions, count(distinct customer_id) as customers, count(*) filter (valid_from > valid_to) as wrong"
        " from processed.customers_history"
    )
    missing = one("select sum(units_missing) as units from processed.stock_levels where units_missing > 0")
    say("\nWhat is carried on from day to day:")
    wrong = []
    for is_right, line in (
        (
            booked["movements"] == sent
            and accounts["lowest"] >= 0
            and (accounts["balance_zar"], accounts["refused"]) == (booked["balance_zar"], booked["refused"]),
            f"{sent:,} deposits and withdrawals at the tills → R {accounts['balance_zar']:,} in {accounts['accounts']:,} accounts, none"
            f" overdrawn: {accounts['refused']:,} withdrawals were refused, each with the balance at that moment"
            " [processed.account_balances, processed.refused_withdrawals]",
        ),
        (
            points["lowest"] >= 0,
            f"{points['earned']:,} points earned, {points['redeemed']:,} redeemed → balances of {points['customers']:,} customers;"
            f" {points['refused']:,} times more were to be redeemed than there were [processed.loyalty_balances]",
        ),
        (
            stock["places"] > 0,
            f"counts, deliveries and sales → {stock['units']:,} units at {stock['places']:,} places; the last counts found"
            f" {missing['units'] or 0:,} fewer than there should have been [processed.stock_levels]",
        ),
        (
            (customers["customers"], customers["want_mail"], customers["emails"])
            == (len(standing), sum(one.wants_mail for one in standing), len({one.email for one in standing}))
            and (history["versions"], history["wrong"]) == (sum(one.operation != "d" for one in told), 0),
            f"{len(told):,} changes in the web shop's database → {customers['customers']:,} customers, and {history['versions']:,} versions"
            f" of {history['customers']:,}: who moved, who left [processed.customers_current, processed.customers_history]",
        ),
    ):
        say(f"  {'·' if is_right else '✗'} {line}")
        if not is_right:
            wrong.append(line)
    return wrong


def _tell_alerts(warehouse: Warehouse, day: date, say: Callable[[str], None]) -> list[str]:
    """What the live rules said of the last day, held against what the batch says of it; the answer names what isn't as it should be."""
    standing = warehouse.query(
        "select rule, count(*) as alerts, count(distinct alert_id) as ids from processed.alerts"
        f" where _day = date '{day}' and change = 'raised' group by rule order by rule"
    ).to_pylist()
    agreed = warehouse.agreement(warehouse.sql_tables["processed.alerts_in_batch"], day)
    say(f"\nWhat the live rules said of {day}, and what the same rules say of the day's tables:")
    told = ", ".join(f"{one['alerts']:,} of {one['rule']}" for one in standing) or "nothing"
    wrong = []
    for is_right, line in (
        (
            all(one["alerts"] == one["ids"] for one in standing)
            and {"card_fraud", "warm_freezer"} <= {one["rule"] for one in standing},
            f"alerts, each once: {told} [processed.alerts]",
        ),
        (
            not agreed.unexplained,
            f"{agreed.both:,} alerts that both have, {len(agreed.differences):,} that one has, {len(agreed.unexplained):,} of them without"
            " a reason [processed.alerts_in_batch, check live_agrees]",
        ),
    ):
        say(f"  {'·' if is_right else '✗'} {line}")
        if not is_right:
            wrong.append(line)
    return wrong


def _tell_apis(
    warehouse: Warehouse, server: apis.ApiServer, asked_again: set[date], log: str, say: Callable[[str], None]
) -> list[str]:
    """
    What became of what the APIs told, and of what went wrong with them; the answer names what ended otherwise than it should.

    Args:
        warehouse: where to look.
        server: what was asked of it.
        asked_again: the days that were fetched twice.
        log: Dagster's own words.
        say: takes each line.
    """

    def number(sql: str) -> int:
        return int(warehouse.query(sql).column(0)[0].as_py() or 0)

    plan, counts = server.replies.outside.business.plan, server.total()
    roster = [len(server.replies.outside.business.roster(day)) for day in plan.dates]
    families = server.replies.outside.families
    new = families[NEW_FAMILY]
    weather = number("select count(*) from processed.weather")
    charted = number("select count(*) from processed.trending_music")
    listed = number("select count(*) from processed.catalogue_products")
    listed_once = number("select count(distinct (_day, product_number)) from processed.catalogue_products")
    is_listed = number(
        f"select count(*) from processed.catalogue_products where product_number = '{new.family_id}' and _day = date '{new.listed_on}'"
    )
    fetches = {endpoint.name: _landed_fetches(warehouse, endpoint, plan) for endpoint in ENDPOINTS}
    changed = {
        (endpoint.name, day) for endpoint in ENDPOINTS for day, count in fetches[endpoint.name].items() if count > 1
    }
    should_change = (
        {(products.name, new.listed_on), (prices.name, new.listed_on)} if new.listed_on in plan.dates else set()
    )
    down = down_on(plan)
    stale = warehouse.query(
        "select _day, max(rated_on) as rated_on from processed.exchange_rates where is_stale group by _day"
    ).to_pylist()
    failed = re.findall(rf"landing\.{daily_rates.name} (\S+): check fresh: (?=the API is down|fetch )", log)
    not_rated = [str(day) for day in plan.dates if day.weekday() > 4]
    carried = warehouse.query(
        "select distinct sold_on::varchar as day from reports.sales_in_euro where is_carried_forward and not is_stale order by 1"
    ).to_pylist()
    in_euro = warehouse.query(
        "select count(*) as regions, count(net_eur) as converted from reports.sales_in_euro"
    ).to_pylist()[0]
    say("\nWhat the APIs told, and what became of it:")
    wrong = []
    for is_right, line in (
        (
            counts.too_fast == 0 and counts.must_retry > 0,
            f"{counts.requests:,} requests, {counts.tokens} of them for tokens; {counts.must_retry} were asked again: {counts.failed}"
            f" answered 503, {counts.throttled} 429, {counts.dropped} not at all or not to the end,"
            f" {counts.refused} that their token is worn out; {counts.not_modified:,} hadn't changed; none came faster than declared",
        ),
        (
            weather == sum(roster) and charted == plan.days * len(REGIONS) * CHART_LENGTH,
            f"the weather at every open store and the charts of {len(REGIONS)} regions → {weather:,} rows in processed.weather,"
            f" {charted:,} in processed.trending_music",
        ),
        (
            listed == listed_once and bool(is_listed) == (new.listed_on in asked_again),
            f"{new.family_id} appeared in the catalogue of {new.listed_on} while it was read → {listed:,} products of all days, none twice,"
            " and the new one since it was asked for again",
        ),
        (
            changed == should_change,
            f"{len(asked_again)} days were asked for again afterwards → landed again:"
            f" {', '.join(sorted({name for name, _ in changed})) or 'nothing'} of {new.listed_on}, which had changed; nothing else",
        ),
        (
            [row["_day"] for row in stale] == ([down] if down else [])
            and all(row["rated_on"] < row["_day"] for row in stale)
            and set(failed) == {str(row["_day"]) for row in stale},
            f"the bank was down on {down} for longer than its patience → {', '.join(str(row['rated_on']) for row in stale)}'s rates"
            f" stand in, marked stale, and the check fresh fails, on purpose [landing/{daily_rates.name} {down}]",
        ),
        (
            [row["day"] for row in carried] == not_rated,
            f"no rates are set on Saturdays and Sundays → Friday's hold on {' and '.join(not_rated) or 'none of these days'}, and say so"
            " [reports.sales_in_euro]",
        ),
        (
            0 < in_euro["regions"] == in_euro["converted"],
            f"sales by region and day, {in_euro['regions']} rows → all of them in euro, too [reports.sales_in_euro]",
        ),
    ):
        say(f"  {'·' if is_right else '✗'} {line}")
        if not is_right:
            wrong.append(line)
    return wrong


def _landed_fetches(warehouse: Warehouse, endpoint: Endpoint, plan: Plan) -> dict[date, int]:
    """Whole fetches that have landed of an endpoint, by day."""
    landed = LandedEndpoint(endpoint, open_landing(*warehouse.settings.landing_places))
    return {day: sum(fetch.is_whole for fetch in landed.fetches(day)) for day in plan.dates}


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
            f"  {dataset.name:<18} {read:>7,} read {sign} {processed:,} processed + {superseded:,} duplicates + {quarantined:,} quarantined"
        )


def _tell_reports(warehouse: Warehouse, day: date, say: Callable[[str], None]) -> None:
    for what, sql in (
        (
            "Who had to send sales, and what came of it, of platform.senders",
            "select day, count(*) as stores, string_agg(sender, ', ' order by sender) filter (where status = 'missing') as missing,"
            " string_agg(sender, ', ' order by sender) filter (where status = 'unreadable') as unreadable,"
            " string_agg(sender, ', ' order by sender) filter (where status = 'late') as late,"
            " string_agg(sender, ', ' order by sender) filter (where status = 'corrected') as corrected"
            f" from platform.senders where dataset = 'sales' and is_expected and day <= date '{day}' group by day order by day",
        ),
        (
            "What that makes of reports.daily_sales, of platform.versions",
            "select day, version, state, why from platform.versions where table_name = 'reports.daily_sales'"
            " order by day desc, version limit 5",
        ),
        (
            "The top of reports.daily_sales",
            "select store_id, store_name, region, transactions, units, net_zar from reports.daily_sales"
            f" where sold_on = date '{day}' order by net_zar desc, store_id limit 5",
        ),
        (
            "Some moments for marketing, of reports.marketing_moments",
            "select region, artist, title, chart_position, positions_climbed, net_zar, against_trailing_pct from reports.marketing_moments"
            f" where charted_on = date '{day}' and is_moment order by positions_climbed desc nulls last, region limit 5",
        ),
    ):
        say(f"\n{what}, until {day}:" if "platform" in what else f"\n{what}, {day}:")
        for line in warehouse.query(sql).to_pandas().to_string(index=False).splitlines():
            say(f"  {line}")
