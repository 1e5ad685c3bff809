"""A segment out of the rows that a workspace has gathered: its stages and its upload. Committing it is for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed, wait
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias, TypeVar

from neve.compaction.executors import Inline
from neve.compaction.tasks import DIRECTORY, SEGMENT, Stage, run, tasks
from neve.compaction.workspace import Workspace
from neve.index import paths
from neve.runtime import Runtime
from neve.segments.directory import Directory
from neve.segments.rows import live_digest
from neve.store.create import create
from neve.store.port import PutNew, Store, Upload, done

MEMORY_BYTES = 2 << 30

_Work = TypeVar("_Work")

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told (stage, done, total) as the work goes on."""


@dataclass(frozen=True, slots=True)
class Means:
    """What segments are built with, and who is told how it goes."""

    folder: Path
    """For workspaces: on disk they take about twice what they write."""
    memory_bytes: int = MEMORY_BYTES
    """An eighth of it bounds the sample that training takes, of which it makes copies; all else goes in chunks, but
    for about 100 bytes a row."""
    executor: Executor = Inline()  # noqa: RUF009, it has no state
    progress: Progress = lambda _stage, _done, _total: None


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment that is in the store, and that no manifest names yet."""

    name: str
    rows: int
    lists: int
    size_bytes: int
    digest: int
    """Of all its rows."""

    def to_fields(self) -> list[Any]:
        return [self.name, self.rows, self.lists, self.size_bytes, f"{self.digest:016x}"]

    @classmethod
    def from_fields(cls, fields: list[Any]) -> NewSegment:
        name, rows, lists, size_bytes, digest = fields
        return cls(name, rows, lists, size_bytes, int(digest, 16))


def expect_build() -> None:
    """Import meanwhile what a build needs at its end: that takes seconds, and others can go on."""
    Thread(target=import_module, args=("lance",), daemon=True).start()


def build(workspace: Workspace, means: Means) -> None:
    """Run all stages over what has been gathered, less what is done. No request.

    Raises OSError, ObjectCorrupt, BrokenExecutor, ModuleNotFoundError.
    """
    for stage in Stage:
        if stage is Stage.SELECT or live_rows(workspace):
            todo = [task for task in tasks(workspace, stage) if not workspace.has(task.output)]
            do_all(means, stage, run, todo)


def live_rows(workspace: Workspace) -> int:
    """How many rows a workspace's segment has, once they are selected."""
    return len(workspace.load("live"))


def upload_segment(
    store: Store, runtime: Runtime, uid: str, planned_on: int, workspace: Workspace
) -> tuple[Directory, bytes] | None:
    """Write the segment that was built, under a name of work planned on that manifest, its directory last.

    Returns the directory, and as it was written; None, after no request, where there are no rows. 1 PUT a file, large
    ones in parts. Raises OutcomeUnknown, StoreError, OSError.
    """
    if not live_rows(workspace):
        return None
    folder = workspace.path(SEGMENT)
    name = paths.segment_name(planned_on, runtime.token())
    prefix = paths.segment_folder(uid, name)
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / DIRECTORY]
    for reply in store.wave([Upload(prefix + path.relative_to(folder).as_posix(), path) for path in sorted(files)]):
        done(reply)
    built = Directory.decode(DIRECTORY, (folder / DIRECTORY).read_bytes(), "")
    directory = replace(built, name=name, folder=prefix)
    raw = directory.encode()
    create(store, runtime, PutNew(paths.segment_directory(uid, name), raw))
    return directory, raw


def new_segment(directory: Directory, workspace: Workspace) -> NewSegment:
    """What is to be known of an uploaded segment, without its directory."""
    keys, live = workspace.inputs(workspace.job().dimension).rows.keys, workspace.load("live")
    digest = live_digest(keys.hashes[live], keys.positions[live])
    return NewSegment(directory.name, directory.rows, directory.lists, directory.size_bytes, digest)


def do_all(means: Means, stage: str, do: Callable[[_Work], None], todo: Sequence[_Work]) -> None:
    """Have an executor do each of some things; the first error ends it, and is raised."""
    means.progress(stage, 0, len(todo))
    pending = [means.executor.submit(do, one) for one in todo]
    try:
        for count, future in enumerate(as_completed(pending), 1):
            future.result()
            means.progress(stage, count, len(todo))
    finally:
        for future in pending:
            future.cancel()
        wait(pending)
