"""The README is held to: its settings are the settings, its dataset and its report work to the letter."""

import re
from datetime import date
from pathlib import Path

from ingestion_platform.dataset import Dataset, Datasets
from ingestion_platform.settings import Settings
from ingestion_platform_tests.warehouse.building import Bench

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
DAY = date(2024, 10, 1)


def _block(language: str, holding: str) -> str:
    """The code block of that language that holds a text."""
    for found in re.finditer(rf"```{language}\n(.*?)```", README, re.DOTALL):
        if holding in found[1]:
            return found[1]
    raise AssertionError(f"the README has no {language} block with {holding!r}")


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    """The table of settings is the fields of `Settings`, in their order, in their words."""
    table = re.findall(r"^\| `INGESTION_(\w+)` \| (.+?) \| (.+?) \|$", README, re.MULTILINE)
    assert [name.lower() for name, _, _ in table] == list(Settings.model_fields)
    for name, default, meaning in table:
        field = Settings.model_fields[name.lower()]
        assert default == (f"`{field.default}`" if field.default not in (None, "") else "none"), name
        assert meaning == field.description, name


def test_the_dataset_and_the_report_of_the_readme_work(tmp_path: Path) -> None:
    """What a newcomer pastes loads one row, quarantines the other, and gives the report."""
    declared: dict[str, object] = {}
    exec(compile(_block("python", "loyalty_points = Dataset("), "loyalty.py", "exec"), declared)
    loyalty = declared["loyalty_points"]
    assert isinstance(loyalty, Dataset)
    reports = tmp_path / "sql" / "reports"
    reports.mkdir(parents=True)
    (reports / "points_by_day.sql").write_text(_block("sql", "processed.loyalty_points"), encoding="utf-8")
    bench = Bench(tmp_path, Datasets([loyalty]), sql=tmp_path / "sql")
    landed = re.search(r"printf '(.+?)'", README)
    assert landed is not None
    bench.put("loyalty/2024/10/01/north.csv", landed[1].replace("\\n", "\n"))
    bench.load("loyalty_points")
    done = bench.process("loyalty_points")
    assert str(done.balance) == "2 read = 1 processed + 0 duplicates + 1 quarantined"
    assert done.reasons == {"points: not INTEGER": 1}
    bench.warehouse.derive(bench.sql_tables["reports.points_by_day"], DAY)
    published = (tmp_path / "published" / "points_by_day" / "2024-10-01.csv").read_text(encoding="utf-8")
    assert published == "booked_on,points_earned,points_spent\n2024-10-01,120,0\n"
