"""
What Dagster shows of a table and of a day's work: numbers it plots, columns with their docs, where columns come from, the first rows.

Belongs here: turning results and declarations into Dagster's metadata. Doesn't: judging them (`checks.py`).
"""

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
import pyarrow as pa

from ingestion_platform.dataset import Dataset
from ingestion_platform.landing import LandedObject
from ingestion_platform.lifecycle import Place
from ingestion_platform.orchestration.graph import asset_key
from ingestion_platform.table import VARCHAR
from ingestion_platform.warehouse import ColumnDoc, RawDay, SenderReport, SqlTable, TableDay

EXAMPLES = 20
"""Rows of a table of examples: enough to see the pattern, few enough for the event log."""
LONGEST_CELL = 80
"""Characters of a cell in a preview."""

Metadata = dict[str, dg.MetadataValue]
Origins = Mapping[str, tuple[tuple[str, str], ...]]


def rows_per_second(rows: int, seconds: float) -> float:
    """Speed; 0 where nothing was done."""
    return round(rows / seconds, 1) if seconds > 0 else 0.0


def numbers(values: Mapping[str, int | float]) -> Metadata:
    """Numbers as Dagster plots them, over time and by partition."""
    return {
        name: dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(value)
        for name, value in values.items()
    }


def of_raw_day(raw: RawDay, senders: SenderReport | None) -> Metadata:
    """The numbers of a raw day; those named `read` are of this load alone."""
    entries = [entry for entry in raw.entries if entry.key in raw.new_keys]
    rows_read = sum(entry.rows_read for entry in entries)
    values: dict[str, int | float] = {
        "dagster/partition_row_count": raw.rows,
        "rows": raw.rows,
        "quarantined": raw.rows_quarantined,
        "objects": len(raw.entries) - len(raw.keys("replaced")),
        "objects_read": len(raw.new_keys),
        "duplicate_objects": len(raw.keys("duplicate")),
        "rejected_objects": len(raw.keys("rejected")),
        "bytes": sum(entry.size_bytes for entry in raw.entries),
        "bytes_read": raw.bytes_read,
        "seconds": round(raw.seconds, 3),
        "rows_per_second": rows_per_second(rows_read, raw.seconds),
    }
    if raw.waiting:
        values["archived_objects"] = len(raw.waiting)
    if raw.unmarked:
        values["unmarked_objects"] = len(raw.unmarked)
    values |= _by_place((entry.place, entry.size_bytes) for entry in raw.entries)
    if senders is not None:
        values["missing_senders"] = len(senders.missing)
    shown = numbers(values)
    if raw.touched_days:
        shown["touched_days"] = dg.MetadataValue.text(", ".join(map(str, sorted(raw.touched_days))))
    if raw.other_days:
        shown["other_days"] = dg.MetadataValue.text(", ".join(map(str, sorted(raw.other_days))))
    return shown


def of_table_day(table_day: TableDay) -> Metadata:
    """The numbers of a processed or report day, its balance and the reasons of what was set aside."""
    values: dict[str, int | float] = {
        "dagster/row_count" if table_day.day is None else "dagster/partition_row_count": table_day.rows,
        "rows": table_day.rows,
        "bytes": table_day.bytes,
        "seconds": round(table_day.seconds, 3),
        "rows_per_second": rows_per_second(table_day.rows, table_day.seconds),
        "has_changed": int(table_day.has_changed),
    }
    shown: Metadata = {}
    if table_day.balance is not None:
        values["rows_raw"] = table_day.balance.rows_raw
        values["duplicates"] = table_day.balance.rows_superseded
        values["quarantined"] = table_day.balance.rows_quarantined
        values["discarded"] = table_day.balance.rows_discarded
        shown["balance"] = dg.MetadataValue.text(str(table_day.balance))
    if table_day.reasons:
        shown["reasons"] = reasons(table_day.reasons)
    return _state(table_day) | numbers(values) | shown


def _state(table_day: TableDay) -> Metadata:
    """Whether a report counts, and why: what a reader asks first."""
    shown: Metadata = {}
    if table_day.state:
        shown["state"] = dg.MetadataValue.text(table_day.state)
        shown["state_why"] = dg.MetadataValue.text(table_day.why)
    if table_day.final_at is not None:
        shown["final_at"] = dg.MetadataValue.timestamp(table_day.final_at)
    return shown


def of_listing(dataset: Dataset, objects: Sequence[LandedObject]) -> Metadata:
    """What has landed for a day."""
    shown = numbers(
        {
            "objects": len(objects),
            "bytes": sum(object_.size_bytes for object_ in objects),
            **_by_place((object_.place, object_.size_bytes) for object_ in objects),
        }
    )
    if dataset.senders is not None:
        capture = dataset.senders.key_capture
        found = (dataset.source.match(object_.key) for object_ in objects)
        shown["senders"] = dg.MetadataValue.int(len({match[1][capture] for match in found if match is not None}))
    if objects:
        shown["newest"] = dg.MetadataValue.timestamp(max(object_.landed_at for object_ in objects))
    return shown


def _by_place(objects: Iterable[tuple[Place, int]]) -> dict[str, int | float]:
    """Bytes in each place but the hot one, which all else is in."""
    found: dict[str, int | float] = {}
    for place, size_bytes in objects:
        if place != "hot":
            found[f"bytes_{place}"] = found.get(f"bytes_{place}", 0) + size_bytes
    return found


def reasons(counts: Mapping[str, int]) -> dg.MetadataValue:
    """Quarantined rows by reason, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES]
    return table_of_records(
        {"reason": "string", "rows": "int"}, [{"reason": reason, "rows": rows} for reason, rows in ordered]
    )


def table_of_records(columns: Mapping[str, str], records: Iterable[Mapping[str, str | int]]) -> dg.MetadataValue:
    """A table for a person, columns by name and type (`string`, `int`), cut at `EXAMPLES` rows."""
    schema = dg.TableSchema([dg.TableColumn(name, type_) for name, type_ in columns.items()])
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in list(records)[:EXAMPLES]], schema)


def schema_of(columns: Iterable[ColumnDoc], primary_key: Sequence[str] = ()) -> dg.TableSchema:
    """Columns, types and docs, as the warehouse says them."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                str(column.type),
                column.description or None,
                tags={"primary_key": ""} if column.name in primary_key else None,
            )
            for column in columns
        ]
    )


def declared_schema(dataset: Dataset, layer: str) -> dg.TableSchema:
    """Columns as declared: text in raw, typed in processed, with the rules that rows must keep."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                str(VARCHAR if layer == "raw" else column.type),
                column.description,
                constraints=None
                if layer == "raw"
                else dg.TableColumnConstraints(
                    nullable=not column.required and column.name not in dataset.primary_key,
                    unique=dataset.primary_key == (column.name,),
                    other=_rules(column.minimum, column.maximum, column.one_of, column.pattern, column.references),
                ),
                tags={"pii": str(column.pii)} if column.pii is not None and layer != "raw" else None,
            )
            for column in dataset.columns
        ]
    )


def sql_schema(sql: SqlTable) -> dg.TableSchema:
    """A SQL table's columns: types from the query, docs from the file's comment."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                name, type_, sql.columns.get(name), tags={"primary_key": ""} if name in sql.primary_key else None
            )
            for name, type_ in sql.types.items()
        ]
    )


def _rules(
    minimum: object, maximum: object, one_of: tuple[str, ...], pattern: str | None, references: str | None
) -> list[str]:
    rules = []
    if minimum is not None:
        rules.append(f"at least {minimum}")
    if maximum is not None:
        rules.append(f"at most {maximum}")
    if one_of:
        rules.append(f"one of {', '.join(one_of)}")
    if pattern is not None:
        rules.append(f"matches {pattern}")
    if references is not None:
        rules.append(f"found in {references}")
    return rules


def origins_of(dataset: Dataset) -> Origins:
    """Where a processed table's columns come from: the raw columns of their names."""
    return {column.name: ((dataset.raw, column.name),) for column in dataset.columns}


def lineage(origins: Origins) -> dg.TableColumnLineage:
    """Column origins in Dagster's own form."""
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(asset_key(table), column) for table, column in sources]
            for name, sources in origins.items()
        }
    )


def origins_table(origins: Origins) -> dg.MetadataValue:
    """Column origins as a table: Dagster's open-source UI draws no column lineage."""
    records = [
        dg.TableRecord(
            {"column": name, "comes from": ", ".join(f"{table}.{column}" for table, column in sources) or "–"}
        )
        for name, sources in origins.items()
    ]
    schema = dg.TableSchema([dg.TableColumn("column", "string"), dg.TableColumn("comes from", "string")])
    return dg.MetadataValue.table(records, schema)


def preview(rows: pa.Table) -> dg.MetadataValue:
    """The first rows as a table that the UI draws."""
    if rows.num_columns == 0:
        return dg.MetadataValue.md("no columns")
    names = [_cell(name) for name in rows.column_names]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_cell(value) for value in row.values()) + " |" for row in rows.to_pylist()]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object) -> str:
    # Cells hold what strangers sent: no markup of theirs reaches the page, and no line end breaks the table.
    text = "" if value is None else str(value)
    text = text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
    for character, instead in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "&#124;"),
        ("`", "&#96;"),
        ("[", "&#91;"),
    ):
        text = text.replace(character, instead)
    return " ".join(text.split())
