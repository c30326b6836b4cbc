"""Notices: who is told what when a run or a check fails, by a real HTTP server."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest
from pydantic import SecretStr

from ingestion_platform.errors import WarehouseDamaged
from ingestion_platform.orchestration.notices import (
    Log,
    Notice,
    NoticeNotDelivered,
    Webhook,
    failed_check_sensor,
    failed_checks,
    failed_run_sensor,
    messengers,
    tell,
)
from ingestion_platform.warehouse import DriftEvent
from ingestion_platform_tests.orchestration.world import World, run, world

DAY = date(2024, 10, 10)


class Receiver:
    """A server that keeps what is posted to it and answers as it is told."""

    def __init__(self) -> None:
        self.posted: list[dict[str, object]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Keep the body."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posted.append(json.loads(body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook/s3cr3t"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on this machine."""
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def place() -> World:
    """A world with one day's objects."""
    made = world()
    made.land("tills", DAY, "A", "B")
    return made


def notice() -> Notice:
    """Some notice."""
    return Notice("run_failed", "Run failed: raw/tills", "why", "1", "job", ["raw/tills"], None, None, [])


def finish(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance, sink: Webhook) -> None:
    """Let the sensor that is for it look at a finished run."""
    run_ = result.dagster_run
    if result.success:
        sensor = failed_check_sensor([sink])
        event = result.get_run_success_event()
        sensor(dg.build_run_status_sensor_context("alert_failed_checks", event, instance, run_))
        return
    context = dg.build_run_status_sensor_context(
        "alert_failed_runs", result.get_run_failure_event(), instance, run_
    ).for_run_failure()
    failed_run_sensor([sink])(context)


def test_a_failed_run_is_told_with_what_to_do(place: World, receiver: Receiver) -> None:
    """What failed, on which day, why, and the hint."""
    place.errors["processed.tills", DAY] = WarehouseDamaged("a file is cut", "make rebuild")
    instance = dg.DagsterInstance.ephemeral()
    result = run(place.definitions(), instance, ["raw.tills", "processed.tills"], DAY)
    finish(result, instance, Webhook(SecretStr(receiver.url)))
    told = receiver.posted[0]
    assert told["kind"] == "run_failed"
    assert told["title"] == "Run failed: processed/tills, raw/tills 2024-10-10"
    assert "a file is cut" in str(told["text"])
    assert "make rebuild" in str(told["text"])
    assert (told["first_day"], told["last_day"]) == ("2024-10-10", "2024-10-10")
    assert told["run_id"] == result.run_id


def test_a_blocking_check_is_told_with_its_story(place: World, receiver: Receiver) -> None:
    """A run that a blocking check ended tells which check and what it found."""
    place.unbalanced.add(("processed.tills", DAY))
    instance = dg.DagsterInstance.ephemeral()
    result = run(place.definitions(), instance, ["raw.tills", "processed.tills"], DAY)
    finish(result, instance, Webhook(SecretStr(receiver.url)))
    assert "row_balance: 20 read ≠ 19 processed" in str(receiver.posted[0]["text"])


def test_a_failed_check_of_a_successful_run_is_told(place: World, receiver: Receiver) -> None:
    """A check that blocks nothing leaves the run successful, and is told all the same, with its severity."""
    place.rejected.add("tills/2024/10/10/B.csv")
    instance = dg.DagsterInstance.ephemeral()
    result = run(place.definitions(), instance, ["raw.tills"], DAY)
    assert result.success
    finish(result, instance, Webhook(SecretStr(receiver.url)))
    told = receiver.posted[0]
    assert told["title"] == "1 check failed: raw/tills 2024-10-10"
    checks = told["checks"]
    assert isinstance(checks, list)
    assert (checks[0]["check"], checks[0]["severity"], checks[0]["partition"]) == (
        "no_rejected_objects",
        "error",
        "2024-10-10",
    )
    assert "tills/2024/10/10/B.csv" in checks[0]["story"]


def test_drift_is_told_once_and_not_with_every_file(place: World, receiver: Receiver) -> None:
    """The run that loaded the first object with a new column tells it; the next one's check fails too, and tells nobody."""
    first, second = "tills/2024/10/10/A.csv", "tills/2024/10/11/A.csv"
    place.land("tills", date(2024, 10, 11), "A")
    place.unknown = {first: ("tip",), second: ("tip",)}
    moment = datetime(2024, 10, 10, 6, tzinfo=UTC)
    place.drifts = [DriftEvent("tills", "new", "tip", "", first, DAY, moment, second, None, None, 2, 20, 1)]
    instance = dg.DagsterInstance.ephemeral()
    for day in (DAY, date(2024, 10, 11)):
        result = run(place.definitions(), instance, ["raw.tills"], day)
        assert [one.check_name for one in result.get_asset_check_evaluations() if not one.passed] == ["schema_drift"]
        finish(result, instance, Webhook(SecretStr(receiver.url)))
    (told,) = receiver.posted
    assert f"Column 'tip' is new since {first}" in str(told["text"])


def test_a_run_in_order_tells_nothing(place: World, receiver: Receiver) -> None:
    """No notice when every check passed."""
    instance = dg.DagsterInstance.ephemeral()
    result = run(place.definitions(), instance, ["raw.tills"], DAY)
    assert failed_checks(instance, result.run_id) == []
    finish(result, instance, Webhook(SecretStr(receiver.url)))
    assert receiver.posted == []


def test_a_receiver_in_trouble_is_tried_again(receiver: Receiver) -> None:
    """503 and 429 are tried again; the third answer counts."""
    receiver.answers = [503, 429, 200]
    Webhook(SecretStr(receiver.url), pause_seconds=0).send(notice())
    assert len(receiver.posted) == 3


def test_a_receiver_that_refuses_is_told_once(receiver: Receiver) -> None:
    """404 isn't tried again; the error names the variable, never the URL."""
    receiver.answers = [404]
    with pytest.raises(NoticeNotDelivered, match="it answered 404") as caught:
        Webhook(SecretStr(receiver.url), pause_seconds=0).send(notice())
    assert len(receiver.posted) == 1
    assert "s3cr3t" not in str(caught.value)
    assert "INGESTION_NOTICE_WEBHOOK" in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/s3cr3t", "s3cr3t", "http://[s3cr3t"])
def test_a_receiver_that_is_not_there_is_an_error_without_its_url(url: str) -> None:
    """Nobody there, or no URL at all: an error of ours that doesn't hold the secret."""
    with pytest.raises(NoticeNotDelivered) as caught:
        Webhook(SecretStr(url), attempts=1).send(notice())
    assert "s3cr3t" not in str(caught.value)


def test_the_others_are_told_when_one_cannot_be_reached(caplog: pytest.LogCaptureFixture) -> None:
    """An unreachable webhook fails the tick, after the log was told."""
    with caplog.at_level(logging.ERROR), pytest.raises(NoticeNotDelivered):
        tell(notice(), (Webhook(SecretStr("http://127.0.0.1:9/"), attempts=1), Log()))
    assert "Run failed: raw/tills" in caplog.text


def test_without_a_webhook_the_log_is_told() -> None:
    """The log always; the webhook when the settings have one."""
    assert [type(one) for one in messengers(None)] == [Log]
    assert [type(one) for one in messengers(SecretStr("http://127.0.0.1:9/"))] == [Log, Webhook]
