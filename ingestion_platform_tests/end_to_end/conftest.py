"""Tests that need a browser are collected where there is one."""

from ingestion_platform_tests.sources.servers import NEEDED

collect_ignore = [module for is_there, modules in NEEDED.values() if not is_there for module in modules]
