"""
Pages of APIs: the envelope in which replies land, written and read.

A group of pages is a Parquet file with a row for each reply: what was asked, what came with it, and its body, byte for byte but for
secrets.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.api import PAGE_FIELDS, Pages
from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import Format
from ingestion_platform.formats import tables
from ingestion_platform.formats.records import Field, Records, RejectedRecord
from ingestion_platform.formats.texts import excerpt

_ENVELOPE: "list[pa.Field[Any]]" = [
    pa.field("request", pa.string(), nullable=False),
    pa.field("params", pa.string(), nullable=False),
    pa.field("page", pa.int32(), nullable=False),
    pa.field("url", pa.string(), nullable=False),
    pa.field("fetched_at", pa.timestamp("us", "UTC"), nullable=False),
    pa.field("headers", pa.string(), nullable=False),
    pa.field("skip", pa.int32(), nullable=False),
    pa.field("records", pa.int32(), nullable=False),
    pa.field("same", pa.string(), nullable=False),
    pa.field("is_stale", pa.bool_(), nullable=False),
    pa.field("next", pa.string()),
    pa.field("body", pa.binary(), nullable=False),
]
ENVELOPE = pa.schema(_ENVELOPE)

ReadInside: TypeAlias = Callable[[Format, bytes, Sequence[Field]], Records]


@dataclass(frozen=True, slots=True)
class Page:
    """
    One reply.

    Args:
        request: the URL that was asked first, behind `#` what `each` gave; the pages that follow it share it.
        params: what `each` gave for it.
        page: its number among those, from 1.
        url: what was asked for it, without secrets.
        fetched_at: UTC.
        headers: some of those that came.
        skip: records at its beginning that the page before has already.
        records: how many it has after those.
        same: digest of what makes two pages the same.
        is_stale: whether it stands in for a day on which the API was down.
        next: URL of the next page; None of the last.
        body: as it came, decompressed; empty where there is nothing.
    """

    request: str
    params: Mapping[str, str]
    page: int
    url: str
    fetched_at: datetime
    headers: Mapping[str, str]
    skip: int
    records: int
    same: str
    is_stale: bool
    next: str | None
    body: bytes = field(repr=False)


def write_pages(pages: Sequence[Page], *, endpoint: str, fetch: str, group: int, plan: str) -> bytes:
    """
    A group of pages as it lands.

    Args:
        pages: in the order in which they came.
        endpoint: its name.
        fetch: which one they are of.
        group: its number in the fetch.
        plan: digest of how they were asked for.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ENVELOPE.names}
    for page in pages:
        for name in ENVELOPE.names:
            value = getattr(page, name)
            columns[name].append(_json(value) if name in ("params", "headers") else value)
    metadata = {"endpoint": endpoint, "fetch": fetch, "group": str(group), "plan": plan}
    arrays = [pa.array(columns[one.name], one.type) for one in ENVELOPE]
    table = pa.Table.from_arrays(arrays, schema=ENVELOPE.with_metadata(metadata))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=64, write_page_checksum=True)
    return sink.getvalue()


def _json(value: Mapping[str, str]) -> str:
    return json.dumps(dict(value), sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Group:
    """
    A group of pages, opened.

    Args:
        fetch: which one it is of.
        number: its number in the fetch.
        plan: digest of how its pages were asked for.
        table: as `ENVELOPE`.
    """

    fetch: str
    number: int
    plan: str
    table: pa.Table

    def pages(self) -> Iterator[Page]:
        """Its pages, in order."""
        for batch in self.table.to_batches(64):
            for row in batch.to_pylist():
                yield Page(**{**row, "params": json.loads(row["params"]), "headers": json.loads(row["headers"])})


def open_group(content: bytes, max_bytes: int) -> Group:
    """
    Open a group of pages.

    Raises:
        ObjectRejected: it is none, or damaged, or larger than allowed.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
        metadata = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
        unpacked = sum(file.metadata.row_group(index).total_byte_size for index in range(file.metadata.num_row_groups))
        if unpacked > max_bytes:
            raise ObjectRejected(
                f"has {unpacked:,} bytes once decompressed, more than the {max_bytes:,} allowed", "raise max_bytes"
            )
        table = file.read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ObjectRejected(
            f"is a damaged group of pages: {excerpt(str(error), 200)}", "it is read again when it changes"
        ) from error
    if table.schema.remove_metadata() != ENVELOPE or not {"fetch", "group", "plan"} <= metadata.keys():
        raise ObjectRejected(
            f"is no group of pages: its columns {excerpt(', '.join(table.column_names), 200)} aren't those of one",
            "only the platform writes below apis/",
        )
    return Group(metadata["fetch"], int(metadata["group"]), metadata["plan"], table)


def read_pages(format: Pages, content: bytes, fields: Sequence[Field], read: ReadInside) -> Records:
    """
    Read a group of pages as rows.

    Args:
        format: what is inside.
        content: the group.
        fields: the values wanted of every record; those of the envelope by their names, `@param.…` what was asked with. Another
            `@…` is an attribute of an XML record.
        read: reads one page's body.

    Raises:
        ObjectRejected: it is no such group, or a page isn't as its format says.
    """
    group = open_group(content, format.max_bytes)
    inner = [one for one in fields if not _is_around(one.source)]
    found: list[pa.Table] = []
    rejected: list[RejectedRecord] = []
    unknown: dict[str, None] = {}
    departures: dict[str, None] = {}
    missing: set[str] | None = None
    before = 0
    for page in group.pages():
        if not page.body:
            continue
        try:
            records = read(format.inside, page.body, inner)
        except ObjectRejected as error:
            raise ObjectRejected(f"page {page.page} of {page.request}: {error.what}", error.hint) from error
        shift = before - page.skip
        rows = records.table.column("_row").to_numpy()
        table = records.table.slice(int(rows.searchsorted(page.skip, side="right")))
        rejected += [
            RejectedRecord(one.row + shift, f"page {page.page} of {page.request}: {one.reason}", one.record)
            for one in records.rejected
            if one.row > page.skip
        ]
        found.append(_with_envelope(fields, table, page, group, shift))
        departures.update(dict.fromkeys(records.departures))
        if table.num_rows:
            unknown.update(dict.fromkeys(records.unknown_columns))
            missing = set(records.missing_columns) if missing is None else missing & set(records.missing_columns)
        before += max(records.rows_read - page.skip, 0)
    whole = pa.concat_tables(found) if found else tables.schema(fields).empty_table()
    lacking = tuple(one.source for one in inner if missing and one.source in missing)
    return Records(whole, tuple(rejected), tuple(unknown), tuple(dict.fromkeys(lacking)), departures=tuple(departures))


def _with_envelope(fields: Sequence[Field], table: pa.Table, page: Page, group: Group, shift: int) -> pa.Table:
    """A page's rows with what is around them; their numbers moved by *shift*."""
    rows = table.num_rows
    numbers = table.column("_row").to_numpy() + np.int64(shift)
    columns: list[Any] = []
    for one in fields:
        if not _is_around(one.source):
            columns.append(table.column(one.name))
        elif one.source == "@position":
            began = "".join(filter(str.isdigit, group.fetch.partition("-")[0]))
            columns.append(pa.array([f"{began}{group.number:07}:{number}" for number in numbers], pa.string()))
        else:
            columns.append(pa.repeat(pa.scalar(_around(page, one.source), pa.string()), rows))
    columns += [table.column("_extra"), pa.array(numbers)]
    return pa.Table.from_arrays(columns, schema=tables.schema(fields))


def _is_around(source: str) -> bool:
    """Whether a field is of the envelope, and not of the record."""
    return source in PAGE_FIELDS or source.startswith("@param.")


def _around(page: Page, source: str) -> str | None:
    match source:
        case "@fetched_at":
            return page.fetched_at.astimezone(UTC).isoformat(timespec="microseconds")
        case "@page":
            return str(page.page)
        case "@url":
            return page.url
        case "@is_stale":
            return "true" if page.is_stale else "false"
        case _:
            return page.params.get(source.removeprefix("@param."))
