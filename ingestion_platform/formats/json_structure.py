"""
The elements of a list inside a JSON document, found without holding the document.

Belongs here: where the list is, and where its elements begin and end. Doesn't: what is in an element (`json_members.py`).

Only the characters that give a document its structure are looked at: brackets, commas and colons outside texts, a block at a time. What is
around the list is kept as a document of its own, with an empty list in the list's place, so that it can be judged whole: whether the
document was JSON. Members beside the list that are large are left out of it, as `null`.
"""

import codecs
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats.content import Stream
from ingestion_platform.formats.texts import BOM, excerpt, refuse_binary

_SPACE = b" \t\r\n"
_QUOTE, _BACKSLASH = b'"\\'
_OPENS, _CLOSES, _COMMA, _COLON = 1, 2, 3, 4
_KINDS = np.zeros(256, np.uint8)
for _chars, _kind in ((b"{[", _OPENS), (b"}]", _CLOSES), (b",", _COMMA), (b":", _COLON)):
    for _char in _chars:
        _KINDS[_char] = _kind
_BEGINNING_BYTES = 1000
_SMALL_BYTES = 64 * 1024
"""Members beside the list that are larger are left out."""
_AGAIN = "it is read again when it changes"


class ListElements:
    """
    Finds a list's elements in a document, once.

    Args:
        stream: the document.
        names: of the members that lead to the list, the root's first.
        block_bytes: that are looked at at a time.
        most_bytes: of one element, and of what is kept of what is around the list.
        keeps_all: what is around the list is wanted, large or not.
    """

    def __init__(
        self, stream: Stream, names: Sequence[str], *, block_bytes: int, most_bytes: int, keeps_all: bool
    ) -> None:
        self._stream = stream
        self._names = names
        self._block_bytes = block_bytes
        self._most_bytes = most_bytes
        self._keeps_all = keeps_all
        self._depth_of_list = len(names) + 1
        # Of the characters so far.
        self._depth = 0
        self._is_in_text = False
        self._is_escaped = False
        # What is held, where it begins in the document, and from where on it is needed.
        self._held = b""
        self._held_at = 0
        self._needed_from = 0
        self._around: list[bytes] = []
        self._around_bytes = 0
        # Where the path has led.
        self._on = 0
        self._key_at = 0
        self._leads_on = False
        self._is_met = [False] * len(names)
        self._has_root = False
        self._left_at: int | None = None
        self._elements = 0
        self.is_found = False
        self.begins_with = b""

    @property
    def around(self) -> bytes:
        """The document without the list's elements; complete when all of them have been given."""
        return b"".join(self._around).strip(_SPACE)

    def __iter__(self) -> Iterator[bytes]:
        """
        Yield the elements as they are written.

        Raises:
            ObjectRejected: it is cut, isn't text, names a member of the path twice, or an element is too large.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        is_first = True
        while True:
            block = self._stream.read(self._block_bytes)
            is_last = len(block) < self._block_bytes
            try:
                decoder.decode(block, is_last)
            except UnicodeDecodeError as error:
                raise ObjectRejected(f"is not text in utf-8: {error}", "JSON is") from error
            if is_first:
                block = block.removeprefix(BOM)
                refuse_binary(block, block[:_BEGINNING_BYTES], "utf-8")
            is_first = False
            if len(self.begins_with) < _BEGINNING_BYTES:
                self.begins_with = (
                    self.begins_with + block.lstrip(_SPACE) if not self.begins_with else self.begins_with + block
                )[:_BEGINNING_BYTES]
            yield from self._take(block)
            if is_last:
                break
        if not self.begins_with:
            raise ObjectRejected("is empty: not even a JSON value", _AGAIN)
        if self._is_in_text or self._depth:
            raise ObjectRejected(
                f"is cut, or no JSON: it ends inside {'a text' if self._is_in_text else 'a list or an object'}; it begins"
                f" {excerpt(self.begins_with[:200].decode(errors='replace'))}",
                _AGAIN,
            )
        self._put_around(self._text(self._needed_from, self._held_at + len(self._held)))
        self._held = b""

    # Characters

    def _take(self, block: bytes) -> Iterator[bytes]:
        positions, kinds, depths = self._structure(block)
        begin = self._held_at + len(self._held)
        self._held += block
        for position, kind, depth in zip((positions + begin).tolist(), kinds.tolist(), depths.tolist(), strict=True):
            if self._on == self._depth_of_list:
                # Inside the list.
                if kind == _COMMA and depth == self._on:
                    yield self._element(position)
                    self._let_go(position + 1)
                elif kind == _CLOSES and depth == self._on:
                    if self._elements or self._text(self._needed_from, position).strip(_SPACE):
                        yield self._element(position)
                    self._let_go(position)
                    self._on -= 1
            else:
                self._step(position, kind, depth)
        self._shrink()

    def _structure(self, block: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Positions, kinds and depths of the characters of structure that aren't deeper than the list's elements."""
        chars = np.frombuffer(block, np.uint8)
        is_quote = chars == _QUOTE
        if self._is_escaped or _BACKSLASH in block:
            is_quote &= ~self._escaped(chars)
        # Whether a text is open after each character.
        is_inside = np.logical_xor.accumulate(is_quote) if len(chars) else is_quote
        if self._is_in_text:
            is_inside = ~is_inside
        kinds = _KINDS[chars]
        positions = np.flatnonzero((kinds != 0) & ~is_inside)
        if len(chars):
            self._is_in_text = bool(is_inside[-1])
        kinds = kinds[positions]
        change = (kinds == _OPENS).astype(np.int64) - (kinds == _CLOSES)
        after = np.cumsum(change) + self._depth
        if len(after):
            self._depth = int(after[-1])
        before = after - change
        # What is beside the path has to be told from what is on it: one level more.
        is_wanted = before <= self._depth_of_list
        return positions[is_wanted], kinds[is_wanted], before[is_wanted]

    def _escaped(self, chars: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which characters have a backslash before them that counts."""
        is_escaped = np.zeros(len(chars) + 1, np.bool_)
        found = np.flatnonzero(chars == _BACKSLASH)
        if self._is_escaped and len(chars):
            is_escaped[0] = True
            if len(found) and found[0] == 0:
                found = found[1:]
        if len(found):
            is_first = np.ones(len(found), np.bool_)
            is_first[1:] = np.diff(found) != 1
            begins = found[is_first]
            lengths = np.diff(np.append(np.flatnonzero(is_first), len(found)))
            odd = lengths % 2 == 1
            is_escaped[(begins + lengths)[odd]] = True
        if len(chars):
            self._is_escaped = bool(is_escaped[-1])
        return is_escaped[:-1]

    # The way to the list

    def _step(self, position: int, kind: int, depth: int) -> None:
        if depth > self._on:
            if kind == _CLOSES and depth == self._on + 1 and self._left_at is not None:
                self._leave_out(position + 1)
                self._left_at = None
            return
        if depth < self._on:
            raise AssertionError("the path is left by its own closing bracket")
        if kind == _COMMA:
            self._key_at, self._leads_on = position + 1, False
        elif kind == _COLON:
            if self._on:
                self._meet(position)
        elif kind == _OPENS:
            self._open(position)
        elif kind == _CLOSES:
            if self._on == 0:
                raise ObjectRejected("is no JSON: it closes a bracket that it hasn't opened", _AGAIN)
            self._on -= 1
            self._leads_on = False

    def _meet(self, position: int) -> None:
        """See whether a member leads to the list."""
        try:
            name = msgspec.json.decode(self._text(self._key_at, position), type=str)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # What is around the list is judged at the end.
            return
        at = self._on - 1
        if at < len(self._names) and name == self._names[at]:
            if self._is_met[at]:
                raise ObjectRejected(
                    f"has the member {excerpt(name)} twice, which leads to its records",
                    "nobody can tell which is meant",
                )
            self._is_met[at] = True
            self._leads_on = True

    def _open(self, position: int) -> None:
        is_list = self._text(position, position + 1) == b"["
        is_root, self._has_root = self._on == 0 and not self._has_root, True
        leads_on, self._leads_on = is_root or self._leads_on, False
        if leads_on and is_list == (self._on == len(self._names)):
            self._on += 1
            self._key_at = position + 1
            if is_list:
                self.is_found = True
                self._put_around(self._text(self._needed_from, position + 1))
                self._let_go(position + 1)
        elif not self._keeps_all and self._on:
            self._left_at = position

    # What is held

    def _text(self, begin: int, end: int) -> bytes:
        return self._held[begin - self._held_at : end - self._held_at]

    def _let_go(self, position: int) -> None:
        self._needed_from = position

    def _element(self, end: int) -> bytes:
        element = self._text(self._needed_from, end).strip(_SPACE)
        self._elements += 1
        if not element:
            raise ObjectRejected(f"is no JSON: element {self._elements:,} of its list is empty", _AGAIN)
        if len(element) > self._most_bytes:
            raise self._too_large()
        return element

    def _too_large(self) -> ObjectRejected:
        return ObjectRejected(
            f"has a record of more than the {self._most_bytes:,} bytes allowed: record {self._elements + 1:,}",
            "raise max_record_bytes of its format if it may be so large",
        )

    def _put_around(self, text: bytes) -> None:
        if text:
            self._around.append(text)
            self._around_bytes += len(text)
        if self._around_bytes > self._most_bytes:
            raise self._too_much()

    def _too_much(self) -> ObjectRejected:
        return ObjectRejected(
            f"has more than {self._most_bytes:,} bytes around its records",
            "raise max_record_bytes of its format if it may be so much",
        )

    def _leave_out(self, end: int) -> None:
        """Leave a member beside the list out of what is kept, if it is large."""
        assert self._left_at is not None
        if end - self._left_at > _SMALL_BYTES:
            if self._left_at >= self._needed_from:
                self._put_around(self._text(self._needed_from, self._left_at) + b"null")
            self._let_go(end)

    def _shrink(self) -> None:
        """After a block: hold no more than is needed."""
        end = self._held_at + len(self._held)
        if self._left_at is not None:
            self._leave_out(end)
        self._held = self._text(self._needed_from, end)
        self._held_at = self._needed_from
        if self._on == self._depth_of_list:
            if len(self._held) > self._most_bytes:
                raise self._too_large()
        elif self._around_bytes + len(self._held) > self._most_bytes:
            raise self._too_much()
