"""
Text out of bytes that may be anything: decoding that marks what isn't text, and what of it may be shown to a person.

Belongs here: what several formats need to say about text. Doesn't: any format's own rules.
"""

import codecs
import re

from ingestion_platform.errors import DeclarationError, ObjectRejected

BOM = b"\xef\xbb\xbf"

MARKING = "ingestion_platform.marking"
"""The name of the codec error handler that marks bytes which are no text."""
_MARK = re.compile("[\ud800-\udfff]")
_NOT_SHOWN = re.compile("[\x00\ud800-\udfff]")


def _mark(error: UnicodeError) -> tuple[str, int]:
    # surrogateescape does this for bytes from 0x80 up only, which multi-byte encodings don't keep to.
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(MARKING, _mark)


def codec_name(encoding: str) -> str:
    """
    The codec's own name for *encoding*.

    Raises:
        DeclarationError: Python knows no such text encoding.
    """
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, UnicodeError, ValueError) as error:
        raise DeclarationError(f"encoding {encoding!r} is unknown", "as in utf-8, cp1252 or iso8859-1") from error


def decode_marking(content: bytes, encoding: str) -> str:
    """
    Decode all of *content*; each byte that isn't text becomes one mark (see `has_mark`), so that only its record is lost.

    Raises:
        ObjectRejected: the encoding can't go on after such a byte.
    """
    try:
        return content.decode(encoding, MARKING)
    except UnicodeError as error:
        raise ObjectRejected(f"is not text in {encoding}: {error}") from error


def has_mark(text: str) -> bool:
    """Whether *text* holds bytes that weren't text."""
    return not text.isascii() and _MARK.search(text) is not None


def is_utf_8(content: bytes) -> bool:
    """Whether all of *content* is UTF-8."""
    if content.isascii():
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def as_it_stands(text: str) -> str:
    r"""*text* as it is, NUL and bytes that weren't text written `\xNN`."""
    return _NOT_SHOWN.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


def excerpt(text: str, limit: int = 80) -> str:
    """The beginning of *text*, quoted, on one line, safe to show on a terminal."""
    shown = as_it_stands(text[: limit + 1])
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)
    return f"“{shown[:limit]}…”" if len(text) > limit or len(shown) > limit else f"“{shown}”"


def refuse_binary(content: bytes, first_line: bytes, encoding: str) -> None:
    """
    Refuse what isn't text at all: NUL bytes in the first line, or more than one in a hundred.

    Raises:
        ObjectRejected: says what it looks like instead.
    """
    if b"\0" in content and (b"\0" in first_line or content.count(0) * 100 > len(content)):
        raise binary(content[:2], encoding)


def binary(beginning: bytes, encoding: str) -> ObjectRejected:
    """What to tell of an object that isn't text; its first two bytes say what it may be."""
    is_utf_16 = beginning in (b"\xff\xfe", b"\xfe\xff") or b"\0" in (beginning[:1], beginning[1:2])
    return ObjectRejected(
        f"is not text in {encoding}: it holds NUL bytes",
        "it looks like UTF-16: declare the encoding" if is_utf_16 else "",
    )
