"""MeasureRecall: what it measures, how sure it is, and that it is the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neve.api.options import CallOptions
from neve.errors import ValidationFailed
from neve.index.state import State
from neve.query import recall as module
from neve.query.hits import Hits
from neve.query.recall import Origin
from neve.query.search import Query, search
from neve.query.session import Session
from neve.segments.rows import hash_key
from tests.catalogue.cases import LIBRARY, ONES, SHAPE, WORDS
from tests.unit.api_calls import Calls, calls_on
from tests.unit.compacted_index import ADDRESS, cold, compact_now, compacted_calls, rows_of, state_of


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    with compacted_calls(tmp_path_factory.mktemp("work")) as calls:
        yield calls


def keys_kept(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Have searches keep only that share of their hits, from the nearest on."""

    def lossy(session: Session, state: State, query: Query) -> Hits:
        hits = search(session, state, Query(query.vector, query.k, None, 1))
        kept = round(share * (query.k - 1)) + 1  # the row itself is not counted
        return Hits(hits.distances[:kept], hits.sources[:kept])

    monkeypatch.setattr(module, "search", lossy)


def test_members_and_perturbed_rows_are_asked_for(calls: Calls) -> None:
    answer = calls("MeasureRecall", **ADDRESS, topK=5, queries=41)
    assert (answer["topK"], answer["target"], answer["queries"]) == (5, 0.98, 41)
    assert {name: origin["queries"] for name, origin in answer["origins"].items()} == {"member": 21, "perturbed": 20}
    interval = answer["confidenceInterval"]
    assert 0.9 < interval["low"] <= answer["mean"] <= interval["high"] <= 1


def test_what_searches_miss_is_missing(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    keys_kept(monkeypatch, 0.7)
    answer = calls("MeasureRecall", **ADDRESS, topK=10, queries=30)
    assert answer["origins"]["member"]["mean"] == answer["origins"]["member"]["percentile5"] == 0.7
    assert answer["confidenceInterval"]["low"] <= answer["mean"] <= answer["confidenceInterval"]["high"]
    # the row that a perturbed query was made of is among its hits or not: it makes a hit more or less
    assert 0.7 <= answer["origins"]["perturbed"]["mean"] <= 0.8


def test_the_target_is_the_callers_or_the_indexs(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []

    def noted(session: Session, state: State, query: Query) -> Hits:
        asked.append(query.recall)
        return search(session, state, query)

    monkeypatch.setattr(module, "search", noted)
    assert calls("MeasureRecall", CallOptions(recall=0.7), **ADDRESS, queries=2)["target"] == 0.7
    calls("ConfigureIndex", **ADDRESS, settings={"recall": 0.8})
    assert calls("MeasureRecall", **ADDRESS, queries=2)["target"] == 0.8
    calls("ConfigureIndex", **ADDRESS, settings={"recall": None})
    assert asked == [0.7, 0.7, 0.8, 0.8]


def test_the_same_seed_draws_the_same_rows_also_after_a_compaction(tmp_path: Path) -> None:
    def drawn(calls: Calls, seed: int) -> set[int]:
        state, session = state_of(calls), cold(calls)
        live = module.live_rows(session, state)
        hashes, vectors = module._sample(session, state, live, 50, np.random.default_rng(seed))
        stored = {hash_key(key.encode()): vector for key, (vector, _) in rows_of(calls).items()}
        assert all(np.array_equal(stored[h], v) for h, v in zip(hashes.tolist(), vectors, strict=True))
        return set(hashes.tolist())

    with compacted_calls(tmp_path) as calls:
        before = drawn(calls, 1)
        assert len(before) == 50
        assert before != drawn(calls, 2)
        compact_now(calls, tmp_path)
        assert drawn(calls, 1) == before


def test_all_rows_are_drawn_where_there_are_fewer(calls: Calls) -> None:
    state, session = state_of(calls), cold(calls)
    hashes, _ = module._sample(session, state, module.live_rows(session, state), 5000, np.random.default_rng(0))
    assert sorted(hashes.tolist()) == sorted(hash_key(key.encode()) for key in rows_of(calls))


@pytest.mark.parametrize(("rows", "neighbours"), [(2, 1), (3, 2), (30, 10)])
def test_recent_rows_alone_are_all_found(rows: int, neighbours: int) -> None:
    small = calls_on()
    small("CreateVectorBucket", **LIBRARY)
    small("CreateIndex", **WORDS, **SHAPE)
    vectors = [{"key": str(n), "data": {"float32": [1, n, n * n, 1]}} for n in range(rows)]
    small("PutVectors", **WORDS, vectors=vectors)
    answer = small("MeasureRecall", **WORDS)
    assert (answer["mean"], answer["queries"]) == (1.0, rows)
    # Wilson's interval: n / (n + 1.96²)
    assert answer["confidenceInterval"] == {"low": round(rows / (rows + 3.841459), 6), "high": 1.0}
    small.runtime.close()


def test_equals_cannot_be_told_apart() -> None:
    small = calls_on()
    small("CreateVectorBucket", **LIBRARY)
    small("CreateIndex", **WORDS, **SHAPE)
    small("PutVectors", **WORDS, vectors=[{"key": str(n), "data": ONES} for n in range(50)])
    assert small("MeasureRecall", **WORDS, topK=3)["mean"] == 1.0
    small.runtime.close()


def test_one_vector_has_no_neighbour() -> None:
    small = calls_on()
    small("CreateVectorBucket", **LIBRARY)
    small("CreateIndex", **WORDS, **SHAPE)
    for _ in range(2):
        fault = small.refused("MeasureRecall", {**WORDS})
        assert fault.code == "ValidationException"
        assert fault.message == "Recall cannot be measured: the index has fewer than 2 vectors"
        small("PutVectors", **WORDS, vectors=[{"key": "a", "data": ONES}])
    small.runtime.close()


def test_the_recall_of_an_exhaustive_search_is_not_measured(calls: Calls) -> None:
    with pytest.raises(ValidationFailed, match="recall must be less than 1: an exhaustive search finds everything"):
        calls("MeasureRecall", CallOptions(recall=1), **ADDRESS)


@pytest.mark.parametrize("members", [{"topK": 0}, {"topK": 1001}, {"queries": 1}, {"queries": 2001}, {"seed": -1}])
def test_bounds(calls: Calls, members: dict[str, int]) -> None:
    [name] = members
    fault = calls.refused("MeasureRecall", {**ADDRESS, **members})
    assert fault.code == "ValidationException"
    assert [field.path for field in fault.fields] == [f"/{name}"]


def test_percentiles_are_of_queries() -> None:
    assert Origin(tuple([0.5] * 5 + [1.0] * 95)).percentile5 == 0.5
    assert Origin(tuple([0.5] * 4 + [1.0] * 96)).percentile5 == 1.0
    assert Origin((0.5, 1.0)).mean == 0.75


def test_the_interval_holds_the_mean_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        recalls = chance.choice([0.6, 0.9, 1.0], p=[0.1, 0.3, 0.6], size=150)
        low, high = module._interval(recalls, chance)
        held += low <= 0.93 <= high
    assert 180 <= held <= 199
