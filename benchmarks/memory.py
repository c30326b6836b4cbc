"""
Large files of every format: what memory a load takes, and how long, as they grow.

    .venv/bin/python benchmarks/memory.py                              # 10 MB, 200 MB and 2 GB of each format
    .venv/bin/python benchmarks/memory.py --megabytes 10 200 --formats csv xml

Each file is loaded by a process of its own; its peak memory is what the operating system counted. The rows must be as many as were
written before a figure counts. Packed formats are as large as the others once unpacked; a workbook isn't made larger than Excel allows.
"""

import argparse
import bz2
import gzip
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

pc: Any = pyarrow.compute

DAY = date(2024, 10, 1)
BLOCK_ROWS = 50_000
NAMES = ("id", "store", "amount", "note")
WIDTHS = (12, 8, 12, 30)
EXCEL_ROWS = 1_048_000
ENDINGS = {
    "csv": "csv", "csv-quoted": "csv", "csv-utf-16": "csv", "csv-gzip": "csv.gz", "csv-zstd": "csv.zst", "csv-bzip2": "csv.bz2",
    "csv-zip": "csv.zip", "fixed-width": "txt", "json-lines": "jsonl", "json": "json", "json-above": "json", "xml": "xml",
    "xml-above": "xml", "parquet": "parquet", "avro": "avro", "excel": "xlsx",
}  # fmt: skip


def blocks() -> Iterator[list[Any]]:
    """Columns of texts, block after block."""
    chance, first = np.random.default_rng(7), 0
    while True:
        ids = pa.array(np.arange(first, first + BLOCK_ROWS)).cast(pa.string())
        stores = pc.binary_join_element_wise("S", pa.array(chance.integers(0, 3000, BLOCK_ROWS)).cast(pa.string()), "")
        cents = chance.integers(0, 10_000_000, BLOCK_ROWS)
        amounts = pc.binary_join_element_wise(
            pa.array(cents // 100).cast(pa.string()), pa.array(cents % 100).cast(pa.string()), "."
        )
        notes = pa.array(chance.integers(0, 2**62, BLOCK_ROWS)).cast(pa.string())
        yield [ids, stores, amounts, notes]
        first += BLOCK_ROWS


def joined(pieces: list[Any]) -> bytes:
    """Texts and columns, one after the other, row by row."""
    rows = pc.binary_join_element_wise(*pieces, "")
    return b"".join(rows.buffers()[2:]) if rows.offset == 0 else b"".join(text.encode() for text in rows.to_pylist())


def text_rows(kind: str, columns: list[Any]) -> bytes:
    """A block of rows as a text format has them."""
    one, two, three, four = columns
    match kind:
        case "csv" | "csv-utf-16" | "csv-gzip" | "csv-zstd" | "csv-bzip2" | "csv-zip":
            return joined([one, ",", two, ",", three, ",", four, "\n"])
        case "csv-quoted":
            return joined(['"', one, '","', two, '","', three, '","a ""note""\nof ', four, '"\n'])
        case "json-lines":
            return joined(['{"id":"', one, '","store":"', two, '","amount":', three, ',"note":"', four, '"}\n'])
        case "json" | "json-above":
            return joined([',{"id":"', one, '","store":"', two, '","amount":', three, ',"note":"', four, '"}\n'])
        case "xml" | "xml-above":
            return joined(
                [
                    "<r><id>",
                    one,
                    "</id><store>",
                    two,
                    "</store><amount>",
                    three,
                    "</amount><note>",
                    four,
                    "</note></r>\n",
                ]
            )
        case _:
            padded = [pc.utf8_rpad(column, width) for column, width in zip(columns, WIDTHS, strict=True)]
            return joined([*padded, "\n"])


AROUND = {
    "csv": (b"id,store,amount,note\n", b""), "json-lines": (b"", b""), "fixed-width": (b"", b""),
    "json": (b'{"batch":{"number":7},"rows":[{"id":"x","store":"x","amount":0,"note":"x"}\n', b"]}"),
    "json-above": (b'{"rows":[{"id":"x","store":"x","amount":0,"note":"x"}\n', b'],"batch":{"number":7}}'),
    "xml": (b"<b><rows>\n", b"</rows></b>"), "xml-above": (b"<b><rows>\n", b"</rows><number>7</number></b>"),
}  # fmt: skip


def write(kind: str, path: Path, size: int) -> int:
    """Write a file of about *size* bytes, unpacked; how many rows it has."""
    path.parent.mkdir(parents=True)
    if kind in ("parquet", "avro", "excel"):
        return {"parquet": write_parquet, "avro": write_avro, "excel": write_excel}[kind](path, size)
    before, after = AROUND["csv" if kind.startswith("csv") else kind]
    rows = 1 if kind.startswith("json") and kind != "json-lines" else 0
    with closing(packed(kind, path)) as file:
        written = file.write(before)
        for columns in blocks():
            text = text_rows(kind, columns)
            written += len(text)
            file.write(text.decode().encode("utf-16-le") if kind == "csv-utf-16" else text)
            rows += BLOCK_ROWS
            if written >= (size // 2 if kind == "csv-utf-16" else size):
                break
        file.write(after)
    if kind == "csv-utf-16":
        # The header, too.
        content = path.read_bytes()
        path.write_bytes(before.decode().encode("utf-16-le") + content[len(before) :])
    return rows


def packed(kind: str, path: Path) -> IO[bytes]:
    """A file that packs what is written to it."""
    match kind:
        case "csv-gzip":
            return gzip.open(path, "wb", compresslevel=1)  # type: ignore[return-value]
        case "csv-bzip2":
            return bz2.open(path, "wb", compresslevel=1)  # type: ignore[return-value]
        case "csv-zstd":
            return pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd")  # type: ignore[return-value]
        case "csv-zip":
            return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1).open(
                "data.csv", "w", force_zip64=True
            )
        case _:
            return path.open("wb")


def write_parquet(path: Path, size: int) -> int:
    """One row group for a million rows, as Spark writes them."""
    schema = pa.schema([(name, pa.string()) for name in NAMES])
    rows = written = 0
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="zstd") as writer:
        for columns in blocks():
            table = pa.Table.from_arrays(columns, schema=schema)
            writer.write_table(table)
            rows += BLOCK_ROWS
            written += table.nbytes
            if written >= size:
                return rows
    return rows


def write_avro(path: Path, size: int) -> int:
    """Blocks of a thousand records."""

    def number(value: int) -> bytes:
        value <<= 1
        found = bytearray()
        while value > 0x7F:
            found.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*found, value])

    def text(value: bytes) -> bytes:
        return number(len(value)) + value

    schema = {"type": "record", "name": "r", "fields": [{"name": name, "type": "string"} for name in NAMES]}
    mark, rows = bytes(range(16)), 0
    with path.open("wb") as file:
        file.write(b"Obj\x01" + number(1) + text(b"avro.schema") + text(json.dumps(schema).encode()) + b"\0" + mark)
        for columns in blocks():
            records = list(zip(*(column.to_pylist() for column in columns), strict=True))
            for begin in range(0, BLOCK_ROWS, 1000):
                block = b"".join(text(value.encode()) for record in records[begin : begin + 1000] for value in record)
                file.write(number(1000) + number(len(block)) + block + mark)
            rows += BLOCK_ROWS
            if file.tell() >= size:
                return rows
    return rows


def write_excel(path: Path, size: int) -> int:
    """A sheet whose texts are shared."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    rows, texts = 0, io.BytesIO()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, related in (
            ("_rels/.rels", {"officeDocument": "xl/workbook.xml"}),
            ("xl/_rels/workbook.xml.rels", {"worksheet": "worksheets/s.xml", "sharedStrings": "t.xml"}),
        ):
            archive.writestr(
                name,
                f'<Relationships xmlns="{package}">'
                + "".join(
                    f'<Relationship Id="{one}" Type="{kinds}/{one}" Target="{path}"/>' for one, path in related.items()
                )
                + "</Relationships>",
            )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{kinds}"><sheets><sheet name="S" sheetId="1" r:id="worksheet"/></sheets></workbook>',
        )
        with archive.open("xl/worksheets/s.xml", "w", force_zip64=True) as sheet:
            written = sheet.write(f'<worksheet xmlns="{main}"><sheetData><row>'.encode())
            written += sheet.write(
                "".join(f'<c t="inlineStr"><is><t>{name}</t></is></c>' for name in NAMES).encode() + b"</row>\n"
            )
            for one, two, three, four in blocks():
                indexes = pa.array(np.arange(rows, rows + BLOCK_ROWS)).cast(pa.string())
                texts.write(joined(["<si><t>", four, "</t></si>\n"]))
                written += sheet.write(
                    joined(
                        [
                            "<row><c><v>",
                            one,
                            '</v></c><c t="str"><v>',
                            two,
                            "</v></c><c><v>",
                            three,
                            '</v></c><c t="s"><v>',
                            indexes,
                            "</v></c></row>\n",
                        ]
                    )
                )
                rows += BLOCK_ROWS
                if written + texts.tell() >= size or rows + BLOCK_ROWS > EXCEL_ROWS:
                    break
            sheet.write(b"</sheetData></worksheet>")
        archive.writestr("xl/t.xml", f'<sst xmlns="{main}">'.encode() + texts.getvalue() + b"</sst>")
    return rows


def load(kind: str, folder: Path, out: Path) -> int:
    """Load the file; how many rows there are."""
    from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
    from ingestion_platform.format import Avro, Csv, Excel, FixedWidth, Format, Json, JsonLines, Parquet, Xml
    from ingestion_platform.landing import open_landing
    from ingestion_platform.settings import Settings
    from ingestion_platform.table import VARCHAR, Column
    from ingestion_platform.warehouse import SqlTables, Warehouse

    formats: dict[str, Format] = {
        "csv-utf-16": Csv(encoding="utf-16"), "json-lines": JsonLines(), "json": Json("rows[*]"), "json-above": Json("rows[*]"),
        "xml": Xml(record="b/rows/r"), "xml-above": Xml(record="b/rows/r"), "parquet": Parquet(), "avro": Avro(), "excel": Excel(),
        "fixed-width": FixedWidth(fields=tuple(zip(NAMES, WIDTHS, strict=True))),
    }  # fmt: skip
    columns = [Column(name, VARCHAR, "As its name says.") for name in NAMES]
    above = {"json-above": "../batch.number", "xml-above": "../../number"}.get(kind)
    if above:
        columns.append(Column("batch", VARCHAR, "The batch's number.", source=above))
    dataset = Dataset(
        name="large",
        description="One large file.",
        source=LandedFiles(f"large/%Y/%m/%d/{{name}}.{ENDINGS[kind]}", formats.get(kind, Csv())),
        columns=tuple(columns),
        kind="snapshots",
        primary_key=("id",),
        daily=Daily(DAY),
    )
    settings = Settings.model_validate(
        {"landing": str(folder), "warehouse": out / "warehouse.duckdb", "publish": out / "published"}
    )
    with Warehouse(settings, open_landing(str(folder)), Datasets([dataset]), SqlTables({})) as warehouse:
        day = warehouse.load(dataset, DAY)
    for entry in day.entries:
        if entry.state != "loaded" or entry.rows_quarantined:
            raise SystemExit(f"{entry.key} is {entry.state}: {entry.reason}, {entry.rows_quarantined} quarantined")
    return day.rows


def peak_megabytes() -> float:
    """Of this process alone: what `getrusage` says begins with what the process that started it had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system doesn't tell a process's peak memory in /proc/self/status")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 200, 2000])
    parser.add_argument("--formats", nargs="+", choices=sorted(ENDINGS), default=list(ENDINGS))
    parser.add_argument("--load", choices=sorted(ENDINGS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.load:
        began = time.perf_counter()
        rows = load(chosen.load, chosen.folder, chosen.out)
        peak = peak_megabytes()
        print(json.dumps({"rows": rows, "seconds": time.perf_counter() - began, "peak_mb": peak}))
        return
    print("| format | MB landed | rows | seconds | peak MB |\n|---|---|---|---|---|", flush=True)
    for kind in chosen.formats:
        for megabytes in chosen.megabytes:
            root = Path(tempfile.mkdtemp(prefix="bench-"))
            try:
                path = root / "landing" / f"large/{DAY:%Y/%m/%d}/file.{ENDINGS[kind]}"
                rows = write(kind, path, megabytes * 1_000_000)
                landed = path.stat().st_size / 1e6
                done = subprocess.run(
                    [sys.executable, __file__, "--load", kind, "--folder", str(root / "landing"), "--out", str(root)],
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
            finally:
                shutil.rmtree(root)
            if done.returncode:
                raise SystemExit(f"{kind}: {done.stderr[-2000:]}{done.stdout}")
            told = json.loads(done.stdout.splitlines()[-1])
            if told["rows"] != rows:
                raise SystemExit(f"{kind}: {rows} rows were written, {told['rows']} are there")
            print(f"| {kind} | {landed:,.0f} | {rows:,} | {told['seconds']:.1f} | {told['peak_mb']:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
