"""The mobile-payment provider: what customers paid by phone, per store and day."""

from datetime import date

from ingestion_platform.dataset import Daily, Dataset, LandedFiles
from ingestion_platform.format import JsonLines
from ingestion_platform.senders import senders_from
from ingestion_platform.table import JSON, TIMESTAMP, VARCHAR, Column, Mask, decimal

mobile_payments = Dataset(
    name="mobile_payments",
    description="One row per payment by phone, as the provider confirms it.",
    owners=("team:payments",),
    source=LandedFiles("mobile_payments/%Y/%m/%d/{store_id}.jsonl", JsonLines()),
    columns=(
        Column("payment_id", VARCHAR, "The provider's number.", required=True),
        Column("store_id", VARCHAR, "Where it was paid.", required=True, references="stores.store_id"),
        Column("paid_at", TIMESTAMP, "When the provider confirmed it.", required=True),
        Column(
            "method",
            VARCHAR,
            "How the phone paid.",
            source="payment.method",
            required=True,
            one_of=("qr", "tap", "ussd"),
        ),
        Column("provider", VARCHAR, "Whose wallet.", source="payment.provider", required=True),
        Column(
            "amount_zar",
            decimal(12, 2),
            "Amount paid, South African rand.",
            source="payment.amount",
            required=True,
            minimum=0,
        ),
        Column("phone_number", VARCHAR, "The payer's number.", source="payer.msisdn", pii=Mask.LAST4, person="phone"),
        Column("items", JSON, "The till lines it paid: transaction_id and amount each.", source="items"),
    ),
    primary_key=("payment_id",),
    event_time="paid_at",
    daily=Daily(date(2024, 10, 1), allowed_lateness_days=3),
    senders=senders_from("stores", "store_id", active_from="opened_on"),
)
