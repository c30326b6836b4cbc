"""
Beginnings of keys under which the platform itself writes notes into the landing zone: no dataset may claim them.

Belongs here: the beginnings. Doesn't: what stands under them. Decisions have kinds and names to tell apart (`decisions.py`), and alerts are
a dataset of their own (`alert.py`).
"""

TOLD = "told/"
"""Which changes of alerts a sink was told (`sinks/notes.py`)."""
DEAD_LETTERS = "dead_letters/"
"""Alerts that a sink wasn't told, and why (`sinks/notes.py`)."""
LIVE = "live/"
"""What live rules have judged (`rules/notes.py`)."""
RECEIPTS = "receipts/"
"""What was seen of objects that others have replaced since (`warehouse/receipts.py`)."""

OWN_ROOTS = (TOLD, DEAD_LETTERS, LIVE, RECEIPTS)
