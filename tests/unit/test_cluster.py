"""Clustering: balanced lists, an order that keeps neighbours together, spilling by SOAR, hard inputs."""

from __future__ import annotations

import numpy as np
import pytest

from neve.vectors import cluster
from neve.vectors.cluster import assign, nearest, train
from neve.vectors.metric import Metric


def blobs(rows: int, dimension: int, metric: Metric, seed: int = 0) -> np.ndarray:
    """Points around forty centres: unit vectors for cosine, else far from the origin and of any length."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, dimension))
    points = centres[rng.integers(40, size=rows)] + 0.7 * rng.standard_normal((rows, dimension))
    if metric is Metric.COSINE:
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    else:
        points = 50.0 * points + 300.0
    return points.astype(np.float32)


@pytest.mark.parametrize("metric", Metric)
def test_lists_are_even_and_none_is_empty(metric: Metric) -> None:
    points = blobs(12_800, 24, metric)
    centroids, group_starts = train(points, 100, metric, seed=1)
    assert centroids.shape == (100, 24)
    assert group_starts.tolist() == [0, 100]
    if metric is Metric.COSINE:
        assert np.allclose(np.linalg.norm(centroids, axis=1), 1.0, atol=1e-5)
    primary, spill = assign(points, centroids, metric)
    sizes = np.bincount(primary, minlength=100)
    assert sizes.min() > 0
    assert sizes.max() <= 3 * 128 + 1
    assert np.bincount(spill[spill >= 0], minlength=100).max() <= 3 * 128 + 1


@pytest.mark.parametrize("metric", Metric)
def test_assignment_is_nearest_and_soar(metric: Metric) -> None:
    points = blobs(600, 16, metric)
    centroids, _ = train(points, 30, metric, seed=2)
    primary, spill = assign(points, centroids, metric)
    wide, middles = points.astype(np.float64), centroids.astype(np.float64)
    squares = np.square(wide[:, None] - middles).sum(axis=2)
    own = squares[np.arange(600), primary]
    assert np.mean(own <= squares.min(axis=1) * (1 + 1e-4)) > 0.98  # but for those that a full list handed on
    residuals = wide - middles[primary]
    units = residuals / np.linalg.norm(residuals, axis=1, keepdims=True)
    along = np.einsum("ijk,ik->ij", wide[:, None] - middles, units)
    costs = squares + np.square(along)
    costs[np.arange(600), primary] = np.inf
    spilled = (spill >= 0) & (own <= squares.min(axis=1) * (1 + 1e-4))
    assert spilled.mean() > 0.9
    assert np.all(costs[spilled, spill[spilled]] <= costs[spilled].min(axis=1) * (1 + 1e-3))
    assert np.all(spill != primary)


def test_spilling_halves_what_is_missed() -> None:
    spread = np.random.default_rng(3).standard_normal((6_000, 32)) * np.linspace(1.0, 0.3, 32)
    points = (spread / np.linalg.norm(spread, axis=1, keepdims=True)).astype(np.float32)
    centroids, _ = train(points, 60, Metric.COSINE, seed=3)
    primary, spill = assign(points, centroids, Metric.COSINE)
    queries = points[::40]
    true = np.argsort(-(queries @ points.T), axis=1)[:, 1:11]
    ranks = np.argsort(np.argsort(-(queries @ centroids.T), axis=1), axis=1)
    first = np.take_along_axis(ranks, primary[true], axis=1)
    second = np.where(spill[true] >= 0, np.take_along_axis(ranks, spill[true], axis=1), 60)
    assert np.mean(first >= 12) > 0.1
    assert np.mean(np.minimum(first, second) >= 12) < 0.5 * np.mean(first >= 12)


def test_a_point_on_its_centroid_spills_to_the_second_nearest() -> None:
    centroids = np.array([[0, 0], [3, 0], [0, 2]], np.float32)
    primary, spill = assign(centroids, centroids, Metric.EUCLIDEAN)
    assert primary.tolist() == [0, 1, 2]
    assert spill.tolist() == [2, 0, 0]


def test_one_list_has_no_spill() -> None:
    points = blobs(50, 4, Metric.COSINE)
    centroids, group_starts = train(points, 1, Metric.COSINE, seed=0)
    primary, spill = assign(points, centroids, Metric.COSINE)
    assert group_starts.tolist() == [0, 1]
    assert set(primary.tolist()) == {0}
    assert set(spill.tolist()) == {-1}


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize(("rows", "dimension", "lists"), [(1, 1, 1), (1, 3, 5), (2, 1, 2), (7, 2, 7), (130, 1, 100)])
def test_small_sets(metric: Metric, rows: int, dimension: int, lists: int) -> None:
    points = np.random.default_rng(rows).standard_normal((rows, dimension)).astype(np.float32)
    if metric is Metric.COSINE:
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    centroids, group_starts = train(points, lists, metric, seed=4)
    assert len(centroids) == min(rows, lists) == group_starts[-1]
    assert np.isfinite(centroids).all()
    primary, spill = assign(points, centroids, metric)
    assert np.all((primary >= 0) & (primary < len(centroids)))
    assert np.all((spill >= -1) & (spill < len(centroids)) & (spill != primary))


@pytest.mark.parametrize("metric", Metric)
def test_equal_points_are_shared_out(metric: Metric) -> None:
    points = np.repeat(np.array([[0.6, 0.8]], np.float32), 5_000, axis=0)
    centroids, _ = train(points, 40, metric, seed=5)
    primary, spill = assign(points, centroids, metric)
    assert np.bincount(primary, minlength=40).max() <= 3 * 125 + 1
    assert np.bincount(spill[spill >= 0], minlength=40).max() <= 3 * 125 + 1


@pytest.mark.parametrize("size", [1e-42, 1e-20, 1e20, 1e38])
def test_any_magnitude(size: float) -> None:
    points = (blobs(400, 8, Metric.EUCLIDEAN) / np.float32(1000.0) * np.float32(size)).astype(np.float32)
    centroids, _ = train(points, 10, Metric.EUCLIDEAN, seed=6)
    primary, spill = assign(points, centroids, Metric.EUCLIDEAN)
    assert np.isfinite(centroids).all()
    assert len(np.unique(primary)) == 10
    assert np.all(spill != primary)


def test_neighbours_in_the_order_are_close() -> None:
    points = blobs(6_000, 24, Metric.COSINE)
    centroids, _ = train(points, 120, Metric.COSINE, seed=7)
    steps = np.einsum("ij,ij->i", centroids[1:], centroids[:-1])
    pairs = centroids @ centroids.T
    assert steps.mean() > np.quantile(pairs[np.triu_indices(120, 1)], 0.9)


def test_same_seed_same_lists() -> None:
    points = blobs(3_000, 12, Metric.COSINE)
    first, second = (train(points, 80, Metric.COSINE, seed=8)[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_beyond_the_exact_lists_groups_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    points = blobs(12_000, 16, Metric.COSINE)
    exact, _ = train(points, 200, Metric.COSINE, seed=9)
    best = nearest(points, exact)[0]
    monkeypatch.setattr(cluster, "EXACT_LISTS", 100)
    monkeypatch.setattr(cluster, "_NEAR_LISTS", 50)
    _, group_starts = train(points, 200, Metric.COSINE, seed=9)
    assert group_starts[0] == 0
    assert group_starts[-1] == 200
    assert np.all(np.diff(group_starts.astype(int)) > 0)
    assert 7 <= len(group_starts) - 1 <= 14
    primary, spill = assign(points, exact, Metric.COSINE)
    assert np.mean(primary == best) > 0.9
    assert np.all(spill != primary)
