"""
A campaign of kills among forgettings: forked processes that each forget the same person, ended by SIGKILL at a step of their own.

Run as a program of its own, so that nothing is running in the process that forks; the folder given holds the small business of
`forgetting.py`, caught up: `python -m ingestion_platform_tests.warehouse.forget_kills FOLDER KILLS`.
"""

import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd  # noqa: F401  # pyarrow imports it at its first conversion; forked, each worker would do so anew

from ingestion_platform.warehouse.ledger_file import LedgerFile
from ingestion_platform.warehouse.upkeep import verify
from ingestion_platform_tests.warehouse.building import Bench, differences
from ingestion_platform_tests.warehouse.forgetting import SMALL, WHO, forgotten, found_in, hashed

CALLS = ("fsync", "link", "rename", "replace", "unlink")


def copied(root: Path, to: Path) -> Bench:
    """The same business in another folder."""
    shutil.copytree(root, to)
    return Bench(to, SMALL)


def in_child(work: Callable[[], object]) -> int:
    """Do something in a process of its own; how it ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 1
    try:
        work()
        code = 0
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        os._exit(code)


def forget_until(bench: Bench, last: int) -> None:
    """
    Forget the person, up to a call to the file system or a transaction of the ledger.

    Args:
        bench: the business; the file `calls` in it has a sign for each call.
        last: number of the call at which the process is killed; 0: none.
    """
    tally = os.open(bench.root / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    made = 0

    def counting(call: Callable[..., object]) -> Callable[..., object]:
        def one(*values: object, **named: object) -> object:
            nonlocal made
            made += 1
            os.write(tally, b".")
            if made == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*values, **named)

        return one

    for name in CALLS:
        setattr(os, name, counting(getattr(os, name)))
    LedgerFile.writing = counting(LedgerFile.writing)  # type: ignore[assignment, method-assign]
    forgotten(bench)


def finish(bench: Bench, expected: Path) -> None:
    """Forget the person, and hold what is there against what it should be."""
    folder = bench.landing_folder / "forgotten"
    # One that was killed after its certificate had landed was done: the next one is another, and finds nothing.
    were_done = len(list(folder.glob("*/done.json")))
    done = forgotten(bench)
    assert (done.stuck, done.waiting, done.is_done) == ((), (), True), done
    assert found_in(bench.root, WHO, hashed()) == []
    # Both halves are one forgetting, with one certificate.
    notes = {note.parent for note in folder.glob("*/*.json")}
    assert len(notes) == 1 + were_done, notes
    with bench.open() as warehouse:
        assert verify(warehouse) == []
    bench.warehouse = bench.open()
    if expected.exists():
        assert list(differences(pickle.loads(expected.read_bytes()), bench.export())) == []
    else:
        expected.write_bytes(pickle.dumps(bench.export()))


def campaign(root: Path, kills: int) -> int:
    """
    Kill so many forgettings, at steps that are as far apart as can be.

    Returns:
        How many were killed.
    """
    expected = root.parent / "expected"
    counted = copied(root, root.parent / "counted")
    assert in_child(lambda: forget_until(counted, 0)) == 0
    steps = len((counted.root / "calls").read_bytes())
    whole = copied(root, root.parent / "whole")
    assert in_child(lambda: finish(whole, expected)) == 0
    killed = 0
    for number in range(1, steps, max(1, steps // kills)):
        bench = copied(root, root.parent / f"killed-{number}")
        status = in_child(lambda bench=bench, number=number: forget_until(bench, number))  # type: ignore[misc]
        assert os.WIFSIGNALED(status), f"step {number} of {steps} wasn't reached"
        assert in_child(lambda bench=bench: finish(bench, expected)) == 0, f"killed at step {number} of {steps}"  # type: ignore[misc]
        shutil.rmtree(bench.root)
        killed += 1
    print(killed, "of", steps, "steps")
    return killed


if __name__ == "__main__":
    campaign(Path(sys.argv[1]), int(sys.argv[2]))
