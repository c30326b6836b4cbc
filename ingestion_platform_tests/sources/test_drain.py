"""The drain: every record lands once and whole, whatever is killed, repeated, doubled or gone; with a stream in memory."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.errors import LandingUnavailable, SourceError, SourceUnavailable
from ingestion_platform.formats.segments import ENVELOPE
from ingestion_platform.landing import LandedObject
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.sources import drain as drain_module
from ingestion_platform.sources.drain import Drain, LandedSegment
from ingestion_platform.sources.landed import LandedStream
from ingestion_platform.sources.reading import (
    After,
    Arrived,
    Behind,
    CaughtUp,
    Ended,
    Event,
    Gone,
    Idle,
    Passed,
    Released,
    Settle,
    Shard,
    Where,
)
from ingestion_platform.stream import Kafka, LandedName, Span, Stream
from ingestion_platform_tests.sources.draining import ZONE
from ingestion_platform_tests.sources.memory import MemoryStream, Record, envelope

MORNING = datetime(2024, 10, 1, 6, tzinfo=UTC)
"""Eight o'clock in business time."""


def declared(**changes: object) -> Stream:
    """A stream."""
    return Stream(
        **{"name": "pos", "description": "x", "source": Kafka(topic="t"), "first_day": date(2024, 10, 1), **changes}  # type: ignore[arg-type]
    )


def drain(zone: LocalLanding, memory: MemoryStream, stream: Stream | None = None, **named: object) -> Drain:
    """A new drain, as a process that has just started has it."""
    return Drain(LandedStream(stream or declared(), zone, ZONE), memory, **named)  # type: ignore[arg-type]


def segments(zone: LocalLanding) -> Iterator[tuple[LandedName, pa.Table, LandedObject]]:
    """What has landed."""
    for landed in zone.list():
        name = LandedName.parse(landed.key)
        if name is not None and name.kind == "segment":
            yield name, pq.read_table(pa.BufferReader(zone.read(landed))), landed


def positions(zone: LocalLanding) -> list[tuple[str, int]]:
    """Shard and position of every record in every segment."""
    return sorted((name.shard, position) for name, table, _ in segments(zone) for position in numbers(table))


def numbers(table: pa.Table) -> list[int]:
    """Positions of a segment's records."""
    return [int(position) for position in table.column("position").to_pylist() if position is not None]


def keys(zone: LocalLanding) -> list[str]:
    """Names of everything that has landed, without what they share."""
    return [landed.key.removeprefix("streams/pos/") for landed in zone.list()]


def filled(number: int = 30, shards: int = 2, every: timedelta = timedelta(minutes=1)) -> MemoryStream:
    """A stream with *number* records in each shard."""
    memory = MemoryStream()
    for index in range(number):
        for shard in range(shards):
            memory.put(str(shard), f"{shard}:{index}".encode(), MORNING + every * index, key=b"k")
    return memory


def everything(memory: MemoryStream) -> list[tuple[str, int]]:
    """Shard and position of every record of the stream."""
    return sorted((shard, record.position) for shard, records in memory.shards.items() for record in records)


def test_a_drain_lands_everything_once(zone: LocalLanding) -> None:
    """All records of all shards; the second drain finds nothing to do and writes nothing."""
    memory = filled()
    drained = drain(zone, memory).to_now()
    assert drained.is_caught_up
    assert drained.records == 60
    assert positions(zone) == everything(memory)
    before = keys(zone)
    again = drain(zone, memory).to_now()
    assert (again.records, again.segments) == (0, ())
    assert keys(zone) == before


def test_a_segment_is_named_by_hour_shard_and_positions(zone: LocalLanding) -> None:
    """The hour is that of arrival in business time; a segment ends with its hour."""
    drain(zone, filled(70, 1)).to_now()
    landed = [key for key in keys(zone) if key.endswith("parquet")]
    assert landed == [
        "2024/10/01/08/0.0000000000000000000-0000000000000000059.parquet",
        "2024/10/01/09/0.0000000000000000060-0000000000000000069.parquet",
    ]


def test_a_segment_ends_at_its_size(zone: LocalLanding) -> None:
    """No segment is much larger than declared, and none is split within a record."""
    memory = MemoryStream(batch=100)
    for _ in range(100):
        memory.put("0", b"x" * 100, MORNING)
    drain(zone, memory, declared(segment_bytes=1000)).to_now()
    sizes = [table.num_rows for _, table, _ in segments(zone)]
    assert sum(sizes) == 100
    assert max(sizes) <= 11


def test_a_segment_ends_after_its_time(zone: LocalLanding) -> None:
    """A stream that gives little lands it all the same, while it is followed."""
    memory, stop = filled(5, 1), threading.Event()
    seen: list[LandedSegment] = []

    def landed(segment: LandedSegment, _state: object) -> None:
        seen.append(segment)
        stop.set()

    following = drain(zone, memory, declared(segment_seconds=0.2), on_landed=landed)
    threading.Timer(10, stop.set).start()
    following.follow(stop)
    assert [segment.records for segment in seen] == [5]


def test_a_stop_lands_what_is_held(zone: LocalLanding) -> None:
    """Told to end, a drain writes what it has read."""
    stop = threading.Event()
    stop.set()
    memory = filled(8, 1)
    drain(zone, memory).follow(stop)
    assert positions(zone) == everything(memory)


def test_many_shards_hold_no_more_than_one_bound(zone: LocalLanding, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all shards together hold too much, the largest lands early."""
    monkeypatch.setattr(drain_module, "BUFFERED_BYTES", 300)
    memory = MemoryStream(batch=5)
    for shard in range(10):
        for _ in range(20):
            memory.put(str(shard), b"x" * 10, MORNING)
    work = drain(zone, memory)
    held: list[int] = []
    close = work._close_what_is_due

    def watch() -> None:
        close()
        held.append(work._held_bytes)

    work._close_what_is_due = watch  # type: ignore[method-assign]
    work.to_now()
    assert max(held) <= 300
    assert positions(zone) == everything(memory)


def test_limits_end_a_drain_and_the_next_goes_on(zone: LocalLanding) -> None:
    """A drain that has read as much as it may says that it isn't caught up."""
    memory = filled(40, 1)
    stream = declared(drain_bytes=100)
    first = drain(zone, memory, stream).to_now()
    assert not first.is_caught_up
    for _ in range(10):
        drain(zone, memory, stream).to_now()
    assert positions(zone) == everything(memory)


def test_a_drain_reads_no_more_bytes_than_it_may_and_the_batch_that_it_has(zone: LocalLanding) -> None:
    """Each drain of a stream that has more goes on by the same number of bytes; what has been read has landed."""
    memory = MemoryStream(batch=10)
    for _ in range(100):
        memory.put("0", b"x" * 10, MORNING)
    stream = declared(drain_bytes=250)
    for landed in (30, 60, 90):
        drained = drain(zone, memory, stream).to_now()
        assert (drained.records, drained.is_caught_up) == (30, False)
        assert positions(zone) == everything(memory)[:landed]
    assert drain(zone, memory, stream).to_now().is_caught_up
    assert positions(zone) == everything(memory)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the drain's clock shows, in its only place."""
    shown = [1000.0]
    monkeypatch.setattr(drain_module, "time", SimpleNamespace(monotonic=lambda: shown[0]))
    return shown


def test_a_drain_ends_when_its_seconds_are_over(zone: LocalLanding, seconds: list[float]) -> None:
    """What has been read by then lands; the next drain has as long again."""
    memory = filled(100, 1)

    def takes_a_minute(_shard: str, _position: int) -> None:
        seconds[0] += 60

    memory.before = takes_a_minute
    stream = declared(drain_seconds=240)
    for landed in (50, 100):
        drained = drain(zone, memory, stream).to_now()
        # The fifth batch is there when more than 240 s are over.
        assert (drained.records, drained.is_caught_up, drained.seconds) == (50, False, 300.0)
        assert positions(zone) == everything(memory)[:landed]
    assert drain(zone, memory, stream).to_now().is_caught_up


def test_a_source_that_gives_nothing_holds_a_drain_no_longer_than_its_seconds(
    zone: LocalLanding, seconds: list[float]
) -> None:
    """Neither records nor an end come of it: the drain ends all the same, and says that it isn't caught up."""

    class Silent(MemoryStream):
        def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
            yield Behind("0", None, 5.0)
            while True:
                seconds[0] += 1
                yield Idle()

    drained = drain(zone, Silent(), declared(drain_seconds=240)).to_now()
    assert (drained.seconds, drained.is_caught_up) == (241.0, False)


def test_following_has_no_bounds(zone: LocalLanding, seconds: list[float]) -> None:
    """Those of a drain don't hold for it: it ends when it is told to."""
    memory, stop = filled(40, 1), threading.Event()

    def takes_an_hour(_shard: str, position: int) -> None:
        seconds[0] += 3600
        if position == 30:
            stop.set()

    memory.before = takes_an_hour
    drain(zone, memory, declared(drain_bytes=1, drain_seconds=1)).follow(stop)
    assert positions(zone) == everything(memory)


class FailingZone(LocalLanding):
    """A landing zone that takes a number of objects, and then no more: what a process that is killed there leaves behind."""

    def __init__(self, root: Path, takes: int) -> None:
        super().__init__(root)
        self.takes = takes
        self._counting = threading.Lock()

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write it, or fail."""
        with self._counting:
            if self.takes <= 0:
                raise LandingUnavailable("no more")
            self.takes -= 1
        return super().put_if_absent(key, content)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 25), st.integers(0, 8)), min_size=1, max_size=12),
    st.integers(20, 400),
    st.integers(1, 7),
)
def test_ended_anywhere_it_goes_on(history: list[tuple[int, int, int]], segment_bytes: int, batch: int) -> None:
    """Whatever a drain has landed when it ends, the next ones land the rest: every position once, in order, none twice."""
    with tempfile.TemporaryDirectory() as folder:
        memory = MemoryStream(batch=batch)
        stream = declared(segment_bytes=segment_bytes)
        for number, (shard, records, takes) in enumerate(history):
            for _ in range(records):
                memory.put(str(shard), b"x" * 10, MORNING + timedelta(minutes=7 * number))
            try:
                drain(FailingZone(Path(folder), takes), memory, stream).to_now()
            except LandingUnavailable:
                continue
        zone = LocalLanding(folder)
        drain(zone, memory, stream).to_now()
        assert positions(zone) == everything(memory)
        for name, table, _ in segments(zone):
            found = numbers(table)
            assert found == sorted(found)
            assert name.span == Span(found[0], found[-1])


def test_a_source_that_breaks_off_keeps_what_it_gave(zone: LocalLanding) -> None:
    """When reading fails in the middle, what was read has landed, and the error is told."""

    def breaks(_shard: str, position: int) -> None:
        if position >= 20:
            raise SourceUnavailable("the source is away")

    memory = filled(30, 1)
    memory.before = breaks
    with pytest.raises(SourceUnavailable):
        drain(zone, memory).to_now()
    assert positions(zone) == [("0", position) for position in range(20)]


def test_two_drains_at_once_leave_out_what_the_other_has_landed(zone: LocalLanding) -> None:
    """A drain that began before another one landed the same records lands only those that are missing."""
    memory = filled(30, 1)
    done: list[int] = []

    def other_lands(_shard: str, position: int) -> None:
        if position == 20 and not done:
            done.append(position)
            memory.before = None
            drain(zone, memory, declared(segment_bytes=150)).to_now()

    memory.before = other_lands
    drained = drain(zone, memory).to_now()
    assert positions(zone) == everything(memory)
    assert drained.shards["0"].already_landed == 30


def test_what_is_gone_is_told_and_recorded(zone: LocalLanding) -> None:
    """Records that the source dropped before they landed are a gap: recorded once, beside what came after it; the rest lands."""
    memory = filled(10, 1)
    drain(zone, memory).to_now()
    for index in range(10, 20):
        memory.put("0", b"x", MORNING + timedelta(hours=5, minutes=index))
    memory.forget("0", 15)
    drained = drain(zone, memory).to_now()
    assert [(shard, span) for shard, span, _ in drained.gaps] == [("0", Span(10, 14))]
    assert [key for key in keys(zone) if "gap" in key] == [
        "2024/10/01/13/0.0000000000000000010-0000000000000000014.gap.json"
    ]
    assert positions(zone) == [("0", position) for position in (*range(10), *range(15, 20))]
    assert drain(zone, memory).to_now().gaps == []


def test_a_gap_is_not_noted_before_what_came_before_it(tmp_path: Path) -> None:
    """Killed between the records before a gap and the note of it, a drain loses neither: reading never goes on behind unlanded records."""
    (tmp_path / "landing").mkdir()
    memory = filled(10, 1)
    for takes in range(4):
        try:
            drain(FailingZone(tmp_path / "landing", takes), memory).to_now()
        except LandingUnavailable:
            continue
    memory.put("0", b"x", MORNING + timedelta(hours=9))
    memory.forget("0", 10)
    for takes in range(4):
        try:
            drain(FailingZone(tmp_path / "landing", takes), memory).to_now()
        except LandingUnavailable:
            continue
    assert positions(LocalLanding(tmp_path / "landing")) == [("0", position) for position in range(11)]


def test_a_start_at_latest_is_chosen_once(zone: LocalLanding) -> None:
    """What comes between the first drain, which found nothing, and the second one lands."""
    stream = declared(source=Kafka(topic="t", begin="latest"))
    memory = filled(10, 1)
    drain(zone, memory, stream).to_now()
    memory.put("0", b"new", datetime.now(UTC) - timedelta(seconds=1))
    drain(zone, memory, stream).to_now()
    assert positions(zone) == [("0", 10)]


def test_a_start_at_a_moment_takes_what_arrived_since(zone: LocalLanding) -> None:
    """A declared moment without a zone is business time."""
    stream = declared(source=Kafka(topic="t", begin=datetime(2024, 10, 1, 8, 20)))
    drain(zone, filled(30, 1), stream).to_now()
    assert positions(zone) == [("0", position) for position in range(20, 30)]


def test_a_shard_that_appears_later_is_read_from_its_first_record(zone: LocalLanding) -> None:
    """Although the stream began at latest: it is being followed."""
    stream = declared(source=Kafka(topic="t", begin="latest"))
    memory = filled(3, 1)
    drain(zone, memory, stream).to_now()
    memory.put("7", b"first", MORNING)
    drain(zone, memory, stream).to_now()
    assert positions(zone) == [("7", 0)]


def test_times_from_the_future_count_as_now(zone: LocalLanding) -> None:
    """A producer's wrong clock makes no partition of next century."""
    memory = MemoryStream()
    memory.put("0", b"x", datetime(2199, 1, 1, tzinfo=UTC))
    drained = drain(zone, memory, clock=lambda: datetime(2200, 1, 1, tzinfo=UTC))
    drained._clock = lambda: datetime(2024, 10, 1, 10, tzinfo=UTC)
    stop = threading.Event()
    stop.set()
    drained.follow(stop)
    assert [key[:13] for key in keys(zone) if key.endswith("parquet")] == ["2024/10/01/12"]


def test_one_wrong_time_moves_no_other_record(zone: LocalLanding) -> None:
    """A record that claims to be hours ahead stands among its neighbours; one that is older goes along with them."""
    memory = MemoryStream(batch=20)
    for index in range(20):
        wrong = timedelta(hours=9) if index == 7 else timedelta(hours=-9) if index == 12 else timedelta()
        memory.put("0", b"x", MORNING + timedelta(minutes=index) + wrong)
    drain(zone, memory).to_now()
    assert [key for key in keys(zone) if key.endswith("parquet")] == [
        "2024/10/01/08/0.0000000000000000000-0000000000000000019.parquet"
    ]


def test_an_hour_that_comes_twice_is_one(zone: LocalLanding) -> None:
    """When clocks go back, both hours of that name share it, and segments stay in order."""
    memory = MemoryStream(batch=50)
    autumn = datetime(2024, 10, 26, 23, 30, tzinfo=UTC)
    for index in range(24):
        memory.put("0", b"x", autumn + timedelta(minutes=10 * index))
    Drain(LandedStream(declared(), zone, ZoneInfo("Europe/Berlin")), memory).to_now()
    landed = [key for key in keys(zone) if key.endswith("parquet")]
    assert [key[:13] for key in landed] == ["2024/10/27/01", "2024/10/27/02", "2024/10/27/03", "2024/10/27/04"]
    assert positions(zone) == everything(memory)


def test_a_replay_lands_only_what_is_missing(zone: LocalLanding) -> None:
    """Reading the stream again by time leaves what is there under its names, and lands what somebody deleted, piece by piece."""
    memory = filled(30, 1)
    drain(zone, memory, declared(segment_bytes=20)).to_now()
    landed = [landed for landed in zone.list() if landed.key.endswith("parquet")]
    whole = {one.key: one.token for one in landed}
    for one in landed[3:5]:
        Path(zone.url, one.key).unlink()
    again = drain(zone, memory, declared(segment_bytes=10_000)).replay(MORNING, MORNING + timedelta(days=1))
    assert again.records > 0
    assert positions(zone) == everything(memory)
    kept = {one.key: one.token for one in zone.list() if one.key.endswith("parquet")}
    assert all(kept[key] == token for key, token in whole.items() if key not in {one.key for one in landed[3:5]})


def test_a_replay_takes_the_window_alone(zone: LocalLanding) -> None:
    """What arrived before the first moment or from the last one on stays out."""
    memory = filled(30, 1)
    drain(zone, memory).to_now()
    for one in list(zone.list()):
        if one.key.endswith("parquet"):
            Path(zone.url, one.key).unlink()
    zone.put_if_absent("streams/pos/2024/10/01/08/0.after-0000000000000000029.mark.json", b"{}")
    drain(zone, memory).replay(MORNING + timedelta(minutes=10), MORNING + timedelta(minutes=20))
    assert positions(zone) == [("0", position) for position in range(10, 20)]


def test_a_replay_never_jumps_ahead(zone: LocalLanding) -> None:
    """Of a shard that has landed up to before the window nothing is replayed, or what is between would never be read."""
    memory = filled(3, 1)
    drain(zone, memory).to_now()
    for minute in range(3, 10):
        memory.put("0", b"later", MORNING + timedelta(minutes=minute))
    with pytest.raises(SourceError, match="2 records of 1 shards weren't replayed"):
        drain(zone, memory).replay(MORNING + timedelta(minutes=6), MORNING + timedelta(minutes=8))
    assert positions(zone) == [("0", position) for position in range(3)]
    drain(zone, memory).replay(MORNING + timedelta(minutes=3), MORNING + timedelta(minutes=5))
    drain(zone, memory).to_now()
    assert positions(zone) == everything(memory)


def test_a_replay_of_what_nobody_has_drained_lands_nothing(zone: LocalLanding) -> None:
    """An empty landing zone is filled by a drain, which begins where the declaration says."""
    memory = filled(30, 1)
    with pytest.raises(SourceError, match="drain the stream up to now first"):
        drain(zone, memory).replay(MORNING + timedelta(minutes=10), MORNING + timedelta(minutes=20))
    drain(zone, memory).to_now()
    assert positions(zone) == everything(memory)


def test_an_idle_shard_is_found_among_the_newest_names(zone: LocalLanding) -> None:
    """A drain leaves a mark of a shard in which nothing came, once in a while, so that nobody looks through all of history."""
    memory = filled(3, 1)
    drain(zone, memory).to_now()
    drain(zone, memory).to_now()
    marks = [key for key in keys(zone) if key.endswith("mark.json")]
    assert len(marks) == 1
    assert marks[0].endswith("0.after-0000000000000000002.mark.json")


def test_watchers_see_what_arrives_and_what_has_landed(zone: LocalLanding) -> None:
    """Whoever looks at the running stream is given each batch, then each segment."""

    class Seen:
        def __init__(self) -> None:
            self.records = 0
            self.keys: list[str] = []

        def arrived(self, stream: Stream, arrived: Arrived) -> None:
            assert not self.keys
            self.records += arrived.records.num_rows

        def landed(self, stream: Stream, segment: LandedSegment) -> None:
            self.keys.append(segment.key)

    seen = Seen()
    drain(zone, filled(5, 1), watchers=[seen]).to_now()
    assert seen.records == 5
    assert len(seen.keys) == 1


def test_parts_of_one_position_stay_together(zone: LocalLanding) -> None:
    """Records that the source holds as one are never split between segments."""

    class Parted(MemoryStream):
        def read(self, where: object, *, until: object, shards: Sequence[str] = ()) -> Iterator[Arrived]:
            rows = [
                {"position": str(position), "part": part, "arrived_at": MORNING, "value": b"x" * 50}
                for position in range(5)
                for part in range(4)
            ]
            yield Arrived("0", pa.RecordBatch.from_pylist(rows, schema=ENVELOPE), 0, 4, 1000)

    drain(zone, Parted(), declared(segment_bytes=70)).to_now()
    for _, table, _ in segments(zone):
        assert table.num_rows % 4 == 0
    assert sum(table.num_rows for _, table, _ in segments(zone)) == 20


class Ending(MemoryStream):
    """A shard that is read to its end, which is told or isn't."""

    def __init__(self, ends_at: int | None) -> None:
        super().__init__()
        self.ends_at = ends_at

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """See `StreamReader.read`."""
        start = where(Shard("0"))
        for position, record in enumerate(self.shards["0"]):
            if not isinstance(start, After) or position > start.position:
                yield Arrived("0", envelope([record]), position, position, 1)
        yield CaughtUp("0", MORNING + timedelta(minutes=30), self.ends_at)
        yield Ended("0")


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("ends_at", [50, None])
def test_a_shard_that_has_ended_is_known_to_be_whole(zone: LocalLanding, is_held: bool, ends_at: int | None) -> None:
    """Its end is noted in the hour of its last records, held or landed: nobody comes back to note it, and in a day they are gone."""
    memory = Ending(ends_at)
    for number in range(3):
        memory.put("0", b"x", MORNING + timedelta(minutes=number))
    stream = declared(segment_bytes=1000 if is_held else 1)

    def work(minutes: int) -> Drain:
        return drain(zone, memory, stream, clock=lambda: MORNING + timedelta(minutes=minutes))

    work(30).follow(threading.Event())
    assert positions(zone) == everything(memory)
    stands = LandedStream(stream, zone, ZONE).start_of("0", MORNING)
    assert stands == After(2 if ends_at is None else ends_at, MORNING)
    # Who looks at it again and again has nothing to add but what is noted every six hours.
    before = keys(zone)
    for minutes in (35, 40, 100):
        work(minutes).to_now()
    assert len(keys(zone)) <= len(before) + 1


def test_times_that_go_back_by_days_hold_nothing_up(zone: LocalLanding) -> None:
    """A backfill into a topic of now: each bounded drain goes on after the last, whatever day its segments stand under."""
    memory = MemoryStream(batch=20)
    for number in range(20):
        memory.put("0", b"now %d" % number, MORNING + timedelta(days=3, seconds=number))
    for number in range(100):
        memory.put("0", b"old %d" % number, MORNING + timedelta(seconds=number))
    for _ in range(12):
        drain(zone, memory, declared(drain_bytes=100)).to_now()
    assert positions(zone) == everything(memory)


def test_a_segment_has_no_hole_in_a_replay_either(zone: LocalLanding) -> None:
    """What comes after a gap is in a segment of its own, so that what fills the gap later counts."""
    memory = filled(20, 1)
    LandedStream(declared(), zone, ZONE).put_mark(MORNING, "0", 19)

    class Holed(MemoryStream):
        def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
            for event in memory.read(where, until=until, shards=shards):
                if isinstance(event, Arrived) and event.first == 0:
                    yield Arrived("0", event.records.slice(0, 5), 0, 4, 10)
                    yield Gone("0", Span(5, 9), "made up")
                else:
                    yield event

    drain(zone, Holed()).replay(MORNING, MORNING + timedelta(days=1))
    assert [name.span for name, _, _ in segments(zone)] == [Span(0, 4), Span(10, 19)]


def test_a_clock_of_before_the_first_day_counts_as_now(zone: LocalLanding) -> None:
    """A till that was reset to 2005 sends records that are loaded all the same."""
    memory = MemoryStream()
    for number in range(10):
        memory.put("0", b"x", datetime(2005, 1, 1, tzinfo=UTC) + timedelta(minutes=number))
    drain(zone, memory, clock=lambda: MORNING + timedelta(days=2)).to_now()
    assert [key[:13] for key in keys(zone) if key.endswith("parquet")] == ["2024/10/03/08"]


def test_a_watcher_that_fails_keeps_nothing_from_landing(zone: LocalLanding, caplog: pytest.LogCaptureFixture) -> None:
    """The failure is told; a rule is not worth a record."""

    class Broken:
        def arrived(self, _stream: Stream, _arrived: Arrived) -> None:
            raise KeyError("price")

        def landed(self, _stream: Stream, _segment: LandedSegment) -> None:
            raise KeyError("price")

    memory = filled(5, 1)
    drain(zone, memory, watchers=[Broken()]).to_now()
    assert positions(zone) == everything(memory)
    assert "a watcher failed" in caplog.text


def test_the_lag_of_a_shard_that_somebody_else_reads_is_not_ours(zone: LocalLanding) -> None:
    """Once released, it is unknown."""

    class Giving(MemoryStream):
        def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
            yield Behind("0", 100, 2000.0)
            yield Released("0")

    work = drain(zone, Giving())
    work.to_now()
    assert work.states()["0"].behind_seconds is None


def test_a_new_shard_is_not_looked_for_in_all_of_history(zone: LocalLanding) -> None:
    """A name of each shard is left by every drain: a month is enough."""
    stream = declared()
    for day in range(100):
        hour = datetime(2024, 10, 1, 8) + timedelta(days=day)
        zone.put_if_absent(stream.segment_key(hour, "0", Span(day, day)), b"")

    class Counting(LocalLanding):
        lists = 0

        def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
            self.lists += 1
            return super().list(prefix, start_after=start_after)

    counting = Counting(zone.url)
    landed = LandedStream(stream, counting, ZONE)
    assert landed.start_of("1", MORNING + timedelta(days=99)) is None
    assert counting.lists < 45
    assert landed.start_of("0", MORNING + timedelta(days=99)) == After(99)


class Told:
    """
    A reader that tells what it is given, and notes what had landed when it was asked for more.

    Args:
        events: in order.
        zone: where they land.
    """

    def __init__(self, events: Sequence[Event], zone: LocalLanding) -> None:
        self.events = events
        self.zone = zone
        self.confirmed: list[int] = []
        self.seen: list[tuple[list[str], list[int]]] = []
        self.closed_with: list[int] = []

    def read(self, where: Where, *, until: datetime | None, shards: Sequence[str] = ()) -> Iterator[Event]:
        """See `StreamReader.read`."""
        try:
            for event in self.events:
                yield event
                self.seen.append((keys(self.zone), list(self.confirmed)))
        finally:
            self.closed_with = list(self.confirmed)

    def confirm(self, shard: str, position: int) -> None:
        """See `Confirmed`."""
        assert any(LandedName.parse(key) is not None for key in keys(self.zone))
        self.confirmed.append(position)


def some(first: int, count: int, *, goes_on: bool = False) -> Arrived:
    """Records of 100 bytes."""
    records = [Record(first + number, MORNING, b"x" * 100) for number in range(count)]
    return Arrived("log", envelope(records), first, first + count - 1, 100 * count, goes_on=goes_on)


def test_a_reader_is_told_what_has_landed_and_nothing_more(zone: LocalLanding) -> None:
    """Where it asks for that, before it is asked for more; otherwise when it has landed."""
    reader = Told([some(0, 5), Settle(), some(5, 5), Passed("log", 50), some(60, 5), Settle()], zone)
    Drain(LandedStream(declared(), zone, ZONE), reader).to_now()
    settled, passed = reader.seen[1], reader.seen[3]
    assert settled[1] == [4]
    assert passed[1] == [4, 9, 50]
    assert any("after-0000000000000000050.mark" in key for key in passed[0])
    assert reader.closed_with == [4, 9, 50, 64]


def test_what_did_not_land_is_not_confirmed(zone: LocalLanding, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's source keeps it, and it comes again."""

    def refuse(key: str, content: bytes) -> bool:
        raise LandingUnavailable("the bucket is away")

    monkeypatch.setattr(zone, "put_if_absent", refuse)
    reader = Told([some(0, 5), Settle()], zone)
    with pytest.raises(LandingUnavailable):
        Drain(LandedStream(declared(), zone, ZONE), reader).to_now()
    assert reader.confirmed == reader.closed_with == []


def test_what_belongs_together_stands_in_one_segment(zone: LocalLanding) -> None:
    """Until it is twice as large as a segment may be; and a drain doesn't end in the middle of it."""
    parts = [
        some(0, 6, goes_on=True),
        some(6, 6),
        some(12, 6, goes_on=True),
        some(18, 6, goes_on=True),
        some(24, 6),
    ]
    stream = declared(segment_bytes=1_000, drain_bytes=600)
    Drain(LandedStream(stream, zone, ZONE), Told(parts, zone)).to_now()
    assert [(name.span.first, name.span.last) for name, _, _ in segments(zone) if name.span] == [(0, 11)]
    Drain(LandedStream(declared(segment_bytes=1_000), zone, ZONE), Told(parts[2:], zone)).to_now()
    assert [(name.span.first, name.span.last) for name, _, _ in segments(zone) if name.span] == [(0, 11), (12, 29)]
    many = [some(30 + 6 * number, 6, goes_on=True) for number in range(9)]
    Drain(LandedStream(declared(segment_bytes=1_000), zone, ZONE), Told([*many, some(84, 1)], zone)).to_now()
    assert [name.span.last - name.span.first + 1 for name, _, _ in segments(zone) if name.span][2:] == [24, 24, 7]
