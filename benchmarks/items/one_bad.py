"""
`one bad among 2,900`: what it costs to isolate a broken file, or a broken record, against the same day without it.

One file is cut in the middle of a record, which rejects it; or one of its records has a quote that is never closed, which costs that
record.
"""

from collections.abc import Iterator

import tills
from cases import Case, Ground, Side, Size

from items.day import SIZES
from items.day import ours as ours


def cases(size: Size, ground: Ground) -> Iterator[Case]:
    """One."""
    files, rows = SIZES[size]["files"], SIZES[size]["rows"]
    clean = ground.tills(files=files, rows=rows)
    key = tills.key("S00007", tills.DAY)
    content = (clean / key).read_text(encoding="ascii")
    middle = content.index("\n", len(content) // 2) + 1
    end = content.index("\n", middle)
    bad = {
        "cut": content[: middle + 30],
        "quote": content[: end - 1] + ',"never closed' + content[end:],
    }
    with ground.folder("bad") as root:
        for name, text in bad.items():
            tills.copy(clean, root / name)
            # A hard link: the clean one would change with it.
            (root / name / key).unlink()
            (root / name / key).write_text(text, encoding="ascii")
        yield Case(
            "one_bad",
            "isolated",
            f"{files:,} CSV files, {files * rows:,} rows, one of them bad",
            (
                Side("clean", "ours", {"landing": str(clean)}, rows=files * rows),
                Side("a file that was cut", "ours", {"landing": str(root / "cut")}, rows=(files - 1) * rows),
                Side("a stray quote", "ours", {"landing": str(root / "quote")}, rows=files * rows - 1),
            ),
            most_rounds=3,
        )
