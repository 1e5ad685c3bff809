"""The oracle itself: distances by hand, and it refuses wrong answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neve.segments.rows import hash_key
from neve.testing.reference import ReferenceIndex, meets
from neve.testing.strategies import HUGE, KEY_BYTES_MAX, crowds, filters, keys, metadata, vectors
from neve.vectors.metric import Metric


def small(metric: Metric = Metric.EUCLIDEAN) -> ReferenceIndex:
    index = ReferenceIndex(2, metric)
    index.put([("a", [1, 0], {"n": 1}), ("b", [0, 2], {"n": 2}), ("c", [-3, 0], {"n": 3}), ("d", [2, 0], {})])
    return index


def test_distances_by_hand() -> None:
    hits = small().query([1, 0], 10)
    assert [(hit.key, hit.distance) for hit in hits] == [("a", 0.0), ("d", 1.0), ("b", 5.0), ("c", 16.0)]
    hits = small(Metric.COSINE).query([1, 0], 10)
    assert [(hit.key, hit.distance) for hit in hits] == [("a", 0.0), ("d", 0.0), ("b", 1.0), ("c", 2.0)]


def test_the_published_example() -> None:
    index = ReferenceIndex(1024, Metric.EUCLIDEAN)
    index.put([("doc1", [0.1] + [0.0] * 1023, {})])
    assert index.distance("doc1", [0.19] + [0.0] * 1023) == pytest.approx(0.0081)


def test_a_put_replaces_whole_and_a_delete_removes() -> None:
    index = small()
    index.put([("a", [5, 5], {}), ("a", [6, 6], {"m": 1})])
    index.delete(["b", "absent"])
    assert index.keys() == {"a", "c", "d"}
    row = index.get(["a", "b"])["a"]
    assert (row.vector.tolist(), row.metadata) == ([6.0, 6.0], {"m": 1})


def test_filter_and_k() -> None:
    hits = small().query([1, 0], 2, lambda document: document.get("n") != 1)
    assert [hit.key for hit in hits] == ["d", "b"]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ([("a", 0.0), ("d", 1.0)], "2 hits where 3 exist"),
        ([("a", 0.0), ("d", 1.0), ("c", 16.0)], "'c' at 16.0 where 'b'"),
        ([("a", 0.0), ("d", 1.1), ("b", 5.0)], "'d' at 1.1, exactly 1.0"),
        ([("a", 0.0), ("a", 0.0), ("b", 5.0)], "a key twice"),
        ([("d", 1.0), ("a", 0.0), ("b", 5.0)], "out of order"),
        ([("a", 0.0), ("x", 1.0), ("b", 5.0)], "'x' is not in the index"),
    ],
)
def test_wrong_answers_are_refused(wrong: list[tuple[str, float]], complaint: str) -> None:
    index = small()
    index.check_hits([1, 0], 3, [("a", 0.0), ("d", 1.0), ("b", 5.0)])
    with pytest.raises(AssertionError, match=complaint):
        index.check_hits([1, 0], 3, wrong)


def test_ties_in_the_wrong_order_and_rows_beside_the_filter_are_refused() -> None:
    index = small(Metric.COSINE)
    with pytest.raises(AssertionError, match="tie of 'd' and 'a'"):
        index.check_hits([1, 0], 2, [("d", 0.0), ("a", 0.0)])
    with pytest.raises(AssertionError, match="does not meet"):
        index.check_hits([1, 0], 1, [("a", 0.0)], lambda document: "n" not in document)


@given(st.data(), st.sampled_from(Metric))
def test_float32_arithmetic_passes(data: st.DataObject, metric: Metric) -> None:
    """The tolerance is wide enough for honest float32 answers, near-duplicates included."""
    crowd = data.draw(crowds(3, metric))
    query = data.draw(vectors(3, metric))
    index = ReferenceIndex(3, metric)
    index.put([(f"{number:03d}", vector, {}) for number, vector in enumerate(crowd)])
    rounded = [(hit.key, float(np.float32(hit.distance))) for hit in index.query(query, 100)]
    index.check_hits(query, 100, sorted(rounded, key=lambda pair: (pair[1], hash_key(pair[0].encode()))))


@given(vectors(4, Metric.COSINE, bound=HUGE), keys())
def test_vectors_and_keys_are_what_the_api_takes(vector: np.ndarray, key: str) -> None:
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    assert vector.any()
    assert 1 <= len(key.encode()) <= KEY_BYTES_MAX


@given(filters(), metadata())
def test_filters_mean_something_for_every_document(document: dict[str, object], values: dict[str, object]) -> None:
    assert meets({"$or": [document]}, values) == meets(document, values)


@pytest.mark.parametrize(
    ("document", "values", "verdict"),
    [
        ({"g": "x"}, {"g": "x"}, True),
        ({"g": {"$eq": "x"}}, {"g": ["y", "x"]}, True),
        ({"g": True}, {"g": 1}, False),
        ({"g": 1}, {"g": 1.0}, True),
        ({"g": "1"}, {"g": 1}, False),
        ({"g": {"$ne": "x"}}, {}, True),
        ({"g": {"$nin": ["x", 1]}}, {"g": ["y", "x"]}, False),
        ({"g": {"$gt": 1, "$lte": 3}}, {"g": 3}, True),
        ({"g": {"$gte": 1}}, {"g": True}, False),
        ({"g": {"$lt": 1}}, {}, False),
        ({"g": {"$exists": False}}, {}, True),
        ({"g": {"$startsWith": "fi"}}, {"g": "firn"}, True),
        ({"$and": [{"g": 1}, {"$or": [{"h": 2}, {"h": 3}]}]}, {"g": 1, "h": 3}, True),
    ],
)
def test_the_meaning_of_filters(document: dict[str, object], values: dict[str, object], verdict: bool) -> None:
    assert meets(document, values) is verdict
