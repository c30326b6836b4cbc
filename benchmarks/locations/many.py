"""A code location with 200 datasets of ten columns each."""

import tills

from ingestion_platform.dataset import Datasets
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.quiet import quieten
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import SqlTables

quieten()

defs = build_definitions(
    Settings.load(), Datasets([tills.dataset(f"tills_{number:03}") for number in range(200)]), SqlTables({})
)
