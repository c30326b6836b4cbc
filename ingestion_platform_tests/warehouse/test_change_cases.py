"""Change files that nobody here wrote: the tables after each of them are those of the origin."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.change_log import ChangeLog, Debezium, Dms, Maxwell
from ingestion_platform.dataset import Changes, Daily, Datasets
from ingestion_platform.table import INTEGER, VARCHAR, Column, Mask, decimal
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, Bench
from ingestion_platform_tests.warehouse.test_cases import CASES
from ingestion_platform_tests.warehouse.test_change_files import dataset

CDC = CASES / "06-cdc"

PRODUCT_COLUMNS = (
    Column("id", INTEGER, "Its number.", required=True),
    Column("name", VARCHAR, "How called.", required=True),
    Column("description", VARCHAR, "What it is."),
    Column("weight", decimal(18, 6), "How heavy."),
    Column("age", INTEGER, "How old."),
    Column("address", VARCHAR, "Where."),
)


def expected(case: str) -> list[dict[str, Any]]:
    """The steps of a case."""
    steps: list[dict[str, Any]] = json.loads((CDC / "expected.json").read_text())[case]["steps"]
    return steps


@pytest.mark.parametrize("kind", ["debezium", "maxwell"])
def test_the_table_after_each_file_is_the_published_one(tmp_path: Path, kind: str) -> None:
    """Columns come and go, values become NULL; every change is counted, and each file's table is that of the case."""
    case = f"paimon/{kind}/table/schemaevolution"
    format: ChangeLog = Debezium("product") if kind == "debezium" else Maxwell("test.product")
    bench = Bench(
        tmp_path, datasets=Datasets([dataset("product", format, PRODUCT_COLUMNS, changes=Changes(position=None))])
    )
    for step in expected(case):
        name = step["after_file"]
        bench.put(f"cdc/{DAY}/{name}", (CDC / case / name).read_bytes())
        upkeep.catch_up(bench.warehouse)
        columns = ("id", "name", "description", "weight", "age", "address")
        found: list[dict[str, Any]] = [
            dict(zip(columns, row, strict=True)) for row in bench.rows("processed.product_current", *columns)
        ]
        for row in found:
            row["weight"] = str(row["weight"].normalize()) if row["weight"] is not None else None
        wanted = [{**dict.fromkeys(columns), **row} for row in step["tables"]["product"]]
        assert found == sorted(wanted, key=lambda row: row["id"])
        counts: dict[Any, Any] = {
            row[0]: row[1] for row in bench.rows("(select operation, count(*) from processed.product group by 1)")
        }
        removed = counts.pop("delete", 0)
        assert {"upsert": sum(counts.values()), "delete": removed} == {"delete": 0, **step["event_counts"]}
    assert bench.rows("platform.quarantine", "reasons") == []


CUSTOMER_COLUMNS = (
    Column("id", INTEGER, "Who.", required=True),
    Column("first_name", VARCHAR, "How called.", required=True, pii=Mask.HASH),
    Column("last_name", VARCHAR, "How called.", required=True),
    Column("email", VARCHAR, "Where to write to.", pii=Mask.REDACT),
)


def test_the_documented_events_of_debezium_are_understood(tmp_path: Path) -> None:
    """A snapshot, an update, a deletion that has the key alone, a truncation and a message; what is no event is set aside."""
    customers = dataset(
        "customers",
        Debezium("public.customers", layout="document"),
        CUSTOMER_COLUMNS,
        template="cdc/%Y-%m-%d/{file}.json",
    )
    bench = Bench(tmp_path, datasets=Datasets([customers]))

    def after(*names: str) -> list[Any]:
        for name in names:
            bench.put(f"cdc/{DAY}/{name}", (CDC / "debezium-docs/postgresql" / name).read_bytes())
        upkeep.catch_up(bench.warehouse)
        return [row[0] for row in bench.rows("processed.customers_current", "last_name")]

    assert after("02_key-or-other.json", "03_create.json") == ["Kretchmar"]
    assert after("04_update.json") == ["Kretchmar"]
    assert after("05_delete.json") == []
    assert after("06_truncate.json", "07_message.json") == []
    found = bench.rows("processed.customers", "operation", "position", "id")
    assert sorted(found, key=repr) == [
        ("delete", "46523128:1", 1), ("insert", "24023128:0", 1), ("message", "46523128:1", None),
        ("truncate", "46523128:1", None), ("update", "24023128:1", 1),
    ]  # fmt: skip
    assert [row[0] for row in bench.rows("processed.customers_history", "is_current")] == [False, False]
    (reason,) = [row[0][0] for row in bench.rows("platform.quarantine", "reasons")]  # type: ignore[index]
    assert "it has no op" in reason


def test_a_file_of_dms_is_understood(tmp_path: Path) -> None:
    """Without a header; the history has each of the rows, by the moment in the file's name."""
    columns = (
        Column("employee_id", INTEGER, "Who.", required=True),
        Column("last_name", VARCHAR, "How called."),
        Column("office", VARCHAR, "Where."),
    )
    format = Dms(("Op", "employee_id", "last_name", "first_name", "hired", "office"))
    employees = dataset("employees", format, columns, template="dms/hr/employee/%Y%m%d-{time}.csv")
    employees = replace(employees, daily=Daily(DAY.replace(year=2014)))
    bench = Bench(tmp_path, datasets=Datasets([employees]))
    name = "hr/employee/20141029-1134010000.csv"
    bench.put(f"dms/{name}", (CDC / "dms" / name).read_bytes())
    upkeep.catch_up(bench.warehouse)
    assert bench.rows("processed.employees_current") == []
    operations = [row[1] for row in bench.rows("processed.employees", "_row", "operation")]
    assert operations == ["insert", "update", "update", "delete"]
    offices = bench.rows("processed.employees_history", "office", "is_current")
    assert offices == [("Dallas", False), ("Los Angeles", False), ("New York", False)]
    assert bench.rows("raw.employees", "_extra")[0] == ('{"first_name":"Bob","hired":"13-Mar-17"}',)
