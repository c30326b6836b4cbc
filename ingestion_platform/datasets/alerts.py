"""Alerts of the live rules: what the worker has raised, and withdrawn, as the streams ran. What they are is in `alert.py`."""

from datetime import date

from ingestion_platform.alert import TEMPLATE
from ingestion_platform.dataset import Daily, Dataset, LandedFiles
from ingestion_platform.format import JsonLines
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform.table import INTEGER, JSON, TIMESTAMP, VARCHAR, Column, decimal

alerts = Dataset(
    name="alerts",
    description="One row each time that an alert of a live rule was raised or withdrawn; of each alert the last one says how it stands.",
    owners=("team:retail-data",),
    source=LandedFiles(TEMPLATE, JsonLines()),
    columns=(
        Column("alert_id", VARCHAR, "The same for the same rule, subject and event.", required=True),
        Column(
            "ordinal",
            INTEGER,
            "0 when it was raised, 1 when that was withdrawn, and so on.",
            required=True,
        ),
        Column("change", VARCHAR, "What happened to it.", required=True, one_of=("raised", "withdrawn")),
        Column("rule", VARCHAR, "Which rule says so.", required=True),
        Column("about", JSON, "What it is about, by column; personal values masked.", required=True),
        Column(
            "deserved_by",
            VARCHAR,
            "Key of the event that deserves it, or of the one that its episode began with.",
            required=True,
        ),
        Column("happened_at", TIMESTAMP, "When the event happened that shows it.", required=True),
        Column("raised_at", TIMESTAMP, "When this was found.", required=True),
        Column("priority", INTEGER, "Of the rule; 1 comes before 9.", required=True, minimum=1, maximum=9),
        Column("action", VARCHAR, "What is to be done.", required=True, one_of=("hold", "notify", "review")),
        Column("score", decimal(4, 3), "How sure, 0 to 1.", required=True, minimum=0, maximum=1),
        Column("reasons", JSON, "In words, the weightiest first."),
        Column("details", JSON, "Numbers behind them."),
        Column("dataset", VARCHAR, "Whose event it is.", required=True),
    ),
    primary_key=("alert_id", "ordinal"),
    event_time="happened_at",
    daily=Daily(date(2024, 10, 1)),
    # An alert is what it is: how many there are is no fault of the day.
    volume_tolerance_pct=1_000_000.0,
    lifecycle=Lifecycle(warm_after_days=30, cold_after_days=365),
)
