"""Which landing zone a URL names, and what opening one costs."""

import subprocess
import sys
from pathlib import Path

import pytest

from ingestion_platform.errors import LandingError
from ingestion_platform.landing import open_landing
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform_tests.s3_faults import S3Server


def test_a_path_names_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a scheme is a folder, relative to where we are when it is opened."""
    monkeypatch.chdir(tmp_path)
    landing = open_landing("data/landing")
    assert isinstance(landing, LocalLanding)
    assert landing.url == str(tmp_path / "data" / "landing")


def test_an_s3_url_names_a_bucket_and_a_prefix(s3_server: S3Server) -> None:
    """With or without a prefix, and however many slashes end it."""
    bucket = s3_server.new_bucket()
    s3_server.put(bucket, "a/b/c.csv", b"x")
    s3_server.put(bucket, "a/bb.csv", b"x")
    for url, expected in (
        (f"s3://{bucket}", ["a/b/c.csv", "a/bb.csv"]),
        (f"S3://{bucket}/", ["a/b/c.csv", "a/bb.csv"]),
        (f"s3://{bucket}/a/b", ["c.csv"]),
        (f"s3://{bucket}/a/b//", ["c.csv"]),
    ):
        assert [object_.key for object_ in open_landing(url).list()] == expected
    assert open_landing(f"s3://{bucket}/a").url == f"s3://{bucket}/a/"


@pytest.mark.parametrize(
    "url", ["", "gs://bucket/x", "file:///tmp", "s3://", "s3:///x", "s3://b/a/../../x", "s3://bucket//x"]
)
def test_a_url_that_names_nothing_is_refused(url: str) -> None:
    """An empty path, an unknown scheme, no bucket, or a prefix that climbs."""
    with pytest.raises(LandingError) as caught:
        open_landing(url)
    assert caught.value.hint


def test_a_secret_in_the_url_is_refused_and_not_repeated() -> None:
    """Credentials written into the URL don't get into the message."""
    with pytest.raises(LandingError) as caught:
        open_landing("s3://AKIDEXAMPLE:wJalrXUtnFEMI@bucket/landing")
    assert "wJalr" not in str(caught.value)


def test_boto3_is_imported_for_s3_alone(tmp_path: Path) -> None:
    """Opening a folder imports neither boto3 nor botocore, which take most of a second."""
    program = (
        "import sys; from ingestion_platform.landing import open_landing; list(open_landing(sys.argv[1]).list());"
        "sys.exit(any(name.split('.')[0] in ('boto3', 'botocore') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 0
