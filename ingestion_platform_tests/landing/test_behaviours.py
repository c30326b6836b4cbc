"""What every landing zone does alike: one suite, run over each of them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from ingestion_platform.errors import LandingError, ObjectChanged, ObjectMissing
from ingestion_platform.landing import LandedObject, LandingZone, s3
from ingestion_platform_tests.conftest import Producer

IN_BYTE_ORDER = (
    "A.csv",
    "a-b.csv",
    "a.csv",
    "a/1.csv",
    "a/1/2.csv",
    "a0.csv",
    "a_b.csv",
    "b b+c%20?d#e&f=g.csv",
    "b'\"\\.csv",
    "b\t.csv",
    "é.csv",
    "\uff5a.csv",
    "😀.csv",
)


def keys(landing: LandingZone, prefix: str = "", *, start_after: str = "") -> list[str]:
    """The keys of a listing."""
    return [object_.key for object_ in landing.list(prefix, start_after=start_after)]


def test_an_empty_root_lists_nothing(landing: LandingZone) -> None:
    """Before anything has landed, there is nothing, and no error."""
    assert keys(landing) == []
    assert keys(landing, "sales/") == []


def test_what_is_put_can_be_listed_and_read(landing: LandingZone) -> None:
    """An object comes back with its key, size and time, and byte for byte."""
    content = bytes(range(256)) * 300
    before = datetime.now(UTC)
    assert landing.put_if_absent("sales/2024/10/01/S0001.csv", content) is True
    (object_,) = landing.list()
    assert (object_.key, object_.size_bytes) == ("sales/2024/10/01/S0001.csv", len(content))
    assert object_.landed_at.tzinfo is UTC
    assert abs(object_.landed_at - before) < timedelta(seconds=5)
    assert landing.read(object_) == content


def test_an_empty_object_is_an_object(landing: LandingZone) -> None:
    """Zero bytes are listed and read."""
    assert landing.put_if_absent("empty.csv", b"")
    (object_,) = landing.list()
    assert (object_.size_bytes, landing.read(object_)) == (0, b"")


def test_keys_are_listed_in_byte_order_whatever_is_in_them(landing: LandingZone) -> None:
    """Spaces, quotes, line ends, percent signs and letters of any script keep their place and are read back."""
    for key in reversed(IN_BYTE_ORDER):
        assert landing.put_if_absent(key, key.encode())
    listed = list(landing.list())
    assert [object_.key for object_ in listed] == sorted(IN_BYTE_ORDER, key=str.encode)
    assert [landing.read(object_).decode() for object_ in listed] == [object_.key for object_ in listed]


def test_line_ends_in_a_key_do_not_break_the_listing(landing: LandingZone, producer: Producer) -> None:
    """A key with a line end is listed in its place, whole."""
    for key in ("a\n.csv", "a\r\n/b.csv", "a.csv"):
        producer.put(key, b"x")
    assert keys(landing) == ["a\n.csv", "a\r\n/b.csv", "a.csv"]
    assert keys(landing, "a\r") == ["a\r\n/b.csv"]
    assert keys(landing, start_after="a\n.csv") == ["a\r\n/b.csv", "a.csv"]


def test_a_prefix_is_any_text(landing: LandingZone) -> None:
    """A prefix may end in the middle of a segment, or be one that no key can have."""
    for key in ("sales/2024/10/01/a", "sales/2024/10/02/a", "sales/2024/11/01/a", "sales2/a", "stock/a"):
        assert landing.put_if_absent(key, b"")
    assert keys(landing, "sales/2024/10/0") == ["sales/2024/10/01/a", "sales/2024/10/02/a"]
    assert keys(landing, "sales/2024/1") == keys(landing, "sales/")
    assert keys(landing, "sales") == [*keys(landing, "sales/"), "sales2/a"]
    assert keys(landing, "sales/2024/10/01/a") == ["sales/2024/10/01/a"]
    for prefix in (
        "sales/2024/10/01/a/",
        "sales//",
        "/",
        "//",
        "../",
        "./",
        "sales/../",
        "sales/\0",
        "\ud800",
        "\ufffd/x",
        "x" * 300 + "/",
    ):
        assert keys(landing, prefix) == []


def test_a_listing_goes_on_after_any_key(landing: LandingZone) -> None:
    """Keys up to and including start_after are left out; it needn't be a key itself."""
    all_keys = ["a-b", "a/1", "a/2/x", "a/2/y", "a/3", "a0"]
    for key in all_keys:
        assert landing.put_if_absent(key, b"")
    for start_after in (
        *all_keys,
        "a",
        "a/",
        "a/2",
        "a/2/",
        "a/2/z",
        "a.",
        "b",
        "a/1\0",
        "a/\ud800",
        "\ud800",
        "\U0010ffff",
    ):
        assert keys(landing, start_after=start_after) == [key for key in all_keys if key > start_after]
        assert keys(landing, "a/2", start_after=start_after) == [
            key for key in all_keys if key > start_after and key.startswith("a/2")
        ]


def test_more_than_one_page_is_listed_once_each(landing: LandingZone, producer: Producer) -> None:
    """1,234 objects, more than a page of S3, are all there, once, in order; and a listing can start in the middle."""
    expected = [f"sales/{number:05}.csv" for number in range(1234)]
    for key in expected:
        producer.put(key, b"x")
    producer.put("zzz.csv", b"x")
    assert keys(landing, "sales/") == expected
    assert keys(landing, "sales/", start_after=expected[699]) == expected[700:]


def test_what_is_there_stays_as_it_is(landing: LandingZone) -> None:
    """A second put under the same key writes nothing and says so."""
    assert landing.put_if_absent("a/b.csv", b"first") is True
    (before,) = landing.list()
    assert landing.put_if_absent("a/b.csv", b"second") is False
    assert list(landing.list()) == [before]
    assert landing.read(before) == b"first"


def test_of_eight_puts_at_once_exactly_one_writes(landing: LandingZone) -> None:
    """Eight threads put different bytes under one key: one is told True, and its bytes are there."""
    for turn in range(5):
        key, barrier = f"a/{turn}.csv", Barrier(8)

        def put(number: int, key: str = key, barrier: Barrier = barrier) -> bool:
            barrier.wait()
            return landing.put_if_absent(key, f"writer {number}".encode() * 1000)

        with ThreadPoolExecutor(8) as pool:
            written = list(pool.map(put, range(8)))
        assert written.count(True) == 1
        (object_,) = landing.list(key)
        assert landing.read(object_) == f"writer {written.index(True)}".encode() * 1000
    assert len(keys(landing)) == 5


def test_many_threads_read_at_once(landing: LandingZone, producer: Producer) -> None:
    """Sixteen threads share one landing zone, and each gets its own object's bytes."""
    for number in range(48):
        producer.put(f"{number}.csv", f"{number}".encode() * 5000)
    listed = list(landing.list())
    with ThreadPoolExecutor(16) as pool:
        contents = list(pool.map(landing.read, listed))
    assert contents == [object_.key.removesuffix(".csv").encode() * 5000 for object_ in listed]


@pytest.mark.parametrize("content", [b"longer than before", b"rewrite"])
def test_an_object_changed_since_it_was_listed_is_not_read(
    landing: LandingZone, producer: Producer, content: bytes
) -> None:
    """After a rewrite, to another size or the same, the listed object is refused; listed again, it is read."""
    producer.put("a/b.csv", b"at once")
    (object_,) = landing.list()
    producer.put("a/b.csv", content)
    with pytest.raises(ObjectChanged):
        landing.read(object_)
    (listed_again,) = landing.list()
    assert listed_again.token != object_.token
    assert landing.read(listed_again) == content


def test_an_object_that_is_gone_is_missing(landing: LandingZone, producer: Producer) -> None:
    """An object deleted since it was listed is missing, which isn't the same as changed."""
    producer.put("a/b.csv", b"x")
    (object_,) = landing.list()
    producer.delete("a/b.csv")
    with pytest.raises(ObjectMissing):
        landing.read(object_)


def test_an_object_of_another_landing_zone_is_not_read(landing: LandingZone, producer: Producer) -> None:
    """A token that this landing zone never gave doesn't fit."""
    producer.put("a/b.csv", b"x")
    for token in ("", "1", "1-2-3", '"'):
        with pytest.raises(ObjectChanged):
            landing.read(LandedObject("a/b.csv", 1, token, datetime.now(UTC)))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\0b",
        "a\ud800",
        "a\ufffdb",
        "a/" * 511 + "aaa",
        "é" * 128,
        ".landing-0112346789abcdef0123456789abcdef.tmp",
    ],
)
def test_a_key_that_leaves_or_cannot_be_held_everywhere_is_refused(landing: LandingZone, key: str) -> None:
    """Climbing, absolute, empty, unencodable and overlong keys are refused before anything is written."""
    with pytest.raises(LandingError) as caught:
        landing.put_if_absent(key, b"x")
    assert caught.value.hint
    assert not caught.value.can_retry
    assert keys(landing) == []


def test_the_longest_keys_fit(landing: LandingZone) -> None:
    """A segment of 255 bytes is put, listed and read."""
    key = "é" * 127 + "x/" + "y" * 255
    assert landing.put_if_absent(key, b"x")
    assert keys(landing) == [key]


def test_an_object_is_opened_as_a_file_that_can_be_searched(
    landing: LandingZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read in any order, it has the bytes that landed, also when it is larger than what is held in memory."""
    monkeypatch.setattr(s3, "SPOOL_BYTES", 1000)
    for size in (0, 10, 1000, 1001, 77_777):
        content = bytes(range(256)) * (size // 256 + 1)
        assert landing.put_if_absent(f"{size}.bin", content[:size])
        (object_,) = landing.list(f"{size}.bin")
        with landing.open(object_) as opened:
            assert opened.file.read() == content[:size]
            assert opened.file.seek(0, 2) == size
            opened.file.seek(size // 2)
            assert opened.file.read(3) == content[:size][size // 2 : size // 2 + 3]
            opened.check()


def test_an_object_that_changes_is_not_opened_or_told_at_its_end(
    landing: LandingZone, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed before it is opened, it is refused; afterwards, it is told at the end, or what was opened is the old one whole."""
    monkeypatch.setattr(s3, "SPOOL_BYTES", 1000)
    for size in (10, 5000):
        key = f"{size}.bin"
        producer.put(key, b"x" * size)
        (object_,) = landing.list(key)
        with landing.open(object_) as opened:
            producer.put(key, b"y" * size)
            content = opened.file.read()
            assert content == b"x" * size
        with pytest.raises(ObjectChanged):
            landing.open(object_)
        producer.delete(key)
        with pytest.raises(ObjectMissing):
            landing.open(object_)
