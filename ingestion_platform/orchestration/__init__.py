"""
The only room that knows Dagster: assets, checks, partitions, sensors, schedules, alerts.

Belongs here: showing the platform's work in Dagster, deciding when it runs, and turning platform errors into Dagster failures. Doesn't:
the work itself (`warehouse/`), and anything that names one dataset.
"""
