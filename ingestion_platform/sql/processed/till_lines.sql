/*
description = "One row per till line, wherever it is known from: the stores' files, the tills' event stream, or both."
owners = ["team:retail-data"]
primary_key = ["transaction_id"]

[columns]
transaction_id = "The till's own number of the line."
store_id = "Where it was sold; as the file says, where there is one."
sold_at = "When the line was rung up; as the file says, where there is one. UTC."
product_id = "What was sold."
quantity = "Units; negative for a return."
amount_zar = "Line total, South African rand; as the file says, where there is one."
payment_method = "How it was paid."
is_in_files = "Whether a store's file has it."
is_in_stream = "Whether the event stream has it."
agrees = "Whether store, product, quantity and amount are the same in both; NULL where only one has it."
*/
with file_lines as (
    select * from processed.sales where sold_at >= $window_start and sold_at < $window_end
),

events as (
    select * from processed.pos_events where sold_at >= $window_start and sold_at < $window_end
)

select
    coalesce(file_lines.transaction_id, events.transaction_id) as transaction_id,
    coalesce(file_lines.store_id, events.store_id) as store_id,
    coalesce(file_lines.sold_at, events.sold_at) as sold_at,
    coalesce(file_lines.product_id, events.product_id) as product_id,
    coalesce(file_lines.quantity, events.quantity) as quantity,
    coalesce(file_lines.amount_zar, events.amount_zar) as amount_zar,
    coalesce(file_lines.payment_method, events.payment_method) as payment_method,
    file_lines.transaction_id is not null as is_in_files,
    events.transaction_id is not null as is_in_stream,
    case
        when file_lines.transaction_id is not null and events.transaction_id is not null
            then file_lines.store_id = events.store_id and file_lines.product_id = events.product_id
                and file_lines.quantity = events.quantity and file_lines.amount_zar = events.amount_zar
    end as agrees
from file_lines
full outer join events on events.transaction_id = file_lines.transaction_id
order by transaction_id
