"""Codes: packing, the error of scores, extreme inputs, data whose dimensions are not alike, and the best rows."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.vectors.codes import CodedQuery, Rotation, best, encode, unpack

DIMENSIONS = [1, 2, 3, 7, 64, 384, 1001, 4096]


def units(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    points = rng.normal(size=(count, dimension))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def coded(points: np.ndarray, center: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return encode(points, np.zeros(points.shape[1], np.float32) if center is None else center)


def scan(query: np.ndarray, points: np.ndarray, center: np.ndarray | None = None) -> np.ndarray:
    packed, factors, biases = coded(points, center)
    return coded_query(query, center).scan([unpack(packed, points.shape[1])], factors, biases)


def coded_query(query: np.ndarray, center: np.ndarray | None = None) -> CodedQuery:
    return CodedQuery.of(query, np.zeros(len(query), np.float32) if center is None else center)


def true_scores(query: np.ndarray, points: np.ndarray) -> np.ndarray:
    return -np.sum((points.astype(np.float64) - query) ** 2, axis=1) / 2.0


def decode(packed: np.ndarray, dimension: int) -> np.ndarray:
    """The levels, nibble by nibble as the docstring says."""
    half = (dimension + 1) // 2
    nibbles = [[row[j % half] >> (4 * (j // half)) & 15 for j in range(dimension)] for row in packed.tolist()]
    return np.array(nibbles, np.int64).reshape(-1, dimension) - 8


def found_share(points: np.ndarray, queries: np.ndarray, center: np.ndarray, candidates: int) -> float:
    """Share of the true ten nearest among the first candidates by code."""
    packed, factors, biases = coded(points, center)
    levels, rows, found = unpack(packed, points.shape[1]), np.arange(len(points)), 0
    for query in queries:
        nearest = np.argsort(-true_scores(query, points))[:10]
        first = best(coded_query(query, center).scan([levels], factors, biases), rows, candidates)
        found += len(np.intersect1d(nearest, first))
    return found / (10 * len(queries))


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_unpack_gives_the_nibble_of_each_dimension(dimension: int, count: int, seed: int) -> None:
    rows = np.zeros(count, [("code", "u1", ((dimension + 1) // 2,)), ("rest", "u1", (3,))])  # strided, as in a code row
    rows["code"] = np.random.default_rng(seed).integers(0, 256, rows["code"].shape)
    levels = unpack(rows["code"], dimension)
    assert levels.dtype == np.int8
    assert levels.flags.c_contiguous
    assert np.array_equal(levels, decode(rows["code"], dimension))


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_rotation_is_orthogonal_and_spreads_every_component(dimension: int) -> None:
    rotation = Rotation.of(dimension)
    some = np.eye(dimension, dtype=np.float32)[:: max(1, dimension // 200)]
    turned = rotation.turn(some)
    assert np.abs(turned @ turned.T - np.eye(len(some))).max() < 1e-5
    assert np.abs(turned).max() <= 3.5 / np.sqrt(dimension)


def test_rotation_is_the_one_that_is_written_down() -> None:
    bits = np.unpackbits(np.frombuffer(hashlib.shake_128(b"neve").digest(2), np.uint8))[:12].reshape(2, 6)
    two = np.array([[1, 1], [1, -1]])
    order_4 = np.kron(two, two) / 2.0
    expected = np.eye(6)
    for start, row in zip((0, 2), bits, strict=True):
        expected = expected * (1.0 - 2.0 * row)
        expected[:, start : start + 4] = expected[:, start : start + 4] @ order_4.T
    assert np.allclose(Rotation.of(6).turn(np.eye(6, dtype=np.float32)), expected, atol=1e-6)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_code_stands_at_right_angles_to_its_error_and_near_its_point(dimension: int) -> None:
    points = units(np.random.default_rng(dimension), 20, dimension)
    packed, factors, biases = coded(points)
    turned = Rotation.of(dimension).turn(points)
    errors = turned - factors[:, None] * decode(packed, dimension)
    assert np.abs(np.sum(errors * turned, axis=1)).max() < 1e-5
    assert np.sum(errors**2, axis=1).max() < 0.03
    assert np.allclose(biases, 0.5, atol=1e-6)


def test_codes_of_normal_points_err_by_a_ninetieth() -> None:
    points = units(np.random.default_rng(3), 300, 384)
    packed, factors, _ = coded(points)
    errors = Rotation.of(384).turn(points) - factors[:, None] * decode(packed, 384)
    assert np.sum(errors**2, axis=1).mean() < 1 / 90


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_score_errs_by_less_than_its_bound(dimension: int) -> None:
    """|⟨q - x, e⟩| of two vectors without relation, five deviations; |e| is at most a sixth of |x|."""
    rng = np.random.default_rng(dimension)
    points = units(rng, 60, dimension) * rng.uniform(0.5, 2.0, (60, 1)).astype(np.float32)
    center = units(rng, 1, dimension)[0] / np.float32(2)
    lengths = np.linalg.norm(points - center, axis=1)
    for query in units(rng, 5, dimension):
        errors = np.abs(scan(query, points, center) - true_scores(query, points))
        bounds = np.linalg.norm(points - query, axis=1) * lengths / 6 * min(1.0, 5 / np.sqrt(dimension))
        assert np.all(errors <= bounds + 0.003)


def test_score_of_the_point_itself_has_only_the_rounding_of_the_query_in_it() -> None:
    points = units(np.random.default_rng(4), 40, 384)
    own = np.array([scan(point, point[None])[0] for point in points])
    assert np.abs(own).max() < 1.5e-3


@pytest.mark.parametrize("shape", ["alike", "few large dimensions", "long mean", "all of unit length"])
def test_true_nearest_are_among_the_first_by_code(shape: str) -> None:
    rng = np.random.default_rng(5)
    middles = rng.normal(size=(30, 96))
    points = middles[rng.integers(0, 30, 3000)] + 0.7 * rng.normal(size=(3000, 96))
    if shape == "few large dimensions":
        points *= np.where(np.arange(96) % 32, 1.0, 20.0)
    if shape == "long mean":
        points += 30.0
    if shape == "all of unit length":
        points += 3.0
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    near = points[:50] + 0.3 * points.std(axis=0) * rng.normal(size=(50, 96))
    center = points.mean(axis=0).astype(np.float32)
    assert found_share(points.astype(np.float32), near.astype(np.float32), center, 30) >= 0.99


def test_center_keeps_scores_where_the_mean_is_long() -> None:
    rng = np.random.default_rng(6)
    points = (rng.normal(size=(500, 64)) + 1000.0).astype(np.float32)
    query, center = points[0], points.mean(axis=0)
    near = np.abs(scan(query, points, center) - true_scores(query, points)).max()
    far = np.abs(scan(query, points) - true_scores(query, points)).max()
    assert near < 10.0 < 100.0 < far


def test_zero_vectors_and_zero_queries_score_their_bias() -> None:
    points = np.array([[0.0, -0.0, 0.0], [1.0, 2.0, 3.0]], np.float32)
    packed, factors, biases = coded(points)
    assert factors[0] == 0.0
    assert np.allclose(biases, [0.0, 7.0])
    levels = unpack(packed, 3)
    assert np.array_equal(coded_query(np.zeros(3, np.float32)).scan([levels], factors, biases), -biases)
    assert coded_query(np.ones(3, np.float32)).scan([levels], factors, biases)[0] == -1.5


@pytest.mark.parametrize("length", [1e-44, 1e-38, 1e-20, 1e18, 1e19, 3e38])
def test_every_finite_length_scores_finitely(length: float) -> None:
    shapes = np.random.default_rng(6).uniform(-1, 1, (8, 33)).astype(np.float32)
    others = [shapes, shapes * np.float32(3e-45), shapes * np.float32(3e38), np.zeros((1, 33), np.float32)]
    points = np.concatenate([shapes * np.float32(length), *others])
    for query in points[::4]:
        for center in [None, points[0], -points[0]]:
            assert np.isfinite(scan(query, points, center)).all()
    packed, factors, _ = coded(points)
    if length > 1e-38:  # subnormal shapes have fewer digits
        assert np.array_equal(packed[:8], packed[8:16])
        assert np.allclose(factors[:8], factors[8:16].astype(np.float64) * np.float32(length), rtol=1e-5, atol=0)


def test_factor_beyond_float32_becomes_its_largest_number() -> None:
    rotation = Rotation.of(1024)
    points = np.kron(rotation.left, rotation.right)[:1] * rotation.signs  # of this point one component is left
    _, factors, _ = coded(np.sign(points) * np.float32(3e38))
    assert np.abs(factors[0]) == np.finfo(np.float32).max


def test_lists_are_scanned_in_order_and_may_be_empty() -> None:
    rng = np.random.default_rng(8)
    points = units(rng, 50, 31)
    packed, factors, biases = coded(points)
    levels, query = unpack(packed, 31), coded_query(units(rng, 1, 31)[0])
    whole = query.scan([levels], factors, biases)
    assert np.array_equal(query.scan([levels[:9], levels[9:9], levels[9:10], levels[10:]], factors, biases), whole)
    assert query.scan([], factors[:0], biases[:0]).shape == (0,)


def test_no_points_have_no_codes() -> None:
    packed, factors, biases = coded(np.empty((0, 5), np.float32))
    assert (packed.shape, factors.shape, biases.shape) == ((0, 3), (0,), (0,))


def test_scores_depend_on_the_center_only_within_their_error() -> None:
    points = units(np.random.default_rng(9), 300, 128)
    query, center = points[7], points[8] / np.float32(4)
    assert np.abs(scan(query, points, center) - scan(query, points)).max() < 0.06


@given(
    st.integers(0, 6000),
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
    st.sampled_from([3, 50, 10**6]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=120, deadline=None)
def test_best_is_a_sort_without_second_copies(n: int, count: int, seed: int, grades: int, hidden: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.arange(n) // 2).astype(np.uint32)
    scores = rng.integers(0, grades, n)[rows].astype(np.float32)  # copies score alike
    scores[rng.random(n) < 0.1] += 1.0  # or nearly
    scores[rng.random(n) < hidden] = -np.inf
    highest: dict[int, float] = {}
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        if score > -np.inf:
            highest[row] = max(score, highest.get(row, score))
    found = best(scores, rows, count)
    assert len(set(rows[found].tolist())) == len(found)
    assert scores[found].tolist() == sorted(highest.values(), reverse=True)[:count]
    assert all(scores[place] == highest[row] for place, row in zip(found, rows[found].tolist(), strict=True))
