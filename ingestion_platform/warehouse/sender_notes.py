"""
The note to a sender: which of his files and rows need attention, and why; as text and as CSV.

Belongs here: gathering it, and writing it down. Doesn't: which of it was told before (`told_lines.py`), sending it
(`orchestration/sender_notes.py`).

A note has what its sender sent himself and nothing of anybody else's. Personal values are left out: whoever reads his mail needn't
know them, and the row's number in his own file says which it was.
"""

import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ingestion_platform.completeness import SenderDay, near_senders
from ingestion_platform.dataset import Dataset
from ingestion_platform.errors import NotMaterialized
from ingestion_platform.warehouse.contract import QUARANTINE_COLUMNS
from ingestion_platform.warehouse.discards import discards_table
from ingestion_platform.warehouse.drift import DriftEvent
from ingestion_platform.warehouse.engine import relation, text
from ingestion_platform.warehouse.ledger_rows import ObjectRow
from ingestion_platform.warehouse.process import DISCARDED_ROWS, is_discarded
from ingestion_platform.warehouse.warehouse import Warehouse

EXAMPLES = 3
"""Records shown of each reason in the text; all rows are in the CSV."""
MOST_ROWS = 10_000
LONGEST_RECORD = 300
PERSONAL = "(personal)"

COLUMNS = ("sender", "dataset", "day", "problem", "object", "row", "why", "record")

PROBLEMS = {
    "missing": "Nothing has come",
    "unreadable": "The file can't be read; send it again under the same name",
    "repeated": "The file is one that was sent before, for another day or under another name",
    "late": "The file came after the cutoff",
    "empty": "The file has no records",
    "twice": "There is more than one file for the day",
    "unexpected": "A file came, though none was expected",
    "unknown": "A file came, and no roster lists the sender",
    "columns": "The columns aren't as agreed",
    "departures": "The file isn't as agreed, or not as its own totals say",
    "quarantined": "Rows were set aside",
}
"""In the order in which a note tells them."""


@dataclass(frozen=True, slots=True)
class Line:
    """
    One thing that needs attention.

    Args:
        dataset: whose.
        day: of the file.
        problem: one of `PROBLEMS`.
        object: key of the file; empty when there is none.
        row: number in it, from 1; None: the file as a whole.
        why: in words.
        record: the row as it was sent, without personal values.
    """

    dataset: str
    day: date
    problem: str
    object: str = ""
    row: int | None = None
    why: str = ""
    record: str = ""

    @property
    def digest(self) -> str:
        """What tells it from others, whenever it is told."""
        told = (self.dataset, self.day.isoformat(), self.problem, self.object, self.row, self.why)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class SenderNote:
    """
    A sender's note.

    Args:
        sender: his id.
        first: the first day that it is about.
        last: the last one.
        lines: what needs attention, worst first.
        left_out: rows that were set aside and are too many to be listed.
    """

    sender: str
    first: date
    last: date
    lines: tuple[Line, ...]
    left_out: int = 0

    @property
    def title(self) -> str:
        """One line."""
        files = len({(line.dataset, line.day) for line in self.lines})
        days = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        if not self.lines:
            return f"{self.sender}, {days}: all is in order"
        return f"{self.sender}, {days}: {files:,} {'file needs' if files == 1 else 'files need'} attention"

    @property
    def text(self) -> str:
        """For a person."""
        told = [self.title]
        for problem, heading in PROBLEMS.items():
            lines = [line for line in self.lines if line.problem == problem]
            if not lines:
                continue
            told += ["", f"{heading}:"]
            told += list(_rows_told(lines) if problem == "quarantined" else map(_told, lines))
        if self.left_out:
            told += ["", f"… and {self.left_out:,} more rows"]
        return "\n".join(told) + "\n"

    @property
    def csv(self) -> str:
        """One line for each thing; the first has the columns' names."""
        found = io.StringIO()
        writer = csv.writer(found, lineterminator="\n")
        writer.writerow(COLUMNS)
        for line in self.lines:
            cells = (self.sender, line.dataset, line.day, line.problem, line.object, line.row, line.why, line.record)
            writer.writerow([_cell(cell) for cell in cells])
        return found.getvalue()


def _cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula: what it holds was written by others."""
    told = "" if value is None else str(value)
    return f"'{told}" if told[:1] in ("=", "+", "-", "@", "\t", "\r") else told


def _told(line: Line) -> str:
    where = f"  {line.dataset} {line.day}" + (f" {line.object}" if line.object else "")
    return f"{where}: {line.why}" if line.why else where


def _rows_told(lines: Sequence[Line]) -> Iterable[str]:
    """Rows by file and reason: how many, which, and some of them."""
    groups: dict[tuple[str, date, str, str], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.dataset, line.day, line.object, line.why].append(line)
    for (dataset, day, key, why), rows in groups.items():
        numbers = ", ".join(str(line.row) for line in rows[:20]) + (
            f" and {len(rows) - 20:,} more" if len(rows) > 20 else ""
        )
        yield f"  {dataset} {day} {key}: {len(rows):,} × {why}; row {numbers}"
        for line in rows[:EXAMPLES]:
            if line.record:
                yield f"    {line.row}: {line.record}"


def note_for(
    warehouse: Warehouse,
    sender: str,
    first: date,
    last: date,
    *,
    datasets: Sequence[Dataset] | None = None,
    drifts: Mapping[str, Sequence[DriftEvent]] | None = None,
) -> SenderNote:
    """
    What a sender should know of what he sent for some days.

    Args:
        warehouse: knows it.
        sender: his id.
        first: the first day.
        last: the last one.
        datasets: those with senders that it is about; None: all of them.
        drifts: dataset → how its columns have changed, where somebody has asked already.



    Raises:
        NotMaterialized: nobody expects anything of him on these days, and nothing of his has come.
    """
    found: list[Line] = []
    left_out = 0
    others: set[str] = set()
    for dataset in datasets if datasets is not None else warehouse.datasets.values():
        if dataset.senders is None:
            continue
        for day in warehouse.sender_days(dataset, first, last):
            others.add(day.sender)
            if day.sender == sender:
                found += _of_day(day)
        objects = {
            row.key: row
            for row in (warehouse.ledger.current_between(dataset.name, first, last) if warehouse.ledger.exists else ())
            if row.sender == sender
        }
        events = drifts[dataset.name] if drifts is not None else warehouse.drift(dataset) if objects else ()
        for row in objects.values():
            found += _of_object(row, events)
        rows, more = _quarantined(warehouse, dataset, objects, first, last)
        found += rows
        left_out += more
        others |= {sender} if objects else set()
    if sender not in others:
        # That all is in order would be a lie about somebody whom nobody knows.
        raise NotMaterialized(f"no sender {sender!r} is known from {first} to {last}", near_senders(sender, others))
    order = list(PROBLEMS)
    found.sort(key=lambda line: (order.index(line.problem), line.day, line.dataset, line.object, line.row or 0))
    return SenderNote(sender, first, last, tuple(found), left_out)


def notes_for(
    warehouse: Warehouse, first: date, last: date, *, datasets: Sequence[Dataset] | None = None
) -> list[SenderNote]:
    """The notes of all senders who have something to be told, by sender."""
    asked = [
        one for one in (datasets if datasets is not None else warehouse.datasets.values()) if one.senders is not None
    ]
    senders = {row.sender for dataset in asked for row in warehouse.sender_days(dataset, first, last)}
    drifts = {dataset.name: warehouse.drift(dataset) for dataset in asked} if senders else {}
    notes = (note_for(warehouse, sender, first, last, datasets=asked, drifts=drifts) for sender in sorted(senders))
    return [note for note in notes if note.lines]


def _of_day(day: SenderDay) -> Iterable[Line]:
    match day.status:
        case "missing":
            yield Line(day.dataset, day.day, "missing", why=f"expected by {day.cutoff_at:%Y-%m-%d %H:%M} UTC")
        case "late":
            why = f"at {day.first_landed_at:%Y-%m-%d %H:%M} UTC, expected by {day.cutoff_at:%Y-%m-%d %H:%M} UTC"
            yield Line(day.dataset, day.day, "late", why=why)
        case "empty" | "unexpected" | "unknown":
            yield Line(day.dataset, day.day, day.status, why=day.reason)
        case "twice":
            yield Line(day.dataset, day.day, "twice", why=f"{day.objects:,} files")


def _of_object(row: ObjectRow, events: Sequence[DriftEvent]) -> Iterable[Line]:
    day = date.fromisoformat(row.day)
    if row.state == "rejected":
        yield Line(row.dataset, day, "unreadable", row.key, why=f"it {row.reason}" if row.reason else "")
    if row.state == "duplicate":
        yield Line(row.dataset, day, "repeated", row.key, why=f"it has the content of {row.duplicate_of}")
    drifted = "; ".join(_drifted(row, events)) if row.state == "loaded" else ""
    if drifted:
        yield Line(row.dataset, day, "columns", row.key, why=drifted)
    for departure in json.loads(row.departures) if row.state == "loaded" else ():
        yield Line(row.dataset, day, "departures", row.key, why=str(departure))


def _drifted(row: ObjectRow, events: Sequence[DriftEvent]) -> Iterator[str]:
    """What of a dataset's drift a file is part of. A declared column that nobody has ever sent isn't any."""
    unknown, missing = json.loads(row.unknown_columns), json.loads(row.missing_columns)
    landed_at = datetime.fromisoformat(row.landed_at)
    going = [
        event
        for event in events
        if event.began_at <= landed_at and (event.ended_at is None or landed_at <= event.ended_at)
    ]
    renamed = {
        event.column: event.now
        for event in going
        if event.kind == "renamed" and event.now in unknown and event.column in missing
    }
    new = sorted({event.now or event.column for event in going if event.kind in ("new", "renamed")} & set(unknown))
    gone = sorted({event.column for event in going if event.kind in ("missing", "renamed")} & set(missing))
    if new := [column for column in new if column not in renamed.values()]:
        yield f"not agreed: {', '.join(new)}"
    if gone := [column for column in gone if column not in renamed]:
        yield f"lacking: {', '.join(gone)}"
    for column, now in sorted(renamed.items()):
        yield f"agreed as {column}, and most likely called {now}"


def _quarantined(
    warehouse: Warehouse, dataset: Dataset, objects: dict[str, ObjectRow], first: date, last: date
) -> tuple[list[Line], int]:
    """His rows that were set aside and not discarded, and how many more there are than are listed."""
    if not any(row.state == "loaded" for row in objects.values()):
        return [], 0
    ledger, back = warehouse.ledger, timedelta(days=dataset.daily.allowed_lateness_days)
    files = ledger.files(dataset.raw, role="quarantine", first=first, last=last)
    files += ledger.files(dataset.processed, role="quarantine", first=first - back, last=last)
    if not files:
        return [], 0
    source = relation(warehouse.store, files, QUARANTINE_COLUMNS)
    # A list of thousands of keys is a longer query than anybody needs: a join takes any number.
    keys = ", ".join(f"({text(key)})" for key in objects)
    # What a person has discarded needs nobody's attention.
    warehouse.engine.register(
        DISCARDED_ROWS, discards_table(dataset.name, warehouse.discards.effective(dataset.name, first, last))
    )
    rows = warehouse.engine.execute(
        "select _object, _row, rules, reasons, record from"
        f" (select * from ({source}) semi join (values {keys}) as his (_object) using (_object)) where not {is_discarded()}"
        " order by _object, _row, record"
    ).fetchall()
    warehouse.engine.unregister(DISCARDED_ROWS)
    personal = {column.name for column in dataset.columns if column.pii is not None}
    found = [
        Line(
            dataset.name,
            date.fromisoformat(objects[key].day),
            "quarantined",
            key,
            number,
            "; ".join(_reason(rule, reason, personal) for rule, reason in zip(rules, reasons, strict=True)),
            _shown(record, personal),
        )
        for key, number, rules, reasons, record in rows[:MOST_ROWS]
    ]
    return found, max(0, len(rows) - MOST_ROWS)


def _reason(rule: str, reason: str, personal: set[str]) -> str:
    """A reason says the value; where it may be personal, the rule alone is told."""
    column = rule.partition(":")[0].strip()
    is_of_record = column == "record"
    return rule if personal and (column in personal or is_of_record) else reason


def _shown(record: str | None, personal: set[str]) -> str:
    if record is None:
        return ""
    shown = record
    if personal:
        try:
            values = json.loads(record)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            return PERSONAL
        for name in values:
            if (name in personal and values[name] is not None) or (name == "_extra" and values[name]):
                values[name] = PERSONAL
        shown = json.dumps(values, ensure_ascii=False)
    shown = " ".join(shown.split())
    return shown if len(shown) <= LONGEST_RECORD else shown[: LONGEST_RECORD - 1] + "…"
