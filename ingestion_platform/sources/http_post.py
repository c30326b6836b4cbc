"""
Handing somebody a message over HTTP: one POST to one URL, whose answer counts as it is.

Belongs here: connecting to where it may lead, and reading the answer. Doesn't: trying again, and what is said (`sinks/`); asking APIs
(`http_client.py`). No redirect is followed: whoever is posted to mustn't send us, and what we say, elsewhere.
"""

import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import httpcore

from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable
from ingestion_platform.sources.addresses import Resolve, resolve
from ingestion_platform.sources.http_messages import Answer, Place, read_headers
from ingestion_platform.sources.http_network import Network, own_version

_MOST_BYTES = 64 * 1024
"""Of an answer; the rest isn't read."""


class NoAnswer(SourceUnavailable):
    """It was posted, and no whole answer came: perhaps it was taken."""


class Poster:
    """
    Posts to one URL. Nothing is connected before; any number of threads may post.

    Args:
        url: a secret: it is in no message.
        private_hosts: its host may have an address that isn't public, and it may be http://.
        timeout_seconds: for the whole of a post and its answer.
        resolve: names to addresses.

    Raises:
        SettingsError: the URL isn't one that can be posted to.
    """

    def __init__(self, url: str, *, private_hosts: bool, timeout_seconds: float, resolve: Resolve = resolve) -> None:
        try:
            self._place = Place.parse(url)
        except ValueError as error:
            raise SettingsError(f"the URL can't be posted to: {error}", "as in https://example.com/hook") from None
        if self._place.scheme != "https" and not private_hosts:
            raise SettingsError(
                "the URL begins with http://: anybody on the way could read and change what is posted",
                "https://; or private_hosts = true, when it stays in a network of your own",
            )
        self._timeout_seconds = timeout_seconds
        self._network = Network(resolve, may_be_private=private_hosts)
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpcore.default_ssl_context(),
            max_connections=4,
            keepalive_expiry=30.0,
            network_backend=self._network,
        )

    def __repr__(self) -> str:
        return f"Poster({self._place.host})"

    @property
    def host(self) -> str:
        """Whom it posts to; all else of the URL may be secret."""
        return self._place.host

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """
        Post once.

        Args:
            body: as it is.
            headers: lower-case names; ASCII.

        Returns:
            Whatever was answered, the beginning of its body with it.

        Raises:
            NoAnswer: no answer, or half of one.
            SourceUnavailable: no connection.
            SourceError: the host's address isn't public, or it doesn't prove who it is.
        """
        sent = {
            "accept": "*/*",
            "user-agent": f"ingestion_platform/{own_version()}",
            **headers,
            "host": self._place.netloc,
            "content-length": str(len(body)),
        }
        place = self._place
        try:
            with (
                self._network.until(time.monotonic() + self._timeout_seconds),
                self._pool.stream(
                    "POST",
                    httpcore.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.target),
                    headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in sent.items()],
                    content=body,
                    extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_seconds)},
                ) as response,
            ):
                words = b""
                for chunk in response.iter_stream():
                    words += chunk
                    if len(words) >= _MOST_BYTES:
                        break
                return Answer(response.status, read_headers(response.headers), words[:_MOST_BYTES], datetime.now(UTC))
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            # Without its cause: that may show what was sent.
            raise self._broken(error) from None

    def close(self) -> None:
        """Let go of connections."""
        self._pool.close()

    def _broken(self, error: Exception) -> SourceError:
        cause = error.args[0] if error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            return SourceError(
                f"{self.host} doesn't prove that it is {self.host}: {cause.verify_message}",
                "its certificate, or the authorities that this machine trusts",
            )
        match error:
            case httpcore.ConnectError() | httpcore.ConnectTimeout() | httpcore.PoolTimeout():
                return SourceUnavailable(f"{self.host}: no connection")
            case httpcore.TimeoutException():
                return NoAnswer(f"{self.host}: no answer within {self._timeout_seconds:g} seconds")
        return NoAnswer(f"{self.host}: no whole answer")
