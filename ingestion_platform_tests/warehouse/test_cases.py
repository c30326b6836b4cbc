"""Real files that nobody here wrote, all the way: landed, loaded, processed, reported; the answers were found without this code."""

import csv
import json
from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import Csv, Format, JsonLines, Parquet, Xml
from ingestion_platform.table import BIGINT, BOOLEAN, DATE, INTEGER, TIMESTAMP, VARCHAR, Column, DataType, decimal
from ingestion_platform.warehouse import upkeep
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
RETAIL = CASES / "04-retail"
DUCKDB = CASES / "02-duckdb-csv"
PEERS = CASES / "08-peer-suites"
AIRBYTE = PEERS / "airbyte-file-based"
PLAYERS = PEERS / "dlt" / "tests" / "common" / "storages" / "samples"
XML = CASES / "09-xml"


def answers(folder: Path) -> Any:
    """What is known of a folder's files."""
    return json.loads((folder / "expected.json").read_text())


def table(name: str, format: Format, ending: str, *columns: Column, primary_key: tuple[str, ...] = ()) -> Dataset:
    """A snapshot a day."""
    return Dataset(
        name=name,
        description="As it was sent.",
        kind="snapshots",
        source=LandedFiles(f"{name}/%Y-%m-%d{ending}", format),
        columns=columns,
        primary_key=primary_key,
        daily=Daily(date(2000, 1, 1)),
    )


def column(name: str, type_: DataType = VARCHAR, source: str | None = None, **rules: Any) -> Column:
    """A column whose docs don't matter here."""
    return Column(name, type_, "As it was sent.", source=source, **rules)


def run(
    root: Path, contents: Mapping[str, bytes], *datasets: Dataset, reports: Mapping[str, str] | None = None
) -> Bench:
    """Land the contents, and do everything there is to do, twice: the second time changes nothing."""
    folder = root / "sql"
    for name, sql in (reports or {}).items():
        (folder / "reports").mkdir(parents=True, exist_ok=True)
        (folder / "reports" / f"{name}.sql").write_text(sql)
    bench = Bench(root, Datasets(datasets), sql=folder if reports else None)
    for key, content in contents.items():
        bench.put(key, content)
    upkeep.catch_up(bench.warehouse)
    before = bench.export()
    upkeep.catch_up(bench.warehouse)
    assert not list(differences(before, bench.export()))
    assert upkeep.verify(bench.warehouse) == []
    for dataset in datasets:
        for day in bench.warehouse.days(dataset.processed):
            done = bench.warehouse.table_day(dataset.processed, day)
            assert done is not None
            assert done.balance is not None
            assert done.balance.holds
    return bench


INVOICES = Dataset(
    name="invoice_lines",
    description="One row per line of an invoice.",
    source=LandedFiles("invoices/%Y-%m-%d.csv"),
    columns=(
        column("invoice", source="InvoiceNo", required=True, pattern="C?[0-9]{6}|A[0-9]{6}"),
        column("stock_code", source="StockCode", required=True),
        column("description", source="Description"),
        column("quantity", INTEGER, "Quantity", required=True),
        column("invoiced_at", TIMESTAMP, "InvoiceDate", required=True),
        column("price_gbp", decimal(12, 3), "UnitPrice", required=True),
        column("customer", source="CustomerID"),
        column("country", source="Country", required=True),
    ),
    event_time="invoiced_at",
    daily=Daily(date(2010, 12, 1)),
)

REVENUE = """/*
description = "One row per day."
primary_key = ["sold_on"]
[columns]
sold_on = "Day."
lines = "Lines."
invoices = "Invoices."
quantity = "Units."
net_revenue_gbp = "Returns taken off."
sales_revenue_gbp = "Returns left out."
duplicate_lines = "Lines that say the same as another."
*/
select
    $day as sold_on, count(*) as lines, count(distinct invoice) as invoices, sum(quantity)::bigint as quantity,
    sum(quantity * price_gbp)::decimal(18, 2) as net_revenue_gbp,
    coalesce(sum(quantity * price_gbp) filter (where quantity > 0), 0)::decimal(18, 2) as sales_revenue_gbp,
    count(*) - count(distinct (invoice, stock_code, description, quantity, invoiced_at, price_gbp, customer, country)) as duplicate_lines
from processed.invoice_lines
where invoiced_at >= $window_start and invoiced_at < $window_end
"""


def test_a_month_of_a_real_shop_to_the_cent(tmp_path: Path) -> None:
    """Lines, invoices, units and revenue of every day; lines that say the same are lines of their own; Saturdays have no partition."""
    expected = answers(RETAIL / "online-retail-by-day")
    contents = {
        f"invoices/{day}.csv": (RETAIL / "online-retail-by-day" / f"{day}.csv").read_bytes() for day in expected
    }
    bench = run(tmp_path, contents, INVOICES, reports={"daily_revenue": REVENUE})
    found = {
        row["sold_on"].isoformat(): {
            "rows": row["lines"],
            "invoices": row["invoices"],
            "quantity": row["quantity"],
            "net_revenue": str(row["net_revenue_gbp"]),
            "sales_revenue": str(row["sales_revenue_gbp"]),
            "duplicate_rows": row["duplicate_lines"],
        }
        for row in bench.warehouse.read("reports.daily_revenue").to_pylist()
    }
    assert found == {
        day: {key: value for key, value in each.items() if key != "bytes"} for day, each in expected.items()
    }
    assert all(date.fromisoformat(day).weekday() != 5 for day in found)
    assert bench.rows("platform.quarantine", "reasons") == []
    assert bench.rows("platform.ledger", "state") == [("loaded",)] * len(expected)
    assert bench.rows("(select sum(size_bytes) as bytes from platform.ledger)", "bytes") == [
        (sum(day["bytes"] for day in expected.values()),)
    ]


def test_a_real_shop_in_any_order_and_sent_twice(tmp_path: Path) -> None:
    """The same days under second names, and from the last to the first, give the same processed tables."""
    days = list(answers(RETAIL / "online-retail-by-day"))[:4]
    contents = {day: (RETAIL / "online-retail-by-day" / f"{day}.csv").read_bytes() for day in days}
    twice = Dataset(**{**vars_of(INVOICES), "source": LandedFiles("invoices/%Y-%m-%d{copy}.csv")})
    straight = Bench(tmp_path / "straight", Datasets([twice]))
    backwards = Bench(tmp_path / "backwards", Datasets([twice]))
    for bench, order in ((straight, days), (backwards, days[::-1])):
        for day in order:
            for name in ("-1", "-2-again") if bench is straight else ("-2-again", "-1"):
                bench.put(f"invoices/{day}{name}.csv", contents[day])
                bench.load("invoice_lines", date.fromisoformat(day))
        upkeep.catch_up(bench.warehouse)
    assert not list(differences(straight.export(), backwards.export()))
    assert straight.rows("(select count(*) as lines from processed.invoice_lines)", "lines") == [
        (sum(len(content.splitlines()) - 1 for content in contents.values()),)
    ]


def vars_of(dataset: Dataset) -> dict[str, Any]:
    """A declaration's arguments."""
    return {name: getattr(dataset, name) for name in ("name", "description", "columns", "event_time", "daily")}


PAID = """/*
description = "One row per method."
primary_key = ["payment_method"]
[columns]
payment_method = "How."
cents = "Together."
*/
select payment_method, sum(amount_cents)::bigint as cents from processed.payments group by payment_method
"""


def test_jaffle_shop(tmp_path: Path) -> None:
    """Customers, orders and payments with their references, and what was paid by which method."""
    folder = RETAIL / "jaffle-shop-classic"
    expected = answers(folder)
    format = Csv(
        final_newline=all(
            (folder / "seeds" / f"raw_{name}.csv").read_bytes().endswith(b"\n")
            for name in ("customers", "orders", "payments")
        )
    )
    customers = table(
        "customers",
        format,
        ".csv",
        column("id", INTEGER, required=True),
        column("first_name"),
        column("last_name"),
        primary_key=("id",),
    )
    orders = table(
        "orders", format, ".csv",
        column("id", INTEGER, required=True),
        column("customer_id", INTEGER, "user_id", references="customers.id"),
        column("ordered_on", DATE, "order_date"),
        column("status", one_of=tuple(expected["status"])),
        primary_key=("id",),
    )  # fmt: skip
    payments = table(
        "payments", format, ".csv",
        column("id", INTEGER, required=True),
        column("order_id", INTEGER, required=True),
        column("payment_method", one_of=tuple(expected["by_method"])),
        column("amount_cents", INTEGER, "amount", minimum=0),
        primary_key=("id",),
    )  # fmt: skip
    contents = {
        f"{name}/{DAY}.csv": (folder / "seeds" / f"raw_{name}.csv").read_bytes()
        for name in ("customers", "orders", "payments")
    }
    bench = run(tmp_path, contents, customers, orders, payments, reports={"paid": PAID})
    counts = {name: len(bench.rows(f"processed.{name}", "id")) for name in ("customers", "orders", "payments")}
    assert counts == {name: expected[name] for name in counts}
    paid = bench.rows("reports.paid", "payment_method", "cents")
    assert {str(method): cents for method, cents in paid} == expected["by_method"]
    assert sum(int(str(cents)) for _, cents in paid) == expected["payment_total_cents"]
    ordered = bench.rows("processed.orders", "ordered_on", "status", "customer_id")
    assert (str(ordered[0][0]), str(ordered[-1][0])) == (expected["first_order"], expected["last_order"])
    assert Counter(status for _, status, _ in ordered) == expected["status"]
    assert expected["customers"] - len({customer for _, _, customer in ordered}) == expected["customers_without_orders"]
    assert bench.rows("platform.quarantine", "reasons") == []


def test_a_real_byte_order_mark(tmp_path: Path) -> None:
    """Olist's translation of product categories begins with one; no row has it."""
    path = RETAIL / "olist-partial" / "datasets" / "product_category_name_translation.csv"
    content = path.read_bytes()
    dataset = table(
        "categories", Csv(final_newline=content.endswith(b"\n")), ".csv",
        column("name", source="product_category_name", required=True),
        column("english", source="product_category_name_english", required=True),
        primary_key=("name",),
    )  # fmt: skip
    bench = run(tmp_path, {f"categories/{DAY}.csv": content}, dataset)
    with path.open(encoding="utf-8-sig", newline="") as file:
        truth = sorted(tuple(row) for row in list(csv.reader(file))[1:])
    assert len(truth) == 71
    assert bench.rows("processed.categories", "name", "english") == truth


def test_bestbuys_categories_as_lines(tmp_path: Path) -> None:
    """4,584 nested categories, an object a line: paths six deep are kept as JSON."""
    categories = json.loads((RETAIL / "bestbuy" / "categories.json").read_text())
    dataset = table(
        "categories", JsonLines(), ".jsonl",
        column("id", required=True), column("name"), column("path"), column("children", source="subCategories"),
        primary_key=("id",),
    )  # fmt: skip
    content = "".join(json.dumps(category) + "\n" for category in categories).encode()
    bench = run(tmp_path, {f"categories/{DAY}.jsonl": content}, dataset)
    found = bench.rows("processed.categories", "id", "name", "path", "children")
    truth = {category["id"]: category for category in categories}
    assert len(found) == len(truth) == 4584
    for id_, name, path, children in found:
        category = truth[str(id_)]
        assert (name, json.loads(str(path)), json.loads(str(children))) == (
            category["name"],
            category["path"],
            category["subCategories"],
        )
    assert max(len(json.loads(str(path))) for _, _, path, _ in found) == 6


def test_players_are_the_same_table_from_csv_json_lines_and_parquet(tmp_path: Path) -> None:
    """Three formats, three datasets, one processed table."""
    # Ages are left out: the CSV has them with decimals, the others without.
    columns = (
        column("name", source="Name", required=True),
        column("team", source="Team", required=True),
        column("position", source="Position", required=True),
        column("height_inches", INTEGER, "Height(inches)"),
        column("weight_lbs", INTEGER, "Weight(lbs)"),
    )
    contents, datasets = {}, []
    for ending, format in (("csv", Csv(final_newline=False)), ("jsonl", JsonLines()), ("parquet", Parquet())):
        datasets.append(table(f"from_{ending}", format, f".{ending}", *columns))
        contents[f"from_{ending}/{DAY}.{ending}"] = (PLAYERS / ending / f"mlb_players.{ending}").read_bytes()
    bench = run(tmp_path, contents, *datasets)
    names = tuple(column.name for column in columns)
    from_csv, from_lines, from_parquet = (
        bench.rows(f"processed.from_{ending}", *names) for ending in ("csv", "jsonl", "parquet")
    )
    assert len(from_csv) == 1034
    assert from_csv == from_lines == from_parquet


def expressible(kind: str) -> list[Any]:
    """Airbyte's scenarios that a declaration can express: no words for true and false, no lines skipped after the header, one escape."""
    found = []
    for path in sorted((AIRBYTE / kind).glob("*/expected.json")):
        scenario = json.loads(path.read_text())
        formats = [stream.get("format") or {} for stream in scenario["config"]["streams"]]
        known = {
            "filetype",
            "delimiter",
            "quote_char",
            "escape_char",
            "newlines_in_values",
            "skip_rows_before_header",
            "header_definition",
            "double_quotes",
            "double_quote",
            "null_values",
            "strings_can_be_null",
        }
        if (
            all(set(format) <= known for format in formats)
            and not any(format.get("escape_char") and format.get("double_quote") for format in formats)
            and scenario["expected_records"]
            and not scenario["expected_read_error"]
        ):
            found.append(pytest.param(path, id=path.parent.name))
    assert found
    return found


TYPES = {"boolean": BOOLEAN, "integer": BIGINT, "number": decimal(18, 6)}


@pytest.mark.parametrize("path", [*expressible("csv_scenarios"), *expressible("jsonl_scenarios")])
def test_airbytes_scenarios(path: Path, tmp_path: Path) -> None:
    """The records that Airbyte's own tests expect of a stream are the processed rows of that stream as a dataset."""
    scenario = json.loads(path.read_text())
    for number, stream in enumerate(scenario["config"]["streams"]):
        records = [record["data"] for record in scenario["expected_records"] if record["stream"] == stream["name"]]
        plain = [
            {name: value for name, value in record.get("data", record).items() if not name.startswith("_ab_")}
            for record in records
        ]
        files = sorted({record["_ab_source_file_url"] for record in records})
        if not files:
            continue
        hints = stream.get("format") or {}
        ending = files[0].rsplit(".", 1)[1]
        contents = {f"sent/{DAY}/{name}": (path.parent / "files" / name).read_bytes() for name in files}
        format: Format = JsonLines()
        if ending == "csv":
            format = Csv(
                delimiter=hints.get("delimiter", ","),
                quote=hints.get("quote_char", '"'),
                escape=hints.get("escape_char") or "",
                header_at=hints.get("skip_rows_before_header", 0),
                header_rows=0 if "header_definition" in hints else 1,
                final_newline=all(content.endswith(b"\n") for content in contents.values()),
            )
        names = list(dict.fromkeys(name for record in plain for name in record))
        given = json.loads(stream["input_schema"]) if stream.get("input_schema") else {}
        nulls = tuple(hints.get("null_values", [""]))
        columns = []
        for name in names:
            kinds = {type(record[name]) for record in plain if record.get(name) is not None}
            inferred = {int: BIGINT, float: decimal(18, 6), bool: BOOLEAN}
            type_ = TYPES.get(
                given.get(name, ""), inferred.get(kinds.pop(), VARCHAR) if len(kinds) == 1 and not given else VARCHAR
            )
            keeps_words = type_ == VARCHAR and not hints.get("strings_can_be_null", True)
            columns.append(column(name, type_, null_values=() if keeps_words else nulls))
        dataset = Dataset(
            name="sent",
            description="As it was sent.",
            kind="snapshots",
            source=LandedFiles(f"sent/%Y-%m-%d/{{file}}.{ending}", format),
            columns=tuple(columns),
            daily=Daily(DAY),
        )
        bench = run(tmp_path / str(number), contents, dataset)
        order = [*names]
        found = bench.warehouse.query(
            f"select {', '.join(order)} from processed.sent order by _object, _row"
        ).to_pylist()
        assert [{name: plain_value(value) for name, value in row.items() if value is not None} for row in found] == [
            {name: value for name, value in record.items() if value is not None} for record in plain
        ]
        assert bench.rows("platform.quarantine", "reasons") == []


def plain_value(value: object) -> object:
    """As JSON has it."""
    return float(value) if isinstance(value, Decimal) else value


def test_what_airbyte_calls_invalid_is_set_aside(tmp_path: Path) -> None:
    """A row with more cells than the header, and a line that is no JSON: those alone, each with its reason and its text."""
    contents = {
        f"rows/{DAY}.csv": (AIRBYTE / "csv_scenarios" / "invalid_csv_scenario" / "files" / "a.csv").read_bytes(),
        f"lines/{DAY}.jsonl": (
            AIRBYTE / "jsonl_scenarios" / "invalid_jsonl_scenario" / "files" / "a.jsonl"
        ).read_bytes(),
    }
    bench = run(
        tmp_path,
        contents,
        table("rows", Csv(), ".csv", column("col1")),
        table("lines", JsonLines(), ".jsonl", column("col1")),
    )
    assert bench.rows("processed.lines", "col1") == [("val1",)]
    assert bench.rows("processed.rows", "col1") == []
    found = bench.rows("platform.quarantine", "dataset", "_row", "record")
    assert found[0] == ("lines", 2, "invalid")
    assert [row[:2] for row in found[1:]] == [("rows", 1), ("rows", 2)]


SPACED_DATE = " ?[0-9]{4}-[0-9]{2}-[0-9]{2}"
SPACED_NUMBER = " ?[0-9]+"
DOGS = (
    column("name"), column("age", INTEGER), column("current_day", pattern=SPACED_DATE),
    column("barks", source=" barks", pattern=SPACED_NUMBER),
)  # fmt: skip
DUCKDB_COLUMNS: dict[str, tuple[Column, ...]] = {
    "incorrect_columns": tuple(column(name, INTEGER) for name in ("a", "b", "c", "d")),
    # Its cells begin with a space, which our numbers and dates don't take.
    "multiple_errors": DOGS,
    "multiple_casts_flush": (*DOGS[:3], column("tomorrow", source=" tomorrow", pattern=SPACED_DATE)),
    "flush": (column("number", decimal(18, 6)),),
    # Each line ends in one more delimiter.
    "bad": (column("col0", INTEGER), column("col1", INTEGER), column("col2"), column("nothing", INTEGER)),
    "bad2": (column("col0", INTEGER), column("col1", INTEGER), column("col2", INTEGER), column("nothing", INTEGER)),
    "big_bad": (column("num", INTEGER), column("str")),
    "big_bad2": (column("num", INTEGER), column("str")),
}


@pytest.mark.parametrize("case", answers(DUCKDB), ids=lambda case: case["file"])
def test_the_bad_lines_of_duckdbs_files_end_in_quarantine(case: dict[str, Any], tmp_path: Path) -> None:
    """Exactly the lines that DuckDB's own tests call bad, by their row numbers; every other line is processed."""
    path = DUCKDB / case["file"]
    columns = DUCKDB_COLUMNS.get(path.stem) or DUCKDB_COLUMNS[path.parent.name]
    content, header_lines = path.read_bytes(), 1
    if path.parent.name == "mismatch":
        # It has no header, which our declarations ask for: it gets one.
        content, header_lines = ",".join(column.field for column in columns).encode() + b"\n" + content, 0
    bench = run(tmp_path, {f"lines/{DAY}.csv": content}, table("lines", Csv(final_newline=False), ".csv", *columns))
    assert [entry.missing_columns for entry in bench.warehouse.raw_day(bench.datasets["lines"], DAY).entries] == [()]
    bad = [line - header_lines for line in case["rejected_lines"]]
    assert sorted(row for (row,) in bench.rows("platform.quarantine", "_row")) == bad  # type: ignore[type-var]
    assert len(bench.rows("processed.lines", "_row")) == case["physical_nonblank_lines"] - header_lines - len(bad)


SUMS = """/*
description = "One row per invoice."
primary_key = ["document"]
[columns]
document = "The file."
invoice = "Its number."
issued_on = "When."
currency = "Of all amounts."
lines = "How many."
amount = "Their sum, without tax."
payable = "What is to be paid."
supplier = "Who sent it."
*/
select document, min(invoice) as invoice, min(issued_on) as issued_on, min(currency) as currency, count(*) as lines,
    sum(amount)::decimal(18, 2) as amount, min(payable) as payable, min(supplier) as supplier
from processed.invoice_lines where _day = $day group by document
"""


def test_european_invoices_to_the_cent(tmp_path: Path) -> None:
    """Number, date, currency, lines, their sum, what is to be paid and the supplier of three EN 16931 invoices."""
    expected = answers(XML)
    dataset = Dataset(
        name="invoice_lines",
        description="One row per line of an invoice.",
        kind="snapshots",
        source=LandedFiles("invoices/%Y-%m-%d/{document}.xml", Xml(record="Invoice/InvoiceLine")),
        columns=(
            column("document", capture="document"),
            column("invoice", source="../ID", required=True),
            column("line", source="ID", required=True),
            column("issued_on", DATE, "../IssueDate", required=True),
            column("currency", source="LineExtensionAmount/@currencyID", required=True),
            column("amount", decimal(18, 2), "LineExtensionAmount", required=True),
            column("payable", decimal(18, 2), "../LegalMonetaryTotal/PayableAmount", required=True),
            column("supplier", source="../AccountingSupplierParty/Party/PartyLegalEntity/RegistrationName"),
        ),
        primary_key=("document", "line"),
        daily=Daily(DAY),
    )
    contents = {f"invoices/{DAY}/{Path(name).stem}.xml": (XML / name).read_bytes() for name in expected}
    bench = run(tmp_path, contents, dataset, reports={"invoices": SUMS})
    found = {
        row["document"]: (
            row["invoice"], str(row["issued_on"]), row["currency"], row["lines"], str(row["amount"]), str(row["payable"]), row["supplier"],
        )
        for row in bench.warehouse.read("reports.invoices").to_pylist()
    }  # fmt: skip
    keys = ("id", "issue_date", "currency", "lines", "sum_line_extension", "payable", "supplier")
    assert found == {Path(name).stem: tuple(each[key] for key in keys) for name, each in expected.items()}
    assert bench.rows("platform.quarantine", "reasons") == []


def test_polluted_files_are_whole_or_rejected_and_cost_the_others_nothing(tmp_path: Path) -> None:
    """A hundred files with one fault each beside the clean one: what is in raw agrees with the ledger, record for record."""
    folder = CASES / "01-pollock" / "polluted_files" / "csv"
    names = sorted(path.name for path in folder.glob("*.csv"))
    chosen = names[:: max(1, len(names) // 100)]
    sources = ("DATE", "TIME", "Qty", "PRODUCTID", "Price", "ProductType", "ProductDescription", "URL", "Comments")
    dataset = Dataset(
        name="polluted",
        description="As it was sent.",
        kind="snapshots",
        source=LandedFiles("polluted/%Y-%m-%d/{file}.csv"),
        columns=tuple(column(f"c{number}", source=source) for number, source in enumerate(sources)),
        daily=Daily(DAY),
    )
    bench = run(tmp_path, {f"polluted/{DAY}/{name}": (folder / name).read_bytes() for name in chosen}, dataset)
    entries = bench.warehouse.raw_day(dataset, DAY).entries
    assert len(entries) == len(chosen)
    assert {entry.state for entry in entries} <= {"loaded", "duplicate", "rejected"}
    assert all(entry.reason.isprintable() and entry.reason for entry in entries if entry.state == "rejected")
    assert all(entry.rows_read == entry.rows_loaded + entry.rows_quarantined for entry in entries)
    assert len(bench.rows("raw.polluted", "_row")) == sum(entry.rows_loaded for entry in entries) > 1000
