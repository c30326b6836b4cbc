"""
Broken loaders: for each fault one that doesn't survive it, as people write them. The oracle must catch each; a fault whose twin passes
isn't there, or isn't seen.

Belongs here: breaking a worker's process, which is a fork that ends with its work. Doesn't: anything that the platform's own path could
reach: nothing imports this room but its own command and its tests.
"""

import http.client
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ingestion_platform.chaos.meddling import Worker, instead, meddled
from ingestion_platform.errors import IngestionError, LandingError
from ingestion_platform.landing import LandedObject, ObjectFile
from ingestion_platform.warehouse import Warehouse, upkeep
from ingestion_platform.warehouse.files import StoredFile
from ingestion_platform.warehouse.ledger import Ledger
from ingestion_platform.warehouse.load import Loader
from ingestion_platform.warehouse.raw_files import RowsFile


@dataclass(frozen=True)
class Twin:
    """
    A broken loader.

    Args:
        told: what it does wrong.
        breaks: makes a worker one.
    """

    told: str
    breaks: Callable[[Worker], None]

    def __call__(self, worker: Worker) -> None:
        """Make a worker one."""
        self.breaks(worker)


# --- files and the ledger


def _early_commit(worker: Worker) -> None:
    finish, commit = RowsFile.finish, Ledger.commit_load
    held: dict[Path, bytes] = {}

    def finished(file: RowsFile) -> StoredFile | None:
        stored = finish(file)
        if stored is not None:
            path = worker.warehouse.store.absolute(stored.path)
            held[path] = path.read_bytes()
        return stored

    def committed(ledger: Ledger, *arguments: Any, **options: Any) -> Any:
        for path in held:
            path.unlink(missing_ok=True)
        found = commit(ledger, *arguments, **options)
        for path, content in held.items():
            # A slow disk: it gets there a little later.
            time.sleep(0.05)
            path.write_bytes(content)
        held.clear()
        return found

    instead(RowsFile, "finish", finished)
    instead(Ledger, "commit_load", committed)


def _swallows_full(worker: Worker) -> None:
    finish, write = RowsFile.finish, RowsFile._write

    def finished(file: RowsFile) -> StoredFile | None:
        try:
            return finish(file)
        except OSError:
            if file.path is None:
                return None
            return worker.warehouse.store.describe(file.path, file._rows)

    def written(file: RowsFile) -> None:
        with suppress(OSError):
            write(file)

    instead(RowsFile, "finish", finished)
    instead(RowsFile, "_write", written)
    _once_computed(worker, is_deaf=True)


def _last_wins(worker: Worker) -> None:
    commit, objects = Ledger.commit_load, Ledger._objects
    planned: list[dict[str, Any]] = []

    def committed(ledger: Ledger, *arguments: Any, **options: Any) -> Any:
        planned.append(dict(options["found"]))
        try:
            return commit(ledger, *arguments, **options)
        finally:
            planned.clear()

    def found(ledger: Ledger, connection: Any, where: str, *values: Any) -> Any:
        if planned and where == "dataset = ? and key = ? and is_current = 1":
            row = planned[-1].get(values[1])
            return [row] if row is not None else []
        return objects(ledger, connection, where, *values)

    instead(Ledger, "commit_load", committed)
    instead(Ledger, "_objects", found)


# --- what is known


def _no_content(worker: Worker) -> None:
    def content_of(loader: Loader, key: str, sha256: str, day: Any) -> str | None:
        return f"{key} {sha256}"

    instead(Loader, "content_of", content_of)


def _once_computed(worker: Worker, *, is_deaf: bool = False) -> None:
    ignored = (IngestionError,) if is_deaf else ()

    def catch_up(warehouse: Warehouse) -> None:
        for dataset in warehouse.datasets.values():
            for landed_on in upkeep.landed_days(warehouse, dataset):
                warehouse.load(dataset, landed_on)
        for dataset in sorted(warehouse.datasets.values(), key=lambda one: bool(one.references)):
            done = set(warehouse.days(dataset.processed))
            for day in warehouse.stale_days(dataset.processed):
                if day is not None and (is_deaf or day not in done):
                    with suppress(*ignored):
                        warehouse.process(dataset, day)
        for key, table in warehouse.sql_tables.items():
            for stale in warehouse.stale_days(key):
                with suppress(*ignored):
                    warehouse.derive(table, stale)

    worker.catch_up = catch_up


def _tokens(worker: Worker, token: Callable[[LandedObject], str]) -> None:
    landing = meddled(worker)
    listed = landing.list

    def retold(prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        for landed in listed(prefix, start_after=start_after):
            yield replace(landed, token=token(landed))

    def opened(landed: LandedObject) -> ObjectFile:
        real = next(one for one in listed(landed.key) if one.key == landed.key)
        found = type(landing).open(landing, real)
        return ObjectFile(found.file, lambda: None)

    def read(landed: LandedObject) -> bytes:
        with opened(landed) as found:
            return found.file.read()

    instead(landing, "list", retold)
    instead(landing, "open", opened)
    instead(landing, "read", read)


def _by_name(worker: Worker) -> None:
    _tokens(worker, lambda landed: "known")


def _by_size(worker: Worker) -> None:
    _tokens(worker, lambda landed: f"{landed.size_bytes}")


def _no_second_look(worker: Worker) -> None:
    """The version is noted as it is when all was read, and what was read counts."""
    _tokens(worker, lambda landed: landed.token)
    row_of, landing = Loader.row_of, meddled(worker)

    def noted(loader: Loader, reading: Any, day: Any, state: str, run_id: str) -> Any:
        row = row_of(loader, reading, day, state, run_id)
        now = next((one for one in landing.list(row.key) if one.key == row.key), None)
        return replace(row, token=now.token) if now is not None else row

    instead(Loader, "row_of", noted)


def _newer_only(worker: Worker) -> None:
    landing = meddled(worker)
    listed, mark = landing.list, worker.root / "newest.json"
    newest = json.loads(mark.read_text()) if mark.exists() else None
    seen: list[float] = []

    def newer(prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        for landed in listed(prefix, start_after=start_after):
            moment = landed.landed_at.timestamp()
            if newest is None or moment > newest:
                seen.append(moment)
                yield landed

    catch_up = worker.catch_up

    def then(warehouse: Warehouse) -> None:
        catch_up(warehouse)
        if seen:
            mark.write_text(json.dumps(max(seen)))

    instead(landing, "list", newer)
    worker.catch_up = then


# --- reading


def _ends_at(worker: Worker, trouble: type[Exception]) -> None:
    """Whatever goes wrong while reading is the end of the object."""
    landing = meddled(worker)

    def opened(landed: LandedObject) -> ObjectFile:
        try:
            found = type(landing).open(landing, landed)
        except trouble:
            return ObjectFile(io.BytesIO(), lambda: None)
        content = b""
        with found, suppress(trouble):
            while piece := found.file.read1(1024) if isinstance(found.file, io.BufferedReader) else found.file.read():
                content += piece
        return ObjectFile(io.BytesIO(content), lambda: None)

    def read(landed: LandedObject) -> bytes:
        return opened(landed).file.read()

    instead(landing, "open", opened)
    instead(landing, "read", read)


def _error_is_end(worker: Worker) -> None:
    _ends_at(worker, LandingError)


def _short_read_is_end(worker: Worker) -> None:
    landing = meddled(worker)

    def read(landed: LandedObject) -> bytes:
        with type(landing).open(landing, landed) as found:
            file = found.file
            return file.read1(1024**2) if isinstance(file, io.BufferedReader) else file.read()

    instead(landing, "read", read)


def _takes_what_comes(worker: Worker) -> None:
    """An answer is an answer: half of one, too, and one that says no is an object without anything in it."""
    landing: Any = worker.landing
    if not hasattr(landing, "_endpoint"):
        return

    def get(landed: LandedObject, begin: int, end: int) -> bytes:
        where = urlsplit(landing._endpoint)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
        try:
            connection.request("GET", f"/{landing._bucket}/{quote(landing._prefix + landed.key)}")
            answer = connection.getresponse()
            content = answer.read()
            return content if answer.status == 200 else b""
        except http.client.IncompleteRead as half:
            return half.partial
        except (http.client.HTTPException, OSError):
            return b""
        finally:
            connection.close()

    landing._get = get


EARLY_COMMIT = Twin("commits before its files are there", _early_commit)
NO_CONTENT = Twin("knows an object by its key alone", _no_content)
ONCE_COMPUTED = Twin("computes a day once", _once_computed)
NO_SECOND_LOOK = Twin("doesn't look whether what it has read has changed", _no_second_look)
BY_NAME = Twin("has read what has a name that it knows", _by_name)
BY_SIZE = Twin("tells versions apart by their size", _by_size)
NEWER_ONLY = Twin("looks at what is newer than the last it saw", _newer_only)
LAST_WINS = Twin("doesn't look what others have committed", _last_wins)
ERROR_IS_END = Twin("takes an error for the end", _error_is_end)
DENIED_IS_EMPTY = Twin("takes what it may not read for empty", _error_is_end)
SHORT_READ_IS_END = Twin("takes a short read for the whole", _short_read_is_end)
TAKES_WHAT_COMES = Twin("takes half an answer, and an error's, for the object", _takes_what_comes)
SWALLOWS_FULL = Twin("goes on when the disk is full", _swallows_full)
