/*
description = "One row per customer who paid by card in the last four weeks: what is usual. Live rules hold payments against it."
owners = ["team:retail-data"]
primary_key = ["customer_id"]
history_days = 27

[columns]
customer_id = "The customer, hashed."
payments = "Approved payments in the four weeks up to the day."
usual_amount_zar = "Mean of their amounts, South African rand; NULL of fewer than three."
stores = "Stores that were paid in; NULL of fewer than three payments."
regions = "Their regions; NULL of fewer than three payments."
hours = "Hours of the day, UTC, in which was paid; NULL of fewer than three payments."
cards = "Cards that were paid with, hashed; NULL of fewer than three payments."
*/
select
    payments.customer_id as customer_id,
    count(*) as payments,
    cast(case when count(*) >= 3 then sum(payments.amount_zar) / count(*) end as decimal(12, 2)) as usual_amount_zar,
    case when count(*) >= 3 then list_sort(list(distinct payments.store_id)) end as stores,
    case when count(*) >= 3 then list_sort(list(distinct payments.region) filter (where payments.region is not null)) end as regions,
    case when count(*) >= 3 then list_sort(list(distinct cast(extract(hour from payments.paid_at) as integer))) end as hours,
    case when count(*) >= 3 then list_sort(list(distinct payments.card) filter (where payments.card is not null)) end as cards
from processed.payments as payments
where
    payments.paid_at >= cast($window_start as timestamp) - interval '27' day
    and payments.paid_at < $window_end
    and payments.status = 'approved'
    and payments.customer_id is not null
group by payments.customer_id
