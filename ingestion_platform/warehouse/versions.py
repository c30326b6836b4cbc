"""
Versions: the history of reports that wait for senders, from provisional to final to restated.

Belongs here: the ledger's table of them. Doesn't: what state a partition is in (`attendance.py`), computing it (`derive.py`).

Of versions that were provisional only the last is kept: nobody was told to rely on one. What a rebuild makes begins a history anew.
"""

import sqlite3
from dataclasses import dataclass
from datetime import date, datetime

from ingestion_platform.warehouse.ledger_file import LedgerFile, now, seal
from ingestion_platform.warehouse.ledger_rows import PartitionRow

SCHEMA = """
create table if not exists versions (
    table_name text not null, day text not null, version integer not null, state text not null, content text not null,
    rows integer not null, why text not null, at text not null, run_id text not null, seal text not null,
    primary key (table_name, day, version)
) strict, without rowid;
"""


@dataclass(frozen=True, slots=True)
class Version:
    """
    A version of a report's partition.

    Args:
        table: `reports.daily_sales`.
        day: of the partition.
        number: from 1.
        state: `provisional`, `final` or `restated`.
        content: SHA-256 of its rows' file.
        rows: in it.
        why: what made it.
        at: when.
        run_id: whose run did.
    """

    table: str
    day: date
    number: int
    state: str
    content: str
    rows: int
    why: str
    at: datetime
    run_id: str


class Versions:
    """
    The versions of a warehouse's reports.

    Args:
        file: the ledger's.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def note(self, connection: sqlite3.Connection, row: PartitionRow, state: str, why: str) -> None:
        """
        Note a partition, in the transaction that makes it visible; one that is what it was isn't noted again.

        Args:
            connection: of that transaction.
            row: the partition as it is now.
            state: of it.
            why: what made it; where the rows are others though the state isn't, something else than senders did.
        """
        last = connection.execute(
            "select * from versions where table_name = ? and day = ? order by version desc limit 1",
            (row.table_name, row.day),
        ).fetchone()
        if last is not None and (last["state"], last["content"]) == (state, row.content):
            return
        number = 1 if last is None else last["version"] + (last["state"] != "provisional" or state != "provisional")
        if last is not None and last["state"] == state == "final":
            why = f"its rows changed, and not by senders who were late; {why}"
        values = (row.table_name, row.day, number, state, row.content, row.rows, why, now(), row.run_id)
        connection.execute(
            "insert or replace into versions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, seal(values))
        )

    def of(self, table: str | None = None, day: date | None = None) -> list[Version]:
        """The versions of a table and day, or of all, oldest first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "select * from versions where (? is null or table_name = ?) and (? is null or day = ?) order by 1, 2, 3",
                (table, table, *((day.isoformat() if day else None,) * 2)),
            ).fetchall()
            found = []
            for row in rows:
                values = tuple(row)[:9]
                self._file.check_seal(row, values, f"version {row['version']} of {row['table_name']} {row['day']}")
                found.append(
                    Version(
                        values[0], self._file.date_of(values[1]), values[2], values[3], values[4], values[5], values[6],
                        datetime.fromisoformat(values[7]), values[8],
                    )
                )  # fmt: skip
        return found
