"""The retailer's bank: what its customers pay in at the tills, and what they ask for in cash."""

from datetime import date
from decimal import Decimal

from ingestion_platform.dataset import Daily, Dataset, LandedFiles
from ingestion_platform.format import Csv
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column, Mask, decimal

account_events = Dataset(
    name="account_events",
    description="One row each time that a customer pays into an account, or asks for cash from it, paid out or not.",
    owners=("team:payments",),
    source=LandedFiles("account_events/%Y/%m/%d/{batch}.csv", Csv()),
    columns=(
        Column("event_id", VARCHAR, "The bank's number of the event.", required=True),
        Column("account_id", VARCHAR, "The account's number.", required=True, pii=Mask.HASH, person="account"),
        Column("store_id", VARCHAR, "In which store.", required=True, references="stores.store_id"),
        Column("happened_at", TIMESTAMP, "When.", required=True),
        Column("kind", VARCHAR, "Which of the two.", required=True, one_of=("deposit", "withdrawal")),
        Column(
            "amount_zar",
            decimal(12, 2),
            "Amount, positive, South African rand.",
            required=True,
            minimum=Decimal("0.01"),
            maximum=1_000_000,
        ),
    ),
    primary_key=("event_id",),
    event_time="happened_at",
    daily=Daily(date(2024, 10, 1), allowed_lateness_days=3),
)
