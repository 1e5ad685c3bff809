"""Which rows of compacted segments satisfy a filter: by reading every record once."""

from __future__ import annotations

import zlib
from collections import OrderedDict

import numpy as np
import orjson

from neve.errors import ObjectCorrupt
from neve.filters.expression import Condition
from neve.query.session import Session
from neve.segments.directory import Directory
from neve.segments.layout import split_record
from neve.segments.stream import RANGE_BYTES, row_entries

MATCHES_KEPT = 64
"""Pairs of segment and filter whose matching rows are remembered; neither ever changes."""

_matches: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()


def matching_entries(session: Session, directory: Directory, condition: Condition) -> np.ndarray:
    """Key entries (KEY_ENTRY) of the rows that satisfy a condition, in row order.

    The first time for a filter: 1 GET for each 8 MiB of the key index and of the records. Raises StoreError.
    """
    name = (directory.folder, condition.text)
    found = _matches.pop(name, None)
    if found is None:
        entries = row_entries(directory, session.fetch)
        found = entries[_matching(session, directory, condition, entries)]
    _matches[name] = found
    while len(_matches) > MATCHES_KEPT:
        _matches.popitem(last=False)
    return found


def _matching(session: Session, directory: Directory, condition: Condition, entries: np.ndarray) -> np.ndarray:
    """Mask [rows] of the rows that satisfy a condition."""
    key = directory.folder + directory.rows_object
    starts = entries["record_at"].astype(np.int64)
    stops = starts + entries["record_bytes"]
    mask = np.zeros(len(entries), np.bool_)
    first = 0
    while first < len(entries):
        last = max(first + 1, int(np.searchsorted(stops, starts[first] + RANGE_BYTES, side="right")))
        base = int(starts[first])
        raw = memoryview(session.fetch(key, base, int(stops[last - 1])))
        for row in range(first, last):
            record = bytes(raw[int(starts[row]) - base : int(stops[row]) - base])
            if zlib.crc32(record) != entries["record_crc"][row]:
                raise ObjectCorrupt(f"the record of row {row} in {key} does not match its checksum")
            mask[row] = condition.matches(orjson.loads(split_record(key, record)[1]))
        first = last
    return mask
