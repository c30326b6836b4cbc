/*
description = "One row per store and business day: what its tills sold."
owners = ["team:retail-data"]
primary_key = ["sold_on", "store_id"]

[columns]
sold_on = "The business day."
store_id = "The store's number."
till_lines = "Lines rung up."
units = "Units sold."
sales_zar = "South African rand."
*/
select
    $day as sold_on,
    store_id,
    count(*) as till_lines,
    cast(sum(quantity) as bigint) as units,
    cast(sum(amount_zar) as decimal(18, 2)) as sales_zar
from processed.tills
where sold_at >= $window_start and sold_at < $window_end
group by store_id
order by store_id
