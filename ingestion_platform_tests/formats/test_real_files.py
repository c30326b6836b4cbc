"""Real files with answers that were found without this code."""

import csv
import importlib
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestion_platform.format import Csv, JsonLines, Parquet, Xml
from ingestion_platform.formats import Records
from ingestion_platform_tests.formats.reading import CASES, extras, read, read_if_possible, refusal, rejections, rows

POLLOCK = CASES / "01-pollock" / "polluted_files"
DUCKDB = CASES / "02-duckdb-csv"
JSON = CASES / "03-json"
RETAIL = CASES / "04-retail"
PEERS = CASES / "08-peer-suites"
XML = CASES / "09-xml"
DLT = PEERS / "dlt" / "tests" / "common" / "storages" / "samples"

POLLOCK_COLUMNS = ("DATE", "TIME", "Qty", "PRODUCTID", "Price", "ProductType", "ProductDescription", "URL", "Comments")


def names(folder: Path, pattern: str) -> list[str]:
    """Files there, to be tests' names."""
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
    assert found, f"no {pattern} in {folder}"
    return found


def by_python(path: Path, **dialect: Any) -> list[list[str]]:
    """The file as Python's csv module reads it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, **dialect))


def with_extras(records: Records, *sources: str) -> list[dict[str, str]]:
    """Rows by column, those that no field asked for among them."""
    return [
        dict(zip(sources, row, strict=True)) | (extra or {})
        for row, extra in zip(rows(records), extras(records), strict=True)
    ]


@pytest.mark.parametrize("dialect", ["declared", "default"])
@pytest.mark.parametrize("name", names(POLLOCK / "csv", "*.csv"))
def test_no_polluted_file_is_wrong_in_silence(name: str, dialect: str) -> None:
    """Every row delivered is a row of the clean file, and as many rows as it has are delivered or rejected; or the object is."""
    hints = json.loads((POLLOCK / "parameters" / f"{name}_parameters.json").read_text())
    format = (
        Csv(delimiter=hints["delimiter"] or ",", quote=hints["quotechar"] or '"') if dialect == "declared" else Csv()
    )
    clean = by_python(POLLOCK / "clean" / name)[1:]
    records = read_if_possible(format, (POLLOCK / "csv" / name).read_bytes(), *POLLOCK_COLUMNS)
    if records is None:
        return
    assert records.rows_read >= len(clean)
    if format.quote == "'":
        # Its escapes are still those of the other quote: as sent, 48" is 48"".
        clean = [[cell.replace('"', '""') for cell in row] for row in clean]
    found = [list(row) for row in rows(records)]
    if hints["quotechar"] == "'" and format.quote != "'":
        # Under the wrong dialect its quotes are text.
        clean, found = ([[cell and cell.replace("'", "") for cell in row] for row in rows_] for rows_ in (clean, found))
    present = [index for index, column in enumerate(POLLOCK_COLUMNS) if column not in records.missing_columns]
    assert not Counter(tuple(row[index] for index in present) for row in found) - Counter(
        tuple(row[index] for index in present) for row in clean
    )
    assert len(records.rejected) == records.rows_read - records.table.num_rows
    if records.table.num_rows < len(clean):
        assert records.rejected


@pytest.mark.parametrize(("way", "least"), [("with hints", 9.96), ("without hints", 9.86)])
def test_pollocks_score_is_held(way: str, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the benchmark's own measures over the files at hand, as `benchmarks/pollock.py` reads them; nothing is wrong in silence."""
    monkeypatch.syspath_prepend(str(POLLOCK.parent))
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    scorer: Any = importlib.import_module("score")
    loader: Any = importlib.import_module("pollock")
    total = 0.0
    found = names(POLLOCK / "csv", "*.csv")
    for name in found:
        hints = json.loads((POLLOCK / "parameters" / f"{name}_parameters.json").read_text())
        loaded = loader.load(str(POLLOCK / "csv" / name), hints if way == "with hints" else None)
        assert loaded["error"] is None
        measures, strict = scorer.measure(scorer.read_clean(POLLOCK / "clean" / name), loaded["rows"])
        assert strict == 1 or loaded["rejected"]
        total += 1 + sum(measures)
    assert total / len(found) >= least


@pytest.mark.parametrize("case", json.loads((DUCKDB / "expected.json").read_text()), ids=lambda case: case["file"])
def test_lines_with_a_wrong_number_of_cells_are_the_rejected_ones(case: dict[str, Any]) -> None:
    """Exactly the lines that DuckDB's own tests call too short or too long; casts are no matter of reading."""
    content = (DUCKDB / case["file"]).read_bytes()
    first = by_python(DUCKDB / case["file"])[0]
    header_lines = 1
    if not first[0].isalpha():
        # It has no header, which our declarations ask for: it gets one.
        first, header_lines = [f"column {index}" for index in range(len(first))], 0
        content = ",".join(first).encode() + b"\n" + content
    records = read(Csv(final_newline=False), content, *first)
    wrong = {"MISSING COLUMNS", "TOO MANY COLUMNS"} & set(case["kinds"])
    expected = [line - header_lines for line in case["rejected_lines"]] if wrong else []
    assert [record.row for record in records.rejected] == expected
    assert records.rows_read == case["physical_nonblank_lines"] - header_lines


def test_invalid_bytes_and_stray_quotes_of_duckdbs_files() -> None:
    """A record that isn't UTF-8, text behind a closing quote, and rows after a stray quote."""
    folder = DUCKDB / "csv" / "rejects"
    records = read(
        Csv(final_newline=False), (folder / "multiple_errors" / "invalid_utf_more.csv").read_bytes(), "name", "age"
    )
    assert all("\\xff" in record.record for record in records.rejected)
    assert len(records.rejected) >= 1
    records = read(Csv(final_newline=False), (folder / "unquoted" / "basic.csv").read_bytes(), "a", "b")
    assert rejections(records) == [(4, "has text after a closing quote", '"blaaaaaaaaaaaaaa"bla,4')]
    assert rows(records) == [("bla", number) for number in "123123"]
    records = read(Csv(final_newline=False), (folder / "unquoted" / "unquoted_new_line.csv").read_bytes(), "a", "b")
    assert rows(records) == [("bla", number) for number in "123123"]
    assert "is never closed" in refusal(
        Csv(final_newline=False), (folder / "unquoted" / "unquoted_last_value.csv").read_bytes(), "blaaaaaaaaaaaaaa"
    )


@pytest.mark.parametrize("name", names(DUCKDB / "csv", "**/*.csv"))
def test_every_file_of_duckdb_is_read_exactly_or_refused(name: str) -> None:
    """Read by its own first line's columns, each row delivered is one that Python's csv module finds, too."""
    path = DUCKDB / "csv" / name
    content = path.read_bytes()
    first = next(iter(csv.reader(content.decode("utf-8-sig", "replace").splitlines()[:1])), [])
    records = read_if_possible(Csv(final_newline=False), content, *first)
    if records is None:
        return
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        found = [tuple(row) for row in csv.reader(file)][1:]
    assert not Counter(rows(records)) - Counter(found)
    if not records.rejected:
        assert Counter(rows(records)) == Counter(row for row in found if row)


@pytest.mark.parametrize("name", names(JSON / "test_parsing", "[yn]_*.json"))
def test_json_is_accepted_and_refused_as_the_test_suite_says(name: str) -> None:
    """As a member of a line's object, what must parse is kept to the letter, and what must not parse never gets through."""
    document = (JSON / "test_parsing" / name).read_bytes()
    if b"\n" in document.strip():
        # It would be several lines.
        document = document.replace(b"\n", b" ") if name.startswith("y_") else document
    line = b'{"a":' + document.strip() + b',"b":1}\n{"a":2}\n'
    if name.startswith("y_"):
        records = read(JsonLines(), line, "a", "b")
        assert not records.rejected
        value = json.loads(document)
        text = rows(records)[0][0]
        assert text == value if value is None or isinstance(value, str) else json.loads(str(text)) == value
        return
    found = read_if_possible(JsonLines(), line, "a", "b")
    if found is not None:
        assert found.rejected[0].row == 1
        assert [row for row in rows(found) if row != ("2", None)] == []


@pytest.mark.parametrize("name", names(JSON / "test_parsing", "[yni]_*.json"))
def test_every_document_of_the_test_suite_ends_in_records_or_a_rejection(name: str) -> None:
    """Whole documents as they are, those that implementations differ in among them; no object that is refused elsewhere is read."""
    document = (JSON / "test_parsing" / name).read_bytes()
    records = read_if_possible(JsonLines(), document, "a")
    if records is None:
        assert not name.startswith("y_object") or b"\n" in document.strip()
        return
    if name.startswith("y_object") and b"\n" not in document.strip():
        assert (records.table.num_rows, records.rejected) == (1, ())
    elif name.startswith("n_"):
        assert records.table.num_rows == 0


def test_the_edge_files_of_json_lines() -> None:
    """Both line ends, no line end at the end, an unterminated string, and several objects in one line."""
    for name in ("example_n", "example_rn"):
        records = read(JsonLines(), (JSON / "ndjson" / f"{name}.ndjson").read_bytes(), "id", "name")
        assert [row[0] for row in rows(records)] == list("12345")
        assert rows(records)[0][1] == "O Brother, Where Art Thou?"
    records = read(JsonLines(), (JSON / "ndjson" / "unterminated_quotes.ndjson").read_bytes(), "id")
    assert rows(records) == [("1",), ("2",), ("4",), ("5",)]
    assert [record.row for record in records.rejected] == [3]
    records = read(JsonLines(), (JSON / "ndjson" / "multiple_objects_per_line.ndjson").read_bytes(), "id")
    assert (records.table.num_rows, len(records.rejected)) == (0, 1)


def test_a_month_of_a_real_shop() -> None:
    """Rows, invoices, units and revenue of every day, to the cent."""
    folder = RETAIL / "online-retail-by-day"
    for day, expected in json.loads((folder / "expected.json").read_text()).items():
        content = (folder / f"{day}.csv").read_bytes()
        records = read(Csv(), content, "InvoiceNo", "Quantity", "UnitPrice")
        found = rows(records)
        assert not records.rejected
        assert len(found) == expected["rows"]
        assert len({invoice for invoice, _, _ in found}) == expected["invoices"]
        assert sum(int(quantity) for _, quantity, _ in found) == expected["quantity"]
        revenue = sum((int(quantity) * Decimal(price) for _, quantity, price in found), Decimal(0))
        assert revenue.quantize(Decimal("0.01")) == Decimal(expected["net_revenue"])


def test_a_real_byte_order_mark() -> None:
    """Olist's file begins with one, and its first column is found all the same."""
    path = RETAIL / "olist-partial" / "datasets" / "product_category_name_translation.csv"
    sources = ("product_category_name", "product_category_name_english")
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    records = read(Csv(final_newline=content.endswith(b"\n")), content, *sources)
    assert (records.rows_read, records.missing_columns, records.unknown_columns) == (71, (), ())
    assert rows(records) == [tuple(row) for row in by_python(path)[1:]]


@pytest.mark.parametrize("name", ["customers", "orders", "payments"])
def test_jaffle_shop(name: str) -> None:
    """As many rows as its own answer says, and the cells that Python's csv module finds."""
    folder = RETAIL / "jaffle-shop-classic"
    expected = json.loads((folder / "expected.json").read_text())
    path = folder / "seeds" / f"raw_{name}.csv"
    truth = by_python(path)
    content = path.read_bytes()
    records = read(Csv(final_newline=content.endswith(b"\n")), content, *truth[0])
    assert records.table.num_rows == expected[name]
    assert rows(records) == [tuple(row) for row in truth[1:]]


@pytest.mark.parametrize(
    "name", [name.removesuffix(".csv") for name in names(PEERS / "csv-spectrum" / "csvs", "*.csv")]
)
def test_csv_spectrum(name: str) -> None:
    """The JSON twin of each file says what is in it."""
    folder = PEERS / "csv-spectrum"
    expected = json.loads((folder / "json" / f"{name}.json").read_text())
    content = (folder / "csvs" / f"{name}.csv").read_bytes()
    assert with_extras(read(Csv(final_newline=False), content, *expected[0]), *expected[0]) == expected


def test_tap_csv() -> None:
    """Its alphabets, one of them beyond ASCII."""
    folder = PEERS / "tap-csv" / "tap_csv" / "tests" / "data"
    columns = ("col1", "col2", "col3")
    assert rows(read(Csv(), (folder / "alphabet.csv").read_bytes(), *columns)) == [
        ("a", "b", "c"),
        ("d", "e", "f"),
        ("g", "h", "i"),
    ]
    content = (folder / "alphabet_encoding.csv").read_bytes()
    assert rows(read(Csv(), content, *columns))[0] == ("Á", "b", "c")


def scenarios(kind: str) -> list[Any]:
    """Airbyte's scenarios that our declarations can express: no escape character, skipped lines, NULL words or typed booleans."""
    found = []
    for path in sorted((PEERS / "airbyte-file-based" / kind).glob("*/expected.json")):
        scenario = json.loads(path.read_text())
        formats = [stream.get("format") or {} for stream in scenario["config"]["streams"]]
        known = all(
            set(format) <= {"filetype", "delimiter", "quote_char", "double_quotes", "double_quote"}
            for format in formats
        )
        if known and scenario["expected_records"] and not scenario["expected_read_error"]:
            found.append(pytest.param(path, id=path.parent.name))
    assert found
    return found


def airbyte(path: Path) -> list[tuple[dict[str, Any], bytes, list[dict[str, Any]]]]:
    """Each file of a scenario that its first matching stream reads: the format, the bytes, the records expected of it."""
    scenario = json.loads(path.read_text())
    found = []
    for file in sorted((path.parent / "files").iterdir()):
        streams: dict[str, list[dict[str, Any]]] = {}
        for record in scenario["expected_records"]:
            data = record["data"]
            if data.get("_ab_source_file_url") == file.name:
                inner = data.get("data", data)
                plain = {name: value for name, value in inner.items() if not name.startswith("_ab_")}
                streams.setdefault(record["stream"], []).append(plain)
        for stream in scenario["config"]["streams"]:
            if stream["name"] in streams:
                found.append((stream.get("format") or {}, file.read_bytes(), streams[stream["name"]]))
                break
    return found


@pytest.mark.parametrize("path", scenarios("csv_scenarios"))
def test_airbytes_csv_scenarios(path: Path) -> None:
    """Each of a file's expected records is there, cell by cell."""
    for hints, content, expected in airbyte(path):
        format = Csv(
            delimiter=hints.get("delimiter", ","),
            quote=hints.get("quote_char", '"'),
            final_newline=content.endswith(b"\n"),
        )
        first = list(expected[0])
        found = with_extras(read(format, content, *first), *first)
        assert [{name: row[name] for name in each} for row, each in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize("path", scenarios("jsonl_scenarios"))
def test_airbytes_json_scenarios(path: Path) -> None:
    """Values are compared as JSON reads them, from the text that was kept."""
    for _, content, expected in airbyte(path):
        first = list(expected[0])
        found = with_extras(read(JsonLines(), content, *first), *first)
        for row, each in zip(found, expected, strict=True):
            assert {name: value for name, value in row.items() if value is not None} == {
                name: value if isinstance(value, str) or name not in first else json.dumps(value)
                for name, value in each.items()
            }


def test_airbytes_invalid_files() -> None:
    """More cells than the header: each row is set aside; a line that is no JSON: that line."""
    folder = PEERS / "airbyte-file-based"
    content = (folder / "csv_scenarios" / "invalid_csv_scenario" / "files" / "a.csv").read_bytes()
    assert [row for row, _, _ in rejections(read(Csv(), content, "col1"))] == [1, 2]
    content = (folder / "jsonl_scenarios" / "invalid_jsonl_scenario" / "files" / "a.jsonl").read_bytes()
    records = read(JsonLines(), content, "col1")
    assert (rows(records), [record.row for record in records.rejected]) == ([("val1",)], [2])


def test_dlts_players_are_the_same_in_every_format() -> None:
    """CSV, JSON lines and Parquet of the same players agree."""
    sources = ("Name", "Team", "Position", "Height(inches)", "Weight(lbs)", "Age")
    content = (DLT / "csv" / "mlb_players.csv").read_bytes()
    players = rows(read(Csv(final_newline=content.endswith(b"\n")), content, *sources))
    assert players == [tuple(row) for row in by_python(DLT / "csv" / "mlb_players.csv")[1:]]
    lines = rows(read(JsonLines(), (DLT / "jsonl" / "mlb_players.jsonl").read_bytes(), *sources))
    parquet = rows(read(Parquet(), (DLT / "parquet" / "mlb_players.parquet").read_bytes(), *sources[:3]))
    assert len(players) == len(lines) == len(parquet) > 1000
    assert [row[:3] for row in lines] == [row[:3] for row in players]
    assert parquet == [row[:3] for row in players]


@pytest.mark.parametrize("name", names(DLT, "**/*.csv"))
def test_dlts_other_samples(name: str) -> None:
    """Read as Python's csv module reads them."""
    truth = by_python(DLT / name)
    content = (DLT / name).read_bytes()
    records = read(Csv(final_newline=content.endswith(b"\n")), content, *truth[0])
    assert rows(records) == [tuple(row) for row in truth[1:]]


@pytest.mark.parametrize("name", list(json.loads((XML / "expected.json").read_text())))
def test_european_invoices(name: str) -> None:
    """Lines, their sum to the cent, and the invoice's own number, date and supplier beside each line."""
    expected = json.loads((XML / "expected.json").read_text())[name]
    sources = (
        "ID",
        "LineExtensionAmount",
        "LineExtensionAmount/@currencyID",
        "../ID",
        "../IssueDate",
        "../LegalMonetaryTotal/PayableAmount",
        "../AccountingSupplierParty/Party/PartyLegalEntity/RegistrationName",
    )
    records = read(Xml(record="Invoice/InvoiceLine"), (XML / name).read_bytes(), *sources)
    found = rows(records)
    assert len(found) == expected["lines"]
    assert sum((Decimal(row[1]) for row in found), Decimal(0)) == Decimal(expected["sum_line_extension"])
    assert {row[2:6] for row in found} == {
        (expected["currency"], expected["id"], expected["issue_date"], expected["payable"])
    }
    assert {row[6] for row in found} == {expected["supplier"]}
    assert not records.rejected


def test_product_feeds() -> None:
    """An RSS feed's items, their namespace ignored and their CDATA read."""
    content = (XML / "feeds" / "offer__formats___xml_min.xml").read_bytes()
    records = read(Xml(record="rss/channel/item"), content, "id", "title", "price", "../../@version")
    assert rows(records) == [("213888", "Samsung Galaxy S8 Black 128G", "99.99 SEK", "3.0")]
    assert "link" in records.unknown_columns


def test_changes_of_dynamodb_as_lambda_gives_them() -> None:
    """AWS's documented event: operations, sequence numbers, keys and images, a number as it was written."""
    from ingestion_platform.formats.dynamodb_values import decode_change

    folder = CASES / "05-aws-events"
    name = "powertools-python/dynamoStreamEvent.json"
    records = json.loads((folder / name).read_text())["Records"]
    found = [json.loads(decode_change(json.dumps(record).encode()), parse_int=str) for record in records]
    assert [
        {
            "kind": "dynamodb",
            "op": change["operation"],
            "seq": change["sequence_number"],
            "keys": change["keys"],
            "new": change.get("new"),
            "old": change.get("old"),
        }
        for change in found
    ] == json.loads((folder / "expected.json").read_text())[name]
    assert found[0]["changed_at"] == "2023-09-06T10:45:55+00:00"
