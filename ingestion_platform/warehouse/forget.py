"""
Forget a person: in every landed object, in every table, in what people have decided about rows, and in the ledger's own texts.

Belongs here: finding all of it, the order in which it goes, and the certificate. Doesn't: which records are a person's (`personal.py`), how
a format is written again (`formats/erasing.py`), the warehouse's own files (`traces.py`), the notes that land (`forgotten.py`).

The landing zone goes first: what is to be done to which object lands as a note, each object is replaced on the condition that it is what
was planned, and then all that is made of it is made again, as of any object that has changed. Each step finds for itself what is left to
do. So a forgetting that was killed is gone on with by asking for the same person again, and doing it twice changes nothing.
"""

import codecs
import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from ingestion_platform import decisions
from ingestion_platform.api import Pages
from ingestion_platform.change_log import ChangeLog, Debezium, DynamoDbExport, Maxwell
from ingestion_platform.dataset import Dataset, WholeFetches
from ingestion_platform.decisions import Decision
from ingestion_platform.errors import (
    DeclarationError,
    LandingError,
    NotErasable,
    ObjectChanged,
    ObjectCold,
    ObjectMissing,
    ObjectRejected,
    SettingsError,
    WarehouseBusy,
)
from ingestion_platform.format import Csv, FixedWidth, Json, JsonLines, Xml
from ingestion_platform.formats import Erasure, Words, detect_dialect, packing_of, unpacked
from ingestion_platform.landing import LandedObject
from ingestion_platform.landing.erasing import ErasableLanding, FormerVersion, erasable
from ingestion_platform.lifecycle import RESTORE_DAYS, RESTORE_TIER
from ingestion_platform.own_roots import DECISIONS, FORGOTTEN
from ingestion_platform.warehouse import shadow
from ingestion_platform.warehouse.backfill import followers
from ingestion_platform.warehouse.discards import KINDS, rows_of, runs_of
from ingestion_platform.warehouse.engine import name, relation
from ingestion_platform.warehouse.forgotten import Begun, Change, digest_of, digest_sql, new_id
from ingestion_platform.warehouse.personal import Person, Reading, erase, judge, same_otherwise
from ingestion_platform.warehouse.results import EVERYTHING, Only
from ingestion_platform.warehouse.traces import INSTEAD, Traces, Wanted
from ingestion_platform.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

Doing = Literal["rewrite", "remove", "stuck", "wait"]
Tell = Callable[[str], None]

ATTEMPTS = 5
"""How often what changes under our hands is planned again."""
_HASHED_BYTES = 1024**2
_NOTE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class ObjectPlan:
    """
    What is to be done to a landed object.

    Args:
        landed: as it was listed.
        doing: `rewrite` (records are taken out or emptied), `remove` (it goes whole), `stuck` (neither can be done, or not without being
            asked for), `wait` (it is in an archive).
        why: of all but the first.
        change: as it is noted; of the first two.
        counts: dataset → the person's rows.
        elsewhere: rows that hold a key in a column of another meaning, and stay.
    """

    landed: LandedObject
    doing: Doing
    why: str = ""
    change: Change | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    elsewhere: int = 0


@dataclass(frozen=True)
class Plan:
    """
    What is left of a person.

    Args:
        objects: landed objects that have something.
        former: former versions of objects that have something, or can't be read.
        notes: keys of what people have decided, and of other notes, that have something.
        spellings: the person's keys as they are written.
        looked_at: objects that were looked through.
        elsewhere: rows of all objects that hold a key in a column of another meaning.
    """

    objects: tuple[ObjectPlan, ...] = ()
    former: tuple[FormerVersion, ...] = ()
    notes: tuple[str, ...] = ()
    spellings: frozenset[str] = frozenset()
    looked_at: int = 0
    elsewhere: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return not (self.objects or self.former or self.notes)

    @property
    def rows(self) -> Counter[str]:
        """Dataset → rows of the person in landed objects; of one that was sent twice, both."""
        found: Counter[str] = Counter()
        for one in self.objects:
            found.update(one.counts)
        return found

    def of(self, *doing: Doing) -> list[ObjectPlan]:
        """Those objects to which this is to be done."""
        return [one for one in self.objects if one.doing in doing]


@dataclass(frozen=True)
class Forgot:
    """
    What a forgetting came to.

    Args:
        id: of it.
        certificate: its key; empty: it isn't done.
        changes: of landed objects, by this run and by former ones.
        waiting: what is in an archive and was asked for.
        stuck: what couldn't be done, and why.
        elsewhere: rows that hold a key in a column of another meaning.
    """

    id: str
    certificate: str
    changes: tuple[Change, ...]
    waiting: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    elsewhere: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing of the person is left."""
        return bool(self.certificate)


# --- who


def person_of(warehouse: Warehouse, pairs: Iterable[tuple[str, str]], *, everywhere: bool = False) -> Person:
    """
    A person by his keys.

    Args:
        warehouse: whose datasets say what keys there are.
        pairs: kind of key, or `dataset.column` of one; and its value.
        everywhere: see `Person`.

    Raises:
        DeclarationError: no column holds such a key, or a value is empty.
    """
    kinds = {kind for dataset in warehouse.datasets.values() for kind in dataset.people}
    keys: dict[str, set[str]] = {}
    for told, value in pairs:
        kind = told
        if "." in told:
            dataset_name, _, column_name = told.partition(".")
            dataset = warehouse.datasets.get(dataset_name)
            found = next((one for one in dataset.columns if one.name == column_name), None) if dataset else None
            if found is None or found.person is None:
                raise DeclarationError(
                    f"{told} is no column that holds a person's key",
                    f"kinds of keys: {', '.join(sorted(kinds)) or 'none'}",
                )
            kind = found.person
        if kind not in kinds:
            raise DeclarationError(
                f"no column holds the key of a person of kind {kind!r}",
                f"kinds of keys: {', '.join(sorted(kinds)) or 'none: declare one with person=…'}",
            )
        if not value.strip():
            raise DeclarationError(f"the value of {told!r} is empty", "as in customer=C00123")
        keys.setdefault(kind, set()).add(value.strip())
    if not keys:
        raise DeclarationError("nobody is named", "as in customer=C00123")
    values = sorted({value for values in keys.values() for value in values})
    return Person(
        {kind: frozenset(values) for kind, values in keys.items()}, everywhere, tuple(hashes_of(warehouse, values))
    )


def hashes_of(warehouse: Warehouse, values: Iterable[str]) -> list[str]:
    """What hashed columns show of values; nothing without a salt."""
    salt = warehouse.settings.pii_salt
    if salt is None:
        return []
    return [hashlib.sha256((salt.get_secret_value() + value).encode()).hexdigest() for value in values]


def keys_of_lines(lines: Iterable[str]) -> list[tuple[str, str]]:
    """
    Keys of a person, a line each: `customer=C00123`. Empty lines and those that begin with # are none.

    Raises:
        SettingsError: a line isn't so.
    """
    found = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        kind, mark, value = line.rstrip("\r\n").partition("=")
        if not mark:
            # Not shown: it may be the value.
            raise SettingsError("a key of a person is KIND=VALUE, and one has no =", "as in customer=C00123")
        found.append((kind.strip(), value))
    return found


def keys_of_file(file: str) -> list[tuple[str, str]]:
    """
    Keys of a person out of a file that nobody else may read; see `keys_of_lines`.

    Raises:
        SettingsError: it isn't there, or others may read it.
    """
    path = Path(file)
    try:
        with path.open(encoding="utf-8") as opened:
            if os.fstat(opened.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SettingsError(f"{path} may be read by others", f"chmod 600 {path}")
            return keys_of_lines(opened)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} can't be read: {type(error).__name__}", "a line for each key, as in customer=C00123"
        ) from error


def discreet(person: Person, text: str) -> str:
    """A text for those who may not know who is forgotten: without the person's keys, wherever they stand."""
    for value in sorted(person.values, key=len, reverse=True):
        text = text.replace(value, INSTEAD)
    return text


def salt_of(warehouse: Warehouse) -> str:
    """
    The salt of digests.

    Raises:
        SettingsError: there is none.
    """
    if warehouse.settings.pii_salt is None:
        raise SettingsError(
            "nobody can be forgotten without INGESTION_PII_SALT: who has come back is told by a salted digest",
            "set it to what hashed columns were made with",
        )
    return warehouse.settings.pii_salt.get_secret_value()


# --- what there is


def plan(
    warehouse: Warehouse,
    person: Person,
    *,
    remove_objects: bool = False,
    fetches_back: bool = False,
    tell: Tell = log.info,
) -> Plan:
    """
    Look for a person in all that has landed. Changes nothing.

    Args:
        warehouse: whose landing zone.
        person: who.
        remove_objects: what can't be rewritten is to be removed whole.
        fetches_back: what is in an archive is asked for.
        tell: told of each object that has something.

    Raises:
        LandingUnavailable: no answer after every attempt.
    """
    finder = _Finder(warehouse, person, remove_objects, fetches_back)
    objects: list[ObjectPlan] = []
    notes: list[str] = []
    spellings: set[str] = set()
    looked_at = elsewhere = 0
    for landed in warehouse.landing.list():
        if landed.key.startswith(FORGOTTEN):
            continue
        looked_at += 1
        if landed.key.startswith(DECISIONS):
            if finder.stands_in(landed):
                notes.append(landed.key)
            continue
        found = finder.look(landed)
        if found is None:
            continue
        elsewhere += found.elsewhere
        if found.doing == "rewrite" and found.change is None:
            # Nothing but keys in columns of another meaning.
            continue
        objects.append(found)
        tell(told(found))
    spellings |= finder.spellings
    former = [one for one in erasable(warehouse.landing).former_versions() if finder.stands_in_former(one)]
    return Plan(tuple(objects), tuple(former), tuple(notes), frozenset(spellings), looked_at, elsewhere)


def told(one: ObjectPlan) -> str:
    """What is to be done to an object, in one line."""
    rows = ", ".join(f"{count:,} rows of {dataset}" for dataset, count in sorted(one.counts.items()) if count)
    match one.doing:
        case "rewrite":
            return f"{one.landed.key}: rewritten without {rows or 'what stands around its records'}"
        case "remove":
            return f"{one.landed.key}: removed whole{f', with {rows}' if rows else ''}: {one.why}"
        case "wait":
            return f"{one.landed.key}: waits: {one.why}"
        case _:
            return f"{one.landed.key}: left as it is{f', with {rows}' if rows else ''}: {one.why}"


class _Finder:
    """Looks for a person in landed objects."""

    def __init__(self, warehouse: Warehouse, person: Person, remove_objects: bool, fetches_back: bool = False) -> None:
        self._warehouse = warehouse
        self._landing = warehouse.landing
        self._person = person
        self._words = person.words
        self._remove_objects = remove_objects
        self._fetches_back = fetches_back
        self._readings = [warehouse.reading(dataset) for dataset in warehouse.datasets.values()]
        self._suspects: dict[str, set[str]] | None = None
        self.spellings: set[str] = set()

    def readings_of(self, key: str) -> list[Reading]:
        """How each dataset that an object belongs to reads it."""
        return [one for one in self._readings if one.dataset.source.match(key) is not None]

    def look(self, landed: LandedObject) -> ObjectPlan | None:
        """What is to be done to an object; None: nothing."""
        readings = self.readings_of(landed.key)
        if not self._landing.is_at_hand(landed):
            return self._look_at_cold(landed, readings)
        try:
            with self._landing.open(landed) as opened:
                found = self._look_into(landed, opened.file, readings)
                opened.check()
        except ObjectMissing:
            return None
        except ObjectCold:
            return self._look_at_cold(landed, readings)
        except ObjectChanged as error:
            return ObjectPlan(landed, "stuck", f"it changed meanwhile: {error.what}")
        return found

    def _look_into(self, landed: LandedObject, file: BinaryIO, readings: Sequence[Reading]) -> ObjectPlan | None:
        key_tells = self._words.hold(landed.key)
        if not readings:
            if not key_tells and (note := _blanked_note(file, self._words)) is not None:
                # A note of the platform, or of a sender: it says the same of all else.
                change = self._change(landed, file, hashlib.sha256(note).hexdigest())
                return ObjectPlan(landed, "rewrite", "a note", change)
            if key_tells or _stands_in_bytes(file, landed.key, self._words):
                return self._whole_or_stuck(landed, file, "it belongs to no dataset, and holds a key of the person", {})
            return None
        if not key_tells and not any(_may_hold(one, file, landed.key, self._person) for one in readings):
            return None
        readings = [_resolved(one, file, landed.key) for one in readings]
        judged = [(one, judge(one, file, landed.key, self._person)) for one in readings]
        counts = {one.dataset.name: found.rows for one, found in judged if found.rows}
        for _, found in judged:
            self.spellings |= found.spellings
        if any(found.is_whole for _, found in judged):
            return ObjectPlan(landed, "remove", "its key tells of the person", self._change(landed, file, ""), counts)
        if key_tells:
            return self._whole_or_stuck(landed, file, "its key holds a key of the person", counts)
        elsewhere = sum(found.elsewhere for _, found in judged)
        if all(found.is_unreadable for _, found in judged):
            if _stands_in_bytes(file, landed.key, self._words):
                return self._whole_or_stuck(
                    landed, file, "it can't be read as declared, and holds a key of the person", counts
                )
            return None
        around = any(isinstance(one.format, Pages) for one in readings)
        if not counts and not around:
            if not elsewhere and any(_stands_in_text(one, file, landed.key, self._words) for one in readings):
                return self._whole_or_stuck(landed, file, _OUTSIDE, counts)
            return ObjectPlan(landed, "rewrite", elsewhere=elsewhere) if elsewhere else None
        try:
            with _rewritten(readings, file, landed.key, self._person) as (after, erasure):
                if after is None:
                    return ObjectPlan(landed, "rewrite", elsewhere=elsewhere) if elsewhere else None
                change = self._change(landed, file, _sha256(after), erasure, counts)
        except (NotErasable, ObjectRejected) as error:
            return self._whole_or_stuck(landed, file, error.what, counts)
        return ObjectPlan(landed, "rewrite", "", change, counts, elsewhere)

    def _whole_or_stuck(self, landed: LandedObject, file: BinaryIO, why: str, counts: Mapping[str, int]) -> ObjectPlan:
        if self._remove_objects:
            return ObjectPlan(landed, "remove", why, self._change(landed, file, "", counts=counts), counts)
        return ObjectPlan(landed, "stuck", f"{why}; --remove-objects removes it whole", None, counts)

    def _change(
        self,
        landed: LandedObject,
        file: BinaryIO,
        after: str,
        erasure: Erasure | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> Change:
        what = erasure or Erasure()
        return Change(
            shown_key(landed.key, self._person),
            _sha256(file),
            after,
            runs_of(what.rows),
            runs_of(what.emptied),
            dict(counts or {}),
        )

    def _look_at_cold(self, landed: LandedObject, readings: Sequence[Reading]) -> ObjectPlan | None:
        """Of what is in an archive, raw tells whether it has to be read; what raw doesn't know has to be."""
        ledger = self._warehouse.ledger
        for one in readings:
            row = ledger.current_object(one.dataset.name, landed.key) if ledger.exists else None
            if row is not None and row.state == "loaded" and landed.key not in self._suspected(one.dataset):
                continue
            lifecycle = one.dataset.ages
            days = lifecycle.restore_days if lifecycle is not None else RESTORE_DAYS
            tier = lifecycle.restore_tier if lifecycle is not None else RESTORE_TIER
            takes = self._landing.fetch_back(landed, days=days, tier=tier) if self._fetches_back else None
            when = f"asked for; about {takes} at most" if takes is not None else "not asked for yet"
            return ObjectPlan(landed, "wait", f"it is in an archive: {when}")
        return None

    def _suspected(self, dataset: Dataset) -> set[str]:
        """Objects of which raw has rows of the person."""
        if self._suspects is None:
            self._suspects = {}
        if dataset.name not in self._suspects:
            self._suspects[dataset.name] = objects_with(
                self._warehouse, dataset, wanted_of(self._warehouse, self._person)
            )
        return self._suspects[dataset.name]

    # --- notes, and former versions

    def stands_in(self, landed: LandedObject) -> bool:
        """Whether a note holds a key."""
        if landed.size_bytes > _NOTE_BYTES or not self._landing.is_at_hand(landed):
            return False
        try:
            return _note_holds(self._landing.read(landed), self._note_words)
        except (ObjectMissing, ObjectChanged):
            return False

    @property
    def _note_words(self) -> Words:
        return wanted_of(self._warehouse, self._person, self.spellings).words

    def stands_in_former(self, former: FormerVersion) -> bool:
        """Whether a former version holds something, as far as that can be told."""
        if not former.is_at_hand:
            return True
        try:
            with erasable(self._landing).open_former(former) as opened:
                readings = [_resolved(one, opened.file, former.key) for one in self.readings_of(former.key)]
                found = [judge(one, opened.file, former.key, self._person) for one in readings]
                if any(one.rows or one.is_whole or one.elsewhere for one in found) or self._words.hold(former.key):
                    return True
                return (not found or any(one.is_unreadable for one in found)) and _stands_in_bytes(
                    opened.file, former.key, self._words
                )
        except ObjectMissing:
            return False


def shown_key(key: str, person: Person) -> str:
    """An object's key as it may be told: of one that tells of the person, a digest."""
    values = [value for value in person.values if value in key]
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()[:32]}" if values else key


def _resolved(reading: Reading, file: BinaryIO, key: str) -> Reading:
    """A reading of which nothing is to be detected any more."""
    if isinstance(reading.format, Csv) and reading.format.undetected:
        file.seek(0)
        try:
            return replace(reading, format=detect_dialect(reading.format, file, reading.fields, key=key).format)
        except ObjectRejected:
            return reading
    return reading


_OUTSIDE = "a key of the person stands in it outside of its records"


def _stands_in_text(reading: Reading, file: BinaryIO, key: str, words: Words) -> bool:
    """Whether an object that is text holds a key as a word anywhere: in comments, footers, or what is around records, too."""
    format = reading.format
    if not words or not isinstance(
        format, Csv | FixedWidth | JsonLines | Json | Xml | Debezium | Maxwell | DynamoDbExport
    ):
        return False
    encoding = getattr(format, "encoding", "utf-8")
    decoder = codecs.getincrementaldecoder(encoding if isinstance(encoding, str) else "utf-8")("replace")
    file.seek(0)
    end = ""
    try:
        for piece in unpacked(file, key, getattr(format, "zip_member", "")):
            text = end + decoder.decode(piece)
            if words.hold(text):
                return True
            end = text[-1000:]
    except (ObjectRejected, UnicodeError):
        return False
    return False


def _may_hold(reading: Reading, file: BinaryIO, key: str, person: Person) -> bool:
    """Whether an object may hold a key of the person, told by its bytes; True where these don't tell."""
    format = reading.format
    if any(column.capture is not None and column.person is not None for column in reading.dataset.columns):
        return True
    if not isinstance(format, Csv | FixedWidth | JsonLines | Json | Xml | ChangeLog):
        return True
    if isinstance(format, ChangeLog) and not hasattr(format, "layout"):
        return True
    encoding = getattr(format, "encoding", "utf-8")
    if not isinstance(encoding, str):
        return True
    marks: list[bytes] = []
    if isinstance(format, Csv):
        if format.escape or any(str(format.quote) in value for value in person.values if format.quote):
            return True
    elif isinstance(format, Xml):
        marks = [b"&#", b"encoding=", b"\0"]
    elif not isinstance(format, FixedWidth):
        marks = [b"\\u", b"\\/"]
    try:
        for value in (*person.values, *person.hashes):
            # As it stands in the middle of a text: what marks the order of bytes stands at its beginning.
            plain = encoding.lower().replace("_", "-")
            names = [f"{plain}-le", f"{plain}-be"] if plain in ("utf-16", "utf-32") else [encoding]
            marks += [value.encode(one) for one in names]
    except UnicodeError:
        pass
    file.seek(0)
    try:
        return _has_any(unpacked(file, key, getattr(format, "zip_member", "")), marks)
    except ObjectRejected:
        return True


def _has_any(pieces: Iterable[bytes], marks: Sequence[bytes]) -> bool:
    longest, end = max(map(len, marks), default=1), b""
    for piece in pieces:
        text = end + piece
        if any(mark in text for mark in marks):
            return True
        end = text[-longest:]
    return False


def _stands_in_bytes(file: BinaryIO, key: str, words: Words) -> bool:
    """Whether an object's bytes hold a key as a word, unpacked where its key says that it is packed."""
    if not words:
        return False
    file.seek(0)
    end = b""
    try:
        for piece in unpacked(file, key if packing_of(key) else "", "*"):
            text = end + piece
            if words.hold_bytes(text):
                return True
            end = text[-1000:]
    except ObjectRejected:
        file.seek(0)
        return words.hold_bytes(file.read())
    return False


def _blanked_note(file: BinaryIO, words: Words) -> bytes | None:
    """A JSON document with another word in the place of keys; None where it is no such document, or has none."""
    file.seek(0)
    content = file.read(_NOTE_BYTES + 1)
    file.seek(0)
    if len(content) > _NOTE_BYTES or not words.hold_bytes(content):
        return None
    try:
        json.loads(content)
        blanked = words.blanked(content.decode(), INSTEAD).encode()
        json.loads(blanked)
    except ValueError:
        return None
    return blanked if not words.hold_bytes(blanked) else None


def _note_holds(content: bytes, words: Words) -> bool:
    if words.hold_bytes(content):
        return True
    try:
        return words.hold(json.dumps(json.loads(content), ensure_ascii=False)) if b"\\u" in content else False
    except ValueError:
        return False


def _sha256(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(_HASHED_BYTES):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


@contextmanager
def _rewritten(
    readings: Sequence[Reading], file: BinaryIO, key: str, person: Person
) -> Iterator[tuple[BinaryIO | None, Erasure]]:
    """
    An object's bytes without a person, looked through; None: nothing of it changes.

    Raises:
        NotErasable: it can't be written again, or isn't what it should be then.
    """
    files: list[Any] = []

    def new_file() -> BinaryIO:
        # Without a name: gone with the process.
        files.append(tempfile.TemporaryFile())  # noqa: SIM115
        return cast(BinaryIO, files[-1])

    try:
        after, judged, erasure = erase(readings, file, key, person, new_file)
        if after is file:
            yield None, erasure
            return
        for reading, before in judged:
            left = judge(reading, after, key, person)
            if before.is_unreadable:
                continue
            if left.is_unreadable:
                raise NotErasable("nothing would be left that can be read", "have the object removed whole")
            if left.rows or left.is_whole:
                raise NotErasable("the person would still be in it", "have the object removed whole")
            if not left.elsewhere and _stands_in_text(reading, after, key, person.words):
                raise NotErasable(_OUTSIDE, "have the object removed whole")
            if not isinstance(reading.format, Pages) and not same_otherwise(reading, file, after, key, erasure):
                raise NotErasable("other records wouldn't be read as they were", "have the object removed whole")
        yield after, erasure
    finally:
        for one in files:
            one.close()


@contextmanager
def _made_again(readings: Sequence[Reading], file: BinaryIO, key: str, person: Person) -> Iterator[BinaryIO | None]:
    """An object's bytes without a person, of a note, too."""
    if not readings:
        note = _blanked_note(file, person.words)
        yield io.BytesIO(note) if note is not None else None
        return
    with _rewritten(readings, file, key, person) as (after, _):
        yield after


# --- what is looked for in the warehouse


def wanted_of(warehouse: Warehouse, person: Person, spellings: Iterable[str] = ()) -> Wanted:
    """What of a person may stand in the warehouse's own files: keys, and what hashed columns show of them."""
    values = {*person.values, *spellings}
    hashes = hashes_of(warehouse, sorted(values))
    columns: dict[str, list[tuple[str, frozenset[str]]]] = {}
    for dataset in warehouse.datasets.values():
        for kind, found in dataset.people.items():
            if kind in person.keys:
                columns.setdefault(dataset.raw, []).extend((one.name, person.keys[kind]) for one in found)
    return Wanted(Words([*sorted(values), *hashes]), columns)


def objects_with(warehouse: Warehouse, dataset: Dataset, wanted: Wanted) -> set[str]:
    """Keys of objects of which raw has rows, or records that can't be read, with something of a person."""
    if not warehouse.ledger.exists:
        return set()
    found: set[str] = set()
    for role in ("rows", "quarantine"):
        files = warehouse.ledger.files(dataset.raw, role=role)
        columns = warehouse.raw_columns(dataset) if role == "rows" else [("_object", "VARCHAR"), ("record", "VARCHAR")]
        source = relation(warehouse.store, files, columns)
        condition = wanted.condition("t", dataset.raw if role == "rows" else "", [one for one, _ in columns])
        rows = warehouse.engine.execute(f"select distinct _object from ({source}) t where {condition}").fetchall()
        found |= {key for (key,) in rows}
    return found


# --- doing it


def forget(
    warehouse: Warehouse,
    person: Person,
    *,
    by: str,
    why: str,
    remove_objects: bool = False,
    run_id: str = "",
    tell: Tell = log.info,
) -> Forgot:
    """
    Forget a person. Safe beside runs; after a kill, doing it again goes on.

    Args:
        warehouse: in which.
        person: who.
        by: who asks for it, as he is called.
        why: his reason, as the number of the request; nothing of the person.
        remove_objects: remove whole what can't be rewritten.
        run_id: noted in the ledger.
        tell: told of each step.

    Returns:
        What came of it; not done while something waits or is stuck.

    Raises:
        SettingsError: there is no salt.
        WarehouseBusy: somebody else is being forgotten just now, or objects are being moved.
        LandingError: there is no name or no reason.
        LandingUnavailable: no answer after every attempt; the same call goes on.
    """
    salt = salt_of(warehouse)
    # The rules that decisions keep hold here, too.
    Decision("forget", "people", datetime.now(UTC), by, why)
    if person.words.hold(by) or person.words.hold(why):
        raise LandingError("the name or the reason holds a key of the person", "say the number of the request")
    people = tuple(
        sorted((kind, digest_of(salt, kind, value)) for kind, values in person.keys.items() for value in values)
    )
    with _alone(warehouse):
        door = erasable(warehouse.landing)
        with door.erasing() as is_ours:
            if not is_ours:
                raise WarehouseBusy("objects are being moved to a colder place just now", "try again when that is done")
            warehouse.forgotten.take_in()
            id_, began_at, former = _begun(warehouse, people)
            act = _Act(warehouse, door, person, people, id_, began_at, by, why, remove_objects, run_id, tell)
            act.changes += [change for one in former for change in one.changes]
            return act.run()


def _begun(warehouse: Warehouse, people: tuple[tuple[str, str], ...]) -> tuple[str, datetime, list[Begun]]:
    """The forgetting of these people that has begun and isn't done; a new one otherwise."""
    begun, done = warehouse.forgotten.landed()
    for id_ in sorted(begun.keys() - done):
        if any(one.people == people for one in begun[id_]):
            return id_, begun[id_][0].at, begun[id_]
    at = datetime.now(UTC)
    return new_id(at, people), at, []


@contextmanager
def _alone(warehouse: Warehouse) -> Iterator[None]:
    """One forgetting of a warehouse at a time."""
    warehouse.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(warehouse.folder / "forget.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WarehouseBusy("somebody is being forgotten just now", "try again when that is done") from None
        yield
    finally:
        os.close(descriptor)


@dataclass
class _Act:
    """One run of a forgetting."""

    warehouse: Warehouse
    door: ErasableLanding
    person: Person
    people: tuple[tuple[str, str], ...]
    id: str
    began_at: datetime
    by: str
    why: str
    remove_objects: bool
    run_id: str
    tell: Tell
    changes: list[Change] = field(default_factory=list)
    spellings: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)

    def run(self) -> Forgot:
        """All of it."""
        self._clear_landing()
        self._carry_decisions()
        self._load()
        self._settle_raw()
        self._compute()
        self._clear_warehouse()
        return self._end()

    # --- the landing zone

    def _clear_landing(self) -> None:
        for _ in range(ATTEMPTS):
            made = self._plan()
            todo = made.of("rewrite", "remove")
            changes = tuple(one.change for one in todo if one.change is not None)
            known = set(map(_identity, self.changes))
            if any(_identity(one) not in known for one in changes) or not self.changes:
                self.warehouse.forgotten.begin(
                    Begun(self.id, datetime.now(UTC), self.by, self.why, self.people, changes)
                )
                self.changes += [one for one in changes if _identity(one) not in known]
            is_all = True
            for one in todo:
                is_all &= self._change(one)
            for former in made.former:
                if former.is_at_hand:
                    self.door.remove_former(former)
            if is_all:
                return

    def _plan(self) -> Plan:
        made = plan(self.warehouse, self.person, remove_objects=self.remove_objects, fetches_back=True, tell=self.tell)
        self.spellings |= made.spellings
        return made

    def _change(self, one: ObjectPlan) -> bool:
        """Do what is planned to an object; False: it has changed meanwhile."""
        landing, key = self.warehouse.landing, one.landed.key
        try:
            if one.doing == "remove":
                self.door.remove(one.landed)
                for dataset in self.warehouse.datasets.values():
                    if dataset.source.match(key) is not None and self.warehouse.ledger.exists:
                        self.warehouse.ledger.strike(dataset.name, key, self.run_id)
                return True
            finder = _Finder(self.warehouse, self.person, self.remove_objects)
            with landing.open(one.landed) as opened, tempfile.TemporaryDirectory() as folder:
                readings = [_resolved(reading, opened.file, key) for reading in finder.readings_of(key)]
                with _made_again(readings, opened.file, key, self.person) as after:
                    opened.check()
                    assert after is not None, "it was planned to be another one"
                    if one.change is None or _sha256(after) != one.change.after:
                        return False
                    path = Path(folder) / "object"
                    with open(path, "xb") as file:
                        shutil.copyfileobj(after, file, _HASHED_BYTES)
                self.door.replace(one.landed, path)
        except (ObjectChanged, ObjectMissing):
            return False
        return True

    # --- what people have decided

    def _carry_decisions(self) -> None:
        """
        Decisions about rows of an object that was rewritten are decisions about the same rows of what it is now.

        Each lands anew, with its moment, its name and its reason, before the former one is removed.
        """
        by_version = {(one.key, one.before): one for one in self.changes}
        words = self._words()
        for landed in list(self.warehouse.landing.list(DECISIONS)):
            try:
                content = self.warehouse.landing.read(landed)
                former = decisions.parse(landed.key, content)
            except LandingError as error:
                if error.can_retry:
                    raise
                continue
            what = dict(former.what)
            if former.kind in KINDS:
                what = _carried(former, what, by_version)
            left = replace(
                former,
                what=_blanked(what, words),
                why=words.blanked(former.why, INSTEAD),
                by=words.blanked(former.by, INSTEAD),
            )
            if left.content == content:
                continue
            self.warehouse.decisions.put(left)
            self.door.remove(landed)
            self.warehouse.ledger_forgets_decision(landed.key)
        for dataset in self.warehouse.datasets.values():
            self.warehouse.take_in(dataset)

    # --- the warehouse

    def _load(self) -> None:
        """Read again what was rewritten, by this run or by one that was killed."""
        if not self.warehouse.ledger.exists:
            return
        keys = {one.key for one in self.changes if one.after}
        for dataset in self.warehouse.datasets.values():
            by_day: dict[date, set[str]] = {}
            for key in keys:
                found = dataset.source.match(key)
                row = self.warehouse.ledger.current_object(dataset.name, key) if found is not None else None
                if found is None or row is None:
                    continue
                if row.sha256 not in {one.after for one in self.changes if one.key == key} or row.state == "pending":
                    by_day.setdefault(found[0], set()).add(key)
            for day, of_day in sorted(by_day.items()):
                only = EVERYTHING if isinstance(dataset.source, WholeFetches) else Only(keys=frozenset(of_day))
                self.warehouse.load(dataset, day, reload=True, only=only, run_id=self.run_id)
                self.tell(f"{dataset.raw} {day}: {len(of_day):,} objects read again")

    def _settle_raw(self) -> None:
        """
        Rows that raw has of objects that have nothing of the person: they have changed since they were loaded, or are gone.

        A producer may have put another version there, or a killed run removed one before it could strike it out.
        """
        if not self.warehouse.ledger.exists:
            return
        wanted = wanted_of(self.warehouse, self.person, self.spellings)
        for dataset in self.warehouse.datasets.values():
            for key in sorted(objects_with(self.warehouse, dataset, wanted)):
                self.settled.add(dataset.name)
                found = dataset.source.match(key)
                if (
                    found is None
                    or next((one for one in self.warehouse.landing.list(key) if one.key == key), None) is None
                ):
                    self.warehouse.ledger.strike(dataset.name, key, self.run_id)
                    continue
                only = EVERYTHING if isinstance(dataset.source, WholeFetches) else Only(keys=frozenset({key}))
                self.warehouse.load(dataset, found[0], reload=True, only=only, run_id=self.run_id)

    def _affected(self) -> list[str]:
        """Tables that are made of what was changed, in order."""
        names = {
            dataset.name: list[date]()
            for dataset in self.warehouse.datasets.values()
            if any(dataset.source.match(one.key) is not None for one in self.changes if one.after)
            or any(not one.after for one in self.changes)
            or dataset.name in self.settled
        }
        return followers(self.warehouse, names)

    def _compute(self) -> None:
        if not self.warehouse.ledger.exists:
            return
        for table in self._affected():
            days = self.warehouse.stale_days(table)
            for day in days:
                self._make(table, day, force=False)
            if days:
                self.tell(f"{table}: {len(days):,} partitions computed")

    def _make(self, table: str, day: date | None, *, force: bool) -> None:
        if table in self.warehouse.sql_tables:
            self.warehouse.derive(self.warehouse.sql_tables[table], day, force=force, run_id=self.run_id)
            return
        assert day is not None, "processed datasets have days"
        dataset = self.warehouse.datasets[table.split(".", 1)[1]]
        self.warehouse.process(dataset, day, force=force, run_id=self.run_id)

    def _words(self) -> Words:
        return wanted_of(self.warehouse, self.person, self.spellings).words

    def _traces(self) -> Traces:
        return Traces(self.warehouse, wanted_of(self.warehouse, self.person, self.spellings))

    def _clear_warehouse(self) -> None:
        """Whatever is left in files: of rows that no longer count, of partitions that weren't stale, of files that have left."""
        if not self.warehouse.ledger.exists:
            return
        traces = self._traces()
        for table, role, file in list(traces.in_use()):
            if table.startswith("raw.") and file.excluded:
                traces.compact(table, role, file)
        for table, _, file in list(traces.in_use()):
            if not table.startswith("raw."):
                self._make(table, date.fromisoformat(file.day) if file.day else None, force=True)
        purged = traces.purge()
        if purged:
            self.tell(f"{purged:,} files that had left their tables deleted")
        blanked = traces.blank_ledger()
        if blanked:
            self.tell(f"{blanked:,} texts of the ledger blanked")
        traces.scrub_ledger()
        self.warehouse.publish()
        # Of plans that were killed.
        shadow.sweep()

    # --- the end

    def _end(self) -> Forgot:
        """Look through all of it once more; only what isn't found anywhere is forgotten."""
        left = self._plan()
        waiting = [one.landed.key for one in left.of("wait")]
        waiting += [f"{one.key} (former version {one.name})" for one in left.former if not one.is_at_hand]
        stuck = [f"{one.landed.key}: {one.why}" for one in left.of("stuck", "rewrite", "remove")]
        stuck += [f"{one.key}: former version {one.name}" for one in left.former if one.is_at_hand]
        stuck += [f"{key}: holds a key of the person" for key in left.notes]
        if self.warehouse.ledger.exists:
            traces = self._traces()
            if not left.elsewhere:
                stuck += [f"{table} {file.day}: {file.path}" for table, _, file in traces.in_use()]
                stuck += [f"{path}" for path in traces.in_published()]
            stuck += [f"{path}: of a run that is under way, or was killed" for path in traces.unknown_files()]
            stuck += [f"{path}: of a run that is under way, or was killed" for path in traces.others()]
            stuck += [f"{path}: a former warehouse, set aside by a rebuild: delete it" for path in traces.set_aside()]
        changes = tuple({_identity(one): one for one in self.changes}.values())
        certificate = ""
        if not (waiting or stuck):
            certificate = self.warehouse.forgotten.end(self.id, self._certificate(changes, left))
        return Forgot(self.id, certificate, changes, tuple(waiting), tuple(stuck), left.elsewhere)

    def _certificate(self, changes: Sequence[Change], left: Plan) -> dict[str, Any]:
        rows: Counter[str] = Counter()
        for one in changes:
            rows.update(one.counts)
        return {
            "id": self.id,
            "began_at": self.began_at.isoformat(timespec="microseconds"),
            "done_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "by": self.by,
            "why": self.why,
            "people": [list(one) for one in self.people],
            "rows": dict(sorted(rows.items())),
            "objects": [
                {
                    "key": one.key,
                    "before": one.before,
                    "after": one.after,
                    "rows": sum(last - first + 1 for first, last in one.rows),
                    "emptied": sum(last - first + 1 for first, last in one.emptied),
                }
                for one in changes
            ],
            "looked_through": {"objects": left.looked_at, "tables": len(self._traces().tables())},
            "left_elsewhere": left.elsewhere,
        }


def _identity(one: Change) -> tuple[str, str, str]:
    return one.key, one.before, one.after


def _carried(former: Decision, what: dict[str, Any], by_version: Mapping[tuple[str, str], Change]) -> dict[str, Any]:
    """What a decision says of rows, said of the objects as they are now."""
    objects = []
    for one in rows_of(former):
        while (change := by_version.get((one.object, one.sha256))) is not None and change.after:
            gone = {row for first, last in change.rows for row in range(first, last + 1)}
            keeps_numbers = one.records is None
            rows = [row for first, last in one.rows for row in range(first, last + 1) if row not in gone]
            if not keeps_numbers:
                rows = [row - sum(out < row for out in gone) for row in rows]
            records = one.records - len(gone) if one.records is not None else None
            one = replace(one, sha256=change.after, records=records, rows=runs_of(rows))
        if change is None and one.rows:
            objects.append(one.written())
    return {**what, "objects": objects}


def _blanked(value: Any, words: Words) -> Any:
    """JSON's values with another word in the place of keys."""
    if isinstance(value, str):
        return words.blanked(value, INSTEAD)
    if isinstance(value, list):
        return [_blanked(one, words) for one in value]
    if isinstance(value, dict):
        return {words.blanked(key, INSTEAD): _blanked(one, words) for key, one in value.items()}
    return value


# --- who has come back


@dataclass(frozen=True, slots=True)
class Returned:
    """
    Rows of somebody who was forgotten, that are there again.

    Args:
        dataset: whose rows.
        day: of the object's key.
        kind: of the key by which he is known.
        key: of the landed object.
        rows: how many.
    """

    dataset: str
    day: date
    kind: str
    key: str
    rows: int


def returned(warehouse: Warehouse, dataset: Dataset, first: date, last: date) -> list[Returned]:
    """Rows of people who were forgotten, in what has been loaded of these days."""
    found = []
    for kind, source, value, digests in _returning(warehouse, dataset, first, last):
        rows = warehouse.engine.execute(
            # A key that tells of the person isn't told to everybody who reads of checks.
            f"select case when contains(_object, trim({value})) then 'sha256:' || left(sha256(_object), 32) else _object end, _day,"
            f" count(*) from ({source}) where {value} is not null and list_contains($digests,"
            f" {digest_sql(salt_of(warehouse), kind, value)}) group by 1, 2 order by 1",
            {"digests": sorted(digests)},
        ).fetchall()
        found += [Returned(dataset.name, day, kind, key, count) for key, day, count in rows]
    return found


def who_returned(warehouse: Warehouse) -> list[tuple[str, str]]:
    """Kind and value of the keys of people who were forgotten and are there again."""
    found: set[tuple[str, str]] = set()
    for dataset in warehouse.datasets.values():
        for kind, source, value, digests in _returning(warehouse, dataset, date.min, date.max):
            rows = warehouse.engine.execute(
                f"select distinct trim({value}) from ({source}) where {value} is not null and list_contains($digests,"
                f" {digest_sql(salt_of(warehouse), kind, value)})",
                {"digests": sorted(digests)},
            ).fetchall()
            found |= {(kind, one) for (one,) in rows}
    return sorted(found)


def _returning(
    warehouse: Warehouse, dataset: Dataset, first: date, last: date
) -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """For each column with keys of people of whom some were forgotten: kind, SQL of rows, SQL of the value, digests."""
    people = warehouse.forgotten.people(dataset.people)
    if not people:
        return
    files = warehouse.ledger.files(dataset.raw, first=first, last=last)
    if not files:
        return
    source = relation(warehouse.store, files, warehouse.raw_columns(dataset))
    for kind, digests in people.items():
        for column in dataset.people[kind]:
            yield kind, source, name(column.name), digests
