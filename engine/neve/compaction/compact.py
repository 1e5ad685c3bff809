"""Compaction: flat segments, and some compacted ones, become one compacted segment.

Plan (pure) → gather into the workspace → tasks → upload → commit. Until the commit counts nothing has changed for
anyone; what a compaction that dies or loses has uploaded is collected. Store and runtime are reached from here and from
`gather` alone; all else is local files and an executor.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from neve.compaction.build import Means, NewSegment, Progress, build, expect_build, new_segment, upload_segment
from neve.compaction.gather import gather, hidden, read_directory, read_mask, recent_keys
from neve.compaction.plan import Plan, plan_compaction
from neve.compaction.tasks import points_in_order
from neve.compaction.workspace import Job, Workspace, begin, boot, locked, under_way
from neve.errors import IndexNotFound, NeveError, ObjectGone, StoreError, StoreUnavailable
from neve.index import manifest as manifests
from neve.index import paths
from neve.index.chain import list_all, newest_number
from neve.index.commit import commit
from neve.index.database import Database
from neve.index.fold import fold
from neve.index.manifest import CompactedInfo, Manifest, Mask, first_manifest
from neve.index.reader import Reader
from neve.index.records import IndexRecord, decode_created
from neve.runtime import Runtime
from neve.segments.directory import Directory
from neve.segments.flat import no_keys
from neve.segments.masks import decode_mask, encode_mask, widen_mask
from neve.segments.rows import Keys, live_digest
from neve.store.create import create
from neve.store.envelope import seal
from neve.store.port import Get, List, PutNew, Store, body, listed

ATTEMPTS_MAX = 4
"""Plans made anew, after others compacted first or collected an input, before somebody else may try."""
COMMITS_MAX = 32
"""Manifests met while committing: folds of a busy writer, seconds apart."""
MASK_INLINE_BYTES_MAX = 4096
"""Larger masks are objects of their own: whoever opens the index reads its manifest whole."""

FAILURES = (NeveError, OSError, BrokenExecutor, ModuleNotFoundError)
"""What may keep an index from being compacted: besides the store the local disk, memory, a missing package."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction has done: `rows` in `lists` lists of a new segment (none of 0 rows), out of its inputs."""

    rows: int
    lists: int
    size_bytes: int
    flat_rows: int
    segments: int
    """Input segments, flat and compacted."""

    @property
    def amplification(self) -> float:
        """Rows written for each row that was flat."""
        return self.rows / max(1, self.flat_rows)


def compact(
    database: Database, bucket: str, name: str, means: Means, *, asked: bool = False, full: bool = False
) -> Compaction | None:
    """Compact an index if that is due, `asked` for, or to be `full`; None when there is nothing to do.

    Who asks has the newest writes folded first, and so has who meets an import that may be attached among them.
    None as well while another process of this machine compacts it. Goes on where a process that was killed left off.
    Reads the inputs once and writes the new segment once; a commit takes 3 LIST, 3 PUT and 2 GET more. Raises
    IndexNotFound, OutcomeUnknown, ObjectCorrupt, StoreError, and the other FAILURES.
    """
    record, manifest = newest(database.store, bucket, name)
    place = f"{database.identity}-{record.uid}"
    begun = (means.folder / place).exists()
    if manifest.pending is not None or ((asked or full) and not begun):
        fold_tail(database, record)
        record, manifest = newest(database.store, bucket, name)
    if plan_compaction(manifest, asked=asked, full=full) is None and not begun:
        return None
    with locked(means.folder, place) as folder:
        if folder is None:
            return None
        lost: StoreError = StoreUnavailable(f"{record.path} is compacted by others faster than here")
        for _ in range(ATTEMPTS_MAX):
            try:
                job = _job(database.store, record, folder, means, asked=asked, full=full)
                compaction = (
                    None if job is None else Run(database, record, _Local(database, job, means), means.progress).run()
                )
            except IndexNotFound:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            except ObjectGone as error:  # others have compacted, or folded an input away, and it was collected
                lost = error
                continue
            if job is None or compaction is not None:
                shutil.rmtree(folder, ignore_errors=True)
                return compaction
    raise lost


def _job(store: Store, record: IndexRecord, folder: Path, means: Means, *, asked: bool, full: bool) -> Workspace | None:
    """The workspace of the job to do now, left by a process that was killed or new; None when there is none to do."""
    current, manifest = newest(store, record.bucket, record.name)
    if current.uid != record.uid:
        raise IndexNotFound(record.path)
    workspace = under_way(folder)
    if workspace is not None:
        plan = workspace.job().plan
        if plan.inputs_stand(manifest) and not (full and plan.kept):
            return workspace
    planned = plan_compaction(manifest, asked=asked, full=full)
    if planned is None:
        return None
    config = record.config
    shape = config.dimension, config.metric, config.non_filterable or ()
    return begin(folder, Job(record.uid, *shape, means.memory_bytes, planned, boot()))


def fold_tail(database: Database, record: IndexRecord) -> None:
    """Fold the newest writes, past the database's handle: that would keep in memory what it has read."""
    reader = Reader(database.store, database.runtime, database.grace)
    while True:
        state = reader.open(record.bucket, record.name).state
        if state.dropped_at is not None:
            raise IndexNotFound(record.path)
        if not state.tail or fold(database.store, database.runtime, state) is not None:
            return


def newest(store: Store, bucket: str, name: str) -> tuple[IndexRecord, Manifest]:
    """An index and its newest manifest; what the log has beyond is not compacted yet. 2 LIST, 2 GET.

    Raises IndexNotFound, ObjectCorrupt, ObjectGone, StoreError.
    """
    seq = newest_number(list_all(store, paths.catalog_chain(bucket, name)))
    if seq % 2 == 0:
        raise IndexNotFound(f"{bucket}/{name}")
    key = paths.catalog_record(bucket, name, seq)
    record = decode_created(key, _read(store, key), seq)
    entries = listed(store.wave([List(paths.manifest_folder(record.uid), limit=1)])[0]).entries
    number = max((n for entry in entries if (n := paths.manifest_number(entry.key)) is not None), default=0)
    if number == 0:
        return record, first_manifest(record.tags)
    key = paths.manifest(record.uid, number)
    return record, manifests.decode(key, _read(store, key))


class Work(Protocol):
    """What makes the new segments of one compaction, here or elsewhere. All of it raises as `compact`, and ObjectGone.

    ObjectGone says that what the work has read or made so far is no longer there: it is to be planned anew.
    """

    uid: str
    plan: Plan

    def build(self) -> None:
        """All the work that comes before its outcome is in the store."""
        ...

    def recent_keys(self) -> Keys:
        """Keys of the rows and tombstones of all flat inputs, sorted; one that several hold may be repeated."""
        ...

    def upload(self, planned_on: int, work_floor: int) -> tuple[Sequence[NewSegment], Mapping[str, bytes]]:
        """The new segments under names of that manifest, or of one not below the floor; their directories, if small.

        No segment where nothing is left of the inputs.
        """
        ...

    def rows_of(self, segment: NewSegment, flat: Sequence[int]) -> tuple[np.ndarray, int]:
        """Rows uint32 of a new segment that come from some flat inputs, by their places in the plan; their digest."""
        ...


class Run:
    """One compaction, from wherever its work stands to its commit."""

    def __init__(self, database: Database, record: IndexRecord, work: Work, progress: Progress) -> None:
        self._store, self._runtime = database.store, database.runtime
        self._record, self._work, self._progress = record, work, progress
        self._plan = work.plan

    def run(self) -> Compaction | None:
        """None when others have compacted meanwhile. Raises as `compact`, and ObjectGone."""
        self._work.build()
        kept = self._kept()
        uploaded: _Uploaded | None = None
        for _ in range(COMMITS_MAX):
            record, manifest = newest(self._store, self._record.bucket, self._record.name)
            if record.uid != self._record.uid:
                raise IndexNotFound(self._record.path)
            if not self._plan.holds_on(manifest):
                return None
            if uploaded is None or uploaded.planned_on < manifest.work_floor:
                uploaded = self._upload(manifest, kept)
                continue  # that took long, and the manifest may be another by now
            if self._commit(manifest, uploaded):
                return self._outcome(uploaded.new)
        raise StoreUnavailable(f"{self._record.path} is folded faster than a compaction of it can be committed")

    def _kept(self) -> list[_Kept]:
        """The segments that stay, less the rows that the flat inputs hide."""
        store, uid, kept = self._store, self._work.uid, []
        keys = self._work.recent_keys() if self._plan.kept else no_keys()
        for info in self._plan.kept:
            directory, mask = read_directory(store, uid, info), read_mask(store, uid, info)
            rows, digest = hidden(store, directory, decode_mask(info.name, mask, info.rows), keys)
            left = replace(info, live=info.live - len(rows), digest=(info.digest - digest) % 2**64)
            kept.append(_Kept(left, directory, widen_mask(info.name, mask, rows) if len(rows) else None))
        return kept

    def _upload(self, manifest: Manifest, kept: Sequence[_Kept]) -> _Uploaded:
        """Write masks and the new segments under names of this moment."""
        self._progress("upload", 0, 1)
        infos = [one.info for one in kept]
        for place, one in enumerate(kept):
            if one.mask is not None:
                infos[place] = replace(one.info, mask=self._mask(manifest, one.mask, one.info.rows - one.info.live))
        new, directories = self._work.upload(manifest.number, manifest.work_floor)
        self._progress("upload", 1, 1)
        known = {one.info.name: one.directory.encode() for one in kept} | dict(directories)
        planned_on = min([manifest.number, *(paths.segment_planned_on(segment.name) for segment in new)])
        return _Uploaded(planned_on, new, tuple(info for info in infos if info.live), known)

    def _commit(self, manifest: Manifest, uploaded: _Uploaded) -> bool:
        """Whether the manifest after this one, compacted, counts."""
        new = [info for segment in uploaded.new if (info := self._new_info(manifest, segment)).live]
        inputs = set(self._plan.flat_names)
        after = replace(
            manifest,
            number=manifest.number + 1,
            write_id=self._runtime.token(),
            parent=manifest.write_id,
            segments=tuple(info for info in manifest.segments if info.name not in inputs),
            compacted=(*uploaded.kept, *new),
        )
        return commit(self._store, self._runtime, self._record, manifest, after, uploaded.directories)

    def _new_info(self, manifest: Manifest, segment: NewSegment) -> CompactedInfo:
        """A new segment as that manifest's successor names it.

        Rows of a flat segment that a fold has merged since are masked: they are in what it was merged into, or have
        been superseded or deleted, maybe with nothing left to tell.
        """
        named = {info.name for info in manifest.segments}
        gone = [place for place, name in enumerate(self._plan.flat_names) if name not in named]
        rows, digest = self._work.rows_of(segment, gone) if gone else (np.empty(0, np.uint32), 0)
        live = segment.rows - len(rows)
        mask = self._mask(manifest, encode_mask(rows), len(rows)) if live else Mask()
        left = (segment.digest - digest) % 2**64
        return CompactedInfo(segment.name, segment.rows, live, segment.size_bytes, left, mask)

    def _mask(self, manifest: Manifest, mask: bytes, count: int) -> Mask:
        return write_mask(self._store, self._runtime, self._work.uid, manifest.number, mask, count)

    def _outcome(self, new: Sequence[NewSegment]) -> Compaction:
        rows, lists, size_bytes = (
            sum(getattr(segment, name) for segment in new) for name in ("rows", "lists", "size_bytes")
        )
        flat_rows, segments = sum(info.live for info in self._plan.flat), len(self._plan.flat) + len(self._plan.merged)
        return Compaction(rows, lists, size_bytes, flat_rows, segments)


class _Local:
    """The work of a compaction in a workspace of this machine."""

    def __init__(self, database: Database, workspace: Workspace, means: Means) -> None:
        self._store, self._runtime = database.store, database.runtime
        self._workspace, self._means = workspace, means
        self._job = workspace.job()
        self.uid, self.plan = self._job.uid, self._job.plan

    def build(self) -> None:
        expect_build()
        gather(self._store, self._workspace, self._job, partial(self._means.progress, "gather"))
        build(self._workspace, self._means)

    def recent_keys(self) -> Keys:
        return recent_keys(self._workspace, self._job)

    def upload(self, planned_on: int, work_floor: int) -> tuple[Sequence[NewSegment], Mapping[str, bytes]]:
        uploaded = upload_segment(self._store, self._runtime, self.uid, planned_on, self._workspace)
        if uploaded is None:
            return (), {}
        directory, raw = uploaded
        return (new_segment(directory, self._workspace),), {directory.name: raw}

    def rows_of(self, segment: NewSegment, flat: Sequence[int]) -> tuple[np.ndarray, int]:
        gathered = self._workspace.load("live")
        chosen = np.isin(np.searchsorted(self._workspace.starts, gathered, side="right") - 1, flat)
        keys = self._workspace.inputs(self._job.dimension).rows.keys
        digest = live_digest(keys.hashes[gathered[chosen]], keys.positions[gathered[chosen]])
        return np.flatnonzero(chosen[points_in_order(self._workspace)]), digest


def write_mask(store: Store, runtime: Runtime, uid: str, planned_on: int, mask: bytes, count: int) -> Mask:
    """A mask of so many rows as a manifest names it. 1 PUT where it is large; raises OutcomeUnknown, StoreError."""
    if len(mask) <= MASK_INLINE_BYTES_MAX:
        return Mask(count, mask)
    token = runtime.token()
    reference = paths.segment_name(planned_on, token)
    raw = seal({"id": token}, {"mask": np.frombuffer(mask, np.uint8)})
    create(store, runtime, PutNew(paths.mask(uid, reference), raw))
    return Mask(count, b"", reference)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A compacted segment that stays; `mask` where it has grown."""

    info: CompactedInfo
    directory: Directory
    mask: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class _Uploaded:
    """What is in the store and named by nobody yet: the new segments, and the others as they will be named."""

    planned_on: int
    new: Sequence[NewSegment]
    kept: tuple[CompactedInfo, ...]
    directories: Mapping[str, bytes]


def _read(store: Store, key: str) -> bytes:
    raw = body(store.wave([Get(key)])[0])
    if raw is None:
        raise ObjectGone(f"{key} was listed and is gone")
    return raw
