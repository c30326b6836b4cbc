"""
What the ledger's tables hold, row by row.

Belongs here: the rows of objects, files and partitions, and what follows from one of them alone. Doesn't: transactions (`ledger.py`).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from ingestion_platform.lifecycle import Place
from ingestion_platform.stream import Span
from ingestion_platform.warehouse.results import LedgerEntry
from ingestion_platform.warehouse.standing import Standing, stand

OBJECT_COLUMNS = (
    "dataset", "key", "version", "day", "state", "is_current", "sha256", "content", "size_bytes", "landed_at", "token", "reader", "sender",
    "reason", "duplicate_of", "rows_read", "rows_loaded", "rows_quarantined", "unknown_columns", "missing_columns", "departures",
    "file_id",
    "quarantine_file_id", "home_days", "shard", "first_position", "last_position", "stands_from", "first_seen_at", "decided_at", "run_id",
)  # fmt: skip
FILE_COLUMNS = (
    "file_id",
    "table_name",
    "day",
    "role",
    "path",
    "rows",
    "size_bytes",
    "sha256",
    "committed_at",
    "run_id",
    "dropped_at",
)
PARTITION_COLUMNS = (
    "table_name", "day", "inputs", "content", "rows", "details", "file_id", "quarantine_file_id", "computed_at", "run_id",
)  # fmt: skip

POSITION_DIGITS = 130
"""No source's positions have more."""

NO_DAY = ""
"""The day of a table that has no days, as it stands in the ledger."""


def position_text(position: int) -> str:
    """A position as the ledger holds it: as text, because it may have 60 digits, and such that texts sort as positions do."""
    return f"{position:0{POSITION_DIGITS}}"


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """A row of `objects`; see `LedgerEntry` for what a person is shown of it."""

    dataset: str
    key: str
    version: str
    day: str
    state: str
    is_current: int
    sha256: str
    content: str | None
    size_bytes: int
    landed_at: str
    token: str
    reader: str
    sender: str | None
    reason: str
    duplicate_of: str | None
    rows_read: int
    rows_loaded: int
    rows_quarantined: int
    unknown_columns: str
    missing_columns: str
    departures: str
    file_id: int | None
    quarantine_file_id: int | None
    home_days: str
    shard: str | None
    first_position: str | None
    last_position: str | None
    stands_from: str | None
    first_seen_at: str
    decided_at: str
    run_id: str

    @property
    def order(self) -> tuple[str, int, str]:
        """Among objects of the same content the smallest is loaded: first day, shortest key (a copy's name is longer), then by name."""
        return (self.day, len(self.key), self.key)

    @property
    def span(self) -> Span | None:
        """Of a stream's segment: the positions that it holds."""
        if self.first_position is None or self.last_position is None:
            return None
        return Span(int(self.first_position), int(self.last_position))

    @property
    def days(self) -> dict[str, int]:
        """Processed day → rows of this object that belong there."""
        days: dict[str, int] = json.loads(self.home_days)
        return days

    def entry(self, place: Place = "hot") -> LedgerEntry:
        """What a person is shown."""
        return LedgerEntry(
            dataset=self.dataset,
            key=self.key,
            day=date.fromisoformat(self.day),
            state=self.state,  # type: ignore[arg-type]  # the five states are the only ones written
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            landed_at=datetime.fromisoformat(self.landed_at),
            sender=self.sender,
            reason=self.reason,
            duplicate_of=self.duplicate_of,
            rows_read=self.rows_read,
            rows_loaded=self.rows_loaded,
            rows_quarantined=self.rows_quarantined,
            unknown_columns=tuple(json.loads(self.unknown_columns)),
            missing_columns=tuple(json.loads(self.missing_columns)),
            place=place,
            departures=tuple(json.loads(self.departures)),
        )


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file that is part of a table, and the objects whose rows in it no longer count."""

    file_id: int
    day: str
    path: str
    rows: int
    size_bytes: int
    sha256: str
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """A computed partition of a processed or report table."""

    table_name: str
    day: str
    inputs: str
    content: str
    rows: int
    details: str
    file_id: int
    quarantine_file_id: int | None
    computed_at: str
    run_id: str


def stands_from(standing: Standing) -> str:
    """Since which position a segment stands, as the ledger holds it."""
    return position_text(standing.since)


def weights(row: ObjectRow) -> dict[str, tuple[int, int, int]]:
    """Processed day → what a loaded object adds there: to the digest, to the rows, to the unread records."""
    found = {}
    for home, rows in {row.day: 0, **row.days}.items():
        unread = row.rows_quarantined if home == row.day else 0
        identity = hashlib.sha256(repr((row.key, row.sha256, row.reader, row.day, rows, unread)).encode()).hexdigest()
        found[home] = (int(identity, 16), rows, unread)
    return found


def overlaps(objects: Sequence[ObjectRow]) -> Iterator[str]:
    """Segments that stand for positions which another one stands for too, or which none does."""
    by_shard: dict[tuple[str, str], list[ObjectRow]] = {}
    for row in objects:
        if row.is_current and row.shard is not None and row.state in ("loaded", "duplicate", "pending"):
            by_shard.setdefault((row.dataset, row.shard), []).append(row)
    for (dataset, shard), rows in sorted(by_shard.items()):
        standing = stand((row.key, row.span) for row in rows if row.span is not None)
        for row in rows:
            if row.state != "pending" and row.stands_from != stands_from(standing[row.key]):
                yield f"{row.key} of raw.{dataset} doesn't stand for the positions of shard {shard} that it should"
