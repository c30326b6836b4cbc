"""Suppliers: the manifests that come with their deliveries."""

from datetime import date

from ingestion_platform.dataset import Daily, Dataset, LandedFiles
from ingestion_platform.format import Xml
from ingestion_platform.table import INTEGER, TIMESTAMP, VARCHAR, Column, decimal

deliveries = Dataset(
    name="deliveries",
    description="One row per line of a supplier's delivery manifest.",
    owners=("team:supply-chain",),
    source=LandedFiles("deliveries/%Y/%m/%d/{supplier_id}-{manifest_number}.xml", Xml(record="manifest/lines/line")),
    columns=(
        Column("manifest_id", VARCHAR, "The supplier's number of the manifest.", source="../../@id", required=True),
        Column("line_number", INTEGER, "Its line.", source="@number", required=True, minimum=1),
        Column("supplier_id", VARCHAR, "Who delivered.", source="../../header/supplier_id", required=True),
        Column(
            "store_id",
            VARCHAR,
            "Where to.",
            source="../../header/store_id",
            required=True,
            references="stores.store_id",
        ),
        Column(
            "delivered_at",
            TIMESTAMP,
            "When the store signed for it.",
            source="../../header/delivered_at",
            required=True,
        ),
        Column("product_id", VARCHAR, "What.", required=True, references="products.product_id"),
        Column("units", INTEGER, "Units delivered.", source="quantity", required=True, minimum=1),
        Column(
            "unit_cost_zar",
            decimal(12, 2),
            "Cost of one unit, South African rand.",
            source="unit_cost",
            required=True,
            minimum=0,
        ),
        Column("currency", VARCHAR, "Of the cost.", source="unit_cost/@currency", required=True, one_of=("ZAR",)),
    ),
    primary_key=("manifest_id", "line_number"),
    event_time="delivered_at",
    daily=Daily(date(2024, 10, 1), allowed_lateness_days=3),
)
