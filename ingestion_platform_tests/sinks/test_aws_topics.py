"""SNS and SQS: messages on moto, those that keep order, and what refusals mean."""

import json
from typing import Any

import pytest
from boto3.session import Session

from ingestion_platform.errors import SinkRefused, SinkUnavailable
from ingestion_platform.sinks.aws_topics import Queue, Topic
from ingestion_platform.sinks.message import MOST_ALERTS, Message
from ingestion_platform_tests.s3_faults import S3Server
from ingestion_platform_tests.sinks.telling import sink, some_alert

HOSTILE = "a\r\nb \x00 \u202e \ud83d \ufffe 🛒"


def client(server: S3Server, service: str) -> Any:
    """A client of moto."""
    session: Any = Session("testing", "testing-secret", region_name="us-east-1")
    return session.client(service, endpoint_url=server.url)


def new_queue(server: S3Server, name: str) -> str:
    """A queue's URL; one whose name ends with .fifo keeps order."""
    attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    url: str = client(server, "sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


def new_topic(server: S3Server, name: str) -> tuple[str, str]:
    """A topic's ARN, and the URL of a queue that gets all of it."""
    sns, sqs = client(server, "sns"), client(server, "sqs")
    attributes = {"FifoTopic": "true"} if name.endswith(".fifo") else {}
    topic: str = sns.create_topic(Name=name, Attributes=attributes)["TopicArn"]
    queue = new_queue(server, f"of_{name}")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return topic, queue


def received(server: S3Server, queue: str) -> list[dict[str, Any]]:
    """All messages of a queue."""
    found: list[dict[str, Any]] = []
    while (
        some := client(server, "sqs")
        .receive_message(QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"])
        .get("Messages")
    ):
        found += some
    return found


def test_a_queue_gets_json_and_attributes_to_choose_by(s3_server: S3Server) -> None:
    """Rule, change, action and priority."""
    queue, message = new_queue(s3_server, "alerts"), Message([some_alert()])
    Queue(sink("q", "sqs", queue)).send(message)
    (got,) = received(s3_server, queue)
    assert json.loads(got["Body"]) == message.document()
    assert {name: one["StringValue"] for name, one in got["MessageAttributes"].items()} == {
        "rule": "fraud",
        "change": "raised",
        "action": "hold",
        "priority": "1",
    }


def test_a_topic_gets_json_for_machines_and_words_for_people(s3_server: S3Server) -> None:
    """Subscribers get JSON; e-mails would get the subject and the text."""
    (topic, queue), message = new_topic(s3_server, "alerts"), Message([some_alert()])
    Topic(sink("t", "sns", topic)).send(message)
    (got,) = received(s3_server, queue)
    told = json.loads(got["Body"])
    assert told["Subject"] == "Hold: fraud: store_id S0000, customer_id c000000"
    assert json.loads(told["Message"]) == message.document()


def test_where_order_is_kept_the_id_tells_doubles(s3_server: S3Server) -> None:
    """A message that is sent again is there once; each rule keeps its order."""
    queue = new_queue(s3_server, "alerts.fifo")
    carrier = Queue(sink("q", "sqs", queue))
    raised, withdrawn = Message([some_alert()]), Message([some_alert(ordinal=1)])
    for message in (raised, raised, withdrawn, raised):
        carrier.send(message)
    attributes = [one["Attributes"] for one in received(s3_server, queue)]
    assert [one["MessageDeduplicationId"] for one in attributes] == [raised.id, withdrawn.id]
    assert {one["MessageGroupId"] for one in attributes} == {"fraud"}
    topic, behind = new_topic(s3_server, "topic.fifo")
    for message in (raised, Message([some_alert(rule="spike in\nstore ß")])):
        Topic(sink("t", "sns", topic)).send(message)
    assert len(received(s3_server, behind)) == 2


def test_the_largest_and_most_hostile_message_is_taken(s3_server: S3Server) -> None:
    """Below 256 KiB with all of its ids, in letters that AWS takes."""
    (topic, behind), queue = new_topic(s3_server, "large"), new_queue(s3_server, "large_queue")
    huge = HOSTILE * 200
    worst = [some_alert(number, reasons=(huge,) * 20, about={HOSTILE: huge}, rule=HOSTILE) for number in range(5)]
    message = Message(worst + [some_alert(number) for number in range(5, MOST_ALERTS)], shown=100)
    Queue(sink("q", "sqs", queue)).send(message)
    Topic(sink("t", "sns", topic)).send(message)
    for one in (received(s3_server, queue)[0]["Body"], json.loads(received(s3_server, behind)[0]["Body"])["Message"]):
        assert len(one) < 256 * 1024
        assert len(json.loads(one)["ids"]) == MOST_ALERTS


def test_what_is_missing_may_come_and_what_is_wrong_stays_wrong(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue or topic that isn't there is to be tried again, with a hint; a message that AWS refuses isn't."""
    missing = "arn:aws:sns:us-east-1:123456789012:nowhere"
    with pytest.raises(SinkUnavailable, match="sink 't': 404 NotFound") as caught:
        Topic(sink("t", "sns", missing)).send(Message([some_alert()]))
    assert "check `where`" in caught.value.hint
    with pytest.raises(SinkUnavailable, match="Queue"):
        Queue(sink("q", "sqs", f"{s3_server.url}/123456789012/nowhere")).send(Message([some_alert()]))
    queue = new_queue(s3_server, "alerts_that_fit")
    monkeypatch.setattr(Message, "body", lambda _: b"x" * 1_200_000)
    with pytest.raises(SinkRefused, match="InvalidParameterValue"):
        Queue(sink("q", "sqs", queue)).send(Message([some_alert()]))


def test_a_server_that_is_not_there_is_to_be_tried_again(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection, and a server in trouble, are passing."""
    queue = new_queue(s3_server, "flaky")
    carrier = Queue(sink("q", "sqs", queue, timeout_seconds=1.0))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SinkUnavailable, match="sink 'q'"):
        Queue(sink("q", "sqs", queue, timeout_seconds=1.0)).send(Message([some_alert()]))
    carrier.send(Message([some_alert()]))
    carrier.close()
