"""The filter index says of every row what evaluating the filter over its metadata says, whatever blocks it lies in."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neve.errors import ObjectCorrupt
from neve.filters.parse import parse
from neve.query import matching
from neve.query.termspans import Leaf, Other, at_least, bind
from neve.segments.columns import Column
from neve.segments.filters import ALONE, MANY
from neve.segments.term_writer import TermRows, write_terms
from neve.segments.terms import Kind, TermBlock, after, number_bytes, stem, stem_of, text_term
from neve.store.port import Put
from tests.unit.filter_segment import (
    KEYS,
    Indexed,
    as_json,
    filters,
    keys,
    numbers,
    picks,
    rows_of,
    small_blocks,
    some_rows,
    texts,
)

blocks = st.builds(dict, postings=st.sampled_from([1, 5, 5000]), share=st.sampled_from([1, 3, 16]))
kinds = st.sampled_from(list(Kind))


class TestOrder:
    @settings(deadline=None)
    @given(numbers, numbers)
    @example(-0.0, 0.0)
    @example(float("-inf"), -1.7976931348623157e308)
    def test_of_numbers_is_that_of_their_bytes(self, one: float, other: float) -> None:
        first, second = float(one), float(other)
        assert (number_bytes(first) < number_bytes(second)) == (first < second)
        assert (number_bytes(first) == number_bytes(second)) == (first == second)

    @settings(deadline=None)
    @given(keys | st.text(), kinds, st.binary(max_size=4), keys | st.text(), kinds)
    def test_terms_of_a_key_and_kind_follow_one_another(
        self, key: str, kind: Kind, rest: bytes, other: str, other_kind: Kind
    ) -> None:
        term, begins = stem(key, kind) + rest, stem(other, other_kind)
        assert stem_of(term) == stem(key, kind)
        assert term.startswith(begins) == ((key, kind) == (other, other_kind))
        assert (begins <= term < after(begins)) == ((key, kind) == (other, other_kind))

    @settings(deadline=None)
    @given(texts | st.text(), texts | st.text())
    def test_equal_terms_are_equal_texts(self, one: str, other: str) -> None:
        assert (text_term("k", one) == text_term("k", other)) == (one == other)

    @settings(deadline=None)
    @given(texts | st.text(), st.integers(0, 70))
    def test_a_prefix_of_up_to_48_bytes_is_one_of_the_term(self, text: str, length: int) -> None:
        prefix = text[:length]
        if len(prefix.encode()) <= 48:
            assert text_term("k", text)[len(stem("k", Kind.STRING)) :].startswith(prefix.encode())

    @settings(deadline=None)
    @given(st.binary(min_size=1).filter(lambda raw: raw.strip(b"\xff")), st.binary())
    def test_nothing_with_the_prefix_is_above_what_follows_it(self, prefix: bytes, rest: bytes) -> None:
        assert prefix + rest < after(prefix)
        assert not after(prefix).startswith(prefix)


def test_terms_are_as_the_format_says() -> None:
    assert stem("a\0b", Kind.ROWS) == b"a\0\xffb\0\0\0"
    assert stem("a", Kind.NUMBER) + number_bytes(1) == b"a\0\0\x02" + bytes.fromhex("bff0000000000000")
    assert number_bytes(-1.0) == bytes.fromhex("400fffffffffffff")
    assert text_term("é", "x" * 64) == b"\xc3\xa9\0\0\x03" + b"x" * 64
    long = ("é" * 33).encode()
    hashed = hashlib.blake2b(long, digest_size=16).digest()
    assert text_term("", "é" * 33) == b"\0\0\x04" + long[:48] + hashed


@st.composite
def term_blocks(draw: st.DrawFn) -> tuple[int, TermBlock]:
    rows = draw(st.integers(1, 100_000))
    texts = sorted(draw(st.sets(st.binary(max_size=6), min_size=1, max_size=5)))
    runs = [sorted(draw(st.sets(st.integers(0, rows - 1), min_size=1, max_size=40))) for _ in texts]
    ends = np.cumsum([0, *map(len, runs)]).astype(np.uint32)
    prefix = draw(st.binary(max_size=4))
    return rows, TermBlock(prefix, Column.of(texts), ends, np.concatenate([np.array(run, np.uint32) for run in runs]))


class TestBlock:
    @settings(deadline=None)
    @given(term_blocks())
    def test_decode_gives_what_was_encoded(self, made: tuple[int, TermBlock]) -> None:
        rows, block = made
        raw = block.encode(rows)
        again = TermBlock.decode(rows, raw)
        assert [again.term(number) for number in range(len(again))] == [block.prefix + one for one in block.suffixes]
        assert np.array_equal(again.ends, block.ends)
        assert np.array_equal(again.rows, block.rows)
        assert again.encode(rows) == raw

    @pytest.mark.parametrize("step", [1, 3])
    def test_one_term_of_many_rows_is_a_bitmap(self, step: int) -> None:
        rows = np.arange(0, 200_000, step, dtype=np.uint32)
        block = TermBlock(b"term", Column.of([b""]), np.array([0, len(rows)], np.uint32), rows)
        raw = block.encode(200_000)
        assert np.array_equal(TermBlock.decode(200_000, raw).rows, rows)
        assert len(raw) < 200_000 / 8 + 1000

    @settings(deadline=None)
    @given(term_blocks(), st.binary(min_size=1), st.binary(min_size=1))
    def test_rows_between_two_terms(self, made: tuple[int, TermBlock], low: bytes, high: bytes) -> None:
        _, block = made
        expected = [
            row
            for number in range(len(block))
            if low <= block.term(number) < high
            for row in block.rows[block.ends[number] : block.ends[number + 1]].tolist()
        ]
        assert block.between(low, max(low, high)).tolist() == expected

    @settings(deadline=None, max_examples=300)
    @given(term_blocks(), st.data())
    def test_hostile_bytes_are_a_block_or_a_value_error(self, made: tuple[int, TermBlock], data: st.DataObject) -> None:
        rows, block = made
        body = bytearray(zlib.decompress(block.encode(rows)))
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, min(len(body), 40) - 1) | st.integers(0, len(body) - 1))
            body[place] = data.draw(st.integers(0, 255))
        check_decodes(rows, zlib.compress(bytes(body[: data.draw(st.integers(0, len(body)))])))
        check_decodes(rows, zlib.compress(bytes(body)))

    @settings(deadline=None)
    @given(st.binary())
    def test_any_bytes_are_a_block_or_a_value_error(self, raw: bytes) -> None:
        check_decodes(100, raw)
        check_decodes(100, zlib.compress(raw))

    @pytest.mark.parametrize("place", range(3))
    def test_a_count_beyond_all_bounds_takes_no_memory(self, place: int) -> None:
        head = [1, 1, 0, 0]
        head[place] = 2**32 - 1
        with pytest.raises(ValueError, match=r"it has|offset"):
            TermBlock.decode(100, zlib.compress(struct.pack("<IIII", *head) + bytes(100)))

    def test_a_block_that_inflates_without_end_is_refused(self) -> None:
        with pytest.raises(ValueError, match="fewer bytes"):
            TermBlock.decode(100, zlib.compress(bytes(1 << 27)))

    def test_a_row_beyond_the_segment_is_refused(self) -> None:
        block = TermBlock(b"", Column.of([b"t"]), np.array([0, 1], np.uint32), np.array([99], np.uint32))
        for rows, dense in ((16, True), (17, False)):
            raw = block.encode(rows)
            assert bool(zlib.decompress(raw)[12]) == dense
            assert TermBlock.decode(100, raw).rows.tolist() == [99]
            with pytest.raises(ValueError, match="other rows"):
                TermBlock.decode(99, raw)


def check_decodes(rows: int, raw: bytes) -> None:
    """That bytes are a block whose parts fit, or refused with a ValueError."""
    try:
        block = TermBlock.decode(rows, raw)
    except ValueError:
        return
    assert [len(block.term(number)) >= len(block.prefix) for number in range(len(block))]
    assert block.ends[-1] == len(block.rows)
    assert not len(block.rows) or block.rows.max() < rows


def answer(indexed: Indexed, document: object) -> list[bool]:
    """What the index says of every row."""
    [found] = matching.matching(indexed.session(), [indexed.directory], parse(document, (), 1000))
    assert found.count == np.count_nonzero(~found.failing) == found.weights.sum()
    return (~found.failing).tolist()


def truth(rows: list[bytes], document: object) -> list[bool]:
    """What evaluating over the metadata says."""
    condition = parse(document, (), 1000)
    return [condition.matches(orjson.loads(row)) for row in rows]


class TestAnswers:
    @settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
    @given(some_rows, picks, blocks, st.lists(filters, min_size=1, max_size=4))
    def test_are_those_of_the_metadata(
        self, pool: list[dict[str, object]], picked: bytes, sizes: dict[str, int], asked: list[object]
    ) -> None:
        rows = rows_of(pool, picked)
        with small_blocks(**sizes):
            indexed = Indexed(rows)
            for document in asked:
                assert answer(indexed, document) == truth(rows, document)

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(st.lists(st.integers(-4, 4), min_size=1, max_size=2), min_size=1, max_size=40),
        st.lists(
            st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), st.integers(-5, 5)), min_size=1, max_size=3
        ),
        st.booleans(),
    )
    def test_of_ranges_whether_rows_have_one_number_or_several(
        self, values: list[list[int]], bounds: list[tuple[str, int]], single: bool
    ) -> None:
        rows = [as_json({"n": value[0] if single else value, "m": value}) for value in values]
        document = {"$and": [{"n": {operator: bound}} for operator, bound in bounds]}
        with small_blocks(postings=3):
            assert answer(Indexed(rows), document) == truth(rows, document)

    def test_dense_sparse_and_continued_terms_and_spilled_runs_occur(self) -> None:
        rng = random.Random(5)
        rows = [as_json({"a": rng.random() < 0.5, "b": rng.randrange(20), "c": f"{row:03d}"}) for row in range(300)]
        with small_blocks(share=4):
            indexed = Indexed(rows)
            heads = list(indexed.index.heads)
            assert indexed.runs > 2
            assert len(set(heads)) < len(heads), "a term that goes on"
            decoded = [indexed.block(number) for number in range(len(heads))]
            assert {len(block) for block in decoded} > {1}
            assert {is_dense(indexed, number) for number in range(len(heads))} == {True, False}
            for document in (
                *({"a": True}, {"b": 7}, {"b": {"$gte": 3, "$lt": 17}}, {"c": {"$startsWith": "01"}}),
                *({"c": {"$in": ["000", "299", "300"]}}, {"b": {"$exists": True}}, {"b": {"$nin": [1, 2]}}),
            ):
                assert answer(indexed, document) == truth(rows, document), document

    def test_of_keys_that_cannot_be_filtered_on_nothing_is_written(self) -> None:
        rows = [as_json({"a": 1, "text": "x" * 500, "b": "y"})] * 3
        with_all, without = Indexed(rows), Indexed(rows, ["text"])
        assert b"text" in zlib.decompress(with_all.raw)
        assert b"text" not in zlib.decompress(without.raw)
        assert answer(without, {"b": "y"}) == [True] * 3

    def test_of_no_metadata_at_all(self) -> None:
        indexed = Indexed([b"{}"] * 5)
        assert (len(indexed.index), indexed.raw) == (0, b"")
        assert answer(indexed, {"a": 1}) == [False] * 5
        assert answer(indexed, {"a": {"$ne": 1}}) == [True] * 5

    def test_the_same_rows_give_the_same_bytes_however_they_come(self) -> None:
        rows = [as_json({key: [row % 7, str(row)] for key in KEYS[: row % 9]}) for row in range(200)]
        with small_blocks():
            first = Indexed(rows, step=200)
            with small_blocks(memory_bytes=1 << 30):
                assert Indexed(rows, step=3).raw == first.raw

    def test_rows_of_long_texts_are_written_in_bounded_memory(self, tmp_path: Path) -> None:
        with small_blocks(memory_bytes=100_000):
            gathered = TermRows(tmp_path / "terms", ())
            for row in range(100):
                gathered.add(row, [as_json({"t": f"{row}" + "t" * 5000})])
            assert len(list((tmp_path / "terms").iterdir())) >= 4
            write_terms(tmp_path / "filters", gathered.postings(), 100)


def is_dense(indexed: Indexed, number: int) -> bool:
    return bool(zlib.decompress(indexed.raw_block(number))[12])


class TestDirectory:
    @settings(deadline=None, max_examples=100)
    @given(some_rows, picks)
    def test_every_term_is_in_a_block_that_is_looked_into(self, pool: list[dict[str, object]], picked: bytes) -> None:
        with small_blocks():
            indexed = Indexed(rows_of(pool, picked))
            for number in range(len(indexed.index)):
                block = indexed.block(number)
                for term in map(block.term, range(len(block))):
                    assert number in indexed.index.between(term, term + b"\0")
                    assert indexed.index.count_between(term, term + b"\0") >= 0
                assert bool(indexed.index.flags[number] & ALONE) == (len(block) == 1)
                assert indexed.index.postings[number] == len(block.rows)

    @settings(deadline=None, max_examples=200)
    @given(some_rows, picks, blocks, st.lists(filters, min_size=1, max_size=4))
    def test_what_it_says_of_counts_is_never_too_much(
        self, pool: list[dict[str, object]], picked: bytes, sizes: dict[str, int], asked: list[object]
    ) -> None:
        rows = rows_of(pool, picked)
        with small_blocks(**sizes):
            index = Indexed(rows).index
            for document in asked:
                bound = bind(parse(document, (), 1000).root, index)
                count, no_others = sum(truth(rows, document)), Other(bound)
                assert 0 <= at_least(bound, index, len(rows)) <= count
                assert 0 <= at_least(no_others, index, len(rows)) <= len(rows) - count

    @pytest.mark.parametrize(
        ("document", "known"),
        [
            ({"half": True}, 150),
            ({"half": {"$exists": True}}, 300),
            ({"half": {"$ne": True}}, 150),
            ({"some": {"$in": ["x", "y"]}}, 200),
            ({"$or": [{"half": True}, {"some": "y"}]}, 200),
            ({"$and": [{"half": True}, {"some": "y"}]}, 50),
            ({"$and": [{"half": True}, {"half": False}]}, 0),
            ({"third": {"$in": [0, 1]}}, 200),
            ({"third": {"$gte": 1}}, 200),
            ({"n": 7}, 0),
            ({"nothing": 7}, 0),
        ],
    )
    def test_what_many_rows_match_is_known_without_a_block(self, document: object, known: int) -> None:
        some = [["x"], ["y"], ["x", "y"]]
        rows = [as_json({"half": r % 2 == 0, "third": r % 3, "some": some[r % 3], "n": r}) for r in range(300)]
        with small_blocks(postings=50):
            index = Indexed(rows).index
            assert at_least(bind(parse(document, (), 9).root, index), index, 300) == known

    def test_of_ranges_all_is_known_but_the_blocks_at_their_ends(self) -> None:
        with small_blocks(postings=20):
            index = Indexed([as_json({"n": row}) for row in range(300)]).index
        for low in range(0, 300, 7):
            for high in range(low, 300, 13):
                bound = bind(parse({"n": {"$gte": low, "$lt": high}}, (), 9).root, index)
                assert high - low - 40 <= at_least(bound, index, 300) <= high - low
                assert 300 - (high - low) - 40 <= at_least(Other(bound), index, 300) <= 300 - (high - low)

    def test_keys_with_several_numbers_in_a_row_are_flagged_and_no_others(self) -> None:
        twos = [[row, -row] if row == 50 else row for row in range(60)]
        rows = [as_json({"one": row, "some": [row, row], "two": two}) for row, two in enumerate(twos)]
        index = Indexed(rows).index
        with small_blocks():
            small = Indexed(rows).index
        for found in (index, small):
            assert found.has_many(stem("two", Kind.NUMBER), after(stem("two", Kind.NUMBER)))
        for key in ("one", "some"):
            assert not small.has_many(stem(key, Kind.NUMBER), after(stem(key, Kind.NUMBER)))
        assert np.count_nonzero(small.flags & MANY) < len(small)

    def test_a_range_beside_a_large_term_does_not_count_it(self) -> None:
        index = Indexed([as_json({"n": row * 0.7}) for row in range(30_000)]).index
        numbers = stem("n", Kind.NUMBER)
        bound = numbers + number_bytes(700)
        assert 1000 <= index.count_between(numbers, bound) <= 8192
        assert len(index.between(numbers, bound)) == 1
        leaf = bind(parse({"n": {"$lt": 700}}, (), 9).root, index)
        assert isinstance(leaf, Leaf)
        assert (leaf.spans, leaf.inside) == (((numbers, bound),), None)
        leaf = bind(parse({"n": {"$lt": 20_000}}, (), 9).root, index)
        assert isinstance(leaf, Leaf)
        assert leaf.inside is not None, "what is above is less"

    def test_counts_of_a_term_that_fills_its_blocks_are_exact(self) -> None:
        rows = [as_json({"a": row % 3}) for row in range(300)]
        with small_blocks(share=3):
            index = Indexed(rows).index
        for value in range(3):
            term = stem("a", Kind.NUMBER) + number_bytes(value)
            assert index.count_between(term, term + b"\0") == 100


class TestReading:
    @pytest.fixture
    def indexed(self) -> Iterator[Indexed]:
        with small_blocks(share=2):
            yield Indexed([as_json({"n": row, "g": row % 5, "b": row % 2 == 0}) for row in range(120)])

    def test_every_flipped_bit_is_noticed_or_not_read(self, indexed: Indexed) -> None:
        asked = {"$and": [{"n": {"$gte": 30, "$lt": 50}}, {"g": 2}, {"b": True}]}
        right = answer(indexed, asked)
        noticed = 0
        for place in range(0, len(indexed.raw), 17):
            damaged = bytearray(indexed.raw)
            damaged[place] ^= 1 << place % 8
            try:
                found = answer(with_bytes(indexed, bytes(damaged)), asked)
            except ObjectCorrupt as error:
                noticed += "filters" in str(error)
            else:
                assert found == right
        assert 10 < noticed < len(indexed.raw) / 17 / 2

    def test_what_cannot_be_decoded_is_named(self, indexed: Indexed) -> None:
        [block] = indexed.directory.filter_blocks([0])
        raw = zlib.compress(b"nonsense")
        broken = with_bytes(indexed, raw.ljust(block.stop, b"\0"))
        broken.index.crcs[0] = zlib.crc32(raw.ljust(block.stop, b"\0"))
        with pytest.raises(ObjectCorrupt, match="filters cannot be decoded"):
            answer(broken, {"b": {"$exists": True}})


def with_bytes(indexed: Indexed, raw: bytes) -> Indexed:
    """The same index over other bytes, in a folder of its own: answers are remembered by folder."""
    again = Indexed([b"{}"] * indexed.directory.rows)
    again.objects.apply(Put(again.folder + "filters", raw))
    again.index = replace(indexed.index, crcs=indexed.index.crcs.copy())
    again.directory = replace(indexed.directory, folder=again.folder, filters=again.index)
    return again
