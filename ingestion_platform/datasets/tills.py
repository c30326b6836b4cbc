"""The stores' tills: what was rung up, exported by each store at closing time."""

from datetime import date, time

from ingestion_platform.dataset import Daily, Dataset, LandedFiles, Routing
from ingestion_platform.format import Csv, Parquet
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform.opening_days import Closure, OpeningDays
from ingestion_platform.senders import Cutoff, senders_from
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Check, Column, Mask, decimal

sales = Dataset(
    name="sales",
    description="One row per till line, as each store's point of sale exports it at closing time.",
    owners=("team:retail-data",),
    source=LandedFiles(("sales/%Y/%m/%d/{store_id}.csv", "sales/%Y/%m/%d/{store_id}.csv.gz"), Csv()),
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
            required=True,
            one_of=("cash", "card", "mobile", "voucher"),
        ),
        Column("customer_id", VARCHAR, "Loyalty card.", pii=Mask.HASH, person="customer"),
    ),
    primary_key=("transaction_id",),
    event_time="sold_at",
    daily=Daily(date(2024, 10, 1), allowed_lateness_days=3),
    senders=senders_from(
        "stores",
        "store_id",
        active_from="opened_on",
        country="country",
        # The chain trades on public holidays, but for these.
        opening_days=OpeningDays(
            closures=(
                Closure(first=date(2024, 12, 25), reason="Christmas Day"),
                Closure(first=date(2025, 1, 1), reason="New Year's Day"),
                Closure(first=date(2025, 3, 21), reason="Independence Day", country="NA"),
            )
        ),
        cutoff=Cutoff(at=time(6), grace_hours=24),
    ),
    routing=Routing(own_run_above_bytes=1_000_000_000),
    # What was sold has to be kept for the books; to whom, not.
    erase="columns",
    lifecycle=Lifecycle(warm_after_days=30, cold_after_days=365),
    checks=(
        Check(
            "amount_is_price_times_quantity",
            "amount_zar = unit_price_zar * quantity",
            "The line total agrees with price and quantity.",
            severity="warn",
        ),
    ),
)

stock_counts = Dataset(
    name="stock_counts",
    description="Units on the shelf per store and product, counted before opening; each count replaces the store's former one of the day.",
    owners=("team:supply-chain",),
    kind="snapshots",
    source=LandedFiles("stock_counts/%Y/%m/%d/{store_id}.parquet", Parquet()),
    columns=(
        Column("store_id", VARCHAR, "Where it was counted.", required=True, references="stores.store_id"),
        Column("product_id", VARCHAR, "What was counted.", required=True, references="products.product_id"),
        Column("counted_at", TIMESTAMP, "When the count was closed.", required=True),
        Column("units", INTEGER, "Units counted.", required=True, minimum=0),
    ),
    primary_key=("store_id", "product_id"),
    daily=Daily(date(2024, 10, 1)),
    senders=senders_from("stores", "store_id", active_from="opened_on"),
)
