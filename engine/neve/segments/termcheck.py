"""Verification of a filter index: its blocks stand in order, and say of each term what the records say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise, zip_longest

import numpy as np

from neve.errors import ObjectCorrupt
from neve.segments.directory import Directory
from neve.segments.filters import ALONE, MANY, FilterIndex
from neve.segments.term_writer import Posting
from neve.segments.terms import END, Kind, TermBlock, stem_of

_NOTHING: Posting = (b"", np.empty(0, np.uint32))


def verify_terms(directory: Directory, raws: Iterable[bytes], expected: Iterable[Posting] | None) -> None:
    """Hold the blocks of a filter index against the directory, and against the postings of its records if given.

    Memory: one block, and the rows of one term. Raises ObjectCorrupt.
    """
    index = directory.filters
    assert index is not None
    key = directory.folder + index.object
    found = _postings(key, index, _blocks(key, directory.rows, index, raws))
    if expected is None:
        for _ in found:
            pass
        return
    for (term, rows), (expected_term, expected_rows) in zip_longest(found, expected, fillvalue=_NOTHING):
        if term != expected_term or not np.array_equal(rows, expected_rows):
            raise ObjectCorrupt(f"{key} has other terms than the records: {min(filter(None, (term, expected_term)))!r}")


def _blocks(key: str, rows: int, index: FilterIndex, raws: Iterable[bytes]) -> Iterator[TermBlock]:
    """All blocks, each of them where the directory says."""
    last = b""
    for head, postings, flags, raw in zip(
        index.heads, index.postings.tolist(), index.flags.tolist(), raws, strict=True
    ):
        try:
            block = TermBlock.decode(rows, raw)
        except ValueError as error:
            raise ObjectCorrupt(f"{key} has a block that cannot be decoded: {error}") from error
        terms = [block.term(number) for number in range(len(block))]
        rises = all(one < next_ for one, next_ in pairwise(terms))
        formed = all(END in term[:-1] for term in terms)
        if not (terms and formed and rises and last <= head <= terms[0]) or len(block.rows) != postings:
            raise ObjectCorrupt(f"{key} has terms where none looks for them")
        if flags & ALONE and terms != [head]:
            raise ObjectCorrupt(f"{key} has other terms in a block than the one that the directory says")
        last = terms[-1]
        yield block


def _postings(key: str, index: FilterIndex, blocks: Iterable[TermBlock]) -> Iterator[Posting]:
    """Terms and all their rows; those of numbers stand in flagged blocks where some row has several."""
    many = (index.flags & MANY != 0).tolist()
    parts = (
        (block.term(place), block.rows[block.ends[place] : block.ends[place + 1]], flagged)
        for block, flagged in zip(blocks, many, strict=True)
        for place in range(len(block))
    )
    numbers = 0
    for begins, of_stem in groupby(parts, key=lambda part: stem_of(part[0])):
        count, all_flagged = 0, True
        for term, of_term in groupby(of_stem, key=lambda part: part[0]):
            same = list(of_term)
            rows = same[0][1] if len(same) == 1 else np.concatenate([some for _, some, _ in same])
            if not len(rows) or np.any(rows[1:] <= rows[:-1]):
                raise ObjectCorrupt(f"{key} has a term whose rows do not rise")
            if term[-2:] == bytes([Kind.ROWS, Kind.NUMBER]) and term[:-1] == begins:
                numbers = len(rows)
            count += len(rows)
            all_flagged &= all(flagged for _, _, flagged in same)
            yield term, rows
        if begins[-1] == Kind.NUMBER and count > numbers and not all_flagged:
            raise ObjectCorrupt(f"{key} has rows with several numbers under a key of which the directory denies it")
