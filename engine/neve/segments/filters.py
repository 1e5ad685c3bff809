"""The filter index of a segment: which blocks of terms to read for which terms, as the directory says it."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from neve.dataclass import dataclass

MANY = 1
"""Flag of blocks with numbers of a key under which some row has several."""
ALONE = 4
"""Flag of blocks of one term, which is their head: its rows are `postings`, unless it goes on in the next block."""


@dataclass(frozen=True, slots=True, eq=False)
class FilterIndex:
    """Blocks of terms in ascending order; a term with many rows may go on in the next block."""

    object: str
    """Its name, relative to the segment's folder."""
    heads: list[bytes]
    """Of each block a byte string above all terms of the blocks before it, but for one that goes on, and above no
    term of its own."""
    starts: np.ndarray
    """uint64 [blocks + 1], in bytes of the object"""
    crcs: np.ndarray
    """uint32 [blocks]"""
    postings: np.ndarray
    """uint32 [blocks]: pairs of term and row"""
    flags: np.ndarray
    """uint8 [blocks]: MANY, ALONE"""

    def __len__(self) -> int:
        return len(self.crcs)

    @property
    def size_bytes(self) -> int:
        """Bytes of the object."""
        return int(self.starts[-1])

    def between(self, low: bytes, high: bytes) -> range:
        """The blocks that may hold terms from `low` to before `high`."""
        if low >= high:
            return range(0)
        first, last = bisect_left(self.heads, low), bisect_left(self.heads, high)
        if first and not self.flags[first - 1] & ALONE:  # terms from `low` on may follow others in the block before
            first -= 1
        return range(first, last)

    def count_between(self, low: bytes, high: bytes) -> int:
        """Pairs of row and term from `low` to before `high`, at most."""
        blocks = self.between(low, high)
        return int(self.postings[blocks.start : blocks.stop].sum(dtype=np.int64))

    def known_between(self, low: bytes, high: bytes) -> int:
        """Such pairs at least: those of blocks that hold no others."""
        blocks = self.between(low, high)
        if not blocks:
            return 0
        first = blocks.start + (self.heads[blocks.start] < low)
        last = blocks.stop - (not self.flags[blocks.stop - 1] & ALONE)
        return int(self.postings[first:last].sum(dtype=np.int64))

    def largest_between(self, low: bytes, high: bytes) -> int:
        """The rows of one such term at least: the most that one block has of a single term."""
        blocks = self.between(low, high)
        alone = self.flags[blocks.start : blocks.stop] & ALONE != 0
        return int(self.postings[blocks.start : blocks.stop][alone].max(initial=0))

    def has_many(self, low: bytes, high: bytes) -> bool:
        """Whether a row may have several numbers among those terms."""
        blocks = self.between(low, high)
        return bool((self.flags[blocks.start : blocks.stop] & MANY).any())
