"""
What the landing zone knows of telling: which alerts have landed, which were told to a sink, and which are its dead letters.

Belongs here: keys and texts of these objects, writing and reading them. Doesn't: telling (`outbox.py`).

    told/security/2024/10/01/20241001T081500123456Z-9e107d9d372bb682.json                   changes of alerts told until 08:15:00
    dead_letters/security/2024/10/01/20241001T082000123456Z-77aa99bb00112233.json           told to nobody, and why
    dead_letters/security/2024/10/01/20241001T082000123456Z-77aa99bb00112233.settled.json   no more: all of it was told, or withdrawn

Days are those of telling, UTC; a name begins with the moment, so that a listing from a moment on is short.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from ingestion_platform import alert as alerts_of
from ingestion_platform.alert import Alert
from ingestion_platform.errors import ObjectChanged, ObjectMissing
from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.own_roots import DEAD_LETTERS, TOLD
from ingestion_platform.sinks.message import harmless

log = logging.getLogger(__name__)

SETTLED = ".settled.json"

_STAMP = "%Y%m%dT%H%M%S%fZ"
_ALERTS = re.compile(
    rf"{re.escape(alerts_of.ROOT)}(?P<day>[0-9]{{4}}/[0-9]{{2}}/[0-9]{{2}})/(?P<stamp>[0-9]{{8}}T[0-9]{{12}}Z)-[0-9a-f]{{16}}\.jsonl"
)
_NOTE = re.compile(
    r"[^/]+/[^/]+/[0-9]{4}/[0-9]{2}/[0-9]{2}/(?P<stamp>[0-9]{8}T[0-9]{12}Z)-(?P<digest>[0-9a-f]{16})\.json"
)
_REFERENCE = re.compile(r"([0-9a-f]{32})\.([0-9]{1,9})")
_READERS = 16
_MOST_BYTES = 64 * 1024**2
"""A larger object isn't one that the platform wrote."""


@dataclass(frozen=True, slots=True)
class Landed:
    """An alert's change, and when it landed, UTC."""

    alert: Alert
    at: datetime


@dataclass(frozen=True)
class DeadLetter:
    """
    Alerts that a sink wasn't told, and isn't waiting for any more.

    Args:
        key: where it landed.
        at: when, UTC.
        reason: why.
        is_refused: the sink won't take it, however often it is sent; otherwise it was away for too long.
        alerts: which.
    """

    key: str
    at: datetime
    reason: str
    is_refused: bool
    alerts: Sequence[Alert]


@dataclass(frozen=True)
class Noted:
    """
    What is noted of what a sink was told.

    Args:
        told: id → the last ordinal that it was told.
        needless: id → the last ordinal that it needn't be told.
    """

    told: dict[str, int]
    needless: dict[str, int]

    @property
    def both(self) -> dict[str, int]:
        """Id → the last ordinal of which nothing is to be done any more."""
        return {id_: max(self.told.get(id_, 0), self.needless.get(id_, 0)) for id_ in {**self.told, **self.needless}}


# --- writing


def note_told(
    zone: LandingZone,
    sink: str,
    changes: Mapping[str, int],
    moment: datetime,
    needless: Mapping[str, int] | None = None,
) -> str:
    """
    Land which changes a sink was told.

    Args:
        zone: of the alerts.
        sink: its name.
        changes: id → ordinal, the last that it was told.
        moment: now, UTC.
        needless: likewise, changes that it needn't be told, because it never heard of what they take back.

    Returns:
        The key.

    Raises:
        LandingError: it couldn't be written.
    """
    note = {"told": _references(changes), **({"needless": _references(needless)} if needless else {})}
    return _put(zone, TOLD, sink, moment, note)


def bury(
    zone: LandingZone, sink: str, alerts: Sequence[Alert], reason: str, moment: datetime, *, is_refused: bool
) -> str:
    """
    Land alerts as a dead letter.

    Args:
        zone: of the alerts.
        sink: its name.
        alerts: that it couldn't be told.
        reason: why.
        moment: now, UTC.
        is_refused: the sink won't take them, however often they are sent.

    Returns:
        The key.

    Raises:
        LandingError: it couldn't be written.
    """
    letter = {
        "reason": harmless(reason, 1000),
        "is_refused": is_refused,
        "alerts": [{"day": alert.day.isoformat(), "line": alert.line().decode()} for alert in alerts],
    }
    return _put(zone, DEAD_LETTERS, sink, moment, letter)


def settle(zone: LandingZone, letter_key: str, moment: datetime, why: str) -> None:
    """
    Land that nothing of a dead letter is to be told any more.

    Args:
        zone: of the alerts.
        letter_key: of the dead letter.
        moment: now, UTC.
        why: told, withdrawn, or what a person says.

    Raises:
        LandingError: it couldn't be written.
    """
    content = {"settled_at": moment.isoformat(timespec="microseconds"), "why": harmless(why, 1000)}
    zone.put_if_absent(_settled_key(letter_key), _json(content))


def is_settled(zone: LandingZone, letter_key: str) -> bool:
    """Whether nothing of a dead letter is to be told any more."""
    key = _settled_key(letter_key)
    return any(found.key == key for found in zone.list(key))


# --- reading


def landed_since(zone: LandingZone, moment: datetime) -> list[Landed]:
    """
    The changes of alerts that landed at a moment or later, by when they did. One that landed twice is there twice.

    What can't be read counts for nothing here: the load rejects it, and says so.
    """
    found = sorted(_keys_since(zone, moment), key=lambda one: one[1])
    contents = _read(zone, [object_ for object_, _, _ in found])
    landed = []
    for (object_, stamp, day), content in zip(found, contents, strict=True):
        if content is None:
            continue
        try:
            landed += [Landed(alert, stamp) for alert in alerts_of.read(content, day)]
        except (ValueError, TypeError, AttributeError) as error:
            log.error("%s: nobody is told of its alerts: %s", object_.key, error)
    return landed


def noted_since(zone: LandingZone, sink: str, moment: datetime) -> Noted:
    """
    What was noted at a moment or later of what a sink was told.

    A note that can't be read counts for nothing: at worst something is told again.
    """
    after = f"{TOLD}{sink}/{moment:%Y/%m/%d}/{moment.strftime(_STAMP)}"
    objects = [one for one in zone.list(f"{TOLD}{sink}/", start_after=after) if _NOTE.fullmatch(one.key)]
    noted = Noted({}, {})
    for object_, content in zip(objects, _read(zone, objects), strict=True):
        note = _document(object_.key, content)
        for name, known in (("told", noted.told), ("needless", noted.needless)):
            for reference in note.get(name, ()) if note else ():
                found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
                if found is not None:
                    known[found[1]] = max(known.get(found[1], 0), int(found[2]))
    return noted


def open_letters(zone: LandingZone, sink: str) -> list[DeadLetter]:
    """A sink's dead letters that aren't settled, the oldest first."""
    objects = {one.key: one for one in zone.list(f"{DEAD_LETTERS}{sink}/")}
    open_ = [object_ for key, object_ in objects.items() if _NOTE.fullmatch(key) and _settled_key(key) not in objects]
    letters = []
    for object_, content in zip(open_, _read(zone, open_), strict=True):
        document = _document(object_.key, content)
        if document is None:
            continue
        try:
            alerts = [
                alert
                for one in document["alerts"]
                for alert in alerts_of.read(one["line"].encode(), date.fromisoformat(one["day"]))
            ]
            found = _NOTE.fullmatch(object_.key)
            assert found is not None, "only such keys were chosen"
            letters.append(
                DeadLetter(
                    object_.key, _moment(found["stamp"]), str(document["reason"]), bool(document["is_refused"]), alerts
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.error("%s: isn't a dead letter that the platform wrote: %s", object_.key, error)
    return letters


def names_of_sinks(zone: LandingZone) -> list[str]:
    """Sinks that have dead letters, open or not; also those that the settings don't name any more."""
    names: list[str] = []
    after = DEAD_LETTERS
    while (object_ := next(iter(zone.list(DEAD_LETTERS, start_after=after)), None)) is not None:
        name = object_.key.split("/")[1]
        names.append(name)
        # 0 is the letter after /: what follows begins with another name.
        after = f"{DEAD_LETTERS}{name}0"
    return names


def _keys_since(zone: LandingZone, moment: datetime) -> Iterator[tuple[LandedObject, datetime, date]]:
    """Objects of alerts; of each day, whenever it was, only those from the moment on are listed."""
    stamp = moment.strftime(_STAMP)
    after = ""
    while True:
        for object_ in zone.list(alerts_of.ROOT, start_after=after):
            found = _ALERTS.fullmatch(object_.key)
            if found is None:
                continue
            if found["stamp"] < stamp:
                # The rest of the day that landed before is passed over in one listing.
                after = max(f"{alerts_of.ROOT}{found['day']}/{stamp}", object_.key)
                break
            try:
                yield object_, _moment(found["stamp"]), date.fromisoformat(found["day"].replace("/", "-"))
            except ValueError:
                log.error("%s: its name tells no day or moment: nobody is told of its alerts", object_.key)
        else:
            return


def _read(zone: LandingZone, objects: Sequence[LandedObject]) -> Iterable[bytes | None]:
    """Contents, in order; None where there is none any more, or it can't be one of ours."""

    def read(object_: LandedObject) -> bytes | None:
        if object_.size_bytes > _MOST_BYTES:
            log.error("%s has %s bytes: the platform didn't write it", object_.key, f"{object_.size_bytes:,}")
            return None
        try:
            return zone.read(object_)
        except (ObjectMissing, ObjectChanged):
            log.error("%s is gone, or was changed: nothing that has landed may be", object_.key)
            return None

    if not objects:
        return []
    with ThreadPoolExecutor(min(_READERS, len(objects)), thread_name_prefix="notes") as threads:
        return list(threads.map(read, objects))


def _document(key: str, content: bytes | None) -> dict[str, Any] | None:
    """An object of ours; None when it isn't as it was written."""
    found = _NOTE.fullmatch(key)
    if content is None or found is None:
        return None
    try:
        document = json.loads(content) if _digest(content) == found["digest"] else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        log.error("%s was cut or changed after it was written: it counts for nothing", key)
        return None
    return document


def _put(zone: LandingZone, root: str, sink: str, moment: datetime, document: Mapping[str, Any]) -> str:
    content = _json(document)
    moment = moment.astimezone(UTC)
    key = f"{root}{sink}/{moment:%Y/%m/%d}/{moment.strftime(_STAMP)}-{_digest(content)}.json"
    zone.put_if_absent(key, content)
    return key


def _references(changes: Mapping[str, int]) -> list[str]:
    return [f"{id_}.{ordinal}" for id_, ordinal in changes.items()]


def _settled_key(letter_key: str) -> str:
    return letter_key.removesuffix(".json") + SETTLED


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _moment(stamp: str) -> datetime:
    return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
