"""DynamoDB's streams as AWS runs them, behind boto3: shards that close, go on in others and are trimmed, and every error on demand."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.loaders import create_loader
from botocore.session import Session, get_session

ARN = "arn:aws:dynamodb:af-south-1:1:table/orders/stream/{label}"


LOADER = create_loader()
"""What botocore has read of its own data files: shared, a client takes a tenth of the time to make."""

_NAMES = {"ShardId", "ExclusiveStartShardId"}


def _lengthen(params: dict[str, Any], **_: object) -> None:
    """Shards have short names here; boto3 insists on those of 28 characters."""
    for each in _NAMES & params.keys():
        params[each] = params[each].ljust(28, "~")


@dataclass
class FakeShard:
    """A shard: its records by sequence number, ascending."""

    id: str
    arn: str
    parent: str | None
    starting: int
    ending: int | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    trimmed: int = 0
    """What is up to here is gone."""


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: object) -> Iterator[bytes]:
        """All of it."""
        yield self._content


class FakeStreams:
    """
    One table's streams.

    Attributes:
        fail: called before each request with its name and parameters; gives the error to answer with: its code and status.
        calls: name, shard and moment (monotonic) of every request that was answered or refused.
        limit: records an answer has at most.
    """

    def __init__(self, *, limit: int = 1000) -> None:
        self.shards: dict[str, FakeShard] = {}
        self.disabled: set[str] = set()
        self.calls: list[tuple[str, str, float]] = []
        self.fail: Callable[[str, dict[str, Any]], tuple[str, int] | None] = lambda _name, _request: None
        self.limit = limit
        self.lock = threading.Lock()
        self._next = 10**21

    def session(self) -> Session:
        """A session of botocore whose requests come here."""
        core = get_session()
        core.register_component("data_loader", LOADER)
        core.register("before-parameter-build.dynamodb-streams", _lengthen)  # type: ignore[arg-type]
        core.set_credentials("testing", "testing")
        core.register("before-send.dynamodb-streams", self._answer)  # type: ignore[arg-type]
        core.register("before-send.dynamodb", self._answer)  # type: ignore[arg-type]
        core.set_config_variable("region", "af-south-1")
        return core

    # --- what is there

    def open(self, id_: str, parent: str | None = None, *, label: str = "2024-10-01T00:00:00.000") -> None:
        """Open a shard; the one that it comes from is closed."""
        with self.lock:
            if parent is not None and parent in self.shards:
                self.close(parent)
            self._next += 1
            self.shards[id_] = FakeShard(id_, ARN.format(label=label), parent, self._next)

    def close(self, id_: str) -> None:
        """Nothing more comes of a shard."""
        self.shards[id_].ending = self._next

    def put(self, id_: str, *, at: datetime | None = None, number: int = 1, image: Any = None) -> list[int]:
        """Add records; their sequence numbers."""
        found = []
        with self.lock:
            for _ in range(number):
                self._next += 3
                moment = int((at or datetime.now(UTC)).timestamp())
                change = {
                    "ApproximateCreationDateTime": moment,
                    "Keys": {"id": {"S": id_}},
                    "NewImage": image or {"id": {"S": id_}},
                    "SequenceNumber": str(self._next),
                    "SizeBytes": 10,
                    "StreamViewType": "NEW_AND_OLD_IMAGES",
                }
                self.shards[id_].records.append(
                    {"eventID": str(self._next), "eventName": "INSERT", "eventVersion": "1.1", "dynamodb": change}
                )
                found.append(self._next)
        return found

    def trim(self, id_: str, upto: int) -> None:
        """Drop the records of a shard up to a position."""
        self.shards[id_].trimmed = upto

    def drop(self, id_: str) -> None:
        """Forget a shard."""
        with self.lock:
            del self.shards[id_]

    def asked(self, name: str, shard: str = "") -> list[float]:
        """When a request was made."""
        return [at for call, which, at in self.calls if call == name and which == shard]

    # --- requests

    def _answer(self, request: Any, **_: object) -> AWSResponse:
        name = request.headers["X-Amz-Target"]
        name = (name.decode() if isinstance(name, bytes) else name).rpartition(".")[2]
        parameters = json.loads(request.body)
        for each in _NAMES & parameters.keys():
            parameters[each] = parameters[each].rstrip("~")
        iterator = json.loads(parameters["ShardIterator"]) if "ShardIterator" in parameters else {}
        shard = str(iterator.get("shard", parameters.get("ShardId", "")))
        with self.lock:
            self.calls.append((name, shard, time.monotonic()))
            refused = self.fail(name, {**parameters, **iterator})
            if refused is None:
                try:
                    answer = getattr(self, f"_{name}")(parameters, iterator)
                    return self._response(request, 200, answer)
                except _Refused as error:
                    refused = (error.code, 400)
        return self._response(request, refused[1], {"__type": f"com.amazonaws#{refused[0]}", "message": "told to"})

    @staticmethod
    def _response(request: Any, status: int, answer: object) -> AWSResponse:
        headers = HTTPHeaders.from_dict({"Content-Type": "application/x-amz-json-1.0"})
        return AWSResponse(request.url, status, headers, _Body(json.dumps(answer).encode()))

    def _ListStreams(self, _parameters: dict[str, Any], _iterator: dict[str, Any]) -> object:
        arns = {shard.arn for shard in self.shards.values()}
        return {
            "Streams": [{"StreamArn": arn, "StreamLabel": arn.rpartition("/")[2]} for arn in sorted(arns, reverse=True)]
        }

    def _DescribeTable(self, _parameters: dict[str, Any], _iterator: dict[str, Any]) -> object:
        return {"Table": {"TableName": "orders"}}

    def _DescribeStream(self, parameters: dict[str, Any], _iterator: dict[str, Any]) -> object:
        """Two shards a page, and not the oldest first."""
        shards = [shard for shard in self.shards.values() if shard.arn == parameters["StreamArn"]]
        if not shards:
            raise _Refused("ResourceNotFoundException")
        shards.reverse()
        ids = [shard.id for shard in shards]
        begin = ids.index(parameters["ExclusiveStartShardId"]) + 1 if "ExclusiveStartShardId" in parameters else 0
        page = shards[begin : begin + 2]
        described: dict[str, Any] = {
            "StreamArn": parameters["StreamArn"],
            "StreamStatus": "DISABLED" if parameters["StreamArn"] in self.disabled else "ENABLED",
            "Shards": [self._described(shard) for shard in page],
        }
        if begin + 2 < len(shards):
            described["LastEvaluatedShardId"] = page[-1].id
        return {"StreamDescription": described}

    @staticmethod
    def _described(shard: FakeShard) -> dict[str, Any]:
        numbers = {"StartingSequenceNumber": str(shard.starting)}
        if shard.ending is not None:
            numbers["EndingSequenceNumber"] = str(shard.ending)
        described: dict[str, Any] = {"ShardId": shard.id, "SequenceNumberRange": numbers}
        if shard.parent is not None:
            described["ParentShardId"] = shard.parent
        return described

    def _shard(self, id_: str) -> FakeShard:
        if id_ not in self.shards:
            raise _Refused("ResourceNotFoundException")
        return self.shards[id_]

    def _GetShardIterator(self, parameters: dict[str, Any], _iterator: dict[str, Any]) -> object:
        shard = self._shard(parameters["ShardId"])
        match parameters["ShardIteratorType"]:
            case "TRIM_HORIZON":
                after = shard.trimmed
            case "LATEST":
                after = self._next
            case _:
                after = int(parameters["SequenceNumber"])
                if after < shard.starting:
                    raise _Refused("ValidationException")
                if after < shard.trimmed:
                    raise _Refused("TrimmedDataAccessException")
        return {"ShardIterator": json.dumps({"shard": shard.id, "after": after})}

    def _GetRecords(self, _parameters: dict[str, Any], iterator: dict[str, Any]) -> object:
        shard = self._shard(iterator["shard"])
        if iterator["after"] < shard.trimmed:
            raise _Refused("TrimmedDataAccessException")
        left = [one for one in shard.records if int(one["dynamodb"]["SequenceNumber"]) > iterator["after"]]
        page = left[: self.limit]
        answer: dict[str, Any] = {"Records": page}
        if len(page) < len(left) or shard.ending is None:
            last = int(page[-1]["dynamodb"]["SequenceNumber"]) if page else iterator["after"]
            answer["NextShardIterator"] = json.dumps({"shard": shard.id, "after": last})
        return answer


class _Refused(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
