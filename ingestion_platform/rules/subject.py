"""
One subject's events in order, the state after them, and what they deserve; a late event changes what came after it.

Belongs here: the fold, forwards and anew. Doesn't: which events are a subject's (`judge.py`), what a step says (`kinds.py`).
"""

from bisect import bisect_left
from datetime import datetime
from typing import Any, TypeAlias

from ingestion_platform.rules.rule import Finding, Kind

KEPT_EVERY = 16
"""A state is kept after so many events: one that comes late is judged anew from the one before it."""

_NOTHING: Any = object()

Order: TypeAlias = tuple[datetime, str]
"""Event time and key."""


class Subject:
    """
    What a rule makes of one subject's events of a day.

    Args:
        kind: of the rule.
        known: what is known of the subject beforehand.
    """

    __slots__ = ("_base", "_changed_from", "_events", "_findings", "_kind", "_orders", "_state", "_states", "known")

    def __init__(self, kind: Kind, known: Any) -> None:
        self._kind = kind
        self.known = known
        self._orders: list[Order] = []
        self._events: list[Any] = []
        self._states: list[Any] = []
        self._base: Any = None
        self._state: Any = None
        self._changed_from: Order | None = None
        self._findings: dict[str, tuple[Order, Finding]] = {}

    @property
    def state(self) -> Any:
        """After the last event."""
        return self._state

    @property
    def findings(self) -> dict[str, Finding]:
        """What its events deserve, by what it is deserved by."""
        return {key: finding for key, (_, finding) in self._findings.items()}

    def take(self, event: Any) -> dict[str, Finding] | None:
        """
        Take an event.

        Returns:
            What was deserved before, when that may have changed (it is known when `settle` has been called); None: it hasn't.
        """
        order = event[:2]
        orders = self._orders
        if self._changed_from is None and (not orders or order > orders[-1]):
            self._state, found = self._kind.step(self._state, event, self.known)
            orders.append(order)
            self._events.append(event)
            self._states.append(self._state if len(orders) % KEPT_EVERY == 0 else _NOTHING)
            if not found:
                return None
            before = self.findings
            for finding in found:
                self._findings.setdefault(finding.deserved_by, (order, finding))
            return before
        at = bisect_left(orders, order)
        if at < len(orders) and orders[at] == order:
            self._events[at] = event
        else:
            orders.insert(at, order)
            self._events.insert(at, event)
            self._states.insert(at, _NOTHING)
        self._change(order)
        return self.findings

    def leave_out(self, order: Order) -> None:
        """Let go of an event that another one with its key has replaced."""
        at = bisect_left(self._orders, order)
        if at < len(self._orders) and self._orders[at] == order:
            del self._orders[at], self._events[at], self._states[at]
            self._change(order)

    def know(self, known: Any) -> None:
        """Judge every event that is held anew, by what is known now."""
        self.known = known
        if self._orders:
            self._change(self._orders[0])

    def _change(self, order: Order) -> None:
        self._changed_from = order if self._changed_from is None else min(order, self._changed_from)

    def settle(self) -> None:
        """Judge anew what came after a late event."""
        if self._changed_from is None:
            return
        changed, self._changed_from = self._changed_from, None
        begin, state = self._state_before(bisect_left(self._orders, changed))
        self._findings = {key: one for key, one in self._findings.items() if one[0] < changed}
        for index in range(begin, len(self._events)):
            state, found = self._kind.step(state, self._events[index], self.known)
            self._states[index] = state if index % KEPT_EVERY == KEPT_EVERY - 1 else _NOTHING
            for finding in found:
                self._findings.setdefault(finding.deserved_by, (self._orders[index], finding))
        self._state = state

    def _state_before(self, at: int) -> tuple[int, Any]:
        """The nearest state that is kept of those before an event, and which event comes after it."""
        while at > 0 and self._states[at - 1] is _NOTHING:
            at -= 1
        return at, self._states[at - 1] if at else self._base

    def forget(self, before: datetime) -> None:
        """Let go of events before a moment: what they came to stays, and nothing can be put between them any more."""
        self.settle()
        count = bisect_left(self._orders, (before, ""))
        if not count:
            return
        begin, state = self._state_before(count)
        for event in self._events[begin:count]:
            state, _ = self._kind.step(state, event, self.known)
        self._base = state
        del self._orders[:count], self._events[:count], self._states[:count]
