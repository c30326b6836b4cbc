"""
Landing zones full of hostile files, made by dice: every format, every type, every rule, and texts that just fit or just don't.

Belongs here: declarations made to be broken, and files that break them. Doesn't: the answer (`oracle.py`).
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Literal

from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.format import Csv, JsonLines
from ingestion_platform.table import BIGINT, BOOLEAN, DATE, INTEGER, TIMESTAMP, VARCHAR, Column, decimal

FIRST_DAY = date(2024, 10, 1)
DAYS = tuple(FIRST_DAY + timedelta(days=index) for index in range(5))

REFS = Dataset(
    name="refs",
    description="What others refer to.",
    kind="snapshots",
    source=LandedFiles("refs/%Y/%m/%d/{part}.csv"),
    columns=(
        Column("ref_id", VARCHAR, "Its key.", required=True, pattern=r"R\d"),
        Column("label", VARCHAR, "Anything."),
    ),
    primary_key=("ref_id",),
    daily=Daily(FIRST_DAY),
)

COLUMNS = (
    Column("id", VARCHAR, "The key.", required=True),
    Column("happened_at", TIMESTAMP, "When.", required=True),
    Column("units", INTEGER, "Between two bounds.", minimum=-5, maximum=50),
    Column("big", BIGINT, "A large number."),
    Column("price_zar", decimal(6, 2), "Money.", minimum=0),
    Column("is_open", BOOLEAN, "Yes or no."),
    Column("due_on", DATE, "A day."),
    Column("kind", VARCHAR, "One of a few.", one_of=("a", "b c", "é")),
    Column("ref_id", VARCHAR, "Refers to something.", references="refs.ref_id", null_values=("", "N/A")),
    Column("code", VARCHAR, "Of a pattern.", pattern=r"[A-Z]{2}"),
    Column("sender", VARCHAR, "From the key.", capture="sender"),
)

GOOD = {
    "units": "1", "big": "2", "price_zar": "1.50", "is_open": "true", "due_on": "2024-02-29", "kind": "a", "ref_id": "R1", "code": "AB",
}  # fmt: skip

TEXTS = {
    "id": ("1", "2", "3", "4", "5", "6", "k 7", " 8", "", "ü", "a,b", 'q"q', "7;8"),
    "units": ("1", "+2", "-5", "-6", "50", "51", "1.0", "1.7", " 3", "", "x", "007", "2147483647",
              "2147483648", "-0", "1e1", "1_0", "٣", "１"),
    "big": ("1", "9223372036854775807", "9223372036854775808", "", "-9223372036854775808"),
    "price_zar": ("1", "1.5", "1.50", "1.500", "1.505", "9999.99", "10000", "-0.00", "-1", "+3.10", ".5", "5.", "", "1e2", "NaN", "inf",
                  "1,5",
                  "0.001", "00012.30", "9999.990", "9999.999"),
    "is_open": ("true", "false", "TRUE", "t", "yes", "0", "1", "N", "", "on", "maybe", " true"),
    "due_on": ("2024-02-29", "2023-02-29", "2024-1-1", "", "2024-10-01 ", "0001-01-01", "9999-12-31", "2024-10-01T00:00:00", "20241001",
               "10/01/2024"),
    "kind": ("a", "b c", "é", "e\u0301", "A", "", "b  c"),
    "ref_id": ("R1", "R2", "R3", "R9", "", "N/A", "r1"),
    "code": ("AB", "ab", "ABC", "", "AB\n", "ÄB"),
}  # fmt: skip


def _events(name: str, format_: Csv | JsonLines, ending: str, *, is_strict: bool = False) -> Dataset:
    return Dataset(
        name=name,
        description="Things that happened.",
        source=LandedFiles(f"{name}/%Y/%m/%d/{{sender}}.{ending}", format_),
        columns=COLUMNS,
        primary_key=("id",),
        event_time="happened_at",
        daily=Daily(FIRST_DAY, allowed_lateness_days=2),
        duplicate_keys="quarantine" if is_strict else "supersede",
    )


HOSTILE = Datasets(
    [
        REFS,
        _events("commas", Csv(), "csv"),
        _events("semicolons", Csv(delimiter=";"), "csv", is_strict=True),
        _events("lines", JsonLines(), "jsonl"),
    ]
)


class HostileSenders:
    """
    Senders who write whatever they like.

    Args:
        root: the landing zone's folder.
        seed: equal seeds, equal files.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._dice = Random(seed)

    def land(self) -> None:
        """Land files of every dataset and day; some replace what was there, some come again under another name or day."""
        for day in DAYS:
            for part in self._dice.sample(["x", "y", "z"], self._dice.choice([0, 1, 1, 2])):
                self._put(f"refs/{day:%Y/%m/%d}/{part}.csv", self._refs())
            for name, delimiter in (("commas", ","), ("semicolons", ";")):
                for sender in self._dice.sample(["a", "bb", "c", "long"], self._dice.choice([0, 1, 2, 3])):
                    text = self._csv(day, delimiter)
                    self._put(f"{name}/{day:%Y/%m/%d}/{sender}.csv", text)
                    if self._dice.random() < 0.2:
                        self._put(f"{name}/{self._dice.choice(DAYS):%Y/%m/%d}/{sender}x.csv", text)
            for sender in self._dice.sample(["a", "bb"], self._dice.choice([0, 1, 2])):
                self._put(f"lines/{day:%Y/%m/%d}/{sender}.jsonl", "".join(self._json_lines(day)))

    def _put(self, key: str, text: str) -> None:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.half")
        half.write_bytes(text.encode())
        half.replace(path)

    def _refs(self) -> str:
        count = self._dice.choice([0, 2, 4])
        rows = (
            f"{self._dice.choice(['R1', 'R2', 'R3', 'bad', ''])},l{self._dice.randrange(3)}\n" for _ in range(count)
        )
        last = "R1,z\n" if self._dice.random() < 0.8 else ""
        return "ref_id,label\n" + "".join(rows) + last

    def _moment(self, day: date) -> str:
        event_day = day - timedelta(days=self._dice.choice([0, 0, 0, 0, 1, 2, 3, -1]))
        time = self._dice.choice(["00:00:00", "23:59:59", "09:30:00", "21:59:59.999999", "22:00:00", "12:00"])
        plain = f"{event_day}{self._dice.choice([' ', 'T'])}{time}"
        fraction = plain + ".5" if len(time) == 8 else plain
        odd = (plain + "Z", plain + "+02:00", plain + "-05:00", plain + "+00:00", plain + "+02", plain + "+0200", plain + " ", fraction,
               str(event_day), "", f"{event_day} 25:00:00", "2024-13-01 00:00:00", "yesterday")  # fmt: skip
        return self._dice.choice([*[plain] * 6, *odd])

    def _record(self, day: date) -> dict[str, str]:
        is_good = self._dice.random() < 0.5
        record = {}
        for column in COLUMNS[:-1]:
            if column.name == "happened_at":
                record[column.name] = f"{day} 10:{self._dice.randrange(60):02d}:00" if is_good else self._moment(day)
            elif column.name == "id" and is_good:
                record[column.name] = str(self._dice.randrange(30))
            elif column.name in GOOD and is_good and self._dice.random() < 0.9:
                record[column.name] = GOOD[column.name]
            else:
                record[column.name] = self._dice.choice(TEXTS[column.name])
        return record

    def _csv(self, day: date, delimiter: str) -> str:
        header = [column.name for column in COLUMNS[:-1]]
        if self._dice.random() < 0.3:
            header.append("extra")
        if self._dice.random() < 0.2:
            header.remove(self._dice.choice(header[2:]))
        if self._dice.random() < 0.3:
            self._dice.shuffle(header)
        written = io.StringIO(newline="")
        quoting: Literal[0, 1] = csv.QUOTE_ALL if self._dice.random() < 0.5 else csv.QUOTE_MINIMAL
        writer = csv.writer(
            written, delimiter=delimiter, lineterminator=self._dice.choice(["\n", "\r\n"]), quoting=quoting
        )
        writer.writerow(header)
        for _ in range(self._dice.choice([0, 1, 5, 12])):
            record: Mapping[str, str] = self._record(day)
            cells = [record.get(name, "e") for name in header]
            chance = self._dice.random()
            writer.writerow(cells[:-1] if chance < 0.05 else [*cells, "more"] if chance < 0.1 else cells)
        text = written.getvalue()
        if self._dice.random() < 0.1:
            text = text.rstrip("\r\n")
        return "\ufeff" + text if self._dice.random() < 0.2 else text

    def _json_lines(self, day: date) -> Iterator[str]:
        for _ in range(self._dice.choice([0, 1, 5, 12])):
            record: dict[str, object] = dict(self._record(day))
            for name in list(record):
                chance = self._dice.random()
                if chance < 0.1:
                    record[name] = None
                elif chance < 0.15:
                    del record[name]
                elif chance < 0.2:
                    record[name] = self._dice.choice([1, 1.5, True, [1, 2], {"a": 1}, 10**20, -0.0])
            # Compact, as the oracle writes nested values; raw keeps them as they were sent.
            yield json.dumps(record, ensure_ascii=self._dice.random() < 0.5, separators=(",", ":")) + "\n"
            if self._dice.random() < 0.05:
                yield self._dice.choice(["{\n", "[1]\n", "\n", "nope\n", '"s"\n'])
