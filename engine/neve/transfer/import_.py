"""Import: the rows of a source become a segment, which the index has as a whole from one moment on; few become a write.

begin (an entry of the log) → gather part by part into a workspace → build → upload → attach. A process that is killed
at any point has left nothing that anyone sees: the next run with the same source goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import orjson

from neve.compaction.build import Means, NewSegment, build, expect_build, upload_segment
from neve.compaction.plan import Plan
from neve.compaction.tasks import DIRECTORY, SEGMENT
from neve.compaction.workspace import Job, Workspace, begin, boot, locked, under_way
from neve.errors import ImportEnded, IndexNotFound, TransferError
from neve.index import paths
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.index import Index
from neve.index.manifest import Import
from neve.index.records import IndexRecord
from neve.segments.directory import Directory
from neve.segments.flat import Batch, no_keys
from neve.segments.rows import Puts, Rows, live_digest
from neve.transfer.attach import Finish, Work
from neve.transfer.rejects import Reject
from neve.transfer.sources.parts import Source, SourcePart

SMALL_ROWS = 10_000
SMALL_BYTES = 16 << 20
"""What is no more than that is one write."""
_UPLOADED = "uploaded"

ReadPart: TypeAlias = Callable[[SourcePart], Iterator[tuple[Puts, list[Reject]]]]
"""Rows of a part in blocks of some MiB, and those that an index cannot hold. Raises SourceChanged, SourceUnfit."""
Report: TypeAlias = Callable[[Sequence[Reject]], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import has done: `rows` that the index has from it, and why it has not more of them.

    Others were `rejected`, or `repeated`: their key came again further on in the source. Those that were `overtaken`
    have keys that others had written since the import began. `replaced` counts rows that were compacted before. No
    `lists`: the rows were few, and have been written as by PutVectors.
    """

    rows: int
    rejected: int
    repeated: int
    overtaken: int = 0
    replaced: int = 0
    lists: int = 0
    size_bytes: int = 0


def import_rows(
    database: Database,
    bucket: str,
    name: str,
    source: Source,
    read: ReadPart,
    means: Means,
    report: Report = lambda _: None,
    elsewhere: MakeWork | None = None,
) -> Imported | None:
    """Import a source into an index, from wherever an earlier run has left it; None: another process has finished it.

    The work is done here with the given means, unless it is to be done `elsewhere`.
    `report` is told all rejects at the end. Uploads what it has built once; reads the log since it began, of the
    segments that are there the keys, and of the source each part once. Raises ImportOpen, ImportEnded, SourceChanged,
    SourceUnfit, IndexNotFound, OutcomeUnknown, StoreError, OSError, BrokenExecutor, ModuleNotFoundError: nothing of the
    rows is visible then, but on OutcomeUnknown it may be all of them. The next run goes on.
    """
    handle = database.index(bucket, name)
    state = handle.read()
    if not any(one.source == source.digest for one in state.imports):
        few = _few(source, read)
        if few is not None:
            return _written(handle, state.record, few, report)
    state, opened = handle.begin_import(source.digest)
    prefix = f"{database.identity}-{state.uid}-"
    _sweep(means.folder, prefix, opened)
    with locked(means.folder, prefix + opened.id) as folder:
        if folder is None:
            raise TransferError(f"another process of this machine is at this import into {state.record.path}")
        work: ImportWork = LocalWork(database, state.record, opened, source, read, means, folder)
        if elsewhere is not None:
            work = elsewhere(database, state.record, opened, source)
        try:
            attached = Finish(database, state.record, opened, work, means).run()
        except (ImportEnded, IndexNotFound):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        imported = None
        if attached is not None:
            rejected, repeated = work.report(report)
            imported = Imported(
                attached.rows,
                rejected,
                repeated,
                attached.overtaken,
                attached.replaced,
                attached.lists,
                attached.size_bytes,
            )
        shutil.rmtree(folder, ignore_errors=True)
        return imported


class ImportWork(Work, Protocol):
    """The work of an import, and what is to be told of it."""

    def report(self, report: Report) -> tuple[int, int]:
        """Tell all rejects; how many they are, and how many rows have repeated their key. The work has ended."""
        ...


MakeWork: TypeAlias = Callable[[Database, IndexRecord, Import, Source], ImportWork]


class LocalWork:
    """The work of an import in a workspace of this machine; each part of the source is one input of it."""

    def __init__(
        self,
        database: Database,
        record: IndexRecord,
        opened: Import,
        source: Source,
        read: ReadPart,
        means: Means,
        folder: Path,
    ) -> None:
        self._store, self._runtime = database.store, database.runtime
        self._record, self._opened, self._source, self._read = record, opened, source, read
        self._means, self._folder = means, folder
        self._workspace = under_way(folder)

    def build(self) -> None:
        """Gather what is not gathered yet, and do what is not done of all stages."""
        expect_build()
        config = self._record.config
        if self._workspace is None:
            plan = Plan((), (), ())
            shape = config.dimension, config.metric, config.non_filterable or ()
            job = Job(self._record.uid, *shape, self._means.memory_bytes, plan, boot())
            self._workspace = begin(self._folder, job)
        parts, done = self._source.parts, len(self._workspace.starts) - 1
        self._means.progress("gather", done, len(parts))
        for number in range(done, len(parts)):
            self._workspace.gather(self._batches(self._workspace, number))
            self._means.progress("gather", number + 1, len(parts))
        build(self._workspace, self._means)

    def _batches(self, workspace: Workspace, number: int) -> Iterator[Batch]:
        """The rows of a part; its rejects are kept before the last of them counts as gathered."""
        rejects: list[Reject] = []
        for puts, bad in self._read(self._source.parts[number]):
            rejects += bad
            if len(puts.keys):
                yield Batch(Rows.of(puts, self._opened.begun), no_keys())
        workspace.put(_rejects(number), orjson.dumps([reject.to_fields() for reject in rejects]))

    def upload(self, planned_on: int, work_floor: int) -> tuple[Sequence[NewSegment], Mapping[str, bytes]]:
        """As `Work` says; what an earlier run has uploaded stays while the import is open, and is not sent again."""
        workspace = self._built()
        name = workspace.path(_UPLOADED).read_text() if workspace.has(_UPLOADED) else None
        if name is None or paths.segment_planned_on(name) < work_floor:
            uploaded = upload_segment(self._store, self._runtime, self._record.uid, planned_on, workspace)
            if uploaded is None:
                return (), {}
            name = uploaded[0].name
            workspace.put(_UPLOADED, name.encode())
        local = Directory.decode(DIRECTORY, (workspace.path(SEGMENT) / DIRECTORY).read_bytes(), "")
        directory = replace(local, name=name, folder=paths.segment_folder(self._record.uid, name))
        keys, live = workspace.inputs(directory.dimension).rows.keys, workspace.load("live")
        digest = live_digest(keys.hashes[live], keys.positions[live])
        new = NewSegment(name, directory.rows, directory.lists, directory.size_bytes, digest)
        return (new,), {name: directory.encode()}

    def report(self, report: Report) -> tuple[int, int]:
        """Tell all rejects in the order of the source; how many there are, and how many rows have repeated their key.

        Of an import that was brought to its end elsewhere nothing is known here.
        """
        if self._workspace is None:
            return 0, 0
        rejected, gathered = 0, len(self._workspace.starts) - 1
        for number in range(gathered):
            rejects = [
                Reject.from_fields(one) for one in orjson.loads(self._workspace.path(_rejects(number)).read_bytes())
            ]
            report(rejects)
            rejected += len(rejects)
        return rejected, int(self._workspace.starts[-1]) - len(self._workspace.load("live"))

    def _built(self) -> Workspace:
        if self._workspace is None:
            raise RuntimeError("nothing has been built")
        return self._workspace


@dataclass(frozen=True, slots=True)
class _Few:
    """The rows of a small source, each key once, and what was left out."""

    puts: Puts
    rejects: list[Reject]
    repeated: int


def _few(source: Source, read: ReadPart) -> _Few | None:
    """A source that is small, in memory; None where it is not."""
    if source.rows > SMALL_ROWS:
        return None
    rows: dict[str, tuple[np.ndarray, bytes]] = {}
    rejects: list[Reject] = []
    count = size = 0
    for part in source.parts:
        for puts, bad in read(part):
            rejects += bad
            count += len(puts.keys)
            size += puts.vectors.nbytes + sum(map(len, puts.metadata)) + sum(map(len, puts.keys))
            if count > SMALL_ROWS or size > SMALL_BYTES:
                return None
            rows |= zip(puts.keys, zip(puts.vectors, puts.metadata, strict=True), strict=True)
    vectors = [vector for vector, _ in rows.values()]
    matrix = np.stack(vectors) if vectors else np.empty((0, source.dimension), np.float32)
    return _Few(Puts(list(rows), matrix, [raw for _, raw in rows.values()]), rejects, count - len(rows))


def _written(handle: Index, record: IndexRecord, few: _Few, report: Report) -> Imported:
    """Write a small source as a whole."""

    def prepare(found: IndexRecord) -> Write:
        if found.uid != record.uid:
            raise IndexNotFound(record.path)
        return Write(few.puts)

    if few.puts.keys:
        handle.write(prepare)
    report(few.rejects)
    return Imported(len(few.puts.keys), len(few.rejects), few.repeated)


def _sweep(root: Path, prefix: str, opened: Import) -> None:
    """Delete workspaces of imports that have ended elsewhere: there is one at a time."""
    for folder in root.glob(f"{prefix}*"):
        if folder.is_dir() and folder.name != prefix + opened.id:
            with locked(root, folder.name) as dead:
                if dead is not None:
                    shutil.rmtree(dead, ignore_errors=True)


def _rejects(number: int) -> str:
    return f"rejects.{number}"
