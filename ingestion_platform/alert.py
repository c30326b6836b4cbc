"""
What a live rule says of an event: an alert, raised once, and withdrawn when what came later shows that it wasn't deserved.

Belongs here: the alert, its id, its key in the landing zone and its text. Doesn't: when one is raised (`live/`), telling it (`sinks/`).

Alerts land like everything else, as JSON lines, several of one business day in an object:

    alerts/2024/10/01/20241001T081500123456Z-9e107d9d372bb682.jsonl

The day is that of the event which deserves it, so that an alert that is raised anew after a kill lands where the first one did, and
the load takes one of them: their id and their ordinal are the same.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

ROOT = "alerts/"
TEMPLATE = "alerts/%Y/%m/%d/{stamp}.jsonl"
"""Of the keys of alerts; the day is that of the events."""

Action = Literal["hold", "notify", "review"]
"""What whoever is told should do: hold the goods or the payment, know it, or look at it when there is time."""
Change = Literal["raised", "withdrawn"]

_STAMP = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True, slots=True)
class Alert:
    """
    One change of an alert.

    Args:
        rule: its name.
        about: what it is about, as column → value: `{"store_id": "S0001", "product_id": "P00012"}`; personal values masked.
        deserved_by: the key of the event, or the beginning of the episode, that deserves it. With `rule` and `about` it
            makes the alert's id.
        happened_at: when that was, UTC.
        day: its business day.
        change: raised, or withdrawn after it had been.
        ordinal: 0 when it is raised first, 1 when that is withdrawn, 2 when it is raised again, …
        raised_at: when this change was found, UTC.
        priority: of the rule; 1 comes before 9.
        action: what is to be done.
        score: how sure, 0 to 1.
        reasons: in words, the weightiest first.
        details: numbers behind them.
        dataset: the dataset of the event.
    """

    rule: str
    about: Mapping[str, str]
    deserved_by: str
    happened_at: datetime
    day: date
    change: Change
    ordinal: int
    raised_at: datetime
    priority: int
    action: Action
    score: float
    reasons: tuple[str, ...]
    dataset: str
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same rule, subject and event, whoever judged it, and however often."""
        told = json.dumps([self.rule, dict(self.about), self.deserved_by], ensure_ascii=True, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def line(self) -> bytes:
        """It as a line of JSON, without a line end."""
        values = {
            "alert_id": self.id,
            "ordinal": self.ordinal,
            "change": self.change,
            "rule": self.rule,
            "about": dict(self.about),
            "deserved_by": self.deserved_by,
            "happened_at": _written(self.happened_at),
            "raised_at": _written(self.raised_at),
            "priority": self.priority,
            "action": self.action,
            "score": f"{self.score:.3f}",
            "reasons": list(self.reasons),
            "details": dict(self.details),
            "dataset": self.dataset,
        }
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def written(alerts: Sequence[Alert]) -> bytes:
    """The content of an object of alerts."""
    return b"".join(alert.line() + b"\n" for alert in alerts)


def read(content: bytes, day: date) -> list[Alert]:
    """
    The alerts of an object that lies under a day.

    Raises:
        ValueError: it isn't one that the platform wrote.
    """
    alerts = []
    for line in content.splitlines():
        try:
            told = json.loads(line)
            alert = Alert(
                rule=told["rule"],
                about=told["about"],
                deserved_by=told["deserved_by"],
                happened_at=datetime.fromisoformat(told["happened_at"]),
                day=day,
                change=told["change"],
                ordinal=told["ordinal"],
                raised_at=datetime.fromisoformat(told["raised_at"]),
                priority=told["priority"],
                action=told["action"],
                score=float(told["score"]),
                reasons=tuple(told["reasons"]),
                dataset=told["dataset"],
                details=told["details"],
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"a line isn't an alert: {error}") from error
        if alert.id != told["alert_id"]:
            raise ValueError(f"the alert {told['alert_id']!r:.100} isn't what its id says")
        alerts.append(alert)
    return alerts


def key_of(day: date, moment: datetime, content: bytes) -> str:
    """
    Where an object of alerts lands.

    Args:
        day: of the events.
        moment: now, UTC.
        content: of the object.
    """
    return f"{ROOT}{day:%Y/%m/%d}/{moment.strftime(_STAMP)}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
