"""Folds as plans: how many segments there ever are, what a fold writes, and that it changes no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.index.entry import Kind, LogEntry
from neve.index.fold import choose_segments, plan_fold
from neve.index.grace import FLAT_GROWTH, FLAT_ROWS_MAX, FLAT_ROWS_PER_SEGMENT, FLAT_SEGMENTS_SPARE
from neve.index.manifest import SegmentInfo, first_manifest
from neve.index.records import Encryption, IndexConfig, IndexRecord
from neve.index.state import Part, Segment, State, apply_all, base_state
from neve.segments.flat import Batch, no_rows
from neve.segments.rows import Keys, Puts, Rows
from neve.vectors.metric import Metric

CONFIG = IndexConfig(2, Metric.EUCLIDEAN, None, Encryption())
RECORD = IndexRecord("b", "i", 1, "0" * 32, 0, CONFIG, {})
SIZES = st.lists(st.integers(0, 20_000), max_size=40)


def allowed(rows: int) -> float:
    return rows / FLAT_ROWS_PER_SEGMENT + FLAT_SEGMENTS_SPARE


def named(sizes: Sequence[int]) -> list[tuple[str, int]]:
    return [(f"s{place}", size) for place, size in enumerate(sizes)]


class TestChoice:
    @settings(deadline=None)
    @given(SIZES, st.integers(0, 40_000))
    def test_takes_the_smallest_and_all_the_empty_ones(self, sizes: list[int], tail: int) -> None:
        segments = named(sizes)
        chosen = set(choose_segments(segments, tail))
        taken = [size for name, size in segments if name in chosen]
        left = [size for name, size in segments if name not in chosen]
        assert max(taken, default=0) <= min(left, default=20_001)
        assert 0 not in left

    @settings(deadline=None)
    @given(SIZES, st.integers(0, 100_000))
    def test_segments_are_within_the_bound_whatever_there_was(self, sizes: list[int], tail: int) -> None:
        chosen = choose_segments(named(sizes), tail)
        assert len(sizes) - len(chosen) + 1 <= allowed(tail + sum(sizes)) or len(chosen) == len(sizes)

    @settings(deadline=None)
    @given(SIZES, st.integers(1, 40_000))
    def test_what_is_taken_was_cheap_or_had_to_go(self, sizes: list[int], tail: int) -> None:
        """A merge goes beyond the rows of a flat segment only while there are too many segments."""
        segments = dict(named(sizes))
        merged, left = tail, len(segments)
        for name in choose_segments(list(segments.items()), tail):
            cheap = segments[name] < FLAT_GROWTH * merged and merged + segments[name] <= FLAT_ROWS_MAX
            assert cheap or not segments[name] or left + 1 > allowed(tail + sum(sizes))
            merged, left = merged + segments[name], left - 1

    @settings(deadline=None)
    @given(SIZES, st.integers(1, 40_000))
    def test_what_is_left_was_not_worth_it_or_did_not_fit(self, sizes: list[int], tail: int) -> None:
        segments = named(sizes)
        chosen = set(choose_segments(segments, tail))
        merged = tail + sum(size for name, size in segments if name in chosen)
        left = [size for name, size in segments if name not in chosen]
        if left:
            assert min(left) >= FLAT_GROWTH * merged or merged + min(left) > FLAT_ROWS_MAX


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 64), st.integers(1, 500), st.sampled_from([0.0, 0.1, 0.5, 0.9, 5.0]), st.integers(0, 2**32))
def test_segments_are_bounded_by_rows_after_any_history(writes: int, each: int, churn: float, seed: int) -> None:
    """Folds of up to 64 writes; part of each write overwrites or deletes what is held, wherever it lies."""
    random = Random(seed)
    held: dict[str, int] = {}
    for fold in range(150):
        tail = random.randint(1, writes) * random.randint(1, each)
        lost = min(sum(held.values()), int(tail * churn * random.random() * 2))
        for name in random.sample(sorted(held), len(held)):
            taken = min(held[name], random.randint(0, lost))
            held[name] -= taken
            lost -= taken
        chosen = set(choose_segments(list(held.items()), tail))
        rows = tail + sum(size for name, size in held.items() if name in chosen)
        held = {name: size for name, size in held.items() if name not in chosen} | {f"s{fold:03d}": rows}
        assert len(held) <= allowed(sum(held.values()))


class Log:
    """A history of one index: its state by the engine, and by a dict."""

    def __init__(self) -> None:
        self.state = base_state(RECORD, first_manifest({}), {})
        self.rows: dict[str, int] = {}

    def write(self, puts: Sequence[str], deletes: Sequence[str]) -> None:
        number = self.state.position + 1
        vectors = np.full((len(puts), 2), number, np.float32)
        rows = Rows.of(Puts(puts, vectors, [b"{}"] * len(puts)), number) if puts else no_rows(2)
        batch = Batch(rows, Keys.of([key.encode() for key in deletes], number)[0])
        self.state = self.state.apply(LogEntry(number, f"id{number}", Kind.WRITE, (), batch, {}, {}, 100))
        self.rows = {key: value for key, value in self.rows.items() if key not in deletes} | dict.fromkeys(puts, number)

    def fold(self) -> None:
        """As `neve.index.fold.fold` does, without a store; then the segments are read anew."""
        before, plan = self.state, plan_fold(self.state)
        batches = {s.info.name: Batch(s.part.rows, s.deleted) for s in plan.kept}
        infos = [s.info for s in plan.kept]
        if plan.batch is not None:
            name = f"{before.position:016d}-new"
            batches[name] = plan.batch
            infos.append(SegmentInfo(name, len(plan.batch.rows), len(plan.batch.deleted), len(plan.batch.rows), 1, 0))
        number = before.base.number + 1
        manifest = replace(first_manifest({}), number=number, folded_to=before.position, segments=tuple(infos))
        self.state = base_state(RECORD, manifest, batches)
        assert (self.state.digest(), self.state.live_rows) == (before.digest(), before.live_rows)
        if plan.batch is not None:
            assert self.state.segments[-1].part.live.all(), "a fold writes no row that is hidden"

    def check(self) -> None:
        found: dict[str, int] = {}
        for part in self.state.parts:
            for row in np.flatnonzero(part.live).tolist():
                key = part.rows.keys.keys[row].decode()
                assert key not in found, "a key is live once"
                found[key] = int(part.rows.vectors[row, 0])
                assert found[key] == part.rows.keys.positions[row]
        assert found == self.rows


OPERATIONS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([f"k{n}" for n in range(25)]), unique=True, max_size=8),
        st.lists(st.sampled_from([f"k{n}" for n in range(25)]), unique=True, max_size=5),
        st.booleans(),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(OPERATIONS)
def test_folds_change_no_answer(operations: list[tuple[list[str], list[str], bool]]) -> None:
    log = Log()
    for puts, deletes, fold_now in operations:
        log.write(puts, [key for key in deletes if key not in puts])
        if fold_now:
            log.fold()
        log.check()
    log.fold()
    log.check()


def test_tombstones_are_kept_only_while_they_hide_something() -> None:
    log = Log()
    log.write([f"k{n}" for n in range(20)], [])
    log.fold()
    log.write(["other"], ["k1", "k2", "nothing"])
    log.fold()
    small = log.state.segments[1]
    assert sorted(small.deleted.keys) == [b"k1", b"k2"]
    log.write([f"n{n}" for n in range(10)], [])
    log.fold()  # large enough to take all segments in: there is nothing left to hide
    assert [(len(segment.part.rows), len(segment.deleted)) for segment in log.state.segments] == [(29, 0)]


def test_an_index_emptied_of_its_rows_keeps_no_segment() -> None:
    log = Log()
    log.write(["a", "b"], [])
    log.fold()
    log.write([], ["a", "b"])
    log.fold()
    assert log.state.segments == ()
    assert log.state.base.folded_to == 2


def test_a_fold_of_a_tail_without_rows_writes_nothing() -> None:
    log = Log()
    log.write([], ["never there"])
    assert plan_fold(log.state).batch is None


@pytest.mark.parametrize("parts", [1, 3])
def test_parts_and_segments_agree_on_what_is_hidden(parts: int) -> None:
    keys = Keys.of([b"a", b"b"], 1)[0]
    part = Part.all_live(Rows(keys, np.zeros((2, 2), np.float32), keys.keys))
    hidden = part.without(Keys.of([b"b", b"c"], 2)[0])
    state = State(
        RECORD, first_manifest({}), (Segment(SegmentInfo("s", 2, 0, 2, 1, 0), hidden, keys),), (), (), (), {}, {}, parts
    )
    assert (hidden.live_rows, part.live_rows, state.live_rows) == (1, 2, 1)
    assert apply_all(state, []) == state
