"""`python -m ingestion_platform extract …`: read a table or a query of a database now, without Dagster."""

import argparse
import sys
from datetime import UTC, datetime

from ingestion_platform.assembly import declared_datasets
from ingestion_platform.commands.arguments import day
from ingestion_platform.errors import SettingsError
from ingestion_platform.landing import open_landing
from ingestion_platform.settings import Settings
from ingestion_platform.sources.extract import Extraction, story
from ingestion_platform.sources.extracted import LandedExtract
from ingestion_platform.sources.opening import Connections, open_database


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Say what can be asked."""
    parser = commands.add_parser("extract", help="read tables and queries of databases into the landing zone, now")
    parser.set_defaults(run=_run)
    parser.add_argument("extract", nargs="+", help="names")
    parser.add_argument("--day", type=day, help="of a query that asks for days; default: today")
    parser.add_argument("--restart", action="store_true", help="with a cursor: all that was known is void, read all")
    parser.add_argument("--sweep", action="store_true", help="with a cursor: compare all keys, also when it isn't time")


def _run(chosen: argparse.Namespace) -> int:
    """Do what was asked; the answer is the exit code."""
    settings = Settings.load()
    extracts = declared_datasets().extracts
    unknown = [name for name in chosen.extract if name not in extracts]
    if unknown:
        raise SettingsError(f"there is no extract {unknown[0]!r}", f"extracts: {', '.join(extracts) or 'none'}")
    today = datetime.now(UTC).astimezone(settings.zone).date()
    connections = Connections(databases=settings.database_properties(), replicas=settings.replica_properties())
    for name in chosen.extract:
        extract = extracts[name]
        wanted = chosen.day or today
        if wanted != today and not extract.asks_for_days:
            raise SettingsError(f"extract {name!r} tells the present, {today}", "leave --day out")
        landed = LandedExtract(extract, open_landing(*settings.landing_places))
        extraction = Extraction(landed, open_database(extract.database, connections), settings.zone)
        extracted = extraction.run(wanted, restart=chosen.restart, sweep=chosen.sweep)
        for problem in extracted.problems:
            print(f"{name} {wanted}: begun anew: {problem}", file=sys.stderr)
        print(f"{name} {wanted}: {story(extracted)}")
    return 0
