"""Exhaustive search finds what a naive scan of all rows finds, on an index that has all kinds of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from neve.api.options import CallOptions
from neve.filters.parse import parse
from neve.query import exhaustive
from neve.query.exhaustive import live_rows, nearest_of_all
from neve.query.explain import Plan
from neve.vectors.exact import exact_distances
from neve.vectors.metric import Metric
from tests.unit.api_calls import Calls
from tests.unit.compacted_index import ADDRESS, DIMENSION, cold, compacted_calls, rows_of, state_of


@pytest.fixture(scope="module", params=["cosine", "euclidean"])
def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    with compacted_calls(tmp_path_factory.mktemp("work"), request.param) as calls:
        yield calls


QUERIES = np.random.default_rng(5).standard_normal((7, DIMENSION)).astype(np.float32)


def truths(calls: Calls, k: int, third: bool) -> list[list[float]]:
    """Distances of the k nearest rows to each of QUERIES."""
    rows = np.stack([vector for vector, metadata in rows_of(calls).values() if metadata["third"] or not third])
    metric = Metric(calls("GetIndex", **ADDRESS)["index"]["distanceMetric"])
    return [sorted(exact_distances(rows, query, metric).tolist())[:k] for query in QUERIES]


def test_there_are_all_kinds_of_rows(calls: Calls) -> None:
    state = state_of(calls)
    assert len(state.compacted) == 2
    assert any(compacted.masked is not None for compacted in state.compacted)
    assert len(state.parts) > 0
    assert len(rows_of(calls)) == 1500 - 20 + 10


@pytest.mark.parametrize("third", [False, True])
@pytest.mark.parametrize("k", [1, 10, 3000])
def test_as_a_naive_scan(calls: Calls, k: int, third: bool) -> None:
    state = state_of(calls)
    condition = parse({"third": True}, (), 10) if third else None
    session = cold(calls)
    found = nearest_of_all(session, state, live_rows(session, state, condition), QUERIES, k, condition)
    assert [[distance for distance, _, _ in nearest] for nearest in found] == truths(calls, k, third)


def test_ranges_and_waves_change_nothing(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    state, session = state_of(calls), cold(calls)
    live = live_rows(session, state)
    whole = nearest_of_all(session, state, live, QUERIES, 20)
    monkeypatch.setattr(exhaustive, "RANGE_BYTES", 4 * DIMENSION * 13)
    monkeypatch.setattr(exhaustive, "RANGES", 3)
    monkeypatch.setattr(exhaustive, "BOUNDS_MAX", 5 * len(QUERIES))
    cut = nearest_of_all(session, state, live, QUERIES, 20)
    assert [[hit[:2] for hit in one] for one in cut] == [[hit[:2] for hit in one] for one in whole]


@pytest.mark.parametrize("condition", [None, {"third": True}])
def test_a_recall_of_1_looks_at_every_row(calls: Calls, condition: object) -> None:
    rows = rows_of(calls)
    for query, distances in zip(QUERIES, truths(calls, 25, condition is not None), strict=True):
        members = {**ADDRESS, "topK": 25, "queryVector": {"float32": query.tolist()}, "filter": condition}
        answer = calls("QueryVectors", CallOptions(recall=1), **members, returnDistance=True, returnMetadata=True)
        assert [hit["distance"] for hit in answer["vectors"]] == distances
        assert all(hit["metadata"] == rows[hit["key"]][1] for hit in answer["vectors"])


def test_it_says_so(calls: Calls) -> None:
    members = {**ADDRESS, "topK": 5, "queryVector": {"float32": QUERIES[0].tolist()}}
    result = calls.service.call("QueryVectors", members, CallOptions(recall=1, explain=True))
    assert (result.explain.plan, result.explain.lists) == (Plan.EXHAUSTIVE, 0)
    recent = sum(part.live_rows for part in state_of(calls).parts)
    assert result.explain.candidates == len(rows_of(calls)) - recent
