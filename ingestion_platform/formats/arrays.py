"""
Arrays of one value many times, and of texts, made of their buffers.

Belongs here: what `pyarrow.array`, `scalar` and `repeat` give, without the import of pandas that the first call of these does in every
process (half a second of CPU, 60 MB of memory) to see whether it is given something of pandas.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

_EPOCH = date(1970, 1, 1).toordinal()


def repeated_text(value: str, rows: int) -> "pa.Array[Any]":
    """*rows* times a text."""
    octets = value.encode()
    offsets = np.arange(rows + 1, dtype=np.int64) * len(octets)
    if int(offsets[-1]) > np.iinfo(np.int32).max:
        return pa.repeat(pa.scalar(value, pa.string()), rows)
    return pa.Array.from_buffers(
        pa.string(), rows, [None, pa.py_buffer(offsets.astype(np.int32).data), pa.py_buffer(octets * rows)]
    )


def repeated_day(value: date, rows: int) -> "pa.Array[Any]":
    """*rows* times a day."""
    days = np.full(rows, value.toordinal() - _EPOCH, np.int32)
    return pa.Array.from_buffers(pa.date32(), rows, [None, pa.py_buffer(days.data)])


def texts(values: Sequence[str]) -> "pa.Array[Any]":
    """Texts, none of them NULL."""
    octets = [value.encode() for value in values]
    offsets = np.zeros(len(octets) + 1, np.int64)
    np.cumsum([len(one) for one in octets], out=offsets[1:])
    if int(offsets[-1]) > np.iinfo(np.int32).max:
        return pa.array(values, pa.string())
    return pa.Array.from_buffers(
        pa.string(), len(octets), [None, pa.py_buffer(offsets.astype(np.int32).data), pa.py_buffer(b"".join(octets))]
    )


def integers(values: "np.typing.NDArray[np.int64]") -> "pa.Array[Any]":
    """Integers of 64 bits."""
    return pa.Array.from_buffers(
        pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values, np.int64).data)]
    )
