"""
Folders of a day's keys that count as a whole: the fetches of an endpoint, the extracts of a table.

Belongs here: what names say: which folder is whole, which of a day's counts. Doesn't: what is in them, and writing them (`sources/`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from ingestion_platform.key_template import KeyTemplate

_FETCH = re.compile(r"[0-9]{8}T[0-9]{12}Z-[0-9a-f]{6}")
_DONE = re.compile(r"done-([0-9]{1,7})\.json")
_GROUP = re.compile(r"[0-9]{5,7}")


@dataclass(frozen=True, slots=True)
class LandedFetch:
    """
    What a day's keys say of one fetch.

    Args:
        name: when it began, and a few letters that tell it from another one.
        groups: keys of its groups of pages, in order.
        done: key of the note that it is whole; None as long as it isn't.
    """

    name: str
    groups: tuple[str, ...]
    done: str | None

    @property
    def is_whole(self) -> bool:
        """Whether it has come to its end, and all that it landed is there."""
        if self.done is None:
            return False
        found = _DONE.fullmatch(self.done.rpartition("/")[2])
        return found is not None and int(found[1]) == len(self.groups)

    @property
    def began_at(self) -> datetime:
        """When it began, UTC."""
        return datetime.strptime(self.name.partition("-")[0] + "+0000", "%Y%m%dT%H%M%S%fZ%z")


def fetches(keys: Iterable[str]) -> list[LandedFetch]:
    """The fetches that a day's keys tell of, the oldest first; keys that the platform doesn't give are left out."""
    groups: dict[str, list[str]] = {}
    done: dict[str, str] = {}
    for key in keys:
        folder, _, last = key.rpartition("/")
        fetch = folder.rpartition("/")[2]
        if not is_fetch(fetch):
            continue
        groups.setdefault(fetch, [])
        if _DONE.fullmatch(last):
            done[fetch] = key
        elif last.endswith(".parquet") and _GROUP.fullmatch(last.removesuffix(".parquet")):
            groups[fetch].append(key)
    return [
        LandedFetch(name, tuple(sorted(groups[name], key=lambda key: (len(key), key))), done.get(name))
        for name in sorted(groups)
    ]


def is_fetch(text: str) -> bool:
    """Whether a text is the name of a fetch."""
    if _FETCH.fullmatch(text) is None:
        return False
    try:
        datetime.strptime(text.partition("-")[0], "%Y%m%dT%H%M%S%fZ")
    except ValueError:
        return False
    return True


def day_of_group(template: KeyTemplate, key: str) -> tuple[date, dict[str, str]] | None:
    """The day of a group's key, and no captures that a table would want; None when it isn't the key of one."""
    found = template.match(key)
    if found is None or not is_fetch(found[1]["fetch"]) or not _GROUP.fullmatch(found[1]["group"]):
        return None
    return found[0], {}


def choose(keys: Iterable[str], *, adds_up: bool, what: str) -> tuple[frozenset[str], Mapping[str, str]]:
    """
    Which of a day's keys count.

    Args:
        adds_up: each has what is new since the one before, so that all of them count; otherwise the last whole one does.
        what: what one is called.

    Returns:
        Those of groups that count; and those of groups that counted before a later one came, with the reason why they don't any more.
    """
    whole = [fetch for fetch in fetches(keys) if fetch.is_whole]
    if adds_up:
        return frozenset(key for fetch in whole for key in fetch.groups), {}
    if not whole:
        return frozenset(), {}
    *former, last = whole
    reason = f"{what} {last.name} of the same day came later"
    return frozenset(last.groups), {key: reason for fetch in former for key in fetch.groups}
