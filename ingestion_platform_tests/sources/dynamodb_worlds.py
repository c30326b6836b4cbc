"""DynamoDB tables with streams: on moto, and on AWS's own DynamoDB Local where that is installed."""

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import count
from typing import TYPE_CHECKING, Any

from boto3.session import Session
from botocore.session import Session as CoreSession
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from ingestion_platform.sources.dynamodb_streams import DynamoDbStreamReader
from ingestion_platform.stream import DynamoDbStream, Stream
from ingestion_platform_tests.sources.dynamodb_fake import LOADER
from ingestion_platform_tests.sources.servers import SERVERS
from ingestion_platform_tests.sources.world import Put

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

DYNAMODB_LOCAL = SERVERS / "dynamodb_local"

_NUMBERS = count(1)


class SessionAt(CoreSession):
    """A session whose clients all go to one server, whatever the environment says: several servers are asked in one process."""

    def __init__(self, url: str) -> None:
        super().__init__()
        for name in ("config_file", "credentials_file"):
            self.set_config_variable(name, os.devnull)
        self.set_config_variable("region", "us-east-1")
        self.set_credentials("testing", "testing")
        self.register_component("data_loader", LOADER)
        self._url = url

    def create_client(self, *names: Any, **named: Any) -> Any:
        """A client of the server."""
        return super().create_client(*names, **{**named, "endpoint_url": self._url})


class DynamoDbWorld:
    """
    A table with a stream, on a server that is there.

    Args:
        url: of it.
        begin: where a drain begins.
    """

    kind = "dynamodb"

    def __init__(self, url: str, *, begin: str = "oldest") -> None:
        self.table = f"changes-{next(_NUMBERS)}"
        self.url = url
        self.client: DynamoDBClient = Session(botocore_session=SessionAt(url)).client("dynamodb")
        self._begin = begin
        self.client.create_table(
            TableName=self.table,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )

    def declared(self, **changes: object) -> Stream:
        """The declaration of the stream."""
        source = DynamoDbStream(table=self.table, begin=changes.pop("begin", self._begin))  # type: ignore[arg-type]
        named: dict[str, Any] = {
            "name": "changes",
            "description": "Changes of items.",
            "source": source,
            "first_day": date(2024, 10, 1),
        }
        return Stream(**{**named, **changes})

    def reader(self, **changes: Any) -> DynamoDbStreamReader:
        """A new reader of it; faster than the service would allow."""
        return DynamoDbStreamReader(
            DynamoDbStream(table=self.table),
            session=SessionAt(self.url),
            **{"reads_per_second": 100.0, "list_seconds": 0.2, "threads": 3, **changes},
        )

    def put(self, records: Sequence[Put]) -> None:
        """Write items, in this order: an item for each key, its value an attribute."""
        for record in records:
            self.client.put_item(TableName=self.table, Item={"id": {"S": record.key}, "value": {"B": record.value}})

    def value_of(self, value: bytes) -> bytes:
        """What was put, from the value of the record that came of it."""
        return base64.b64decode(json.loads(value)["dynamodb"]["NewImage"]["value"]["B"])


class DynamoDbLocalWorld(DynamoDbWorld):
    """The table on DynamoDB Local: moto's streams have one shard for ever, this one's can be closed."""

    kind = "dynamodb local"

    def split(self) -> None:
        """Close the shard that there is, and have another: the stream is disabled, and enabled again."""
        self.client.update_table(TableName=self.table, StreamSpecification={"StreamEnabled": False})
        self.client.update_table(
            TableName=self.table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        )


@contextmanager
def moto_dynamodb() -> Iterator[str]:
    """moto, on a free port of 127.0.0.1; its URL."""
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="moto-dynamodb", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """AWS's DynamoDB Local, on a free port of 127.0.0.1; its URL."""
    command = [
        "java",
        "-Xmx512m",
        f"-Djava.library.path={DYNAMODB_LOCAL / 'lib'}",
        "-cp",
        f"{DYNAMODB_LOCAL / 'classes'}:{DYNAMODB_LOCAL / 'lib'}/*",
        "DynamoDbLocal",
    ]
    # It ends when its input does, so also when this process is killed.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = next(line.split()[1] for line in process.stdout if line.startswith("port "))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


class _QuietHandler(MotoRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing."""
