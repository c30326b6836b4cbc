"""
The client of Kinesis, and what its errors mean: go slower, try again, or give up.

Belongs here: making the client, telling errors apart, waits. Doesn't: reading (`kinesis.py`), writing (`kinesis_producer.py`), credentials,
region and endpoint, which boto3 reads as it always does (`AWS_*`, profiles, roles).
"""

import random
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.config import Config
from botocore.eventstream import ParserError
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from botocore.session import get_session
from urllib3.exceptions import HTTPError

from ingestion_platform.errors import SourceError

if TYPE_CHECKING:
    from types_boto3_kinesis import KinesisClient

CREDENTIALS = "credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine"

_USER = re.compile(r"//\S*@")
_BUSY_STATUS = {429, 500, 502, 503, 504}
_BUSY_CODES = {
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "ResourceInUseException",
    "InternalFailure",
    "InternalFailureException",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "RequestTimeout",
    "RequestTimeoutException",
}
BROKEN = (
    HTTPClientError,
    BotoConnectionError,
    IncompleteReadError,
    ResponseParserError,
    ParserError,
    HTTPError,
    OSError,
)
"""No answer, or half of one. OSError and urllib3's own errors come through botocore unwrapped while a body is read."""
FAILURES = (ClientError, BotoCoreError, *BROKEN)
"""Everything that a request can end with: refused, not sent, or not answered."""


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


def new_client(*, connections: int = 10, timeout_seconds: float = 30.0) -> "KinesisClient":
    """
    A client of its own, that doesn't retry by itself: whoever uses it tells what it waits for.

    Raises:
        SourceError: what boto3 found can't be used.
    """
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=connections,
        connect_timeout=min(timeout_seconds, 10.0),
        read_timeout=timeout_seconds,
        tcp_keepalive=True,
    )
    session = get_session()
    session.register_component("data_loader", _loader())
    try:
        client = Session(botocore_session=session).client("kinesis", config=config)
    except (BotoCoreError, ValueError) as error:
        raise SourceError(
            f"Kinesis: boto3's configuration can't be used: {first_line(error)}",
            f"check AWS_REGION, AWS_ENDPOINT_URL, AWS_PROFILE; {CREDENTIALS}",
        ) from error
    if "@" in urlsplit(client.meta.endpoint_url).netloc:
        # botocore ignores it, and puts the whole URL into its messages.
        raise SourceError(
            "Kinesis: the endpoint's URL has a user or password in it",
            f"take it out of AWS_ENDPOINT_URL; {CREDENTIALS}",
        )
    return client


@cache
def _loader() -> Loader:
    return create_loader()


def code_of(error: Exception) -> str:
    """The service's name for an error; empty when it isn't the service's."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, ClientError):
        return code_of(error) in _BUSY_CODES or _status(error) in _BUSY_STATUS
    return isinstance(error, BROKEN)


def refusal(what: str, error: Exception) -> SourceError:
    """An error that comes again whenever the same is asked, in words that help."""
    code = code_of(error)
    where = f"{what}: {told(error)}"
    if code.startswith("KMS"):
        return SourceError(where, "the stream's key must be enabled, and allow kms:Decrypt to whoever reads")
    if code in ("AccessDeniedException", "AccessDenied", "NotAuthorized"):
        return SourceError(
            where,
            "allow kinesis:DescribeStreamSummary, ListShards, GetShardIterator, GetRecords (and SubscribeToShard on a declared consumer)"
            " to the user or role that runs this",
        )
    if code == "ResourceNotFoundException":
        return SourceError(where, "check the stream's name, AWS_REGION, the account, and AWS_ENDPOINT_URL")
    if code == "" or code.endswith(("TokenException", "SignatureException", "ClientException", "Token")):
        return SourceError(where, f"{CREDENTIALS}; and this machine's clock")
    message = str(error.response.get("Error", {}).get("Message", ""))[:200] if isinstance(error, ClientError) else ""
    return SourceError(f"{where}: {message}" if message else where, "see whether this server knows the request")


def told(error: BaseException) -> str:
    """An error in a few words, without the server's own text."""
    if isinstance(error, ClientError):
        return f"{_status(error)} {code_of(error)}" if _status(error) else code_of(error)
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, cut; without user and password of a URL, all of which botocore shows when it can't be used."""
    return _USER.sub("//", (str(error).splitlines() or [""])[0])[:200]


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
