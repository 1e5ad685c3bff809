"""The key index and row masks: what is found, where blocks are cut, and damaged bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.errors import ObjectCorrupt
from neve.segments.columns import Column
from neve.segments.keyblocks import BLOCK_BYTES, KeyBlock, block_edges, match_rows
from neve.segments.layout import KEY_ENTRY, join_record, split_record
from neve.segments.masks import count_mask, decode_mask, encode_mask, widen_mask
from neve.segments.rows import Keys

KEYS = st.sets(st.text("abcé/", min_size=1, max_size=4).map(str.encode), max_size=40).map(sorted)
ROWS = st.sets(st.integers(0, 300_000), max_size=60)


def weak_hash(key: bytes) -> int:
    """Many keys share a hash."""
    return sum(key) % 7


def index_of(keys: Sequence[bytes], block_bytes: int = BLOCK_BYTES) -> tuple[np.ndarray, list[KeyBlock]]:
    """Heads and blocks of an index of some keys under weak hashes; a row's number is its key's place in `keys`."""
    order = sorted(range(len(keys)), key=lambda row: (weak_hash(keys[row]), keys[row]))
    entries = np.zeros(len(keys), KEY_ENTRY)
    entries["row"], entries["position"] = order, np.arange(len(keys)) + 5
    entries["hash"] = [weak_hash(keys[row]) for row in order]
    entries["key_bytes"] = [len(keys[row]) for row in order]
    column = Column.of([keys[row] for row in order])
    edges = block_edges(entries["hash"], entries["key_bytes"], block_bytes)
    blocks = [
        KeyBlock(entries[start:stop], column.take(np.arange(start, stop)))
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    return entries["hash"][edges[:-1]], blocks


class TestBlocks:
    @settings(deadline=None)
    @given(KEYS.filter(len))
    def test_every_key_is_found_after_a_round_trip_and_no_other(self, keys: list[bytes]) -> None:
        _, [block] = index_of(keys)
        again = KeyBlock.decode("keys", block.encode())
        assert again.encode() == block.encode()
        for row, key in enumerate(keys):
            entry = again.find(weak_hash(key), key)
            assert entry is not None
            assert (entry["row"], entry["key_bytes"]) == (row, len(key))
        assert again.find(weak_hash(b"none"), b"none") is None
        assert again.find(99, keys[0]) is None

    @settings(deadline=None)
    @given(KEYS.filter(len), st.integers(50, 400))
    def test_blocks_are_cut_between_hashes_and_hold_every_key_in_order(self, keys: list[bytes], size: int) -> None:
        heads, blocks = index_of(keys, size)
        assert [key for block in blocks for key in block.keys] == sorted(keys, key=lambda key: (weak_hash(key), key))
        assert np.all(np.diff(heads.astype(np.int64)) > 0)
        for block in blocks:
            last_hash = block.entries["hash"] == block.entries["hash"][-1]
            before = block.entries["key_bytes"][~last_hash].astype(int) + KEY_ENTRY.itemsize
            assert before.sum() <= size + 2 * (KEY_ENTRY.itemsize + 8)

    def test_a_thousand_keys_are_blocks_of_the_stated_size(self) -> None:
        hashes, key_bytes = np.arange(1000, dtype=np.uint64), np.full(1000, 22, np.uint16)
        edges = block_edges(hashes, key_bytes)
        assert edges.tolist() == [0, 256, 512, 768, 1000]

    def test_bytes_that_are_no_block_are_corrupt(self) -> None:
        _, [block] = index_of([b"a", b"bc", b"def"])
        raw = block.encode()
        for damaged in (*(raw[:stop] for stop in range(len(raw))), raw + b"x", b"\xff" * len(raw)):
            with pytest.raises(ObjectCorrupt, match="keys-of-s1"):
                KeyBlock.decode("keys-of-s1", damaged)

    @settings(deadline=None)
    @given(KEYS.filter(len), KEYS, st.integers(50, 400))
    def test_rows_of_keys_are_those_that_a_naive_reader_finds(
        self, held: list[bytes], asked: list[bytes], size: int
    ) -> None:
        heads, blocks = index_of(held, size)
        read: list[int] = []

        def reader(numbers: Sequence[int]) -> Iterator[KeyBlock]:
            read.extend(numbers)
            return (blocks[number] for number in numbers)

        order = sorted(asked, key=lambda key: (weak_hash(key), key))
        hashes = np.array([weak_hash(key) for key in order], np.uint64)
        keys = Keys(hashes, Column.of(order), np.zeros(len(order), np.uint64))
        rows = match_rows(keys, heads, reader)
        assert sorted(rows.tolist()) == [row for row, key in enumerate(held) if key in asked]
        assert read == sorted(set(read))


class TestRecords:
    @settings(deadline=None)
    @given(
        st.text(min_size=1, max_size=12),
        st.sampled_from([b"{}", b'{ "a": "\\",\\"metadata\\":" }', b'{"metadata":{}}']),
    )
    def test_key_and_metadata_come_back_as_they_were(self, key: str, metadata: bytes) -> None:
        assert split_record("rows", join_record(key.encode(), metadata)) == (key.encode(), metadata)

    @pytest.mark.parametrize(
        "record", [b"", b"{}", b'{"key":"","metadata"', b'{"key":1,"metadata":{}}', b'{"key":"\\q","metadata":{}}']
    )
    def test_other_bytes_are_corrupt(self, record: bytes) -> None:
        with pytest.raises(ObjectCorrupt, match="rows-of-s1"):
            split_record("rows-of-s1", record)


class TestMasks:
    @settings(deadline=None)
    @given(ROWS, ROWS)
    def test_masks_cover_their_rows_and_those_that_are_added(self, first: set[int], more: set[int]) -> None:
        mask = encode_mask(np.array(sorted(first), np.uint32))
        both = widen_mask("mask", mask, np.array(list(more), np.uint32))
        assert set(np.flatnonzero(decode_mask("mask", mask, 300_001)).tolist()) == first
        assert set(np.flatnonzero(decode_mask("mask", both, 300_001)).tolist()) == first | more
        assert count_mask("mask", both) == len(first | more)
        assert both == encode_mask(np.array(list(first | more), np.uint32))

    def test_the_mask_of_no_row_is_empty_and_that_of_all_rows_small(self) -> None:
        assert encode_mask(np.empty(0, np.uint32)) == b""
        assert len(encode_mask(np.arange(1_000_000))) < 300

    @pytest.mark.parametrize("raw", [b"x", bytes(8), encode_mask(np.arange(0, 999, 3))[:-1]])
    def test_other_bytes_are_corrupt(self, raw: bytes) -> None:
        with pytest.raises(ObjectCorrupt, match="manifest 7"):
            decode_mask("manifest 7", raw, 1000)

    def test_a_mask_of_rows_beyond_the_segment_is_corrupt(self) -> None:
        mask = encode_mask(np.array([3, 10]))
        assert decode_mask("manifest 7", mask, 11).sum() == 2
        with pytest.raises(ObjectCorrupt, match="row 10 of a segment of 10 rows"):
            decode_mask("manifest 7", mask, 10)
