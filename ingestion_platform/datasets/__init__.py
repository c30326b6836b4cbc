"""
What we ingest: declarations, one module per source system.

Belongs here: `Dataset(…)` objects at top level of a module, found by import. Doesn't: code that does anything.
"""
