"""The outbox: what is told to whom, however often it is opened, and what becomes of what can't be told."""

from pathlib import Path

from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sinks.outbox import Outbox
from ingestion_platform_tests.sinks.telling import Receiver, hook, land, references, sink, some_alert, until


def test_an_alert_is_told_to_every_sink_and_noted(zone: LocalLanding, receiver: Receiver, tmp_path: Path) -> None:
    """A webhook and a log get it, and the landing zone says so."""
    alert = some_alert()
    land(zone, [alert])
    file = tmp_path / "told.jsonl"
    with Outbox(zone, [hook(receiver.url), sink("audit", "log", str(file))]) as outbox:
        outbox.offer([alert])
        until(lambda: receiver.posts and file.exists() and file.read_bytes().endswith(b"\n"))
    assert receiver.ids == [f"{alert.id}.0"]
    assert references(zone) == references(zone, "audit") == {f"{alert.id}.0"}


def test_what_landed_and_was_not_told_is_told_when_the_outbox_opens(zone: LocalLanding, receiver: Receiver) -> None:
    """An outbox that knows nothing tells what has landed without a note, and nothing twice."""
    alerts = [some_alert(number) for number in range(20)]
    land(zone, alerts)
    for _ in range(2):
        with Outbox(zone, [hook(receiver.url)]) as outbox:
            until(lambda: len(receiver.posts) >= 20)
            until(lambda: outbox.status()[0].waiting == 0)
    assert sorted(receiver.ids) == sorted(f"{alert.id}.0" for alert in alerts)
