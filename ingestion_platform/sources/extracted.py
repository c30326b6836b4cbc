"""
An extract in the landing zone: what its notes say, which keys it has landed, where its cursor stands.

Belongs here: what has landed of it. Doesn't: reading the database (`extract.py`).
"""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.database import Extract
from ingestion_platform.errors import LandingError, ObjectRejected
from ingestion_platform.fetch_folders import LandedFetch
from ingestion_platform.formats.extracts import RowsNote, column_name, note_of
from ingestion_platform.landing import LandingZone
from ingestion_platform.sources.fetched import LandedFetches

DIGEST_BYTES = 16
"""Of a row: 128 bits tell rows apart."""


@dataclass(frozen=True, slots=True)
class NotedGroup:
    """
    A group as the note of its extract has it.

    Args:
        part: which range of the table or query it is of.
        place: its number among those of the range, from 0.
        same: digest of its text.
        rows: how many.
        number: of the group.
    """

    part: int
    place: int
    same: str
    rows: int
    number: int


@dataclass(frozen=True, slots=True)
class ExtractNote:
    """
    What lands last of an extract, and says that it is whole.

    Args:
        plan: digest of what is read, and how.
        groups: that it landed, in no order.
        rows: of all of them.
        extracted_at: whose state it is: ISO 8601, UTC, by the database's clock.
        cursor: the greatest that has landed, as the database writes it; None without one.
        window: digests of the rows that the next extract will read again, one behind the other, in base64.
        began: the extract that began anew last: what landed before it is void. Its day, and its name.
        swept: the last extract that has compared all keys, by its name; None: none has.
        took: what it took: seconds, connections, …
    """

    plan: str
    groups: tuple[NotedGroup, ...]
    rows: int
    extracted_at: str
    cursor: str | None = None
    window: str = ""
    began: tuple[str, str] | None = None
    swept: str | None = None
    took: Mapping[str, float] = field(default_factory=dict)

    @property
    def digests(self) -> frozenset[bytes]:
        """Digests of the rows that the next extract will read again."""
        found = base64.b64decode(self.window)
        return frozenset(found[at : at + DIGEST_BYTES] for at in range(0, len(found), DIGEST_BYTES))

    @property
    def swept_at(self) -> datetime | None:
        """When keys were compared last, UTC."""
        return LandedFetch(self.swept, (), None).began_at if self.swept is not None else None

    def written(self, extract: str, day: date) -> bytes:
        """As it lands."""
        return json.dumps(
            {"extract": extract, "day": day.isoformat(), **asdict(self)}, ensure_ascii=False, indent=1
        ).encode()

    @classmethod
    def parse(cls, content: bytes, key: str) -> "ExtractNote":
        """
        Read one.

        Raises:
            LandingError: it isn't one that the platform wrote.
        """
        try:
            values: dict[str, Any] = json.loads(content)
            del values["extract"], values["day"]
            groups = tuple(NotedGroup(**group) for group in values.pop("groups"))
            began = values.pop("began")
            note = cls(groups=groups, began=(began[0], began[1]) if began else None, **values)
            base64.b64decode(note.window, validate=True)
            return note
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise LandingError(
                f"{key} is no note of an extract: {error}",
                "move it away: the next extract goes on after the one before",
            ) from error


def window_of(digests: Sequence[bytes]) -> str:
    """Digests as a note has them."""
    return base64.b64encode(b"".join(sorted(set(digests)))).decode()


class LandedExtract(LandedFetches):
    """
    What has landed of an extract.

    Args:
        extract: which.
        landing: where.
    """

    def __init__(self, extract: Extract, landing: LandingZone) -> None:
        super().__init__(extract, landing)
        self.extract = extract

    def note(self, fetch: LandedFetch) -> ExtractNote:
        """
        The note of a whole extract.

        Raises:
            LandingError: it isn't one that the platform wrote.
        """
        assert fetch.done is not None, "only a whole extract has a note"
        return ExtractNote.parse(self._read(fetch.done), fetch.done)

    def put_note(self, day: date, fetch: str, groups: int, note: ExtractNote) -> None:
        """Land the note that makes an extract whole."""
        self._put(self.extract.done_key(day, fetch, groups), note.written(self.extract.name, day))

    def landed_since(
        self, began: tuple[str, str], until: date, columns: Sequence[str]
    ) -> Iterator[tuple[str, pa.Table]]:
        """
        Some columns of all rows that have landed since an extract that began anew, in the order of extracts.

        Args:
            began: its day, and its name.
            until: the last day looked at.
            columns: of the database.

        Yields:
            What the rows tell, and the columns that are there.

        Raises:
            LandingError: a group is damaged, or lacks a column.
        """
        first, name = date.fromisoformat(began[0]), began[1]
        for number in range((until - first).days + 1):
            for fetch in self.fetches(first + timedelta(days=number)):
                if fetch.is_whole and fetch.name >= name:
                    for key in fetch.groups:
                        yield self._columns(key, columns)

    def _columns(self, key: str, columns: Sequence[str]) -> tuple[str, pa.Table]:
        try:
            with pq.ParquetFile(io.BytesIO(self.content(key)), page_checksum_verification=True) as file:
                note: RowsNote = note_of(file)
                names = [column_name(column) for column in columns]
                missing = [name for name in names if name not in file.schema_arrow.names]
                if missing:
                    raise LandingError(
                        f"{key} has no column {missing[0]!r}, which the extract's key or cursor is now",
                        "begin anew: launch the landing asset with `restart: true`",
                    )
                table = file.read(columns=names, use_threads=False)
                return note.operation, table.select(names).rename_columns(list(columns))
        except (pa.ArrowException, OSError, ObjectRejected) as error:
            what = error.what if isinstance(error, ObjectRejected) else str(error)
            raise LandingError(
                f"{key} is damaged: {what}", "begin anew: launch the landing asset with `restart: true`"
            ) from error
