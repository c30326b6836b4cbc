"""How large the example is, and what goes wrong in it. Doesn't know how any of it is made."""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from ingestion_platform.errors import DeclarationError

ZONE = ZoneInfo("Africa/Johannesburg")
"""Where all stores are; it has no daylight saving time."""


class Trouble(StrEnum):
    """One thing that goes wrong with the files of real senders."""

    MISSING_STORE = "missing_store"
    """A store sends no sales for a day, and never does."""
    LATE_FILE = "late_file"
    """A store's sales land two days late, under the day they belong to."""
    REWRITTEN_FILE = "rewritten_file"
    """A store sends a day's sales with wrong amounts, and later the right ones under the same name."""
    SAME_BYTES_TWICE = "same_bytes_twice"
    """A store's file lands a second time under another name."""
    HALF_WRITTEN = "half_written"
    """Files are cut in the middle of a row; some are completed later, one never is."""
    BAD_ROWS = "bad_rows"
    """A store's file has rows that break each rule of the contract, and rows with a key that is there already."""
    LATE_ROWS = "late_rows"
    """A store's file brings rows of former days, one of them older than allowed."""
    EXTRA_COLUMN = "extra_column"
    """A store's till adds a column from the fourth day on."""
    NOT_CSV = "not_csv"
    """What is called .csv is a picture, or a web page."""


ALL_TROUBLES = frozenset(Trouble)

_DAYS_NEEDED = {Trouble.LATE_ROWS: 3, Trouble.EXTRA_COLUMN: 4}


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What to make up. Equal plans give equal bytes.

    Args:
        stores: how many; every fifth sends gzip. With ten or more and over three days, the last one opens on the fourth day.
        days: how many.
        first_day: the first of them.
        seed: another seed, another business.
        lines_per_store_day: till lines of a store and day, on average.
        troubles: what goes wrong; each on files of its own.
    """

    stores: int = 60
    days: int = 7
    first_day: date = date(2024, 10, 1)
    seed: int = 20241001
    lines_per_store_day: int = 40
    troubles: frozenset[Trouble] = frozenset()

    def __post_init__(self) -> None:
        if not (1 <= self.stores <= 9_999 and self.days >= 1 and self.lines_per_store_day >= 1):
            raise DeclarationError(
                f"a plan has 1 to 9,999 stores, and a day and a line at least; not {self.stores} stores, {self.days} days, "
                f"{self.lines_per_store_day} lines"
            )
        for trouble in sorted(self.troubles):
            needed = _DAYS_NEEDED.get(trouble, 1)
            if self.days < needed:
                raise DeclarationError(f"trouble {trouble.value!r} needs {needed} days, the plan has {self.days}")

    @property
    def dates(self) -> tuple[date, ...]:
        """The days, oldest first."""
        return tuple(self.first_day + timedelta(days=index) for index in range(self.days))
