"""PostgreSQL for the behaviour suite of captures, and for the campaign against them."""

from collections.abc import Mapping, Sequence
from datetime import date

from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import CapturedDatabase, Postgres, Stream
from ingestion_platform_tests.sources import capture_kills
from ingestion_platform_tests.sources.database_world import TABLES
from ingestion_platform_tests.sources.postgres_server import Server

NAMES = tuple(f"public.{table}" for table in TABLES)


class PostgresWorld:
    """A database of its own on a server that others use too."""

    kind = "postgres"

    def __init__(self, server: Server) -> None:
        self.server = server
        self.database = server.new_database(
            "create table customers (id bigint primary key, name text, town text, notes text)",
            # As it is, text of ten thousand letters x is compressed away.
            "alter table customers alter notes set storage external",
            "create table orders (id bigint primary key, customer_id bigint, amount numeric(12,2))",
        )

    def declared(self, **changes: object) -> Stream:
        """See `DatabaseWorld`."""
        source = Postgres(database="shop", tables=changes.pop("tables", NAMES), **changes.pop("source", {}))  # type: ignore[arg-type]
        said: dict[str, object] = {
            "name": f"shop_{self.database}",
            "description": "Changes.",
            "first_day": date(2024, 10, 1),
            "source": source,
        }
        return Stream(**said | changes)  # type: ignore[arg-type]

    def reader(self, stream: Stream) -> StreamReader:
        """See `DatabaseWorld`."""
        return open_reader(stream, Connections(databases={"shop": self.server.properties(self.database)}))

    def type_of(self, table: str) -> str:
        """See `DatabaseWorld`."""
        return f"public.{table}"

    def run(self, *statements: str) -> None:
        """See `DatabaseWorld`."""
        with self.server.connect(self.database) as connection, connection.transaction():
            for statement in statements:
                connection.execute(statement)

    def rows(self, table: str) -> list[tuple[str | None, ...]]:
        """See `DatabaseWorld`."""
        columns = ", ".join(f"{column}::text" for column in TABLES[table])
        with self.server.connect(self.database) as connection:
            return connection.execute(f"select {columns} from {table} order by id").fetchall()

    def one(self, query: str) -> object:
        """The first value of a query's first row."""
        with self.server.connect(self.database) as connection:
            found = connection.execute(query).fetchone()
            return found[0] if found else None


class PostgresBank:
    """See `capture_kills.Bank`."""

    module = "ingestion_platform.sources.postgres"

    def __init__(self, server: Server) -> None:
        self.name = server.new_database(
            "create table accounts (id bigint primary key, version int, balance numeric(14,2), notes text)",
            # So that it isn't sent with every change.
            "alter table accounts alter notes set storage external",
            "create table ledger (id bigserial primary key, account bigint, delta numeric(14,2))",
            "create table waiting (id bigserial primary key, account bigint)",
            f"insert into accounts select i, 0, 0, repeat('n', 3000) from generate_series(1, {capture_kills.ACCOUNTS}) i",
        )
        self.names: Mapping[str, str] = {table: f"public.{table}" for table in capture_kills.TABLES}
        self.source: CapturedDatabase = Postgres(database="bank", tables=tuple(self.names.values()))
        self.properties = server.properties(self.name)
        self._connection = server.connect(self.name)

    def run(self, statements: Sequence[str]) -> None:
        """See `Bank`."""
        self._connection.execute("begin; " + "; ".join(statements) + "; commit")

    def rows(self, table: str, columns: Sequence[str]) -> list[tuple[str | None, ...]]:
        """See `Bank`."""
        listed = ", ".join(f"{column}::text" for column in columns)
        return self._connection.execute(f"select {listed} from {table}").fetchall()
