"""
Avro values of stream records, and records of Avro files, as JSON objects.

Belongs here: the only use of the Avro library; what Avro's types are in JSON. Doesn't: where schemas come from
(`sources/schema_registry.py`), what is around the records of a file (`avro_files.py`).

Records and maps are objects, so that dotted paths work; a union is the value that was chosen, without its type's name. Decimals are numbers
with all their digits, `bytes` and `fixed` base64, enums text, UUIDs text. Dates, times and timestamps are ISO 8601: those that are moments
with `+00:00`, local ones without. A float that isn't a number, or is infinite, is the text `NaN`, `Infinity` or `-Infinity`, which a DOUBLE
column takes.
"""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import fastavro.read
import msgspec

# The library's reader in C does not notice the end of its stack: a value nested some thousand levels deep, which takes as many bytes, ends
# the process. Its reader in Python gets a RecursionError, and is taken where a schema allows such values.
from fastavro import _read_py

from ingestion_platform.formats.json_members import NotAnObject
from ingestion_platform.formats.texts import excerpt
from ingestion_platform.stream import AvroValues

Json = Any
"""A schema, or a part of one, as JSON gives it."""

FRAME_BYTES = 5
"""Before the value: a zero byte, and four of the schema's id."""
_DEEPEST = 100
"""Levels of a schema. Real ones have ten; the library parses them recursively, in C."""
_VALUES_A_BYTE = 16
"""An array whose items hold more values than this for each byte that they take would fill any memory from a small value."""
_DECIMAL_BYTES = 512
_LARGEST_SCALE = 1000
_NO_AVRO = (
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
    msgspec.MsgspecError,
)
"""What the reader raises for bytes that aren't what the schema says."""

_encode = msgspec.json.Encoder().encode
_EPOCH = datetime(1970, 1, 1)
_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)


def avro_decoder(values: AvroValues, schemas: Mapping[str, str]) -> Callable[[bytes, str | None], bytes]:
    """
    What turns Avro values into JSON objects.

    Args:
        values: as declared.
        schemas: name → writer's schema, of values in the registry's framing.
    """
    declared = values.schema
    if declared is not None:
        return lambda value, _: _reader_of(declared).read(value, 0)

    def decode(value: bytes, name: str | None) -> bytes:
        schema = schemas.get(name) if name is not None else None
        if schema is None:
            raise NotAnObject(_unnamed(value))
        return _reader_of(schema).read(value, FRAME_BYTES)

    return decode


def _unnamed(value: bytes) -> str:
    if len(value) < FRAME_BYTES or value[0] != 0:
        return "is not Avro as schema registries frame it: it doesn't begin with a zero byte and the id of a schema"
    return f"is Avro of schema {int.from_bytes(value[1:FRAME_BYTES], 'big')}, which the schema registry didn't know"


@dataclass(frozen=True, slots=True)
class _Reader:
    """
    Reads values of one schema.

    Args:
        schema: prepared and parsed; None when it can't be used.
        read_one: the library's reader.
        why_not: why it can't be used.
    """

    schema: Json
    read_one: Callable[..., Any]
    why_not: str = ""

    def read(self, value: bytes, begin: int) -> bytes:
        """
        A value as a JSON object's text.

        Args:
            begin: of the value proper.

        Raises:
            NotAnObject: says why it isn't one.
        """
        if self.why_not:
            raise NotAnObject(self.why_not)
        file = io.BytesIO(value)
        file.seek(begin)
        try:
            found = self.read_one(file, self.schema, None)
            if type(found) is not dict:
                raise NotAnObject(f"is no record: its Avro schema is of type {_type_name(self.schema)}")
            left = len(value) - file.tell()
            text = _encode(found)
        except RecursionError as error:
            raise NotAnObject("is nested too deeply") from error
        except _NO_AVRO as error:
            raise NotAnObject(
                f"is not Avro of its schema: {excerpt(str(error) or type(error).__name__, 200)}"
            ) from error
        if left:
            raise NotAnObject(f"is not Avro of its schema: {left:,} bytes are left after its end")
        return text


def read_block(schema: str, block: bytes, count: int) -> Iterator[bytes]:
    """
    The records of one block of an object container file, as JSON objects' texts.

    Args:
        schema: the writer's.
        block: decompressed.
        count: how many there are.

    Raises:
        NotAnObject: the block isn't what its schema says.
    """
    reader = _reader_of(schema)
    if reader.why_not:
        raise NotAnObject(reader.why_not)
    if count > len(block) * _VALUES_A_BYTE + _VALUES_A_BYTE:
        raise NotAnObject(f"has {count:,} records in {len(block):,} bytes")
    file = io.BytesIO(block)
    try:
        for _ in range(count):
            found = reader.read_one(file, reader.schema, None)
            if type(found) is not dict:
                raise NotAnObject(f"is no record: its Avro schema is of type {_type_name(reader.schema)}")
            yield _encode(found)
    except RecursionError as error:
        raise NotAnObject("is nested too deeply") from error
    except _NO_AVRO as error:
        raise NotAnObject(f"is not Avro of its schema: {excerpt(str(error) or type(error).__name__, 200)}") from error
    if file.tell() != len(block):
        raise NotAnObject(f"is not Avro of its schema: {len(block) - file.tell():,} bytes are left after its end")


def places_in_block(schema: str, block: bytes, count: int) -> list[int]:
    """
    Where each record of a block of an object container file ends.

    Args:
        schema: the writer's.
        block: decompressed.
        count: how many there are.

    Raises:
        NotAnObject: the block isn't what its schema says.
    """
    reader = _reader_of(schema)
    if reader.why_not:
        raise NotAnObject(reader.why_not)
    file = io.BytesIO(block)
    ends = []
    try:
        for _ in range(count):
            reader.read_one(file, reader.schema, None)
            ends.append(file.tell())
    except RecursionError as error:
        raise NotAnObject("is nested too deeply") from error
    except _NO_AVRO as error:
        raise NotAnObject(f"is not Avro of its schema: {excerpt(str(error) or type(error).__name__, 200)}") from error
    return ends


@lru_cache(256)
def _reader_of(text: str) -> _Reader:
    try:
        preparing = _Preparing()
        schema = preparing.prepare(json.loads(text), "", 0)
        parsed = fastavro.parse_schema(schema)
        _guard(parsed)
    except RecursionError:
        return _Reader(None, _no_reader, "has an Avro schema that is nested too deeply")
    except (NotAnObject, *_NO_AVRO, fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
        return _Reader(None, _no_reader, f"has an Avro schema that can't be used: {excerpt(str(error), 200)}")
    return _Reader(parsed, (_read_py if preparing.is_recursive else fastavro).schemaless_reader)


class _Choices(list[Json]):
    """
    Branches of a union or symbols of an enum, of which none is chosen by a negative number.

    The library takes what was written for an index of Python's. Its reader in C adds the length to a negative one first: so there is none.
    """

    def __getitem__(self, place: Any) -> Any:
        if place < 0:
            raise IndexError(f"{place} is chosen in a union or an enum")
        return super().__getitem__(place)

    def __len__(self) -> int:
        return 0


def _guard(parsed: Json) -> None:
    """Make choices of a parsed schema safe, in place."""
    if isinstance(parsed, list):
        for one in parsed:
            _guard(one)
    elif isinstance(parsed, dict):
        for key, inner in parsed.items():
            if isinstance(inner, _Choices):
                continue
            _guard(inner)
            if key == "symbols" or (isinstance(inner, list) and key in ("type", "items", "values")):
                parsed[key] = _Choices(inner)


def _no_reader(*_: object) -> None:
    raise AssertionError("a schema that can't be used is never read with")


def _type_name(schema: Json) -> str:
    if isinstance(schema, list):
        return "union"
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


# --- schemas


class _Preparing:
    """
    Prepares a schema: what doesn't matter for reading is dropped, logical types become ours, and what would be dangerous is refused.

    `is_recursive`: whether values may be nested without end.
    """

    def __init__(self) -> None:
        self.is_recursive = False
        self._excess: dict[str, int] = {}
        self._open: set[str] = set()
        self._inside_themselves: set[str] = set()
        self._short: dict[str, str] = {}

    def prepare(self, schema: Json, namespace: str, depth: int) -> Json:
        """Prepare a schema or a part of one."""
        return self._prepare(schema, namespace, depth)[0]

    def _prepare(self, schema: Json, namespace: str, depth: int) -> tuple[Json, int]:
        """
        And how many values more than `_VALUES_A_BYTE` for each byte it may hold: a bound on what few bytes can become.

        Raises:
            NotAnObject: it can't be used.
        """
        if depth > _DEEPEST:
            raise NotAnObject("it is nested too deeply")
        if isinstance(schema, list):
            branches = [self._prepare(one, namespace, depth + 1) for one in schema]
            most = max((excess for _, excess in branches), default=0)
            return [one for one, _ in branches], most - _VALUES_A_BYTE
        if isinstance(schema, str):
            return self._named(schema, namespace)
        if not isinstance(schema, dict):
            raise NotAnObject(f"it has {excerpt(json.dumps(schema))} where a type should be")
        kind = schema.get("type")
        match kind:
            case "record" | "error":
                return self._record(schema, namespace, depth)
            case "array" | "map":
                inner = "items" if kind == "array" else "values"
                item, excess = self._prepare(schema.get(inner), namespace, depth + 1)
                if excess - (_VALUES_A_BYTE if kind == "map" else 0) > 0:
                    raise NotAnObject("it has an array whose items take next to no bytes: any number of them would fit")
                return {"type": kind, inner: item}, 1 - _VALUES_A_BYTE
            case "enum" | "fixed":
                name = self._define(schema, namespace)
                size = schema.get("size", 0) if kind == "fixed" else 1
                if type(size) is not int or size < 0:
                    raise NotAnObject(f"it has a fixed of size {excerpt(json.dumps(size))}")
                self._excess[name] = 1 - _VALUES_A_BYTE * size
                kept = {key: schema[key] for key in ("type", "symbols", "size") if key in schema}
                return {**kept, "name": self._short[name], **_logical(schema)}, self._excess[name]
            case str() if kind in _PRIMITIVES:
                return {"type": kind, **_logical(schema)}, self._named(kind, namespace)[1]
            case _:
                # `{"type": {…}}` and `{"type": [ … ]}`: what is inside is meant.
                return self._prepare(kind, namespace, depth + 1)

    def _named(self, name: str, namespace: str) -> tuple[Json, int]:
        if name in _PRIMITIVES:
            own = _logical({"type": name})
            return {"type": name, **own} if own else name, 1 - _VALUES_A_BYTE * _PRIMITIVES[name]
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full not in self._excess and full not in self._open:
            full = name
        if full in self._open:
            self.is_recursive = True
            self._inside_themselves.add(full)
            # Not known yet: `_record` sees to it that it isn't more.
            return self._short[full], 0
        if full not in self._excess:
            raise NotAnObject(f"it names a type {excerpt(name)} that it doesn't define")
        return self._short[full], self._excess[full]

    def _record(self, schema: Mapping[str, Json], namespace: str, depth: int) -> tuple[Json, int]:
        name = self._define(schema, namespace)
        self._open.add(name)
        fields, excess = [], 1
        declared = schema.get("fields")
        if not isinstance(declared, list):
            raise NotAnObject(f"its record {excerpt(name)} has no fields")
        for field in declared:
            if not isinstance(field, dict) or not isinstance(field.get("name"), str):
                raise NotAnObject(f"its record {excerpt(name)} has a field without a name")
            prepared, more = self._prepare(field.get("type"), name.rpartition(".")[0], depth + 1)
            fields.append({"name": field["name"], "type": prepared})
            excess += more
        self._open.discard(name)
        if excess > 0 and name in self._inside_themselves:
            raise NotAnObject("it has a record inside itself that takes next to no bytes: any number of them would fit")
        self._excess[name] = excess
        return {"type": "record", "name": self._short[name], "fields": fields}, excess

    def _define(self, schema: Mapping[str, Json], namespace: str) -> str:
        name, own = schema.get("name"), schema.get("namespace", namespace)
        if not isinstance(name, str) or not isinstance(own, str) or not name:
            raise NotAnObject("it has a type without a name")
        full = name if "." in name or not own else f"{own}.{name}"
        if full in self._excess or full in self._open:
            raise NotAnObject(f"it defines {excerpt(full)} twice")
        # The library takes what has no namespace to be in that of what it stands in. So here nothing has one.
        self._short[full] = f"t{len(self._short)}"
        return full


_PRIMITIVES = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
"""And the bytes that each takes at least."""

# --- logical types

_OURS = "ingestion-"
"""Logical types of our own names, so that nobody else's use of the library sees them."""


def _logical(schema: Mapping[str, Json]) -> dict[str, Json]:
    """What a part of a prepared schema says of its logical type. One that isn't valid doesn't count (as Avro's specification says)."""
    kind, logical = schema.get("type"), schema.get("logicalType")
    if kind in ("float", "double"):
        return {"logicalType": f"{_OURS}float"}
    if logical == "decimal" and kind in ("bytes", "fixed"):
        scale = schema.get("scale", 0)
        if type(scale) is not int or not 0 <= scale <= _LARGEST_SCALE:
            return {}
        return {"logicalType": f"{_OURS}decimal", "scale": scale}
    if (logical == "uuid" and schema.get("size") != 16) or (logical == "duration" and schema.get("size") != 12):
        return {}
    if isinstance(logical, str) and f"{kind}-{_OURS}{logical}" in _LOGICAL:
        return {"logicalType": f"{_OURS}{logical}"}
    return {}


def _float(value: float, *_: object) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decimal(value: bytes, schema: Mapping[str, Any], _: object = None) -> msgspec.Raw:
    if len(value) > _DECIMAL_BYTES:
        raise ValueError(f"a decimal has {len(value):,} bytes")
    unscaled = int.from_bytes(value, "big", signed=True)
    scale = schema["scale"]
    if not scale:
        return msgspec.Raw(str(unscaled))
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    return msgspec.Raw(f"{'-' if unscaled < 0 else ''}{digits[:-scale]}.{digits[-scale:]}")


def _uuid(value: bytes, *_: object) -> str:
    return str(UUID(bytes=value))


def _duration(value: bytes, *_: object) -> str:
    months, days, milliseconds = (int.from_bytes(value[at : at + 4], "little") for at in (0, 4, 8))
    return f"P{months}M{days}DT{milliseconds // 1000}.{milliseconds % 1000:03}S"


def _date(value: int, *_: object) -> str:
    return (date(1970, 1, 1) + timedelta(value)).isoformat()


def _time(units: int) -> Callable[..., str]:
    def read(value: int, *_: object) -> str:
        if not 0 <= value < 86_400 * units:
            raise ValueError(f"{value} is no time of day")
        return (_EPOCH + timedelta(microseconds=value * (1_000_000 // units))).time().isoformat()

    return read


def _timestamp(epoch: datetime, units: int) -> Callable[..., str]:
    micros = 1_000_000 // units

    def read(value: int, *_: object) -> str:
        return (epoch + timedelta(microseconds=value * micros)).isoformat()

    return read


def _nanoseconds(epoch: datetime) -> Callable[..., str]:
    def read(value: int, *_: object) -> str:
        seconds, nanoseconds = divmod(value, 1_000_000_000)
        moment = (epoch + timedelta(seconds=seconds)).replace(tzinfo=None)
        return f"{moment.isoformat()}.{nanoseconds:09}{'+00:00' if epoch.tzinfo else ''}"

    return read


_LOGICAL: dict[str, Callable[..., Any]] = {
    f"float-{_OURS}float": _float,
    f"double-{_OURS}float": _float,
    f"bytes-{_OURS}decimal": _decimal,
    f"fixed-{_OURS}decimal": _decimal,
    f"fixed-{_OURS}uuid": _uuid,
    f"fixed-{_OURS}duration": _duration,
    f"int-{_OURS}date": _date,
    f"int-{_OURS}time-millis": _time(1000),
    f"long-{_OURS}time-micros": _time(1_000_000),
    f"long-{_OURS}timestamp-millis": _timestamp(_MOMENT, 1000),
    f"long-{_OURS}timestamp-micros": _timestamp(_MOMENT, 1_000_000),
    f"long-{_OURS}timestamp-nanos": _nanoseconds(_MOMENT),
    f"long-{_OURS}local-timestamp-millis": _timestamp(_EPOCH, 1000),
    f"long-{_OURS}local-timestamp-micros": _timestamp(_EPOCH, 1_000_000),
    f"long-{_OURS}local-timestamp-nanos": _nanoseconds(_EPOCH),
}
fastavro.read.LOGICAL_READERS.update(_LOGICAL)
