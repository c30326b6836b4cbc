"""`scale`: the curve of ours and of the limit, as rows, files and partitions grow and everything else stays."""

from collections.abc import Iterator

from cases import Case, Ground, Side, Size

from items.day import limit as limit
from items.year import without_dagster as without_dagster

FILES = 100
ROWS = {"full": (100_000, 1_000_000, 10_000_000), "quick": (1_000, 10_000, 100_000), "tiny": (100, 1000)}
SAME_ROWS = {"full": 580_000, "quick": 29_000, "tiny": 600}
NUMBERS_OF_FILES = {"full": (29, 290, 2_900), "quick": (29, 290), "tiny": (2, 20)}
NUMBERS_OF_DAYS = {"full": (1, 10, 100, 365), "quick": (1, 10, 50), "tiny": (1, 5)}
SAME_FILES = {"full": 365, "quick": 50, "tiny": 5}


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """A case each point of a curve."""
    for rows in ROWS[size]:
        yield from _point(ground, "rows", f"{rows:,} rows", files=FILES, rows=rows // FILES, days=1)
    for files in NUMBERS_OF_FILES[size]:
        yield from _point(ground, "files", f"{files:,} files", files=files, rows=SAME_ROWS[size] // files, days=1)
    for days in NUMBERS_OF_DAYS[size]:
        files = SAME_FILES[size] // days
        rows = SAME_ROWS[size] // (files * days)
        yield from _point(ground, "days", f"{days:,} days", files=files, rows=rows, days=days)


def _point(ground: Ground, of: str, what: str, *, files: int, rows: int, days: int) -> Iterator[Case]:
    landing = ground.tills(files=files, rows=rows, days=days)
    total = files * rows * days
    yield Case(
        "scale",
        what,
        f"{total:,} rows in {files * days:,} files of {days:,} days",
        (Side("limit"), Side("ours", "without_dagster")),
        {"landing": str(landing), "days": days},
        rows=total,
        most_rounds=2,
        curve=of,
    )
    ground.forget(landing)
