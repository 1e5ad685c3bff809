"""Bare matrices: `.npy` and `.fvecs`. Keys are row numbers, or come with the metadata from a file beside."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.errors import SourceUnfit
from neve.transfer import files
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rules import Raw
from neve.transfer.sources.parts import Head, SourcePart, even_cuts, part_rows
from neve.transfer.sources.sidecar import labels, sidecar_rows

_HEADER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class _Layout:
    """Row i lies at `offset` + i·`stride`, of which `lead` bytes come before its components."""

    offset: int
    stride: int
    lead: int
    rows: int
    dimension: int
    dtype: np.dtype[Any]


class _Matrix(ABC):
    """A file of rows of one length."""

    @abstractmethod
    def _layout(self, url: str) -> _Layout:
        """Where the rows lie. Raises SourceUnfit."""

    def fingerprint(self, url: str, mapping: ColumnMapping) -> str:
        """That of the file beside is part of it."""
        beside = [] if mapping.rows is None else [files.fingerprint(mapping.rows)]
        return " ".join([files.fingerprint(url), *beside])

    def head(self, url: str, mapping: ColumnMapping) -> Head:
        with files.reading(url):
            layout = self._layout(url)
        if mapping.rows is not None:
            rows = sidecar_rows(mapping.rows, mapping)
            if rows is not None and rows != layout.rows:
                raise SourceUnfit(f"{mapping.rows} has {rows:,} rows, and {url} has {layout.rows:,}")
        step = part_rows(layout.dimension)
        return Head(layout.rows, layout.dimension, even_cuts(layout.rows, step), step)

    def read(self, part: SourcePart, mapping: ColumnMapping, dimension: int, block_rows: int) -> Iterator[Raw]:
        with files.reading(part.url):
            layout = self._layout(part.url)
        if layout.dimension != dimension:
            raise SourceUnfit(f"{part.url} has vectors of dimension {layout.dimension}, and the index has {dimension}")
        for start, keys, documents, problems in labels(part, mapping, block_rows):
            with files.reading(part.url):
                vectors = self._rows(part.url, layout, start, start + len(keys))
            yield Raw(part.url, range(start, start + len(keys)), keys, vectors, documents, problems)

    def _rows(self, url: str, layout: _Layout, start: int, stop: int) -> np.ndarray:
        at = layout.offset + start * layout.stride
        raw = np.frombuffer(files.read_range(url, at, at + (stop - start) * layout.stride), np.uint8)
        lines = raw.reshape(stop - start, layout.stride)
        if layout.lead and np.any(lines[:, : layout.lead] != lines[0, : layout.lead]):
            raise SourceUnfit(f"{url} has vectors of several dimensions")
        components = np.ascontiguousarray(lines[:, layout.lead :]).view(layout.dtype)
        with np.errstate(over="ignore"):
            return components.astype(np.float32)


class Npy(_Matrix):
    """A matrix as NumPy saves it, row by row."""

    def _layout(self, url: str) -> _Layout:
        file = io.BytesIO(files.read_range(url, 0, min(_HEADER_BYTES, files.size_of(url))))
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
        if len(shape) != 2 or dtype.kind not in "fiu" or shape[1] == 0:
            raise SourceUnfit(f"{url} holds {dtype} of shape {shape}: vectors are a matrix of numbers, one a row")
        if by_columns:
            raise SourceUnfit(f"{url} is in Fortran order: save numpy.ascontiguousarray of it")
        return _Layout(file.tell(), shape[1] * dtype.itemsize, 0, shape[0], shape[1], dtype)


class Fvecs(_Matrix):
    """Rows of an int32, the dimension, and so many float32, little-endian."""

    def _layout(self, url: str) -> _Layout:
        size, dtype = files.size_of(url), np.dtype("<f4")
        if size < 4:
            return _Layout(0, 0, 4, 0, 0, dtype)
        dimension = int(np.frombuffer(files.read_range(url, 0, 4), "<i4")[0])
        stride = 4 + 4 * dimension
        if dimension < 1 or size % stride:
            raise SourceUnfit(f"{url} is not an .fvecs file of one dimension: it begins with {dimension}")
        return _Layout(0, stride, 4, size // stride, dimension, dtype)
