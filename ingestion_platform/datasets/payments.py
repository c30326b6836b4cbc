"""Payments by card at the tills, as the terminals tell them: a type of the tills' stream. Rules on them say what looks like fraud."""

from datetime import timedelta

from ingestion_platform.dataset import Daily, Dataset
from ingestion_platform.datasets.point_of_sale import FIRST_DAY, pos
from ingestion_platform.rules import Known, Rule
from ingestion_platform.rules.kinds import AboveUsual, Jumps, Signs, TooMany, Unfamiliar, UnusualHour
from ingestion_platform.stream import StreamSegments
from ingestion_platform.table import TIMESTAMP, VARCHAR, Column, Mask, decimal

payments = Dataset(
    name="payments",
    description="One row per attempt to pay by card, whether it was approved or not.",
    owners=("team:retail-data",),
    source=StreamSegments(pos, routed_by="event_type", types=("payment",)),
    columns=(
        Column("payment_id", VARCHAR, "The terminal's own number of the attempt.", required=True),
        Column("store_id", VARCHAR, "Where.", required=True, references="stores.store_id"),
        Column("paid_at", TIMESTAMP, "When.", required=True),
        Column("amount_zar", decimal(12, 2), "Amount, South African rand.", required=True, minimum=0),
        Column("status", VARCHAR, "What became of it.", required=True, one_of=("approved", "declined", "error")),
        Column("region", VARCHAR, "Part of the country that the store is in."),
        Column("customer_id", VARCHAR, "Loyalty card.", source="loyalty.customer_id", pii=Mask.HASH, person="customer"),
        Column("card", VARCHAR, "The card's token.", source="card.token", pii=Mask.HASH, person="card"),
    ),
    primary_key=("payment_id",),
    event_time="paid_at",
    daily=Daily(FIRST_DAY, allowed_lateness_days=3),
    # The books keep the payment, and forget who paid.
    erase="columns",
)

HABITS = Known(table="processed.customer_habits", by=("customer_id",))

card_fraud = Rule(
    name="card_fraud",
    description="A payment that doesn't look like its customer's: too large, elsewhere, at another hour, with another card, too many.",
    on=payments,
    by=("customer_id",),
    where="status = 'approved'",
    known=HABITS,
    kind=Signs(
        signs=(
            AboveUsual(column="amount_zar", usual="usual_amount_zar", times=5, weight=0.5),
            Unfamiliar(column="region", among="regions", weight=0.3),
            Unfamiliar(column="store_id", among="stores", weight=0.2),
            UnusualHour(among="hours", weight=0.2),
            Unfamiliar(column="card", among="cards", weight=0.3),
            TooMany(within=timedelta(minutes=10), more_than=4, weight=0.6),
        ),
        from_score=0.5,
        actions=(("hold", 0.9), ("notify", 0.7)),
    ),
    priority=1,
)

payments_jump = Rule(
    name="payments_jump",
    description="Far more payments in a minute than in those before.",
    on=payments,
    by=(),
    kind=Jumps(times=4, minutes=15, at_least=60),
    priority=4,
    action="notify",
)

payments_fail = Rule(
    name="payments_fail",
    description="Payments fail by errors far more often than in the minutes before: a terminal, a network or a bank is down.",
    on=payments,
    by=(),
    kind=Jumps(times=5, minutes=15, at_least=10, share_of="status", values=("error",)),
    priority=2,
    action="notify",
)
