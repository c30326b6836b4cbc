/*
description = "One row per withdrawal that would have overdrawn its account, and was refused."
owners = ["team:payments"]
primary_key = ["event_id"]
may_be_empty = true

[columns]
event_id = "The bank's number of the event."
account_id = "The account's number, hashed."
store_id = "Where the cash was asked for."
happened_at = "When, UTC."
amount_zar = "How much was asked for, South African rand."
balance_zar = "What was in the account at that moment, South African rand."
short_zar = "How much was missing, South African rand."
reason = "Why it was refused."

[[checks]]
name = "it_would_have_overdrawn"
expression = "short_zar > 0"
description = "Nobody is refused what is in the account."
*/
select
    events.event_id as event_id,
    events.account_id as account_id,
    events.store_id as store_id,
    events.happened_at as happened_at,
    events.amount_zar as amount_zar,
    balances.refusals[events.event_id] as balance_zar,
    cast(events.amount_zar - balances.refusals[events.event_id] as decimal(18, 2)) as short_zar,
    'would overdraw the account' as reason
from processed.account_events as events
inner join processed.account_balances as balances on balances.account_id = events.account_id
where
    events.happened_at >= $window_start and events.happened_at < $window_end
    and balances.refusals[events.event_id] is not null
order by events.event_id
