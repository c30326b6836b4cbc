"""
A small S3 server on 127.0.0.1 over a folder, and the storm in it: answers 503 and 500, cuts connections before and in the middle of
answers, delays.

Belongs here: as much of S3 as a landing zone asks of it. Doesn't: access control; whoever reaches it may read the folder, so it listens on
loopback alone, as long as a round takes.
"""

import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from ingestion_platform.chaos.processes import Process, Tally
from ingestion_platform.landing import LandedObject, LandingZone
from ingestion_platform.landing.local import LocalLanding

BUCKET = "chaos"
PAGE = 100
"""Keys of a page of a listing: few, so that pages are met."""


class S3Address:
    """
    Where the server is.

    Args:
        port: on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def landing(self) -> LandingZone:
        """The landing zone there; it waits less than one far away, so that a storm takes seconds."""
        from ingestion_platform.landing.s3 import S3Landing

        return S3Landing(
            f"s3://{BUCKET}",
            own_server=f"http://127.0.0.1:{self.port}",
            attempts=12,
            first_wait_seconds=0.01,
            longest_wait_seconds=0.1,
            timeout_seconds=5.0,
        )


@contextmanager
def serving(folder: Path, tally: Tally, root: Path, seed: int, *, is_stormy: bool) -> Iterator[S3Address]:
    """
    Serve a folder, in a process of its own.

    Args:
        folder: the bucket.
        tally: of what the storm does.
        root: of what the process has to say.
        seed: decides when the storm does what.
        is_stormy: whether there is one.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]

    def serve() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        storm = _Storm(tally, seed) if is_stormy else None
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(folder, storm), bind_and_activate=False)
        server.socket.close()
        server.socket = listening
        server.daemon_threads = True
        server.serve_forever(0.05)

    process = Process(serve, root / f"server-{port}")
    listening.close()
    try:
        yield S3Address(port)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.end()


class _Storm:
    """Decides what happens to each request: nothing, to most of them."""

    def __init__(self, tally: Tally, seed: int) -> None:
        self._tally = tally
        self._chance = Random(seed)
        self._lock = threading.Lock()

    def falls(self) -> str:
        """What happens to the next request, which is counted; empty: nothing."""
        with self._lock:
            draw = self._chance.random()
            share = 0.0
            for what, part in (
                ("503 answered", 0.12), ("500 answered", 0.04), ("bodies cut", 0.10), ("connections cut", 0.08), ("delays", 0.10),
            ):  # fmt: skip
                share += part
                if draw < share:
                    return what
            return ""

    def met(self, what: str, times: int = 1) -> None:
        """Count it."""
        with self._lock:
            self._tally.add(what, times)


def _handler(folder: Path, storm: _Storm | None) -> type[BaseHTTPRequestHandler]:
    zone = LocalLanding(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            """A listing or an object."""
            parts = urlsplit(self.path)
            _, _, key = (parts.path + "/").split("/", 2)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            key = unquote(key.removesuffix("/"))
            if "list-type" in asked or not key:
                self._answer(200, _listing(zone, asked), {"Content-Type": "application/xml"})
                return
            self._object(key, has_body=True)

        def do_HEAD(self) -> None:
            """An object's size and version."""
            self._object(unquote(urlsplit(self.path).path.split("/", 2)[-1]), has_body=False)

        def do_PUT(self) -> None:
            """Write an object, unless it is there and that is a condition."""
            key = unquote(urlsplit(self.path).path.split("/", 2)[-1])
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if zone.put_if_absent(key, content):
                self._answer(200, b"", {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})
            else:
                self._refuse(412, "PreconditionFailed")

        def _object(self, key: str, *, has_body: bool) -> None:
            path = folder / key
            if not key or not path.is_file():
                self._refuse(404, "NoSuchKey")
                return
            content = path.read_bytes()
            etag = f'"{hashlib.md5(content).hexdigest()}"'
            if self.headers.get("If-Match", etag) != etag:
                self._refuse(412, "PreconditionFailed")
                return
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            head = {
                "ETag": etag,
                "Last-Modified": f"{modified:%a, %d %b %Y %H:%M:%S GMT}",
                "Content-Type": "binary/octet-stream",
            }
            status = 200
            if (wanted := self.headers.get("Range", "")).startswith("bytes="):
                begin, _, end = wanted.removeprefix("bytes=").partition("-")
                whole = len(content)
                content = content[int(begin) : int(end or whole - 1) + 1]
                head["Content-Range"] = f"bytes {begin}-{int(begin) + len(content) - 1}/{whole}"
                status = 206
            self._answer(status, content, head, has_body=has_body)

        def _refuse(self, status: int, code: str) -> None:
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self._answer(status, body, {"Content-Type": "application/xml"}, is_calm=True)

        def _answer(
            self, status: int, body: bytes, head: dict[str, str], *, has_body: bool = True, is_calm: bool = False
        ) -> None:
            falls = storm.falls() if storm is not None and not is_calm else ""
            if storm is not None and falls and not (falls == "bodies cut" and (len(body) < 2 or not has_body)):
                storm.met(falls)
                if falls == "delays":
                    time.sleep(0.05)
                elif falls in ("503 answered", "500 answered"):
                    self._refuse(int(falls[:3]), "SlowDown" if falls.startswith("503") else "InternalError")
                    return
                elif falls == "connections cut":
                    self._hang_up()
                    return
            self.send_response(status)
            for name, value in head.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not has_body:
                return
            if storm is not None and falls == "bodies cut" and len(body) >= 2:
                storm.met("bytes cut", len(body) - len(body) // 2)
                self.wfile.write(body[: len(body) // 2])
                self._hang_up()
                return
            self.wfile.write(body)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                # The other end has gone first.
                return

    return Handler


def _listing(zone: LocalLanding, asked: dict[str, str]) -> bytes:
    """A page of a listing, as ListObjectsV2 gives it."""
    after = max(asked.get("start-after", ""), asked.get("continuation-token", ""))
    page: list[LandedObject] = []
    has_more = False
    for landed in zone.list(asked.get("prefix", ""), start_after=after):
        if len(page) == PAGE:
            has_more = True
            break
        page.append(landed)
    items = "".join(
        f"<Contents><Key>{escape(quote(one.key))}</Key><LastModified>{one.landed_at:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
        f"<ETag>&quot;{hashlib.md5(zone.read(one)).hexdigest()}&quot;</ETag><Size>{one.size_bytes}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for one in page
    )
    more = f"<NextContinuationToken>{escape(page[-1].key)}</NextContinuationToken>" if has_more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><EncodingType>url</EncodingType><KeyCount>{len(page)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(has_more).lower()}</IsTruncated>{more}{items}</ListBucketResult>"
    ).encode()
