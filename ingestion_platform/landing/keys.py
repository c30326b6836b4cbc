"""
What a key may be: the rules that a key must keep before anything is written under it, the same for every landing zone.

Belongs here: text only. Doesn't: how a key becomes a file's name (`local.py`).
"""

import re

from ingestion_platform.errors import LandingError

MAX_KEY_BYTES = 1024
"""S3's limit. Deeper files of a folder are no objects either."""

_MAX_SEGMENT_BYTES = 255
AGEING = ".landing-ageing"
"""The folder at the root of a tree in which objects stand while they are moved."""
_TEMPORARY = re.compile(rf"\.landing-[0-9a-f]{{32}}\.tmp|{re.escape(AGEING)}")
_NEVER_IN_A_KEY = re.compile("[\x00\ud800-\udfff]")
_NEVER_IN_XML = re.compile("[\x00-\x1f\ud800-\udfff\ufffe\uffff]")


def temporary_name(unique_hex: str) -> str:
    """The name under which an object is written before it is whole."""
    return f".landing-{unique_hex}.tmp"


def is_temporary(name: str) -> bool:
    """Whether *name* is one that `temporary_name` gives, or that of the folder of objects on their way."""
    return _TEMPORARY.fullmatch(name) is not None


def can_begin_a_key(text: str) -> bool:
    """Whether any key can start with *text*: a NUL or half a surrogate pair stands in none."""
    return _NEVER_IN_A_KEY.search(text) is None


def longest_sendable(text: str) -> str:
    """The longest beginning of *text* that a store can repeat in its XML, as S3 does; it sorts no later than *text*."""
    return _NEVER_IN_XML.split(text, maxsplit=1)[0]


def check_key(key: str) -> None:
    """
    Refuse a key that no object may be written under.

    Raises:
        LandingError: it climbs out of the landing zone, or one kind of landing zone couldn't hold or list it.
    """
    segments = key.split("/")
    if not can_begin_a_key(key):
        broken = "it has a NUL or isn't Unicode text"
    elif "" in segments:
        broken = "it has an empty segment"
    elif "." in segments or ".." in segments:
        broken = "it has a segment . or .."
    elif "\ufffd" in key:
        broken = "it has a U+FFFD, the sign of a name that was decoded wrongly"
    elif any(is_temporary(segment) for segment in segments):
        broken = "it is named like a half-written object"
    elif len(key.encode()) > MAX_KEY_BYTES:
        broken = f"it is longer than {MAX_KEY_BYTES} bytes"
    elif any(len(segment.encode()) > _MAX_SEGMENT_BYTES for segment in segments):
        broken = f"a segment is longer than {_MAX_SEGMENT_BYTES} bytes"
    else:
        return
    raise LandingError(
        f"key {key[:200]!r} can't be written: {broken}", "a key is relative, its segments are separated by single /"
    )
