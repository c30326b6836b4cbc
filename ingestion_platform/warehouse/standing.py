"""
Segments that hold the same positions: which of them counts for which.

Two drains of one stream, or a drain and a replay, may land the same records in segments that are cut otherwise. Which rows then stand in
raw is
a function of the segments' names alone, whatever the order of loading: each position counts in the first segment that holds it, by first
position, then the longer one, then by key. A segment holds every record between its first and its last position, so what is left of a later
one is always its end.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from ingestion_platform.stream import Span


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What a segment counts for.

    Args:
        since: the positions from here on, to its last; `last + 1` when others hold them all.
        instead: key of the segment that stands for what comes before; empty when it counts whole.
    """

    since: int
    instead: str = ""

    def counts_nothing_of(self, span: Span) -> bool:
        """Whether others hold everything that the segment holds."""
        return self.since > span.last

    def reason(self, span: Span) -> str:
        """Why not all of the segment counts, for a person; empty when all of it does."""
        if not self.instead:
            return ""
        if self.counts_nothing_of(span):
            return f"{self.instead} holds the same positions"
        return f"its positions before {self.since} stand in {self.instead}"


def order(key: str, span: Span) -> tuple[int, int, int, str]:
    """The order in which segments claim positions."""
    return span.first, -span.last, len(key), key


def claims_as_named(segments: Iterable[tuple[str, str, Span]]) -> bool:
    """Whether segments (shard, key, positions), given in the order of their names, claim positions in that order."""
    last: dict[str, tuple[int, int, int, str]] = {}
    for shard, key, span in segments:
        claim = order(key, span)
        if shard in last and claim < last[shard]:
            return False
        last[shard] = claim
    return True


def stand(segments: Iterable[tuple[str, Span]]) -> dict[str, Standing]:
    """
    What each of a shard's segments counts for.

    Args:
        segments: key and positions; all that share positions with one another.
    """
    found: dict[str, Standing] = {}
    covered, by = -1, ""
    for key, span in sorted(segments, key=lambda one: order(*one)):
        if covered >= span.first:
            found[key] = Standing(min(covered, span.last) + 1, by)
        else:
            found[key] = Standing(span.first)
        if span.last > covered:
            covered, by = span.last, key
    return found


class Overlaps:
    """
    Segments of a shard, to be asked which hold some positions.

    Args:
        segments: key and positions.
    """

    def __init__(self, segments: Iterable[tuple[str, Span]]) -> None:
        self._segments = sorted(segments, key=lambda one: one[1])
        self._firsts = [span.first for _, span in self._segments]
        # How far those up to each one reach: looking back ends where nothing before reaches.
        self._reach = list(accumulate((span.last for _, span in self._segments), max))

    def with_some_of(self, span: Span) -> list[tuple[str, Span]]:
        """Those that hold some of these positions."""
        found = []
        at = bisect_right(self._firsts, span.last) - 1
        while at >= 0 and self._reach[at] >= span.first:
            if self._segments[at][1].last >= span.first:
                found.append(self._segments[at])
            at -= 1
        return found
