"""The tills' event stream: what is rung up, as it happens. At closing time each store sends the same sales as a file (`tills.py`)."""

from datetime import date

from ingestion_platform.dataset import Daily, Dataset
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform.rules import Known, Rule
from ingestion_platform.rules.kinds import RunsLow
from ingestion_platform.stream import EVERYTHING_ELSE, Kafka, Stream, StreamSegments
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Check, Column, Mask, decimal

FIRST_DAY = date(2024, 10, 1)

pos = Stream(
    name="pos",
    description="Everything that the tills of all stores tell as it happens, keyed by store.",
    owners=("team:retail-data",),
    source=Kafka(topic="pos.events"),
    first_day=FIRST_DAY,
    lifecycle=Lifecycle(warm_after_days=30, cold_after_days=365),
)

pos_events = Dataset(
    name="pos_events",
    description="One row per till line, as the till told it when it was rung up.",
    owners=("team:retail-data",),
    source=StreamSegments(pos, routed_by="event_type", types=("sale",)),
    columns=(
        Column("transaction_id", VARCHAR, "The till's own number of the line.", required=True),
        Column("store_id", VARCHAR, "Where it was sold.", required=True, references="stores.store_id"),
        Column("sold_at", TIMESTAMP, "When the line was rung up.", required=True),
        Column("product_id", VARCHAR, "What was sold.", required=True, references="products.product_id"),
        Column("quantity", INTEGER, "Units; negative for a return.", required=True, minimum=-999, maximum=999),
        Column("unit_price_zar", decimal(12, 2), "Price of one unit, South African rand.", required=True, minimum=0),
        Column("amount_zar", decimal(12, 2), "Line total, South African rand.", required=True),
        Column(
            "payment_method",
            VARCHAR,
            "How it was paid.",
            source="payment.method",
            required=True,
            one_of=("cash", "card", "mobile", "voucher"),
        ),
        Column("customer_id", VARCHAR, "Loyalty card.", source="loyalty.customer_id", pii=Mask.HASH, person="customer"),
        Column("till_id", VARCHAR, "Which till.", source="@header.till"),
        Column("arrived_at", TIMESTAMP, "When the stream took it.", source="@arrived_at", required=True),
    ),
    primary_key=("transaction_id",),
    event_time="sold_at",
    daily=Daily(FIRST_DAY, allowed_lateness_days=3),
    # As of the tills' files: what was sold stays.
    erase="columns",
    checks=(
        Check(
            "amount_is_price_times_quantity",
            "amount_zar = unit_price_zar * quantity",
            "The line total agrees with price and quantity.",
            severity="warn",
        ),
    ),
)

loyalty_events = Dataset(
    name="loyalty_events",
    description="One row each time that a customer earns points, or asks to pay with them.",
    owners=("team:retail-data",),
    source=StreamSegments(pos, routed_by="event_type", types=("points_earned", "points_redeemed")),
    columns=(
        Column("event_id", VARCHAR, "The till's own number of the event.", required=True),
        Column("customer_id", VARCHAR, "Loyalty card.", required=True, pii=Mask.HASH, person="customer"),
        Column("store_id", VARCHAR, "Where.", required=True, references="stores.store_id"),
        Column("happened_at", TIMESTAMP, "When.", required=True),
        Column("event_type", VARCHAR, "Earned or redeemed.", required=True),
        Column("points", INTEGER, "How many.", required=True, minimum=1, maximum=1_000_000),
        Column("arrived_at", TIMESTAMP, "When the stream took it.", source="@arrived_at", required=True),
    ),
    primary_key=("event_id",),
    event_time="happened_at",
    daily=Daily(FIRST_DAY, allowed_lateness_days=3),
)

low_stock = Rule(
    name="low_stock",
    description="A product runs low in a store: what was counted in the morning less what the tills have told since.",
    on=pos_events,
    by=("store_id", "product_id"),
    known=Known(table="processed.stock_watch", by=("store_id", "product_id"), of_day="same"),
    kind=RunsLow(
        minus="quantity", begins_with="units", threshold="runs_low_below", up_to="fill_up_to", beside=("low_nearby",)
    ),
    priority=3,
    action="notify",
)

till_sessions = Dataset(
    name="till_sessions",
    description="One row each time that a till is opened or closed.",
    owners=("team:retail-data",),
    source=StreamSegments(pos, routed_by="event_type", types=("till_opened", "till_closed")),
    columns=(
        Column("event_id", VARCHAR, "The till's own number of the event.", required=True),
        Column("store_id", VARCHAR, "Where.", required=True, references="stores.store_id"),
        Column("till_id", VARCHAR, "Which till.", source="@header.till"),
        Column("happened_at", TIMESTAMP, "When.", required=True),
        Column("event_type", VARCHAR, "Opened or closed.", required=True),
        Column("cash_zar", decimal(12, 2), "Cash in the drawer, South African rand.", minimum=0),
    ),
    primary_key=("event_id",),
    event_time="happened_at",
    daily=Daily(FIRST_DAY, allowed_lateness_days=3),
)

pos_unknown = Dataset(
    name="pos_unknown",
    description="One row per event of a type that no other dataset takes: kept as it came until somebody declares it.",
    owners=("team:retail-data",),
    source=StreamSegments(pos, routed_by="event_type", types=EVERYTHING_ELSE),
    columns=(
        Column("event_type", VARCHAR, "What it calls itself."),
        # Nobody knows what is in it, so that it is treated as personal.
        Column("event", VARCHAR, "The event as it came.", source="@value", pii=Mask.REDACT),
        Column("arrived_at", TIMESTAMP, "When the stream took it.", source="@arrived_at", required=True),
    ),
    event_time="arrived_at",
    daily=Daily(FIRST_DAY),
    max_quarantined_pct=100.0,
)
