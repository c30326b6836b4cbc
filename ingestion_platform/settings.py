"""
The only reader of the environment: one frozen `Settings`.

A file `ingestion.env` in the working directory gives what the environment doesn't; variables of the environment win. It isn't
called `.env`: Dagster reads that itself and lets it win over the environment, so that its commands and ours would see different settings.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ingestion_platform.errors import SettingsError


@dataclass(frozen=True)
class ApiSettings:
    """
    What a deployment says of an API.

    Args:
        base_url: instead of the declared one; None: that.
        private_hosts: instead of what is declared; None: that.
        secrets: all else, by name.
    """

    base_url: str | None = None
    private_hosts: bool | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class RemoteSettings:
    """
    What a deployment says of a remote.

    Args:
        url: instead of the declared one; None: that.
        access: all else, by name: who one is, secrets, what is known of the host.
    """

    url: str | None = None
    access: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Settings(BaseSettings):
    """What a deployment decides. Each field is the variable `INGESTION_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="INGESTION_", env_file="ingestion.env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    landing: str = Field("data/landing", description="root of the landing zone: a folder, or `s3://bucket/prefix`")
    landing_warm: str = Field(
        "", description="folder, on another disk, that a landing folder's objects age into; empty: they don't"
    )
    landing_cold: str = Field("", description="likewise, when they have aged more")
    warehouse: Path = Field(
        Path("data/warehouse.duckdb"),
        description="the DuckDB file that people open; the tables' Parquet files and the ledger stand beside it",
    )
    publish: Path = Field(
        Path("data/published"), description="where finished reports are also written as Parquet and CSV"
    )
    timezone: str = Field("Africa/Johannesburg", description="the business day")
    pii_salt: SecretStr | None = Field(
        None, description="salt of hashed columns; without it, tables with hashed columns aren't processed"
    )
    notice_webhook: SecretStr | None = Field(
        None, description="URL that failed runs and checks are posted to as JSON; without it they are only logged"
    )
    streams: str = Field(
        "", description="streams that are drained from here, by name, separated by commas; `all`: every declared one"
    )
    kafka_servers: str = Field("", description="`host:port,…` of the Kafka cluster called `default`")
    kafka_clusters: Path | None = Field(
        None,
        description="TOML file with a table of librdkafka's properties for each Kafka cluster, secrets among them",
    )
    apis: Path | None = Field(
        None,
        description="TOML file with a table for each API: its secrets; `base_url` and `private_hosts` where they aren't as declared",
    )
    remotes: Path | None = Field(
        None,
        description="TOML file with a table for each remote: user, secrets, host key; `url` where it isn't as declared",
    )
    databases: Path | None = Field(
        None,
        description="TOML file with a table for each database: its `kind` (postgresql, mariadb), and its client's properties, secrets among"
        " them; one without a table isn't asked",
    )
    sinks: Path | None = Field(
        None,
        description="TOML file with a table for each sink that alerts of live rules are told to, secrets among them; none: nobody is told",
    )
    threads: int = Field(0, ge=0, description="threads for reading and computing; 0: one per core")
    memory_limit: str = Field("", description="DuckDB's memory limit, as in `2GB`; empty: DuckDB's own default")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise SettingsError(
                f"INGESTION_TIMEZONE: no time zone is called {name!r}", "as in Africa/Johannesburg"
            ) from error
        return name

    @classmethod
    def load(cls) -> Self:
        """
        Read the environment.

        Raises:
            SettingsError: a variable has a value that isn't allowed; the message names it.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = "INGESTION_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{variable}: {first['msg']}", "see the README's settings") from error

    def drains(self, stream: str) -> bool:
        """Whether this deployment drains a stream."""
        named = {name.strip() for name in self.streams.split(",")}
        return "all" in named or stream in named

    def kafka(self) -> dict[str, dict[str, str]]:
        """
        Kafka clusters by name, each with librdkafka's properties.

        Raises:
            SettingsError: the file isn't there, or isn't one of tables of texts.
        """
        clusters: dict[str, dict[str, str]] = {}
        if self.kafka_clusters is not None:
            where = f"INGESTION_KAFKA_CLUSTERS: {self.kafka_clusters}"
            found = _tables(self.kafka_clusters, where, 'as in [default] and "bootstrap.servers" = "host:9092"')
            clusters = {cluster: _texts(properties) for cluster, properties in found.items()}
        if self.kafka_servers:
            clusters.setdefault("default", {})["bootstrap.servers"] = self.kafka_servers
        return clusters

    def api_settings(self) -> dict[str, ApiSettings]:
        """
        What is said of APIs, by their names.

        Raises:
            SettingsError: the file isn't there, or isn't one of tables of texts.
        """
        if self.apis is None:
            return {}
        where = f"INGESTION_APIS: {self.apis}"
        said = {}
        for api, table in _tables(self.apis, where, 'as in [weather] and key = "…"').items():
            rest = dict(table)
            base_url, private_hosts = rest.pop("base_url", None), rest.pop("private_hosts", None)
            if not isinstance(base_url, str | None):
                raise SettingsError(f"{where}: base_url of {api!r} is no text", 'as in base_url = "https://…"')
            if not isinstance(private_hosts, bool | None):
                raise SettingsError(f"{where}: private_hosts of {api!r} is neither true nor false", "without quotes")
            for name, value in rest.items():
                if not isinstance(value, str):
                    raise SettingsError(f"{where}: {name!r} of {api!r} is no text", f'as in {name} = "…"')
            said[api] = ApiSettings(base_url, private_hosts, rest)
        return said

    def database_properties(self) -> dict[str, dict[str, str]]:
        """
        Databases by name, each with its client's properties.

        Raises:
            SettingsError: the file isn't there, or isn't one of tables.
        """
        if self.databases is None:
            return {}
        return {database: _texts(properties) for database, (properties, _) in self._databases().items()}

    def replica_properties(self) -> dict[str, dict[str, str]]:
        """
        Databases that have a replica to extract from, each with its client's properties there.

        Raises:
            SettingsError: the file isn't there, or isn't one of tables.
        """
        if self.databases is None:
            return {}
        return {
            database: _texts({**properties, **replica})
            for database, (properties, replica) in self._databases().items()
            if replica is not None
        }

    def _databases(self) -> dict[str, tuple[dict[str, Any], dict[str, Any] | None]]:
        """What the file says of each database, and what is different at its replica."""
        assert self.databases is not None, "whoever asks has a file"
        where = f"INGESTION_DATABASES: {self.databases}"
        said = {}
        for database, table in _tables(self.databases, where, 'as in [shop] and host = "…"').items():
            rest = dict(table)
            replica = rest.pop("replica", None)
            if not isinstance(replica, dict | None):
                raise SettingsError(f"{where}: replica of {database!r} is no table", f"as in [{database}.replica]")
            for name, value in {**rest, **(replica or {})}.items():
                if isinstance(value, dict | list):
                    raise SettingsError(f"{where}: {name!r} of {database!r} is no text", f'as in {name} = "…"')
            said[database] = (rest, replica)
        return said

    def remote_settings(self) -> dict[str, RemoteSettings]:
        """
        What is said of remotes, by their names.

        Raises:
            SettingsError: the file isn't there, or isn't one of tables.
        """
        if self.remotes is None:
            return {}
        where = f"INGESTION_REMOTES: {self.remotes}"
        said = {}
        for remote, table in _tables(self.remotes, where, 'as in [bank] and username = "…"').items():
            rest = dict(table)
            url = rest.pop("url", None)
            if not isinstance(url, str | None):
                raise SettingsError(f"{where}: url of {remote!r} is no text", 'as in url = "sftp://…"')
            said[remote] = RemoteSettings(url, rest)
        return said

    def sink_tables(self) -> dict[str, dict[str, Any]]:
        """
        What is said of sinks, by their names; `sinks/sink.py` knows what it means.

        Raises:
            SettingsError: the file isn't there, or isn't one of tables.
        """
        if self.sinks is None:
            return {}
        return _tables(self.sinks, f"INGESTION_SINKS: {self.sinks}", 'as in [security] and kind = "webhook"')

    @property
    def landing_places(self) -> tuple[str, str, str]:
        """Where objects land, and the folders that they age into; empty: none."""
        return self.landing, self.landing_warm, self.landing_cold

    @property
    def warehouse_folder(self) -> Path:
        """The folder beside the warehouse's file: its tables' files, its ledger, and whatever all processes of the machine share."""
        return self.warehouse.with_suffix("") if self.warehouse.suffix else Path(f"{self.warehouse}.tables")

    @property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.timezone)


def _tables(path: Path, where: str, example: str) -> dict[str, dict[str, Any]]:
    """
    The tables of a TOML file.

    Raises:
        SettingsError: it can't be read, or isn't one of tables.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}", "name a file that can be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The message would show the line, and a password may stand in it.
        raise SettingsError(f"{where} is no TOML", example) from None
    for name, table in found.items():
        if not isinstance(table, dict):
            raise SettingsError(f"{where}: {name!r} is no table", f"as in [{name}] above its properties")
    return found


def _texts(properties: Mapping[str, Any]) -> dict[str, str]:
    """Properties as clients take them: numbers and truths as text."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in properties.items()}


def inherited(**changes: str) -> dict[str, str]:
    """The environment of this process for another one, with some of the settings, by field, changed."""
    return {**os.environ, **{f"INGESTION_{name.upper()}": value for name, value in changes.items()}}
