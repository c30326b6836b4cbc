"""
A year of senders in three countries, with everything that goes wrong planted in it: what the platform says of each sender and day is
what was planted, and nothing else.

The plan is written without the platform's help: holidays, offsets and weekdays are those of a wall calendar for 2025. Of the year the
ledger's entries are written as a load would; some weeks of it go through the loads themselves, which takes longer.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random

from ingestion_platform.completeness import STATUSES
from ingestion_platform.dataset import Daily, Dataset, Datasets, LandedFiles
from ingestion_platform.opening_days import Closure, Opening, OpeningDays
from ingestion_platform.senders import ClosuresFrom, Cutoff, senders_from
from ingestion_platform.table import DATE, TIMESTAMP, VARCHAR, Column
from ingestion_platform.warehouse import upkeep
from ingestion_platform.warehouse.ledger_rows import ObjectRow
from ingestion_platform.warehouse.receipts import receipt_of
from ingestion_platform_tests.warehouse.building import Bench

FIRST, LAST = date(2025, 1, 1), date(2025, 12, 31)
NOW = datetime(2026, 2, 1, tzinfo=UTC)

HOLIDAYS = {
    "ZA": "0101 0321 0418 0421 0427 0428 0501 0616 0809 0924 1216 1225 1226",
    "NA": "0101 0301 0321 0418 0421 0501 0504 0505 0525 0526 0528 0529 0826 1126 1210 1225 1226",
    "DE-BY": "0101 0106 0418 0421 0501 0529 0609 0619 1003 1101 1225 1226",
}
ZONES = {"ZA": "Africa/Johannesburg", "NA": "Africa/Windhoek", "DE-BY": "Europe/Berlin"}

OUTLETS = Dataset(
    name="outlets",
    description="One row per outlet.",
    kind="snapshots",
    source=LandedFiles("outlets/%Y-%m-%d.csv"),
    columns=(
        Column("outlet", VARCHAR, "Its number.", required=True),
        Column("country", VARCHAR, "Where."),
        Column("zone", VARCHAR, "Its clock."),
        Column("opened_on", DATE, "First day."),
        Column("closed_on", DATE, "Last day."),
        Column("weekdays", VARCHAR, "When it is open."),
    ),
    primary_key=("outlet",),
    daily=Daily(FIRST),
)
CLOSURES = Dataset(
    name="closures",
    description="One row per closure.",
    kind="snapshots",
    source=LandedFiles("closures/%Y-%m-%d.csv"),
    columns=(
        Column("outlet", VARCHAR, "Whose; empty: everybody's."),
        Column("from_day", DATE, "First day.", required=True),
        Column("to_day", DATE, "Last day."),
        Column("why", VARCHAR, "Why."),
    ),
    daily=Daily(FIRST),
)
VISITS = Dataset(
    name="visits",
    description="One row per visit.",
    source=LandedFiles("visits/%Y-%m-%d/{outlet}.{part}.csv"),
    columns=(
        Column("id", VARCHAR, "Which.", required=True),
        Column("at", TIMESTAMP, "When.", required=True),
    ),
    primary_key=("id",),
    event_time="at",
    daily=Daily(FIRST, allowed_lateness_days=1),
    senders=senders_from(
        "outlets",
        "outlet",
        active_from="opened_on",
        active_until="closed_on",
        time_zone="zone",
        country="country",
        weekdays="weekdays",
        closures=ClosuresFrom(dataset="closures", first="from_day", last="to_day", sender="outlet", reason="why"),
        opening_days=OpeningDays(
            weekdays=("mon", "tue", "wed", "thu", "fri", "sat"),
            closed_on_public_holidays=True,
            closures=(Closure(first=date(2025, 10, 31), reason="stock-taking", country="NA"),),
            openings=(
                Opening(first=date(2025, 12, 14), last=date(2025, 12, 14), reason="the Sunday before Christmas"),
            ),
        ),
        cutoff=Cutoff(at=time(6), grace_hours=12),
    ),
)


@dataclass(frozen=True)
class Outlet:
    """Whom the plan knows."""

    id: str
    country: str
    opened_on: date | None
    closed_on: date | None
    weekdays: str

    def cutoff(self, day: date) -> datetime:
        """Six in the morning of the next day, by its clock."""
        morning = day + timedelta(days=1)
        hours = 2
        if self.country == "DE-BY":
            hours = 2 if date(2025, 3, 30) <= morning < date(2025, 10, 26) else 1
        return datetime(morning.year, morning.month, morning.day, 6 - hours, tzinfo=UTC)

    def is_open(self, day: date) -> bool:
        """By the wall calendar."""
        if day == date(2025, 10, 31) and self.country == "NA":
            return False
        if self.id == "O05" and date(2025, 7, 7) <= day <= date(2025, 7, 20):
            return False
        if day == date(2025, 8, 1):
            return False
        if day == date(2025, 12, 14):
            return True
        if f"{day:%m%d}" in HOLIDAYS[self.country].split():
            return False
        return day.weekday() in {"": range(6), "mon-fri": range(5), "sat-tue": (5, 6, 0, 1)}[self.weekdays]


def outlets() -> list[Outlet]:
    """Forty: one opens in spring, one closes in autumn, some have weekdays of their own."""
    found = []
    for number in range(40):
        country = ("ZA", "ZA", "NA", "DE-BY")[number % 4]
        found.append(
            Outlet(
                f"O{number:02}",
                country,
                date(2025, 5, 14) if number == 7 else date(2020, 1, 1),
                date(2025, 9, 17) if number == 11 else None,
                {13: "mon-fri", 14: "sat-tue"}.get(number, ""),
            )
        )
    return found


@dataclass(frozen=True)
class Planted:
    """What the plan says of a sender and day."""

    status: str
    is_expected: bool
    first_landed_at: datetime | None
    objects: int
    corrections: int
    rows: int


FATES = (
    ("on_time", 80), ("missing", 3), ("late", 3), ("empty", 2), ("twice", 2), ("copied", 1), ("corrected", 2), ("mended", 1),
    ("late_correction", 1), ("touched", 1), ("unreadable", 2), ("repeated", 1), ("excused", 1),
)  # fmt: skip


class Year:
    """The plan, and its files."""

    def __init__(
        self, bench: Bench, seed: int, first: date = FIRST, last: date = LAST, *, has_files: bool = True
    ) -> None:
        self.bench = bench
        self.random = Random(seed)
        self.days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        self.has_files = has_files
        self.landed: dict[tuple[date, str], list[tuple[str, datetime]]] = {}
        self.planted: dict[tuple[date, str], Planted] = {}
        self.afterwards: list[tuple[date, str, str, datetime]] = []
        self.excused: list[tuple[date, str]] = []
        self.outlets = outlets()
        self._roster()
        for day in self.days:
            for outlet in self.outlets:
                self._plant(day, outlet)
            if self.random.random() < 0.05:
                self._land(day, "X99.1", [f"x-{day}"], at := self._moment(day, 20))
                self.planted[day, "X99"] = Planted("unknown", False, at, 1, 0, 1)

    def _roster(self) -> None:
        lines = [
            f'{one.id},{one.country},{ZONES[one.country]},{one.opened_on or ""},{one.closed_on or ""},"{one.weekdays}"\n'
            for one in self.outlets
        ]
        self.bench.put(f"outlets/{FIRST}.csv", "outlet,country,zone,opened_on,closed_on,weekdays\n" + "".join(lines))
        self.bench.put(
            f"closures/{FIRST}.csv",
            "outlet,from_day,to_day,why\nO05,2025-07-07,2025-07-20,renovation\n,2025-08-01,,the founder's birthday\n"
            "O06,2025-07-20,2025-07-07,the wrong way round\n",
        )

    def _moment(self, day: date, hour: int) -> datetime:
        return datetime(day.year, day.month, day.day, hour, self.random.randrange(60), 7, tzinfo=UTC)

    def _land(self, day: date, name: str, ids: list[str], at: datetime, text: str | None = None) -> str:
        content = text if text is not None else "id,at\n" + "".join(f"{one},{day}T10:00:00\n" for one in ids)
        self.landed.setdefault((day, name), []).append((content, at))
        if self.has_files:
            key = f"visits/{day}/{name}.csv"
            self.bench.put(key, content)
            os.utime(self.bench.landing_folder / key, ns=(int(at.timestamp() * 1e9),) * 2)
        return content

    def _plant(self, day: date, outlet: Outlet) -> None:
        key = (day, outlet.id)
        active = (outlet.opened_on is None or outlet.opened_on <= day) and (
            outlet.closed_on is None or day <= outlet.closed_on
        )
        cutoff, name = outlet.cutoff(day), f"{outlet.id}.1"
        ids = [f"{outlet.id}-{day}-{number}" for number in range(self.random.randint(1, 2))]
        rows = len(ids)
        on_time = self._moment(day, 19)
        if not active or not outlet.is_open(day):
            if self.random.random() < 0.03:
                self._land(day, name, ids, on_time)
                self.planted[key] = Planted("unexpected", False, on_time, 1, 0, rows)
            elif active:
                self.planted[key] = Planted("closed", False, None, 0, 0, 0)
            return
        fate = self.random.choices([name for name, _ in FATES], [weight for _, weight in FATES])[0]
        late = cutoff + timedelta(seconds=self.random.choice((1, 3600, 86400)))
        match fate:
            case "on_time":
                # To the second: the cutoff itself is in time.
                at = cutoff if self.random.random() < 0.05 else on_time
                self._land(day, name, ids, at)
                self.planted[key] = Planted("on_time", True, at, 1, 0, rows)
            case "missing":
                self.planted[key] = Planted("missing", True, None, 0, 0, 0)
            case "late":
                self._land(day, name, ids, late)
                self.planted[key] = Planted("late", True, late, 1, 0, rows)
            case "empty":
                self._land(day, name, [], on_time)
                self.planted[key] = Planted("empty", True, on_time, 1, 0, 0)
            case "twice":
                self._land(day, name, ids, on_time)
                self._land(day, f"{outlet.id}.2", [f"{outlet.id}-{day}-more"], late)
                self.planted[key] = Planted("twice", True, on_time, 2, 0, rows + 1)
            case "copied":
                self._land(day, name, ids, on_time)
                self._land(day, f"{outlet.id}.2", ids, late)
                self.planted[key] = Planted("twice", True, on_time, 2, 0, rows)
            case "corrected" | "late_correction":
                self._land(day, name, [*ids, "wrong" + ids[0]], on_time)
                at = late if fate == "late_correction" else on_time + timedelta(minutes=30)
                self.afterwards.append((day, name, "id,at\n" + "".join(f"{one},{day}T10:00:00\n" for one in ids), at))
                self.planted[key] = Planted("corrected", True, on_time, 1, 1, rows)
            case "mended":
                self._land(day, name, [], on_time, "no such thing")
                self.afterwards.append((day, name, "id,at\n" + "".join(f"{one},{day}T10:00:00\n" for one in ids), late))
                self.planted[key] = Planted("late", True, late, 1, 1, rows)
            case "touched":
                content = self._land(day, name, ids, on_time)
                self.afterwards.append((day, name, content, late))
                self.planted[key] = Planted("on_time", True, on_time, 1, 0, rows)
            case "unreadable":
                self._land(day, name, [], on_time, "no such thing")
                self.planted[key] = Planted("unreadable", True, None, 1, 0, 0)
            case "repeated":
                others = [one for one in self.planted if one[1] == outlet.id and self.planted[one].status == "on_time"]
                if not others:
                    self.planted[key] = Planted("missing", True, None, 0, 0, 0)
                    return
                self._land(day, name, [], on_time, self.landed[others[-1][0], name][-1][0])
                self.planted[key] = Planted("repeated", True, None, 1, 0, 0)
            case "excused":
                self.excused.append(key)
                self.planted[key] = Planted("excused", False, None, 0, 0, 0)

    def go_on(self) -> set[date]:
        """What arrives later takes the place of what was there; the answer is which days have news."""
        for day, name, content, at in self.afterwards:
            self._land(day, name, [], at, content)
        return {day for day, *_ in self.afterwards}

    def excuse(self) -> None:
        """Somebody excuses those who are to be."""
        for day, sender in self.excused:
            at = datetime(day.year, day.month, day.day, tzinfo=UTC)
            visits = self.bench.datasets["visits"]
            self.bench.warehouse.excuses.excuse(visits, [sender], day, day, by="Nomsa", why="flood", at=at)

    def enter(self) -> None:
        """Write the ledger's entries as loads would have: of the same content the first day's and the shortest name's is loaded."""
        rows: list[ObjectRow] = []
        standing: dict[str, ObjectRow] = {}
        gone: list[ObjectRow] = []
        for (day, name), versions in sorted(
            self.landed.items(), key=lambda one: (one[0][0], len(one[0][1]), one[0][1])
        ):
            former = [object_row(day, name, *version) for version in versions]
            row = former.pop()
            gone += former
            twin = standing.setdefault(row.content, row) if row.content is not None else row
            if twin is not row:
                row = replace(row, state="duplicate", duplicate_of=twin.key, rows_loaded=0, rows_read=0, home_days="{}")
            rows.append(row)
        self.bench.warehouse.receipts.note([receipt_of(one) for one in gone], lands=False)
        self.bench.warehouse.ledger.commit_load(
            "visits", self.days[0], found={row.key: None for row in rows}, decided=rows, demoted={}, rows_file=None, quarantine_file=None,
            own_files={}, run_id="",
        )  # fmt: skip

    def found(self, bench: Bench) -> dict[tuple[date, str], Planted]:
        """What the platform says."""
        rows = bench.warehouse.sender_days(bench.datasets["visits"], self.days[0], self.days[-1])
        return {
            (row.day, row.sender): Planted(
                row.status, row.is_expected, row.first_landed_at, row.objects, row.corrections, row.rows
            )
            for row in rows
        }

    def differences(self, bench: Bench) -> list[object]:
        """Where plan and platform disagree."""
        found = self.found(bench)
        return [
            (key, self.planted.get(key), found.get(key))
            for key in sorted({*self.planted, *found})
            if self.planted.get(key) != found.get(key)
        ]


def object_row(day: date, name: str, content: str, at: datetime) -> ObjectRow:
    """What the ledger says of an object with that content, were it alone."""
    is_read = content.startswith("id,at\n")
    rows = content.count("\n") - 1 if is_read else 0
    digest = sha256(content.encode()).hexdigest()
    return ObjectRow(
        dataset="visits", key=f"visits/{day}/{name}.csv", version=digest, day=day.isoformat(),
        state="loaded" if is_read else "rejected", is_current=1, sha256=digest, content=digest if rows else None,
        size_bytes=len(content), landed_at=at.isoformat(timespec="microseconds"), token="", reader="", sender=name.split(".")[0],
        reason="" if is_read else "has no header", duplicate_of=None, rows_read=rows, rows_loaded=rows, rows_quarantined=0,
        unknown_columns="[]", missing_columns="[]", departures="[]", file_id=None, quarantine_file_id=None,
        home_days=json.dumps({day.isoformat(): rows}) if rows else "{}", shard=None, first_position=None, last_position=None,
        stands_from=None, first_seen_at=at.isoformat(), decided_at=at.isoformat(), run_id="",
    )  # fmt: skip


def bench_of(root: Path) -> Bench:
    """A warehouse by the clock of a month after the year."""
    return Bench(root, Datasets([OUTLETS, CLOSURES, VISITS]), clock=lambda: NOW)


def lists(bench: Bench) -> None:
    """Load the roster and the closures."""
    for name in ("outlets", "closures"):
        bench.load(name, FIRST)
        bench.process(name, FIRST)


def test_what_is_said_of_a_year_is_what_was_planted(tmp_path: Path) -> None:
    """Every sender and day of a year has the status, the moment and the numbers that were planted, and no other row is there."""
    bench = bench_of(tmp_path)
    year = Year(bench, 20250101, has_files=False)
    lists(bench)
    year.go_on()
    year.enter()
    year.excuse()
    assert year.differences(bench) == []
    statuses = [one.status for one in year.planted.values()]
    assert len(statuses) > 12_000
    assert {*statuses} == {*STATUSES} - {"awaited"}
    assert min(Counter(statuses).values()) >= 10


def test_what_loads_make_of_some_weeks_is_what_was_planted(tmp_path: Path) -> None:
    """The same through files, loads, corrections and a rebuild, over a change of the clocks in one of three countries."""
    bench = bench_of(tmp_path)
    weeks = Year(bench, 7, date(2025, 3, 20), date(2025, 4, 5))
    lists(bench)
    for day in weeks.days:
        bench.load("visits", day)
    for day in sorted(weeks.go_on()):
        bench.load("visits", day)
    weeks.excuse()
    assert weeks.differences(bench) == []
    bench.warehouse.close()
    upkeep.rebuild(bench.open)
    bench.warehouse = bench.open()
    assert weeks.differences(bench) == []
