"""Recall, measured on the index as it is: searches held against exhaustive ones, for queries made of its own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neve.dataclass import dataclass
from neve.index.state import State
from neve.query.candidates import Found
from neve.query.exhaustive import LiveRows, live_rows, nearest_of_all
from neve.query.hits import want_vector
from neve.query.search import Query, search
from neve.query.session import Session
from neve.segments.rows import hash_key
from neve.store.blocks import Wanted

QUERIES = 200
NOISE = 0.5
"""Length of the noise of a perturbed query, relative to its row: the angle between them is about 27 degrees."""
CONFIDENCE = 0.95
_RESAMPLES = 2000
_Z = 1.959964
"""Quantile of the normal distribution for CONFIDENCE, both sides."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Recalls of the queries of one kind, one each: the share of a query's true k nearest that was found."""

    recalls: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.recalls))

    @property
    def percentile5(self) -> float:
        """So many, or more, have 95 of 100 queries."""
        return float(np.quantile(self.recalls, 0.05, method="lower"))


@dataclass(frozen=True, slots=True)
class Measured:
    """Recall at `k` of searches for a `target`; `interval` holds the mean of queries like these with CONFIDENCE."""

    k: int
    target: float
    origins: Mapping[str, Origin]
    interval: tuple[float, float]

    @property
    def overall(self) -> Origin:
        return Origin(tuple(recall for origin in self.origins.values() for recall in origin.recalls))


def measure(session: Session, state: State, *, k: int, recall: float, queries: int, seed: int) -> Measured | None:
    """Recall at k for a target, on rows drawn by the seed: half of the queries as they are, half with noise added.

    The row that a query was made of does not count. A hit counts when it is no farther than the k-th nearest row, so
    that equals cannot be told apart. None where there are fewer than two rows. Reads all vectors once, in bounded
    memory, beside the searches themselves. Raises StoreError.
    """
    live = live_rows(session, state)
    chance = np.random.default_rng(seed)
    hashes, vectors = _sample(session, state, live, queries, chance)
    if len(hashes) < 2:
        return None
    members = (len(hashes) + 1) // 2
    vectors[members:] = _perturbed(vectors[members:], chance)
    truths = nearest_of_all(session, state, live, vectors, k + 1)
    recalls = []
    for vector, own, truth in zip(vectors, hashes.tolist(), truths, strict=True):
        reads = Session(session.store, session.blocks)
        hits = search(reads, state, Query(vector, k + 1, None, recall))
        others = [hash_key(key) != own for key, _ in hits.named(reads, 0, len(hits))]
        recalls.append(_recall(truth, hits.distances[others], own, k))
    origins = {"member": Origin(tuple(recalls[:members])), "perturbed": Origin(tuple(recalls[members:]))}
    return Measured(k, recall, origins, _interval(np.array(recalls), chance))


def _sample(
    session: Session, state: State, live: Sequence[LiveRows], count: int, chance: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hashes uint64 [n] and vectors float32 [n, d] of the rows that follow a random hash, all if fewer.

    Hashes are as good as random, and no compaction changes them. At most one wave.
    """
    offset = chance.integers(2**64, dtype=np.uint64)
    runs = [np.ascontiguousarray(part.entries["hash"]) for part in live]
    runs += [part.rows.keys.hashes[part.live] for part in state.parts]
    starts = np.cumsum([0, *map(len, runs)])
    hashes = np.concatenate([np.empty(0, np.uint64), *runs])
    chosen = np.argsort(hashes - offset, kind="stable")[:count]
    vectors = np.empty((len(chosen), state.config.dimension), np.float32)
    wanted: dict[int, Wanted] = {}
    for place, spot in enumerate(chosen.tolist()):
        run = int(np.searchsorted(starts, spot, side="right")) - 1
        row = spot - int(starts[run])
        if run < len(live):
            entry = live[run].entries[row]
            directory = live[run].compacted.directory
            wanted[place] = want_vector(directory, int(entry["row"]), int(entry["vector_crc"]))
        else:
            part = state.parts[run - len(live)]
            vectors[place] = part.rows.vectors[np.flatnonzero(part.live)[row]]
    for place, vector in zip(wanted, session.read(list(wanted.values())), strict=True):
        vectors[place] = vector
    return hashes[chosen], vectors


def _perturbed(vectors: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """The vectors float32 [n, d], each with noise of any direction."""
    noise = chance.standard_normal(vectors.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    noise *= NOISE * np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors + noise).astype(np.float32)


def _recall(truth: Sequence[Found], found: np.ndarray, own: int, k: int) -> float:
    """Share of the true k nearest, the query's own row left out, that distances float32 [n] of hits account for."""
    distances = [distance for distance, hash_, _ in truth if hash_ != own][:k]
    return min(1.0, int(np.count_nonzero(found[:k] <= np.float32(distances[-1]))) / len(distances))


def _interval(recalls: np.ndarray, chance: np.random.Generator) -> tuple[float, float]:
    """Where the mean lies with CONFIDENCE: percentiles of its bootstrap (Efron 1979).

    Where every query found everything there is nothing to resample: Wilson's interval (1927) for the share of such
    queries, whose mean recall is no lower.
    """
    count = len(recalls)
    if np.all(recalls == 1):
        return count / (count + _Z**2), 1.0
    means = recalls[chance.integers(count, size=(_RESAMPLES, count))].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
