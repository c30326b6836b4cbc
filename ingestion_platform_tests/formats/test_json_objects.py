"""Objects taken many at once and one by one: nobody can tell which way they went."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.formats.json_members import NotAnObject, Taker
from ingestion_platform.formats.json_objects import Objects, gathered

SOURCES = ("a", "b", "p.x", "a")
NAMES = st.sampled_from(["a", "b", "p", "x", "new", "a,b", 'q"', "é"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.just("a,b\n\\"), st.just(1.50))
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(NAMES, SCALARS, max_size=3))
TEXTS = st.one_of(
    st.dictionaries(NAMES, VALUES, max_size=5).map(lambda found: json.dumps(found, ensure_ascii=False).encode()),
    st.dictionaries(st.sampled_from(["a", "b"]), SCALARS).map(lambda found: json.dumps(found).encode()),
    st.sampled_from(
        [b"", b"[]", b"{", b'{"a":1,"a":2}', b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"{}", b'{ "b" : 1e5 }', b"null"]
    ),
)


def one_by_one(taker: Taker, text: bytes) -> tuple[object, ...] | str:
    """An object's values, or why it has none."""
    try:
        values, extra = taker.take(text)
    except NotAnObject as error:
        return str(error)
    return (*values, extra)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, max_size=60))
def test_both_ways_give_the_same(texts: list[bytes]) -> None:
    """Values, what is left over, what is refused and why, and which members were there, object by object."""
    objects, taker = Objects(SOURCES), Taker(SOURCES)
    taken = objects.take(texts)
    rows = list(zip(*(column.to_pylist() for column in [*taken.columns, taken.extra]), strict=True))
    refused = dict(taken.refused)
    found = dict(zip(taken.good.tolist(), rows, strict=True))
    assert [*found] == sorted(found)
    for at, text in enumerate(texts):
        assert one_by_one(taker, text) == (refused[at] if at in refused else found[at])
    assert len(found) + len(refused) == len(texts)
    assert objects.seen == taker.seen
    assert objects.unknown == tuple(sorted(taker.unknown))


def test_more_than_a_batch_stays_in_order() -> None:
    """With bad ones among them."""
    texts = [b"no" if number % 7_000 == 3 else b'{"a":"%d"}' % number for number in range(40_000)]
    taken = Objects(("a",)).take(texts)
    assert [at for at, _ in taken.refused] == [number for number in range(40_000) if number % 7_000 == 3]
    assert taken.columns[0].to_pylist() == [str(at) for at in taken.good.tolist()]


def test_texts_are_gathered_by_size() -> None:
    """At least one list, and none larger than it takes."""
    assert list(gathered([], 100)) == [[]]
    assert list(gathered([b"x" * 60] * 3, 100)) == [[b"x" * 60]] * 3
    assert list(gathered([b"x"] * 3, 100)) == [[b"x", b"x"], [b"x"]]
