"""Selections: the rows of an index that satisfy a condition and whose keys begin with a prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from neve.dataclass import dataclass
from neve.filters.expression import Condition
from neve.index.state import Compacted, Part, State
from neve.query.fetch import want_key_block
from neve.query.lists import want_lists
from neve.query.matching import Matches, matching
from neve.query.recent import matching_rows
from neve.query.session import Session
from neve.segments.columns import Column
from neve.segments.directory import Directory
from neve.segments.keyblocks import KeyBlock, match_rows
from neve.segments.rows import merge_keys

BLOCKS_AT_ONCE = 512
"""Blocks of the key index (16 KiB) that are read, and kept, at a time."""
BLOCKS_A_LIST = 32
"""A list of codes is taken to cost as much as so many of them: it has more bytes than one, and a request of its own."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked of rows; by default nothing. `prefix` is UTF-8, and may end within a character."""

    condition: Condition | None = None
    prefix: bytes = b""

    def recent(self, part: Part) -> np.ndarray:
        """Mask [n] of the live rows of a part that are selected."""
        mask = part.live
        if self.condition is not None:
            mask = mask & matching_rows(part.rows, self.condition)
        return mask & starting(part.rows.keys.keys, self.prefix) if self.prefix else mask


EVERYTHING = Selection()


class Selected:
    """The selected rows of one compacted segment, found in the blocks of its key index."""

    def __init__(self, session: Session, compacted: Compacted, prefix: bytes, matches: Matches | None) -> None:
        self.compacted = compacted
        self._prefix = prefix
        self._matches = matches
        self._hashes = None if matches is None else _hashes(session, compacted.directory, matches)

    def blocks(self, first: int, past: int) -> tuple[np.ndarray, np.ndarray]:
        """Ascending numbers of the blocks that may hold selected rows of hashes [first, past), and of how many each."""
        directory, share = self.compacted.directory, 1.0
        least, most = np.uint64(first), np.uint64(past - 1)
        if self._hashes is not None:
            hashes = self._hashes[(self._hashes >= least) & (self._hashes <= most)]
            return np.unique(np.searchsorted(directory.key_heads, hashes, side="right") - 1, return_counts=True)
        if self._matches is not None:
            share = self._matches.count / directory.rows
        start, last = (np.searchsorted(directory.key_heads, [least, most], side="right") - 1).tolist()
        numbers = np.arange(max(0, start), last + 1)
        return numbers, np.full(len(numbers), share * directory.rows / directory.key_blocks)

    def places(self, state: State, block: KeyBlock) -> np.ndarray:
        """Places in a block of the selected rows that are live."""
        selected = self.counts(block.entries["row"])
        if self._prefix:
            selected &= starting(block.keys, self._prefix)
        places = np.flatnonzero(selected)
        suspects = state.may_hide(np.ascontiguousarray(block.entries["hash"][places]))
        if suspects.any():
            hashes = block.entries["hash"].tolist()
            hidden = [state.hides(hashes[place], block.keys[place]) for place in places[suspects].tolist()]
            places = np.delete(places, np.flatnonzero(suspects)[hidden])
        return places

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """Mask [n] of those rows that are unmasked and satisfy the condition, whatever their keys."""
        mask = np.ones(len(rows), np.bool_) if self._matches is None else ~self._matches.failing[rows]
        return mask if self.compacted.masked is None else mask & ~self.compacted.masked[rows]

    @property
    def total(self) -> int:
        """How many rows are so."""
        if self._matches is None:
            return self.compacted.info.live
        if self.compacted.masked is None:
            return self._matches.count
        return int(np.count_nonzero(~(self._matches.failing | self.compacted.masked)))


def selected_of(session: Session, state: State, selection: Selection) -> list[Selected]:
    """What is selected of each compacted segment.

    With a condition reads what `matching` does, and where few rows match the lists of codes that they are in. Raises
    StoreError.
    """
    found: Sequence[Matches | None] = [None] * len(state.compacted)
    if selection.condition is not None:
        found = matching(session, [one.directory for one in state.compacted], selection.condition)
    pairs = zip(state.compacted, found, strict=True)
    return [Selected(session, one, selection.prefix, matches) for one, matches in pairs]


def count_rows(session: Session, state: State, selection: Selection) -> int:
    """How many live rows are selected, exactly.

    No request for recent rows. Of compacted segments the blocks of the key index that recent keys fall into, with a
    prefix those that may hold selected rows; with a condition first what `selected_of` reads. Raises StoreError.
    """
    recent = sum(int(np.count_nonzero(selection.recent(part))) for part in state.parts)
    count = _count_prefixed if selection.prefix else _count
    return recent + sum(count(session, state, one) for one in selected_of(session, state, selection))


def read_key_blocks(session: Session, directory: Directory, numbers: Sequence[int]) -> Iterator[KeyBlock]:
    """Blocks of a key index by their numbers, 8 MiB in a wave and in memory. Raises StoreError."""
    for start in range(0, len(numbers), BLOCKS_AT_ONCE):
        yield from session.read([want_key_block(directory, n) for n in numbers[start : start + BLOCKS_AT_ONCE]])
        session.forget()


def starting(keys: Column, prefix: bytes) -> np.ndarray:
    """Mask [n] of the keys that begin with a prefix."""
    starts = keys.offsets[:-1].astype(np.intp)
    rows = np.flatnonzero(np.diff(keys.offsets) >= len(prefix))
    for place, byte in enumerate(prefix):
        rows = rows[keys.data[starts[rows] + place] == byte]
    mask = np.zeros(len(keys), np.bool_)
    mask[rows] = True
    return mask


def _count(session: Session, state: State, selected: Selected) -> int:
    """How many rows are selected, less those that a recent key hides."""
    directory = selected.compacted.directory
    count = selected.total
    runs = list(state.recent_keys)
    if not runs or not count:
        return count
    keys, _ = merge_keys(runs)
    hidden = match_rows(keys, directory.key_heads, lambda some: read_key_blocks(session, directory, some))
    return count - int(np.count_nonzero(selected.counts(np.unique(hidden))))


def _count_prefixed(session: Session, state: State, selected: Selected) -> int:
    numbers, _ = selected.blocks(0, 1 << 64)
    blocks = read_key_blocks(session, selected.compacted.directory, numbers.tolist())
    return sum(len(selected.places(state, block)) for block in blocks)


def _hashes(session: Session, directory: Directory, matches: Matches) -> np.ndarray | None:
    """Hashes of the keys of the rows that match, in any order; None where the key index costs less than to learn them.

    Where few match, their lists of codes tell; more only if these are in memory.
    """
    if not matches.count:
        return np.empty(0, np.uint64)
    if matches.count * BLOCKS_A_LIST <= directory.key_blocks:
        session.read(want_lists(directory, np.flatnonzero(matches.weights)))
    slab = matches.gathered(session, directory)
    return None if slab is None else np.ascontiguousarray(slab.locations["hash"])
