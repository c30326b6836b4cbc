"""
The network below HTTP: connections to addresses that were checked, within a time.

Belongs here: connecting. Doesn't: what is said over it (`http_client.py`, `http_post.py`).
"""

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpcore

from ingestion_platform.sources.addresses import Resolve, addresses


class Network(httpcore.NetworkBackend):
    """Connects to addresses that were checked, and ends what takes too long."""

    def __init__(self, resolve: Resolve, *, may_be_private: bool) -> None:
        self._resolve = resolve
        self._may_be_private = may_be_private
        self._sockets = httpcore.SyncBackend()
        self._thread = threading.local()

    @contextmanager
    def until(self, moment: float) -> Iterator[None]:
        """Within it, whatever this thread does on the network is over at that moment of the monotonic clock."""
        self._thread.until = moment
        try:
            yield
        finally:
            del self._thread.until

    def left(self, timeout: float | None) -> float | None:
        """
        What is left of a timeout.

        Raises:
            httpcore.ReadTimeout: nothing is.
        """
        moment: float | None = getattr(self._thread, "until", None)
        if moment is None:
            return timeout
        left = moment - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the reply took too long as a whole")
        return left if timeout is None else min(timeout, left)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that takes it."""
        try:
            found = addresses(host, port, self._resolve, may_be_private=self._may_be_private)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address") from error
        trouble: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in found:
            try:
                stream = self._sockets.connect_tcp(address, port, self.left(timeout), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _Stream(stream, self)
        raise trouble


class _Stream(httpcore.NetworkStream):
    """A connection that minds when it has to be over."""

    def __init__(self, stream: httpcore.NetworkStream, network: Network) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._network.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._network.left(timeout)), self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def own_version() -> str:
    """The platform's version, as it says who it is."""
    try:
        return version("ingestion-platform")
    except PackageNotFoundError:  # run from a folder, not installed
        return "0"
