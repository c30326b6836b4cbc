"""
Alerts posted to a URL, as JSON.

Belongs here: headers, the signature, and what answers mean. Doesn't: connections (`sources/http_post.py`), what is said (`message.py`).

A post that is signed has `x-ingestion-signature: t=1727770500,v1=5f8a…`: v1 is the HMAC-SHA256, in hex, of the moment t (seconds since
1970), a full stop, and the body, under the sink's `secret`. Who checks it compares in constant time, and takes no t of long ago.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from ingestion_platform.errors import SettingsError, SinkRefused, SinkUnavailable, SourceError
from ingestion_platform.sinks.message import Message, harmless
from ingestion_platform.sinks.sink import Sink
from ingestion_platform.sources.addresses import Resolve, resolve
from ingestion_platform.sources.api_secrets import Secrecy
from ingestion_platform.sources.http_messages import again_after, words_of
from ingestion_platform.sources.http_post import NoAnswer, Poster

SIGNATURE = "x-ingestion-signature"

_REFUSED = {400, 406, 409, 411, 413, 414, 415, 422, 431}
"""What is wrong with this message; other statuses are about whom is posted to, or about who posts, and hold for all messages."""
_HINTS = {
    301: "the URL has moved: no redirect is followed; set `where` to the new one",
    302: "no redirect is followed; set `where` to what takes posts itself",
    307: "no redirect is followed; set `where` to what takes posts itself",
    308: "the URL has moved: no redirect is followed; set `where` to the new one",
    401: "check `where`: whoever takes posts doesn't know us",
    403: "check `where`: whoever takes posts doesn't let us",
    404: "check `where`: nothing takes posts there",
    410: "the URL was given up; set `where` to another one",
}


class Webhook:
    """
    Posts messages.

    Args:
        sink: its `where` is the URL.
        resolve: names to addresses.
        clock: seconds since 1970.

    Raises:
        SettingsError: the URL can't be posted to.
    """

    def __init__(self, sink: Sink, *, resolve: Resolve = resolve, clock: Callable[[], float] = time.time) -> None:
        self._name = sink.name
        self._secret = sink.secret
        self._clock = clock
        url = sink.where.get_secret_value()
        # Whoever is posted to may repeat any part of the URL.
        target = urlsplit(url)
        parts = (url, *target.path.split("/"), *(value for _, value in parse_qsl(target.query)))
        self._secrecy = Secrecy({})
        for part in (*parts, *((sink.secret.get_secret_value(),) if sink.secret else ())):
            self._secrecy.add(part)
        try:
            self._poster = Poster(
                url,
                private_hosts=sink.private_hosts,
                timeout_seconds=sink.timeout_seconds,
                resolve=resolve,
            )
        except SettingsError as error:
            raise SettingsError(f"INGESTION_SINKS: sink {sink.name!r}: {error.what}", error.hint) from error

    def send(self, message: Message) -> None:
        """Post it."""
        body = message.body()
        headers = {
            "content-type": "application/json; charset=utf-8",
            "idempotency-key": message.id,
            "x-ingestion-message": message.id,
        }
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret.get_secret_value(), int(self._clock()), body)
        try:
            answer = self._poster.post(body, headers)
        except SourceError as error:
            hint = error.hint.replace(
                "private_hosts=True in the declaration, or private_hosts = true in the file of INGESTION_APIS",
                "private_hosts = true in the file of INGESTION_SINKS",
            )
            raise SinkUnavailable(
                f"sink {self._name!r}: {error.what}", hint, may_be_taken=isinstance(error, NoAnswer)
            ) from None
        if 200 <= answer.status < 300:
            return
        words = harmless(words_of(answer, self._secrecy.text), 200)
        told = f"it answered {answer.status}" + (f": {words}" if words else "")
        if answer.status in _REFUSED:
            raise SinkRefused(f"sink {self._name!r}: {told}")
        raise SinkUnavailable(
            f"sink {self._name!r}: {told}", _HINTS.get(answer.status, ""), again_seconds=again_after(answer)
        )

    def close(self) -> None:
        """Let go of connections."""
        self._poster.close()


def signature(secret: str, moment: int, body: bytes) -> str:
    """
    What a signed post's header says.

    Args:
        secret: shared with whoever is told.
        moment: seconds since 1970.
        body: as posted.
    """
    signed = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={signed}"
