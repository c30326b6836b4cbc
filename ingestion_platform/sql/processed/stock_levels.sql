/*
description = "One row per store and product: units at the end of the business day, carried on from the day before and put right by each count."
owners = ["team:supply-chain"]
primary_key = ["store_id", "product_id"]

[columns]
store_id = "The store's number."
product_id = "Stock keeping unit; every one that was ever counted, delivered or sold there."
counted_at = "When it was last counted, UTC; NULL when it never was. Stores count before opening."
units_opening = "Units when the store opened: as counted in the morning, or as the day before ended."
units_missing = "By how many units the morning's count is below the end of the day before: lost, stolen or broken; negative when above; NULL when it wasn't counted."
units_delivered = "Units delivered on the day."
units_sold = "Units sold less units returned on the day, as files and tills' events together know."
units_on_hand = "Units when the day ended; below zero, something was sold that neither count nor delivery knows."

[[checks]]
name = "stock_is_not_negative"
expression = "units_on_hand >= 0"
description = "Nothing is sold that isn't there."
severity = "warn"

[[checks]]
name = "level_adds_up"
expression = "units_on_hand = units_opening + units_delivered - units_sold"
description = "Units on hand are those of the morning and delivered ones less what was sold."
blocking = true
*/
with counted as (
    select
        counts.store_id as store_id,
        counts.product_id as product_id,
        counts.counted_at as counted_at,
        counts.units as units
    from processed.stock_counts as counts
    where counts._day = $day
),

moves as (
    select
        deliveries.store_id as store_id,
        deliveries.product_id as product_id,
        deliveries.units as units_delivered,
        0 as units_sold
    from processed.deliveries as deliveries
    where deliveries.delivered_at >= $window_start and deliveries.delivered_at < $window_end
    union all
    select
        till_lines.store_id as store_id,
        till_lines.product_id as product_id,
        0 as units_delivered,
        till_lines.quantity as units_sold
    from processed.till_lines as till_lines
    where till_lines.sold_at >= $window_start and till_lines.sold_at < $window_end
),

moved as (
    select
        moves.store_id as store_id,
        moves.product_id as product_id,
        sum(moves.units_delivered) as units_delivered,
        sum(moves.units_sold) as units_sold
    from moves
    group by moves.store_id, moves.product_id
),

today as (
    select
        coalesce(counted.store_id, moved.store_id) as store_id,
        coalesce(counted.product_id, moved.product_id) as product_id,
        counted.counted_at as counted_at,
        counted.units as units_counted,
        coalesce(moved.units_delivered, 0) as units_delivered,
        coalesce(moved.units_sold, 0) as units_sold
    from counted
    full outer join moved on moved.store_id = counted.store_id and moved.product_id = counted.product_id
)

select
    coalesce(before.store_id, today.store_id) as store_id,
    coalesce(before.product_id, today.product_id) as product_id,
    coalesce(today.counted_at, before.counted_at) as counted_at,
    cast(coalesce(today.units_counted, before.units_on_hand, 0) as bigint) as units_opening,
    cast(before.units_on_hand - today.units_counted as bigint) as units_missing,
    cast(coalesce(today.units_delivered, 0) as bigint) as units_delivered,
    cast(coalesce(today.units_sold, 0) as bigint) as units_sold,
    cast(
        coalesce(today.units_counted, before.units_on_hand, 0)
        + coalesce(today.units_delivered, 0) - coalesce(today.units_sold, 0) as bigint
    ) as units_on_hand
from today
full outer join processed.stock_levels as before
    on before.store_id = today.store_id and before.product_id = today.product_id
