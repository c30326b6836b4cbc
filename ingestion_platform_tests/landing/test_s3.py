"""What is special to S3: throttling, broken connections, lost answers, refusals."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.errors import LandingError, LandingUnavailable, ObjectMissing
from ingestion_platform.landing import LandedObject
from ingestion_platform.landing.s3 import S3Landing
from ingestion_platform_tests.s3_faults import Faults, S3Server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """An empty bucket."""
    return s3_server.new_bucket()


@pytest.fixture
def landing(bucket: str, faults: Faults) -> S3Landing:
    """A landing zone that waits as briefly as tests want."""
    return hurried(f"s3://{bucket}/landing")


def hurried(url: str) -> S3Landing:
    """A landing zone that gives up soon."""
    return S3Landing(url, attempts=6, first_wait_seconds=0.001, longest_wait_seconds=0.01, timeout_seconds=1.0)


def put_one(landing: S3Landing, content: bytes = b"x" * 5000) -> LandedObject:
    """Land one object, and list it."""
    assert landing.put_if_absent("a/x.csv", content)
    (object_,) = landing.list()
    return object_


@pytest.mark.parametrize("trouble", ["SlowDown", "InternalError", "RequestTimeout", "Throttling", "no answer"])
def test_a_storm_is_survived(landing: S3Landing, faults: Faults, trouble: str) -> None:
    """Five bad answers in a row, of any kind, to each of put, list and read change nothing."""

    def storm() -> None:
        if trouble == "no answer":
            faults.cut_before_answer(5)
        else:
            faults.refuse({"SlowDown": 503, "InternalError": 500}.get(trouble, 400), trouble, 5)

    storm()
    assert landing.put_if_absent("a/x.csv", b"content") is True
    storm()
    (object_,) = landing.list()
    storm()
    assert landing.read(object_) == b"content"


def test_an_answer_that_takes_too_long_is_asked_for_again(landing: S3Landing, faults: Faults) -> None:
    """After the time-out we don't wait for the first answer any more."""
    object_ = put_one(landing)
    faults.clear()
    faults.delay(1.2)
    assert landing.read(object_) == b"x" * 5000
    assert len(faults.requests) == 2


@pytest.mark.parametrize("after_bytes", [0, 1, 4999])
def test_a_body_cut_in_the_middle_is_read_again(landing: S3Landing, faults: Faults, after_bytes: int) -> None:
    """A connection that ends before the body does gives no half object: it is read again, whole."""
    object_ = put_one(landing)
    faults.clear()
    faults.cut_body(3, after_bytes=after_bytes)
    assert landing.read(object_) == b"x" * 5000
    assert len(faults.requests) == 4


def test_a_listing_cut_in_the_middle_goes_on(
    landing: S3Landing, faults: Faults, s3_server: S3Server, bucket: str
) -> None:
    """When the second page breaks, it is asked for again: no key is lost, none comes twice."""
    expected = [f"{number:04}.csv" for number in range(1001)]
    for key in expected:
        s3_server.put(bucket, f"landing/{key}", b"")
    listing = landing.list()
    first = next(listing).key
    faults.cut_body(2, after_bytes=300)
    faults.slow_down(1)
    assert [first, *(object_.key for object_ in listing)] == expected


@pytest.mark.parametrize("trouble", ["slow_down", "cut_before_answer", "cut_body"])
def test_trouble_without_end_is_told_in_bounded_time(landing: S3Landing, faults: Faults, trouble: str) -> None:
    """After the last attempt we say what, where and what to do, and how often we asked: exactly as often as we were told to."""
    object_ = put_one(landing)
    faults.clear()
    getattr(faults, trouble)(None)
    started = time.monotonic()
    with pytest.raises(LandingUnavailable, match="after 6 attempts") as caught:
        landing.read(object_)
    assert time.monotonic() - started < 3
    assert "a/x.csv" in caught.value.what
    assert landing.url in caught.value.what
    assert caught.value.hint
    assert caught.value.can_retry
    assert len(faults.requests) == 6


def test_the_waits_grow_and_are_drawn_at_random(
    landing: S3Landing, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait lies between nothing and a bound that doubles up to the longest; there is none after the last attempt."""
    bounds: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        bounds.append((low, high))
        return low

    monkeypatch.setattr("random.uniform", draw)
    faults.slow_down(None)
    with pytest.raises(LandingUnavailable):
        list(landing.list())
    assert bounds == [(0, 0.001), (0, 0.002), (0, 0.004), (0, 0.008), (0, 0.01)]


def test_a_write_whose_answer_is_lost_counts_as_written(landing: S3Landing, faults: Faults) -> None:
    """The first attempt wrote and its answer was lost; the second finds the key taken, by us: True, as it is."""
    faults.cut_before_answer(1, is_done=True, method="PUT")
    assert landing.put_if_absent("a/x.csv", b"ours") is True
    (object_,) = landing.list()
    assert landing.read(object_) == b"ours"
    assert landing.put_if_absent("a/x.csv", b"ours") is False


def test_a_key_that_somebody_else_took_meanwhile_is_not_ours(
    landing: S3Landing, faults: Faults, s3_server: S3Server, bucket: str
) -> None:
    """Our first attempt came to nothing, and the key is taken, even by the same bytes: False."""
    s3_server.put(bucket, "landing/a/x.csv", b"same")
    faults.cut_before_answer(1, method="PUT")
    assert landing.put_if_absent("a/x.csv", b"same") is False


def test_writes_that_conflict_are_sent_again(landing: S3Landing, faults: Faults) -> None:
    """409 means that another write to the key was under way: asked again, the store knows who won."""
    faults.refuse(409, "ConditionalRequestConflict", 2, method="PUT")
    assert landing.put_if_absent("a/x.csv", b"x") is True


def test_a_missing_bucket_is_told_at_once(s3_server: S3Server, faults: Faults) -> None:
    """No bucket isn't an empty landing zone, and no amount of asking makes one."""
    landing = hurried("s3://no-such-bucket/landing")
    ghost = LandedObject("x", 1, "0-1", datetime.now(UTC))
    for call in (lambda: list(landing.list()), lambda: landing.put_if_absent("x", b""), lambda: landing.read(ghost)):
        faults.clear()
        with pytest.raises(LandingError, match="there is no bucket") as caught:
            call()
        assert not caught.value.can_retry
        assert not isinstance(caught.value, ObjectMissing)
        assert "INGESTION_LANDING" in caught.value.hint
        assert len(faults.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", "AWS_PROFILE"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION"),
        (400, "InvalidRequest", "this store"),
    ],
)
def test_a_refusal_is_told_at_once_with_a_hint(
    landing: S3Landing, faults: Faults, status: int, code: str, hint: str
) -> None:
    """What asking again can't change is said after one request, with what to do and without a secret."""
    object_ = put_one(landing)
    for call in (lambda: list(landing.list()), lambda: landing.read(object_), lambda: landing.put_if_absent("b", b"")):
        faults.clear()
        faults.refuse(status, code, None)
        with pytest.raises(LandingError, match=code) as caught:
            call()
        assert not caught.value.can_retry
        assert hint in caught.value.hint
        assert "testing-secret" not in repr(caught.value)
        assert len(faults.requests) == 1


def test_missing_credentials_are_told_at_once(bucket: str, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials nothing is sent, and the message says where they are looked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(LandingError, match="credentials") as caught:
        list(hurried(f"s3://{bucket}").list())
    assert "AWS_PROFILE" in caught.value.hint
    assert faults.requests == []


def test_configuration_that_boto3_cannot_use_is_told(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile that isn't there, an endpoint that is no URL, an endpoint with a password in it."""
    for name, value in (
        ("AWS_PROFILE", "nobody"),
        ("AWS_ENDPOINT_URL", "not a url"),
        ("AWS_ENDPOINT_URL", "http://user:hunter2@127.0.0.1:1"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(LandingError) as caught:
                hurried("s3://bucket")
        assert name in caught.value.hint
        assert "hunter2" not in str(caught.value)


def test_an_endpoint_where_nobody_listens_is_unavailable(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is tried again, then told with the address that was tried."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(LandingUnavailable) as caught:
        list(hurried("s3://bucket").list())
    assert "http://127.0.0.1:1" in caught.value.hint


def test_folder_markers_are_no_objects(landing: S3Landing, s3_server: S3Server, bucket: str) -> None:
    """The empty objects that consoles make for a folder are left out; what merely ends in / and has bytes is not."""
    for key, content in (("landing/", b""), ("landing/a/", b""), ("landing/b/", b"x"), ("landing/a/x.csv", b"")):
        s3_server.put(bucket, key, content)
    assert [object_.key for object_ in landing.list()] == ["a/x.csv", "b/"]


def test_a_store_that_lists_out_of_order_is_refused(landing: S3Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a store without order, a listing that goes on after a key would lose objects in silence: it is refused."""
    for key in ("a", "b", "c"):
        landing.put_if_absent(key, b"x")
    ask = landing._client.list_objects_v2

    def reverse(**request: object) -> object:
        page = ask(**request)  # type: ignore[arg-type]
        page["Contents"].reverse()
        return page

    monkeypatch.setattr(landing._client, "list_objects_v2", reverse)
    with pytest.raises(LandingError, match="order of bytes"):
        list(landing.list())


PART = 5 * 1024**2


def three_parts(folder: Path) -> Path:
    """A finished file of two parts and a bit."""
    file = folder / "finished"
    file.write_bytes(b"1" * PART + b"2" * PART + b"3" * 1000)
    return file


@pytest.fixture
def sent_parts(landing: S3Landing, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the parts that are sent."""
    sent: list[int] = []
    original = landing._put_part

    def put_part(what: str, name: str, upload: str, number: int, content: bytes) -> str:
        sent.append(number)
        return original(what, name, upload, number, content)

    monkeypatch.setattr(landing, "_put_part", put_part)
    return sent


def test_a_file_whose_upload_broke_off_goes_on_with_the_parts_that_are_missing(
    landing: S3Landing, faults: Faults, tmp_path: Path, sent_parts: list[int]
) -> None:
    """Nothing is listed before all parts are there; the next attempt sends what isn't, and nothing else."""
    file = three_parts(tmp_path)
    original = landing._put_part

    def break_off(*arguments: Any) -> str:
        if arguments[3] == 3:
            raise LandingUnavailable("the network is gone")
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "_put_part", break_off)
        with pytest.raises(LandingUnavailable):
            landing.put_file_if_absent("a/x.bin", file, PART)
    assert list(landing.list()) == []
    assert sent_parts == [1, 2]
    assert landing.put_file_if_absent("a/x.bin", file, PART) is True
    assert sent_parts == [1, 2, 3]
    (object_,) = landing.list()
    assert landing.read(object_) == file.read_bytes()


def test_a_storm_while_a_file_is_sent_is_survived(
    landing: S3Landing, faults: Faults, tmp_path: Path, sent_parts: list[int]
) -> None:
    """Bad answers in the middle cost an attempt each, and no part more than is needed."""
    file = three_parts(tmp_path)
    faults.slow_down(3)
    faults.cut_before_answer(1, is_done=True, method="PUT")
    assert landing.put_file_if_absent("a/x.bin", file, PART) is True
    (object_,) = landing.list()
    assert landing.read(object_) == file.read_bytes()


def test_a_part_of_other_bytes_is_sent_again(
    landing: S3Landing, faults: Faults, tmp_path: Path, sent_parts: list[int]
) -> None:
    """An upload that somebody began with another file under that key doesn't get into ours."""
    file = three_parts(tmp_path)
    upload = landing._client.create_multipart_upload(Bucket=landing._bucket, Key="landing/a/x.bin")["UploadId"]
    landing._put_part("", "landing/a/x.bin", upload, 1, b"x" * PART)
    landing._put_part("", "landing/a/x.bin", upload, 2, b"2" * PART)
    sent_parts.clear()
    assert landing.put_file_if_absent("a/x.bin", file, PART) is True
    assert sent_parts == [1, 3]
    (object_,) = landing.list()
    assert landing.read(object_) == file.read_bytes()


def test_a_completed_upload_whose_answer_is_lost_counts_as_written(
    landing: S3Landing, faults: Faults, tmp_path: Path
) -> None:
    """The upload has ended and the object is there, in its size."""
    file = three_parts(tmp_path)
    original = landing._complete

    def lose_the_answer(*arguments: Any) -> bool:
        faults.cut_before_answer(1, is_done=True, method="POST")
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "_complete", lose_the_answer)
        assert landing.put_file_if_absent("a/x.bin", file, PART) is True
    (object_,) = landing.list()
    assert object_.size_bytes == 2 * PART + 1000
