"""
How a bucket is told by what a landing zone's objects age: S3's lifecycle rules, made of the declarations.

Belongs here: the rules as plain values, and which of a bucket's rules are ours. Doesn't: asking S3 (`s3.py`).

Only rules whose id begins with `OURS` are replaced; everybody else's stay as they are. None of ours ever expires anything.
"""

import json
from collections.abc import Mapping
from typing import Any

from ingestion_platform.lifecycle import Lifecycle

OURS = "ingestion-platform"

_LONGEST_ID = 255


def rules_of(roots: Mapping[str, Lifecycle | None], prefix: str) -> list[dict[str, Any]]:
    """
    A rule for each beginning of keys whose objects age.

    Args:
        roots: beginning of keys → how what is there ages.
        prefix: of the landing zone in its bucket.
    """
    rules = []
    for root, lifecycle in sorted(roots.items()):
        if lifecycle is None:
            continue
        transitions: list[dict[str, Any]] = []
        if lifecycle.warm_after_days is not None:
            transitions.append({"Days": lifecycle.warm_after_days, "StorageClass": "STANDARD_IA"})
        if lifecycle.cold_after_days is not None:
            transitions.append({"Days": lifecycle.cold_after_days, "StorageClass": lifecycle.cold_class})
        rules.append(
            {
                "ID": f"{OURS} {prefix}{root}"[:_LONGEST_ID],
                "Status": "Enabled",
                "Filter": {"Prefix": f"{prefix}{root}"},
                "Transitions": transitions,
            }
        )
    return rules


def is_ours(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether a rule of the bucket was made from the declarations of the landing zone under *prefix*."""
    beginning = f"{OURS} {prefix}"
    return str(rule.get("ID", "")).startswith(beginning[:_LONGEST_ID])


def merged(configuration: Mapping[str, Any], roots: Mapping[str, Lifecycle | None], prefix: str) -> dict[str, Any]:
    """A bucket's configuration with our rules as they are declared now, in the place of those that were."""
    others = [rule for rule in configuration["Rules"] if not is_ours(rule, prefix)]
    return {**configuration, "Rules": [*others, *rules_of(roots, prefix)]}


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changes from one configuration to the other, a line for each rule; none when they say the same."""
    old = {str(rule.get("ID", "")): rule for rule in before["Rules"]}
    new = {str(rule.get("ID", "")): rule for rule in after["Rules"]}
    lines = []
    for name in sorted({*old, *new}):
        if name not in old:
            lines.append(f"+ {_told(new[name])}")
        elif name not in new:
            lines.append(f"- {_told(old[name])}")
        elif _comparable(old[name]) != _comparable(new[name]):
            lines += [f"- {_told(old[name])}", f"+ {_told(new[name])}"]
    return lines


def deleting(configuration: Mapping[str, Any], prefix: str) -> list[str]:
    """Ids of rules of others that delete what has landed under *prefix*: the warehouse could not be rebuilt any more."""
    found = []
    for rule in configuration["Rules"]:
        chosen = rule.get("Filter", {})
        begins = chosen.get("Prefix", chosen.get("And", {}).get("Prefix", rule.get("Prefix", "")))
        expires = {"Days", "Date"} & set(rule.get("Expiration", {}))
        if rule.get("Status") == "Enabled" and expires and (begins.startswith(prefix) or prefix.startswith(begins)):
            found.append(str(rule.get("ID", "")))
    return found


def _told(rule: Mapping[str, Any]) -> str:
    moves = [f"after {one.get('Days')} days to {one['StorageClass']}" for one in rule.get("Transitions", ())]
    return f"{rule.get('ID', '')!r}: {', '.join(moves) or 'no transition'}"


def _comparable(rule: Mapping[str, Any]) -> str:
    return json.dumps(rule, sort_keys=True, default=str)
