"""The tests, room by room as in `ingestion_platform/`."""
