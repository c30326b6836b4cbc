r"""
What is to go out of an object, and writing its text again without it.

Belongs here: which records go or are emptied, texts that tell of a person, and a window whose text is written as it is let go of.
Doesn't: any format's own rules (each has its `erase_…` beside its reader), the door (`erasing.py`).

What stays, stays byte for byte: a text is decoded and encoded again, so it is held against the object's own bytes that nothing but what
was cut out has changed on the way.
"""

import codecs
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from ingestion_platform.errors import NotErasable
from ingestion_platform.formats.content import Content, Stream
from ingestion_platform.formats.texts import BOM
from ingestion_platform.formats.windows import Window

LEAST_CHARACTERS = 5
"""A shorter text stands in too many places by chance to tell of a person wherever it is found."""

_UNMARKING = "ingestion_platform.unmarking"


def _unmark(error: UnicodeError) -> tuple[bytes, int]:
    """The bytes that weren't text, as they were before they were marked."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    marks = error.object[error.start : error.end]
    if not all(0xDC00 <= ord(mark) <= 0xDCFF for mark in marks):
        raise error
    return bytes(ord(mark) - 0xDC00 for mark in marks), error.end


codecs.register_error(_UNMARKING, _unmark)


class Words:
    """
    Texts that tell of a person wherever they stand as words of their own: not within longer words or numbers.

    Args:
        values: the texts; those of fewer than `LEAST_CHARACTERS` are left out.
    """

    def __init__(self, values: Sequence[str]) -> None:
        self.values = tuple(dict.fromkeys(value for value in values if len(value) >= LEAST_CHARACTERS))
        texts = sorted(self.values, key=len, reverse=True)
        self._pattern = re.compile("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in texts)) if texts else None
        raw = sorted({text.encode(errors="surrogatepass") for text in texts}, key=len, reverse=True)
        # Without a look at what a letter is: bytes of one may be part of another.
        self._bytes = (
            re.compile(b"|".join(rb"(?<![0-9A-Za-z_])" + re.escape(text) + rb"(?![0-9A-Za-z_])" for text in raw))
            if raw
            else None
        )

    def __bool__(self) -> bool:
        return self._pattern is not None

    def hold(self, text: str | None) -> bool:
        """Whether *text* holds one of them."""
        return text is not None and self._pattern is not None and self._pattern.search(text) is not None

    def hold_bytes(self, content: bytes | None) -> bool:
        """Whether *content* holds one of them in UTF-8."""
        return content is not None and self._bytes is not None and self._bytes.search(content) is not None

    def blanked(self, text: str, instead: str) -> str:
        """*text* with *instead* in their place."""
        return self._pattern.sub(lambda _: instead, text) if self._pattern is not None else text


@dataclass(frozen=True, slots=True)
class Emptying:
    """
    What of a record stays when it is emptied.

    Args:
        kept: sources of what stays, as far as it tells of nobody; all else of the record goes.
        gone: sources of what goes from around it, too.
    """

    kept: frozenset[str]
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Erasure:
    """
    What goes out of one object.

    Args:
        rows: numbers of the records that go whole.
        emptied: number of a record that stays → what of it does.
        words: what may stand nowhere in a record that stays emptied.
    """

    rows: frozenset[int] = frozenset()
    emptied: Mapping[int, Emptying] = field(default_factory=dict)
    words: Words = field(default_factory=lambda: Words(()))

    def __bool__(self) -> bool:
        return bool(self.rows or self.emptied)

    def touches(self, row: int) -> bool:
        """Whether a record is another one afterwards."""
        return row in self.rows or row in self.emptied


class _Heard:
    """A stream whose bytes are hashed as they are read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.beginning = b""

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        if len(self.beginning) < 4:
            self.beginning = (self.beginning + piece)[:4]
        self.digest.update(piece)
        return piece


_MARKS = {
    "utf-8": ((BOM, "utf-8"),),
    "utf-8-sig": ((BOM, "utf-8"),),
    "utf-16": ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-32": ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    "utf-16-le": ((codecs.BOM_UTF16_LE, "utf-16-le"),),
    "utf-16-be": ((codecs.BOM_UTF16_BE, "utf-16-be"),),
}
"""What may stand at the beginning of a text in an encoding, and what comes after it."""


class EditedWindow(Window):
    """
    A window whose text is written again as it is let go of, but for what was replaced in it.

    Args:
        content: the object.
        encoding: as declared.
        target: takes the text, in the object's own encoding.
        block_bytes: as of `Window`.
        most_bytes: as of `Window`.
    """

    def __init__(self, content: Content, encoding: str, target: BinaryIO, *, block_bytes: int, most_bytes: int) -> None:
        super().__init__(content, encoding, block_bytes=block_bytes, most_bytes=most_bytes)
        self._heard = _Heard(self._stream)
        self._stream = self._heard  # type: ignore[assignment]  # it reads as a stream does
        self._target = target
        self._unedited = hashlib.sha256()
        self._edits: list[tuple[int, int, bytes]] = []
        self._encoder = ""

    def replace(self, begin: int, end: int, instead: bytes = b"") -> None:
        """
        Write something else in the place of a part of `data`, when that is let go of.

        Args:
            begin: in `data`.
            end: likewise.
            instead: UTF-8.
        """
        self._edits.append((begin, end, instead))

    def consume(self, size: int) -> None:
        """Let go of the first *size* bytes, and write them."""
        piece = self.data[:size]
        super().consume(size)
        at, kept = 0, []
        left = []
        for begin, end, instead in sorted(self._edits):
            if begin >= size and size:
                left.append((begin - size, end - size, instead))
                continue
            kept += [piece[at:begin], instead]
            at = end
        self._edits = left
        kept.append(piece[at:])
        self._put(piece, b"".join(kept))

    def finish(self) -> None:
        """
        Write what is left, and see that all that was not replaced is as it was.

        Raises:
            NotErasable: it isn't.
        """
        self.consume(len(self.data))
        if self._unedited.digest() != self._heard.digest.digest():
            raise NotErasable(
                f"its text isn't given back byte for byte in {self._encoding}",
                "declare the encoding it has; or have the object removed whole",
            )

    def _put(self, before: bytes, after: bytes) -> None:
        if not self._encoder:
            self._encoder = self._begin()
        self._unedited.update(self._encoded(before))
        self._target.write(self._encoded(after))

    def _begin(self) -> str:
        """The encoding of what comes after a byte-order mark, which is written."""
        beginning = self._heard.beginning
        for mark, encoder in _MARKS.get(self._codec, ()):
            if beginning.startswith(mark):
                self._unedited.update(mark)
                self._target.write(mark)
                return encoder
        return self._name_of(beginning) if self._codec != "utf-8-sig" else "utf-8"

    def _encoded(self, text: bytes) -> bytes:
        if self._is_utf_8:
            return text
        try:
            return text.decode("utf-8", "surrogatepass").encode(self._encoder, _UNMARKING)
        except UnicodeError as error:
            raise NotErasable(
                f"its text can't be written again in {self._encoding}: {error}", "have the object removed whole"
            ) from error
