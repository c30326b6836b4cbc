"""
All rules of one dataset on its events, whatever order they come in: which alerts they deserve, and which they don't any more.

Belongs here: which event counts of those with one key, which days and subjects it belongs to, and what changes. Doesn't: what has been
raised, and landing it (`live/`).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

from ingestion_platform.alert import Action, Alert
from ingestion_platform.rules.rule import Finding, Rule
from ingestion_platform.rules.subject import Subject

About: TypeAlias = tuple[Any, ...]
Ask: TypeAlias = Callable[[Rule, date, About], Any]
"""What is known beforehand of a rule's subject on a day."""


_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Days:
    """
    Which business day a moment belongs to.

    Args:
        bounds: day → its beginning and its end, UTC, without a zone.
        day_of: the day of such a moment.
    """

    bounds: Callable[[date], tuple[datetime, datetime]]
    day_of: Callable[[datetime], date]


@dataclass(frozen=True, slots=True)
class Deserved:
    """
    An alert that events deserve.

    Args:
        rule: whose.
        day: of the events.
        about: values of the rule's `by`.
        finding: what was found.
    """

    rule: Rule
    day: date
    about: About
    finding: Finding

    def alert(self, change: str, ordinal: int, raised_at: datetime) -> Alert:
        """It as a change that lands."""
        return Alert(
            rule=self.rule.name,
            about=dict(zip(self.rule.by, map(str, self.about), strict=True)),
            deserved_by=self.finding.deserved_by,
            happened_at=self.finding.happened_at.replace(tzinfo=UTC),
            day=self.day,
            change="raised" if change == "raised" else "withdrawn",
            ordinal=ordinal,
            raised_at=raised_at,
            priority=self.rule.priority,
            action=self.action,
            score=self.finding.score,
            reasons=self.finding.reasons,
            details=self.finding.details,
            dataset=self.rule.on.name,
        )

    @property
    def action(self) -> Action:
        """What is to be done."""
        return self.finding.action or self.rule.action


@dataclass(slots=True)
class Changes:
    """
    What some events have changed.

    Args:
        raised: alerts that are deserved now, and weren't.
        withdrawn: those that were, and aren't any more.
    """

    raised: list[Deserved] = field(default_factory=list)
    withdrawn: list[Deserved] = field(default_factory=list)


@dataclass(slots=True)
class _DayOf:
    """A rule's subjects on a day."""

    begins: datetime
    """Events before it are there to be looked back at, and deserve no alert of this day."""
    subjects: dict[About, Subject] = field(default_factory=dict)


class Judge:
    """
    Judges one dataset's events.

    Args:
        rules: on the dataset.
        columns: of its events, after `OWN`.
        days: the business's.
        ask: what is known beforehand.
    """

    def __init__(self, rules: Sequence[Rule], columns: Sequence[str], days: Days, ask: Ask) -> None:
        self._rules = rules
        self._days = days
        self._ask = ask
        places = {column: index + 3 for index, column in enumerate(columns)}
        self._by = [tuple(places[column] for column in rule.by) for rule in rules]
        by: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
        for number, one in enumerate(self._by):
            by[one].append((number, 1 << number))
        self._of_subjects = [(one, tuple(of), sum(bit for _, bit in of)) for one, of in by.items()]
        self._looks_back = [rule.kind.looks_back for rule in rules]
        self._of_days: list[dict[date, _DayOf]] = [{} for _ in rules]
        self._bounds: dict[date, tuple[datetime, datetime]] = {}
        self._events: dict[tuple[date, str], tuple[Any, int]] = {}
        self._by_minute: dict[datetime, list[tuple[date, str]]] = defaultdict(list)
        self.floor = datetime.min
        self._day = date.min
        self._begin = self._end = datetime.min

    @property
    def held(self) -> int:
        """Events that are held: one that comes late can be put among them."""
        return len(self._events)

    def take(
        self, events: Iterable[Any], wanted: Iterable[int], without: Collection[int] = ()
    ) -> tuple[Changes, list[Any]]:
        """
        Judge events.

        Args:
            events: each a named tuple of `OWN` and the columns.
            wanted: for each event the rules whose condition it fulfils, as bits by the rule's number.
            without: numbers of rules that are left out.

        Returns:
            What has changed, and the events that are older than what is held: they are left to the batch.
        """
        touched: dict[tuple[int, date, About], tuple[Subject, dict[str, Finding]]] = {}
        too_late = []
        known_events, begin, end, day = self._events, self._begin, self._end, self._day
        masks = ~sum(1 << number for number in without)
        minute = next_minute = datetime.min
        of_minute: list[tuple[date, str]] = []
        for event, bits in zip(events, wanted, strict=True):
            at = event[0]
            if at < self.floor:
                too_late.append(event)
                continue
            if not begin <= at < end:
                day = self._day_of(at)
                begin, end = self._bounds_of(day)
            key = (day, event[1])
            bits &= masks
            former = known_events.get(key)
            if former is not None:
                place, stands = (at, event[2]), (former[0][0], former[0][2])
                if place < stands:
                    continue
                if place == stands:
                    # Rules that were left out then, and aren't now.
                    new = bits & ~former[1]
                    if new:
                        known_events[key] = (event, former[1] | new)
                        self._put(event, new, day, end, touched)
                    continue
                self._leave_out(*former, touched)
            known_events[key] = (event, bits)
            if not minute <= at < next_minute:
                minute = at.replace(second=0, microsecond=0)
                next_minute, of_minute = minute + _MINUTE, self._by_minute[minute]
            of_minute.append(key)
            if bits:
                self._put(event, bits, day, end, touched)
        self._begin, self._end, self._day = begin, end, day
        return self._changed(touched), too_late

    def _day_of(self, at: datetime) -> date:
        return self._days.day_of(at)

    def _bounds_of(self, day: date) -> tuple[datetime, datetime]:
        found = self._bounds.get(day)
        if found is None:
            found = self._bounds[day] = self._days.bounds(day)
        return found

    def _put(self, event: Any, bits: int, day: date, end: datetime, touched: dict[Any, Any]) -> None:
        at = event[0]
        # Rules with the same subjects are next to each other in what an event is of.
        for places, numbers, wanted in self._of_subjects:
            if not bits & wanted:
                continue
            about = tuple([event[place] for place in places])
            if None in about:
                continue
            for number, bit in numbers:
                if not bits & bit:
                    continue
                of_day = self._of_days[number].get(day)
                subject = of_day.subjects.get(about) if of_day is not None else None
                if subject is None:
                    subject = self._subject(number, day, about)
                before = subject.take(event)
                if before is not None:
                    touched.setdefault((number, day, about), (subject, before))
                if at >= end - self._looks_back[number]:
                    subject = self._subject(number, day + _DAY, about)
                    before = subject.take(event)
                    if before is not None:
                        touched.setdefault((number, day + _DAY, about), (subject, before))

    def _subject(self, number: int, day: date, about: About) -> Subject:
        of_day = self._of_days[number].get(day)
        if of_day is None:
            of_day = self._of_days[number][day] = _DayOf(self._bounds_of(day)[0])
        subject = of_day.subjects.get(about)
        if subject is None:
            rule = self._rules[number]
            known = self._ask(rule, day, about) if rule.known is not None else None
            subject = of_day.subjects[about] = Subject(rule.kind, known)
        return subject

    def _leave_out(self, event: Any, bits: int, touched: dict[Any, Any]) -> None:
        """Take an event out of wherever it was put: another one of its key counts."""
        day = self._day_of(event[0])
        _, end = self._bounds_of(day)
        for number, rule in enumerate(self._rules):
            about = tuple([event[place] for place in self._by[number]])
            if not bits >> number & 1 or None in about:
                continue
            days = [day] + ([day + timedelta(days=1)] if event[0] >= end - rule.kind.looks_back else [])
            for one in days:
                subject = self._subject(number, one, about)
                touched.setdefault((number, one, about), (subject, subject.findings))
                subject.leave_out(event[:2])

    def _changed(self, touched: Mapping[tuple[int, date, About], tuple[Subject, dict[str, Finding]]]) -> Changes:
        changes = Changes()
        for (number, day, about), (subject, before) in touched.items():
            subject.settle()
            rule, after = self._rules[number], subject.findings
            begins = self._of_days[number][day].begins
            # What is to be done tells two alerts of one event apart: reasons and numbers are those of the moment.
            now = {(key, one.action): one for key, one in after.items() if one.happened_at >= begins}
            then = {(key, one.action): one for key, one in before.items() if one.happened_at >= begins}
            changes.raised += [Deserved(rule, day, about, one) for place, one in now.items() if place not in then]
            changes.withdrawn += [Deserved(rule, day, about, one) for place, one in then.items() if place not in now]
        return changes

    def deserved(self, day: date) -> list[Deserved]:
        """Every alert that the events held, and those before them, deserve on a day."""
        found = []
        for rule, of_days in zip(self._rules, self._of_days, strict=True):
            of_day = of_days.get(day)
            for about, subject in (of_day.subjects if of_day is not None else {}).items():
                found += [
                    Deserved(rule, day, about, finding)
                    for finding in subject.findings.values()
                    if of_day is not None and finding.happened_at >= of_day.begins
                ]
        return found

    def know_anew(self, rule: Rule, day: date) -> Changes:
        """Judge what is held of a rule's day by what is known now."""
        number = self._rules.index(rule)
        of_day = self._of_days[number].get(day)
        touched: dict[tuple[int, date, About], tuple[Subject, dict[str, Finding]]] = {}
        for about, subject in (of_day.subjects if of_day is not None else {}).items():
            known = self._ask(rule, day, about)
            if known != subject.known:
                touched[number, day, about] = (subject, subject.findings)
                subject.know(known)
        return self._changed(touched)

    def forget(self, before: datetime) -> None:
        """Let go of events before a moment (UTC, without a zone), by whole minutes; later ones can't be put among them any more."""
        gone = sorted(minute for minute in self._by_minute if minute + _MINUTE <= before)
        if not gone:
            return
        self.floor = max(self.floor, gone[-1] + _MINUTE)
        forgotten: set[int] = set()
        for minute in gone:
            for key in self._by_minute.pop(minute):
                event, bits = self._events.get(key, (None, 0))
                if event is None or event[0] >= self.floor:
                    continue
                del self._events[key]
                self._forget_in_subjects(event, bits, key[0], forgotten)

    def _forget_in_subjects(self, event: Any, bits: int, day: date, forgotten: set[int]) -> None:
        for number in range(len(self._rules)):
            if not bits >> number & 1:
                continue
            about = tuple([event[place] for place in self._by[number]])
            for one in (day, day + timedelta(days=1)):
                of_day = self._of_days[number].get(one)
                subject = of_day.subjects.get(about) if of_day is not None else None
                if subject is not None and id(subject) not in forgotten:
                    forgotten.add(id(subject))
                    subject.forget(self.floor)

    def forget_days(self, before: date) -> None:
        """Let go of whole days: nothing that comes is judged for them any more."""
        for of_days in self._of_days:
            for day in [one for one in of_days if one < before]:
                del of_days[day]
        self.floor = max(self.floor, self._bounds_of(before)[0] - timedelta(days=1))

    def oldest(self, count: int) -> datetime | None:
        """The moment before which at least *count* of the events that are held happened; None when there aren't so many."""
        found = 0
        for minute in sorted(self._by_minute):
            found += len(self._by_minute[minute])
            if found >= count:
                return minute + _MINUTE
        return None


def fold(rule: Rule, columns: Sequence[str], events: Iterable[Any], day: date, days: Days, ask: Ask) -> list[Deserved]:
    """
    The alerts of a day, from all events that matter to it, once and in order: what the batch says.

    Args:
        columns: of the events, after `OWN`.
        events: one of each key, those that the rule looks back at among them.
    """
    places = [columns.index(column) + 3 for column in rule.by]
    begins, ends = days.bounds(day)
    of_subjects: dict[About, list[Any]] = defaultdict(list)
    for event in events:
        about = tuple([event[place] for place in places])
        if None not in about and begins - rule.kind.looks_back <= event[0] < ends:
            of_subjects[about].append(event)
    found = []
    for about, of_subject in of_subjects.items():
        known = ask(rule, day, about) if rule.known is not None else None
        state = None
        deserved: dict[str, Finding] = {}
        for event in sorted(of_subject, key=lambda one: one[:2]):
            state, shown = rule.kind.step(state, event, known)
            for finding in shown:
                deserved.setdefault(finding.deserved_by, finding)
        found += [Deserved(rule, day, about, one) for one in deserved.values() if one.happened_at >= begins]
    return found
