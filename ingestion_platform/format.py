"""
What landed bytes are, as declared: each format with its dialect and its limit.

Belongs here: the declarations. Doesn't: reading them (`formats/`), what is inside a stream's or an API's envelope (`stream.py`, `api.py`).
"""

from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError
from ingestion_platform.table import STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Csv:
    """
    Delimited text, one header line.

    The dialect is declared, and files are held to it: a record that departs from it goes to quarantine as it stands.

    Args:
        delimiter: one character.
        quote: one character, doubled inside a quoted cell.
        encoding: as Python names it; a byte-order mark is always allowed.
        final_newline: every file ends with a line end, so one that doesn't was cut and is rejected. Say False only of senders
            who never write it: then a cut inside the last cell can't be told from the truth.
        max_bytes: an object larger than this, once decompressed, is rejected.
    """

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    final_newline: bool = True
    max_bytes: int = 4 * 1024**3

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or len(self.quote) != 1 or self.delimiter == self.quote:
            raise DeclarationError("Csv: delimiter and quote are one character each, and differ")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class JsonLines:
    """
    One JSON object a line (RFC 8259, strictly). A column's source is a dotted path: `payment.method`.

    Numbers enter raw as they were written, digit for digit; objects and arrays as JSON text.

    Args:
        max_bytes: an object larger than this, once decompressed, is rejected.
    """

    max_bytes: int = 4 * 1024**3


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Xml:
    """
    XML whose records are elements under a path. DTDs and entities are refused.

    A column's source is read from the record's element: `quantity` (child's text), `@id` (own attribute), `price/@currency`
    (a child's attribute), `../delivered_at` or `../@number` (the parent's), `../../@version` (further up). Names are matched without
    their namespace.

    Args:
        record: path of the record elements from the root, root included: `manifest/line`.
        max_bytes: an object larger than this, once decompressed, is rejected.
    """

    record: str
    max_bytes: int = 1024**3


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Parquet:
    """
    Parquet. Values enter raw as text in their canonical form; nested ones as JSON text.

    Args:
        max_bytes: an object larger than this is rejected.
    """

    max_bytes: int = 4 * 1024**3


Format = Csv | JsonLines | Xml | Parquet
