/*
description = "One row per store and business day: the till lines that the store's files have and the event stream lacks, and the reverse."
owners = ["team:retail-data"]
primary_key = ["sold_on", "store_id"]

[columns]
sold_on = "The business day."
store_id = "The store's number; a store that neither has a line of has no row."
store_name = "As it stands over the door on that day."
region = "Sales region."
lines_in_files = "Till lines in the store's files."
lines_in_stream = "Till lines in the event stream."
only_in_files = "Lines that the files have and the stream lacks."
only_in_stream = "Lines that the stream has and the files lack."
differing = "Lines that both have, with another store, product, quantity or amount."
files_zar = "Sum of the lines in the files, South African rand."
only_in_files_zar = "Sum of the lines that only the files have, South African rand."
only_in_stream_zar = "Sum of the lines that only the stream has, South African rand."
is_reconciled = "Whether both have the same lines, alike."

[[checks]]
name = "files_agree_with_stream"
expression = "is_reconciled"
description = "The files and the stream have the same lines."
severity = "warn"
*/
select
    $day as sold_on,
    till_lines.store_id as store_id,
    stores.store_name as store_name,
    stores.region as region,
    count(*) filter (where till_lines.is_in_files) as lines_in_files,
    count(*) filter (where till_lines.is_in_stream) as lines_in_stream,
    count(*) filter (where not till_lines.is_in_stream) as only_in_files,
    count(*) filter (where not till_lines.is_in_files) as only_in_stream,
    count(*) filter (where not till_lines.agrees) as differing,
    cast(coalesce(sum(till_lines.amount_zar) filter (where till_lines.is_in_files), 0) as decimal(18, 2)) as files_zar,
    cast(coalesce(sum(till_lines.amount_zar) filter (where not till_lines.is_in_stream), 0) as decimal(18, 2)) as only_in_files_zar,
    cast(coalesce(sum(till_lines.amount_zar) filter (where not till_lines.is_in_files), 0) as decimal(18, 2)) as only_in_stream_zar,
    count(*) filter (where not (till_lines.is_in_files and till_lines.is_in_stream and till_lines.agrees)) = 0 as is_reconciled
from processed.till_lines as till_lines
left join processed.stores_current as stores on stores.store_id = till_lines.store_id
where till_lines.sold_at >= $window_start and till_lines.sold_at < $window_end
group by till_lines.store_id, stores.store_name, stores.region
order by till_lines.store_id
