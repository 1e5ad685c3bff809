"""Tables of Arrow's kind: Parquet, Arrow IPC files and streams, Lance datasets and LanceDB tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neve.errors import SourceUnfit
from neve.transfer import files
from neve.transfer.mapping import Column, ColumnMapping, Columns, choose
from neve.transfer.rules import NULL, Raw
from neve.transfer.sources.parts import Head, SourcePart, even_cuts, part_rows

_BUFFER_BYTES = 8 << 20
_IPC_FILE_MAGIC = b"ARROW1"


class Parquet:
    """Parts end where row groups do."""

    def fingerprint(self, url: str, _mapping: ColumnMapping) -> str:
        return files.fingerprint(url)

    def head(self, url: str, mapping: ColumnMapping) -> Head:
        with files.reading(url), _parquet(url) as file:
            columns = choose(url, columns_of(file.schema_arrow), mapping)
            cuts = _group_stops(file).tolist()
            first = file.iter_batches(1, columns=[columns.vector])
            dimension = _dimension(file.schema_arrow.field(columns.vector), first)
            return Head(file.metadata.num_rows, dimension, cuts, part_rows(dimension))

    def read(self, part: SourcePart, mapping: ColumnMapping, dimension: int, block_rows: int) -> Iterator[Raw]:
        with files.reading(part.url), _parquet(part.url) as file:
            columns = choose(part.url, columns_of(file.schema_arrow), mapping)
            stops = _group_stops(file)
            groups = np.flatnonzero((stops > part.start) & (stops <= part.stop)).tolist()
            batches = file.iter_batches(block_rows, row_groups=groups, columns=columns.names)
            yield from _raws(part, columns, batches, dimension)


class Arrow:
    """IPC files and streams, also called Feather. Those that are local are cut between record batches."""

    def fingerprint(self, url: str, _mapping: ColumnMapping) -> str:
        return files.fingerprint(url)

    def head(self, url: str, mapping: ColumnMapping) -> Head:
        """Reads a remote file whole: the format does not say how many rows it has."""
        with files.reading(url), _ipc(url) as (schema, batches):
            columns = choose(url, columns_of(schema), mapping)
            dimension, rows = 0, [0]
            for batch in batches:
                dimension = dimension or _dimension_of(batch.column(columns.vector))
                rows.append(rows[-1] + batch.num_rows)
        if not dimension:
            dimension = _dimension(schema.field(columns.vector), iter(()))
        return Head(rows[-1], dimension, rows[1:] if files.is_local(url) else rows[-1:], part_rows(dimension))

    def read(self, part: SourcePart, mapping: ColumnMapping, dimension: int, block_rows: int) -> Iterator[Raw]:
        with files.reading(part.url), _ipc(part.url) as (schema, batches):
            columns = choose(part.url, columns_of(schema), mapping)
            yield from _raws(part, columns, _between(batches, part, block_rows), dimension)


class Lance:
    """A version of a dataset never changes: it is named by the fingerprint, and later ones do no harm."""

    def fingerprint(self, url: str, _mapping: ColumnMapping) -> str:
        with files.reading(url):
            return str(_lance(url).version)

    def head(self, url: str, mapping: ColumnMapping) -> Head:
        with files.reading(url):
            dataset = _lance(url)
            columns = choose(url, columns_of(dataset.schema), mapping)
            first = dataset.to_batches(columns=[columns.vector], limit=1)
            dimension = _dimension(dataset.schema.field(columns.vector), first)
            rows, step = dataset.count_rows(), part_rows(dimension)
        return Head(rows, dimension, even_cuts(rows, step), step)

    def read(self, part: SourcePart, mapping: ColumnMapping, dimension: int, block_rows: int) -> Iterator[Raw]:
        with files.reading(part.url):
            dataset = _lance(part.url, int(part.fingerprint))
            columns = choose(part.url, columns_of(dataset.schema), mapping)
            batches = dataset.to_batches(
                columns=columns.names,
                offset=part.start,
                limit=part.stop - part.start,
                batch_size=block_rows,
                batch_readahead=2,
                scan_in_order=True,
            )
            yield from _raws(part, columns, batches, dimension)


def beside_rows(url: str, mapping: ColumnMapping) -> int:
    """Rows of a Parquet file beside a file of vectors. Raises SourceUnfit."""
    with files.reading(url), _parquet(url) as file:
        choose(url, columns_of(file.schema_arrow), mapping, beside=True)
        return int(file.metadata.num_rows)


def beside(
    url: str, start: int, stop: int, mapping: ColumnMapping, block_rows: int
) -> Iterator[tuple[list[object], list[object], dict[int, str]]]:
    """Keys (none where they are numbers), metadata and problems of rows [start, stop) of such a file, in blocks."""
    with files.reading(url), _parquet(url) as file:
        columns = choose(url, columns_of(file.schema_arrow), mapping, beside=True)
        stops = _group_stops(file)
        groups = np.flatnonzero((stops > start) & (np.append(0, stops[:-1]) < stop)).tolist()
        row = int(np.append(0, stops)[groups[0]]) if groups else stop
        for batch in file.iter_batches(block_rows, row_groups=groups, columns=columns.names):
            first = max(0, start - row)
            some = batch.slice(first, max(0, stop - row - first))
            row += batch.num_rows
            if some.num_rows:
                problems: dict[int, str] = {}
                yield _keys(some, columns), _documents(some, columns, problems), problems


def columns_of(schema: pa.Schema) -> list[Column]:
    """The columns of a schema, with what they can be."""
    return [Column(field.name, str(field.type), _kinds(field.type)) for field in schema]


def raw_rows(url: str, first_row: int, columns: Columns, batch: pa.RecordBatch, dimension: int) -> Raw:
    """A batch as rows that can be held against the rules."""
    batch.validate(full=True)  # text is UTF-8, above all
    rows = range(first_row, first_row + batch.num_rows)
    vectors, problems = vector_matrix(batch.column(columns.vector), dimension)
    return Raw(url, rows, _keys(batch, columns), vectors, _documents(batch, columns, problems), problems)


def vector_matrix(array: pa.Array, dimension: int) -> tuple[np.ndarray, dict[int, str]]:
    """Vectors as float32 [n, d], and by place what is wrong with some, in whose stead zeros stand."""
    lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != dimension)
    problems = {
        place: NULL.format("data")
        if lengths[place] < 0
        else f"vector must have length {dimension}, but has length {lengths[place]}"
        for place in wrong.tolist()
    }
    if len(wrong):
        array = array.filter(pa.array(lengths == dimension))
    values = array.flatten()
    if values.null_count:
        values = pc.fill_null(values.cast(pa.float64()), np.nan)
    with np.errstate(over="ignore"):
        flat = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, dimension)
    if not len(wrong):
        return flat, problems
    matrix = np.zeros((len(lengths), dimension), np.float32)
    matrix[lengths == dimension] = flat
    return matrix, problems


def _keys(batch: pa.RecordBatch, columns: Columns) -> list[object]:
    return [] if columns.key is None else batch.column(columns.key).to_pylist()


def _group_stops(file: pq.ParquetFile) -> np.ndarray:
    """Where each row group ends, int64 [groups]."""
    meta = file.metadata
    return np.cumsum([meta.row_group(i).num_rows for i in range(meta.num_row_groups)], dtype=np.int64)


def _documents(batch: pa.RecordBatch, columns: Columns, problems: dict[int, str]) -> list[object]:
    """The metadata of each row: columns without a value are left out of it."""
    lists = [_values(batch.column(name), problems) for name in columns.metadata]
    documents: list[object] = [
        {name: value for name, value in zip(columns.metadata, row, strict=True) if value is not None}
        for row in zip(*lists, strict=True)
    ] or [None] * batch.num_rows
    if columns.document is not None:
        _join(documents, batch.column(columns.document), problems)
    return documents


def _values(array: pa.Array, problems: dict[int, str]) -> list[object]:
    """The values of a column as JSON has them."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_decimal(array.type) or array.type == pa.float16():
        array = array.cast(pa.float64())
    if pa.types.is_floating(array.type):
        finite = pc.fill_null(pc.is_finite(array), True).to_numpy(zero_copy_only=False)
        for place in np.flatnonzero(~finite).tolist():
            problems.setdefault(place, "Metadata numbers must be finite")
    elif _is_list(array.type):
        if pa.types.is_floating(array.type.value_type):
            finite = pc.fill_null(pc.is_finite(array.flatten()), True).to_numpy(zero_copy_only=False)
            parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
            for place in np.unique(parents[~finite]).tolist():
                problems.setdefault(place, "Metadata numbers must be finite")
    elif pa.types.is_temporal(array.type):
        return [None if value is None else value.isoformat() for value in _whole(array).to_pylist()]
    values: list[object] = array.to_pylist()
    return values


def _whole(array: pa.Array) -> pa.Array:
    """Times without what is below a microsecond, which Python cannot tell."""
    kind = array.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return array.cast(pa.timestamp("us", kind.tz), safe=False)
    return array.cast(pa.time64("us"), safe=False) if pa.types.is_time64(kind) else array


def _join(documents: list[object], array: pa.Array, problems: dict[int, str]) -> None:
    """Put what a column has as whole metadata before what other columns have."""
    from neve.api.document import parse_json
    from neve.errors import Malformed

    for place, found in enumerate(array.to_pylist()):
        if isinstance(found, str | bytes):
            try:
                found = parse_json(found.encode() if isinstance(found, str) else found)
            except Malformed:
                problems.setdefault(place, "The metadata is not valid JSON")
                continue
        elif found is not None:  # a struct, or the pairs of a map
            found = {name: value for name, value in dict(found).items() if value is not None}
        beside = documents[place]
        if isinstance(found, dict) and isinstance(beside, dict):
            documents[place] = {**found, **beside}
        elif found is not None:
            documents[place] = found


def _raws(part: SourcePart, columns: Columns, batches: Iterator[pa.RecordBatch], dimension: int) -> Iterator[Raw]:
    row = part.start
    for batch in batches:
        if batch.num_rows:
            yield raw_rows(part.url, row, columns, batch, dimension)
        row += batch.num_rows
    if row != part.stop:
        raise SourceUnfit(f"{part.url} has no rows {row} to {part.stop}")


def _between(batches: Iterator[pa.RecordBatch], part: SourcePart, block_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a part, out of all batches of its file."""
    row = 0
    for batch in batches:
        if row >= part.stop:
            return
        for first in range(0, batch.num_rows if row >= part.start else 0, block_rows):
            yield batch.slice(first, block_rows)
        row += batch.num_rows


def _dimension(field: pa.Field, first: Iterator[pa.RecordBatch]) -> int:
    """Components of the first vector; 0 where there is none."""
    if pa.types.is_fixed_size_list(field.type):
        return int(field.type.list_size)
    return max((_dimension_of(batch.column(0)) for batch in first), default=0)


def _dimension_of(array: pa.Array) -> int:
    """Components of the first vector of a column; 0 where there is none."""
    lengths = pc.list_value_length(array).drop_null()
    return int(lengths[0].as_py()) if len(lengths) else 0


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_one(kind) for is_one in lists)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _kinds(kind: pa.DataType) -> frozenset[str]:
    """What a column of a type may be."""
    found = set()
    types = pa.types
    if _is_text(kind) or types.is_integer(kind):
        found.add("key")
    if _is_list(kind) and types.is_floating(kind.value_type):
        found.add("vector")
    if _is_text(kind) or types.is_struct(kind) or types.is_map(kind):
        found.add("document")
    inner = kind.value_type if _is_list(kind) else kind
    if _is_text(inner) or _is_number(inner) or types.is_boolean(inner):
        found.add("value")
    if types.is_decimal(kind) or types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind):
        found.add("value")
    if types.is_null(kind):
        found.add("value")
    return frozenset(found)


@contextmanager
def _parquet(url: str) -> Iterator[pq.ParquetFile]:
    source: Any = url if files.is_local(url) else files.open_bytes(url)
    try:
        with pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False, memory_map=False) as file:
            yield file
    finally:
        if not isinstance(source, str):
            source.close()


@contextmanager
def _ipc(url: str) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Schema and record batches of an IPC file or stream."""
    with pa.memory_map(url) if files.is_local(url) else pa.PythonFile(files.open_bytes(url), "r") as source:
        is_file = source.read(len(_IPC_FILE_MAGIC)) == _IPC_FILE_MAGIC
        source.seek(0)
        if is_file:
            with pa.ipc.open_file(source) as file:
                yield file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            with pa.ipc.open_stream(source) as stream:
                yield stream.schema, stream


def _lance(url: str, version: int | None = None) -> Any:
    import lance

    plain, options = files.lance_options(url)
    return lance.dataset(plain, version, storage_options=options)
