"""
The faults: what goes wrong in a round, and by what it is known to have been met.

Belongs here: making them happen. Doesn't: what happens inside a worker (`meddling.py`), whether it was survived (`oracle.py`).

A fault's work is done when it returns: all has landed as it is in the end, and one more run, without any fault, follows.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from ingestion_platform.chaos import twins
from ingestion_platform.chaos.ground import Ground, Unsurvived, Work
from ingestion_platform.chaos.landed import Arrival, Business
from ingestion_platform.chaos.meddling import (
    Clock,
    Denied,
    During,
    Meddling,
    ReadError,
    Slow,
    Steps,
    Together,
    counted_steps,
)
from ingestion_platform.chaos.s3_server import serving
from ingestion_platform.chaos.small_disk import SmallDisk

KILLS = 6
"""Of a round."""
YEARS = timedelta(days=3650)


@dataclass(frozen=True)
class Fault:
    """
    One thing that goes wrong.

    Args:
        name: as the command line has it.
        told: what it is, in a line.
        happens: makes it happen on a ground.
        met: what the tally counts when it is met; each of them must be, or the fault hasn't been there.
        twin: a loader that doesn't survive it.
        needs: why it can't happen to a business; empty: it can.
        on_small_disk: whether the warehouse is on a disk that is too small.
        at_rest: what the last run and the judge need around them.
    """

    name: str
    told: str
    happens: Callable[[Ground, Random], None]
    met: tuple[str, ...]
    twin: twins.Twin
    needs: Callable[[Business], str] = lambda business: ""
    on_small_disk: bool = False
    at_rest: Callable[[Ground], AbstractContextManager[None]] = lambda ground: nullcontext()


def _some(chance: Random, arrivals: Sequence[Arrival], most: int) -> list[Arrival]:
    return chance.sample(list(arrivals), min(most, len(arrivals)))


def _files(business: Business) -> str:
    return "" if business.growing else "none of its objects is a file that a sender writes"


def _doubles(business: Business) -> str:
    return "" if _doubled(business.arrivals) else "no key may have a double: its captures are columns, or snapshots"


def _doubled(arrivals: Sequence[Arrival]) -> list[Arrival]:
    return [one for one in arrivals if one.twin_key]


# --- kills


def _kill(ground: Ground, chance: Random) -> None:
    """Kill runs, replays among them, at random moments; of some rounds several at a time."""
    ground.land_all()
    killed = 0
    at_once = chance.choice((1, 1, 3))
    for _ in range(KILLS * 4):
        if killed >= KILLS:
            return
        works: list[Work] = [chance.choice(("catch-up", "replay", "parts")) for _ in range(at_once)]
        begun = [ground.begin(work) for work in works]
        time.sleep(chance.uniform(0, ground.seconds * 1.2 * max(1.0, at_once / 2)))
        for one in begun:
            one.kill()
        for one in begun:
            ended = one.end()
            if ended.is_killed:
                killed += 1
                ground.tally.add("kills")
            elif not ended.is_well:
                raise Unsurvived(f"a run failed before it was killed: {ended}")


def _kill_at_steps(ground: Ground, chance: Random) -> None:
    """Kill a run before one of its lasting steps, the next one at another, each going on from where the last one was killed."""
    ground.land_all()
    total = ground.tally.counts()["steps"]
    if not total:
        ended = ground.work("catch-up", counted_steps)
        if not ended.is_well:
            raise Unsurvived(f"a run that nothing happened to failed: {ended}")
        total = ground.tally.counts()["steps"]
        ground.forget()
        ground.land_all()
    commits = ground.tally.counts()["commits"]
    for number in range(KILLS):
        # What is committed and what is on disk must agree just then.
        is_after = number % 3 > 0
        most = max(2, (commits if is_after else total) * 2 // 3)
        # A replay has all steps before it, however far the former runs came.
        work: Work = "catch-up" if number < 2 else "replay"
        ended = ground.work(work, Steps(chance.randint(1, most), of_commits=is_after))
        if ended.is_killed:
            ground.tally.add("kills")
        elif not ended.is_well:
            raise Unsurvived(f"a run failed before it was killed: {ended}")


# --- how objects land


def _twice(ground: Ground, chance: Random) -> None:
    """The same bytes come again: under their own key, and under another."""
    ground.land_all()
    doubles = _some(chance, _doubled(ground.business.arrivals), 4)
    for arrival in doubles[::2]:
        ground.put(arrival.twin_key, arrival.content)
        ground.tally.add("doubles under another key")
    ground.work_well()
    for arrival in doubles[1::2]:
        ground.put(arrival.twin_key, arrival.content)
        ground.tally.add("doubles under another key")
    for arrival in _some(chance, ground.business.growing, 4):
        ground.put(arrival.key, arrival.content)
        ground.tally.add("sent again")
    ground.work_well()


def _order(ground: Ground, chance: Random) -> None:
    """Objects land in another order, a few at a time, each few followed by a run; doubles before what they double."""
    waiting = list(ground.business.arrivals)
    chance.shuffle(waiting)
    few = max(1, len(waiting) // 4)
    while waiting:
        ground.land(waiting[:few])
        waiting = waiting[few:]
        ground.work_well()
        ground.tally.add("runs amid arrivals")


def _growing(ground: Ground, chance: Random) -> None:
    """Objects are appended to while they are read."""
    chosen = _some(chance, ground.business.growing, 4)
    ground.land([one for one in ground.business.arrivals if one not in chosen])
    acts: dict[str, Callable[[], None]] = {}
    for arrival in chosen:
        cut = max(1, chance.randint(len(arrival.content) // 2, len(arrival.content) - 1))
        ground.put(arrival.key, arrival.content[:cut])
        acts[arrival.key] = _append(ground, arrival.key, arrival.content[cut:])
    ground.work_well("catch-up", During(acts, "grew while read", at_end=True))
    for arrival in chosen:
        # One that wasn't read hasn't grown either.
        if ground.path(arrival.key).read_bytes() != arrival.content:
            ground.put(arrival.key, arrival.content)


def _append(ground: Ground, key: str, content: bytes) -> Callable[[], None]:
    def act() -> None:
        with ground.path(key).open("ab") as file:
            file.write(content)

    return act


def _half(ground: Ground, chance: Random) -> None:
    """Objects are there half, are loaded so, and are completed in place."""
    chosen = _some(chance, ground.business.growing, 4)
    ground.land([one for one in ground.business.arrivals if one not in chosen])
    cuts = {one.key: chance.randint(1, len(one.content) - 1) for one in chosen}
    for arrival in chosen:
        ground.put(arrival.key, arrival.content[: cuts[arrival.key]])
    ground.work_well()
    for arrival in chosen:
        _append(ground, arrival.key, arrival.content[cuts[arrival.key] :])()
        ground.tally.add("completed in place")


def _corrected(ground: Ground, chance: Random) -> None:
    """Objects are loaded with wrong values; the right ones take their place while they are read again, and after."""
    chosen = _some(chance, ground.business.growing, 6)
    ground.land([one for one in ground.business.arrivals if one not in chosen])
    for arrival in chosen:
        ground.put(arrival.key, wrong(arrival, chance))
    acts = {one.key: _replacing(ground, one) for one in chosen[::2]}
    if chance.random() < 0.5:
        ground.work_well()
    ground.work_well("replay", During(acts, "replaced while read"))
    for arrival in chosen:
        # Those that were replaced already are what they are to be.
        if ground.path(arrival.key).read_bytes() != arrival.content:
            ground.put(arrival.key, arrival.content)
            ground.tally.add("corrected")


def _replacing(ground: Ground, arrival: Arrival) -> Callable[[], None]:
    return lambda: ground.put(arrival.key, arrival.content)


def wrong(arrival: Arrival, chance: Random) -> bytes:
    """Another version of an object, of the same size: a digit in its last third is another one."""
    content = arrival.content
    digits = [match.start() for match in re.finditer(rb"[1-8]", content) if match.start() > len(content) // 3]
    place = chance.choice(digits) if digits else len(content) - 1
    return content[:place] + bytes([(content[place] + 1) % 256]) + content[place + 1 :]


# --- clocks


def _clock(ground: Ground, chance: Random) -> None:
    """Objects are of the past and of the future, and so are the clocks of those who load them."""
    early, late = ground.business.arrivals[::2], ground.business.arrivals[1::2]
    for arrivals, back in ((early, -1), (late, 1)):
        ground.land(arrivals)
        for arrival in arrivals:
            # What comes first is of the future, what comes next of the past.
            moment = time.time() - back * chance.uniform(1, 40) * 365 * 86400
            os.utime(ground.path(arrival.key), (moment, moment))
            ground.tally.add("wrong times of objects")
        offsets = [timedelta(), back * YEARS, -back * timedelta(hours=chance.randint(1, 100)), timedelta(days=2)]
        ground.work_well("catch-up", Clock(offsets, chance.randrange(1000)))


# --- others


def _two(ground: Ground, chance: Random) -> None:
    """Several load and compute the same at once; none has seen what the others are about to commit."""
    ground.land_all()
    workers = 2 if chance.random() < 0.7 else 3
    if chance.random() < 0.5:
        ground.work_well()
    begun = [ground.begin("replay", Together(workers)) for _ in range(workers)]
    for one in begun:
        ended = one.end()
        if not ended.is_well:
            raise Unsurvived(f"a run beside others failed: {ended}")


# --- the disk that is read


def _read_error(ground: Ground, chance: Random) -> None:
    """The disk fails in the middle of reading."""
    ground.land_all()
    for arrival in _some(chance, ground.business.arrivals, 4):
        # One at a time: the first error may end a run.
        _may_fail(ground, ReadError([arrival.key]))


def _denied(ground: Ground, chance: Random) -> None:
    """Objects may not be read for a while."""
    ground.land_all()
    for arrival in _some(chance, ground.business.arrivals, 3):
        _may_fail(ground, Denied([arrival.key]))


def _may_fail(ground: Ground, *meddlings: Meddling) -> None:
    """A run that may end with an error of ours, and with no other."""
    ended = ground.work("replay", *meddlings)
    if ended.code not in (0, 3):
        raise Unsurvived(f"a run broke: {ended}")


def _slow(ground: Ground, chance: Random) -> None:
    """The disk gives a few bytes at a time, each after a while."""
    ground.land_all()
    ground.work_well("catch-up", Slow(0.0005, chance.randint(40, 400)))


# --- S3


def _storm(ground: Ground, chance: Random) -> None:
    """Everything is read from an S3 server that throttles, breaks off, delays, and says nothing at all."""
    ground.land_all()
    with serving(ground.landing_folder, ground.tally, ground.root, chance.randrange(2**32), is_stormy=True) as server:
        ground.zone = server.landing
        try:
            works: tuple[Work, ...] = ("catch-up", "replay")
            for work in works:
                ended = ground.work(work)
                if ended.code not in (0, 3):
                    raise Unsurvived(f"a run broke: {ended}")
                if not ended.is_well:
                    ground.tally.add("runs that gave up")
        finally:
            ground.zone = None


@contextmanager
def _calm(ground: Ground) -> Iterator[None]:
    """The same server without a storm: from a folder, all would be read anew."""
    with serving(ground.landing_folder, ground.tally, ground.root, 0, is_stormy=False) as server:
        ground.zone = server.landing
        try:
            yield
        finally:
            ground.zone = None


# --- the disk that is written


def _disk_full(ground: Ground, chance: Random) -> None:
    """The disk of the warehouse, or that of its tables' files alone, is full, and has more room each time that a run has failed."""
    ground.land_all()
    # With one disk for all, it is the ledger that mostly finds no room.
    is_of_tables = chance.random() < 0.5
    disk = SmallDisk(ground.tables if is_of_tables else ground.place)
    least, part = (8 * 1024, 0.02) if is_of_tables else (96 * 1024, 0.2)
    room = max(least, int(ground.size_bytes * chance.uniform(part / 4, part)))
    for _ in range(40):
        with disk.limited(room):
            ended = ground.work("catch-up", *disk.meddlings(room))
        if ended.is_well:
            break
        if ended.code != 3:
            raise Unsurvived(f"a run broke: {ended}")
        if disk.was_full(ended.said):
            ground.tally.add("disk full")
        room += max(8 * 1024, int(ground.size_bytes * chance.uniform(0.02, 0.06)))


FAULTS: tuple[Fault, ...] = (
    Fault("kill", "killed at random moments, one or three at a time", _kill, ("kills",), twins.EARLY_COMMIT),
    Fault("kill-at-steps", "killed before a step that lasts", _kill_at_steps, ("kills",), twins.EARLY_COMMIT),
    Fault(
        "twice", "the same bytes again, under their key and another", _twice,
        ("sent again", "doubles under another key"), twins.NO_CONTENT, _doubles,
    ),
    Fault("order", "landing in another order, amid runs", _order, ("runs amid arrivals",), twins.ONCE_COMPUTED),
    Fault("growing", "files that grow while they are read", _growing, ("grew while read",), twins.NO_SECOND_LOOK, _files),
    Fault("half", "half files, completed later", _half, ("completed in place",), twins.BY_NAME, _files),
    Fault(
        "corrected", "another version of the same size, amid the load", _corrected, ("replaced while read", "corrected"),
        twins.BY_SIZE, _files,
    ),
    Fault("clock", "times of objects and clocks that jump by years", _clock, ("wrong times of objects", "wrong clocks"), twins.NEWER_ONLY),
    Fault("two", "two or three at once on the same days", _two, ("conflicts",), twins.LAST_WINS),
    Fault("read-error", "the disk fails in the middle of an object", _read_error, ("EIO",), twins.ERROR_IS_END),
    Fault("denied", "objects that may not be read for a while", _denied, ("EACCES",), twins.DENIED_IS_EMPTY),
    Fault("slow", "a disk that gives few bytes, slowly", _slow, ("slow reads",), twins.SHORT_READ_IS_END),
    Fault(
        "storm", "S3 that throttles, cuts, delays", _storm,
        ("503 answered", "bodies cut", "connections cut", "delays"), twins.TAKES_WHAT_COMES, at_rest=_calm,
    ),
    Fault("disk-full", "no room for what is written", _disk_full, ("disk full",), twins.SWALLOWS_FULL, on_small_disk=True),
)  # fmt: skip
"""All there are, in the order in which they are told."""
