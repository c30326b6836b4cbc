"""Files of every format whose columns come and go, and declarations that know more or fewer of them, for tests."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import Avro, Csv, Excel, Format, Json, JsonLines, Parquet
from ingestion_platform.landing import LandedObject, ObjectFile
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column, decimal
from ingestion_platform_tests.formats.workbooks import sheet, workbook
from ingestion_platform_tests.warehouse.building import DAY, Through

Record = Mapping[str, object]

ID = Column("id", VARCHAR, "The line.", required=True)
AT = Column("at", TIMESTAMP, "When.", required=True)
SHOP = Column("shop", VARCHAR, "Where.", capture="shop")
AMOUNT = Column("amount", decimal(8, 2), "How much.")
NOTE = Column("note", VARCHAR, "What was said.")
TIP = Column("tip", decimal(8, 2), "What was given.")
RENAMED = Column("amount", decimal(8, 2), "How much.", source="total", aliases=("amount",))


def as_csv(records: Sequence[Record]) -> bytes:
    """With the columns of the first record."""
    names = list(records[0])
    lines = [",".join(names), *(",".join(_cell(record.get(name)) for name in names) for record in records)]
    return ("\n".join(lines) + "\n").encode()


def _cell(value: object) -> str:
    text = "" if value is None else json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\n') else text


def as_json_lines(records: Sequence[Record]) -> bytes:
    """One object a line."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def as_json(records: Sequence[Record]) -> bytes:
    """A document that is a list."""
    return json.dumps(list(records)).encode()


def as_parquet(records: Sequence[Record]) -> bytes:
    """With the types that Arrow sees in the values."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(record) for record in records]), sink)
    return sink.getvalue()


def as_avro(records: Sequence[Record]) -> bytes:
    """With the columns of the first record, each of whatever type a value has."""
    kinds = ["null", "string", "long", "double", "boolean"]
    fields = [{"name": name, "type": kinds} for name in records[0]]
    sink = io.BytesIO()
    fastavro.writer(sink, {"type": "record", "name": "sale", "fields": fields}, [dict(record) for record in records])
    return sink.getvalue()


def as_excel(records: Sequence[Record]) -> bytes:
    """A workbook of one sheet, with the columns of the first record."""
    names = list(records[0])
    rows = [[None if record.get(name) is None else str(record[name]) for name in names] for record in records]
    return workbook(("Sales", sheet(names, *rows)))


FORMATS: dict[str, tuple[Format, Callable[[Sequence[Record]], bytes]]] = {
    "csv": (Csv(), as_csv),
    "jsonl": (JsonLines(), as_json_lines),
    "json": (Json(), as_json),
    "parquet": (Parquet(), as_parquet),
    "avro": (Avro(), as_avro),
    "xlsx": (Excel(), as_excel),
}


def sales(ending: str, *columns: Column, unknown: str = "keep") -> Dataset:
    """A dataset of files that end so, with `id`, `at` and `shop` and these columns."""
    return Dataset(
        name="sales",
        description="One row per sale.",
        source=LandedFiles(f"sales/%Y-%m-%d/{{shop}}.{ending}", FORMATS[ending][0]),
        columns=(ID, *columns, AT, SHOP),
        primary_key=("id",),
        event_time="at",
        daily=Daily(DAY, allowed_lateness_days=1),
        on_unknown_column=unknown,  # type: ignore[arg-type]  # pydantic holds it against what there is
    )


def only(dataset: Dataset) -> Datasets:
    """Nothing but this."""
    return Datasets([dataset])


def key(ending: str, day: date, shop: str) -> str:
    """Where a file lands."""
    return f"sales/{day}/{shop}.{ending}"


class Refuses(Through):
    """A landing zone that lists nothing and reads nothing."""

    def list(self, prefix: str = "", *, start_after: str = "") -> "object":  # type: ignore[override]
        """Refused."""
        raise AssertionError(f"{prefix} was listed")

    def read(self, object_: LandedObject) -> bytes:
        """Refused."""
        raise AssertionError(f"{object_.key} was read")

    def open(self, object_: LandedObject) -> ObjectFile:
        """Refused."""
        raise AssertionError(f"{object_.key} was opened")
