"""The settings that are more than a value: files of tables, with secrets in them."""

from pathlib import Path

import pytest

from ingestion_platform.errors import SettingsError
from ingestion_platform.settings import ApiSettings, Settings


def _settings(tmp_path: Path, content: str | bytes) -> Settings:
    file = tmp_path / "apis.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return Settings(apis=file)


def test_the_file_of_apis_has_a_table_for_each(tmp_path: Path) -> None:
    """A table says an API's secrets, and where it is when that isn't as declared."""
    said = _settings(
        tmp_path,
        '[weather]\nkey = "näh=#1"\n\n[catalogue]\nbase_url = "http://127.0.0.1:9/v1"\nprivate_hosts = true\n'
        'client_id = "us"\nclient_secret = ""\n\n[quiet]\n',
    ).api_settings()
    assert said == {
        "weather": ApiSettings(secrets={"key": "näh=#1"}),
        "catalogue": ApiSettings("http://127.0.0.1:9/v1", True, {"client_id": "us", "client_secret": ""}),
        "quiet": ApiSettings(),
    }


def test_without_a_file_nothing_is_said_of_apis() -> None:
    """The file may be left out."""
    assert Settings(apis=None).api_settings() == {}


def test_what_is_said_of_an_api_shows_no_secret(tmp_path: Path) -> None:
    """Printed, it has the place and no secret."""
    said = _settings(tmp_path, '[weather]\nbase_url = "https://x.test"\nkey = "s3cret"').api_settings()
    assert "https://x.test" in repr(said)
    assert "s3cret" not in repr(said)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('[weather]\nkey = "s3cret', "is no TOML"),
        ('weather = "s3cret"', "'weather' is no table"),
        ('[weather]\nkey = ["s3cret"]', "'key' of 'weather' is no text"),
        ("[weather]\nkey = 123456", "'key' of 'weather' is no text"),
        ('[weather.inner]\nkey = "s3cret"', "'inner' of 'weather' is no text"),
        ('[weather]\nbase_url = 5\nkey = "s3cret"', "base_url of 'weather' is no text"),
        ('[weather]\nprivate_hosts = "s3cret"', "private_hosts of 'weather' is neither true nor false"),
        (b'[weather]\nkey = "s3cret\xff"', "is no TOML"),
    ],
)
def test_a_wrong_file_of_apis_is_told_without_its_lines(tmp_path: Path, content: str | bytes, what: str) -> None:
    """The error names the variable, the file and what is wrong; never a line or a value of it, nor what caused it."""
    with pytest.raises(SettingsError, match=what) as failed:
        _settings(tmp_path, content).api_settings()
    assert str(failed.value).startswith(f"INGESTION_APIS: {tmp_path / 'apis.toml'}")
    assert "s3cret" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.hint


def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    """The error names the variable and the file."""
    with pytest.raises(SettingsError, match=r"INGESTION_APIS: .*nowhere.toml: No such file"):
        Settings(apis=tmp_path / "nowhere.toml").api_settings()
    with pytest.raises(SettingsError, match=r"INGESTION_KAFKA_CLUSTERS: .*nowhere.toml: No such file"):
        Settings(kafka_clusters=tmp_path / "nowhere.toml").kafka()
    with pytest.raises(SettingsError, match=r"INGESTION_APIS: .*Is a directory"):
        Settings(apis=tmp_path).api_settings()
