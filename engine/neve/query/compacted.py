"""Search of compacted segments: lists by calibrated mass, rows by their codes, distances by their exact vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neve.filters.expression import Condition
from neve.index.state import Compacted, State
from neve.query.candidates import EAGER_RECORDS, Candidates, Found, nearest_candidates
from neve.query.explain import Explain, Plan
from neve.query.lists import CodeRun, Scanned, held_lists, want_lists
from neve.query.matching import matching_entries
from neve.query.session import Session
from neve.segments.directory import Directory
from neve.store.blocks import Wanted
from neve.vectors.centroids import centroid_scores
from neve.vectors.codes import CodedQuery
from neve.vectors.metric import Metric
from neve.vectors.probing import Probe, choose_lists

SCAN_SHARE = 0.6
"""From so many of a segment's lists on all are read: the rest costs less than to be wrong about them."""
MATCHES_EXACT = 10_000
"""Up to so many matching rows are scored by their vectors, without codes."""
SMALL_ROWS = 512
"""Segments of so few rows together are scored exactly, row by row, after all of their few lists."""


def as_point(vector: np.ndarray, metric: Metric) -> np.ndarray:
    """A query float32 [d] as the clustering and the codes see it: of unit length for cosine."""
    if metric is Metric.EUCLIDEAN:
        return vector
    wide = vector.astype(np.float64)
    point: np.ndarray = (wide / np.linalg.norm(wide)).astype(np.float32)
    return point


def first_lists(
    directories: Sequence[Directory],
    point: np.ndarray,
    probes: Sequence[Probe],
    weights: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """The lists of some segments that a query probes first, best first: all of a small one."""
    scores = [centroid_scores(directory.centroids, point) for directory in directories]
    return [
        lists
        if len(lists) < SCAN_SHARE * directory.lists and directory.rows > SMALL_ROWS
        else np.argsort(-some, kind="stable")
        for directory, some, lists in zip(directories, scores, choose_lists(scores, weights, probes), strict=True)
    ]


class _Probed:
    """One segment as one query sees it."""

    def __init__(
        self, session: Session, compacted: Compacted, point: np.ndarray, k: int, recall: float, rows: np.ndarray | None
    ) -> None:
        directory = self.directory = compacted.directory
        self._session = session
        self._point = point
        self._coded = CodedQuery.of(point, directory.center)
        self._masked = compacted.masked
        self.probe = directory.calibration.probe(k, recall)
        self.wanted = max(k, self.probe.candidates)
        self.weights: np.ndarray | None = None
        if rows is not None:
            failing = np.ones(directory.rows, np.bool_)
            failing[rows] = False
            self._masked = failing if self._masked is None else failing | self._masked
            self.weights = np.diff(np.searchsorted(rows, directory.primary_starts)).astype(np.float64)
            # about so far out the k nearest of those that pass are found
            self.probe = directory.calibration.probe(k * directory.rows // len(rows), recall)
        self.lists = np.empty(0, np.intp)
        self._held: list[CodeRun] = []
        self._scanned: Scanned | None = None

    @property
    def exhausted(self) -> bool:
        return len(self.lists) >= self.directory.lists

    def widen(self) -> None:
        """Twice as many lists, in the order of their centroids."""
        order = np.argsort(-centroid_scores(self.directory.centroids, self._point), kind="stable")
        fresh = order[~np.isin(order, self.lists)]
        self.lists = np.concatenate([self.lists, fresh[: max(1, len(self.lists))]])
        self._scanned = None

    def candidates(self, count: int) -> Candidates:
        """The best rows by code in the lists so far, which have been read."""
        if self._scanned is None:
            self._scanned = Scanned(self._held, self._coded, self._masked)
        scanned = self._scanned
        places, scores = scanned.best(count)
        return Candidates(self.directory, scores, scanned.rows(places), scanned.locations(places))

    def hold(self) -> list[Wanted]:
        """Take the lists so far; where one is not at hand, the blocks to read before this is asked again."""
        if self._scanned is not None:
            return []
        held = held_lists(self._session, self.directory, self.lists)
        self._held = [one for one in held if one is not None]
        return want_lists(self.directory, self.lists) if len(self._held) < len(held) else []

    @property
    def scanned_rows(self) -> int:
        return 0 if self._scanned is None else len(self._scanned)


def nearest_compacted(
    session: Session,
    state: State,
    vector: np.ndarray,
    k: int,
    condition: Condition | None,
    recall: float,
    explain: Explain,
) -> list[Found]:
    """At least the k nearest live rows of compacted segments, with the recall asked for; all where fewer exist.

    Two waves at most when no row turns out to be hidden: lists, then vectors and records; more where the first
    lists do not hold enough. Raises StoreError.
    """
    point = as_point(vector, state.config.metric)
    found: list[Found] = []
    probes = []
    for compacted in state.compacted:
        rows = None
        if condition is not None:
            entries = matching_entries(session, compacted.directory, condition)
            if len(entries) <= MATCHES_EXACT:
                explain.goes_by(Plan.MATCHES)
                found += _exact(session, state, compacted, vector, entries, explain)[:k]
                continue
            rows = entries["row"]
        probes.append(_Probed(session, compacted, point, k, recall, rows))
    if not probes:
        return found
    _choose_first(probes, point)
    explain.goes_by(Plan.EVERY_LIST if all(probe.exhausted for probe in probes) else Plan.LISTS)
    wanted = _candidates_wanted(probes)
    while True:
        pool = _pool(session, probes, wanted)
        exhausted = all(probe.exhausted for probe in probes)
        enough = sum(len(part.rows) for part in pool) >= wanted
        if enough or exhausted:
            near = nearest_candidates(session, state, vector, k, pool, explain)
            if len(near) >= k or not enough:
                break
            wanted *= 2
        for probe in probes:
            if not (enough or probe.exhausted):
                probe.widen()
    explain.lists += sum(len(probe.lists) for probe in probes)
    explain.lists_total += sum(probe.directory.lists for probe in probes)
    explain.rows_scored += sum(probe.scanned_rows for probe in probes)
    return found + near


def want_candidates(
    session: Session, segments: Sequence[Compacted], point: np.ndarray, k: int, recall: float
) -> list[Wanted]:
    """Vectors and records of the rows that a search will score exactly, going by the lists that it reads first."""
    probes = [_Probed(session, compacted, point, k, recall, None) for compacted in segments]
    _choose_first(probes, point)
    wanted: list[Wanted] = []
    for part in _pool(session, probes, _candidates_wanted(probes)):
        wanted += [*part.want_vectors(), *part.want_records()]
    return wanted if len(wanted) <= 2 * EAGER_RECORDS else []


def _choose_first(probes: Sequence[_Probed], point: np.ndarray) -> None:
    weights = [probe.weights for probe in probes if probe.weights is not None]
    directories = [probe.directory for probe in probes]
    chosen = first_lists(directories, point, [probe.probe for probe in probes], weights or None)
    for probe, lists in zip(probes, chosen, strict=True):
        probe.lists = lists


def _candidates_wanted(probes: Sequence[_Probed]) -> int:
    """How many rows to score exactly; all of segments that are small."""
    wanted = max(probe.wanted for probe in probes)
    rows = sum(probe.directory.rows for probe in probes)
    return max(wanted, rows) if rows <= SMALL_ROWS else wanted


def _pool(session: Session, probes: Sequence[_Probed], wanted: int) -> list[Candidates]:
    """The best rows by code over all segments; at most one wave, for lists that are not at hand."""
    unread = {probe: blocks for probe in probes if (blocks := probe.hold())}
    if unread:
        session.read([block for blocks in unread.values() for block in blocks])
        for probe in unread:
            probe.hold()
    pool = [probe.candidates(wanted) for probe in probes]
    if len(pool) == 1:
        return pool
    scores = np.concatenate([part.scores for part in pool])
    if len(scores) <= wanted:
        return pool
    worst = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    return [_chosen(part, part.scores >= worst) for part in pool]


def _chosen(part: Candidates, mask: np.ndarray) -> Candidates:
    return Candidates(part.directory, part.scores[mask], part.rows[mask], part.locations[mask])


def _exact(
    session: Session, state: State, compacted: Compacted, vector: np.ndarray, entries: np.ndarray, explain: Explain
) -> list[Found]:
    """All live rows of some key entries with exact distances."""
    if compacted.masked is not None:
        entries = entries[~compacted.masked[entries["row"]]]
    scores = np.zeros(len(entries), np.float32)
    part = Candidates(compacted.directory, scores, entries["row"].astype(np.uint32), entries)
    return nearest_candidates(session, state, vector, len(entries), [part], explain)
