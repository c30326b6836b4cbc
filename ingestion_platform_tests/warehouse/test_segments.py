"""Segments of a stream into raw: each position once, whatever segments hold it, whatever the order of loading."""

import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion_platform.stream import Span
from ingestion_platform.warehouse import upkeep
from ingestion_platform.warehouse.standing import Overlaps, stand
from ingestion_platform_tests.warehouse.building import DAY, Bench, differences
from ingestion_platform_tests.warehouse.streaming import SALES, STREAMED, day_of, segment, value

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A warehouse of one stream with two datasets."""
    return Bench(tmp_path, datasets=STREAMED)


def positions(bench: Bench, table: str = "raw.pos_sales") -> list[int]:
    """Positions that stand in raw, as often as they do."""
    return sorted(int(str(position)) for (position,) in bench.rows(table, "_position"))


def test_a_record_keeps_what_is_around_it(bench: Bench) -> None:
    """Shard, position, moment of arrival, key and headers stand beside the value's own fields."""
    bench.put(*segment(4, 5))
    assert bench.load("pos_sales").rows == 2
    assert bench.rows("raw.pos_sales", "id", "units", "_shard", "_position", "_arrived_at", "_key", "_headers") == [
        ("S4", "4", "0", "4", "2024-10-01T06:00:00.000004+00:00", "till-1", None),
        ("S5", "5", "0", "5", "2024-10-01T06:00:00.000005+00:00", "till-2", '[["trace","t"]]'),
    ]


def test_one_stream_feeds_many_tables(bench: Bench) -> None:
    """Each record is a row of the one dataset that takes its type; an unknown type, none at all and what can't be read go to the rest."""
    values = [
        value(0), value(1, type_="return"), value(2, type_=None), b"{broken", b'["no object"]', b"\xff\xfe", None, value(7),
    ]  # fmt: skip
    bench.put(*segment(0, 7, values=values))
    assert bench.load("pos_sales").rows == 2
    rest = bench.load("pos_rest")
    assert (rest.rows, rest.rows_quarantined) == (3, 3)
    assert bench.rows("raw.pos_rest", "type", "_position") == [("return", "1"), (None, "2"), (None, "6")]
    assert positions(bench) == [0, 7]


def test_unknown_types_are_counted(bench: Bench) -> None:
    """By type, the most frequent first; of the dataset that takes the rest alone."""
    values = [value(0), value(1, type_="return"), value(2, type_=None), value(3, type_="return")]
    bench.put(*segment(0, 3, values=values))
    for name in ("pos_sales", "pos_rest"):
        bench.load(name)
    assert bench.warehouse.unknown_types(STREAMED["pos_rest"], DAY) == {"return": 2, "": 1}
    assert bench.warehouse.unknown_types(STREAMED["pos_rest"], NEXT) == {}
    assert bench.warehouse.unknown_types(SALES, DAY) == {}


def test_a_malformed_record_keeps_its_bytes_and_position(bench: Bench) -> None:
    """In quarantine it stands as JSON: where it was, and its value as text, or in base64 where it is no text."""
    bench.put(*segment(3, 4, values=[b'{"type": "sale", ', b"\x00\xff"]))
    bench.load("pos_rest")
    bench.process("pos_rest")
    records = [str(record) for (record,) in bench.rows("platform.quarantine", "record")]
    assert any('"position": "3"' in record and '"value": "{\\"type\\": \\"sale\\", "' in record for record in records)
    assert any('"position": "4"' in record and '"value_base64": "AP8="' in record for record in records)


def test_what_two_drains_landed_counts_once(bench: Bench) -> None:
    """Of overlapping segments the first position decides; a later one counts from where that ends, one inside it not at all."""
    for first, last in ((0, 9), (5, 14), (6, 8), (15, 15)):
        bench.put(*segment(first, last))
    assert bench.load("pos_sales").rows == 16
    assert positions(bench) == list(range(16))
    assert Counter(bench.states("pos_sales").values()) == {"loaded": 3, "duplicate": 1}
    entries = {entry.key: entry for entry in bench.load("pos_sales").entries}
    assert entries[segment(5, 14)[0]].rows_read == 5
    assert "before 10 stand in" in entries[segment(5, 14)[0]].reason


def test_a_segment_that_lands_later_takes_what_is_its(bench: Bench) -> None:
    """When a segment with an earlier first position comes after all, others give up what is its, on other days too."""
    bench.put(*segment(5, 14, hour=datetime(2024, 10, 2, 0)))
    bench.load("pos_sales", NEXT)
    assert positions(bench) == list(range(5, 15))
    bench.put(*segment(0, 9))
    loaded = bench.load("pos_sales")
    assert loaded.other_days == (NEXT,)
    assert positions(bench) == list(range(15))
    assert not bench.rows("(select 1 as pending from platform.ledger where state = 'pending')", "pending")
    assert upkeep.verify(bench.warehouse) == []


def test_a_segment_that_cannot_be_read_stands_for_nothing(bench: Bench) -> None:
    """What a damaged segment holds by its name stands in the others; mended, it takes it back."""
    key, content = segment(0, 9)
    bench.put(key, content[:-20])
    bench.put(*segment(5, 14))
    bench.load("pos_sales")
    assert positions(bench) == list(range(5, 15))
    bench.put(key, content)
    bench.load("pos_sales")
    assert positions(bench) == list(range(15))
    bench.put(key, b"PAR1 no more PAR1")
    bench.load("pos_sales")
    assert positions(bench) == list(range(5, 15))


def test_a_segment_is_what_its_key_says(bench: Bench) -> None:
    """One that was renamed to other positions or another shard is rejected: names are what everything is told from."""
    key, content = segment(0, 9)
    bench.put(key.replace("0009.", "0008."), content)
    bench.put(key.replace("/0.", "/1."), content)
    loaded = bench.load("pos_sales")
    assert {entry.state for entry in loaded.entries} == {"rejected"}
    assert positions(bench) == []


def test_a_kafka_offset_and_a_long_position_sort_alike(bench: Bench) -> None:
    """Positions of sixty digits are told apart to the last."""
    big = 10**57
    spans = {"a": Span(big, big + 5), "b": Span(big + 5, big + 9)}
    assert stand(spans.items())["b"].since == big + 6


def test_of_two_runs_at_once_one_looks_again(bench: Bench) -> None:
    """A load that was planned before another one committed an overlapping segment of another day sees it in the end."""
    bench.put(*segment(0, 9))
    bench.put(*segment(5, 14, hour=datetime(2024, 10, 2, 0)))
    other = bench.open()
    loader = bench.warehouse._loader(SALES)
    plain = loader._ledger.commit_load
    done: list[object] = []

    def commit_late(*arguments: object, **named: object) -> object:
        if not done:
            done.append(other.load(SALES, NEXT))
        return plain(*arguments, **named)  # type: ignore[arg-type]

    loader._ledger.commit_load = commit_late  # type: ignore[method-assign, assignment]
    loader.load(DAY, reload=False, run_id="")
    assert positions(bench) == list(range(15))
    assert upkeep.verify(bench.warehouse) == []


cuts = st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(0, 2), st.sampled_from(["0", "1"]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(cuts, min_size=2, max_size=10), st.randoms(use_true_random=False))
def test_any_segments_in_any_order_give_each_position_once(
    cut: list[tuple[int, int, int, str]], random: object
) -> None:
    """Raw holds every landed position once, equal to a rebuild, whenever each was landed and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), datasets=STREAMED)
        expected = set()
        for first, length, day, shard in cut:
            hour = datetime.combine(day_of(day), datetime.min.time().replace(hour=8))
            bench.put(*segment(first, first + length, shard=shard, hour=hour))
            expected |= {(shard, str(position)) for position in range(first, first + length + 1)}
            if random.random() < 0.6:  # type: ignore[attr-defined]
                bench.load("pos_sales", day_of(random.randrange(3)), reload=random.random() < 0.2)  # type: ignore[attr-defined]
        upkeep.catch_up(bench.warehouse)
        assert bench.rows("raw.pos_sales", "_shard", "_position") == sorted(expected)
        assert upkeep.verify(bench.warehouse) == []
        fresh = Bench(Path(folder) / "fresh", zone=bench.landing, datasets=STREAMED)
        upkeep.catch_up(fresh.warehouse)
        assert not list(differences(bench.export(), fresh.export()))


@given(
    spans=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=20),
    asked=st.tuples(st.integers(0, 70), st.integers(0, 20)),
)
def test_what_shares_positions_is_found(spans: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    """Exactly the segments that hold one of the positions, however they lie in each other."""
    made = [(f"segment {number}", Span(first, first + length)) for number, (first, length) in enumerate(spans)]
    span = Span(asked[0], sum(asked))
    found = Overlaps(made).with_some_of(span)
    assert sorted(found) == sorted(one for one in made if one[1].first <= span.last and one[1].last >= span.first)


def test_many_segments_at_once_find_what_was_there_before(bench: Bench) -> None:
    """A day of twenty segments beside one that holds some of each: each position counts once."""
    bench.put(*segment(5, 44))
    bench.load("pos_sales")
    for first in range(0, 60, 3):
        bench.put(*segment(first, first + 2))
    bench.load("pos_sales")
    assert positions(bench) == list(range(60))
