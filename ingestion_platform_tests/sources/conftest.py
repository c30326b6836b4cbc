"""Tests that need a server which pip doesn't install are collected where it is there."""

from ingestion_platform_tests.sources.servers import NEEDED

collect_ignore = [module for is_there, modules in NEEDED.values() if not is_there for module in modules]
