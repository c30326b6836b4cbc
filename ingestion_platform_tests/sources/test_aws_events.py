"""Documents of events as AWS writes them: shapes that are documented, nested in each other, and hostile ones."""

import base64
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.sources.aws_events import EventDocument, arrivals, decode
from ingestion_platform.sources.kpl import Part, put_together
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.stream import Kinesis, Stream
from ingestion_platform_tests.sources.draining import ZONE, drain, landing_in, values


def encoded(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def kinesis_record(number: int, data: bytes, shard: str = "shardId-000000000006") -> dict[str, Any]:
    """A record of a Kinesis event."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "pk",
            "sequenceNumber": str(number),
            "data": encoded(data),
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventID": f"{shard}:{number}",
        "eventSourceARN": "arn:aws:kinesis:us-east-2:123456789012:stream/pos",
    }


def s3_event(key: str) -> dict[str, Any]:
    """An S3 event of one object."""
    return {
        "Records": [
            {
                "eventSource": "aws:s3",
                "eventTime": "2024-10-01T06:00:00.000Z",
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": "b"}, "object": {"key": key, "size": 5, "sequencer": "01"}},
            }
        ]
    }


def sqs_event(body: str) -> str:
    """An SQS event of one message."""
    return json.dumps({"Records": [{"messageId": "m", "body": body, "eventSource": "aws:sqs"}]})


def sns_message(message: str) -> dict[str, Any]:
    """What SNS puts around a message."""
    return {"Type": "Notification", "MessageId": "n", "TopicArn": "t", "Timestamp": "2024-10-01", "Message": message}


def test_keys_of_s3_are_decoded() -> None:
    """S3 writes a blank as `+`, and everything else that isn't plain percent-encoded."""
    (event,) = decode(json.dumps(s3_event("sales/2024+10/caf%C3%A9%2B1.csv")))
    assert (event["raw_key"], event["key"]) == ("sales/2024+10/caf%C3%A9%2B1.csv", "sales/2024 10/café+1.csv")


def test_events_in_messages_are_found() -> None:
    """S3 by SNS by SQS: each layer says what is in it."""
    body = json.dumps(sns_message(json.dumps(s3_event("a"))))
    (event,) = decode(sqs_event(body))
    assert (event["kind"], event["message_id"]) == ("sqs>sns>s3", "m")
    (middle,) = event["inner"]
    assert (middle["kind"], middle["message_id"], middle["topic"]) == ("sns>s3", "n", "t")
    assert [one["key"] for one in middle["inner"]] == ["a"]


def test_sns_calls_a_function_in_a_shape_of_its_own() -> None:
    """With a capital letter, and the message one level further down."""
    document = {"Records": [{"EventSource": "aws:sns", "Sns": {**sns_message("hello"), "Subject": "s"}}]}
    (event,) = decode(json.dumps(document))
    assert (event["kind"], event["subject"], event["message"]) == ("sns", "s", "hello")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("plain", "plain"),
        ("12", "12"),
        ('{"a": 1}', {"a": 1}),
        ("[1]", [1]),
        ("{broken", "{broken"),
        ('{"Records": []}', {"Records": []}),
        ('{"Records": [{"eventSource": "aws:s3"}]}', {"Records": [{"eventSource": "aws:s3"}]}),
    ],
)
def test_a_message_is_what_it_is(body: str, expected: object) -> None:
    """Text stays text, JSON is decoded, and what only looks like an event is a message."""
    (event,) = decode(sqs_event(body))
    assert (event["kind"], event["body"]) == ("sqs", expected)


def test_firehose_and_other_events_of_eventbridge() -> None:
    """Firehose hands over data; EventBridge whatever somebody sent."""
    firehose = {"deliveryStreamArn": "a", "records": [{"recordId": "1", "data": encoded(b"x")}]}
    assert decode(json.dumps(firehose)) == [{"kind": "firehose", "id": "1", "time": None, "data": "x"}]
    bus = {"detail-type": "Order", "source": "shop", "time": "2024-10-01T06:00:00Z", "detail": {"a": 1}}
    assert decode(json.dumps(bus)) == [
        {"kind": "eventbridge", "event": "Order", "source": "shop", "time": bus["time"], "detail": {"a": 1}}
    ]
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2024-10-01", "Bucket": "b"}
    assert decode(json.dumps(test)) == [{"kind": "s3-test", "bucket": "b", "time": "2024-10-01"}]


def test_aggregated_records_of_an_event_are_taken_apart() -> None:
    """Parts share the position; bytes that are no text come in base64."""
    whole = put_together([Part(b"a", b"1"), Part(b"b", b"\xff")])
    found = decode(json.dumps({"Records": [kinesis_record(7, whole)]}))
    assert [(one["pk"], one["seq"], one["part"]) for one in found] == [("a", "7", 0), ("b", "7", 1)]
    assert (found[0]["data"], found[1]["data_base64"]) == ("1", encoded(b"\xff"))


def test_records_of_kinesis_arrive_as_its_reader_gives_them() -> None:
    """By shard, ascending, each once, with key, position and arrival."""
    records = [
        kinesis_record(9, b"c"),
        kinesis_record(7, put_together([Part(b"x", b"a"), Part(b"y", b"b")])),
        kinesis_record(9, b"c"),
        kinesis_record(3, b"d", "shardId-000000000001"),
    ]
    found = arrivals(json.dumps({"Records": records}))
    (stream,) = found
    assert stream.endswith("stream/pos")
    assert [(one.shard, one.first, one.last) for one in found[stream]] == [
        ("shardId-000000000006", 7, 9),
        ("shardId-000000000001", 3, 3),
    ]
    rows = found[stream][0].records.to_pylist()
    assert [(row["position"], row["part"], row["key"], row["value"]) for row in rows] == [
        ("7", 0, b"x", b"a"),
        ("7", 1, b"y", b"b"),
        ("9", None, b"pk", b"c"),
    ]
    assert rows[0]["arrived_at"].isoformat() == "2018-12-17T22:10:50.987000+00:00"


def test_records_of_kafka_arrive_as_its_reader_gives_them() -> None:
    """Tombstones, headers with signed bytes, keys that are missing."""
    record = {"topic": "t", "partition": 3, "timestamp": 1545084650987, "timestampType": "CREATE_TIME"}
    document = {
        "eventSource": "SelfManagedKafka",
        "records": {
            "t-3": [
                {**record, "offset": 16, "key": encoded(b"k")},
                {**record, "offset": 15, "value": encoded(b"\xff"), "headers": [{"h": [-61, -87]}]},
            ]
        },
    }
    (arrived,) = arrivals(json.dumps(document))["t"]
    assert (arrived.shard, arrived.first, arrived.last) == ("3", 15, 16)
    rows = arrived.records.to_pylist()
    assert [(row["position"], row["key"], row["value"]) for row in rows] == [(15, None, b"\xff"), (16, b"k", None)]
    assert rows[0]["headers"] == [{"name": "h", "value": "é".encode()}]
    decoded = decode(json.dumps(document))
    assert [(one["offset"], one["key"], one.get("value")) for one in decoded] == [(16, "k", None), (15, None, None)]
    assert decoded[1]["headers"] == [{"h": "é"}]


def test_what_a_function_left_behind_fills_a_gap(tmp_path: Path) -> None:
    """Records that are past retention, and are still in documents, land under the names that they would have had; each once."""
    arn = "arn:aws:kinesis:us-east-2:123456789012:stream/pos"
    stream = Stream(name="pos", description="x", source=Kinesis(stream=arn), first_day=date(2018, 12, 17))
    zone = landing_in(tmp_path / "landing")
    first, until = datetime(2018, 12, 17, tzinfo=UTC), datetime(2018, 12, 19, tzinfo=UTC)
    # The stream was drained beyond what the documents hold.
    LandedStream(stream, zone, ZONE).put_mark(datetime(2018, 12, 20), "shardId-000000000006", 20)

    def document(*numbers: int) -> bytes:
        records = [kinesis_record(number, b"%d" % number) for number in numbers]
        return json.dumps({"Records": records}).encode()

    for one in (document(3, 4), document(8, 9), document(4, 5, 7), document(8)):
        drain(stream, zone, EventDocument(arn, one)).replay(first, until)
    assert values(zone) == [b"3", b"4", b"5", b"7", b"8", b"9"]
    assert drain(stream, zone, EventDocument("other", document(11))).replay(first, until).records == 0


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("", "isn't JSON"),
        ("[]", "isn't a JSON object"),
        ("[" * 100_000, "isn't JSON"),
        ('{"a": 1}', "its members are “a”"),
        ('{"Records": [{"eventSource": "aws:kinesis"}]}', "it lacks “kinesis”"),
        ('{"Records": [{"eventSource": "aws:dynamodb"}]}', "aws:dynamodb"),
        ('{"Records": [{"eventSource": "aws:codecommit"}]}', "aws:codecommit"),
        ('{"eventSource": "aws:kafka", "records": []}', "as documented"),
        ('{"deliveryStreamArn": "", "records": [{"recordId": "1", "data": "#"}]}', "not base64"),
    ],
)
def test_what_is_no_event_is_rejected(document: str, why: str) -> None:
    """With the reason."""
    with pytest.raises(ObjectRejected, match=why):
        decode(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data(), JSON)
def test_a_document_with_a_member_changed_is_read_or_rejected(data: st.DataObject, odd: object) -> None:
    """Whatever stands where: no other error comes out."""
    documents: list[dict[str, Any]] = [
        {"Records": [kinesis_record(9, b"c")]},
        s3_event("a"),
        json.loads(sqs_event("x")),
        {"Records": [{"EventSource": "aws:sns", "Sns": sns_message("x")}]},
        {
            "eventSource": "aws:kafka",
            "records": {
                "t-0": [{"topic": "t", "partition": 0, "offset": 1, "timestamp": 5, "value": "eA==", "headers": []}]
            },
        },
        {
            "detail-type": "x",
            "source": "aws.s3",
            "time": "",
            "detail": {"object": {"key": "k"}, "bucket": {"name": "b"}},
        },
    ]
    document = data.draw(st.sampled_from(documents))
    node: Any = document
    while True:
        name = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[name], dict | list) or not node[name] or data.draw(st.booleans()):
            node[name] = odd
            break
        node = node[name]
    for read in (decode, arrivals):
        try:
            read(json.dumps(document))
        except ObjectRejected:
            continue
