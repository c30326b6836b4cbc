"""Both kinds of landing zone list the same keys in the same order, whatever the keys."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.landing.s3 import S3Landing
from ingestion_platform_tests.conftest import LocalProducer, S3Producer
from ingestion_platform_tests.s3_faults import S3Server

# Few characters, around / in the order of bytes, with one to four bytes each: so that keys share beginnings.
_ALPHABET = "\x01\n !-./0Aa~é\ud7ff\ue000\uff5a😀"
_SEGMENTS = st.text(_ALPHABET.replace("/", ""), min_size=1, max_size=3).filter(
    lambda segment: segment not in (".", "..")
)
_KEYS = st.lists(_SEGMENTS, min_size=1, max_size=3).map("/".join)


@st.composite
def _key_sets(draw: st.DrawFn) -> set[str]:
    """Keys of which none is a folder of another."""
    keys = draw(st.sets(_KEYS, max_size=12))
    return {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}


@given(keys=_key_sets(), prefix=st.text(_ALPHABET, max_size=4), start_after=st.text(_ALPHABET, max_size=5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_folder_and_s3_list_the_same_keys_in_the_same_order(
    s3_server: S3Server, keys: set[str], prefix: str, start_after: str
) -> None:
    """Whole, by prefix and from a key on, both give what sorting the keys' UTF-8 bytes gives."""
    with TemporaryDirectory() as folder:
        root, bucket = Path(folder) / "landing", s3_server.new_bucket()
        for key in keys:
            LocalProducer(root).put(key, key.encode())
            S3Producer(s3_server, bucket, "").put(key, key.encode())
        expected = sorted(keys, key=str.encode)
        some = [key for key in expected if key.startswith(prefix) and key.encode() > start_after.encode()]
        root.mkdir(exist_ok=True)
        for landing in (LocalLanding(root), S3Landing(f"s3://{bucket}", attempts=1)):
            assert [object_.key for object_ in landing.list()] == expected
            assert [object_.key for object_ in landing.list(prefix, start_after=start_after)] == some
