"""
Decisions in the landing zone: put once, and listed with those that can't be read.

Belongs here: putting and listing. Doesn't: what a decision is (`decisions.py`), what follows from one.
"""

from collections.abc import Collection
from dataclasses import dataclass

from ingestion_platform import decisions
from ingestion_platform.decisions import Decision
from ingestion_platform.errors import LandingError, ObjectChanged, ObjectCold, ObjectMissing
from ingestion_platform.landing import LandingZone


@dataclass(frozen=True, slots=True)
class LandedDecision:
    """A decision, and where it landed."""

    key: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class BrokenDecision:
    """An object among the decisions that is none, and why; it counts for nothing."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decided:
    """
    Decisions of a kind about a dataset.

    Args:
        decisions: the oldest first.
        broken: what lies among them and can't be read. Whoever asks tells them: what was decided there doesn't hold.
    """

    decisions: tuple[LandedDecision, ...]
    broken: tuple[BrokenDecision, ...]


class LandedDecisions:
    """
    The decisions that have landed.

    Args:
        landing: where.
    """

    def __init__(self, landing: LandingZone) -> None:
        self._landing = landing

    def put(self, decision: Decision) -> str:
        """
        Land a decision; doing so again changes nothing.

        Returns:
            Its key.

        Raises:
            LandingError: another object is there already, or *what* is no JSON.
            LandingUnavailable: no answer after every attempt.
        """
        key, content = decision.key, decision.content
        if not self._landing.put_if_absent(key, content):
            # A store that answered too late is asked twice, and has it from the first time.
            there = next((one for one in self._landing.list(key) if one.key == key), None)
            if there is None or self._landing.read(there) != content:
                raise LandingError(f"{key} is there already, and isn't this decision", "decide again")
        return key

    def list(self, kind: str, dataset: str, *, known: Collection[str] = ()) -> Decided:
        """
        The decisions of a kind about a dataset.

        Args:
            kind: as `discard`.
            dataset: its name.
            known: keys of those that aren't read again, and left out.

        Raises:
            LandingUnavailable: no answer after every attempt.
        """
        found: list[LandedDecision] = []
        broken: list[BrokenDecision] = []
        for landed in self._landing.list(decisions.folder(kind, dataset)):
            if landed.key in known:
                continue
            try:
                if landed.size_bytes > decisions.MAX_BYTES:
                    raise LandingError(f"{landed.key!r:.300} has {landed.size_bytes:,} bytes: it is no decision")
                found.append(LandedDecision(landed.key, decisions.parse(landed.key, self._landing.read(landed))))
            except (ObjectCold, ObjectChanged, ObjectMissing) as error:
                broken.append(BrokenDecision(landed.key, str(error)))
            except LandingError as error:
                if error.can_retry:
                    raise
                broken.append(BrokenDecision(landed.key, str(error)))
        return Decided(tuple(found), tuple(broken))
