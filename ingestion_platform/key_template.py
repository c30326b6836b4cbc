"""
Keys of landed objects: a template gives the day and the captures of a key, and the prefix under which a day's objects are listed.

Belongs here: text only. Doesn't: listing (`landing/`).
"""

import re
from datetime import date
from functools import cached_property

from ingestion_platform.errors import DeclarationError

_TOKEN = re.compile(r"%(?P<strftime>.)|\{(?P<capture>[^{}]*)\}")
_DIRECTIVES = {"Y": "[0-9]{4}", "m": "[0-9]{2}", "d": "[0-9]{2}", "H": "[01][0-9]|2[0-3]"}
"""Not `\\d`, which takes the digits of every script: a listing by prefix wouldn't find those."""


class KeyTemplate:
    """
    A compiled template such as `sales/%Y/%m/%d/{store_id}.csv` or `sales/year=%Y/month=%m/day=%d/{store_id}.csv.gz`.

    `%Y %m %d` must each stand in it once or more (all of one kind must agree in a key), `%H` may; `{name}` captures one or more
    characters other than `/`.

    Args:
        text: the template.
        day: that of every key, where keys don't tell one; the template then has no `%`.
    """

    def __init__(self, text: str, day: date | None = None) -> None:
        self.text = text
        self._own_day = day
        self.captures: list[str] = []
        pattern, position, seen = "", 0, set[str]()
        for token in _TOKEN.finditer(text):
            pattern += re.escape(text[position : token.start()])
            position = token.end()
            directive, capture = token["strftime"], token["capture"]
            if directive is not None:
                if directive not in _DIRECTIVES:
                    raise DeclarationError(
                        f"key template {text!r}: %{directive} is not understood", "%Y, %m, %d and %H are"
                    )
                pattern += f"(?P={directive})" if directive in seen else f"(?P<{directive}>{_DIRECTIVES[directive]})"
                seen.add(directive)
            elif re.fullmatch(r"[a-z][a-z0-9_]*", capture) is None:
                raise DeclarationError(
                    f"key template {text!r}: {{{capture}}} is no capture", "a capture is {snake_case}"
                )
            elif capture in self.captures:
                pattern += f"(?P={capture})"
            else:
                self.captures.append(capture)
                pattern += f"(?P<{capture}>[^/]+)"
        if day is not None and seen:
            raise DeclarationError(
                f"key template {text!r} gives a day, or a part of one, and all of its keys belong to {day}",
                "move it to templates, or take % out",
            )
        if day is None and not {"Y", "m", "d"} <= seen:
            raise DeclarationError(
                f"key template {text!r} doesn't give the day: %Y, %m and %d must all be in it",
                "every object belongs to a day by its key",
            )
        if text.startswith("/") or ".." in text.split("/"):
            raise DeclarationError(f"key template {text!r} leaves the landing zone", "write it relative, without ..")
        self._pattern = re.compile(pattern + re.escape(text[position:]), re.DOTALL)

    def __repr__(self) -> str:
        return (
            f"KeyTemplate({self.text!r})" if self._own_day is None else f"KeyTemplate({self.text!r}, {self._own_day})"
        )

    def match(self, key: str) -> tuple[date, dict[str, str]] | None:
        """The day and the captures of *key*, or None when it doesn't fit (or its day is no date)."""
        found = self._pattern.fullmatch(key)
        if found is None:
            return None
        groups = found.groupdict()
        groups.pop("H", None)
        if self._own_day is not None:
            return self._own_day, groups
        try:
            day = date(int(groups.pop("Y")), int(groups.pop("m")), int(groups.pop("d")))
        except ValueError:
            return None
        return day, groups

    @cached_property
    def root(self) -> str:
        """The prefix that all keys share."""
        first = _TOKEN.search(self.text)
        return self.text[: first.start()] if first else self.text

    def prefix(self, day: date) -> str:
        """The longest prefix that all keys of *day* share."""
        text = self.text
        found = re.search(r"\{|%H", text)
        return with_day(text[: found.start()] if found else text, day)

    def segments(self, day: date | None) -> tuple[str | re.Pattern[str], ...]:
        """What the `/`-separated names of a key of *day* (None: of any) are: the name where it is known, else what it looks like."""
        found: list[str | re.Pattern[str]] = []
        for segment in self.text.split("/"):
            text = segment
            if day is not None:
                text = text.replace("%Y", f"{day.year:04}").replace("%m", f"{day:%m}").replace("%d", f"{day:%d}")
            pattern, position = "", 0
            for token in _TOKEN.finditer(text):
                part = _DIRECTIVES.get(token["strftime"] or "", "[^/]+")
                pattern += f"{re.escape(text[position : token.start()])}(?:{part})"
                position = token.end()
            found.append(re.compile(pattern + re.escape(text[position:]), re.DOTALL) if pattern else text)
        return tuple(found)

    def key(self, day: date, **captures: str) -> str:
        """The key of an object of *day*, in its first hour, with these captures."""
        parts = re.split(r"\{([^{}]*)\}", self.text)
        return "".join(captures[part] if index % 2 else with_day(part, day) for index, part in enumerate(parts))


def with_day(text: str, day: date) -> str:
    """Text with a day in the place of `%Y %m %d`, and its first hour in that of `%H`."""
    # %Y of a year before 1000 has fewer than four digits on some systems.
    return (
        text.replace("%Y", f"{day.year:04}").replace("%m", f"{day:%m}").replace("%d", f"{day:%d}").replace("%H", "00")
    )
