"""The plan of ranges: it reads all that is wanted, joins what is near, and bounds requests and their length."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from neve.store.port import Block, Get
from neve.store.ranges import SPACING, Spacing, coalesce

SMALL = Spacing(gap_bytes=10, gap_bytes_max=40, requests=4, span_bytes_max=200)
ONE = Spacing(gap_bytes=10, gap_bytes_max=10, requests=1000, span_bytes_max=1000)


@st.composite
def wanted(draw: st.DrawFn) -> list[Block]:
    """Blocks of up to three objects, apart, touching or the same, in any order."""
    blocks: list[Block] = []
    for key in "abc"[: draw(st.integers(0, 3))]:
        at = 0
        for gap, length in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 250)), max_size=12)):
            blocks.append(Block(key, at + gap, at + gap + length, gap))
            at += gap + length
    return draw(st.permutations(blocks + blocks[:2]))


def of(*ranges: tuple[int, int]) -> list[Block]:
    return [Block("a", start, stop, 0) for start, stop in ranges]


def extents(gets: list[Get]) -> list[tuple[int, int | None]]:
    return [(get.start, get.stop) for get in gets]


@given(wanted())
def test_every_block_is_read_once_by_a_request_that_covers_it(blocks: list[Block]) -> None:
    spans = coalesce(blocks, SMALL)
    assert Counter(block for span in spans for block in span.blocks) == Counter(set(blocks))
    for span in spans:
        assert not span.whole
        assert span.start == min(block.start for block in span.blocks)
        assert span.stop == max(block.stop for block in span.blocks)
        assert {block.key for block in span.blocks} == {span.key}
        assert len(span.blocks) == 1 or span.stop - span.start <= SMALL.span_bytes_max


@given(wanted())
def test_what_is_near_is_joined_and_what_is_far_is_not(blocks: list[Block]) -> None:
    spans = coalesce(blocks, SMALL)
    assert spans == sorted(spans, key=lambda span: (span.key, span.start))
    for span in spans:
        assert all(after.start - before.stop <= SMALL.gap_bytes_max for before, after in pairwise(span.blocks))
    for before, after in pairwise(spans):
        if before.key == after.key and after.start - before.stop <= SMALL.gap_bytes:
            assert after.blocks[0].stop - before.start > SMALL.span_bytes_max


@given(wanted())
def test_more_requests_than_wished_mean_that_nothing_near_is_left(blocks: list[Block]) -> None:
    spans = coalesce(blocks, replace(SMALL, span_bytes_max=1 << 40))
    if len(spans) > SMALL.requests:
        for before, after in pairwise(spans):
            assert before.key != after.key or after.start - before.stop > SMALL.gap_bytes_max


def test_no_blocks_are_no_requests() -> None:
    assert coalesce([], SPACING) == []


def test_a_gap_at_the_bound_is_read_over_and_a_longer_one_is_not() -> None:
    assert extents(coalesce(of((0, 5), (15, 20), (31, 40)), ONE)) == [(0, 20), (31, 40)]


def test_the_nearest_are_joined_first_when_there_are_too_many() -> None:
    spacing = Spacing(gap_bytes=0, gap_bytes_max=40, requests=3, span_bytes_max=1000)
    blocks = of((0, 10), (45, 50), (70, 80), (94, 100), (120, 130), (200, 210))
    assert extents(coalesce(blocks, spacing)) == [(0, 10), (45, 130), (200, 210)]


def test_of_equal_gaps_no_more_are_read_over_than_needed() -> None:
    spacing = Spacing(gap_bytes=0, gap_bytes_max=40, requests=6, span_bytes_max=1000)
    spans = coalesce(of(*((start, start + 10) for start in range(0, 400, 40))), spacing)
    assert len(spans) == 6
    assert sum((span.stop or 0) - span.start for span in spans) == 10 * 10 + 4 * 30


def test_a_request_ends_before_it_is_too_long_but_never_within_a_block() -> None:
    spacing = Spacing(gap_bytes=10, gap_bytes_max=10, requests=1000, span_bytes_max=100)
    assert extents(coalesce(of((0, 60), (60, 90), (90, 120), (120, 400)), spacing)) == [(0, 90), (90, 120), (120, 400)]
