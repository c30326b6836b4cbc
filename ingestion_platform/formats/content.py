"""
The bytes of one object, unpacked: as a stream from the beginning, as often as wanted, or as a file that can be searched.

Belongs here: what is around the bytes of any format (gzip, zstd, bzip2, zip), and how many there may be. Doesn't: text (`windows.py`), any
format's own rules.

How an object is packed its key says, by its ending; its first bytes must agree. Whatever is packed is unpacked piece by piece, and its own
check sums are held against it; a name inside a zip is compared and shown, and never is a path.
"""

import bz2
import gzip
import io
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats.texts import excerpt

BLOCK_BYTES = 8 * 1024**2
"""Bytes that are read, unpacked and taken apart at a time."""
MOST_TIMES = 500
"""An object that becomes more times larger than this is no data, once it has become `BOMB_BYTES`."""
BOMB_BYTES = 256 * 1024**2

_STEP_BYTES = 1024**2
_DIRECTORY_BYTES = 1024**2
_ANY = 2**62
_END_OF_ZIP_BYTES = 22
_AGAIN = "it is read again when it changes"
_MAGIC = {
    "gzip": (".gz", b"\x1f\x8b"),
    "zstd": (".zst", b"\x28\xb5\x2f\xfd"),
    "bzip2": (".bz2", b"BZh"),
    "zip": (".zip", b"PK\x03\x04"),
}
_SURELY = {"bzip2": (b"1AY&SY", 4), "zip": (b"PK\x03\x04", 0)}
"""What else must be where, for bytes under a plain name to be taken for packed ones: text can begin with BZh."""
DAMAGED = (OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError)
"""What reading packed bytes raises when they aren't what they should be; RuntimeError and NotImplementedError are zipfile's."""


def packing_of(key: str) -> str:
    """How an object is packed, as its key says; empty when it isn't."""
    return next((kind for kind, (ending, _) in _MAGIC.items() if key.endswith(ending)), "")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Stream:
    """
    Unpacked bytes, from the first to the last.

    Args:
        source: gives them.
        kind: how they are packed; empty when they aren't.
        packed_bytes: how many bytes they were made of.
        max_bytes: how many there may be.
    """

    def __init__(self, source: _Readable, kind: str, packed_bytes: int, max_bytes: int) -> None:
        self._source = source
        self._kind = kind
        self._most = max_bytes
        self._suspicious = max(BOMB_BYTES, packed_bytes * MOST_TIMES)
        self._packed_bytes = packed_bytes
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        """
        The next *size* bytes, or all that are left; fewer at the end only.

        Raises:
            ObjectRejected: what they are packed in is cut or damaged, or there are too many.
        """
        pieces: list[bytes] = []
        left = size if size >= 0 else self._most + 1
        while left > 0:
            piece = self._piece(min(left, _STEP_BYTES, self._most + 1 - self.position))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        if not self._kind:
            piece = self._source.read(size)
            self.position += len(piece)
            return piece
        try:
            piece = self._source.read(size)
        except ObjectRejected:
            raise
        except EOFError as error:
            raise ObjectRejected(f"is cut: its {self._kind} stream has no end", _AGAIN) from error
        except DAMAGED as error:
            if "Truncated" in str(error):
                raise ObjectRejected(f"is cut: its {self._kind} stream has no end", _AGAIN) from error
            raise ObjectRejected(f"is damaged {self._kind}: {excerpt(str(error), 200)}", _AGAIN) from error
        self.position += len(piece)
        if self.position > self._most:
            raise ObjectRejected(
                f"has more than the {self._most:,} bytes allowed, once decompressed",
                "raise max_bytes of its format, or split it",
            )
        if self.position > self._suspicious:
            raise ObjectRejected(
                f"is a bomb, most likely: its {self._packed_bytes:,} bytes of {self._kind} become more than {self.position:,}",
                f"data doesn't become more than {MOST_TIMES} times larger; send it plain",
            )
        return piece


class Content:
    """
    One object's bytes.

    Args:
        file: the object as it landed: seekable.
        key: the object's; its ending says how it is packed.
        max_bytes: how many bytes there may be, unpacked.
        zip_member: the name of the file inside a zip, a pattern as of file names; empty: there is exactly one.
        is_zip: the format itself is a zip.

    Raises:
        ObjectRejected: it is too large, or packed otherwise than its key says.
    """

    def __init__(self, file: BinaryIO, key: str, *, max_bytes: int, zip_member: str = "", is_zip: bool = False) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._zip_member = zip_member
        self._unpacked: BinaryIO | None = None
        self.packed_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)
        beginning = file.read(16)
        self.kind = packing_of(key)
        if self.kind:
            ending, magic = _MAGIC[self.kind]
            if not beginning.startswith(magic) and not (self.kind == "zip" and beginning.startswith(b"PK\x05\x06")):
                raise ObjectRejected(
                    f"is not {self.kind}, though its key ends in {ending}", f"compress it, or name it without {ending}"
                )
            return
        if self.packed_bytes > max_bytes:
            raise ObjectRejected(
                f"has {self.packed_bytes:,} bytes, more than the {max_bytes:,} allowed",
                "raise max_bytes of its format, or split it",
            )
        for kind, (ending, magic) in _MAGIC.items():
            more, at = _SURELY.get(kind, (magic, 0))
            if beginning.startswith(magic) and beginning.startswith(more, at) and not (kind == "zip" and is_zip):
                if kind == "zip" and self.packed_bytes < _END_OF_ZIP_BYTES:
                    continue
                raise ObjectRejected(
                    f"is {kind}, though its key doesn't end in {ending}", f"name it {ending}, or send it plain"
                )

    def stream(self) -> Stream:
        """The bytes from the first on. A new stream ends the one before."""
        self._file.seek(0)
        opens: dict[str, Callable[[], _Readable]] = {
            "": lambda: self._file,
            "gzip": lambda: gzip.GzipFile(fileobj=self._file),
            "zstd": lambda: _zstd(self._file),
            "bzip2": lambda: _Bzip2(self._file),
            "zip": lambda: _zip_member(self._file, self._zip_member),
        }
        return Stream(opens[self.kind](), self.kind, self.packed_bytes, self._max_bytes)

    def searchable(self) -> BinaryIO:
        """The bytes as a file, at its beginning; what is packed is unpacked to a temporary one, which has no name any more."""
        if not self.kind:
            self._file.seek(0)
            return self._file
        if self._unpacked is None:
            # Kept as long as this object: it is deleted when nobody has it open any more.
            unpacked = tempfile.TemporaryFile()  # noqa: SIM115
            stream = self.stream()
            while piece := stream.read(_STEP_BYTES):
                unpacked.write(piece)
            self._unpacked = unpacked
        self._unpacked.seek(0)
        return self._unpacked

    def close(self) -> None:
        """Give back what unpacking took."""
        if self._unpacked is not None:
            self._unpacked.close()
            self._unpacked = None


def unpacked(file: BinaryIO, key: str, zip_member: str = "") -> Iterator[bytes]:
    """
    An object's bytes, unpacked as its key says, piece by piece.

    Raises:
        ObjectRejected: it is packed otherwise, cut or damaged.
    """
    content = Content(file, key, max_bytes=_ANY, zip_member=zip_member, is_zip=True)
    stream = content.stream()
    while piece := stream.read(_STEP_BYTES):
        yield piece


def _zstd(file: BinaryIO) -> _Readable:
    borrowed: Any = _Borrowed(file)
    return _Bytes(pa.CompressedInputStream(pa.PythonFile(borrowed, "r"), "zstd"))


class _Borrowed:
    """A file that Arrow may read, and close when it likes: the file itself stays open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self.closed = True


class _Bytes:
    """An Arrow stream whose reader gets bytes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        return bytes(self._stream.read(size))


class _Bzip2:
    """
    Streams of bzip2, one after the other.

    The standard library's own file leaves out whatever stands after a stream and is none.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = bz2.BZ2Decompressor()
        self._is_begun = False

    def read(self, size: int, /) -> bytes:
        while True:
            if self._stream.eof:
                left = self._stream.unused_data
                self._stream, self._is_begun = bz2.BZ2Decompressor(), False
                packed = left or self._file.read(_STEP_BYTES)
                if not packed:
                    return b""
            else:
                packed = self._file.read(_STEP_BYTES // 4) if self._stream.needs_input else b""
                if self._stream.needs_input and not packed:
                    if self._is_begun:
                        raise EOFError
                    return b""
            self._is_begun = True
            piece = self._stream.decompress(packed, size)
            if piece:
                return piece


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """
    Open a zip.

    Raises:
        ObjectRejected: it is cut or damaged, or holds thousands of files.
    """
    _refuse_large_directory(file)
    try:
        return zipfile.ZipFile(file)
    except DAMAGED as error:
        raise ObjectRejected(f"is cut, or damaged zip: {excerpt(str(error), 200)}", _AGAIN) from error


def _zip_member(file: BinaryIO, wanted: str) -> _Readable:
    archive = open_zip(file)
    # macOS adds what it knows of each file beside the data.
    files = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    found = [one for one in files if fnmatchcase(one.filename, wanted)] if wanted else files
    if len(found) != 1:
        names = ", ".join(excerpt(one.filename, 40) for one in files[:6]) + (", …" if len(files) > 6 else "")
        which = f"named {excerpt(wanted, 40)} " if wanted else ""
        raise ObjectRejected(
            f"is a zip of {len(files)} files, {len(found)} of them {which}where one is expected: {names or 'none'}",
            "send one file in each zip, or declare zip_member of its format",
        )
    if found[0].flag_bits & 0x1:
        raise ObjectRejected(
            f"is an encrypted zip: {excerpt(found[0].filename, 40)} needs a password", "send it without"
        )
    try:
        return archive.open(found[0])
    except DAMAGED as error:
        raise ObjectRejected(f"is damaged zip, or packed in an odd way: {excerpt(str(error), 200)}", _AGAIN) from error


def _refuse_large_directory(file: BinaryIO) -> None:
    """The directory of a zip is held in memory: one of many thousand names is refused before it is."""
    begin = max(0, file.seek(0, io.SEEK_END) - 65_557)
    file.seek(begin)
    tail = file.read(65_557)
    at = tail.rfind(b"PK\x05\x06")
    file.seek(0)
    if at >= 0 and int.from_bytes(tail[at + 12 : at + 16], "little") > _DIRECTORY_BYTES:
        raise ObjectRejected("is a zip with a directory of thousands of files", "send one file in each zip")
