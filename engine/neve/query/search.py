"""Search: recent rows exactly, compacted rows by lists and codes, merged by exact distance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from neve.dataclass import dataclass
from neve.errors import ValidationFailed
from neve.filters.expression import Condition
from neve.index.records import IndexConfig, IndexRecord
from neve.index.settings import RECALL
from neve.index.state import Compacted, State
from neve.query.candidates import Found
from neve.query.compacted import Sought, as_point, nearest_compacted, want_first, want_next
from neve.query.exhaustive import exhaustive
from neve.query.explain import Explain, Plan
from neve.query.hits import Hits
from neve.query.recent import nearest_recent
from neve.query.session import Prefetch, Session
from neve.segments.directory import Directory
from neve.store.blocks import Wanted


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """The k rows nearest to `vector` (float32 [d]) that satisfy `condition`, found with a share `recall` on average.

    Where `recall` is None the index's setting counts; 1 looks at every row.
    """

    vector: np.ndarray
    k: int
    condition: Condition | None = None
    recall: float | None = None


def search(session: Session, state: State, query: Query, explain: Explain | None = None) -> Hits:
    """The k nearest live rows; always k where k satisfy the condition. Distances are exact.

    No request for recent rows; for compacted ones see `nearest_compacted`. Raises StoreError.
    """
    explain = explain if explain is not None else Explain()
    explain.restart()
    explain.recent_rows = sum(len(part.rows) for part in state.parts)
    recall = explain.recall = target(state, query)
    found: list[Found]
    if state.compacted and recall == 1:
        found = exhaustive(session, state, query.vector, query.k, query.condition, explain)
    else:
        found = list(nearest_recent(state, query.vector, query.k, query.condition))
        if state.compacted:
            sought = Sought(as_point(query.vector, state.config.metric), query.k, recall, query.condition)
            found += nearest_compacted(session, state, query.vector, sought, explain)
        else:
            explain.goes_by(Plan.RECENT)
    found.sort(key=lambda hit: hit[:2])
    del found[query.k :]
    distances = np.array([distance for distance, _, _ in found], np.float32)
    return Hits(distances, [source for _, _, source in found])


def target(state: State, query: Query) -> float:
    """The recall that a query is to reach on average."""
    if query.recall is not None:
        return query.recall
    return RECALL.of(state.settings)


def reads_ahead(
    session: Session, query: Query, condition_of: Callable[[IndexConfig], Condition | None]
) -> Prefetch | None:
    """What a query reads first, and then next, beside opening its index; its condition is made for that index.

    The hint does not tell the index's settings as they are now; a guess that is off costs requests, not recall.
    """

    recall = RECALL.default if query.recall is None else query.recall
    if recall == 1:
        return None
    begun: dict[str, Sought] = {}

    def first(record: IndexRecord, directories: Sequence[Directory]) -> list[Wanted]:
        if query.vector.shape != (record.config.dimension,):
            return []
        try:
            condition = condition_of(record.config)
        except ValidationFailed:  # for whoever looks at the index as it is
            return []
        sought = Sought(as_point(query.vector, record.config.metric), query.k, recall, condition)
        begun.update((directory.folder, sought) for directory in directories)
        return want_first(session, directories, sought)

    def then(segments: Sequence[Compacted]) -> list[Wanted]:
        if not segments or any(compacted.directory.folder not in begun for compacted in segments):
            return []
        return want_next(session, segments, next(iter(begun.values())))

    return Prefetch(session, first, then)
