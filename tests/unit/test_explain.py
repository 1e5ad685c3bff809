"""Explanations: what a call says that it did is what it did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neve.api.options import CallOptions
from neve.api.render import extras
from neve.segments.layout import code_row
from neve.store import prices
from neve.store.counting import CountingStore
from neve.store.objects import memory_store
from neve.store.tiers import Tiers
from tests.unit.api_calls import Calls
from tests.unit.compacted_index import ADDRESS, DIMENSION, calls_of, compacted_calls, state_of

QUERY = {**ADDRESS, "topK": 10, "queryVector": {"float32": [1.0] * DIMENSION}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingStore]:
    """A store with an index of all kinds of rows."""
    counting = CountingStore(memory_store())
    with compacted_calls(tmp_path_factory.mktemp("work"), store=counting):
        yield counting


@pytest.fixture
def calls(store: CountingStore) -> Iterator[Calls]:
    with calls_of(store) as calls:
        yield calls


def explained(
    calls: Calls, operation: str = "QueryVectors", recall: float | None = None, **members: object
) -> dict[str, Any]:
    """What a call tells; that of QUERY with some other members unless another operation is named."""
    asked = QUERY | members if operation == "QueryVectors" else members
    result = calls.service.call(operation, asked, CallOptions(recall=recall, explain=True))
    told = extras(result)["explain"]
    assert isinstance(told, dict)
    return told


def test_the_bill_is_the_stores(calls: Calls, store: CountingStore) -> None:
    for _ in range(2):  # cold, then warm
        store.new_bill()
        told = explained(calls)
        billed = store.new_bill()
        assert (told["waves"], told["requests"]) == (len(billed.waves), billed.requests)
        assert told["store"]["bytes"] == billed.bytes_read
        assert told["dollars"] == pytest.approx(billed.dollars)
    assert (told["waves"], told["requests"], told["dollars"]) == (1, 3, pytest.approx(3 * prices.GET))


def test_cold_blocks_come_from_the_store_and_warm_ones_from_memory(calls: Calls) -> None:
    cold, warm = explained(calls), explained(calls)
    assert cold["memory"] == {"blocks": 0, "bytes": 0}
    assert warm["store"]["blocks"] == 0
    assert 0 < warm["memory"]["blocks"] <= cold["store"]["blocks"], "of records only those that are shown"
    assert warm["disk"] == cold["disk"] == {"blocks": 0, "bytes": 0}


def test_bytes_in_memory_are_those_of_the_blocks_as_stored(calls: Calls) -> None:
    explained(calls, recall=0.9)
    told = explained(calls, recall=0.9)
    assert told["plan"] == "lists"
    lists = told["rowsScored"] * code_row(DIMENSION).itemsize
    vectors = told["candidates"] * 4 * DIMENSION
    shown = told["memory"]["blocks"] - told["lists"] - told["candidates"]
    assert QUERY["topK"] <= shown <= told["candidates"], "records of hits, and of rows that a recent key may hide"
    assert 0.5 < (told["memory"]["bytes"] - lists - vectors) / (40 * shown) < 2


def test_a_disk_is_a_tier_of_its_own(store: CountingStore, tmp_path: Path) -> None:
    told = []
    for _ in range(2):
        with calls_of(store, Tiers(1 << 30, str(tmp_path), 1 << 30)) as calls:
            told.append(explained(calls))
    first, second = told
    assert second["disk"]["blocks"] == first["store"]["blocks"] > 0
    assert second["store"]["blocks"] == 0


def test_what_a_search_did(calls: Calls) -> None:
    state = state_of(calls)
    told = explained(calls)
    assert told["recall"] == 0.98
    assert told["recentRows"] == sum(len(part.rows) for part in state.parts)
    assert 0 < told["lists"] <= told["listsTotal"] == sum(c.directory.lists for c in state.compacted)
    assert 10 <= told["candidates"] <= told["rowsScored"]
    assert told["milliseconds"] > 0


@pytest.mark.parametrize(
    ("members", "recall", "plan"),
    [
        ({}, 0.9, "lists"),
        ({}, 1.0, "exhaustive"),
        ({"filter": {"version": 1}}, None, "matches"),
        ({"topK": 1500}, None, "every list"),
    ],
)
def test_plans(calls: Calls, members: dict[str, object], recall: float | None, plan: str) -> None:
    assert explained(calls, recall=recall, **members)["plan"] == plan


def test_a_later_page_is_held(calls: Calls) -> None:
    token = calls("QueryVectors", **{**QUERY, "topK": 1400})["nextToken"]
    told = explained(calls, topK=1400, nextToken=token)
    assert (told["plan"], told["lists"], told["candidates"]) == ("held", 0, 0)


def test_any_operation_can_be_explained(calls: Calls, store: CountingStore) -> None:
    calls("GetIndex", **ADDRESS)
    store.new_bill()
    told = explained(calls, "GetVectors", **ADDRESS, keys=["key-7", "key-1501"], returnData=True)
    billed = store.new_bill()
    assert (told["waves"], told["requests"]) == (len(billed.waves), billed.requests)
    assert told["store"]["blocks"] == 4  # a key block of each segment; vector and record of the compacted key
    assert "plan" not in told


def test_answers_are_the_same_explained_or_not(calls: Calls) -> None:
    for query in np.random.default_rng(8).standard_normal((5, DIMENSION)).tolist():
        members = {**QUERY, "queryVector": {"float32": query}, "returnDistance": True, "returnMetadata": True}
        assert calls("QueryVectors", **members) == calls("QueryVectors", CallOptions(explain=True), **members)
