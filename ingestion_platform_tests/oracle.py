"""
What every table should hold, calculated from the landed files in plain Python: the independent answer that the platform is held against.

Belongs here: reading (`csv`, `json`, `xml.etree`, pyarrow for Parquet alone), the contract and each report, written a second time, simply
and slowly, with Decimal. Doesn't: any code of the platform. Of the declarations only constants are read: names, types, rules.

Not covered, since the example's senders don't do it: a stray quote inside a CSV record (the whole object counts as rejected here), XML
columns that the declaration doesn't know, `on_unknown_column="fail"`. Parquet timestamps without a time zone are local, as in text.
"""

import csv
import gzip
import hashlib
import io
import json
import math
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

from ingestion_platform.api import ApiPages
from ingestion_platform.change_log import Debezium
from ingestion_platform.dataset import Dataset
from ingestion_platform.format import Csv, Json, JsonLines, Parquet, Xml
from ingestion_platform.stream import StreamSegments
from ingestion_platform.table import Column, Mask

Row = dict[str, Any]
"""A row; keys are the columns' names and `_day`, `_landed_on`, `_object`, `_row`."""

UNREADABLE = "record: can't be read"
"""The rule that a record breaks which can't be read."""

SUPERSEDED = "primary key: superseded"
"""The rule under which a losing row is in quarantine, where the declaration says so."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that didn't make it: where it is from, and every rule it breaks."""

    object: str
    row: int
    rules: frozenset[str]


@dataclass(slots=True)
class DayOfDataset:
    """A processed day: its rows by object and row number, what lost, and what is in quarantine."""

    rows: list[Row] = field(default_factory=list)
    superseded: list[tuple[str, int]] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)

    @property
    def rows_raw(self) -> int:
        """All rows that belong to the day."""
        return len(self.rows) + len(self.superseded) + len(self.quarantined)


@dataclass(slots=True)
class Expected:
    """
    What a landing folder should give.

    Args:
        processed: dataset → day → its rows.
        loaded: dataset → keys of objects that are loaded.
        rejected: dataset → keys of objects that can't be read.
        duplicates: dataset → key → key of the object with the same content that is loaded instead.
        unknown_columns: dataset → key → names that the declaration doesn't know.
        reports: report → day → its rows, by primary key.
        hashed: dataset, object and row → hashed column → what it shows. In a processed row they are left out.
    """

    processed: dict[str, dict[date, DayOfDataset]]
    loaded: dict[str, list[str]]
    rejected: dict[str, list[str]]
    duplicates: dict[str, dict[str, str]]
    unknown_columns: dict[str, dict[str, tuple[str, ...]]]
    reports: dict[str, dict[date, list[Row]]]
    hashed: dict[tuple[str, str, int], dict[str, str]]

    def day(self, dataset: str, day: date) -> DayOfDataset:
        """A processed day; an empty one when nothing belongs to it."""
        return self.processed[dataset].get(day, DayOfDataset())


def expected(
    landing: Path,
    datasets: Mapping[str, Dataset],
    report_days: Iterable[date],
    time_zone: str = "Africa/Johannesburg",
    salt: str = "",
    reports: Iterable[str] | None = None,
) -> Expected:
    """
    Calculate everything from the files under *landing*.

    Args:
        landing: the landing zone's folder.
        datasets: the declarations, of which only constants are read.
        report_days: days whose reports are wanted; none for datasets other than the example's.
        time_zone: the business day's.
        salt: of hashed columns, by which states of people and accounts are told apart.
        reports: which; None: all.
    """
    zone = ZoneInfo(time_zone)
    answer = Expected({}, {}, {}, {}, {}, {}, {})
    objects = _Landed(landing, datasets)
    # Referenced datasets reference nothing themselves, so that two rounds are enough.
    alone = [dataset for dataset in datasets.values() if not any(column.references for column in dataset.columns)]
    others = [dataset for dataset in datasets.values() if any(column.references for column in dataset.columns)]
    for dataset in (*alone, *others):
        _process(dataset, objects, answer, zone, salt)
    days = tuple(report_days)
    if days:
        tables = {name: {day: found.rows for day, found in by_day.items()} for name, by_day in answer.processed.items()}
        for name in REPORTS if reports is None else reports:
            answer.reports[name] = {day: REPORTS[name](_Tables(tables, day, zone, answer.hashed)) for day in days}
    return answer


# --- landed objects


@dataclass(slots=True)
class _Object:
    key: str
    day: date
    captures: Mapping[str, str]
    content: bytes


@dataclass(slots=True)
class _Record:
    """A record as text by column name; None for what it lacks. `values` is None when it can't be read."""

    row: int
    values: dict[str, str | None] | None


class _CannotRead(Exception):
    """The object isn't a whole one of its format."""


class _Landed:
    """The folder's objects by dataset, in the order of day, then length of key, then key."""

    def __init__(self, root: Path, datasets: Mapping[str, Dataset]) -> None:
        self.by_dataset: dict[str, list[_Object]] = {name: [] for name in datasets}
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        for path in paths:
            key = path.relative_to(root).as_posix()
            for name, dataset in datasets.items():
                fit = _fit(dataset.source.templates, key)
                if fit is not None:
                    # Only datasets of one stream share objects.
                    self.by_dataset[name].append(_Object(key, fit[0], fit[1], path.read_bytes()))
        there = {path.relative_to(root).as_posix() for path in paths}
        for name, dataset in datasets.items():
            if isinstance(dataset.source, ApiPages):
                self.by_dataset[name] = _last_fetches(self.by_dataset[name], there)
        for found in self.by_dataset.values():
            found.sort(key=lambda one: (one.day, len(one.key), one.key))


def _last_fetches(objects: Iterable[_Object], keys: set[str]) -> list[_Object]:
    """Of each day the groups of the last fetch that is whole: as many as its note says are there."""
    by_fetch: dict[tuple[date, str], list[_Object]] = defaultdict(list)
    for one in objects:
        by_fetch[one.day, one.captures["fetch"]].append(one)
    last: dict[date, list[_Object]] = {}
    for (day, _), groups in sorted(by_fetch.items()):
        if f"{groups[0].key.rpartition('/')[0]}/done-{len(groups)}.json" in keys:
            last[day] = groups
    return [one for groups in last.values() for one in groups]


def _fit(templates: str | tuple[str, ...], key: str) -> tuple[date, dict[str, str]] | None:
    for template in (templates,) if isinstance(templates, str) else templates:
        pattern = re.escape(template)
        for directive, digits in (("%Y", 4), ("%m", 2), ("%d", 2)):
            pattern = pattern.replace(re.escape(directive), rf"(?P<D{directive[1]}>\d{{{digits}}})", 1)
        pattern = pattern.replace(re.escape("%H"), r"\d{2}")
        pattern = re.sub(r"\\\{([a-z0-9_]+)\\\}", r"(?P<\1>[^/]+)", pattern)
        found = re.fullmatch(pattern, key)
        if found is not None:
            groups = found.groupdict()
            day = date(int(groups.pop("DY")), int(groups.pop("Dm")), int(groups.pop("Dd")))
            return day, groups
    return None


# --- reading


def _read(dataset: Dataset, one: _Object) -> tuple[list[_Record], tuple[str, ...]]:
    """The records of an object, and names that the declaration doesn't know."""
    content = one.content
    if isinstance(dataset.source, ApiPages):
        return _read_pages(dataset, dataset.source, content)
    if one.key.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise _CannotRead(f"gzip: {error}") from error
    kind = dataset.source.format
    if isinstance(kind, Csv):
        records, unknown = _read_csv(dataset, kind, content)
    elif isinstance(kind, JsonLines):
        records, unknown = _read_json_lines(dataset, content)
    elif isinstance(kind, Debezium):
        records, unknown = _read_debezium(dataset, kind, content)
    elif isinstance(kind, Xml):
        records, unknown = _read_xml(dataset, kind, content)
    else:
        assert isinstance(kind, Parquet)
        records, unknown = _read_parquet(dataset, content)
    for record in records:
        if record.values is not None:
            for column in dataset.columns:
                if column.capture is not None:
                    record.values[column.name] = one.captures[column.capture]
    return records, unknown


def _wanted(dataset: Dataset) -> list[tuple[str, str]]:
    return [(column.name, column.source or column.name) for column in dataset.columns if column.capture is None]


def _read_csv(dataset: Dataset, kind: Csv, content: bytes) -> tuple[list[_Record], tuple[str, ...]]:
    assert isinstance(kind.encoding, str)
    assert isinstance(kind.delimiter, str)
    assert isinstance(kind.quote, str)
    try:
        text = content.decode("utf-8-sig" if kind.encoding == "utf-8" else kind.encoding)
    except UnicodeDecodeError as error:
        raise _CannotRead(str(error)) from error
    if kind.final_newline and not text.endswith(("\n", "\r")):
        raise _CannotRead("cut: no line end at the end")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=kind.delimiter, quotechar=kind.quote, strict=True)
    try:
        lines = [cells for cells in reader if cells]
    except csv.Error as error:
        raise _CannotRead(str(error)) from error
    if not lines or "\0" in text:
        raise _CannotRead("not even a header, or not text")
    header, *body = lines
    wanted = _wanted(dataset)
    places = {name: header.index(source) for name, source in wanted if source in header}
    if not places or len(set(header)) != len(header):
        raise _CannotRead(f"header {header}")
    records = [
        _Record(row, {name: cells[places[name]] if name in places else None for name, _ in wanted})
        if len(cells) == len(header) and (cells != header or len(header) == 1)
        else _Record(row, None)
        for row, cells in enumerate(body, 1)
    ]
    return records, tuple(sorted(set(header) - {source for _, source in wanted}))


def _read_json_lines(dataset: Dataset, content: bytes) -> tuple[list[_Record], tuple[str, ...]]:
    try:
        *lines, last = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise _CannotRead(str(error)) from error
    records: list[_Record] = []
    for line in filter(str.strip, (*lines, last)):
        try:
            value = json.loads(line, parse_float=_Literal, parse_int=_Literal)
        except ValueError:
            value = None
        if isinstance(value, dict):
            values = {name: _json_text(_dig(value, source)) for name, source in _wanted(dataset)}
            records.append(_Record(len(records) + 1, values))
        elif line is last:
            raise _CannotRead("cut: its last line has no line end, and isn't an object")
        else:
            records.append(_Record(len(records) + 1, None))
    if len(records) > 1 and all(record.values is None for record in records):
        raise _CannotRead("no line is an object")
    return records, ()


_OPERATIONS = {"r": "snapshot", "c": "insert", "u": "update", "d": "delete"}


def _read_debezium(dataset: Dataset, kind: Debezium, content: bytes) -> tuple[list[_Record], tuple[str, ...]]:
    """Changes of one table of a PostgreSQL, an event a line."""
    records: list[_Record] = []
    for row, line in enumerate(content.decode().splitlines(), 1):
        event = json.loads(line)
        told = event["after"] if event["op"] != "d" else event["before"]
        unsent = [name for name, value in told.items() if value == kind.unavailable]
        values = {
            name: None if source in unsent else _json_text(told.get(source))
            for name, source in _wanted(dataset)
            if not source.startswith("@")
        }
        moment = datetime.fromtimestamp(event["source"]["ts_ms"] / 1000, UTC)
        values |= {
            "operation": _OPERATIONS[event["op"]],
            "position": f"{event['source']['lsn']}:{0 if event['op'] == 'r' else 1}",
            "changed_at": moment.isoformat(),
            "unsent": json.dumps(unsent) if unsent else None,
        }
        records.append(_Record(row, values))
    return records, ()


class _Literal(str):
    """A JSON number as it was written."""


def _dig(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _written(value)


def _written(value: Any) -> str:
    if isinstance(value, _Literal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value)


def _read_xml(dataset: Dataset, kind: Xml, content: bytes) -> tuple[list[_Record], tuple[str, ...]]:
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise _CannotRead(str(error)) from error
    names = kind.record.split("/")
    if _local(root.tag) != names[0]:
        raise _CannotRead(f"root element {root.tag}")
    trails = [[root]]
    for name in names[1:]:
        trails = [[*trail, child] for trail in trails for child in trail[-1] if _local(child.tag) == name]
    records = [
        _Record(row, {name: _walk(trail, source) for name, source in _wanted(dataset)})
        for row, trail in enumerate(trails, 1)
    ]
    return records, ()


def _read_pages(dataset: Dataset, source: ApiPages, content: bytes) -> tuple[list[_Record], tuple[str, ...]]:
    """The records of a group of pages, numbered on; what is around them is the page's. And names that the declaration doesn't know."""
    kind = source.other_format or source.endpoint.format
    found: list[_Record] = []
    unknown: set[str] = set()
    for page in pq.read_table(io.BytesIO(content)).to_pylist():
        around: dict[str, str] = {f"@param.{name}": text for name, text in json.loads(page["params"]).items()}
        around["@is_stale"] = "true" if page["is_stale"] else "false"
        records: list[_Record] = []
        if page["body"] and isinstance(kind, Xml):
            records = _read_xml(dataset, kind, page["body"])[0]
        elif page["body"]:
            assert isinstance(kind, Json)
            document = json.loads(page["body"], parse_float=_Literal, parse_int=_Literal)
            for trail in _trails([document], kind.records.replace("[*]", ".[*]").strip(".").split(".")):
                records.append(_Record(0, {name: _json_text(_climb(trail, path)) for name, path in _wanted(dataset)}))
                unknown.update(_beyond(trail[-1], [path for _, path in _wanted(dataset)]))
        for record in records[page["skip"] :]:
            assert record.values is not None
            record.row = len(found) + 1
            record.values |= {name: around[path] for name, path in _wanted(dataset) if path in around}
            found.append(record)
    return found, tuple(sorted(unknown))


def _trails(trail: list[Any], steps: Sequence[str]) -> Iterator[list[Any]]:
    """Each record, after the objects that hold the lists it is in."""
    at = trail[-1]
    for place, step in enumerate(steps):
        if step == "[*]":
            for element in at:
                yield from _trails([*trail, element], steps[place + 1 :])
            return
        at = at[step]
    yield trail


def _climb(trail: Sequence[Any], path: str) -> Any:
    up = path.count("../")
    return _dig(trail[-1 - up], path[3 * up :])


def _local(tag: str) -> str:
    return tag.rsplit("}", 1)[-1]


def _walk(trail: Sequence[ElementTree.Element], path: str) -> str | None:
    *up, at = list(trail)
    for part in path.split("/"):
        if part == "..":
            at = up.pop()
        elif part.startswith("@"):
            return at.get(part[1:])
        else:
            below = [child for child in at if _local(child.tag) == part]
            if not below:
                return None
            at = below[0]
    return at.text or ""


def _read_parquet(dataset: Dataset, content: bytes) -> tuple[list[_Record], tuple[str, ...]]:
    try:
        table = pq.read_table(io.BytesIO(content))
    except (OSError, ValueError) as error:
        raise _CannotRead(str(error)) from error
    wanted = _wanted(dataset)
    records = [
        _Record(row, {name: _plain(values.get(source)) for name, source in wanted})
        for row, values in enumerate(table.to_pylist(), 1)
    ]
    return records, tuple(sorted(set(table.column_names) - {source for _, source in wanted}))


def _plain(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _stream_records(
    dataset: Dataset, segments: Iterable[_Object], answer: Expected
) -> list[tuple[_Object, list[_Record]]]:
    """A dataset's records of each segment: every position in the first segment that has it, by first position, then the longer one."""
    source = dataset.source
    assert isinstance(source, StreamSegments)

    def claim(one: _Object) -> tuple[Any, ...]:
        first, last = int(one.captures["first"]), int(one.captures["last"])
        return one.captures["shard"], first, -last, len(one.key), one.key

    taken: set[tuple[str, int]] = set()
    furthest: dict[str, tuple[int, str]] = {}
    found = []
    for one in sorted(segments, key=claim):
        shard, last = one.captures["shard"], int(one.captures["last"])
        records, is_new, unknown = [], False, set[str]()
        for row, there in enumerate(pq.read_table(io.BytesIO(one.content)).to_pylist(), 1):
            if (shard, there["position"]) in taken:
                continue
            taken.add((shard, there["position"]))
            is_new = True
            try:
                value = json.loads(there["value"].decode(), parse_float=_Literal, parse_int=_Literal)
            except ValueError:
                value = None
            value = value if isinstance(value, dict) else None
            type_ = _dig(value, source.routed_by or "") if value is not None else None
            if type_ not in source.types and not (source.takes_the_rest and type_ not in source.others):
                continue
            if value is None:
                records.append(_Record(row, None))
                continue
            headers = {header["name"]: header["value"].decode() for header in there["headers"] or ()}
            around = {
                "@value": there["value"].decode(),
                "@arrived_at": there["arrived_at"].isoformat(),
                **{f"@header.{name}": text for name, text in headers.items()},
            }
            wanted = _wanted(dataset)
            records.append(
                _Record(
                    row,
                    {
                        name: around.get(path) if path.startswith("@") else _json_text(_dig(value, path))
                        for name, path in wanted
                    },
                )
            )
            unknown |= set(_beyond(value, [path for _, path in wanted] + [source.routed_by or ""]))
        if not is_new:
            answer.duplicates[dataset.name][one.key] = furthest[shard][1]
            continue
        if last > furthest.get(shard, (-1, ""))[0]:
            furthest[shard] = (last, one.key)
        if unknown and not any(path == "@value" for _, path in _wanted(dataset)):
            answer.unknown_columns[dataset.name][one.key] = tuple(sorted(unknown))
        found.append((one, records))
    return found


def _beyond(value: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[str]:
    """Members that no path wants."""
    for name in value:
        if not any(path == name or path.startswith(f"{name}.") for path in wanted):
            yield name


# --- the contract


class _NoValue(Exception):
    """The text isn't exactly a value of the type."""


def _cast(column: Column, text: str, zone: ZoneInfo) -> Any:
    kind = column.type.sql
    if kind == "VARCHAR":
        return text
    if kind in ("INTEGER", "BIGINT"):
        bits = 31 if kind == "INTEGER" else 63
        if re.fullmatch(r"[+-]?[0-9]+", text) and -(2**bits) <= int(text) < 2**bits:
            return int(text)
    elif column.type.is_decimal:
        if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", text):
            value, scale = Decimal(text), column.type.scale
            exact = value.quantize(Decimal(1).scaleb(-scale))
            if exact == value and abs(value) < Decimal(10) ** (column.type.precision - scale):
                return exact
    elif kind == "DATE":
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return _or_none(lambda: date.fromisoformat(text))
    elif kind == "TIMESTAMP":
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}(:?\d{2})?)?", text):
            moment = _or_none(lambda: datetime.fromisoformat(text))
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=zone)
            return moment.astimezone(UTC).replace(tzinfo=None)
    elif kind == "JSON":
        return _or_none(lambda: json.loads(text, parse_float=Decimal))
    elif kind == "DOUBLE":
        return _or_none(lambda: float(text))
    elif kind == "BOOLEAN" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    raise _NoValue


_BOOLEANS = {"true": True, "t": True, "yes": True, "y": True, "1": True} | dict.fromkeys(
    ("false", "f", "no", "n", "0"), False
)


def _or_none(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ValueError as error:
        raise _NoValue from error


def _typed(dataset: Dataset, record: Mapping[str, str | None], zone: ZoneInfo) -> tuple[Row, set[str]]:
    """The values of a record, and the rules it breaks by itself."""
    values: Row = {}
    broken: set[str] = set()
    for column in dataset.columns:
        text = record[column.name]
        if text in column.null_values:
            text = None
        values[column.name] = None
        if text is None:
            if column.required:
                broken.add(f"{column.name}: missing")
            continue
        try:
            value = values[column.name] = _cast(column, text, zone)
        except _NoValue:
            broken.add(f"{column.name}: not {column.type.sql}")
            continue
        if column.minimum is not None and value < column.minimum:
            broken.add(f"{column.name}: below minimum")
        if column.maximum is not None and value > column.maximum:
            broken.add(f"{column.name}: above maximum")
        if column.one_of and value not in column.one_of:
            broken.add(f"{column.name}: not an allowed value")
        if column.pattern is not None and re.fullmatch(column.pattern, text) is None:
            broken.add(f"{column.name}: not of the pattern")
    return values, broken


def _home(dataset: Dataset, landed_on: date, values: Row | None, zone: ZoneInfo) -> tuple[date, set[str]]:
    """The day a row belongs to, and the rules about days that it breaks."""
    if dataset.kind != "events" or values is None:
        return landed_on, set()
    assert dataset.event_time is not None
    moment = values[dataset.event_time]
    if moment is None:
        return landed_on, set()
    event_day = _local_day(moment, zone)
    if event_day > landed_on:
        return landed_on, {f"{dataset.event_time}: after its object's day"}
    earliest = max(landed_on - timedelta(days=dataset.daily.allowed_lateness_days), dataset.daily.from_)
    if event_day < min(earliest, landed_on):
        return landed_on, {f"{dataset.event_time}: too late"}
    return event_day, set()


def _local_day(moment: datetime, zone: ZoneInfo) -> date:
    return _local_time(moment, zone).date()


def _local_time(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.replace(tzinfo=UTC).astimezone(zone)


def _newest(days: Iterable[date], day: date) -> date | None:
    return max((one for one in days if one <= day), default=None)


def _process(dataset: Dataset, objects: _Landed, answer: Expected, zone: ZoneInfo, salt: str) -> None:
    """Read and process all objects of a dataset into *answer*."""
    name = dataset.name
    by_day: dict[date, DayOfDataset] = defaultdict(DayOfDataset)
    answer.processed[name] = by_day
    loaded, rejected = answer.loaded.setdefault(name, []), answer.rejected.setdefault(name, [])
    answer.duplicates[name], answer.unknown_columns[name] = {}, {}
    here = ZoneInfo(dataset.time_zone) if dataset.time_zone else zone
    first_with: dict[tuple[str, tuple[str, ...]], str] = {}
    readable: list[tuple[_Object, list[_Record]]] = []
    if isinstance(dataset.source, StreamSegments):
        readable += _stream_records(dataset, objects.by_dataset[name], answer)
        loaded += [one.key for one, _ in readable]
    for one in objects.by_dataset[name] if not isinstance(dataset.source, StreamSegments) else ():
        try:
            records, unknown = _read(dataset, one)
        except _CannotRead:
            rejected.append(one.key)
            continue
        content = (hashlib.sha256(one.content).hexdigest(), _of_the_key(dataset, one))
        # Two fetches may well have been told the same.
        if not isinstance(dataset.source, ApiPages) and records and first_with.setdefault(content, one.key) != one.key:
            answer.duplicates[name][one.key] = first_with[content]
            continue
        loaded.append(one.key)
        if unknown:
            answer.unknown_columns[name][one.key] = unknown
        readable.append((one, records))
    known = _known_values(dataset, answer)
    replaced = _replaced_by_later_ones(dataset, [one for one, _ in readable])
    candidates: dict[date, list[Row]] = defaultdict(list)
    for one, records in readable:
        for record in records:
            values: Row | None = None
            broken = {UNREADABLE}
            if record.values is not None:
                if one.key in replaced:
                    by_day[one.day].superseded.append((one.key, record.row))
                    continue
                values, broken = _typed(dataset, record.values, here)
            home, late = _home(dataset, one.day, values, zone)
            broken |= late
            if values is not None:
                broken.update(_dangling(dataset, values, home, known))
            if broken:
                by_day[home].quarantined.append(Quarantined(one.key, record.row, frozenset(broken)))
            else:
                assert values is not None
                row = {**values, "_day": home, "_landed_on": one.day, "_object": one.key, "_row": record.row}
                candidates[home].append(row)
    for home, rows in candidates.items():
        for row in rows:
            answer.hashed[name, row["_object"], row["_row"]] = {
                column.name: hashlib.sha256((salt + row[column.name]).encode()).hexdigest()
                for column in dataset.columns
                if column.pii is Mask.HASH and row[column.name] is not None
            }
        _keep_one_per_key(dataset, by_day[home], rows)
    for found in by_day.values():
        found.rows.sort(key=lambda row: (row["_object"], row["_row"]))
        found.superseded.sort()
        found.quarantined.sort(key=lambda row: (row.object, row.row))


def _of_the_key(dataset: Dataset, one: _Object) -> tuple[str, ...]:
    """What of an object's key says that equal bytes mean something else: values of columns, and a snapshot's day and sender."""
    found = [one.captures[column.capture] for column in dataset.columns if column.capture is not None]
    if dataset.kind == "snapshots":
        found.append(one.day.isoformat())
        if dataset.senders is not None:
            found.append(one.captures[dataset.senders.key_capture])
    return tuple(found)


def _replaced_by_later_ones(dataset: Dataset, loaded: Sequence[_Object]) -> set[str]:
    """Of snapshots: objects of a day after which another of the same sender comes."""
    if dataset.kind != "snapshots" or isinstance(dataset.source, ApiPages):
        return set()
    last: dict[tuple[date, str], str] = {}
    for one in loaded:
        sender = (one.day, _sender(dataset, one))
        last[sender] = max(last.get(sender, ""), one.key)
    return {one.key for one in loaded if last[one.day, _sender(dataset, one)] != one.key}


def _known_values(dataset: Dataset, answer: Expected) -> dict[str, dict[date, set[Any]]]:
    """Column that references another dataset → day of a snapshot → what may be there; days whose snapshot is empty are left out."""
    found = {}
    for column in dataset.columns:
        if column.references is not None:
            other, name = column.references.split(".")
            by_day = answer.processed[other].items()
            found[column.name] = {day: {row[name] for row in there.rows} for day, there in by_day if there.rows}
    return found


def _dangling(dataset: Dataset, values: Row, home: date, known: Mapping[str, Mapping[date, set[Any]]]) -> Iterator[str]:
    for column in dataset.columns:
        if column.references is not None and values[column.name] is not None:
            newest = _newest(known[column.name], home)
            if newest is None or values[column.name] not in known[column.name][newest]:
                yield f"{column.name}: not in {column.references}"


def _keep_one_per_key(dataset: Dataset, found: DayOfDataset, rows: Iterable[Row]) -> None:
    def strength(row: Row) -> tuple[Any, ...]:
        event = row[dataset.event_time] if dataset.event_time is not None else None
        return event or datetime.min, row["_landed_on"], row["_object"], row["_row"]

    best: dict[tuple[Any, ...], Row] = {}
    losers: list[Row] = []
    for row in sorted(rows, key=strength):
        key = tuple(row[column] for column in dataset.primary_key) or (row["_object"], row["_row"])
        if dataset.kind == "changes":
            key = (*key, row["position"])
        if key in best:
            losers.append(best[key])
        best[key] = row
    if dataset.duplicate_keys == "quarantine":
        found.quarantined.extend(Quarantined(row["_object"], row["_row"], frozenset({SUPERSEDED})) for row in losers)
    else:
        found.superseded.extend((row["_object"], row["_row"]) for row in losers)
    personal = [column.name for column in dataset.columns if column.pii is not None]
    for row in best.values():
        for column in personal:
            del row[column]
        found.rows.append(row)


def _sender(dataset: Dataset, one: _Object) -> str:
    """Who sent an object: the capture that names senders, or else all captures."""
    if dataset.senders is not None:
        return one.captures[dataset.senders.key_capture]
    return json.dumps(dict(one.captures), sort_keys=True)


# --- reports


class _Tables:
    """The processed tables as the reports of a day see them."""

    def __init__(
        self,
        tables: Mapping[str, Mapping[date, list[Row]]],
        day: date,
        zone: ZoneInfo,
        hashed: Mapping[tuple[str, str, int], Mapping[str, str]],
    ) -> None:
        self.hashed = hashed
        self.tables = tables
        self.day = day
        self.zone = zone

    def of(self, name: str, first: date | None = None, last: date | None = None) -> Iterator[Row]:
        """Rows of the days *first* to *last*, both included; usually the report's own."""
        for day, rows in self.tables[name].items():
            if (first or self.day) <= day <= (last or self.day):
                yield from rows

    def newest(self, name: str, column: str) -> dict[str, Row]:
        """The newest snapshot on or before the day, by *column*."""
        day = _newest((one for one, rows in self.tables[name].items() if rows), self.day)
        return {row[column]: row for row in self.tables[name][day]} if day is not None else {}

    def until_now(self, name: str, column: str, by: str) -> dict[str, list[Row]]:
        """All rows of the day and before, by the hash of *column*, each list in the order of event time *by* and key."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.of(name, date.min):
            found[self.hashed[name, row["_object"], row["_row"]][column]].append(row)
        return {who: sorted(rows, key=lambda row: (row[by], row["event_id"])) for who, rows in sorted(found.items())}

    def regions(self) -> dict[str, str]:
        """Region by store."""
        return {store_id: row["region"] for store_id, row in self.newest("stores", "store_id").items()}


_CENT = Decimal("0.01")


def _round(value: Decimal) -> Decimal:
    return value.quantize(_CENT, ROUND_HALF_UP)


def _pct(part: Decimal, whole: Decimal) -> Decimal | None:
    return _round(100 * part / whole) if whole else None


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal("0.00"))


def _grouped(rows: Iterable[Row], by: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[by(row)].append(row)
    return sorted(groups.items())


def _sold(rows: Iterable[Row]) -> Decimal:
    return _total(row["amount_zar"] for row in rows if row["quantity"] >= 0)


def _net(rows: Iterable[Row]) -> Decimal:
    return _total(row["amount_zar"] for row in rows)


def _daily_sales(tables: _Tables) -> list[Row]:
    stores = tables.newest("stores", "store_id")
    return [
        {
            "sold_on": tables.day,
            "store_id": store_id,
            "store_name": stores[store_id]["store_name"],
            "region": stores[store_id]["region"],
            "transactions": len(rows),
            "units": sum(row["quantity"] for row in rows),
            "sales_zar": _sold(rows),
            "returns_zar": _sold(rows) - _net(rows),
            "net_zar": _net(rows),
        }
        for store_id, rows in _grouped(tables.of("sales"), lambda row: row["store_id"])
    ]


def _best_sellers(tables: _Tables) -> list[Row]:
    regions, products = tables.regions(), tables.newest("products", "product_id")
    found = []
    for region, rows in _grouped(tables.of("sales"), lambda row: regions[row["store_id"]]):
        ranked = [
            (-sum(row["quantity"] for row in sold), -_net(sold), product_id)
            for product_id, sold in _grouped(rows, lambda row: row["product_id"])
        ]
        for rank, (units, net, product_id) in enumerate(sorted(ranked)[:10], 1):
            found.append(
                {
                    "sold_on": tables.day,
                    "region": region,
                    "sales_rank": rank,
                    "product_id": product_id,
                    "product_name": products[product_id]["product_name"],
                    "units": -units,
                    "net_zar": -net,
                }
            )
    return found


def _peak_hours(tables: _Tables) -> list[Row]:
    regions = tables.regions()
    groups = _grouped(
        tables.of("sales"), lambda row: (regions[row["store_id"]], _local_time(row["sold_at"], tables.zone).hour)
    )
    return [
        {
            "sold_on": tables.day,
            "region": region,
            "sold_hour": hour,
            "transactions": len(rows),
            "sales_zar": _sold(rows),
        }
        for (region, hour), rows in groups
    ]


def _payment_mix(tables: _Tables) -> list[Row]:
    regions = tables.regions()
    found = []
    for region, rows in _grouped(tables.of("sales"), lambda row: regions[row["store_id"]]):
        for method, paid in _grouped(rows, lambda row: row["payment_method"]):
            found.append(
                {
                    "sold_on": tables.day,
                    "region": region,
                    "payment_method": method,
                    "transactions": len(paid),
                    "net_zar": _net(paid),
                    "share_pct": _pct(_net(paid), _net(rows)),
                }
            )
    return found


def _store_comparison(tables: _Tables) -> list[Row]:
    stores, regions = tables.newest("stores", "store_id"), tables.regions()
    nets = {store_id: _net(rows) for store_id, rows in _grouped(tables.of("sales"), lambda row: row["store_id"])}
    before = list(tables.of("sales", tables.day - timedelta(days=7), tables.day - timedelta(days=1)))
    trailing = {
        store_id: _round(_net(rows) / len({row["_day"] for row in rows}))
        for store_id, rows in _grouped(before, lambda row: row["store_id"])
    }
    found = []
    for store_id, net in nets.items():
        peers = [other for other_id, other in nets.items() if regions[other_id] == regions[store_id]]
        average = _round(_total(peers) / len(peers))
        own = trailing.get(store_id)
        found.append(
            {
                "sold_on": tables.day,
                "store_id": store_id,
                "store_name": stores[store_id]["store_name"],
                "region": regions[store_id],
                "net_zar": net,
                "region_average_zar": average,
                "against_region_pct": _pct(net - average, average),
                "trailing_average_zar": own,
                "against_trailing_pct": _pct(net - own, own) if own is not None else None,
            }
        )
    return found


def _stock_position(tables: _Tables) -> list[Row]:
    first = tables.day - timedelta(days=7)
    counts = list(tables.of("stock_counts", first, tables.day))
    last_day: dict[str, date] = {}
    for row in counts:
        last_day[row["store_id"]] = max(last_day.get(row["store_id"], first), row["_day"])
    delivered, sold = list(tables.of("deliveries", first, tables.day)), list(tables.of("sales", first, tables.day))
    moves: dict[tuple[str, str], list[tuple[date, int, int]]] = defaultdict(list)
    for row in delivered:
        moves[row["store_id"], row["product_id"]].append((row["_day"], row["units"], 0))
    for row in sold:
        moves[row["store_id"], row["product_id"]].append((row["_day"], 0, row["quantity"]))
    found = []
    for count in counts:
        if count["_day"] != last_day[count["store_id"]]:
            continue
        since = [move for move in moves[count["store_id"], count["product_id"]] if move[0] >= count["_day"]]
        units_delivered, units_sold = sum(move[1] for move in since), sum(move[2] for move in since)
        found.append(
            {
                "position_on": tables.day,
                "store_id": count["store_id"],
                "product_id": count["product_id"],
                "counted_at": count["counted_at"],
                "units_counted": count["units"],
                "units_delivered": units_delivered,
                "units_sold": units_sold,
                "units_on_hand": count["units"] + units_delivered - units_sold,
            }
        )
    return sorted(found, key=lambda row: (row["store_id"], row["product_id"]))


def _till_lines(tables: _Tables) -> list[Row]:
    def same(one: Row, other: Row) -> bool:
        return all(one[name] == other[name] for name in ("store_id", "product_id", "quantity", "amount_zar"))

    in_files = {row["transaction_id"]: row for row in tables.of("sales")}
    in_stream = {row["transaction_id"]: row for row in tables.of("pos_events")}
    shown = ("transaction_id", "store_id", "sold_at", "product_id", "quantity", "amount_zar", "payment_method")
    return [
        {name: (in_files.get(key) or in_stream[key])[name] for name in shown}
        | {
            "is_in_files": key in in_files,
            "is_in_stream": key in in_stream,
            "agrees": same(in_files[key], in_stream[key]) if key in in_files and key in in_stream else None,
        }
        for key in sorted(in_files.keys() | in_stream.keys())
    ]


def _stream_reconciliation(tables: _Tables) -> list[Row]:
    stores = tables.newest("stores", "store_id")
    found = []
    for store_id, lines in _grouped(_till_lines(tables), lambda row: row["store_id"]):
        only_files = [line for line in lines if not line["is_in_stream"]]
        only_stream = [line for line in lines if not line["is_in_files"]]
        found.append(
            {
                "sold_on": tables.day,
                "store_id": store_id,
                "store_name": stores[store_id]["store_name"],
                "region": stores[store_id]["region"],
                "lines_in_files": len(lines) - len(only_stream),
                "lines_in_stream": len(lines) - len(only_files),
                "only_in_files": len(only_files),
                "only_in_stream": len(only_stream),
                "differing": sum(line["agrees"] is False for line in lines),
                "files_zar": _net(line for line in lines if line["is_in_files"]),
                "only_in_files_zar": _net(only_files),
                "only_in_stream_zar": _net(only_stream),
                "is_reconciled": all(line["agrees"] for line in lines),
            }
        )
    return found


def _reconciliation(tables: _Tables) -> list[Row]:
    stores = tables.newest("stores", "store_id")
    till = dict(
        _grouped((row for row in tables.of("sales") if row["payment_method"] == "mobile"), lambda row: row["store_id"])
    )
    provider = dict(_grouped(tables.of("mobile_payments"), lambda row: row["store_id"]))
    found = []
    for store_id in sorted(till.keys() | provider.keys()):
        at_till, at_provider = till.get(store_id, []), provider.get(store_id, [])
        difference = _net(at_till) - _net(at_provider)
        found.append(
            {
                "paid_on": tables.day,
                "store_id": store_id,
                "store_name": stores[store_id]["store_name"],
                "region": stores[store_id]["region"],
                "till_lines": len(at_till),
                "provider_payments": len(at_provider),
                "till_zar": _net(at_till),
                "provider_zar": _net(at_provider),
                "difference_zar": difference,
                "is_reconciled": difference == 0,
            }
        )
    return found


def _sales_in_euro(tables: _Tables) -> list[Row]:
    regions, rand = tables.regions(), tables.newest("exchange_rates", "currency").get("ZAR")
    return [
        {
            "sold_on": tables.day,
            "region": region,
            "net_zar": _net(rows),
            "zar_per_eur": rand["units_per_eur"] if rand else None,
            "rated_on": rand["rated_on"] if rand else None,
            "is_carried_forward": rand["rated_on"] < tables.day if rand else None,
            "is_stale": rand["is_stale"] if rand else None,
            "net_eur": _round(_net(rows) / rand["units_per_eur"]) if rand else None,
        }
        for region, rows in _grouped(tables.of("sales"), lambda row: regions[row["store_id"]])
    ]


def _marketing_moments(tables: _Tables) -> list[Row]:
    regions, yesterday = tables.regions(), tables.day - timedelta(days=1)
    today = dict(_grouped(tables.of("sales"), lambda row: regions[row["store_id"]]))
    earlier = dict(
        _grouped(tables.of("sales", tables.day - timedelta(days=7), yesterday), lambda row: regions[row["store_id"]])
    )
    before = {
        (row["region"], row["track_id"]): row["chart_position"]
        for row in tables.of("trending_music", yesterday, yesterday)
    }
    found = []
    for row in tables.of("trending_music"):
        if row["chart_position"] > 10:
            continue
        net, days = _net(today.get(row["region"], ())), earlier.get(row["region"], [])
        average = _round(_net(days) / len({one["_day"] for one in days})) if days else None
        former = before.get((row["region"], row["track_id"]))
        had_a_chart = any(region == row["region"] for region, _ in before)
        is_rising = had_a_chart and (former is None or former > row["chart_position"])
        found.append(
            {
                "charted_on": tables.day,
                "region": row["region"],
                "track_id": row["track_id"],
                "title": row["title"],
                "artist": row["artist"],
                "chart_position": row["chart_position"],
                "positions_climbed": former - row["chart_position"] if former is not None else None,
                "streams": row["streams"],
                "net_zar": net,
                "trailing_average_zar": average,
                "against_trailing_pct": _pct(net - average, average) if average is not None else None,
                "is_moment": is_rising and average is not None and net > average,
            }
        )
    return found


def _bookings(rows: Iterable[Row]) -> Iterator[tuple[Row, Decimal, bool]]:
    """Each deposit or withdrawal of an account, with the balance before it and whether it was refused."""
    balance = Decimal("0.00")
    for row in rows:
        is_refused = row["kind"] == "withdrawal" and row["amount_zar"] > balance
        yield row, balance, is_refused
        if not is_refused:
            balance += row["amount_zar"] if row["kind"] == "deposit" else -row["amount_zar"]


def _account_balances(tables: _Tables) -> list[Row]:
    found = []
    for account, rows in tables.until_now("account_events", "account_id", "happened_at").items():
        bookings = list(_bookings(rows))
        paid_in = _total(row["amount_zar"] for row in rows if row["kind"] == "deposit")
        paid_out = _total(row["amount_zar"] for row, _, no in bookings if row["kind"] == "withdrawal" and not no)
        found.append(
            {
                "account_id": account,
                "balance_zar": paid_in - paid_out,
                "deposited_zar": paid_in,
                "withdrawn_zar": paid_out,
                "withdrawals_refused": sum(no for _, _, no in bookings),
                "last_event_at": rows[-1]["happened_at"],
                "refusals": [(row["event_id"], was) for row, was, no in bookings if no and row["_day"] == tables.day],
            }
        )
    return found


def _refused_withdrawals(tables: _Tables) -> list[Row]:
    found = [
        {
            "event_id": row["event_id"],
            "account_id": account,
            "store_id": row["store_id"],
            "happened_at": row["happened_at"],
            "amount_zar": row["amount_zar"],
            "balance_zar": was,
            "short_zar": row["amount_zar"] - was,
            "reason": "would overdraw the account",
        }
        for account, rows in tables.until_now("account_events", "account_id", "happened_at").items()
        for row, was, is_refused in _bookings(rows)
        if is_refused and row["_day"] == tables.day
    ]
    return sorted(found, key=lambda row: row["event_id"])


def _loyalty_balances(tables: _Tables) -> list[Row]:
    found = []
    for customer, rows in tables.until_now("loyalty_events", "customer_id", "happened_at").items():
        earned = redeemed = refused = 0
        for row in rows:
            if row["event_type"] == "points_earned":
                earned += row["points"]
            elif redeemed + row["points"] <= earned:
                redeemed += row["points"]
            else:
                refused += 1
        found.append(
            {
                "customer_id": customer,
                "points": earned - redeemed,
                "points_earned": earned,
                "points_redeemed": redeemed,
                "redemptions_refused": refused,
                "level": "gold" if earned >= 2000 else "silver" if earned >= 500 else "bronze",
                "last_event_at": rows[-1]["happened_at"],
            }
        )
    return found


def _versions(tables: _Tables) -> Iterator[tuple[Row, datetime | None]]:
    """Each version of a customer that the day's end knows, and until when it was so; None: it is."""
    changes: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in sorted(
        tables.of("customers", date.min), key=lambda row: (row["_landed_on"], row["_object"], row["_row"])
    ):
        masked = tables.hashed["customers", row["_object"], row["_row"]]
        # What comes a second time stands as it came last.
        changes[masked["customer_id"]][row["position"]] = {**row, "name": None, **masked}
    for told in changes.values():
        former: Row | None = None
        for row in sorted(told.values(), key=lambda row: tuple(map(int, row["position"].split(":")))):
            if former is not None:
                yield former, row["changed_at"]
            if row["operation"] == "delete":
                former = None
                continue
            if row["unsent"] is not None:
                assert former is not None
                row = {**row, **{column: former[column] for column in json.loads(row["unsent"])}}
            former = row
        if former is not None:
            yield former, None


def _shown_version(row: Row) -> Row:
    return {column: value for column, value in row.items() if column != "_day"}


def _customers_current(tables: _Tables) -> list[Row]:
    return [_shown_version(row) for row, ended_at in _versions(tables) if ended_at is None]


def _customers_history(tables: _Tables) -> list[Row]:
    return [
        {**_shown_version(row), "valid_from": row["changed_at"], "valid_to": ended_at, "is_current": ended_at is None}
        for row, ended_at in _versions(tables)
    ]


def _stock_levels(tables: _Tables) -> list[Row]:
    shelves: dict[tuple[str, str], Row] = {}
    days = {
        row["_day"]
        for name in ("stock_counts", "deliveries", "sales", "pos_events")
        for row in tables.of(name, date.min)
    }
    for day in sorted(days):
        on_day = _Tables(tables.tables, day, tables.zone, tables.hashed)
        counts = {(row["store_id"], row["product_id"]): row for row in on_day.of("stock_counts")}
        delivered, sold = defaultdict[Any, int](int), defaultdict[Any, int](int)
        for row in on_day.of("deliveries"):
            delivered[row["store_id"], row["product_id"]] += row["units"]
        for row in _till_lines(on_day):
            sold[row["store_id"], row["product_id"]] += row["quantity"]
        for place in shelves.keys() | counts.keys() | delivered.keys() | sold.keys():
            before, count = shelves.get(place), counts.get(place)
            was = before["units_on_hand"] if before else None
            opening = count["units"] if count else was or 0
            shelves[place] = {
                "store_id": place[0],
                "product_id": place[1],
                "counted_at": count["counted_at"] if count else before["counted_at"] if before else None,
                "units_opening": opening,
                "units_missing": was - opening if count and was is not None else None,
                "units_delivered": delivered[place],
                "units_sold": sold[place],
                "units_on_hand": opening + delivered[place] - sold[place],
            }
    return [shelves[place] for place in sorted(shelves)]


def _customer_habits(tables: _Tables) -> list[Row]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in tables.of("payments", tables.day - timedelta(days=27)):
        masked = tables.hashed["payments", row["_object"], row["_row"]]
        if row["status"] == "approved" and masked["customer_id"] is not None:
            found[masked["customer_id"]].append({**row, **masked})

    def known(rows: list[Row], values: Iterable[Any]) -> list[Any] | None:
        return sorted({value for value in values if value is not None}) if len(rows) >= 3 else None

    return [
        {
            "customer_id": customer,
            "payments": len(rows),
            "usual_amount_zar": _round(sum(row["amount_zar"] for row in rows) / len(rows)) if len(rows) >= 3 else None,
            "stores": known(rows, (row["store_id"] for row in rows)),
            "regions": known(rows, (row["region"] for row in rows)),
            "hours": known(rows, (row["paid_at"].hour for row in rows)),
            "cards": known(rows, (row["card"] for row in rows)),
        }
        for customer, rows in sorted(found.items())
    ]


def _stock_watch(tables: _Tables) -> list[Row]:
    sold = defaultdict[Any, int](int)
    for row in tables.of("pos_events", tables.day - timedelta(days=7), tables.day - timedelta(days=1)):
        sold[row["store_id"], row["product_id"]] += row["quantity"]
    watched: dict[tuple[str, str], Row] = {}
    for row in tables.of("stock_counts"):
        units = max(sold[row["store_id"], row["product_id"]], 0)
        low = max(-(-units // 7), 5)
        a_day = _round(Decimal(units) / 7)
        watched[row["store_id"], row["product_id"]] = {
            "store_id": row["store_id"],
            "product_id": row["product_id"],
            "units": row["units"],
            "sold_a_day": a_day,
            "runs_low_below": low,
            "fill_up_to": max(math.ceil(a_day * 7), 2 * low),
        }
    stores = tables.newest("stores", "store_id")

    def km(one: Row, other: Row) -> float:
        north = float(one["latitude"] - other["latitude"])
        east = float(one["longitude"] - other["longitude"]) * math.cos(math.radians(float(one["latitude"])))
        return 111.2 * math.sqrt(north**2 + east**2)

    for (store_id, product_id), row in watched.items():
        here = stores.get(store_id)
        near = sorted(
            (km(here, stores[other["store_id"]]), other["store_id"])
            for other in watched.values()
            if here is not None
            and other["product_id"] == product_id
            and other["store_id"] in stores.keys() - {store_id}
            and stores[other["store_id"]]["country"] == here["country"]
            and other["units"] < other["runs_low_below"]
        )
        row["low_nearby"] = ", ".join([other for away, other in near if away <= 50][:3]) or None
    return [watched[place] for place in sorted(watched)]


def _alerts_in_batch(tables: _Tables) -> list[Row]:
    """Of what runs low alone."""
    watched = {(row["store_id"], row["product_id"]): row for row in _stock_watch(tables)}
    taken: dict[tuple[str, str], int] = {}
    found = []
    for row in sorted(tables.of("pos_events"), key=lambda one: (one["sold_at"], one["transaction_id"])):
        place = row["store_id"], row["product_id"]
        is_first, before = place not in taken, taken.get(place, 0)
        taken[place] = before + row["quantity"]
        watch = watched.get(place)
        if watch is None:
            continue
        level, low = watch["units"] - taken[place], watch["runs_low_below"]
        if level >= low or (not is_first and watch["units"] - before < low):
            continue
        about = {"store_id": place[0], "product_id": place[1]}
        order = str(max(watch["fill_up_to"] - level, 0))
        details = {"level": str(level), "threshold": str(low), "reorder": order}
        if watch["low_nearby"] is not None:
            details["low_nearby"] = watch["low_nearby"]
        told = json.dumps(["low_stock", about, row["transaction_id"]], sort_keys=True)
        found.append(
            {
                "alert_id": hashlib.sha256(told.encode()).hexdigest()[:32],
                "rule": "low_stock",
                "about": json.dumps(about, separators=(",", ":")),
                "deserved_by": row["transaction_id"],
                "happened_at": row["sold_at"],
                "priority": 3,
                "action": "notify",
                "score": Decimal("1.000") if level <= 0 else Decimal("0.800"),
                "reasons": json.dumps([f"{level} units are left, below {low}: reorder {order}"], separators=(",", ":")),
                "details": json.dumps(details, separators=(",", ":")),
                "dataset": "pos_events",
            }
        )
    return sorted(found, key=lambda one: str(one["alert_id"]))


REPORTS: dict[str, Callable[[_Tables], list[Row]]] = {
    "daily_sales": _daily_sales,
    "best_sellers": _best_sellers,
    "peak_hours": _peak_hours,
    "payment_mix": _payment_mix,
    "store_comparison": _store_comparison,
    "stock_position": _stock_position,
    "reconciliation": _reconciliation,
    "till_lines": _till_lines,
    "stream_reconciliation": _stream_reconciliation,
    "sales_in_euro": _sales_in_euro,
    "marketing_moments": _marketing_moments,
    "account_balances": _account_balances,
    "refused_withdrawals": _refused_withdrawals,
    "loyalty_balances": _loyalty_balances,
    "customers_current": _customers_current,
    "customers_history": _customers_history,
    "stock_levels": _stock_levels,
    "customer_habits": _customer_habits,
    "stock_watch": _stock_watch,
    "alerts_in_batch": _alerts_in_batch,
}
"""Each report as a function of the processed tables; rows come by primary key."""
