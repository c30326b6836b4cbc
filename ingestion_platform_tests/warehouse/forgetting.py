"""A small business in every format, with one person in all of it; and a search for that person that knows nothing of the platform."""

import bz2
import gzip
import hashlib
import io
import json
import os
import sqlite3
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import Avro, Csv, Excel, FixedWidth, Json, JsonLines, Parquet, Xml
from ingestion_platform.formats.segments import DENSE_ENVELOPE, write_segment
from ingestion_platform.stream import EVERYTHING_ELSE, Kafka, Span, Stream, StreamSegments
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, Mask
from ingestion_platform.warehouse.forget import Forgot, forget, person_of
from ingestion_platform_tests.formats.workbooks import sheet, workbook
from ingestion_platform_tests.warehouse.building import Bench

DAY = date(2024, 10, 1)
WHO, OTHER = "C0012345", "C0067890"
SALT = "salt"

_ID = Column("id", VARCHAR, "Its number.", required=True)
_WHO = Column("who", VARCHAR, "Whose.", pii=Mask.HASH, person="customer")
_UNITS = Column("units", INTEGER, "How many.")


def table(name: str, format: object, ending: str, **changes: object) -> Dataset:
    """A dataset of files of a format."""
    return Dataset(
        **{  # type: ignore[arg-type]
            "name": name,
            "description": "One row per thing.",
            "kind": "snapshots",
            "source": LandedFiles(f"{name}/%Y-%m-%d/{{shop}}{ending}", format),  # type: ignore[arg-type]
            "columns": (_ID, _WHO, _UNITS),
            "primary_key": ("id",),
            "daily": Daily(DAY),
            **changes,
        }
    )


TILL = Stream(name="till", description="What tills tell.", source=Kafka(topic="till"), first_day=DAY)
_LINE = FixedWidth(fields=(("id", 4), ("who", 10), ("units", 3)))

COMMON = (
    table("csv_rows", Csv(), ".csv"),
    table("csv_emptied", Csv(), ".csv", erase="columns"),
    table("gzipped", Csv(delimiter=";", encoding="cp1252"), ".csv.gz"),
    table("zipped", Csv(), ".csv.zip"),
    table("bzipped", JsonLines(), ".jsonl.bz2"),
    table("lines", JsonLines(), ".jsonl"),
    table("lines_emptied", JsonLines(), ".jsonl", erase="columns"),
    table("documents", Json("items[*]"), ".json"),
    table("markup", Xml(record="list/item"), ".xml"),
    table("markup_emptied", Xml(record="list/item"), ".xml", erase="columns"),
    table("places", _LINE, ".txt"),
    table("places_emptied", _LINE, ".txt", erase="columns"),
    table("columnar", Parquet(), ".parquet"),
    table("columnar_emptied", Parquet(), ".parquet", erase="columns"),
    table("blocks", Avro(), ".avro"),
)
SEGMENTS = (
    Dataset(
        name="told",
        description="One row per sale.",
        source=StreamSegments(TILL, routed_by="type", types=("sale",)),
        columns=(_ID, _WHO, _UNITS, Column("at", TIMESTAMP, "When.", required=True)),
        primary_key=("id",),
        event_time="at",
        daily=Daily(DAY),
        erase="columns",
    ),
    Dataset(
        name="visits",
        description="One row per visit.",
        source=StreamSegments(TILL, routed_by="type", types=("visit",)),
        columns=(_ID, _WHO, Column("at", TIMESTAMP, "When.", required=True)),
        primary_key=("id",),
        event_time="at",
        daily=Daily(DAY),
    ),
    Dataset(
        name="others",
        description="One row per record of another type.",
        source=StreamSegments(TILL, routed_by="type", types=EVERYTHING_ELSE),
        columns=(
            Column("type", VARCHAR, "What it is."),
            Column("value", VARCHAR, "As it came.", source="@value", pii=Mask.REDACT),
            Column("arrived_at", TIMESTAMP, "When it came.", source="@arrived_at", required=True),
        ),
        event_time="arrived_at",
        daily=Daily(DAY),
    ),
)
WORKBOOKS = table("workbooks", Excel(), ".xlsx")
EVERYTHING = Datasets([*COMMON, *SEGMENTS])
SMALL = Datasets([*(one for one in COMMON if one.name in ("csv_rows", "csv_emptied", "lines")), *SEGMENTS])

ROWS = [("a1", WHO, 1), ("a2", OTHER, 2), ("a3", WHO, 3), ("a4", "", 4)]


def content(format: object, rows: Sequence[tuple[str, str, int]] = ROWS) -> bytes:
    """An object of a format with these rows."""
    dicts = [{"id": id_, "who": who or None, "units": units} for id_, who, units in rows]
    match format:
        case Csv():
            lines = [["id", "who", "units", "note"], *([id_, who, str(units), f"of {who}"] for id_, who, units in rows)]
            assert isinstance(format.encoding, str)
            return "".join(str(format.delimiter).join(line) + "\n" for line in lines).encode(format.encoding)
        case JsonLines():
            return "".join(json.dumps({**one, "more": {"seen": one["who"]}}) + "\n" for one in dicts).encode()
        case Json():
            return json.dumps({"made": "today", "items": dicts}, indent=1).encode()
        case Xml():
            items = "".join(f"<item><id>{a}</id><who>{b}</who><units>{c}</units></item>\n" for a, b, c in rows)
            return f'<?xml version="1.0"?>\n<list>{items}</list>'.encode()
        case FixedWidth():
            return "".join(f"{id_:4}{who:10}{units:3}\n" for id_, who, units in rows).encode()
        case Parquet():
            sink = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(dicts), sink, row_group_size=3)
            return sink.getvalue()
        case Avro():
            sink = io.BytesIO()
            schema = {
                "type": "record", "name": "thing", "fields": [
                    {"name": "id", "type": "string"}, {"name": "who", "type": ["null", "string"]}, {"name": "units", "type": "int"},
                ],
            }  # fmt: skip
            fastavro.writer(sink, schema, dicts, codec="deflate", sync_interval=20)
            return sink.getvalue()
        case Excel():
            return workbook(("things", sheet(("id", "who", "units"), *((a, b or None, str(c)) for a, b, c in rows))))
    raise AssertionError(format)


def packed(key: str, content_: bytes) -> bytes:
    """As the key's ending says."""
    if key.endswith(".gz"):
        return gzip.compress(content_)
    if key.endswith(".bz2"):
        return bz2.compress(content_)
    if key.endswith(".zip"):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data.csv", content_)
        return sink.getvalue()
    return content_


def landed(datasets: Sequence[Dataset] = COMMON, shop: str = "s1") -> Iterator[tuple[str, bytes]]:
    """Key and bytes of an object of each dataset."""
    for dataset in datasets:
        assert isinstance(dataset.source, LandedFiles)
        key = dataset.source.keys[0].key(DAY, shop=shop)
        yield key, packed(key, content(dataset.source.format))


def segment(first: int = 0) -> tuple[str, bytes]:
    """A segment with records of all types, some of them the person's, one of which is no JSON."""
    hour = datetime(2024, 10, 1, 8)
    values = [
        b'{"type":"sale","id":"t0","who":"%s","units":1,"at":"2024-10-01T06:00:00Z"}' % WHO.encode(),
        b'{"type":"sale","id":"t1","who":"%s","units":2,"at":"2024-10-01T06:00:01Z"}' % OTHER.encode(),
        b'{"type":"visit","id":"t2","who":"%s","at":"2024-10-01T06:00:02Z"}' % WHO.encode(),
        b'{"type":"visit","id":"t3","at":"2024-10-01T06:00:02Z"}',
        b'{"type":"stranger","talks":"of %s."}' % WHO.encode(),
        b'{"type":"sale","id":"cut, %s' % WHO.encode(),
        b'{"type":"stranger","talks":"of nobody"}',
        b'{"type":"visit","id":"t7","who":"%s","at":"2024-10-01T06:00:03Z"}' % WHO.encode(),
    ]
    rows = [
        {
            "position": first + at,
            "arrived_at": datetime(2024, 10, 1, 6, 0, at, tzinfo=UTC),
            "key": WHO.encode() if WHO.encode() in value else b"k",
            "headers": [{"name": "card", "value": WHO.encode()}] if at == 0 else None,
            "value": value,
        }
        for at, value in enumerate(values)
    ]
    span = Span(first, first + len(rows) - 1)
    batch = pa.RecordBatch.from_pylist(rows, schema=DENSE_ENVELOPE)
    return TILL.segment_key(hour, "0", span), write_segment([batch], stream=TILL.name, shard="0", span=span)


def forgotten(bench: Bench, *keys: str, everywhere: bool = False, remove_objects: bool = False) -> Forgot:
    """Forget a person of this business."""
    warehouse = bench.open()
    with warehouse:
        person = person_of(warehouse, [("customer", key) for key in keys or (WHO,)], everywhere=everywhere)
        return forget(warehouse, person, by="the officer", why="request 7", remove_objects=remove_objects)


# --- the search


def found_in(root: Path, *texts: str) -> list[str]:
    """Where one of these texts stands in any file below a folder, unpacked, or in the name of one."""
    found = []
    for folder, _, files in os.walk(root):
        for name in sorted(files):
            path = Path(folder) / name
            inside = _unpacked(path)
            for text in texts:
                if text in str(path.relative_to(root)) or any(text.encode() in one for one in inside):
                    found.append(f"{path.relative_to(root)}: {text}")
    return found


def hashed(value: str = WHO) -> str:
    """What a hashed column shows of a value."""
    return hashlib.sha256((SALT + value).encode()).hexdigest()


def _unpacked(path: Path) -> list[bytes]:
    raw = path.read_bytes()
    inside = [raw]
    if path.suffix == ".gz":
        inside.append(gzip.decompress(raw))
    elif path.suffix == ".bz2":
        inside.append(bz2.decompress(raw))
    elif path.suffix in (".zip", ".xlsx"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            inside += [archive.read(name) for name in archive.namelist()]
    elif path.suffix == ".parquet" and raw:
        inside.append(repr(pq.read_table(io.BytesIO(raw)).to_pydict()).encode())
    elif path.suffix == ".avro":
        inside.append(repr(list(fastavro.reader(io.BytesIO(raw)))).encode())
    elif path.suffix == ".sqlite":
        connection = sqlite3.connect(path)
        inside.append("\n".join(connection.iterdump()).encode())
        connection.close()
    elif path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as engine:
            names = engine.execute("select table_schema, table_name from information_schema.tables").fetchall()
            for schema, name in names:
                inside.append(repr(engine.execute(f'select * from "{schema}"."{name}"').fetchall()).encode())
    return inside
