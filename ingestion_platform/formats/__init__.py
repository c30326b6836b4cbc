"""
Landed bytes to rows of text: CSV, fixed width, JSON lines and documents, XML, Parquet, Avro, Excel; what is packed around them (gzip, zstd,
bzip2, zip); pages of APIs; segments of streams with values of JSON, Avro, DynamoDB.

A reader gives an object piece by piece, so that memory doesn't grow with it; the last piece says whether all of it counts.

Belongs here: reading one object's bytes as its declaration says, and telling exactly what couldn't be read. Doesn't: where bytes come from
(`landing/`), what values mean (`warehouse/contract.py`).

Every reader is verified, not trusted: nothing is dropped, shifted or guessed in silence. A record that departs from the declaration is
rejected by its number and kept as it stands; an object that can't be a whole one raises `ObjectRejected`.
"""

from ingestion_platform.formats.content import BLOCK_BYTES, packing_of, unpacked
from ingestion_platform.formats.erasing import OfPages, erase_records
from ingestion_platform.formats.erasure import Emptying, Erasure, Words
from ingestion_platform.formats.json_members import NotAnObject, twice
from ingestion_platform.formats.left_over import LeftOver, Names, names_in
from ingestion_platform.formats.pages import open_group
from ingestion_platform.formats.reading import (
    RecordReader,
    detect_dialect,
    dialect_departures,
    open_records,
    read_records,
)
from ingestion_platform.formats.records import Ending, Field, Piece, Positions, Records, RejectedRecord

__all__ = [
    "BLOCK_BYTES", "Emptying", "Ending", "Erasure", "Field", "LeftOver", "Names", "NotAnObject", "OfPages", "Piece", "Positions",
    "RecordReader", "Records", "RejectedRecord", "Words", "detect_dialect", "dialect_departures", "erase_records", "names_in",
    "open_group", "open_records", "packing_of", "read_records", "twice", "unpacked",
]  # fmt: skip
