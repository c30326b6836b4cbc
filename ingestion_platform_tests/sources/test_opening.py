"""What the settings say of an API is put together with its declaration."""

from pathlib import Path

import pytest

from ingestion_platform.api import Api, ApiKey, Auth, BasicAuth, Rate
from ingestion_platform.errors import SettingsError
from ingestion_platform.settings import ApiSettings
from ingestion_platform.sources.http_client import Access
from ingestion_platform.sources.opening import access, open_client
from ingestion_platform_tests.sources.api_server import serve_api


def _api(auth: Auth | None = None, *, private_hosts: bool = False) -> Api:
    base_url = "https://api.example.com/v1"
    return Api(name="weather", base_url=base_url, auth=auth, rate=Rate(5), private_hosts=private_hosts)


def test_what_the_settings_do_not_say_is_as_declared() -> None:
    """Without a table for it, an API is where it was declared; tables of others don't matter."""
    declared = _api(private_hosts=True)
    assert access(declared, {"other": ApiSettings("http://x.test")}) == Access(declared.base_url, {}, True)


def test_the_settings_win() -> None:
    """They move an API elsewhere, allow private hosts or forbid them, and have the secrets."""
    said = {"weather": ApiSettings("http://127.0.0.1:9/", True, {"key": "s3cret"})}
    assert access(_api(ApiKey()), said) == Access("http://127.0.0.1:9/", {"key": "s3cret"}, True)
    assert not access(_api(private_hosts=True), {"weather": ApiSettings(private_hosts=False)}).private_hosts


@pytest.mark.parametrize(
    "base_url", ["ftp://x.test", "x.test/v1", "https://me:s3cret@x.test/", "x://me:s3cret@y", "http://x.test/v1", ""]
)
def test_the_settings_are_held_to_the_rules_of_declarations(base_url: str) -> None:
    """A base URL that couldn't be declared can't be set either: secrets don't go over the network in clear because of a setting."""
    with pytest.raises(SettingsError, match="INGESTION_APIS: API 'weather'") as failed:
        access(_api(ApiKey()), {"weather": ApiSettings(base_url)})
    assert failed.value.hint
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize(("auth", "name"), [(None, "key"), (BasicAuth(), "pasword"), (ApiKey(), "token")])
def test_what_an_api_has_no_use_for_is_told(auth: Auth | None, name: str) -> None:
    """A slip of the pen in a secret's name, or a secret of another kind, is named; its value isn't."""
    with pytest.raises(SettingsError, match=rf"\[weather\] has '{name}', which it has no use for") as failed:
        access(_api(auth), {"weather": ApiSettings(secrets={name: "s3cret"})})
    assert "s3cret" not in str(failed.value)


def test_a_client_keeps_its_pace_beside_the_warehouse(tmp_path: Path) -> None:
    """Nothing is written or connected before it is asked; then the pace's file is named by the API."""
    with serve_api() as server:
        server.serve("/items", [])
        said = {"weather": ApiSettings(server.base_url, True)}
        client = open_client(_api(), said, tmp_path / "warehouse")
        assert list(tmp_path.iterdir()) == []
        assert server.requests == []
        client.get("items")
        client.close()
        assert (tmp_path / "warehouse" / "pace" / "weather.pace").is_file()
