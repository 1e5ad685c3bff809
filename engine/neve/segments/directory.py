"""The directory of a segment: the one object that says which bytes of the others to read, and what they must sum to.

An object of one envelope: numbers and names as members, arrays as sections. All ranges that it gives out are blocks
with a CRC-32, so no byte of the segment is used unverified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt
from neve.segments.columns import Column
from neve.segments.filters import FilterIndex
from neve.segments.layout import ROWS_MAX, code_row
from neve.store.blocks import Block
from neve.store.envelope import intact, seal, unseal
from neve.vectors.centroids import Centroids
from neve.vectors.metric import Metric
from neve.vectors.probing import Calibration

_Shape = tuple[str | tuple[str, int], ...]
_CENTROIDS: Mapping[str, tuple[str, _Shape]] = {
    "codes": ("|i1", ("lists", "dimension")),
    "scales": ("<f4", ("lists",)),
    "biases": ("<f4", ("lists",)),
    "group_starts": ("<u4", (("runs", 1),)),
    "group_codes": ("|i1", ("groups", "dimension")),
    "group_scales": ("<f4", ("groups",)),
    "group_biases": ("<f4", ("groups",)),
}
_OWN: Mapping[str, tuple[str, _Shape]] = {
    "center": ("<f4", ("dimension",)),
    "list_starts": ("<u8", (("lists", 1),)),
    "primary_starts": ("<u4", (("lists", 1),)),
    "list_crcs": ("<u4", ("lists",)),
    "key_heads": ("<u8", ("blocks",)),
    "key_starts": ("<u8", (("blocks", 1),)),
    "key_crcs": ("<u4", ("blocks",)),
}
_FILTERS: Mapping[str, tuple[str, _Shape]] = {
    "texts": ("|u1", ("text_bytes",)),
    "ends": ("<u8", (("filter_blocks", 1),)),
    "starts": ("<u8", (("filter_blocks", 1),)),
    "crcs": ("<u4", ("filter_blocks",)),
    "postings": ("<u4", ("filter_blocks",)),
    "flags": ("|u1", ("filter_blocks",)),
}
_CALIBRATION: Mapping[str, tuple[str, _Shape]] = {
    "ks": ("<i8", ("ks",)),
    "targets": ("<f8", ("targets",)),
    "masses": ("<f8", ("ks", "targets")),
    "candidates": ("<f8", ("ks", "targets")),
}


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """A segment of `rows` rows in `lists` lists; offsets and starts as described at each field, in bytes or rows."""

    name: str
    rows: int
    dimension: int
    metric: Metric
    codes_object: str
    """Names of objects are relative to the segment's folder."""
    codes_offset: int
    """Where code row 0 begins in its object; `vectors_offset` likewise."""
    vectors_object: str
    vectors_offset: int
    rows_object: str
    keys_object: str
    centroids: Centroids
    center: np.ndarray
    """float32 [d]: what codes are offsets from"""
    list_starts: np.ndarray
    """uint64 [lists + 1]: the code rows of a list, primary and spilled."""
    primary_starts: np.ndarray
    """uint32 [lists + 1]: the rows (vectors, records) whose primary list it is."""
    list_crcs: np.ndarray
    """uint32 [lists]"""
    key_heads: np.ndarray
    """uint64 [blocks]: lowest hash of each block of the key index; keys of equal hash share a block."""
    key_starts: np.ndarray
    """uint64 [blocks + 1], in bytes of the keys object"""
    key_crcs: np.ndarray
    """uint32 [blocks]"""
    calibration: Calibration
    size_bytes: int
    """Bytes of the objects that are named here."""
    filters: FilterIndex | None = None
    """None in segments written before there were filter indexes."""
    folder: str = ""
    """What the objects' keys begin with; ends with a slash, or is empty where they are files in a folder."""

    @property
    def lists(self) -> int:
        return len(self.list_crcs)

    @property
    def key_blocks(self) -> int:
        return len(self.key_crcs)

    def list_block(self, list_: int) -> Block:
        """The code rows of a list, which must not be empty."""
        return self.list_blocks(np.array([list_]))[0]

    def list_blocks(self, lists: np.ndarray) -> list[Block]:
        """The code rows of each of some lists, none of them empty, in the order asked."""
        key, row_bytes = self.folder + self.codes_object, np.uint64(code_row(self.dimension).itemsize)
        starts, stops = (
            (self.list_starts[edges] * row_bytes + np.uint64(self.codes_offset)).tolist()
            for edges in (lists, lists + 1)
        )
        return [Block(key, *block) for block in zip(starts, stops, self.list_crcs[lists].tolist(), strict=True)]

    def key_block(self, block: int) -> Block:
        """One block of the key index."""
        start, stop = self.key_starts[block : block + 2].tolist()
        return Block(self.folder + self.keys_object, start, stop, int(self.key_crcs[block]))

    def key_block_of(self, hash_: int) -> int | None:
        """Number of the one block that can hold keys of that hash; None where none can."""
        block = int(np.searchsorted(self.key_heads, np.uint64(hash_), side="right")) - 1
        return block if block >= 0 else None

    def vector_block(self, row: int, crc: int) -> Block:
        """The float32 vector of a row; `crc` stands in its code rows and in its key entry."""
        start = self.vectors_offset + row * self.dimension * 4
        return Block(self.folder + self.vectors_object, start, start + self.dimension * 4, crc)

    def record_block(self, record_at: int, record_bytes: int, crc: int) -> Block:
        """The record of a row; all three numbers stand in its code rows and in its key entry."""
        return Block(self.folder + self.rows_object, record_at, record_at + record_bytes, crc)

    def filter_blocks(self, blocks: Iterable[int]) -> list[Block]:
        """Some blocks of the filter index, which must be there."""
        index = self.filters
        assert index is not None
        key, starts, crcs = self.folder + index.object, index.starts, index.crcs
        return [Block(key, int(starts[block]), int(starts[block + 1]), int(crcs[block])) for block in blocks]

    def encode(self) -> bytes:
        """Bytes of the object; deterministic."""
        fields = {
            "name": self.name,
            "rows": self.rows,
            "dimension": self.dimension,
            "metric": self.metric.value,
            "codes": [self.codes_object, self.codes_offset],
            "vectors": [self.vectors_object, self.vectors_offset],
            "records": self.rows_object,
            "keys": self.keys_object,
            "size_bytes": self.size_bytes,
            "beta": self.calibration.beta,
        }
        sections = {
            prefix + name: getattr(owner, name).astype(dtype, copy=False)
            for prefix, owner, table in (
                ("centroid_", self.centroids, _CENTROIDS),
                ("", self, _OWN),
                ("calibration_", self.calibration, _CALIBRATION),
            )
            for name, (dtype, _) in table.items()
        }
        if self.filters is not None:
            fields["filters"] = self.filters.object
            heads = Column.of(self.filters.heads)
            arrays = {"texts": heads.data, "ends": heads.offsets}
            arrays |= {name: getattr(self.filters, name) for name in _FILTERS if name not in arrays}
            sections |= {f"filter_{name}": arrays[name].astype(dtype) for name, (dtype, _) in _FILTERS.items()}
        return seal(fields, sections)

    @classmethod
    def decode(cls, key: str, raw: bytes, folder: str) -> Directory:
        """The directory of an object's bytes; `folder` is the key prefix of the segment, with its slash.

        Raises ObjectCorrupt on a wrong checksum and on numbers that make no sense, StoreForeign on a newer format.
        """
        try:
            envelope = unseal(key, raw)
            if not intact(raw):
                raise ValueError("its checksum is another")
            directory = _parse(envelope.fields, envelope.sections, folder)
            for fault in _faults(directory):
                raise ValueError(fault)
        except (LookupError, TypeError, ValueError, SyntaxError) as error:  # the last by NumPy, of a dtype
            raise ObjectCorrupt(f"{key} is no directory of a segment: {error}") from error
        return directory


def _parse(fields: Mapping[str, Any], sections: Mapping[str, np.ndarray], folder: str) -> Directory:
    sizes = {"dimension": _count(fields["dimension"])}
    (codes_object, codes_offset), (vectors_object, vectors_offset) = fields["codes"], fields["vectors"]
    return Directory(
        name=_name(fields["name"]),
        rows=_count(fields["rows"]),
        dimension=sizes["dimension"],
        metric=Metric(fields["metric"]),
        codes_object=_name(codes_object),
        codes_offset=_count(codes_offset),
        vectors_object=_name(vectors_object),
        vectors_offset=_count(vectors_offset),
        rows_object=_name(fields["records"]),
        keys_object=_name(fields["keys"]),
        centroids=Centroids(**_arrays(sections, "centroid_", _CENTROIDS, sizes)),
        **_arrays(sections, "", _OWN, sizes),
        calibration=Calibration(float(fields["beta"]), **_arrays(sections, "calibration_", _CALIBRATION, sizes)),
        size_bytes=_count(fields["size_bytes"]),
        filters=_filters(fields, sections) if "filters" in fields else None,
        folder=folder,
    )


def _filters(fields: Mapping[str, Any], sections: Mapping[str, np.ndarray]) -> FilterIndex:
    arrays = _arrays(sections, "filter_", _FILTERS, {})
    texts, ends = arrays.pop("texts"), arrays.pop("ends")
    if not _rises(ends, len(texts), strictly=False):
        raise ValueError("its blocks of terms have no heads")
    return FilterIndex(_name(fields["filters"]), list(Column(texts, ends)), **arrays)


def _arrays(
    sections: Mapping[str, np.ndarray],
    prefix: str,
    table: Mapping[str, tuple[str, _Shape]],
    sizes: dict[str, int],
) -> dict[str, np.ndarray]:
    """The sections of a table, each of its dtype and shape; the first that has a size in its shape settles it."""
    arrays = {}
    for name, (dtype, shape) in table.items():
        array = arrays[name] = sections[prefix + name]
        if array.dtype.str != dtype or array.ndim != len(shape):
            raise ValueError(f"{prefix}{name} has another type")
        for size, symbol in zip(array.shape, shape, strict=True):
            symbol, more = (symbol, 0) if isinstance(symbol, str) else symbol
            if sizes.setdefault(symbol, size - more) != size - more:
                raise ValueError(f"{prefix}{name} has another length")
    return arrays


def _faults(directory: Directory) -> Iterator[str]:
    """What makes no sense in a directory whose arrays have the right shapes."""
    centroids = directory.centroids
    primary = np.diff(directory.primary_starts.astype(np.int64))
    counts = np.diff(directory.list_starts.astype(np.int64))
    if not (1 <= directory.rows <= ROWS_MAX and directory.dimension and directory.lists and directory.key_blocks):
        yield "it is empty, or too large"
    if directory.folder and directory.folder.rstrip("/").rsplit("/", 1)[-1] != directory.name:
        yield f"it belongs to segment {directory.name}"
    if not _rises(directory.primary_starts, directory.rows, strictly=False) or np.any(counts < primary):
        yield "lists do not hold the rows"
    if not _rises(directory.list_starts, None, strictly=False):
        yield "lists overlap"
    if not _rises(directory.key_starts, None) or np.any(directory.key_heads[1:] <= directory.key_heads[:-1]):
        yield "key blocks overlap"
    runs = len(centroids.group_starts) - 1
    if not _rises(centroids.group_starts, directory.lists) or len(centroids.group_scales) not in (0, runs):
        yield "groups do not hold the lists"
    floats = [directory.center, centroids.scales, centroids.biases, centroids.group_scales, centroids.group_biases]
    if not all(np.isfinite(array).all() for array in floats):
        yield "a number is not finite"
    if not _is_usable(directory.calibration):
        yield "its calibration makes no sense"
    if directory.filters is not None and not _in_order(directory.filters):
        yield "blocks of terms overlap"


def _in_order(filters: FilterIndex) -> bool:
    return filters.heads == sorted(filters.heads) and _rises(filters.starts, None)


def _is_usable(calibration: Calibration) -> bool:
    ks, targets = calibration.ks, calibration.targets
    return bool(
        len(ks) > 0
        and len(targets) > 0
        and calibration.beta >= 0
        and ks[0] > 0
        and np.all(np.diff(ks) > 0)
        and np.all(np.diff(targets) > 0)
        and np.all((targets > 0) & (targets < 1))
        and np.all((calibration.masses >= 0) & (calibration.masses <= 1))
        and np.all((calibration.candidates >= 1) & np.isfinite(calibration.candidates))
    )


def _rises(starts: np.ndarray, last: int | None, *, strictly: bool = True) -> bool:
    """Whether starts begin with 0, go up, and end with `last` (anywhere a file can end, if None)."""
    steps = starts[1:] > starts[:-1] if strictly else starts[1:] >= starts[:-1]
    end = int(starts[-1])
    return starts[0] == 0 and bool(steps.all()) and (end < 2**48 if last is None else end == last)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def _name(value: Any) -> str:
    """A name within the segment's folder."""
    parts: Sequence[str] = value.split("/") if isinstance(value, str) else ()
    if not parts or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{value!r:.40} is no name")
    return str(value)
