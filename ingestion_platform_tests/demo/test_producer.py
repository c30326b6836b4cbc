"""Producers: they write whole files, over what is there, and leave equal ones alone."""

from pathlib import Path

import pytest

from ingestion_platform.demo import FolderProducer, ZoneProducer
from ingestion_platform.errors import LandingError
from ingestion_platform.landing.local import LocalLanding


def test_a_folder_producer_overwrites(tmp_path: Path) -> None:
    """The second content stands, and nothing else is left in the folder."""
    producer = FolderProducer(tmp_path / "landing")
    producer.put("sales/a.csv", b"one")
    producer.put("sales/a.csv", b"two")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.csv"]
    assert (tmp_path / "landing/sales/a.csv").read_bytes() == b"two"


def test_a_folder_producer_does_not_touch_what_is_equal(tmp_path: Path) -> None:
    """Landing a plan again changes no modification time, so that nothing is read again."""
    producer = FolderProducer(tmp_path)
    producer.put("a.csv", b"one")
    before = (tmp_path / "a.csv").stat()
    producer.put("a.csv", b"one")
    after = (tmp_path / "a.csv").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.parametrize("key", ["../a.csv", "sales/../../a.csv", "/tmp/a.csv"])
def test_a_folder_producer_stays_in_its_folder(tmp_path: Path, key: str) -> None:
    """A key that leads out of the folder is refused."""
    with pytest.raises(LandingError, match="leaves the landing zone"):
        FolderProducer(tmp_path / "landing").put(key, b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_zone_producer_never_overwrites(tmp_path: Path) -> None:
    """The same content again is fine, another one under the same key is refused."""
    producer = ZoneProducer(LocalLanding(tmp_path))
    producer.put("sales/a.csv", b"one")
    producer.put("sales/a.csv", b"one")
    with pytest.raises(LandingError, match="another content"):
        producer.put("sales/a.csv", b"two")
    assert (tmp_path / "sales/a.csv").read_bytes() == b"one"
