"""Exhaustive search: the true nearest rows of many queries, by one pass over all vectors in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from neve.dataclass import dataclass
from neve.errors import ObjectGone
from neve.filters.expression import Condition
from neve.index.state import Compacted, State
from neve.query.candidates import Found
from neve.query.explain import Explain, Plan
from neve.query.hits import Located, Named, want_record
from neve.query.matching import matching_entries
from neve.query.recent import nearest_recent
from neve.query.session import Session
from neve.segments.stream import row_entries
from neve.store.blocks import Block
from neve.store.port import Get, body
from neve.vectors.exact import Directions, exact_distances
from neve.vectors.metric import Metric

RANGE_BYTES = 8 << 20
"""What one request reads; RANGES of them are in one wave, and in memory."""
RANGES = 4

BOUNDS_MAX = 4 << 20
"""Pairs of query and row that are bounded at a time: 32 MiB for each array of them."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveRows:
    """The live rows of a compacted segment that are searched; `entries` KEY_ENTRY [n], in row order."""

    compacted: Compacted
    entries: np.ndarray


def live_rows(session: Session, state: State, condition: Condition | None = None) -> list[LiveRows]:
    """The rows that satisfy a condition, of each compacted segment. Reads the key indexes; about 50 bytes a row.

    Raises StoreError.
    """
    found = []
    for compacted in state.compacted:
        directory = compacted.directory
        if condition is None:
            entries = row_entries(directory, session.fetch)
        else:
            entries = matching_entries(session, directory, condition)
        if compacted.masked is not None:
            entries = entries[~compacted.masked[entries["row"]]]
        suspects = np.flatnonzero(state.may_hide(np.ascontiguousarray(entries["hash"])))
        named: list[Named] = session.read([want_record(directory, entries[i]) for i in suspects])
        hashes = entries["hash"][suspects].tolist()
        hidden = [state.hides(hash_, key) for hash_, (key, _) in zip(hashes, named, strict=True)]
        found.append(LiveRows(compacted, np.delete(entries, suspects[np.array(hidden, np.bool_)])))
    return found


def nearest_of_all(
    session: Session,
    state: State,
    live: Sequence[LiveRows],
    vectors: np.ndarray,
    k: int,
    condition: Condition | None = None,
) -> list[list[Found]]:
    """For each query of `vectors` (float32 [queries, d]) its k nearest rows of all, nearest first; all if fewer.

    `live` as from `live_rows` with the same condition. 1 GET for each 8 MiB of vectors, 4 in a wave. Raises StoreError.
    """
    metric = state.config.metric
    nearest = [_Nearest(vector, k, metric) for vector in vectors]
    queries = Directions.of(vectors)
    step = max(1, BOUNDS_MAX // len(vectors))
    for part in live:
        for entries, rows in _blocks(session, part):
            for start in range(0, len(rows), step):
                some = slice(start, start + step)
                low, high = _bounds(Directions.of(rows[some]), queries, metric)
                for i, one in enumerate(nearest):
                    one.take(part, entries[some], rows[some], low[i], high[i])
    return [one.found(nearest_recent(state, one.vector, k, condition)) for one in nearest]


def exhaustive(
    session: Session, state: State, vector: np.ndarray, k: int, condition: Condition | None, explain: Explain
) -> list[Found]:
    """The k nearest rows of compacted and recent ones to one query; as `live_rows` and `nearest_of_all`."""
    live = live_rows(session, state, condition)
    explain.goes_by(Plan.EXHAUSTIVE)
    explain.candidates += sum(len(part.entries) for part in live)
    return nearest_of_all(session, state, live, vector[None, :], k, condition)[0]


class _Nearest:
    """The nearest rows to one query so far."""

    def __init__(self, vector: np.ndarray, k: int, metric: Metric) -> None:
        self.vector = vector
        self._k = k
        self._metric = metric
        self._distances = np.empty(0, np.float32)
        self._hashes = np.empty(0, np.uint64)
        self._places: list[tuple[LiveRows, np.void]] = []

    def take(self, part: LiveRows, entries: np.ndarray, rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Look at `rows` (float32 [n, d]) whose distances lie between `low` and `high` (float64 [n])."""
        worst = np.partition(high, self._k - 1)[self._k - 1] if len(high) > self._k else np.inf
        if len(self._distances) == self._k:
            worst = min(worst, float(np.nextafter(self._distances[-1], np.float32(np.inf))))
        near = np.flatnonzero(low <= worst)
        if not len(near):
            return
        distances = np.append(self._distances, exact_distances(rows[near], self.vector, self._metric))
        hashes = np.append(self._hashes, entries["hash"][near])
        order = np.lexsort((hashes, distances))[: self._k]
        held = len(self._places)
        self._places = [self._places[i] if i < held else (part, entries[near[i - held]]) for i in order.tolist()]
        self._distances, self._hashes = distances[order], hashes[order]

    def found(self, recent: Sequence[Found]) -> list[Found]:
        """The nearest of these and of some more."""
        ours = zip(self._distances.tolist(), self._hashes.tolist(), self._places, strict=True)
        found: list[Found] = [
            (distance, hash_, Located(part.compacted.directory, entry)) for distance, hash_, (part, entry) in ours
        ]
        return sorted([*found, *recent], key=lambda hit: hit[:2])[: self._k]


def _bounds(rows: Directions, queries: Directions, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds float64 [queries, n] on the distances between rows and queries.

    As `distance_bounds`, for many queries by one matrix product: its bound holds for any order of summation.
    """
    slack = (rows.units.shape[1] + 4) * 2.0**-23
    cosines = (queries.units @ rows.units.T).astype(np.float64)
    if metric is Metric.COSINE:
        return 1.0 - cosines - slack, 1.0 - cosines + slack
    norms, lengths = rows.norms[None, :], queries.norms[:, None]
    middle = norms**2 + lengths**2 - 2.0 * norms * lengths * cosines
    slacks = 2.0 * norms * lengths * slack + 1e-12 * (norms**2 + lengths**2)
    return middle - slacks, middle + slacks


def _blocks(session: Session, part: LiveRows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Entries and vectors (float32 [n, d]) of all rows, read past the tiers: they would push out everything else."""
    directory = part.compacted.directory
    size = 4 * directory.dimension
    windows = part.entries["row"] // max(1, RANGE_BYTES // size)
    groups = np.split(part.entries, np.flatnonzero(np.diff(windows)) + 1) if len(windows) else []
    for start in range(0, len(groups), RANGES):
        some = groups[start : start + RANGES]
        gets = []
        for entries in some:
            pairs = zip(entries["row"].tolist(), entries["vector_crc"].tolist(), strict=True)
            blocks: list[Block] = [directory.vector_block(row, crc) for row, crc in pairs]
            gets.append(Get(blocks[0].key, blocks[0].start, blocks[-1].stop, blocks=tuple(blocks)))
        for entries, get, reply in zip(some, gets, session.store.wave(gets), strict=True):
            raw = body(reply)
            if raw is None:
                raise ObjectGone(f"{get.key} is gone")
            rows = np.frombuffer(raw, "<f4").reshape(-1, directory.dimension)
            yield entries, rows[entries["row"] - entries["row"][0]]
