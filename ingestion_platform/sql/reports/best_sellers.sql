/*
description = "One row per region, business day and rank: the ten products that sold most units."
owners = ["team:retail-data"]
primary_key = ["sold_on", "region", "sales_rank"]

[columns]
sold_on = "The business day."
region = "Sales region."
sales_rank = "1 sold most units; of equal units the higher revenue comes first, then the lower product number."
product_id = "Stock keeping unit."
product_name = "As printed on the slip."
units = "Units sold less units returned."
net_zar = "Sold less taken back, South African rand."

[[checks]]
name = "rank_is_one_to_ten"
expression = "sales_rank between 1 and 10"
description = "Ten products a region and day at most."
*/
with sold as (
    select
        stores.region as region,
        sales.product_id as product_id,
        sum(sales.quantity) as units,
        sum(sales.amount_zar) as net_zar
    from processed.sales as sales
    left join processed.stores_current as stores on stores.store_id = sales.store_id
    where sales.sold_at >= $window_start and sales.sold_at < $window_end
    group by stores.region, sales.product_id
),

ranked as (
    select
        sold.region as region,
        sold.product_id as product_id,
        sold.units as units,
        sold.net_zar as net_zar,
        row_number() over (
            partition by sold.region order by sold.units desc, sold.net_zar desc, sold.product_id
        ) as sales_rank
    from sold
)

select
    $day as sold_on,
    ranked.region as region,
    cast(ranked.sales_rank as integer) as sales_rank,
    ranked.product_id as product_id,
    products.product_name as product_name,
    cast(ranked.units as bigint) as units,
    cast(ranked.net_zar as decimal(18, 2)) as net_zar
from ranked
left join processed.products_current as products on products.product_id = ranked.product_id
where ranked.sales_rank <= 10
order by ranked.region, ranked.sales_rank
