"""What the tests of the example business share: a plan with every trouble, landed once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ingestion_platform import datasets
from ingestion_platform.dataset import Datasets, find_datasets
from ingestion_platform.demo import FolderProducer, Plan, Story, Trouble, tell
from ingestion_platform_tests.oracle import Expected, expected

PLAN = Plan(stores=14, days=7, lines_per_store_day=25, troubles=frozenset(Trouble))
HEALTHY = Plan(stores=14, days=7, lines_per_store_day=25)


@pytest.fixture(scope="session")
def declared() -> Datasets:
    """The example's declarations."""
    return find_datasets(datasets)


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory, declared: Datasets) -> Callable[[Plan, int], tuple[Story, Expected]]:
    """Lands the first steps of a plan; gives its story and what is expected of the folder then."""
    made: dict[tuple[Plan, int], tuple[Story, Expected]] = {}

    def tell_and_calculate(plan: Plan, steps: int) -> tuple[Story, Expected]:
        if (plan, steps) not in made:
            story = tell(plan)
            root: Path = tmp_path_factory.mktemp("landing")
            for step in story.steps[:steps]:
                step.land(FolderProducer(root))
            made[plan, steps] = story, expected(root, declared, plan.dates)
        return made[plan, steps]

    return tell_and_calculate
