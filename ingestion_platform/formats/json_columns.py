"""
JSON objects to columns of wanted members, many objects at once: what `json_members.py` does one by one, for those that are plain.

Belongs here: objects that hold each known member at most once, and nothing else. Doesn't: any others; they are told apart surely, and
left to `Taker`. Where both can take an object, both give the same.

An object is plain when its commas prove it: those inside the values taken, and one between each two members taken. A member that was
not taken, or is there twice, would need one comma more.

Members that nobody declared come again and again once they have come: they are learned, and taken along as what is left over.
"""

import contextlib
from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from ingestion_platform.formats.json_members import Members, NotAnObject, members_of, unquoted
from ingestion_platform.formats.texts import is_utf_8

Mask: TypeAlias = npt.NDArray[np.bool_]
Text: TypeAlias = Any
"""A `pyarrow.StringArray`; its stubs are generic where the class itself isn't."""

pc: Any = pyarrow.compute
"""Its stubs know nothing of texts beside arrays."""

MOST_LEARNED = 64
"""Members that are taken along at most: what comes in ever new names isn't worth it."""
_LEARN_ONE_IN = 20
"""Of so many objects one has to have something new, for it to be worth a look."""
_LEARN_FROM = 200
_NOTHING = msgspec.Raw(b"")
_LINE_END, _QUOTE, _COMMA, _BACKSLASH, _N = b'\n",\\n'


@dataclass(frozen=True, slots=True)
class Columns:
    """
    What was taken of a batch of objects.

    Args:
        values: source → a text for each object; NULL where the member is absent or `null`, or nothing could be read.
        has: source → which objects have the member.
        extra: what an object has of the members that were learned, as a JSON object; NULL where it has none.
        has_extra: path of such a member → which objects have it.
        is_read: which objects' values are right, whatever else the object has.
        is_plain: which of them have nothing else.
    """

    values: dict[str, Text]
    has: dict[str, Mask]
    extra: Text
    has_extra: dict[str, Mask]
    is_read: Mask
    is_plain: Mask


@dataclass(slots=True)
class _Node:
    """An object whose members are wanted: as they are, or members of theirs."""

    path: str = ""
    leaves: dict[str, str] = field(default_factory=dict)
    learned: list[str] = field(default_factory=list)
    objects: dict[str, "_Node"] = field(default_factory=dict)
    empty: msgspec.Struct | None = None

    def struct(self) -> type[msgspec.Struct]:
        """What it is decoded to: `v0`, `v1`, … for the leaves, `x0`, `x1`, … for what was learned, `o0`, `o1`, … for the objects."""
        members: list[Any] = [
            (f"v{number}", msgspec.Raw, msgspec.field(name=name, default=_NOTHING))
            for number, name in enumerate(self.leaves)
        ]
        members += [
            (f"x{number}", msgspec.Raw, msgspec.field(name=name, default=_NOTHING))
            for number, name in enumerate(self.learned)
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
                node = node.objects.setdefault(name, _Node(f"{node.path}{name}."))
            node.leaves[last] = source
        self._learned = 0
        self._decode = msgspec.json.Decoder(self._root.struct()).decode

    def take_learning(
        self, texts: Sequence[bytes | None], column: Any, ours: Callable[[Columns], Mask] | None = None
    ) -> Columns:
        """
        As `take`, after a look at what many of the objects have that nobody asks for.

        Args:
            ours: which objects of what was taken are worth learning from; None: all that could be read.
        """
        taken = self.take(texts, column)
        odd = taken.is_read & ~taken.is_plain
        if ours is not None:
            odd &= ours(taken)
        if odd.sum() * _LEARN_ONE_IN < len(texts):
            return taken
        found = (text for row in np.flatnonzero(odd)[:_LEARN_FROM].tolist() if (text := texts[row]))
        return self.take(texts, column) if self.learn(found) else taken

    def learn(self, texts: Iterable[bytes]) -> bool:
        """Take note of members that nobody wants, of objects that could be read; whether there are new ones."""
        before = self._learned
        for text in texts:
            with contextlib.suppress(NotAnObject):
                self._learn(members_of(text)[0], self._root)
        if self._learned == before:
            return False
        self._decode = msgspec.json.Decoder(self._root.struct()).decode
        return True

    def _learn(self, members: Members, node: _Node) -> None:
        for name, raw in members.items():
            if name in node.objects:
                if raw.startswith(b"{"):
                    self._learn(members_of(raw)[0], node.objects[name])
            elif (
                name not in node.leaves
                and name not in node.learned
                and _can_name(name)
                and self._learned < MOST_LEARNED
            ):
                # In order of their names, so that what is left over doesn't depend on which came first.
                insort(node.learned, name)
                self._learned += 1

    @staticmethod
    def can_take(sources: Sequence[str]) -> bool:
        """Whether no member is wanted both whole and in part, and all of their names can be those of a struct's members."""
        wanted = set(sources)
        wholes = {source[:at] for source in wanted for at, char in enumerate(source) if char == "."}
        return bool(wanted) and not wanted & wholes and all(map(_can_name, wanted))

    def take(self, texts: Sequence[bytes | None], column: Any) -> Columns:
        """
        Take what is wanted of each object.

        Args:
            texts: the objects; None is none.
            column: the same as an Arrow array of bytes.
        """
        commas = _count(column, _COMMA)
        found = _Found(len(texts), _are_utf_8(texts, column))
        members, extra = found.take(self._root, self._decoded(texts, found.is_odd))
        is_read: Mask = ~found.is_odd
        # An object without members isn't worth telling apart.
        is_plain: Mask = is_read & (members > 0) & (commas == found.commas + members - 1)
        values = {}
        for source, (taken, is_null) in found.values.items():
            hidden = is_null | found.is_odd
            if hidden.any():
                taken = pc.if_else(pa.array(hidden), None, taken)
            values[source] = taken.cast(pa.string())
        extra = (
            pa.nulls(len(texts), pa.string())
            if extra is None
            else pc.if_else(pa.array(is_plain), extra, None).cast(pa.string())
        )
        return Columns(values, found.has, extra, found.has_extra, is_read, is_plain)

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
        self.has_extra: dict[str, Mask] = {}
        self.commas = np.zeros(rows, np.int64)
        self.is_odd: Mask = ~is_text

    def take(self, node: _Node, structs: Sequence[Any]) -> tuple[npt.NDArray[np.int64], Any]:
        """Take the members of one object of each record; how many of them there are, and what is left over of it as JSON (bytes)."""
        members = np.zeros(len(structs), np.int64)
        left: dict[str, Any] = {}
        for number, source in enumerate(node.leaves.values()):
            has = self._take_leaf(source, list(map(attrgetter(f"v{number}"), structs)))
            members += has
        for number, name in enumerate(node.learned):
            lines, firsts, _ = self._lines(list(map(attrgetter(f"x{number}"), structs)))
            has = self.has_extra[node.path + name] = firsts != _LINE_END
            members += has
            if has.any():
                left[name] = pc.if_else(pa.array(has), pc.binary_slice(lines, 0, -1), None)
        for number, (name, inner) in enumerate(node.objects.items()):
            below = list(map(attrgetter(f"o{number}"), structs))
            is_null = np.zeros(len(below), np.bool_)
            try:
                within, left_within = self.take(inner, below)
            except AttributeError:
                is_null = np.fromiter((one is None for one in below), np.bool_, len(below))
                within, left_within = self.take(inner, [inner.empty if one is None else one for one in below])
            # An object without any wanted member counts as absent: when it is there, a comma is left over.
            self.commas += np.maximum(within - 1, 0)
            members += (within > 0) | is_null
            if left_within is not None:
                left[name] = left_within
        return members, _object(left)

    def _lines(self, raws: Sequence[Any]) -> tuple[Any, npt.NDArray[np.uint8], bytes]:
        """Raw values as Arrow bytes, each with a line end behind it; their first characters; all of it."""
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
        if _COMMA in joined:
            self.commas += _count(lines, _COMMA)
        return lines, chars[offsets[:-1]], joined

    def _take_leaf(self, source: str, raws: Sequence[Any]) -> Mask:
        lines, firsts, joined = self._lines(raws)
        has: Mask = firsts != _LINE_END
        is_quoted: Mask = firsts == _QUOTE
        if is_quoted.all():
            taken = pc.binary_slice(lines, 1, -2)
        elif not is_quoted.any():
            taken = pc.binary_slice(lines, 0, -1)
        else:
            taken = pc.if_else(pa.array(is_quoted), pc.binary_slice(lines, 1, -2), pc.binary_slice(lines, 0, -1))
        if _BACKSLASH in joined:
            taken = self._unescaped(taken, raws, _count(lines, _BACKSLASH) > 0, is_quoted)
        self.values[source] = taken, ~has | (firsts == _N)
        self.has[source] = has
        return has

    def _unescaped(self, taken: Any, raws: Sequence[Any], is_escaped: Mask, is_quoted: Mask) -> Any:
        is_escaped = is_escaped & is_quoted
        texts = []
        for row in np.flatnonzero(is_escaped).tolist():
            try:
                texts.append(unquoted(bytes(raws[row])).encode())
            except (msgspec.MsgspecError, UnicodeError):
                self.is_odd[row] = True
                texts.append(b"")
        return pc.replace_with_mask(taken, pa.array(is_escaped), pa.array(texts, pa.binary()))


def _can_name(name: str) -> bool:
    """Whether a name may be that of a struct's member, and has no comma, which would be counted."""
    return not any(char in '",\\' or char < " " for char in name)


def _object(members: Mapping[str, Any]) -> Any:
    """JSON objects (bytes) of what is there of some members, in the order of their names; NULL where nothing is."""
    if not members:
        return None
    nothing, comma, opened, closed = (pa.scalar(text, pa.binary()) for text in (b"", b",", b"{", b"}"))
    named = [
        pc.binary_join_element_wise(pa.scalar(msgspec.json.encode(name) + b":", pa.binary()), members[name], nothing)
        for name in sorted(members)
    ]
    # Arrow's own way to leave out what is NULL loses rows in which all is.
    joined = named[0]
    for other in named[1:]:
        joined = pc.coalesce(pc.binary_join_element_wise(joined, other, comma), joined, other)
    return pc.binary_join_element_wise(opened, joined, closed, nothing)


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
