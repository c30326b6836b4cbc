/*
description = "One row per region, business day and payment method: how customers paid."
owners = ["team:payments"]
primary_key = ["sold_on", "region", "payment_method"]

[columns]
sold_on = "The business day."
region = "Sales region."
payment_method = "How it was paid; a method nobody used has no row."
transactions = "Till lines, returns included."
net_zar = "Sold less taken back, South African rand."
share_pct = "Of the region's net sales of the day, to two decimals; NULL when these are zero."

[[checks]]
name = "share_is_a_share"
expression = "share_pct between 0 and 100"
description = "No method takes back more than it sells."
severity = "warn"
*/
with paid as (
    select
        stores.region as region,
        sales.payment_method as payment_method,
        count(sales.transaction_id) as transactions,
        cast(sum(sales.amount_zar) as decimal(18, 2)) as net_zar
    from processed.sales as sales
    left join processed.stores_current as stores on stores.store_id = sales.store_id
    where sales.sold_at >= $window_start and sales.sold_at < $window_end
    group by stores.region, sales.payment_method
),

regions as (
    select
        paid.region as region,
        cast(sum(paid.net_zar) as decimal(18, 2)) as net_zar
    from paid
    group by paid.region
)

-- 1,000,000 and 100 make whole numbers of both sides, so that the quotient is rounded where a calculation by hand would round it.
select
    $day as sold_on,
    paid.region as region,
    paid.payment_method as payment_method,
    paid.transactions as transactions,
    paid.net_zar as net_zar,
    cast(round(1000000 * paid.net_zar / nullif(100 * regions.net_zar, 0)) / 100 as decimal(18, 2)) as share_pct
from paid
inner join regions on regions.region = paid.region
order by paid.region, paid.payment_method
