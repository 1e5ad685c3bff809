"""How many lists a query probes and how many candidates it scores exactly, calibrated on the index's own points.

Lists are weighed w = exp(β (s - s_max)) by their centroids' scores s and taken, heaviest first, until their share of Σw
passes a mass. The flatter the profile, the more lists: so a query unlike the data reads more than a member does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from neve.dataclass import dataclass
from neve.vectors.centroids import Centroids, centroid_scores
from neve.vectors.cluster import unit_of
from neve.vectors.metric import Metric

KS = (10, 100, 1_000, 10_000)
"""Fewer neighbours than ten leave means to chance: a smaller k takes what ten take."""
TARGETS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
CODE_SHARE = 0.03
"""Of the recall that may be missing, the share left to the codes' ranking; the lists may lose the rest."""
SHARPNESS = 1.7
"""β times the standard deviation of a member's scores. On both measured sets the mass that members need then equals the
one that foreign queries need; lower over-probes members, higher foreign queries (decisions: list counts)."""
QUERIES = 240
"""Pseudo-queries of each kind."""
_DEEP, _SHALLOW_K = 24, 1_000
"""So many of each kind are answered for the k above _SHALLOW_K: they have neighbours enough for a mean."""
_RANKED = 3
"""One in so many is ranked by code."""
_KINDS = 3
_BLENDED = 3
_UNSHARED = 0.5
"""Of the points' mean, what strangers lack."""
_BLOCK_FLOATS = 1 << 24
_FLOAT_MAX = np.finfo(np.float32).max

Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Scores by code, larger is nearer, float32 [m], of a query float32 [d] and rows intp [m] of the points."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one query takes: lists up to `mass` under weights of sharpness `beta`, `candidates` rows scored exactly."""

    beta: float
    mass: float
    candidates: int


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Masses and candidates that reach recall targets at several k, for one segment."""

    beta: float
    """Per unit of a centroid's score."""
    ks: np.ndarray
    """int64 [k], rising"""
    targets: np.ndarray
    """float64 [t], rising"""
    masses: np.ndarray
    """float64 [k, t]; 1 means every list"""
    candidates: np.ndarray
    """float64 [k, t]"""

    @lru_cache(maxsize=1024)  # noqa: B019, what it keeps alive is small
    def probe(self, k: int, target: float) -> Probe:
        """The probe for the k nearest at a recall target; linear in log k and log(1 - target) between."""
        row = np.interp(np.log(k), np.log(self.ks), np.arange(len(self.ks)))
        column = np.interp(-np.log1p(-target), -np.log1p(-self.targets), np.arange(len(self.targets)))
        mass = _between(self.masses, row, column)
        candidates = np.exp(_between(np.log(self.candidates), row, column))
        return Probe(self.beta, mass, max(k, int(np.ceil(candidates - 1e-6))))


def choose_lists(
    scores: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None, probes: Sequence[Probe]
) -> list[np.ndarray]:
    """The lists to probe of each of some segments, intp, heaviest first. `scores` float32 [lists] may hold -inf.

    Lists of all segments are weighed together: one that holds nothing near gives none, and segments that share their
    points' region give as many as one of them would. Each has a say in the mass by its lists; a mass of 1 means every
    list of that segment. `weights` float [lists] multiply the lists' own: the rows that pass a filter. Lists of no
    weight are left out.
    """
    some = [None] * len(scores) if weights is None else weights
    shared = [place for place, probe in enumerate(probes) if probe.mass < 1.0]
    chosen = [
        np.empty(0, np.intp) if probe.mass < 1.0 else _every(one, given)
        for probe, one, given in zip(probes, scores, some, strict=True)
    ]
    if not shared:
        return chosen
    top = max(float(scores[place].max()) for place in shared)
    weighed = np.concatenate([_weights(scores[place], probes[place].beta, top) for place in shared])
    if weights is not None:
        weighed *= np.concatenate([weights[place] for place in shared])
    sizes = [len(scores[place]) for place in shared]
    mass = sum(size * probes[place].mass for place, size in zip(shared, sizes, strict=True)) / sum(sizes)
    taken = _heaviest(weighed, mass)
    ends = np.cumsum(sizes)
    for place, size, end in zip(shared, sizes, ends.tolist(), strict=True):
        chosen[place] = taken[(taken >= end - size) & (taken < end)] - (end - size)
    return chosen


def cover(
    scores: Sequence[np.ndarray], weights: Sequence[np.ndarray], probes: Sequence[Probe], lists: Sequence[np.ndarray]
) -> bool:
    """Whether some lists of each segment have the mass that `choose_lists` would take lists for."""
    top = max(float(some.max()) for some in scores)
    weighed = [
        _weights(some, probe.beta, top) * given for some, probe, given in zip(scores, probes, weights, strict=True)
    ]
    taken = sum(float(some[held].sum()) for some, held in zip(weighed, lists, strict=True))
    mass = sum(len(some) * probe.mass for some, probe in zip(scores, probes, strict=True)) / sum(map(len, scores))
    return taken >= mass * sum(float(some.sum()) for some in weighed)


def _every(scores: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    return order if weights is None else order[weights[order] > 0]


def _heaviest(weighed: np.ndarray, mass: float) -> np.ndarray:
    """Places of the heaviest that together have that share of all weight, intp; none where there is no weight."""
    total = float(weighed.sum())
    # those lighter than this weigh less than 1 - mass together: they come after all that are wanted
    floor = (1.0 - mass) * total / len(weighed)
    heavy = np.flatnonzero(weighed >= floor * (1.0 - 1e-9)) if total > 0.0 else np.empty(0, np.intp)
    heavy = heavy[np.argsort(-weighed[heavy], kind="stable")]
    return heavy[: int(np.searchsorted(np.cumsum(weighed[heavy]), mass * total)) + 1]


def calibrate(
    points: np.ndarray,
    primary: np.ndarray,
    spill: np.ndarray,
    centroids: Centroids,
    metric: Metric,
    estimate: Estimate,
    seed: int,
) -> Calibration:
    """The calibration of clustered points float32 [n, d] with their lists int32 [n], spill -1 for none.

    Pseudo-queries of several kinds are answered exactly. Each kind by itself has to reach the targets on average,
    since nobody knows what will be asked. Reads all points once, in blocks; memory: 64 MiB of scores and the answers.
    """
    queries, own = _pseudo_queries(points, metric, np.random.default_rng(seed))
    answers = _answers(points, queries, own, metric)
    profiles = [centroid_scores(centroids, query) for query in queries]
    spread = float(
        np.mean([np.std(scores, where=np.isfinite(scores), dtype=np.float64) for scores in profiles[:QUERIES]])
    )
    beta = SHARPNESS / spread if spread > 0.0 else 1.0
    shares = [_shares_before(*pair, primary, spill, beta) for pair in zip(profiles, answers, strict=True)]
    ranks = [
        _code_ranks(query, rows, estimate) for query, rows in zip(queries[::_RANKED], answers[::_RANKED], strict=True)
    ]
    missing = 1.0 - np.array(TARGETS)
    masses = np.ones((len(KS), len(TARGETS)))
    candidates = masses * np.minimum(KS, len(points))[:, None]
    for place, k in enumerate(KS):
        if k < len(points):  # else every list is read
            masses[place] = _reached_by(shares, k, 1.0 - missing * (1.0 - CODE_SHARE))
            candidates[place] = np.maximum(_reached_by(ranks, k, 1.0 - missing * CODE_SHARE) + 1.0, k)
    masses = np.minimum(masses * (1.0 + 1e-6), 1.0)  # a row is found by a mass above its share
    return Calibration(
        beta, np.array(KS), np.array(TARGETS), np.maximum.accumulate(masses), np.maximum.accumulate(candidates)
    )


def _reached_by(needs: list[np.ndarray], k: int, shares: np.ndarray) -> np.ndarray:
    """What finds some shares of the k nearest of every kind, given what finds each neighbour of each query."""
    kinds = np.split(np.arange(len(needs)), _KINDS)
    pools = [np.concatenate([needs[query][:k] for query in kind if len(needs[query]) >= k]) for kind in kinds]
    reached: np.ndarray = np.max([np.quantile(pool, shares, method="higher") for pool in pools], axis=0)
    return reached


def _pseudo_queries(points: np.ndarray, metric: Metric, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """QUERIES members; as many strangers, which lack half of what members share; and blends of far members.

    float32 [q, d], and for each the row that is no answer, since the query comes of it; intp [q], -1 for none.
    """
    rows = rng.integers(len(points), size=(2 + _BLENDED, QUERIES))
    sample = points[np.sort(rng.choice(len(points), min(len(points), 4096), replace=False))]
    strangers = points[rows[1]] - _UNSHARED * sample.mean(axis=0, dtype=np.float64)
    strangers = np.clip(strangers, -_FLOAT_MAX, _FLOAT_MAX).astype(np.float32)
    blends = np.sum([points[some] / np.float32(_BLENDED) for some in rows[2:]], axis=0)
    queries = np.concatenate([points[rows[0]], strangers, blends])
    if metric is Metric.COSINE:
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        queries /= np.where(lengths > 0.0, lengths, np.float32(1.0))
    return queries, np.concatenate([rows[0], rows[1], np.full(QUERIES, -1)])


def _answers(points: np.ndarray, queries: np.ndarray, own: np.ndarray, metric: Metric) -> list[np.ndarray]:
    """The rows nearest to each query but its own, nearest first: intp, twice as many as the largest k wanted of it."""
    deep = np.arange(len(queries)) % QUERIES < _DEEP
    depths = np.minimum(2 * np.where(deep, KS[-1], _SHALLOW_K) + 100, max(1, len(points) - 1)).tolist()
    scale = np.float32(1.0 / unit_of(points, metric))
    queries = queries * scale
    floors = np.full(len(queries), -np.inf, np.float32)
    kept = [(np.empty(0, np.float32), np.empty(0, np.intp))] * len(queries)
    step = max(1, _BLOCK_FLOATS // len(queries))
    for start in range(0, len(points), step):
        block = points[start : start + step] * scale
        scores = queries @ block.T
        if metric is Metric.EUCLIDEAN:
            scores -= np.einsum("ij,ij->i", block, block) / np.float32(2.0)
        inside = np.flatnonzero((own >= start) & (own < start + len(block)))
        scores[inside, own[inside] - start] = -np.inf
        for query, (line, depth) in enumerate(zip(scores, depths, strict=True)):
            places = np.flatnonzero(line > floors[query])
            found = np.concatenate([kept[query][0], line[places]])
            rows = np.concatenate([kept[query][1], places + start])
            if len(found) > depth:
                best = np.argpartition(found, len(found) - depth)[len(found) - depth :]
                found, rows = found[best], rows[best]
                floors[query] = found.min()
            kept[query] = (found, rows)
    return [rows[np.argsort(-found)] for found, rows in kept]


def _shares_before(
    scores: np.ndarray, rows: np.ndarray, primary: np.ndarray, spill: np.ndarray, beta: float
) -> np.ndarray:
    """The share of all weight that stands before the first list of each of `rows`: a mass above it finds the row."""
    weights = _weights(scores, beta, float(scores.max()))
    order = np.argsort(-weights, kind="stable")
    cumulated = np.cumsum(weights[order])
    before = np.empty(len(order))
    before[order] = (cumulated - weights[order]) / cumulated[-1]
    before[scores == -np.inf] = 1.0
    second = spill[rows]
    shares: np.ndarray = np.minimum(before[primary[rows]], np.where(second >= 0, before[second], 1.0))
    return shares


def _code_ranks(query: np.ndarray, rows: np.ndarray, estimate: Estimate) -> np.ndarray:
    """The place by code of each of `rows`, the truly nearest, among them."""
    ranks = np.empty(len(rows))
    ranks[np.argsort(-estimate(query, rows))] = np.arange(len(rows))
    return ranks


def _between(table: np.ndarray, row: float, column: float) -> float:
    """The value at a fractional place of a table; linear."""
    top, left = min(int(row), len(table) - 2), min(int(column), table.shape[1] - 2)
    down, right = row - top, column - left
    corner = table[top : top + 2, left : left + 2]
    return float(np.array([1.0 - down, down]) @ corner @ np.array([1.0 - right, right]))


def _weights(scores: np.ndarray, beta: float, top: float) -> np.ndarray:
    weights: np.ndarray = np.exp(np.float64(beta) * (scores.astype(np.float64) - top))
    return weights
