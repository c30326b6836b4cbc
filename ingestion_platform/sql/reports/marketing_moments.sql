/*
description = "One row per region, business day and track of the chart's first ten: what is trending there, beside what the region's stores sold."
owners = ["team:marketing"]
primary_key = ["charted_on", "region", "track_id"]
history_days = 7

[columns]
charted_on = "The business day."
region = "Sales region; one without a chart of the day has no row."
track_id = "The provider's number of the track."
title = "What it is called."
artist = "Who plays it."
chart_position = "1 was played most in the region on the day."
positions_climbed = "By how many places it is above the day before; negative when below; NULL when it wasn't in the chart then."
streams = "How often it was played in the region on the day."
net_zar = "What the region's stores sold less what they took back, South African rand; 0 when none sold."
trailing_average_zar = "Average of the region's days with sales among the seven before, South African rand; NULL when there is none."
against_trailing_pct = "How far above (or below, negative) that average the day's sales are."
is_moment = "Whether the track climbs, or is new in the chart, while the region sells more than its average."

[[checks]]
name = "position_is_one_to_ten"
expression = "chart_position between 1 and 10"
description = "The first ten of a chart."
*/
with region_days as (
    select
        stores.region as region,
        sales._day as sold_on,
        cast(sum(sales.amount_zar) as decimal(18, 2)) as net_zar
    from processed.sales as sales
    left join processed.stores_current as stores on stores.store_id = sales.store_id
    where sales._day >= $day - interval '7' day and sales._day <= $day
    group by stores.region, sales._day
),

-- Averages are taken of whole cents, so that half a cent is exactly a half, and goes up.
trailing_averages as (
    select
        region_days.region as region,
        cast(round(sum(100 * region_days.net_zar) / count(region_days.net_zar)) / 100 as decimal(18, 2)) as average_zar
    from region_days
    where region_days.sold_on < $day
    group by region_days.region
),

charted as (
    select
        music.region as region,
        music.track_id as track_id,
        music.title as title,
        music.artist as artist,
        music.chart_position as chart_position,
        music.streams as streams
    from processed.trending_music as music
    where music._day = $day and music.chart_position <= 10
),

-- Whether the region had a chart the day before: without one, nothing is known to be new.
day_before as (
    select
        music.region as region,
        music.track_id as track_id,
        music.chart_position as chart_position
    from processed.trending_music as music
    where music._day = $day - interval '1' day
),

regions_before as (
    select day_before.region as region
    from day_before
    group by day_before.region
),

moved as (
    select
        charted.region as region,
        charted.track_id as track_id,
        charted.title as title,
        charted.artist as artist,
        charted.chart_position as chart_position,
        charted.streams as streams,
        cast(day_before.chart_position - charted.chart_position as integer) as positions_climbed,
        regions_before.region is not null and (
            day_before.chart_position is null or day_before.chart_position > charted.chart_position
        ) as is_rising
    from charted
    left join regions_before on regions_before.region = charted.region
    left join day_before on day_before.region = charted.region and day_before.track_id = charted.track_id
)

select
    $day as charted_on,
    moved.region as region,
    moved.track_id as track_id,
    moved.title as title,
    moved.artist as artist,
    moved.chart_position as chart_position,
    moved.positions_climbed as positions_climbed,
    moved.streams as streams,
    cast(coalesce(today.net_zar, 0) as decimal(18, 2)) as net_zar,
    trailing_averages.average_zar as trailing_average_zar,
    cast(
        round(
            1000000 * (coalesce(today.net_zar, 0) - trailing_averages.average_zar)
            / nullif(100 * trailing_averages.average_zar, 0)
        ) / 100 as decimal(18, 2)
    ) as against_trailing_pct,
    moved.is_rising and coalesce(today.net_zar > trailing_averages.average_zar, false) as is_moment
from moved
left join region_days as today on today.region = moved.region and today.sold_on = $day
left join trailing_averages on trailing_averages.region = moved.region
order by moved.region, moved.chart_position
