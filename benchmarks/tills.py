"""
What most benchmarks have in common: files of tills, the dataset that is made of them, one report, and bare DuckDB over the same files.

Belongs here: the data and its declaration. Doesn't: what is measured (`items/`).
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

    from ingestion_platform.dataset import Dataset, Datasets
    from ingestion_platform.format import Format
    from ingestion_platform.settings import Settings
    from ingestion_platform.warehouse import SqlTables, Warehouse

DAY = date(2024, 10, 1)
TYPES = {
    "transaction_id": "VARCHAR", "store_id": "VARCHAR", "sold_at": "TIMESTAMP", "product_id": "VARCHAR", "quantity": "INTEGER",
    "unit_price_zar": "DECIMAL(12,2)", "amount_zar": "DECIMAL(12,2)", "payment_method": "VARCHAR", "customer_id": "VARCHAR",
    "note": "VARCHAR",
}  # fmt: skip
HEADER = ",".join(TYPES) + "\n"
PAID = ("cash", "card", "mobile")
REPORTS = Path(__file__).resolve().parent / "sql"


# --- landing


def lines(store: str, day: date, rows: int, chance: random.Random) -> Iterator[str]:
    """A store's till lines of a day, without the header."""
    draw = chance.random
    for row in range(rows):
        quantity, cents = 1 + int(draw() * 5), 100 + int(draw() * 99_900)
        second = int(draw() * 3600)
        amount = quantity * cents
        yield (
            f"{store}-{day:%m%d}{row:08},{store},{day} {8 + row * 12 // rows:02}:{second // 60:02}:{second % 60:02},"
            f"P{int(draw() * 10_000):05},{quantity},{cents // 100}.{cents % 100:02},{amount // 100}.{amount % 100:02},"
            f"{PAID[row % 3]},C{int(draw() * 100_000):06},\n"
        )


def key(store: str, day: date, ending: str = "csv") -> str:
    """Where a store's file lands."""
    return f"tills/{day:%Y/%m/%d}/{store}.{ending}"


def land(folder: Path, *, files: int, rows: int, days: int = 1) -> None:
    """Write *files* files of each day, *rows* rows in each."""
    chance = random.Random(7)
    for number in range(days):
        day = DAY + timedelta(days=number)
        for one in range(files):
            write(folder, f"S{one:05}", day, rows, chance)


def write(folder: Path, store: str, day: date, rows: int, chance: random.Random) -> Path:
    """Write a store's file of a day; where."""
    path = folder / key(store, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        file.write(HEADER)
        file.writelines(lines(store, day, rows, chance))
    return path


def land_one(given: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """A side that nobody measures: land what is asked for, so that the one who measures stays small."""
    yield None
    land(Path(given["folder"]), files=given["files"], rows=given["rows"], days=given["days"])
    yield None
    yield {}


# --- ours


def dataset(name: str = "tills", format: "Format | None" = None, ending: str = "csv", first: date = DAY) -> "Dataset":
    """What a user would declare: rules, one row per key, late rows."""
    from ingestion_platform.dataset import Daily, Dataset, LandedFiles
    from ingestion_platform.format import Csv
    from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, decimal

    kinds = {"VARCHAR": VARCHAR, "TIMESTAMP": TIMESTAMP, "INTEGER": INTEGER, "DECIMAL(12,2)": decimal(12, 2)}
    rules: dict[str, dict[str, Any]] = {
        "transaction_id": {"required": True}, "quantity": {"minimum": -999, "maximum": 999}, "amount_zar": {"required": True},
        "payment_method": {"one_of": ("cash", "card", "mobile", "voucher")}, "sold_at": {"required": True},
    }  # fmt: skip
    return Dataset(
        name=name,
        description="One row per till line.",
        source=LandedFiles(f"{name}/%Y/%m/%d/{{store_id}}.{ending}", format or Csv()),
        columns=tuple(
            Column(column, kinds[kind], "As its name says.", **rules.get(column, {})) for column, kind in TYPES.items()
        ),
        primary_key=("transaction_id",),
        event_time="sold_at",
        daily=Daily(first, allowed_lateness_days=3),
    )


def declared(**arguments: Any) -> "tuple[Datasets, SqlTables]":
    """The dataset and its report."""
    from zoneinfo import ZoneInfo

    from ingestion_platform.dataset import Datasets
    from ingestion_platform.warehouse import load_sql_tables

    datasets = Datasets([dataset(**arguments)])
    return datasets, load_sql_tables(datasets, zone=ZoneInfo("Africa/Johannesburg"), folder=REPORTS)


def settings(landing: str, out: Path) -> "Settings":
    """A deployment whose tables are in *out*."""
    from ingestion_platform.settings import Settings

    return Settings.model_validate(
        {"landing": landing, "warehouse": out / "warehouse.duckdb", "publish": out / "published"}
    )


def environment(landing: str, out: Path) -> dict[str, str]:
    """The same for a process that reads its settings itself, with Dagster's home beside them."""
    return {
        "INGESTION_LANDING": landing,
        "INGESTION_WAREHOUSE": str(out / "warehouse.duckdb"),
        "INGESTION_PUBLISH": str(out / "published"),
        "DAGSTER_HOME": str(out / "dagster"),
    }


@contextmanager
def opened(landing: str, out: Path, parts: "tuple[Datasets, SqlTables]") -> "Iterator[Warehouse]":
    """The warehouse of a deployment."""
    from ingestion_platform.landing import open_landing
    from ingestion_platform.warehouse import Warehouse

    with Warehouse(settings(landing, out), open_landing(landing), *parts) as warehouse:
        yield warehouse


def run_day(
    given: Mapping[str, Any], parts: "tuple[Datasets, SqlTables]", clock: "Callable[[], float]"
) -> dict[str, float]:
    """A day from landing to the report; what its parts took, in seconds."""
    moments = [clock()]
    with opened(given["landing"], Path(given["out"]), parts) as warehouse:
        declared_tills = warehouse.datasets["tills"]
        warehouse.load(declared_tills, DAY)
        moments.append(clock())
        warehouse.process(declared_tills, DAY)
        moments.append(clock())
        warehouse.derive(warehouse.sql_tables["reports.sales_by_store"], DAY)
        moments.append(clock())
    moments.append(clock())
    names = ("load", "process", "report", "publish")
    return {
        f"{name}_part_seconds": round(end - begin, 3)
        for name, begin, end in zip(names, moments, moments[1:], strict=False)
    }


def practise() -> None:
    """Go through a day of four rows elsewhere, so that whatever is imported on the way is there before a clock starts."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "landing"
        land(folder, files=2, rows=2)
        run_day({"landing": str(folder), "out": root}, declared(), lambda: 0.0)


def processed(landing: str, out: Path, parts: "tuple[Datasets, SqlTables]") -> dict[str, Any]:
    """What is in the processed table."""
    with opened(landing, out, parts) as warehouse:
        found = warehouse.query("select count(*) as rows, sum(amount_zar) as total from processed.tills").to_pylist()[0]
    return {"rows": int(found["rows"]), "total": f"{found['total']}"}


def count(given: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """A side that nobody measures: what a deployment's processed table holds."""
    yield None
    yield None
    yield processed(given["landing"], Path(given["out"]), declared())


def fill(given: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """A side that nobody measures: load and compute everything that has landed."""
    from ingestion_platform.warehouse import upkeep

    yield None
    out = Path(given["out"])
    with opened(given["landing"], out, declared()) as warehouse:
        upkeep.catch_up(warehouse)
    yield None
    yield {}


# --- bare DuckDB


def connection(path: Path) -> "duckdb.DuckDBPyConnection":
    """A DuckDB file of its own."""
    import duckdb

    made = duckdb.connect(str(path))
    made.execute("set enable_progress_bar = false")
    return made


def read_csv(made: "duckdb.DuckDBPyConnection", files: Sequence[str]) -> None:
    """The limit: the list of files into one table, with explicit types."""
    made.execute(
        "create table tills as select * from read_csv($files, columns = $types, header = true, auto_detect = false, delim = ',',"
        " quote = '\"', filename = true)",
        {"files": list(files), "types": TYPES},
    ).fetchall()


def table_of(path: Path, table: str = "tills") -> dict[str, Any]:
    """What is in a table of a DuckDB file."""
    made = connection(path)
    rows, total = made.execute(f"select count(*), sum(amount_zar::decimal(12, 2)) from {table}").fetchall()[0]
    made.close()
    return {"rows": int(rows), "total": f"{total}"}


def files_under(folder: str, ending: str = "csv") -> list[str]:
    """Paths of the landed files, in order."""
    return [str(path) for path in sorted((Path(folder) / "tills").rglob(f"*.{ending}"))]


def copy(source: Path, target: Path) -> None:
    """A landing zone of the same files, which can be changed: hard links where the disk has them."""
    shutil.copytree(source, target, copy_function=_link)


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
