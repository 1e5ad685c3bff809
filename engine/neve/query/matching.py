"""Which rows of compacted segments satisfy a filter: from their filter indexes, by sets of rows."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from functools import partial, reduce
from typing import Any, TypeAlias

import numpy as np
import orjson

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt
from neve.filters.expression import Condition
from neve.query.lists import CodeSlab, gather
from neve.query.session import Session
from neve.query.termspans import Bound, Every, Leaf, Other, Some, Span, Unindexed, at_least, bind, leaves
from neve.segments.directory import Directory
from neve.segments.layout import KEY_ENTRY, split_record
from neve.segments.stream import RANGE_BYTES, row_entries
from neve.segments.terms import TermBlock
from neve.store.blocks import Wanted

MATCHES_BYTES_MAX = 128 << 20
"""What is remembered of filters, beside the last one: which rows of a segment match never changes."""
GATHERED_ROWS = 32_768
"""Codes of up to so many matching rows are kept side by side: to score them all costs less than a plain query."""
TERMS_BYTES_MAX = 64 << 20
"""Blocks of terms of one filter that are in memory at a time."""
_INFLATION = 6
"""A block of terms takes about so many times its stored bytes in memory, beside its rows."""

Read: TypeAlias = Callable[[Sequence[Wanted]], list[Any]]
"""How blocks of terms are read: so that they stay at hand, or not."""


@dataclass(slots=True, eq=False)
class Matches:
    """The rows of a segment that satisfy a filter."""

    failing: np.ndarray
    """bool [rows]: the others"""
    weights: np.ndarray
    """float64 [lists]: how many of them are primary in each list"""
    codes: CodeSlab | None = None
    """Their codes in row order, once they have been gathered."""
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = int(self.weights.sum())

    @classmethod
    def of(cls, directory: Directory, mask: np.ndarray) -> Matches:
        """From a mask bool [rows] of those that match."""
        edges = np.searchsorted(np.flatnonzero(mask), directory.primary_starts)
        return cls(~mask, np.diff(edges).astype(np.float64))

    @property
    def rows(self) -> np.ndarray:
        """Their numbers, rising."""
        return np.flatnonzero(~self.failing)

    @property
    def size_bytes(self) -> int:
        return self.failing.nbytes + self.weights.nbytes + (0 if self.codes is None else self.codes.size_bytes)

    def gathered(self, session: Session, directory: Directory) -> CodeSlab | None:
        """Their codes side by side; None where they are many, or not all in memory. No request."""
        if self.codes is None and 0 < self.count <= GATHERED_ROWS:
            self.codes = gather(session, directory, self.rows)
        return self.codes


class _Remembered:
    """What was found lately, by folder of the segment and text of the condition."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, str], Matches] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: tuple[str, str]) -> Matches | None:
        with self._lock:
            if name in self._found:
                self._found.move_to_end(name)
            return self._found.get(name)

    def put(self, name: tuple[str, str], matches: Matches) -> None:
        with self._lock:
            self._found[name] = matches
            while len(self._found) > 1 and sum(one.size_bytes for one in self._found.values()) > MATCHES_BYTES_MAX:
                self._found.popitem(last=False)


_remembered = _Remembered()


def matching(session: Session, directories: Sequence[Directory], condition: Condition) -> list[Matches]:
    """The rows of some segments that satisfy a condition.

    At most one wave, of the blocks of terms that it names, or one for each 64 MiB that these take in memory; of a
    segment without a filter index, and for a prefix longer than its terms, all records, 1 GET for each 8 MiB, and the
    key index. Memory: those 64 MiB, and 10 bytes a row of a segment, whatever the filter. Raises StoreError.
    """
    names = [(directory.folder, condition.text) for directory in directories]
    found = {name: matches for name in names if (matches := _remembered.get(name)) is not None}
    missing = [directory for directory, name in zip(directories, names, strict=True) if name not in found]
    read = term_reader(session, [want for directory in missing for want in want_terms(directory, condition)])
    for directory in missing:
        name = (directory.folder, condition.text)
        found[name] = Matches.of(directory, _mask(session, read, directory, condition))
        _remembered.put(name, found[name])
    return [found[name] for name in names]


def matching_entries(session: Session, directory: Directory, condition: Condition) -> np.ndarray:
    """Key entries (KEY_ENTRY) of the rows that satisfy a condition, in row order. Raises StoreError.

    As `matching`, and the key index: 1 GET for each 8 MiB.
    """
    [matches] = matching(session, [directory], condition)
    if not matches.count:
        return np.empty(0, KEY_ENTRY)
    found: np.ndarray = row_entries(directory, session.fetch)[~matches.failing]
    return found


def want_terms(directory: Directory, condition: Condition) -> list[Wanted]:
    """The blocks of terms that a condition names."""
    try:
        bound = _bound(directory, condition)
    except Unindexed:
        return []
    return want_bound(directory, bound)


def want_bound(directory: Directory, *bounds: Bound) -> list[Wanted]:
    """The blocks of terms that some trees name."""
    index = directory.filters
    assert index is not None
    spans = [span for bound in bounds for leaf in leaves(bound) for span in leaf.read]
    return want_term_blocks(directory, sorted({block for span in spans for block in index.between(*span)}))


def term_reader(session: Session, wanted: Sequence[Wanted]) -> Read:
    """What gives blocks of terms: these are read at once, unless memory is too small for them. Raises StoreError."""
    if sum(want.size_bytes for want in wanted) > TERMS_BYTES_MAX:
        return session.look
    session.read(wanted)
    return session.read


def want_term_blocks(directory: Directory, numbers: Sequence[int]) -> list[Wanted]:
    """Blocks of terms by their numbers."""
    index = directory.filters
    assert index is not None
    decode = partial(TermBlock.decode, directory.rows)
    return [
        Wanted(block, decode, _INFLATION * (block.stop - block.start) + 4 * int(index.postings[number]))
        for number, block in zip(numbers, directory.filter_blocks(numbers), strict=True)
    ]


def matches_at_least(directory: Directory, condition: Condition) -> int:
    """So many rows satisfy a condition for certain, by the directory alone; 0 where it cannot tell."""
    try:
        bound = _bound(directory, condition)
    except Unindexed:
        return 0
    assert directory.filters is not None
    return at_least(bound, directory.filters, directory.rows)


def _bound(directory: Directory, condition: Condition) -> Bound:
    if directory.filters is None:
        raise Unindexed
    return bind(condition.root, directory.filters)


def _mask(session: Session, read: Read, directory: Directory, condition: Condition) -> np.ndarray:
    """Mask bool [rows] of the rows that satisfy a condition."""
    try:
        bound = _bound(directory, condition)
    except Unindexed:
        return _mask_by_records(session, directory, condition)
    return _unpacked(row_set(read, directory, bound), directory.rows)


def row_set(read: Read, directory: Directory, bound: Bound) -> np.ndarray:
    """The rows of a tree, a bit each: uint8 [rows / 8]; so that 32 levels of a filter cost 4 bytes a row."""
    match bound:
        case Leaf(spans, inside):
            rows = _spanned(read, directory, spans)
            return rows if inside is None else ~rows & _spanned(read, directory, [inside])
        case Other(part):
            return ~row_set(read, directory, part)
        case Every(parts):
            return reduce(np.bitwise_and, (row_set(read, directory, part) for part in parts))
        case Some(parts):
            return reduce(np.bitwise_or, (row_set(read, directory, part) for part in parts))


def _spanned(read: Read, directory: Directory, spans: Sequence[Span]) -> np.ndarray:
    """The rows of the terms of some spans, a bit each."""
    index = directory.filters
    assert index is not None
    mask = np.zeros(directory.rows, np.bool_)
    for span in spans:
        wanted = want_term_blocks(directory, index.between(*span))
        sizes = np.cumsum([0, *(want.size_bytes for want in wanted)])
        first = 0
        while first < len(wanted):
            last = max(first + 1, int(np.searchsorted(sizes, sizes[first] + TERMS_BYTES_MAX, side="right")) - 1)
            blocks: list[TermBlock] = read(wanted[first:last])
            for block in blocks:
                mask[block.between(*span)] = True
            first = last
    return np.packbits(mask)


def _unpacked(row_set: np.ndarray, count: int) -> np.ndarray:
    return np.unpackbits(row_set, count=count).view(np.bool_)


def _mask_by_records(session: Session, directory: Directory, condition: Condition) -> np.ndarray:
    """Mask bool [rows] of the rows that satisfy a condition, by reading every record."""
    return np.fromiter(map(condition.matches, all_metadata(session, directory)), np.bool_, directory.rows)


def all_metadata(session: Session, directory: Directory) -> Iterator[dict[str, object]]:
    """The metadata of all rows of a segment in row order: 1 GET for each 8 MiB of records, and of the key index.

    Raises StoreError.
    """
    key, entries = directory.folder + directory.rows_object, row_entries(directory, session.fetch)
    starts = entries["record_at"].astype(np.int64)
    stops = starts + entries["record_bytes"]
    first = 0
    while first < len(entries):
        last = max(first + 1, int(np.searchsorted(stops, starts[first] + RANGE_BYTES, side="right")))
        base = int(starts[first])
        raw = memoryview(session.fetch(key, base, int(stops[last - 1])))
        for row in range(first, last):
            record = bytes(raw[int(starts[row]) - base : int(stops[row]) - base])
            if zlib.crc32(record) != entries["record_crc"][row]:
                raise ObjectCorrupt(f"the record of row {row} in {key} does not match its checksum")
            yield orjson.loads(split_record(key, record)[1])
        first = last
