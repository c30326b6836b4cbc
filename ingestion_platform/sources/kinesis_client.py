"""
The client of Kinesis, and what its errors mean beyond those of any AWS service (`aws.py`).

Belongs here: making the client, what Kinesis refuses. Doesn't: reading (`kinesis.py`), writing (`kinesis_producer.py`).
"""

from typing import TYPE_CHECKING

from boto3.session import Session
from botocore.eventstream import ParserError
from botocore.exceptions import BotoCoreError, ClientError

from ingestion_platform import aws
from ingestion_platform.errors import SourceError

if TYPE_CHECKING:
    from types_boto3_kinesis import KinesisClient

_BUSY_CODES = {"KMSThrottlingException", "ResourceInUseException"}
_BROKEN = (*aws.BROKEN, ParserError)
"""The last one comes of a subscription that breaks."""
FAILURES = (ClientError, BotoCoreError, *_BROKEN)
"""Everything that a request can end with: refused, not sent, or not answered."""


def new_client(*, connections: int = 10, timeout_seconds: float = 30.0) -> "KinesisClient":
    """
    A client of its own, that doesn't retry by itself: whoever uses it tells what it waits for.

    Raises:
        SourceError: what boto3 found can't be used.
    """
    config = aws.client_config(connections=connections, timeout_seconds=timeout_seconds)
    with aws.configuring("Kinesis", SourceError):
        client = Session(botocore_session=aws.new_session()).client("kinesis", config=config)
        aws.check_endpoint(client.meta.endpoint_url, "Kinesis", SourceError)
    return client


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    return aws.is_busy(error, _BUSY_CODES) or isinstance(error, _BROKEN)


def refusal(what: str, error: Exception) -> SourceError:
    """An error that comes again whenever the same is asked, in words that help."""
    code = aws.code_of(error)
    where = f"{what}: {aws.told(error)}"
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
        return SourceError(where, f"{aws.CREDENTIALS}; and this machine's clock")
    message = aws.message_of(error)
    return SourceError(f"{where}: {message}" if message else where, "see whether this server knows the request")
