"""
Values of Excel's cells as the text that stands for them: numbers as Excel shows them, dates and times in ISO 8601.

Belongs here: one value. Doesn't: where cells are (`excel_sheets.py`).

Excel keeps every number as a 64-bit float, dates too: days since an epoch. What a number means its cell's format says.
"""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["number", "date", "time", "datetime", "elapsed"]

_DIGITS = 15
_DAY_MILLISECONDS = 86_400_000
_LEAP_DAY_OF_1900 = 60
_EPOCH = datetime(1899, 12, 30)
_EPOCH_1904 = datetime(1904, 1, 1)
_BUILT_IN: dict[int, Kind] = {
    **dict.fromkeys((*range(14, 18), *range(27, 32), 36, *range(50, 55), 57, 58), "date"),
    **dict.fromkeys((*range(18, 22), *range(32, 36), 45, 47, 55, 56), "time"),
    22: "datetime",
    46: "elapsed",
}
"""Formats that have a number and no text; those of East Asia among them."""
_QUOTED = re.compile(r'"[^"]*"|\\.|_.|\*.')
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
_BRACKETS = re.compile(r"\[[^\]]*\]")


class NoValue(Exception):
    """A number that stands for nothing; says why."""


def kind_of(number: int, code: str | None) -> Kind:
    """
    What numbers of a cell's format are.

    Args:
        number: of the format.
        code: its text, where the workbook gives one.
    """
    if code is None:
        return _BUILT_IN.get(number, "number")
    bare = _QUOTED.sub("", code.split(";")[0])
    if _ELAPSED.search(bare):
        return "elapsed"
    letters = _BRACKETS.sub("", bare).lower().replace("general", "")
    has_date = "y" in letters or "d" in letters
    has_time = "h" in letters or "s" in letters
    if not has_date and not has_time:
        # An m alone is a month.
        return "date" if "m" in letters else "number"
    return "datetime" if has_date and has_time else "date" if has_date else "time"


def number_text(written: str) -> str:
    """
    A number with the 15 digits that Excel shows, without an exponent; a whole one with all.

    Raises:
        NoValue: it is none.
    """
    try:
        value = float(written)
    except ValueError:
        raise NoValue(f"is no number: {written[:40]!r}") from None
    if value - value != 0:
        raise NoValue("is no finite number")
    if value.is_integer():
        return str(int(value))
    return format(Decimal(format(value, f".{_DIGITS}g")).normalize(), "f")


def moment_text(written: str, kind: Kind, *, is_1904: bool) -> str:
    """
    A date, a time, both, or a length of time.

    Raises:
        NoValue: no day has this number.
    """
    try:
        serial = Decimal(written)
        milliseconds = int((serial * _DAY_MILLISECONDS).to_integral_value())
    except (ArithmeticError, ValueError):
        raise NoValue(f"is no number: {written[:40]!r}") from None
    if kind == "elapsed":
        seconds, rest = divmod(abs(milliseconds), 1000)
        text = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return ("-" if milliseconds < 0 else "") + text + (f".{rest:03}" if rest else "")
    if milliseconds < 0:
        raise NoValue(f"is no date: {written[:40]}")
    days, of_day = divmod(milliseconds, _DAY_MILLISECONDS)
    if kind == "time" and days == 0:
        return _iso(datetime(2000, 1, 1) + timedelta(milliseconds=of_day)).partition("T")[2]
    if is_1904:
        epoch = _EPOCH_1904
    elif days == _LEAP_DAY_OF_1900:
        raise NoValue("is the 29th of February 1900, which never was")
    else:
        epoch = _EPOCH if days > _LEAP_DAY_OF_1900 else _EPOCH + timedelta(days=1)
    try:
        moment = epoch + timedelta(days=days, milliseconds=of_day)
    except OverflowError:
        raise NoValue(f"is no date: {written[:40]}") from None
    return moment.date().isoformat() if kind == "date" and of_day == 0 else _iso(moment)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
