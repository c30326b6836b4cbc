"""
What a table is: columns with types, docs and row rules; the key; checks.

Belongs here: what is true of any table, whatever filled it. Doesn't: where rows come from (`dataset.py`), how SQL is made of it
(`warehouse/contract.py`).
"""

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ingestion_platform.errors import DeclarationError

STRICT = ConfigDict(extra="forbid", strict=False, arbitrary_types_allowed=False)

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""What tables and columns may be called: snake_case. A leading underscore is the platform's."""

_NOT_RE2 = re.compile(r"\(\?(=|!|<=|<!)|\\[1-9]")


@dataclass(frozen=True, config=STRICT)
class DataType:
    """A column's type, by its name in the warehouse's SQL."""

    sql: str

    def __str__(self) -> str:
        return self.sql

    @property
    def is_decimal(self) -> bool:
        """Whether this is `DECIMAL(precision, scale)`."""
        return self.sql.startswith("DECIMAL(")

    @property
    def scale(self) -> int:
        """Digits after the point of a decimal; 0 for every other type."""
        return int(self.sql[:-1].split(",")[1]) if self.is_decimal else 0

    @property
    def precision(self) -> int:
        """All digits of a decimal; 0 for every other type."""
        return int(self.sql[8:-1].split(",")[0]) if self.is_decimal else 0

    def can_be(self, value: object) -> bool:
        """Whether *value*, as a declaration writes it, is one of this type."""
        text = str(value)
        try:
            if self.sql in ("INTEGER", "BIGINT"):
                int(text)
            elif self.sql == "DOUBLE" or self.is_decimal:
                Decimal(text)
            elif self.sql == "DATE":
                date.fromisoformat(text)
            elif self.sql == "TIMESTAMP":
                datetime.fromisoformat(text)
        except (ValueError, InvalidOperation):
            return False
        return True


VARCHAR = DataType("VARCHAR")
INTEGER = DataType("INTEGER")
BIGINT = DataType("BIGINT")
DOUBLE = DataType("DOUBLE")
BOOLEAN = DataType("BOOLEAN")
DATE = DataType("DATE")
TIMESTAMP = DataType("TIMESTAMP")
"""UTC, microseconds. Text without an offset is read in the dataset's time zone."""
JSON = DataType("JSON")


def decimal(precision: int, scale: int) -> DataType:
    """An exact number of *precision* digits, *scale* of them after the point. Money is always one."""
    if not (0 < precision <= 38 and 0 <= scale <= precision):
        raise DeclarationError(
            f"decimal({precision}, {scale}): precision must be 1 to 38 and scale 0 to precision",
            "money in rand and cents is decimal(12, 2)",
        )
    return DataType(f"DECIMAL({precision},{scale})")


class Mask(StrEnum):
    """How a personal value is shown in processed tables. Raw keeps it as sent."""

    HASH = "hash"
    """SHA-256 of salt and value, in hex: equal people stay equal, nobody can be read off."""
    REDACT = "redact"
    """Always NULL."""
    LAST4 = "last4"
    """Stars and the last four characters; of values of fewer than eight only stars."""


@dataclass(frozen=True, config=STRICT)
class Column:
    """
    One column: its type, its docs and the rules every row must keep.

    Args:
        name: snake_case, the unit last (`amount_zar`, `weight_kg`).
        type: one of this module's types.
        description: one sentence for the person who reads the table.
        source: where the value is in a record: the CSV or Parquet column's header, the dotted path of a JSON field
            (`payment.method`), the path of an XML element or attribute (see `formats/`). Default: the name.
        aliases: other names that it has had in the files, or still has with some senders: `source` counts where it has a value, then the
            first of these that has one; what others hold beside it stays in `_extra`.
        capture: taken from this `{capture}` of the object's key instead of from the record.
        required: NULL (or empty text) breaks the rule.
        minimum: smallest allowed value, included.
        maximum: largest allowed value, included.
        one_of: the allowed values, compared after the cast.
        pattern: a regular expression (RE2) that the whole text must match.
        references: `dataset.column`; the value must be there, as that dataset stood on the row's day.
        pii: personal; how it is masked.
        person: it tells whose row this is: the name of that kind of person's key, as `customer`, the same in every dataset. By it a
            person is forgotten.
        null_values: texts that mean NULL.
    """

    name: str
    type: DataType
    description: str
    source: str | None = None
    aliases: tuple[str, ...] = ()
    capture: str | None = None
    required: bool = False
    minimum: Any = None
    maximum: Any = None
    one_of: tuple[str, ...] = ()
    pattern: str | None = None
    references: str | None = None
    pii: Mask | None = None
    person: str | None = None
    null_values: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.name):
            raise DeclarationError(
                f"column {self.name!r}: a name is snake_case and starts with a letter",
                "a header in the file that is written otherwise goes into source=…",
            )
        if not self.description.strip():
            raise DeclarationError(f"column {self.name!r} has no description", "say in one sentence what is in it")
        if self.source is not None and self.capture is not None:
            raise DeclarationError(
                f"column {self.name!r} has both source and capture", "a value comes from the record or from the key"
            )
        if self.aliases and (self.capture is not None or len({self.field, *self.aliases}) <= len(self.aliases)):
            raise DeclarationError(
                f"column {self.name!r} has aliases {list(self.aliases)}, and {'capture' if self.capture else 'says one name twice'}",
                "aliases are other names in the record, each once",
            )
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise DeclarationError(
                    f"column {self.name!r}: pattern {self.pattern!r} is no regular expression: {error}"
                ) from error
            if _NOT_RE2.search(self.pattern):
                raise DeclarationError(
                    f"column {self.name!r}: pattern {self.pattern!r} looks around or back, which RE2 can't",
                    "say it without (?=…), (?!…), (?<…) and \\1",
                )
        for role, value in (
            ("minimum", self.minimum),
            ("maximum", self.maximum),
            *(("one_of", one) for one in self.one_of),
        ):
            if value is not None and not self.type.can_be(value):
                raise DeclarationError(
                    f"column {self.name!r}: {role} {value!r} is no {self.type}",
                    "write it as a value of the column's type",
                )
        if self.person is not None and not IDENTIFIER.fullmatch(self.person):
            raise DeclarationError(
                f"column {self.name!r}: person {self.person!r} is no name in snake_case",
                "the kind of key, as in person='customer', the same in every dataset that has it",
            )
        if self.references is not None and self.references.count(".") != 1:
            raise DeclarationError(f"column {self.name!r}: references is 'dataset.column', not {self.references!r}")

    @property
    def field(self) -> str:
        """Where the value is in a record."""
        return self.source or self.name

    @property
    def names(self) -> tuple[str, ...]:
        """All that its value may be called in a record, the one that counts first; none of a capture."""
        return () if self.capture is not None else (self.field, *self.aliases)


@dataclass(frozen=True, config=STRICT)
class Check:
    """
    Something that every row of a processed or report table should satisfy.

    Args:
        name: snake_case; the check's name in Dagster.
        expression: SQL over one row of the table; rows where it is false fail the check (NULL passes, as in SQL's own CHECK).
        description: one sentence.
        severity: `error` fails loudly, `warn` is shown.
        blocking: what comes after in the same run doesn't run when it fails.
    """

    name: str
    expression: str
    description: str = ""
    severity: Literal["error", "warn"] = "error"
    blocking: bool = False

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.name):
            raise DeclarationError(f"check {self.name!r}: a name is snake_case and starts with a letter")
