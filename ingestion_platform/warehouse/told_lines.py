"""
Which lines of senders' notes were told already, so that nobody is told the same thing every day.

Belongs here: the ledger's table of them. Doesn't: the notes (`sender_notes.py`). What a rebuild makes has told nobody anything.
"""

from collections.abc import Collection

from ingestion_platform.warehouse.ledger_file import LedgerFile, now

SCHEMA = """
create table if not exists told_lines (sender text not null, line text not null, told_at text not null, primary key (sender, line))
strict, without rowid;
"""


class ToldLines:
    """
    What senders were told already.

    Args:
        file: the ledger's.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def has_news(self, sender: str, lines: Collection[str]) -> bool:
        """Whether one of these lines, told by their digests, wasn't told to a sender before."""
        with self._file.reading() as connection:
            known = {line for (line,) in connection.execute("select line from told_lines where sender = ?", (sender,))}
        return not known.issuperset(lines)

    def note(self, sender: str, lines: Collection[str]) -> None:
        """A sender was told these lines."""
        moment = now()
        with self._file.writing() as connection:
            connection.executemany(
                "insert or ignore into told_lines values (?, ?, ?)",
                [(sender, line, moment) for line in lines],
            )
