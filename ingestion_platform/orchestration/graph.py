"""
Which table is made of which: the tables of all layers by key (`raw.sales`), what each reads, and what follows from each.

Belongs here: questions about the declarations as a whole. Doesn't: Dagster's own objects (`assets.py` makes them of this).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import dagster as dg

from ingestion_platform.api import ApiPages, Endpoint
from ingestion_platform.database import Extract, ExtractedRows
from ingestion_platform.dataset import Dataset
from ingestion_platform.remote import RemoteFiles, RemoteObjects
from ingestion_platform.stream import Stream, StreamSegments
from ingestion_platform.warehouse import SqlTable


@dataclass(frozen=True)
class Table:
    """
    One table of the warehouse.

    Args:
        key: `layer.name`.
        first_day: None for a table without days.
        reads: keys of the tables it is made of.
        dataset: whose raw or processed table it is.
        sql: the file it is computed by.
    """

    key: str
    first_day: date | None
    reads: tuple[str, ...]
    dataset: Dataset | None = None
    sql: SqlTable | None = None

    @property
    def layer(self) -> str:
        """`raw`, `processed` or `reports`."""
        return self.key.split(".", 1)[0]

    @property
    def is_daily(self) -> bool:
        """Whether it has days."""
        return self.first_day is not None

    def has_day(self, day: date) -> bool:
        """Whether *day* isn't before its first; the last one is the calendar's."""
        return self.first_day is not None and self.first_day <= day


class Graph:
    """All tables, upstream before downstream."""

    def __init__(self, datasets: Mapping[str, Dataset], sql_tables: Mapping[str, SqlTable]) -> None:
        self.datasets = datasets
        self.tables: dict[str, Table] = {}
        for dataset in datasets.values():
            references = sorted({other for _, other, _ in dataset.references})
            reads = (dataset.raw, *(datasets[other].processed for other in references))
            first_day = dataset.daily.from_
            self.tables[dataset.raw] = Table(dataset.raw, first_day, (), dataset=dataset)
            self.tables[dataset.processed] = Table(dataset.processed, first_day, reads, dataset=dataset)
        for sql in sql_tables.values():
            first = sql.first_day if sql.is_daily else None
            self.tables[sql.key] = Table(sql.key, first, tuple(sql.depends_on), sql=sql)
        self._order = {key: position for position, key in enumerate(self._sorted())}

    def _sorted(self) -> list[str]:
        done: dict[str, None] = {}

        def visit(key: str) -> None:
            if key not in done:
                for other in self.tables[key].reads:
                    visit(other)
                done[key] = None

        for key in sorted(self.tables):
            visit(key)
        return list(done)

    def __iter__(self) -> Iterator[Table]:
        return (self.tables[key] for key in self._order)

    def in_order(self, keys: Iterable[str]) -> tuple[str, ...]:
        """*keys*, each once, upstream before downstream."""
        return tuple(sorted(set(keys), key=self._order.__getitem__))

    def followers(self, keys: Iterable[str]) -> tuple[str, ...]:
        """The SQL tables that are made, directly or not, of these; in order, *keys* themselves left out."""
        start = set(keys)
        reached = set(start)
        for key in self._order:
            if self.tables[key].sql is not None and reached.intersection(self.tables[key].reads):
                reached.add(key)
        return self.in_order(reached - start)

    def chain(self, dataset: Dataset) -> tuple[str, ...]:
        """What one run covers when files of *dataset* arrive: raw, processed, and every report made of it."""
        return (dataset.raw, dataset.processed, *self.followers([dataset.processed]))

    def computed(self) -> tuple[str, ...]:
        """Every table but the raw ones, in order."""
        return tuple(key for key in self._order if self.tables[key].layer != "raw")


def asset_key(table: str) -> dg.AssetKey:
    """`raw.sales` → `raw/sales`."""
    return dg.AssetKey(table.split(".", 1))


def table_of(key: dg.AssetKey) -> str:
    """`raw/sales` → `raw.sales`."""
    return ".".join(key.path)


def landing_key(dataset: Dataset) -> dg.AssetKey:
    """The asset that stands for what has landed: of a stream, an endpoint, a remote or an extract one for all that is made of it."""
    match dataset.source:
        case StreamSegments(stream=stream):
            return stream_key(stream)
        case ApiPages(endpoint=endpoint):
            return fetched_key(endpoint)
        case RemoteObjects(remote=remote):
            return fetched_key(remote)
        case ExtractedRows(extract=extract):
            return fetched_key(extract)
        case _:
            return dg.AssetKey(["landing", dataset.name])


def fetched_key(fetched: Endpoint | RemoteFiles | Extract) -> dg.AssetKey:
    """The asset that stands for what has landed of an endpoint, a remote or an extract."""
    return dg.AssetKey(["landing", fetched.name])


def stream_key(stream: Stream) -> dg.AssetKey:
    """The asset that stands for what has landed of a stream."""
    return dg.AssetKey(["landing", stream.name])
