"""What copying from every kind of remote folder does alike: one suite, run over each of them."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingestion_platform.errors import SourceError
from ingestion_platform.landing import LandingZone
from ingestion_platform_tests.sources.copy_worlds import DAY, NOON, PART, WORLDS, Copying, Sender, numbers, remote

NEXT = DAY + timedelta(days=1)
NORTH, SOUTH = "north/statement_20241001.csv", "south/statement_20241001.csv"


@pytest.fixture(params=list(WORLDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Copying, Sender]]:
    """A remote folder of each kind, and what copies it."""
    with WORLDS[request.param](tmp_path) as (folder, sender):
        yield Copying(tmp_path, folder), sender


def test_files_of_the_day_land_and_no_others(world: tuple[Copying, Sender]) -> None:
    """By their paths; what is of another day, or named otherwise, stays where it is."""
    here, sender = world
    sender.put(NORTH, b"id\n1\n")
    sender.put(SOUTH, b"")
    sender.put("north/statement_20241002.csv", b"id\n2\n")
    sender.put("north/readme.txt", b"hello")
    sender.put("statement_20241001.csv", b"too high")
    assert numbers(here.copy()) == {"seen": 2, "new": 2, "others": 2}
    assert here.landed() == {NORTH: b"id\n1\n", SOUTH: b""}
    assert numbers(here.copy(NEXT)) == {"seen": 1, "new": 1, "others": 2}


def test_what_has_landed_is_not_read_again(world: tuple[Copying, Sender]) -> None:
    """Neither the next time nor after the file was taken away."""
    here, sender = world
    sender.put(NORTH, b"id\n1\n")
    here.copy()
    before = here.keys()
    again = here.copy()
    assert numbers(again) == {"seen": 1, "unchanged": 1}
    assert again.bytes_read == 0
    sender.delete(NORTH)
    assert numbers(here.copy()) == {}
    assert here.keys() == before


@pytest.mark.parametrize("older", [True, False])
def test_a_changed_file_lands_beside_its_former_version_and_counts(world: tuple[Copying, Sender], older: bool) -> None:
    """Even when it has an older modification time than before, as of a backup that was put back."""
    here, sender = world
    sender.put(NORTH, b"id\n1\n")
    here.copy()
    sender.put(NORTH, b"id\n2\n", NOON - timedelta(hours=5 if older else 0.5))
    assert numbers(here.copy()) == {"seen": 1, "changed": 1}
    assert here.landed() == {NORTH: b"id\n2\n"}
    assert len(here.keys()) == 2
    sender.put(NORTH, b"id\n1\n")
    assert numbers(here.copy()) == {"seen": 1, "changed": 1}
    assert here.landed() == {NORTH: b"id\n1\n"}


def test_the_same_bytes_again_land_nothing(world: tuple[Copying, Sender]) -> None:
    """A file that was only touched is read once to see that, and then isn't any more."""
    here, sender = world
    sender.put(NORTH, b"id\n1\n")
    here.copy()
    sender.put(NORTH, b"id\n1\n", NOON - timedelta(minutes=5))
    assert numbers(here.copy()) == {"seen": 1, "unchanged": 1, "touched": 1}
    again = here.copy()
    assert (numbers(again), again.bytes_read) == ({"seen": 1, "unchanged": 1}, 0)
    assert here.landed() == {NORTH: b"id\n1\n"}


def test_a_young_file_is_left_for_the_next_look(world: tuple[Copying, Sender]) -> None:
    """It may still be being written."""
    here, sender = world
    sender.put(NORTH, b"id\n", NOON - timedelta(seconds=30))
    left = here.copy()
    assert numbers(left) == {"seen": 1, "left": 1}
    assert "was written at 2024-10-01 11:59:30 UTC" in left.left[0].reason
    here.at += timedelta(seconds=31)
    assert numbers(here.copy()) == {"seen": 1, "new": 1}


def test_a_file_that_grows_while_it_is_copied_is_left(world: tuple[Copying, Sender]) -> None:
    """Told by its size before and after; no half of it lands."""
    here, sender = world
    clock = datetime(2100, 1, 1, tzinfo=UTC)
    sender.put(NORTH, b"id\n1\n", clock)
    here.during_sleep = lambda: sender.put(NORTH, b"id\n1\n2\n", clock)
    left = here.copy()
    assert numbers(left) == {"seen": 1, "left": 1}
    assert here.slept == [60]
    assert here.keys() == []
    here.during_sleep = lambda: None
    assert numbers(here.copy()) == {"seen": 1, "new": 1}
    assert here.landed() == {NORTH: b"id\n1\n2\n"}


def test_a_large_file_lands_whole(world: tuple[Copying, Sender]) -> None:
    """In parts, by way of the disk; nothing of it is left there."""
    here, sender = world
    content = bytes(range(256)) * 50_000
    assert len(content) > 2 * PART
    sender.put(NORTH, content)
    copied = here.copy()
    assert (numbers(copied), copied.bytes_read) == ({"seen": 1, "new": 1}, len(content))
    assert here.landed() == {NORTH: content}
    assert list((here.root / "spool").iterdir()) == []


def test_files_without_a_day_in_their_names_are_of_the_day_they_were_written_on(world: tuple[Copying, Sender]) -> None:
    """In business time: 23:00 UTC is the next day there."""
    here, sender = world
    here.remote = remote(path="{branch}/{name}.csv", day="modified")
    here.at = NOON + timedelta(days=3)
    sender.put("north/a.csv", b"1", datetime(2024, 10, 1, 21, 59, tzinfo=UTC))
    sender.put("north/b.csv", b"2", datetime(2024, 10, 1, 22, 1, tzinfo=UTC))
    assert numbers(here.copy()) == {"seen": 1, "new": 1}
    assert numbers(here.copy(NEXT)) == {"seen": 1, "new": 1}
    assert (here.landed(), here.landed(NEXT)) == ({"north/a.csv": b"1"}, {"north/b.csv": b"2"})


def test_a_digest_beside_the_file_is_held_against_it(world: tuple[Copying, Sender]) -> None:
    """Not there yet: left. Another one: failed, and nothing lands. The right one: lands, however young the file is."""
    here, sender = world
    here.remote = remote(checksum=".md5")
    sender.put(NORTH, b"id\n1\n")
    assert "its .md5 isn't there yet" in here.copy().left[0].reason
    sender.put(f"{NORTH}.md5", b"0" * 32 + b"  statement_20241001.csv\n")
    failed = here.copy()
    assert numbers(failed) == {"seen": 1, "failed": 1}
    assert "isn't what its sender says" in failed.failed[0].reason
    assert here.keys() == []
    here.at = NOON - timedelta(minutes=59, seconds=30)
    assert "may still be being written" in here.copy().left[0].reason
    digest = hashlib.md5(b"id\n1\n", usedforsecurity=False).hexdigest().upper()
    sender.put(f"{NORTH}.md5", b"0" * 32 + f"  other.csv\n{digest} *statement_20241001.csv\n".encode())
    assert numbers(here.copy()) == {"seen": 1, "new": 1}


def test_a_folder_that_is_not_there_is_told_and_not_taken_for_an_empty_one(world: tuple[Copying, Sender]) -> None:
    """A share that isn't mounted has no files, which isn't the same as no new files."""
    here, _ = world
    assert numbers(here.copy()) == {}
    folder = here.folder
    place = "_root" if hasattr(folder, "_root") else "_url"
    setattr(folder, place, getattr(folder, place) + "-elsewhere")
    with pytest.raises(SourceError, match="isn't there") as caught:
        here.copy()
    assert not caught.value.can_retry


def test_two_copies_of_the_same_land_it_once(world: tuple[Copying, Sender], landing: LandingZone) -> None:
    """Each on a landing zone of either kind; the slower one finds that it is there."""
    here, sender = world
    here.landing = landing
    sender.put(NORTH, b"id\n1\n" * 100)
    slow = here.copier()
    todo = slow._landed.last
    slow._landed.last = lambda day: (todo(day), here.copy())[0]  # type: ignore[method-assign]
    assert numbers(slow.run(DAY)) == {"seen": 1, "unchanged": 1}
    assert len(here.keys()) == 1
