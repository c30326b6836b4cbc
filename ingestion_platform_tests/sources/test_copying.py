"""What copying survives: kills, cut connections, two at once, hostile names, limits; and what of it is told."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingestion_platform.errors import LandingUnavailable, SettingsError, SourceError, SourceUnavailable
from ingestion_platform.landing import LandingZone
from ingestion_platform.sources.bandwidth import Bandwidth
from ingestion_platform.sources.copied import CopiedFile
from ingestion_platform.sources.fsspec_folder import FsspecFolder
from ingestion_platform.sources.local_folder import LocalFolder
from ingestion_platform.sources.remotes import hostile
from ingestion_platform.sources.sftp import SftpFolder
from ingestion_platform.sources.spool import Spool
from ingestion_platform_tests.sources.copy_worlds import DAY, NOON, PART, Copying, FolderSender, numbers, remote
from ingestion_platform_tests.sources.sftp_server import PASSWORD, SftpServer, serve_sftp

NORTH, SOUTH = "north/statement_20241001.csv", "south/statement_20241001.csv"
LARGE = os.urandom(4 * PART + 1234)


@pytest.fixture
def outbox(tmp_path: Path) -> FolderSender:
    """A folder that somebody sends from."""
    (tmp_path / "outbox").mkdir()
    return FolderSender(tmp_path / "outbox")


@pytest.fixture
def here(tmp_path: Path, outbox: FolderSender) -> Copying:
    """What copies it."""
    return Copying(tmp_path, LocalFolder(str(outbox.root)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SftpServer]:
    """An SFTP server over a folder."""
    with serve_sftp(tmp_path / "sftp") as running:
        yield running


def no_answer(key: str, file: Path) -> bool:
    """A landing zone that is gone."""
    raise LandingUnavailable("no answer")


KILLED = """
import sys
from pathlib import Path
from ingestion_platform.landing import open_landing
from ingestion_platform.sources.bandwidth import Bandwidth
from ingestion_platform.sources.local_folder import LocalFolder
from ingestion_platform_tests.sources.copy_worlds import Copying

root = Path(sys.argv[1])
here = Copying(root, LocalFolder(str(root / "outbox")), landing=open_landing(sys.argv[2]))
here.copy(bandwidth=Bandwidth(12 * 1024**2))
"""


def test_a_copy_that_was_killed_goes_on_where_it_stopped(
    here: Copying, outbox: FolderSender, landing: LandingZone, tmp_path: Path
) -> None:
    """By SIGKILL in the middle of a file: nothing of it has landed; the parts that were here aren't read again; the bytes are the same."""
    outbox.put(NORTH, LARGE)
    here.landing = landing
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), landing.url])
    try:
        until = time.monotonic() + 60
        while not any(path.stat().st_size >= 130 for path in (tmp_path / "spool").glob("*.parts")):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert here.keys() == []
    copied = here.copy()
    assert numbers(copied) == {"seen": 1, "new": 1}
    assert copied.bytes_resumed >= 2 * PART
    assert copied.bytes_read == len(LARGE) - copied.bytes_resumed
    assert here.landed() == {NORTH: LARGE}


def test_a_copy_that_could_not_land_lands_without_being_read_again(here: Copying, outbox: FolderSender) -> None:
    """The landing zone was gone for a while; what was read is kept."""
    outbox.put(NORTH, LARGE)
    copier = here.copier()

    copier._landed.put_file = no_answer  # type: ignore[method-assign]
    with pytest.raises(LandingUnavailable):
        copier.run(DAY)
    copied = here.copy()
    # All but what follows the last whole part.
    assert copied.bytes_read == 1234
    assert here.landed() == {NORTH: LARGE}


def test_what_a_power_cut_has_made_of_a_part_is_read_again(here: Copying, outbox: FolderSender, tmp_path: Path) -> None:
    """Bytes on the disk that aren't as the journal has them don't land."""
    outbox.put(NORTH, LARGE)
    copier = here.copier()
    copier._landed.put_file = no_answer  # type: ignore[method-assign]
    with pytest.raises(LandingUnavailable):
        copier.run(DAY)
    (data,) = (tmp_path / "spool").glob("*.data")
    with data.open("r+b") as file:
        file.seek(2 * PART + 7)
        file.write(b"\0" * 512)
    copied = here.copy()
    assert copied.bytes_resumed == 2 * PART
    assert here.landed() == {NORTH: LARGE}


def test_a_file_that_changed_since_the_kill_is_read_from_its_beginning(here: Copying, outbox: FolderSender) -> None:
    """Its parts are those of another file."""
    outbox.put(NORTH, LARGE)
    copier = here.copier()
    copier._landed.put_file = no_answer  # type: ignore[method-assign]
    with pytest.raises(LandingUnavailable):
        copier.run(DAY)
    other = os.urandom(len(LARGE))
    outbox.put(NORTH, other, NOON - timedelta(minutes=30))
    copied = here.copy()
    assert (copied.bytes_resumed, copied.bytes_read) == (0, len(other))
    assert here.landed() == {NORTH: other}


def test_what_has_landed_is_never_written_to_by_a_later_copy(
    here: Copying, outbox: FolderSender, tmp_path: Path
) -> None:
    """Killed between landing and clearing up, a file has two names for a moment; the next copy begins a file of its own."""
    spool = Spool(tmp_path / "spool")
    with spool.opened("x", PART) as spooled:
        assert spooled is not None
        spooled.append(b"1" * PART)
        os.link(spooled.path, tmp_path / "landed")
    with spool.opened("x", PART) as again:
        assert again is not None
        assert again.size_bytes == 0
        again.append(b"2" * PART)
    assert (tmp_path / "landed").read_bytes() == b"1" * PART


def test_what_nobody_goes_on_with_is_thrown_away(tmp_path: Path) -> None:
    """After a week; not while another process has it."""
    spool = Spool(tmp_path / "spool")
    for identity in ("forgotten", "held", "recent"):
        with spool.opened(identity, PART) as spooled:
            assert spooled is not None
            spooled.append(b"x")
    with spool.opened("held", PART) as held:
        assert held is not None
        for path in (tmp_path / "spool").iterdir():
            os.utime(path, (0, 0))
        with spool.opened("recent", PART) as recent:
            assert recent is not None
            os.utime(recent.path.with_suffix(".parts"))
        spool.sweep()
        assert len(list((tmp_path / "spool").glob("*.parts"))) == 2
        assert held.path.exists()


def test_a_large_file_is_copied_by_one_run_at_a_time(here: Copying, outbox: FolderSender) -> None:
    """The other one leaves it for its next look."""
    outbox.put(NORTH, LARGE)
    reading, go_on = threading.Event(), threading.Event()

    class Slow(Bandwidth):
        def take(self, size_bytes: int) -> None:
            reading.set()
            assert go_on.wait(60)

    thread = threading.Thread(target=lambda: here.copy(bandwidth=Slow(None)))
    thread.start()
    assert reading.wait(60)
    second = here.copy()
    go_on.set()
    thread.join(60)
    assert [one.reason for one in second.left] == ["another run is copying it"]
    assert here.landed() == {NORTH: LARGE}
    assert len(here.keys()) == 1


@pytest.mark.parametrize("size", [1000, len(LARGE)])
def test_a_file_that_changes_while_it_is_read_is_left(here: Copying, outbox: FolderSender, size: int) -> None:
    """Longer, shorter, or of other bytes: nothing of it lands, and the next look copies what it is then."""
    for number, content in enumerate((LARGE[:size] + b"more", LARGE[: size // 2], LARGE[-size:])):
        path = f"north{number}/statement_20241001.csv"
        outbox.put(path, LARGE[:size])
        changed: list[bytes] = []

        class Changing(Bandwidth):
            def take(
                self, size_bytes: int, path: str = path, content: bytes = content, done: list[bytes] = changed
            ) -> None:
                if not done:
                    done.append(content)
                    outbox.put(path, content, NOON - timedelta(minutes=2))

        left = here.copy(bandwidth=Changing(None))
        assert [one.path for one in left.left] == [path]
        assert path not in here.landed()
        here.copy()
        assert here.landed()[path] == content


def test_a_file_that_vanishes_is_left_and_nothing_else_disturbed(here: Copying, outbox: FolderSender) -> None:
    """Between the listing and its turn."""
    for branch in "abcdef":
        outbox.put(f"{branch}/statement_20241001.csv", branch.encode())
    here.remote = remote(concurrency=1)
    copier = here.copier()
    last = copier._landed.last

    def vanish(day: date) -> dict[str, CopiedFile]:
        (outbox.root / "c/statement_20241001.csv").unlink()
        return last(day)

    copier._landed.last = vanish  # type: ignore[method-assign]
    copied = copier.run(DAY)
    assert numbers(copied) == {"seen": 6, "new": 5, "left": 1}
    assert copied.left[0].reason == "it vanished while it was copied"


def test_a_file_that_can_not_be_read_costs_only_itself(server: SftpServer, tmp_path: Path) -> None:
    """A denied file and a denied folder are told; the others are copied; when they may be read, they are."""
    sender = FolderSender(server.root)
    for branch in "abc":
        sender.put(f"{branch}/statement_20241001.csv", b"x")
        sender.put(f"{branch}/statement_20241001.csv.sha256", b"none")
    server.denied = {b"a"}
    here = Copying(tmp_path, server.folder())
    copied = here.copy()
    assert numbers(copied) == {"seen": 2, "new": 2, "others": 2, "failed": 1}
    assert "the server denies it" in copied.failed[0].reason
    server.denied = {b"statement_20241002.csv"}
    sender.put("b/statement_20241002.csv", b"y")
    assert numbers(here.copy(DAY + timedelta(days=1))) == {"seen": 1, "failed": 1, "others": 3}
    server.denied = set()
    assert numbers(here.copy()) == {"seen": 3, "new": 1, "unchanged": 2, "others": 3}
    here.folder.close()


HOSTILE = [
    b"..\\statement_20241001.csv", b"../statement_20241001.csv", b"/etc/statement_20241001.csv", b"a\nb_20241001.csv", b"\x1b[2Jx.csv",
    b"\xff\xfe_20241001.csv", b"x" * 300 + b"_20241001.csv", b"a\0b_20241001.csv", "\u202eb\u2028x_20241001.csv".encode(),
]  # fmt: skip


def test_hostile_names_are_refused_each_by_itself(server: SftpServer, tmp_path: Path) -> None:
    """Names that climb, that are paths, that hold control characters or aren't text: told, never opened; the others are copied."""
    FolderSender(server.root).put("a_20241001.csv", b"good")
    server.names = [*HOSTILE, b".", b".."]
    here = Copying(tmp_path, server.folder(), remote(path="{branch}_%Y%m%d.csv"))
    copied = here.copy()
    assert numbers(copied) == {"seen": 1, "new": 1, "refused": len(HOSTILE)}
    assert here.landed() == {"a_20241001.csv": b"good"}
    assert all(one.path.isprintable() for one in copied.refused)
    here.folder.close()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a\0", "a\x7f", "a\x85", "a\ud800", "a\ufffe", "é" * 200]
)
def test_no_file_may_be_called_that(name: str) -> None:
    """Whatever a remote tells."""
    assert hostile(name)
    assert not hostile("é b'\"(1).csv")


def test_links_that_lead_out_of_a_folder_are_not_followed(here: Copying, outbox: FolderSender, tmp_path: Path) -> None:
    """Of files and of folders; one that stays inside is."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "statement_20241001.csv").write_text("secret")
    outbox.put(NORTH, b"good")
    os.symlink(tmp_path / "secret", outbox.root / "out")
    (outbox.root / "east").mkdir()
    os.symlink("../../secret/statement_20241001.csv", outbox.root / "east/statement_20241001.csv")
    os.symlink("north", outbox.root / "inside")
    os.symlink("loop", outbox.root / "loop")
    os.mkfifo(outbox.root / "east" / "pipe_20241001.csv")
    here.remote = remote(path="{branch}/{kind}_%Y%m%d.csv")
    copied = here.copy()
    assert here.landed() == {NORTH: b"good", "inside/statement_20241001.csv": b"good"}
    assert sorted(one.path for one in copied.refused) == [
        "east/pipe_20241001.csv", "east/statement_20241001.csv", "loop", "out",
    ]  # fmt: skip
    assert "leads out" in str([one.reason for one in copied.refused])


def test_a_link_put_in_a_file_s_place_meanwhile_is_not_followed(
    here: Copying, outbox: FolderSender, tmp_path: Path
) -> None:
    """The way is gone name by name."""
    (tmp_path / "secret.csv").write_text("secret")
    outbox.put(NORTH, b"x" * 6)
    folder = here.folder
    assert isinstance(folder, LocalFolder)
    resolved = folder._resolved

    def swap(path: str) -> str:
        found = resolved(path)
        (outbox.root / NORTH).unlink(missing_ok=True)
        os.symlink(tmp_path / "secret.csv", outbox.root / NORTH)
        return found

    folder._resolved = swap  # type: ignore[method-assign]
    with pytest.raises(Exception, match="something else"):
        list(folder.read(NORTH, 0, 100))


def test_a_connection_that_breaks_is_made_anew_in_the_middle_of_a_file(server: SftpServer, tmp_path: Path) -> None:
    """It goes on at the byte where it broke: nothing twice, nothing missing."""
    FolderSender(server.root).put(NORTH, LARGE)
    server.cut_after_bytes = 2 * PART
    here = Copying(tmp_path, server.folder())
    copied = here.copy()
    assert numbers(copied) == {"seen": 1, "new": 1}
    assert copied.bytes_read == len(LARGE)
    assert here.landed() == {NORTH: LARGE}
    assert server.logins == 2
    assert len(here.slept) == 1
    here.folder.close()


def test_a_server_that_is_down_is_told_as_such(server: SftpServer, tmp_path: Path) -> None:
    """After some patience; trying again can help."""
    here = Copying(tmp_path, SftpFolder("sftp://127.0.0.1:1/x", server.folder()._access))
    with pytest.raises(SourceUnavailable, match=r"sftp://127\.0\.0\.1:1/x") as caught:
        here.copy()
    assert caught.value.can_retry
    assert here.slept == [1, 2, 4]


def test_another_host_key_is_refused(server: SftpServer, tmp_path: Path) -> None:
    """Nothing is asked of a server that isn't the one that is known, and no password told to it."""
    import asyncssh

    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {other}")
    for access in ({"host_key": other}, {"host_key": "", "known_hosts": str(known)}):
        here = Copying(tmp_path, server.folder(**access))
        with pytest.raises(SourceError, match="host key isn't the one that is known") as caught:
            here.copy()
        assert not caught.value.can_retry
        here.folder.close()
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    folder = server.folder(host_key="", known_hosts=str(known))
    assert folder.list("") == []
    folder.close()


def test_a_wrong_password_is_told_and_not_shown(server: SftpServer, tmp_path: Path) -> None:
    """The error says who isn't let in, and where to see to it."""
    here = Copying(tmp_path, server.folder(password="wrong-horse"))
    with pytest.raises(SourceError, match="doesn't let 'shop' in") as caught:
        here.copy()
    assert "INGESTION_REMOTES" in caught.value.hint
    assert "wrong-horse" not in str(caught.value)
    assert PASSWORD not in repr(server.folder()._access)
    here.folder.close()


def test_a_private_key_lets_in(server: SftpServer, tmp_path: Path) -> None:
    """With its passphrase, where it has one; a key that can't be read is a setting that is wrong."""
    key = tmp_path / "key"
    key.write_bytes(server.client_key.export_private_key(passphrase="open sesame", rounds=50))
    folder = server.folder(password="", key_file=str(key), passphrase="open sesame")
    assert folder.list("") == []
    folder.close()
    wrong = server.folder(password="", key_file=str(key), passphrase="close sesame")
    with pytest.raises(SettingsError, match="key_file can't be read"):
        wrong.list("")
    wrong.close()


def test_bytes_come_no_faster_than_declared() -> None:
    """Whoever reads, together: after the first second's burst each byte has its time."""
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    bandwidth = Bandwidth(1000, lambda: now[0], sleep)
    now[0] += 100
    for _ in range(50):
        bandwidth.take(bandwidth.piece_bytes(1024**2))
    assert bandwidth.piece_bytes(1024**2) == 250
    assert now[0] - 100 == pytest.approx(50 * 250 / 1000 - 1)


def test_a_declared_bandwidth_is_kept_by_all_files_of_a_run_together(here: Copying, outbox: FolderSender) -> None:
    """Six files at 100,000 bytes a second, by a clock that only waiting moves."""
    for branch in "abcdef":
        outbox.put(f"{branch}/statement_20241001.csv", b"x" * 100_000)
    now, lock = [0.0], threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            now[0] += seconds

    waits: list[float] = []
    bandwidth = Bandwidth(100_000, lambda: 0.0, waits.append)
    assert numbers(here.copy(bandwidth=bandwidth)) == {"seen": 6, "new": 6}
    # By a clock that stands still, the last piece waits for all before it.
    assert max(waits) == pytest.approx(6.0)


def test_what_fsspec_does_not_know_is_told(tmp_path: Path) -> None:
    """A scheme nobody knows, a package that isn't there."""
    with pytest.raises(SettingsError, match="gopher"):
        FsspecFolder("gopher://x/y", {})
    with pytest.raises(SettingsError) as caught:
        FsspecFolder("s3://bucket/x", {})
    assert "install" in caught.value.hint


def test_a_page_of_links_is_a_folder_too(here: Copying, outbox: FolderSender) -> None:
    """Over HTTP: only files that are of the day are asked for more than their names."""
    outbox.put(NORTH, b"id\n1\n")
    outbox.put(SOUTH, LARGE)
    outbox.put("north/statement_20240930.csv", b"another day")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(str(args[0]))

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(outbox.root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        here.folder = FsspecFolder(f"http://127.0.0.1:{server.server_port}/", {})
        assert numbers(here.copy()) == {"seen": 2, "new": 2}
        assert here.landed() == {NORTH: b"id\n1\n", SOUTH: LARGE}
        again = here.copy()
        assert (numbers(again), again.bytes_read) == ({"seen": 2, "unchanged": 2}, 0)
        assert not any("20240930" in line for line in asked)
        assert b"".join(here.folder.read(SOUTH, PART + 7, PART)) == LARGE[PART + 7 :]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(SourceUnavailable):
        here.copy()


def test_a_file_that_is_too_large_is_refused_before_it_is_read(here: Copying, outbox: FolderSender) -> None:
    """Whatever a server tells of its size."""
    here.remote = remote(max_bytes=10)
    outbox.put(NORTH, b"x" * 11)
    outbox.put(SOUTH, b"x" * 10)
    copied = here.copy()
    assert (numbers(copied), copied.bytes_read) == ({"seen": 1, "new": 1, "refused": 1}, 10)
    assert copied.refused[0].reason == "it has 11 bytes, and 10 are allowed"


def test_files_in_a_zip_are_remote_files_too(here: Copying, tmp_path: Path) -> None:
    """Whatever fsspec can list: its members have a size and a moment."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(NORTH, (2024, 10, 1, 10, 0, 0)), b"id\n1\n")
        archive.writestr(zipfile.ZipInfo("../climbs_20241001.csv", (2024, 10, 1, 10, 0, 0)), b"x")
    here.folder = FsspecFolder(f"zip://::{tmp_path / 'all.zip'}", {})
    assert here.copy().new == 1
    assert here.landed() == {NORTH: b"id\n1\n"}
    assert numbers(here.copy())["unchanged"] == 1
