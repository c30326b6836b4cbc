"""Where to go on in a stream, what is there and what is gone: told from names alone, in a folder and on S3 alike."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.landing import LandingZone
from ingestion_platform.sources.landed import LandedStream, joined, without
from ingestion_platform.sources.reading import After, From
from ingestion_platform.stream import Kafka, Kinesis, LandedName, Span, Stream, StreamSegments
from ingestion_platform_tests.sources.draining import ZONE

NOW = datetime(2024, 10, 5, 12, tzinfo=UTC)
EIGHT = datetime(2024, 10, 5, 8)

KAFKA = Stream(name="pos", description="x", source=Kafka(topic="t"), first_day=date(2024, 10, 1))
KINESIS = Stream(name="clicks", description="x", source=Kinesis(stream="s"), first_day=date(2024, 10, 1))


@pytest.fixture
def landed(landing: LandingZone) -> LandedStream:
    """An empty landing zone of each kind."""
    return LandedStream(KAFKA, landing, ZONE)


def put(landed: LandedStream, first: int, last: int, *, hour: datetime = EIGHT, shard: str = "0") -> None:
    """Land something that is called a segment; nobody here looks into it."""
    landed.zone.put_if_absent(landed.stream.segment_key(hour, shard, Span(first, last)), b"records")


def test_an_empty_landing_zone_knows_nothing(landed: LandedStream) -> None:
    """Where nothing has landed there is no place to go on."""
    assert landed.start_of("0", NOW) is None
    assert landed.spans(date(2024, 10, 1), date(2024, 10, 5)) == {}


def test_it_goes_on_after_the_last_that_landed(landed: LandedStream) -> None:
    """The highest position of the newest day counts, of the shard alone, also when that day was weeks ago."""
    put(landed, 0, 9, hour=EIGHT - timedelta(days=30))
    put(landed, 0, 999, shard="1")
    assert landed.start_of("0", NOW) == After(9)
    put(landed, 10, 19, hour=EIGHT - timedelta(hours=1))
    put(landed, 20, 29)
    fresh = LandedStream(KAFKA, landed.zone, ZONE)
    assert fresh.start_of("0", NOW) == After(29)
    assert fresh.start_of("1", NOW) == After(999)
    assert fresh.start_of("10", NOW) is None


def test_a_mark_says_that_nothing_had_come(landed: LandedStream) -> None:
    """A mark moves no position, and tells until when the shard was known to have nothing more."""
    put(landed, 0, 9, hour=EIGHT - timedelta(days=4))
    landed.put_mark(EIGHT, "0", 9)
    assert landed.start_of("0", NOW) == After(9, EIGHT.replace(tzinfo=ZONE).astimezone(UTC))


def test_a_start_that_was_chosen_is_remembered(landed: LandedStream) -> None:
    """A shard that was begun at a moment, and gave nothing yet, goes on from that moment; what lands later counts more."""
    moment = datetime(2024, 10, 5, 5, 59, 59, 123456, tzinfo=UTC)
    landed.put_mark(EIGHT, "0", moment)
    assert landed.start_of("0", NOW) == From(moment)
    put(landed, 5, 6)
    assert LandedStream(KAFKA, landed.zone, ZONE).start_of("0", NOW) == After(6)


def test_what_is_gone_is_not_asked_for_again(landed: LandedStream) -> None:
    """Reading goes on after a gap; the gap is known on its day until its records have landed after all."""
    put(landed, 0, 9)
    landed.put_gap(EIGHT, "0", Span(10, 19), "older than the retention")
    assert landed.start_of("0", NOW) == After(19)
    ((shard, span, key),) = landed.gaps(EIGHT.date())
    assert (shard, span) == ("0", Span(10, 19))
    assert b"older than the retention" in landed.zone.read(next(one for one in landed.zone.list() if one.key == key))
    put(landed, 12, 19, hour=EIGHT - timedelta(days=1))
    assert [span for _, span, _ in landed.gaps(EIGHT.date())] == [Span(10, 11)]
    put(landed, 10, 11, hour=EIGHT - timedelta(days=1))
    assert landed.gaps(EIGHT.date()) == []


def test_a_loss_that_nobody_can_measure_stays_known(landed: LandedStream) -> None:
    """A note of an empty span says that something is gone after it: reading goes on behind it, and nothing that lands settles it."""
    put(landed, 0, 9)
    landed.put_gap(EIGHT, "0", Span(10, 9), "left alone for longer than the retention")
    assert landed.start_of("0", NOW) == After(9)
    put(landed, 12, 19)
    ((shard, span, _),) = landed.gaps(EIGHT.date())
    assert (shard, span, str(span)) == ("0", Span(10, 9), "whatever came after position 9")


def test_what_others_put_there_is_no_segment(landed: LandedStream) -> None:
    """Names that the platform doesn't give are passed over, and belong to no dataset."""
    source = StreamSegments(KAFKA)
    for key in (
        "streams/pos/notes.txt",
        "streams/pos/2024/10/05/08/0.parquet",
        "streams/pos/2024/10/05/08/0.9-1.parquet",
        "streams/pos/2024/10/05/99/0.1-9.parquet",
        "streams/pos/2024/13/05/08/0.1-9.parquet",
        "streams/pos/2024/10/05/08/0.from-99999999T999999999999Z.mark.json",
        "streams/pos/2024/10/05/08/deep/0.1-9.parquet",
    ):
        landed.zone.put_if_absent(key, b"x")
        assert source.match(key) is None, key
    assert landed.start_of("0", NOW) in (None, After(1)), "an empty span holds nothing"


@pytest.mark.parametrize("shard", ["0", "shardId-000000000007", "a.b/c~d e%", "žluť", "0.5-9"])
def test_any_shard_name_makes_a_key_and_is_read_from_it(shard: str) -> None:
    """A shard's name survives the key, whatever characters it has."""
    for stream in (KAFKA, KINESIS):
        key = stream.segment_key(EIGHT, shard, Span(3, 10**17))
        assert LandedName.parse(key) == LandedName(shard, "segment", Span(3, 10**17))
        assert StreamSegments(stream).span(key) == (shard, Span(3, 10**17))
        matched = StreamSegments(stream).match(key)
        assert matched is not None
        assert matched[0] == EIGHT.date()
        assert LandedName.parse(stream.mark_key(EIGHT, shard, 7)) == LandedName(shard, "mark", Span(8, 7))
        assert LandedName.parse(stream.mark_key(EIGHT, shard, NOW)) == LandedName(shard, "mark", None, NOW)
        assert LandedName.parse(stream.gap_key(EIGHT, shard, Span(1, 2))) == LandedName(shard, "gap", Span(1, 2))


def test_names_of_a_shard_sort_as_positions_do() -> None:
    """Positions are written with all their digits, so that a listing is in the order of the stream."""
    keys = [KINESIS.segment_key(EIGHT, "s", Span(first, first + 1)) for first in (1, 9, 10, 10**20, 10**55)]
    assert keys == sorted(keys)


spans = st.builds(lambda first, length: Span(first, first + length), st.integers(0, 40), st.integers(0, 10))


@given(spans, st.lists(spans, max_size=8))
def test_without_leaves_exactly_what_is_in_no_other(span: Span, others: list[Span]) -> None:
    """The positions left are those of the span less those of the others; joined spans hold the same positions."""

    def positions(of: list[Span]) -> set[int]:
        return {position for one in of for position in range(one.first, one.last + 1)}

    assert positions(without(span, others)) == positions([span]) - positions(others)
    assert positions(joined(others)) == positions(others)
    assert all(one.last + 1 < other.first for one, other in zip(joined(others), joined(others)[1:], strict=False))
