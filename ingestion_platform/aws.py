"""
Clients of AWS, and of whatever speaks like it: how they are made, and what their errors mean: go slower, try again, or give up.

Belongs here: what is the same for every service. Doesn't: requests, and what a single service refuses (`landing/s3.py`,
`sources/kinesis_client.py`, `sources/dynamodb_streams.py`); credentials, region and endpoint, which boto3 reads as it always does (`AWS_*`,
profiles, roles).
"""

import random
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from botocore.session import Session, get_session
from urllib3.exceptions import HTTPError

from ingestion_platform.errors import IngestionError

CREDENTIALS = "credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine"

BROKEN = (HTTPClientError, BotoConnectionError, IncompleteReadError, ResponseParserError, HTTPError, OSError)
"""No answer, or half of one. OSError and urllib3's own errors come through botocore unwrapped while a body is read."""

_BUSY_STATUS = {429, 500, 502, 503, 504}
_BUSY_CODES = {
    "InternalError",
    "InternalFailure",
    "InternalFailureException",
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
}
_USER = re.compile(r"//\S*@")
"""User and password of a URL."""


@dataclass(frozen=True)
class Waits:
    """
    How often something is tried, and how long is waited in between: full jitter (0 to a bound that doubles), so that those who were
    throttled together don't come back together.

    Args:
        attempts: how often, the first one included.
        first_seconds: the bound after the first failure.
        longest_seconds: where the doubling ends.
    """

    attempts: int = 12
    first_seconds: float = 0.4
    longest_seconds: float = 20.0

    def after(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, of which there is at least one."""
        return random.uniform(0, min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 60)))


# --- making a client


def new_session() -> Session:
    """
    A session of its own: boto3's shared one isn't thread-safe to create clients from, and keeps the first credentials it saw.

    Sessions share what botocore has read of its own data files; a client then takes 20 ms to make instead of 100.
    """
    session = get_session()
    session.register_component("data_loader", _loader())
    return session


@cache
def _loader() -> Loader:
    return create_loader()


def client_config(*, connections: int, timeout_seconds: float) -> Config:
    """
    What a client is told: not to try again by itself, because whoever asks does, and tells what he waits for.

    Args:
        connections: kept open at most.
        timeout_seconds: how long to wait for a connection (10 at most), and for the next bytes of an answer.
    """
    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=connections,
        connect_timeout=min(timeout_seconds, 10.0),
        read_timeout=timeout_seconds,
        tcp_keepalive=True,
    )


@contextmanager
def configuring(where: str, refused: type[IngestionError]) -> Iterator[None]:
    """
    Make a client inside of it.

    Args:
        where: as messages call what is to be reached.
        refused: what is raised when boto3 can't use what it found.
    """
    try:
        yield
    except (BotoCoreError, ValueError) as error:
        raise refused(
            f"{where}: boto3's configuration can't be used: {first_line(error)}",
            f"check AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE; {CREDENTIALS}",
        ) from error


def check_endpoint(url: str, where: str, refused: type[IngestionError]) -> None:
    """
    Refuse an endpoint whose URL has a user or a password in it: botocore ignores them, and puts the whole URL into its messages.

    Args:
        url: of the endpoint.
        where: as messages call what is to be reached.
        refused: what is raised.
    """
    if "@" in urlsplit(url).netloc:
        raise refused(
            f"{where}: the endpoint's URL has a user or password in it",
            f"take it out of AWS_ENDPOINT_URL; {CREDENTIALS}",
        )


# --- understanding an error


def code_of(error: BaseException) -> str:
    """The service's name for an error; empty when it isn't the service's."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status_of(error: BaseException) -> int:
    """The HTTP status that came with an error; 0 when none did."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def message_of(error: BaseException) -> str:
    """What the service says of an error, cut; it may echo what was sent."""
    return str(error.response.get("Error", {}).get("Message", ""))[:200] if isinstance(error, ClientError) else ""


def is_busy(error: BaseException, also: Collection[str] = ()) -> bool:
    """
    Whether the service refused something that it may take a little later.

    Args:
        error: what came.
        also: codes by which a single service says so.
    """
    return code_of(error) in _BUSY_CODES or code_of(error) in also or status_of(error) in _BUSY_STATUS


def told(error: BaseException) -> str:
    """An error in a few words, without the server's own text."""
    if isinstance(error, ClientError):
        return f"{status_of(error)} {code_of(error)}" if status_of(error) else code_of(error)
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, cut; without user and password of a URL, all of which botocore shows when it can't be used."""
    return _USER.sub("//", (str(error).splitlines() or [""])[0])[:200]
