"""
The polluted files of the Pollock benchmark as this platform reads them: a loader for the benchmark's scorer.

    .venv/bin/python benchmarks/pollock.py                                  # both ways, scored by ../shared/cases/01-pollock/score.py
    .venv/bin/python benchmarks/pollock.py --data DIR                       # files, clean files and hints from elsewhere

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
from ingestion_platform.format import Csv
from ingestion_platform.formats import Field, read_records

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
    format, columns = (Csv(final_newline=False), COLUMNS) if hints is None else _declared(hints)
    try:
        records = read_records(format, Path(path).read_bytes(), [Field(name, name) for name in columns])
    except ObjectRejected as error:
        return {"rows": [], "rejected": 0, "error": str(error)}
    rows = zip(*(records.table[name].to_pylist() for name in columns), strict=True)
    return {"rows": [list(columns), *map(list, rows)], "rejected": len(records.rejected), "error": None}


def _declared(hints: dict[str, Any]) -> tuple[Csv, tuple[str, ...]]:
    """The declaration that says what the hints say."""
    format = Csv(delimiter=hints["delimiter"] or ",", quote=hints["quotechar"] or '"', final_newline=False)
    return format, tuple(name.strip() for name in hints["column_names"]) or COLUMNS


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
