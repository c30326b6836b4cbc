"""
An event of a till: its bytes, and when the stream takes it.

Belongs here: the value that all who invent events share. Doesn't: what events there are (`events.py`, `live.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

TOPIC = "pos.events"


@dataclass(frozen=True, slots=True)
class TillEvent:
    """An event as a till sends it; *at* is when the stream takes it."""

    key: str
    value: bytes
    at: datetime
    headers: Mapping[str, str]

    @classmethod
    def of(cls, store_id: str, at: datetime, text: str, till: str = "1") -> "TillEvent":
        """What a till of a store says at a moment."""
        return cls(store_id, text.encode(), at + timedelta(seconds=1), {"till": f"{store_id}-{till}"})
