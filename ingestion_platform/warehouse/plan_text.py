"""
A plan in words: for a terminal, for a pull request, for a program.

Belongs here: telling what a plan has found, the part that decides first. Doesn't: finding it (`plan.py`), judging it (`trial.py`).
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from ingestion_platform.warehouse.backfill import Failure
from ingestion_platform.warehouse.differences import Difference, Sum
from ingestion_platform.warehouse.plan import DatasetPlan, Lost, Objects, PartitionPlan, Plan, Why
from ingestion_platform.warehouse.results import told_waiting

SHOWN_DAYS = 7
"""Days of a table that are told one by one, those of the most rows; the others are summed up."""

MOST_NOTES = 20
"""What is told of days whose rows stay the same, in lines."""

NO_SUMS = ("_pct", "_celsius")
"""Endings of columns whose values don't add up to anything."""

WHYS: Mapping[Why, str] = {
    "new": "new",
    "changed": "changed",
    "touched": "touched, with the same content",
    "declaration": "known, to be read otherwise by now",
    "set free": "known, no longer a duplicate",
    "by force": "known, read again as asked",
}


def as_text(plan: Plan) -> str:
    """For a terminal."""
    lines = [headline(plan), ""]
    for title, told in _sections(plan):
        lines.append(title)
        lines += [f"  {line}" for line in told]
        lines.append("")
    lines.append("Nothing was changed.")
    return "\n".join(lines)


def as_markdown(plan: Plan) -> str:
    """For a pull request, or Dagster."""
    lines = [f"**{headline(plan)}**", ""]
    for title, told in _sections(plan):
        lines.append(f"#### {title}")
        lines.append("")
        lines += [f"- {escaped(line)}" for line in told]
        lines.append("")
    lines.append("Nothing was changed.")
    return "\n".join(lines)


def as_json(plan: Plan) -> str:
    """For a program: everything, with the numbers as they are, money as text."""
    told = dataclasses.asdict(plan) | {"expected_seconds": plan.expected_seconds, "headline": headline(plan)}
    return json.dumps(told, indent=2, default=str)


def headline(plan: Plan) -> str:
    """All of it in one or two sentences."""
    if plan.does_nothing:
        return (
            "There is nothing to do: whatever has landed on these days is loaded, and what is made of it is up to date."
        )
    objects = sum((one.objects for one in plan.datasets), Objects())
    if plan.estimate is not None and not objects.count and not plan.partitions:
        every = sum(plan.estimate.read.values(), Objects())
        return (
            f"The backfill reads about {_objects(every)}; it takes {_duration(plan.expected_seconds)}."
            " Nothing was tried: what becomes of rows and reports isn't known."
        )
    processed = [one for one in plan.partitions if one.balance is not None]
    derived = [one for one in plan.partitions if one.balance is None]
    said = [f"reads {_objects(objects)}"]
    said += [
        f"{verb} {count:,} processed {_rows(count)}"
        for verb, count in (
            ("adds", sum(one.difference.added for one in processed)),
            ("changes", sum(one.difference.changed for one in processed)),
            ("takes away", sum(one.difference.gone for one in processed)),
        )
        if count
    ]
    for verb, count in (
        ("quarantines", sum(sum(one.quarantined.values()) for one in processed)),
        ("releases", sum(sum(one.released.values()) for one in processed)),
    ):
        if count:
            said.append(f"{verb} {count:,}")
    other = sum(not one.is_same for one in processed), sum(not one.is_same for one in derived)
    same = sum(one.is_same and not one.is_other_state for one in plan.partitions)
    said.append(
        f"restates {other[0]:,} processed {_days(other[0])} and {other[1]:,} {'partition' if other[1] == 1 else 'partitions'}"
        " of reports and other derived tables" + (f", and computes {same:,} that come out the same" if same else "")
    )
    states = Counter(one.state[1] or "without a state" for one in plan.partitions if one.is_other_state)
    said += [
        f"{count:,} {'report becomes' if count == 1 else 'reports become'} {state}"
        for state, count in sorted(states.items())
    ]
    told = f"The backfill {', '.join(said)}; it takes {_duration(plan.expected_seconds)}."
    lost = sum(sum(one.lost.rows.values()) for one in plan.datasets)
    if lost:
        told += f" {lost:,} {_rows(lost)} that {'is' if lost == 1 else 'are'} processed now would be lost."
    if refused := sum(one.refused_count for one in plan.datasets):
        told += f" {refused:,} {'object' if refused == 1 else 'objects'} loaded now would be rejected."
    if plan.failures:
        told += f" {len(plan.failures):,} {'partition fails' if len(plan.failures) == 1 else 'partitions fail'}."
    if plan.estimate is not None:
        told = told.replace("The backfill", "Of some days that were tried, the backfill", 1).replace(
            "; it takes", "; all of it takes", 1
        )
    return told


def _sections(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    if plan.failures:
        yield "Fails", list(failed(plan.failures))
    for one in plan.datasets:
        told = list(_dataset(one))
        if told:
            yield f"raw.{one.dataset}, {_span(one)}", told
    tables: dict[str, list[PartitionPlan]] = {}
    for partition in plan.partitions:
        tables.setdefault(partition.table, []).append(partition)
    for table, partitions in tables.items():
        yield _table_title(table, partitions), list(_table(partitions))
    if plan.estimate is not None:
        yield "Estimated, not tried", list(_estimated(plan))
    if plan.left:
        yield (
            "Left as it is",
            [
                f"{table}: {count:,} {'partition was' if count == 1 else 'partitions were'} stale before, on other days"
                for table, count in plan.left.items()
            ],
        )


def failed(failures: Sequence[Failure]) -> Iterator[str]:
    """What couldn't be done, each reason once."""
    alike: dict[tuple[str, str, str], list[Failure]] = {}
    for one in failures:
        # A reason may begin with its day.
        alike.setdefault((one.table, one.what.replace(str(one.day), "…"), one.hint), []).append(one)
    for (table, _, hint), ones in alike.items():
        days = [str(one.day) for one in ones if one.day is not None]
        when = f" {days[0]}" + (f" and {len(days) - 1:,} more days" if len(days) > 1 else "") if days else ""
        yield f"{table}{when}: {ones[0].what}" + (f" (hint: {hint})" if hint else "")


def _dataset(one: DatasetPlan) -> Iterator[str]:
    for why, objects in one.read.items():
        yield f"reads {_objects(objects)}: {WHYS[why]}"
    if one.states:
        yield "of them " + ", ".join(f"{count:,} {state}" for state, count in one.states.items())
    if one.refused_count:
        yield f"{one.refused_count:,} loaded now would be rejected:"
        for refused in one.refused:
            yield f"  {refused.key} ({refused.rows_before:,} {_rows(refused.rows_before)}): {refused.reason}"
        if one.refused_count > len(one.refused):
            yield f"  and {one.refused_count - len(one.refused):,} more"
    if one.rows_added or one.rows_gone:
        yield (
            f"rows {one.rows_before:,} → {one.rows_after:,}: {one.rows_added:,} come,"
            f" {one.rows_gone:,} go with the former version of their object"
        )
    if one.unread_before != one.unread_after:
        yield f"records that can't be read {one.unread_before:,} → {one.unread_after:,}"
    yield from lost(one.lost)
    if one.waiting:
        yield told_waiting(one.waiting).replace("are being", "would be").replace("is being", "would be")
    if one.unmarked:
        yield f"{len(one.unmarked):,} without their marker or manifest aren't read; the first is {one.unmarked[0]}"


def lost(found: Lost) -> Iterator[str]:
    """What of a dataset would be lost, line by line."""
    for fate, count in found.rows.items():
        yield f"{count:,} processed {_rows(count)} would be lost: {fate}"
    if found.examples:
        yield "  as in " + ", ".join(f"{key} row {row:,}" for key, row in found.examples)
    for column, count in found.values.items():
        yield f"{column}: {count:,} {'value becomes' if count == 1 else 'values become'} NULL"


def _table_title(table: str, partitions: Sequence[PartitionPlan]) -> str:
    other = sum(not one.is_same for one in partitions)
    labelled = sum(one.is_same and one.is_other_state for one in partitions)
    same = len(partitions) - other - labelled
    days = [one.day for one in partitions if one.day is not None]
    told = [f"{other:,} restated"] if other else []
    told += [f"{labelled:,} with the same rows under another state"] if labelled else []
    told += [f"{same:,} computed, the same"] if same else []
    when = f", {min(days)} to {max(days)}" if len(days) > 1 else f", {days[0]}" if days else ""
    return f"{table}{when}: {', '.join(told)}"


def _table(partitions: Sequence[PartitionPlan]) -> Iterator[str]:
    restated = [one for one in partitions if not one.is_same]
    shown = sorted(restated, key=lambda one: one.difference.rows, reverse=True)[:SHOWN_DAYS]
    for one in restated:
        if one in shown:
            yield f"{one.day or 'all'}: {story(one.difference)}"
            yield from (f"  {line}" for line in _notes(one))
    rest = [one for one in restated if one not in shown]
    if rest:
        yield f"{len(rest):,} more days: {sum(one.difference.rows for one in rest):,} rows come, go or change"
    if len(restated) > 1:
        total = _totals(restated)
        if total:
            yield f"together: {total}"
    notes = [f"{one.day or 'all'}: {line}" for one in partitions if one.is_same for line in _notes(one)]
    yield from notes[:MOST_NOTES]
    if len(notes) > MOST_NOTES:
        yield f"and {len(notes) - MOST_NOTES:,} more such lines"


def _notes(one: PartitionPlan) -> Iterator[str]:
    if one.is_other_state:
        was, is_ = (state or "without a state" for state in one.state)
        yield f"{was} → {is_}" + (f": {one.why}" if one.why else "")
    if one.quarantined:
        yield f"into quarantine: {_counts(one.quarantined)}"
    if one.released:
        yield f"released from quarantine: {_counts(one.released)}"
    if one.discarded:
        more = "more" if one.discarded > 0 else "fewer"
        yield f"discarded by people: {abs(one.discarded):,} {more}"
    if one.withdrawn:
        yield f"leave quarantine with the former version of their object: {one.withdrawn:,}"
    for check, (before, after) in one.checks.items():
        yield f"check {check}: {before:,} → {after:,} {_rows(after)} fail it"
    if one.balance is not None and not one.balance.holds:
        yield f"doesn't balance: {one.balance}"


def story(difference: Difference) -> str:
    """What differs, in one line: `2 of 60 rows change (revenue_zar), 1 comes; revenue_zar +1,204.50`."""
    said = []
    if not difference.rows_before and difference.added:
        return f"{difference.added:,} {_rows(difference.added)}, where there {'is' if difference.added == 1 else 'are'} none yet"
    if difference.changed:
        columns = ", ".join(difference.columns) or "nothing that is shown"
        said.append(
            f"{difference.changed:,} of {difference.rows_before:,} rows {'changes' if difference.changed == 1 else 'change'} ({columns})"
        )
    if difference.added:
        said.append(f"{difference.added:,} {'comes' if difference.added == 1 else 'come'}")
    if difference.gone:
        said.append(f"{difference.gone:,} {'goes' if difference.gone == 1 else 'go'}")
    if not said:
        said.append(f"{difference.rows_after:,} {_rows(difference.rows_after)}, all with the same values")
    if difference.columns_added:
        said.append(f"new columns: {', '.join(difference.columns_added)}")
    if difference.columns_gone:
        said.append(f"columns that go: {', '.join(difference.columns_gone)}")
    said += [
        f"{column} becomes {after} ({before} before)" for column, (before, after) in difference.columns_retyped.items()
    ]
    if difference.emptied:
        said.append(f"NULL now: {_counts(difference.emptied)}")
    sums = ", ".join(
        f"{column} {signed(change.delta)}"
        for column, change in difference.sums.items()
        if change.delta and not column.endswith(NO_SUMS)
    )
    return ", ".join(said) + (f"; {sums}" if sums else "")


def _totals(partitions: Sequence[PartitionPlan]) -> str:
    sums: dict[str, Any] = {}
    for one in partitions:
        for column, change in one.difference.sums.items():
            former = sums.get(column, 0)
            is_float = isinstance(former, float) or isinstance(change.delta, float)
            sums[column] = float(former) + float(change.delta) if is_float else former + change.delta
    added, gone, changed = (
        sum(getattr(one.difference, sort) for one in partitions) for sort in ("added", "gone", "changed")
    )
    said = [f"{changed:,} change, {added:,} come, {gone:,} go"]
    said += [f"{column} {signed(delta)}" for column, delta in sums.items() if delta and not column.endswith(NO_SUMS)]
    return "; ".join([said[0], ", ".join(said[1:])]) if len(said) > 1 else said[0]


def _estimated(plan: Plan) -> Iterator[str]:
    estimate = plan.estimate
    assert estimate is not None, "asked for when there is one"
    tried = {
        dataset: (len(plan.asked.days[dataset]) - days, len(plan.asked.days[dataset]))
        for dataset, days in estimate.days.items()
    }
    alike: dict[tuple[int, int], list[str]] = {}
    for dataset, counts in tried.items():
        alike.setdefault(counts, []).append(dataset)
    for (some, of), datasets in alike.items():
        yield f"{', '.join(datasets)}: {some:,} of {of:,} days were tried; the numbers above are theirs alone"
    for why, objects in estimate.read.items():
        yield f"the other days read {_objects(objects)}: {WHYS[why]} (counted in their listings)"
    if estimate.rows_changed is not None:
        yield f"about {estimate.rows_changed:,} more processed rows would come, go or change, if they are as those that were tried"
    yield f"time for the rest: {_duration(estimate.seconds)}"


def signed(delta: Sum) -> str:
    """A sum's change: `+1,204.50`."""
    if isinstance(delta, float):
        return f"{delta:+,.6g}" if abs(delta) < 1e6 else f"{delta:+,.0f}"
    return f"{delta:+,f}" if isinstance(delta, Decimal) else f"{delta:+,}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _objects(objects: Objects) -> str:
    return f"{objects.count:,} {'object' if objects.count == 1 else 'objects'} ({size(objects.bytes)})"


def size(size_bytes: int) -> str:
    """Bytes as a person says them."""
    if size_bytes < 1000:
        return f"{size_bytes:,} bytes"
    amount = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 1000:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:,.1f} TB"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "a time that nobody can tell: the past says nothing of the speed"
    if seconds < 1:
        return "less than a second"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    if seconds < 7200:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:,.1f} hours"


def _span(one: DatasetPlan) -> str:
    if not one.days:
        return "no days"
    return str(one.days[0]) if len(one.days) == 1 else f"{one.days[0]} to {one.days[-1]} ({len(one.days):,} days)"


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"


def _days(count: int) -> str:
    return "day" if count == 1 else "days"


def escaped(line: str) -> str:
    """A line as Markdown shows it: names of columns have underscores, what senders wrote may have anything."""
    indent = len(line) - len(line.lstrip())
    line = "".join(f"\\{char}" if char in "\\`*_{}[]<>#|!" else char for char in line.lstrip())
    return "\N{NO-BREAK SPACE}" * indent + line.replace("\n", " ").replace("\r", " ")
