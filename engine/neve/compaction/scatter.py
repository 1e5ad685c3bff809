"""The tasks of a job that several machines work on: what a worker does, given names and ranges.

*sample* → *train* coarse centroids → *partition*: each row to the partition of the nearest → *repeats*: which rows are
superseded by others of the same key, where keys may be repeated → *build*: a segment out of each partition. A job of
one partition is a build alone. Workers read and write the store by themselves; what they keep
on their own disk is scratch. A task may be done again, elsewhere or at the same time: its output is created once.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from neve import __version__
from neve.compaction.build import Means, build, expect_build, new_segment, upload_segment
from neve.compaction.jobs import INPUTS, Job, JobFolder
from neve.compaction.parts import Input, sample_of
from neve.compaction.plan import Plan
from neve.compaction.runs import Run, RunWriter, read_runs
from neve.compaction.workspace import Job as WorkspaceJob
from neve.compaction.workspace import Workspace, begin, boot, locked, under_way, workspaces
from neve.errors import StoreError, StoreUnfit
from neve.index import paths
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.segments.columns import Column
from neve.segments.flat import Batch, no_keys
from neve.segments.rows import Keys, Rows, live_masks
from neve.store.connect import connect
from neve.store.envelope import Envelope
from neve.store.port import Get, Upload, body, done
from neve.vectors.cluster import SAMPLE_ROWS, nearest, train, unit_of
from neve.vectors.exact import Directions
from neve.vectors.metric import Metric

_CENTROIDS = 16
"""Coarse centroids of a partition: so many that runs of them can be cut to hold equally many rows."""
_ROWS, _KEYS = "rows", "keys"
_PLAN = Plan((), (), ())
_WAIT_S = 1.0
"""Between looks at another process of this machine that does the same task."""


class Stage(StrEnum):
    """What is done, in this order."""

    SAMPLE = "sample"
    TRAIN = "train"
    PARTITION = "partition"
    REPEATS = "repeats"
    BUILD = "build"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job's folder is, for who must find it by himself."""

    url: str
    """Of the store, without secrets: each machine has its own."""
    identity: str
    """Of the database that is to be found there."""
    uid: str
    job: str


@dataclass(frozen=True, slots=True)
class Task:
    """One stage for one group of inputs, or for one partition."""

    place: Place
    stage: Stage
    number: int
    inputs: Sequence[list[Any]]
    version: str = __version__

    def encode(self) -> str:
        place = self.place
        named = [place.url, place.identity, place.uid, place.job]
        return orjson.dumps([self.version, named, self.stage, self.number, self.inputs]).decode()

    @classmethod
    def decode(cls, text: str) -> Task:
        """Raises StoreUnfit on a task of another version."""
        version, place, stage, number, inputs = orjson.loads(text)
        if version != __version__:
            raise StoreUnfit(
                f"neve {version} started this work, and neve {__version__} is to do it: install one of them"
            )
        return cls(Place(*place), Stage(stage), number, inputs, version)


def stages(job: Job, inputs: Sequence[Sequence[list[Any]]], place: Place) -> Iterator[tuple[Stage, list[Task]]]:
    """All tasks of a job, stage by stage; tasks of one stage may be done at the same time."""
    groups = [(number, group) for number, group in enumerate(inputs)]
    if job.partitions > 1:
        yield Stage.SAMPLE, [Task(place, Stage.SAMPLE, *group) for group in groups]
        yield Stage.TRAIN, [Task(place, Stage.TRAIN, 0, [])]
        yield Stage.PARTITION, [Task(place, Stage.PARTITION, *group) for group in groups]
        if job.position is not None:
            yield Stage.REPEATS, [Task(place, Stage.REPEATS, number, []) for number in range(job.partitions)]
    yield Stage.BUILD, [Task(place, Stage.BUILD, number, []) for number in range(job.partitions)]


def output(task: Task) -> str:
    """Name of what is there when a task has been done."""
    return f"{task.stage}-{task.number}"


def work(decode: Callable[[list[Any]], Input], text: str) -> None:
    """Do a task, unless it is done; `decode` makes inputs of fields. What a worker runs.

    Raises ObjectGone when the job has been given up, StoreError, OutcomeUnknown, OSError, all with the machine's name.
    """
    host = socket.gethostname()
    try:
        task = Task.decode(text)
        with _opened(task.place) as folder:
            _Worker(folder, task, decode).do()
    except StoreError as error:
        raise type(error)(f"on {host}: {error}") from error
    except OSError as error:
        raise OSError(error.errno, f"on {host}: {error.strerror or error}", error.filename) from error


@contextmanager
def _opened(place: Place) -> Iterator[JobFolder]:
    store, runtime = connect(place.url), SystemRuntime()
    if body(store.wave([Get(paths.IDENTITY)])[0]) is None:  # opening it would make one
        raise StoreUnfit(f"there is no store at {place.url}: workers have to reach the one that the job is for")
    database = Database.open(store, runtime)
    try:
        if database.identity != place.identity:
            raise StoreUnfit(f"{place.url} is another store here: workers have to reach the one that the job is for")
        yield JobFolder(database.store, runtime, place.uid, place.job)
    finally:
        database.close()


class _Worker:
    """One task on the machine that does it."""

    def __init__(self, folder: JobFolder, task: Task, decode: Callable[[list[Any]], Input]) -> None:
        self._folder, self._task, self._decode = folder, task, decode
        self._job = folder.job()
        self._inputs = [decode(fields) for fields in task.inputs]

    def do(self) -> None:
        """Have the task's output in the folder."""
        with self._bench() as bench:
            if self._folder.read(output(self._task)) is None:
                _STAGES[self._task.stage](self, bench)

    def sample(self, bench: Path) -> None:
        """`points`: what coarse centroids are trained on, from one group of inputs; float32 [n, d]."""
        wanted = -(-self._sample_rows // (self._job.groups * max(1, len(self._inputs))))
        found = [one.sample(self._folder.store, wanted, self._task.number, bench) for one in self._inputs]
        self._keep({}, {"points": self._points(np.concatenate(found))})

    def train(self, _bench: Path) -> None:
        """`centroids` float32 [c, d], some for each partition, and `partitions` int32 [c], whose they are.

        Partitions are runs of centroids in an order that keeps neighbours together, cut to hold equally many points.
        """
        samples = self._of(Stage.SAMPLE, self._job.groups)
        points = sample_of(np.concatenate([sample.sections["points"] for sample in samples]), self._sample_rows, 0)
        if not len(points):  # of an import whose rows were all rejected so far
            points = np.zeros((1, self._job.dimension), np.float32)
        centroids, _ = train(points, self._job.partitions * _CENTROIDS, self._job.metric, 0)
        before = np.cumsum(np.bincount(self._nearest(points, centroids), minlength=len(centroids)))
        partitions = (before - 1) * self._job.partitions // len(points)
        self._keep({}, {"centroids": centroids, "partitions": np.maximum(partitions, 0).astype("<i4")})

    def partition(self, bench: Path) -> None:
        """Which rows of this group go to which partition (`rows`), and its keys by ranges of their hashes (`keys`)."""
        trained = self._of(Stage.TRAIN, 1)[0].sections
        rows_out, keys_out = (self._writer(bench, name) for name in (_ROWS, _KEYS))
        repeats, count = self._job.position is not None, 0
        for block in self._blocks(bench):
            rows = block.rows
            if repeats:
                places = np.arange(count, count + len(rows), dtype=np.uint64)
                rows = Rows(Keys(rows.keys.hashes, rows.keys.keys, places), rows.vectors, rows.metadata)
                keys_out.add(_keys_alone(rows.keys), self._by_hash(rows.keys.hashes))
            centroid = self._nearest(self._points(rows.vectors), trained["centroids"])
            rows_out.add(rows, trained["partitions"][centroid])
            count += len(rows)
        runs = {_ROWS: self._send(rows_out, _ROWS)}
        if repeats:
            runs[_KEYS] = self._send(keys_out, _KEYS)
        sections = {f"{name}_ends": run.ends for name, run in runs.items()}
        sections |= {f"{name}_firsts": run.firsts for name, run in runs.items()}
        self._keep({name: run.name for name, run in runs.items()}, sections)

    def repeats(self, _bench: Path) -> None:
        """`rows` uint64: those of this range of hashes that are superseded, as `_places`. 60 bytes of memory a row."""
        outputs = self._of(Stage.PARTITION, self._job.groups)
        runs = [Run.of(output, _KEYS) for output in outputs]
        found = [_placed(batch.rows.keys, group) for wave in self._read(runs, 0, 0) for group, batch in wave]
        superseded = [np.empty(0, np.uint64)]
        if found:
            masks = live_masks(found)
            superseded += [keys.positions[~mask] for keys, mask in zip(found, masks, strict=True)]
        self._keep({}, {"rows": np.sort(np.concatenate(superseded))})

    def build(self, bench: Path) -> None:
        """`segment`: the partition's, which is in the store, null where it has no live row; `gathered` rows before."""
        expect_build()
        workspace = under_way(bench) or begin(bench, self._workspace_job())
        self._gather(workspace)
        build(workspace, Means(bench, self._job.memory_bytes))
        folder, planned_on = self._folder, paths.segment_planned_on(self._folder.name)
        uploaded = upload_segment(folder.store, folder.runtime, folder.uid, planned_on, workspace)
        segment = None if uploaded is None else new_segment(uploaded[0], workspace)
        self._keep({"segment": segment and segment.to_fields(), "gathered": int(workspace.starts[-1])})

    def _gather(self, workspace: Workspace) -> None:
        """Bring in what is not in the workspace yet."""
        store, begun = self._folder.store, len(workspace.starts) - 1
        if self._job.partitions > 1:
            runs = [Run.of(output, _ROWS) for output in self._of(Stage.PARTITION, self._job.groups)]
            repeated = [np.empty(0, np.uint64)]
            if self._job.position is not None:
                repeated = [one.sections["rows"] for one in self._of(Stage.REPEATS, self._job.partitions)]
            left_out = np.concatenate(repeated)
            for wave in self._read(runs, self._job.dimension, begun):
                workspace.gather(self._counting(batch, group, left_out) for group, batch in wave)
            return
        groups = self._folder.read_all([INPUTS])[0].fields["inputs"]
        for fields in [one for group in groups for one in group][begun:]:
            workspace.gather(self._decode(fields).blocks(store, workspace.folder))

    def _counting(self, batch: Batch, group: int, left_out: np.ndarray) -> Batch:
        """The rows of a run without those that are superseded, at the position that all of them have."""
        position = self._job.position
        if position is None:
            return batch
        rows = batch.rows.take(np.flatnonzero(~np.isin(_places(batch.rows.keys.positions, group), left_out)))
        positions = np.full(len(rows), position, np.uint64)
        return Batch(Rows(Keys(rows.keys.hashes, rows.keys.keys, positions), rows.vectors, rows.metadata), no_keys())

    def _writer(self, bench: Path, name: str) -> RunWriter:
        return RunWriter(bench / name, self._job.partitions, self._job.memory_bytes // 8)

    def _send(self, writer: RunWriter, name: str) -> Run:
        """Upload a run under a name that no other attempt has."""
        path, run = writer.finish(f"{name}-{self._task.number}-{self._folder.runtime.token()}")
        done(self._folder.store.wave([Upload(self._folder.key(run.name), path)])[0])
        return run

    def _read(self, runs: Sequence[Run], dimension: int, skipped: int) -> Iterator[list[tuple[int, Batch]]]:
        return read_runs(self._folder, runs, self._task.number, dimension, skipped)

    def _of(self, stage: Stage, count: int) -> list[Envelope]:
        """The outputs of a stage."""
        return self._folder.read_all([f"{stage}-{number}" for number in range(count)])

    def _by_hash(self, hashes: np.ndarray) -> np.ndarray:
        return np.minimum(hashes // np.uint64(2**64 // self._job.partitions), np.uint64(self._job.partitions - 1))

    def _workspace_job(self) -> WorkspaceJob:
        job = self._job
        return WorkspaceJob(
            self._folder.uid, job.dimension, job.metric, job.non_filterable, job.memory_bytes, _PLAN, boot()
        )

    def _blocks(self, bench: Path) -> Iterator[Batch]:
        for one in self._inputs:
            yield from one.blocks(self._folder.store, bench)

    def _points(self, vectors: np.ndarray) -> np.ndarray:
        return Directions.of(vectors).units if self._job.metric is Metric.COSINE else vectors

    def _nearest(self, points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        scale = np.float32(1.0 / max(unit_of(points, self._job.metric), unit_of(centroids, self._job.metric)))
        return nearest(points * scale, centroids * scale)[0]

    @property
    def _sample_rows(self) -> int:
        """As many as training looks at, an eighth of the memory at most."""
        most, centroids = self._job.memory_bytes // (8 * 4 * self._job.dimension), self._job.partitions * _CENTROIDS
        return min(centroids * SAMPLE_ROWS, max(most, centroids))

    def _keep(self, fields: dict[str, Any], sections: dict[str, np.ndarray] | None = None) -> None:
        self._folder.create(output(self._task), fields, sections)

    @contextmanager
    def _bench(self) -> Iterator[Path]:
        """A local folder for the task alone, deleted at the end; what one that was killed has left is gone on with.

        What nobody holds any more is deleted as well.
        """
        root = workspaces() / "jobs"
        place = f"{self._folder.name}-{output(self._task)}"
        root.mkdir(parents=True, exist_ok=True)
        for left in [path.name for path in root.iterdir() if path.is_dir() and path.name != place]:
            with locked(root, left) as folder:
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)
        while True:
            with locked(root, place) as folder:
                if folder is not None:
                    folder.mkdir(exist_ok=True)
                    yield folder
                    shutil.rmtree(folder, ignore_errors=True)
                    return
            self._folder.runtime.sleep(_WAIT_S)


def _keys_alone(keys: Keys) -> Rows:
    return Rows(keys, np.empty((len(keys), 0), np.float32), Column.of([b""] * len(keys)))


def _places(ordinals: np.ndarray, group: int) -> np.ndarray:
    """Rows in the order of the inputs: by their group, and their place in it."""
    return ordinals | np.uint64(group << 32)


def _placed(keys: Keys, group: int) -> Keys:
    return Keys(keys.hashes, keys.keys, _places(keys.positions, group))


_STAGES: Mapping[Stage, Callable[[_Worker, Path], None]] = {
    Stage.SAMPLE: _Worker.sample,
    Stage.TRAIN: _Worker.train,
    Stage.PARTITION: _Worker.partition,
    Stage.REPEATS: _Worker.repeats,
    Stage.BUILD: _Worker.build,
}
