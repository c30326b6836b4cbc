"""What a sink is to be told, and in which order: pure reckoning, with moments as numbers."""

import random
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.alert import Alert
from ingestion_platform.sinks.message import MOST_ALERTS
from ingestion_platform.sinks.waiting import Batch, Waiting, is_raised, wait_after
from ingestion_platform_tests.sinks.telling import sink, some_alert

FAR = 10.0**9


def taken(waiting: Waiting, now: float = FAR) -> list[str]:
    """All that is ready, told, as `number.ordinal` of `some_alert`."""
    found = []
    while (batch := waiting.take(now)) is not None:
        found += [named(alert) for alert in batch.alerts]
    return found


def named(alert: Alert) -> str:
    """Which alert of `some_alert` it is, and which change."""
    return f"{int(alert.deserved_by[1:])}.{alert.ordinal}"


def take(waiting: Waiting, now: float) -> Batch:
    """What comes next; there is something."""
    batch = waiting.take(now)
    assert batch is not None
    return batch


def test_the_urgent_comes_first_and_of_those_the_oldest() -> None:
    """Priority decides, then age."""
    waiting = Waiting(sink())
    for number, priority in enumerate((5, 1, 9, 1, 5)):
        waiting.offer(some_alert(number, priority=priority), float(number))
    assert taken(waiting) == ["1.0", "3.0", "0.0", "4.0", "2.0"]


@given(st.lists(st.integers(1, 9), max_size=30), st.randoms(use_true_random=False))
def test_whatever_is_taken_nothing_more_urgent_was_ready(priorities: list[int], chance: random.Random) -> None:
    """Between offers and failures in any order, each message is of the most urgent that is ready."""
    waiting, here, now = Waiting(sink()), dict[str, int](), 0.0
    for number, priority in enumerate(priorities):
        waiting.offer(some_alert(number, priority=priority), now)
        here[f"{number}.0"] = priority
        now += 1.0
        if chance.random() < 0.5:
            batch = take(waiting, now)
            (name,) = map(named, batch.alerts)
            assert here[name] == min(here.values())
            if chance.random() < 0.3:
                waiting.failed(batch, now - 100.0)
            else:
                del here[name]
    assert [here[name] for name in taken(waiting)] == sorted(here.values())


def test_what_was_raised_and_withdrawn_before_anybody_was_told_is_not_told() -> None:
    """Neither the one nor the other."""
    waiting = Waiting(sink())
    waiting.offer(some_alert(1), 0.0)
    waiting.offer(some_alert(1, ordinal=1), 0.0)
    assert taken(waiting) == []
    assert len(waiting) == 0


def test_who_was_told_is_told_of_the_withdrawal() -> None:
    """Also when the withdrawal comes while the message is on its way, and when only the notes know."""
    waiting = Waiting(sink())
    waiting.offer(some_alert(1), 0.0)
    take(waiting, 0.0)
    waiting.offer(some_alert(1, ordinal=1), 0.0)
    assert taken(waiting) == ["1.1"]
    again = Waiting(sink())
    again.know({some_alert(1).id: 0})
    again.offer(some_alert(1, ordinal=1), 0.0)
    assert taken(again) == ["1.1"]


def test_a_withdrawal_while_a_message_fails_leaves_nothing_to_tell() -> None:
    """The message wasn't taken, and what it said isn't true any more."""
    waiting = Waiting(sink())
    waiting.offer(some_alert(1), 0.0)
    batch = take(waiting, 0.0)
    waiting.offer(some_alert(1, ordinal=1), 0.0)
    waiting.failed(batch, 0.0)
    assert taken(waiting) == []


def test_a_withdrawal_of_what_nobody_knows_is_told() -> None:
    """Whether its raising was told can't be known any more: to tell is the safe side."""
    waiting = Waiting(sink())
    waiting.offer(some_alert(1, ordinal=1), 0.0)
    assert taken(waiting) == ["1.1"]


def test_notes_that_are_read_late_take_back_what_they_say_was_told() -> None:
    """What waits and was told by somebody before isn't told again."""
    waiting = Waiting(sink())
    for number in range(3):
        waiting.offer(some_alert(number), 0.0)
    waiting.know({some_alert(1).id: 0})
    assert taken(waiting) == ["0.0", "2.0"]


class Life:
    """A sink that hears what it is told, notes that are written now and then, and an outbox that may forget everything else."""

    def __init__(self, chance: random.Random, window_seconds: float) -> None:
        self.chance = chance
        self.said = sink(window_seconds=window_seconds)
        self.waiting = Waiting(self.said)
        self.landed: list[Alert] = []
        self.heard: dict[str, list[int]] = defaultdict(list)
        self.unnoted: dict[str, int] = {}
        self.noted: dict[str, int] = {}
        self.is_certain = True

    def last(self, id_: str) -> int:
        """The last change of an alert."""
        return max((one.ordinal for one in self.landed if one.id == id_), default=-1)

    def land(self, now: float) -> None:
        """Another change of some alert lands and is offered; perhaps twice."""
        number = self.chance.randrange(5)
        self.landed.append(some_alert(number, ordinal=self.last(some_alert(number).id) + 1))
        self.waiting.offer(self.landed[-1], now)
        self.waiting.offer(self.chance.choice(self.landed), now)

    def hear(self, batch: Batch) -> None:
        """The sink takes a message, and that is known."""
        for item in batch.items:
            self.heard[item.id].append(item.alert.ordinal)
            self.unnoted[item.id] = max(item.alert.ordinal, self.unnoted.get(item.id, -1))
        self.waiting.told(batch)

    def send(self, now: float) -> None:
        """A message is sent, and any of what may become of it does; changes land while it is on its way."""
        batch = self.waiting.take(now)
        if batch is None:
            return
        while self.chance.random() < 0.3:
            self.land(now)
        match self.chance.randrange(5):
            case 0:
                self.waiting.failed(batch, now)
            case 1:
                self.is_certain = False
                if self.chance.random() < 0.5:
                    for item in batch.items:
                        self.heard[item.id].append(item.alert.ordinal)
                self.waiting.failed(batch, now, may_be_taken=True)
            case 2 if len(batch.items) > 1:
                self.waiting.halved(batch, now)
            case 3:
                self.waiting.postponed(batch, now, 1.0)
            case _:
                self.hear(batch)

    def note(self) -> None:
        """What was told, or needn't be, is noted."""
        for some in (self.unnoted, self.waiting.needless):
            self.noted |= {id_: max(ordinal, self.noted.get(id_, -1)) for id_, ordinal in some.items()}
            some.clear()

    def restart(self, now: float) -> None:
        """A new outbox knows what is noted and what has landed."""
        self.is_certain = False
        self.unnoted.clear()
        self.waiting = Waiting(self.said)
        self.waiting.know(self.noted)
        for id_ in {one.id for one in self.landed}:
            if self.last(id_) > self.noted.get(id_, -1):
                last = next(one for one in self.landed if one.id == id_ and one.ordinal == self.last(id_))
                self.waiting.offer(last, now, is_doubtful=True)


@settings(max_examples=120)
@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 5.0]), st.booleans())
def test_whatever_happens_the_sink_ends_with_what_is_true(
    chance: random.Random, window_seconds: float, has_restarts: bool
) -> None:
    """Changes, doubles, failures, lost answers, refusals in halves, restarts: at the end the sink believes what stands."""
    life, now = Life(chance, window_seconds), 0.0
    for _ in range(chance.randrange(60)):
        now += chance.random()
        match chance.randrange(8):
            case 0 | 1 | 2:
                life.land(now)
            case 3 | 4 | 5:
                life.send(now)
            case 6:
                life.note()
            case 7 if has_restarts and chance.random() < 0.3:
                life.restart(now)
    while (batch := life.waiting.take(FAR)) is not None:
        life.hear(batch)
    life.note()
    for id_ in {one.id for one in life.landed}:
        heard = life.heard[id_]
        assert is_raised(life.last(id_)) == is_raised(max(heard, default=None))
        assert life.noted[id_] == life.last(id_), "nothing is left to be done"
        if life.is_certain:
            assert heard == sorted(set(heard)), "no change is told twice or out of order"
            assert not heard or is_raised(heard[0]), "nobody is told of a withdrawal before of the raising"


def test_the_first_of_a_group_goes_at_once_and_the_others_together() -> None:
    """Of a rule and subject there is one message in a window; another subject has its own."""
    waiting = Waiting(sink(window_seconds=60.0, group_by=("store_id",)))
    waiting.offer(some_alert(0), 0.0)
    waiting.offer(some_alert(1), 0.0)
    assert sorted(taken(waiting, 0.0)) == ["0.0", "1.0"]
    for number in range(7, 70, 7):
        waiting.offer(some_alert(number), 1.0)
    assert waiting.take(59.9) is None
    assert waiting.next_at() == 60.0
    assert len(take(waiting, 60.0).items) == 9
    assert waiting.take(60.0) is None


def test_a_storm_becomes_messages_of_as_many_as_fit() -> None:
    """More than a message holds becomes several, right after each other."""
    waiting = Waiting(sink(window_seconds=60.0))
    for number in range(5000):
        waiting.offer(some_alert(number), 0.0)
    assert [len(take(waiting, 0.0).items) for _ in range(3)] == [MOST_ALERTS, MOST_ALERTS, 5000 - 2 * MOST_ALERTS]


def test_what_does_not_fit_makes_room_for_what_is_more_urgent() -> None:
    """The most urgent stay; that something is short is known, and what had to go comes in again when it is offered again."""
    waiting = Waiting(sink(), most=3)
    for number in range(5):
        waiting.offer(some_alert(number, priority=9), float(number))
    assert waiting.is_short
    waiting.offer(some_alert(9, priority=1), 9.0)
    assert len(waiting) == 3
    assert taken(waiting)[0] == "9.0"
    for number in range(5):
        waiting.offer(some_alert(number, priority=9), 10.0)
    assert sorted(taken(waiting)) == ["2.0", "3.0", "4.0"]


def test_a_sink_takes_the_rules_actions_and_priorities_that_it_says() -> None:
    """What it doesn't take never waits."""
    for said, fits in (
        ({"rules": ("fraud",)}, {"rule": "fraud"}),
        ({"actions": ("hold",)}, {"action": "hold"}),
        ({"up_to_priority": 2}, {"priority": 2}),
    ):
        waiting = Waiting(sink(**said))
        waiting.offer(some_alert(1, **fits), 0.0)
        waiting.offer(some_alert(2, rule="spike", action="review", priority=3), 0.0)
        assert taken(waiting) == ["1.0"]


def test_alerts_are_overdue_only_when_the_sink_took_nothing() -> None:
    """Waiting for one's turn or window isn't the sink's fault; failing for longer than its patience is."""
    waiting = Waiting(sink(patience_seconds=10.0))
    waiting.offer(some_alert(1), 0.0)
    waiting.offer(some_alert(2), 95.0)
    assert waiting.overdue(100.0, None) == []
    assert [named(item.alert) for item in waiting.overdue(100.0, 50.0)] == ["1.0"]
    assert waiting.overdue(100.0, 95.0) == []


def test_one_that_always_fails_is_overdue_although_others_are_taken() -> None:
    """Each has its own patience from its first failure on, and others go before it."""
    waiting = Waiting(sink(patience_seconds=10.0))
    waiting.offer(some_alert(1, priority=1), 0.0)
    waiting.failed(take(waiting, 0.0), 0.0)
    waiting.offer(some_alert(2, priority=9), 0.1)
    assert taken(waiting, 0.2) == ["2.0"]
    waiting.failed(take(waiting, 9.0), 9.0)
    assert waiting.overdue(10.0, None) == []
    assert len(waiting.overdue(10.1, None)) == 1


def test_what_is_dead_waits_behind_what_is_not() -> None:
    """It is told when the sink takes messages again, after fresh alerts of its priority."""
    waiting = Waiting(sink(patience_seconds=1.0))
    waiting.offer(some_alert(1), 0.0)
    waiting.buried(waiting.overdue(5.0, 0.0), "letter", 5.0)
    assert waiting.overdue(100.0, 0.0) == []
    waiting.offer(some_alert(2), 5.0)
    waiting.hurry(5.0)
    assert taken(waiting, 5.0) == ["2.0", "1.0"]


def test_a_dead_letter_is_settled_when_its_alert_is_withdrawn() -> None:
    """Whether it waits, or was refused and doesn't."""
    waiting = Waiting(sink())
    waiting.offer(some_alert(1), 0.0, letter="one")
    waiting.offer(some_alert(1, ordinal=1), 0.0)
    waiting.hold_dead(some_alert(2), "two")
    waiting.offer(some_alert(2), 0.0)
    waiting.offer(some_alert(2, ordinal=1), 0.0)
    assert taken(waiting) == []
    assert [item.letter for item in waiting.settled] == ["one", "two"]


def test_a_refused_message_is_halved_until_one_is_left() -> None:
    """One bad alert among many is found in few messages; all others are told."""
    waiting = Waiting(sink(window_seconds=60.0))
    for number in range(1000):
        waiting.offer(some_alert(number), 0.0)
    told, refusals, bad = 0, 0, "637.0"
    while (batch := waiting.take(0.0)) is not None:
        if bad not in map(named, batch.alerts):
            told += len(batch.items)
        elif len(batch.items) > 1:
            refusals += 1
            waiting.halved(batch, 0.0)
        else:
            waiting.given_up(batch)
    assert told == 999
    assert refusals < 25


def test_waits_double_up_to_a_bound() -> None:
    """Half a second at first, half a minute at last; what is dead waits up to ten minutes."""
    assert [wait_after(number) for number in (1, 2, 3, 100)] == [0.5, 1.0, 2.0, 30.0]
    assert wait_after(100, is_dead=True) == 600.0
