"""
The reader of a declared stream, the client of a declared API, the folder of a declared remote: which one it takes, and what that is told of
the deployment.

Belongs here: choosing. Doesn't: any client; each is imported when something of its kind is opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ingestion_platform.api import SECRETS, Api
from ingestion_platform.database import Database
from ingestion_platform.errors import DeclarationError, SettingsError
from ingestion_platform.remote import RemoteFiles
from ingestion_platform.settings import ApiSettings, RemoteSettings
from ingestion_platform.sources.reading import StreamReader
from ingestion_platform.sources.remotes import RemoteFolder
from ingestion_platform.stream import DynamoDbStream, Kafka, Kinesis, MariaDb, Postgres, Stream

if TYPE_CHECKING:
    from ingestion_platform.sources.extract import OpenDatabase
    from ingestion_platform.sources.http_client import Access, ApiClient


@dataclass(frozen=True)
class Connections:
    """
    What a deployment knows of its streams' servers. Kinesis and DynamoDB are reached as boto3 reads its environment.

    Args:
        kafka: cluster → librdkafka's properties, secrets among them.
        databases: database → its client's properties, secrets among them.
        replicas: the same of replicas, which extracts read from.
    """

    kafka: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    databases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    replicas: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Connections(kafka={sorted(self.kafka)}, databases={sorted(self.databases)})"


def is_configured(stream: Stream, connections: Connections) -> bool:
    """Whether the deployment says where the stream's server is; AWS is always somewhere."""
    match stream.source:
        case Kafka(cluster=cluster):
            return cluster in connections.kafka
        case Postgres(database=database) | MariaDb(database=database):
            return database in connections.databases
        case _:
            return True


def open_reader(stream: Stream, connections: Connections) -> StreamReader:
    """
    The reader of a stream. Nothing is connected before it is read.

    Raises:
        SettingsError: the deployment doesn't say where its server is.
    """
    match stream.source:
        case Kinesis():
            from ingestion_platform.sources.kinesis import KinesisReader

            return KinesisReader(stream.source)
        case Kafka():
            from ingestion_platform.sources.kafka import KafkaReader

            if not is_configured(stream, connections):
                raise SettingsError(
                    f"stream {stream.name!r} is read from Kafka cluster {stream.source.cluster!r}, and no such cluster is configured",
                    "set INGESTION_KAFKA_SERVERS, or name it in the file of INGESTION_KAFKA_CLUSTERS",
                )
            return KafkaReader(stream.source, connections.kafka[stream.source.cluster])
        case DynamoDbStream():
            from ingestion_platform.sources.dynamodb_streams import DynamoDbStreamReader

            return DynamoDbStreamReader(stream.source)
        case Postgres():
            from ingestion_platform.sources.postgres import BATCH_BYTES, PostgresReader

            properties = _properties(
                connections.databases, stream.source.database, "postgresql", f"stream {stream.name!r} captures"
            )
            # Segments are closed between batches: so no transaction is torn that fits into one.
            return PostgresReader(
                stream.source, properties, name=stream.name, batch_bytes=min(BATCH_BYTES, stream.segment_bytes // 4)
            )
        case MariaDb():
            from ingestion_platform.sources.mariadb import BATCH_BYTES, MariaDbReader

            properties = _properties(
                connections.databases, stream.source.database, "mariadb", f"stream {stream.name!r} captures"
            )
            return MariaDbReader(
                stream.source, properties, name=stream.name, batch_bytes=min(BATCH_BYTES, stream.segment_bytes // 4)
            )


def _properties(known: Mapping[str, Mapping[str, str]], database: str, kind: str, who: str) -> dict[str, str]:
    """
    A database's properties, without the word for what kind it is.

    Args:
        known: database → its properties.
        database: which.
        kind: what it is declared as.
        who: wants it, as messages begin.

    Raises:
        SettingsError: there is none, or it is of another kind.
    """
    if database not in known:
        raise SettingsError(
            f"{who} database {database!r}, and no such database is configured",
            f"give it a table [{database}] in the file of INGESTION_DATABASES",
        )
    properties = dict(known[database])
    found = properties.pop("kind", "postgresql")
    if found != kind:
        raise SettingsError(
            f"{who} database {database!r} as one of kind {kind!r}, and the file of INGESTION_DATABASES says {found!r}",
            f'say kind = "{kind}" there, or declare it otherwise',
        )
    return properties


def open_database(database: Database, connections: Connections) -> "OpenDatabase":
    """
    A database to extract from. Nothing is connected before it is read.

    Raises:
        SettingsError: the deployment doesn't say where it is.
    """
    is_replica = database.from_replica and database.name in connections.replicas
    known = connections.replicas if is_replica else connections.databases
    properties = _properties(known, database.name, database.engine, "an extract reads")
    if database.engine == "mariadb":
        from ingestion_platform.sources.mariadb_extract import MariaDbDatabase

        return MariaDbDatabase(database, properties, is_replica=is_replica)
    from ingestion_platform.sources.postgres_extract import PostgresDatabase

    return PostgresDatabase(database, properties, is_replica=is_replica)


def access(api: Api, said: Mapping[str, ApiSettings]) -> "Access":
    """
    What the deployment knows of an API.

    Args:
        api: as declared.
        said: what the settings say of APIs, by name.

    Raises:
        SettingsError: the settings say what the API has no use for, or what it couldn't declare.
    """
    from ingestion_platform.sources.http_client import Access

    own = said.get(api.name, ApiSettings())
    known = SECRETS[type(api.auth)] if api.auth is not None else ()
    for name in own.secrets:
        if name not in known:
            raise SettingsError(
                f"the file of INGESTION_APIS: [{api.name}] has {name!r}, which it has no use for",
                f"it may have {', '.join((*known, 'base_url', 'private_hosts'))}",
            )
    private_hosts = api.private_hosts if own.private_hosts is None else own.private_hosts
    base_url = api.base_url if own.base_url is None else own.base_url
    try:
        replace(api, base_url=base_url, private_hosts=private_hosts)
    except DeclarationError as error:
        # What is no base URL may hold a password all the same.
        what = error.what.replace(repr(base_url), "in it")
        raise SettingsError(f"the file of INGESTION_APIS: {what}", error.hint) from None
    return Access(base_url, own.secrets, private_hosts)


def open_client(api: Api, said: Mapping[str, ApiSettings], folder: Path) -> "ApiClient":
    """
    The client of an API. Nothing is connected before it is asked.

    Args:
        api: as declared.
        said: what the settings say of APIs, by name.
        folder: the warehouse's: all processes of the machine keep the API's pace in a file there.

    Raises:
        SettingsError: a secret is missing, or the settings say what can't be.
    """
    from ingestion_platform.sources.http_client import ApiClient
    from ingestion_platform.sources.pace import Pace

    return ApiClient(api, access(api, said), Pace(api.rate, folder / "pace" / f"{api.name}.pace"))


def open_remote(remote: RemoteFiles, said: Mapping[str, RemoteSettings]) -> RemoteFolder:
    """
    The folder that remote files stand in. Nothing is connected before it is asked.

    Args:
        remote: as declared.
        said: what the settings say of remotes, by name.

    Raises:
        SettingsError: something that is needed isn't said, or can't be.
    """
    own = said.get(remote.name, RemoteSettings())
    where = f"the file of INGESTION_REMOTES: [{remote.name}]"
    if own.url is not None:
        try:
            remote = replace(remote, url=own.url)
        except DeclarationError as error:
            # What is no URL may hold a password all the same.
            raise SettingsError(f"{where}: {error.what.replace(repr(own.url), 'in it')}", error.hint) from None
    scheme = urlsplit(remote.url).scheme.lower() if "://" in remote.url else ""
    if scheme == "sftp":
        return _open_sftp(remote.url, own, where)
    if scheme in ("", "file"):
        from ingestion_platform.sources.local_folder import LocalFolder

        if own.access:
            raise SettingsError(
                f"{where} has {sorted(own.access)}, which a folder of this machine has no use for", "leave them out"
            )
        return LocalFolder(remote.url.partition("://")[2] if scheme else remote.url)
    from ingestion_platform.sources.fsspec_folder import FsspecFolder

    return FsspecFolder(remote.url, own.access)


def _open_sftp(url: str, own: RemoteSettings, where: str) -> RemoteFolder:
    from ingestion_platform.sources.sftp import SftpAccess, SftpFolder

    known = [one.name for one in fields(SftpAccess)]
    for name, value in own.access.items():
        if name not in known:
            raise SettingsError(f"{where} has {name!r}, which SFTP has no use for", f"it may have {', '.join(known)}")
        if not isinstance(value, str):
            raise SettingsError(f"{where}: {name!r} is no text", f'as in {name} = "…"')
    if not own.access.get("username"):
        raise SettingsError(f"{where} has no username", "who is the platform there?")
    if bool(own.access.get("known_hosts")) == bool(own.access.get("host_key")):
        raise SettingsError(
            f"{where} must have either known_hosts or host_key: whose host key it is, is always checked",
            'known_hosts names a file; or host_key = "ssh-ed25519 AAAA…", as the server\'s owner or ssh-keyscan says it',
        )
    return SftpFolder(url, SftpAccess(**own.access))
