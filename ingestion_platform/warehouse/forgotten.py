"""
Who was forgotten, without saying who: salted digests in the landing zone and the ledger, and what was done to which object.

Belongs here: the notes that land, the ledger's tables of them, and digests. Doesn't: forgetting (`forget.py`).

What is about to be done lands before it is done, and that it is done lands last:

    forgotten/20241003T081500123456Z-9e107d9d/begun-1.json    whom by digest, who asked, the objects with their digests before and after
    forgotten/20241003T081500123456Z-9e107d9d/done.json       the certificate

A digest is of the kind of key, its value and the salt of hashed columns, made otherwise than those are. Who has the salt and a guess can
tell that somebody was forgotten; nobody can read it off. It is kept so that one who comes back is noticed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ingestion_platform.errors import LandingError
from ingestion_platform.landing import LandingZone
from ingestion_platform.own_roots import FORGOTTEN as ROOT
from ingestion_platform.warehouse.ledger_file import LedgerFile, seal

SCHEMA = """
create table if not exists forgotten (
    id text not null, kind text not null, digest text not null, at text not null, seal text not null, primary key (id, kind, digest)
) strict, without rowid;
create table if not exists rewritten (
    key text not null, before text not null, after text not null, id text not null, seal text not null, primary key (key, after)
) strict, without rowid;
create table if not exists forgotten_taken_in (landed_as text primary key) strict, without rowid;
"""

Doing = Literal["rewrite", "remove"]

_KEY = re.compile(rf"{ROOT}(?P<id>[0-9]{{8}}T[0-9]{{12}}Z-[0-9a-f]{{8}})/(?P<what>begun-(?P<number>[0-9]+)|done)\.json")
_STAMP = "%Y%m%dT%H%M%S%fZ"
MOST_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Change:
    """
    What is done to one landed object.

    Args:
        key: of the object; of one whose key tells of the person, a digest of it.
        before: SHA-256 of its bytes.
        after: SHA-256 of its bytes then; empty of one that is removed.
        rows: first and last number of each run of records that go.
        emptied: likewise, of those that stay without what is personal.
        counts: dataset → rows of it among both.
    """

    key: str
    before: str
    after: str
    rows: tuple[tuple[int, int], ...] = ()
    emptied: tuple[tuple[int, int], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def doing(self) -> Doing:
        """Whether it stays."""
        return "rewrite" if self.after else "remove"

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "Change":
        """From what landed."""
        return cls(
            str(values["key"]),
            str(values["before"]),
            str(values["after"]),
            tuple((int(first), int(last)) for first, last in values["rows"]),
            tuple((int(first), int(last)) for first, last in values["emptied"]),
            {str(name): int(count) for name, count in values["counts"].items()},
        )


@dataclass(frozen=True, slots=True)
class Begun:
    """
    One person's forgetting that has begun.

    Args:
        id: of it.
        at: when it began, UTC.
        by: who asked for it.
        why: his reason.
        people: kind and digest of each key of the person.
        changes: of landed objects.
    """

    id: str
    at: datetime
    by: str
    why: str
    people: tuple[tuple[str, str], ...]
    changes: tuple[Change, ...]

    @property
    def content(self) -> bytes:
        """As it lands."""
        values = {**asdict(self), "at": self.at.isoformat(timespec="microseconds")}
        return json.dumps(values, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> "Begun":
        """From its content."""
        values = json.loads(content)
        return cls(
            str(values["id"]),
            datetime.fromisoformat(values["at"]).astimezone(UTC),
            str(values["by"]),
            str(values["why"]),
            tuple((str(kind), str(digest)) for kind, digest in values["people"]),
            tuple(Change.parse(one) for one in values["changes"]),
        )


def digest_key(salt: str) -> str:
    """What digests of forgotten people are made with; not what hashed columns are made with."""
    return hashlib.sha256(f"forgotten people: {salt}".encode()).hexdigest()


def digest_of(salt: str, kind: str, value: str) -> str:
    """What stands for a forgotten person."""
    return hashlib.sha256(f"{digest_key(salt)}{kind}:{value.strip()}".encode()).hexdigest()


def digest_sql(salt: str, kind: str, value: str) -> str:
    """SQL of the same; *value* is SQL of a text."""
    lead = f"{digest_key(salt)}{kind}:".replace("'", "''")
    return f"sha256('{lead}' || trim({value}))"


def new_id(at: datetime, people: Iterable[tuple[str, str]]) -> str:
    """A name for a forgetting that begins."""
    return f"{at.strftime(_STAMP)}-{hashlib.sha256(repr(sorted(people)).encode()).hexdigest()[:8]}"


class Forgotten:
    """
    What the landing zone and the ledger know of people who were forgotten.

    Args:
        file: the ledger's.
        landing: where the notes land.
    """

    def __init__(self, file: LedgerFile, landing: LandingZone) -> None:
        self._file = file
        self._landing = landing

    # --- landing

    def begin(self, begun: Begun) -> str:
        """Land what is about to be done; its key."""
        number = 1
        while not self._landing.put_if_absent(key := f"{ROOT}{begun.id}/begun-{number}.json", begun.content):
            number += 1
        self._keep([(key, begun)])
        return key

    def end(self, id_: str, certificate: Mapping[str, Any]) -> str:
        """Land that it is done; its key."""
        key = f"{ROOT}{id_}/done.json"
        content = json.dumps(certificate, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"
        self._landing.put_if_absent(key, content)
        return key

    def landed(self) -> tuple[dict[str, list[Begun]], set[str]]:
        """
        All that has begun, by id, and the ids of what is done.

        Raises:
            LandingError: a note isn't what was written.
        """
        begun: dict[str, list[Begun]] = {}
        done = set()
        for landed in self._landing.list(ROOT):
            found = _KEY.fullmatch(landed.key)
            if found is None:
                continue
            if found["what"] == "done":
                done.add(found["id"])
                continue
            begun.setdefault(found["id"], []).append(self._read(landed.key))
        return begun, done

    def _read(self, key: str) -> Begun:
        landed = next(one for one in self._landing.list(key) if one.key == key)
        try:
            if landed.size_bytes > MOST_BYTES:
                raise ValueError(f"it has {landed.size_bytes:,} bytes")
            return Begun.parse(self._landing.read(landed))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LandingError(
                f"{key} can't be read: {error}",
                "somebody else wrote or changed it: restore it from a backup; without it, who was forgotten isn't known",
            ) from error

    # --- the ledger

    def take_in(self) -> None:
        """
        Note what has landed since the last look.

        Raises:
            LandingError: a note isn't what was written.
            LandingUnavailable: no answer after every attempt.
        """
        with self._file.reading() as connection:
            known = {key for (key,) in connection.execute("select landed_as from forgotten_taken_in")}
        new = []
        for landed in self._landing.list(ROOT):
            found = _KEY.fullmatch(landed.key)
            if found is not None and found["what"] != "done" and landed.key not in known:
                new.append((landed.key, self._read(landed.key)))
        if new:
            self._keep(new)

    def _keep(self, found: Sequence[tuple[str, Begun]]) -> None:
        with self._file.writing() as connection:
            for key, begun in found:
                at = begun.at.isoformat(timespec="microseconds")
                people = [(begun.id, kind, digest, at) for kind, digest in begun.people]
                changes = [(one.key, one.before, one.after, begun.id) for one in begun.changes if one.after]
                connection.executemany(
                    "insert or replace into forgotten values (?, ?, ?, ?, ?)", [(*row, seal(row)) for row in people]
                )
                connection.executemany(
                    "insert or replace into rewritten values (?, ?, ?, ?, ?)", [(*row, seal(row)) for row in changes]
                )
                connection.execute("insert or ignore into forgotten_taken_in values (?)", (key,))

    def people(self, kinds: Iterable[str]) -> dict[str, frozenset[str]]:
        """Kind → digests of those who were forgotten, of some kinds."""
        wanted = set(kinds)
        found: dict[str, set[str]] = {}
        if not wanted or not self._file.exists:
            return {}
        with self._file.reading() as connection:
            for row in connection.execute("select * from forgotten").fetchall():
                self._file.check_seal(row, tuple(row)[:4], f"forgotten {row['id']!r}")
                if row["kind"] in wanted:
                    found.setdefault(row["kind"], set()).add(row["digest"])
        return {kind: frozenset(digests) for kind, digests in found.items()}

    def is_rewritten(self, key: str, sha256: str) -> bool:
        """Whether an object has these bytes because somebody in it was forgotten."""
        with self._file.reading() as connection:
            row = connection.execute("select 1 from rewritten where key = ? and after = ?", (key, sha256)).fetchone()
        return row is not None
