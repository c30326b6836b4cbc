"""
An S3 server on 127.0.0.1 that can be told to misbehave: moto's application behind a thin layer of faults, over real HTTP.

Belongs here: the server, its faults, and a producer's way in behind the platform's back. Doesn't: what the platform makes of them.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import count
from typing import TYPE_CHECKING, Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api import state_manager
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import S3Backend, s3_backends
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_REGION = "us-east-1"


@dataclass
class _Fault:
    """What happens to the next requests, and to how many (None: all of them)."""

    act: "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]"
    times: int | None
    method: str | None


class Faults:
    """
    What the server does wrong, told while it runs.

    Each call adds a fault for the next *times* requests (None: until `clear`) of the HTTP *method* (None: any). A request meets the
    first fault told that is left; delays come on top of what follows them.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app
        self._lock = threading.Lock()
        self._put_lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._requests: list[str] = []

    @property
    def requests(self) -> list[str]:
        """The requests since the last `clear`, as in `GET /bucket/key`, those that met a fault included."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Behave again, and forget the requests."""
        with self._lock:
            self._faults.clear()
            self._requests.clear()

    def slow_down(self, times: int | None = 1, *, method: str | None = None) -> None:
        """Answer 503 SlowDown."""
        self.refuse(503, "SlowDown", times, method=method)

    def refuse(self, status: int, code: str, times: int | None = 1, *, method: str | None = None) -> None:
        """Answer with this status and S3 error code, without doing what was asked."""

        def act(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
            head = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
            start_response(f"{status} {code}", head)
            return [body]

        self._add(act, times, method)

    def cut_body(self, times: int | None = 1, *, after_bytes: int = 10, method: str | None = "GET") -> None:
        """Answer, but end the connection after so many bytes of the body (at the latest, one before its end)."""

        def act(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            status, headers, body = self._answer(environ)
            start_response(status, headers)
            yield body[: min(after_bytes, len(body) - 1)]
            _hang_up(environ)

        self._add(act, times, method)

    def cut_before_answer(self, times: int | None = 1, *, is_done: bool = False, method: str | None = None) -> None:
        """End the connection without any answer, before or (*is_done*) after doing what was asked."""

        def act(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            if is_done:
                self._answer(environ)
            _hang_up(environ)
            return []

        self._add(act, times, method)

    def delay(self, seconds: float, times: int | None = 1, *, method: str | None = None) -> None:
        """Wait before doing what was asked, or before the next fault."""

        def act(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            time.sleep(seconds)
            return self._respond(environ, start_response, after=fault)

        fault = self._add(act, times, method)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        with self._lock:
            self._requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        return self._respond(environ, start_response, after=None)

    def _add(
        self,
        act: "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]",
        times: int | None,
        method: str | None,
    ) -> _Fault:
        fault = _Fault(act, times, method)
        with self._lock:
            self._faults.append(fault)
        return fault

    def _next(self, method: str, after: _Fault | None) -> _Fault | None:
        with self._lock:
            # When *after* was cleared meanwhile, no fault is found: those told since are for other requests.
            begun = after is None
            for fault in self._faults:
                if begun and fault.method in (None, method) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
                begun = begun or fault is after
        return None

    def _respond(
        self, environ: "WSGIEnvironment", start_response: "StartResponse", after: _Fault | None
    ) -> Iterable[bytes]:
        fault = self._next(environ["REQUEST_METHOD"], after)
        if fault is not None:
            return fault.act(environ, start_response)
        status, headers, body = self._answer(environ)
        start_response(status, headers)
        return [body]

    def _answer(self, environ: "WSGIEnvironment") -> tuple[str, list[tuple[str, str]], bytes]:
        told: list[tuple[str, list[tuple[str, str]]]] = []

        def keep(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            told.append((status, headers))
            return lambda data: None

        if environ["REQUEST_METHOD"] == "PUT" and "partNumber=" not in environ["QUERY_STRING"]:
            # S3's conditional write is atomic; moto looks and then writes.
            with self._put_lock:
                body = b"".join(self._app(environ, keep))
        elif environ["REQUEST_METHOD"] == "POST" and environ.get("HTTP_IF_NONE_MATCH") == "*":
            # S3 completes an upload under this condition; moto doesn't know it.
            with self._put_lock:
                _, bucket, key = environ["PATH_INFO"].split("/", 2)
                if _backend().head_object(bucket, key) is not None:
                    body = b"<Error><Code>PreconditionFailed</Code><Message>it is there</Message></Error>"
                    return "412 Precondition Failed", [("Content-Type", "application/xml")], body
                body = b"".join(self._app(environ, keep))
        else:
            body = b"".join(self._app(environ, keep))
        return (*told[-1], body)


class S3Server:
    """
    The running server.

    Attributes:
        url: its endpoint.
        faults: what it does wrong.
    """

    def __init__(self, url: str, faults: Faults) -> None:
        self.url = url
        self.faults = faults
        self._buckets = count(1)

    def new_bucket(self) -> str:
        """Make an empty bucket, and give its name."""
        name = f"landing-{next(self._buckets)}"
        _backend().create_bucket(name, _REGION)
        return name

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Write an object as a producer does: without a request, so without faults and in no time."""
        _backend().put_object(bucket, key, content)

    def move(self, bucket: str, key: str, storage_class: str) -> None:
        """
        Move an object to a storage class, as a lifecycle rule does one night: its ETag and its time stay.

        moto keeps rules and carries none out. A restore that was asked for stays under way until `restored`, whatever moto would say.
        """
        state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": 10**9})
        found = _backend().get_object(bucket, key)
        assert found is not None
        found.set_storage_class(storage_class)
        found.set_expiry(None)
        found.status = "IN_PROGRESS"

    def restored(self, bucket: str, key: str) -> None:
        """Finish a restore that was asked for; without one, nothing comes back."""
        found = _backend().get_object(bucket, key)
        assert found is not None
        found.status = "RESTORED"

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object as a producer does."""
        _backend().delete_object(bucket, key)


@contextmanager
def serve_s3() -> Iterator[S3Server]:
    """Run an S3 server on a free port of 127.0.0.1, in threads of this process; it ends with the context."""
    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True, request_handler=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="s3-server", daemon=True)
    thread.start()
    try:
        # moto imports its S3 at the first request, for most of a second: a test's short timeout shouldn't meet that.
        connection = HTTPConnection("127.0.0.1", server.server_port)
        with closing(connection):
            connection.request("GET", "/warm-up?list-type=2")
            connection.getresponse().read()
        yield S3Server(f"http://127.0.0.1:{server.server_port}", faults)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _QuietHandler(MotoRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing: thousands of request lines would bury a failing test's own output."""


def _backend() -> S3Backend:
    backend: S3Backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    return backend


def _hang_up(environ: "WSGIEnvironment") -> None:
    with suppress(OSError):  # the client may have gone first
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("told to")
