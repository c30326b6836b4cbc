"""Changes of DynamoDB items as plain JSON: every value as it was, and whatever is no change told from one that is."""

import base64
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import Binary, TypeSerializer
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_platform.formats.dynamodb_values import DEEPEST, decode_change
from ingestion_platform.formats.json_members import NotAnObject, Taker


def record(new: object = None, **changes: object) -> bytes:
    """A record whose new image has one attribute `x`."""
    change: dict[str, object] = {"Keys": {"id": {"S": "a"}}, "SequenceNumber": "111", **changes}
    if new is not None:
        change["NewImage"] = {"x": new}
    return json.dumps({"eventID": "e", "eventName": "MODIFY", "dynamodb": change}).encode()


def decoded(new: object) -> str:
    """`x` of the new image, as JSON text."""
    text = decode_change(record(new)).decode()
    before, after = '"new":{"x":', '},"event_id"'
    return text[text.index(before) + len(before) : text.index(after)]


def reason(value: bytes) -> str:
    """Why it is no change."""
    with pytest.raises(NotAnObject) as told:
        decode_change(value)
    return str(told.value)


def test_a_change_has_its_members() -> None:
    """Operation, keys, images, event, sequence number and moment; an image that the stream doesn't give is absent."""
    value = record({"S": "v"}, ApproximateCreationDateTime=1428537600, OldImage={"x": {"S": "w"}}, SizeBytes=59)
    assert json.loads(decode_change(value)) == {
        "operation": "MODIFY",
        "keys": {"id": "a"},
        "new": {"x": "v"},
        "old": {"x": "w"},
        "event_id": "e",
        "sequence_number": "111",
        "changed_at": "2015-04-09T00:00:00+00:00",
    }
    assert set(json.loads(decode_change(record()))) == {"operation", "keys", "event_id", "sequence_number"}


PLAIN = [
    ({"S": ""}, '""'),
    ({"S": 'a "quote" \u2028 \U0001f600'}, '"a \\"quote\\" \u2028 \U0001f600"'),
    ({"N": "1.50"}, "1.50"),
    ({"N": "-0"}, "-0"),
    ({"N": "99999999999999999999999999999999999999"}, "99999999999999999999999999999999999999"),
    ({"N": "0.00000000000000000000000000000000000001"}, "0.00000000000000000000000000000000000001"),
    ({"N": "9.9999999999999999999999999999999999999E+125"}, "9.9999999999999999999999999999999999999E+125"),
    ({"N": "-1E-130"}, "-1E-130"),
    ({"N": "1E+126"}, "1E+126"),
    ({"N": ".5"}, "0.5"),
    ({"N": "+007.10"}, "7.10"),
    ({"N": "1."}, "1"),
    ({"B": "AAH/"}, '"AAH/"'),
    ({"B": ""}, '""'),
    ({"BOOL": True}, "true"),
    ({"BOOL": False}, "false"),
    ({"NULL": True}, "null"),
    ({"M": {}}, "{}"),
    ({"M": {"a b": {"L": [{"N": "1"}, {"M": {"": {"NULL": True}}}]}}}, '{"a b":[1,{"":null}]}'),
    ({"L": []}, "[]"),
    ({"SS": ["b", "a", ""]}, '["","a","b"]'),
    ({"NS": ["10", "9", "-1E+2", "9.5"]}, "[-1E+2,9,9.5,10]"),
    ({"BS": ["/w==", "AA=="]}, '["/w==","AA=="]'),
    ({"SS": []}, "[]"),
]


@pytest.mark.parametrize(("typed", "plain"), PLAIN, ids=[plain for _, plain in PLAIN])
def test_a_value_loses_its_type_and_nothing_else(typed: object, plain: str) -> None:
    """Numbers keep the digits they were sent with; sets are in order; what JSON can't say so is said in the nearest way."""
    assert decoded(typed) == plain


MALFORMED = [
    (b"", "is not JSON"),
    (b"{broken", "is not JSON"),
    (b"[1]", "is not a record of a DynamoDB stream"),
    (b'{"id": 1}', "is not a record of a DynamoDB stream"),
    (b'"\xff\xfe"', "is not"),
    (record().replace(b"MODIFY", b"DELETE"), "eventName “DELETE” is none of INSERT, MODIFY, REMOVE"),
    (record(SequenceNumber="12a"), "SequenceNumber “12a” is no number"),
    (record(SequenceNumber=12), "SequenceNumber"),
    (record(Keys={}), "it has no keys"),
    (record(Keys=[]), "Keys"),
    (record(ApproximateCreationDateTime="yesterday"), "ApproximateCreationDateTime “yesterday” is no moment"),
    (record(ApproximateCreationDateTime=1e300), "is no moment"),
    (record({"N": "NaN"}), "“new.x” is not a number: “NaN”"),
    (record({"N": "1e"}), "is not a number"),
    (record({"N": "."}), "is not a number"),
    (record({"N": "١"}), "is not a number"),
    (record({"N": "1" + "0" * 30 + "E" + "9" * 30}), "is not a number"),
    (record({"N": 1}), "“new.x” is not of a type that DynamoDB has"),
    (record({"B": "not base64"}), "“new.x” is not base64"),
    (record({"NULL": False}), "is not of a type"),
    (record({"X": "1"}), "is not of a type that DynamoDB has"),
    (record({"S": "1", "N": "1"}), "is not a value with one type"),
    (record({}), "is not a value with one type"),
    (record("a"), "is not a value with one type"),
    (record({"NS": [1]}), "is a set of something that isn't text"),
    (record({"L": [{"M": {"deep": {"N": "x"}}}]}), "“new.x[].deep” is not a number"),
]


@pytest.mark.parametrize(("value", "message"), MALFORMED, ids=[message for _, message in MALFORMED])
def test_what_is_no_change_says_why(value: bytes, message: str) -> None:
    """It becomes a quarantined record, with that reason."""
    assert message in reason(value)


@pytest.mark.parametrize("levels", [DEEPEST + 2, 400, 100_000])
def test_nesting_without_end_is_refused(levels: int) -> None:
    """Whoever nests deeper than DynamoDB itself allows ends in quarantine, not the process."""
    value = record({"S": "here"}).replace(b'{"S": "here"}', b'{"L":[' * levels + b"]}" * levels)
    assert "is nested too deeply" in reason(value)


def test_as_deep_as_dynamodb_allows_is_read() -> None:
    """32 levels."""
    typed: dict[str, Any] = {"N": "1"}
    for _ in range(32):
        typed = {"L": [{"M": {"a": typed}}]}
        typed = typed["L"][0]
    assert decoded(typed) == '{"a":' * 32 + "1" + "}" * 32


def test_half_of_a_surrogate_pair_is_refused() -> None:
    """It is no character, and no column could hold it."""
    assert "is not JSON" in reason(record({"S": "\ud83d"}))


def test_a_number_reaches_its_column_digit_by_digit() -> None:
    """What comes out is read by the same reader as every other JSON value."""
    taker = Taker(["new.x", "keys.id", "old.x"])
    for number in ("12345678901234567890123456789012345678", "1E+126", "0.10", "-1E-130"):
        (values, extra) = taker.take(decode_change(record({"N": number})))
        assert values == [number, "a", None]
        assert extra is not None


strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1).map(Decimal),
    st.builds(
        lambda digits, exponent: Decimal(digits).scaleb(exponent),
        st.integers(-(10**30), 10**30),
        st.integers(-120, 80),
    ),
)
scalars = st.one_of(st.none(), st.booleans(), strings, numbers, st.binary(max_size=12).map(Binary))
items = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(strings, inner, max_size=4)), max_leaves=12
) | st.one_of(
    st.sets(strings, min_size=1, max_size=4),
    st.sets(numbers, min_size=1, max_size=4),
    st.sets(st.binary(max_size=4).map(Binary), min_size=1, max_size=4),
)  # fmt: skip


def plain(value: Any) -> Any:
    """An item's value as JSON says it."""
    if isinstance(value, Binary):
        return base64.b64encode(value.value).decode()  # type: ignore[attr-defined]  # the stubs don't know it
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, set):
        return [plain(one) for one in sorted(value, key=lambda one: plain(one) if isinstance(one, Binary) else one)]
    return value


def on_the_wire(value: Any) -> Any:
    """Binary values in base64, as boto3 sends them."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: on_the_wire(one) for name, one in value.items()}
    return [on_the_wire(one) for one in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None)
@given(items)
def test_any_item_comes_out_as_it_went_in(item: Any) -> None:
    """Through boto3's own serializer and back: the same values, the same digits."""
    typed = on_the_wire(TypeSerializer().serialize(item))
    assert json.loads(decoded(typed), parse_int=Decimal, parse_float=Decimal) == plain(item)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | strings,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["S", "N", "L", "M", "SS", "NS", "B"]), inner, max_size=2)
            ),
        ).map(record),
    )
)
def test_any_bytes_are_a_change_or_say_why_not(value: bytes) -> None:
    """Nothing else comes out of it: a poison record never stops its shard."""
    with suppress(NotAnObject):
        assert decode_change(value).startswith(b'{"operation":')
