/*
description = "One row per store and business day: its net sales against its region's average and against its own last seven days."
owners = ["team:retail-data"]
primary_key = ["sold_on", "store_id"]
history_days = 7

[columns]
sold_on = "The business day."
store_id = "The store's number; a store that sold nothing has no row."
store_name = "As it stands over the door on that day."
region = "Sales region."
net_zar = "Sold less taken back, South African rand."
region_average_zar = "Average of the region's stores that sold on the day, South African rand."
against_region_pct = "How far above (or below, negative) the region's average."
trailing_average_zar = "Average of the store's own days with sales among the seven before, South African rand; NULL when there is none."
against_trailing_pct = "How far above (or below, negative) its own average."

[[checks]]
name = "store_is_within_reach_of_its_own_average"
expression = "abs(against_trailing_pct) <= 200"
description = "A store that sells three times its average is either lucky or sent something twice."
severity = "warn"
*/
with store_days as (
    select
        sales.store_id as store_id,
        sales._day as sold_on,
        cast(sum(sales.amount_zar) as decimal(18, 2)) as net_zar
    from processed.sales as sales
    where sales._day >= $day - interval '7' day and sales._day <= $day
    group by sales.store_id, sales._day
),

today as (
    select
        store_days.store_id as store_id,
        stores.store_name as store_name,
        stores.region as region,
        store_days.net_zar as net_zar
    from store_days
    left join processed.stores_current as stores on stores.store_id = store_days.store_id
    where store_days.sold_on = $day
),

-- Averages are taken of whole cents, so that half a cent is exactly a half, and goes up.
region_averages as (
    select
        today.region as region,
        cast(round(sum(100 * today.net_zar) / count(today.net_zar)) / 100 as decimal(18, 2)) as average_zar
    from today
    group by today.region
),

trailing_averages as (
    select
        store_days.store_id as store_id,
        cast(round(sum(100 * store_days.net_zar) / count(store_days.net_zar)) / 100 as decimal(18, 2)) as average_zar
    from store_days
    where store_days.sold_on < $day
    group by store_days.store_id
)

select
    $day as sold_on,
    today.store_id as store_id,
    today.store_name as store_name,
    today.region as region,
    today.net_zar as net_zar,
    region_averages.average_zar as region_average_zar,
    cast(
        round(1000000 * (today.net_zar - region_averages.average_zar) / nullif(100 * region_averages.average_zar, 0)) / 100
        as decimal(18, 2)
    ) as against_region_pct,
    trailing_averages.average_zar as trailing_average_zar,
    cast(
        round(1000000 * (today.net_zar - trailing_averages.average_zar) / nullif(100 * trailing_averages.average_zar, 0)) / 100
        as decimal(18, 2)
    ) as against_trailing_pct
from today
left join region_averages on region_averages.region = today.region
left join trailing_averages on trailing_averages.store_id = today.store_id
order by today.store_id
