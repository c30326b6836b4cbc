"""
Schemas of Avro values, from a schema registry that speaks as Confluent's does.

Belongs here: asking for a schema by its id, and making one whole of it and those that it refers to. Doesn't: Avro itself
(`formats/avro_values.py`).
"""

import json
import logging
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import urllib3

from ingestion_platform.errors import SettingsError, SourceError, SourceUnavailable

log = logging.getLogger(__name__)

Json = Any

ATTEMPTS = 5
TIMEOUT_SECONDS = 10.0
FIRST_WAIT_SECONDS = 0.2
UNKNOWN_SECONDS = 60.0
"""How long an id that the registry doesn't know isn't asked for again."""
MOST_REMEMBERED = 10_000
MOST_BYTES = 4 * 1024**2
"""A schema's answer is never this long."""
MOST_REFERENCES = 200
LARGEST_ID = 2**31 - 1
"""Registries count with 32 bits and a sign: what is larger is no id."""
MOST_UNKNOWN = 500
"""Ids that the registry doesn't know and that are asked for within `UNKNOWN_SECONDS`; then no new one is asked for."""
MOST_SAID = 10
"""Unknown ids in a row that are worth a warning each."""

_HINT = "check schema.registry.url of the cluster in INGESTION_KAFKA_CLUSTERS, and whether the registry is up"
_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}


@dataclass(slots=True)
class _Known:
    """What the registry said of an id; `schema` is None when it doesn't know it. `at` is a moment of the monotonic clock."""

    schema: str | None
    at: float


class SchemaRegistry:
    """
    A schema registry. Nothing is connected before it is asked.

    Args:
        properties: `schema.registry.url` (several, separated by commas, are asked in turn), `schema.registry.basic.auth.user.info`
            (`user:password`), `schema.registry.ssl.ca.location`, `….ssl.certificate.location`, `….ssl.key.location`. Others aren't
            looked at.

    Raises:
        SettingsError: there is no URL, or it isn't one.
    """

    def __init__(self, properties: Mapping[str, str]) -> None:
        own = {
            name.removeprefix("schema.registry."): value
            for name, value in properties.items()
            if name.startswith("schema.registry.")
        }
        user_info = own.get("basic.auth.user.info")
        self._urls = []
        for text in own.get("url", "").split(","):
            if not text.strip():
                continue
            parts = urlsplit(text.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise SettingsError("schema.registry.url is no URL of http or https", "as in https://registry:8081")
            if parts.username is not None:
                user_info = user_info or f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._urls.append(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/"))
        if not self._urls:
            raise SettingsError(
                "values are Avro in a schema registry's framing, and no registry is configured",
                "set schema.registry.url of the cluster in INGESTION_KAFKA_CLUSTERS",
            )
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if user_info:
            headers |= urllib3.make_headers(basic_auth=user_info)
        self._http = urllib3.PoolManager(
            headers=headers,
            ca_certs=own.get("ssl.ca.location"),
            cert_file=own.get("ssl.certificate.location"),
            key_file=own.get("ssl.key.location"),
        )
        self._known: dict[int, _Known] = {}
        self._unknown_at: deque[float] = deque(maxlen=MOST_UNKNOWN)
        self._is_said = False

    def __repr__(self) -> str:
        return f"SchemaRegistry({', '.join(self._urls)})"

    def schema(self, number: int) -> str | None:
        """
        The schema of an id as JSON, with what it refers to inside; None when the registry has none of that id, or it isn't Avro.

        Values that aren't framed at all may name any id. So after many that aren't known, no new one is asked for until a while has passed.

        Raises:
            SourceUnavailable: no answer after every attempt.
            SourceError: access is refused, or what answers is no schema registry.
        """
        known = self._known.get(number)
        if known is not None and (known.schema is not None or time.monotonic() - known.at < UNKNOWN_SECONDS):
            return known.schema
        if number > LARGEST_ID or self._is_asked_too_much():
            return None
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        found = self._whole(number)
        self._known[number] = _Known(found, time.monotonic())
        if found is None:
            self._unknown_at.append(time.monotonic())
        return found

    def _is_asked_too_much(self) -> bool:
        """Whether the last ids asked for were all unknown, so many and within so little time that the next one waits."""
        is_much = len(self._unknown_at) == MOST_UNKNOWN and time.monotonic() - self._unknown_at[0] < UNKNOWN_SECONDS
        if is_much and not self._is_said:
            log.warning(
                "%r didn't know %d schemas within %.0f s: no others are asked for until those are over",
                self,
                MOST_UNKNOWN,
                UNKNOWN_SECONDS,
            )
        self._is_said = is_much
        return is_much

    def close(self) -> None:
        """Let go of connections."""
        self._http.clear()

    def _whole(self, number: int) -> str | None:
        answer = self._get(f"/schemas/ids/{number}")
        if answer is None:
            is_news = (
                len(self._unknown_at) < MOST_SAID or time.monotonic() - self._unknown_at[-MOST_SAID] > UNKNOWN_SECONDS
            )
            log.log(logging.WARNING if is_news else logging.DEBUG, "%r doesn't know schema %d", self, number)
            return None
        if answer.get("schemaType", "AVRO") != "AVRO":
            log.warning("%r: schema %d isn't Avro", self, number)
            return None
        try:
            schema = json.loads(_text(answer, "schema"))
            if answer.get("references"):
                referred: dict[str, Json] = {}
                self._refer(answer["references"], referred)
                schema = _Inlining(referred).inline(schema, "")
            return json.dumps(schema, separators=(",", ":"))
        except (ValueError, RecursionError) as error:
            log.warning("%r: schema %d can't be used: %s", self, number, type(error).__name__)
            return None

    def _refer(self, references: Json, found: dict[str, Json]) -> None:
        """Gather the schemas referred to, by the names that they are referred to by, and those that they refer to."""
        for reference in references if isinstance(references, list) else []:
            name = _text(reference, "name")
            if name in found:
                continue
            if len(found) >= MOST_REFERENCES:
                raise ValueError("too many references")
            subject, version = quote(_text(reference, "subject"), safe=""), reference.get("version")
            if type(version) is not int:
                raise ValueError("a reference without a version")
            answer = self._get(f"/subjects/{subject}/versions/{version}")
            if answer is None:
                raise ValueError("a reference that leads nowhere")
            found[name] = json.loads(_text(answer, "schema"))
            self._refer(answer.get("references"), found)

    def _get(self, path: str) -> dict[str, Json] | None:
        """
        An answer's JSON; None when there is nothing of that name, or nothing that can be used.

        What a registry refuses of one path, saying why as registries do, is that path's matter; so is an answer that is too long. A page
        of something else isn't, nor is a login that is refused.
        """
        trouble = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.5, 1))
            url = self._urls[attempt % len(self._urls)]
            try:
                answer = self._http.request(
                    "GET", url + path, timeout=TIMEOUT_SECONDS, retries=False, redirect=False, preload_content=False
                )
                try:
                    body = answer.read(MOST_BYTES)
                    is_whole = not answer.read(1)
                finally:
                    answer.close()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                trouble = type(error).__name__
                continue
            if answer.status == 404:
                return None
            if answer.status in (401, 403):
                raise SourceError(
                    f"the schema registry {url} refuses access ({answer.status})",
                    "check schema.registry.basic.auth.user.info of the cluster in INGESTION_KAFKA_CLUSTERS",
                )
            if answer.status == 429 or answer.status >= 500:
                trouble = f"status {answer.status}"
                continue
            if answer.status == 200 and not is_whole and body.lstrip()[:1] == b"{":
                log.warning("%r: the answer for %s is longer than %d bytes", self, path, MOST_BYTES)
                return None
            try:
                told = json.loads(body) if is_whole else None
            except (ValueError, RecursionError):
                told = None
            if 400 <= answer.status < 500 and isinstance(told, dict) and "error_code" in told:
                log.warning("%r refuses %s (status %d)", self, path, answer.status)
                return None
            if answer.status != 200:
                told = None
            if not isinstance(told, dict) or "schema" not in told:
                raise SourceError(f"what answers at {url} is no schema registry (status {answer.status})", _HINT)
            return told
        raise SourceUnavailable(f"no schema registry answers at {', '.join(self._urls)} ({trouble})", _HINT)


def _text(answer: Json, name: str) -> str:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


class _Inlining:
    """Puts the types that a schema refers to where they are first named, so that it stands for itself."""

    def __init__(self, referred: Mapping[str, Json]) -> None:
        self._referred = referred
        self._defined: set[str] = set()

    def inline(self, schema: Json, namespace: str) -> Json:
        """The schema with everything inside."""
        match schema:
            case str():
                return self._named(schema, namespace)
            case list():
                return [self.inline(one, namespace) for one in schema]
            case {"type": "record" | "error" | "enum" | "fixed", "name": str(name)}:
                own = schema.get("namespace", namespace)
                full = name if "." in name or not own else f"{own}.{name}"
                self._defined.add(full)
                fields = schema.get("fields")
                if not isinstance(fields, list):
                    return schema
                inner = full.rpartition(".")[0]
                return {
                    **schema,
                    "fields": [
                        {**field, "type": self.inline(field["type"], inner)}
                        if isinstance(field, dict) and "type" in field
                        else field
                        for field in fields
                    ],
                }
            case {"type": "array", "items": items}:
                return {**schema, "items": self.inline(items, namespace)}
            case {"type": "map", "values": values}:
                return {**schema, "values": self.inline(values, namespace)}
            case {"type": kind}:
                return {**schema, "type": self.inline(kind, namespace)}
            case _:
                return schema

    def _named(self, name: str, namespace: str) -> Json:
        if name in _PRIMITIVES:
            return name
        qualified = name if "." in name or not namespace else f"{namespace}.{name}"
        for full in (qualified, name):
            if full in self._defined:
                return full
            if full in self._referred:
                self._defined.add(full)
                inside = self.inline(self._referred[full], "")
                # It keeps its own name, whatever namespace it is put into.
                return {"namespace": "", **inside} if isinstance(inside, dict) else inside
        return name
