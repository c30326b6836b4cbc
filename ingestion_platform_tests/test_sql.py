"""Every file of `sql/`: it binds on empty declared tables, returns exactly what its comment describes, and is published only whole."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ingestion_platform.assembly import declared_datasets, declared_sql_tables
from ingestion_platform.warehouse.sql_tables import FOLDER, STATE
from ingestion_platform_tests.warehouse.building import DAY, Bench

ZONE = "Africa/Johannesburg"
FILES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.sql"))


def test_every_file_is_a_table() -> None:
    """No file is passed over, wherever it is put below `sql/`."""
    assert FILES
    # Those of rules and of changes are made of declarations.
    declared = {
        key for key, table in declared_sql_tables(ZONE).items() if table.judges is None and not table.of_changes
    }
    assert {f"{file.parent}.{file.stem}" for file in FILES} == declared


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_query_binds_and_gives_exactly_its_described_columns(file: Path, tmp_path: Path) -> None:
    """On tables without a row it gives no row, in these columns and types; each is described and has an origin or is of the day."""
    bench = Bench(tmp_path, declared_datasets(), sql=FOLDER)
    table = bench.sql_tables[f"{file.parent}.{file.stem}"]
    done = bench.warehouse.derive(table, DAY if table.is_daily else None)
    found = bench.warehouse.read(table.key)
    state = [STATE] if table.has_state else []
    assert (done.rows, found.column_names) == (0, [*table.columns, *state])
    assert all(doc.strip().endswith(".") for doc in table.columns.values())
    assert set(table.origins) == set(table.columns)
    assert {origin for origins in table.origins.values() for origin, _ in origins} <= {*table.reads, table.key}
    assert table.owners
    assert done.failed_checks.keys() == {check.name for check in table.checks} | (
        {"primary_key"} if table.primary_key else set()
    )


def test_money_is_never_a_float() -> None:
    """A column with a currency in its name is DECIMAL, in reports as in processed tables."""
    for table in declared_sql_tables(ZONE).values():
        for column, kind in table.types.items():
            assert not re.search(r"_(zar|gbp|eur|usd)$", column) or kind.startswith("DECIMAL"), (
                f"{table.key}.{column} is {kind}"
            )


def test_the_zone_may_be_another() -> None:
    """Nothing in the files is bound to the default business day."""
    assert declared_sql_tables(ZoneInfo("Pacific/Auckland").key).keys() == declared_sql_tables(ZONE).keys()
