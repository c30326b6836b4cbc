"""
So many rounds of each fault, and what came of them.

Belongs here: the clean run, rounds, time, results. Doesn't: how they are told (`command.py`).
"""

import json
import shutil
import time
from collections import Counter, deque
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

MOST_TWIN_ROUNDS = 5
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
        # What a former campaign has left here is in the way.
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        calm = Ground(self.root / "clean", self.business, Tally(self.root / "clean.tally"))
        calm.land_all()
        began = time.monotonic()
        calm.work_well()
        self.seconds = time.monotonic() - began
        self.size_bytes = calm.size()
        try:
            self.clean: Export = calm.export()
            wrong = calm.judge(self.clean)
        except ChildFailed as failed:
            raise Unsurvived(f"the clean run can't be read: {failed}") from failed
        if wrong:
            raise Unsurvived(f"the clean run itself is wrong: {'; '.join(wrong)}")
        if '"state":"loaded"' not in self.clean.tables[LEDGER]:
            raise Unsurvived("nothing of what landed could be loaded: an empty table is equal to everything")
        calm.clear()

    def run(self, faults: Sequence[Fault], *, rounds: int, seconds: float, at_once: int = 1) -> list[Result]:
        """
        Rounds of each fault and its twin, each in a process of its own.

        Args:
            faults: which.
            rounds: of each, at most.
            seconds: after which no further round begins of a fault that has been met.
            at_once: rounds under way at a time.
        """
        until = time.monotonic() + seconds
        results = [Result(fault, needs=fault.needs(self.business)) for fault in faults]
        waiting = deque((result, 1, is_twin) for result in results if not result.needs for is_twin in (False, True))
        under_way: list[_Round] = []
        while waiting or under_way:
            while waiting and len(under_way) < at_once:
                result, number, is_twin = waiting.popleft()
                if (
                    number > 1
                    and not is_twin
                    and time.monotonic() > until
                    and (result.is_met or number > MOST_TWIN_ROUNDS)
                ):
                    continue
                under_way.append(_Round(self, result, number, is_twin))
            over = [one for one in under_way if one.process.is_over()]
            if not over:
                time.sleep(0.01)
            for one in over:
                under_way.remove(one)
                self._note(one)
                is_wanted = not one.result.twin_caught if one.is_twin else True
                if is_wanted and one.number < (MOST_TWIN_ROUNDS if one.is_twin else rounds):
                    waiting.append((one.result, one.number + 1, one.is_twin))
        return results

    def _note(self, one: "_Round") -> None:
        result, (wrong, met) = one.result, one.found()
        name = f"{result.fault.name}, round {one.number}"
        if one.is_twin:
            result.twin_rounds += 1
            result.twin_caught = wrong[0] if wrong else ""
            if not wrong and one.number == MOST_TWIN_ROUNDS:
                self.tell(f"{name}: a loader that {result.fault.twin.told} wasn't caught")
            return
        result.rounds += 1
        result.met += met
        if wrong:
            result.wrong[one.number] = wrong
            self.tell(f"{name}: {wrong[0]}")
        else:
            result.survived += 1

    def happens(self, fault: Fault, ground: Ground, chance: Random) -> list[str]:
        """What is wrong after a fault, and one more run that nothing happens to: it must put right whatever was left half-done."""
        try:
            fault.happens(ground, chance)
            with fault.at_rest(ground):
                ground.work_well()
                return ground.judge(self.clean)
        except (Unsurvived, ChildFailed) as error:
            return [" ".join(str(error).split())]


class _Round:
    """
    A round under way.

    Args:
        campaign: whose.
        result: of its fault.
        number: from 1; the same number, the same chances.
        is_twin: whether its loaders are the broken ones.
    """

    def __init__(self, campaign: Campaign, result: Result, number: int, is_twin: bool) -> None:
        self.result, self.number, self.is_twin = result, number, is_twin
        fault = result.fault
        name = f"{fault.name}-{number}{'-twin' if is_twin else ''}"
        self._tally = Tally(campaign.root / f"{name}.tally")
        self._wrong = campaign.root / f"{name}.json"
        twin = fault.twin if is_twin else None
        self._ground = Ground(
            campaign.root / name, campaign.business, self._tally, twin, campaign.seconds, campaign.size_bytes
        )
        chance = Random(f"{campaign.seed}/{fault.name}/{number}")

        def work() -> None:
            self._wrong.write_text(json.dumps(campaign.happens(fault, self._ground, chance)))

        there = on_small_disk((self._ground.place, self._ground.tables), work) if fault.on_small_disk else work
        self.process = Process(there, campaign.root / f"{name}.said")

    def found(self) -> tuple[list[str], Counter[str]]:
        """What was wrong in the end, and what was met."""
        ended = self.process.end()
        wrong = json.loads(self._wrong.read_text()) if ended.is_well else [f"the round itself broke: {ended}"]
        if self.is_twin or not wrong:
            self._ground.clear()
        return wrong, self._tally.counts()
