"""
JSON objects to columns of wanted members, many objects at once: what `json_members.py` does one by one, for those that are plain.

Belongs here: objects that hold each wanted member at most once, and nothing else. Doesn't: any others; they are told apart surely, and
left to
`Taker`. Where both can take an object, both give the same.

An object is plain when its commas prove it: those inside the values taken, and one between each two members taken. A member that was
not taken, or is there twice, would need one comma more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.formats.json_members import unquoted
from ingestion_platform.formats.texts import is_utf_8

Mask: TypeAlias = npt.NDArray[np.bool_]
Text: TypeAlias = Any
"""A `pyarrow.StringArray`; its stubs are generic where the class itself isn't."""

pc: Any = pyarrow.compute
"""Its stubs know nothing of texts beside arrays."""

_NOTHING = msgspec.Raw(b"")
_LINE_END, _QUOTE, _COMMA, _BACKSLASH, _N = b'\n",\\n'


@dataclass(frozen=True, slots=True)
class Columns:
    """
    What was taken of a batch of objects.

    Args:
        values: source → a text for each object; NULL where the member is absent or `null`, or nothing could be read.
        has: source → which objects have the member.
        is_read: which objects' values are right, whatever else the object has.
        is_plain: which of them have nothing else.
    """

    values: dict[str, Text]
    has: dict[str, Mask]
    is_read: Mask
    is_plain: Mask


@dataclass(slots=True)
class _Node:
    """An object whose members are wanted: as they are, or members of theirs."""

    leaves: dict[str, str] = field(default_factory=dict)
    objects: dict[str, "_Node"] = field(default_factory=dict)
    empty: msgspec.Struct | None = None

    def struct(self) -> type[msgspec.Struct]:
        """What it is decoded to: `v0`, `v1`, … for the leaves, `o0`, `o1`, … for the objects."""
        members: list[Any] = [
            (f"v{number}", msgspec.Raw, msgspec.field(name=name, default=_NOTHING))
            for number, name in enumerate(self.leaves)
        ]
        for number, (name, node) in enumerate(self.objects.items()):
            inner = node.struct()
            members.append((f"o{number}", inner | None, msgspec.field(name=name, default=node.empty)))
        made = msgspec.defstruct("Members", members, frozen=True, gc=False)
        self.empty = made()
        return made


class ColumnTaker:
    """
    Takes the values of wanted members out of many objects.

    Args:
        sources: dotted paths of the members wanted, each once; see `can_take`.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._root = _Node()
        for source in sources:
            *path, last = source.split(".")
            node = self._root
            for name in path:
                node = node.objects.setdefault(name, _Node())
            node.leaves[last] = source
        self._decode = msgspec.json.Decoder(self._root.struct()).decode

    @staticmethod
    def can_take(sources: Sequence[str]) -> bool:
        """Whether no member is wanted both whole and in part, and none has a comma in its name."""
        wanted = set(sources)
        wholes = {source[:at] for source in wanted for at, char in enumerate(source) if char == "."}
        return bool(wanted) and not wanted & wholes and not any("," in source for source in wanted)

    def take(self, texts: Sequence[bytes | None], column: Any) -> Columns:
        """
        Take what is wanted of each object.

        Args:
            texts: the objects; None is none.
            column: the same as an Arrow array of bytes.
        """
        commas = _count(column, _COMMA)
        found = _Found(len(texts), _are_utf_8(texts, column))
        members = found.take(self._root, self._decoded(texts, found.is_odd))
        is_read: Mask = ~found.is_odd
        # An object without members isn't worth telling apart.
        is_plain: Mask = is_read & (members > 0) & (commas == found.commas + members - 1)
        values = {}
        for source, (taken, is_null) in found.values.items():
            hidden = is_null | found.is_odd
            if hidden.any():
                taken = pc.if_else(pa.array(hidden), None, taken)
            values[source] = taken.cast(pa.string())
        return Columns(values, found.has, is_read, is_plain)

    def _decoded(self, texts: Sequence[bytes | None], is_odd: Mask) -> list[Any]:
        """Each object as a struct; an empty one, and odd, where it isn't an object, or has another shape than is wanted."""
        decode = self._decode
        try:
            return [decode(text) for text in texts]  # type: ignore[arg-type]  # None is an error as any other
        except (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError):
            pass
        found: list[Any] = []
        for row, text in enumerate(texts):
            try:
                found.append(decode(text))  # type: ignore[arg-type]
            except (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError):
                found.append(self._root.empty)
                is_odd[row] = True
        return found


class _Found:
    """What is being taken of a batch."""

    def __init__(self, rows: int, is_text: Mask) -> None:
        self.values: dict[str, tuple[Any, Mask]] = {}
        self.has: dict[str, Mask] = {}
        self.commas = np.zeros(rows, np.int64)
        self.is_odd: Mask = ~is_text

    def take(self, node: _Node, structs: Sequence[Any]) -> npt.NDArray[np.int64]:
        """Take the members of one object of each record; how many of them there are."""
        members = np.zeros(len(structs), np.int64)
        for number, source in enumerate(node.leaves.values()):
            has = self._take_leaf(source, list(map(attrgetter(f"v{number}"), structs)))
            members += has
        for number, inner in enumerate(node.objects.values()):
            below = list(map(attrgetter(f"o{number}"), structs))
            is_null = np.zeros(len(below), np.bool_)
            try:
                within = self.take(inner, below)
            except AttributeError:
                is_null = np.fromiter((one is None for one in below), np.bool_, len(below))
                within = self.take(inner, [inner.empty if one is None else one for one in below])
            # An object without any wanted member counts as absent: when it is there, a comma is left over.
            self.commas += np.maximum(within - 1, 0)
            members += (within > 0) | is_null
        return members

    def _take_leaf(self, source: str, raws: Sequence[Any]) -> Mask:
        joined = b"\n".join(raws) + b"\n"
        chars = np.frombuffer(joined, np.uint8)
        ends = np.flatnonzero(chars == _LINE_END)
        if len(ends) != len(raws):
            # A value that is an object may be written on several lines.
            pieces = [bytes(raw) for raw in raws]
            joined = b"\n".join(pieces) + b"\n"
            ends = np.cumsum([len(piece) + 1 for piece in pieces]) - 1
        offsets = np.zeros(len(raws) + 1, np.int32)
        offsets[1:] = ends + 1
        lines: Any = pa.Array.from_buffers(
            pa.binary(), len(raws), [None, pa.py_buffer(offsets.data), pa.py_buffer(joined)]
        )
        firsts = chars[offsets[:-1]]
        has: Mask = firsts != _LINE_END
        is_quoted: Mask = firsts == _QUOTE
        if _COMMA in joined:
            self.commas += _count(lines, _COMMA)
        if is_quoted.all():
            taken = pc.binary_slice(lines, 1, -2)
        elif not is_quoted.any():
            taken = pc.binary_slice(lines, 0, -1)
        else:
            taken = pc.if_else(pa.array(is_quoted), pc.binary_slice(lines, 1, -2), pc.binary_slice(lines, 0, -1))
        if _BACKSLASH in joined:
            taken = self._unescaped(taken, raws, ends, np.flatnonzero(chars == _BACKSLASH), is_quoted)
        self.values[source] = taken, ~has | (firsts == _N)
        self.has[source] = has
        return has

    def _unescaped(self, taken: Any, raws: Sequence[Any], ends: Any, backslashes: Any, is_quoted: Mask) -> Any:
        is_escaped = np.zeros(len(raws), np.bool_)
        is_escaped[np.searchsorted(ends, backslashes)] = True
        is_escaped &= is_quoted
        texts = []
        for row in np.flatnonzero(is_escaped).tolist():
            try:
                texts.append(unquoted(bytes(raws[row])).encode())
            except (msgspec.MsgspecError, UnicodeError):
                self.is_odd[row] = True
                texts.append(b"")
        return pc.replace_with_mask(taken, pa.array(is_escaped), pa.array(texts, pa.binary()))


def _are_utf_8(texts: Sequence[bytes | None], column: Any) -> Mask:
    try:
        column.cast(pa.string())
        return np.ones(len(texts), np.bool_)
    except pa.ArrowInvalid:
        return np.fromiter((text is None or is_utf_8(text) for text in texts), np.bool_, len(texts))


def _count(column: Any, char: int) -> npt.NDArray[np.int64]:
    """How often a character is in each text."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    chars = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    found = np.flatnonzero(chars == char)
    before: npt.NDArray[np.int64] = np.searchsorted(found, offsets - offsets[0])
    return np.diff(before)
