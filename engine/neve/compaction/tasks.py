"""The work between gathering and upload, as tasks that need nothing but the workspace.

A task names a stage and a range of rows, never data; whatever an executor runs it in, its output is the same, and it is
kept. Stages come one after another, the tasks of one stage in any order. Between them the live rows are known in two
orders: shuffled, so that every range of points is a fair sample of all, and that of the new segment, list by list.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from neve.compaction.workspace import Job, Workspace
from neve.segments.layout import code_bytes
from neve.segments.rows import live_masks
from neve.segments.stream import RowBlock
from neve.vectors.centroids import Centroids, quantise_centroids
from neve.vectors.cluster import SAMPLE_ROWS, assign, train
from neve.vectors.codes import CodedQuery, encode, unpack
from neve.vectors.exact import Directions
from neve.vectors.metric import Metric
from neve.vectors.probing import Calibration, calibrate

LIST_ROWS = 128
"""Vectors of a list, before spilling (engine/spec/decisions: list size)."""
SEGMENT = "segment"
"""The folder of the new segment's files."""
DIRECTORY = "directory"
_RANGES = 16
"""Tasks of a stage at most: lists are kept even within each range of points, which then has to be a large sample."""
_RANGE_ROWS_MIN = 4096
_CHUNK_BYTES = 8 << 20


class Stage(StrEnum):
    """What is done, in this order."""

    SELECT = "select"
    POINTS = "points"
    TRAIN = "train"
    ASSIGN = "assign"
    ENCODE = "encode"
    CALIBRATE = "calibrate"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Task:
    """One stage for the live rows [start, stop) of a workspace's job."""

    folder: str
    stage: Stage
    start: int
    stop: int

    @property
    def output(self) -> str:
        """Name of the file that is there when the task has been done."""
        return f"{self.stage}.{self.start}"


def tasks(workspace: Workspace, stage: Stage) -> list[Task]:
    """The tasks of a stage, those that are done included; all earlier stages are done. Makes the array they fill."""
    job, rows = workspace.job(), 0 if stage is Stage.SELECT else len(workspace.load("live"))
    filled: dict[Stage, tuple[str, tuple[int, ...], np.dtype[Any]]] = {
        Stage.POINTS: ("points", (rows, job.dimension), np.dtype("<f4")),
        Stage.ASSIGN: ("lists", (rows, 2), np.dtype("<i4")),
        Stage.ENCODE: ("codes", (rows,), coded(job.dimension)),
    }
    if stage not in filled:
        return [Task(str(workspace.folder), stage, 0, rows)]
    workspace.allocate(*filled[stage])
    step = max(_RANGE_ROWS_MIN, -(-rows // _RANGES))
    return [Task(str(workspace.folder), stage, start, min(rows, start + step)) for start in range(0, rows, step)]


def run(task: Task) -> None:
    """Do a task, unless it is done. Raises OSError, ObjectCorrupt."""
    workspace = Workspace(Path(task.folder))
    if not workspace.has(task.output):
        _STAGES[task.stage](workspace, workspace.job(), task.start, task.stop)
        workspace.save(task.output, np.empty(0))


def _select(workspace: Workspace, job: Job, _start: int, _stop: int) -> None:
    """`live`: the gathered row of each live row, shuffled; int64 [n]."""
    inputs = workspace.inputs(job.dimension)
    rows = np.flatnonzero(live_masks([inputs.rows.keys, inputs.deleted])[0])
    workspace.save("live", np.random.default_rng(job.plan.seed).permutation(rows))


def _points(workspace: Workspace, job: Job, start: int, stop: int) -> None:
    """`points`: what is clustered and coded, float32 [n, d]: unit vectors for cosine."""
    vectors, live = workspace.inputs(job.dimension).rows.vectors, workspace.load("live")
    for first, last in _chunks(start, stop, job.dimension):
        some = vectors[live[first:last]]
        workspace.fill("points", first, Directions.of(some).units if job.metric is Metric.COSINE else some)


def _train(workspace: Workspace, job: Job, _start: int, stop: int) -> None:
    """`centroids` float32 [lists, d], `group_starts`, `center` float32 [d]; the sample is an eighth of the memory."""
    lists = max(1, round(stop / LIST_ROWS))
    sample = min(lists * SAMPLE_ROWS, max(lists, job.memory_bytes // (8 * 4 * job.dimension)))
    points = workspace.load("points")[:sample]
    workspace.save("center", points.mean(axis=0, dtype=np.float64).astype(np.float32))
    centroids, group_starts = train(points, lists, job.metric, job.plan.seed)
    workspace.save("group_starts", group_starts)
    workspace.save("centroids", centroids)


def _assign(workspace: Workspace, job: Job, start: int, stop: int) -> None:
    """`lists`: the primary and the spill list of each point; int32 [n, 2]."""
    points, centroids = workspace.load("points")[start:stop], workspace.load("centroids")
    workspace.fill("lists", start, np.stack(assign(points, centroids, job.metric), axis=1))


def _encode(workspace: Workspace, job: Job, start: int, stop: int) -> None:
    """`codes`: of each point."""
    points, center = workspace.load("points"), workspace.load("center")
    for first, last in _chunks(start, stop, job.dimension):
        codes = np.empty(last - first, coded(job.dimension))
        codes["code"], codes["factor"], codes["bias"] = encode(points[first:last], center)
        workspace.fill("codes", first, codes)


def _calibrate(workspace: Workspace, job: Job, _start: int, _stop: int) -> None:
    """`beta`, `ks`, `targets`, `masses`, `candidates`: the calibration."""
    codes, center = workspace.load("codes"), workspace.load("center")
    primary, spill = workspace.load("lists").T

    def estimate(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        some = codes[rows]
        levels = unpack(some["code"], job.dimension)
        return CodedQuery.of(query, center).scan([levels], some["factor"], some["bias"])

    points, seed = workspace.load("points"), job.plan.seed
    found = calibrate(points, primary, spill, _centroids(workspace, job), job.metric, estimate, seed)
    for field in fields(Calibration):
        workspace.save(field.name, np.asarray(getattr(found, field.name)))


def _centroids(workspace: Workspace, job: Job) -> Centroids:
    return quantise_centroids(workspace.load("centroids"), job.metric, workspace.load("group_starts"))


def _calibration(workspace: Workspace) -> Calibration:
    beta, *others = (np.array(workspace.load(field.name)) for field in fields(Calibration))
    return Calibration(float(beta), *others)


def _write(workspace: Workspace, job: Job, _start: int, _stop: int) -> None:
    """`segment`: the folder of the new segment's files, read back and whole."""
    from neve.segments.writer import write_segment  # needs lance and pyarrow, which nothing else here does

    scratch = workspace.path(f".{SEGMENT}.{os.getpid()}")  # the writer keeps files of its own beside the segment's
    folder = scratch / SEGMENT
    folder.mkdir(parents=True)
    write_segment(folder, SEGMENT, Source(workspace, job))
    shutil.rmtree(workspace.path(SEGMENT), ignore_errors=True)
    folder.replace(workspace.path(SEGMENT))
    shutil.rmtree(scratch)


def points_in_order(workspace: Workspace) -> np.ndarray:
    """The point of each row of the new segment, int64 [n]: list by list."""
    return np.argsort(workspace.load("lists")[:, 0], kind="stable")


class Source:
    """The new segment, as its writer asks for it, from the output of all stages before."""

    def __init__(self, workspace: Workspace, job: Job) -> None:
        self.dimension, self.metric, self.non_filterable = job.dimension, job.metric, job.non_filterable
        self.centroids = _centroids(workspace, job)
        self.center = np.array(workspace.load("center"))
        self.calibration = _calibration(workspace)
        self._rows = workspace.inputs(job.dimension).rows
        self._points = points_in_order(workspace)
        self._gathered = workspace.load("live")[self._points]
        self._codes = workspace.load("codes")
        self.rows = len(self._points)
        primary, spill = workspace.load("lists")[self._points].T
        edges = np.arange(len(self.centroids) + 1)
        self.primary_starts = np.searchsorted(primary, edges).astype(np.uint32)
        self._spilled = np.argsort(spill, kind="stable").astype(np.uint32)
        self._spilled_starts = np.searchsorted(spill[self._spilled], edges)

    def members(self, list_: int) -> np.ndarray:
        primary = np.arange(*self.primary_starts[list_ : list_ + 2], dtype=np.uint32)
        first, last = self._spilled_starts[list_ : list_ + 2]
        return np.concatenate([primary, self._spilled[first:last]])

    def row_blocks(self) -> Iterator[RowBlock]:
        keys, vectors, metadata = self._rows.keys, self._rows.vectors, self._rows.metadata
        for first, last in _chunks(0, self.rows, self.dimension):
            some = self._gathered[first:last]
            columns = (keys.keys.take(some), metadata.take(some))
            yield RowBlock(keys.hashes[some], keys.positions[some], *columns, vectors[some])

    def codes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        some = self._codes[self._points[rows]]
        return some["code"], some["factor"], some["bias"]


def coded(dimension: int) -> np.dtype[np.void]:
    """dtype of a row of `codes`."""
    return np.dtype([("code", "u1", (code_bytes(dimension),)), ("factor", "<f4"), ("bias", "<f4")])


def _chunks(start: int, stop: int, dimension: int) -> Iterator[tuple[int, int]]:
    step = max(1, _CHUNK_BYTES // (4 * dimension))
    return ((first, min(stop, first + step)) for first in range(start, stop, step))


_STAGES: Mapping[Stage, Callable[[Workspace, Job, int, int], None]] = {
    Stage.SELECT: _select,
    Stage.POINTS: _points,
    Stage.TRAIN: _train,
    Stage.ASSIGN: _assign,
    Stage.ENCODE: _encode,
    Stage.CALIBRATE: _calibrate,
    Stage.WRITE: _write,
}
