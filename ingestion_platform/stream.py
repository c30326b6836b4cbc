"""
What a stream is: where it comes from, how its records are gathered into segments, how far behind it may be.

Belongs here: the declaration, and the names that segments have in the landing zone. Doesn't: reading a stream (`sources/`), the tables
made of
it (`dataset.py`).
"""

import json
import re
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from datetime import date, datetime
from functools import cached_property
from typing import Literal
from urllib.parse import quote, unquote

from pydantic.dataclasses import dataclass

from ingestion_platform.change_log import Captured, CapturedValues
from ingestion_platform.errors import DeclarationError
from ingestion_platform.key_template import KeyTemplate
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform.table import IDENTIFIER, STRICT

Begin = Literal["oldest", "latest"] | datetime
"""Where a stream that has never been drained begins: its oldest record, whatever comes next, or what arrived at or after a moment."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Kinesis:
    """
    A Kinesis data stream. Region and credentials are boto3's.

    Args:
        stream: its name, or its ARN.
        consumer: ARN of a registered consumer: records are then pushed by enhanced fan-out (SubscribeToShard; real AWS only).
        begin: where to begin when nothing has landed yet. Shards that appear later are read from their first record.
    """

    stream: str
    consumer: str | None = None
    begin: Begin = "oldest"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Kafka:
    """
    A topic of Kafka, or of what speaks its protocol. Servers and secrets are the settings'.

    Args:
        topic: its name.
        cluster: which of the clusters that the settings name.
        group: a consumer group: the broker then shares the partitions out among the workers of that group. None: every worker reads
            every partition, and what lands twice is told apart when it is loaded. Offsets are never the broker's: they are those of the
            landing zone.
        is_sparse: offsets may be missing between records, because the topic is compacted or written in transactions. Otherwise a missing
        offset
            is a gap.
        is_avro: values are in the schema registry's framing; the schema of each is landed with it.
        begin: where to begin when nothing has landed yet. Partitions that appear later are read from their first record.
    """

    topic: str
    cluster: str = "default"
    group: str | None = None
    is_sparse: bool = False
    is_avro: bool = False
    begin: Begin = "oldest"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DynamoDbStream:
    """
    The stream of changes of a DynamoDB table. Region and credentials are boto3's.

    Args:
        table: the table's name, or the stream's own ARN.
        begin: where to begin when nothing has landed yet; the stream knows no time, so `oldest` or `latest`.
    """

    table: str
    begin: Literal["oldest", "latest"] = "oldest"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Postgres:
    """
    Every change of tables of a PostgreSQL database (14 or later, `wal_level = logical`), read from its log.

    What the tables hold when nothing has landed yet comes first, as one consistent state; then the log goes on without gap or overlap. A
    record's value is the row as a JSON object, each column as the text that PostgreSQL writes for it (moments in UTC), or NULL. Of a row
    that is removed only what the table's REPLICA IDENTITY says is known: the key. Its headers are `table`, `operation` (see
    `dataset.CAPTURED`), `transaction`, and `unsent`.

    Args:
        database: which of the databases that the settings name.
        tables: `schema.table` of each.
        connections: that read the tables at the beginning, at the same time.
        rows_per_second: of the tables at the beginning, of all connections together; None: as fast as they come.
        statement_timeout_seconds: of each statement that isn't the reading of a table's range; of that, sixty times as long.
        max_slot_bytes: the check `lag` fails when the database has to keep more of its log than this for the capture.
        begin: `oldest`: with what the tables hold; `latest`: with whatever changes next.
    """

    database: str
    tables: tuple[str, ...]
    connections: int = 2
    rows_per_second: int | None = None
    statement_timeout_seconds: float = 60.0
    max_slot_bytes: int = 4 * 1024**3
    begin: Literal["oldest", "latest"] = "oldest"

    def __post_init__(self) -> None:
        _check_tables(self, "schema.table", "public.people")
        _check_limits(self, ("connections", "rows_per_second", "statement_timeout_seconds", "max_slot_bytes"))


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MariaDb:
    """
    Every change of tables of a MariaDB server (10.5 or later, `binlog_format = ROW`, `binlog_row_metadata = FULL`), read from its binary
    log.

    What the tables hold when nothing has landed yet comes first, as one consistent state; then the log goes on without gap or overlap. A
    record's value is the row as a JSON object, each column as text as MariaDB writes it, or NULL: moments of a TIMESTAMP in UTC and with
    `+00`, bytes as hex digits, BIT as a whole number. Of a row that is removed all is known. Its headers are `table`, `operation` (see
    `dataset.CAPTURED`), `transaction` (its GTID), and `unsent`.

    The server keeps its log for as long as its own configuration says, whether or not it has landed.

    Args:
        database: which of the databases that the settings name: a server.
        tables: `database.table` of each.
        connections: that read the tables at the beginning, at the same time.
        rows_per_second: of the tables at the beginning, of all connections together; None: as fast as they come.
        statement_timeout_seconds: of each statement that isn't the reading of a table's range; of that, sixty times as long.
        max_behind_bytes: the check `lag` fails when more of the log than this hasn't landed.
        begin: `oldest`: with what the tables hold; `latest`: with whatever changes next.
    """

    database: str
    tables: tuple[str, ...]
    connections: int = 2
    rows_per_second: int | None = None
    statement_timeout_seconds: float = 60.0
    max_behind_bytes: int = 4 * 1024**3
    begin: Literal["oldest", "latest"] = "oldest"

    def __post_init__(self) -> None:
        _check_tables(self, "database.table", "shop.people")
        _check_limits(self, ("connections", "rows_per_second", "statement_timeout_seconds", "max_behind_bytes"))


def _check_tables(source: Postgres | MariaDb, form: str, example: str) -> None:
    if not source.tables:
        raise DeclarationError(f"the capture of database {source.database!r} has no tables", f"as in {example!r}")
    for table in source.tables:
        if len(table.split(".")) != 2 or not all(table.split(".")):
            raise DeclarationError(f"table {table!r} is not {form}", f"as in {example!r}")
    twice = sorted({table for table in source.tables if source.tables.count(table) > 1})
    if twice:
        raise DeclarationError(
            f"the capture of database {source.database!r} names {twice[0]!r} twice", "each table once"
        )


def _check_limits(source: Postgres | MariaDb, names: tuple[str, ...]) -> None:
    for what in names:
        if getattr(source, what) is not None and getattr(source, what) <= 0:
            raise DeclarationError(f"the capture of database {source.database!r}: {what} must be more than 0")


CapturedDatabase = Postgres | MariaDb
"""Sources whose stream is the log of a database."""

StreamSource = Kinesis | Kafka | DynamoDbStream | Postgres | MariaDb

_MOST_NAME = 45
"""Names in PostgreSQL have 63 characters; a slot's has the stream's, a beginning and a number."""

_DIGITS = {Kinesis: 56, Kafka: 19, DynamoDbStream: 40, Postgres: 37, MariaDb: 53}
"""Digits of a position in a segment's name: those that the source's own positions have at most, as far as is known."""


@plain_dataclass(frozen=True, slots=True, order=True)
class Span:
    """
    Neighbouring positions of a shard, both ends included.

    Args:
        first: the first position.
        last: the last one; `first - 1` when there are none.
    """

    first: int
    last: int

    def __str__(self) -> str:
        """In words."""
        if self.last < self.first:
            return f"whatever came after position {self.last}"
        return f"positions {self.first} to {self.last}"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Stream:
    """
    One stream, declared once: it lands as segments, and any number of datasets are made of them (`StreamSegments`).

    Args:
        name: snake_case; its asset is `landing/<name>`.
        description: what one record is.
        source: what it is read from.
        first_day: the first business day that it has segments of.
        segment_bytes: a segment is closed at this size, keys and values uncompressed.
        segment_seconds: a segment is closed this long after its first record came, also when it is small.
        max_lag_seconds: further behind than this, the check `lag` fails.
        drain_schedule: cron, in business time: when Dagster drains it up to now. None: never by itself.
        drain_seconds: a drain up to now ends after this long, and the next one goes on.
        drain_bytes: and after so many bytes.
        lifecycle: how what has landed of it ages; None: it doesn't.
        owners: `team:name` or an e-mail address.
    """

    name: str
    description: str
    source: StreamSource
    first_day: date
    segment_bytes: int = 32 * 1024**2
    segment_seconds: float = 60.0
    max_lag_seconds: float = 900.0
    drain_schedule: str | None = "*/5 * * * *"
    drain_seconds: float = 240.0
    drain_bytes: int = 8 * 1024**3
    lifecycle: Lifecycle | None = None
    owners: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if IDENTIFIER.fullmatch(self.name) is None:
            raise DeclarationError(f"stream {self.name!r}: a name is snake_case and starts with a letter", "rename it")
        if not self.description.strip():
            raise DeclarationError(f"stream {self.name!r} has no description", "say what one record is")
        if isinstance(self.source, Postgres) and len(self.name) > _MOST_NAME:
            raise DeclarationError(
                f"stream {self.name!r}: the database's slot is named after it, and it has more than {_MOST_NAME} characters",
                "rename it",
            )
        for what in ("segment_bytes", "segment_seconds", "max_lag_seconds", "drain_seconds", "drain_bytes"):
            if getattr(self, what) <= 0:
                raise DeclarationError(f"stream {self.name!r}: {what} must be more than 0, not {getattr(self, what)}")

    def __hash__(self) -> int:
        return hash((self.name, self.source))

    @property
    def root(self) -> str:
        """The prefix of everything that lands of it."""
        return f"streams/{self.name}/"

    @cached_property
    def template(self) -> KeyTemplate:
        """Keys of its segments. The hour is that of arrival, in business time."""
        return KeyTemplate(f"{self.root}%Y/%m/%d/%H/{{shard}}.{{first}}-{{last}}.parquet")

    @property
    def position_digits(self) -> int:
        """Digits that positions are written with in names, so that names sort as positions do."""
        return _DIGITS[type(self.source)]

    def hour_prefix(self, hour: datetime) -> str:
        """The prefix of what arrived in an hour of business time."""
        return f"{self.root}{hour:%Y/%m/%d/%H}/"

    def segment_key(self, hour: datetime, shard: str, span: Span) -> str:
        """The key of a segment."""
        return f"{self.hour_prefix(hour)}{shard_name(shard)}.{self._written(span)}.parquet"

    def gap_key(self, hour: datetime, shard: str, span: Span) -> str:
        """The key of the note that records of a shard are gone for ever; found in *hour*."""
        return f"{self.hour_prefix(hour)}{shard_name(shard)}.{self._written(span)}.gap.json"

    def mark_key(self, hour: datetime, shard: str, at: "int | datetime") -> str:
        """The key of the note that a shard had nothing more after a position, or that it is read from a moment on."""
        at_moment = isinstance(at, datetime)
        where = f"from-{at:%Y%m%dT%H%M%S%f}Z" if at_moment else f"after-{at:0{self.position_digits}}"
        return f"{self.hour_prefix(hour)}{shard_name(shard)}.{where}.mark.json"

    def _written(self, span: Span) -> str:
        return f"{span.first:0{self.position_digits}}-{span.last:0{self.position_digits}}"


def shard_name(shard: str) -> str:
    """A shard's name as part of a key: what isn't a letter, a digit, `-` or `_` is percent-encoded."""
    return quote(shard, safe="-_").replace(".", "%2E").replace("~", "%7E")


_LANDED = re.compile(
    r"(?P<shard>[^/.]+)\.(?:(?P<first>[0-9]+)-(?P<last>[0-9]+)\.(?P<kind>parquet|gap\.json)"
    r"|after-(?P<after>-?[0-9]+)\.mark\.json|from-(?P<moment>[0-9]{8}T[0-9]{12})Z\.mark\.json)"
)


@plain_dataclass(frozen=True, slots=True)
class LandedName:
    """
    What a key below a stream's root says.

    Args:
        shard: whose.
        kind: `segment`, `gap`, or `mark`.
        span: positions that it holds, or that are gone; of a mark an empty one after which to go on; None for a mark that is a moment.
        moment: UTC; from when on the shard is read.
    """

    shard: str
    kind: Literal["segment", "gap", "mark"]
    span: Span | None
    moment: datetime | None = None

    @classmethod
    def parse(cls, key: str) -> "LandedName | None":
        """Read a key; None when it isn't one that the platform gives."""
        found = _LANDED.fullmatch(key.rpartition("/")[2])
        if found is None:
            return None
        shard = unquote(found["shard"])
        if found["kind"] is not None:
            kind: Literal["segment", "gap"] = "segment" if found["kind"] == "parquet" else "gap"
            return cls(shard, kind, Span(int(found["first"]), int(found["last"])))
        if found["after"] is not None:
            after = int(found["after"])
            return cls(shard, "mark", Span(after + 1, after))
        try:
            moment = datetime.strptime(found["moment"] + "+0000", "%Y%m%dT%H%M%S%f%z")
        except ValueError:
            return None
        return cls(shard, "mark", None, moment)


@dataclass(frozen=True, config=STRICT)
class JsonValues:
    """Values are JSON objects (RFC 8259, strictly). A column's source is a dotted path: `payment.method`."""


@dataclass(frozen=True, config=STRICT)
class AvroValues:
    """
    Values are Avro. A column's source is a dotted path.

    Args:
        schema: the writer's schema, as JSON. None: each value is framed as schema registries do, and the schema landed with it.
    """

    schema: str | None = None

    def __post_init__(self) -> None:
        try:
            json.loads(self.schema or "{}")
        except (ValueError, RecursionError) as error:
            raise DeclarationError(
                f"an Avro schema isn't JSON: {error}", "give the writer's schema as it stands"
            ) from error


@dataclass(frozen=True, config=STRICT)
class BytesValues:
    """
    Values aren't looked into: `@value` is all there is.

    Args:
        shown_as: text in UTF-8 (what isn't is quarantined), or hex digits.
    """

    shown_as: Literal["text", "hex"] = "text"


@dataclass(frozen=True, config=STRICT)
class DynamoDbChanges:
    """
    Values are records of a DynamoDB stream. A column's source is a dotted path into `operation` (INSERT, MODIFY, REMOVE), `keys`, `new` and
    `old` (the images; absent where the stream doesn't give them), `event_id`, `sequence_number`, `changed_at`. Numbers keep every digit.
    """


Values = JsonValues | AvroValues | BytesValues | DynamoDbChanges | CapturedValues
"""Captured changes are told by the fields of `change_log.py`; records of another table than the declared one are left out."""

EVERYTHING_ELSE = ("*",)
"""As `types`: the records whose type no other dataset of the stream takes, and those that have none."""

ENVELOPE_FIELDS = ("@shard", "@position", "@arrived_at", "@key", "@headers", "@value", "@is_tombstone")
"""Sources of what is around a value; beside them `@header.<name>`. `@is_tombstone` is `true` where there is no value."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Segments:
    """
    How a stream's segments are read as rows of one dataset.

    Args:
        values: what values are.
        routed_by: where a record's type is: a field of the value, or one of the envelope; None when every record is of this dataset.
        types: the types taken; `EVERYTHING_ELSE` for those that nobody else takes.
        others: the types that other datasets take; filled in where all datasets are put together.
        max_bytes: a segment that is larger once decompressed is rejected.
    """

    values: Values
    routed_by: str | None = None
    types: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    max_bytes: int = 4 * 1024**3


@dataclass(frozen=True, config=STRICT)
class StreamSegments:
    """
    The segments that a stream has landed as: a dataset's source. Several datasets may share one stream.

    Beside the columns, a raw table made of them has `_shard`, `_position`, `_arrived_at`, `_key` and `_headers`. A column's source is a
    field of
    the value, or one of `@shard`, `@position`, `@arrived_at`, `@key`, `@headers` (JSON), `@header.<name>`, `@value`, `@is_tombstone`.
    A dataset that takes `@value` keeps all of it: no member of it is unknown then.

    Args:
        stream: which.
        values: what its values are.
        routed_by: where a record's type is (`type`, or `@header.event-type`), when several kinds of record share the stream.
        types: the types that this dataset takes, or `EVERYTHING_ELSE`.
        others: filled in by the platform.
        load_every_seconds: how often new segments may start a run: each computes the days it touches again.
    """

    stream: Stream
    values: Values = JsonValues()
    routed_by: str | None = None
    types: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    load_every_seconds: int = 300

    def __post_init__(self) -> None:
        if (self.routed_by is None) != (not self.types):
            raise DeclarationError(
                f"stream {self.stream.name!r}: routed_by and types go together",
                "name the field of the type and the types wanted, or neither",
            )
        if isinstance(self.values, Captured) and self.routed_by is not None:
            raise DeclarationError(
                f"stream {self.stream.name!r}: captured changes are told apart by their table, not by {self.routed_by!r}",
                "leave routed_by and types out, and say table of its values",
            )
        source = self.stream.source
        if self.values == AvroValues() and not (isinstance(source, Kafka) and source.is_avro):
            raise DeclarationError(
                f"stream {self.stream.name!r}: its values are Avro, and no schema lands with them",
                "declare Kafka(is_avro=True) when a schema registry has the schemas, or AvroValues(schema=…)",
            )

    @cached_property
    def format(self) -> Segments:
        """How segments are read."""
        return Segments(values=self.values, routed_by=self.routed_by, types=self.types, others=self.others)

    @property
    def takes_the_rest(self) -> bool:
        """Whether it takes the records that nobody else takes."""
        return self.types == EVERYTHING_ELSE

    @property
    def templates(self) -> str:
        """The key template of the segments."""
        return self.stream.template.text

    @property
    def keys(self) -> tuple[KeyTemplate, ...]:
        """The same, compiled."""
        return (self.stream.template,)

    @property
    def captures(self) -> frozenset[str]:
        """What a key tells beside the day."""
        return frozenset(self.stream.template.captures)

    def match(self, key: str) -> tuple[date, dict[str, str]] | None:
        """The day and the captures of a segment's key, or None when it isn't one."""
        if self.span(key) is None:
            return None
        return self.stream.template.match(key)

    def span(self, key: str) -> tuple[str, Span] | None:
        """The shard and the positions of a segment's key, or None when it isn't one."""
        if not key.startswith(self.stream.root):
            return None
        name = LandedName.parse(key)
        if name is None or name.kind != "segment" or name.span is None or name.span.last < name.span.first:
            return None
        return name.shard, name.span
