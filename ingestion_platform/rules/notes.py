"""
What a worker notes of its judging, beside its alerts: until when it has judged, by what, and what it has left to the batch.

Belongs here: the note, its key in the landing zone and its text. Doesn't: when one is written (`live/`), comparing
(`warehouse/agreement.py`).

    live/2024/10/01/20241001T081500123456Z-9e107d9d372bb682.json

The day is that of the events. A day without notes is one on which no worker judged.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from ingestion_platform.own_roots import LIVE

ALL = "*"
"""As a rule: whatever it is, and whatever it is about."""

_STAMP = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True, slots=True)
class Left:
    """
    Events that were left to the batch.

    Args:
        rule: which would have judged them, or `ALL`.
        about: their subject, as column → value.
        why: in words.
        events: how many.
    """

    rule: str
    about: Mapping[str, str]
    why: str
    events: int


@dataclass(frozen=True, slots=True)
class Note:
    """
    What a worker notes.

    Args:
        day: of the events.
        since: UTC; when it began.
        until: UTC; whatever had come by then was judged, or is left to the batch.
        left: since the note before.
        backlog: records that were still to be judged.
        backlog_seconds: about how long that would take; None: nobody knew.
        known: `table@day` → the content of what was known beforehand, and of what references were held against.
    """

    day: date
    since: datetime
    until: datetime
    left: tuple[Left, ...] = ()
    backlog: int = 0
    backlog_seconds: float | None = None
    known: Mapping[str, str] = field(default_factory=dict)

    def written(self) -> bytes:
        """It as text."""
        said = {
            "since": self.since.astimezone(UTC).isoformat(timespec="microseconds"),
            "until": self.until.astimezone(UTC).isoformat(timespec="microseconds"),
            "left": [[one.rule, dict(one.about), one.why, one.events] for one in self.left],
            "backlog": self.backlog,
            "backlog_seconds": round(self.backlog_seconds, 1) if self.backlog_seconds is not None else None,
            "known": dict(self.known),
        }
        return (json.dumps(said, ensure_ascii=False, sort_keys=True) + "\n").encode()

    def __str__(self) -> str:
        """In a line, for a person."""
        told = [f"judged until {self.until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"]
        if self.backlog:
            left = (
                f"about {self.backlog_seconds:,.0f} s" if self.backlog_seconds is not None else "nobody knows how long"
            )
            told.append(f"{self.backlog:,} records of a backlog left ({left})")
        return ", ".join(told)

    @property
    def key(self) -> str:
        """Where it lands."""
        digest = hashlib.sha256(self.written()).hexdigest()[:16]
        return f"{LIVE}{self.day:%Y/%m/%d}/{self.until.astimezone(UTC).strftime(_STAMP)}-{digest}.json"


def read(content: bytes, day: date) -> Note:
    """
    A note that lies under a day.

    Raises:
        ValueError: it isn't one that the platform wrote.
    """
    try:
        said: Any = json.loads(content)
        left = tuple(Left(str(rule), dict(about), str(why), int(events)) for rule, about, why, events in said["left"])
        moments = [datetime.fromisoformat(said[name]) for name in ("since", "until")]
        known = {str(key): str(value) for key, value in said["known"].items()}
        seconds = said["backlog_seconds"]
        return Note(
            day,
            moments[0],
            moments[1],
            left,
            int(said["backlog"]),
            float(seconds) if seconds is not None else None,
            known,
        )
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it isn't a note of live rules: {error}") from error
