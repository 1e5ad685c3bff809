"""An index that does not say what the records say is noticed, whatever its checksums say."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.errors import ObjectCorrupt
from neve.segments.columns import Column
from neve.segments.filters import ALONE, MANY
from neve.segments.term_writer import TermRows
from neve.segments.termcheck import verify_terms
from neve.segments.terms import Kind, TermBlock, stem, stem_of
from tests.unit.filter_segment import Indexed, as_json, picks, rows_of, small_blocks, some_rows

ROWS = [
    as_json({"n": row, "m": [row % 4, row % 3], "g": ["x", "yy", "z" * 70][row % 3], "b": row % 2 == 0})
    for row in range(60)
]


def blocks_of(indexed: Indexed) -> list[bytes]:
    return [indexed.raw_block(number) for number in range(len(indexed.index))]


def postings_of(rows: list[bytes]) -> list[tuple[bytes, np.ndarray]]:
    """What the records say."""
    with tempfile.TemporaryDirectory() as scratch:
        gathered = TermRows(Path(scratch) / "terms", ())
        gathered.add(0, rows)
        return list(gathered.postings())


def verify(indexed: Indexed, raws: list[bytes], rows: list[bytes] = ROWS) -> None:
    verify_terms(indexed.directory, raws, postings_of(rows))


@pytest.fixture
def indexed() -> Iterator[Indexed]:
    with small_blocks(share=2):
        yield Indexed(ROWS)


def test_of_what_was_written_finds_nothing(indexed: Indexed) -> None:
    verify(indexed, blocks_of(indexed))


@settings(deadline=None, max_examples=60)
@given(some_rows, picks)
def test_of_any_metadata_finds_nothing(pool: list[dict[str, object]], picked: bytes) -> None:
    rows = rows_of(pool, picked)
    with small_blocks():
        indexed = Indexed(rows)
        verify(indexed, blocks_of(indexed), rows)


@settings(deadline=None, max_examples=60)
@given(some_rows, picks, st.integers(0), st.integers(0))
def test_another_row_anywhere_is_noticed(pool: list[dict[str, object]], picked: bytes, number: int, place: int) -> None:
    rows = [*rows_of(pool, picked), b"{}", b'{"a":1}']
    with small_blocks():
        indexed = Indexed(rows)
        raws = blocks_of(indexed)
        number %= len(raws)
        block = indexed.block(number)
        changed = block.rows.copy()
        changed[place % len(changed)] = (changed[place % len(changed)] + 1) % len(rows)
        raws[number] = replace(block, rows=changed).encode(len(rows))
        with pytest.raises(ObjectCorrupt, match="filters"):
            verify(indexed, raws, rows)


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_missing_and_an_added_block_are_noticed(indexed: Indexed, number: int) -> None:
    raws = blocks_of(indexed)
    index, kept = indexed.index, np.arange(len(raws)) != number % len(raws)
    fewer = replace(
        index,
        heads=[head for head, keep in zip(index.heads, kept, strict=True) if keep],
        **{name: getattr(index, name)[kept] for name in ("crcs", "postings", "flags")},
    )
    directory = replace(indexed.directory, filters=fewer)
    some = [raw for raw, keep in zip(raws, kept, strict=True) if keep]
    with pytest.raises(ObjectCorrupt, match="filters has"):
        verify_terms(directory, some, postings_of(ROWS))
    with pytest.raises(ObjectCorrupt, match="filters has other terms than the records"):
        verify_terms(indexed.directory, raws, postings_of(ROWS[:-1]))


def test_a_renamed_term_is_noticed(indexed: Indexed) -> None:
    raws = blocks_of(indexed)
    for number in range(len(raws)):
        block = indexed.block(number)
        if len(block) > 1 and len(block.suffixes[len(block) - 1]) > 1:
            texts = list(block.suffixes)
            texts[-1] = texts[-1][:-1] + bytes([texts[-1][-1] ^ 1])
            raws[number] = replace(block, suffixes=Column.of(texts)).encode(len(ROWS))
    with pytest.raises(ObjectCorrupt, match="filters has"):
        verify(indexed, raws)


def test_a_directory_that_denies_several_numbers_is_noticed(indexed: Indexed) -> None:
    raws = blocks_of(indexed)
    for number in np.flatnonzero(indexed.index.flags & MANY).tolist():
        flags = indexed.index.flags.copy()
        flags[number] ^= MANY
        directory = replace(indexed.directory, filters=replace(indexed.index, flags=flags))
        stems = {stem_of(term) for term in map(indexed.block(number).term, range(len(indexed.block(number))))}
        if stem("m", Kind.NUMBER) in stems:
            with pytest.raises(ObjectCorrupt, match="several numbers"):
                verify_terms(directory, raws, None)


@pytest.mark.parametrize("name", ["postings", "flags"])
def test_a_directory_with_other_counts_is_noticed(indexed: Indexed, name: str) -> None:
    wrong = getattr(indexed.index, name).copy()
    wrong ^= ALONE
    directory = replace(indexed.directory, filters=replace(indexed.index, **{name: wrong}))
    with pytest.raises(ObjectCorrupt, match="filters has"):
        verify_terms(directory, blocks_of(indexed), None)


def test_heads_beyond_their_terms_are_noticed(indexed: Indexed) -> None:
    heads = list(indexed.index.heads)
    for number in range(1, len(heads)):
        wrong = [*heads[:number], heads[number] + b"\xff", *heads[number + 1 :]]
        directory = replace(indexed.directory, filters=replace(indexed.index, heads=wrong))
        if indexed.block(number).term(0) < wrong[number]:
            with pytest.raises(ObjectCorrupt, match="none looks"):
                verify_terms(directory, blocks_of(indexed), None)


def test_terms_that_are_none_are_noticed() -> None:
    indexed = Indexed([b'{"a":1}'])
    empty = TermBlock(b"", Column.of([b"a\0"]), np.array([0, 1], np.uint32), np.zeros(1, np.uint32))
    with pytest.raises(ObjectCorrupt, match="none looks"):
        verify_terms(indexed.directory, [empty.encode(1)], None)
    with pytest.raises(ObjectCorrupt, match="cannot be decoded"):
        verify_terms(indexed.directory, [b"nonsense"], None)


def test_rows_that_do_not_rise_are_noticed_without_the_records() -> None:
    indexed = Indexed([b'{"a":1}'] * 40)
    number = len(indexed.index) - 1
    block = indexed.block(number)
    swapped = block.rows.copy()
    swapped[[-1, -2]] = swapped[[-2, -1]]
    raws = [*blocks_of(indexed)[:-1], replace(block, rows=swapped).encode(10_000)]
    with pytest.raises(ObjectCorrupt, match="do not rise"):
        verify_terms(indexed.directory, raws, None)
    repeated = replace(block, rows=np.full_like(swapped, 7)).encode(10_000)
    with pytest.raises(ObjectCorrupt, match="do not rise"):
        verify_terms(indexed.directory, [*raws[:-1], repeated], None)
