"""The whole path, from landed files to reports, held against the independent calculation, against itself, and driven by Dagster."""
