"""
The example as commands: `python -m ingestion_platform.demo run`, and `… generate --landing DIR` for what lands alone,
`… clicks` for a stream to try, `… apis` for APIs to try.

Belongs here: reading the command line, and telling what landed. Doesn't: running the platform (`driver.py`).
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from ingestion_platform.demo import FolderProducer, Plan, Trouble, tell
from ingestion_platform.errors import IngestionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the answer is the exit code."""
    usual = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m ingestion_platform.demo", description="Make up the files of a retail chain."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "run", help="land 60 stores x 7 days with every trouble, run the whole path, tell what happened"
    )
    command = commands.add_parser(
        "generate", help="land the files of stores and days in a folder, and segments of the tills' events"
    )
    command.add_argument("--landing", type=Path, required=True, help="the landing zone's folder")
    command.add_argument("--stores", type=int, default=usual.stores, help="default: %(default)s")
    command.add_argument("--days", type=int, default=usual.days, help="default: %(default)s")
    command.add_argument("--first-day", type=date.fromisoformat, default=usual.first_day, help="default: %(default)s")
    command.add_argument(
        "--seed", type=int, default=usual.seed, help="equal seeds give equal bytes; default: %(default)s"
    )
    command.add_argument(
        "--lines",
        type=int,
        default=usual.lines_per_store_day,
        help="till lines of a store and day; default: %(default)s",
    )
    command.add_argument(
        "--trouble",
        action="append",
        default=[],
        choices=["all", *(trouble.value for trouble in Trouble)],
        help="what goes wrong; may be given several times",
    )
    command.add_argument(
        "--step", type=int, choices=(1, 2), help="land this step only; default: both, one after the other"
    )
    served = commands.add_parser("clicks", help="serve a Kafka topic of web clicks on loopback, to try a stream with")
    served.add_argument("--rate", type=int, default=20, help="clicks a second; default: %(default)s")
    serving = commands.add_parser("apis", help="serve the example's APIs on loopback, and some to try one with")
    serving.add_argument(
        "--settings",
        type=Path,
        default=Path("data/apis.toml"),
        help="what INGESTION_APIS then names; default: %(default)s",
    )
    chosen = parser.parse_args(arguments)
    if chosen.command == "apis":
        return _serve_apis(chosen.settings)
    if chosen.command == "clicks":
        return _serve_clicks(chosen.rate)
    if chosen.command == "run":
        return _run()
    troubles = frozenset(Trouble) if "all" in chosen.trouble else frozenset(map(Trouble, chosen.trouble))
    try:
        story = tell(Plan(chosen.stores, chosen.days, chosen.first_day, chosen.seed, chosen.lines, troubles))
        producer = FolderProducer(chosen.landing)
        for number, step in enumerate(story.steps, 1):
            if chosen.step in (None, number):
                print(f"{step.name}: {step.land(producer):,} objects in {chosen.landing}")
    except IngestionError as error:
        print(error, file=sys.stderr)
        return 1
    for incident in story.incidents:
        print(f"{incident.trouble.value} → {incident.outcome.value}: {incident.what}")
    return 0


def _serve_clicks(rate: int) -> int:
    from ingestion_platform.demo.clicks import run

    try:
        run(rate, tell=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        return 0
    except IngestionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _serve_apis(settings_file: Path) -> int:
    from ingestion_platform.demo.apis import run

    try:
        run(settings_file, tell=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        return 0
    except IngestionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run() -> int:
    # Half a second to import, and only this command needs it.
    from ingestion_platform.demo.driver import run

    try:
        run()
    except IngestionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
