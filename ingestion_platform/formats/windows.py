r"""
The text of an object, a window at a time: whatever its encoding, as UTF-8.

Belongs here: decoding as bytes come, and what is refused of any text (NUL bytes, lines without end). Doesn't: what a record is.

Bytes that aren't text stay what they are where the object is UTF-8; in other encodings each of them becomes a mark (`texts.has_mark`),
written as three bytes that aren't UTF-8 either. So only those records are lost that hold them, and all else is told apart by its bytes.
"""

import codecs
import re

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats.content import Content
from ingestion_platform.formats.texts import BOM, MARKING, binary, codec_name, decode_marking

_LINE_END = re.compile(b"\r\n|\r|\n")
_CUT = "it is read again when it changes"


class Window:
    """
    The part of an object's text that is being read: it grows at its end, and what has been read is let go of.

    `data`: the text; `is_last`: nothing comes after it.

    Args:
        content: the object.
        encoding: as declared.
        block_bytes: by how much it grows.
        most_bytes: of one record.

    Raises:
        DeclarationError: nobody knows the encoding.
    """

    def __init__(self, content: Content, encoding: str, *, block_bytes: int, most_bytes: int) -> None:
        self._stream = content.stream()
        self._encoding = encoding
        self._codec = codec_name(encoding)
        self._is_utf_8 = self._codec in ("utf-8", "utf-8-sig")
        self._block_bytes = block_bytes
        self._most_bytes = most_bytes
        self._decoder: codecs.IncrementalDecoder | None = None
        self._beginning = b""
        self._is_begun = False
        self._is_in_first_line = True
        self._nuls = self._bytes = 0
        self.data = b""
        self.is_last = False

    def grow(self, row: int) -> None:
        """
        Take more text in: as much as it holds already, so that a long record takes no longer than others.

        Args:
            row: the number of the record that it begins with.

        Raises:
            ObjectRejected: that record is too long; or all of it is no text.
        """
        if len(self.data) > self._most_bytes:
            self.refuse_record(row)
        wanted = max(self._block_bytes, min(len(self.data), self._most_bytes))
        piece = self._stream.read(wanted)
        # Whether there is more is known by its coming only.
        self.is_last = len(piece) < wanted
        if not self._is_begun:
            self._beginning = piece[:2]
        text = self._text(piece)
        self._nuls += text.count(0)
        self._bytes += len(text)
        self.data = self.data + text if self.data else text
        if not self._is_begun and (self.data or self.is_last):
            self._is_begun = True
            self.data = self.data.removeprefix(BOM)
        if self._is_begun and self._is_in_first_line:
            start = len(self.data) - len(self.data.lstrip(b"\r\n")) if self.data[:1] in (b"\r", b"\n") else 0
            found = _LINE_END.search(self.data, start)
            if self._nuls and b"\0" in self.data[start : found.start() if found else None]:
                raise binary(self._beginning, self._encoding)
            self._is_in_first_line = found is None
        if self.is_last and self._nuls * 100 > self._bytes:
            raise binary(self._beginning, self._encoding)

    def consume(self, size: int) -> None:
        """Let go of the first *size* bytes."""
        self.data = self.data[size:]

    def refuse_record(self, row: int) -> None:
        """
        Refuse the object for the sake of one record.

        Raises:
            ObjectRejected: always.
        """
        what = f"a record of more than the {self._most_bytes:,} bytes allowed: record {row:,}"
        raise ObjectRejected(
            f"has {what}" if row else f"has a first line of more than the {self._most_bytes:,} bytes allowed",
            "it may have lost its line ends, or have a stray quote; raise max_record_bytes of its format if it may be so long",
        )

    def text(self, data: bytes) -> str:
        """Some of `data` as text; what isn't text is marked."""
        return decode_marking(data, "utf-8") if self._is_utf_8 else data.decode("utf-8", "surrogatepass")

    def size(self, text: str) -> int:
        """How many bytes of `data` a text came of."""
        return len(text.encode("utf-8", "surrogateescape" if self._is_utf_8 else "surrogatepass"))

    def _text(self, piece: bytes) -> bytes:
        if self._is_utf_8:
            return piece
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder(self._name_of(piece))(MARKING)
        try:
            text = self._decoder.decode(piece, self.is_last)
        except UnicodeError as error:
            raise ObjectRejected(f"is not text in {self._encoding}: {error}") from error
        return text.encode("utf-8", "surrogatepass")

    def _name_of(self, beginning: bytes) -> str:
        """UTF-16 without a mark is of either order: what the first character tells, where it is an ordinary one."""
        if self._codec == "utf-16" and beginning[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16-be" if beginning[:1] == b"\0" else "utf-16-le"
        return self._codec
