"""
`tick`: a look of the file-arrival sensor over a prefix with a million objects that the ledger knows, of which 100 are new.

The objects are those of a server that pages as S3 does and makes a thousand keys when they are asked for. The ledger's entries are one
that a real load has made, with the names and digests of the others: a million files can't be loaded for every benchmark. The sensor
has looked before, when the 100 weren't there. Beside it, as a measure, bare boto3 that lists all there is.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import object_server
import tills
from cases import Case, Ground, Side, Size, serving
from sides import Given, Steps, measure

if TYPE_CHECKING:
    from ingestion_platform.orchestration.resource import WarehouseResource

FIRST = date(2024, 1, 1)
A_DAY = {"full": 2_900, "quick": 290, "tiny": 5}
DAYS = {"full": (3, 34, 345), "quick": (3, 34), "tiny": (2, 20)}
NEW = 100


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """Thousands, tens of thousands, a million."""
    del ground  # Nothing lands on a disk.
    a_day = A_DAY[size]
    for days in DAYS[size]:
        objects = days * a_day
        rule = ("--first", f"{FIRST}", "--days", f"{days}", "--a-day", f"{a_day}")
        with ExitStack() as stack:
            before = stack.enter_context(serving(*rule))
            after = stack.enter_context(serving(*rule, "--new", f"{NEW}"))
            given = {"landing": f"s3://{object_server.BUCKET}", "days": days, "a_day": a_day}

            def begin(folder: Path, number: int, given: Given = given, before: dict[str, str] = before) -> None:
                if number == 0:
                    measure("items.tick", "settle", {**given, "out": str(folder)}, extra=before)

            yield Case(
                "tick",
                f"{objects:,}",
                f"{objects:,} objects of {days:,} days, {NEW} of them new",
                (
                    Side(
                        "list everything", "list_everything", rows=objects + NEW, environment=lambda _, client=after: client,
                        most_rounds=1 if days > 100 else None,
                    ),
                    Side("ours", "tick", rows=NEW, environment=lambda _, client=after: client, begin=begin),
                ),
                given,
                keeps_folder=True,
                curve="objects",
            )  # fmt: skip


def list_everything(given: Given) -> Steps:
    """Bare boto3: every page of the prefix."""
    import boto3

    yield None
    pages = boto3.client("s3").get_paginator("list_objects_v2")
    bucket = given["landing"].removeprefix("s3://")
    rows = sum(page["KeyCount"] for page in pages.paginate(Bucket=bucket, Prefix="tills/"))
    yield None
    yield {"rows": rows}


def settle(given: Given) -> Steps:
    """A side that nobody measures: a ledger that knows everything, and the cursor of a look that has found nothing new."""
    parts = _declared()
    out = Path(given["out"])
    yield None
    with tills.opened(given["landing"], out, parts) as warehouse:
        dataset = warehouse.datasets["tills"]
        warehouse.load(dataset, FIRST)
        loaded = warehouse.ledger.current(dataset.name, FIRST)
        example = next(iter(loaded.values()))
        for number in range(1, given["days"]):
            day = FIRST + timedelta(days=number)
            rows = []
            for store in range(given["a_day"]):
                key = tills.key(f"S{store:05}", day)
                content = object_server.made(key)
                digest = hashlib.sha256(content).hexdigest()
                rows.append(
                    replace(
                        example, key=key, version=digest, sha256=digest, content=digest, day=f"{day}", size_bytes=len(content),
                        token=f"{object_server.etag_of(key)}-{len(content)}", sender=None, rows_read=0, rows_loaded=0,
                        home_days="{}",
                    )
                )  # fmt: skip
            warehouse.ledger.commit_load(
                dataset.name, day, found=dict.fromkeys(row.key for row in rows), decided=rows, demoted={}, rows_file=None,
                quarantine_file=None, own_files={}, run_id="",
            )  # fmt: skip
    found = _look(given, parts, None)
    assert not found.run_requests, "the ledger knows everything"
    (out / "cursor").write_text(found.cursor)
    yield None
    yield {}


def tick(given: Given) -> Steps:
    """One look."""
    import ingestion_platform.landing.s3  # noqa: F401

    parts = _declared()
    cursor = (Path(given["out"]) / "cursor").read_text()
    sensor = _sensor(given, parts)
    yield None
    found = sensor(cursor)
    yield None
    assert len(found.run_requests) == 1, "the new objects are of one day"
    with tills.opened(given["landing"], Path(given["out"]), parts) as warehouse:
        dataset, last = warehouse.datasets["tills"], _last(given)
        news = warehouse.news(dataset, last, warehouse.listing(dataset, last))
    yield {"rows": len(news)}


def _declared() -> Any:
    return tills.declared(first=FIRST)


def _last(given: Given) -> date:
    return FIRST + timedelta(days=given["days"] - 1)


def _look(given: Given, parts: Any, cursor: str | None) -> Any:
    return _sensor(given, parts)(cursor)


def _sensor(given: Given, parts: Any) -> Any:
    """The sensor, on the day of the newest objects: a function of the cursor."""
    import dagster as dg

    from ingestion_platform.orchestration.build import build_definitions
    from ingestion_platform.orchestration.resource import WarehouseResource

    settings = tills.settings(given["landing"], Path(given["out"]))
    resource = _of_that_day(given, parts, WarehouseResource)
    definitions = build_definitions(settings, *parts, warehouse=resource)
    sensor = definitions.get_repository_def().get_sensor_def("tills_arrives")
    instance = dg.DagsterInstance.ephemeral()

    def look(cursor: str | None) -> Any:
        with dg.build_sensor_context(
            instance, cursor=cursor, definitions=definitions, resources={"warehouse": resource}
        ) as context:
            return sensor.evaluate_tick(context)

    return look


def _of_that_day(given: Given, parts: Any, kind: "type[WarehouseResource]") -> "WarehouseResource":
    from ingestion_platform.landing import open_landing
    from ingestion_platform.warehouse import Warehouse

    settings = tills.settings(given["landing"], Path(given["out"]))

    class OfThatDay(kind):  # type: ignore[misc, valid-type]
        def today(self) -> date:
            return _last(given)

    made: WarehouseResource = OfThatDay(
        lambda: Warehouse(settings, open_landing(given["landing"]), *parts), settings.zone
    )
    return made
