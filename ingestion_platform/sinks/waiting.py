"""
What a sink is to be told: which changes of alerts are due, in which groups, and which message comes next.

Belongs here: pure reckoning, with the moment given in seconds of any clock. Doesn't: threads, sending, landing (`outbox.py`).

A sink is told of an alert as it stands now, if that isn't what it was told last. So an alert that was raised and withdrawn before anybody
was told isn't told at all, and one that was told is told when it is withdrawn. Where nobody can know what the sink has heard (it didn't
answer, or a process was killed before it noted what it told), it is told how the alert stands.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ingestion_platform.alert import Alert
from ingestion_platform.sinks.message import MOST_ALERTS
from ingestion_platform.sinks.sink import Sink

MOST_WAITING = 20_000
"""Alerts that wait in memory for one sink; the others are read from the landing zone again when there is room."""
MOST_KNOWN = 500_000
"""Alerts of which is known what a sink was told; the oldest are forgotten first."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
LONGEST_DEAD_WAIT_SECONDS = 600.0


@dataclass(slots=True)
class Item:
    """
    A change of an alert that waits.

    Args:
        alert: the change.
        id: the alert's.
        since: when it began to wait.
        letter: key of the dead letter that it is in; empty: none.
        attempts: at telling it, all in vain.
        failed_since: when the first of them was.
        halvings: how often a message that it was in was refused, and halved to find out because of whom.
        before: what was known of the alert before it was on its way.
    """

    alert: Alert
    id: str
    since: float
    letter: str = ""
    attempts: int = 0
    failed_since: float | None = None
    halvings: int = 0
    before: "_Known | None" = None


@dataclass(frozen=True)
class Batch:
    """
    What one message tells.

    Args:
        group: whose.
        items: all of one rule, change and action.
    """

    group: "GroupKey"
    items: Sequence[Item]

    @property
    def is_dead(self) -> bool:
        """Whether all of it is in dead letters."""
        return bool(self.items[0].letter)

    @property
    def alerts(self) -> list[Alert]:
        """The changes."""
        return [item.alert for item in self.items]


class GroupKey(NamedTuple):
    """By which alerts become one message."""

    priority: int
    is_dead: bool
    rule: str
    change: str
    action: str
    about: tuple[str, ...]


@dataclass(slots=True)
class _Group:
    key: GroupKey
    ready_at: float
    since: float
    items: dict[str, Item] = field(default_factory=dict)

    @property
    def rank(self) -> "_Rank":
        """The order of telling: the urgent first, of those what isn't dead, of those the oldest."""
        return self.key.priority, self.key.is_dead, self.since


_Rank = tuple[int, bool, float]


class _Known(NamedTuple):
    """Of an alert: the last change that was offered, the last that was told or is on its way, whether the sink may have heard others."""

    offered: int
    told: int | None
    is_doubtful: bool = False

    def needs(self, ordinal: int) -> bool:
        """Whether the sink is to be told of another change."""
        return self.is_doubtful or is_raised(ordinal) != is_raised(self.told)


def is_raised(ordinal: int | None) -> bool:
    """Whether an alert stands after a change."""
    return ordinal is not None and ordinal % 2 == 0


class Waiting:
    """
    What waits for one sink.

    Args:
        sink: which.
        most: alerts that wait at once.

    Attributes:
        is_short: something didn't fit, and has to be read from the landing zone when there is room.
        settled: items that needn't be told any more, other than by telling; whoever takes them empties it.
        needless: changes of which the sink needn't be told, id → ordinal; likewise.
    """

    def __init__(self, sink: Sink, *, most: int = MOST_WAITING) -> None:
        self.is_short = False
        self.settled: list[Item] = []
        self.needless: dict[str, int] = {}
        self._sink = sink
        self._most = most
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._where: dict[str, GroupKey] = {}
        self._groups: dict[GroupKey, _Group] = {}
        self._by_priority: dict[int, dict[GroupKey, None]] = {}
        self._later: list[tuple[float, int, _Group]] = []
        self._ready: list[tuple[_Rank, int, float, _Group]] = []
        self._held: dict[str, str] = {}
        self._on_the_way: set[str] = set()
        self._number = itertools.count()
        self._last_told: dict[GroupKey, float] = {}

    def __len__(self) -> int:
        return len(self._where)

    # --- coming in

    def know(self, noted: Mapping[str, int]) -> None:
        """What the notes say that the sink was told, or needn't be: id → ordinal."""
        for id_, ordinal in noted.items():
            known = self._known.get(id_)
            if known is None or known.told is None or known.told < ordinal:
                self._learn(id_, _Known(max(ordinal, known.offered if known else -1), ordinal))
            where = self._where.get(id_)
            if where is not None and self._groups[where].items[id_].alert.ordinal <= ordinal:
                self._settle(id_)

    def offer(self, alert: Alert, now: float, *, letter: str = "", is_doubtful: bool = False) -> None:
        """
        Take a change in, if the sink is to be told of it.

        Args:
            alert: which.
            now: the moment.
            letter: key of the dead letter that it is in.
            is_doubtful: the sink may have heard changes that nobody has noted.
        """
        if not self._sink.takes(alert):
            return
        id_, ordinal = alert.id, alert.ordinal
        known = self._known.get(id_)
        if known is not None and ordinal <= known.offered:
            return
        is_doubtful |= known is not None and known.is_doubtful
        after = _Known(ordinal, known.told if known is not None else None, is_doubtful)
        if id_ in self._where:
            # What was to be told of it before isn't true any more.
            self._settle(id_)
        if known is not None and not after.needs(ordinal):
            self._learn(id_, after)
            if id_ not in self._on_the_way:
                self.needless[id_] = ordinal
            letter = letter or self._held.pop(id_, "")
            if letter:
                self.settled.append(Item(alert, id_, now, letter))
            return
        if known is None and not is_raised(ordinal) and self.is_short:
            # Its raising may be among what didn't fit: what the landing zone knows of both decides.
            return
        if not self._has_room(alert.priority):
            self.is_short = True
            return
        self._learn(id_, after)
        self._insert(Item(alert, id_, now, letter), now)

    def knows(self, alert: Alert) -> bool:
        """Whether another change of an alert was offered, or is noted."""
        return alert.id in self._known

    def hold_dead(self, alert: Alert, letter: str) -> None:
        """A change was refused and is in a dead letter: it isn't told again by itself, and is settled when it is withdrawn."""
        id_ = alert.id
        self._held[id_] = letter
        if id_ not in self._known:
            self._learn(id_, _Known(alert.ordinal, None))

    # --- going out

    def next_at(self) -> float | None:
        """When the next message is ready; None: nothing waits."""
        self._drop_stale()
        if self._ready:
            return self._ready[0][2]
        return self._later[0][0] if self._later else None

    def take(self, now: float) -> Batch | None:
        """The message that comes next: the most urgent of those that are ready. Whoever takes it says what became of it."""
        self._ripen(now)
        self._drop_stale()
        if not self._ready:
            return None
        _, _, _, group = heapq.heappop(self._ready)
        del self._groups[group.key]
        self._by_priority[group.key.priority].pop(group.key)
        items = list(group.items.values())
        taken, rest = items[:MOST_ALERTS], items[MOST_ALERTS:]
        for item in taken:
            del self._where[item.id]
            item.before = self._known.get(item.id, _Known(item.alert.ordinal, None, True))
            self._learn(item.id, _Known(item.before.offered, item.alert.ordinal))
            self._on_the_way.add(item.id)
        if rest:
            self._add_group(_Group(group.key, now, group.since, {item.id: item for item in rest}))
        elif self._sink.window_seconds:
            self._last_told[group.key] = now
            if len(self._last_told) > self._most:
                over = now - self._sink.window_seconds
                self._last_told = {key: moment for key, moment in self._last_told.items() if moment > over}
        return Batch(group.key, taken)

    def told(self, batch: Batch) -> None:
        """A message was taken."""
        for item in batch.items:
            self._on_the_way.discard(item.id)
            known = self._known.get(item.id)
            if known is not None and known.offered > item.alert.ordinal and item.id not in self._where:
                # What came while it was on its way says the same.
                self.needless[item.id] = known.offered

    def failed(self, batch: Batch, now: float, *, may_be_taken: bool = False) -> None:
        """
        A message wasn't taken: it waits for another attempt, unless something has changed meanwhile.

        Args:
            batch: of the message.
            now: the moment.
            may_be_taken: perhaps it was, and the answer was lost.
        """
        for item in self._not_told(batch, is_doubtful=may_be_taken):
            item.attempts += 1
            item.failed_since = now if item.failed_since is None else item.failed_since
            # What failed in company tries again in company, and later than others that haven't failed yet.
            self._insert(item, now, ready_at=now + wait_after(item.attempts, is_dead=bool(item.letter)))

    def halved(self, batch: Batch, now: float) -> None:
        """A message of several alerts was refused, perhaps because of one of them: it becomes two."""
        for item in self._not_told(batch):
            item.halvings += 1
            self._insert(item, now, ready_at=now)

    def given_up(self, batch: Batch) -> None:
        """A message won't be told, and nothing is known of its alerts but that."""
        for _ in self._not_told(batch):
            pass

    def postponed(self, batch: Batch, now: float, seconds: float) -> None:
        """A message couldn't be sent for reasons of ours: it waits, and nothing counts as an attempt."""
        for item in self._not_told(batch):
            self._insert(item, now, ready_at=now + seconds)

    def overdue(self, now: float, failing_since: float | None) -> list[Item]:
        """
        Alerts that have been due for longer than the sink's patience, because it takes nothing or doesn't take them.

        Args:
            now: the moment.
            failing_since: since when nothing was taken; None: something was, last.
        """
        patience = self._sink.patience_seconds
        found = []
        for group in self._groups.values():
            if group.key.is_dead:
                continue
            for item in group.items.values():
                began = item.failed_since
                if failing_since is not None:
                    # Seconds for which it waited for its window don't count against the sink.
                    held = max(item.since, failing_since, min(group.ready_at, now) if not item.attempts else 0.0)
                    began = held if began is None else min(began, held)
                if began is not None and now - began > patience:
                    found.append(item)
        return found

    def buried(self, items: Iterable[Item], letter: str, now: float) -> None:
        """Alerts are in a dead letter now: they wait behind those that aren't."""
        for item in items:
            if item.id in self._where:
                self._remove(item.id)
                item.letter = letter
                group = self._groups.get(self._key(item))
                # One that joins others doesn't put off their next attempt.
                later = now + wait_after(item.attempts or 1, is_dead=True)
                self._insert(item, now, ready_at=group.ready_at if group else later)

    def hurry(self, now: float) -> None:
        """The sink takes messages again: what it hadn't taken is due at once."""
        for group in self._groups.values():
            if group.ready_at > now and (group.key.is_dead or any(item.attempts for item in group.items.values())):
                group.ready_at = now
                self._push(group)

    def has(self, id_: str) -> bool:
        """Whether something of an alert waits."""
        return id_ in self._where

    def counts(self) -> tuple[int, int, float | None]:
        """How many alerts wait, how many of these are in dead letters, and since when the oldest of the others waits."""
        dead = sum(len(group.items) for group in self._groups.values() if group.key.is_dead)
        oldest = min((group.since for group in self._groups.values() if not group.key.is_dead), default=None)
        return len(self._where), dead, oldest

    def messages(self) -> int:
        """How many messages wait, more or less."""
        return sum(-(-len(group.items) // MOST_ALERTS) for group in self._groups.values())

    # --- parts

    def _learn(self, id_: str, known: _Known) -> None:
        self._known[id_] = known
        self._known.move_to_end(id_)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def _not_told(self, batch: Batch, *, is_doubtful: bool = False) -> list[Item]:
        """Of a message that wasn't told, what is to be told yet; and what was known before is known again."""
        left = []
        for item in batch.items:
            id_, ordinal = item.id, item.alert.ordinal
            self._on_the_way.discard(id_)
            before = item.before or _Known(ordinal, None, True)
            offered = max(before.offered, self._known[id_].offered if id_ in self._known else ordinal)
            known = _Known(offered, before.told, before.is_doubtful or is_doubtful)
            self._learn(id_, known)
            waits = id_ in self._where
            if offered == ordinal or (not waits and known.needs(offered)):
                # A newer change that says the same as the one that failed wasn't kept beside it.
                left.append(item)
                continue
            if item.letter:
                self.settled.append(item)
            if not known.needs(offered):
                self.needless[id_] = offered
                if waits:
                    self._settle(id_)
        return left

    def _key(self, item: Item) -> GroupKey:
        alert = item.alert
        subject = tuple(alert.about.get(name, "") for name in self._sink.group_by)
        about = subject if self._sink.window_seconds else (item.id,)
        if item.halvings:
            about = (*about, f"{int(item.id, 16):0128b}"[: item.halvings])
        return GroupKey(alert.priority, bool(item.letter), alert.rule, alert.change, alert.action, about)

    def _insert(self, item: Item, now: float, *, ready_at: float | None = None) -> None:
        key = self._key(item)
        group = self._groups.get(key)
        if ready_at is None:
            last = self._last_told.get(key)
            ready_at = now if last is None else max(now, last + self._sink.window_seconds)
        if group is None:
            self._add_group(_Group(key, ready_at, item.since, {item.id: item}))
        else:
            group.items[item.id] = item
            group.since = min(group.since, item.since)
            if item.attempts and ready_at > group.ready_at:
                group.ready_at = ready_at
                self._push(group)
            self._where[item.id] = key

    def _add_group(self, group: _Group) -> None:
        self._groups[group.key] = group
        self._by_priority.setdefault(group.key.priority, {})[group.key] = None
        self._where.update(dict.fromkeys(group.items, group.key))
        self._push(group)

    def _push(self, group: _Group) -> None:
        heapq.heappush(self._later, (group.ready_at, next(self._number), group))

    def _ripen(self, now: float) -> None:
        """Let those be ready whose time has come."""
        while self._later and self._later[0][0] <= now:
            ready_at, number, group = heapq.heappop(self._later)
            if self._groups.get(group.key) is group and group.ready_at == ready_at:
                heapq.heappush(self._ready, (group.rank, number, ready_at, group))

    def _drop_stale(self) -> None:
        """Take what has been emptied, or is due at another time, from the heads of the queues."""
        while self._ready and not self._is_current(self._ready[0][3], self._ready[0][2]):
            heapq.heappop(self._ready)
        while self._later and not self._is_current(self._later[0][2], self._later[0][0]):
            heapq.heappop(self._later)

    def _is_current(self, group: _Group, ready_at: float) -> bool:
        return self._groups.get(group.key) is group and group.ready_at == ready_at

    def _has_room(self, priority: int) -> bool:
        """Whether one more alert may wait; a less urgent one may have to go for it."""
        if len(self._where) < self._most:
            return True
        worst = max(number for number, keys in self._by_priority.items() if keys)
        if worst <= priority:
            return False
        group = self._groups[next(reversed(self._by_priority[worst]))]
        id_ = next(reversed(group.items))
        self._remove(id_)
        # As if it had never been offered: the landing zone has it.
        self._known.pop(id_, None)
        self.is_short = True
        return True

    def _settle(self, id_: str) -> None:
        item = self._remove(id_)
        if item.letter:
            self.settled.append(item)

    def _remove(self, id_: str) -> Item:
        key = self._where.pop(id_)
        group = self._groups[key]
        item = group.items.pop(id_)
        if not group.items:
            del self._groups[key]
            self._by_priority[key.priority].pop(key)
        return item


def wait_after(attempts: int, *, is_dead: bool = False) -> float:
    """Seconds until another attempt, after so many in vain; the longest of what jitter makes of them."""
    longest = LONGEST_DEAD_WAIT_SECONDS if is_dead else LONGEST_WAIT_SECONDS
    return float(min(longest, FIRST_WAIT_SECONDS * 2.0 ** min(attempts - 1, 30)))
