"""
The warehouse, the streams, the APIs, the databases and the remotes as steps and sensors get them.

Nothing is opened before the first question; each step and each sensor tick opens its own and closes it, so that what it changed is
published for readers when it ends.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from ingestion_platform.api import Api, Endpoint
from ingestion_platform.database import Database, Extract
from ingestion_platform.landing import open_landing
from ingestion_platform.remote import RemoteFiles
from ingestion_platform.settings import ApiSettings, RemoteSettings, Settings
from ingestion_platform.sources.copied import LandedRemote
from ingestion_platform.sources.extract import FIRST_WAIT_SECONDS, OpenDatabase
from ingestion_platform.sources.extracted import LandedExtract
from ingestion_platform.sources.fetch import Client
from ingestion_platform.sources.fetched import LandedEndpoint
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.opening import Connections, open_client, open_database, open_reader, open_remote
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.sources.remotes import RemoteFolder
from ingestion_platform.sources.spool import Spool
from ingestion_platform.stream import CapturedDatabase, Stream
from ingestion_platform.warehouse import Warehouse


class WarehouseResource:
    """
    Opens the warehouse for a step or a tick.

    Args:
        open_warehouse: makes one; does no I/O itself.
        zone: business time.
    """

    def __init__(self, open_warehouse: Callable[[], Warehouse], zone: ZoneInfo) -> None:
        self._open_warehouse = open_warehouse
        self.zone = zone

    def today(self) -> date:
        """The business day that it is now."""
        return datetime.now(self.zone).date()

    def unopened(self) -> Warehouse:
        """A warehouse to make a shadow of. Nobody closes it: that would make the file anew that people open."""
        return self._open_warehouse()

    @contextmanager
    def opened(self) -> Iterator[Warehouse]:
        """A warehouse, closed at the end whatever happens."""
        warehouse = self._open_warehouse()
        try:
            yield warehouse
        finally:
            warehouse.close()


def is_drained(stream: Stream, settings: Settings) -> bool:
    """Whether a deployment drains a stream: its settings say so, and where the database is, if it is one's capture."""
    if not settings.drains(stream.name):
        return False
    return not isinstance(stream.source, CapturedDatabase) or stream.source.database in settings.database_properties()


class StreamsResource:
    """
    Opens streams for a step or the worker.

    Args:
        settings: of the deployment; its landing zone and servers are opened when asked for.
        open_reader: makes a stream's reader; default: the one of its kind.
    """

    def __init__(
        self, settings: Settings, open_reader: Callable[[Stream, Connections], StreamReader] = open_reader
    ) -> None:
        self._settings = settings
        self._open_reader = open_reader
        self.zone = settings.zone

    def drains(self, stream: Stream) -> bool:
        """Whether this deployment drains it."""
        return is_drained(stream, self._settings)

    def landed(self, stream: Stream) -> LandedStream:
        """The stream in the landing zone."""
        return LandedStream(stream, open_landing(*self._settings.landing_places), self.zone)

    def reader(self, stream: Stream) -> StreamReader:
        """A reader of the stream."""
        return self._open_reader(stream, Connections(self._settings.kafka(), self._settings.database_properties()))

    def today(self) -> date:
        """The business day that it is now."""
        return datetime.now(self.zone).date()


class ApisResource:
    """
    Opens endpoints of APIs for a step.

    Args:
        settings: of the deployment; its landing zone is opened when asked for.
        open_client: makes what asks an API; default: over the network.
        now: the moment, UTC.
    """

    def __init__(
        self,
        settings: Settings,
        open_client: Callable[[Api, Mapping[str, ApiSettings], Path], AbstractContextManager[Client]] = open_client,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._open_client = open_client
        self.now = now
        self.zone = settings.zone

    def asks(self, api: Api) -> bool:
        """Whether this deployment asks it: the file of INGESTION_APIS has a table for it, if only an empty one."""
        return api.name in self._settings.api_settings()

    def landed(self, endpoint: Endpoint) -> LandedEndpoint:
        """The endpoint in the landing zone."""
        return LandedEndpoint(endpoint, open_landing(*self._settings.landing_places))

    def client(self, api: Api) -> AbstractContextManager[Client]:
        """What asks the API; to be closed at the end."""
        return self._open_client(api, self._settings.api_settings(), self._settings.warehouse_folder)

    def today(self) -> date:
        """The business day that it is now."""
        return self.now().astimezone(self.zone).date()


class DatabasesResource:
    """
    Opens databases for a step that extracts.

    Args:
        settings: of the deployment; its landing zone is opened when asked for.
        open_database: makes what extracts; default: the one of its engine.
        now: the moment, UTC.
        first_wait_seconds: before an extract that was interrupted is begun anew.
    """

    def __init__(
        self,
        settings: Settings,
        open_database: Callable[[Database, Connections], OpenDatabase] = open_database,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self.first_wait_seconds = first_wait_seconds
        self._settings = settings
        self._open_database = open_database
        self.now = now
        self.zone = settings.zone

    def extracts(self, database: Database) -> bool:
        """Whether this deployment reads it: the file of INGESTION_DATABASES has a table for it."""
        return database.name in self._settings.database_properties()

    def landed(self, extract: Extract) -> LandedExtract:
        """The extract in the landing zone."""
        return LandedExtract(extract, open_landing(*self._settings.landing_places))

    def opened(self, database: Database) -> OpenDatabase:
        """The database; nothing is connected yet."""
        settings = self._settings
        return self._open_database(
            database, Connections(databases=settings.database_properties(), replicas=settings.replica_properties())
        )

    def today(self) -> date:
        """The business day that it is now."""
        return self.now().astimezone(self.zone).date()


class RemotesResource:
    """
    Opens remotes for a step.

    Args:
        settings: of the deployment; its landing zone is opened when asked for.
        open_remote: makes the folder that the files stand in; default: as the URL and the settings say.
        now: the moment, UTC.
    """

    def __init__(
        self,
        settings: Settings,
        open_remote: Callable[[RemoteFiles, Mapping[str, RemoteSettings]], RemoteFolder] = open_remote,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._open_remote = open_remote
        self.now = now
        self.zone = settings.zone

    def copies(self, remote: RemoteFiles) -> bool:
        """Whether this deployment copies it: the file of INGESTION_REMOTES has a table for it, if only an empty one."""
        return remote.name in self._settings.remote_settings()

    def landed(self, remote: RemoteFiles) -> LandedRemote:
        """The remote in the landing zone."""
        return LandedRemote(remote, open_landing(self._settings.landing))

    def spool(self, remote: RemoteFiles) -> Spool:
        """Where its large files are kept on their way, beside the warehouse."""
        return Spool(self._settings.warehouse_folder / "spool" / remote.name)

    @contextmanager
    def folder(self, remote: RemoteFiles) -> Iterator[RemoteFolder]:
        """The folder that the files stand in; closed at the end."""
        folder = self._open_remote(remote, self._settings.remote_settings())
        try:
            yield folder
        finally:
            folder.close()
