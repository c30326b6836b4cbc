"""`python -m ingestion_platform alerts …`: which alerts stand, who was told of them, and telling those that couldn't be told."""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ingestion_platform.alert import Alert
from ingestion_platform.api import Rate
from ingestion_platform.commands.arguments import number
from ingestion_platform.commands.quarantine import who
from ingestion_platform.errors import SettingsError
from ingestion_platform.landing import LandingZone, open_landing
from ingestion_platform.settings import Settings
from ingestion_platform.sinks import notes
from ingestion_platform.sinks.carrier import open_carrier
from ingestion_platform.sinks.message import Message, harmless
from ingestion_platform.sinks.resending import resend
from ingestion_platform.sinks.sink import Sink, read_sinks
from ingestion_platform.sinks.standing import SinkStanding, standing_alerts, standings
from ingestion_platform.sources.pace import Pace

_FOLLOW_SECONDS = 0.5
_MARGIN = timedelta(minutes=1)
"""What lands with a name of a minute ago, because another machine's clock says so, is seen too."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Say what can be asked."""
    alerts = commands.add_parser("alerts", help="print alerts of live rules that stand, by rule, the newest first")
    alerts.add_argument("--rule", action="append", default=[], help="of this rule alone; may be said again")
    alerts.add_argument(
        "--hours", type=number, default=24, metavar="N", help="that landed in the last N hours; default: %(default)s"
    )
    alerts.add_argument("--follow", action="store_true", help="print changes of alerts as they land, without end")
    alerts.set_defaults(run=_run)
    asked = alerts.add_subparsers(dest="asked", metavar="COMMAND")
    asked.add_parser("sinks", help="what each sink was told, what waits, what it couldn't be told, and why")
    tried = asked.add_parser("try", help="send a test message to a sink")
    tried.add_argument("sink")
    again = asked.add_parser("resend", help="tell dead letters again, those that were refused, too")
    again.add_argument("--sink", help="default: all")
    drop = asked.add_parser("drop", help="give up the dead letters of a sink; it lands who did, and why")
    drop.add_argument("--sink", required=True, help="also one that isn't declared any more")
    drop.add_argument("--by", default=None, help="who gives them up; default: who is logged in")
    drop.add_argument("--why", required=True, help="the reason, for those who come after")


def _run(chosen: argparse.Namespace) -> int:
    """Do what was asked; the answer is the exit code."""
    settings = Settings.load()
    zone = open_landing(*settings.landing_places)
    if chosen.asked is None:
        return _follow(zone, chosen) if chosen.follow else _tell(zone, chosen)
    sinks = read_sinks(settings.sink_tables())
    if chosen.asked == "sinks":
        return _tell_sinks(standings(zone, sinks, datetime.now(UTC)))
    if chosen.asked == "drop":
        letters = notes.open_letters(zone, chosen.sink)
        by = chosen.by if chosen.by is not None else who()
        for letter in letters:
            notes.settle(zone, letter.key, datetime.now(UTC), f"given up by {by}: {chosen.why}")
        print(f"{sum(len(letter.alerts) for letter in letters):,} alerts in {len(letters):,} dead letters given up")
        return 0
    if chosen.asked == "try":
        return _try(_named(sinks, chosen.sink)[0])
    return _resend(settings, zone, _named(sinks, chosen.sink))


def _tell(zone: LandingZone, chosen: argparse.Namespace) -> int:
    landed = notes.landed_since(zone, datetime.now(UTC) - timedelta(hours=chosen.hours))
    if chosen.rule:
        landed = [one for one in landed if one.alert.rule in chosen.rule]
    by_rule: dict[tuple[int, str], list[Alert]] = defaultdict(list)
    for one in standing_alerts(landed):
        by_rule[one.alert.priority, one.alert.rule].append(one.alert)
    for (_, rule), alerts in sorted(by_rule.items()):
        print(f"{harmless(rule, 100)}: {len(alerts):,} standing")
        for alert in sorted(alerts, key=lambda one: one.happened_at, reverse=True):
            print(f"  {_line(alert)}")
    if not by_rule:
        print(f"no alert that landed in the last {chosen.hours} hours stands")
    return 0


def _follow(zone: LandingZone, chosen: argparse.Namespace) -> int:
    """Print what lands until somebody has enough."""
    since = datetime.now(UTC)
    known: dict[tuple[str, int], datetime] = {}
    try:
        while True:
            for one in notes.landed_since(zone, since):
                change = one.alert.id, one.alert.ordinal
                if change not in known and (not chosen.rule or one.alert.rule in chosen.rule):
                    words = "withdrawn " if one.alert.change == "withdrawn" else ""
                    print(f"{words}{harmless(one.alert.rule, 100)}: {_line(one.alert)}", flush=True)
                known[change] = one.at
            since = max(since, datetime.now(UTC) - _MARGIN)
            known = {change: at for change, at in known.items() if at >= since - _MARGIN}
            time.sleep(_FOLLOW_SECONDS)
    except KeyboardInterrupt:
        return 0


def _line(alert: Alert) -> str:
    """An alert on one line."""
    about = ", ".join(f"{name} {value}" for name, value in alert.about.items())
    moment = alert.happened_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return harmless(f"{moment} {alert.action} {alert.score:.2f} {about}: {'; '.join(alert.reasons)}", 300)


def _tell_sinks(found: Sequence[SinkStanding]) -> int:
    """Print how it stands with sinks; 1 when one of them isn't in order."""
    for one in found:
        print(f"{one.sink}{'' if one.is_declared else ' (not declared any more)'}")
        if one.is_declared:
            print(f"  told: {one.told:,}")
            oldest = f", the oldest since {one.oldest_at:%Y-%m-%d %H:%M:%S} UTC" if one.oldest_at else ""
            print(f"  waiting: {one.waiting:,}{oldest}")
        since = f", since {one.dead_since:%Y-%m-%d %H:%M:%S} UTC" if one.dead_since else ""
        refused = f", {one.refused:,} of them refused" if one.refused else ""
        print(f"  dead: {one.dead:,}{refused}{since}")
        if one.last_error:
            print(f"  last error: {harmless(one.last_error, 500)}")
    if not found:
        print("nobody is told: no sink is declared (hint: name a file in INGESTION_SINKS)")
    return 0 if all(one.is_in_order for one in found) else 1


def _try(sink: Sink) -> int:
    now = datetime.now(UTC)
    alert = Alert(
        rule="test",
        about={"sink": sink.name},
        deserved_by=now.isoformat(),
        happened_at=now,
        day=now.date(),
        change="raised",
        ordinal=0,
        raised_at=now,
        priority=9,
        action="notify",
        score=1.0,
        reasons=("somebody wants to see whether messages arrive",),
        dataset="",
    )
    carrier = open_carrier(sink)
    try:
        carrier.send(Message([alert], is_test=True))
    finally:
        carrier.close()
    print(f"sink {sink.name} has taken the test message")
    return 0


def _resend(settings: Settings, zone: LandingZone, sinks: Sequence[Sink]) -> int:
    """Tell dead letters; 1 when some are left."""
    is_done = True
    for sink in sinks:
        if not notes.open_letters(zone, sink.name):
            print(f"{sink.name}: nothing is dead")
            continue
        pace = Pace(Rate(sink.messages_per_minute, 60.0), settings.warehouse_folder / "pace" / f"sink-{sink.name}.pace")
        carrier = open_carrier(sink)
        try:
            resent = resend(zone, sink, carrier, pace)
        finally:
            carrier.close()
        withdrawn = f", {resent.withdrawn:,} needn't be told any more" if resent.withdrawn else ""
        left = f", {resent.left:,} left" if resent.left else ""
        print(f"{sink.name}: {resent.told:,} told{withdrawn}{left}")
        if resent.left:
            is_done = False
            print(f"{sink.name}: {resent.error}", file=sys.stderr)
    return 0 if is_done else 1


def _named(sinks: Sequence[Sink], name: str | None) -> list[Sink]:
    chosen = [sink for sink in sinks if name in (None, sink.name)]
    if name is not None and not chosen:
        raise SettingsError(
            f"no sink is called {name!r:.100}",
            f"sinks: {', '.join(sink.name for sink in sinks) or 'none are declared'}",
        )
    return chosen
