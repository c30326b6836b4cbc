/*
description = "One row per region and business day: its net sales in euro, by the European Central Bank's rate that held on the day."
owners = ["team:finance"]
primary_key = ["sold_on", "region"]

[columns]
sold_on = "The business day."
region = "Sales region."
net_zar = "Sold less taken back, South African rand."
zar_per_eur = "Rand for one euro; NULL as long as no rate was ever fetched."
rated_on = "When that rate was set: the day itself or, on days without a rate of their own, the last working day before it."
is_carried_forward = "Whether the rate is of a day before."
is_stale = "Whether the rate stands in because the bank couldn't be reached."
net_eur = "Net sales in euro, to the cent."

[[checks]]
name = "rate_is_known"
expression = "zar_per_eur is not null"
description = "There is a rate to convert by."
severity = "warn"

[[checks]]
name = "rate_is_fresh"
expression = "not is_stale"
description = "The rate is the one that the bank told on the day."
severity = "warn"
*/
with sold as (
    select
        stores.region as region,
        cast(sum(sales.amount_zar) as decimal(18, 2)) as net_zar
    from processed.sales as sales
    left join processed.stores_current as stores on stores.store_id = sales.store_id
    where sales.sold_at >= $window_start and sales.sold_at < $window_end
    group by stores.region
),

-- The newest rates that were fetched by the day: a day without a fetch of its own takes those before it.
rand as (
    select
        rates.units_per_eur as zar_per_eur,
        rates.rated_on as rated_on,
        rates.is_stale as is_stale
    from processed.exchange_rates_current as rates
    where rates.currency = 'ZAR'
)

-- 100 and 1,000,000 make whole numbers of both sides, so that the quotient is rounded where a calculation by hand would round it.
select
    $day as sold_on,
    sold.region as region,
    sold.net_zar as net_zar,
    rand.zar_per_eur as zar_per_eur,
    rand.rated_on as rated_on,
    rand.rated_on < $day as is_carried_forward,
    rand.is_stale as is_stale,
    cast(round(1000000 * 100 * sold.net_zar / (1000000 * rand.zar_per_eur)) / 100 as decimal(18, 2)) as net_eur
from sold
left join rand on true
order by sold.region
