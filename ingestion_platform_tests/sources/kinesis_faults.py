"""
A Kinesis server on 127.0.0.1 that can be told to misbehave: a thin layer of faults in front of moto's application, or of another server.

Belongs here: serving, and faults. Doesn't: streams and their records (`kinesis_worlds.py`), what the platform makes of them.
"""

import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@dataclass(frozen=True)
class Request:
    """One request, as Kinesis sees it."""

    operation: str
    headers: dict[str, str]
    body: bytes

    @property
    def arguments(self) -> dict[str, Any]:
        """What is asked."""
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found


@dataclass(frozen=True)
class Answer:
    """What it is answered."""

    status: int
    body: bytes

    @classmethod
    def error(cls, status: int, code: str, message: str = "told to") -> "Answer":
        """An error as Kinesis tells it."""
        return cls(status, json.dumps({"__type": code, "message": message}).encode())

    @property
    def content(self) -> dict[str, Any]:
        """What is told."""
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found


Server = Callable[[Request], Answer]
HangUp = ConnectionAbortedError


@dataclass
class _Fault:
    act: Callable[[Request], Answer]
    times: int | None
    operation: str | None


class Faults:
    """
    What the server does wrong, told while it runs.

    Each call adds a fault for the next *times* requests (None: until `clear`) of an *operation* (`GetRecords`; None: any). A request meets
    the first fault told that is left.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._requests: list[str] = []
        self._reads_per_second: int | None = None
        self._shards: dict[str, str] = {}
        self._reads: dict[str, list[float]] = defaultdict(list)

    @property
    def requests(self) -> list[str]:
        """Operations since the last `clear`, those that met a fault included."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Behave again, and forget the requests."""
        with self._lock:
            self._faults.clear()
            self._requests.clear()
            self._reads_per_second = None

    def throttle(self, times: int | None = 1, *, operation: str | None = "GetRecords") -> None:
        """Answer that the throughput is exceeded."""
        self.refuse(400, "ProvisionedThroughputExceededException", times, operation=operation)

    def expire_iterators(self, times: int | None = 1) -> None:
        """Answer that the iterator is too old."""
        self.refuse(400, "ExpiredIteratorException", times, operation="GetRecords")

    def refuse(self, status: int, code: str, times: int | None = 1, *, operation: str | None = None) -> None:
        """Answer with this status and code, without doing what was asked."""
        self._add(lambda _: Answer.error(status, code), times, operation)

    def cut(self, times: int | None = 1, *, is_done: bool = False, operation: str | None = None) -> None:
        """End the connection without any answer, before or (*is_done*) after doing what was asked."""

        def act(request: Request) -> Answer:
            if is_done:
                self._server(request)
            raise HangUp("told to")

        self._add(act, times, operation)

    def fail_records(self, times: int | None = 1, *, every: int = 2) -> None:
        """Take only some of the records of a PutRecords: the first of each *every* is refused."""

        def act(request: Request) -> Answer:
            asked = request.arguments
            records = asked["Records"]
            taken = [index for index in range(len(records)) if index % every]
            told: list[dict[str, Any]] = [
                {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "told to"} for _ in records
            ]
            if taken:
                asked["Records"] = [records[index] for index in taken]
                answer = self._server(Request(request.operation, request.headers, json.dumps(asked).encode()))
                if answer.status != 200:
                    return answer
                for index, one in zip(taken, answer.content["Records"], strict=True):
                    told[index] = one
            body = {"FailedRecordCount": len(records) - len(taken), "Records": told}
            return Answer(200, json.dumps(body).encode())

        self._add(act, times, "PutRecords")

    def limit_reads(self, per_second: int) -> None:
        """Throttle a shard that is read more often than this, as Kinesis does (five times)."""
        self._reads_per_second = per_second

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        headers = {
            "X-Amz-Target": environ.get("HTTP_X_AMZ_TARGET", ""),
            "Content-Type": environ.get("CONTENT_TYPE", ""),
        }
        for name in ("Authorization", "X-Amz-Date", "Host", "X-Amz-Security-Token"):
            value = environ.get("HTTP_" + name.upper().replace("-", "_"))
            if value:
                headers[name] = value
        request = Request(headers["X-Amz-Target"].rpartition(".")[2], headers, environ["wsgi.input"].read(length))
        with self._lock:
            self._requests.append(request.operation)
        try:
            answer = self._answer(request)
        except HangUp:
            with suppress(OSError):  # the client may have gone first
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise
        start_response(
            f"{answer.status} {'OK' if answer.status == 200 else 'Error'}",
            [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(answer.body)))],
        )
        return [answer.body]

    def _answer(self, request: Request) -> Answer:
        fault = self._next(request.operation)
        if fault is not None:
            return fault.act(request)
        if self._reads_per_second is None or request.operation not in ("GetRecords", "GetShardIterator"):
            return self._server(request)
        if request.operation == "GetRecords":
            iterator = request.arguments["ShardIterator"]
            with self._lock:
                shard = self._shards.get(iterator, "")
                now = time.monotonic()
                reads = self._reads[shard] = [one for one in self._reads[shard] if now - one < 1]
                if len(reads) >= self._reads_per_second:
                    return Answer.error(400, "ProvisionedThroughputExceededException", "Rate exceeded for shard")
                reads.append(now)
        else:
            shard = request.arguments["ShardId"]
        answer = self._server(request)
        iterator = answer.content.get("NextShardIterator" if request.operation == "GetRecords" else "ShardIterator")
        if iterator:
            self._shards[iterator] = shard
        return answer

    def _add(self, act: Callable[[Request], Answer], times: int | None, operation: str | None) -> None:
        with self._lock:
            self._faults.append(_Fault(act, times, operation))

    def _next(self, operation: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.operation in (None, operation) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


def in_process(app: "WSGIApplication") -> Server:
    """A WSGI application, as a server."""

    def answer(request: Request) -> Answer:
        from werkzeug.test import Client

        found = Client(app).post("/", data=request.body, headers=request.headers)
        return Answer(found.status_code, found.get_data())

    return answer


def at(port: int, *, timeout: float = 30.0) -> Server:
    """Another server on this machine; connections are kept."""
    local = threading.local()

    def answer(request: Request) -> Answer:
        connection: HTTPConnection | None = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request("POST", "/", request.body, request.headers)
            found = connection.getresponse()
            return Answer(found.status, found.read())
        except OSError:
            connection.close()
            local.connection = None
            raise

    return answer


@contextmanager
def serve(server: Server) -> Iterator[tuple[str, Faults]]:
    """Run a server behind faults on a free port of 127.0.0.1, in threads of this process: its URL, and what it does wrong."""
    faults = Faults(server)
    serving = make_server("127.0.0.1", 0, faults, threaded=True, request_handler=_QuietHandler)
    thread = threading.Thread(target=serving.serve_forever, args=(0.05,), name="kinesis-server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}", faults
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def moto() -> Server:
    """moto, in this process."""
    return in_process(DomainDispatcherApplication(create_backend_app))


class _QuietHandler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing: thousands of request lines would bury a failing test's own output."""
