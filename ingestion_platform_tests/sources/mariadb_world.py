"""MariaDB for the behaviour suite of captures, and for the campaign against them."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import date

from ingestion_platform.sources.opening import Connections, open_reader
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.stream import CapturedDatabase, MariaDb, Stream
from ingestion_platform_tests.sources import capture_kills
from ingestion_platform_tests.sources.database_world import TABLES
from ingestion_platform_tests.sources.mariadb_server import Server


class MariaDbWorld:
    """A database of its own on a server that others use too."""

    kind = "mariadb"

    def __init__(self, server: Server) -> None:
        self.server = server
        self.database = server.new_database(
            "create table customers (id bigint primary key, name text, town text, notes text)",
            "create table orders (id bigint primary key, customer_id bigint, amount numeric(12,2))",
        )

    def declared(self, **changes: object) -> Stream:
        """See `DatabaseWorld`."""
        names = tuple(f"{self.database}.{table}" for table in TABLES)
        source = MariaDb(database="shop", tables=changes.pop("tables", names), **changes.pop("source", {}))  # type: ignore[arg-type]
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
        return f"{self.database}.{table}"

    def run(self, *statements: str) -> None:
        """See `DatabaseWorld`; a statement that changes a table's definition commits what was before it."""
        with closing(self.server.connect(self.database)) as connection, connection.cursor() as cursor:
            connection.begin()
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def rows(self, table: str) -> list[tuple[str | None, ...]]:
        """See `DatabaseWorld`."""
        columns = ", ".join(f"cast({column} as char)" for column in TABLES[table])
        return self.server.run(f"select {columns} from {table} order by id", database=self.database)

    def one(self, query: str) -> object:
        """The first value of a query's first row."""
        found = self.server.run(query, database=self.database)
        return found[0][0] if found else None


class MariaDbBank:
    """See `capture_kills.Bank`."""

    module = "ingestion_platform.sources.mariadb"

    def __init__(self, server: Server) -> None:
        self.name = server.new_database(
            "create table accounts (id bigint primary key, version int, balance numeric(14,2), notes text)",
            "create table ledger (id bigint auto_increment primary key, account bigint, delta numeric(14,2))",
            "create table waiting (id bigint auto_increment primary key, account bigint)",
            f"insert into accounts select seq, 0, 0, repeat('n', 3000) from seq_1_to_{capture_kills.ACCOUNTS}",
        )
        self.names: Mapping[str, str] = {table: f"{self.name}.{table}" for table in capture_kills.TABLES}
        self.source: CapturedDatabase = MariaDb(database="bank", tables=tuple(self.names.values()))
        self.properties = server.properties(self.name)
        self._connection = server.connect(self.name)

    def run(self, statements: Sequence[str]) -> None:
        """See `Bank`; a TRUNCATE commits what was before it."""
        with self._connection.cursor() as cursor:
            self._connection.begin()
            for statement in statements:
                cursor.execute(statement)
            self._connection.commit()

    def rows(self, table: str, columns: Sequence[str]) -> list[tuple[str | None, ...]]:
        """See `Bank`."""
        listed = ", ".join(f"cast({column} as char)" for column in columns)
        with self._connection.cursor() as cursor:
            cursor.execute(f"select {listed} from {table}")
            return list(cursor.fetchall())
