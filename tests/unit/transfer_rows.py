"""A thousand rows, as columns, lines and files of every format, and what reading them gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from neve.api.limits import LIMITS
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rejects import Reject
from neve.transfer.rules import Rules
from neve.transfer.sources import Source, SourcePart, plan_source, read_part
from neve.vectors.metric import Metric

ROWS, DIMENSION = 1000, 4
RULES = Rules(DIMENSION, Metric.COSINE, frozenset(), LIMITS["aws"])
FLOAT32 = pa.float32()
PLAIN = ColumnMapping()
Found = dict[str, tuple[bytes, dict[str, Any]]]

VECTORS = np.random.default_rng(9).standard_normal((ROWS, DIMENSION)).astype(np.float32)
KEYS = [f"k{row}" for row in range(ROWS)]
METADATA = [
    {"word": f'a "quoted" {row}\n', "place": row / 8, "count": row, "even": row % 2 == 0, "tags": ["x", str(row)]}
    | ({"rare": "é"} if row % 10 == 0 else {})
    for row in range(ROWS)
]
EXPECTED: Found = {key: (vector.tobytes(), row) for key, vector, row in zip(KEYS, VECTORS, METADATA, strict=True)}


def vector_column(kind: pa.DataType = FLOAT32, *, fixed: bool = True) -> pa.Array:
    flat = pa.array(VECTORS.ravel().astype(kind.to_pandas_dtype()))
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, DIMENSION)
    return pa.ListArray.from_arrays(np.arange(0, flat.__len__() + 1, DIMENSION, dtype=np.int32), flat)


def table(**columns: pa.Array) -> pa.Table:
    """Keys, vectors and metadata in columns; or such columns instead of all that."""
    if columns:
        return pa.table(columns)
    names = ("word", "place", "count", "even", "tags", "rare")
    return pa.table(
        {"key": KEYS, "vector": vector_column()} | {name: [row.get(name) for row in METADATA] for name in names}
    )


def records() -> list[dict[str, Any]]:
    return [
        {"key": key, "data": {"float32": vector}, "metadata": row}
        for key, vector, row in zip(KEYS, VECTORS.tolist(), METADATA, strict=True)
    ]


def flat_objects() -> list[dict[str, Any]]:
    return [{"id": row["key"], "embedding": row["data"]["float32"], **row["metadata"]} for row in records()]


def lines(objects: Sequence[object]) -> str:
    return "".join(json.dumps(found, ensure_ascii=False) + "\n" for found in objects)


def write_ipc(path: Path, *, stream: bool) -> None:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    whole = table()
    with new(path, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=100)


def write_fvecs(path: Path, vectors: np.ndarray = VECTORS) -> None:
    rows = np.empty((len(vectors), 1 + vectors.shape[1]), "<f4")
    rows[:, :1].view("<i4")[:] = vectors.shape[1]
    rows[:, 1:] = vectors
    path.write_bytes(rows.tobytes())


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.parquet": lambda path: pq.write_table(table(), path, row_group_size=100),
    "a.arrow": lambda path: write_ipc(path, stream=False),
    "a.arrows": lambda path: write_ipc(path, stream=True),
    "a.feather": lambda path: feather.write_feather(table(), path),
    "a.lance": lambda path: lance.write_dataset(table(), str(path), max_rows_per_file=300),
    "a.jsonl": lambda path: path.write_text(lines(records())),
    "flat.jsonl": lambda path: path.write_text(lines(flat_objects())),
}


def read(source: Source, mapping: ColumnMapping, rules: Rules = RULES) -> tuple[Found, list[Reject]]:
    """All rows of all parts, each part named anew from its fields."""
    found: Found = {}
    rejects: list[Reject] = []
    for part in source.parts:
        for puts, refused in read_part(SourcePart.from_fields(part.to_fields()), mapping, rules):
            assert puts.vectors.dtype == np.float32
            assert not found.keys() & set(puts.keys), "no row is in two parts"
            rows = zip(puts.keys, puts.vectors, puts.metadata, strict=True)
            found |= {key: (vector.tobytes(), json.loads(raw)) for key, vector, raw in rows}
            rejects += refused
    return found, rejects


def imported(*urls: object, mapping: ColumnMapping = PLAIN, rules: Rules = RULES) -> tuple[Found, list[Reject]]:
    source = plan_source([str(url) for url in urls], mapping)
    return read(source, mapping, rules)
