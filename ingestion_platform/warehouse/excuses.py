"""
Excuses: a person's word that senders needn't send for some days.

Belongs here: landing it, and the ledger's table of those that have landed. Doesn't: what follows from it (`completeness.py`).

An excuse is a decision of kind `excuse`; a later one about the same sender and day takes the place of a former, and may withdraw it.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ingestion_platform.completeness import Excuse
from ingestion_platform.dataset import Dataset
from ingestion_platform.decisions import Decision
from ingestion_platform.errors import DeclarationError
from ingestion_platform.landing import LandingZone
from ingestion_platform.warehouse.days import span
from ingestion_platform.warehouse.decided import LandedDecisions
from ingestion_platform.warehouse.ledger_file import LedgerFile, seal

log = logging.getLogger(__name__)

KIND = "excuse"
MOST_DAYS = 366

SCHEMA = """
create table if not exists excuses (
    dataset text not null, decision text not null, at text not null, by text not null, why text not null, first text not null,
    last text not null, senders text not null, is_withdrawn integer not null, seal text not null, primary key (dataset, decision)
) strict, without rowid;
"""


class Excuses:
    """
    The excuses of a warehouse.

    Args:
        file: the ledger's.
        landing: where they land.
    """

    def __init__(self, file: LedgerFile, landing: LandingZone) -> None:
        self._file = file
        self._landed = LandedDecisions(landing)

    def excuse(
        self,
        dataset: Dataset,
        senders: Sequence[str],
        first: date,
        last: date,
        *,
        by: str,
        why: str,
        at: datetime,
        is_withdrawn: bool = False,
    ) -> str:
        """
        Land an excuse, and take it in.

        Args:
            dataset: whose senders they are.
            senders: their ids; known to a roster or not.
            first: the first day of it.
            last: the last one.
            by: who excuses them.
            why: the reason, for those who come after.
            at: the moment, UTC.
            is_withdrawn: they are expected after all.

        Returns:
            The decision's key.

        Raises:
            DeclarationError: the dataset has no senders, or the days are none.
            LandingError: it can't land.
        """
        require_excuse(dataset, senders, first, last)
        what = {
            "senders": sorted(set(senders)),
            "first": first.isoformat(),
            "last": last.isoformat(),
            "withdrawn": is_withdrawn,
        }
        key = self._landed.put(Decision(KIND, dataset.name, at.astimezone(UTC), by, why, what))
        self.take_in(dataset)
        return key

    def strike(self, key: str) -> None:
        """Strike out what was taken in of a decision that isn't in the landing zone any more."""
        with self._file.writing() as connection:
            connection.execute("delete from excuses where decision = ?", (key,))

    def take_in(self, dataset: Dataset) -> int:
        """Read the excuses of a dataset that have landed and aren't known; the answer is how many."""
        with self._file.reading() as connection:
            known = {
                key for (key,) in connection.execute("select decision from excuses where dataset = ?", (dataset.name,))
            }
        decided = self._landed.list(KIND, dataset.name, known=known)
        rows = []
        for broken in decided.broken:
            log.warning("%s", broken.reason)
        for one in decided.decisions:
            try:
                senders, first, last, is_withdrawn = _parse(one.decision.what)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("the excuse %r counts for nothing: %s", one.key, error)
                continue
            values = (
                dataset.name, one.key, one.decision.at.isoformat(), one.decision.by, one.decision.why, first.isoformat(),
                last.isoformat(), "\n".join(senders), int(is_withdrawn),
            )  # fmt: skip
            rows.append((*values, seal(values)))
        if rows:
            with self._file.writing() as connection:
                connection.executemany("insert or replace into excuses values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return len(rows)

    def of(self, dataset: str, first: date, last: date) -> list[Excuse]:
        """What is excused of these days; what was withdrawn is left out."""
        standing: dict[tuple[str, date], Excuse | None] = {}
        with self._file.reading() as connection:
            rows = connection.execute(
                "select * from excuses where dataset = ? and last >= ? and first <= ? order by at, decision",
                (dataset, first.isoformat(), last.isoformat()),
            ).fetchall()
            for row in rows:
                self._file.check_seal(row, tuple(row)[:9], f"excuse {row['decision']!r}")
                at = datetime.fromisoformat(row["at"])
                begin, end = max(first, self._file.date_of(row["first"])), min(last, self._file.date_of(row["last"]))
                for day in span(begin, end):
                    for sender in row["senders"].split("\n"):
                        excuse = Excuse(sender, day, row["by"], row["why"], at)
                        standing[sender, day] = None if row["is_withdrawn"] else excuse
        return [excuse for excuse in standing.values() if excuse is not None]


def require_excuse(dataset: Dataset, senders: Sequence[str], first: date, last: date) -> None:
    """
    Refuse an excuse that is none.

    Raises:
        DeclarationError: the dataset has no senders, none is named, or the days are none.
    """
    if dataset.senders is None:
        raise DeclarationError(f"dataset {dataset.name!r} expects nobody", "declare its senders")
    if not senders or not all(senders):
        raise DeclarationError("an excuse names no sender", "--sender S0001")
    if not all(one.isprintable() for one in senders):
        raise DeclarationError(f"{list(senders)!r} aren't ids of senders", "an id is on one line")
    if not 0 <= (last - first).days < MOST_DAYS:
        raise DeclarationError(
            f"an excuse is of 1 to {MOST_DAYS} days, not from {first} to {last}",
            "who sends no more has a last day on the roster",
        )


def _parse(what: Any) -> tuple[list[str], date, date, bool]:
    senders = what["senders"]
    if not isinstance(senders, list) or not senders or not all(isinstance(one, str) and one for one in senders):
        raise ValueError("its senders aren't a list of ids")
    if any("\n" in one for one in senders):
        raise ValueError("an id has a line end")
    first, last = date.fromisoformat(what["first"]), date.fromisoformat(what["last"])
    if not timedelta(0) <= last - first < timedelta(days=MOST_DAYS):
        raise ValueError("its days aren't any")
    if not isinstance(what["withdrawn"], bool):
        raise TypeError("withdrawn is true or false")
    return senders, first, last, what["withdrawn"]
