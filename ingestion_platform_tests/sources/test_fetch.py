"""What a fetch lands: all of it or nothing that counts, once, going on where it was interrupted."""

import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ingestion_platform.api import Cursor, EachRow, Endpoint, NextLink, Offset, PageNumber, PageToken, Paging
from ingestion_platform.errors import LandingError, SourceChanged, SourceError, SourceUnavailable
from ingestion_platform.format import Json, Xml
from ingestion_platform.sources.fetch import Fetched, Reply
from ingestion_platform.sources.fetched import LandedEndpoint
from ingestion_platform_tests.sources.fetching import NOON, Fetching
from ingestion_platform_tests.sources.memory_api import (
    DAY,
    PAGINGS,
    Killed,
    MemoryApi,
    MemoryReply,
    endpoint,
    keys,
    records,
)


class World(Fetching):
    """An endpoint of an API in memory, and a landing zone."""

    def __init__(self, folder: Path, declared: Endpoint, api: MemoryApi) -> None:
        super().__init__(folder, declared, api)
        self.api = api


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    """Makes worlds."""
    numbers = count()

    def make(declared: Endpoint | None = None, api: MemoryApi | None = None) -> World:
        return World(tmp_path / str(next(numbers)), declared or endpoint(), api or MemoryApi(records(10)))

    return make


@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
def test_every_way_of_paging_lands_every_record_once_and_in_order(world: Callable[..., World], paging: Paging) -> None:
    """Ten records on pages of three are ten rows."""
    here = world(endpoint(paging))
    fetched = here.fetch()
    assert here.ids() == list(range(1, 11))
    assert (fetched.records, fetched.has_landed) == (10, True)


@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_lists_that_end_at_the_edge_of_a_page_are_read_to_their_end(
    world: Callable[..., World], paging: Paging, number: int
) -> None:
    """An empty list is no error, and the last page of a full one isn't lost."""
    here = world(endpoint(paging, record_key=("id",)), MemoryApi(records(number)))
    here.fetch()
    assert here.ids() == list(range(1, number + 1))


@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
@pytest.mark.parametrize("has_etags", [True, False])
def test_a_fetch_of_what_has_not_changed_lands_nothing(
    world: Callable[..., World], paging: Paging, has_etags: bool
) -> None:
    """The same pages again, by their ETag or by their content, are nothing new."""
    here = world(endpoint(paging), MemoryApi(records(10), has_etags=has_etags))
    first = here.fetch()
    before = keys(here.landing)
    again = here.fetch()
    assert keys(here.landing) == before
    assert (again.has_landed, again.name, again.records) == (False, first.name, 10)
    assert here.api.not_modified == (again.pages if has_etags else 0)


@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
@pytest.mark.parametrize("change", ["first", "last", "one more", "one less", "all gone"])
def test_a_fetch_of_what_has_changed_replaces_the_one_before(
    world: Callable[..., World], paging: Paging, change: str
) -> None:
    """Whatever has changed, wherever: the day's rows are those that the API has now."""
    here = world(endpoint(paging))
    here.fetch()
    match change:
        case "first":
            here.api.records[0]["name"] = "another"
        case "last":
            here.api.records[-1]["name"] = "another"
        case "one more":
            here.api.records.append({"id": 11, "name": "thing 11"})
        case "one less":
            here.api.records.pop()
        case _:
            here.api.records.clear()
    assert here.fetch().has_landed
    assert here.rows(DAY, "id", "name") == [(str(one["id"]), one["name"]) for one in here.api.records]
    assert not here.fetch().has_landed


@pytest.mark.parametrize("paging", PAGINGS.values(), ids=PAGINGS)
@pytest.mark.parametrize("has_former", [False, True])
def test_a_fetch_killed_at_any_request_goes_on_there(
    world: Callable[..., World], paging: Paging, has_former: bool
) -> None:
    """The same rows as without a kill, no half fetch counts, and no page that landed is asked for again."""
    whole = world(endpoint(paging))
    whole.fetch()
    requests = len(whole.api.urls)
    for at in range(1, requests + 1):
        here = world(endpoint(paging))
        former = []
        if has_former:
            here.api.records[0]["name"] = "as it was"
            here.fetch()
            here.api.records[0]["name"] = "thing 1"
            former = here.ids()
        begun = len(here.api.urls)

        def die(number: int, last: int = begun + at) -> None:
            if number == last:
                raise Killed

        here.api.before = die
        with pytest.raises(Killed):
            here.fetch()
        assert here.ids() == former
        here.api.before = lambda _: None
        begun = len(here.api.urls)
        fetched = here.fetch()
        assert here.rows(DAY, "id", "name") == whole.rows(DAY, "id", "name")
        assert fetched.resumed == at - 1
        assert len(here.api.urls) - begun == requests - (at - 1)


def test_what_was_interrupted_long_ago_is_begun_anew(world: Callable[..., World]) -> None:
    """Pages of this morning and of tonight are no one state."""
    here = world(endpoint(PAGINGS["token"]))

    def die(number: int) -> None:
        if number == 3:
            raise Killed

    here.api.before = die
    with pytest.raises(Killed):
        here.fetch()
    here.api.before = lambda _: None
    here.at += timedelta(hours=7)
    assert here.fetch().resumed == 0
    assert here.ids() == list(range(1, 11))


def test_what_was_interrupted_and_is_declared_otherwise_now_is_begun_anew(world: Callable[..., World]) -> None:
    """Pages that were told apart in another way are not gone on with."""
    here = world(endpoint(PAGINGS["token"]))

    def die(number: int) -> None:
        if number == 3:
            raise Killed

    here.api.before = die
    with pytest.raises(Killed):
        here.fetch()
    here.api.before = lambda _: None
    here.endpoint = endpoint(PAGINGS["next link"])
    assert here.fetch().resumed == 0
    assert here.ids() == list(range(1, 11))


def test_two_fetches_at_once_don_t_disturb_one_another(world: Callable[..., World]) -> None:
    """While one is under way another one begins, takes over its pages and ends; the first one ends too."""
    here = world(endpoint(PAGINGS["token"]))
    nested: list[Fetched] = []

    def meanwhile(number: int) -> None:
        if number == 3 and not nested:
            nested.append(None)  # type: ignore[arg-type]  # only so that it begins once
            nested[0] = here.fetch()

    here.api.before = meanwhile
    here.fetch()
    assert nested[0].records == 10
    assert here.ids() == list(range(1, 11))


@settings(max_examples=60, deadline=None)
@given(
    style=st.sampled_from(["token", "offset"]),
    steps=st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from(["insert", "remove"]), st.integers(1, 30)), max_size=6
    ),
)
def test_no_record_that_was_there_all_the_time_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, style: str, steps: list[tuple[int, str, int]]
) -> None:
    """Records come and go between pages: by token, and by offset with a `record_key`, the others come once each."""
    there = [{"id": one, "name": "x"} for one in range(2, 31, 3)]
    api = MemoryApi(there)
    stays = {record["id"] for record in there}

    def change(number: int) -> None:
        for at, what, id_ in steps:
            if at == number:
                if what == "remove":
                    api.records[:] = [record for record in api.records if record["id"] != id_]
                    stays.discard(id_)
                elif all(record["id"] != id_ for record in api.records):
                    api.records.append({"id": id_, "name": "new"})

    api.before = change
    here = World(tmp_path_factory.mktemp("api"), endpoint(PAGINGS[style], record_key=("id",)), api)
    try:
        fetched = here.fetch()
    except SourceChanged:
        # Moved each time it was read: told, and nothing counts.
        assume(style == "offset")
        assert not here.ids()
        return
    ids = here.ids()
    assert stays <= set(ids)
    assert len(ids) == len(set(ids))
    assert fetched.repeated == 0


def test_page_numbers_can_promise_nothing_and_say_what_came_twice(world: Callable[..., World]) -> None:
    """A record that comes first while pages are read moves all others: the last of a page comes again, and is counted."""
    here = world(endpoint(PAGINGS["page number"], record_key=("id",)))

    def insert(number: int) -> None:
        if number == 2:
            here.api.records.append({"id": 0, "name": "first"})

    here.api.before = insert
    assert here.fetch().repeated == 1
    assert here.ids() == [1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10]


def test_a_list_that_moves_faster_than_it_is_read_is_told(world: Callable[..., World]) -> None:
    """Read three times and moved each time: an error that says so, and nothing that counts."""
    here = world(endpoint(Offset(size=3), record_key=("id",)))
    numbers = iter(range(0, -100, -1))

    def insert(_: int) -> None:
        here.api.records.append({"id": next(numbers), "name": "first"})

    here.api.before = insert
    with pytest.raises(SourceChanged, match="have moved between its pages 1 and 2, each of 3 times"):
        here.fetch()
    assert here.ids() == []


def test_a_server_that_gives_fewer_than_asked_for_loses_nothing(world: Callable[..., World]) -> None:
    """The next page begins after what came, not after what was asked for."""
    here = world(endpoint(Offset(limit="wanted", size=100)))
    here.fetch()
    assert here.ids() == list(range(1, 11))


@pytest.mark.parametrize(
    ("paging", "key"),
    [(Offset(offset="skip", size=3), ()), (Offset(offset="skip", size=3), ("id",)), (PageNumber(page="side"), ())],
)
def test_a_parameter_that_the_api_does_not_know_is_told(
    world: Callable[..., World], paging: Paging, key: tuple[str, ...]
) -> None:
    """Otherwise the first page would be asked for again and again."""
    here = world(endpoint(paging, record_key=key))
    with pytest.raises(SourceChanged, match=r"page 2 is the same as page 1.*know the parameter '(skip|side)'"):
        here.fetch()


def test_what_says_that_there_is_more_is_told(world: Callable[..., World]) -> None:
    """Paging declared wrong takes the first page for all there is: the reply's own words are a sign."""
    here = world(endpoint(NextLink("nxt")))
    assert here.fetch().signs[0].endswith("and isn't followed")
    assert "its Link header names a next page" in here.fetch().signs[0]
    assert world(endpoint(PAGINGS["token"])).fetch().signs == ()


def test_far_fewer_records_than_the_time_before_are_told(world: Callable[..., World]) -> None:
    """They take the place of the others all the same: who looks at the check decides."""
    here = world(endpoint(PAGINGS["token"]), MemoryApi(records(20)))
    here.fetch()
    del here.api.records[5:]
    assert here.fetch().signs == ("5 records, 20 the time before",)


def test_pages_that_go_round_are_told(world: Callable[..., World]) -> None:
    """A server that ignores its own token would be asked for ever."""
    here = world(endpoint(PageToken(param="ignored", path="data.after")))
    with pytest.raises(SourceChanged, match="is one that came before"):
        here.fetch()


def test_a_list_without_end_is_told(world: Callable[..., World]) -> None:
    """More pages than anybody expected are no list any more."""
    here = world(endpoint(PAGINGS["token"], max_pages=2))
    with pytest.raises(SourceChanged, match="more than 2 pages"):
        here.fetch()


@pytest.mark.parametrize(
    ("format", "paging", "told"),
    [
        (Json("data.rows[*]"), None, "no records where they are declared, at 'data.rows\\[\\*\\]'.*no member 'rows'"),
        (Json("data[*]"), None, "'data' is no list but an object"),
        (None, PageToken(param="after", path="data.items"), "there is no text but"),
        (None, Offset(total="data.total"), "how many there are is declared under 'data.total', and there is None"),
    ],
)
def test_a_page_that_isn_t_as_declared_fails_and_is_no_empty_table(
    world: Callable[..., World], format: Json | None, paging: Paging | None, told: str
) -> None:
    """Nothing lands that counts, and the error says what is where."""
    here = world(endpoint(paging, format=format or Json("data.items[*]")))
    with pytest.raises(SourceChanged, match=told):
        here.fetch()
    assert here.ids() == []


class XmlApi(MemoryApi):
    """An API that answers with one document, whatever is asked."""

    document = b""

    def get(self, url: str, *, etag: str = "", last_modified: str = "", none_when: Collection[int] = ()) -> Reply:
        """Answer."""
        self.urls.append(url)
        return MemoryReply(200, {}, self.document, url, datetime.now(UTC))


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"<Envelope><Cube><Rate currency='USD'/></Cube></Envelope>", "Envelope/Cube has no <Day> (it has <Rate>)"),
        (b"<Envelope><message>later</message></Envelope>", "Envelope has no <Cube> (it has <message>)"),
        (b"<error/>", "its root is <error>, not <Envelope>"),
        (b"<Envelope><Cube/></Envelope>", ""),
    ],
)
def test_xml_without_records_is_told_from_xml_with_others_in_their_place(
    world: Callable[..., World], document: bytes, told: str
) -> None:
    """A list may be empty; elements of other names where the records were are a change."""
    here = world(endpoint(format=Xml(record="Envelope/Cube/Day")), XmlApi([]))
    here.api.document = document  # type: ignore[attr-defined]  # it is an `XmlApi`
    if not told:
        assert here.fetch().records == 0
        return
    with pytest.raises(SourceChanged) as caught:
        here.fetch()
    assert told in str(caught.value)


# --- cursors


def _moments(*minutes: int) -> list[dict[str, Any]]:
    return [{"id": minute, "at": f"2024-10-01T08:{minute:02}:00Z"} for minute in minutes]


def _following(**changes: Any) -> Endpoint:
    cursor = changes.pop("cursor", Cursor(field="at", begin="2024-10-01T00:00:00Z"))
    return endpoint(PAGINGS["token"], params={"since": "{cursor}"}, cursor=cursor, **changes)


def test_a_cursor_goes_on_after_the_furthest_value_that_landed(world: Callable[..., World]) -> None:
    """Each fetch asks from there, on the next day too, and lands what is new; all of them count."""
    here = world(_following(), MemoryApi(_moments(1, 2, 3, 4, 5)))
    assert here.fetch().cursor == "2024-10-01T08:05:00Z"
    here.api.records += _moments(6, 7)
    begun = len(here.api.urls)
    assert here.fetch().cursor == "2024-10-01T08:07:00Z"
    assert "since=2024-10-01T08%3A05%3A00Z" in here.api.urls[begun]
    assert here.ids() == [1, 2, 3, 4, 5, 5, 6, 7]
    here.api.records += _moments(8)
    assert here.fetch(DAY + timedelta(days=1)).cursor == "2024-10-01T08:08:00Z"
    assert here.ids(DAY + timedelta(days=1)) == [7, 8]


def test_nothing_new_after_a_cursor_lands_nothing(world: Callable[..., World]) -> None:
    """The same answer to the same question."""
    here = world(_following(), MemoryApi(_moments(1, 2)))
    assert here.fetch().has_landed
    assert here.fetch().has_landed
    before = keys(here.landing)
    assert not here.fetch().has_landed
    assert not here.fetch(DAY + timedelta(days=1)).has_landed
    assert keys(here.landing) == before


def test_a_fetch_killed_between_pages_does_not_move_the_cursor(world: Callable[..., World]) -> None:
    """What hasn't come to its end counts for nothing, so the next fetch asks from where the last whole one ended."""
    here = world(_following(), MemoryApi(_moments(*range(1, 9))))

    def die(number: int) -> None:
        if number == 2:
            raise Killed

    here.api.before = die
    with pytest.raises(Killed):
        here.fetch()
    here.api.before = lambda _: None
    assert here.fetch().resumed == 1
    assert here.ids() == list(range(1, 9))


def test_a_cursor_may_ask_again_for_what_came_last(world: Callable[..., World]) -> None:
    """Servers whose records become visible out of order are asked from some time before."""
    cursor = Cursor(field="at", begin="2024-10-01T00:00:00Z", overlap_seconds=120)
    here = world(_following(cursor=cursor), MemoryApi(_moments(1, 5)))
    here.fetch()
    here.api.records += _moments(4)
    begun = len(here.api.urls)
    here.fetch()
    assert "since=2024-10-01T08%3A03%3A00Z" in here.api.urls[begun]
    assert here.ids() == [1, 5, 4, 5]


def test_a_cursor_can_be_set_back_to_its_beginning(world: Callable[..., World]) -> None:
    """`restart` asks for everything again."""
    here = world(_following(), MemoryApi(_moments(1, 2)))
    here.fetch()
    here.api.records += _moments(3)
    assert here.fetch(restart=True).records == 3


def test_a_cursor_does_not_follow_a_clock_that_is_wrong(world: Callable[..., World]) -> None:
    """One record of the year 2999 would end it all: it lands, and the cursor stays with the others."""
    here = world(_following(), MemoryApi([*_moments(1, 2), {"id": 3, "at": "2999-01-01T00:00:00Z"}]))
    assert here.fetch().cursor == "2024-10-01T08:02:00Z"
    assert here.ids() == [1, 2, 3]
    here.api.records[:] = here.api.records[2:]
    with pytest.raises(SourceChanged, match="a moment at 'at' that isn't in the future"):
        here.fetch(restart=True)


def test_records_without_their_cursor_are_told(world: Callable[..., World]) -> None:
    """A cursor that is nowhere would ask for the same again for ever."""
    here = world(_following(cursor=Cursor(field="changed", begin="2024-10-01")), MemoryApi(_moments(1)))
    with pytest.raises(SourceChanged, match="none of 1 records has a moment at 'changed'"):
        here.fetch()


# --- while the API is down


def _down(_: int) -> None:
    raise SourceUnavailable("GET https://api.example.com/v1/things: 503 Service Unavailable, 5 times in 300 s")


def test_while_the_api_is_down_the_last_pages_stand_in_and_are_marked(world: Callable[..., World]) -> None:
    """The day has rows, each says that it is stale, and so does what is told; the API's own answer takes their place."""
    here = world(endpoint(PAGINGS["token"], fallback="last_known"))
    first = here.fetch()
    here.api.before = _down
    here.at = datetime(2024, 10, 2, 12, tzinfo=UTC)
    next_day = DAY + timedelta(days=1)
    fetched = here.fetch(next_day)
    assert fetched.stale_from == NOON + timedelta(seconds=1)
    assert "503 Service Unavailable" in fetched.problem
    assert here.rows(next_day, "id", "@is_stale") == [(str(one), "true") for one in range(1, 11)]
    assert here.rows(DAY, "@is_stale")[0] == ("false",)
    here.at = datetime(2024, 10, 3, 12, tzinfo=UTC)
    assert here.fetch(next_day + timedelta(days=1)).stale_from == first.ended_at
    here.api.before = lambda _: None
    fetched = here.fetch(next_day)
    assert (fetched.stale_from, fetched.has_landed) == (None, True)
    assert here.rows(next_day, "@is_stale")[0] == ("false",)


def test_what_stands_in_is_never_older_than_declared(world: Callable[..., World]) -> None:
    """Values of long ago are no last known values; what stands in for them doesn't make them younger."""
    here = world(endpoint(fallback="last_known", max_stale_days=2))
    here.fetch()
    here.api.before = _down
    for days in (1, 2):
        here.fetch(DAY + timedelta(days=days))
    with pytest.raises(SourceUnavailable, match="nothing has landed in the 2 days before"):
        here.fetch(DAY + timedelta(days=3))


def test_a_day_that_has_an_answer_keeps_it_while_the_api_is_down(world: Callable[..., World]) -> None:
    """It isn't replaced by a copy of itself."""
    here = world(endpoint(fallback="last_known"))
    here.fetch()
    before = keys(here.landing)
    here.api.before = _down
    assert here.fetch().stale_from is not None
    assert keys(here.landing) == before


def test_without_a_declared_fallback_it_fails(world: Callable[..., World]) -> None:
    """Nobody gets old values who didn't ask for them."""
    here = world(endpoint())
    here.fetch()
    here.api.before = _down
    with pytest.raises(SourceUnavailable):
        here.fetch(DAY + timedelta(days=1))


# --- what is asked


@pytest.mark.parametrize(
    ("param", "asked"),
    [
        ("{day}", "2024-10-01"),
        ("{day:%d.%m.%Y}", "01.10.2024"),
        ("{window_start}", "2024-10-01T00:00:00+02:00"),
        ("{window_end:epoch}", "1727820000"),
        ("{window_end:epoch_ms}", "1727820000000"),
        ("{window_last:%Y-%m-%dT%H:%M:%S}", "2024-10-01T23:59:59"),
        ("from {window_start:%H} on", "from 00 on"),
    ],
)
def test_a_day_is_asked_for_as_the_api_wants_it(world: Callable[..., World], param: str, asked: str) -> None:
    """Moments in the business time zone, or as a format says."""
    here = world(endpoint(params={"at": param}))
    here.fetch()
    assert here.api.urls == [here.api.url("/things", {"at": asked})]


def test_moments_are_written_in_the_api_s_time_zone(world: Callable[..., World]) -> None:
    """A business day begins on the day before in London."""
    here = world(endpoint(params={"from": "{window_start}"}, time_zone="Europe/London"))
    here.fetch()
    assert here.api.urls == [here.api.url("/things", {"from": "2024-09-30T23:00:00+01:00"})]


def test_values_in_a_path_can_t_leave_it(world: Callable[..., World]) -> None:
    """Whatever a row or a record holds, it stays one segment of the path."""
    from ingestion_platform.api import EachValue

    here = world(endpoint(path="/things/{id}", each=EachValue("id", ("a/../b", "c?d=e", "ü#"))))
    here.fetch(each=[{"id": value} for value in ("a/../b", "c?d=e", "ü#")])
    paths = sorted(url.partition("?")[0].rpartition("/")[2] for url in here.api.urls)
    assert paths == ["%C3%BC%23", "a%2F..%2Fb", "c%3Fd%3De"]
    with pytest.raises(SourceError, match=r"'\.\.' can't stand for \{id\}"):
        here.fetch(each=[{"id": ".."}])


def test_what_was_asked_with_is_beside_every_record(world: Callable[..., World]) -> None:
    """`@param.…`, the page, and an order of all records."""
    from ingestion_platform.api import EachValue

    here = world(
        endpoint(PAGINGS["token"], path="/things/{region}", each=EachValue("region", ("za", "ng"))),
        MemoryApi(records(4)),
    )
    here.fetch(each=[{"region": "za"}, {"region": "ng"}])
    rows = here.rows(DAY, "@param.region", "id", "@page")
    assert sorted(rows, key=str) == sorted(
        [(region, str(one), "1" if one < 4 else "2") for region in ("za", "ng") for one in range(1, 5)], key=str
    )
    positions = [one for (one,) in here.rows(DAY, "@position")]
    assert len(set(positions)) == 8


def test_two_that_are_asked_about_by_one_url_are_two_requests(world: Callable[..., World]) -> None:
    """Two stores at the same coordinates: each has its row; and nothing new lands when nothing has changed."""
    each = [{"store": "a", "lat": "1.5"}, {"store": "b", "lat": "1.5"}]
    declared = endpoint(params={"lat": "{lat}"}, each=EachRow("stores", {"store": "store", "lat": "lat"}))
    here = world(declared, MemoryApi(records(1)))
    assert here.fetch(each=each).requests == 2
    assert sorted(here.rows(DAY, "@param.store", "id")) == [("a", "1"), ("b", "1")]
    assert not here.fetch(each=each).has_landed


def test_a_fetch_without_requests_is_whole_and_replaces_what_was(world: Callable[..., World]) -> None:
    """When there is nothing left to ask about, the day is empty, not as it was."""
    here = world(endpoint())
    here.fetch()
    assert here.fetch(each=[]).has_landed
    assert here.ids() == []


# --- what may lie in the landing zone


def test_a_note_that_isn_t_one_is_told_with_its_key(world: Callable[..., World]) -> None:
    """Somebody's own file below the platform's names."""
    here = world()
    name = here.fetch().name
    here.landing.put_if_absent(f"apis/things/2024/10/02/{name}/done-0.json", b"{}")
    with pytest.raises(LandingError, match="is no note of a fetch"):
        here.fetch(DAY + timedelta(days=1))


def test_foreign_keys_count_for_nothing(world: Callable[..., World]) -> None:
    """What isn't named as the platform names it isn't looked at."""
    here = world()
    here.fetch()
    for key in (
        "readme.txt",
        "x/00001.parquet",
        "20240101T000000000000Z-abcdef/zero.parquet",
        "20249901T000000000000Z-abcdef/00001.parquet",
    ):
        here.landing.put_if_absent(f"apis/things/2024/10/01/{key}", b"x")
    assert here.ids() == list(range(1, 11))[:3]


def test_a_fetch_that_lost_a_group_does_not_count(world: Callable[..., World], tmp_path: Path) -> None:
    """Somebody deleted a group: the fetch before it counts, rather than half of one."""
    here = world(endpoint(PAGINGS["token"]))
    here.fetch()
    here.api.records[0]["name"] = "another"
    second = here.fetch().name
    for file in tmp_path.rglob(f"{second}/00001.parquet"):
        file.unlink()
    assert here.rows(DAY, "id", "name")[0] == ("1", "thing 1")


def test_notes_hold_what_it_took(world: Callable[..., World]) -> None:
    """Requests and records, for whoever looks into the landing zone."""
    here = world(endpoint(PAGINGS["token"]))
    fetched = here.fetch()
    landed = LandedEndpoint(here.endpoint, here.landing)
    fetch = landed.last_whole(DAY)
    assert fetch is not None
    assert fetch.done is not None
    note = json.loads(landed.content(fetch.done))
    assert (note["records"], note["asked"]["requests"], note["day"]) == (10, 4, "2024-10-01")
    assert fetch.name == fetched.name


def test_page_number_reads_to_the_number_of_pages_that_the_reply_says(world: Callable[..., World]) -> None:
    """Then no page is asked for only to find it empty."""
    here = world(endpoint(PageNumber(size_param="limit", size=10, pages="total")), MemoryApi(records(1)))
    here.fetch()
    assert len(here.api.urls) == 1
