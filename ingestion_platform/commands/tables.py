"""
`read` and `query`: rows of tables as CSV.

Belongs here: reading the command line, and telling what happened. Doesn't: the work (`warehouse/`).
"""

import argparse
import json
import sys

import pyarrow as pa

from ingestion_platform.commands.arguments import day, in_warehouse
from ingestion_platform.warehouse import Warehouse


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands."""
    read = commands.add_parser("read", help="print a table or report as CSV")
    read.add_argument("table", help="as in reports.daily_sales")
    read.add_argument("--first", type=day, help="first business day")
    read.add_argument("--last", type=day, help="last business day")
    read.set_defaults(run=in_warehouse(_read))
    query = commands.add_parser("query", help="print the result of a query over all tables as CSV")
    query.add_argument("sql")
    query.set_defaults(run=in_warehouse(_query))


def _read(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    _print_csv(warehouse.read(chosen.table, first=chosen.first, last=chosen.last))
    return 0


def _query(warehouse: Warehouse, chosen: argparse.Namespace) -> int:
    _print_csv(warehouse.query(chosen.sql))
    return 0


def _print_csv(table: pa.Table) -> None:
    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            values = [
                None if value is None else json.dumps(value, default=str) for value in table.column(index).to_pylist()
            ]
            table = table.set_column(index, field.name, pa.array(values, pa.string()))
    # Arrow's types, since pandas' own show whole numbers beside a missing one as 1.0, and large ones wrongly.
    # It takes as long to import as all else that a command needs.
    import pandas as pd

    table.to_pandas(types_mapper=pd.ArrowDtype).to_csv(sys.stdout, index=False)
