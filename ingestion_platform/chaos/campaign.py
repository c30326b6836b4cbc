"""
So many rounds of each fault, and what came of them.

Belongs here: the clean run, rounds, time, results. Doesn't: how they are told (`command.py`).
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ingestion_platform.chaos.faults import Fault
from ingestion_platform.chaos.ground import Ground, Unsurvived
from ingestion_platform.chaos.landed import Business
from ingestion_platform.chaos.oracle import LEDGER, Export
from ingestion_platform.chaos.processes import ChildFailed, Process, Tally
from ingestion_platform.chaos.small_disk import on_small_disk

MOST_TWIN_ROUNDS = 4
"""How often a twin may escape by chance."""


@dataclass
class Result:
    """
    What came of a fault.

    Args:
        fault: which.
        rounds: that there were.
        survived: of them.
        met: what was counted in them.
        wrong: what was wrong, by round.
        twin_rounds: rounds of its twin.
        twin_caught: by what its twin was caught; empty: it wasn't.
        needs: why it can't be here; empty: it can.
    """

    fault: Fault
    rounds: int = 0
    survived: int = 0
    met: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, list[str]] = field(default_factory=dict)
    twin_rounds: int = 0
    twin_caught: str = ""
    needs: str = ""

    @property
    def is_met(self) -> bool:
        """Whether all was met that has to be."""
        return all(self.met[what] for what in self.fault.met)

    @property
    def holds(self) -> bool:
        """Whether it was met and survived, and its twin didn't."""
        return bool(self.needs) or (self.is_met and self.survived == self.rounds > 0 and bool(self.twin_caught))


@dataclass
class Campaign:
    """
    Rounds of faults, each against a clean run of the same objects.

    Args:
        business: what is put to the test.
        root: a folder of its own; rounds are taken away when they were survived.
        seed: of everything that is left to chance.
        tell: takes a line of what goes on.
    """

    business: Business
    root: Path
    seed: int
    tell: Callable[[str], None] = lambda line: None

    def begin(self) -> None:
        """
        Run without any fault.

        Raises:
            Unsurvived: even that went wrong.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        calm = Ground(self.root / "clean", self.business, Tally(self.root / "clean.tally"))
        calm.land_all()
        began = time.monotonic()
        calm.work_well()
        self.seconds = time.monotonic() - began
        self.bytes = calm.size()
        try:
            self.clean: Export = calm.export()
            wrong = calm.judge(self.clean)
        except ChildFailed as failed:
            raise Unsurvived(f"the clean run can't be read: {failed}") from failed
        if wrong:
            raise Unsurvived(f"the clean run itself is wrong: {'; '.join(wrong)}")
        if self.clean.tables[LEDGER].count(",loaded,") == 0:
            raise Unsurvived("nothing of what landed could be loaded: an empty table is equal to everything")
        calm.clear()

    def run(self, faults: Sequence[Fault], *, rounds: int, seconds: float) -> list[Result]:
        """
        Rounds of each fault and its twin.

        Args:
            faults: which.
            rounds: of each, at most.
            seconds: after which no further round of a fault that has had one begins.
        """
        until = time.monotonic() + seconds
        results = [Result(fault, needs=fault.needs(self.business)) for fault in faults]
        for number in range(1, rounds + 1):
            for result in results:
                if result.needs or (number > 1 and time.monotonic() > until and (result.is_met or number > 3)):
                    continue
                self._round(result, number)
                if number == 1:
                    self._twin(result)
        return results

    def _round(self, result: Result, number: int) -> None:
        wrong, met = self.round(result.fault, number, is_twin=False)
        result.rounds += 1
        result.met += met
        if wrong:
            result.wrong[number] = wrong
            self.tell(f"{result.fault.name}, round {number}: {wrong[0]}")
        else:
            result.survived += 1

    def _twin(self, result: Result) -> None:
        for number in range(1, MOST_TWIN_ROUNDS + 1):
            wrong, _ = self.round(result.fault, number, is_twin=True)
            result.twin_rounds += 1
            if wrong:
                result.twin_caught = wrong[0]
                return
        self.tell(f"{result.fault.name}: a loader that {result.fault.twin.told} wasn't caught")

    def round(self, fault: Fault, number: int, *, is_twin: bool) -> tuple[list[str], Counter[str]]:
        """
        One round.

        Returns:
            What was wrong in the end, and what was met.
        """
        name = f"{fault.name}-{number}{'-twin' if is_twin else ''}"
        tally = Tally(self.root / f"{name}.tally")
        tally.path.unlink(missing_ok=True)
        ground = Ground(
            self.root / name, self.business, tally, fault.twin if is_twin else None, self.seconds, self.bytes
        )
        chance = Random(f"{self.seed}/{fault.name}/{number}")
        wrong: list[str]
        if fault.on_small_disk:
            found: list[str] = []
            answer = self.root / f"{name}.wrong"

            def there() -> None:
                answer.write_text("\n".join(self._happens(fault, ground, chance)))

            ended = Process(on_small_disk(ground.place, there), self.root / f"{name}.said").end()
            found = answer.read_text().splitlines() if ended.is_well else [f"a round ended badly: {ended}"]
            wrong = found
        else:
            wrong = self._happens(fault, ground, chance)
        if is_twin or not wrong:
            ground.clear()
        return wrong, tally.counts()

    def _happens(self, fault: Fault, ground: Ground, chance: Random) -> list[str]:
        try:
            fault.happens(ground, chance)
            # One more, that nothing happens to: it must put right whatever was left half-done.
            ground.work_well()
            return ground.judge(self.clean)
        except (Unsurvived, ChildFailed) as error:
            return [" ".join(str(error).split())]
