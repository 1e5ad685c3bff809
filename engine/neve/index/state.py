"""One immutable state of an index: segments, the tail of the log after them, and which rows are live.

Recent rows, those of flat segments and of the tail, are in memory. Of compacted segments only the directory and the
mask are. Every key that a recent row or tombstone has hides the rows of that key in compacted segments, whatever their
position: a compaction takes all flat segments there are, so what is recent afterwards is newer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from neve.dataclass import dataclass
from neve.errors import ObjectGone
from neve.index.entry import Kind, LogEntry
from neve.index.manifest import CompactedInfo, Import, Manifest, SegmentInfo
from neve.index.records import IndexConfig, IndexRecord
from neve.segments.directory import Directory
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

    @property
    def digest(self) -> int:
        """Order-free digest of the live rows."""
        return live_digest(self.rows.keys.hashes[self.live], self.rows.keys.positions[self.live])

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
    """A flat segment, in memory."""

    info: SegmentInfo
    part: Part
    deleted: Keys


@dataclass(frozen=True, slots=True, eq=False)
class Compacted:
    """A compacted segment; `masked` bool [rows] is true for rows that are no longer live, None where none is."""

    info: CompactedInfo
    directory: Directory
    masked: np.ndarray | None


@dataclass(frozen=True, slots=True)
class State:
    """An index as of log entry `position`: what `base` names, then the entries after it, in order.

    `imports` are open; `pending` are the compacted segments as one of them will leave them.
    """

    record: IndexRecord
    base: Manifest
    segments: tuple[Segment, ...]
    compacted: tuple[Compacted, ...]
    tail: tuple[LogEntry, ...]
    tail_parts: tuple[Part, ...]
    tags: Mapping[str, str]
    settings: Mapping[str, float]
    position: int
    dropped_at: int | None = None
    imports: tuple[Import, ...] = ()
    pending: tuple[Compacted, ...] = ()

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
        """The recent rows."""
        return (*(segment.part for segment in self.segments), *self.tail_parts)

    @property
    def recent_keys(self) -> Iterator[Keys]:
        """Runs of the keys that hide rows of compacted segments."""
        yield from (part.rows.keys for part in self.parts if len(part.rows))
        yield from (segment.deleted for segment in self.segments if len(segment.deleted))
        yield from (entry.batch.deleted for entry in self.tail if len(entry.batch.deleted))

    @property
    def live_rows(self) -> int:
        """Live rows, where those of compacted segments that a recent key hides are still counted."""
        return sum(part.live_rows for part in self.parts) + sum(segment.info.live for segment in self.compacted)

    @property
    def tail_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.tail)

    def digest(self) -> int:
        """Order-free digest of the rows that `live_rows` counts; the same before and after a fold."""
        sums = (*(part.digest for part in self.parts), *(segment.info.digest for segment in self.compacted))
        return sum(sums) % 2**64

    def hides(self, hash_: int, key: bytes) -> bool:
        """Whether a recent row or tombstone has a key."""
        return any(keys.find(hash_, key) is not None for keys in self.recent_keys)

    def may_hide(self, hashes: np.ndarray) -> np.ndarray:
        """Mask [n] of the keys' hashes (uint64 [n]) that some recent key has: `hides` tells for certain."""
        found = np.zeros(len(hashes), np.bool_)
        for keys in self.recent_keys:
            near = np.searchsorted(keys.hashes, hashes)
            near[near == len(keys)] = 0
            found |= keys.hashes[near] == hashes
        return found

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
        """The state after the next entry; what follows a drop changes nothing but the position.

        Raises ObjectGone where an import is attached whose segments our manifest does not name: a newer one does.
        """
        if self.dropped_at is not None:
            return replace(self, position=entry.number)
        after = replace(self, position=entry.number, tail=(*self.tail, entry))
        match entry.kind:
            case Kind.DROP:
                return replace(after, dropped_at=entry.number)
            case Kind.CONFIGURE:
                return replace(after, tags=entry.tags, settings=entry.settings)
            case Kind.WRITE:
                return after._with_rows(entry.batch)
            case Kind.BEGIN if not self.imports:
                return replace(after, imports=(Import(entry.import_id, entry.number, entry.source, entry.since),))
            case Kind.ATTACH if opened := self.open_import(entry.import_id):
                if opened.pending is None:
                    raise ObjectGone(f"manifest {self.manifest} of {self.record.path} lacks what an import attaches")
                return replace(after, imports=(), compacted=self.pending, pending=())
            case Kind.ABANDON if self.open_import(entry.import_id):
                return replace(after, imports=(), pending=())
        return after

    def open_import(self, import_id: str) -> Import | None:
        """The import of an id, None where it is not open."""
        return next((one for one in self.imports if one.id == import_id), None)

    def _with_rows(self, batch: Batch) -> State:
        news = [keys for keys in (batch.rows.keys, batch.deleted) if len(keys)]
        tail_parts = [part for part in (_hide(part, news) for part in self.tail_parts) if part.live.any()]
        if len(batch.rows):
            tail_parts.append(Part.all_live(batch.rows))
        if len(tail_parts) > _TAIL_PARTS_MAX:
            tail_parts = [Part.all_live(live_rows(tail_parts))]
        segments = tuple(replace(segment, part=_hide(segment.part, news)) for segment in self.segments)
        return replace(self, segments=segments, tail_parts=tuple(tail_parts))


def base_state(
    record: IndexRecord,
    manifest: Manifest,
    batches: Mapping[str, Batch],
    compacted: tuple[Compacted, ...] = (),
    pending: tuple[Compacted, ...] = (),
) -> State:
    """The state that a manifest describes: from its flat segments' batches by name, its compacted and its pending."""
    found = [batches[info.name] for info in manifest.segments]
    runs = [keys for batch in found for keys in (batch.rows.keys, batch.deleted)]
    masks = live_masks(runs)[::2] if runs else []
    segments = tuple(
        Segment(info, Part(batch.rows, mask), batch.deleted)
        for info, batch, mask in zip(manifest.segments, found, masks, strict=True)
    )
    return State(
        record,
        manifest,
        segments,
        compacted,
        tail=(),
        tail_parts=(),
        tags=manifest.tags,
        settings=manifest.settings,
        position=manifest.folded_to,
        imports=manifest.imports,
        pending=pending,
    )


def apply_all(state: State, entries: Sequence[LogEntry]) -> State:
    """The state after those of `entries` that come next, in order."""
    return reduce(State.apply, (entry for entry in entries if entry.number > state.position), state)


def live_rows(parts: Sequence[Part]) -> Rows:
    """The live rows of some parts as one sorted run; at least one part."""
    return merge_rows([p.rows if p.live.all() else p.rows.take(np.flatnonzero(p.live)) for p in parts])


def _hide(part: Part, news: Sequence[Keys]) -> Part:
    return reduce(Part.without, news, part)
