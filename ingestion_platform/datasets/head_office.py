"""Head office: the reference lists of stores and products, sent whole every morning."""

from datetime import date

from ingestion_platform.dataset import Daily, Dataset, LandedFiles
from ingestion_platform.format import Csv
from ingestion_platform.table import DATE, VARCHAR, Column, decimal

stores = Dataset(
    name="stores",
    description="One row per store that has ever opened; the roster of who sends sales.",
    owners=("team:retail-data",),
    kind="snapshots",
    source=LandedFiles("reference/stores/%Y/%m/%d/stores.csv", Csv()),
    columns=(
        Column("store_id", VARCHAR, "The store's number.", required=True, pattern=r"S\d{4}"),
        Column("store_name", VARCHAR, "As it stands over the door.", required=True),
        Column("region", VARCHAR, "Sales region.", required=True),
        Column("country", VARCHAR, "ISO 3166 alpha-2.", required=True, pattern=r"[A-Z]{2}"),
        Column("latitude", decimal(8, 5), "Degrees north, WGS 84.", minimum=-90, maximum=90),
        Column("longitude", decimal(8, 5), "Degrees east, WGS 84.", minimum=-180, maximum=180),
        Column("opened_on", DATE, "First trading day.", required=True),
    ),
    primary_key=("store_id",),
    daily=Daily(date(2024, 10, 1)),
)

products = Dataset(
    name="products",
    description="One row per product that can be sold.",
    owners=("team:retail-data",),
    kind="snapshots",
    source=LandedFiles("reference/products/year=%Y/month=%m/day=%d/products.csv.gz", Csv(delimiter=";")),
    columns=(
        Column("product_id", VARCHAR, "Stock keeping unit.", required=True, pattern=r"P\d{5}"),
        Column("product_name", VARCHAR, "As printed on the slip.", required=True),
        Column("category", VARCHAR, "Department.", required=True),
        Column("list_price_zar", decimal(12, 2), "Price on the shelf, South African rand.", required=True, minimum=0),
    ),
    primary_key=("product_id",),
    daily=Daily(date(2024, 10, 1)),
)
