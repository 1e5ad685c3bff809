"""Candidates: the rows of compacted segments that a search scores by their exact vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neve.dataclass import dataclass
from neve.index.state import State
from neve.query.explain import Explain
from neve.query.hits import Located, Named, want_record, want_vector
from neve.query.session import Session
from neve.segments.directory import Directory
from neve.segments.rows import hash_key
from neve.store.blocks import Wanted
from neve.vectors.exact import exact_distances

EAGER_RECORDS = 512
"""Up to so many candidates are read with their records in one wave; of more only the hits that are shown."""

Found = tuple[float, int, "Named | Located"]
"""Distance, hash of the key, and source of a hit."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Rows of one segment; `scores` float32 [n] by code, larger is nearer, `rows` uint32 [n], and where they lie."""

    directory: Directory
    scores: np.ndarray
    rows: np.ndarray
    locations: np.ndarray

    def want_vectors(self) -> list[Wanted]:
        crcs = self.locations["vector_crc"].tolist()
        return [want_vector(self.directory, row, crc) for row, crc in zip(self.rows.tolist(), crcs, strict=True)]

    def want_records(self, mask: np.ndarray | None = None) -> list[Wanted]:
        some = self.locations if mask is None else self.locations[mask]
        return [want_record(self.directory, location) for location in some]

    def held_vectors(self, session: Session) -> list[Any]:
        """Their vectors as far as they are in memory, None for the others."""
        directory, size = self.directory, 4 * self.directory.dimension
        key, offset = directory.folder + directory.vectors_object, directory.vectors_offset
        return session.held([(key, offset + size * row) for row in self.rows.tolist()])


def nearest_candidates(
    session: Session, state: State, vector: np.ndarray, k: int, pool: Sequence[Candidates], explain: Explain
) -> list[Found]:
    """The k candidates nearest to `vector` by exact distance, nearest first, less those that a recent key hides.

    At most one wave: vectors that are not in memory, with the records of all while they are few. Raises StoreError.
    """
    pool = [part for part in pool if len(part.rows)]
    if not pool:
        return []
    total = sum(len(part.rows) for part in pool)
    explain.candidates += total
    vectors = [part.held_vectors(session) for part in pool]
    suspects = [state.may_hide(np.ascontiguousarray(part.locations["hash"])) for part in pool]
    cold = any(value is None for values in vectors for value in values)
    eager = cold and total <= EAGER_RECORDS
    wanted = [
        want for part, mask in zip(pool, suspects, strict=True) for want in part.want_records(None if eager else mask)
    ]
    if cold:
        wanted += [want for part in pool for want in part.want_vectors()]
    if wanted:
        session.read(wanted)
    if cold:
        vectors = [part.held_vectors(session) for part in pool]
    exact = np.stack([value for values in vectors for value in values])
    distances = exact_distances(exact, vector, state.config.metric)
    hashes = np.concatenate([part.locations["hash"] for part in pool])
    visible = np.concatenate([_visible(session, state, part, mask) for part, mask in zip(pool, suspects, strict=True)])
    order = np.lexsort((hashes, distances))
    order = order[visible[order]][:k]
    starts = np.cumsum([0, *(len(part.rows) for part in pool)])
    parts = (np.searchsorted(starts, order, side="right") - 1).tolist()
    sources = (
        Located(pool[part].directory, pool[part].locations[place - starts[part]])
        for part, place in zip(parts, order.tolist(), strict=True)
    )
    return list(zip(distances[order].tolist(), hashes[order].tolist(), sources, strict=True))


def _visible(session: Session, state: State, part: Candidates, suspects: np.ndarray) -> np.ndarray:
    """Mask [n] of the candidates whose key no recent row or tombstone has; the records of suspects have been read."""
    visible = np.ones(len(part.rows), np.bool_)
    if suspects.any():
        names: list[Named] = session.read(part.want_records(suspects))
        visible[suspects] = [not state.hides(hash_key(key), key) for key, _ in names]
    return visible
