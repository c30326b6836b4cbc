"""
Public holidays by country, as the `holidays` library knows them.

Belongs here: asking that library, and nothing else does. Doesn't: who is closed on them (`opening_days.py`).

What a government proclaims a week ahead is in the library weeks later: a declaration may always say it itself.
"""

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType

FIRST_YEAR, LAST_YEAR = 1950, 2100
"""Outside of these nothing is asked: a roster may hold any day."""


@lru_cache(maxsize=4096)
def public_holidays(country: str, year: int) -> Mapping[date, str] | None:
    """
    The public holidays of a country.

    Args:
        country: ISO 3166 alpha-2, `ZA`; with a part of it where they have their own, `DE-BY`.
        year: which.

    Returns:
        Day → name; None when the library knows no such country or part.
    """
    # A third of a second to import, and most deployments ask for none.
    import holidays

    if not FIRST_YEAR <= year <= LAST_YEAR:
        return MappingProxyType({})
    code, _, part = country.partition("-")
    try:
        found = holidays.country_holidays(code, subdiv=part or None, years=year)
    except NotImplementedError:
        return None
    return MappingProxyType({day: str(name) for day, name in sorted(found.items()) if day.year == year})
