"""
Events as AWS hands them to a Lambda function, or writes them where one failed: taken out of the documents they come in.

Belongs here: the documents' shapes. Doesn't: fetching them, what their values mean, the changes of DynamoDB (`dynamodb_streams.py`).

Two uses. `decode` tells what happened, event by event, whatever sent it: an object that arrived (S3, by SNS, SQS or EventBridge), a
message, a record. `arrivals` gives the records of streams (Kinesis, Kafka) as a reader of that stream would, same shards and positions,
and `EventDocument` is such a reader: what a function left behind when it failed, and is past retention by now, still lands as what it is.
"""

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import unquote_plus

import pyarrow as pa

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.formats.segments import DENSE_ENVELOPE
from ingestion_platform.formats.texts import excerpt
from ingestion_platform.sources.kinesis_records import gather
from ingestion_platform.sources.kpl import take_apart
from ingestion_platform.sources.reading import Arrived, CaughtUp, Event, Where

Decoded: TypeAlias = dict[str, Any]
"""
An event. `kind` says what else is there; bytes that are no text in UTF-8 are under `<name>_base64` instead of `<name>`.

- `kinesis`: `id` (shard and sequence number), `pk`, `seq`, `data`; `part` where it was aggregated
- `kafka`: `topic`, `partition`, `offset`, `key`, `value` (None: a tombstone), `headers` (a list of one-member objects)
- `firehose`: `id`, `time` (milliseconds since 1970), `data`
- `s3`: `event`, `time`, `bucket`, `raw_key`, `key` (decoded), `size`, `version`, `sequencer`; `s3-test`: `bucket`, `time`
- `eventbridge-s3`: `event`, `bucket`, `key`, `size`, `version`; `eventbridge`: `event`, `source`, `time`, `detail`
- `sns`: `message_id`, `topic`, `subject`, `time`, `message`
- `sqs`: `message_id`, `body`

A message that is JSON itself is given decoded. One that is an event has `inner` instead, a list, and a kind such as `sqs>s3`, `sqs>sns>s3`.
"""

_ODD = (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError)
"""What Python and Arrow say to a value that isn't what its place is for; OSError is the clock's, to moments that no year has."""
_NESTED = 5
"""How deep events in events are looked into; the rest is text."""


def decode(document: bytes | str) -> list[Decoded]:
    """
    The events of a document, in order.

    Raises:
        ObjectRejected: it isn't one, or one of its events lacks what its kind has.
    """
    return _decode(_read(document), _NESTED)


def arrivals(document: bytes | str) -> dict[str, list[Arrived]]:
    """
    The records of streams in a document, as their readers give them: stream's ARN, or topic → batches, each shard's ascending.

    Raises:
        ObjectRejected: it isn't such a document, or holds events of other kinds.
    """
    found = _read(document)
    try:
        if _is_kafka(found):
            return _kafka_arrivals([one for some in found["records"].values() for one in some])
        return _kinesis_arrivals(_records(found))
    except _ODD as error:
        raise _lacking("document", error) from error


class EventDocument:
    """
    A document as a stream's reader: `Drain(landed, EventDocument(stream, document)).replay(first, until)` lands those of its records that
    haven't landed.

    AWS hands over the records of a shard without holes, unless the function's event source filters them: then they must not land, because a
    segment stands for every record between its first and its last. For the same reason each document is a reader of its own.

    Args:
        stream: ARN, or topic.
        document: as AWS wrote it.

    Raises:
        ObjectRejected: it isn't such a document.
    """

    def __init__(self, stream: str, document: bytes) -> None:
        self._found = arrivals(document).get(stream, [])

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """Yield what the document holds, of every time and whatever *where* says; see `StreamReader.read`."""
        told = [one for one in self._found if not shards or one.shard in shards]
        yield from told
        for shard in dict.fromkeys(one.shard for one in told):
            yield CaughtUp(shard, until or datetime.now(UTC))


# --- documents


def _read(document: bytes | str) -> Mapping[str, Any]:
    try:
        found = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ObjectRejected(f"is no event of AWS: it isn't JSON: {excerpt(str(error))}") from error
    if not isinstance(found, dict):
        raise ObjectRejected("is no event of AWS: it isn't a JSON object")
    return found


def _decode(document: Mapping[str, Any], depth: int) -> list[Decoded]:
    taken = _take(document, depth)
    if taken is None:
        raise ObjectRejected(
            f"is no event of AWS that is known here: its members are {excerpt(', '.join(map(str, document)), 200)}",
            "Kinesis, Firehose, Kafka, S3, SNS, SQS and EventBridge are known",
        )
    return taken


def _take(document: Mapping[str, Any], depth: int) -> list[Decoded] | None:
    """Events of a document; None when it isn't one of events."""
    try:
        if _is_kafka(document):
            return [_kafka(one) for some in document["records"].values() for one in some]
        if "deliveryStreamArn" in document and isinstance(document.get("records"), list):
            return [_firehose(one) for one in document["records"]]
        if "detail-type" in document and "detail" in document:
            return [_eventbridge(document)]
        if document.get("Type") == "Notification" and "TopicArn" in document:
            return [_sns(document, depth)]
        if document.get("Event") == "s3:TestEvent":
            return [{"kind": "s3-test", "bucket": document["Bucket"], "time": document["Time"]}]
        records = document.get("Records")
        if not isinstance(records, list) or not all(isinstance(one, dict) and _source(one) for one in records):
            return None
        return [event for one in records for event in _record(one, depth)]
    except _ODD as error:
        raise _lacking("event", error) from error


def _record(record: Mapping[str, Any], depth: int) -> list[Decoded]:
    source = _source(record)
    known: dict[str, Callable[[], list[Decoded]]] = {
        "aws:kinesis": lambda: _kinesis(record),
        "aws:s3": lambda: [_s3(record)],
        "aws:sqs": lambda: [_sqs(record, depth)],
        "aws:sns": lambda: [_sns(record["Sns"], depth)],
    }
    if source not in known:
        hint = "dynamodb_streams.py reads these" if source == "aws:dynamodb" else ""
        raise ObjectRejected(f"holds an event of {excerpt(source)}, which isn't known here", hint)
    return known[source]()


def _source(record: Mapping[str, Any]) -> str:
    # SNS writes it with a capital.
    return str(record.get("eventSource") or record.get("EventSource") or "")


def _records(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    records = document["Records"]
    if not isinstance(records, list) or any(_source(one) != "aws:kinesis" for one in records):
        raise ObjectRejected("holds no records of a stream, or others too", "Kinesis and Kafka are streams")
    return records


def _is_kafka(document: Mapping[str, Any]) -> bool:
    return document.get("eventSource") in ("aws:kafka", "SelfManagedKafka")


# --- events


def _kinesis(record: Mapping[str, Any]) -> list[Decoded]:
    inner = record["kinesis"]
    around = {"kind": "kinesis", "id": record["eventID"]}
    data = _bytes(inner["data"])
    parts = take_apart(data)
    if parts is None:
        return [{**around, "pk": inner.get("partitionKey"), "seq": inner["sequenceNumber"], **_text("data", data)}]
    return [
        {**around, **_text("pk", part.key), "seq": inner["sequenceNumber"], **_text("data", part.data), "part": number}
        for number, part in enumerate(parts)
    ]


def _kafka(record: Mapping[str, Any]) -> Decoded:
    return {
        "kind": "kafka",
        "topic": record["topic"],
        "partition": record["partition"],
        "offset": record["offset"],
        **_text("key", _bytes_or_none(record.get("key"))),
        **_text("value", _bytes_or_none(record.get("value"))),
        "headers": [_text(name, value) for name, value in _kafka_headers(record)],
    }


def _kafka_headers(record: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    # Java's bytes are signed.
    return [
        (name, bytes(number % 256 for number in value))
        for header in record.get("headers") or ()
        for name, value in header.items()
    ]


def _firehose(record: Mapping[str, Any]) -> Decoded:
    return {
        "kind": "firehose",
        "id": record["recordId"],
        "time": record.get("approximateArrivalTimestamp"),
        **_text("data", _bytes(record["data"])),
    }


def _s3(record: Mapping[str, Any]) -> Decoded:
    inner = record["s3"]["object"]
    return {
        "kind": "s3",
        "event": record["eventName"],
        "time": record["eventTime"],
        "bucket": record["s3"]["bucket"]["name"],
        "raw_key": inner["key"],
        "key": unquote_plus(inner["key"], errors="strict"),
        # An object that was removed has neither.
        "size": inner.get("size"),
        "version": inner.get("versionId"),
        "sequencer": inner.get("sequencer"),
    }


def _eventbridge(document: Mapping[str, Any]) -> Decoded:
    detail = document["detail"]
    if document.get("source") == "aws.s3" and "object" in detail:
        inner = detail["object"]
        return {
            "kind": "eventbridge-s3",
            "event": document["detail-type"],
            "bucket": detail["bucket"]["name"],
            # Unlike in S3's own events, it isn't encoded.
            "key": inner["key"],
            "size": inner.get("size"),
            "version": inner.get("version-id"),
        }
    return {
        "kind": "eventbridge",
        "event": document["detail-type"],
        "source": document["source"],
        "time": document["time"],
        "detail": detail,
    }


def _sqs(record: Mapping[str, Any], depth: int) -> Decoded:
    return _message("sqs", {"message_id": record["messageId"]}, "body", record["body"], depth)


def _sns(message: Mapping[str, Any], depth: int) -> Decoded:
    around = {
        "message_id": message["MessageId"],
        "topic": message["TopicArn"],
        "subject": message.get("Subject"),
        "time": message["Timestamp"],
    }
    return _message("sns", around, "message", message["Message"], depth)


def _message(kind: str, around: Decoded, name: str, text: str, depth: int) -> Decoded:
    """A message: its events where it is one of those, JSON decoded, or the text that it is."""
    content: Any = text
    if text.lstrip()[:1] in ("{", "["):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = text
    if isinstance(content, dict) and depth:
        try:
            inner = _take(content, depth - 1)
        except ObjectRejected:
            # It looks like an event and isn't: a message all the same.
            inner = None
        if inner:
            return {"kind": f"{kind}>{inner[0]['kind']}", **around, "inner": inner}
    return {"kind": kind, **around, name: content}


# --- as a stream's reader gives them


def _kinesis_arrivals(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Arrived]]:
    shards: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for record in records:
        inner = record["kinesis"]
        shard, _, number = record["eventID"].partition(":")
        if number != inner["sequenceNumber"]:
            raise ObjectRejected(
                f"holds a record whose event ID {excerpt(record['eventID'])} isn't its shard and position"
            )
        shards[record["eventSourceARN"], shard][int(number)] = {
            "SequenceNumber": number,
            "PartitionKey": inner.get("partitionKey"),
            "Data": _bytes(inner["data"]),
            "ApproximateArrivalTimestamp": _moment(inner["approximateArrivalTimestamp"] * 1000),
        }
    found: dict[str, list[Arrived]] = defaultdict(list)
    for (stream, shard), by_number in shards.items():
        numbers = sorted(by_number)
        some = [by_number[number] for number in numbers]
        moments = [one["ApproximateArrivalTimestamp"] for one in some]
        found[stream] += gather(shard, some, numbers, moments, 0, len(some))
    return dict(found)


def _kafka_arrivals(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Arrived]]:
    partitions: dict[tuple[str, int], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for record in records:
        partitions[record["topic"], record["partition"]][record["offset"]] = record
    found: dict[str, list[Arrived]] = defaultdict(list)
    for (topic, partition), by_offset in partitions.items():
        rows: list[dict[str, Any]] = []
        for offset, record in sorted(by_offset.items()):
            headers = [{"name": name, "value": value} for name, value in _kafka_headers(record)]
            rows.append(
                {
                    "position": offset,
                    "part": None,
                    "arrived_at": _moment(record["timestamp"]),
                    "key": _bytes_or_none(record.get("key")),
                    "headers": headers or None,
                    "value": _bytes_or_none(record.get("value")),
                    "schema": None,
                }
            )
        size = sum(len(row["key"] or b"") + len(row["value"] or b"") + 64 for row in rows)
        batch = pa.RecordBatch.from_pylist(rows, schema=DENSE_ENVELOPE)
        found[topic].append(Arrived(str(partition), batch, rows[0]["position"], rows[-1]["position"], size))
    return dict(found)


# --- values


def _moment(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _bytes_or_none(text: str | None) -> bytes | None:
    return None if text is None else _bytes(text)


def _text(name: str, value: bytes | None) -> dict[str, Any]:
    """Bytes as text where they are, and in base64 where they aren't."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _lacking(what: str, error: Exception) -> ObjectRejected:
    if isinstance(error, KeyError):
        why = f"it lacks {excerpt(str(error.args[0]))}"
    elif isinstance(error, binascii.Error):
        why = "its data is not base64"
    else:
        why = excerpt(str(error))
    return ObjectRejected(f"is no {what} of AWS as documented: {why}")
