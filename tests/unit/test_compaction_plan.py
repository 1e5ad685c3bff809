"""What a compaction takes in, and what a stream of inserts costs by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.compaction.plan import (
    FLAT_BYTES_MIN,
    FLAT_ROWS_MIN,
    GROWTH,
    MASKED_SHARE_MAX,
    MERGED_ROWS_MAX,
    Plan,
    choose_segments,
    is_due,
    plan_compaction,
)
from neve.index.manifest import CompactedInfo, Manifest, Mask, SegmentInfo, first_manifest


def flat(name: str, rows: int, deleted: int = 0, size_bytes: int = 1) -> SegmentInfo:
    return SegmentInfo(name, rows, deleted, rows, size_bytes, 7)


def compacted(name: str, rows: int, masked: int = 0) -> CompactedInfo:
    return CompactedInfo(name, rows, rows - masked, rows, 7, Mask(masked, b"mask" if masked else b""))


def manifest(flats: Sequence[SegmentInfo], older: Sequence[CompactedInfo] = ()) -> Manifest:
    return replace(first_manifest({}), number=5, segments=tuple(flats), compacted=tuple(older))


class TestDue:
    def test_an_empty_index_is_not_due(self) -> None:
        assert not is_due(manifest([]))

    def test_rows_and_tombstones_count_alike(self) -> None:
        assert not is_due(manifest([flat("a", FLAT_ROWS_MIN - 2, 1)]))
        assert is_due(manifest([flat("a", FLAT_ROWS_MIN - 2, 1), flat("b", 0, 1)]))

    def test_large_vectors_are_due_earlier(self) -> None:
        assert is_due(manifest([flat("a", 10, size_bytes=FLAT_BYTES_MIN)]))

    def test_nothing_is_planned_before(self) -> None:
        little = manifest([flat("a", 10)], [compacted("x", 40_000)])
        assert plan_compaction(little) is None
        assert plan_compaction(little, asked=True) == Plan(little.segments, (), little.compacted)


class TestChoice:
    def test_all_flat_segments_are_taken(self) -> None:
        many = manifest([flat("a", 9_000), flat("b", 1, 3_000), flat("c", 0, 1)])
        assert plan_compaction(many) == Plan(many.segments, (), ())

    def test_a_segment_is_merged_while_it_is_small_beside_the_rest(self) -> None:
        large, small = compacted("large", GROWTH * (10_000 + 500)), compacted("small", 500)
        plan = plan_compaction(manifest([flat("a", 10_000)], [large, small]))
        assert plan == Plan((flat("a", 10_000),), (small,), (large,))
        less = compacted("large", GROWTH * (10_000 + 500) - 1)
        plan = plan_compaction(manifest([flat("a", 10_000)], [less, small]))
        assert plan == Plan((flat("a", 10_000),), (small, less), ())

    def test_parts_of_a_large_index_are_not_merged_at_once(self) -> None:
        parts = [compacted(f"{number:02d}", 4 << 20) for number in range(25)]
        assert choose_segments(parts, 1 << 20) == ()
        assert choose_segments(parts, 2 << 20) == tuple(parts[:3])
        assert choose_segments(parts, 20 << 20) == ()

    def test_mostly_dead_segments_are_written_anew_whatever_their_size(self) -> None:
        rows = 1_000_000
        dead = compacted("dead", rows, int(MASKED_SHARE_MAX * rows) + 1)
        alive = compacted("alive", GROWTH * rows, int(MASKED_SHARE_MAX * GROWTH * rows))
        assert choose_segments([alive, dead], 1) == (dead,)
        assert plan_compaction(manifest([], [alive, dead]), asked=True) == Plan((), (dead,), (alive,))

    def test_asked_for_twice_the_second_time_has_nothing_to_do(self) -> None:
        assert plan_compaction(manifest([], [compacted("x", 5), compacted("y", 5_000)]), asked=True) is None

    def test_a_full_one_takes_everything_until_one_whole_segment_is_left(self) -> None:
        several = manifest([flat("a", 1)], [compacted("x", 1_000_000), compacted("y", 5)])
        assert plan_compaction(several, full=True) == Plan(several.segments, several.compacted, ())
        masked = manifest([], [compacted("x", 1_000_000, 1)])
        assert plan_compaction(masked, full=True) == Plan((), masked.compacted, ())
        assert plan_compaction(manifest([], [compacted("x", 1_000_000)]), full=True) is None
        assert plan_compaction(manifest([]), full=True) is None

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 10**7), st.floats(0, 1)), max_size=12), st.integers(1, 10**6))
    def test_what_is_kept_grows_from_segment_to_segment(self, sizes: list[tuple[int, float]], rows: int) -> None:
        older = [compacted(f"s{place}", size, int(share * size)) for place, (size, share) in enumerate(sizes)]
        chosen = choose_segments(older, rows)
        merged = rows + sum(segment.live for segment in chosen)
        least = min((segment.live for segment in older if segment not in chosen), default=MERGED_ROWS_MAX)
        assert least >= GROWTH * merged or merged + least > MERGED_ROWS_MAX


@pytest.mark.parametrize(
    ("batches", "written_max", "segments_max"),
    [(30, 3.7, 3), (100, 4.9, 4), (1000, 7.3, 6)],
)
def test_write_amplification_of_a_stream_of_inserts(batches: int, written_max: float, segments_max: int) -> None:
    """The numbers in the module's docstring; and the bound holds for the rows that were moved most."""
    older: list[CompactedInfo] = []
    moved: dict[str, int] = {}
    written = most = 0
    for number in range(batches):
        plan = plan_compaction(manifest([flat(f"f{number}", FLAT_ROWS_MIN)], older))
        assert plan is not None
        new = compacted(f"s{number}", plan.rows)
        moved[new.name] = 1 + max((moved[segment.name] for segment in plan.merged), default=0)
        written, most = written + plan.rows, max(most, moved[new.name])
        older = [*plan.kept, new]
        assert len(older) <= segments_max
    assert written / (batches * FLAT_ROWS_MIN) <= written_max
    assert most <= 1 + math.log(batches) / math.log(1 + 1 / GROWTH)


class TestStanding:
    plan = Plan((flat("a", 10), flat("b", 10)), (compacted("x", 10),), (compacted("y", 90),))

    def test_survives_its_json(self) -> None:
        assert Plan.from_fields(self.plan.to_fields()) == self.plan
        assert Plan.from_fields(self.plan.to_fields()).seed == self.plan.seed

    def test_other_inputs_are_other_chance(self) -> None:
        assert replace(self.plan, flat=self.plan.flat[:1]).seed != self.plan.seed

    def test_new_flat_segments_and_another_order_change_nothing(self) -> None:
        grown = manifest([flat("c", 5), *self.plan.flat], [*self.plan.kept, *self.plan.merged])
        assert self.plan.holds_on(grown)
        assert self.plan.inputs_stand(grown)

    def test_a_fold_lets_it_be_committed_but_not_begun_again(self) -> None:
        folded = manifest([flat("a", 10), flat("c", 12)], [*self.plan.kept, *self.plan.merged])
        assert self.plan.holds_on(folded)
        assert not self.plan.inputs_stand(folded)

    @pytest.mark.parametrize(
        "after",
        [
            [compacted("x", 10)],
            [compacted("x", 10), compacted("y", 90), compacted("z", 1)],
            [compacted("x", 10), compacted("y", 90, masked=1)],
        ],
    )
    def test_another_compaction_ends_it(self, after: list[CompactedInfo]) -> None:
        changed = manifest(self.plan.flat, after)
        assert not self.plan.holds_on(changed)
        assert not self.plan.inputs_stand(changed)
