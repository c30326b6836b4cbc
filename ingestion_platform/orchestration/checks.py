"""
Judgements on a day's work, as Dagster's asset checks: which ones each table has, and what a person is told when one fails.

They are evaluated inside the asset's own step, from what the work returned: no step, no query and no second reading of their own. A
failing blocking one ends the step, so that nothing after it in the run starts; each partition of a range gets its own result.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import dagster as dg

from ingestion_platform.completeness import REMARKABLE, SenderDay
from ingestion_platform.dataset import Dataset
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.graph import asset_key
from ingestion_platform.orchestration.quiet import quiet
from ingestion_platform.stream import StreamSegments
from ingestion_platform.table import Check
from ingestion_platform.warehouse import (
    ALERTS,
    Agreement,
    Certified,
    DriftEvent,
    RawDay,
    SenderReport,
    SqlTable,
    TableDay,
    told_waiting,
)
from ingestion_platform.warehouse.forget import Returned

TOLD_BEFORE = "told_before"
"""Metadata of a failed check whose cause began in an earlier run, which told it: nobody is told again."""
FEWEST_TRAILING_DAYS = 3
"""Below this there is no usual volume to compare a day with."""

ROW_BALANCE = Check(
    "row_balance",
    "",
    "Every row read is processed, superseded by another with its key, or in quarantine: nothing disappears.",
    blocking=True,
)
QUARANTINE_SHARE = Check("quarantine_share", "", "No more rows than allowed are in quarantine.")
NO_REJECTED_OBJECTS = Check(
    "no_rejected_objects", "", "Every object that landed could be read; none waits for its marker when the day is over."
)
NOTHING_WAITS = Check(
    "nothing_waits", "", "No object that is to be read is still being fetched back from an archive.", severity="warn"
)
ALL_SENDERS_REPORTED = Check(
    "all_senders_reported",
    "",
    "Everybody who is expected has sent; who hasn't, is missing when the cutoff has passed by his clock.",
    severity="warn",
)
SENDERS_IN_ORDER = Check(
    "senders_in_order",
    "",
    "Nobody has sent late, an empty file, a second one, or without being expected.",
    severity="warn",
)
SCHEMA_DRIFT = Check(
    "schema_drift",
    "",
    "Objects have the declared columns, no more and no fewer, in the dialect that is declared or recorded.",
    severity="warn",
)
FORGOTTEN = Check(
    "forgotten",
    "",
    "Nobody who was forgotten has come back with a file or a record that was sent again.",
    severity="warn",
)
VOLUME = Check(
    "volume", "", "The day has about as many rows as the trailing days; judged when the day is over.", severity="warn"
)
LEDGER_BALANCE = Check(
    "ledger_balance", "", "In every object, rows read = rows loaded + rows quarantined.", blocking=True
)
KNOWN_TYPES = Check(
    "known_types", "", "Every record of the stream has a type that some dataset takes.", severity="warn"
)
PRIMARY_KEY = Check("primary_key", "", "No two rows have the same key.", blocking=True)
REPLAY_CERTIFICATE = Check(
    "replay_certificate",
    "",
    "The last certified replay came out as it was before, or what differs is explained. Every table has it.",
)
LIVE_AGREES = Check(
    "live_agrees", "", "What was raised live is what the day's tables deserve, or it is known why something differs."
)
ALERTS_ARE_TOLD = Check(
    "alerts_are_told",
    "",
    "Whoever is to be told of alerts is told: nothing waits for too long, and there are no dead letters.",
)
NOT_EMPTY = Check("not_empty", "", "The table has rows when everything it is made of has rows.", severity="warn")


@dataclass(frozen=True)
class Verdict:
    """
    What a check found on one day.

    Args:
        check: which.
        passed: whether it holds.
        story: one sentence for a person: what is wrong, with names.
        details: Dagster metadata: numbers, and a table of examples.
    """

    check: Check
    passed: bool
    story: str
    details: Mapping[str, dg.MetadataValue] = field(default_factory=dict)

    @property
    def blocks(self) -> bool:
        """Whether nothing after it may run."""
        return not self.passed and self.check.blocking and self.check.severity == "error"


def raw_checks(dataset: Dataset) -> tuple[Check, ...]:
    """The checks of a raw table."""
    roster = (ALL_SENDERS_REPORTED, SENDERS_IN_ORDER) if dataset.senders is not None else ()
    source = dataset.source
    types = (KNOWN_TYPES,) if isinstance(source, StreamSegments) and source.takes_the_rest else ()
    ages = (NOTHING_WAITS,) if dataset.ages is not None else ()
    people = (FORGOTTEN,) if dataset.people else ()
    return (LEDGER_BALANCE, NO_REJECTED_OBJECTS, *ages, *roster, *types, *people, SCHEMA_DRIFT, VOLUME)


def processed_checks(dataset: Dataset) -> tuple[Check, ...]:
    """The checks of a processed table: the platform's, then the declared ones."""
    told = (ALERTS_ARE_TOLD,) if dataset.name == ALERTS else ()
    return (ROW_BALANCE, QUARANTINE_SHARE, *told, *dataset.checks)


def sql_checks(table: SqlTable) -> tuple[Check, ...]:
    """The checks of a SQL table: the declared ones, and, unless it may be, whether it is empty for no reason."""
    if table.judges is not None:
        return (*_keyed(table), LIVE_AGREES)
    return (*_keyed(table), *table.checks, *(() if table.may_be_empty else (NOT_EMPTY,)))


def specs(
    table: str, checks: Iterable[Check], partitions: dg.PartitionsDefinition[str] | None
) -> list[dg.AssetCheckSpec]:
    """Checks as Dagster knows them; and of a table, what the last replay's certificate says. What lands isn't replayed."""
    is_table = not table.startswith("landing.")
    with quiet():
        return [
            dg.AssetCheckSpec(
                check.name,
                asset=asset_key(table),
                description=" ".join(
                    filter(None, (check.description, f"`{check.expression}`" if check.expression else ""))
                ),
                blocking=check.blocking and check.severity == "error",
                partitions_def=partitions,
            )
            for check in (*checks, *((REPLAY_CERTIFICATE,) if is_table else ()))
        ]


def judge_certificate(found: Certified | None) -> Verdict:
    """
    Judge what the last certified replay has said of a partition.

    Args:
        found: None when none was certified.
    """
    if found is None:
        return Verdict(REPLAY_CERTIFICATE, True, "no replay of it has been certified")
    details: dict[str, dg.MetadataValue] = {
        "certificate": dg.MetadataValue.text(found.key),
        **show.numbers({"added": found.added, "gone": found.gone, "changed": found.changed}),
    }
    said = f"the replay that {found.by} had certified on {found.at:%Y-%m-%d %H:%M} UTC"
    if found.verdict == "equal":
        return Verdict(REPLAY_CERTIFICATE, True, f"{said} came out equal", details)
    story = f"{said} came out otherwise ({found.added:,} rows added, {found.gone:,} gone, {found.changed:,} changed)"
    if found.is_explained:
        return Verdict(REPLAY_CERTIFICATE, True, f"{story}: {'; '.join(found.why)}", details)
    return Verdict(
        REPLAY_CERTIFICATE,
        False,
        f"{story}, and nothing that it is made of has changed: a query that isn't a function of its tables, or a fault of the platform."
        f" Look: select details from platform.certificates where certificate = '{found.key}'",
        details,
    )


def evaluation(table: str, partition: str | None, verdict: Verdict) -> dg.AssetCheckEvaluation:
    """A verdict as Dagster's event, on its partition."""
    severity = dg.AssetCheckSeverity.ERROR if verdict.check.severity == "error" else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(table),
        check_name=verdict.check.name,
        passed=verdict.passed,
        metadata=dict(verdict.details),
        severity=severity,
        description=verdict.story,
        blocking=verdict.check.blocking and verdict.check.severity == "error",
        partition=partition,
    )


def judge_raw(
    dataset: Dataset,
    raw: RawDay,
    senders: SenderReport | None,
    trailing: Sequence[int],
    *,
    is_over: bool,
    unknown_types: Mapping[str, int] | None = None,
    drift: Sequence[DriftEvent] = (),
    returned: Sequence[Returned] = (),
) -> list[Verdict]:
    """
    Judge a raw day.

    Args:
        dataset: whose.
        raw: the day.
        senders: who was expected; None without a roster.
        trailing: rows of the days before.
        is_over: whether the business day has ended, so that its volume can be judged.
        unknown_types: type → rows that no dataset takes; None where the dataset isn't the one that takes them.
        drift: the dataset's events.
        returned: rows of people who were forgotten.
    """
    verdicts = [_ledger_balance(raw), _no_rejected_objects(raw, is_over=is_over)]
    if dataset.ages is not None:
        verdicts.append(_nothing_waits(raw))
    if senders is not None:
        verdicts += [_all_senders_reported(senders), _senders_in_order(senders)]
    if unknown_types is not None:
        verdicts.append(_known_types(dataset, raw, unknown_types))
    if dataset.people:
        verdicts.append(_forgotten(returned))
    return [*verdicts, _schema_drift(dataset, raw, drift), _volume(dataset, raw, trailing, is_over=is_over)]


def _forgotten(returned: Sequence[Returned]) -> Verdict:
    rows = sum(one.rows for one in returned)
    details = show.numbers({"rows": rows, "objects": len({one.key for one in returned})})
    if not returned:
        return Verdict(FORGOTTEN, True, "nobody who was forgotten is in it", details)
    return Verdict(
        FORGOTTEN,
        False,
        f"{rows:,} rows are of people who were forgotten, and have come back in {_some(one.key for one in returned)}:"
        " `python -m ingestion_platform forget --again` takes them out",
        details,
    )


def judge_processed(dataset: Dataset, table_day: TableDay) -> list[Verdict]:
    """Judge a processed day."""
    return [_row_balance(table_day), _quarantine_share(dataset, table_day), *_declared(dataset.checks, table_day)]


def judge_sql(
    table: SqlTable, table_day: TableDay, inputs: Mapping[str, int | None], agreement: Agreement | None = None
) -> list[Verdict]:
    """
    Judge a day of a SQL table.

    Args:
        table: which.
        table_day: the day.
        inputs: rows that each table it reads has on the day; None where it has no such day.
        agreement: of a table that judges, with what was raised live.
    """
    declared = _declared((*_keyed(table), *table.checks), table_day)
    if agreement is not None:
        return [*declared, judge_agreement(agreement)]
    return declared if table.may_be_empty else [*declared, _not_empty(table_day, inputs)]


def judge_agreement(found: Agreement) -> Verdict:
    """Judge what was raised live on a day by what the day's tables deserve."""
    reasons = Counter((one.rule, one.side, one.why or "nobody knows why") for one in found.differences)
    details: dict[str, dg.MetadataValue] = show.numbers(
        {"both": found.both, "differences": len(found.differences), "unexplained": len(found.unexplained)}
    )
    if reasons:
        details["differences_by_rule"] = show.table_of_records(
            {"rule": "string", "only": "string", "why": "string", "alerts": "int"},
            (
                {"rule": rule, "only": side, "why": why, "alerts": count}
                for (rule, side, why), count in reasons.most_common()
            ),
        )
    if found.left:
        details["left_to_the_batch"] = dg.MetadataValue.md(
            "\n".join(f"- {events:,} events: {why}" for why, events in sorted(found.left.items()))
        )
    if not found.was_judged:
        story = f"no worker judged on this day: {len(found.differences):,} alerts are told by the batch alone"
        return Verdict(LIVE_AGREES, True, story, details)
    if not found.differences:
        return Verdict(LIVE_AGREES, True, f"all {found.both:,} alerts were raised live", details)
    told = f"{found.both:,} alerts agree, {len(found.differences):,} differ"
    if not found.unexplained:
        whys = ", ".join(sorted({one.why for one in found.differences}))
        return Verdict(LIVE_AGREES, True, f"{told}, and it is known why: {whys}", details)
    details["unexplained_alerts"] = show.table_of_records(
        {"only": "string", "rule": "string", "about": "string", "deserved_by": "string", "happened_at": "string"},
        (
            {
                "only": one.side,
                "rule": one.rule,
                "about": one.about,
                "deserved_by": one.deserved_by,
                "happened_at": f"{one.happened_at:%Y-%m-%d %H:%M:%S} UTC",
            }
            for one in found.unexplained[:20]
        ),
    )
    first = found.unexplained[0]
    only = "was raised live, and isn't deserved" if first.side == "live" else "is deserved, and wasn't raised live"
    return Verdict(
        LIVE_AGREES,
        False,
        f"{told}, {len(found.unexplained):,} for no known reason; the first: {first.rule} of {first.about} {only}",
        details,
    )


def blocking_failures(checks: Iterable[Check], table_day: TableDay) -> list[str]:
    """Names of the blocking checks that a computed day fails, told from the warehouse alone, whichever run computed it."""
    failed = [
        check.name
        for check in checks
        if check.blocking and check.severity == "error" and table_day.failed_checks.get(check.name, 0)
    ]
    if table_day.balance is not None and not table_day.balance.holds:
        failed.append(ROW_BALANCE.name)
    return failed


def _ledger_balance(raw: RawDay) -> Verdict:
    wrong = [entry for entry in raw.entries if entry.rows_read != entry.rows_loaded + entry.rows_quarantined]
    if not wrong:
        read = sum(entry.rows_read for entry in raw.entries)
        return Verdict(
            LEDGER_BALANCE, True, f"{read:,} rows read are all accounted for", show.numbers({"rows_read": read})
        )
    return Verdict(
        LEDGER_BALANCE,
        False,
        f"rows read ≠ rows loaded + rows quarantined in {_some(entry.key for entry in wrong)}:"
        " the platform lost or invented rows; reload the day and report it",
        {
            "objects": dg.MetadataValue.int(len(wrong)),
            "examples": show.table_of_records(
                {"object": "string", "read": "int", "loaded": "int", "quarantined": "int"},
                (
                    {
                        "object": entry.key,
                        "read": entry.rows_read,
                        "loaded": entry.rows_loaded,
                        "quarantined": entry.rows_quarantined,
                    }
                    for entry in wrong
                ),
            ),
        },
    )


def _no_rejected_objects(raw: RawDay, *, is_over: bool) -> Verdict:
    rejected = [entry for entry in raw.entries if entry.state == "rejected"]
    objects = len(raw.entries) - len(raw.keys("replaced"))
    details = show.numbers({"rejected_objects": len(rejected), "unmarked_objects": len(raw.unmarked)})
    waiting = ""
    if raw.unmarked:
        waiting = f"{len(raw.unmarked):,} objects wait for their marker or manifest: {_some(raw.unmarked)}"
    if not rejected:
        story = f"all {objects:,} objects could be read"
        return Verdict(
            NO_REJECTED_OBJECTS, not (waiting and is_over), f"{story}; {waiting}" if waiting else story, details
        )
    return Verdict(
        NO_REJECTED_OBJECTS,
        False,
        f"{len(rejected):,} of {objects:,} objects can't be read: {_some(entry.key for entry in rejected)}."
        f" {'It' if len(rejected) == 1 else 'The first'} {rejected[0].reason}."
        " Ask the sender to send it again, under the same name: it is read again when it changes. All others are loaded"
        + (f"; {waiting}" if waiting else ""),
        details
        | {
            "examples": show.table_of_records(
                {"object": "string", "sender": "string", "bytes": "int", "reason": "string"},
                (
                    {
                        "object": entry.key,
                        "sender": entry.sender or "",
                        "bytes": entry.size_bytes,
                        "reason": entry.reason,
                    }
                    for entry in rejected
                ),
            )
        },
    )


def _nothing_waits(raw: RawDay) -> Verdict:
    story = told_waiting(raw.waiting)
    if raw.waiting:
        story += ". They are loaded when they are there"
    examples = show.table_of_records(
        {"object": "string", "asked_at": "string", "expected_at": "string"},
        (
            {"object": one.key, "asked_at": str(one.asked_at), "expected_at": str(one.expected_at)}
            for one in raw.waiting
        ),
    )
    return Verdict(NOTHING_WAITS, not raw.waiting, story, {"waiting": examples} if raw.waiting else {})


def _all_senders_reported(senders: SenderReport) -> Verdict:
    expected, overdue, missing = senders.expected, senders.overdue, senders.missing
    details = show.numbers(
        {
            "expected": len(expected),
            "missing": len(overdue),
            "awaited": len(missing) - len(overdue),
            "unexpected": len(senders.unexpected),
        }
        | {status: len(senders.of(status)) for status in ("closed", "excused")}
    )
    if senders.unexpected:
        details["unexpected_senders"] = dg.MetadataValue.text(_some(senders.unexpected, show.EXAMPLES))
    if senders.final_at is not None:
        details["final_at"] = dg.MetadataValue.timestamp(senders.final_at)
    if not expected:
        why = (
            "closed that day"
            if senders.of("closed", "excused")
            else "the roster has nobody for the day, or isn't loaded yet"
        )
        return Verdict(ALL_SENDERS_REPORTED, True, f"nobody is expected: {why}", details)
    if not missing:
        return Verdict(ALL_SENDERS_REPORTED, True, f"all {len(expected):,} senders have reported", details)
    waiting = [row for row in senders.days if row.sender in set(missing)]
    details["missing_senders"] = show.table_of_records(
        {"sender": "string", "what came": "string", "cutoff": "string"},
        ({"sender": row.sender, "what came": _what_came(row), "cutoff": str(row.cutoff_at)} for row in waiting),
    )
    if not overdue:
        last = max(row.cutoff_at for row in waiting)
        return Verdict(
            ALL_SENDERS_REPORTED,
            True,
            f"{len(missing):,} of {len(expected):,} are still to come, the last by {last:%Y-%m-%d %H:%M} UTC",
            details,
        )
    return Verdict(
        ALL_SENDERS_REPORTED,
        False,
        f"{len(overdue):,} of {len(expected):,} senders are missing: {_some(row.sender for row in overdue)}."
        " What they send later is loaded under its own day without anybody's doing",
        details,
    )


def _what_came(row: SenderDay) -> str:
    came = {"unreadable": "only rejected objects", "repeated": "only what had been sent before"}.get(
        row.status, "nothing"
    )
    return f"{came}: {row.reason}" if row.reason else came


def _senders_in_order(senders: SenderReport) -> Verdict:
    found = senders.remarkable
    counts = Counter(row.status for row in found)
    details = show.numbers({status: counts[status] for status in sorted(REMARKABLE)})
    if not found:
        return Verdict(SENDERS_IN_ORDER, True, "nobody was late, empty, twice or unexpected", details)
    details["senders"] = show.table_of_records(
        {
            "sender": "string",
            "status": "string",
            "first landed": "string",
            "cutoff": "string",
            "objects": "int",
            "why": "string",
        },
        (
            {
                "sender": row.sender,
                "status": row.status,
                "first landed": str(row.first_landed_at or ""),
                "cutoff": str(row.cutoff_at),
                "objects": row.objects,
                "why": row.reason,
            }
            for row in found
        ),
    )
    told = "; ".join(
        f"{len(names):,} {status}: {_some(names)}"
        for status in sorted(REMARKABLE)
        if (names := [row.sender for row in found if row.status == status])
    )
    return Verdict(SENDERS_IN_ORDER, False, told, details)


def _known_types(dataset: Dataset, raw: RawDay, unknown: Mapping[str, int]) -> Verdict:
    rows = sum(unknown.values())
    details = show.numbers({"rows": rows, "types": len(unknown), "unreadable": raw.rows_quarantined})
    if not rows:
        return Verdict(KNOWN_TYPES, True, "every record that could be read has a type that some dataset takes", details)
    details["unknown_types"] = show.table_of_records(
        {"type": "string", "rows": "int"},
        ({"type": type_ or "(none)", "rows": count} for type_, count in unknown.items()),
    )
    named = _some(f"{type_ or 'no type at all'} ({count:,})" for type_, count in unknown.items())
    return Verdict(
        KNOWN_TYPES,
        False,
        f"{rows:,} records are of types that no dataset takes: {named}. They are kept in {dataset.raw};"
        " declare a dataset with those types, and they move there",
        details,
    )


def _schema_drift(dataset: Dataset, raw: RawDay, drift: Sequence[DriftEvent]) -> Verdict:
    is_ignored = dataset.on_unknown_column == "ignore"
    drifted = [
        entry
        for entry in raw.entries
        if (entry.unknown_columns and not is_ignored) or entry.missing_columns or entry.departures
    ]
    unknown = [] if is_ignored else sorted({name for entry in drifted for name in entry.unknown_columns})
    missing = sorted({name for entry in drifted for name in entry.missing_columns})
    departures = sorted({departure for entry in drifted for departure in entry.departures})
    details = show.numbers(
        {
            "objects": len(drifted),
            "unknown_columns": len(unknown),
            "missing_columns": len(missing),
            "departures": len(departures),
        }
    )
    keys = {entry.key for entry in raw.entries}
    # Those that this day has a part in: they began with one of its objects, or were still there.
    events = [
        event
        for event in drift
        if not (is_ignored and event.kind == "new")
        and (event.began_object in keys or (event.began_on <= raw.day and (event.lasts or event.last_object in keys)))
    ]
    if not drifted and not any(event.lasts and event.kind == "retyped" for event in events):
        return Verdict(SCHEMA_DRIFT, True, "all objects have the declared columns", details)
    if events:
        details["events"] = show.table_of_records(
            {"event": "string", "to adopt it": "string"},
            ({"event": event.told(), "to adopt it": event.adopt} for event in events),
        )
    new = {event.began_object for event in events} & set(raw.new_keys)
    if events and not new and not departures:
        # It was told when it began; the check stays as it is until the declaration has it, or it ends.
        details[TOLD_BEFORE] = dg.MetadataValue.bool(True)
    parts = [
        text
        for names, text in (
            (
                unknown,
                f"columns that the declaration doesn't know: {_some(unknown)} (kept in _extra)",
            ),
            (missing, f"declared columns that are missing: {_some(missing)} (NULL)"),
            (departures, f"otherwise than declared or recorded: {_some(departures)}"),
        )
        if names
    ]
    details["examples"] = show.table_of_records(
        {"object": "string", "unknown columns": "string", "missing columns": "string", "departures": "string"},
        (
            {
                "object": entry.key,
                "unknown columns": ", ".join(entry.unknown_columns),
                "missing columns": ", ".join(entry.missing_columns),
                "departures": "; ".join(entry.departures),
            }
            for entry in drifted
        ),
    )
    story = (
        f"{'; '.join(parts)}; in {_some(entry.key for entry in drifted)}" if parts else "values of another type came"
    )
    told = "".join(
        f". {event.told()[0].upper()}{event.told()[1:]}"
        + (f". To adopt it, declare {event.adopt}" if event.adopt else "")
        for event in events[: show.EXAMPLES]
    )
    return Verdict(SCHEMA_DRIFT, False, story + told, details)


def _volume(dataset: Dataset, raw: RawDay, trailing: Sequence[int], *, is_over: bool) -> Verdict:
    if len(trailing) < FEWEST_TRAILING_DAYS:
        story = f"{raw.rows:,} rows; fewer than {FEWEST_TRAILING_DAYS} days before it to compare with"
        return Verdict(VOLUME, True, story, show.numbers({"rows": raw.rows}))
    usual = float(median(trailing))
    off_pct = abs(raw.rows - usual) * 100 / usual if usual else (100.0 if raw.rows else 0.0)
    details = show.numbers(
        {
            "rows": raw.rows,
            "usual_rows": usual,
            "off_pct": round(off_pct, 2),
            "tolerance_pct": dataset.volume_tolerance_pct,
        }
    )
    story = (
        f"{raw.rows:,} rows against {usual:,.0f} on the median of the {len(trailing)} days before:"
        f" {off_pct:.0f} % off, {dataset.volume_tolerance_pct:g} % allowed"
    )
    if not is_over:
        return Verdict(VOLUME, True, f"{story}; the day isn't over", details)
    return Verdict(VOLUME, off_pct <= dataset.volume_tolerance_pct, story, details)


def _row_balance(table_day: TableDay) -> Verdict:
    balance = table_day.balance
    if balance is None:
        return Verdict(ROW_BALANCE, False, "the computation returned no balance: report it")
    details = show.numbers(
        {
            "rows_raw": balance.rows_raw,
            "rows_processed": balance.rows_processed,
            "rows_superseded": balance.rows_superseded,
            "rows_quarantined": balance.rows_quarantined,
            "rows_missing": balance.rows_raw
            - balance.rows_processed
            - balance.rows_superseded
            - balance.rows_quarantined,
        }
    )
    hint = "" if balance.holds else ": the platform lost or invented rows; materialize it with force and report it"
    return Verdict(ROW_BALANCE, balance.holds, f"{balance}{hint}", details)


def _quarantine_share(dataset: Dataset, table_day: TableDay) -> Verdict:
    balance = table_day.balance
    total, aside = (balance.rows_raw, balance.rows_open) if balance is not None else (table_day.rows, 0)
    share_pct = aside * 100 / total if total else 0.0
    details = show.numbers(
        {"quarantined": aside, "share_pct": round(share_pct, 3), "max_quarantined_pct": dataset.max_quarantined_pct}
    )
    discarded = balance.rows_discarded if balance is not None else 0
    if discarded:
        details |= show.numbers({"discarded": discarded})
    if table_day.reasons:
        details["reasons"] = show.reasons(table_day.reasons)
    passed = share_pct <= dataset.max_quarantined_pct
    story = (
        f"{aside:,} of {total:,} rows ({share_pct:.2f} %) are in quarantine, {dataset.max_quarantined_pct:g} % allowed"
    )
    if discarded:
        story += f"; {discarded:,} more are discarded"
    if aside and table_day.reasons:
        worst = max(sorted(table_day.reasons), key=lambda reason: table_day.reasons[reason])
        story += f"; most often: {worst} ({table_day.reasons[worst]:,})"
    if not passed:
        story += f". Look: python -m ingestion_platform quarantine list --dataset {dataset.name}"
    return Verdict(QUARANTINE_SHARE, passed, story, details)


def _keyed(table: SqlTable) -> tuple[Check, ...]:
    return (PRIMARY_KEY,) if table.primary_key else ()


def _declared(checks: Iterable[Check], table_day: TableDay) -> list[Verdict]:
    return [_declared_check(check, table_day) for check in checks]


def _declared_check(check: Check, table_day: TableDay) -> Verdict:
    failed = table_day.failed_checks.get(check.name, 0)
    details = show.numbers({"failed_rows": failed, "rows": table_day.rows})
    if not failed:
        return Verdict(check, True, f"all {table_day.rows:,} rows satisfy it", details)
    day = f" of {table_day.day}" if table_day.day is not None else ""
    query = f"select * from {table_day.table} where not ({check.expression})"
    look = {"look": dg.MetadataValue.md(f"```sql\n{query}\n```")} if check.expression else {}
    return Verdict(
        check,
        False,
        f"{failed:,} of {table_day.rows:,} rows{day} don't satisfy it. {check.description}".rstrip(),
        details | look,
    )


def _not_empty(table_day: TableDay, inputs: Mapping[str, int | None]) -> Verdict:
    known = {table: rows for table, rows in inputs.items() if rows is not None}
    details = show.numbers({"rows": table_day.rows})
    if inputs:
        details["inputs"] = show.table_of_records(
            {"table": "string", "rows": "int"},
            ({"table": table, "rows": rows} for table, rows in sorted(known.items())),
        )
    if table_day.rows:
        return Verdict(NOT_EMPTY, True, f"{table_day.rows:,} rows", details)
    if not known or not all(known.values()):
        return Verdict(NOT_EMPTY, True, "no rows, as something it is made of has none either", details)
    return Verdict(NOT_EMPTY, False, f"no rows, although all it is made of has some: {_some(sorted(known))}", details)


def _some(names: Iterable[str], limit: int = 5) -> str:
    """The first names in full, the number of the others."""
    listed = list(names)
    rest = f" and {len(listed) - limit:,} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest
