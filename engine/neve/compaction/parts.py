"""What a job on several machines reads: parts of the store's objects, by name. Never data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from neve.compaction.gather import compacted_rows, mask_at, read_all, read_directory, read_mask
from neve.index import paths
from neve.index.held import flat_batch
from neve.index.manifest import CompactedInfo, SegmentInfo
from neve.segments.flat import Batch, no_keys
from neve.segments.masks import decode_mask
from neve.store.port import Store


class Input(Protocol):
    """Rows that any machine which reaches the store can read, and what to know of them without reading them all."""

    def to_fields(self) -> list[Any]:
        """JSON values; a class has its own way back from them."""
        ...

    def blocks(self, store: Store, folder: Path) -> Iterator[Batch]:
        """The rows in blocks of about 8 MiB of vectors, in any order; `folder` is for scratch files.

        Raises ObjectGone, ObjectCorrupt, StoreError, OSError.
        """
        ...

    def sample(self, store: Store, rows: int, seed: int, folder: Path) -> np.ndarray:
        """About so many vectors, or points that stand for as many rows each, float32 [n, d]. Raises as `blocks`."""
        ...


@dataclass(frozen=True, slots=True)
class FlatPart:
    """A flat segment, less the rows of a mask."""

    uid: str
    dimension: int
    info: SegmentInfo
    mask: str
    """Key of the mask, "" where no row is masked."""

    @property
    def rows(self) -> int:
        return self.info.rows

    def to_fields(self) -> list[Any]:
        return ["flat", self.uid, self.dimension, self.info.to_fields(), self.mask]

    def blocks(self, store: Store, folder: Path) -> Iterator[Batch]:
        key = paths.flat_segment(self.uid, self.info.name)
        rows = flat_batch(key, read_all(store, [key])[0], self.dimension, self.info).rows
        if self.mask:
            rows = rows.take(np.flatnonzero(~decode_mask(self.mask, mask_at(store, self.mask), len(rows))))
        yield Batch(rows, no_keys())

    def sample(self, store: Store, rows: int, seed: int, folder: Path) -> np.ndarray:
        return sample_of(np.concatenate([block.rows.vectors for block in self.blocks(store, folder)]), rows, seed)


@dataclass(frozen=True, slots=True)
class SegmentPart:
    """Rows [start, stop) of a compacted segment, less those of a mask."""

    uid: str
    info: CompactedInfo
    start: int
    stop: int
    mask: str
    """Key of the mask, "" where it is the segment's own."""

    @property
    def rows(self) -> int:
        return self.stop - self.start

    def to_fields(self) -> list[Any]:
        return ["compacted", self.uid, self.info.to_fields(), self.start, self.stop, self.mask]

    def blocks(self, store: Store, folder: Path) -> Iterator[Batch]:
        mask = mask_at(store, self.mask) if self.mask else read_mask(store, self.uid, self.info)
        directory = read_directory(store, self.uid, self.info)
        return compacted_rows(store, directory, mask, folder, self.start, self.stop)

    def sample(self, store: Store, rows: int, seed: int, folder: Path) -> np.ndarray:
        """Centroids of the part's lists: each stands for about as many rows, and costs no read of them."""
        directory = read_directory(store, self.uid, self.info)
        starts, centroids = directory.primary_starts, directory.centroids
        lists = sample_of(np.flatnonzero((starts[1:] > self.start) & (starts[:-1] < self.stop)), rows, seed)
        points: np.ndarray = centroids.codes[lists] * centroids.scales[lists][:, None]
        return points


def part_of(fields: list[Any]) -> FlatPart | SegmentPart:
    """The part of `to_fields`; raises LookupError, ValueError or TypeError where it is none."""
    match fields:
        case ["flat", uid, dimension, info, mask]:
            return FlatPart(uid, dimension, SegmentInfo.from_fields(info), mask)
        case ["compacted", uid, info, start, stop, mask]:
            return SegmentPart(uid, CompactedInfo.from_fields(info), start, stop, mask)
    raise ValueError("not a part of an index")


def sample_of(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most so many of the values, in their order."""
    if len(values) <= count:
        return values
    return values[np.sort(np.random.default_rng(seed).choice(len(values), count, replace=False))]
