"""Flat segments and the rows of log entries: small enough to be read whole and scored exactly.

Sections: of the rows `hashes`, `positions`, `keys` + `key_offsets`, `metadata` + `metadata_offsets`, `vectors`;
of the tombstones the first four, each name with the prefix `deleted_`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neve.dataclass import dataclass
from neve.segments.columns import Column
from neve.segments.rows import Keys, Rows

_DELETED = "deleted_"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows and tombstones, each key in one of them at most once."""

    rows: Rows
    deleted: Keys

    @property
    def size_bytes(self) -> int:
        columns = (self.rows.keys.keys, self.rows.metadata, self.deleted.keys)
        return int(self.rows.vectors.nbytes) + sum(len(column.data) + 24 * len(column) for column in columns)


def no_keys() -> Keys:
    return Keys(np.empty(0, np.uint64), Column.of([]), np.empty(0, np.uint64))


def no_rows(dimension: int) -> Rows:
    return Rows(no_keys(), np.empty((0, dimension), np.float32), Column.of([]))


def pack(batch: Batch, *, positions: bool = True) -> dict[str, np.ndarray]:
    """Sections of a batch; those of no rows or no tombstones are left out, and `positions` where one number says it."""
    sections: dict[str, np.ndarray] = {}
    if len(batch.rows):
        sections |= _pack_keys(batch.rows.keys, "")
        sections["metadata"] = batch.rows.metadata.data
        sections["metadata_offsets"] = batch.rows.metadata.offsets
        sections["vectors"] = batch.rows.vectors.astype("<f4", copy=False)
    if len(batch.deleted):
        sections |= _pack_keys(batch.deleted, _DELETED)
    return {name: array for name, array in sections.items() if positions or not name.endswith("positions")}


def unpack(sections: Mapping[str, np.ndarray], dimension: int, position: int | None = None) -> Batch:
    """The batch of an object's sections, all at one `position` if given; raises LookupError, ValueError on a misfit."""
    rows, deleted = no_rows(dimension), no_keys()
    if "hashes" in sections:
        metadata = Column(sections["metadata"], sections["metadata_offsets"])
        rows = Rows(_unpack_keys(sections, "", position), sections["vectors"], metadata)
        if rows.vectors.shape != (len(rows.keys), dimension) or len(metadata) != len(rows.keys):
            raise ValueError("columns of different lengths")
    if _DELETED + "hashes" in sections:
        deleted = _unpack_keys(sections, _DELETED, position)
    return Batch(rows, deleted)


def _pack_keys(keys: Keys, prefix: str) -> dict[str, np.ndarray]:
    return {
        f"{prefix}hashes": keys.hashes,
        f"{prefix}positions": keys.positions,
        f"{prefix}keys": keys.keys.data,
        f"{prefix}key_offsets": keys.keys.offsets,
    }


def _unpack_keys(sections: Mapping[str, np.ndarray], prefix: str, position: int | None) -> Keys:
    column = Column(sections[f"{prefix}keys"], sections[f"{prefix}key_offsets"])
    hashes = sections[f"{prefix}hashes"]
    positions = sections[f"{prefix}positions"] if position is None else np.full(len(hashes), position, np.uint64)
    keys = Keys(hashes, column, positions)
    if not len(keys.hashes) == len(column) == len(keys.positions):
        raise ValueError("columns of different lengths")
    return keys
