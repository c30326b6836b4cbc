"""
Changes that a capture has read of a database's log, on their way into one batch of a stream.

Belongs here: what is the same for every kind of database. Doesn't: any database's log (`postgres_changes.py`, `mariadb_changes.py`).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ingestion_platform.formats.segments import ENVELOPE

BEGIN_ANEW = (
    "what happened in between can't be had any more. Launch the landing asset with `anew: true`: the gap is then recorded, and the"
    " tables are read again as they are now"
)

_NAMES = pa.array(["table", "operation", "transaction", "unsent"], pa.string())
"""Names of headers, in order; the last one is there only where something wasn't sent."""


class Gathered:
    """Records on their way into one batch."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._positions: list[str] = []
        self._moments: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[bytes] = []
        self._longer: list[int] = []

    def __len__(self) -> int:
        return len(self._positions)

    def add(
        self,
        position: str,
        moment: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[bytes, bytes, bytes],
        unsent: bytes | None = None,
    ) -> None:
        """Take a record; *moment* in microseconds since 1970, *headers* in the order of their names."""
        self._positions.append(position)
        self._moments.append(moment)
        self._keys.append(key)
        self._values.append(value)
        self._headers += headers
        if unsent is not None:
            self._longer.append(len(self._positions) - 1)
            self._headers.append(unsent)
        self.size_bytes += (len(key) if key is not None else 0) + (len(value) if value is not None else 0) + 48

    def add_alike(
        self,
        positions: Sequence[str],
        moment: int,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        headers: tuple[bytes, bytes, bytes],
    ) -> None:
        """Take records of one moment, with the same headers."""
        self._positions += positions
        self._moments += [moment] * len(positions)
        self._keys += keys
        self._values += values
        self._headers += headers * len(positions)
        self.size_bytes += sum(map(len, keys)) + sum(map(len, values)) + 48 * len(positions)

    def cut(self, length: int) -> None:
        """Take back all records but the first so many."""
        headers = 3 * length + sum(place < length for place in self._longer)
        for places in (self._positions, self._moments, self._keys, self._values):
            del places[length:]
        del self._headers[headers:]
        self._longer = [place for place in self._longer if place < length]

    def taken(self) -> tuple[pa.RecordBatch, int, int]:
        """The batch, its first position and its last."""
        rows = len(self._positions)
        widths = np.full(rows, 3, np.int32)
        widths[self._longer] = 4
        ends = np.concatenate([[0], np.cumsum(widths, dtype=np.int32)])
        # The place of a header in its own record is the place of its name.
        names = _NAMES.take(pa.array(np.arange(ends[-1], dtype=np.int32) - np.repeat(ends[:-1], widths)))
        pairs = pa.StructArray.from_arrays(
            [names, pa.array(self._headers, pa.binary())], fields=list(ENVELOPE.field("headers").type.value_type)
        )
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array(self._positions, pa.string()),
                pa.nulls(rows, pa.int32()),
                pa.array(np.array(self._moments, np.int64)).cast(pa.timestamp("us", tz="UTC")),
                pa.array(self._keys, pa.binary()),
                pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pairs).cast(ENVELOPE.field("headers").type),
                pa.array(self._values, pa.binary()),
                pa.nulls(rows, pa.string()),
            ],
            schema=ENVELOPE,
        )
        return batch, int(self._positions[0]), int(self._positions[-1])
