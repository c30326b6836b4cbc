"""
What HTTP's messages say: where a URL leads, what a body holds unpacked, when a server wants to be asked again, what it says is wrong.

Belongs here: reading what others wrote. Doesn't: connections, and whether one goes where it leads (`http_client.py`).
"""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

Json = Any

PASSING = {408, 425, 429, 500, 502, 503, 504}
PIECE_BYTES = 64 * 1024
URL_SAFE = "/?:@!$&'()*+,;=~-._%[]"
"""What stays as it is in a URL's path and query; all else is percent-encoded."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")
_EPOCH_SECONDS = 10**9
"""More seconds than this are a date, not a wait."""
_MESSAGES = ("message", "error_description", "error", "detail", "title", "errors")
_MOST_WORDS = 8192
"""Letters that are looked at: marks that never end are slow to find out about."""
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, secrets and all."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """A URL in parts. What is asked is put together from the parts that were checked."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str, base: str = "") -> "Place":
        """
        Take a URL apart.

        Args:
            url: absolute, or relative to the base.
            base: absolute.

        Raises:
            ValueError: it isn't one of http or https, or one that different programs read differently.
        """
        url = url.strip()
        if not url or "\\" in url or any(letter < " " or letter == "\x7f" for letter in url):
            raise ValueError("it holds what no URL may")
        parts = urlsplit(url if _SCHEME.match(url) else urljoin(base, url))
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("it isn't one of http:// or https://")
        if "@" in parts.netloc:
            raise ValueError("it holds a user or a password")
        host = parts.hostname
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
        if re.fullmatch(r"[a-z0-9._:-]+", host) is None:
            raise ValueError("its host has no name")
        target = quote(parts.path or "/", safe=URL_SAFE.replace("?", ""))
        if parts.query:
            target += "?" + quote(parts.query, safe=URL_SAFE)
        port = parts.port
        return cls(parts.scheme, host, DEFAULT_PORTS[parts.scheme] if port is None else port, target)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Who it is that is asked."""
        return self.scheme, self.host, self.port

    @property
    def netloc(self) -> str:
        """Host, and the port unless it is the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The URL."""
        return f"{self.scheme}://{self.netloc}{self.target}"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a body, and how many bytes of the network it took."""

    content: bytes
    raw: int


def unpacked(chunks: Iterable[bytes], *, is_packed: bool) -> Iterator[Piece]:
    """
    A body in pieces of 64 KiB at most when it is packed: few bytes may become many.

    Raises:
        zlib.error: it isn't gzip.
        EOFError: it ends before its end.
    """
    if not is_packed:
        for chunk in chunks:
            yield Piece(chunk, len(chunk))
        return
    one = None
    for chunk in chunks:
        raw, left = len(chunk), chunk
        while left:
            if one is None or one.eof:
                # Another member; or zeros, which some write behind the last one.
                left = left if one is None else left.lstrip(b"\0")
                if not left:
                    break
                one = zlib.decompressobj(zlib.MAX_WBITS | 16)
            while True:
                content = one.decompress(left, PIECE_BYTES)
                yield Piece(content, raw)
                raw, left = 0, one.unconsumed_tail
                if one.eof or (not left and len(content) < PIECE_BYTES):
                    break
            left = one.unused_data if one.eof else b""
        if raw:
            yield Piece(b"", raw)
    if one is not None and not one.eof:
        raise EOFError("gzip without an end")


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case name → value; of several with one name, all with commas between."""
    found: dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").lower()
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def again_after(answer: Answer) -> float | None:
    """
    In how many seconds a server wants to be asked again; None when it doesn't say so in a way that can be read.

    `Retry-After` has seconds or a date, which counts from the server's own. Some, as GitHub, refuse with 403 who has asked too much, and
    say with `X-RateLimit-Remaining: 0` and `X-RateLimit-Reset` (seconds, or seconds since 1970) when that is over.
    """
    if answer.status not in PASSING and answer.status != 403:
        return None
    headers = answer.headers
    text = headers.get("retry-after", "").strip()
    reset = headers.get("x-ratelimit-reset", "").strip()
    now = _moment(headers.get("date", "")) or datetime.now(UTC)
    if _SECONDS.fullmatch(text):
        return float(text)
    if text:
        then = _moment(text)
        return max((then - now).total_seconds(), 0.0) if then is not None else None
    if answer.status in (403, 429) and headers.get("x-ratelimit-remaining", "").strip() == "0":
        if _SECONDS.fullmatch(reset) is None:
            return None
        seconds = float(reset)
        return max(seconds - now.timestamp(), 0.0) if seconds > _EPOCH_SECONDS else seconds
    return None


def _moment(text: str) -> datetime | None:
    """A date of HTTP; None when it is none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def read_json(content: bytes) -> Json:
    """What a body is as JSON; None when it isn't."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def words_of(answer: Answer, hide: Callable[[str], str]) -> str:
    """
    What a server says is wrong: in JSON wherever servers put it, of a page its text.

    Args:
        answer: an error.
        hide: takes secrets out, before anything is cut.
    """
    found = read_json(answer.content)
    words = _said(found) if isinstance(found, dict | list) else ""
    words = hide(words or answer.content.decode("utf-8", "replace"))[:_MOST_WORDS]
    return _MARKUP.sub(" ", words) if words.lstrip()[:1] == "<" else words


def _said(found: Json, depth: int = 4) -> str:
    match found:
        case str():
            return found
        case dict() if depth:
            return next((words for name in _MESSAGES if (words := _said(found.get(name), depth - 1))), "")
        case list() if depth:
            return "; ".join(words for one in found[:3] if (words := _said(one, depth - 1)))
    return ""
