"""
Beginnings of keys under which the platform itself writes into the landing zone: no dataset may claim them.

Belongs here: the beginnings, and keys as they are written there. Doesn't: what stands under them. Alerts are a dataset of their own
(`alert.py`).
"""

from collections.abc import Callable

DECISIONS = "decisions/"
"""What people decide about rows and senders (`decisions.py`)."""
FORGOTTEN = "forgotten/"
"""Who was forgotten, by digest, and what was done for it (`warehouse/forgotten.py`)."""
TOLD = "told/"
"""Which changes of alerts a sink was told (`sinks/notes.py`)."""
DEAD_LETTERS = "dead_letters/"
"""Alerts that a sink wasn't told, and why (`sinks/notes.py`)."""
LIVE = "live/"
"""What live rules have judged (`rules/notes.py`)."""
RECEIPTS = "receipts/"
"""What was seen of objects that others have replaced since (`warehouse/receipts.py`)."""

OWN_ROOTS = (DECISIONS, FORGOTTEN, TOLD, DEAD_LETTERS, LIVE, RECEIPTS)

_STAMPED = "20240229T000000000000Z-0123456789abcdef.json"


def claimed(root: str, match: Callable[[str], object], dataset: str) -> str | None:
    """
    The beginning of the platform's own keys among which those of a declaration may be; None: they are apart.

    Args:
        root: the beginning that all of its keys share.
        match: gives something of a key that is its.
        dataset: its name.
    """
    examples = {
        DECISIONS: f"{DECISIONS}discard/{dataset}/{_STAMPED}",
        FORGOTTEN: f"{FORGOTTEN}20240229T000000000000Z-01234567/begun-1.json",
        TOLD: f"{TOLD}sink/2024/02/29/{_STAMPED}",
        DEAD_LETTERS: f"{DEAD_LETTERS}sink/2024/02/29/{_STAMPED}",
        LIVE: f"{LIVE}2024/02/29/{_STAMPED}",
        RECEIPTS: f"{RECEIPTS}{dataset}/2024/02/29/0123456789abcdef.json",
    }
    return next((own for own, key in examples.items() if root.startswith(own) or match(key) is not None), None)
