/*
description = "One row per store and business day: what its tills sold and took back."
owners = ["team:retail-data"]
primary_key = ["sold_on", "store_id"]

[columns]
sold_on = "The business day."
store_id = "The store's number; a store that sold nothing has no row."
store_name = "As it stands over the door on that day."
region = "Sales region."
transactions = "Till lines, returns included."
units = "Units sold less units returned."
sales_zar = "Sold, returns left out, South African rand."
returns_zar = "Taken back, South African rand; positive."
net_zar = "Sold less taken back, South African rand."

[[checks]]
name = "net_is_sales_less_returns"
expression = "net_zar = sales_zar - returns_zar"
description = "What is left is what was sold less what was taken back."

[[checks]]
name = "store_is_on_the_roster"
expression = "store_name is not null and region is not null"
description = "Every store that sold is on the roster of the day."

[[checks]]
name = "returns_are_below_sales"
expression = "returns_zar <= sales_zar"
description = "No store takes back more than it sells on a day."
severity = "warn"
*/
select
    $day as sold_on,
    sales.store_id as store_id,
    stores.store_name as store_name,
    stores.region as region,
    count(sales.transaction_id) as transactions,
    cast(sum(sales.quantity) as bigint) as units,
    cast(sum(case when sales.quantity >= 0 then sales.amount_zar else 0 end) as decimal(18, 2)) as sales_zar,
    cast(sum(case when sales.quantity < 0 then -sales.amount_zar else 0 end) as decimal(18, 2)) as returns_zar,
    cast(sum(sales.amount_zar) as decimal(18, 2)) as net_zar
from processed.sales as sales
left join processed.stores_current as stores on stores.store_id = sales.store_id
where sales.sold_at >= $window_start and sales.sold_at < $window_end
group by sales.store_id, stores.store_name, stores.region
order by sales.store_id
