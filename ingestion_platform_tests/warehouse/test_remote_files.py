"""Tables of remote files: of each file's versions the last one, whatever was loaded before."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.errors import DeclarationError
from ingestion_platform.format import Csv
from ingestion_platform.remote import RemoteFiles, RemoteObjects, stamp_of, tells_nothing, versions
from ingestion_platform.sources.local_folder import LocalFolder
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.sources.copy_worlds import DAY, NOON, Copying, FolderSender, remote
from ingestion_platform_tests.warehouse.building import Bench, differences

NEXT = DAY + timedelta(days=1)
HEADER = "id,at\n"


def dataset(declared: RemoteFiles | None = None, **changes: Any) -> Dataset:
    """A table of bookings by branch."""
    values: dict[str, Any] = {
        "name": "bookings",
        "description": "Bookings.",
        "source": RemoteObjects(declared or remote()),
        "columns": (
            Column("id", VARCHAR, "Its number.", required=True),
            Column("at", TIMESTAMP, "When.", required=True),
            Column("branch", VARCHAR, "Where.", capture="branch"),
        ),
        "primary_key": ("id",),
        "event_time": "at",
        "daily": Daily(DAY),
    }
    return Dataset(**{**values, **changes})


def lines(*ids: str, day: date = DAY) -> bytes:
    """A file of bookings."""
    return (HEADER + "".join(f"{one},{day} 10:00:00\n" for one in ids)).encode()


class World:
    """A sender, what copies from it, and a warehouse."""

    def __init__(self, folder: Path, declared: Dataset | None = None) -> None:
        self.dataset = declared or dataset()
        assert isinstance(self.dataset.source, RemoteObjects)
        self.bench = Bench(folder, Datasets([self.dataset]))
        (folder / "outbox").mkdir()
        self.sender = FolderSender(folder / "outbox")
        self.copying = Copying(
            folder, LocalFolder(str(folder / "outbox")), self.dataset.source.remote, self.bench.landing
        )
        self.minutes = 100

    def send(self, branch: str, content: bytes, day: date = DAY) -> None:
        """Put a file into the outbox, and copy."""
        self.minutes -= 1
        self.sender.put(f"{branch}/statement_{day:%Y%m%d}.csv", content, NOON - timedelta(minutes=self.minutes))
        self.copying.copy(day)

    def settle(self, *days: date) -> None:
        """Load and process days."""
        for day in days or (DAY,):
            self.bench.load("bookings", day)
            self.bench.process("bookings", day)

    def ids(self, table: str = "processed.bookings") -> list[tuple[object, ...]]:
        """What a table has."""
        return sorted(self.bench.rows(table, "id", "branch"))

    def states(self) -> list[str]:
        """Of the objects in the ledger."""
        return sorted(self.bench.states("bookings").values())

    def rebuilt(self) -> list[str]:
        """Where a warehouse made anew from the landing zone differs."""
        before = self.bench.export()
        self.bench.warehouse.close()
        upkeep.rebuild(self.bench.open)
        self.bench.warehouse = self.bench.open()
        return list(differences(before, self.bench.export()))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh one."""
    here = World(tmp_path)
    yield here
    here.bench.warehouse.close()


def test_files_become_a_table_with_what_their_paths_tell(world: World) -> None:
    """The branch is a capture of the remote path."""
    world.send("north", lines("1", "2"))
    world.send("south", lines("3"))
    world.settle()
    assert world.ids() == [("1", "north"), ("2", "north"), ("3", "south")]
    assert world.rebuilt() == []


def test_a_changed_file_replaces_its_rows(world: World) -> None:
    """What the former version had and the last one hasn't is gone; the former one is in the ledger as replaced."""
    world.send("north", lines("1", "2"))
    world.settle()
    world.send("north", lines("2", "3"))
    world.settle()
    assert world.ids() == [("2", "north"), ("3", "north")]
    assert world.ids("raw.bookings") == [("2", "north"), ("3", "north")]
    assert world.states() == ["loaded", "replaced"]
    assert world.bench.warehouse.stale_days("processed.bookings") == []
    assert world.rebuilt() == []


@pytest.mark.parametrize("between", [True, False])
def test_a_file_that_changes_back_has_its_first_rows(world: World, between: bool) -> None:
    """The third version has the bytes of the first: neither is a duplicate of the other, whether the second was ever loaded or not."""
    world.send("north", lines("1"))
    world.settle()
    world.send("north", lines("2"))
    if between:
        world.settle()
    world.send("north", lines("1"))
    world.settle()
    assert world.ids() == [("1", "north")]
    assert world.states() == ["loaded", "replaced", "replaced"]
    assert world.rebuilt() == []


def test_a_version_that_was_replaced_before_it_was_loaded_is_not_read(world: World) -> None:
    """It is in the ledger all the same."""
    world.send("north", lines("1"))
    world.send("north", lines("2"))
    assert len(world.bench.load("bookings").new_keys) == 1
    assert world.states() == ["loaded", "replaced"]
    assert world.bench.load("bookings").new_keys == ()


def test_a_touched_file_changes_nothing(world: World) -> None:
    """The mark that lands is no object of the table."""
    world.send("north", lines("1"))
    world.settle()
    world.send("north", lines("1"))
    assert world.bench.load("bookings").new_keys == ()
    assert len(list(world.bench.landing.list())) == 2
    assert world.states() == ["loaded"]
    assert world.rebuilt() == []


def test_the_same_content_under_two_paths_is_loaded_once_until_one_changes(tmp_path: Path) -> None:
    """As with files that are put there: the duplicate is let in when the one that it was a duplicate of is replaced."""
    columns = (
        Column("id", VARCHAR, "Its number.", required=True),
        Column("at", TIMESTAMP, "When.", required=True),
    )
    here = World(tmp_path, dataset(columns=columns))
    here.send("north", lines("1"))
    here.send("south", lines("1"))
    here.settle()
    assert here.states() == ["duplicate", "loaded"]
    here.send("north", lines("2"))
    here.settle()
    assert sorted(here.bench.rows("processed.bookings", "id")) == [("1",), ("2",)]
    assert here.states() == ["loaded", "loaded", "replaced"]
    assert here.rebuilt() == []
    here.bench.warehouse.close()


def test_a_snapshot_that_is_sent_again_takes_the_place_of_the_former(tmp_path: Path) -> None:
    """Of one branch; the other's stays."""
    here = World(tmp_path, dataset(kind="snapshots", event_time=None))
    here.send("north", lines("1", "2"))
    here.send("south", lines("9"))
    here.settle()
    here.send("north", lines("1"))
    here.settle()
    assert here.ids() == [("1", "north"), ("9", "south")]
    assert here.rebuilt() == []
    here.bench.warehouse.close()


def test_bytes_that_are_not_those_that_were_copied_are_rejected(world: World) -> None:
    """A disk that flips a bit in the landing zone is noticed: the name has the digest."""
    world.send("north", lines("1"))
    world.send("south", lines("2"))
    (key,) = [one.key for one in world.bench.landing.list() if "north" in one.key]
    path = world.bench.landing_folder / key
    path.write_bytes(path.read_bytes().replace(b"1,", b"7,"))
    world.settle()
    assert world.ids() == [("2", "south")]
    assert world.states() == ["loaded", "rejected"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Bank"}, "snake_case"),
        ({"description": " "}, "no description"),
        ({"url": "sftp://user:secret@host/x"}, "holds a user or a password"),
        ({"url": "sftp:///x"}, "names no host"),
        ({"url": ""}, "its url is none"),
        ({"path": "/x_%Y%m%d.csv"}, "a segment that is empty"),
        ({"path": "../x_%Y%m%d.csv"}, "a segment that is empty, . or .."),
        ({"path": "x_%Y%m.csv"}, "doesn't give the day"),
        ({"path": "x_%q%Y%m%d.csv"}, "%q is not understood"),
        ({"path": "{version}_%Y%m%d.csv"}, "can't be called version"),
        ({"day": "modified"}, "gives a day, and day is 'modified'"),
        ({"look_back_days": -1}, "look_back_days is 0 to 366"),
        ({"settle_seconds": -1}, "settle_seconds"),
        ({"rate_bytes_per_second": 0}, "rate_bytes_per_second"),
        ({"part_bytes": 1000}, "part_bytes"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_a_mistake_in_a_declaration_is_told(changes: dict[str, Any], told: str) -> None:
    """At import, with what to do; and a password is not shown."""
    with pytest.raises(DeclarationError, match=told) as caught:
        remote(**changes)
    assert "secret" not in str(caught.value)


def test_two_declarations_of_one_remote_are_told() -> None:
    """Whichever was meant; and two things of one name would share an asset."""
    with pytest.raises(DeclarationError, match="remote 'statements' is declared twice"):
        Datasets([dataset(), dataset(remote(look_back_days=9), name="others")])
    assert list(Datasets([dataset(), dataset(name="others")]).remotes) == ["statements"]
    files = dataset(name="statements", source=LandedFiles("x/%Y%m%d/{branch}.csv", format=Csv()))
    with pytest.raises(DeclarationError, match="are called 'statements'"):
        Datasets([dataset(), files])


def test_keys_tell_the_versions_of_each_file() -> None:
    """In their order, with every stamp under which they were seen; keys of somebody else's are left out."""
    declared = remote()
    first = declared.version_key(DAY, "north/statement_20241001.csv", 1, "a" * 64, "1" * 16)
    tenth = declared.version_key(DAY, "north/statement_20241001.csv", 10, "b" * 64, "2" * 16)
    assert (
        first
        == "remotes/statements/2024/10/01/north/statement_20241001.csv/00001-aaaaaaaaaaaaaaaa-1111111111111111.csv"
    )
    (found,) = versions(declared, [tenth, first, "remotes/statements/2024/10/01/x", "elsewhere/x"]).values()
    assert [one.number for one in found] == [1, 10]
    mark = declared.mark_key(DAY, found[1], "3" * 16)
    (found,) = versions(declared, [mark, tenth, first]).values()
    assert found[1].stamps == {"2" * 16, "3" * 16}
    assert RemoteObjects(declared).match(mark) is None
    assert RemoteObjects(declared).match(tenth) == (DAY, {"branch": "north"})
    assert RemoteObjects(declared).match(tenth.replace("2024/10/01", "2024/10/02")) is None


def test_a_stamp_changes_with_all_that_tells_of_the_content() -> None:
    """Size, moment and ETag; without moment and ETag it tells nothing."""
    stamps = {
        stamp_of(1, NOON, ""),
        stamp_of(2, NOON, ""),
        stamp_of(1, NOON + timedelta(seconds=1), ""),
        stamp_of(1, None, "x"),
    }
    assert len(stamps) == 4
    assert tells_nothing(stamp_of(1, None, ""))
    assert not any(map(tells_nothing, stamps))
