"""What is special to a folder: hostile names, links, what isn't a file, and what a listing looks at."""

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingestion_platform.errors import LandingError, LandingUnavailable, ObjectChanged, ObjectMissing
from ingestion_platform.landing import LandedObject
from ingestion_platform.landing.local import LocalLanding


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a landing zone, with a folder in it."""
    (tmp_path / "landing" / "a").mkdir(parents=True)
    return tmp_path / "landing"


def keys(root: Path, prefix: str = "") -> list[str]:
    """The keys of a listing."""
    return [object_.key for object_ in LocalLanding(root).list(prefix)]


def test_names_of_any_bytes_are_listed_and_read(root: Path) -> None:
    """Names that aren't UTF-8 come as keys that are, each its own, and are read by them; so are line ends and quotes."""
    names = [
        b"caf\xe9.csv",
        b"caf\xc3\xa9.csv",
        b"\xff\xfe",
        "x\ufffdE9".encode(),
        b"x\xe9",
        b"\xed\xa0\x80",
        b"a\nb.csv",
        b"'\"`$(rm).csv",
        b"-rf",
        b"...",
    ]
    for name in names:
        with open(os.path.join(os.fsencode(root), b"a", name), "wb") as file:
            file.write(name)
    listed = list(LocalLanding(root).list("a/"))
    assert len({object_.key for object_ in listed}) == len(names)
    assert [object_.key.encode() for object_ in listed] == sorted(object_.key.encode() for object_ in listed)
    assert sorted(LocalLanding(root).read(object_) for object_ in listed) == sorted(names)
    assert "a/caf\ufffdE9.csv" in keys(root, "a/caf\ufffd")


def test_folders_of_any_bytes_are_walked(root: Path) -> None:
    """A folder whose name isn't UTF-8 is walked, and can be asked for by its shown name."""
    folder = os.path.join(os.fsencode(root), b"caf\xe9")
    os.mkdir(folder)
    with open(os.path.join(folder, b"x.csv"), "wb"):
        pass
    assert keys(root) == ["caf\ufffdE9/x.csv"]
    assert keys(root, "caf\ufffdE9/") == ["caf\ufffdE9/x.csv"]


@pytest.mark.parametrize(
    "key",
    ["../secret", "a/../../secret", "/etc/passwd", "a\0", "\ud800", "", "a//b", "x\ufffd", "x\ufffd2F", "n" * 300],
)
def test_a_key_that_no_listing_gives_is_missing(root: Path, key: str) -> None:
    """Nothing outside the root can be read, whatever key somebody hands in."""
    (root.parent / "secret").write_bytes(b"secret")
    with pytest.raises(LandingError):
        LocalLanding(root).read(LandedObject(key, 6, "1-6-1", datetime.now(UTC)))


def test_links_are_not_followed(root: Path) -> None:
    """Symbolic links, to files or folders, inside or outside, broken or circular, are neither listed nor walked."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_bytes(b"x")
    (root / "a" / "real.csv").write_bytes(b"x")
    (root / "to_file.csv").symlink_to(outside / "secret.csv")
    (root / "to_folder").symlink_to(outside)
    (root / "to_inside").symlink_to(root / "a")
    (root / "circle").symlink_to(root)
    (root / "broken").symlink_to(root / "nowhere")
    assert keys(root) == ["a/real.csv"]
    assert keys(root, "to_folder/") == []
    assert keys(root, "to_inside/r") == []


def test_a_root_that_is_a_link_is_followed(root: Path) -> None:
    """The root itself may be a link: it is what a person configured."""
    (root / "a" / "real.csv").write_bytes(b"x")
    (root.parent / "link").symlink_to(root)
    assert keys(root.parent / "link") == ["a/real.csv"]


def test_an_object_replaced_by_a_link_or_pipe_is_changed(root: Path) -> None:
    """What was a file when listed and is something else now isn't read, and a pipe doesn't hold us."""
    (root.parent / "secret").write_bytes(b"x")
    path = root / "a" / "x.csv"
    path.write_bytes(b"x")
    (object_,) = LocalLanding(root).list()
    replacements: tuple[Callable[[], None], ...] = (
        lambda: path.symlink_to(root.parent / "secret"),
        lambda: os.mkfifo(path),
        lambda: path.mkdir(),
    )
    for replace in replacements:
        path.unlink()
        replace()
        with pytest.raises(ObjectChanged):
            LocalLanding(root).read(object_)


def test_nothing_is_written_through_a_link(root: Path) -> None:
    """A key whose folder is a link, or whose name is taken by a link or a folder, is refused."""
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "broken").symlink_to(outside / "new.csv")
    for key in ("link/x.csv", "broken", "a"):
        with pytest.raises(LandingError):
            LocalLanding(root).put_if_absent(key, b"x")
    assert list(outside.iterdir()) == []


def test_a_file_cannot_hold_files(root: Path) -> None:
    """An object under another object's key is refused: a folder can't hold both."""
    LocalLanding(root).put_if_absent("a/x", b"1")
    with pytest.raises(LandingError, match="no folder"):
        LocalLanding(root).put_if_absent("a/x/y", b"2")


def test_what_is_no_file_is_no_object(root: Path) -> None:
    """Pipes and sockets are left out."""
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "s"))
        assert keys(root) == []


def test_half_written_objects_are_not_listed(root: Path) -> None:
    """What a killed put left behind is no object; names that only look similar are."""
    (root / "a" / ".landing-0123456789abcdef0123456789abcdef.tmp").write_bytes(b"half")
    (root / "a" / ".landing-x.tmp").write_bytes(b"whole")
    assert keys(root) == ["a/.landing-x.tmp"]


def test_a_put_leaves_nothing_but_the_object(root: Path) -> None:
    """Written or refused, no temporary file stays, and others may read the object as the umask allows."""
    landing = LocalLanding(root)
    assert landing.put_if_absent("a/x.csv", b"1")
    assert not landing.put_if_absent("a/x.csv", b"2")
    assert os.listdir(root / "a") == ["x.csv"]
    umask = os.umask(0)
    os.umask(umask)
    assert (root / "a" / "x.csv").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_listing_opens_only_folders_that_matter(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders looked into depend on the prefix and on start_after, not on how many days have landed."""
    for month in range(1, 13):
        for day in range(1, 29):
            (root / f"sales/2024/{month:02}/{day:02}").mkdir(parents=True)
    (root / "sales/2024/10/01/S0001.csv").write_bytes(b"x")
    opened: list[str] = []
    scandir = os.scandir

    def counting(path: bytes) -> object:
        opened.append(os.path.relpath(os.fsdecode(path), root))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    assert keys(root, "sales/2024/10/01/S") == ["sales/2024/10/01/S0001.csv"]
    assert opened == ["sales/2024/10/01"]
    opened.clear()
    assert len(keys(root, "sales/2024/1")) == 1
    assert len(opened) == 1 + 3 * (1 + 28)
    opened.clear()
    assert list(LocalLanding(root).list(start_after="sales/2024/12/27/z")) == []
    assert opened == [".", "sales", "sales/2024", "sales/2024/12", "sales/2024/12/27", "sales/2024/12/28"]


def test_a_file_rewritten_while_it_is_read_is_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that appends between our first byte and our last is noticed."""
    path = root / "a" / "x.csv"
    path.write_bytes(b"one\n")
    (object_,) = LocalLanding(root).list()
    fstat, calls = os.fstat, 0

    def append_after_first(descriptor: int) -> os.stat_result:
        nonlocal calls
        calls += 1
        status = fstat(descriptor)
        if calls == 1:
            with path.open("ab") as file:
                file.write(b"two\n")
        return status

    monkeypatch.setattr("ingestion_platform.landing.local.os.fstat", append_after_first)
    with pytest.raises(ObjectChanged):
        LocalLanding(root).read(object_)
    assert calls == 2


def test_files_and_folders_that_vanish_meanwhile_are_left_out(root: Path) -> None:
    """A listing under way goes on when what it was about to show is deleted."""
    for name in ("1/x", "2/x", "3/x", "4", "5"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    listing = LocalLanding(root).list()
    assert next(listing).key == "1/x"
    (root / "2/x").unlink()
    (root / "2").rmdir()
    (root / "4").unlink()
    assert [object_.key for object_ in listing] == ["3/x", "5"]


def test_a_time_beyond_the_calendar_is_no_obstacle(root: Path) -> None:
    """A modification time far in the past or the future is shown as well as a datetime can."""
    (root / "old.csv").write_bytes(b"x")
    os.utime(root / "old.csv", ns=(0, -(10**18)))
    (object_,) = LocalLanding(root).list()
    assert object_.landed_at.year == 1938
    assert LocalLanding(root).read(object_) == b"x"


def test_a_root_that_is_no_folder_is_told(root: Path) -> None:
    """A file, or a link into nothing (an unmounted share), where the root should be is an error and not an empty landing zone."""
    (root / "file").write_bytes(b"x")
    (root / "link").symlink_to(root / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(LandingError, match="no folder"):
            keys(root / name)


def test_what_the_operating_system_refuses_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No access is for a person to repair; a failing disk is worth another try; both say where, and neither lists half in silence."""
    for error, expected in (
        (PermissionError(13, "Permission denied"), LandingError),
        (OSError(5, "Input/output error"), LandingUnavailable),
    ):

        def refuse(path: bytes, error: OSError = error) -> object:
            raise error

        monkeypatch.setattr("ingestion_platform.landing.local.os.scandir", refuse)
        with pytest.raises(expected) as caught:
            keys(root)
        assert type(caught.value) is expected
        assert str(root) in caught.value.what
        assert caught.value.hint


def test_a_full_disk_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the bytes can't be made durable, there is no object and no temporary file."""

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ingestion_platform.landing.local.os.fsync", refuse)
    with pytest.raises(LandingError, match="No space left"):
        LocalLanding(root).put_if_absent("a/x.csv", b"x")
    assert os.listdir(root / "a") == []


def test_missing_is_told_from_changed(root: Path) -> None:
    """A folder moved away takes its objects with it: missing."""
    (root / "a" / "x.csv").write_bytes(b"x")
    (object_,) = LocalLanding(root).list()
    (root / "a").rename(root / "b")
    (root / "a").write_bytes(b"now a file")
    with pytest.raises(ObjectMissing):
        LocalLanding(root).read(object_)


def test_a_root_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    """A disk that isn't mounted is told; every table would otherwise be found up to date."""
    with pytest.raises(LandingError, match="isn't there"):
        list(LocalLanding(tmp_path / "unmounted").list("sales/"))


def test_a_file_rewritten_in_place_while_it_is_read_is_told_at_its_end(tmp_path: Path) -> None:
    """An open file sees what is written into it: what was read of it until then doesn't count."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 100)
    landing = LocalLanding(tmp_path)
    (object_,) = landing.list()
    with landing.open(object_) as opened:
        opened.file.read(50)
        opened.check()
        with path.open("ab") as file:
            file.write(b"y")
        opened.file.read()
        with pytest.raises(ObjectChanged):
            opened.check()
