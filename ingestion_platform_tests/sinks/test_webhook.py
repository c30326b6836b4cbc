"""Webhooks: what is posted, how it is signed, what answers mean, and where a URL may lead."""

import hashlib
import hmac
import json
import socket

import pytest

from ingestion_platform.errors import SettingsError, SinkRefused, SinkUnavailable
from ingestion_platform.sinks.message import Message
from ingestion_platform.sinks.webhook import SIGNATURE, Webhook
from ingestion_platform_tests.sinks.telling import Receiver, hook, sink, some_alert

SECRET = "a secret that only two know"


def test_a_message_is_posted_as_json_with_its_id(receiver: Receiver) -> None:
    """The field `text` is what chat systems show; the id stands in headers, for whoever tells doubles by them."""
    message = Message([some_alert()])
    Webhook(hook(receiver.url)).send(message)
    path, headers, body = receiver.posts[0]
    assert path == "/services/s3cr3t-of-the-hook?key=a-key-in-it"
    assert headers["idempotency-key"] == headers["x-ingestion-message"] == message.id
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert SIGNATURE not in headers
    assert "Hold: fraud" in json.loads(body)["text"]


def test_a_signature_proves_who_posted_and_what(receiver: Receiver) -> None:
    """It is the HMAC of the moment and the body; another body or moment has another one."""
    Webhook(hook(receiver.url, secret=SECRET), clock=lambda: 1727770500.7).send(Message([some_alert()]))
    _, headers, body = receiver.posts[0]
    moment, signed = (part.partition("=")[2] for part in headers[SIGNATURE].split(","))
    assert moment == "1727770500"
    assert signed == hmac.new(SECRET.encode(), b"1727770500." + body, hashlib.sha256).hexdigest()
    assert SECRET.encode() not in body


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_message_that_is_wrong_is_refused(receiver: Receiver, status: int) -> None:
    """It would be refused again; the answer's own words are told, without line ends."""
    receiver.answers = [(status, {}, b'{"message": "no such\\r\\nfield"}')]
    with pytest.raises(SinkRefused, match=f"sink 'security': it answered {status}: no such field"):
        Webhook(hook(receiver.url)).send(Message([some_alert()]))


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 408, 410, 429, 500, 502, 503])
def test_a_receiver_in_trouble_is_to_be_tried_again(receiver: Receiver, status: int) -> None:
    """Statuses that hold for every message: what couldn't be told isn't the message's fault."""
    receiver.answers = [(status, {"Location": receiver.url}, b"")]
    with pytest.raises(SinkUnavailable, match=str(status)):
        Webhook(hook(receiver.url)).send(Message([some_alert()]))
    assert len(receiver.posts) == 1, "no redirect is followed"


def test_when_to_come_again_is_heard(receiver: Receiver) -> None:
    """Retry-After in seconds."""
    receiver.answers = [(429, {"Retry-After": "17"}, b"")]
    with pytest.raises(SinkUnavailable) as caught:
        Webhook(hook(receiver.url)).send(Message([some_alert()]))
    assert caught.value.again_seconds == 17.0


@pytest.mark.parametrize("words", [b"/services/s3cr3t-of-the-hook is no hook", b"key a-key-in-it, " + SECRET.encode()])
def test_what_a_receiver_repeats_of_secrets_is_not_told(receiver: Receiver, words: bytes) -> None:
    """An error lands and is logged: no part of the URL is in it, nor the secret."""
    for status in (400, 500):
        receiver.answers = [(status, {}, words)]
        with pytest.raises((SinkRefused, SinkUnavailable)) as caught:
            Webhook(hook(receiver.url, secret=SECRET)).send(Message([some_alert()]))
        assert not any(secret in str(caught.value) for secret in ("s3cr3t", "a-key-in-it", SECRET))
    assert "s3cr3t" not in repr(hook(receiver.url, secret=SECRET))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:192.168.0.1"])
def test_a_name_that_leads_into_the_network_is_not_followed(address: str) -> None:
    """Whoever owns the name says where it leads; what isn't public is asked only when the settings say so."""
    said = sink("security", "webhook", "https://hooks.example.com/s3cr3t")
    webhook = Webhook(said, resolve=lambda *_: [address])
    with pytest.raises(SinkUnavailable, match="isn't public") as caught:
        webhook.send(Message([some_alert()]))
    assert "INGESTION_SINKS" in caught.value.hint
    assert "s3cr3t" not in str(caught.value)


def test_a_receiver_that_says_nothing_is_left_after_the_timeout() -> None:
    """A connection that is taken and never answered costs no more than `timeout_seconds`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        webhook = Webhook(hook(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_seconds=0.2))
        with pytest.raises(SinkUnavailable, match="no answer within"):
            webhook.send(Message([some_alert()]))
        webhook.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example.com/s3cr3t", "anybody on the way"),
        ("ftp://hooks.example.com/s3cr3t", "it isn't one of http"),
        ("https://user:s3cr3t@hooks.example.com/", "a user or a password"),
        ("s3cr3t", "can't be posted to"),
        ("https://hooks.example.com\\@127.0.0.1/s3cr3t", "no URL may"),
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused_at_once(url: str, why: str) -> None:
    """The error names the sink, and doesn't show the URL."""
    with pytest.raises(SettingsError, match=why) as caught:
        Webhook(sink("security", "webhook", url))
    assert "sink 'security'" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
