"""Compaction: flat segments, and some compacted ones, become one compacted segment.

Plan (pure) → gather into the workspace → tasks → upload → commit. Until the commit counts nothing has changed for
anyone; what a compaction that dies or loses has uploaded is collected. Store and runtime are reached from here and from
`gather` alone; all else is local files and an executor.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, as_completed, wait
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TypeAlias

import numpy as np

from neve.compaction.executors import Inline
from neve.compaction.gather import gather, hidden, read_directory, read_mask, recent_keys
from neve.compaction.plan import plan_compaction
from neve.compaction.tasks import DIRECTORY, SEGMENT, Stage, points_in_order, run, tasks
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
from neve.segments.directory import Directory
from neve.segments.flat import no_keys
from neve.segments.masks import decode_mask, encode_mask, widen_mask
from neve.segments.rows import live_digest
from neve.store.create import create
from neve.store.envelope import seal
from neve.store.port import Get, List, PutNew, Store, Upload, body, done, listed

ATTEMPTS_MAX = 4
"""Plans made anew, after others compacted first or collected an input, before somebody else may try."""
COMMITS_MAX = 32
"""Manifests met while committing: folds of a busy writer, seconds apart."""
MASK_INLINE_BYTES_MAX = 4096
"""Larger masks are objects of their own: whoever opens the index reads its manifest whole."""
MEMORY_BYTES = 2 << 30

FAILURES = (NeveError, OSError, BrokenExecutor, ModuleNotFoundError)
"""What may keep an index from being compacted: besides the store the local disk, memory, a missing package."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told (stage, done, total) as the work goes on."""


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


@dataclass(frozen=True, slots=True)
class Means:
    """What compactions work with, and who is told how it goes."""

    folder: Path
    """For workspaces: on disk they take about twice what they write."""
    memory_bytes: int = MEMORY_BYTES
    """An eighth of it bounds the sample that training takes, of which it makes copies; all else goes in chunks, but
    for about 100 bytes a row."""
    executor: Executor = Inline()  # noqa: RUF009, it has no state
    progress: Progress = lambda _stage, _done, _total: None


def compact(
    database: Database, bucket: str, name: str, means: Means, *, asked: bool = False, full: bool = False
) -> Compaction | None:
    """Compact an index if that is due, `asked` for, or to be `full`; None when there is nothing to do.

    Who asks has the newest writes folded first.
    None as well while another process of this machine compacts it. Goes on where a process that was killed left off.
    Reads the inputs once and writes the new segment once; a commit takes 3 LIST, 3 PUT and 2 GET more. Raises
    IndexNotFound, OutcomeUnknown, ObjectCorrupt, StoreError, and the other FAILURES.
    """
    record, manifest = newest(database.store, bucket, name)
    place = f"{database.identity}-{record.uid}"
    begun = (means.folder / place).exists()
    if (asked or full) and not begun:
        _fold_tail(database, record)
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
                compaction = None if job is None else _Run(database, record, job, means).run()
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
    return begin(folder, Job(record.uid, config.dimension, config.metric, means.memory_bytes, planned, boot()))


def _fold_tail(database: Database, record: IndexRecord) -> None:
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


class _Run:
    """One job, from wherever its workspace stands to its commit."""

    def __init__(self, database: Database, record: IndexRecord, workspace: Workspace, means: Means) -> None:
        self._store, self._runtime = database.store, database.runtime
        self._record, self._workspace, self._means = record, workspace, means
        self._job = workspace.job()

    def run(self) -> Compaction | None:
        """None when others have compacted meanwhile. Raises as `compact`, and ObjectGone."""
        Thread(target=import_module, args=("lance",), daemon=True).start()  # takes seconds, and others can go on
        gather(self._store, self._workspace, self._job, partial(self._means.progress, "gather"))
        for stage in Stage:
            if stage is Stage.SELECT or self._rows:
                self._do(stage)
        kept = self._kept()
        uploaded: _Uploaded | None = None
        for _ in range(COMMITS_MAX):
            record, manifest = newest(self._store, self._record.bucket, self._record.name)
            if record.uid != self._record.uid:
                raise IndexNotFound(self._record.path)
            if not self._job.plan.holds_on(manifest):
                return None
            if uploaded is None or uploaded.planned_on < manifest.work_floor:
                uploaded = self._upload(manifest, kept)
                continue  # that took long, and the manifest may be another by now
            if self._commit(manifest, uploaded):
                return self._outcome(uploaded)
        raise StoreUnavailable(f"{self._record.path} is folded faster than a compaction of it can be committed")

    @property
    def _rows(self) -> int:
        return len(self._workspace.load("live"))

    def _do(self, stage: Stage) -> None:
        """All tasks of a stage; the first error ends it."""
        todo = [task for task in tasks(self._workspace, stage) if not self._workspace.has(task.output)]
        self._means.progress(stage, 0, len(todo))
        pending = [self._means.executor.submit(run, task) for task in todo]
        try:
            for done_, future in enumerate(as_completed(pending), 1):
                future.result()
                self._means.progress(stage, done_, len(todo))
        finally:
            for future in pending:
                future.cancel()
            wait(pending)

    def _kept(self) -> list[_Kept]:
        """The segments that stay, less the rows that the flat inputs hide."""
        store, uid, kept = self._store, self._job.uid, []
        keys = recent_keys(self._workspace, self._job) if self._job.plan.kept else no_keys()
        for info in self._job.plan.kept:
            directory, mask = read_directory(store, uid, info), read_mask(store, uid, info)
            rows, digest = hidden(store, directory, decode_mask(info.name, mask, info.rows), keys)
            left = replace(info, live=info.live - len(rows), digest=(info.digest - digest) % 2**64)
            kept.append(_Kept(left, directory, widen_mask(info.name, mask, rows) if len(rows) else None))
        return kept

    def _upload(self, manifest: Manifest, kept: Sequence[_Kept]) -> _Uploaded:
        """Write masks and the new segment under names of this moment, its directory last."""
        self._means.progress("upload", 0, 1)
        infos = [one.info for one in kept]
        for place, one in enumerate(kept):
            if one.mask is not None:
                infos[place] = replace(one.info, mask=self._mask(manifest, one.mask, one.info.rows - one.info.live))
        directories = {one.info.name: one.directory.encode() for one in kept}
        new = None
        if self._rows:
            folder = self._workspace.path(SEGMENT)
            name = paths.segment_name(manifest.number, self._runtime.token())
            key, prefix = paths.segment_directory(self._job.uid, name), paths.segment_folder(self._job.uid, name)
            files = [path for path in folder.rglob("*") if path.is_file() and path != folder / DIRECTORY]
            uploads = [Upload(prefix + path.relative_to(folder).as_posix(), path) for path in sorted(files)]
            for reply in self._store.wave(uploads):
                done(reply)
            local = Directory.decode(DIRECTORY, (folder / DIRECTORY).read_bytes(), "")
            new = replace(local, name=name, folder=prefix)
            directories[name] = new.encode()
            create(self._store, self._runtime, PutNew(key, directories[name]))
        self._means.progress("upload", 1, 1)
        return _Uploaded(manifest.number, new, tuple(info for info in infos if info.live), directories)

    def _commit(self, manifest: Manifest, uploaded: _Uploaded) -> bool:
        """Whether the manifest after this one, compacted, counts."""
        compacted = uploaded.kept
        if uploaded.new is not None:
            info = self._new_info(manifest, uploaded.new)
            compacted = (*compacted, info) if info.live else compacted
        inputs = set(self._job.plan.flat_names)
        after = replace(
            manifest,
            number=manifest.number + 1,
            write_id=self._runtime.token(),
            parent=manifest.write_id,
            segments=tuple(info for info in manifest.segments if info.name not in inputs),
            compacted=compacted,
        )
        return commit(self._store, self._runtime, self._record, manifest, after, uploaded.directories)

    def _new_info(self, manifest: Manifest, directory: Directory) -> CompactedInfo:
        """The new segment as that manifest's successor names it.

        Rows of a flat segment that a fold has merged since are masked: they are in what it was merged into, or have
        been superseded or deleted, maybe with nothing left to tell.
        """
        workspace, plan = self._workspace, self._job.plan
        named = {info.name for info in manifest.segments}
        gone = [place for place, name in enumerate(plan.flat_names) if name not in named]
        gathered = workspace.load("live")
        masked = np.isin(np.searchsorted(workspace.starts, gathered, side="right") - 1, gone)
        keys, live = workspace.inputs(self._job.dimension).rows.keys, gathered[~masked]
        digest = live_digest(keys.hashes[live], keys.positions[live])
        rows = np.flatnonzero(masked[points_in_order(workspace)])
        mask = self._mask(manifest, encode_mask(rows), len(rows)) if len(live) else Mask()
        return CompactedInfo(directory.name, directory.rows, len(live), directory.size_bytes, digest, mask)

    def _mask(self, manifest: Manifest, mask: bytes, count: int) -> Mask:
        """A mask as a manifest names it; a large one is written."""
        if len(mask) <= MASK_INLINE_BYTES_MAX:
            return Mask(count, mask)
        token = self._runtime.token()
        reference = paths.segment_name(manifest.number, token)
        raw = seal({"id": token}, {"mask": np.frombuffer(mask, np.uint8)})
        create(self._store, self._runtime, PutNew(paths.mask(self._job.uid, reference), raw))
        return Mask(count, b"", reference)

    def _outcome(self, uploaded: _Uploaded) -> Compaction:
        plan, new = self._job.plan, uploaded.new
        flat_rows, segments = sum(info.live for info in plan.flat), len(plan.flat) + len(plan.merged)
        if new is None:
            return Compaction(0, 0, 0, flat_rows, segments)
        return Compaction(new.rows, new.lists, new.size_bytes, flat_rows, segments)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A compacted segment that stays; `mask` where it has grown."""

    info: CompactedInfo
    directory: Directory
    mask: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class _Uploaded:
    """What is in the store and named by nobody yet: the new segment, and the others as they will be named."""

    planned_on: int
    new: Directory | None
    kept: tuple[CompactedInfo, ...]
    directories: Mapping[str, bytes]


def _read(store: Store, key: str) -> bytes:
    raw = body(store.wave([Get(key)])[0])
    if raw is None:
        raise ObjectGone(f"{key} was listed and is gone")
    return raw
