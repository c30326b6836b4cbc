"""
Where objects are: what was last seen, made anew by every listing, and so without a seal; and what is being fetched back from an archive.

Belongs here: the ledger's tables `places` and `waits`, which are no part of any table's inputs. Doesn't: deciding where an object should be
(`lifecycle.py`), asking for one (`load.py`).
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime

from ingestion_platform.lifecycle import Place
from ingestion_platform.warehouse.ledger_file import LedgerFile
from ingestion_platform.warehouse.results import Waiting

SCHEMA = """
create table if not exists places (key text primary key, place text not null) strict, without rowid;
create table if not exists waits (
    dataset text not null, day text not null, key text not null, size_bytes integer not null, asked_at text not null,
    expected_at text not null, primary key (dataset, key)
) strict, without rowid;
create index if not exists waits_by_day on waits (dataset, day);
"""


class Places:
    """
    What the ledger notes of places.

    Args:
        file: the ledger's.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def known(self, first_key: str, last_key: str) -> dict[str, Place]:
        """Key → where it was when it was last listed, of those between these keys that weren't hot."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "select key, place from places where key >= ? and key <= ?", (first_key, last_key)
            ).fetchall()
        return dict(rows)

    def note(self, places: Mapping[str, Place]) -> None:
        """Note where objects are, as far as that isn't known."""
        if not places:
            return
        known = self.known(min(places), max(places))
        changed = {key: place for key, place in places.items() if known.get(key, "hot") != place}
        if not changed:
            return
        with self._file.writing() as connection:
            connection.executemany(
                "insert or replace into places values (?, ?)",
                [(key, place) for key, place in changed.items() if place != "hot"],
            )
            connection.executemany(
                "delete from places where key = ?", [(key,) for key, place in changed.items() if place == "hot"]
            )

    def of_dataset(self, dataset: str) -> dict[Place, tuple[int, int]]:
        """Place → objects that the ledger knows of a dataset, in their newest version, and their bytes."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "select coalesce(places.place, 'hot'), count(*), sum(size_bytes) from objects left join places using (key)"
                " where dataset = ? and is_current = 1 group by 1",
                (dataset,),
            ).fetchall()
        return {place: (objects, size_bytes) for place, objects, size_bytes in rows}

    def waits(self, dataset: str, day: date | None = None) -> dict[str, Waiting]:
        """Key → what is being fetched back from an archive to be read, of one day or of all."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "select dataset, day, key, size_bytes, asked_at, expected_at from waits"
                " where dataset = ? and (day = ? or ?) order by key",
                (dataset, day.isoformat() if day else "", day is None),
            ).fetchall()
        return {
            key: Waiting(
                name,
                self._file.date_of(iso),
                key,
                size_bytes,
                datetime.fromisoformat(asked),
                datetime.fromisoformat(expected),
            )
            for name, iso, key, size_bytes, asked, expected in rows
        }

    def note_waits(self, dataset: str, waiting: Iterable[Waiting], settled: Iterable[str]) -> None:
        """Note objects that are waited for, and strike out those that no longer are."""
        rows = [
            (
                one.dataset,
                one.day.isoformat(),
                one.key,
                one.size_bytes,
                one.asked_at.isoformat(),
                one.expected_at.isoformat(),
            )
            for one in waiting
        ]
        keys = [(dataset, key) for key in settled]
        if not rows and not keys:
            return
        with self._file.writing() as connection:
            connection.executemany("insert or replace into waits values (?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("delete from waits where dataset = ? and key = ?", keys)
