"""How the platform looks and acts in Dagster."""
