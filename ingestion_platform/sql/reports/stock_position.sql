/*
description = "One row per store and product: units on hand at the close of the business day, as the last count, deliveries and sales say."
owners = ["team:supply-chain"]
primary_key = ["position_on", "store_id", "product_id"]
history_days = 7

[columns]
position_on = "The business day, at whose close this is."
store_id = "The store's number; a store that hasn't counted for more than seven days has no row."
product_id = "Stock keeping unit; what wasn't in the store's last count has no row."
counted_at = "When the store's last count was closed, UTC. Stores count before opening."
units_counted = "Units in that count."
units_delivered = "Units delivered from the day of the count until the close."
units_sold = "Units sold less units returned from the day of the count until the close."
units_on_hand = "Counted and delivered less sold; below zero, something was sold that wasn't counted."

[[checks]]
name = "stock_is_not_negative"
expression = "units_on_hand >= 0"
description = "Nothing is sold that isn't there."
severity = "warn"

[[checks]]
name = "position_adds_up"
expression = "units_on_hand = units_counted + units_delivered - units_sold"
description = "Units on hand are what was counted and delivered less what was sold."
*/
with last_counts as (
    select
        counts.store_id as store_id,
        max(counts._day) as counted_on
    from processed.stock_counts as counts
    where counts._day >= $day - interval '7' day and counts._day <= $day
    group by counts.store_id
),

counted as (
    select
        counts.store_id as store_id,
        counts.product_id as product_id,
        counts._day as counted_on,
        counts.counted_at as counted_at,
        counts.units as units
    from processed.stock_counts as counts
    inner join last_counts on last_counts.store_id = counts.store_id and last_counts.counted_on = counts._day
),

delivered as (
    select
        deliveries.store_id as store_id,
        deliveries.product_id as product_id,
        sum(deliveries.units) as units
    from processed.deliveries as deliveries
    inner join last_counts on last_counts.store_id = deliveries.store_id
    where deliveries._day >= last_counts.counted_on and deliveries._day <= $day
    group by deliveries.store_id, deliveries.product_id
),

sold as (
    select
        sales.store_id as store_id,
        sales.product_id as product_id,
        sum(sales.quantity) as units
    from processed.sales as sales
    inner join last_counts on last_counts.store_id = sales.store_id
    where sales._day >= last_counts.counted_on and sales._day <= $day
    group by sales.store_id, sales.product_id
)

select
    $day as position_on,
    counted.store_id as store_id,
    counted.product_id as product_id,
    counted.counted_at as counted_at,
    counted.units as units_counted,
    cast(coalesce(delivered.units, 0) as bigint) as units_delivered,
    cast(coalesce(sold.units, 0) as bigint) as units_sold,
    cast(counted.units + coalesce(delivered.units, 0) - coalesce(sold.units, 0) as bigint) as units_on_hand
from counted
left join delivered on delivered.store_id = counted.store_id and delivered.product_id = counted.product_id
left join sold on sold.store_id = counted.store_id and sold.product_id = counted.product_id
order by counted.store_id, counted.product_id
