"""
For readers: any table or report as pandas or Arrow, read-only and never in the way of a run.

    from ingestion_platform.reading import query, read_table

    read_table("reports.daily_sales", first="2024-10-01").to_pandas()
    query("select region, sum(net_zar) from reports.daily_sales group by region")

Belongs here: calls for notebooks and scripts. Doesn't: writing anything.
"""

from datetime import date

import pyarrow as pa

from ingestion_platform.assembly import open_warehouse
from ingestion_platform.settings import Settings


def read_table(
    table: str, *, first: date | str | None = None, last: date | str | None = None, settings: Settings | None = None
) -> pa.Table:
    """
    Read a table, or the days of it from *first* to *last*, both included.

    Args:
        table: `raw.sales`, `processed.sales`, `reports.daily_sales`, …
        first: business day; a date or `2024-10-01`.
        last: likewise.
        settings: default: those of the environment.

    Returns:
        Arrow; `.to_pandas()` makes a DataFrame of it. Money is decimal, timestamps are UTC.

    Raises:
        NotMaterialized: there is no such table, or nothing of it in these days.
    """
    with open_warehouse(settings) as warehouse:
        return warehouse.read(table, first=_day(first), last=_day(last))


def query(sql: str, *, settings: Settings | None = None) -> pa.Table:
    """
    Run a DuckDB query over all tables, `platform.ledger` and `platform.quarantine` among them, on one committed state.

    Args:
        sql: one select statement.
        settings: default: those of the environment.
    """
    with open_warehouse(settings) as warehouse:
        return warehouse.query(sql)


def _day(day: date | str | None) -> date | None:
    return date.fromisoformat(day) if isinstance(day, str) else day
