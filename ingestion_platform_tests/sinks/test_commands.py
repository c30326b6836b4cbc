"""`python -m ingestion_platform alerts …`: what each command prints, and its exit code."""

import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingestion_platform.__main__ import main
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sinks import notes
from ingestion_platform_tests.sinks.telling import Receiver, land, some_alert, zone_in

Command = Callable[..., tuple[int, str, str]]

SINKS = """
[audit]
kind = "log"
where = "told.jsonl"

[security]
kind = "webhook"
where = "{url}"
private_hosts = true
rules = ["fraud"]
patience_seconds = 0.01
"""


@pytest.fixture
def zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> LocalLanding:
    """The landing zone that the settings name, and two sinks."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("INGESTION_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "sinks.toml").write_text(SINKS.format(url=receiver.url))
    monkeypatch.setenv("INGESTION_SINKS", "sinks.toml")
    return zone_in(tmp_path / "data" / "landing")


@pytest.fixture
def command(zone: LocalLanding, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command; exit code, what it printed, what it said of errors."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["alerts", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_standing_alerts_are_listed_by_rule_the_newest_first(command: Command, zone: LocalLanding) -> None:
    """What was withdrawn isn't; one rule alone can be asked for; hostile texts stay on their line."""
    moment = datetime(2024, 10, 1, 9, tzinfo=UTC)
    spike = some_alert(4, rule="spike", priority=5, reasons=("first\nspike: 99 standing",))
    land(zone, [some_alert(1), some_alert(2, happened_at=moment), some_alert(3), some_alert(3, ordinal=1), spike])
    code, out, _ = command()
    lines = out.splitlines()
    assert code == 0
    assert [line for line in lines if not line.startswith(" ")] == ["fraud: 2 standing", "spike: 1 standing"]
    assert lines[1].startswith(
        "  2024-10-01 09:00:00 UTC hold 0.93 store_id S0002, customer_id c000002: amount is 14 times"
    )
    assert command("--rule", "spike")[1].startswith("spike: 1 standing")
    assert command("--rule", "none")[1] == "no alert that landed in the last 24 hours stands\n"


def test_changes_are_printed_as_they_land(
    command: Command, zone: LocalLanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, withdrawals as such, until somebody has enough."""
    land(zone, [some_alert(1)], datetime(2024, 10, 1, tzinfo=UTC))
    rounds = iter([[some_alert(2)], [some_alert(2, ordinal=1), some_alert(3, rule="spike")]])

    def then(_seconds: float) -> None:
        some = next(rounds, None)
        if some is None:
            raise KeyboardInterrupt
        land(zone, some)

    monkeypatch.setattr(time, "sleep", then)
    code, out, _ = command("--follow")
    assert code == 0
    assert re.findall("^(?:withdrawn )?[a-z]+:", out, re.MULTILINE) == ["fraud:", "withdrawn fraud:", "spike:"]


def test_how_it_stands_with_sinks_is_told(command: Command, zone: LocalLanding) -> None:
    """What was told, waits, is dead and why; what isn't in order is an exit code."""
    land(zone, [some_alert(1), some_alert(2)])
    notes.note_told(zone, "audit", {some_alert(1).id: 0}, datetime.now(UTC))
    assert command("sinks")[0] == 0
    notes.bury(zone, "security", [some_alert(1)], "it answered 503", datetime.now(UTC), is_refused=False)
    code, out, _ = command("sinks")
    assert code == 1
    assert re.match(
        r"audit\n  told: 1\n  waiting: 1, the oldest since .* UTC\n  dead: 0\n"
        r"security\n  told: 0\n  waiting: 1, .*\n  dead: 1, since .* UTC\n  last error: it answered 503\n",
        out,
    )


def test_nobody_is_told_without_sinks(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that is said."""
    monkeypatch.setenv("INGESTION_SINKS", "")
    assert command("sinks") == (
        0,
        "nobody is told: no sink is declared (hint: name a file in INGESTION_SINKS)\n",
        "",
    )


def test_a_sink_can_be_tried(command: Command, receiver: Receiver, tmp_path: Path) -> None:
    """A message that says that it is a test; a sink that doesn't take it is an error."""
    assert command("try", "security") == (0, "sink security has taken the test message\n", "")
    assert receiver.documents[0]["is_test"]
    receiver.answers = [(404, {}, b"")]
    code, _, err = command("try", "security")
    assert code == 1
    assert err.startswith("SinkUnavailable: sink 'security': it answered 404\nhint: check `where`")
    code, _, err = command("try", "nobody")
    assert (code, "sinks: audit, security" in err) == (1, True)
    command("try", "audit")
    assert json.loads((tmp_path / "told.jsonl").read_bytes())["title"] == "Test: Notify: test: sink audit"


def test_dead_letters_are_resent_or_dropped(command: Command, zone: LocalLanding, receiver: Receiver) -> None:
    """What a sink takes now is told; what somebody gives up is settled by who and why."""
    notes.bury(zone, "security", [some_alert(1), some_alert(2)], "it was away", datetime.now(UTC), is_refused=False)
    receiver.answers = [(400, {}, b"no")] * 9
    code, out, err = command("resend", "--sink", "security")
    assert (code, out) == (1, "security: 0 told, 2 left\n")
    assert "it answered 400: no" in err
    receiver.answers = []
    assert command("resend") == (0, "audit: nothing is dead\nsecurity: 2 told\n", "")
    assert sorted(receiver.ids[-2:]) == sorted(f"{some_alert(number).id}.0" for number in (1, 2))
    notes.bury(zone, "security", [some_alert(3)], "it was away", datetime.now(UTC), is_refused=True)
    code, out, _ = command("drop", "--sink", "security", "--by", "ann", "--why", "the rule was wrong")
    assert (code, out) == (0, "1 alerts in 1 dead letters given up\n")
    settled = [zone.read(one) for one in zone.list("dead_letters/") if one.key.endswith(".settled.json")]
    assert any(b"given up by ann: the rule was wrong" in content for content in settled)
    assert notes.open_letters(zone, "security") == []
