"""
The polluted files of the Pollock benchmark as this platform reads them: a loader for the benchmark's scorer.

    .venv/bin/python benchmarks/pollock.py                # both ways, scored by ../shared/cases/01-pollock/score.py
    .venv/bin/python benchmarks/pollock.py --data DIR     # files, clean files and hints from elsewhere

Each file is read as an object of one dataset. With hints, its declaration says what the benchmark's parameters say; without, it has
the nine columns of the clean file and its dialect is to be detected. What comes back are the rows that were loaded, and how many
records went to quarantine; a file that was rejected is an error.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from ingestion_platform.errors import ObjectRejected
from ingestion_platform.format import DETECT, Csv
from ingestion_platform.formats import Field, read_records
from ingestion_platform.formats.content import Content
from ingestion_platform.formats.detection import detect

SCORER = Path(__file__).resolve().parents[2] / "shared" / "cases" / "01-pollock"
COLUMNS = ("DATE", "TIME", "Qty", "PRODUCTID", "Price", "ProductType", "ProductDescription", "URL", "Comments")


def load(path: str, hints: dict[str, Any] | None) -> dict[str, Any]:
    """
    A file as a dataset would have it.

    Args:
        path: of the file.
        hints: the benchmark's parameters of it; None without.

    Returns:
        `rows` (the header first, where the object has one), `rejected` (records in quarantine), `error` (why the object was rejected).
    """
    try:
        format, header, columns = detected(path) if hints is None else declared(hints)
        records = read_records(format, Path(path).read_bytes(), [Field(name, name) for name in columns])
    except ObjectRejected as error:
        return {"rows": [], "rejected": 0, "error": str(error)}
    rows = zip(*(records.table[name].to_pylist() for name in columns), strict=True)
    return {"rows": [*header, *map(list, rows)], "rejected": len(records.rejected), "error": None}


def declared(hints: dict[str, Any]) -> tuple[Csv, list[list[str]], list[str]]:
    """The format that says what the hints say, the header as the hints have it, the columns."""
    names = [name.strip() for name in hints["column_names"]]
    quote = hints["quotechar"] or '"'
    format = Csv(
        delimiter=hints["delimiter"] or ",",
        quote=quote,
        escape=hints["escapechar"],
        # Where the apostrophe quotes, it is an apostrophe in words as well.
        bare_quotes=quote == "'",
        # The columns are known, and stand in that order: whatever the header's lines say, they are no records.
        header_at=hints["preamble_lines"] + hints["header_lines"],
        header_rows=0,
        footer=hints["footnote_lines"],
        final_newline=False,
        may_be_empty=True,
    )
    return format, [names] if names else [], names or [f"column {number}" for number in range(hints["n_columns"] or 1)]


def detected(path: str) -> tuple[Csv, list[list[str]], list[str]]:
    """The format that is found out, the header where there is one, the columns."""
    format = Csv(
        delimiter=DETECT,
        quote=DETECT,
        escape=DETECT,
        bare_quotes=DETECT,
        header_rows=DETECT,
        header_at=DETECT,
        encoding=DETECT,
        final_newline=False,
        may_be_empty=True,
    )
    columns = list(COLUMNS)
    with Path(path).open("rb") as file:
        found = detect(format, Content(file, path, max_bytes=format.max_bytes), [Field(name, name) for name in columns])
    has_header = found.format.header_rows or found.doubts
    return found.format, [columns] if has_header else [], columns


def main() -> None:
    """Score both ways."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default=str(SCORER / "polluted_files"))
    chosen = options.parse_args()
    sys.path.insert(0, str(SCORER))
    scorer = importlib.import_module("score")
    for title, hints in (("with hints", ["--params"]), ("without hints", [])):
        print(f"{title}:", flush=True)
        sys.argv = ["score.py", "--loader", "pollock:load", "--data", chosen.data, *hints]
        scorer.main()


if __name__ == "__main__":
    main()
