"""
What a person types after a command: a day, a number; and what he is told when it is none.

Belongs here: kinds of arguments, whether they fit together, and what commands need that work on a warehouse. Doesn't: what any does.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date

from ingestion_platform.assembly import open_warehouse
from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import SettingsError
from ingestion_platform.warehouse import Warehouse

MOST = 2**62


def day(text: str) -> date:
    """A day, as in 2024-10-01."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day, as 2024-10-01 is ({error})") from error


def number(text: str) -> int:
    """A number of things, 0 or more."""
    try:
        found = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from error
    if not 0 <= found < MOST:
        raise argparse.ArgumentTypeError(f"{text} isn't 0 or more, and below 2^62")
    return found


def require_order(first: date | None, last: date | None) -> None:
    """
    Whether days are asked for at all.

    Raises:
        SettingsError: the last is before the first.
    """
    if first is not None and last is not None and last < first:
        raise SettingsError(f"the last day, {last}, is before the first, {first}", "swap --first and --last")


def in_warehouse(work: Callable[[Warehouse, argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command's work that needs the warehouse; the file that people open shows what it did."""

    def run(chosen: argparse.Namespace) -> int:
        with open_warehouse() as warehouse:
            return work(warehouse, chosen)

    return run


def datasets_of(warehouse: Warehouse, names: Sequence[str]) -> list[Dataset]:
    """
    Datasets by their names, each once.

    Raises:
        SettingsError: there is no such dataset.
    """
    unknown = sorted(set(names) - set(warehouse.datasets))
    if unknown:
        raise SettingsError(f"there is no dataset {unknown[0]!r}", f"datasets: {', '.join(warehouse.datasets)}")
    return [warehouse.datasets[name] for name in dict.fromkeys(names)]


def whisper(line: str) -> None:
    """How far it is, where only a person reads it."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)
