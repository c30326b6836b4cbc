"""Batches of a stream's records that are read together."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_platform.live.judging import Batch, joined

_FIELDS: Any = [pa.field("position", pa.string()), pa.field("value", pa.binary())]
ONE = pa.schema(_FIELDS)
OTHER = pa.schema([*_FIELDS, pa.field("key", pa.binary())])


def batch(shard: str, first: int, rows: int, envelope: pa.Schema = ONE, **schemas: str) -> Batch:
    """Records of a shard from a position on."""
    columns: list[Any] = [pa.array([str(first + row) for row in range(rows)])]
    columns += [pa.array([b"{}"] * rows) for _ in envelope.names[1:]]
    return Batch(shard, pa.record_batch(columns, schema=envelope), schemas)


def places(batches: list[Batch]) -> list[tuple[str, str]]:
    """Of every record its shard and position, in order."""
    return [(one.shard, str(position)) for one in batches for position in one.records.column("position").to_pylist()]


def test_batches_of_a_shard_that_follow_each_other_are_one() -> None:
    """A client gives a few dozen records at a time."""
    (one,) = joined([batch("0", 0, 3), batch("0", 3, 2), batch("0", 5, 1)])
    assert one.records.num_rows == 6


@pytest.mark.parametrize(
    "batches",
    [
        [batch("0", 0, 3), batch("1", 0, 2), batch("0", 3, 1)],
        [batch("0", 0, 3), batch("0", 3, 2, OTHER)],
        [batch("0", 0, 3, schema="1"), batch("0", 3, 2, schema="2")],
    ],
    ids=["another shard came between", "another envelope", "another schema under the same name"],
)
def test_batches_that_are_not_read_alike_stay_apart(batches: list[Batch]) -> None:
    """What one name means for one, it mustn't mean for the next."""
    assert joined(batches) == batches


def test_schemas_of_joined_batches_are_all_known() -> None:
    """Each brings those that it needs."""
    first, second = batch("0", 0, 1, a="1"), batch("0", 1, 1, b="2")
    (one,) = joined([first, second])
    assert one.schemas == {"a": "1", "b": "2"}
    assert first.schemas == {"a": "1"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from("01"),
            st.integers(1, 3),
            st.sampled_from([ONE, OTHER]),
            st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
        )
    )
)
def test_joining_changes_neither_order_nor_schemas(some: list[tuple[str, int, pa.Schema, dict[str, str]]]) -> None:
    """Whatever comes: each record is there once, in order, with the schemas of its batch."""
    batches, reached = [], {"0": 0, "1": 0}
    for shard, rows, schema, schemas in some:
        batches.append(batch(shard, reached[shard], rows, schema, **schemas))
        reached[shard] += rows
    found = joined(batches)
    assert places(found) == places(batches)
    of_place = {place: one for one in found for place in places([one])}
    for one in batches:
        for place in places([one]):
            assert of_place[place].records.schema.equals(one.records.schema)
            assert one.schemas.items() <= of_place[place].schemas.items()
