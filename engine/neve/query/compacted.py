"""Search of compacted segments: lists by calibrated mass, rows by their codes, distances by their exact vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neve.dataclass import dataclass
from neve.filters.expression import Condition
from neve.index.state import Compacted, State
from neve.query.candidates import EAGER_RECORDS, Candidates, Found, nearest_candidates
from neve.query.explain import Explain, Plan
from neve.query.lists import CodeRun, Scanned, held_lists, want_lists
from neve.query.matching import Matches, matches_at_least, matching, want_terms
from neve.query.session import Session
from neve.query.shards import Gathered, Share, left_to_shards, scatter
from neve.segments.directory import Directory
from neve.store.blocks import Wanted
from neve.vectors.centroids import centroid_scores
from neve.vectors.codes import CodedQuery
from neve.vectors.metric import Metric
from neve.vectors.probing import Probe, choose_lists, cover

SCAN_SHARE = 0.6
"""From so many of a segment's lists on all are read: the rest costs less than to be wrong about them."""
MATCHES_ALL = 1_000
"""Of up to so many rows that satisfy a filter all are scored, in whichever lists they are."""
_SURE = 2
"""And so many times the candidates are scored exactly: that none is missed."""
_DENSE_SHARE = 0.2
"""Where so many of the rows are known to match, lists are read before it is known where; of their mass may be missing
_SPARE of what may be missing when it is known: then they mostly are enough."""
_SPARE = 0.8
MATCHES_MOST = 10_000
_FEWER_MISSING, _LESS_MISSING = 20.0, 2.0
"""Of answers out of up to so many rows a twentieth may be missing of what may be without a filter, out of more half:
the calibration knows whole neighbourhoods, not what a filter leaves of them."""
SMALL_ROWS = 512
"""Segments of so few rows together are scored exactly, row by row, after all of their few lists."""
_FEW_MATCHES = 64
"""So few rows that satisfy a filter likewise: they are far from each other, and a request each."""


def as_point(vector: np.ndarray, metric: Metric) -> np.ndarray:
    """A query float32 [d] as the clustering and the codes see it: of unit length for cosine."""
    if metric is Metric.EUCLIDEAN:
        return vector
    wide = vector.astype(np.float64)
    point: np.ndarray = (wide / np.linalg.norm(wide)).astype(np.float32)
    return point


@dataclass(frozen=True, slots=True, eq=False)
class Sought:
    """What a query looks for in compacted segments: the k rows nearest to `point` (float32 [d], see `as_point`) that
    satisfy the condition, found with a share `recall`."""

    point: np.ndarray
    k: int
    recall: float
    condition: Condition | None


def scores_of(directories: Sequence[Directory], point: np.ndarray) -> list[np.ndarray]:
    """Scores float32 [lists] of the centroids of some segments; -inf for those that are too far to look at."""
    return [centroid_scores(directory.centroids, point) for directory in directories]


def first_lists(
    directories: Sequence[Directory],
    scores: Sequence[np.ndarray],
    probes: Sequence[Probe],
    weights: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """The lists of some segments that a query probes first, best first: all of a small one that have any weight."""
    chosen = choose_lists(scores, weights, probes)
    return [
        lists
        if len(lists) < SCAN_SHARE * directory.lists and directory.rows > SMALL_ROWS
        else by_score(some, None if weights is None else weights[place])
        for place, (directory, some, lists) in enumerate(zip(directories, scores, chosen, strict=True))
    ]


def by_score(scores: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """All lists that have any weight, intp, in the order of their centroids' scores."""
    order = np.argsort(-scores, kind="stable")
    return order if weights is None else order[weights[order] > 0.0]


def filtered_probe(directory: Directory, matches: int, sought: Sought) -> Probe:
    """What finds the nearest of so many rows of a segment that satisfy a filter."""
    calibration = directory.calibration
    recall = 1.0 - (1.0 - sought.recall) / (_FEWER_MISSING if matches <= MATCHES_MOST else _LESS_MISSING)
    probe = calibration.probe(sought.k, recall)
    if matches <= MATCHES_ALL:
        return Probe(probe.beta, 1.0, _SURE * probe.candidates)
    # about so far out the k nearest of those that pass are found
    outer = calibration.probe(sought.k * directory.rows // matches, recall)
    return Probe(probe.beta, outer.mass, probe.candidates)


class _Probed:
    """One segment as one query sees it."""

    def __init__(self, session: Session, compacted: Compacted, sought: Sought, matches: Matches | None) -> None:
        directory = self.directory = compacted.directory
        self._session = session
        self._compacted = compacted
        self._point = sought.point
        self._coded = CodedQuery.of(sought.point, directory.center)
        self._masked = compacted.masked
        self._matches = matches
        self.weights: np.ndarray | None = None
        self.rows = directory.rows
        if matches is None:
            self.probe = _plain_probe(directory, sought)
        else:
            self._masked = matches.failing if self._masked is None else matches.failing | self._masked
            self.weights, self.rows = matches.weights, matches.count
            self.probe = filtered_probe(directory, matches.count, sought)
        self.wanted = max(sought.k, self.probe.candidates)
        self.lists = np.empty(0, np.intp)
        self._held: list[CodeRun] = []
        self._scanned: Scanned | Gathered | None = None
        self.gathered = matches is not None and self._take_gathered(matches)

    @property
    def exhausted(self) -> bool:
        reached = self.directory.lists if self.weights is None else int(np.count_nonzero(self.weights))
        return self.gathered or len(self.lists) >= reached

    def widen(self) -> None:
        """Twice as many lists, in the order of their centroids."""
        order = by_score(centroid_scores(self.directory.centroids, self._point), self.weights)
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

    def share(self, blocks: Sequence[Wanted]) -> Share:
        """The lists so far, for shards to scan."""
        return Share(self._compacted, self.lists, blocks)

    def take(self, found: Gathered) -> None:
        """Take what shards found in the lists so far."""
        self._scanned = found

    def hold(self, wanted: int) -> list[Wanted]:
        """Take the lists so far; where one is not at hand, the blocks to read before this is asked again."""
        if isinstance(self._scanned, Gathered) and not self._scanned.suffices(wanted):
            self._scanned = None
        if self.gathered or self._scanned is not None:
            return []
        held = held_lists(self._session, self.directory, self.lists)
        self._held = [one for one in held if one is not None]
        return want_lists(self.directory, self.lists) if len(self._held) < len(held) else []

    @property
    def scanned_rows(self) -> int:
        return 0 if self._scanned is None else len(self._scanned)

    def _take_gathered(self, matches: Matches) -> bool:
        """Take the codes of all matching rows where they lie side by side."""
        slab = matches.gathered(self._session, self.directory)
        if slab is None:
            return False
        self._held, self.lists = [slab.whole], np.flatnonzero(matches.weights)
        return True


def nearest_compacted(
    session: Session, state: State, vector: np.ndarray, sought: Sought, explain: Explain
) -> list[Found]:
    """At least the nearest live rows of compacted segments that are sought; all where fewer exist.

    Two waves at most when no row turns out to be hidden: lists, then vectors and records; more where the first
    lists do not hold enough. With a condition one more before them, for its terms. Raises StoreError.
    """
    probes = _probed(session, state.compacted, sought, explain)
    if not probes:
        explain.goes_by(Plan.MATCHES)
        return []
    _choose_first(probes, sought)
    wanted = _candidates_wanted(probes)
    while True:
        pool = _pool(session, probes, sought, wanted)
        exhausted = all(probe.exhausted for probe in probes)
        enough = sum(len(part.rows) for part in pool) >= wanted
        if enough or exhausted:
            near = nearest_candidates(session, state, vector, sought.k, pool, explain)
            if len(near) >= sought.k or not enough:
                break
            wanted *= 2
        for probe in probes:
            if not (enough or probe.exhausted):
                probe.widen()
    whole = Plan.EVERY_LIST if sought.condition is None else Plan.MATCHES
    explain.goes_by(whole if exhausted else Plan.LISTS)
    explain.lists += sum(len(probe.lists) for probe in probes)
    explain.lists_total += sum(compacted.directory.lists for compacted in state.compacted)
    explain.rows_scored += sum(probe.scanned_rows for probe in probes)
    return near


def want_first(session: Session, directories: Sequence[Directory], sought: Sought) -> list[Wanted]:
    """What a search reads first: lists; with a condition its terms, and where many rows are known to match, beside them
    the lists that will hold the nearest."""
    condition = sought.condition
    if condition is None:
        plain = [_plain_probe(directory, sought) for directory in directories]
        return _want_lists(session, directories, sought, plain)
    terms = [want for directory in directories for want in want_terms(directory, condition)]
    likely = _likely_probes(directories, sought, condition)
    return terms if likely is None else terms + _want_lists(session, directories, sought, likely)


def want_next(session: Session, segments: Sequence[Compacted], sought: Sought) -> list[Wanted]:
    """What a search reads next: lists, or where they are at hand, vectors and records of the rows scored exactly."""
    probes = _probed(session, segments, sought, Explain())
    if not probes:
        return []
    _choose_first(probes, sought)
    count = _candidates_wanted(probes)
    if unread := [block for probe in probes for block in probe.hold(count)]:
        return [] if left_to_shards(session, unread) else unread
    wanted: list[Wanted] = []
    for part in _pool(session, probes, sought, count):
        wanted += [*part.want_vectors(), *part.want_records()]
    return wanted if len(wanted) <= 2 * EAGER_RECORDS else []


def _plain_probe(directory: Directory, sought: Sought) -> Probe:
    return directory.calibration.probe(sought.k, sought.recall)


def _want_lists(
    session: Session, directories: Sequence[Directory], sought: Sought, probes: Sequence[Probe]
) -> list[Wanted]:
    chosen = first_lists(directories, scores_of(directories, sought.point), probes)
    wanted = [want for pair in zip(directories, chosen, strict=True) for want in want_lists(*pair)]
    return [] if left_to_shards(session, wanted) else wanted


def _likely_probes(directories: Sequence[Directory], sought: Sought, condition: Condition) -> list[Probe] | None:
    """Probes that will do, whichever rows match, where the directories tell that many do; else None."""
    likely = [matches_at_least(directory, condition) for directory in directories]
    pairs = list(zip(directories, likely, strict=True))
    if any(count < _DENSE_SHARE * directory.rows for directory, count in pairs):
        return None
    probes = [filtered_probe(directory, count, sought) for directory, count in pairs]
    return [replace(probe, mass=1.0 - _SPARE * (1.0 - probe.mass)) for probe in probes]


def _probed(session: Session, segments: Sequence[Compacted], sought: Sought, explain: Explain) -> list[_Probed]:
    """The segments that may hold an answer. At most one wave, of terms."""
    if sought.condition is None:
        return [_Probed(session, compacted, sought, None) for compacted in segments]
    found = matching(session, [compacted.directory for compacted in segments], sought.condition)
    explain.matches = sum(matches.count for matches in found)
    pairs = zip(segments, found, strict=True)
    return [_Probed(session, compacted, sought, matches) for compacted, matches in pairs if matches.count]


def _choose_first(probes: Sequence[_Probed], sought: Sought) -> None:
    """Choose lists: where it was likely that many rows match those that were read on that word, if they are enough."""
    open_ = [probe for probe in probes if not probe.gathered]
    directories, asked = [probe.directory for probe in open_], [probe.probe for probe in open_]
    scores = scores_of(directories, sought.point)
    weights = [probe.weights for probe in open_ if probe.weights is not None]
    likely = None if sought.condition is None or not open_ else _likely_probes(directories, sought, sought.condition)
    chosen = None if likely is None else first_lists(directories, scores, likely)
    if chosen is None or not cover(scores, weights, asked, chosen):
        chosen = first_lists(directories, scores, asked, weights or None)
    for probe, lists in zip(open_, chosen, strict=True):
        probe.lists = lists if probe.weights is None else lists[probe.weights[lists] > 0.0]


def _candidates_wanted(probes: Sequence[_Probed]) -> int:
    """How many rows to score exactly; all where they are few."""
    wanted = max(probe.wanted for probe in probes)
    rows = sum(probe.rows for probe in probes)
    few = _FEW_MATCHES if any(probe.weights is not None for probe in probes) else SMALL_ROWS
    return max(wanted, rows) if rows <= few else wanted


def _pool(session: Session, probes: Sequence[_Probed], sought: Sought, wanted: int) -> list[Candidates]:
    """The best rows by code over all segments; at most one wave, for lists that are not at hand.

    Where these are many, and there are shards, it is theirs.
    """
    unread = {probe: blocks for probe in probes if (blocks := probe.hold(wanted))}
    if unread:
        shares = [probe.share(blocks) for probe, blocks in unread.items()]
        found = scatter(session, shares, sought.point, sought.condition, wanted)
        if found is None:
            session.read([block for blocks in unread.values() for block in blocks])
        for place, probe in enumerate(unread):
            if found is None:
                probe.hold(wanted)
            else:
                probe.take(found[place])
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
