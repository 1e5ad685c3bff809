"""Exact search of recent rows: bounds by one matrix product a part, then exact distances of what could be a hit."""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

import numpy as np
import orjson

from neve.dataclass import dataclass
from neve.filters.expression import Condition
from neve.index.state import Part, State
from neve.query.hits import Named
from neve.segments.rows import Rows
from neve.vectors.exact import Directions, distance_bounds, exact_distances

FILTERS_KEPT = 16
"""Filters whose matching rows are remembered for each run of rows; rows never change."""

_directions: WeakKeyDictionary[Rows, Directions] = WeakKeyDictionary()
_matches: WeakKeyDictionary[Rows, OrderedDict[str, np.ndarray]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Rows of one part, and bounds on their distances."""

    part: Part
    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray


def nearest_recent(
    state: State, vector: np.ndarray, k: int, condition: Condition | None
) -> list[tuple[float, int, Named]]:
    """Distance, hash and (key, metadata) of the k live recent rows nearest to `vector` (float32 [d]); in no order.

    All that satisfy `condition` where there are fewer. No request.
    """
    if not state.parts:
        return []
    query = Directions.of(vector[None, :])
    pools = [pool for part in state.parts if (pool := _bounded(part, query, state, condition)) is not None]
    if not pools:
        return []
    high = np.concatenate([pool.high for pool in pools])
    worst = np.partition(high, k - 1)[k - 1] if len(high) > k else np.inf
    found: list[tuple[float, int, Rows, int]] = []
    for pool in pools:
        rows = pool.rows[pool.low <= worst]
        source = pool.part.rows
        distances = exact_distances(source.vectors[rows], vector, state.config.metric)
        hashes = source.keys.hashes[rows].tolist()
        found += zip(distances.tolist(), hashes, [source] * len(rows), rows.tolist(), strict=True)
    found.sort(key=lambda hit: hit[:2])
    return [
        (distance, hash_, (source.keys.keys[row], source.metadata[row])) for distance, hash_, source, row in found[:k]
    ]


def _bounded(part: Part, query: Directions, state: State, condition: Condition | None) -> _Candidates | None:
    alive = part.live if condition is None else part.live & matching_rows(part.rows, condition)
    rows = np.flatnonzero(alive)
    if not len(rows):
        return None
    directions = _directions.get(part.rows)
    if directions is None:
        directions = _directions[part.rows] = Directions.of(part.rows.vectors)
    low, high = distance_bounds(directions, query, rows, state.config.metric)
    return _Candidates(part, rows, low, high)


def matching_rows(rows: Rows, condition: Condition) -> np.ndarray:
    """Mask [n] of the rows whose metadata satisfy a condition."""
    kept = _matches.setdefault(rows, OrderedDict())
    mask = kept.get(condition.text)
    if mask is None:
        mask = np.fromiter((condition.matches(orjson.loads(raw)) for raw in rows.metadata), np.bool_, len(rows))
        kept[condition.text] = mask
        while len(kept) > FILTERS_KEPT:
            kept.popitem(last=False)
    return mask
