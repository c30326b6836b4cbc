/*
description = "One row per customer with points: the balance at the end of the business day, in the order in which points were earned and redeemed."
owners = ["team:marketing"]
primary_key = ["customer_id"]

[columns]
customer_id = "Loyalty card, hashed."
points = "What there is to redeem."
points_earned = "All that were earned since the first day."
points_redeemed = "All that were redeemed since the first day."
redemptions_refused = "How often since the first day more were to be redeemed than there were."
level = "bronze, silver from 500 points ever earned on, gold from 2,000."
last_event_at = "When points were last earned or asked for, UTC."

[[checks]]
name = "points_are_not_negative"
expression = "points >= 0"
description = "Nobody redeems points that aren't there."
blocking = true

[[checks]]
name = "points_add_up"
expression = "points = points_earned - points_redeemed"
description = "What is left is what was earned less what was redeemed."
blocking = true
*/
with asked as (
    select
        events.customer_id as customer_id,
        list(
            case when events.event_type = 'points_earned' then events.points else -events.points end
            order by events.happened_at, events.event_id
        ) as movements,
        sum(case when events.event_type = 'points_earned' then events.points else 0 end) as points_earned,
        max(events.happened_at) as last_event_at
    from processed.loyalty_events as events
    where events.happened_at >= $window_start and events.happened_at < $window_end
    group by events.customer_id
),

-- One after the other: what can't be redeemed is left for the next.
moved as (
    select
        coalesce(before.customer_id, asked.customer_id) as customer_id,
        list_reduce(
            coalesce(asked.movements, []),
            lambda state, points: case
                when state.points + points < 0
                    then struct_pack(points := state.points, refused := state.refused + 1)
                else struct_pack(points := state.points + points, refused := state.refused)
            end,
            struct_pack(
                points := cast(coalesce(before.points, 0) as bigint),
                refused := cast(coalesce(before.redemptions_refused, 0) as bigint)
            )
        ) as state,
        cast(coalesce(before.points_earned, 0) + coalesce(asked.points_earned, 0) as bigint) as points_earned,
        coalesce(asked.last_event_at, before.last_event_at) as last_event_at
    from asked
    full outer join processed.loyalty_balances as before on before.customer_id = asked.customer_id
)

select
    moved.customer_id as customer_id,
    moved.state.points as points,
    moved.points_earned as points_earned,
    moved.points_earned - moved.state.points as points_redeemed,
    moved.state.refused as redemptions_refused,
    case
        when moved.points_earned >= 2000 then 'gold'
        when moved.points_earned >= 500 then 'silver'
        else 'bronze'
    end as level,
    moved.last_event_at as last_event_at
from moved
