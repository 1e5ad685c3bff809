"""Which lists a query probes, and that calibration keeps the promise of the recall target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neve.vectors.centroids import Centroids, centroid_scores, quantise_centroids
from neve.vectors.cluster import assign, train
from neve.vectors.metric import Metric
from neve.vectors.probing import KS, TARGETS, Calibration, Probe, calibrate, choose_lists


def choose(scores: np.ndarray, weights: np.ndarray | None, probe: Probe) -> np.ndarray:
    """The lists of one segment by itself."""
    return choose_lists([scores], None if weights is None else [weights], [probe])[0]


def plain(scores: np.ndarray, weights: np.ndarray, beta: float, mass: float) -> list[int]:
    """The rule as it is told: heaviest first until the share passes the mass."""
    weighed = np.exp(beta * (scores.astype(np.float64) - scores.max())) * weights
    chosen: list[int] = []
    for number in np.argsort(-weighed, kind="stable").tolist():
        if weighed[chosen].sum() >= mass * weighed.sum() and chosen:
            break
        chosen.append(number)
    return chosen


@pytest.mark.parametrize("mass", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("weighted", [False, True])
def test_lists_are_taken_until_their_share_passes_the_mass(mass: float, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    scores = rng.standard_normal(300).astype(np.float32)
    weights = rng.integers(0, 4, size=300).astype(np.float64) if weighted else None
    chosen = choose(scores, weights, Probe(2.0, mass, 10))
    assert chosen.tolist() == plain(scores, np.ones(300) if weights is None else weights, 2.0, mass)


def test_a_flat_profile_takes_more_lists() -> None:
    scores = np.linspace(1.0, 0.0, 100, dtype=np.float32)
    probe = Probe(20.0, 0.8, 10)
    assert len(choose(scores, None, probe)) < len(choose(scores / 4, None, probe))


def test_the_whole_mass_takes_every_list_of_some_weight() -> None:
    scores = np.array([0.0, 900.0, -np.inf, 3.0], np.float32)
    assert choose(scores, None, Probe(50.0, 1.0, 1)).tolist() == [1, 3, 0, 2]
    assert choose(scores, np.array([1, 0, 2, 1]), Probe(50.0, 1.0, 1)).tolist() == [3, 0, 2]


def test_unscored_lists_and_lists_without_matches_are_left_out() -> None:
    scores = np.array([0.1, -np.inf, 0.2, 0.3], np.float32)
    assert choose(scores, None, Probe(1.0, 0.999999, 1)).tolist() == [3, 2, 0]
    assert choose(scores, np.array([0, 1, 0, 0]), Probe(1.0, 0.9, 1)).tolist() == []
    assert choose(scores, np.zeros(4), Probe(1.0, 0.9, 1)).tolist() == []


@pytest.mark.parametrize("weighted", [False, True])
def test_segments_are_probed_as_one_would_be(weighted: bool) -> None:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal(300).astype(np.float32)
    weights = rng.integers(0, 4, size=300).astype(np.float64) if weighted else None
    whole = choose(scores, weights, Probe(2.0, 0.7, 10))
    parts = np.split(scores, [180, 280])
    probes = [Probe(2.0, mass, 10) for mass in (0.6, 0.8, 1.0)]  # the last is read whole, and has no say
    split = None if weights is None else np.split(weights, [180, 280])
    first = choose(
        scores[:280], None if weights is None else weights[:280], Probe(2.0, (180 * 0.6 + 100 * 0.8) / 280, 1)
    )
    chosen = choose_lists(parts, split, probes)
    assert chosen[0].tolist() == [one for one in first.tolist() if one < 180]
    assert chosen[1].tolist() == [one - 180 for one in first.tolist() if one >= 180]
    assert sorted(chosen[2]) == [one for one in range(20) if weights is None or weights[280 + one] > 0]
    same = choose_lists(parts, split, [Probe(2.0, 0.7, 10)] * 3)
    assert sorted(np.concatenate([same[0], same[1] + 180, same[2] + 280])) == sorted(whole)


def test_a_segment_far_from_the_query_is_left_alone() -> None:
    near, far = np.linspace(1.0, 0.5, 50, dtype=np.float32), np.linspace(-1.0, -0.9, 50, dtype=np.float32)
    chosen = choose_lists([near, far], None, [Probe(20.0, 0.8, 10)] * 2)
    assert len(chosen[0]) > 0
    assert len(chosen[1]) == 0


def table() -> Calibration:
    masses = np.array([[0.2, 0.4], [0.4, 0.8]])
    return Calibration(9.0, np.array([10, 1000]), np.array([0.9, 0.99]), masses, np.array([[16.0, 20.0], [1100, 1400]]))


def test_probes_lie_between_the_calibrated_ones() -> None:
    calibration = table()
    assert calibration.probe(10, 0.9) == Probe(9.0, 0.2, 16)
    corner = calibration.probe(1000, 0.99)
    assert corner.mass == pytest.approx(0.8)
    assert corner.candidates == 1400
    middle = calibration.probe(100, 1.0 - 10**-1.5)
    assert middle.mass == pytest.approx(0.45)
    assert middle.candidates == int(np.ceil((16.0 * 20.0 * 1100.0 * 1400.0) ** 0.25))


def test_beyond_the_table_its_edge_holds() -> None:
    calibration = table()
    assert calibration.probe(1, 0.5).mass == pytest.approx(0.2)
    assert calibration.probe(5000, 0.999).mass == pytest.approx(0.8)
    assert calibration.probe(5000, 0.999).candidates == 5000


Set = tuple[np.ndarray, np.ndarray, np.ndarray, Centroids, Callable[[np.ndarray, np.ndarray], np.ndarray]]


def clustered(rows: int, dimension: int, lists: int, metric: Metric, size: float = 1.0) -> Set:
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((60, dimension)) * np.linspace(1.5, 0.2, dimension)
    points = centres[rng.integers(60, size=rows)] + 0.5 * rng.standard_normal((rows, dimension))
    if metric is Metric.COSINE:
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = (points * size).astype(np.float32)
    middles, group_starts = train(points, lists, metric, seed=1)
    primary, spill = assign(points, middles, metric)
    noise = rng.standard_normal(rows).astype(np.float32) * np.float32(0.002 * size)

    def estimate(query: np.ndarray, some: np.ndarray) -> np.ndarray:
        offsets = (points[some] - query).astype(np.float64)
        return (noise[some] - np.sqrt(np.square(offsets).sum(axis=1))).astype(np.float32)

    return points, primary, spill, quantise_centroids(middles, metric, group_starts), estimate


@pytest.mark.parametrize("metric", Metric)
def test_members_that_were_not_asked_reach_the_targets(metric: Metric) -> None:
    points, primary, spill, centroids, estimate = clustered(8_000, 24, 80, metric)
    calibration = calibrate(points, primary, spill, centroids, metric, estimate, seed=3)
    queries = np.random.default_rng(99).choice(8_000, 150, replace=False)
    for k in (1, 10, 100, 1_000):
        for target in (0.8, 0.9, 0.98):
            probe = calibration.probe(k, target)
            shares, taken = [], []
            for query in queries.tolist():
                near = np.square(points - points[query]).sum(axis=1)
                near[query] = np.inf
                true = np.argpartition(near, k)[:k]
                lists = choose(centroid_scores(centroids, points[query]), None, probe)
                inside = np.isin(primary, lists) | (np.isin(spill, lists) & (spill >= 0))
                inside[query] = False
                rows = np.flatnonzero(inside)
                best = rows[np.argsort(-estimate(points[query], rows))[: probe.candidates]]
                shares.append(np.isin(true, best).mean())
                taken.append(len(lists))
            assert np.mean(shares) >= target - 0.02
            assert np.mean(taken) < 70 or k == 1_000
            assert k <= probe.candidates <= 2 * max(k, 10) + 4


def test_masses_and_candidates_rise_with_k_and_target() -> None:
    points, primary, spill, centroids, estimate = clustered(3_000, 12, 40, Metric.COSINE)
    calibration = calibrate(points, primary, spill, centroids, Metric.COSINE, estimate, seed=3)
    for values in (calibration.masses, calibration.candidates):
        assert values.shape == (len(KS), len(TARGETS))
        assert np.all(np.diff(values, axis=0) >= 0)
        assert np.all(np.diff(values, axis=1) >= 0)
    assert np.all(calibration.masses[KS.index(10_000)] == 1.0)
    assert np.all(calibration.candidates[KS.index(10_000)] == 3_000)


def test_the_calibration_does_not_know_the_scale() -> None:
    tables = []
    for size in (1.0, 1024.0):
        points, primary, spill, centroids, estimate = clustered(2_000, 12, 30, Metric.EUCLIDEAN, size)
        tables.append(calibrate(points, primary, spill, centroids, Metric.EUCLIDEAN, estimate, seed=3))
    assert tables[0].beta == pytest.approx(tables[1].beta * 1024.0**2, rel=1e-3)
    assert np.allclose(tables[0].masses, tables[1].masses, atol=1e-3)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize(("rows", "lists"), [(1, 1), (2, 1), (2, 2), (12, 3), (150, 1)])
def test_small_sets_are_calibrated(metric: Metric, rows: int, lists: int) -> None:
    points, primary, spill, centroids, estimate = clustered(rows, 3, lists, metric)
    calibration = calibrate(points, primary, spill, centroids, metric, estimate, seed=3)
    for k in (1, rows, 10_000):
        probe = calibration.probe(k, 0.98)
        assert probe.candidates >= k
        assert len(choose(centroid_scores(centroids, points[0]), None, probe)) >= 1
    assert len(choose(centroid_scores(centroids, points[0]), None, calibration.probe(10_000, 0.98))) == lists


@pytest.mark.parametrize("size", [1e-42, 1e20, 1e37])
def test_sets_of_any_magnitude_are_calibrated(size: float) -> None:
    points, primary, spill, centroids, estimate = clustered(500, 4, 6, Metric.EUCLIDEAN, size)
    calibration = calibrate(points, primary, spill, centroids, Metric.EUCLIDEAN, estimate, seed=3)
    assert np.isfinite(calibration.beta)
    assert np.isfinite(calibration.masses).all()
    assert len(choose(centroid_scores(centroids, points[0]), None, calibration.probe(10, 0.98))) >= 1
