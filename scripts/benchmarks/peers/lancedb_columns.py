"""Metadata as columns of a LanceDB table: their types, and the scalar index that suits each by LanceDB's guide."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

FEW_VALUES = 1_000
"""Strings with no more different values than that have a bitmap for each, others a B-tree."""
_BATCH_ROWS = 10_000
_BATCHES = 10
"""Types and numbers of values are those of so many batches."""


@dataclass(frozen=True)
class Columns:
    """Types by name, and the kind of index of each."""

    types: Mapping[str, pa.DataType]
    indexes: Mapping[str, str]

    @classmethod
    def of(cls, rows: str, without: Collection[str] | None) -> Columns:
        """Those of the metadata in a Parquet file, but for some keys; none at all for None."""
        kinds: dict[str, set[type]] = {}
        values: dict[str, set[object]] = {}
        for name, value in _items(rows) if without is not None else ():
            if name not in (without or ()):
                elements = value if isinstance(value, list) else [value]
                kinds.setdefault(name, set()).update(map(type, [value, *elements]))
                seen = values.setdefault(name, set())
                if len(seen) <= FEW_VALUES:
                    seen.update(elements)
        types = {name: _type(found) for name, found in kinds.items()}
        return cls(types, {name: _index(type_, len(values[name])) for name, type_ in types.items()})

    def schema(self, of: pa.Schema) -> pa.Schema:
        for field in self.types.items():
            of = of.append(pa.field(*field))
        return of

    def beside(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with these columns after its own."""
        documents = [json.loads(text) for text in batch.column("metadata").to_pylist()] if self.types else []
        for name, type_ in self.types.items():
            values = [document.get(name) for document in documents]
            batch = batch.append_column(pa.field(name, type_), pa.array(values, type_))
        return batch


def _items(rows: str) -> Iterator[tuple[str, object]]:
    """Keys and values of the metadata of the first rows in a Parquet file."""
    batches = pq.ParquetFile(rows).iter_batches(_BATCH_ROWS, columns=["metadata"])
    for batch in islice(batches, _BATCHES):
        for text in batch.column(0).to_pylist():
            yield from json.loads(text).items()


def _type(kinds: Collection[type]) -> pa.DataType:
    """Of values that are all booleans, all numbers, all strings, or all lists of one of them."""
    if list in kinds:
        return pa.list_(_type({*kinds} - {list}))
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds == {int, float} or kinds == {float} else pa.string()


def _index(type_: pa.DataType, values: int) -> str:
    if pa.types.is_list(type_):
        return "LABEL_LIST"
    if pa.types.is_boolean(type_) or (pa.types.is_string(type_) and values <= FEW_VALUES):
        return "BITMAP"
    return "BTREE"
