"""
A supplier's catalogue: what we can order, in which sizes, at what price.

The supplier is made up, and so is its host; the settings say where it is.
"""

from datetime import date

from ingestion_platform.api import Api, ApiPages, ClientCredentials, EachRecord, Endpoint, NextLink, Rate
from ingestion_platform.dataset import Daily, Dataset
from ingestion_platform.format import Json
from ingestion_platform.table import DATE, INTEGER, VARCHAR, Column, decimal

FIRST_DAY = date(2024, 10, 1)

catalogue = Api(
    name="supplier_catalogue",
    base_url="https://api.supplier.example/v1",
    auth=ClientCredentials(token_url="oauth/token", scope="catalogue.read"),
    rate=Rate(100, 1),
)

products = Endpoint(
    name="catalogue",
    description="Products with their variants, as they were listed on a day, ten a page.",
    api=catalogue,
    path="/products",
    params={"as_of": "{day}", "page_size": "10"},
    format=Json("products[*]"),
    paging=NextLink("paging.next"),
    record_key=("product_id",),
    first_day=FIRST_DAY,
    schedule="0 5 * * *",
    owners=("team:supply-chain",),
)

prices = Endpoint(
    name="catalogue_prices",
    description="What a product costs, by how many cases are ordered.",
    api=catalogue,
    path="/products/{product_id}/prices",
    params={"as_of": "{day}"},
    format=Json("prices[*]"),
    each=EachRecord(products, {"product_id": "product_id"}),
    none_when=(404,),
    first_day=FIRST_DAY,
    owners=("team:supply-chain",),
)

catalogue_products = Dataset(
    name="catalogue_products",
    description="One row per product that the supplier lists.",
    owners=("team:supply-chain",),
    kind="snapshots",
    source=ApiPages(products),
    columns=(
        Column("product_number", VARCHAR, "The supplier's own.", source="product_id", required=True),
        Column("product_name", VARCHAR, "What the supplier calls it.", source="name", required=True),
        Column("category", VARCHAR, "The supplier's department."),
        Column("listed_on", DATE, "Since when it can be ordered."),
    ),
    primary_key=("product_number",),
    daily=Daily(FIRST_DAY),
    on_unknown_column="ignore",
)

catalogue_variants = Dataset(
    name="catalogue_variants",
    description="One row per size of a product that the supplier lists.",
    owners=("team:supply-chain",),
    kind="snapshots",
    source=ApiPages(products, other_format=Json("products[*].variants[*]")),
    columns=(
        Column("product_number", VARCHAR, "The supplier's own.", source="../product_id", required=True),
        Column("product_id", VARCHAR, "Ours.", source="sku", required=True, references="products.product_id"),
        Column("size", VARCHAR, "What the supplier calls it.", required=True),
        Column("units_per_case", INTEGER, "How many are in a case.", required=True, minimum=1),
    ),
    primary_key=("product_id",),
    daily=Daily(FIRST_DAY),
)

catalogue_prices = Dataset(
    name="catalogue_prices",
    description="One row per product and size of order: what a case costs from so many cases on.",
    owners=("team:supply-chain",),
    kind="snapshots",
    source=ApiPages(prices),
    columns=(
        Column("product_number", VARCHAR, "The supplier's own.", source="@param.product_id", required=True),
        Column("from_cases", INTEGER, "The price holds from so many cases on.", required=True, minimum=1),
        Column(
            "case_price_zar",
            decimal(12, 2),
            "Price of one case, South African rand.",
            source="case_price",
            required=True,
            minimum=0,
        ),
        Column("currency", VARCHAR, "Of the price.", source="../currency", required=True, one_of=("ZAR",)),
    ),
    primary_key=("product_number", "from_cases"),
    daily=Daily(FIRST_DAY),
)
