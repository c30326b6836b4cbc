/*
description = "One row per store and business day: sales by phone as the tills rang them up against payments as the provider confirmed them."
owners = ["team:payments"]
primary_key = ["paid_on", "store_id"]

[columns]
paid_on = "The business day."
store_id = "The store's number; a store with neither a sale nor a payment by phone has no row."
store_name = "As it stands over the door on that day."
region = "Sales region."
till_lines = "Till lines paid by phone; a payment covers the lines of a basket."
provider_payments = "Payments that the provider confirmed."
till_zar = "Sum of the till lines, South African rand."
provider_zar = "Sum of the payments, South African rand."
difference_zar = "Tills less provider; positive when the provider owes."
is_reconciled = "Whether both agree to the cent."

[[checks]]
name = "tills_agree_with_provider"
expression = "is_reconciled"
description = "Both sides agree to the cent."
severity = "warn"
*/
with till as (
    select
        sales.store_id as store_id,
        count(sales.transaction_id) as lines,
        cast(sum(sales.amount_zar) as decimal(18, 2)) as amount_zar
    from processed.sales as sales
    where sales.sold_at >= $window_start and sales.sold_at < $window_end and sales.payment_method = 'mobile'
    group by sales.store_id
),

provider as (
    select
        payments.store_id as store_id,
        count(payments.payment_id) as payments,
        cast(sum(payments.amount_zar) as decimal(18, 2)) as amount_zar
    from processed.mobile_payments as payments
    where payments.paid_at >= $window_start and payments.paid_at < $window_end
    group by payments.store_id
),

both_sides as (
    select
        coalesce(till.store_id, provider.store_id) as store_id,
        coalesce(till.lines, 0) as till_lines,
        coalesce(provider.payments, 0) as provider_payments,
        coalesce(till.amount_zar, cast(0 as decimal(18, 2))) as till_zar,
        coalesce(provider.amount_zar, cast(0 as decimal(18, 2))) as provider_zar
    from till
    full outer join provider on provider.store_id = till.store_id
)

select
    $day as paid_on,
    both_sides.store_id as store_id,
    stores.store_name as store_name,
    stores.region as region,
    both_sides.till_lines as till_lines,
    both_sides.provider_payments as provider_payments,
    both_sides.till_zar as till_zar,
    both_sides.provider_zar as provider_zar,
    cast(both_sides.till_zar - both_sides.provider_zar as decimal(18, 2)) as difference_zar,
    both_sides.till_zar = both_sides.provider_zar as is_reconciled
from both_sides
left join processed.stores_current as stores on stores.store_id = both_sides.store_id
order by both_sides.store_id
