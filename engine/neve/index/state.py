"""One immutable state of an index: segments, the tail of the log after them, and which rows are live."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from neve.index.entry import Kind, LogEntry
from neve.index.manifest import Manifest, SegmentInfo
from neve.index.records import IndexConfig, IndexRecord
from neve.segments.flat import Batch
from neve.segments.rows import Keys, Rows, live_digest, live_masks, merge_rows

_TAIL_PARTS_MAX = 8


@dataclass(frozen=True, slots=True)
class Part:
    """Rows in memory; `live` bool [n] is false where a higher position of the key stands elsewhere."""

    rows: Rows
    live: np.ndarray

    @classmethod
    def all_live(cls, rows: Rows) -> Part:
        return cls(rows, np.ones(len(rows), np.bool_))

    @property
    def live_rows(self) -> int:
        return int(np.count_nonzero(self.live))

    def without(self, keys: Keys) -> Part:
        """The same rows, those of `keys` no longer live."""
        hidden, _ = self.rows.keys.match(keys)
        if not len(hidden) or not self.live[hidden].any():
            return self
        live = self.live.copy()
        live[hidden] = False
        return replace(self, live=live)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment in memory."""

    info: SegmentInfo
    part: Part
    deleted: Keys


@dataclass(frozen=True, slots=True)
class State:
    """An index as of log entry `position`: what `base` names, then the entries after it, in order."""

    record: IndexRecord
    base: Manifest
    segments: tuple[Segment, ...]
    tail: tuple[LogEntry, ...]
    tail_parts: tuple[Part, ...]
    tags: Mapping[str, str]
    position: int
    dropped_at: int | None = None

    @property
    def uid(self) -> str:
        return self.record.uid

    @property
    def config(self) -> IndexConfig:
        return self.record.config

    @property
    def manifest(self) -> int:
        """Number of the manifest that this state is arranged by."""
        return self.base.number

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*(segment.part for segment in self.segments), *self.tail_parts)

    @property
    def live_rows(self) -> int:
        return sum(part.live_rows for part in self.parts)

    @property
    def tail_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.tail)

    def digest(self) -> int:
        """Order-free digest of the live set; the same before and after a fold."""
        sums = (live_digest(p.rows.keys.hashes[p.live], p.rows.keys.positions[p.live]) for p in self.parts)
        return sum(sums) % 2**64

    def arrangement(self) -> int:
        """64-bit digest of what this state was read from: the manifest and each entry of the tail, by write id."""
        ids = (self.base.write_id, *(entry.write_id for entry in self.tail))
        return int.from_bytes(hashlib.blake2b("/".join(ids).encode(), digest_size=8).digest(), "big")

    def answered(self, invocation: str) -> bool:
        """Whether a call stands in the tail or the newest fold record: its repeat is not applied again."""
        return any(
            invocation in calls
            for calls in (*(e.invocations for e in self.tail), *(e.invocations for e in self.base.folded))
        )

    def apply(self, entry: LogEntry) -> State:
        """The state after the next entry; what follows a drop changes nothing but the position."""
        if self.dropped_at is not None:
            return replace(self, position=entry.number)
        after = replace(self, position=entry.number, tail=(*self.tail, entry))
        match entry.kind:
            case Kind.DROP:
                return replace(after, dropped_at=entry.number)
            case Kind.CONFIGURE:
                return replace(after, tags=entry.tags)
            case Kind.WRITE:
                return after._with_rows(entry.batch)
        return after

    def _with_rows(self, batch: Batch) -> State:
        news = [keys for keys in (batch.rows.keys, batch.deleted) if len(keys)]
        tail_parts = [part for part in (_hide(part, news) for part in self.tail_parts) if part.live.any()]
        if len(batch.rows):
            tail_parts.append(Part.all_live(batch.rows))
        if len(tail_parts) > _TAIL_PARTS_MAX:
            tail_parts = [Part.all_live(live_rows(tail_parts))]
        segments = tuple(replace(segment, part=_hide(segment.part, news)) for segment in self.segments)
        return replace(self, segments=segments, tail_parts=tuple(tail_parts))


def base_state(record: IndexRecord, manifest: Manifest, batches: Mapping[str, Batch]) -> State:
    """The state that a manifest describes, from its segments' batches by name."""
    found = [batches[info.name] for info in manifest.segments]
    runs = [keys for batch in found for keys in (batch.rows.keys, batch.deleted)]
    masks = live_masks(runs)[::2] if runs else []
    segments = tuple(
        Segment(info, Part(batch.rows, mask), batch.deleted)
        for info, batch, mask in zip(manifest.segments, found, masks, strict=True)
    )
    return State(record, manifest, segments, (), (), manifest.tags, manifest.folded_to)


def apply_all(state: State, entries: Sequence[LogEntry]) -> State:
    """The state after those of `entries` that come next, in order."""
    return reduce(State.apply, (entry for entry in entries if entry.number > state.position), state)


def live_rows(parts: Sequence[Part]) -> Rows:
    """The live rows of some parts as one sorted run; at least one part."""
    return merge_rows([p.rows if p.live.all() else p.rows.take(np.flatnonzero(p.live)) for p in parts])


def _hide(part: Part, news: Sequence[Keys]) -> Part:
    return reduce(Part.without, news, part)
