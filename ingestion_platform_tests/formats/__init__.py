"""Tests of `ingestion_platform/formats/`."""
