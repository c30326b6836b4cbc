"""
Alerts as messages of SNS and SQS.

Belongs here: requests, and what AWS's refusals mean. Doesn't: credentials and endpoints, which boto3 reads as it always does (`aws.py`);
what is said (`message.py`).

A topic or queue that keeps order (`.fifo`) gets the message's id as the deduplication id, and keeps the order of each rule.
"""

import hashlib
import re
from typing import Any
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from ingestion_platform import aws
from ingestion_platform.errors import IngestionError, SettingsError, SinkRefused, SinkUnavailable
from ingestion_platform.sinks.message import Message, written
from ingestion_platform.sinks.sink import Sink

_REFUSED = {
    "BatchRequestTooLong",
    "InvalidMessageContents",
    "InvalidParameter",
    "InvalidParameterException",
    "InvalidParameterValue",
    "InvalidParameterValueException",
    "ParameterValueInvalid",
    "ValidationError",
    "ValidationException",
}
"""What is wrong with this message; all else is about the topic, or about who sends."""
_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"}
_MISSING = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
}
_GROUP = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}")
_REGION = re.compile(r"(?:^|\.)sqs[.-]([a-z]{2}(?:-[a-z]+)+-[0-9])\.")
_FAILURES = (ClientError, BotoCoreError, *aws.BROKEN)


class _Service:
    """What SNS and SQS have in common."""

    def __init__(self, sink: Sink, service: str, region: str | None) -> None:
        self._sink = sink
        self._where = sink.where.get_secret_value()
        config = aws.client_config(connections=1, timeout_seconds=sink.timeout_seconds)
        place = f"INGESTION_SINKS: sink {sink.name!r}"
        with aws.configuring(place, SettingsError):
            session: Any = Session(botocore_session=aws.new_session())
            self._client = session.client(service, config=config, region_name=region)
            aws.check_endpoint(self._client.meta.endpoint_url, place, SettingsError)

    def _order(self, message: Message) -> dict[str, str]:
        """What a topic or queue that keeps order wants to know."""
        if not self._sink.is_fifo:
            return {}
        rule = message.rule
        group = rule if _GROUP.fullmatch(rule) else hashlib.sha256(rule.encode()).hexdigest()
        return {"MessageGroupId": group, "MessageDeduplicationId": message.id}

    def _attributes(self, message: Message) -> dict[str, dict[str, str]]:
        """By which whoever subscribes may choose."""
        texts = {"rule": message.rule or "?", "change": message.change, "action": message.action}
        attributes = {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}
        return attributes | {"priority": {"DataType": "Number", "StringValue": str(message.priority)}}

    def _failure(self, error: Exception) -> IngestionError:
        code = aws.code_of(error)
        told = f"sink {self._sink.name!r}: {aws.told(error)}"
        if code in _REFUSED:
            return SinkRefused(f"{told}: {aws.message_of(error)}")
        if code in _MISSING:
            return SinkUnavailable(told, "check `where`, the account, AWS_REGION and AWS_ENDPOINT_URL")
        if code in _DENIED or code.startswith("KMS"):
            return SinkUnavailable(
                told, f"allow whoever runs this to send there ({self._sink.kind}), and to use its key"
            )
        if aws.is_busy(error) or isinstance(error, aws.BROKEN):
            not_sent = isinstance(error, (ClientError, EndpointConnectionError, ConnectTimeoutError))
            return SinkUnavailable(told, may_be_taken=not not_sent)
        return SinkUnavailable(told, aws.CREDENTIALS)

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()


class Topic(_Service):
    """
    Publishes messages to a topic of SNS: its title and text to e-mails, its title to telephones, its JSON to all else.

    Args:
        sink: its `where` is the topic's ARN.

    Raises:
        SettingsError: what boto3 found can't be used.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink, "sns", sink.where.get_secret_value().split(":")[3])

    def send(self, message: Message) -> None:
        """Publish it."""

        def make(shown: int) -> bytes:
            told = {
                "default": written(message.document(shown)).decode(),
                "email": message.text(shown),
                "sms": message.title,
            }
            return written(told)

        try:
            self._client.publish(
                TopicArn=self._where,
                Subject=message.subject,
                Message=message.fitted(make).decode(),
                MessageStructure="json",
                MessageAttributes=self._attributes(message),
                **self._order(message),
            )
        except _FAILURES as error:
            raise self._failure(error) from error


class Queue(_Service):
    """
    Sends messages to a queue of SQS, as JSON.

    Args:
        sink: its `where` is the queue's URL.

    Raises:
        SettingsError: what boto3 found can't be used.
    """

    def __init__(self, sink: Sink) -> None:
        found = _REGION.search(urlsplit(sink.where.get_secret_value()).hostname or "")
        super().__init__(sink, "sqs", found[1] if found else None)

    def send(self, message: Message) -> None:
        """Send it."""
        try:
            self._client.send_message(
                QueueUrl=self._where,
                MessageBody=message.body().decode(),
                MessageAttributes=self._attributes(message),
                **self._order(message),
            )
        except _FAILURES as error:
            raise self._failure(error) from error
