"""Rows and columns: merging, finding and matching, also where hashes collide; and which rows are live."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.segments import rows as rows_module
from neve.segments.columns import Column, concatenate
from neve.segments.rows import Keys, Puts, Rows, hash_key, live_digest, live_masks, merge_keys, merge_rows

KEYS = st.lists(st.text("abcé/", min_size=1, max_size=4).map(str.encode), unique=True, max_size=20)
VALUES = st.lists(st.binary(max_size=6), max_size=20)


@pytest.fixture(params=[None, 3, 1], ids=["no collisions", "3 hashes", "1 hash"], autouse=True, scope="module")
def colliding(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test also runs where keys share a few hashes, or all of them one."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param is not None:
            patch.setattr(rows_module, "hash_key", lambda key: sum(key) % request.param)
        yield


def keys_of(keys: Sequence[bytes], position: int = 1) -> Keys:
    return Keys.of(keys, position)[0]


def order_of(keys: Sequence[bytes]) -> list[bytes]:
    return sorted(keys, key=lambda key: (rows_module.hash_key(key), key))


def rows_of(keys: Sequence[bytes], position: int) -> Rows:
    """Rows that say in vector and metadata which key and position they belong to."""
    vectors = np.array([[len(key), sum(key), position] for key in keys], np.float32).reshape(len(keys), 3)
    return Rows.of(Puts([key.decode() for key in keys], vectors, [key + b"!" for key in keys]), position)


class TestColumns:
    @settings(deadline=None)
    @given(VALUES)
    def test_hold_their_values(self, values: list[bytes]) -> None:
        column = Column.of(values)
        assert (len(column), list(column), [column[i] for i in range(len(values))]) == (len(values), values, values)

    @settings(deadline=None)
    @given(VALUES, st.data())
    def test_take_picks_in_the_order_asked(self, values: list[bytes], data: st.DataObject) -> None:
        places = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=30) if values else st.just([]))
        column, wanted = Column.of(values), [values[place] for place in places]
        assert column.pick(places) == wanted
        assert list(column.take(np.array(places, np.intp))) == wanted

    @settings(deadline=None)
    @given(st.lists(VALUES, max_size=4))
    def test_concatenate_keeps_order(self, parts: list[list[bytes]]) -> None:
        assert list(concatenate([Column.of(part) for part in parts])) == [value for part in parts for value in part]


class TestKeys:
    @settings(deadline=None)
    @given(KEYS)
    def test_stand_in_order_of_hash_and_key(self, keys: list[bytes]) -> None:
        ordered, order = Keys.of(keys, 7)
        assert list(ordered.keys) == order_of(keys) == [keys[i] for i in order]
        assert ordered.hashes.tolist() == [rows_module.hash_key(key) for key in ordered.keys]
        assert set(ordered.positions.tolist()) <= {7}

    @settings(deadline=None)
    @given(KEYS, KEYS)
    def test_find_compares_keys(self, keys: list[bytes], asked: list[bytes]) -> None:
        found = keys_of(keys)
        for key in (*keys, *asked):
            row = found.find(rows_module.hash_key(key), key)
            assert row == (list(found.keys).index(key) if key in keys else None)

    @settings(deadline=None)
    @given(KEYS, KEYS)
    def test_match_pairs_equal_keys_and_no_others(self, ours: list[bytes], theirs: list[bytes]) -> None:
        left, right = keys_of(ours), keys_of(theirs)
        mine, others = left.match(right)
        assert [left.keys[row] for row in mine] == [right.keys[row] for row in others]
        assert sorted(left.keys[row] for row in mine) == sorted(set(ours) & set(theirs))


class TestMerging:
    @settings(deadline=None)
    @given(KEYS, st.integers(1, 4))
    def test_rows_of_disjoint_runs_come_together_in_order(self, keys: list[bytes], runs: int) -> None:
        merged = merge_rows([rows_of(keys[run::runs], run) for run in range(runs)])
        assert list(merged.keys.keys) == order_of(keys)
        assert list(merged.metadata) == [key + b"!" for key in merged.keys.keys]
        where = {key: run for run in range(runs) for key in keys[run::runs]}
        wanted = [[len(key), sum(key), where[key]] for key in merged.keys.keys]
        assert merged.vectors.tolist() == wanted
        assert merged.keys.positions.tolist() == [where[key] for key in merged.keys.keys]

    @settings(deadline=None)
    @given(KEYS, KEYS)
    def test_repeats_are_kept_by_merge_keys(self, first: list[bytes], second: list[bytes]) -> None:
        merged, order = merge_keys([keys_of(first, 1), keys_of(second, 2)])
        assert list(merged.keys) == order_of([*first, *second])
        pairs = sorted([*((key, 1) for key in first), *((key, 2) for key in second)])
        assert sorted(zip(merged.keys, merged.positions.tolist(), strict=True)) == pairs
        assert sorted(order.tolist()) == list(range(len(first) + len(second)))


class TestLive:
    @settings(deadline=None)
    @given(st.lists(KEYS, min_size=1, max_size=5), st.randoms())
    def test_masks_agree_with_a_dict(self, writes: list[list[bytes]], random: object) -> None:
        """The newest position of each key is live, in whatever order the runs stand."""
        runs = [keys_of(keys, position) for position, keys in enumerate(writes, start=1)]
        runs.sort(key=lambda _: random.random())  # type: ignore[attr-defined]
        newest: dict[bytes, int] = {}
        for position, keys in enumerate(writes, start=1):
            newest |= dict.fromkeys(keys, position)
        masks = live_masks(runs)
        assert [len(mask) for mask in masks] == [len(run) for run in runs]
        for run, mask in zip(runs, masks, strict=True):
            expected = [newest[key] == position for key, position in zip(run.keys, run.positions.tolist(), strict=True)]
            assert mask.tolist() == expected

    @settings(deadline=None)
    @given(KEYS, KEYS)
    def test_digest_is_of_the_set_and_not_of_its_order(self, first: list[bytes], second: list[bytes]) -> None:
        one, two = keys_of(first, 3), keys_of([key for key in second if key not in first], 4)
        apart = live_digest(one.hashes, one.positions) + live_digest(two.hashes, two.positions)
        together, _ = merge_keys([one, two])
        assert live_digest(together.hashes, together.positions) == apart % 2**64
        if len(one):
            moved = live_digest(one.hashes, one.positions + np.uint64(1))
            assert moved != live_digest(one.hashes, one.positions)


def test_key_hash_is_the_specified_one() -> None:
    """Hashes are in every file: they never change."""
    assert hash_key(b"key-001") == int.from_bytes(hashlib.blake2b(b"key-001", digest_size=8).digest(), "big")
    assert (hash_key(b"key-001"), hash_key("é".encode())) == (0xA5B3E0E7DA9C432B, 0xCB1ABF8BEFF3192F)


def test_digest_is_the_specified_one() -> None:
    """Written out in integers, as the format's page gives it."""

    def mix(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    pairs = [(1, 2), (2**64 - 1, 5), (0, 0), (12345678901234567890, 2**40)]
    hashes, positions = (np.array(column, np.uint64) for column in zip(*pairs, strict=True))
    assert live_digest(hashes, positions) == sum(mix(mix(hash_) ^ position) for hash_, position in pairs) % 2**64
