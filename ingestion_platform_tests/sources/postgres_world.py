"""PostgreSQL for the behaviour suite of captures."""

from datetime import date

from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import Postgres, Stream
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
