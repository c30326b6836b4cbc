"""Objects that are replaced and removed because somebody is forgotten: what every landing zone does alike, and each one alone."""

from pathlib import Path

import pytest

from ingestion_platform.errors import ObjectChanged, ObjectMissing
from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.landing.erasing import erasable
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.landing.s3 import S3Landing
from ingestion_platform_tests.conftest import Producer
from ingestion_platform_tests.s3_faults import Faults, S3Server

KEY = "sales/2024/10/01/S0001.csv"


def only(landing: LandingZone, key: str = KEY) -> LandedObject:
    """The object under a key."""
    (found,) = [one for one in landing.list(key) if one.key == key]
    return found


def file_of(tmp_path: Path, content: bytes) -> Path:
    """A finished file."""
    path = tmp_path / "finished"
    path.write_bytes(content)
    return path


def test_a_replaced_object_is_another_version_under_its_key(
    landing: LandingZone, producer: Producer, tmp_path: Path
) -> None:
    """It has the new bytes, another token though the size is the same, and nothing else is listed."""
    for _ in range(3):
        # Hot, warm, cold in turn.
        producer.put(KEY, b"one,two,three\n")
        before = only(landing)
        door = erasable(landing)
        with door.erasing() as is_ours:
            assert is_ours
            door.replace(before, file_of(tmp_path, b"one,,,,,three\n"))
        after = only(landing)
        assert landing.read(after) == b"one,,,,,three\n"
        assert after.token != before.token
        assert after.place == before.place
        assert [one.key for one in landing.list()] == [KEY]
        assert list(door.former_versions()) == []


def test_an_object_that_has_changed_meanwhile_stays(landing: LandingZone, producer: Producer, tmp_path: Path) -> None:
    """What a producer has put there since it was listed isn't overwritten, and isn't removed."""
    producer.put(KEY, b"old\n")
    listed = only(landing)
    producer.put(KEY, b"newer\n")
    door = erasable(landing)
    with door.erasing():
        with pytest.raises(ObjectChanged):
            door.replace(listed, file_of(tmp_path, b"x\n"))
        with pytest.raises(ObjectChanged):
            door.remove(listed)
    assert landing.read(only(landing)) == b"newer\n"


def test_a_removed_object_is_gone_and_removing_it_again_is_nothing(landing: LandingZone, producer: Producer) -> None:
    """Nothing is listed under its key; what has gone already needn't be removed."""
    producer.put(KEY, b"old\n")
    listed = only(landing)
    door = erasable(landing)
    with door.erasing():
        door.remove(listed)
        door.remove(listed)
    assert list(landing.list()) == []
    assert list(door.former_versions()) == []


def test_an_object_that_has_gone_is_told(landing: LandingZone, producer: Producer, tmp_path: Path) -> None:
    """It isn't written anew under its key."""
    producer.put(KEY, b"old\n")
    listed = only(landing)
    door = erasable(landing)
    with door.erasing():
        door.remove(listed)
        with pytest.raises(ObjectMissing):
            door.replace(listed, file_of(tmp_path, b"x\n"))
    assert list(landing.list()) == []


def test_it_landed_when_it_did(tmp_path: Path) -> None:
    """In a folder the moment of landing stays to the microsecond: who was on time is judged by it."""
    landing = LocalLanding(tmp_path / "landing")
    landing.put_if_absent(KEY, b"old\n")
    before = only(landing)
    with erasable(landing).erasing():
        erasable(landing).replace(before, file_of(tmp_path, b"new\n"))
    assert only(landing).landed_at == before.landed_at


def test_two_do_not_erase_at_once(tmp_path: Path) -> None:
    """Nor does one erase while another one moves objects."""
    (tmp_path / "landing").mkdir()
    (tmp_path / "warm").mkdir()
    one, other = (LocalLanding(tmp_path / "landing", warm=tmp_path / "warm") for _ in range(2))
    with erasable(one).erasing() as is_ours:
        assert is_ours
        with erasable(other).erasing() as is_theirs:
            assert not is_theirs
        with other.ageing() as is_ageing:
            assert not is_ageing
    with other.ageing() as is_ageing:
        assert is_ageing
        with erasable(one).erasing() as is_ours:
            assert not is_ours


def test_a_hidden_former_version_in_a_colder_folder_is_found_and_removed(tmp_path: Path) -> None:
    """A file that aged and was overwritten since isn't listed, and is there; it can be read and removed."""
    roots = [tmp_path / name for name in ("landing", "warm", "cold")]
    for root in roots:
        root.mkdir()
    landing = LocalLanding(roots[0], warm=roots[1], cold=roots[2])
    landing.put_if_absent(KEY, b"old\n")
    with landing.ageing():
        landing.age(only(landing), "cold", "")
    (roots[0] / KEY).write_bytes(b"new\n")
    door = erasable(landing)
    (former,) = door.former_versions()
    assert former.key == KEY
    with door.open_former(former) as opened:
        assert opened.file.read() == b"old\n"
    with door.erasing():
        door.remove_former(former)
        door.remove_former(former)
    assert list(door.former_versions()) == []
    assert landing.read(only(landing)) == b"new\n"


def test_versions_that_a_bucket_keeps_go_too(s3_server: S3Server, tmp_path: Path) -> None:
    """After an object was replaced or removed in a bucket with versions, none of its former ones is there."""
    bucket = s3_server.new_bucket()
    landing = S3Landing(f"s3://{bucket}/landing")
    landing._client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for content in (b"first\n", b"second\n"):
        s3_server.put(bucket, f"landing/{KEY}", content)
    s3_server.put(bucket, "landing/other.csv", b"other\n")
    door = erasable(landing)
    (former,) = door.former_versions()
    with door.open_former(former) as opened:
        assert opened.file.read() == b"first\n"
    door.replace(only(landing), file_of(tmp_path, b"third\n"))
    assert landing.read(only(landing)) == b"third\n"
    assert list(door.former_versions()) == []
    door.remove(only(landing))
    assert [one.key for one in landing.list()] == ["other.csv"]
    left = landing._client.list_object_versions(Bucket=bucket, Prefix=f"landing/{KEY}")
    assert left.get("Versions", []) == []


def test_a_write_whose_answer_is_lost_is_known_by_its_mark(s3_server: S3Server, faults: Faults, tmp_path: Path) -> None:
    """The second attempt finds the object changed, by itself: that is no other one's change."""
    bucket = s3_server.new_bucket()
    landing = S3Landing(f"s3://{bucket}/landing", first_wait_seconds=0.01)
    s3_server.put(bucket, f"landing/{KEY}", b"old\n")
    listed = only(landing)
    faults.cut_before_answer(is_done=True, method="PUT")
    erasable(landing).replace(listed, file_of(tmp_path, b"new\n"))
    assert landing.read(only(landing)) == b"new\n"
