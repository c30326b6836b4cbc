"""
The items of the suite, a module each: what it lands, its cases, and what their sides do.

Belongs here: one module an item. Doesn't: taking turns and counting (`suite.py`, `sides.py`), goals (`table.py`).
"""

NAMES = ("day", "one_big_file", "nothing_new", "year", "tick", "one_bad", "restate", "code_location", "scale")
"""In the order in which they are measured and shown."""
