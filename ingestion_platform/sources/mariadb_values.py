"""
Values in the rows of MariaDB's binary log as text, written as the database itself writes them.

Belongs here: the bytes of each type, and the text of the same value when it is read from a table. Doesn't: events (`mariadb_changes.py`).

What differs from what a client is shown, because that would lose something: floating-point numbers have all their digits; a TIMESTAMP says
that it is UTC (`+00`), which tells it from a DATETIME; BINARY, BLOB and geometries are hex digits; BIT is a whole number; ZEROFILL doesn't
fill.

Source:
    MariaDB, "Rows_event_v1", "TABLE_MAP_EVENT"; MySQL, "mysql::binlog::event::Table_map_event" (the optional metadata).
"""

import codecs
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from struct import Struct
from typing import TypeAlias

import numpy as np

from ingestion_platform.errors import SourceChanged

Reader: TypeAlias = Callable[[bytes, int], tuple[str, int]]
"""Bytes, and where a value begins in them → its text, and where the next one begins."""
Decode: TypeAlias = Callable[[bytes], str]
Characters: TypeAlias = Callable[[str], str]
"""The name of a character set whose characters have one byte → the 256 characters, in order; of another one something else."""

(
    TINY,
    SHORT,
    LONG,
    FLOAT,
    DOUBLE,
    NULL,
    TIMESTAMP,
    LONGLONG,
    INT24,
    DATE,
    TIME,
    DATETIME,
    YEAR,
    NEWDATE,
    VARCHAR,
    BIT,
) = range(1, 17)
TIMESTAMP2, DATETIME2, TIME2 = 17, 18, 19
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141
NEWDECIMAL, ENUM, SET, BLOB, VAR_STRING, STRING, GEOMETRY = 246, 247, 248, 252, 253, 254, 255
NUMERIC = (TINY, SHORT, LONG, INT24, LONGLONG, FLOAT, DOUBLE, NEWDECIMAL, YEAR)
"""Types of which the log says whether they are signed."""
CHARACTER = (VARCHAR, VAR_STRING, STRING, BLOB, GEOMETRY, VARCHAR_COMPRESSED, BLOB_COMPRESSED)
"""Types of which it says the character set."""
CODECS: Mapping[str, str] = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le",
    "utf32": "utf-32-be", "gbk": "gbk", "gb2312": "gb2312", "big5": "big5", "euckr": "cp949", "sjis": "shift_jis", "cp932": "cp932",
    "ujis": "euc_jp", "eucjpms": "euc_jp",
}  # fmt: skip
"""Character sets in which a character may have several bytes. What the bytes of the others are, the server is asked."""

_UINT16, _UINT32, _UINT64 = Struct("<H").unpack_from, Struct("<I").unpack_from, Struct("<Q").unpack_from
_INT8, _INT16, _INT32, _INT64 = (Struct(kind).unpack_from for kind in ("<b", "<h", "<i", "<q"))
_FLOAT, _DOUBLE = Struct("<f").unpack_from, Struct("<d").unpack_from
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
_FRACTION_BYTES = (0, 1, 1, 2, 2, 3, 3)
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A column's type, as the log tells it.

    Args:
        type: one of the numbers above; ENUM and SET as what they are.
        meta: the type's own: sizes, digits.
        is_unsigned: of a number.
        charset: of a text; `binary`: it is none.
        names: of an ENUM or a SET, in order.
        shown_as: `uuid`, `inet6`, `inet4`: what the bytes of a BINARY really are, which the log doesn't tell.
    """

    type: int
    meta: int = 0
    is_unsigned: bool = False
    charset: str = "binary"
    names: tuple[str, ...] = ()
    shown_as: str = ""


def text_reader(charset: str, characters: Characters) -> Decode:
    """
    What makes text of the bytes of a character set.

    Args:
        charset: MariaDB's name.
        characters: asked for those of a character set whose characters have one byte.

    Raises:
        SourceChanged: nobody knows it.
    """
    if charset not in CODECS:
        table = characters(charset)
        if len(table) != 256:
            raise SourceChanged(
                f"a column's character set is {charset!r}, which isn't understood", "convert it to utf8mb4"
            )
        return lambda data: codecs.charmap_decode(data, "strict", table)[0]
    codec = CODECS[charset]

    def decode(data: bytes) -> str:
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            return data.decode(codec, "backslashreplace")

    return decode


def reader_of(kind: Kind, characters: Characters) -> Reader:
    """
    What reads the values of a column from the log.

    Raises:
        SourceChanged: they can't be understood.
    """
    match kind.type:
        case 1 | 2 | 3 | 8 | 9:
            return _whole(kind.type, is_unsigned=kind.is_unsigned)
        case 4:
            return lambda data, at: (float4_text(_FLOAT(data, at)[0]), at + 4)
        case 5:
            return lambda data, at: (float8_text(_DOUBLE(data, at)[0]), at + 8)
        case 246:
            return _decimal(kind.meta >> 8, kind.meta & 0xFF)
        case 13:
            return lambda data, at: (f"{1900 + data[at]}" if data[at] else "0000", at + 1)
        case 10 | 14:
            return _date
        case 17:
            return _timestamp(kind.meta)
        case 18:
            return _datetime(kind.meta)
        case 19:
            return _time(kind.meta)
        case 16:
            size = (kind.meta >> 8) + (1 if kind.meta & 0xFF else 0)
            return lambda data, at: (str(int.from_bytes(data[at : at + size])), at + size)
        case 247:
            return _enum(kind)
        case 248:
            return _set(kind)
        case 15 | 253:
            return _long(1 if kind.meta < 256 else 2, _shown(kind, characters))
        case 252 | 255:
            return _long(kind.meta & 0xFF, _shown(kind, characters))
        case 254:
            return _fixed(kind, characters)
    raise SourceChanged(f"the log has a column of type {kind.type}, which isn't understood", hint_of(kind.type))


def size_of(kind: Kind) -> tuple[int, int]:
    """How many bytes a value has, and how many say the length of those that follow: one of the two is 0."""
    match kind.type:
        case 1 | 13:
            return 1, 0
        case 2:
            return 2, 0
        case 9 | 10 | 14:
            return 3, 0
        case 3 | 4:
            return 4, 0
        case 5 | 8:
            return 8, 0
        case 246:
            return sum(_DIGIT_BYTES[digits] for digits in _groups(kind.meta >> 8, kind.meta & 0xFF)), 0
        case 17:
            return 4 + _FRACTION_BYTES[kind.meta], 0
        case 18:
            return 5 + _FRACTION_BYTES[kind.meta], 0
        case 19:
            return 3 + _FRACTION_BYTES[kind.meta], 0
        case 16:
            return (kind.meta >> 8) + (1 if kind.meta & 0xFF else 0), 0
        case 247 | 248:
            return kind.meta & 0xFF, 0
        case 252 | 255:
            return 0, kind.meta & 0xFF
        case 254:
            return 0, 1 if _fixed_bytes(kind.meta) < 256 else 2
    return 0, 1 if kind.meta < 256 else 2


def hint_of(type_: int) -> str:
    """What helps where a type isn't understood."""
    if type_ in (BLOB_COMPRESSED, VARCHAR_COMPRESSED):
        return "leave COMPRESSED out of the column's type (ROW_FORMAT and PAGE_COMPRESSED are understood)"
    if type_ in (TIMESTAMP, DATETIME, TIME):
        return "its dates are of before MariaDB 10.1: set global mysql56_temporal_format = ON; alter table … force"
    return "leave the table out"


# --- numbers


def _whole(type_: int, *, is_unsigned: bool) -> Reader:
    if type_ == TINY:
        if is_unsigned:
            return lambda data, at: (str(data[at]), at + 1)
        return lambda data, at: (str(_INT8(data, at)[0]), at + 1)
    if type_ == SHORT:
        unpack2 = _UINT16 if is_unsigned else _INT16
        return lambda data, at: (str(unpack2(data, at)[0]), at + 2)
    if type_ == INT24:
        return lambda data, at: (str(int.from_bytes(data[at : at + 3], "little", signed=not is_unsigned)), at + 3)
    if type_ == LONG:
        unpack4 = _UINT32 if is_unsigned else _INT32
        return lambda data, at: (str(unpack4(data, at)[0]), at + 4)
    unpack8 = _UINT64 if is_unsigned else _INT64
    return lambda data, at: (str(unpack8(data, at)[0]), at + 8)


def float4_text(value: float) -> str:
    """A number of four bytes, as short as it can be told from all others."""
    return str(np.float32(value)).removesuffix(".0")


def float8_text(value: float) -> str:
    """The same of eight bytes."""
    return repr(value).removesuffix(".0")


def _groups(precision: int, scale: int) -> list[int]:
    """Digits of each group."""
    before, after = precision - scale, scale
    return [
        *([before % 9] if before % 9 else []), *([9] * (before // 9)), *([9] * (after // 9)), *([after % 9] if after % 9 else []),
    ]  # fmt: skip


def _decimal(precision: int, scale: int) -> Reader:
    """Groups of nine digits in four bytes, the first and the last group with fewer; negative ones are inverted."""
    groups = _groups(precision, scale)
    size = sum(_DIGIT_BYTES[digits] for digits in groups)
    sign, all_bits = 1 << (8 * size - 1), (1 << 8 * size) - 1
    steps = []
    at = size
    for digits in groups:
        at -= _DIGIT_BYTES[digits]
        steps.append((8 * at, (1 << 8 * _DIGIT_BYTES[digits]) - 1, 10**digits))
    width = scale + 1

    def read(data: bytes, at: int) -> tuple[str, int]:
        end = at + size
        bits = int.from_bytes(data[at:end]) ^ sign
        is_negative = bits & sign
        if is_negative:
            bits ^= all_bits
        number = 0
        for shift, mask, power in steps:
            number = number * power + (bits >> shift & mask)
        digits = str(number)
        if scale:
            if len(digits) < width:
                digits = digits.zfill(width)
            digits = f"{digits[:-scale]}.{digits[-scale:]}"
        return (f"-{digits}" if is_negative else digits), end

    return read


# --- moments


def _date(data: bytes, at: int) -> tuple[str, int]:
    bits = data[at] | data[at + 1] << 8 | data[at + 2] << 16
    return f"{bits >> 9:04d}-{bits >> 5 & 15:02d}-{bits & 31:02d}", at + 3


@lru_cache(4096)
def _day(days: int) -> str:
    return (_EPOCH + timedelta(days=days)).isoformat()


def _fraction(data: bytes, at: int, places: int) -> str:
    size = _FRACTION_BYTES[places]
    number = int.from_bytes(data[at : at + size])
    return f".{number if places == 2 * size else number // 10:0{places}d}"


def _timestamp(places: int) -> Reader:
    size = 4 + _FRACTION_BYTES[places]

    def read(data: bytes, at: int) -> tuple[str, int]:
        seconds = int.from_bytes(data[at : at + 4])
        fraction = _fraction(data, at + 4, places) if places else ""
        if not seconds and not fraction.strip(".0"):
            return f"0000-00-00 00:00:00{fraction}", at + size
        day, rest = divmod(seconds, 86400)
        return f"{_day(day)} {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}{fraction}+00", at + size

    return read


def _datetime(places: int) -> Reader:
    size = 5 + _FRACTION_BYTES[places]

    def read(data: bytes, at: int) -> tuple[str, int]:
        bits = int.from_bytes(data[at : at + 5]) ^ 0x8000000000
        months, day = bits >> 22, bits >> 17 & 31
        fraction = _fraction(data, at + 5, places) if places else ""
        return (
            f"{months // 13:04d}-{months % 13:02d}-{day:02d} {bits >> 12 & 31:02d}:{bits >> 6 & 63:02d}:{bits & 63:02d}{fraction}",
            at + size,
        )

    return read


def _time(places: int) -> Reader:
    extra = _FRACTION_BYTES[places]
    size = 3 + extra
    middle = 1 << (8 * size - 1)

    def read(data: bytes, at: int) -> tuple[str, int]:
        # Of a negative one the whole, its fraction included, is taken from the middle.
        bits = int.from_bytes(data[at : at + size]) - middle
        sign = "-" if bits < 0 else ""
        whole, part = divmod(abs(bits), 1 << 8 * extra)
        fraction = f".{part if places == 2 * extra else part // 10:0{places}d}" if places else ""
        return f"{sign}{whole >> 12:02d}:{whole >> 6 & 63:02d}:{whole & 63:02d}{fraction}", at + size

    return read


# --- texts and bytes


def _shown(kind: Kind, characters: Characters) -> Decode:
    if kind.type == GEOMETRY or kind.charset == "binary":
        return hex_text
    return text_reader(kind.charset, characters)


def hex_text(data: bytes) -> str:
    """Bytes as HEX() writes them."""
    return data.hex().upper()


def _long(length_bytes: int, decode: Decode) -> Reader:
    if length_bytes == 1:

        def read_short(data: bytes, at: int) -> tuple[str, int]:
            end = at + 1 + data[at]
            return decode(data[at + 1 : end]), end

        return read_short

    def read(data: bytes, at: int) -> tuple[str, int]:
        start = at + length_bytes
        end = start + int.from_bytes(data[at:start], "little")
        return decode(data[start:end]), end

    return read


def _fixed(kind: Kind, characters: Characters) -> Reader:
    """CHAR and BINARY: the spaces or zero bytes behind them aren't in the log."""
    size = _fixed_bytes(kind.meta)
    length_bytes = 1 if size < 256 else 2
    if kind.charset != "binary":
        decode = text_reader(kind.charset, characters)
        return _long(length_bytes, lambda data: decode(data).rstrip(" "))
    if kind.shown_as in _ADDRESSES:
        shown = _ADDRESSES[kind.shown_as]
        return _long(length_bytes, lambda data: shown(data.ljust(size, b"\0")))
    return _long(length_bytes, lambda data: hex_text(data.ljust(size, b"\0")))


def _fixed_bytes(meta: int) -> int:
    """How many bytes it may have: the upper two bits stand, inverted, among those of the type."""
    return meta & 0xFF | ((meta >> 4 & 0x300) ^ 0x300)


def _uuid(data: bytes) -> str:
    digits = data.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_ADDRESSES: Mapping[str, Decode] = {
    "uuid": _uuid,
    "inet6": lambda data: socket.inet_ntop(socket.AF_INET6, data),
    "inet4": lambda data: socket.inet_ntop(socket.AF_INET, data),
}


def _enum(kind: Kind) -> Reader:
    size, names = kind.meta & 0xFF, ("", *kind.names)

    def read(data: bytes, at: int) -> tuple[str, int]:
        # A value that isn't one of them is kept as the empty one, 0.
        return names[int.from_bytes(data[at : at + size], "little")], at + size

    return read


def _set(kind: Kind) -> Reader:
    size, names = kind.meta & 0xFF, kind.names

    def read(data: bytes, at: int) -> tuple[str, int]:
        bits = int.from_bytes(data[at : at + size], "little")
        return ",".join(name for number, name in enumerate(names) if bits >> number & 1), at + size

    return read
