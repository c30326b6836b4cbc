"""
`python -m ingestion_platform chaos`: choose, run, tell.

Belongs here: the table that a person reads, and the exit code. Doesn't: any of what happens.
"""

import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion_platform.assembly import declared_datasets, declared_sql_tables
from ingestion_platform.chaos.campaign import Campaign, Result
from ingestion_platform.chaos.faults import FAULTS, Fault
from ingestion_platform.chaos.ground import Unsurvived
from ingestion_platform.chaos.landed import Business, chosen, copied, made_up
from ingestion_platform.chaos.processes import ChildFailed, ask
from ingestion_platform.errors import SettingsError, WarehouseError
from ingestion_platform.landing import open_landing
from ingestion_platform.settings import Settings

SECONDS = 120.0
ROUNDS = 100
MOST_AT_ONCE = 4
"""Rounds under way; each has a process or three at work."""
WARM = ("pandas", "pyarrow.parquet", "boto3.session", "botocore.httpsession", "ingestion_platform.landing.s3")
"""What would else be imported by each of hundreds of processes."""


@dataclass(frozen=True)
class Wanted:
    """
    What a person asks for.

    Args:
        datasets: names; none: all that are declared.
        faults: names; none: all.
        rounds: of each fault, at most.
        seed: of all that is left to chance.
        seconds: after which no further round begins.
        landed: take copies of what has landed, instead of making objects up.
        days: of what has landed.
        keep: folder in which what wasn't survived stays; None: a temporary one.
    """

    datasets: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    rounds: int = ROUNDS
    seed: int = 1
    seconds: float = SECONDS
    landed: bool = False
    days: int = 3
    keep: Path | None = None


def run(wanted: Wanted, *, say: Callable[[str], None] = print) -> int:
    """
    Run a campaign and tell it.

    Returns:
        0: every fault was met and survived, and each twin caught; 1: not so.

    Raises:
        DeclarationError: a dataset isn't declared, or nothing can be made up of any.
        SettingsError: a fault isn't known, or nothing has landed.
    """
    faults = _faults(wanted.faults)
    for module in WARM:
        importlib.import_module(module)
    settings = Settings.load()
    root = wanted.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    root.mkdir(parents=True, exist_ok=True)
    datasets = chosen(declared_datasets(), wanted.datasets)

    def gather() -> Business:
        tables = declared_sql_tables(settings.timezone)
        if wanted.landed:
            return copied(datasets, tables, settings, open_landing(*settings.landing_places), wanted.days)
        return made_up(datasets, tables, settings, wanted.seed)

    try:
        # Elsewhere, since it starts threads, and whoever forks has none.
        business = ask(gather, root)
        _tell_business(business, wanted, say)
        campaign = Campaign(business, root / "rounds", wanted.seed, lambda line: say(f"  {line}"))
        campaign.begin()
        say(f"a clean run takes {campaign.seconds:.1f} s; seed {wanted.seed}")
        results = campaign.run(
            faults, rounds=wanted.rounds, seconds=wanted.seconds, at_once=min(os.cpu_count() or 1, MOST_AT_ONCE)
        )
    except ChildFailed as failed:
        raise WarehouseError(f"nothing could be put to the test: {failed}", "see what it says") from failed
    except Unsurvived as error:
        raise WarehouseError(
            str(error), "that is no fault of chaos: run `python -m ingestion_platform catch-up`"
        ) from error
    finally:
        if wanted.keep is None and not any((root / "rounds").glob("*/place")):
            shutil.rmtree(root, ignore_errors=True)
    return _tell(results, wanted, root, say)


def _faults(names: Sequence[str]) -> tuple[Fault, ...]:
    known = {fault.name: fault for fault in FAULTS}
    for name in names:
        if name not in known:
            raise SettingsError(f"there is no fault {name!r}", f"one of {', '.join(known)}")
    return tuple(known[name] for name in names) or FAULTS


def _tell_business(business: Business, wanted: Wanted, say: Callable[[str], None]) -> None:
    size = sum(len(arrival.content) for arrival in business.arrivals)
    where = f"copies of {wanted.days} days that have landed" if wanted.landed else "made up from the declarations"
    say(
        f"{len(business.arrivals)} objects, {size:,} bytes, {where}, of {', '.join(sorted(business.datasets))};"
        f" {len(business.sql_tables)} SQL tables"
    )
    for name, why in sorted(business.untested.items()):
        say(f"  not tried: {name}: {why}")


def table(results: Sequence[Result]) -> list[str]:
    """The table that is told, line by line."""
    lines = [f"{'fault':<15}{'rounds':>7}{'survived':>10}  {'twin':<12}delivered"]
    for result in results:
        if result.needs:
            lines.append(f"{result.fault.name:<15}{'-':>7}{'-':>10}  {'-':<12}not possible here: {result.needs}")
            continue
        met = ", ".join(f"{count:,} {what}" for what, count in sorted(result.met.items()) if _is_told(what))
        missing = [what for what in result.fault.met if not result.met[what]]
        if missing:
            met = f"NOT DELIVERED: {', '.join(missing)}" + (f" (but {met})" if met else "")
        survived = str(result.survived) if result.is_met else "?"
        twin = "caught" if result.twin_caught else "NOT CAUGHT"
        lines.append(f"{result.fault.name:<15}{result.rounds:>7}{survived:>10}  {twin:<12}{met}")
    return lines


def _is_told(what: str) -> bool:
    return what not in ("steps", "commits") and not what.startswith("killed: ")


def _tell(results: Sequence[Result], wanted: Wanted, root: Path, say: Callable[[str], None]) -> int:
    say("")
    for line in table(results):
        say(line)
    failed = [result for result in results if not result.holds]
    for result in failed:
        for number, wrong in result.wrong.items():
            say("")
            say(f"{result.fault.name}, round {number}, wasn't survived ({root / 'rounds'}):")
            for line in wrong[:5]:
                say(f"  {line}")
            again = [f"--faults {result.fault.name}", f"--seed {wanted.seed}", f"--rounds {number}"]
            again += [f"--dataset {name}" for name in wanted.datasets] + (["--landed"] if wanted.landed else [])
            say(f"  again: python -m ingestion_platform chaos {' '.join(again)}")
    say("")
    if failed:
        say(
            f"{len(failed)} of {len(results)} faults weren't survived, delivered, or told apart from their twins; seed {wanted.seed}"
        )
        return 1
    say(f"{sum(result.rounds for result in results)} rounds survived: the tables are the clean run's, byte for byte")
    return 0
