"""Writing a segment: one pass over its rows, one over its lists, one over its keys, and one to read it all back.

Batch only: needs pyarrow and lance. What is kept of a row meanwhile (key entry and key) lies in files beside the
segment, so that memory is a few pages whatever the size, and some 60 bytes a row while the keys are sorted.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lance.file import LanceFileReader, LanceFileWriter
from lance.fragment import DataFile, FragmentMetadata

from neve.errors import ObjectCorrupt
from neve.segments.columns import Column
from neve.segments.directory import Directory
from neve.segments.keyblocks import KeyBlock, block_edges
from neve.segments.layout import KEY_ENTRY, LOCATION, code_row, join_record
from neve.segments.rows import sort_order
from neve.segments.stream import RowBlock, verify_segment
from neve.segments.term_writer import TermRows, write_terms
from neve.vectors.centroids import Centroids
from neve.vectors.metric import Metric
from neve.vectors.probing import Calibration

__all__ = ["RowBlock", "SegmentSource", "write_segment"]

PAGE_BYTES = 8 * 1024 * 1024
PAGE_ROWS = 64
"""Pages are written in multiples of so many rows: of 64 bytes for any width, so that Lance pads none but the last."""
GROUP_ROWS_MAX = 16_384
"""Rows of a row group of `rows.parquet`: below the 20,000 at which pyarrow begins a second page."""
CODES, VECTORS, ROWS = "codes.lance", "vectors.lance", "rows.parquet"
KEYS, FILTERS, DIRECTORY = "keys", "filters", "directory"
_DATA = "data/rows.lance"


class SegmentSource(Protocol):
    """What a segment is written from; arrays may be files in memory, and nothing needs to be held whole."""

    @property
    def dimension(self) -> int: ...
    @property
    def metric(self) -> Metric: ...
    @property
    def rows(self) -> int: ...
    @property
    def centroids(self) -> Centroids: ...
    @property
    def center(self) -> np.ndarray:
        """float32 [d]: what the codes are offsets from."""

    @property
    def calibration(self) -> Calibration: ...
    @property
    def non_filterable(self) -> Collection[str]:
        """Metadata keys that no filter may look at."""

    @property
    def primary_starts(self) -> np.ndarray:
        """uint32 [lists + 1]: the rows whose primary list it is."""

    def members(self, list_: int) -> np.ndarray:
        """Rows uint32 whose code stands in the list: the primary ones in their order first."""

    def row_blocks(self) -> Iterator[RowBlock]:
        """All rows in row order, once."""

    def codes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of some rows: packed codes uint8 [n, code_bytes], factors float32 [n], biases float32 [n]."""


def write_segment(folder: Path, name: str, source: SegmentSource) -> Directory:
    """Write all files of a segment into an empty `folder`, and verify every checksummed byte by reading it back.

    Raises ObjectCorrupt if what was read differs from what was written, OSError, and what the source raises. The
    directory is that of files in a folder: its own `folder` is empty.
    """
    with tempfile.TemporaryDirectory(prefix="rows-", dir=folder.parent) as scratch:
        terms = TermRows(Path(scratch) / "terms", source.non_filterable)
        raw = _write_files(folder, name, source, _Table(Path(scratch) / "written", source.rows), terms).encode()
        (folder / DIRECTORY).write_bytes(raw)
        stored = Directory.decode(DIRECTORY, _read_file(folder / DIRECTORY, 0, len(raw)), folder="")
        read = _Table(Path(scratch) / "read", source.rows)
        verify_segment(stored, lambda key, start, stop: _read_file(folder / key, start, stop), read.entries, terms)
    return stored


def _write_files(folder: Path, name: str, source: SegmentSource, table: _Table, terms: TermRows) -> Directory:
    vectors_offset = _write_rows(folder, source, table, terms)
    list_starts, list_crcs, codes_offset = _write_codes(folder, source, table.entries)
    key_heads, key_starts, key_crcs = _write_keys(folder / KEYS, table)
    filters = write_terms(folder / FILTERS, terms.postings(), source.rows)
    return Directory(
        name=name,
        rows=source.rows,
        dimension=source.dimension,
        metric=source.metric,
        codes_object=f"{CODES}/{_DATA}",
        codes_offset=codes_offset,
        vectors_object=f"{VECTORS}/{_DATA}",
        vectors_offset=vectors_offset,
        rows_object=ROWS,
        keys_object=KEYS,
        centroids=source.centroids,
        center=source.center,
        list_starts=list_starts,
        primary_starts=source.primary_starts,
        list_crcs=list_crcs,
        key_heads=key_heads,
        key_starts=key_starts,
        key_crcs=key_crcs,
        calibration=source.calibration,
        size_bytes=sum(
            (folder / name).stat().st_size for name in (f"{CODES}/{_DATA}", f"{VECTORS}/{_DATA}", ROWS, KEYS, FILTERS)
        ),
        filters=filters,
    )


def _read_file(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


class _Table:
    """What is kept of the rows of a segment in files of one folder: their key entries, in row order, and their keys."""

    def __init__(self, folder: Path, rows: int) -> None:
        folder.mkdir()
        # plain arrays over the files: slices of a memmap cost a microsecond more each
        self.entries = np.asarray(np.memmap(folder / "entries", KEY_ENTRY, "w+", shape=rows))
        self._keys = folder / "keys"
        self.filled = 0

    def append(self, block: RowBlock, records: Sequence[bytes]) -> None:
        some = self.entries[self.filled : self.filled + len(block)]
        if len(some) != len(block):
            raise ValueError(f"more than {len(self.entries)} rows")
        self.filled += len(block)
        some["row"] = np.arange(self.filled - len(block), self.filled)
        some["hash"], some["position"] = block.hashes, block.positions
        some["record_bytes"] = [*map(len, records)]
        some["record_crc"] = [*map(zlib.crc32, records)]
        some["vector_crc"] = [*map(zlib.crc32, np.ascontiguousarray(block.vectors, "<f4"))]
        some["key_bytes"] = np.diff(block.keys.offsets)
        with self._keys.open("ab") as file:
            file.write(block.keys.data.tobytes())

    def keys(self) -> Column:
        """The keys of all rows, a file in memory."""
        offsets = np.zeros(len(self.entries) + 1, np.uint64)
        np.cumsum(self.entries["key_bytes"], out=offsets[1:])
        return Column(np.asarray(np.memmap(self._keys, np.uint8, "r")), offsets)


def _write_rows(folder: Path, source: SegmentSource, table: _Table, terms: TermRows) -> int:
    """Write `vectors.lance` and `rows.parquet`, fill the table, enter terms; where the vectors begin in their file."""
    type_ = pa.list_(pa.float32(), source.dimension)
    vectors, records = _LanceColumn(folder / VECTORS, "vector", type_, 4 * source.dimension), _Records(folder / ROWS)
    for block in source.row_blocks():
        joined = [join_record(key, metadata) for key, metadata in zip(block.keys, block.metadata, strict=True)]
        terms.add(table.filled, block.metadata)
        table.append(block, joined)
        vectors.write(block.vectors.astype("<f4", copy=False))
        records.write(block.keys, joined)
    if table.filled != source.rows:
        raise ValueError(f"{table.filled} rows instead of {source.rows}")
    table.entries["record_at"] = records.commit(table.entries["record_bytes"])
    return vectors.commit()


def _write_codes(folder: Path, source: SegmentSource, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Write `codes.lance`, list by list; list_starts, list_crcs, and where code row 0 begins in the file."""
    dtype = code_row(source.dimension)
    lists = len(source.primary_starts) - 1
    starts, crcs = np.zeros(lists + 1, np.uint64), np.zeros(lists, np.uint32)
    column = _LanceColumn(folder / CODES, "code", pa.binary(dtype.itemsize), dtype.itemsize)
    for list_ in range(lists):
        rows = source.members(list_)
        codes = np.empty(len(rows), dtype)
        codes["code"], codes["factor"], codes["bias"] = source.codes(rows)
        codes["row"] = rows
        located = entries[rows]
        for name in LOCATION:
            codes[name] = located[name]
        starts[list_ + 1], crcs[list_] = starts[list_] + np.uint64(len(rows)), zlib.crc32(codes.tobytes())
        column.write(codes)
    return starts, crcs, column.commit()


def _write_keys(path: Path, table: _Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write the key index; key_heads, key_starts and key_crcs of its blocks."""
    keys, hashes = table.keys(), np.array(table.entries["hash"])
    order = sort_order(hashes, keys)
    edges = block_edges(hashes[order], table.entries["key_bytes"][order])
    sizes, crcs = [0], []
    with path.open("wb") as file:
        for start, stop in pairwise(edges.tolist()):
            rows = order[start:stop]
            raw = KeyBlock(table.entries[rows], keys.take(rows)).encode()
            sizes.append(file.write(raw))
            crcs.append(zlib.crc32(raw))
    return hashes[order[edges[:-1]]], np.cumsum(sizes, dtype=np.uint64), np.array(crcs, np.uint32)


class _LanceColumn:
    """A Lance dataset of one column of fixed width, in one fragment whose file holds the values as one run of bytes."""

    def __init__(self, path: Path, name: str, type_: pa.DataType, row_bytes: int) -> None:
        self._path, self._file, self._row_bytes = path, path / _DATA, row_bytes
        self._schema = pa.schema([pa.field(name, type_, nullable=False)])
        self._file.parent.mkdir(parents=True)
        file = str(self._file.absolute())
        self._writer = LanceFileWriter(file, self._schema, data_cache_bytes=PAGE_BYTES, version="2.0")
        self._page = bytearray()
        self._bytes = 0

    def write(self, rows: np.ndarray) -> None:
        """Append rows: a contiguous array whose bytes are those of the column."""
        self._page += rows.tobytes()
        if len(self._page) >= PAGE_BYTES:
            unit = self._row_bytes * PAGE_ROWS
            self._flush(len(self._page) // unit * unit)

    def _flush(self, size_bytes: int) -> None:
        raw = pa.py_buffer(bytes(memoryview(self._page)[:size_bytes]))
        del self._page[:size_bytes]
        rows, type_ = size_bytes // self._row_bytes, self._schema.types[0]
        if pa.types.is_fixed_size_list(type_):
            floats = pa.Array.from_buffers(pa.float32(), rows * type_.list_size, [None, raw])
            column = pa.FixedSizeListArray.from_arrays(floats, type=type_)
        else:
            column = pa.Array.from_buffers(type_, rows, [None, raw])
        self._writer.write_batch(pa.record_batch([column], schema=self._schema))
        self._bytes += size_bytes

    def commit(self) -> int:
        """End the file and make it the dataset's one fragment; where its first value lies. Raises ObjectCorrupt."""
        if self._page:
            self._flush(len(self._page))
        self._writer.close()
        pages = LanceFileReader(str(self._file.absolute())).metadata().columns[0].pages
        runs = [(page.buffers[0].position, page.buffers[0].size) for page in pages]
        ends = [start + size for start, size in runs]
        if ends[:-1] != [start for start, _ in runs[1:]] or ends[-1] - runs[0][0] != self._bytes:
            raise ObjectCorrupt(f"{self._file} is not one run of {self._bytes} bytes")
        file = DataFile(
            self._file.name,
            [0],
            [0],
            file_major_version=2,
            file_minor_version=0,
            file_size_bytes=self._file.stat().st_size,
        )
        fragment = FragmentMetadata(0, [file], self._bytes // self._row_bytes)
        lance.LanceDataset.commit(str(self._path), lance.LanceOperation.Overwrite(self._schema, [fragment]))
        return int(runs[0][0])


class _Records:
    """`rows.parquet`: the records of a row group stand in one page, plain and uncompressed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("key", "record")])
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression={"key": "zstd", "record": "none"},
            use_dictionary=False,
            write_statistics=False,
            data_page_version="1.0",
            data_page_size=2**30,
        )
        self._keys: list[bytes] = []
        self._records: list[bytes] = []
        self._bytes = 0

    def write(self, keys: Iterable[bytes], records: Iterable[bytes]) -> None:
        for key, record in zip(keys, records, strict=True):
            self._keys.append(key)
            self._records.append(record)
            self._bytes += len(record)
            if self._bytes >= PAGE_BYTES or len(self._records) == GROUP_ROWS_MAX:
                self._flush()

    def _flush(self) -> None:
        columns = [pa.array(values, pa.string()) for values in (self._keys, self._records)]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema), row_group_size=len(self._records))
        self._keys, self._records, self._bytes = [], [], 0

    def commit(self, record_bytes: np.ndarray) -> np.ndarray:
        """End the file; where the text of each record begins in it, uint64 [n].

        The records of a row group are a page header and, for each, 4 bytes of length and its text: required columns
        have no levels. The header's size is what the others leave of the chunk's size.
        """
        if self._records:
            self._flush()
        self._writer.close()
        sizes = record_bytes.astype(np.int64) + 4
        ends = np.cumsum(sizes)
        places = ends - sizes + 4
        first, metadata = 0, pq.read_metadata(self._path)
        for group in range(metadata.num_row_groups):
            chunk, last = metadata.row_group(group).column(1), first + metadata.row_group(group).num_rows
            chunk_end = chunk.data_page_offset + chunk.total_compressed_size
            places[first:last] += chunk_end - ends[last - 1]
            first = last
        return places.astype(np.uint64)
