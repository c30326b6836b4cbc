"""
One subject's events in order, the state after them, and what they deserve; a late event changes what came after it.

Belongs here: the fold, forwards and anew. Doesn't: which events are a subject's (`judge.py`), what a step says (`kinds.py`).
"""

from bisect import bisect_left, bisect_right
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeAlias

from ingestion_platform.rules.rule import Finding, Kind

KEPT_EVERY = 16
"""A state is kept after so many events: one that comes late is judged anew from the one before it."""

Order: TypeAlias = tuple[datetime, str]
"""Event time and key."""


class Subject:
    """
    What a rule makes of one subject's events of a day.

    Args:
        kind: of the rule.
        known: what is known of the subject beforehand.
    """

    __slots__ = ("_base", "_changed_from", "_events", "_findings", "_forgotten", "_kind", "_state", "_states", "known")

    def __init__(self, kind: Kind, known: Any) -> None:
        self._kind = kind
        self.known = known
        self._events: list[Any] = []
        self._forgotten = 0
        """Events before those that are held."""
        self._states: list[tuple[int, Any]] = []
        """Some of the states that can be begun from: after how many events, the forgotten ones counted, and the state. They ascend."""
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
        events = self._events
        if self._changed_from is None:
            # Nearly all come in order, and this is most of what judging costs.
            last = events[-1] if events else None
            if last is None or last[0] < event[0] or (last[0] == event[0] and last[1] < event[1]):
                self._state, found = self._kind.step(self._state, event, self.known)
                events.append(event)
                if not len(events) % KEPT_EVERY:
                    self._states.append((self._forgotten + len(events), self._state))
                if not found:
                    return None
                before = self.findings
                for finding in found:
                    self._findings.setdefault(finding.deserved_by, (event[:2], finding))
                return before
        order: Order = event[:2]
        at = self._place(order)
        if at < len(events) and events[at][:2] == order:
            events[at] = event
        else:
            events.insert(at, event)
        self._change(order, at)
        return self.findings

    def leave_out(self, order: Order) -> None:
        """Let go of an event that another one with its key has replaced."""
        at = self._place(order)
        if at < len(self._events) and self._events[at][:2] == order:
            del self._events[at]
            self._change(order, at)

    def know(self, known: Any) -> None:
        """Judge every event that is held anew, by what is known now."""
        self.known = known
        if self._events:
            self._change(self._events[0][:2], 0)

    def _place(self, order: Order) -> int:
        return bisect_left(self._events, order, key=_order)

    def _change(self, order: Order, at: int) -> None:
        """Events are others from the place *at* on: states after it are none any more."""
        while self._states and self._states[-1][0] > self._forgotten + at:
            self._states.pop()
        self._changed_from = order if self._changed_from is None else min(order, self._changed_from)

    def settle(self) -> None:
        """Judge anew what came after a late event."""
        if self._changed_from is None:
            return
        changed, self._changed_from = self._changed_from, None
        begin, state = self._state_before(self._place(changed))
        self._findings = {key: one for key, one in self._findings.items() if one[0] < changed}
        for number, event in enumerate(self._events[begin:], start=begin + 1):
            state, found = self._kind.step(state, event, self.known)
            if not number % KEPT_EVERY:
                self._states.append((self._forgotten + number, state))
            for finding in found:
                self._findings.setdefault(finding.deserved_by, (event[:2], finding))
        self._state = state

    def _state_before(self, at: int) -> tuple[int, Any]:
        """The nearest state that is kept of those before an event, and which event comes after it; later states are let go of."""
        while self._states and self._states[-1][0] > self._forgotten + at:
            self._states.pop()
        if self._states:
            after, state = self._states[-1]
            return after - self._forgotten, state
        return 0, self._base

    def forget(self, before: datetime) -> None:
        """Let go of events before a moment: what they came to stays, and nothing can be put between them any more."""
        self.settle()
        count = self._place((before, ""))
        if not count:
            return
        gone = self._forgotten + count
        kept = bisect_right(self._states, gone, key=_after)
        begin, state = 0, self._base
        if kept:
            after, state = self._states[kept - 1]
            begin = after - self._forgotten
        for event in self._events[begin:count]:
            state, _ = self._kind.step(state, event, self.known)
        self._base = state
        self._forgotten = gone
        del self._events[:count], self._states[:kept]


def _order(event: Any) -> Order:
    order: Order = event[:2]
    return order


_after = itemgetter(0)
