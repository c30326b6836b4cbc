"""
The European Central Bank's reference rates: what one euro is worth, set on working days about four in the afternoon, Frankfurt time.

https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates
"""

from datetime import date

from ingestion_platform.api import Api, ApiPages, Endpoint
from ingestion_platform.dataset import Daily, Dataset
from ingestion_platform.format import Xml
from ingestion_platform.table import BOOLEAN, DATE, VARCHAR, Check, Column, decimal

FIRST_DAY = date(2024, 10, 1)

ecb = Api(name="ecb", base_url="https://www.ecb.europa.eu")

daily_rates = Endpoint(
    name="exchange_rates",
    description="The rates that were set last. It tells the present only: on Saturdays and Sundays Friday's rates.",
    api=ecb,
    path="/stats/eurofxref/eurofxref-daily.xml",
    format=Xml(record="Envelope/Cube/Cube/Cube"),
    first_day=FIRST_DAY,
    schedule="30 17 * * *",
    fallback="last_known",
    owners=("team:finance",),
)

exchange_rates = Dataset(
    name="exchange_rates",
    description="One row per currency: what one euro was worth, as it was told on the day.",
    owners=("team:finance",),
    kind="snapshots",
    source=ApiPages(daily_rates),
    columns=(
        Column("currency", VARCHAR, "ISO 4217.", source="@currency", required=True, pattern=r"[A-Z]{3}"),
        Column(
            "units_per_eur",
            decimal(18, 6),
            "How much of the currency one euro buys.",
            source="@rate",
            required=True,
            minimum=0,
        ),
        Column("rated_on", DATE, "The working day on which the rate was set.", source="../@time", required=True),
        Column(
            "is_stale",
            BOOLEAN,
            "Whether a former day's rate stands in, because the bank couldn't be reached.",
            source="@is_stale",
            required=True,
        ),
    ),
    primary_key=("currency",),
    daily=Daily(FIRST_DAY),
    checks=(Check("rate_is_positive", "units_per_eur > 0", "Amounts are divided by it."),),
)
