"""The end of an import: its segments are masked, named as pending by a manifest, and attached by an entry of the log.

An import writes every row whose key nobody has written since it began. Its rows have the number of its first entry as
their position, so by then everything recent must be newer: recent keys hide compacted rows whatever their positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from neve.compaction.build import Means, NewSegment
from neve.compaction.compact import COMMITS_MAX, compact, write_mask
from neve.compaction.gather import fetching, hidden, read_all
from neve.errors import ImportEnded, IndexNotFound, NeveError, ObjectGone, StoreError, StoreUnavailable
from neve.index import paths
from neve.index.commit import commit
from neve.index.database import Database
from neve.index.entry import LogEntry
from neve.index.fold import fold
from neve.index.manifest import CompactedInfo, Import
from neve.index.reader import Known, Reader
from neve.index.records import IndexRecord
from neve.index.state import Compacted, State
from neve.segments.directory import Directory
from neve.segments.masks import encode_mask
from neve.segments.rows import Keys, merge_keys
from neve.segments.stream import Fetch, key_blocks

_ENTRIES = 16
"""Log entries read in one wave: they have up to 16 MiB each."""
_RUN_KEYS = 1 << 16
"""About so many keys of the import are looked up at a time."""
_PAUSE_S = 2.0
"""Before looking again whether another process of this machine has compacted what is older than the import."""


class Work(Protocol):
    """What makes the segments of an import, here or elsewhere."""

    def build(self) -> None:
        """All the work that comes before its outcome is in the store."""
        ...

    def upload(self, planned_on: int, work_floor: int) -> tuple[Sequence[NewSegment], Mapping[str, bytes]]:
        """The new segments under names of that manifest, or of one not below the floor; their directories, if small."""
        ...


@dataclass(frozen=True, slots=True)
class Attached:
    """What an import has brought: `rows` that are there now, and how many older ones of the same keys they `replaced`.

    Of its rows those that were `overtaken` have keys that others had written since it began.
    """

    rows: int
    overtaken: int
    replaced: int
    lists: int
    size_bytes: int


class Finish:
    """One import, from building its segments to the attach, whoever else is at it too."""

    def __init__(self, database: Database, record: IndexRecord, opened: Import, work: Work, means: Means) -> None:
        self._database, self._store, self._runtime = database, database.store, database.runtime
        self._record, self._import, self._work, self._means = record, opened, work, means
        self._reader = Reader(database.store, database.runtime, database.grace)
        self._new: list[_New] | None = None
        self._read_to = opened.begun
        self._older: dict[CompactedInfo, CompactedInfo] = {}

    def run(self) -> Attached | None:
        """Build, upload, name as pending, attach, fold; from wherever the import stands. None: another has attached it.

        Raises ImportEnded where it was abandoned, IndexNotFound, OutcomeUnknown, StoreError, and as building does.
        """
        known = self._look(None)
        opened = self._opened(known.state)
        if opened is not None and opened.pending is None:
            self._work.build()
        lost: StoreError = StoreUnavailable(f"{self._record.path} changes faster than an import can be attached to it")
        for _ in range(COMMITS_MAX):
            known = self._look(known)
            opened = self._opened(known.state)
            if opened is None:
                return None
            if opened.pending is not None:
                return self._attach(known.state, opened.pending)
            try:
                if self._settle(known.state) and self._upload(known.state):
                    self._commit(known.state, opened)
            except ObjectGone as error:  # others have compacted or ended the import, and it was collected
                lost = error
        raise lost

    def _look(self, known: Known | None) -> Known:
        """The newest state of the index, past the database's handle: that would keep in memory what it has read."""
        record = self._record
        known = self._reader.open(record.bucket, record.name) if known is None else self._reader.refresh(known)
        if known.state.uid != record.uid or known.state.dropped_at is not None:
            raise IndexNotFound(record.path)
        return known

    def _opened(self, state: State) -> Import | None:
        """The import as a state has it; None where it is attached. Raises ImportEnded."""
        opened = state.open_import(self._import.id)
        if opened is None and not state.answered(self._import.id):
            raise ImportEnded(self._record.path)
        return opened

    def _settle(self, state: State) -> bool:
        """Whether all that is recent is newer than the import, and a manifest knows of it; else something is done."""
        if state.base.folded_to < self._import.begun:
            fold(self._store, self._runtime, state)
            return False
        if any(np.any(keys.positions < self._import.begun) for keys in state.recent_keys):
            record = self._record
            if compact(self._database, record.bucket, record.name, self._means, asked=True) is None:
                self._runtime.sleep(_PAUSE_S)
            return False
        return True

    def _upload(self, state: State) -> bool:
        """Whether the segments are in the store under names that still count; if not, they are now."""
        floor = state.base.work_floor
        if self._new is not None and all(paths.segment_planned_on(one.segment.name) >= floor for one in self._new):
            return True
        self._means.progress("upload", 0, 1)
        segments, directories = self._work.upload(state.manifest, floor)
        self._new = [self._found(one, directories.get(one.name)) for one in segments]
        self._read_to, self._older = self._import.begun, {}
        self._means.progress("upload", 1, 1)
        return False  # that took long, and the state may be another by now

    def _found(self, segment: NewSegment, raw: bytes | None) -> _New:
        """A segment as uploaded; its directory is read where the work has not kept it."""
        uid = self._record.uid
        key = paths.segment_directory(uid, segment.name)
        if raw is None:
            raw = read_all(self._store, [key])[0]
        directory = Directory.decode(key, raw, paths.segment_folder(uid, segment.name))
        return _New(segment, directory, raw, np.zeros(segment.rows, np.bool_), segment.digest)

    def _commit(self, state: State, opened: Import) -> None:
        """Name as pending what the index will have of compacted segments, on that very state, or lose the race."""
        new = self._new or []
        self._overtake(new, state)
        older = [self._less_replaced(state, one, new) for one in state.compacted]
        brought = [self._named(state, one.info, one.masked) for one in new if one.info.live]
        manifest = replace(
            state.base,
            number=state.manifest + 1,
            write_id=self._runtime.token(),
            parent=state.base.write_id,
            imports=(replace(opened, pending=(*(info for info in older if info.live), *brought)),),
        )
        directories = {one.info.name: one.directory.encode() for one in state.compacted}
        directories |= {one.segment.name: one.raw for one in new}
        commit(self._store, self._runtime, self._record, state.base, manifest, directories)

    def _overtake(self, new: Sequence[_New], state: State) -> None:
        """Mask rows of the import whose keys have been written since it began: the log says which, up to the state."""
        folded = list(range(self._read_to + 1, state.base.folded_to + 1))
        runs = [keys for entry in state.tail if entry.number > self._read_to for keys in _keys(entry)]
        for start in range(0, len(folded), _ENTRIES):
            entries = self._reader.entries(self._record, folded[start : start + _ENTRIES])
            runs += [keys for entry in entries for keys in _keys(entry)]
        if runs:
            keys, _ = merge_keys(runs)
            for one in new:
                one.mask(*hidden(self._store, one.directory, one.masked, keys))
        self._read_to = state.position

    def _less_replaced(self, state: State, one: Compacted, new: Sequence[_New]) -> CompactedInfo:
        """A segment that was there before, less its rows of the import's keys that are older than the import."""
        if one.info not in self._older:
            masked = np.zeros(one.info.rows, np.bool_) if one.masked is None else one.masked.copy()
            digest = one.info.digest
            for keys in _key_runs(fetching(self._store), new):
                rows, gone = hidden(self._store, one.directory, masked, keys, self._import.begun)
                masked[rows] = True
                digest -= gone
            live = one.info.rows - int(np.count_nonzero(masked))
            left = replace(one.info, live=live, digest=digest % 2**64)
            self._older[one.info] = one.info if live == one.info.live else self._named(state, left, masked)
        return self._older[one.info]

    def _named(self, state: State, info: CompactedInfo, masked: np.ndarray) -> CompactedInfo:
        """A segment with its mask, as a manifest names it."""
        rows = np.flatnonzero(masked)
        uid, planned_on = self._record.uid, state.manifest
        return replace(info, mask=write_mask(self._store, self._runtime, uid, planned_on, encode_mask(rows), len(rows)))

    def _attach(self, state: State, pending: Sequence[CompactedInfo]) -> Attached:
        record, before = self._record, {one.info.name: one.info.live for one in state.compacted}
        handle = self._database.index(record.bucket, record.name)
        try:
            handle.attach_import(self._import.id)
        except ImportEnded:
            self._look(None)  # of an index that was dropped and made again since, that is what is to be said
            raise
        with suppress(NeveError):  # it is attached; and whoever folds next does this
            handle.fold()
        new = [info for info in pending if info.name not in before]
        rows = sum(info.live for info in new)
        return Attached(
            rows,
            sum(info.rows for info in new) - rows,
            sum(before.values()) - sum(info.live for info in pending if info.name in before),
            sum(one.directory.lists for one in state.pending if one.info.name not in before),
            sum(info.size_bytes for info in new),
        )


@dataclass(slots=True, eq=False)
class _New:
    """A segment of the import that is in the store; `masked` bool [rows]: rows that were overtaken, so far."""

    segment: NewSegment
    directory: Directory
    raw: bytes
    masked: np.ndarray
    digest: int

    def mask(self, rows: np.ndarray, digest: int) -> None:
        """Mask rows of that digest, which were not masked before."""
        self.masked[rows] = True
        self.digest -= digest

    @property
    def info(self) -> CompactedInfo:
        """As a manifest names it, but for its mask."""
        one = self.segment
        live = one.rows - int(np.count_nonzero(self.masked))
        return CompactedInfo(one.name, one.rows, live, one.size_bytes, self.digest % 2**64)


def _keys(entry: LogEntry) -> Sequence[Keys]:
    return [keys for keys in (entry.batch.rows.keys, entry.batch.deleted) if len(keys)]


def _key_runs(fetch: Fetch, new: Sequence[_New]) -> Iterator[Keys]:
    """All keys of the new segments in sorted runs. Reads their key indexes."""
    run: list[Keys] = []
    for block in (block for one in new for block in key_blocks(one.directory, fetch)):
        run.append(block.as_keys())
        if sum(map(len, run)) >= _RUN_KEYS:
            yield merge_keys(run)[0]
            run = []
    if run:
        yield merge_keys(run)[0]
