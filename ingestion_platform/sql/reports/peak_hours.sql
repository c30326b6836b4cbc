/*
description = "One row per region, business day and hour of the local clock: how busy the tills were."
owners = ["team:retail-data"]
primary_key = ["sold_on", "region", "sold_hour"]

[columns]
sold_on = "The business day."
region = "Sales region."
sold_hour = "Hour of the local clock, 0 to 23; 9 is 09:00 until 10:00. Hours without a sale have no row."
transactions = "Till lines, returns included."
sales_zar = "Sold, returns left out, South African rand."

[[checks]]
name = "hour_is_of_a_day"
expression = "sold_hour between 0 and 23"
description = "Hours are those of a clock."
*/
with local_sales as (
    select
        sales.transaction_id as transaction_id,
        stores.region as region,
        extract(hour from sales.sold_at at time zone 'UTC' at time zone $time_zone) as sold_hour,
        sales.quantity as quantity,
        sales.amount_zar as amount_zar
    from processed.sales as sales
    left join processed.stores_current as stores on stores.store_id = sales.store_id
    where sales.sold_at >= $window_start and sales.sold_at < $window_end
)

select
    $day as sold_on,
    local_sales.region as region,
    cast(local_sales.sold_hour as integer) as sold_hour,
    count(local_sales.transaction_id) as transactions,
    cast(sum(case when local_sales.quantity >= 0 then local_sales.amount_zar else 0 end) as decimal(18, 2)) as sales_zar
from local_sales
group by local_sales.region, local_sales.sold_hour
order by local_sales.region, local_sales.sold_hour
