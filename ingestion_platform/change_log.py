"""
What changes look like that somebody else captured: Debezium, Maxwell, AWS DMS, exports of DynamoDB.

Belongs here: the declarations, what a change tells beside its row, and the columns that follow from that. Doesn't: reading them
(`formats/`), what becomes of changes (`dataset.Changes`, `warehouse/row_versions.py`).

Whoever captured it, a change is told by the same fields. A column's source is a column of the captured table (`name`), a dotted path into
one that holds JSON (`address.city`), `@before.<name>` for what it was before, or one of `CHANGE_FIELDS`.
"""

from pathlib import PurePosixPath
from typing import Literal

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Bounded, Csv, Parquet
from ingestion_platform.table import STRICT, TIMESTAMP, VARCHAR, Column

OPERATIONS = ("insert", "update", "snapshot", "delete", "truncate", "message", "tombstone")
"""
What can happen. `snapshot`: the row as it was found when the capture began. `message`: no change of a row (of the log, of a transaction, of
the schema). `tombstone`: what a topic says of a deleted key for its own sake.
"""
REMOVES, TRUNCATES, IGNORES = ("delete",), ("truncate",), ("message", "tombstone")

CHANGE_FIELDS = ("@operation", "@source_position", "@changed_at", "@unsent", "@table", "@transaction")
"""
Sources of what a change tells beside its row. `@operation`: one of `OPERATIONS`. `@source_position`: digits that ascend as the source's log
does; NULL where the source doesn't say. `@changed_at`: ISO 8601, UTC. `@unsent`: names of columns whose value wasn't sent, a JSON array.
"""
BEFORE = "@before."

CHANGE_COLUMNS = (
    Column("operation", VARCHAR, "What happened to the row.", source="@operation", required=True, one_of=OPERATIONS),
    Column("position", VARCHAR, "Where in the source's log.", source="@source_position", required=True),
    Column("changed_at", TIMESTAMP, "When the source made the change.", source="@changed_at"),
    Column("unsent", VARCHAR, "Columns whose value the source didn't send, as a JSON array.", source="@unsent"),
)
"""Columns that a dataset of captured changes gets, unless it declares them itself."""


def is_told_of_change(source: str) -> bool:
    """Whether a column's source is told beside a change's row."""
    return source in CHANGE_FIELDS or source.startswith(BEFORE)


@dataclass(frozen=True, config=STRICT)
class Captured(Bounded):
    """
    What every kind of captured change can say.

    Args:
        table: whose changes are taken, as `customers` or with the database's or the schema's name before it (`public.customers`); empty:
            everything is of one table.
        others: tables that other datasets take of the same objects; filled in where all datasets are put together.
    """

    table: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, config=STRICT)
class Debezium(Captured):
    """
    Change events of Debezium as JSON, with their schema or without: one a line, or a document with one or a list of them.

    Positions are those of PostgreSQL (`lsn`), MySQL and MariaDB (`file`, `pos`, `row`) and SQL Server (`commit_lsn`, `change_lsn`); of any
    other source, or after MySQL has begun its log files anew, say `Changes(position=None)`: changes then ascend as they landed.

    Values are read as an event's schema says. Where it has none, they are read as the column's type says: days of a DATE, a number of
    `timestamps` of a TIMESTAMP, base64 or text of a DECIMAL. What could be either is set aside.

    Args:
        layout: `lines`, or `document`.
        timestamps: what a whole number in a TIMESTAMP counts, where no schema says it.
        decimals: how exact numbers are written, where no schema says it: the bytes of the number without its point in `base64`
            (`decimal.handling.mode=precise`), or `text`. None: whatever it can only be.
        unavailable: what stands for a value that wasn't sent (`unavailable.value.placeholder`).
        partial_updates: columns that an update doesn't have weren't sent. Otherwise they are no more.
    """

    layout: Literal["lines", "document"] = "lines"
    timestamps: Literal["milliseconds", "microseconds", "nanoseconds"] | None = None
    decimals: Literal["base64", "text"] | None = None
    unavailable: str = "__debezium_unavailable_value"
    partial_updates: bool = False


@dataclass(frozen=True, config=STRICT)
class Maxwell(Captured):
    """
    Change events of Maxwell, one JSON object a line.

    A position is there where Maxwell is told to write it (`output_binlog_position`, and `output_xoffset`); without, say
    `Changes(position=None)`.

    Args:
        partial_updates: columns that an update doesn't have weren't sent (`binlog_row_image=minimal`). Otherwise they are no more.
    """

    partial_updates: bool = False


@dataclass(frozen=True, config=STRICT)
class Dms(Bounded):
    """
    Files of AWS DMS for one table: `LOAD…` files with what was there, and files of changes named by their moment
    (`20141029-1134010000.csv`), whose first column says I, U or D.

    Changes ascend by the moments in the files' names and by their rows, behind what was loaded; or by a column of the source's own order.
    The names of `LOAD…` files tell no day: see `undated` of `LandedFiles`.

    DMS tells the new key of a row whose key has changed, and not the former one: that row stays, unless it is deleted by its own.

    Args:
        columns: names of the columns of a file of changes, from the left, those that DMS adds among them; needed where files have no
            header. `LOAD…` files have the same without `operation`.
        inside: how the bytes are read. Csv: without a header, as DMS writes it by default; Csv(header_rows=1) and Parquet() name columns.
        operation: the name of the column that says what happened.
        load_has_operation: `LOAD…` files have that column too (`IncludeOpForFullLoad`).
        changed_at: the column with the moment of the change, UTC (`TimestampColumnName`); empty: there is none, and the file's name tells.
        position: a column that ascends as the source's log does (`AR_H_CHANGE_SEQ`); empty: there is none.
    """

    columns: tuple[str, ...] = ()
    inside: Csv | Parquet = Csv(header_rows=0)
    operation: str = "Op"
    load_has_operation: bool = False
    changed_at: str = ""
    position: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        has_names = isinstance(self.inside, Parquet) or self.inside.header_rows != 0
        if isinstance(self.inside, Csv) and self.inside.undetected:
            raise DeclarationError(
                "Dms: the dialect of its files is left to be detected", "it is the same in all: declare it"
            )
        if has_names:
            return
        if not self.columns:
            raise DeclarationError(
                "Dms: its files have no header, and columns names none", "as in ('Op', 'id', 'name')"
            )
        for name in (self.operation, *(one for one in (self.changed_at, self.position) if one)):
            if name not in self.columns:
                raise DeclarationError(
                    f"Dms: {name!r} is none of its columns {self.columns}", "name it where it stands"
                )
        if len(set(self.columns)) < len(self.columns):
            raise DeclarationError("Dms: columns names one twice", "each column once")

    def is_load(self, key: str) -> bool:
        """Whether an object is of the first load, as its name says."""
        return PurePosixPath(key).name.startswith("LOAD")


@dataclass(frozen=True, config=STRICT)
class DynamoDbExport(Bounded):
    """
    Data files of exports of a DynamoDB table in DynamoDB JSON: full ones (`Item`), and incremental ones (`Keys`, `NewImage`, `OldImage`).

    A column's source is an attribute. Changes ascend by the moment at which they were written. Items of a full export tell none: for them
    it is that of the export, as the folder that DynamoDB made says (`01693685827463-2d8752fd`): export the present, not a former moment.
    """


CapturedValues = Debezium | Maxwell
"""Kinds that records of a stream can be of, too."""
ChangeLog = Debezium | Maxwell | Dms | DynamoDbExport
