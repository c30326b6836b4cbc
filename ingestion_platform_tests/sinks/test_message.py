"""Messages: what they say, and that nothing in them can harm whoever reads them."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.sinks.message import CUT, MOST_ALERTS, MOST_BYTES, Message, harmless
from ingestion_platform_tests.sinks.telling import some_alert

HOSTILE = (
    "amount\r\nX-Injected: yes\n.\nSubject: \x00\x1b[2J \u202etxt.exe \u2066x\u2069 \ud83d \ufffe \u2028 \x85 🛒 "
    "<script>"
)


def test_a_person_and_a_machine_are_told_the_same() -> None:
    """Title, reasons, what to do, id and change; for a machine the numbers too."""
    alert = some_alert(3)
    message = Message([alert])
    document = json.loads(message.body())
    assert message.title == "Hold: fraud: store_id S0003, customer_id c000003"
    for words in (
        "Hold the goods",
        "- amount is 14 times the usual",
        "score 0.93",
        alert.id,
        "2024-10-01 08:15:00 UTC",
    ):
        assert words in document["text"]
    assert document["ids"] == [message.id] == [f"{alert.id}.0"]
    assert document["alerts"][0]["details"] == {"amount_zar": "14000.00"}
    assert (document["rule"], document["change"], document["count"], document["priority"]) == ("fraud", "raised", 1, 1)


def test_a_withdrawal_says_what_to_do_with_what_was_done() -> None:
    """It has the alert's id, and its own ordinal."""
    message = Message([some_alert(3, ordinal=1)])
    assert message.title.startswith("Withdrawn: fraud")
    assert "undo what was done" in message.text()
    assert message.id == f"{some_alert(3).id}.1"


def test_a_group_shows_the_first_and_has_the_ids_of_all() -> None:
    """The title tells how many, and what they have in common."""
    message = Message([some_alert(number, about={"store_id": "S1", "card": str(number)}) for number in range(37)], 3)
    document = json.loads(message.body())
    assert message.title == "Hold: fraud: 37 alerts, store_id S1"
    assert len(document["ids"]) == 37
    assert (len(document["alerts"]), document["left_out"]) == (3, 34)
    assert "… and 34 more" in document["text"]


def test_a_group_is_named_by_its_alerts_in_any_order() -> None:
    """So that the same group has the same id whoever makes it."""
    some = [some_alert(number) for number in range(5)]
    assert Message(some).id == Message(some[::-1]).id != Message(some[:4]).id


def test_hostile_texts_stay_on_their_line() -> None:
    """Line ends, escapes, turned writing and halves of letters become blanks or U+FFFD, in every part."""
    alert = some_alert(0, rule=HOSTILE, about={HOSTILE: HOSTILE}, reasons=(HOSTILE,), details={"x": HOSTILE})
    message = Message([alert])
    document = json.loads(message.body())
    for line in (
        message.title,
        message.subject,
        message.rule,
        *document["text"].split("\n"),
        *document["alerts"][0]["reasons"],
    ):
        assert all(unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") for letter in line)
        assert not set(line) & set("\u202e\u2066\ufffe")
    assert not any(line.startswith(("X-Injected", "Subject:", ".")) for line in document["text"].split("\n"))
    assert "🛒" in document["text"]


@given(st.text())
def test_harmless_gives_one_short_line_of_any_text(text: str) -> None:
    """It can be encoded, and is as short as asked."""
    line = harmless(text, 20)
    assert len(line) <= 20
    assert len(line.splitlines()) <= 1
    line.encode()


def test_a_subject_is_what_mail_takes() -> None:
    """ASCII without control letters, 100 at most; a longer one says that it is cut."""
    subject = Message([some_alert(0, about={"store": "🛒" * 200})]).subject
    assert subject.isascii()
    assert subject.isprintable()
    assert len(subject) <= 100
    assert subject.endswith("(cut)")


def test_the_largest_message_fits() -> None:
    """Of alerts that say too much, fewer are shown, texts are cut and say so, and the ids of all are there."""
    huge = '\U0001f6d2\x01\u202e"\\' * 20_000
    some = [
        some_alert(number, reasons=(huge,) * 99, details={f"{one}{huge}": huge for one in range(50)})
        for number in range(20)
    ]
    body = Message([*some, *(some_alert(number) for number in range(20, MOST_ALERTS))], shown=100).body()
    document = json.loads(body)
    assert len(body) <= MOST_BYTES
    assert len(document["ids"]) == MOST_ALERTS
    assert document["left_out"] == MOST_ALERTS - len(document["alerts"]) > 1900
    assert CUT in document["text"]
