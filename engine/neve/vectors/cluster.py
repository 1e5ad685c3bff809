"""Clustering of points into lists: k-means, an order that keeps neighbours together, and spilled assignment.

Points are unit vectors for cosine and the vectors themselves for euclidean. "Nearest" is by euclidean distance for
both: among unit vectors that is the order of their cosines.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neve.dataclass import dataclass
from neve.vectors.metric import Metric

SPILL_WEIGHT = 1.0
"""SOAR's λ (Sun et al., "SOAR: Improved Indexing for Approximate Nearest Neighbor Search", 2023)."""
SAMPLE_ROWS = 64
"""Rows per list that k-means looks at."""
EXACT_LISTS = 4096
"""Up to so many lists points are compared with every centroid."""
_NEAR_LISTS = 2048
"""Beyond, with so many: those nearest to the middle of the points around. A comparison costs twice as much there."""
_BRANCHES = 64
_ROUNDS, _POLISH_ROUNDS = 6, 3
_FULL = 3.0
"""No list holds more than so many times the mean of primary points, nor of spilled ones."""
_FADING = np.float32(0.5)
_BLOCK_FLOATS = 1 << 22
"""Costs at a time, 16 MiB: in smaller blocks the product packs the centroids too often."""
_BLOCK_POINTS = 16384


def train(points: np.ndarray, lists: int, metric: Metric, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Centroids float32 [L, d] of about equally many points, L = min(lists, n), and group_starts uint32 [groups + 1].

    Centroids stand in an order that keeps neighbours together; a group is a run of them: all, or one of about √L beyond
    EXACT_LISTS. `points` float32 [n, d] are all rows or a sample of them; SAMPLE_ROWS per list are used.
    """
    rng = np.random.default_rng(seed)
    lists = min(lists, len(points))
    wanted = min(len(points), lists * SAMPLE_ROWS)
    sample = points[np.sort(rng.choice(len(points), wanted, replace=False))] if wanted < len(points) else points
    unit = unit_of(sample, metric)
    sample = sample * np.float32(1.0 / unit)
    centroids = _grow(sample, lists, metric, rng)
    if _BRANCHES < lists <= EXACT_LISTS:
        centroids = _lloyd(sample, centroids, metric, _POLISH_ROUNDS)
    middles = _middles(centroids, 1 if lists <= EXACT_LISTS else round(lists**0.5))
    group = nearest(centroids, middles)[0]
    runs = [np.flatnonzero(group == number) for number in _chain(middles)]
    order = np.concatenate([run[_chain(centroids[run])] for run in runs if len(run)])
    starts = np.cumsum([0] + [len(run) for run in runs if len(run)])
    return centroids[order] * np.float32(unit), starts.astype(np.uint32)


def assign(
    points: np.ndarray, centroids: np.ndarray, metric: Metric, spill_weight: float = SPILL_WEIGHT
) -> tuple[np.ndarray, np.ndarray]:
    """The list of each point and the list that its code is spilled to, both int32 [n]; -1 where there is no spill.

    The first is the nearest. The second minimises |r'|² + λ (r'·r/|r|)² with r and r' the residuals to both: a query
    that lies along r ranks the first list low, and the second is chosen to be found just then. A list that would hold
    more than _FULL times the mean hands its farthest points to its neighbours; points that would spill into a full
    list do not spill.
    Memory: a block of points and, up to EXACT_LISTS, the inner products of the centroids with each other.
    """
    count, lists = len(points), len(centroids)
    primary, spill = np.zeros(count, np.int32), np.full(count, -1, np.int32)
    if lists < 2 or not count:
        return primary, spill
    unit = max(unit_of(points, metric), unit_of(centroids, metric))
    centroids = centroids * np.float32(1.0 / unit)
    gaps, costs = np.empty(count, np.float32), np.empty(count, np.float32)
    for rows, block, near in _near_blocks(points, unit, centroids):
        primary[rows], gaps[rows], spill[rows], costs[rows] = near.two_lists(block, spill_weight)
    _level(primary, gaps, centroids)
    spill[spill == primary] = -1
    capacity = int(_FULL * count / lists) + 1
    for full in np.flatnonzero(np.bincount(spill[spill >= 0], minlength=lists) > capacity):
        inside = np.flatnonzero(spill == full)
        spill[inside[np.argsort(costs[inside], kind="stable")[capacity:]]] = -1
    return primary, spill


def nearest(points: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each point, intp [n], and its squared distance less the point's square, float32 [n]."""
    best, cost = np.empty(len(points), np.intp), np.empty(len(points), np.float32)
    doubled, squares = np.ascontiguousarray(-2.0 * centroids.T), np.einsum("ij,ij->i", centroids, centroids)
    step = max(1, _BLOCK_FLOATS // len(centroids))
    for start in range(0, len(points), step):
        costs = points[start : start + step] @ doubled
        costs += squares
        best[start : start + step] = found = costs.argmin(axis=1)
        cost[start : start + step] = costs[np.arange(len(found)), found]
    return best, cost


@dataclass(frozen=True, slots=True, eq=False)
class _Near:
    """The lists that some points may go to."""

    lists: np.ndarray
    """int32 [m]"""
    centroids: np.ndarray
    """float32 [m, d]: c"""
    doubled: np.ndarray
    """float32 [d, m]: -2 c"""
    squares: np.ndarray
    """float32 [m]: |c|²"""
    products: np.ndarray | None
    """float32 [m, m]: -2⟨c, c'⟩, where so many points share them that they are worth their cost"""

    @classmethod
    def of(cls, centroids: np.ndarray, lists: np.ndarray, *, shared: bool) -> _Near:
        chosen = centroids[lists]
        doubled = np.ascontiguousarray(-2.0 * chosen.T)
        return cls(lists, chosen, doubled, np.einsum("ij,ij->i", chosen, chosen), chosen @ doubled if shared else None)

    def two_lists(self, points: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The nearest list of each point and its cost, the list to spill to and its cost.

        With a = |c|² - 2⟨x, c⟩ = |r|² - |x|² for both lists, r·r' = |x|² + (a + a' + 2⟨c, c'⟩ - |c|² - |c'|²) / 2:
        the products of points and centroids that give the first list serve the second too.
        """
        first, second = np.empty(len(points), np.intp), np.empty(len(points), np.intp)
        gaps, costs = np.empty(len(points), np.float32), np.empty(len(points), np.float32)
        step = max(1, _BLOCK_FLOATS // len(self.lists))
        for start in range(0, len(points), step):
            some, block = slice(start, start + step), points[start : start + step]
            lines, norms = np.arange(len(block)), np.einsum("ij,ij->i", block, block)
            distances = block @ self.doubled
            distances += self.squares
            first[some] = best = distances.argmin(axis=1)
            gaps[some] = gap = distances[lines, best]
            residuals = gap + norms
            # rounding leaves no direction in residuals this short, and they need none
            share = np.where(residuals > 1e-5 * norms, weight / (4.0 * np.maximum(residuals, 1e-30)), 0.0)
            products = self.centroids[best] @ self.doubled if self.products is None else self.products[best]
            along = distances - self.squares
            along -= products
            along += (gap + 2.0 * norms - self.squares[best])[:, None]
            along *= np.sqrt(share).astype(np.float32)[:, None]
            along *= along
            along += distances
            along[lines, best] = np.inf
            second[some] = best = along.argmin(axis=1)
            costs[some] = along[lines, best]
        return self.lists[first], gaps, self.lists[second], costs


def _near_blocks(
    points: np.ndarray, unit: float, centroids: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, _Near]]:
    """All points in blocks: their rows, the points divided by `unit`, and the lists to compare them with."""
    scale, rows, starts = np.float32(1.0 / unit), np.arange(len(points)), range(0, len(points), _BLOCK_POINTS)
    if len(centroids) <= EXACT_LISTS:
        near = _Near.of(centroids, np.arange(len(centroids), dtype=np.int32), shared=True)
        for start in starts:
            some = slice(start, start + _BLOCK_POINTS)
            yield rows[some], points[some] * scale, near
        return
    middles = _middles(centroids, 8 * round(len(centroids) ** 0.5))
    around = np.concatenate([nearest(points[start : start + _BLOCK_POINTS] * scale, middles)[0] for start in starts])
    for number in np.unique(around):
        members = rows[around == number]
        gaps = np.square(centroids - middles[number]).sum(axis=1)
        lists = np.sort(np.argpartition(gaps, _NEAR_LISTS)[:_NEAR_LISTS]).astype(np.int32)
        near = _Near.of(centroids, lists, shared=False)
        for start in range(0, len(members), _BLOCK_POINTS):
            some = members[start : start + _BLOCK_POINTS]
            yield some, points[some] * scale, near


def _level(primary: np.ndarray, gaps: np.ndarray, centroids: np.ndarray) -> None:
    """Hand the farthest points of overfull lists to the nearest lists that have room; in place.

    Clustering leaves such lists only where many points are alike, so that it matters little which list holds them.
    """
    mean = len(primary) / len(centroids)
    capacity = int(_FULL * mean) + 1
    sizes = np.bincount(primary, minlength=len(centroids))
    for full in np.flatnonzero(sizes > capacity):
        inside = np.flatnonzero(primary == full)
        excess = inside[np.argsort(gaps[inside], kind="stable")[capacity:]]
        room = np.maximum(int(mean) + 1 - sizes, 0)
        order = np.argsort(np.square(centroids - centroids[full]).sum(axis=1), kind="stable")
        takers = np.repeat(order, room[order])[: len(excess)]
        primary[excess] = takers
        sizes += np.bincount(takers, minlength=len(sizes))
        sizes[full] = capacity


def _grow(points: np.ndarray, lists: int, metric: Metric, rng: np.random.Generator) -> np.ndarray:
    """Centroids of a hierarchy: k-means into at most _BRANCHES parts, each part into its share of the lists."""
    branches = lists if lists <= _BRANCHES else min(_BRANCHES, round(lists**0.5))
    seeds = points[np.sort(rng.choice(len(points), branches, replace=False))]
    centroids = _lloyd(points, seeds, metric, _ROUNDS)
    if branches == lists:
        return centroids
    part = nearest(points, centroids)[0]
    shares = np.bincount(part, minlength=branches) * (lists / len(points))
    counts = shares.astype(np.int64)
    counts[np.argsort(counts - shares, kind="stable")[: lists - counts.sum()]] += 1
    return np.concatenate([_grow(points[part == i], int(n), metric, rng) for i, n in enumerate(counts) if n])


def _lloyd(points: np.ndarray, centroids: np.ndarray, metric: Metric, rounds: int) -> np.ndarray:
    """k-means. Penalties on large lists and moving small ones cost recall; more rounds and rows balance better."""
    for _ in range(rounds):
        best, _ = nearest(points, centroids)
        members = points[np.argsort(best, kind="stable")]
        stops = np.cumsum(np.bincount(best, minlength=len(centroids))).tolist()
        centroids = centroids.copy()
        for number, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
            if start < stop:  # a centroid without points stays where it is
                centroids[number] = members[start:stop].mean(axis=0)
        if metric is Metric.COSINE:
            lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
            centroids /= np.where(lengths, lengths, 1.0)
    return centroids


def _middles(centroids: np.ndarray, count: int) -> np.ndarray:
    """Centres float32 [count, d] of groups of centroids: the same for the same centroids."""
    seeds = np.random.default_rng(0).choice(len(centroids), count, replace=False)
    return _lloyd(centroids, centroids[seeds], Metric.EUCLIDEAN, _POLISH_ROUNDS)


def _chain(centroids: np.ndarray) -> np.ndarray:
    """An order in which neighbours stand close, intp [n]: from the outermost on, always the one most like the last few.

    The lists of a query lie in a seventh fewer ranges than under recursive bisection (decisions: gaps between ranges).
    """
    closeness = centroids @ (2.0 * centroids.T) - np.einsum("ij,ij->i", centroids, centroids)
    following = int(closeness.sum(axis=0).argmin())
    trail, order = np.zeros(len(centroids), np.float32), []
    for _ in range(len(centroids)):
        order.append(following)
        trail = _FADING * trail + closeness[following]
        trail[order] = -np.inf
        following = int(trail.argmax())
    return np.array(order, np.intp)


def unit_of(points: np.ndarray, metric: Metric) -> float:
    """A power of two near the largest component: points divided by it have squares within float32. 1 for cosine."""
    if metric is Metric.COSINE:
        return 1.0
    steps = range(0, len(points), _BLOCK_POINTS)
    largest = max((float(np.abs(points[i : i + _BLOCK_POINTS]).max()) for i in steps), default=0.0)
    return 2.0 ** max(-100, int(np.floor(np.log2(largest)))) if largest > 0.0 else 1.0
