"""Row masks: which rows of a compacted segment no longer count, as roaring bitmaps in the portable format.

The format is specified at github.com/RoaringBitmap/RoaringFormatSpec; the mask of no row is no byte at all.
"""

from __future__ import annotations

import numpy as np
from pyroaring import BitMap

from neve.errors import ObjectCorrupt


def encode_mask(rows: np.ndarray) -> bytes:
    """Mask of some rows, whole numbers below 2^32 in any order; deterministic."""
    return _encode(BitMap(rows.astype(np.uint32)))


def widen_mask(name: str, mask: bytes, rows: np.ndarray) -> bytes:
    """A mask that covers what `mask` does, and some rows more; raises as `decode_mask`."""
    return _encode(_decode(name, mask) | BitMap(rows.astype(np.uint32)))


def count_mask(name: str, mask: bytes) -> int:
    """How many rows a mask covers; raises as `decode_mask`."""
    return len(_decode(name, mask))


def decode_mask(name: str, mask: bytes, rows: int) -> np.ndarray:
    """bool [rows], True where a row is masked; raises ObjectCorrupt with the object's `name`."""
    covered = np.frombuffer(_decode(name, mask).to_array(), np.uint32)
    if np.any(covered >= rows):
        raise ObjectCorrupt(f"{name} masks row {covered.max()} of a segment of {rows} rows")
    masked = np.zeros(rows, np.bool_)
    masked[covered] = True
    return masked


def _encode(bitmap: BitMap) -> bytes:
    bitmap.run_optimize()
    return bytes(bitmap.serialize()) if bitmap else b""


def _decode(name: str, mask: bytes) -> BitMap:
    try:
        return BitMap.deserialize(mask) if mask else BitMap()
    except (ValueError, OverflowError) as error:
        raise ObjectCorrupt(f"{name} holds a row mask that is none") from error
