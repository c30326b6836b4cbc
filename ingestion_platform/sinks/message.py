"""
A message: one alert or several of a kind, as a machine reads it and as a person does.

Belongs here: its words, its JSON, and keeping both harmless and small enough. Doesn't: sending it (`carrier.py`).

What an alert says comes from events, and those from anybody: control letters, those that turn the direction of writing, and halves of
letters become blanks or U+FFFD; what is too long is cut, and says so.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property
from typing import Any

from ingestion_platform.alert import Action, Alert, Change

MOST_ALERTS = 2000
"""In one message: their ids alone are 80 KB."""
MOST_BYTES = 250 * 1024
"""Of a message: SNS and SQS take 256 KiB, attributes among them."""
CUT = "… (cut)"

_NEVER_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]+")
_BROKEN = re.compile("[\ud800-\udfff\ufffe\uffff]")
_LONGEST_REASON = 500
_MOST_REASONS = 10
_LONGEST_VALUE = 200
_MOST_VALUES = 40
_LONGEST_TITLE = 200
_TO_DO: Mapping[Action, str] = {
    "hold": "Hold the goods or the payment until somebody has looked at it.",
    "notify": "Know it; whoever is responsible decides what follows.",
    "review": "Look at it when there is time.",
}
_WITHDRAWN = "What came later shows that this wasn't deserved: undo what was done because of it."


@dataclass(frozen=True)
class Message:
    """
    What is told at once.

    Args:
        alerts: one change each of several alerts, all of one rule, change and action; 1 to `MOST_ALERTS`.
        shown: so many of them are in it whole.
        is_test: it is a person's trial, and nothing has happened.
    """

    alerts: Sequence[Alert]
    shown: int = 10
    is_test: bool = False

    @cached_property
    def ids(self) -> list[str]:
        """Each alert's id and ordinal, as notes name them."""
        return [f"{alert.id}.{alert.ordinal}" for alert in self.alerts]

    @cached_property
    def id(self) -> str:
        """The same for the same changes of the same alerts: of one alert its id and ordinal."""
        if len(self.ids) == 1:
            return self.ids[0]
        return hashlib.sha256("\n".join(sorted(self.ids)).encode()).hexdigest()[:32]

    @property
    def rule(self) -> str:
        """Of all of its alerts."""
        return harmless(self.alerts[0].rule, _LONGEST_VALUE)

    @property
    def change(self) -> Change:
        """Of all of its alerts."""
        return self.alerts[0].change

    @property
    def action(self) -> Action:
        """Of all of its alerts."""
        return self.alerts[0].action

    @property
    def priority(self) -> int:
        """The most urgent one's."""
        return min(alert.priority for alert in self.alerts)

    @property
    def title(self) -> str:
        """One line: what to do, which rule, about what."""
        words = "Withdrawn" if self.change == "withdrawn" else self.action.capitalize()
        if len(self.alerts) == 1:
            about = _listed(self.alerts[0].about)
        else:
            shared = set(self.alerts[0].about.items()).intersection(*(alert.about.items() for alert in self.alerts[1:]))
            about = ", ".join(filter(None, (f"{len(self.alerts):,} alerts", _listed(dict(sorted(shared))))))
        test = "Test: " if self.is_test else ""
        return harmless(f"{test}{words}: {self.rule}: {about}", _LONGEST_TITLE)

    @property
    def subject(self) -> str:
        """The title as e-mails take it: ASCII, at most 100 letters, the first of them a letter or digit."""
        ascii_only = "".join(letter if " " <= letter <= "~" else "?" for letter in self.title)
        return ascii_only if len(ascii_only) <= 100 else f"{ascii_only[:91]}... (cut)"

    def text(self, shown: int | None = None) -> str:
        """
        All of it for a person: what, why, what to do, and the ids.

        Args:
            shown: so many alerts; default: those of the message.
        """
        some = self.alerts[: self.shown if shown is None else shown]
        lines = [self.title, _WITHDRAWN if self.change == "withdrawn" else _TO_DO[self.action]]
        if self.is_test:
            lines.append("This is a test: nothing has happened, and nothing is to be done.")
        for alert in some:
            lines.append("")
            if len(self.alerts) > 1:
                lines.append(_listed(alert.about))
            lines += [f"- {harmless(reason, _LONGEST_REASON)}" for reason in alert.reasons[:_MOST_REASONS]]
            if len(alert.reasons) > _MOST_REASONS:
                lines.append(f"- {len(alert.reasons) - _MOST_REASONS} more reasons {CUT}")
            moment = alert.happened_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            lines.append(f"{moment}; score {alert.score:.2f}; alert {alert.id}, change {alert.ordinal}")
        left = len(self.alerts) - len(some)
        if left:
            lines += ["", f"… and {left:,} more {CUT if not some else ''}".rstrip()]
        return "\n".join(lines)

    def document(self, shown: int | None = None) -> dict[str, Any]:
        """
        All of it for a machine, as JSON's objects.

        Args:
            shown: so many alerts whole; default: those of the message. The ids of all are in it.
        """
        some = self.alerts[: self.shown if shown is None else shown]
        return {
            "message_id": self.id,
            "is_test": self.is_test,
            "title": self.title,
            "text": self.text(shown),
            "rule": self.rule,
            "change": self.change,
            "action": self.action,
            "priority": self.priority,
            "count": len(self.alerts),
            "ids": self.ids,
            "alerts": [_shown(alert) for alert in some],
            "left_out": len(self.alerts) - len(some),
        }

    def body(self) -> bytes:
        """The document as JSON in ASCII, of `MOST_BYTES` at most."""
        return self.fitted(lambda shown: written(self.document(shown)))

    def fitted(self, make: Callable[[int], bytes], most_bytes: int = MOST_BYTES) -> bytes:
        """
        What is made with as many alerts shown as there is room for.

        Args:
            make: gives it with so many alerts shown.
            most_bytes: the room.
        """
        shown = min(self.shown, len(self.alerts))
        while True:
            made = make(shown)
            if len(made) <= most_bytes or not shown:
                return made
            shown //= 2


def written(document: Mapping[str, Any]) -> bytes:
    """A document as JSON in ASCII, on one line: no transport has trouble with any letter."""
    return json.dumps(document, separators=(",", ":")).encode()


def harmless(text: str, longest: int) -> str:
    """A text on one line, of so many letters at most, that shows what it is."""
    line = " ".join(_BROKEN.sub("\ufffd", _NEVER_SHOWN.sub(" ", text[: longest * 4])).split())
    return line if len(line) <= longest and len(text) <= longest * 4 else line[: longest - len(CUT)] + CUT


def _listed(values: Mapping[str, str]) -> str:
    return harmless(", ".join(f"{name} {value}" for name, value in values.items()), _LONGEST_VALUE)


def _shown(alert: Alert) -> dict[str, Any]:
    """An alert as it landed, harmless and not too long."""
    return {
        "alert_id": alert.id,
        "ordinal": alert.ordinal,
        "change": alert.change,
        "rule": harmless(alert.rule, _LONGEST_VALUE),
        "about": _values(alert.about),
        "deserved_by": harmless(alert.deserved_by, _LONGEST_REASON),
        "happened_at": alert.happened_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "raised_at": alert.raised_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "day": alert.day.isoformat(),
        "priority": alert.priority,
        "action": alert.action,
        "score": f"{alert.score:.3f}",
        "reasons": [harmless(reason, _LONGEST_REASON) for reason in alert.reasons[:_MOST_REASONS]],
        "details": _values(alert.details),
        "dataset": harmless(alert.dataset, _LONGEST_VALUE),
    }


def _values(values: Mapping[str, str]) -> dict[str, str]:
    some = list(values.items())[:_MOST_VALUES]
    return {harmless(name, _LONGEST_VALUE): harmless(value, _LONGEST_VALUE) for name, value in some}
