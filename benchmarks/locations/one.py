"""A code location with the tills and their report, as a deployment has it: by the environment's settings."""

import tills

from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.quiet import quieten
from ingestion_platform.settings import Settings

quieten()

defs = build_definitions(Settings.load(), *tills.declared())
