"""Runs: the rows of one group of inputs by partition, as one object of sealed blocks; a partition reads its ranges.

A block is an envelope (engine/spec/format.md) with the sections of a flat segment's rows. The index of a run tells
where the blocks end (`ends`, uint64 [blocks]), and which are whose: those of partition p are [firsts[p], firsts[p + 1])
(`firsts`, uint32 [partitions + 1]).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from neve.compaction.jobs import JobFolder
from neve.errors import ObjectCorrupt, ObjectGone
from neve.segments.columns import concatenate
from neve.segments.flat import Batch, no_keys, pack, unpack
from neve.segments.rows import Keys, Rows
from neve.store.envelope import Envelope, intact, seal, unseal
from neve.store.port import Get, body

BLOCK_BYTES = 8 << 20
_AHEAD_BYTES = 64 << 20
"""Ranges of runs are read in waves of about so many bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run in the folder of a job, and its index."""

    name: str
    ends: np.ndarray
    firsts: np.ndarray

    @classmethod
    def of(cls, found: Envelope, name: str) -> Run:
        """One of the runs that an output tells of."""
        sections = found.sections
        return cls(found.fields[name], sections[f"{name}_ends"], sections[f"{name}_firsts"])

    def spans(self, partition: int) -> Iterator[tuple[int, list[int]]]:
        """Where a partition's blocks lie, in ranges of a wave at most: where each starts, and its blocks end."""
        first, last = self.firsts[partition : partition + 2].tolist()
        starts = [0, *self.ends.tolist()]
        while first < last:
            stop = first + 1
            while stop < last and starts[stop + 1] - starts[first] <= _AHEAD_BYTES:
                stop += 1
            yield starts[first], starts[first + 1 : stop + 1]
            first = stop


class RunWriter:
    """Splits rows by partition on the local disk; holds about `memory_bytes` of them, or one block."""

    def __init__(self, folder: Path, partitions: int, memory_bytes: int) -> None:
        self._folder = folder
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        self._memory_bytes = memory_bytes
        self._held: list[list[Rows]] = [[] for _ in range(partitions)]
        self._held_bytes = 0
        self._sizes: list[list[int]] = [[] for _ in range(partitions)]

    def add(self, rows: Rows, partitions: np.ndarray) -> None:
        """Take rows, each for its partition; whole numbers [n]."""
        for partition in np.unique(partitions).tolist():
            self._held[partition].append(rows.take(np.flatnonzero(partitions == partition)))
        self._held_bytes += Batch(rows, no_keys()).size_bytes
        if self._held_bytes >= self._memory_bytes:
            self._flush()

    def finish(self, name: str) -> tuple[Path, Run]:
        """The run, as a file, and as it will be named."""
        self._flush()
        path = self._folder / "run"
        with open(path, "wb") as run:
            for partition, sizes in enumerate(self._sizes):
                if sizes:
                    part = self._path(partition)
                    with open(part, "rb") as file:
                        shutil.copyfileobj(file, run, BLOCK_BYTES)
                    part.unlink()
        ends = np.cumsum([size for sizes in self._sizes for size in sizes], dtype=np.uint64)
        return path, Run(name, ends, np.cumsum([0, *map(len, self._sizes)], dtype=np.uint32))

    def _flush(self) -> None:
        for partition, held in enumerate(self._held):
            if not held:
                continue
            rows = _one_after_another(held)
            step = max(1, BLOCK_BYTES // (4 * max(1, rows.vectors.shape[1])))
            with open(self._path(partition), "ab") as file:
                for start in range(0, len(rows), step):
                    some = rows.take(np.arange(start, min(len(rows), start + step)))
                    self._sizes[partition].append(file.write(seal({}, pack(Batch(some, no_keys())))))
            held.clear()
        self._held_bytes = 0

    def _path(self, partition: int) -> Path:
        return self._folder / str(partition)


def read_runs(
    folder: JobFolder, runs: Sequence[Run], partition: int, dimension: int, skipped: int = 0
) -> Iterator[list[tuple[int, Batch]]]:
    """The rows of a partition in all runs, each batch with the place of its run, by waves of about 64 MiB.

    The first `skipped` waves are left out. Raises ObjectGone, ObjectCorrupt, StoreError.
    """
    wanted = [(place, run, *span) for place, run in enumerate(runs) for span in run.spans(partition)]
    sizes = np.cumsum([ends[-1] - start for _, _, start, ends in wanted])
    waves = np.unique(sizes // _AHEAD_BYTES, return_index=True)[1].tolist()
    for first, last in list(pairwise([*waves, len(wanted)]))[skipped:]:
        some = wanted[first:last]
        requests = [Get(folder.key(run.name), start, ends[-1]) for _, run, start, ends in some]
        batches = []
        for request, (place, _, start, ends), reply in zip(requests, some, folder.store.wave(requests), strict=True):
            raw = body(reply)
            if raw is None:
                raise ObjectGone(f"{request.key} is not there: the job was given up")
            for edge, end in pairwise([start, *ends]):
                batches.append((place, _batch(request.key, raw[edge - start : end - start], dimension)))
        yield batches


def _batch(key: str, raw: bytes, dimension: int) -> Batch:
    if not intact(raw):
        raise ObjectCorrupt(f"{key} has a block that does not match its checksum")
    try:
        return unpack(unseal(key, raw).sections, dimension)
    except (LookupError, ValueError) as error:
        raise ObjectCorrupt(f"{key} is not a run of an index of dimension {dimension}") from error


def _one_after_another(parts: Sequence[Rows]) -> Rows:
    hashes, positions = (
        np.concatenate([getattr(part.keys, name) for part in parts]) for name in ("hashes", "positions")
    )
    keys = Keys(hashes, concatenate([part.keys.keys for part in parts]), positions)
    vectors = np.concatenate([part.vectors for part in parts])
    return Rows(keys, vectors, concatenate([part.metadata for part in parts]))
