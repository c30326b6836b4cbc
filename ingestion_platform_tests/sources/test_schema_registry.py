"""Schemas from a registry: asked once, whole, and never in silence when it doesn't answer."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable
from ingestion_platform.formats.avro_values import avro_decoder
from ingestion_platform.formats.records import Field
from ingestion_platform.formats.segments import read_segment
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources import schema_registry
from ingestion_platform.sources.drain import Drain
from ingestion_platform.sources.kafka import KafkaReader
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.schema_registry import SchemaRegistry
from ingestion_platform.stream import AvroValues, Kafka, StreamSegments
from ingestion_platform_tests.sources.kafka_worlds import MockKafkaWorld

ITEM = {"type": "record", "name": "Item", "namespace": "shop", "fields": [{"name": "sku", "type": "string"}]}
SALE = {
    "type": "record",
    "name": "Sale",
    "namespace": "shop.tills",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "items", "type": {"type": "array", "items": "shop.Item"}},
        {"name": "first", "type": ["null", "shop.Item"]},
    ],
}


class Registry:
    """A registry on loopback. `answers`: path → status and body; `asked`: paths and what they were asked with."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.failures: list[int] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append((self.path, self.headers.get("Authorization")))
                status, body = registry.answers.get(self.path, (404, b'{"error_code": 40403}'))
                if registry.failures:
                    status, body = registry.failures.pop(0), b"no"
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def put(self, path: str, schema: Any, **more: Any) -> None:
        """Answer with a schema."""
        self.answers[path] = (200, json.dumps({"schema": json.dumps(schema), **more}).encode())


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry that knows a schema with a reference, as id 7; nobody waits long for it."""
    monkeypatch.setattr(schema_registry, "FIRST_WAIT_SECONDS", 0.01)
    one = Registry()
    one.put("/schemas/ids/7", SALE, references=[{"name": "shop.Item", "subject": "items/shop", "version": 3}])
    one.put("/subjects/items%2Fshop/versions/3", ITEM)
    yield one
    one.server.shutdown()
    one.server.server_close()
    one.thread.join()


def asks(registry: Registry, **properties: str) -> SchemaRegistry:
    """A client of it."""
    return SchemaRegistry({"schema.registry.url": registry.url + "/", **properties})


def test_a_schema_is_asked_for_once_and_whole(registry: Registry) -> None:
    """What it refers to stands where it is first named; then it stands for itself."""
    client = asks(registry)
    text = client.schema(7)
    assert text is not None
    assert client.schema(7) == text
    assert [path for path, _ in registry.asked] == ["/schemas/ids/7", "/subjects/items%2Fshop/versions/3"]
    raw = b"\x0a\x04\x01\xf4\x02\x02a\0\x02\x02b"
    assert avro_decoder(AvroValues(schema=text), {})(raw, None) == (
        b'{"id":5,"amount":5.00,"items":[{"sku":"a"}],"first":{"sku":"b"}}'
    )


def test_a_reference_without_a_namespace_keeps_its_name(registry: Registry) -> None:
    """Put into a record of a namespace, it isn't taken to be in that."""
    bare = {"type": "record", "name": "Bare", "fields": [{"name": "x", "type": "int"}]}
    outer = {**SALE, "fields": [{"name": "a", "type": "Bare"}, {"name": "b", "type": "Bare"}]}
    registry.put("/schemas/ids/8", outer, references=[{"name": "Bare", "subject": "bare", "version": 1}])
    registry.put("/subjects/bare/versions/1", bare)
    text = asks(registry).schema(8)
    assert text is not None
    assert json.loads(text)["fields"][0]["type"]["namespace"] == ""
    assert avro_decoder(AvroValues(schema=text), {})(b"\x02\x04", None) == b'{"a":{"x":1},"b":{"x":2}}'


def test_an_unknown_schema_is_asked_for_again_later(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each record; but it may be registered any moment."""
    client = asks(registry)
    assert client.schema(9) is None
    assert client.schema(9) is None
    assert len(registry.asked) == 1
    monkeypatch.setattr(schema_registry, "UNKNOWN_SECONDS", 0.0)
    registry.put("/schemas/ids/9", ITEM)
    assert client.schema(9) is not None


def test_what_is_not_avro_or_no_schema_is_unknown(registry: Registry) -> None:
    """Its records are set aside when they are loaded; the stream goes on."""
    registry.put("/schemas/ids/1", {}, schemaType="PROTOBUF")
    registry.answers["/schemas/ids/2"] = (200, b'{"schema": "{"}')
    registry.answers["/schemas/ids/3"] = (200, json.dumps({"schema": "[" * 100_000}).encode())
    registry.put("/schemas/ids/4", SALE, references=[{"name": "shop.Item", "subject": "none", "version": 1}])
    registry.put("/schemas/ids/5", SALE, references=[{"name": 5}])
    client = asks(registry)
    assert [client.schema(number) for number in (1, 2, 3, 4, 5)] == [None] * 5


def test_what_the_registry_refuses_of_one_id_is_unknown(registry: Registry) -> None:
    """One record of rubbish doesn't stop a topic: neither an error for its id, nor an answer that is too long."""
    for number, status in enumerate((400, 406, 422)):
        registry.answers[f"/schemas/ids/{number}"] = (status, b'{"error_code": 42200, "message": "no"}')
    registry.answers["/schemas/ids/3"] = (200, json.dumps({"schema": "x" * schema_registry.MOST_BYTES}).encode())
    client = asks(registry)
    assert [client.schema(number) for number in range(4)] == [None] * 4
    assert client.schema(7) is not None


def test_an_error_that_no_registry_would_tell_is_said(registry: Registry) -> None:
    """A proxy's refusal isn't the registry's."""
    for body in (b"<html>", b"{}"):
        registry.answers["/schemas/ids/1"] = (400, body)
        with pytest.raises(SourceError, match="is no schema registry"):
            asks(registry).schema(1)


def test_what_is_too_large_for_an_id_is_not_asked_for(registry: Registry) -> None:
    """It can't be known."""
    assert asks(registry).schema(2**31) is None
    assert registry.asked == []


def test_rubbish_is_not_asked_for_without_end(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each value may name another id: after some the registry is left alone for a while, and what is known stays so."""
    monkeypatch.setattr(schema_registry, "MOST_UNKNOWN", 50)
    client = asks(registry)
    text = client.schema(7)
    for number in range(1000, 1000 + 200):
        assert client.schema(number) is None
    assert len([path for path, _ in registry.asked if "ids/1" in path]) == 50
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == schema_registry.MOST_SAID + 1
    assert client.schema(7) == text
    registry.put("/schemas/ids/8", ITEM)
    monkeypatch.setattr(schema_registry, "UNKNOWN_SECONDS", 0.0)
    assert client.schema(8) is not None


def test_references_that_go_in_circles_end(registry: Registry) -> None:
    """Each is asked for once."""
    round_ = [{"name": "shop.Item", "subject": "a", "version": 1}]
    registry.put("/schemas/ids/6", SALE, references=round_)
    registry.put(
        "/subjects/a/versions/1", {**ITEM, "fields": [{"name": "i", "type": ["null", "shop.Item"]}]}, references=round_
    )
    assert asks(registry).schema(6) is not None
    assert len(registry.asked) == 2


def test_a_busy_registry_is_asked_again(registry: Registry) -> None:
    """Also one that hangs up."""
    registry.failures = [503, 429, 0]
    assert asks(registry).schema(7) is not None


def test_a_registry_that_stays_away_is_unavailable(registry: Registry) -> None:
    """A record never lands without its schema because nobody answered."""
    registry.failures = [500] * 10
    with pytest.raises(SourceUnavailable, match="no schema registry answers"):
        asks(registry).schema(7)


def test_the_next_url_is_asked_when_one_fails(registry: Registry) -> None:
    """Several are separated by commas."""
    client = SchemaRegistry({"schema.registry.url": f"http://127.0.0.1:1, {registry.url}"})
    assert client.schema(7) is not None


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"[" * 100_000, b" " * 5_000_000])
def test_what_is_no_registry_is_said(registry: Registry, body: bytes) -> None:
    """A proxy's page isn't taken for a schema."""
    registry.answers["/schemas/ids/1"] = (200, body)
    with pytest.raises(SourceError, match="is no schema registry"):
        asks(registry).schema(1)


def test_it_is_not_sent_on(registry: Registry) -> None:
    """Nor are its credentials."""
    registry.failures = [302]
    with pytest.raises(SourceError, match="is no schema registry"):
        asks(registry).schema(7)


def test_the_login_is_used_and_never_shown(registry: Registry) -> None:
    """From its own property or from the URL."""
    expected = "Basic " + base64.b64encode(b"me:open sesame").decode()
    with_user = registry.url.replace("//", "//me:open%20sesame@")
    for client in (
        asks(registry, **{"schema.registry.basic.auth.user.info": "me:open sesame"}),
        SchemaRegistry({"schema.registry.url": with_user}),
    ):
        registry.asked.clear()
        registry.failures = []
        assert client.schema(7) is not None
        assert {login for _, login in registry.asked} == {expected}
        registry.failures = [401]
        with pytest.raises(SourceError, match="refuses access") as caught:
            client.schema(99)
        assert "sesame" not in str(caught.value) + repr(client)


def test_a_missing_or_wrong_url_is_said() -> None:
    """Before anything is read."""
    for properties in ({}, {"schema.registry.url": "registry:8081"}, {"schema.registry.url": "file:///etc/passwd"}):
        with pytest.raises(SettingsError, match="registry"):
            SchemaRegistry(properties)


def test_avro_from_kafka_to_rows(registry: Registry, tmp_path: Path) -> None:
    """Values land as they came, each schema once a segment; what has no schema is set aside with its bytes."""
    world = MockKafkaWorld()
    registry.put("/schemas/ids/8", ITEM)
    values: list[bytes | None] = [b"\0\0\0\0\7\x0a\x04\x01\xf4\x02\x02a\0\0", b"\0\0\0\0\x08\x02b", b'{"no": 1}', None]
    values += [b"\0\0\0\0\x09\x02c", b"\0\0\0\0\7\x0a"]
    for value in values:
        world.producer.produce("events", value=value, partition=0)
    world.producer.flush()
    (tmp_path / "landing").mkdir()
    zone = LocalLanding(tmp_path / "landing")
    stream = world.declared(is_avro=True)
    reader = KafkaReader(
        Kafka(topic="events", is_avro=True), {"bootstrap.servers": world.servers, "schema.registry.url": registry.url}
    )
    Drain(LandedStream(stream, zone, ZoneInfo("UTC")), reader).to_now()
    (segment,) = [one for one in zone.list() if one.key.endswith(".parquet")]
    source = StreamSegments(stream, AvroValues())
    fields = [Field("id", "id"), Field("amount", "amount"), Field("sku", "sku"), Field("tombstone", "@is_tombstone")]
    records = read_segment(source.format, zone.read(segment), fields, named=source.span(segment.key))
    assert [tuple(row[name] for name in ("id", "amount", "sku", "tombstone")) for row in records.table.to_pylist()] == [
        ("5", "5.00", None, "false"),
        (None, None, "b", "false"),
        (None, None, None, "true"),
    ]
    unframed, unknown, cut = [one.reason for one in records.rejected]
    assert "as schema registries frame it" in unframed
    assert "schema 9, which the schema registry didn't know" in unknown
    assert "is not Avro of its schema" in cut
