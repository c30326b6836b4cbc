"""
Beginnings of keys under which the platform itself writes into the landing zone: no dataset may claim them.

Belongs here: the beginnings, and which templates may claim them. Doesn't: what stands under them. Alerts are a dataset of their own
(`alert.py`).
"""

from ingestion_platform.key_template import KeyTemplate

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

_ENDING = ".json"
"""Of every key of the platform's own."""


def claimed(template: KeyTemplate) -> str | None:
    """The beginning of the platform's own keys among which those of a template may be; None: they are apart."""
    first, *others = template.segments(None)
    last = template.text.rpartition("}")[2]
    # Under a beginning of the platform's own nothing else may land, whatever its end.
    has_our_ending = isinstance(first, str) or last.endswith(_ENDING) or _ENDING.endswith(last)
    for own in OWN_ROOTS:
        name = own.rstrip("/")
        is_ours = first == name if isinstance(first, str) else first.fullmatch(name) is not None
        if others and is_ours and has_our_ending:
            return own
    return None
