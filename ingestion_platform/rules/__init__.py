"""
Rules that the running stream is judged by: what one says of a subject's events, and what that makes of events that come in any order.

| module | what |
|---|---|
| `rule` | the declaration, and what a kind of rule is |
| `kinds` | the kinds that there are: signs of fraud, a level that runs low, a state that lasts, a rate that jumps |
| `subject` | one subject's events in order, and what a late one changes |
| `judge` | all rules of a dataset on its rows: alerts that are deserved, and those that aren't any more |

Belongs here: plain Python without I/O. Doesn't: rows out of records (`warehouse/rows_live.py`), the running stream (`live/`).

The alerts of a day are a function of the set of its events. Each rule is a fold over a subject's events in the order of event time (ties by
key), from as far before the day as it looks back; so it makes no difference in which order they came, and a batch over the day's table
comes to the same.
"""

from ingestion_platform.rules.rule import Finding, Kind, Known, Rule, Rules, Step, find_rules

__all__ = ["Finding", "Kind", "Known", "Rule", "Rules", "Step", "find_rules"]
