"""What the demo's driver takes for its own."""

from pathlib import Path

import pytest

from ingestion_platform import alert
from ingestion_platform.datasets.point_of_sale import pos
from ingestion_platform.demo import Plan, tell
from ingestion_platform.demo.driver import refuse_foreign
from ingestion_platform.demo.pages import ENDPOINTS
from ingestion_platform.demo.producer import FolderProducer
from ingestion_platform.errors import SettingsError
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.own_roots import OWN_ROOTS


@pytest.mark.parametrize("root", [*OWN_ROOTS, alert.ROOT, pos.root, *(endpoint.root for endpoint in ENDPOINTS)])
def test_the_demo_runs_again_on_what_it_left(tmp_path: Path, root: str) -> None:
    """Notes, alerts, segments and pages stand beside its files after the first time."""
    FolderProducer(tmp_path).put(f"{root}2024/10/01/one.json", b"{}")
    refuse_foreign(LocalLanding(tmp_path), tell(Plan(3, 2)))


def test_the_demo_leaves_what_others_landed_alone(tmp_path: Path) -> None:
    """It says which file isn't its own, and what to do."""
    FolderProducer(tmp_path).put("sales/ours.csv", b"a\n1\n")
    with pytest.raises(SettingsError, match=r"holds sales/ours.csv, which isn't the demo's.*make clean-data"):
        refuse_foreign(LocalLanding(tmp_path), tell(Plan(3, 2)))
