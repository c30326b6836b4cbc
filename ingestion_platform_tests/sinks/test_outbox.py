"""The outbox: what is told to whom, however often it is opened, and what becomes of what can't be told."""

import threading
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.errors import LandingUnavailable, SinkRefused, SinkUnavailable
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sinks import notes
from ingestion_platform.sinks import outbox as outbox_room
from ingestion_platform.sinks.message import Message
from ingestion_platform.sinks.outbox import Outbox
from ingestion_platform.sinks.resending import resend
from ingestion_platform.sinks.sink import Sink
from ingestion_platform.sinks.standing import standings
from ingestion_platform.sources.pace import Pace
from ingestion_platform_tests.sinks.telling import (
    PATIENCE,
    Received,
    Receiver,
    hook,
    land,
    references,
    sink,
    some_alert,
    until,
)


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


def opened(zone: LocalLanding, carrier: Received, *sinks: Sink, **more: Any) -> Outbox:
    """An outbox with a carrier in memory."""
    return Outbox(zone, sinks or [sink()], carriers=lambda _: carrier, **more)


def away(_: Message) -> SinkUnavailable:
    """What a sink says that is down."""
    return SinkUnavailable("it is away")


def at_rest(outbox: Outbox) -> bool:
    """Whether nothing waits, dead letters included."""
    return all(not one.waiting and not one.dead for one in outbox.status())


def test_an_outbox_without_sinks_tells_nobody(zone: LocalLanding) -> None:
    """And costs nothing: no thread, nothing landed."""
    with Outbox(zone, []) as outbox:
        outbox.offer([some_alert()])
        assert outbox.status() == []
    assert list(zone.list()) == []


def test_a_sink_that_is_down_gets_dead_letters_and_all_of_them_when_it_is_back(zone: LocalLanding) -> None:
    """While it is down nothing is lost and the other sink is told; then everything is, the urgent first, and the letters are settled."""
    first, second = Received(), Received()
    first.fails = away
    both = {"security": first, "audit": second}
    alerts = [some_alert(number, priority=1 + number % 3) for number in range(9)]
    land(zone, alerts)
    with Outbox(zone, [sink(patience_seconds=0.2), sink("audit")], carriers=lambda one: both[one.name]) as outbox:
        outbox.offer(alerts)
        until(lambda: len(second.ids) == 9)
        until(lambda: outbox.status()[0].dead == 9)
        status = outbox.status()[0]
        assert not status.is_in_order
        assert "9 in dead letters" in str(status)
        assert "it is away" in str(status)
        (standing, _) = standings(zone, [sink(), sink("audit")], datetime.now(UTC))
        assert (standing.dead, standing.refused, standing.waiting) == (9, 0, 0)
        assert "it is away" in standing.last_error
        first.fails = lambda _: None
        until(lambda: at_rest(outbox))
    priorities = [message.priority for message in first.messages]
    assert sorted(first.ids) == sorted(f"{alert.id}.0" for alert in alerts)
    assert priorities[1:] == sorted(priorities[1:])
    assert notes.open_letters(zone, "security") == []
    assert references(zone) == set(first.ids)


def test_a_fault_of_the_platform_is_told_until_it_is_over(zone: LocalLanding, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw neither ends the telling nor is kept quiet: whoever asks reads it, for as long as it lasts."""
    carrier = Received()
    alerts = [some_alert()]
    land(zone, alerts)
    faulty = True
    note_told = notes.note_told

    def noted(*given: Any, **more: Any) -> Any:
        if faulty:
            raise RuntimeError("nobody foresaw this")
        return note_told(*given, **more)

    monkeypatch.setattr(notes, "note_told", noted)
    monkeypatch.setattr(outbox_room, "LANDING_WAIT_SECONDS", 0.05)
    with Outbox(zone, [sink()], carriers=lambda _: carrier) as outbox:
        outbox.offer(alerts)
        until(lambda: "nobody foresaw this" in str(outbox.status()[0]))
        assert not outbox.status()[0].is_in_order
        faulty = False
        until(lambda: at_rest(outbox) and outbox.status()[0].is_in_order)
        assert set(carrier.ids) == {f"{alerts[0].id}.0"}
        assert "nobody foresaw this" not in str(outbox.status()[0])


def test_dead_letters_of_a_process_that_ended_are_told_by_the_next(zone: LocalLanding) -> None:
    """Also alerts that landed longer ago than an outbox looks back; of one that was withdrawn meanwhile the withdrawal is told."""
    carrier = Received()
    alerts = [some_alert(number) for number in range(5)]
    land(zone, alerts)
    notes.bury(zone, "security", alerts, "it was away", datetime.now(UTC) - timedelta(hours=60), is_refused=False)
    land(zone, [some_alert(2, ordinal=1)])
    with opened(zone, carrier, sink(look_back_hours=0.000001)) as outbox:
        until(lambda: len(carrier.ids) == 5)
        until(lambda: at_rest(outbox))
    assert sorted(carrier.ids) == sorted(f"{one.id}.{int(one == alerts[2])}" for one in alerts)
    assert notes.open_letters(zone, "security") == []


def test_one_refused_alert_is_a_dead_letter_and_the_others_are_told(zone: LocalLanding) -> None:
    """It is found out in the group that it was in, isn't told again by itself, and is settled when it is withdrawn."""
    carrier, bad = Received(), some_alert(30)
    carrier.fails = lambda message: SinkRefused("not that one") if bad in message.alerts else None
    alerts = [some_alert(number) for number in range(60)]
    land(zone, alerts)
    for offered in (alerts, []):
        with opened(zone, carrier, sink(window_seconds=60.0)) as outbox:
            outbox.offer(offered)
            until(lambda: len(carrier.ids) == 59 and outbox.status()[0].dead == 1)
    (letter,) = notes.open_letters(zone, "security")
    assert (letter.alerts, letter.is_refused, letter.reason) == ([bad], True, "not that one")
    with opened(zone, carrier) as outbox:
        land(zone, [some_alert(30, ordinal=1)])
        outbox.offer([some_alert(30, ordinal=1)])
        until(lambda: not notes.open_letters(zone, "security"))
    assert len(carrier.ids) == 59


def test_a_sink_that_refuses_everything_is_asked_few_times(zone: LocalLanding) -> None:
    """After twenty refusals in a row whole messages are dead letters, and no hunt for the bad one goes on."""
    carrier = Received()
    asked = []
    carrier.fails = lambda message: asked.append(message) or SinkRefused("no")  # type: ignore[func-returns-value]
    alerts = [some_alert(number) for number in range(1000)]
    with opened(zone, carrier, sink(window_seconds=60.0)) as outbox:
        outbox.offer(alerts)
        until(lambda: outbox.status()[0].dead == 1000)
    assert len(asked) < 60
    assert sum(len(letter.alerts) for letter in notes.open_letters(zone, "security")) == 1000


def test_withdrawals_are_told_to_who_was_told(zone: LocalLanding) -> None:
    """Of two alerts the one that was told is withdrawn by a message, in the same outbox and in the next one."""
    carrier = Received()
    land(zone, [some_alert(1), some_alert(2)])
    with opened(zone, carrier) as outbox:
        outbox.offer([some_alert(1), some_alert(2)])
        until(lambda: len(carrier.ids) == 2)
        land(zone, [some_alert(1, ordinal=1)])
        outbox.offer([some_alert(1, ordinal=1)])
        until(lambda: len(carrier.ids) == 3)
    land(zone, [some_alert(2, ordinal=1)])
    with opened(zone, carrier) as outbox:
        land(zone, [some_alert(3), some_alert(3, ordinal=1)])
        outbox.offer([some_alert(3), some_alert(3, ordinal=1)])
        until(lambda: len(carrier.ids) == 4)
        until(lambda: standings(zone, [sink()], datetime.now(UTC))[0].waiting == 0)
    assert carrier.ids[2:] == [f"{some_alert(number).id}.1" for number in (1, 2)]


def test_the_rate_is_kept_and_the_wait_is_seen(zone: LocalLanding) -> None:
    """Of ten messages two go in this minute, the most urgent; how long the others will take is told."""
    carrier = Received()
    alerts = [some_alert(number, priority=9 - number % 8) for number in range(10)]
    land(zone, alerts)
    with opened(zone, carrier, sink(messages_per_minute=2)) as outbox:
        until(lambda: len(carrier.ids) == 2 and outbox.status()[0].waiting == 8)
        status = outbox.status()[0]
        assert status.seconds_left == 240.0
        assert "8 waiting" in str(status)
        assert status.is_in_order
    assert [message.priority for message in carrier.messages] == [2, 3]


def test_processes_share_the_pace_of_a_sink(zone: LocalLanding, tmp_path: Path) -> None:
    """Two outboxes of one machine together send no more than one may."""
    carriers = Received(), Received()
    boxes = [opened(zone, carrier, sink(messages_per_minute=3), pace_folder=tmp_path / "pace") for carrier in carriers]
    for index, box in enumerate(boxes):
        box.start()
        box.offer([some_alert(number) for number in range(index * 10, index * 10 + 10)])
    until(lambda: sum(len(carrier.ids) for carrier in carriers) == 3)
    until(lambda: sum(box.status()[0].waiting for box in boxes) == 17)
    for box in boxes:
        box.close()
    assert sum(len(carrier.ids) for carrier in carriers) == 3


def test_a_storm_is_a_few_messages(zone: LocalLanding) -> None:
    """10,000 alerts of one rule become a handful of messages that have each id once."""
    carrier = Received()
    alerts = [some_alert(number) for number in range(10_000)]
    land(zone, alerts)
    with opened(zone, carrier, sink(window_seconds=0.2, messages_per_minute=60)) as outbox:
        for begin in range(0, 10_000, 100):
            outbox.offer(alerts[begin : begin + 100])
        until(lambda: len(carrier.ids) >= 10_000)
    assert sorted(carrier.ids) == sorted(f"{alert.id}.0" for alert in alerts)
    assert len(carrier.messages) <= 60


def test_what_did_not_fit_is_read_from_the_landing_zone(zone: LocalLanding) -> None:
    """With room for 50, all of 500 are told all the same, each once."""
    carrier = Received()
    alerts = [some_alert(number, priority=1 + number % 9) for number in range(500)]
    for begin in range(0, 500, 50):
        land(zone, alerts[begin : begin + 50])
    with opened(zone, carrier, most_waiting=50) as outbox:
        outbox.offer(alerts)
        until(lambda: len(carrier.ids) >= 500)
    assert sorted(carrier.ids) == sorted(f"{alert.id}.0" for alert in alerts)


def test_what_was_offered_before_the_end_is_told(zone: LocalLanding) -> None:
    """Who closes an outbox has what is ready told and noted; a sink that is away isn't waited for."""
    carrier = Received()
    alerts = [some_alert(number) for number in range(100)]
    with opened(zone, carrier) as outbox:
        outbox.offer(alerts)
    assert len(carrier.ids) == len(references(zone)) == 100
    carrier.fails = away
    began = time.monotonic()
    with opened(zone, carrier) as outbox:
        outbox.offer([some_alert(100)])
    assert time.monotonic() - began < 2.5
    assert carrier.is_closed


def test_two_outboxes_tell_twice_at_worst(zone: LocalLanding) -> None:
    """Each is told of the same alerts by both, and the ids are the same."""
    carrier = Received()
    alerts = [some_alert(number) for number in range(50)]
    land(zone, alerts)
    with opened(zone, carrier) as one, opened(zone, carrier) as other:
        one.offer(alerts)
        other.offer(alerts)
        until(lambda: at_rest(one) and at_rest(other) and len(set(carrier.ids)) == 50)
    assert max(Counter(carrier.ids).values()) <= 2
    assert references(zone) == {f"{alert.id}.0" for alert in alerts}


def test_offering_never_waits_for_a_sink(zone: LocalLanding) -> None:
    """While a message hangs, offers are taken in at once."""
    carrier, hangs = Received(), threading.Event()

    def hang(_: Message) -> None:
        hangs.wait(PATIENCE)

    carrier.fails = hang
    with opened(zone, carrier) as outbox:
        outbox.offer([some_alert(0)])
        began = time.monotonic()
        for number in range(1, 1001):
            outbox.offer([some_alert(number)])
        assert time.monotonic() - began < 2.0
        hangs.set()
        until(lambda: len(carrier.ids) == 1001)


def test_a_landing_zone_that_is_away_stops_no_message(zone: LocalLanding, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told is noted when it is there again; until then it is told that it isn't noted."""
    carrier, is_away = Received(), threading.Event()
    monkeypatch.setattr("ingestion_platform.sinks.outbox.LANDING_WAIT_SECONDS", 0.05)
    monkeypatch.setattr("ingestion_platform.sinks.outbox.NOTE_SECONDS", 0.01)
    put = zone.put_if_absent

    def failing(key: str, content: bytes) -> bool:
        if is_away.is_set():
            raise LandingUnavailable("the bucket is away")
        return put(key, content)

    monkeypatch.setattr(zone, "put_if_absent", failing)
    alert = some_alert()
    land(zone, [alert])
    is_away.set()
    with opened(zone, carrier) as outbox:
        until(lambda: carrier.ids)
        until(lambda: "the bucket is away" in outbox.status()[0].last_error)
        is_away.clear()
        until(lambda: references(zone) == {f"{alert.id}.0"})
    assert len(carrier.ids) == 1


def test_notes_that_were_damaged_count_for_nothing(zone: LocalLanding, tmp_path: Path) -> None:
    """An alert whose note was cut is told again; a dead letter and alerts that can't be read stop nothing."""
    carrier, alert = Received(), some_alert()
    land(zone, [alert])
    key = notes.note_told(zone, "security", {alert.id: 0}, datetime.now(UTC))
    letter = notes.bury(zone, "security", [some_alert(1)], "", datetime.now(UTC), is_refused=False)
    broken = land(zone, [some_alert(2)])
    for damaged in (key, letter, broken):
        path = tmp_path / "landing" / damaged
        path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "landing/alerts/2024/10/01/x.jsonl").write_text("nonsense")
    (tmp_path / "landing/alerts/2024/10/01/99999999T999999999999Z-0000000000000000.jsonl").write_text("nonsense")
    with opened(zone, carrier):
        until(lambda: carrier.ids)
    assert carrier.ids == [f"{alert.id}.0"]


def test_days_long_ago_are_found_without_reading_what_landed_before(
    zone: LocalLanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alert of an old business day that lands now is found; of all that landed before nothing is read."""
    now = datetime.now(UTC)
    for number in range(30):
        day = date(2020, 1, 1) + timedelta(days=number)
        land(zone, [some_alert(number, day=day)], now - timedelta(days=3))
    fresh = some_alert(99, day=date(2020, 1, 7))
    land(zone, [fresh], now)
    read: list[str] = []
    reading = zone.read
    monkeypatch.setattr(zone, "read", lambda object_: read.append(object_.key) or reading(object_))  # type: ignore[func-returns-value]
    assert [one.alert for one in notes.landed_since(zone, now - timedelta(hours=24))] == [fresh]
    assert len(read) == 1


def test_dead_letters_are_told_again_by_command(zone: LocalLanding) -> None:
    """The refused too, the urgent first; what is still refused stays, what was withdrawn is settled."""
    carrier, bad = Received(), some_alert(7, priority=2)
    carrier.fails = lambda message: SinkRefused("still not") if bad in message.alerts else None
    alerts = [some_alert(number, priority=1 + number % 2) for number in range(10)]
    land(zone, alerts)
    land(zone, [some_alert(3, ordinal=1)])
    notes.bury(zone, "security", alerts[:5], "it was away", datetime.now(UTC), is_refused=False)
    notes.bury(zone, "security", alerts[5:], "not this one", datetime.now(UTC), is_refused=True)
    said = sink(window_seconds=60.0)
    resent = resend(zone, said, carrier, Pace(None, None))
    assert (resent.told, resent.withdrawn, resent.left, resent.error) == (8, 1, 1, "still not")
    assert [message.priority for message in carrier.messages] == sorted(one.priority for one in carrier.messages)
    assert len(notes.open_letters(zone, "security")) == 1
    carrier.fails = lambda _: None
    resent = resend(zone, said, carrier, Pace(None, None))
    assert (resent.told, resent.left) == (1, 0)
    assert notes.open_letters(zone, "security") == []
    assert resend(zone, said, carrier, Pace(None, None)).told == 0


def test_a_command_gives_a_sink_that_is_down_up_after_its_patience(zone: LocalLanding) -> None:
    """What it couldn't tell stays a dead letter, and why is told."""
    carrier = Received()
    carrier.fails = away
    notes.bury(zone, "security", [some_alert()], "it was away", datetime.now(UTC), is_refused=False)
    resent = resend(zone, sink(patience_seconds=0.001), carrier, Pace(None, None), sleep=lambda _: None)
    assert (resent.told, resent.left, resent.error) == (0, 1, "it is away")
    assert len(notes.open_letters(zone, "security")) == 1


def test_what_a_command_has_told_is_not_told_by_the_outbox(zone: LocalLanding) -> None:
    """The outbox looks whether a dead letter is settled before it tells it."""
    carrier, said = Received(), sink(patience_seconds=0.1)
    carrier.fails = away
    land(zone, [some_alert()])
    with opened(zone, carrier, said) as outbox:
        until(lambda: outbox.status()[0].dead == 1)
        other = Received()
        resend(zone, said, other, Pace(None, None))
        assert len(other.ids) == 1
        carrier.fails = lambda _: None
        until(lambda: at_rest(outbox))
    assert carrier.ids == []


def test_what_waits_too_long_is_seen_by_whoever_asks(zone: LocalLanding) -> None:
    """Landed and not told for longer than a sink's minutes: late. Dead letters of sinks that aren't declared any more are seen, too."""
    now = datetime.now(UTC)
    land(zone, [some_alert(1)], now - timedelta(minutes=30))
    land(zone, [some_alert(2), some_alert(3), some_alert(3, ordinal=1)], now)
    notes.bury(zone, "former", [some_alert(9)], "it was away", now, is_refused=True)
    notes.bury(zone, "former2", [some_alert(9)], "it was away", now, is_refused=True)
    first, *others = standings(zone, [sink()], now)
    assert (first.waiting, first.late, first.dead, first.is_in_order) == (3, 1, 0, False)
    assert [(one.sink, one.is_declared, one.refused) for one in others] == [("former", False, 1), ("former2", False, 1)]
    notes.note_told(zone, "security", {some_alert(number).id: 0 for number in (1, 2)}, now, {some_alert(3).id: 1})
    assert standings(zone, [sink()], now)[0].is_in_order
