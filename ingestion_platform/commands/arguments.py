"""
What a person types after a command: a day, a number; and what he is told when it is none.

Belongs here: kinds of arguments, and whether they fit together. Doesn't: what any command does with them.
"""

import argparse
from datetime import date

from ingestion_platform.errors import SettingsError

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
