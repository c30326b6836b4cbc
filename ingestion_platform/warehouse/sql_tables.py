"""
What we derive: one SQL file a table. The path is the table's key; a TOML comment on top holds its docs; the query itself says
what it depends on.

A query that reads its own table sees its partition of the day before: the state at that day's end, which it carries on.

Belongs here: reading and understanding the files of `sql/`. Doesn't: running them (`derive.py`).
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as declared

from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.errors import DeclarationError
from ingestion_platform.rules.rule import Rules
from ingestion_platform.table import IDENTIFIER, STRICT, Check
from ingestion_platform.warehouse import current, history, judged
from ingestion_platform.warehouse.contract import Contract
from ingestion_platform.warehouse.engine import connect, name
from ingestion_platform.warehouse.row_versions import WHERE_FROM, columns_of

FOLDER = Path(__file__).parent.parent / "sql"
"""Where the files are: `sql/<layer>/<table>.sql`."""

PARAMETERS = ("window_start", "window_end", "day", "time_zone")
"""What a query may use: the UTC bounds of its business day, that day, and the business time zone's name."""

CURRENT = "_current"
"""`processed.<snapshots>_current` is the newest snapshot as of the day being computed."""

STATE = "_state"
"""The column in which a report that waits for senders says what it is; queries don't see it, readers do."""

_LOOKS_BACK = re.compile(r"\$(window_start|day)\s*(::\s*\w+\s*)?-(?!-)")
"""A query that goes back from its own day."""

_MOST_ROUNDS = 5

_HEADER = re.compile(r"\s*/\*(?P<toml>.*?)\*/(?P<sql>.*)", re.DOTALL)


@declared(frozen=True, config=STRICT, kw_only=True)
class _Header:
    description: str
    columns: dict[str, str]
    primary_key: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    history_days: int = 0
    checks: tuple[Check, ...] = ()
    tags: dict[str, str] | None = None
    may_be_empty: bool = False
    waits_for_senders: bool = True


@dataclass(frozen=True)
class SqlTable:
    """
    A table that is derived by SQL.

    Args:
        layer: `processed` or `reports`.
        name: the file's name.
        path: of the file; None when no file but a declaration says it.
        sql: the query, without the comment and the semicolon.
        description: what one row is.
        columns: name → docs, in the query's order.
        types: name → SQL type.
        primary_key: column names.
        owners: `team:name` or an e-mail address.
        history_days: how many days before its own the query also reads.
        checks: what every row should satisfy.
        is_daily: whether it has a partition per business day; it has when it reads `$window_start`, `$window_end` or `$day`.
        depends_on: keys of the tables it reads, itself left out; `processed.stores` also when it reads `processed.stores_current`.
        reads: the names as the query has them, its own left out.
        used_parameters: those of `PARAMETERS` that occur in it.
        schema: tables it reads → column → type, for `origins`.
        tags: shown in Dagster.
        carries_on: whether it reads itself: a day is made of its own partition of the day before.
        state_of: the changes whose state it is, at the end of each day; None for what a file says.
        history_of: the changes whose versions it holds.
        judges: rules whose alerts it holds; what they know beforehand is among `depends_on` and not among `reads`.
        sender_days: dataset whose senders have a cutoff, and that it is made of, directly or not → how many days before its own it sees
            of it.
        may_be_empty: whether no row on a day is nothing to be told of, though all it is made of has some.
        waits_for_senders: whether it says if it is provisional, final or restated, when it is a report made of such datasets.
    """

    layer: str
    name: str
    path: Path | None
    sql: str
    description: str
    columns: Mapping[str, str]
    types: Mapping[str, str]
    primary_key: tuple[str, ...]
    owners: tuple[str, ...]
    history_days: int
    checks: tuple[Check, ...]
    is_daily: bool
    depends_on: tuple[str, ...]
    reads: tuple[str, ...]
    used_parameters: tuple[str, ...]
    schema: Mapping[str, Mapping[str, str]]
    first_day: date
    tags: Mapping[str, str]
    carries_on: bool = False
    state_of: str | None = None
    history_of: str | None = None
    judges: Rules | None = None
    sender_days: Mapping[str, int] = field(default_factory=dict)
    may_be_empty: bool = False
    waits_for_senders: bool = True

    @property
    def of_changes(self) -> str | None:
        """The changes that it is made of, all up to the end of each day."""
        return self.state_of or self.history_of

    @property
    def is_cumulative(self) -> bool:
        """Whether a day of it tells what all days up to it have made; who reads it sees the newest."""
        return self.carries_on or self.of_changes is not None

    @property
    def has_state(self) -> bool:
        """Whether its partitions are provisional, final or restated."""
        return self.layer == "reports" and self.is_daily and self.waits_for_senders and bool(self.sender_days)

    @property
    def key(self) -> str:
        """`reports.daily_sales`."""
        return f"{self.layer}.{self.name}"

    @cached_property
    def origins(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Column → the columns it is made of, each as `(table, column)`."""
        if self.judges is not None:
            # What a fold makes of a day's events is made of no column.
            return dict.fromkeys(self.columns, ())
        # Half a second to import, and only the UI asks.
        from sqlglot import exp
        from sqlglot.lineage import lineage

        schema: dict[str, Any] = {}
        for table, columns in self.schema.items():
            layer, table_name = table.split(".", 1)
            schema.setdefault(layer, {})[table_name] = dict(columns)
        found: dict[str, tuple[tuple[str, str], ...]] = {}
        for column in self.columns:
            leaves: set[tuple[str, str]] = set()
            for node in lineage(column, self.sql, schema=schema, dialect="duckdb").walk():
                if not node.downstream and isinstance(node.source, exp.Table):
                    leaves.add((f"{node.source.db}.{node.source.name}", node.name.rsplit(".", 1)[-1].strip('"')))
            found[column] = tuple(sorted(leaves))
        return found


class SqlTables(Mapping[str, SqlTable]):
    """All SQL tables by key, each after those it depends on."""

    def __init__(self, tables: Mapping[str, SqlTable]) -> None:
        self._tables = dict(tables)

    def __getitem__(self, key: str) -> SqlTable:
        return self._tables[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def load_sql_tables(
    datasets: Datasets, *, zone: ZoneInfo, folder: Path = FOLDER, rules: Rules | None = None
) -> SqlTables:
    """
    Read and bind every SQL file.

    Args:
        datasets: all of them.
        zone: business time.
        folder: of the files.
        rules: live rules: with any, there is a table of the alerts that a batch comes to.

    Raises:
        DeclarationError: a file's comment or query is wrong, or the tables depend on each other in a circle; the message names the file.
    """
    known: dict[str, dict[str, str]] = {}
    made: list[SqlTable] = []
    for dataset in datasets.values():
        columns = dict(Contract(dataset, zone).processed_columns)
        known[dataset.processed] = columns
        if dataset.kind == "snapshots":
            known[dataset.processed + CURRENT] = columns
        if dataset.kind == "changes":
            made += _tables_of_changes(dataset, columns, zone)
            known |= {table.key: dict(table.types) for table in made}
    engine = connect(threads=1)
    try:
        waiting = {f"{path.parent.name}.{path.stem}": path for path in sorted(folder.glob("*/*.sql"))}
        parsed = {key: _parse(engine, path) for key, path in waiting.items()}
        for key, path in waiting.items():
            if key in known:
                raise DeclarationError(f"{_shown(path)}: a dataset is called {path.stem!r} already", "rename the file")
        for table_name, columns in known.items():
            _create_empty(engine, table_name, columns)
        _bind_checks(engine, datasets)
        done: dict[str, SqlTable] = {table.key: table for table in made}
        while waiting:
            ready = [key for key in waiting if not (set(parsed[key][2]) & set(waiting) - {key})]
            if not ready:
                circle = set(waiting)
                # Those that merely read what is in the circle are no part of it.
                while loose := {key for key in circle if not any(key in parsed[other][2] for other in circle - {key})}:
                    circle -= loose
                raise DeclarationError(
                    f"SQL tables depend on each other in a circle: {', '.join(_shown(waiting[key]) for key in sorted(circle))}",
                    "break the circle",
                )
            for key in ready:
                table = _bind(engine, waiting.pop(key), *parsed[key], datasets, known, done)
                done[key] = table
                known[key] = dict(table.types)
                _create_empty(engine, key, known[key])
        if rules:
            judged.check_rules(rules, datasets, known, zone)
            made_of_rules = _table_of_rules(rules, datasets, done, zone)
            if made_of_rules.key in known:
                raise DeclarationError(f"a table is called {made_of_rules.key} already", "rename it")
            done[made_of_rules.key] = made_of_rules
    finally:
        engine.close()
    return SqlTables(done)


def _table_of_rules(rules: Rules, datasets: Datasets, done: Mapping[str, SqlTable], zone: ZoneInfo) -> SqlTable:
    """The alerts that rules come to over processed tables, as if a file had said it."""
    reads = tuple(datasets[name_].processed for name_ in rules.datasets)
    known = {rule.known.table for rule in rules.values() if rule.known is not None}
    first_days = [datasets[name_].daily.from_ for name_ in rules.datasets]
    return SqlTable(
        layer="processed",
        name=judged.TABLE,
        path=None,
        sql=judged.query(rules, datasets, zone),
        description="One row per alert that live rules come to over the day's tables: what should have been raised live.",
        columns={column: docs for column, (_, docs) in judged.COLUMNS.items()},
        types={column: kind for column, (kind, _) in judged.COLUMNS.items()},
        primary_key=("alert_id",),
        owners=(),
        history_days=judged.READS_DAYS_BEFORE,
        checks=(),
        is_daily=True,
        depends_on=tuple(sorted({*reads, *known})),
        reads=reads,
        used_parameters=(),
        schema={},
        first_day=max(first_days + [done[table].first_day for table in known if table in done]),
        tags={},
        may_be_empty=True,
        judges=rules,
    )


def _tables_of_changes(dataset: Dataset, columns: Mapping[str, str], zone: ZoneInfo) -> list[SqlTable]:
    """The current table of changes and their history, as if files had said them."""
    assert dataset.changes is not None, "only changes have them"
    docs = {column.name: column.description for column in dataset.columns} | WHERE_FROM | history.DOCS
    kinds = {**columns, "valid_from": "TIMESTAMP", "valid_to": "TIMESTAMP", "is_current": "BOOLEAN"}
    what = dataset.description.rstrip(".")

    def table(key: str, sql: str, told: str, shown: list[str], primary_key: tuple[str, ...]) -> SqlTable:
        return SqlTable(
            layer="processed",
            name=key.partition(".")[2],
            path=None,
            sql=sql,
            description=f"{what}: {told}",
            columns={column: docs[column] for column in shown},
            types={column: kinds[column] for column in shown},
            primary_key=primary_key,
            owners=dataset.owners,
            history_days=0,
            checks=(),
            is_daily=True,
            depends_on=(dataset.processed,),
            reads=(dataset.processed,),
            used_parameters=(),
            schema={dataset.processed: dict(columns)},
            first_day=dataset.daily.from_,
            tags=dict(dataset.tags),
            may_be_empty=True,
            state_of=dataset.processed if key == dataset.current else None,
            history_of=dataset.processed if key == dataset.history else None,
        )

    found = [
        table(
            dataset.current,
            current.whole(dataset, zone),
            "for each key the last one, without the keys that were removed.",
            columns_of(dataset),
            dataset.primary_key,
        )
    ]
    if dataset.changes.moment is not None:
        found.append(
            table(
                dataset.history,
                history.whole(dataset, zone),
                "every state of each row, from when to when it was so.",
                history.shown_columns(dataset),
                dataset.row_key,
            )
        )
    return found


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _create_empty(engine: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> None:
    layer, table_name = table.split(".", 1)
    engine.execute(f"create schema if not exists {name(layer)}")
    kinds = ", ".join(f"{name(column)} {kind}" for column, kind in columns.items())
    engine.execute(f"create table {name(layer)}.{name(table_name)} ({kinds})")


def _parse(engine: duckdb.DuckDBPyConnection, path: Path) -> tuple[_Header, str, tuple[str, ...], tuple[str, ...]]:
    """Header, query, tables it reads, parameters it uses."""
    place = _shown(path)
    if path.parent.name not in ("processed", "reports"):
        raise DeclarationError(
            f"{place}: SQL tables are of layer processed or reports", "move the file to one of these folders"
        )
    if not IDENTIFIER.fullmatch(path.stem):
        raise DeclarationError(f"{place}: a table's name is snake_case and starts with a letter", "rename the file")
    try:
        found = _HEADER.fullmatch(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{place}: it isn't UTF-8: {error}", "save it as UTF-8") from error
    if found is None:
        raise DeclarationError(
            f"{place}: it doesn't start with a /* TOML comment */", "see 'Add a report' in the README"
        )
    try:
        header = TypeAdapter(_Header).validate_python(tomllib.loads(found["toml"]))
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(
            f"{place}: its comment is no TOML: {error}", "see 'Add a report' in the README"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DeclarationError(
            f"{place}: comment, {where}: {first['msg']}", "see 'Add a report' in the README"
        ) from error
    except DeclarationError as error:
        raise DeclarationError(f"{place}: comment, {error.what}", error.hint) from error
    if not 0 <= header.history_days <= 366:
        raise DeclarationError(f"{place}: comment, history_days is 0 to 366, not {header.history_days}")
    sql = found["sql"].strip().removesuffix(";").strip()
    row = engine.execute("select json_serialize_sql($sql)", {"sql": sql}).fetchall()[0]
    tree = json.loads(row[0])
    if tree.get("error"):
        raise DeclarationError(
            f"{place}: {tree.get('error_message', 'the query cannot be parsed')}",
            "one select statement, after the comment",
        )
    if len(tree["statements"]) != 1:
        raise DeclarationError(
            f"{place}: it holds {len(tree['statements'])} statements", "one select statement, after the comment"
        )
    tables: set[str] = set()
    used: set[str] = set()
    locals_: set[str] = set()
    _walk(tree["statements"][0], tables, used, locals_)
    reads = tuple(sorted(table for table in tables if table not in locals_))
    for table in reads:
        if "." not in table:
            raise DeclarationError(f"{place}: it reads {table!r} without a layer", "write processed.… or reports.…")
    unknown = sorted(used - set(PARAMETERS))
    if unknown:
        raise DeclarationError(
            f"{place}: parameter ${unknown[0]} is not known", f"known: {', '.join('$' + each for each in PARAMETERS)}"
        )
    if header.history_days == 0 and _LOOKS_BACK.search(sql):
        raise DeclarationError(
            f"{place}: the query reads days before its own ({_LOOKS_BACK.search(sql)[0]} …), and would see none of them",  # type: ignore[index]
            "history_days = … in the comment says how many it may see",
        )
    return header, sql, reads, tuple(sorted(used))


def _walk(node: Any, tables: set[str], used: set[str], locals_: set[str]) -> None:
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE":
            schema = node.get("schema_name", "")
            tables.add(f"{schema}.{node['table_name']}" if schema else node["table_name"])
        if node.get("type") == "VALUE_PARAMETER":
            used.add(str(node.get("identifier", "")))
        for entry in (node.get("cte_map") or {}).get("map", []) if isinstance(node.get("cte_map"), dict) else []:
            locals_.add(entry["key"])
        for value in node.values():
            _walk(value, tables, used, locals_)
    elif isinstance(node, list):
        for value in node:
            _walk(value, tables, used, locals_)


def _bind(
    engine: duckdb.DuckDBPyConnection,
    path: Path,
    header: _Header,
    sql: str,
    reads: tuple[str, ...],
    used: tuple[str, ...],
    datasets: Datasets,
    known: Mapping[str, Mapping[str, str]],
    done: Mapping[str, SqlTable],
) -> SqlTable:
    place, own = _shown(path), f"{path.parent.name}.{path.stem}"
    is_daily = bool({"window_start", "window_end", "day"} & set(used))
    carries_on = own in reads
    reads = tuple(table for table in reads if table != own)
    if carries_on and not (is_daily and path.parent.name == "processed"):
        raise DeclarationError(
            f"{place}: it reads itself, and {'has no days' if not is_daily else 'is a report'}",
            "a processed table that reads $window_start, $window_end or $day sees its own day before",
        )
    for table in reads:
        if table not in known:
            near = difflib.get_close_matches(table, known, 1)
            raise DeclarationError(
                f"{place}: it reads {table}, which there isn't",
                f"did you mean {near[0]}?" if near else f"tables: {', '.join(known)}",
            )
    values: dict[str, object] = {
        "window_start": datetime(2000, 1, 1), "window_end": datetime(2000, 1, 2), "day": date(2000, 1, 1), "time_zone": "UTC"
    }  # fmt: skip
    try:
        # As it will be run; a statement that ends in a comment or has a second name for two columns shows here.
        query, given = f"describe select * from ({sql}\n)", {each: values[each] for each in used}
        if carries_on:
            described = _describe_itself(engine, place, own, list(header.columns), query, given)
        else:
            described = engine.execute(query, given).fetchall()
    except duckdb.Error as error:
        raise DeclarationError(
            f"{place}: the query doesn't bind: {error}", "columns and tables are those of the declarations"
        ) from error
    types = {row[0]: row[1] for row in described}
    if list(types) != list(header.columns):
        raise DeclarationError(
            f"{place}: the query gives {list(types)}, its comment describes {list(header.columns)}",
            "describe each column of the query, in its order, under [columns]",
        )
    if STATE in types:
        raise DeclarationError(
            f"{place}: a column is called {STATE}, in which the platform says whether a report is provisional, final or restated",
            "rename it",
        )
    for column in header.primary_key:
        if column not in types:
            raise DeclarationError(
                f"{place}: primary_key {column!r} is not among its columns {list(types)}", "fix the name"
            )
    for check in header.checks:
        try:
            _create_check(engine, sql, used, values, check)
        except duckdb.Error as error:
            raise DeclarationError(
                f"{place}: check {check.name!r} doesn't bind: {error}", "a condition over this table's columns"
            ) from error
    if carries_on:
        engine.execute(f"drop view {name(path.parent.name)}.{name(path.stem)}")
    depends_on = tuple(sorted({_table_of(table, datasets) for table in reads}))
    first_days = [
        datasets[table.split(".", 1)[1]].daily.from_
        if table.split(".", 1)[1] in datasets and table.startswith("processed.")
        else done[table].first_day
        for table in depends_on
    ]
    return SqlTable(
        layer=path.parent.name,
        name=path.stem,
        path=path,
        sql=sql,
        description=header.description,
        columns=header.columns,
        types=types,
        primary_key=header.primary_key,
        owners=header.owners,
        history_days=header.history_days,
        checks=header.checks,
        is_daily=is_daily,
        depends_on=depends_on,
        reads=reads,
        used_parameters=used,
        schema={table: dict(known[table]) for table in reads} | ({own: types} if carries_on else {}),
        first_day=max(first_days) if first_days else date(2000, 1, 1),
        tags=header.tags or {},
        sender_days=_sender_days(reads, header.history_days, datasets, done),
        may_be_empty=header.may_be_empty,
        waits_for_senders=header.waits_for_senders,
        carries_on=carries_on,
    )


def _describe_itself(
    engine: duckdb.DuckDBPyConnection,
    place: str,
    own: str,
    columns: Sequence[str],
    query: str,
    values: Mapping[str, object],
) -> list[tuple[str, str]]:
    """Columns and types of a query that reads its own table: those that come out when they go in. Leaves a view of them."""
    layer, table_name = own.split(".", 1)
    types = dict.fromkeys(columns, '"NULL"')
    engine.execute(f"create schema if not exists {name(layer)}")
    # Each round the types of what depends on itself get known; a sum that widens with every round would never end.
    for _ in range(_MOST_ROUNDS):
        empty = ", ".join(f"null::{kind} as {name(column)}" for column, kind in types.items())
        engine.execute(f"create or replace view {name(layer)}.{name(table_name)} as select {empty} where false")
        described = [(row[0], row[1]) for row in engine.execute(query, values).fetchall()]
        if described == list(types.items()) or [column for column, _ in described] != list(columns):
            return described
        types = dict(described)
    raise DeclarationError(
        f"{place}: it reads itself, and the types of its columns depend on themselves: {types}",
        "cast what is carried on: cast(before.balance + … as decimal(18, 2))",
    )


def _sender_days(
    reads: tuple[str, ...], history_days: int, datasets: Datasets, done: Mapping[str, SqlTable]
) -> dict[str, int]:
    """Dataset whose senders have a cutoff → how many days before its own a table that reads these sees of it."""
    found: dict[str, int] = {}
    for read in reads:
        table = _table_of(read, datasets)
        # Of what is current, the day's own state is seen.
        back = history_days if table == read else 0
        dataset = datasets.get(table.split(".", 1)[1])
        if table in done:
            days = {of: before + back for of, before in done[table].sender_days.items()}
        elif dataset is not None and dataset.senders is not None and dataset.senders.cutoff is not None:
            days = {dataset.name: back}
        else:
            days = {}
        for of, before in days.items():
            found[of] = max(before, found.get(of, 0))
    return found


def _create_check(
    engine: duckdb.DuckDBPyConnection, sql: str, used: tuple[str, ...], values: Mapping[str, object], check: Check
) -> None:
    engine.execute(
        f"describe select ({check.expression}) from ({sql}\n)", {each: values[each] for each in used}
    ).fetchall()


def _bind_checks(engine: duckdb.DuckDBPyConnection, datasets: Datasets) -> None:
    """Hold every dataset's own checks against its processed columns."""
    for dataset in datasets.values():
        for check in dataset.checks:
            try:
                engine.execute(f"describe select ({check.expression}) from {dataset.processed}").fetchall()
            except duckdb.Error as error:
                raise DeclarationError(
                    f"dataset {dataset.name!r}: check {check.name!r} doesn't bind: {error}",
                    "a condition over this dataset's columns",
                ) from error


def _table_of(table: str, datasets: Datasets) -> str:
    """The table that `processed.stores_current` is a view of; any other is itself."""
    layer, table_name = table.split(".", 1)
    if layer == "processed" and table_name.endswith(CURRENT):
        base = table_name.removesuffix(CURRENT)
        if base in datasets and datasets[base].kind == "snapshots" and table_name not in datasets:
            return f"processed.{base}"
    return table
