"""
The dialect of a dataset whose declaration leaves it to be detected: recorded in the landing zone, once.

Belongs here: the note, and reading by it. Doesn't: finding a dialect out (`formats/detection.py`).

The note lands like everything else, so that a warehouse that is rebuilt reads by it again. Of two processes that detect at the same time
one writes it, and both read by it. What the declaration pins counts for more than the note.
"""

import json
from dataclasses import replace
from typing import Any

from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import LandingError
from ingestion_platform.format import Csv
from ingestion_platform.landing import LandingZone

NAMES = ("delimiter", "quote", "escape", "bare_quotes", "header_rows", "header_at", "encoding")


class DialectNote:
    """
    A dataset's note.

    Args:
        landing: where it lands.
        dataset: whose it is.
    """

    def __init__(self, landing: LandingZone, dataset: Dataset) -> None:
        self._landing = landing
        self.key = f"dialects/{dataset.name}.json"

    def read(self, format: Csv) -> Csv | None:
        """
        *format* with what it leaves to be detected as the note says; None when nothing is recorded yet.

        Raises:
            LandingError: somebody else has written it, and it can't be read.
        """
        landed = next((one for one in self._landing.list(self.key) if one.key == self.key), None)
        if landed is None:
            return None
        try:
            recorded = json.loads(self._landing.read(landed))
            values: dict[str, Any] = {name: recorded[name] for name in format.undetected}
            return replace(format, **values)
        except (ValueError, KeyError, TypeError) as error:
            raise LandingError(
                f"the recorded dialect {self.key} can't be read: {error}", "declare the dialect"
            ) from error

    def write(self, detected: Csv, key: str) -> None:
        """Record what was detected of an object, unless something is recorded already."""
        values = {name: getattr(detected, name) for name in NAMES} | {"detected_of": key}
        self._landing.put_if_absent(self.key, json.dumps(values, indent=2).encode() + b"\n")
