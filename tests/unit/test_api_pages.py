"""Pages of ListVectors and QueryVectors, and their tokens."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neve.api.queries as queries
from neve.api.limits import LIMITS
from neve.api.pages import SearchCache, SearchId
from neve.api.tokens import Position, Tokens
from neve.errors import PageTokenInvalid
from neve.query.hits import Hits
from neve.query.listing import Cursor
from tests.catalogue.cases import LIBRARY, SHAPE, WORDS
from tests.unit.api_calls import Calls, calls_on

ROWS = 250
QUERY = {**WORDS, "topK": 230, "queryVector": {"float32": [1, 0, 0, 0]}, "returnDistance": True, "returnMetadata": True}


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls = calls_on()
    calls("CreateVectorBucket", **LIBRARY)
    calls("CreateIndex", **WORDS, **SHAPE)
    calls("PutVectors", **WORDS, vectors=[_vector(number) for number in range(ROWS)])
    yield calls
    calls.runtime.close()


def _vector(number: int) -> dict[str, object]:
    return {"key": f"k{number}", "data": {"float32": [1, number / 100, 0, 0]}, "metadata": {"n": number}}


def _all(calls: Calls, operation: str, members: dict[str, object]) -> list[list[dict[str, Any]]]:
    pages = []
    token: dict[str, object] = {}
    while True:
        page = calls(operation, **members, **token)
        pages.append(page["vectors"])
        if "nextToken" not in page:
            return pages
        token = {"nextToken": page["nextToken"]}


def test_a_listing_shows_every_key_once(calls: Calls) -> None:
    pages = _all(calls, "ListVectors", {**WORDS, "maxResults": 60})
    assert [len(page) for page in pages] == [60, 60, 60, 60, 10]
    assert sorted(row["key"] for page in pages for row in page) == sorted(f"k{number}" for number in range(ROWS))
    assert len(_all(calls, "ListVectors", WORDS)) == 1


def test_segments_are_disjoint_and_whole(calls: Calls) -> None:
    keys = []
    for segment in range(16):
        members = {**WORDS, "maxResults": 7, "segmentCount": 16, "segmentIndex": segment}
        keys += [row["key"] for page in _all(calls, "ListVectors", members) for row in page]
    assert sorted(keys) == sorted(f"k{number}" for number in range(ROWS))
    alone = _all(calls, "ListVectors", {**WORDS, "segmentCount": 1, "segmentIndex": 0})
    assert alone == _all(calls, "ListVectors", WORDS)


def test_a_token_of_a_listing_holds_for_its_segment_and_index_only(calls: Calls) -> None:
    segment = {**WORDS, "segmentCount": 2, "segmentIndex": 0}
    token = calls("ListVectors", **segment, maxResults=1)["nextToken"]
    assert calls("ListVectors", **segment, nextToken=token, returnData=True)["vectors"]
    for other in (WORDS, {**segment, "segmentIndex": 1}, {**segment, "segmentCount": 3}):
        assert calls.refused("ListVectors", {**other, "nextToken": token}).message == "Invalid page token"
    calls("DeleteIndex", **WORDS)
    calls("CreateIndex", **WORDS, **SHAPE)
    assert calls.refused("ListVectors", {**segment, "nextToken": token}).message == "Invalid page token"


def test_a_page_is_bounded_in_bytes() -> None:
    calls = calls_on()
    calls("CreateVectorBucket", **LIBRARY)
    calls(
        "CreateIndex",
        **{**WORDS, **SHAPE, "dimension": 4096},
        metadataConfiguration={"nonFilterableMetadataKeys": ["raw"]},
    )
    rng = np.random.default_rng(1)
    for start in range(0, 100, 25):
        vectors = [
            {
                "key": "é" * 500 + str(number),
                "data": {"float32": rng.normal(size=4096).astype(np.float32).astype(float).tolist()},
                "metadata": {"raw": "é" * 20_000},
            }
            for number in range(start, start + 25)
        ]
        calls("PutVectors", **WORDS, vectors=vectors)
    for returns in ({"returnData": True}, {"returnMetadata": True}, {"returnData": True, "returnMetadata": True}):
        pages = _all(calls, "ListVectors", {**WORDS, **returns})
        assert len(pages) > 1
        assert len({row["key"] for page in pages for row in page}) == sum(map(len, pages)) == 100
        token, limit = {}, LIMITS["aws"].list_page_bytes
        for _ in pages:
            page = calls("ListVectors", **WORDS, **returns, **token)
            assert len(orjson.dumps(page)) < limit * 1.1
            token = {"nextToken": page.get("nextToken")}
    calls.runtime.close()


def test_a_query_is_answered_in_pages_of_one_search(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    search = queries.search
    monkeypatch.setattr(queries, "search", lambda *asked: searches.append(asked) or search(*asked))
    pages = _all(calls, "QueryVectors", QUERY)
    assert [len(page) for page in pages] == [100, 100, 30]
    assert [row["key"] for page in pages for row in page] == [f"k{number}" for number in range(230)]
    assert len(searches) == 1


def test_up_to_a_hundred_come_in_one_page(calls: Calls) -> None:
    page = calls("QueryVectors", **{**QUERY, "topK": 100})
    assert len(page["vectors"]) == 100
    assert "nextToken" not in page
    page = calls("QueryVectors", **{**QUERY, "topK": 101, "filter": {"n": {"$lt": 100}}})
    assert len(page["vectors"]) == 100
    assert "nextToken" not in page


@pytest.mark.parametrize("cached", [True, False])
def test_pages_show_the_state_of_the_first(calls: Calls, cached: bool) -> None:
    expected = [row for page in _all(calls, "QueryVectors", QUERY) for row in page]
    page = calls("QueryVectors", **QUERY)
    rows = page["vectors"]
    calls("PutVectors", **WORDS, vectors=[{"key": "nearest", "data": {"float32": [1, 0, 0, 0]}}])
    calls("DeleteVectors", **WORDS, keys=["k150"])
    elsewhere = calls if cached else calls_on(store=calls.service.database.store)
    while "nextToken" in page:
        page = elsewhere("QueryVectors", **QUERY, nextToken=page["nextToken"])
        rows += page["vectors"]
    assert rows == expected


def test_a_token_of_a_query_holds_for_that_query_only(calls: Calls) -> None:
    token = calls("QueryVectors", **QUERY)["nextToken"]
    for other in (
        {"topK": 231},
        {"queryVector": {"float32": [1, 0, 0, 0.5]}},
        {"filter": {"n": {"$gte": 0}}},
        {"returnDistance": False},
        {"returnMetadata": False},
        {"queryMode": "ENHANCED"},
    ):
        assert calls.refused("QueryVectors", {**QUERY, **other, "nextToken": token}).message == "Invalid page token"
    assert len(calls("QueryVectors", **QUERY, nextToken=token)["vectors"]) == 100


def test_a_token_of_a_query_holds_for_an_hour(calls: Calls) -> None:
    token = calls("QueryVectors", **QUERY)["nextToken"]
    calls.runtime.ahead_s = 3500
    later = calls("QueryVectors", **QUERY, nextToken=token)["nextToken"]
    calls.runtime.ahead_s = 3700
    for old in (token, later):
        assert calls.refused("QueryVectors", {**QUERY, "nextToken": old}).message == "Invalid page token"


def test_a_token_does_not_outlive_its_index(calls: Calls) -> None:
    token = calls("QueryVectors", **QUERY)["nextToken"]
    calls("DeleteIndex", **WORDS)
    assert calls.refused("QueryVectors", {**QUERY, "nextToken": token}).code == "NotFoundException"
    calls("CreateIndex", **WORDS, **SHAPE)
    assert calls.refused("QueryVectors", {**QUERY, "nextToken": token}).message == "Invalid page token"


def test_tokens_fit_the_model() -> None:
    tokens = Tokens("0" * 32)
    assert len(tokens.of_cursor(Cursor(2**64 - 1, "é" * 512))) <= 2048
    assert len(tokens.of_name("n" * 63)) <= 512
    assert len(tokens.of_position(Position("f" * 32, 2**62, 2**62, 2**64 - 1, 1e10, 10**5))) <= 4096


@given(st.text(max_size=64), st.integers(0, 2**64 - 1), st.text(max_size=5))
def test_tokens_come_back(key: str, hash_: int, belonging: str) -> None:
    tokens = Tokens("a")
    cursor = Cursor(hash_, key)
    token = tokens.of_cursor(cursor, belonging, 1)
    assert tokens.cursor(token, belonging, 1) == cursor
    for reader, other in ((tokens, belonging + "x"), (Tokens("b"), belonging)):
        with pytest.raises(PageTokenInvalid):
            reader.cursor(token, other, 1)


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_text_is_no_token(text: str) -> None:
    tokens = Tokens("a")
    for read in (tokens.name, tokens.cursor, tokens.position):
        with pytest.raises(PageTokenInvalid):
            read(text)


def test_every_change_of_a_token_is_seen() -> None:
    tokens = Tokens("a")
    token = tokens.of_position(Position("uid", 1, 2, 5, 3.0, 4), "q")
    for place in range(len(token)):
        for other in "AB_":
            changed = token[:place] + other + token[place + 1 :]
            if changed != token:
                with pytest.raises(PageTokenInvalid):
                    tokens.position(changed, "q")
    for changed in (token + "=", token + "A", token[:-1], " " + token):
        with pytest.raises(PageTokenInvalid):
            tokens.position(changed, "q")


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = SearchCache(capacity_bytes=1000)
    ids = [SearchId("u", 1, number, "d") for number in range(3)]
    hits = Hits(np.zeros(1, np.float32), [(b"k" * 10, b"m" * 40)])  # 450 bytes
    for search in ids:
        cache.put(search, hits)
        cache.get(ids[0])
    assert [cache.get(search) is hits for search in ids] == [True, False, True]
    cache.put(ids[1], Hits(np.zeros(1, np.float32), [(b"k", b"m" * 2000)]))
    assert cache.get(ids[1]) is None
    for _ in range(5):
        cache.put(ids[0], hits)
    assert cache.get(ids[2]) is hits
