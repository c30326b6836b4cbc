"""
The door: the one `dg.Definitions` that Dagster loads.

Reads the settings and the declarations, opens neither the landing zone nor the warehouse.
"""

from ingestion_platform import datasets as declarations
from ingestion_platform.dataset import find_datasets
from ingestion_platform.orchestration.build import build_definitions
from ingestion_platform.orchestration.quiet import quieten
from ingestion_platform.rules import find_rules
from ingestion_platform.settings import Settings
from ingestion_platform.warehouse import load_sql_tables

quieten()

_settings = Settings.load()
_datasets = find_datasets(declarations)

_sql_tables = load_sql_tables(_datasets, zone=_settings.zone, rules=find_rules(declarations))

defs = build_definitions(_settings, _datasets, _sql_tables)
