"""What a deployment says of sinks, and what it is told when that can't be."""

from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.errors import SettingsError
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.settings import Settings
from ingestion_platform.sinks import open_outbox
from ingestion_platform.sinks.sink import read_sinks

GOOD: dict[str, Any] = {"kind": "webhook", "where": "https://example.com/s3cr3t", "secret": "s3cr3t of sixteen letters"}


def test_a_file_says_who_is_told(tmp_path: Path, zone: LocalLanding) -> None:
    """A table for each sink; without a file there is none."""
    file = tmp_path / "sinks.toml"
    file.write_text('[audit]\nkind = "log"\nwhere = "told.jsonl"\nrules = ["fraud"]\n[security]\nkind = "log"\n')
    outbox = open_outbox(Settings(sinks=file, warehouse=tmp_path / "w.duckdb"), zone)
    assert [one.sink for one in outbox.status()] == ["audit", "security"]
    assert open_outbox(Settings(sinks=None), zone).status() == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "mail"}, "kind"),
        ({"where": ""}, "where is missing"),
        ({"kind": "sns", "secret": None, "where": "s3cr3t"}, "no topic's ARN"),
        ({"kind": "sqs", "secret": None, "where": "s3cr3t"}, "no queue's URL"),
        ({"kind": "log"}, "webhooks'"),
        ({"secret": "s3cr3t"}, "less than 16"),
        ({"messages_per_minute": 0}, "messages_per_minute"),
        ({"window_seconds": float("nan")}, "window_seconds"),
        ({"actions": ["explode"]}, "actions"),
        ({"colour": "s3cr3t"}, "colour"),
    ],
)
def test_a_sink_that_cannot_be_is_named_without_its_values(change: dict[str, Any], why: str) -> None:
    """The error names sink and field; no secret is in it."""
    with pytest.raises(SettingsError, match="sink 'security'") as caught:
        read_sinks({"security": GOOD | change})
    assert why in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "a" * 61])
def test_a_sink_whose_name_is_no_name_is_refused(name: str) -> None:
    """The name is part of keys."""
    with pytest.raises(SettingsError, match="snake_case"):
        read_sinks({name: GOOD})
