"""
What a person decides about data: a row is discarded, a sender excused. Each decision is a small JSON object that lands, once.

Belongs here: the decision, its key and its text, and what is wrong with a text that is none. Doesn't: landing it
(`warehouse/decided.py`), what follows from it.

A warehouse that is made anew from the landing zone takes the decisions in again, so nothing that was decided is lost with it. A key says
when, and has the digest of the text: one that was cut or changed is told from what was decided.

    decisions/discard/sales/20241003T081500123456Z-9e107d9d372bb682.json
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ingestion_platform.errors import LandingError
from ingestion_platform.own_roots import DECISIONS
from ingestion_platform.table import IDENTIFIER

MAX_BYTES = 16 * 1024**2
"""A larger object isn't one that the platform wrote."""
MAX_NAME = 200
MAX_WHY = 4000

_KEY = re.compile(
    rf"{DECISIONS}(?P<kind>[a-z][a-z0-9_]*)/(?P<dataset>[a-z][a-z0-9_]*)/(?P<stamp>[0-9]{{8}}T[0-9]{{12}}Z)-(?P<digest>[0-9a-f]{{16}})\.json"
)
_STAMP = "%Y%m%dT%H%M%S%fZ"
_CONTROL = re.compile("[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")
_CONTROL_IN_WHY = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_MEMBERS = frozenset({"kind", "dataset", "at", "by", "why", "what"})


@dataclass(frozen=True, slots=True)
class Decision:
    """
    One decision, by one person.

    Args:
        kind: what was decided: `discard`, `redrive`, …; snake_case.
        dataset: about which dataset.
        at: when, UTC.
        by: who, as he is called.
        why: his reason, for those who come after.
        what: the details; a JSON object.
    """

    kind: str
    dataset: str
    at: datetime
    by: str
    why: str
    what: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(IDENTIFIER.fullmatch(self.kind) is not None, f"kind is snake_case, not {self.kind!r:.100}")
        _require(IDENTIFIER.fullmatch(self.dataset) is not None, f"dataset is snake_case, not {self.dataset!r:.100}")
        _require(self.at.tzinfo is UTC and self.at.year >= 1000, f"at is a moment in UTC, not {self.at!r}")
        _require(
            len(self.by.strip()) > 0 and len(self.by) <= MAX_NAME and not _CONTROL.search(self.by),
            f"by is a name of 1 to {MAX_NAME} characters on one line, not {self.by!r:.100}",
        )
        _require(
            len(self.why.strip()) > 0 and len(self.why) <= MAX_WHY and not _CONTROL_IN_WHY.search(self.why),
            f"why is a reason of 1 to {MAX_WHY} characters, not {self.why!r:.100}",
        )
        _require(isinstance(self.what, Mapping), f"what is a JSON object, not {self.what!r:.100}")

    @property
    def content(self) -> bytes:
        """
        As it lands: the same decision gives the same bytes.

        Raises:
            LandingError: *what* can't be written as JSON.
        """
        values = {
            "kind": self.kind,
            "dataset": self.dataset,
            "at": self.at.isoformat(timespec="microseconds"),
            "by": self.by,
            "why": self.why,
            "what": dict(self.what),
        }
        try:
            text = json.dumps(values, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
            content = text.encode() + b"\n"
        except (ValueError, TypeError, RecursionError) as error:
            raise LandingError(
                f"a decision's what can't be written as JSON: {error}", "texts, numbers, lists"
            ) from error
        _require(len(content) <= MAX_BYTES, f"it has {len(content):,} bytes, and {MAX_BYTES:,} at most land as one")
        return content

    @property
    def key(self) -> str:
        """Where it lands."""
        return f"{folder(self.kind, self.dataset)}{self.at.strftime(_STAMP)}-{_digest(self.content)}.json"


def folder(kind: str, dataset: str) -> str:
    """Under which all decisions of a kind about a dataset land."""
    return f"{DECISIONS}{kind}/{dataset}/"


def parse(key: str, content: bytes) -> Decision:
    """
    Read a decision that landed under *key*.

    Raises:
        LandingError: it is none, or not the one that was written there.
    """
    found = _KEY.fullmatch(key)
    if found is None:
        raise _unreadable(key, "its name isn't one that the platform gives")
    if len(content) > MAX_BYTES:
        raise _unreadable(key, f"it has {len(content):,} bytes")
    if _digest(content) != found["digest"]:
        raise _unreadable(key, "it was cut or changed after it was written")
    try:
        values = json.loads(content, parse_constant=_no_constant)
        if not isinstance(values, dict) or set(values) != _MEMBERS:
            raise ValueError(f"its members aren't {', '.join(sorted(_MEMBERS))}")
        if not all(isinstance(values[name], str) for name in _MEMBERS - {"what"}) or not isinstance(
            values["what"], dict
        ):
            raise ValueError("a member isn't of its type")
        at = datetime.fromisoformat(values["at"]).astimezone(UTC)
        decision = Decision(values["kind"], values["dataset"], at, values["by"], values["why"], values["what"])
    except (ValueError, RecursionError, OverflowError) as error:
        raise _unreadable(key, str(error)) from error
    except LandingError as error:
        raise _unreadable(key, error.what) from error
    if (decision.kind, decision.dataset, at.strftime(_STAMP)) != (found["kind"], found["dataset"], found["stamp"]):
        raise _unreadable(key, "what it says isn't what its name says")
    return decision


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise LandingError(f"no decision: {what}", "who decides gives his name and his reason")


def _unreadable(key: str, what: str) -> LandingError:
    return LandingError(
        f"the decision {key!r:.300} can't be read: {what}",
        "restore it from a backup, or move it out of the landing zone and decide again; until then it counts for nothing",
    )
