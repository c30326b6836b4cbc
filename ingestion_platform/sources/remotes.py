"""
What every kind of remote folder can do: list, look at a file, read it from any place on.

Belongs here: the contract, which names are refused, and what may go wrong with a single file. Doesn't: a kind of folder
(`local_folder.py`, `sftp.py`, `fsspec_folder.py`), copying (`copying.py`).
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd\ufffe\uffff]")
MOST_NAMES = 1_000_000
"""A folder with more names isn't listed: no sender means that, and they would have to be held."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """
    A name in a remote folder, as a listing shows it.

    Args:
        name: without its folder, as the remote tells it: it may be hostile.
        is_folder: whether it has names of its own.
        size_bytes: of a file.
        modified_at: UTC; None where the remote doesn't tell.
        etag: what else changes with the content; empty where the remote has none.
        problem: why it can't be copied; empty where it can.
        is_known: False where a listing tells the name alone: who wants to know more looks at the file.
    """

    name: str
    is_folder: bool = False
    size_bytes: int = 0
    modified_at: datetime | None = None
    etag: str = ""
    problem: str = ""
    is_known: bool = True


class FileGone(Exception):
    """The file isn't there any more."""


class FileRefused(Exception):
    """One file or folder can't be read; the others may be. Its text says why."""


class RemoteFolder(Protocol):
    """
    A folder elsewhere. Paths are relative to it, `/` between names; calls may be made from several threads at once.

    Every call raises `SourceUnavailable` when there is no answer, and `SourceError` when nobody would get one.
    """

    @property
    def url(self) -> str:
        """Where it is, for a person: without secrets."""
        ...

    def list(self, folder: str) -> Sequence[RemoteFile] | None:
        """
        The names in a folder (empty: the root itself), in any order; None when it isn't there.

        Raises:
            FileRefused: it can't be listed.
        """
        ...

    def look(self, path: str) -> RemoteFile | None:
        """
        A file as it is now; None when it isn't there.

        Raises:
            FileRefused: it can't be looked at.
        """
        ...

    def read(self, path: str, begin: int, piece_bytes: int) -> Generator[bytes, None, None]:
        """
        Yield a file's bytes from *begin* on, in pieces of at most *piece_bytes*.

        Raises:
            FileGone: it isn't there.
            FileRefused: it can't be read.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


def hostile(name: str) -> str:
    """Why a name can't be one of a file; empty when it can."""
    if name in ("", ".", ".."):
        return "is no name"
    if "/" in name or "\\" in name:
        return "leads to another folder"
    if _CONTROL.search(name):
        return "has control characters, or isn't Unicode text"
    if len(name.encode()) > 255:
        return "is longer than 255 bytes"
    return ""
