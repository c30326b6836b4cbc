"""
Records that the Kinesis Producer Library has put together into one, taken apart again; and put together, for producers of our own.

Belongs here: the format, and nothing that knows Kinesis. Doesn't: reading a stream (`kinesis.py`).

    magic number (4 bytes) | protobuf message | MD5 of the message (16 bytes)

The message is proto2:

    AggregatedRecord: 1 partition_key_table (repeated string), 2 explicit_hash_key_table (repeated string), 3 records (repeated Record)
    Record:           1 partition_key_index (required), 2 explicit_hash_key_index, 3 data (required), 4 tags (repeated Tag)
    Tag:              1 key (required string), 2 value (string)

Source: aggregation-format.md of awslabs/amazon-kinesis-producer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import md5

MAGIC = b"\xf3\x89\x9a\xc2"
_CHECKSUM_BYTES = 16
MAX_TAKEN_APART_BYTES = 64 * 1024**2
"""
A record of at most 10 MiB may name one long key, or hash key, a million times. What would become larger than this, counting 64 bytes for
each part and each tag beside what they hold, is no record that a producer makes.
"""
_PART_BYTES = 64
_MAX_TAGS = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """
    One record among those put together.

    Args:
        key: its partition key.
        data: its bytes.
        hash_key: its explicit hash key, decimal.
        tags: name and value of each.
    """

    key: bytes
    data: bytes
    hash_key: bytes | None = None
    tags: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all that it holds, and roughly of what that stands in."""
        tags = sum(len(name) + len(value) + _PART_BYTES for name, value in self.tags)
        return len(self.key) + len(self.data) + len(self.hash_key or b"") + tags + _PART_BYTES


class _Malformed(Exception):
    """The message isn't one."""


def take_apart(record: bytes) -> list[Part] | None:
    """
    The parts of an aggregated record, in order; None when it isn't one.

    What only looks like one (its checksum is wrong, its message malformed, or there is nothing in it) isn't one either: it is to be kept as
    it came, as the KCL does.
    """
    if not record.startswith(MAGIC) or len(record) < len(MAGIC) + _CHECKSUM_BYTES:
        return None
    message = record[len(MAGIC) : -_CHECKSUM_BYTES]
    if md5(message, usedforsecurity=False).digest() != record[-_CHECKSUM_BYTES:]:
        return None
    try:
        return _parts(message) or None
    except _Malformed:
        return None


def put_together(parts: Sequence[Part]) -> bytes:
    """An aggregated record of *parts*, in order; each key is written once."""
    keys = {key: index for index, key in enumerate(dict.fromkeys(part.key for part in parts))}
    hash_keys = {
        key: index
        for index, key in enumerate(dict.fromkeys(part.hash_key for part in parts if part.hash_key is not None))
    }
    message = bytearray()
    for key in keys:
        message += _field(1, key)
    for hash_key in hash_keys:
        message += _field(2, hash_key)
    for part in parts:
        inner = b"\x08" + _varint(keys[part.key])
        if part.hash_key is not None:
            inner += b"\x10" + _varint(hash_keys[part.hash_key])
        inner += _field(3, part.data)
        for name, value in part.tags:
            inner += _field(4, _field(1, name) + _field(2, value))
        message += _field(3, inner)
    return MAGIC + bytes(message) + md5(message, usedforsecurity=False).digest()


def _parts(message: bytes) -> list[Part]:
    keys: list[bytes] = []
    hash_keys: list[bytes] = []
    records: list[bytes] = []
    for number, value in _fields(message):
        if number in (1, 2, 3):
            if not isinstance(value, bytes):
                raise _Malformed
            (keys, hash_keys, records)[number - 1].append(value)
            if len(records) * _PART_BYTES > MAX_TAKEN_APART_BYTES:
                raise _Malformed
    # A table may come after the records that point into it.
    size = 0
    found = []
    for record in records:
        part = _part(record, keys, hash_keys)
        size += part.size_bytes
        if size > MAX_TAKEN_APART_BYTES:
            raise _Malformed
        found.append(part)
    return found


def _part(record: bytes, keys: Sequence[bytes], hash_keys: Sequence[bytes]) -> Part:
    key: bytes | None = None
    data: bytes | None = None
    hash_key: bytes | None = None
    tags = []
    for number, value in _fields(record):
        if number in (1, 2):
            if not isinstance(value, int):
                raise _Malformed
            table = keys if number == 1 else hash_keys
            if value >= len(table):
                raise _Malformed
            if number == 1:
                key = table[value]
            else:
                hash_key = table[value]
        elif number in (3, 4):
            if not isinstance(value, bytes):
                raise _Malformed
            if number == 3:
                data = value
            else:
                tags.append(_tag(value))
                if len(tags) > _MAX_TAGS:
                    raise _Malformed
    if key is None or data is None:
        raise _Malformed
    return Part(key, data, hash_key, tuple(tags))


def _tag(message: bytes) -> tuple[bytes, bytes]:
    name: bytes | None = None
    content = b""
    for number, value in _fields(message):
        if number in (1, 2):
            if not isinstance(value, bytes):
                raise _Malformed
            if number == 1:
                name = value
            else:
                content = value
    if name is None:
        raise _Malformed
    return name, content


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; those of a fixed width are passed over, groups refused."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _Malformed
        if kind == 0:
            value, at = _read_varint(message, at)
            yield number, value
        elif kind == 2:
            length, at = _read_varint(message, at)
            if length > end - at:
                raise _Malformed
            yield number, message[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
            if at > end or number <= 4:
                raise _Malformed
        else:
            raise _Malformed


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of at most 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _Malformed
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                raise _Malformed
            return value, at
    raise _Malformed


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
