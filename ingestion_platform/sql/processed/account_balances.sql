/*
description = "One row per account: its balance at the end of the business day, in the order in which deposits and withdrawals happened."
owners = ["team:payments"]
primary_key = ["account_id"]

[columns]
account_id = "The account's number, hashed."
balance_zar = "What is in it, South African rand."
deposited_zar = "All deposits since the first day, South African rand."
withdrawn_zar = "All withdrawals since the first day that were paid, South African rand."
withdrawals_refused = "How many withdrawals since the first day would have overdrawn it, and weren't paid."
last_event_at = "When it was last paid into or asked for cash, UTC."
refusals = "The withdrawals of the day that were refused: number of the event, and the balance at that moment, South African rand."

[[checks]]
name = "balance_is_not_negative"
expression = "balance_zar >= 0"
description = "No account is overdrawn."
blocking = true

[[checks]]
name = "balance_adds_up"
expression = "balance_zar = deposited_zar - withdrawn_zar"
description = "What is in it is what was paid in less what was paid out."
blocking = true
*/
with asked as (
    select
        events.account_id as account_id,
        list(
            struct_pack(
                event_id := events.event_id,
                amount_zar := case when events.kind = 'deposit' then events.amount_zar else -events.amount_zar end
            )
            order by events.happened_at, events.event_id
        ) as movements,
        sum(case when events.kind = 'deposit' then events.amount_zar else 0 end) as deposited_zar,
        max(events.happened_at) as last_event_at
    from processed.account_events as events
    where events.happened_at >= $window_start and events.happened_at < $window_end
    group by events.account_id
),

-- One movement after the other: a withdrawal that is refused doesn't count for those after it, which no window can say.
moved as (
    select
        coalesce(before.account_id, asked.account_id) as account_id,
        list_reduce(
            coalesce(asked.movements, []),
            lambda state, movement: case
                when state.balance_zar + movement.amount_zar < 0
                    then struct_pack(
                        balance_zar := state.balance_zar,
                        refused := list_append(
                            state.refused, struct_pack(event_id := movement.event_id, balance_zar := state.balance_zar)
                        )
                    )
                else struct_pack(
                    balance_zar := cast(state.balance_zar + movement.amount_zar as decimal(18, 2)), refused := state.refused
                )
            end,
            struct_pack(balance_zar := cast(coalesce(before.balance_zar, 0) as decimal(18, 2)), refused := [])
        ) as state,
        cast(coalesce(before.deposited_zar, 0) + coalesce(asked.deposited_zar, 0) as decimal(18, 2)) as deposited_zar,
        coalesce(before.withdrawals_refused, 0) as refused_before,
        coalesce(asked.last_event_at, before.last_event_at) as last_event_at
    from asked
    full outer join processed.account_balances as before on before.account_id = asked.account_id
)

select
    moved.account_id as account_id,
    moved.state.balance_zar as balance_zar,
    moved.deposited_zar as deposited_zar,
    cast(moved.deposited_zar - moved.state.balance_zar as decimal(18, 2)) as withdrawn_zar,
    cast(moved.refused_before + len(moved.state.refused) as bigint) as withdrawals_refused,
    moved.last_event_at as last_event_at,
    cast(map_from_entries(moved.state.refused) as map(varchar, decimal(18, 2))) as refusals
from moved
