"""Count, list, delete and patch by filter and prefix, and a query's greatest distance, on all kinds of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neve.api import selections
from neve.api.faults import Fault, fault
from neve.api.options import CallOptions, call_options
from neve.api.render import extras
from neve.errors import NeveError
from neve.query import listing, selection
from neve.segments.rows import hash_key
from tests.compacting import short_calibrations
from tests.unit.api_calls import Calls
from tests.unit.compacted_index import ADDRESS, COMPACTED, DIMENSION, compacted_calls, rows_of, state_of

FILTERS: list[tuple[dict[str, object] | None, Callable[[Mapping[str, Any]], bool]]] = [
    (None, lambda _: True),
    ({"third": True}, lambda metadata: metadata["third"]),
    ({"version": {"$gte": 1}}, lambda metadata: metadata["version"] >= 1),
    ({"$and": [{"version": 2}, {"third": False}]}, lambda m: m["version"] == 2 and not m["third"]),
    ({"nothing": {"$exists": True}}, lambda _: False),
]
PREFIXES = ["", "key-", "key-1", "key-149", "key-1500", "lock-"]


@pytest.fixture(scope="module", params=["cosine", "euclidean"])
def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """An index that no test changes."""
    with short_calibrations(60), compacted_calls(tmp_path_factory.mktemp("work"), request.param) as calls:
        yield calls


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Calls]:
    """An index to change."""
    with short_calibrations(), compacted_calls(tmp_path) as calls:
        yield calls


def selected(calls: Calls, meets: Callable[[Mapping[str, Any]], bool], prefix: str = "") -> list[str]:
    """Keys by the plain listing, in hash order."""
    rows = rows_of(calls)
    keys = (key for key, (_, metadata) in rows.items() if key.startswith(prefix) and meets(metadata))
    return sorted(keys, key=lambda key: hash_key(key.encode()))


def options(**texts: str) -> CallOptions:
    return call_options(texts)


def asked(document: object, prefix: str) -> CallOptions:
    """The options of a listing, as headers give them."""
    texts = {"filter": json.dumps(document)} if document is not None else {}
    return options(**texts, **({"prefix": prefix} if prefix else {}))


def refusal(call: Callable[[], object]) -> Fault:
    """What a call is refused with."""
    try:
        answer = call()
    except NeveError as error:
        return fault(error)
    raise AssertionError(f"accepted: {answer}")


def all_pages(calls: Calls, chosen: CallOptions, **members: object) -> list[dict[str, Any]]:
    pages = [calls("ListVectors", chosen, **ADDRESS, **members)]
    while (token := pages[-1].get("nextToken")) is not None:
        pages.append(calls("ListVectors", chosen, **ADDRESS, **members, nextToken=token))
    return pages


def keys_of(pages: list[dict[str, Any]]) -> list[str]:
    return [vector["key"] for page in pages for vector in page["vectors"]]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("document", "meets"), FILTERS)
def test_counts_and_listings_are_of_the_selected_rows(
    calls: Calls, document: object, meets: Callable[[Mapping[str, Any]], bool], prefix: str
) -> None:
    expected = selected(calls, meets, prefix)
    members = {"filter": document} | ({"prefix": prefix} if prefix else {})
    assert calls("CountVectors", **ADDRESS, **members) == {"count": len(expected)}
    for size in (101, 1000):
        assert keys_of(all_pages(calls, asked(document, prefix), maxResults=size)) == expected
    segments = [
        keys_of(all_pages(calls, asked(document, prefix), maxResults=400, segmentCount=3, segmentIndex=segment))
        for segment in range(3)
    ]
    assert list(chain(*segments)) == expected


def test_a_listing_shows_what_it_is_asked_for(calls: Calls) -> None:
    rows = rows_of(calls)
    pages = all_pages(calls, asked({"version": 1}, "key-1"), maxResults=20, returnData=True, returnMetadata=True)
    shown = [vector for page in pages for vector in page["vectors"]]
    assert len(shown) > 20
    for vector in shown:
        data, metadata = rows[vector["key"]]
        assert vector["data"]["float32"] == data.astype(float).tolist()
        assert vector["metadata"] == metadata


def test_pages_end_early_where_little_is_found_and_nothing_is_lost(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = selected(calls, lambda _: True, "key-149")
    monkeypatch.setattr(listing, "BLOCKS_A_PAGE", 1)
    monkeypatch.setattr(selection, "BLOCKS_AT_ONCE", 1)
    pages = all_pages(calls, asked(None, "key-149"))
    assert keys_of(pages) == expected
    blocks = [compacted.directory.key_blocks for compacted in state_of(calls).compacted]
    assert max(blocks) <= len(pages) <= sum(blocks)
    assert calls("CountVectors", **ADDRESS, prefix="key-149") == {"count": len(expected)}


def test_a_page_token_is_bound_to_filter_and_prefix(calls: Calls) -> None:
    chosen = asked({"third": True}, "key-1")
    token = calls("ListVectors", chosen, **ADDRESS, maxResults=1)["nextToken"]
    calls("ListVectors", asked({"third": {"$eq": True}}, "key-1"), **ADDRESS, nextToken=token)
    for other in (asked({"third": False}, "key-1"), asked({"third": True}, "key-2"), asked(None, ""), asked(None, "k")):
        found = refusal(partial(calls, "ListVectors", other, **ADDRESS, nextToken=token))
        assert (found.code, found.message) == ("ValidationException", "Invalid page token")


def test_a_count_of_everything_reads_only_the_key_blocks_that_recent_keys_fall_into(calls: Calls) -> None:
    state, compacted = state_of(calls), calls("CountVectors", **ADDRESS)
    assert compacted == {"count": COMPACTED - 20 + 10}
    assert compacted["count"] < state.live_rows, "the state counts hidden rows"
    result = calls.service.call("CountVectors", ADDRESS, CallOptions(explain=True))
    told = extras(result)["explain"]
    assert isinstance(told, dict)
    assert (told["waves"], told["requests"]) == (1, 3), "they were in memory"


class TestDistance:
    def near(self, calls: Calls, **texts: str) -> list[dict[str, Any]]:
        members = {**ADDRESS, "topK": 1400, "queryVector": {"float32": [1.0] * DIMENSION}, "returnDistance": True}
        pages = [calls("QueryVectors", options(**texts), **members)]
        while (token := pages[-1].get("nextToken")) is not None:
            pages.append(calls("QueryVectors", options(**texts), **members, nextToken=token))
        assert all(len(page["vectors"]) == 1000 for page in pages[:-1])
        return [hit for page in pages for hit in page["vectors"]]

    def test_hits_farther_than_asked_are_left_out(self, calls: Calls) -> None:
        hits = self.near(calls)
        for rank in (0, 3, 99, 1200):
            distance = hits[rank]["distance"]
            expected = [hit for hit in hits if hit["distance"] <= distance]
            assert self.near(calls, distance=repr(distance)) == expected
            below = float(np.nextafter(distance, 0))
            assert self.near(calls, distance=repr(below)) == [hit for hit in hits if hit["distance"] < distance]
        assert self.near(calls, distance="1e308") == hits
        assert self.near(calls, distance="0") == []

    def test_top_k_bounds_still(self, calls: Calls) -> None:
        members = {**ADDRESS, "topK": 3, "queryVector": {"float32": [1.0] * DIMENSION}}
        assert len(calls("QueryVectors", options(distance="1000"), **members)["vectors"]) == 3

    def test_a_page_token_is_bound_to_it(self, calls: Calls) -> None:
        members = {**ADDRESS, "topK": 1400, "queryVector": {"float32": [1.0] * DIMENSION}}
        token = calls("QueryVectors", options(distance="1000"), **members)["nextToken"]
        for other in (CallOptions(), options(distance="999")):
            found = refusal(partial(calls, "QueryVectors", other, **members, nextToken=token))
            assert found.message == "Invalid page token"


class TestDelete:
    def test_what_matches_is_deleted(self, fresh: Calls) -> None:
        before = rows_of(fresh)
        doomed = [key for key, (_, metadata) in before.items() if metadata["version"] >= 1 and metadata["third"]]
        document = {"$and": [{"version": {"$gte": 1}}, {"third": True}]}
        assert fresh("DeleteVectorsByFilter", **ADDRESS, filter=document, dryRun=True) == {"deleted": len(doomed)}
        assert len(rows_of(fresh)) == len(before)
        assert fresh("DeleteVectorsByFilter", **ADDRESS, filter=document) == {"deleted": len(doomed)}
        assert set(rows_of(fresh)) == set(before) - set(doomed)
        assert fresh("DeleteVectorsByFilter", **ADDRESS, filter=document) == {"deleted": 0}

    def test_a_batch_is_an_entry(self, fresh: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(selections, "DELETED_AT_ONCE", 100)
        before, matching = state_of(fresh), selected(fresh, lambda metadata: metadata["third"])
        assert fresh("DeleteVectorsByFilter", **ADDRESS, filter={"third": True}) == {"deleted": len(matching)}
        tail = state_of(fresh).tail[len(before.tail) :]
        sizes = [len(entry.batch.deleted) for entry in tail]
        assert sizes == [100] * (len(matching) // 100) + [len(matching) % 100]
        assert selected(fresh, lambda metadata: metadata["third"]) == []

    def test_what_matches_nothing_writes_nothing(self, fresh: Calls) -> None:
        before = state_of(fresh).position
        for times in range(2):
            assert fresh("DeleteVectorsByFilter", **ADDRESS, filter={"version": 9 + times}) == {"deleted": 0}
        assert state_of(fresh).position == before


class TestPatch:
    def test_members_are_set_and_removed_and_vectors_stay(self, fresh: Calls) -> None:
        """Of a compacted, a masked and overwritten, and two recent rows."""
        before = rows_of(fresh)
        keys = ["key-7", "key-10", "key-25", "key-1505"]
        patches = [{"key": key, "metadata": {"third": None, "absent": None, "tag": ["a", key]}} for key in keys]
        assert fresh("PatchMetadata", **ADDRESS, vectors=patches) == {}
        after = rows_of(fresh)
        for key in keys:
            assert after[key][0].tobytes() == before[key][0].tobytes()
            assert after[key][1] == {"version": before[key][1]["version"], "tag": ["a", key]}
        assert {key: after[key][1] for key in set(after) - set(keys)} == {
            key: before[key][1] for key in set(before) - set(keys)
        }
        assert fresh("CountVectors", **ADDRESS, filter={"tag": "a"}) == {"count": 4}

    def test_replace(self, fresh: Calls) -> None:
        fresh("PatchMetadata", **ADDRESS, vectors=[{"key": "key-7", "metadata": {"a": 2**60 + 1}}], mode="replace")
        fresh("PatchMetadata", **ADDRESS, vectors=[{"key": "key-8", "metadata": {}}], mode="replace")
        rows = rows_of(fresh)
        assert (rows["key-7"][1], rows["key-8"][1]) == ({"a": 2**60 + 1}, {})

    def test_all_or_none(self, fresh: Calls) -> None:
        before = state_of(fresh).position
        patches = [{"key": key, "metadata": {"x": 1}} for key in ("key-7", "absent", "key-8", "key-1", "gone")]
        found = fresh.refused("PatchMetadata", {**ADDRESS, "vectors": patches})
        assert (found.code, found.status) == ("ValidationException", 400)
        assert found.message == "Invalid record for key 'absent': the index has no vector with this key"
        assert [field.path for field in found.fields] == ["vectors[1].key", "vectors[3].key", "vectors[4].key"]
        assert state_of(fresh).position == before

    def test_limits_are_those_of_the_result(self, fresh: Calls) -> None:
        """Of the wide profile: 500 keys, 65,536 filterable bytes."""
        many = {f"k{number}": number for number in range(498)}
        fresh("PatchMetadata", **ADDRESS, vectors=[{"key": "key-7", "metadata": many}])
        for patch, problem in (
            ({"one": 1}, "Metadata object must have at most 500 keys"),
            ({"k1": "x" * 65536}, "Filterable metadata must have at most 65536 bytes"),
            ({"k1": {"a": 1}}, "Metadata values must be strings, numbers, booleans, or arrays"),
            ({"k1": []}, "Empty arrays are not allowed in metadata"),
            ({"k1": [1, "a"]}, "Metadata array values must be strings or numbers"),
            ("text", "Metadata must be an object"),
            (7, "Metadata must be an object"),
        ):
            vectors = [{"key": "key-8", "metadata": {}}, {"key": "key-7", "metadata": patch}]
            found = fresh.refused("PatchMetadata", {**ADDRESS, "vectors": vectors})
            assert found.message == f"Invalid record for key 'key-7': {problem}"
            assert [(field.path, field.message) for field in found.fields] == [("vectors[1].metadata", problem)]
        fresh("PatchMetadata", **ADDRESS, vectors=[{"key": "key-7", "metadata": {"one": 1, "k0": None}}])
        assert len(rows_of(fresh)["key-7"][1]) == 500

    def test_a_repeat_of_a_call_is_answered(self, fresh: Calls) -> None:
        call = CallOptions(invocation="i")
        patch = [{"key": "key-7", "metadata": {"n": 1}}]
        fresh("PatchMetadata", call, **ADDRESS, vectors=patch)
        fresh("PatchMetadata", **ADDRESS, vectors=[{"key": "key-7", "metadata": {"n": 2}}])
        assert fresh("PatchMetadata", call, **ADDRESS, vectors=patch) == {}
        assert rows_of(fresh)["key-7"][1]["n"] == 2
        fresh("DeleteVectors", **ADDRESS, keys=["key-7"])
        assert fresh("PatchMetadata", call, **ADDRESS, vectors=patch) == {}


KEYS_TOO_LONG = "é" * 600
NULL = "1 validation error detected. Value at '/{}' failed to satisfy constraint: Member must not be null"


@pytest.mark.parametrize(
    ("operation", "members", "message", "paths"),
    [
        ("CountVectors", {"filter": {}}, "Invalid filter", ["filter"]),
        ("CountVectors", {"filter": {"a": {"$near": 1}}}, "Invalid filter", ["filter"]),
        ("DeleteVectorsByFilter", {}, NULL.format("filter"), ["/filter"]),
        ("DeleteVectorsByFilter", {"filter": None}, NULL.format("filter"), ["/filter"]),
        ("DeleteVectorsByFilter", {"filter": {}}, "Invalid filter", ["filter"]),
        ("DeleteVectorsByFilter", {"filter": []}, "Invalid filter", ["filter"]),
        ("DeleteVectorsByFilter", {"filter": False}, "Invalid filter", ["filter"]),
        ("DeleteVectorsByFilter", {"filter": {}, "dryRun": True}, "Invalid filter", ["filter"]),
        ("PatchMetadata", {}, NULL.format("vectors"), ["/vectors"]),
        ("PatchMetadata", {"vectors": [{"key": "a"}]}, NULL.format("vectors/0/metadata"), ["/vectors/0/metadata"]),
        (
            "PatchMetadata",
            {"vectors": [{"key": "a", "metadata": {}}, {"key": "a", "metadata": {}}]},
            "Request must not contain duplicate keys",
            ["vectors"],
        ),
        (
            "PatchMetadata",
            {"vectors": [{"key": KEYS_TOO_LONG, "metadata": {}}]},
            "Record key length exceeds the maximum allowed",
            ["vectors[0].key"],
        ),
        (
            "PatchMetadata",
            {"vectors": [], "mode": "erase"},
            "2 validation errors detected. Value with length 0 at '/vectors' failed to satisfy constraint: Member must "
            "have length between 1 and 500, inclusive; Value at '/mode' failed to satisfy constraint: Member must "
            "satisfy enum value set: [merge, replace]",
            ["/vectors", "/mode"],
        ),
    ],
)
def test_what_is_refused(
    calls: Calls, operation: str, members: Mapping[str, object], message: str, paths: list[str]
) -> None:
    found = calls.refused(operation, {**ADDRESS, **members})
    assert (found.code, found.status, found.message) == ("ValidationException", 400, message)
    assert [field.path for field in found.fields] == paths


@pytest.mark.parametrize("operation", ["CountVectors", "DeleteVectorsByFilter", "PatchMetadata"])
def test_an_index_must_be_there(calls: Calls, operation: str) -> None:
    members = {"filter": {"a": 1}, "vectors": [{"key": "a", "metadata": {}}]}
    found = calls.refused(operation, {"vectorBucketName": "library", "indexName": "absent", **members})
    assert (found.code, found.message) == ("NotFoundException", "The specified index could not be found")


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("filter", "", "filter must be JSON in ASCII, any other character written as \\uXXXX"),
        ("filter", '{"a": "é"}', "filter must be JSON in ASCII, any other character written as \\uXXXX"),
        ("filter", "{'a': 1}", "filter must be JSON in ASCII, any other character written as \\uXXXX"),
        ("filter", "null", "Invalid filter"),
        *[
            ("prefix", text, "prefix must be 1 to 1024 bytes of UTF-8, percent-encoded")
            for text in ("", " a", "é", "100%", "%4", "%zz", "%FF", "%C3", "a" * 1025, "%61" * 1025, "a\n")
        ],
        *[
            ("distance", text, "distance must be a finite number of at least 0")
            for text in ("", "-1e-9", "nan", "inf", "-inf", "1e400", "near")
        ],
    ],
)
def test_options_that_are_refused(option: str, text: str, message: str) -> None:
    found = refusal(lambda: options(**{option: text}))
    assert (found.code, found.message) == ("ValidationException", message)
    assert [(field.path, field.message) for field in found.fields] == [(option, message)]


def test_a_prefix_is_percent_encoded() -> None:
    assert options(prefix="a%2Fb/c+%C3%A9%25").prefix == "a/b/c+é%"
    assert options(prefix="%61" * 1024).prefix == "a" * 1024


def test_a_filter_in_a_header_is_a_filter(calls: Calls) -> None:
    for text in ("{}", "[]", "7", '{"a": {"$near": 1}}', '{"a": 1, "b": 2}'):
        assert refusal(partial(calls, "ListVectors", options(filter=text), **ADDRESS)).message == "Invalid filter"


@pytest.mark.parametrize(
    ("option", "text", "meant"),
    [("filter", "{}", "ListVectors"), ("prefix", "a", "ListVectors"), ("distance", "0", "QueryVectors")],
)
def test_options_are_refused_where_they_mean_nothing(calls: Calls, option: str, text: str, meant: str) -> None:
    for operation in {"ListVectors", "QueryVectors", "DeleteVectors", "CountVectors", "GetIndex"} - {meant}:
        found = refusal(partial(calls, operation, options(**{option: text}), **ADDRESS))
        assert found.message == f"{option} is an option of {meant} only"


def test_a_bounded_count_may_be_old(fresh: Calls) -> None:
    bounded = options(consistency="bounded;seconds=60")
    before = fresh("CountVectors", bounded, **ADDRESS)
    assert fresh("CountVectors", CallOptions(), **ADDRESS) == before
    result = fresh.service.call(
        "CountVectors", ADDRESS, call_options({"consistency": "bounded;seconds=60", "explain": "true"})
    )
    told = extras(result)["explain"]
    assert isinstance(told, dict)
    assert told["requests"] == 0
