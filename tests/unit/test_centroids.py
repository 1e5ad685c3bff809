"""Scores of int8 centroids against those in float, one level and two."""

from __future__ import annotations

import numpy as np
import pytest

from neve.vectors.centroids import centroid_scores, quantise_centroids
from neve.vectors.metric import Metric


def vectors(rows: int, dimension: int, metric: Metric, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    if metric is Metric.COSINE:
        return points / np.linalg.norm(points, axis=1, keepdims=True)
    return points * np.float32(20.0)


def exact_scores(middles: np.ndarray, query: np.ndarray, metric: Metric) -> np.ndarray:
    wide = middles.astype(np.float64)
    products = wide @ query
    return products if metric is Metric.COSINE else products - np.square(wide).sum(axis=1) / 2.0


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("dimension", [1, 2, 3, 17, 384])
def test_scores_are_those_of_the_centroids(metric: Metric, dimension: int) -> None:
    middles = vectors(300, dimension, metric)
    centroids = quantise_centroids(middles, metric, np.array([0, 300], np.uint32))
    assert len(centroids) == 300
    assert len(centroids.group_codes) == 0
    for query in vectors(5, dimension, metric, seed=1):
        scores = centroid_scores(centroids, query)
        assert scores.dtype == np.float32
        size = 1.0 if metric is Metric.COSINE else 400.0 * dimension
        assert np.abs(scores - exact_scores(middles, query, metric)).max() < 0.015 * size


def test_error_on_many_dimensions_is_small() -> None:
    middles = vectors(2_000, 384, Metric.COSINE)
    centroids = quantise_centroids(middles, Metric.COSINE, np.array([0, 2_000], np.uint32))
    query = vectors(1, 384, Metric.COSINE, seed=2)[0]
    assert np.abs(centroid_scores(centroids, query) - exact_scores(middles, query, Metric.COSINE)).max() < 0.002


@pytest.mark.parametrize("metric", Metric)
def test_two_levels_score_the_best_groups_only(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    heads = vectors(200, 32, metric, seed=4)
    starts = np.concatenate([[0], np.cumsum(rng.integers(1, 40, size=200))]).astype(np.uint32)
    group = np.repeat(np.arange(200), np.diff(starts.astype(int)))
    middles = heads[group] + np.float32(0.05) * np.abs(heads).max() * vectors(len(group), 32, Metric.COSINE, seed=5)
    flat = quantise_centroids(middles, metric, np.array([0, len(group)], np.uint32))
    centroids = quantise_centroids(middles, metric, starts)
    assert len(centroids.group_codes) == 200
    query = middles[700]
    every, some = centroid_scores(flat, query), centroid_scores(centroids, query)
    scored = np.isfinite(some)
    assert len(np.unique(group[scored])) == 128
    assert np.array_equal(some[scored], every[scored])
    assert scored[np.argsort(-every)[:200]].all()
    for number in range(200):
        assert len(np.unique(scored[group == number])) == 1


def test_zero_centroids_and_queries() -> None:
    middles = np.zeros((3, 4), np.float32)
    centroids = quantise_centroids(middles, Metric.EUCLIDEAN, np.array([0, 3], np.uint32))
    assert centroid_scores(centroids, np.zeros(4, np.float32)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("size", [1e-40, 1e30, 3e38])
def test_scores_of_any_magnitude_are_finite(size: float) -> None:
    middles = (vectors(20, 6, Metric.COSINE) * np.float32(size)).astype(np.float32)
    centroids = quantise_centroids(middles, Metric.EUCLIDEAN, np.array([0, 20], np.uint32))
    assert np.isfinite(centroids.biases).all()
    assert np.isfinite(centroid_scores(centroids, middles[0])).all()
