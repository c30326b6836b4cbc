/*
description = "One row per store and product counted that morning: from which level on it runs low, and what it is to be filled up to."
owners = ["team:supply-chain"]
primary_key = ["store_id", "product_id"]
history_days = 7

[columns]
store_id = "The store's number."
product_id = "Stock keeping unit."
units = "Units counted before opening."
sold_a_day = "Units told as sold by the tills' stream in the seven days before, by day."
runs_low_below = "Below it the product runs low: what is sold in a day, and 5 at least."
fill_up_to = "What an order fills up to: a week's sales, and twice the level at which it runs low at least."
low_nearby = "The nearest three stores within 50 km where the product was low that morning, too; NULL where there is none."
*/
with sold as (
    select
        events.store_id as store_id,
        events.product_id as product_id,
        sum(events.quantity) as units
    from processed.pos_events as events
    where events._day >= $day - interval '7' day and events._day < $day
    group by events.store_id, events.product_id
),

watched as (
    select
        counts.store_id as store_id,
        counts.product_id as product_id,
        counts.units as units,
        cast(greatest(coalesce(sold.units, 0), 0) / 7.0 as decimal(12, 2)) as sold_a_day,
        cast(greatest(ceil(greatest(coalesce(sold.units, 0), 0) / 7.0), 5) as bigint) as runs_low_below
    from processed.stock_counts as counts
    left join sold on sold.store_id = counts.store_id and sold.product_id = counts.product_id
    where counts._day = $day
),

near as (
    select
        low.product_id as product_id,
        here.store_id as store_id,
        low.store_id as other,
        111.2 * sqrt(
            power(cast(here.latitude - other.latitude as double), 2)
            + power(cast(here.longitude - other.longitude as double) * cos(radians(cast(here.latitude as double))), 2)
        ) as km
    from watched as low
    inner join processed.stores_current as other on other.store_id = low.store_id
    inner join processed.stores_current as here on here.country = other.country and here.store_id <> other.store_id
    where low.units < low.runs_low_below
),

nearby as (
    select
        near.product_id as product_id,
        near.store_id as store_id,
        string_agg(near.other, ', ' order by near.km, near.other) as stores
    from (
        select *, row_number() over (partition by product_id, store_id order by km, other) as place
        from near
        where km <= 50
    ) as near
    where near.place <= 3
    group by near.product_id, near.store_id
)

select
    watched.store_id as store_id,
    watched.product_id as product_id,
    watched.units as units,
    watched.sold_a_day as sold_a_day,
    watched.runs_low_below as runs_low_below,
    greatest(cast(ceil(watched.sold_a_day * 7) as bigint), 2 * watched.runs_low_below) as fill_up_to,
    nearby.stores as low_nearby
from watched
left join nearby on nearby.store_id = watched.store_id and nearby.product_id = watched.product_id
order by watched.store_id, watched.product_id
