"""Files, APIs, streams and databases into raw, processed and report tables: a Dagster platform on DuckDB."""
