"""A folder's objects age: at any moment each can be read under its key, whoever is killed, writes, reads or ages beside it."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from ingestion_platform.errors import LandingError, ObjectChanged, ObjectMissing
from ingestion_platform.landing import LandedObject, same_version
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.lifecycle import Place

KEY = "sales/2023/10/01/S1.csv"
CONTENT = b"id,units\n" + b"1,2\n" * 1000
STEPS = ("open", "fsync", "utime", "rename", "link", "unlink", "mkdir", "rmdir")
"""What changes a folder, or makes a change last."""


@pytest.fixture
def landing(tmp_path: Path) -> LocalLanding:
    """A landing zone with both colder folders."""
    for name in ("landing", "warm", "cold"):
        (tmp_path / name).mkdir()
    return zone(tmp_path)


def zone(folder: Path) -> LocalLanding:
    """The same, opened anew."""
    return LocalLanding(folder / "landing", warm=folder / "warm", cold=folder / "cold")


def put(folder: Path, content: bytes = CONTENT, key: str = KEY) -> None:
    """Write as a producer does: a whole file is renamed into place."""
    path = folder / "landing" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    half = folder / "half"
    half.write_bytes(content)
    half.rename(path)


def one(landing: LocalLanding, key: str = KEY) -> LandedObject:
    """The only object under a key."""
    (found,) = landing.list(key)
    return found


def age(landing: LocalLanding, place: Place, *, known: bytes = b"") -> Place:
    """Age the object, as a process does."""
    with landing.ageing() as is_ours:
        assert is_ours
        return landing.age(one(landing), place, sha256(known).hexdigest() if known else "")


def files(folder: Path) -> dict[str, list[str]]:
    """What each folder holds, marks and locks left out."""
    found = {}
    for name in ("landing", "warm", "cold"):
        there = [path.relative_to(folder / name) for path in (folder / name).rglob("*") if path.is_file()]
        found[name] = sorted(str(path) for path in there if path.name != "lock" and path.suffix != ".used")
    return found


@contextmanager
def at_step(patch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Do something just before the so-maniest step; gives the steps that were gone through."""
    steps: list[str] = []
    inside = threading.local()

    def watch(name: str) -> Callable[..., object]:
        call = getattr(os, name)

        def watched(*arguments: object, **options: object) -> object:
            if not getattr(inside, "it", False):
                steps.append(name)
                if len(steps) == number:
                    inside.it = True
                    act()
                    inside.it = False
            return call(*arguments, **options)

        return watched

    with patch.context() as patched:
        for name in STEPS:
            patched.setattr(os, name, watch(name))
        yield steps


@pytest.mark.parametrize("place", ["warm", "cold"])
def test_an_aged_object_is_what_it_was(landing: LocalLanding, tmp_path: Path, place: Place) -> None:
    """Its key, size, time and version stay; it is listed once, read, and can't be put again."""
    put(tmp_path)
    before = one(landing)
    assert age(landing, place, known=CONTENT) == place
    after = one(landing)
    assert (after.key, after.size_bytes, after.landed_at, after.place) == (KEY, len(CONTENT), before.landed_at, place)
    assert same_version(after.token, before.token)
    assert landing.read(after) == landing.read(before) == CONTENT
    assert landing.put_if_absent(KEY, b"other") is False
    assert files(tmp_path) == {"landing": [], "warm": [], "cold": [], place: [KEY]}


def test_a_warm_object_goes_cold_and_never_back(landing: LocalLanding, tmp_path: Path) -> None:
    """From the warm folder to the cold one, and no way to a hotter one."""
    put(tmp_path)
    for place, expected in (("warm", "warm"), ("hot", "warm"), ("cold", "cold"), ("warm", "cold")):
        assert age(landing, place) == expected  # type: ignore[arg-type]
    assert files(tmp_path) == {"landing": [], "warm": [], "cold": [KEY]}


def test_a_deployment_may_have_one_colder_folder_or_none(tmp_path: Path) -> None:
    """What is due for a folder that isn't there goes no further than there is one."""
    for name in ("landing", "warm"):
        (tmp_path / name).mkdir()
    put(tmp_path)
    none = LocalLanding(tmp_path / "landing")
    assert age(none, "cold") == "hot"
    warm = LocalLanding(tmp_path / "landing", warm=tmp_path / "warm")
    assert age(warm, "cold") == "warm"


@pytest.mark.parametrize("path", ["hot to warm", "hot to cold", "warm to cold"])
def test_killed_at_any_step_the_object_is_there(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each change of a folder the process dies: the object is listed once and read, and the next ageing goes on."""
    begin, _, end = path.partition(" to ")
    for number in range(1, 200):
        folder = tmp_path / str(number)
        for name in ("landing", "warm", "cold"):
            (folder / name).mkdir(parents=True)
        landing = zone(folder)
        put(folder)
        before = one(landing)
        if begin == "warm":
            age(landing, "warm")
        child = os.fork()
        if child == 0:
            with at_step(monkeypatch, number, lambda: os._exit(9)):
                age(zone(folder), end)  # type: ignore[arg-type]
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        after = one(zone(folder))
        assert same_version(before.token, after.token)
        assert zone(folder).read(after) == CONTENT
        assert zone(folder).read(before) == CONTENT
        assert age(zone(folder), end) == end  # type: ignore[arg-type]
        assert files(folder) == {"landing": [], "warm": [], "cold": [], end: [KEY]}
        if code == 0:
            break
        assert code == 9
    assert number > 8


@pytest.mark.parametrize("is_killed", [False, True])
def test_an_object_that_changes_while_it_ages_is_not_lost(
    tmp_path: Path, is_killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each step a producer puts another version there, and perhaps the process dies just after: the new version is the object."""
    for number in range(1, 200):
        folder = tmp_path / str(number)
        for name in ("landing", "warm", "cold"):
            (folder / name).mkdir(parents=True)
        put(folder)
        child = os.fork()
        if child == 0:
            changes: list[int] = []

            def change(folder: Path = folder, changes: list[int] = changes) -> None:
                put(folder, b"another version")
                changes.append(1)

            try:
                with at_step(monkeypatch, number, change) as steps:

                    def die(
                        path: bytes, changes: list[int] = changes, unlink: Callable[[bytes], None] = os.unlink
                    ) -> None:
                        if is_killed and changes:
                            os._exit(7)
                        unlink(path)

                    monkeypatch.setattr(os, "unlink", die)
                    age(zone(folder), "warm", known=CONTENT)
            except ObjectChanged:
                os._exit(8)
            os._exit(8 if len(steps) >= number else 0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 7, 8)
        if code == 0:
            break
        assert zone(folder).read(one(zone(folder))) == b"another version"
        with zone(folder).ageing():
            pass
        found = one(zone(folder))
        assert (zone(folder).read(found), found.place) == (b"another version", "hot")
        age(zone(folder), "warm")
        assert zone(folder).read(one(zone(folder))) == b"another version"
        assert files(folder) == {"landing": [], "warm": [KEY], "cold": []}
    assert number > 8


def test_two_cannot_age_at_once(landing: LocalLanding, tmp_path: Path) -> None:
    """The second is told so, and may do nothing; when the first has died, it may."""
    put(tmp_path)
    with landing.ageing() as first, zone(tmp_path).ageing() as second:
        assert (first, second) == (True, False)
    child = os.fork()
    if child == 0:
        context = zone(tmp_path).ageing()
        context.__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    assert age(landing, "cold") == "cold"


def test_readers_and_listings_beside_ageing_miss_nothing(landing: LocalLanding, tmp_path: Path) -> None:
    """While everything moves to the warm folder and on to the cold one, every listing has all keys, each once, and all can be read."""
    keys = [f"sales/2023/10/{day:02}/S{number:02}.csv" for day in range(1, 6) for number in range(12)]
    for key in keys:
        put(tmp_path, key.encode(), key)
    wrong: list[object] = []
    is_over = threading.Event()
    looks = 0

    def look() -> None:
        nonlocal looks
        while not is_over.is_set():
            listed = list(zone(tmp_path).list())
            if [object_.key for object_ in listed] != keys:
                wrong.append([object_.key for object_ in listed])
            for object_ in listed[::7]:
                if landing.read(object_) != object_.key.encode():
                    wrong.append(object_)
            looks += 1

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for place in ("warm", "cold"):
            with landing.ageing():
                for object_ in list(landing.list()):
                    landing.age(object_, place, sha256(object_.key.encode()).hexdigest())
    finally:
        is_over.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert looks > 3
    assert {object_.place for object_ in landing.list()} == {"cold"}


def test_a_full_disk_leaves_the_object_where_it_is(
    landing: LocalLanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told with the folder's name, nothing half stays, and the object is read as before."""
    put(tmp_path)

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with landing.ageing():
        monkeypatch.setattr("ingestion_platform.landing.local.os.fsync", refuse)
        with pytest.raises(LandingError, match="No space left") as caught:
            landing.age(one(landing), "cold", "")
    assert str(tmp_path / "cold") in caught.value.what
    assert files(tmp_path) == {"landing": [KEY], "warm": [], "cold": []}
    assert landing.read(one(landing)) == CONTENT


def test_content_that_is_not_what_was_loaded_stays(landing: LocalLanding, tmp_path: Path) -> None:
    """A file that has rotted, or was changed behind its time's back, isn't moved, and it is said."""
    put(tmp_path)
    with pytest.raises(ObjectChanged, match="isn't what was loaded"):
        age(landing, "cold", known=b"something else")
    assert files(tmp_path) == {"landing": [KEY], "warm": [], "cold": []}


def test_a_copy_that_reads_differently_is_thrown_away(
    landing: LocalLanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that gives back other bytes than it took is noticed while the original is there."""
    put(tmp_path)

    def rot(descriptor: int) -> None:
        with suppress(OSError):  # a folder
            os.pwrite(descriptor, b"X", 3)

    monkeypatch.setattr(os, "fsync", rot)
    with landing.ageing(), pytest.raises(LandingError, match="reads differently"):
        landing.age(one(landing), "cold", "")
    monkeypatch.undo()
    assert files(tmp_path) == {"landing": [KEY], "warm": [], "cold": []}


def test_a_disk_that_rounds_times_is_refused(
    landing: LocalLanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object would look like another version there, and be read again."""
    put(tmp_path)
    utime = os.utime
    monkeypatch.setattr(os, "utime", lambda file, ns: utime(file, ns=(ns[0] // 10**9 * 10**9, ns[1] // 10**9 * 10**9)))
    with pytest.raises(LandingError, match="nanosecond"):
        age(landing, "warm")
    assert files(tmp_path) == {"landing": [KEY], "warm": [], "cold": []}


def test_a_disk_that_is_not_mounted_is_told(landing: LocalLanding, tmp_path: Path) -> None:
    """An empty mount point, a missing folder or a setting that was dropped don't make objects disappear: nothing is listed at all."""
    put(tmp_path)
    age(landing, "cold")
    (tmp_path / "cold").rename(tmp_path / "elsewhere")
    with pytest.raises(LandingError, match="is its disk mounted"):
        list(landing.list())
    (tmp_path / "cold").mkdir()
    with pytest.raises(LandingError, match="isn't the one"):
        list(landing.list())
    with pytest.raises(LandingError, match="isn't the one"):
        age_only(landing)
    with pytest.raises(LandingError, match="isn't said any more") as caught:
        list(LocalLanding(tmp_path / "landing", warm=tmp_path / "warm").list())
    assert "INGESTION_LANDING_COLD" in caught.value.hint
    (tmp_path / "cold").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "cold")
    assert landing.read(one(landing)) == CONTENT


def age_only(landing: LocalLanding) -> None:
    """Begin to age, and do nothing."""
    with landing.ageing():
        pass


def test_a_folder_that_is_not_there_is_told_before_anything_moves(tmp_path: Path) -> None:
    """The first ageing makes no folder where a disk should be."""
    (tmp_path / "landing").mkdir()
    put(tmp_path)
    with pytest.raises(LandingError, match="mkdir"):
        age_only(LocalLanding(tmp_path / "landing", cold=tmp_path / "cold"))
    assert not (tmp_path / "cold").exists()


@pytest.mark.parametrize(
    ("warm", "cold"), [("landing", ""), ("landing/warm", ""), ("", ".."), ("warm", "warm/cold"), ("x", "x")]
)
def test_folders_within_each_other_are_refused(tmp_path: Path, warm: str, cold: str) -> None:
    """Objects would be listed under two keys."""
    with pytest.raises(LandingError, match="in another"):
        LocalLanding(
            tmp_path / "landing",
            warm=tmp_path / warm if warm else "",
            cold=os.path.normpath(tmp_path / "landing" / cold) if cold == ".." else (tmp_path / cold if cold else ""),
        )


def test_an_object_that_is_gone_is_missing_in_every_folder(landing: LocalLanding, tmp_path: Path) -> None:
    """Deleted by somebody after it has aged, it is missing, as any is."""
    put(tmp_path)
    age(landing, "cold")
    listed = one(landing)
    (tmp_path / "cold" / KEY).unlink()
    with pytest.raises(ObjectMissing):
        landing.read(listed)
    with landing.ageing(), pytest.raises(ObjectMissing):
        landing.age(LandedObject(KEY, listed.size_bytes, listed.token, listed.landed_at, "warm"), "cold", "")


def test_a_new_version_of_an_aged_object_is_the_object(landing: LocalLanding, tmp_path: Path) -> None:
    """What a producer puts under the key of an object that has aged is listed in its stead, and ages into its place."""
    put(tmp_path)
    age(landing, "cold")
    old = one(landing)
    put(tmp_path, b"newer")
    new = one(landing)
    assert (landing.read(new), new.place) == (b"newer", "hot")
    assert not same_version(new.token, old.token)
    with pytest.raises(ObjectChanged):
        landing.read(old)
    age(landing, "warm")
    assert landing.read(one(landing)) == b"newer"
    assert files(tmp_path) == {"landing": [], "warm": [KEY], "cold": []}


def test_links_in_the_colder_folders_are_not_followed(landing: LocalLanding, tmp_path: Path) -> None:
    """Neither listed nor read."""
    put(tmp_path)
    age(landing, "cold")
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "cold/sales/link").symlink_to(tmp_path / "secret")
    (tmp_path / "cold/folder").symlink_to(tmp_path)
    assert [object_.key for object_ in landing.list()] == [KEY]
    listed = one(landing)
    (tmp_path / "cold" / KEY).unlink()
    (tmp_path / "cold" / KEY).symlink_to(tmp_path / "secret")
    with pytest.raises(ObjectChanged):
        landing.read(listed)


def test_names_of_any_bytes_age(landing: LocalLanding, tmp_path: Path) -> None:
    """A file whose name isn't UTF-8, and one with the longest name there is, age as any."""
    folder = os.fsencode(tmp_path / "landing" / "a")
    os.mkdir(folder)
    for name in (b"caf\xe9.csv", b"y" * 255, b"a\nb", b"-rf"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(name)
    before = {object_.key: landing.read(object_) for object_ in landing.list()}
    for place in ("warm", "cold"):
        with landing.ageing():
            for object_ in list(landing.list()):
                landing.age(object_, place, "")
    assert {object_.key: landing.read(object_) for object_ in landing.list()} == before
    assert {object_.place for object_ in landing.list()} == {"cold"}
