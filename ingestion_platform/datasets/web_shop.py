"""The web shop's database: its customers, as Debezium writes down what happens to them."""

from datetime import date

from ingestion_platform.change_log import Debezium
from ingestion_platform.dataset import Daily, Dataset, LandedFiles
from ingestion_platform.table import BOOLEAN, TIMESTAMP, VARCHAR, Column, Mask

customers = Dataset(
    name="customers",
    description="One row per change of a customer of the web shop: registered, moved, written to elsewhere, gone.",
    owners=("team:customers",),
    kind="changes",
    source=LandedFiles("web_shop/%Y/%m/%d/{file}.jsonl", Debezium("shop.customers")),
    columns=(
        Column("customer_id", VARCHAR, "The loyalty card.", required=True, pii=Mask.HASH, person="customer"),
        Column("name", VARCHAR, "What they are called.", pii=Mask.REDACT),
        Column("email", VARCHAR, "Where to write to.", pii=Mask.HASH, person="email"),
        Column("city", VARCHAR, "Where they live."),
        Column("wants_mail", BOOLEAN, "Whether they want to hear of offers."),
        Column("joined_at", TIMESTAMP, "When they registered."),
    ),
    primary_key=("customer_id",),
    daily=Daily(date(2024, 10, 1)),
)
