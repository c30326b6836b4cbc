"""
Alerts, and whoever is told of them: made up, landed, received.

Belongs here: what several modules of these tests need. Doesn't: tests.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ingestion_platform import alert as alerts_of
from ingestion_platform.alert import Alert
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sinks.message import Message
from ingestion_platform.sinks.sink import Sink

PATIENCE = 60.0
"""Seconds that a test waits for what must come."""


def some_alert(number: int = 0, **changes: Any) -> Alert:
    """An alert about one of many customers; the same number, the same alert."""
    ordinal = changes.get("ordinal", 0)
    values: dict[str, Any] = {
        "rule": "fraud",
        "about": {"store_id": f"S{number % 7:04}", "customer_id": f"c{number:06}"},
        "deserved_by": f"T{number:06}",
        "happened_at": datetime(2024, 10, 1, 8, 15, tzinfo=UTC),
        "day": date(2024, 10, 1),
        "change": "withdrawn" if ordinal % 2 else "raised",
        "ordinal": ordinal,
        "raised_at": datetime(2024, 10, 1, 8, 15, 1, tzinfo=UTC),
        "priority": 1,
        "action": "hold",
        "score": 0.93,
        "reasons": ("amount is 14 times the usual", "a card never seen before"),
        "dataset": "payments",
        "details": {"amount_zar": "14000.00"},
    }
    return Alert(**(values | changes))


def land(zone: LocalLanding, alerts: Sequence[Alert], moment: datetime | None = None) -> str:
    """Land alerts of one day as one object."""
    content = alerts_of.written(alerts)
    key = alerts_of.key_of(alerts[0].day, moment or datetime.now(UTC), content)
    zone.put_if_absent(key, content)
    return key


def sink(name: str = "security", kind: str = "log", where: str = "", **more: Any) -> Sink:
    """A sink that isn't slowed down."""
    values = {"messages_per_minute": 100_000, "window_seconds": 0.0, "patience_seconds": 0.5} | more
    return Sink.model_validate({"name": name, "kind": kind, "where": where, **values})


def hook(url: str, name: str = "security", **more: Any) -> Sink:
    """A webhook on this machine."""
    secret = more.pop("secret", None)
    return sink(name, "webhook", url, private_hosts=True, secret=SecretStr(secret) if secret else None, **more)


def until(holds: Callable[[], object], what: str = "") -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"it never came about: {what or holds}"
        time.sleep(0.002)


def references(zone: LocalLanding, name: str = "security") -> set[str]:
    """Changes that are noted as told to a sink."""
    contents = [zone.read(one) for one in zone.list(f"told/{name}/")]
    return {reference for content in contents for reference in json.loads(content)["told"]}


class Received:
    """A carrier in memory that keeps what it is given, and fails as it is told."""

    def __init__(self, _sink: Sink | None = None) -> None:
        self.messages: list[Message] = []
        self.fails: Callable[[Message], Exception | None] = lambda _: None
        self.is_closed = False

    def send(self, message: Message) -> None:
        """Keep it."""
        error = self.fails(message)
        if error is not None:
            raise error
        self.messages.append(message)

    def close(self) -> None:
        """Note that."""
        self.is_closed = True

    @property
    def ids(self) -> list[str]:
        """Changes in the order in which they were told."""
        return [reference for message in self.messages for reference in message.ids]


class Receiver:
    """
    A server that takes posts.

    Attributes:
        posts: what came: path, headers, body.
        answers: what is answered next: status, headers, body; 200 when there is none.
    """

    def __init__(self) -> None:
        self.posts: list[tuple[str, Mapping[str, str], bytes]] = []
        self.answers: list[tuple[int, Mapping[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Keep it, and answer."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                status, headers, words = receiver.answers.pop(0) if receiver.answers else (200, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(words)))
                self.end_headers()
                self.wfile.write(words)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/s3cr3t-of-the-hook?key=a-key-in-it"

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What was posted, as JSON."""
        return [json.loads(body) for _, _, body in self.posts]

    @property
    def ids(self) -> list[str]:
        """Changes in the order in which they came."""
        return [reference for document in self.documents for reference in document["ids"]]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on this machine, for as long as the context lasts."""
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


def zone_in(folder: Path) -> LocalLanding:
    """An empty landing zone."""
    folder.mkdir(parents=True, exist_ok=True)
    return LocalLanding(folder)
