"""Rows as record batches: metadata as JSON text, or in columns of one type where its keys have one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import pyarrow as pa

from neve.api.document import dump_json, parse_json
from neve.segments.rows import Puts

COLUMNS_MAX = 500
"""Keys beyond are left in the JSON text."""
_OWN = frozenset({"key", "vector", "metadata"})
_EXACT, _INT64 = 1 << 53, 1 << 63


class Kind(StrEnum):
    """What all values of a metadata key are, as far as they have been seen."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    """Of 54 bits: doubles tell them apart, so that some values may be fractions."""
    LONG = "long integer"
    NUMBER = "number"
    TEXTS = "list of texts"
    NUMBERS = "list of numbers"
    MIXED = "mixed"


_TYPES: Mapping[Kind, pa.DataType] = {
    Kind.TEXT: pa.string(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.INTEGER: pa.int64(),
    Kind.LONG: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.TEXTS: pa.list_(pa.string()),
    Kind.NUMBERS: pa.list_(pa.float64()),
}


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of an export; `typed` metadata keys have one of their own, and `json` says whether others may be."""

    dimension: int
    typed: Mapping[str, Kind]
    json: bool

    @classmethod
    def plain(cls, dimension: int) -> Schema:
        return cls(dimension, {}, True)

    @property
    def arrow(self) -> pa.Schema:
        fields = [("key", pa.string()), ("vector", pa.list_(pa.float32(), self.dimension))]
        fields += [(name, _TYPES[kind]) for name, kind in self.typed.items()]
        return pa.schema([*fields, ("metadata", pa.string())] if self.json else fields)

    def batch(self, puts: Puts) -> pa.RecordBatch:
        """Rows as columns; metadata keys that a row does not have are null."""
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(puts.vectors.reshape(-1)), self.dimension)
        arrays: list[pa.Array] = [pa.array(puts.keys, pa.string()), vectors]
        if not self.typed:
            texts = pa.array(puts.metadata, pa.binary()).cast(pa.string())
            return pa.RecordBatch.from_arrays([*arrays, texts] if self.json else arrays, schema=self.arrow)
        documents = [_parsed(raw) for raw in puts.metadata]
        arrays += [
            pa.array([found.pop(name, None) for found in documents], _TYPES[kind]) for name, kind in self.typed.items()
        ]
        if self.json:
            rest = [_dumped(found).decode() if found else None for found in documents]
            arrays.append(pa.array(rest, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=self.arrow)


def infer(blocks: Iterable[Puts], dimension: int) -> Schema:
    """The typed columns that all metadata of some blocks fits in."""
    kinds: dict[str, Kind] = {}
    for puts in blocks:
        for raw in puts.metadata:
            for name, value in _parsed(raw).items():
                kind, known = _kind(value), kinds.get(name)
                if kind is not known:
                    kinds[name] = kind if known is None else _joined(known, kind)
    names = [name for name, kind in kinds.items() if kind is not Kind.MIXED and _is_column(name)]
    typed = {name: kinds[name] for name in sorted(names)[:COLUMNS_MAX]}
    return Schema(dimension, typed, len(typed) < len(kinds))


def _is_column(name: str) -> bool:
    """Whether every reader takes it for a plain name that means nothing to it."""
    return name not in _OWN and name.isprintable() and "." not in name and not name.startswith("_")


def _kind(value: object) -> Kind:
    if isinstance(value, list):
        kinds = {_kind(element) for element in value}
        if kinds == {Kind.TEXT}:
            return Kind.TEXTS
        return Kind.NUMBERS if kinds <= {Kind.INTEGER, Kind.NUMBER} else Kind.MIXED
    if isinstance(value, str):
        return Kind.TEXT
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, float):
        return Kind.NUMBER
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return Kind.INTEGER if abs(value) < _EXACT else Kind.LONG
    return Kind.MIXED


def _joined(one: Kind, other: Kind) -> Kind:
    """What covers two kinds without loss."""
    found = {one, other}
    for covering, covered in ((Kind.NUMBER, Kind.INTEGER), (Kind.LONG, Kind.INTEGER)):
        if found <= {covering, covered}:
            return covering
    return Kind.MIXED


def _parsed(raw: bytes) -> dict[str, Any]:
    found: Any = parse_json(raw)
    return dict(found)


def _dumped(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:  # an integer beyond 64 bits
        return dump_json(document)
