"""
Receipts: what was seen of objects whose content or time can't be seen in the landing zone any more, since others took their place.

Belongs here: the note in the landing zone, and the ledger's table of it. Doesn't: what follows from it (`attendance.py`).

An object that is overwritten takes the moment of its first version with it, and one that is touched its own. Who was on time, and whether a
report was final before something came, would be other truths after a rebuild. So a load that replaces or touches objects of senders notes
in the landing zone what was there: one small object a load, named by its content, and none where nothing was overwritten.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from ingestion_platform.errors import LandingError
from ingestion_platform.landing import LandingZone
from ingestion_platform.own_roots import RECEIPTS
from ingestion_platform.warehouse.ledger_file import LedgerFile, seal
from ingestion_platform.warehouse.ledger_rows import ObjectRow

SCHEMA = """
create table if not exists receipts (
    dataset text not null, day text not null, key text not null, version text not null, landed_at text not null,
    is_usable integer not null, rows integer not null, seal text not null, primary key (dataset, day, key, version, landed_at)
) strict, without rowid;
create table if not exists receipts_taken_in (landed_as text primary key) strict, without rowid;
"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    A version of an object as it once was in the landing zone.

    Args:
        dataset: whose.
        day: of its key.
        key: in the landing zone.
        version: SHA-256 of its bytes, or what stands for them where they couldn't be read.
        landed_at: as the landing zone said then; UTC.
        is_usable: whether it could be read.
        rows: that entered raw.
    """

    dataset: str
    day: str
    key: str
    version: str
    landed_at: str
    is_usable: bool
    rows: int

    @property
    def at(self) -> datetime:
        """When it landed."""
        return datetime.fromisoformat(self.landed_at)


def receipt_of(row: ObjectRow) -> Receipt:
    """What the ledger knows of an object, before another version or time takes its place."""
    is_usable = row.state in ("loaded", "duplicate", "pending")
    return Receipt(row.dataset, row.day, row.key, row.version, row.landed_at, is_usable, row.rows_loaded)


class Receipts:
    """
    The receipts of a warehouse.

    Args:
        file: the ledger's.
        landing: where they land.
    """

    def __init__(self, file: LedgerFile, landing: LandingZone) -> None:
        self._file = file
        self._landing = landing

    def note(self, receipts: Sequence[Receipt], *, lands: bool) -> None:
        """
        Keep receipts of one dataset and day: in the landing zone first, so that nothing is known here that a rebuild wouldn't know.

        Args:
            receipts: at least one.
            lands: whether they land; what nobody judges by the clock needn't.

        Raises:
            LandingError: the landing zone takes nothing.
        """
        landed_as = []
        if lands:
            ordered = sorted((asdict(one) for one in receipts), key=lambda one: json.dumps(one, sort_keys=True))
            content = json.dumps(ordered, indent=1, sort_keys=True).encode() + b"\n"
            digest = hashlib.sha256(content).hexdigest()[:16]
            first = receipts[0]
            key = f"{RECEIPTS}{first.dataset}/{first.day.replace('-', '/')}/{digest}.json"
            try:
                self._landing.put_if_absent(key, content)
            except LandingError as error:
                error.hint = error.hint or (
                    "a dataset with a cutoff notes there what was overwritten: the platform needs leave to write"
                )
                raise
            landed_as.append(key)
        self._keep(receipts, landed_as)

    def _keep(self, receipts: Iterable[Receipt], landed_as: Sequence[str]) -> None:
        values = [
            (one.dataset, one.day, one.key, one.version, one.landed_at, int(one.is_usable), one.rows)
            for one in receipts
        ]
        with self._file.writing() as connection:
            connection.executemany(
                "insert or replace into receipts values (?, ?, ?, ?, ?, ?, ?, ?)",
                [(*value, seal(value)) for value in values],
            )
            connection.executemany("insert or ignore into receipts_taken_in values (?)", [(key,) for key in landed_as])

    def take_in(self) -> int:
        """
        Read the receipts that have landed and aren't known, all of them in a rebuild; the answer is how many.

        Raises:
            LandingError: one isn't what was written.
        """
        with self._file.reading() as connection:
            known = {key for (key,) in connection.execute("select landed_as from receipts_taken_in")}
        found: list[Receipt] = []
        landed_as = []
        for landed in self._landing.list(RECEIPTS):
            # Its name is made of its content: nothing else lands under it.
            if landed.key in known:
                continue
            landed_as.append(landed.key)
            try:
                found += [_parse(one) for one in json.loads(self._landing.read(landed))]
            except (ValueError, TypeError, KeyError) as error:
                raise LandingError(
                    f"the receipt {landed.key} can't be read: {error}",
                    "somebody else wrote or changed it; without it, who was on time may come out otherwise",
                ) from error
        if landed_as:
            self._keep(found, landed_as)
        return len(found)

    def of(self, dataset: str, first: date, last: date) -> list[Receipt]:
        """The receipts of these days, by key and moment."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "select * from receipts where dataset = ? and day >= ? and day <= ? order by key, landed_at, version",
                (dataset, first.isoformat(), last.isoformat()),
            ).fetchall()
            found = []
            for row in rows:
                values = tuple(row)[:7]
                self._file.check_seal(row, values, f"receipt of {row['key']!r}")
                name, day, key, version, landed_at, is_usable, number = values
                found.append(Receipt(name, day, key, version, landed_at, bool(is_usable), number))
        return found


def _parse(values: dict[str, Any]) -> Receipt:
    receipt = Receipt(
        str(values["dataset"]), str(values["day"]), str(values["key"]), str(values["version"]), str(values["landed_at"]),
        bool(values["is_usable"]), int(values["rows"]),
    )  # fmt: skip
    date.fromisoformat(receipt.day)
    if receipt.at.tzinfo is None:
        raise ValueError(f"{receipt.landed_at} has no offset")
    return receipt
