"""Folding: the tail of the log becomes a flat segment, merged with the small ones that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neve.dataclass import dataclass
from neve.index import paths
from neve.index.commit import commit
from neve.index.grace import (
    FLAT_GROWTH,
    FLAT_ROWS_MAX,
    FLAT_ROWS_PER_SEGMENT,
    FLAT_SEGMENTS_SPARE,
    TAIL_BYTES_MAX,
    TAIL_ENTRIES_MAX,
)
from neve.index.manifest import FoldedEntry, Manifest, SegmentInfo
from neve.index.state import Part, Segment, State, apply_all, live_rows
from neve.runtime import Runtime
from neve.segments.flat import Batch, no_keys, no_rows, pack
from neve.segments.rows import Keys, live_masks, merge_keys
from neve.store.create import create
from neve.store.envelope import seal
from neve.store.port import PutNew, Store


def fold_is_due(state: State, times: int = 1) -> bool:
    """Whether the tail has reached its limit, or that many times it."""
    return len(state.tail) >= times * TAIL_ENTRIES_MAX or state.tail_bytes >= times * TAIL_BYTES_MAX


def choose_segments(segments: Sequence[tuple[str, int]], tail_rows: int) -> list[str]:
    """Names of the (name, live rows) that a fold merges with the tail: the smallest, as far as it pays.

    The next is taken while it is less than FLAT_GROWTH times what has been merged and the sum within FLAT_ROWS_MAX, and
    while there are more segments than the bound allows. Rows carry their positions, so any choice is correct.
    """
    allowed = (tail_rows + sum(live for _, live in segments)) / FLAT_ROWS_PER_SEGMENT + FLAT_SEGMENTS_SPARE
    chosen: list[str] = []
    merged = tail_rows
    for name, live in sorted(segments, key=lambda segment: segment[1]):
        crowded = len(segments) - len(chosen) + 1 > allowed
        pays = live < FLAT_GROWTH * merged and merged + live <= FLAT_ROWS_MAX
        if live and not pays and not crowded:
            break
        chosen.append(name)
        merged += live
    return chosen


@dataclass(frozen=True, slots=True)
class Fold:
    """A fold as planned on a state: the new segment's batch (None: nothing is left to hold), and the rest."""

    batch: Batch | None
    kept: tuple[Segment, ...]


def plan_fold(state: State) -> Fold:
    """What a fold of a state's whole tail writes. Pure."""
    sizes = [(segment.info.name, segment.part.live_rows) for segment in state.segments]
    chosen = set(choose_segments(sizes, sum(part.live_rows for part in state.tail_parts)))
    kept = tuple(segment for segment in state.segments if segment.info.name not in chosen)
    merged = [segment for segment in state.segments if segment.info.name in chosen]
    parts = [part for part in (*(s.part for s in merged), *state.tail_parts) if part.live.any()]
    rows = live_rows(parts) if parts else no_rows(state.config.dimension)
    tombstones = [*(segment.deleted for segment in merged), *(entry.batch.deleted for entry in state.tail)]
    deleted = _still_hiding(tombstones, rows.keys, kept, compacted=bool(state.compacted or state.pending))
    batch = Batch(rows, deleted)
    return Fold(batch if len(rows) or len(deleted) else None, kept)


def fold(store: Store, runtime: Runtime, state: State) -> State | None:
    """Fold a state's tail and commit the manifest; the same state in its new arrangement, None when the race was lost.

    2 PUT, 2 LIST and 1 PUT of the hint. Raises OutcomeUnknown, StoreError; what it wrote is then left to collection.
    """
    plan = plan_fold(state)
    segments = plan.kept
    if plan.batch is not None:
        name = paths.segment_name(state.manifest, runtime.token())
        raw = seal({"id": runtime.token(), "name": name}, pack(plan.batch))
        create(store, runtime, PutNew(paths.flat_segment(state.uid, name), raw))
        rows, deleted = len(plan.batch.rows), len(plan.batch.deleted)
        info = SegmentInfo(name, rows, deleted, rows, len(raw), 0)
        segments = (*segments, Segment(info, Part.all_live(plan.batch.rows), plan.batch.deleted))
    infos = tuple(replace(s.info, live=s.part.live_rows, digest=s.part.digest) for s in segments)
    manifest = Manifest(
        number=state.manifest + 1,
        write_id=runtime.token(),
        parent=state.base.write_id,
        folded_to=state.position,
        folded=tuple(FoldedEntry(entry.number, entry.write_id, entry.invocations) for entry in state.tail),
        segments=infos,
        compacted=tuple(segment.info for segment in state.compacted),
        tags=state.tags,
        settings=state.settings,
        work_floor=state.base.work_floor,
        imports=state.imports,
    )
    directories = {segment.info.name: segment.directory.encode() for segment in (*state.compacted, *state.pending)}
    if not commit(store, runtime, state.record, state.base, manifest, directories):
        return None
    arranged = tuple(replace(segment, info=info) for segment, info in zip(segments, infos, strict=True))
    return replace(state, base=manifest, segments=arranged, tail=(), tail_parts=())


def rebase(folded: State, known: State) -> State:
    """The newer of two states of one index, in the arrangement of the fold."""
    return apply_all(folded, known.tail)


def _still_hiding(tombstones: Sequence[Keys], live: Keys, kept: Sequence[Segment], *, compacted: bool) -> Keys:
    """The newest tombstone of each key that an older row in a kept segment may still have to be hidden by.

    Which keys compacted segments hold is not known here. A tombstone that anything newer supersedes is never kept: a
    compaction may take the newer row away, and what is left of it has to be right without it.
    """
    tombstones = [keys for keys in tombstones if len(keys)]
    if not tombstones:
        return no_keys()
    newest = [keys.take(np.flatnonzero(mask)) for keys, mask in zip(tombstones, live_masks(tombstones), strict=True)]
    merged, _ = merge_keys(newest)
    needed = np.full(len(merged), compacted, np.bool_)
    superseded = np.zeros(len(merged), np.bool_)
    for segment in kept:
        rows, mine = segment.part.rows.keys.match(merged)
        older = segment.part.rows.keys.positions[rows] < merged.positions[mine]
        needed[mine[older]] = True
        superseded[mine[~older]] = True
        rows, mine = segment.deleted.match(merged)
        superseded[mine[segment.deleted.positions[rows] >= merged.positions[mine]]] = True
    superseded[live.match(merged)[1]] = True
    return merged.take(np.flatnonzero(needed & ~superseded))
