"""Compaction changes how an index is stored and nothing that it holds, whatever happens beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from neve.compaction.build import Means
from neve.compaction.compact import MASK_INLINE_BYTES_MAX, Compaction, compact
from neve.compaction.executors import processes
from neve.compaction.plan import FLAT_ROWS_MIN
from neve.compaction.tasks import Stage
from neve.errors import IndexNotFound, ObjectCorrupt
from neve.index import paths
from neve.index.records import Encryption, IndexConfig
from neve.store.port import Get, Put, Reply, Request, Store
from neve.testing.objects import MemoryStore
from neve.vectors.metric import Metric
from tests.unit.compact_world import (
    DIMENSION,
    World,
    files,
    names,
)


class TestRoundTrip:
    @pytest.mark.parametrize("metric", list(Metric))
    def test_what_was_put_is_in_one_segment(self, tmp_path: Path, metric: Metric) -> None:
        world = World(tmp_path, metric)
        world.put(*names("a", 200))
        world.fold()
        world.put(*names("b", 150), "a7")
        world.delete("a8", "b9", "nobody")
        world.fold()
        done = world.compact()
        assert done is not None
        assert (done.rows, done.flat_rows) == (348, 348)
        assert not world.manifest.segments
        assert [(info.rows, info.mask.count) for info in world.manifest.compacted] == [(348, 0)]
        world.check()

    def test_a_second_one_masks_what_was_overwritten_and_deleted(self, world: World) -> None:
        world.put(*names("a", 400))
        world.fold()
        world.compact()
        first = world.manifest.compacted[0]
        world.put("a3", "a4", *names("b", 20))
        world.delete("a5", "b6", "nobody")
        world.fold()
        world.check()
        assert world.compact() is not None
        assert {info.name: info.mask.count for info in world.manifest.compacted}[first.name] == 3
        world.check()
        world.put("a6", "b1", "a3")
        world.fold()
        world.compact()
        assert {info.name: info.mask.count for info in world.manifest.compacted}[first.name] == 4
        world.check()

    def test_small_segments_are_merged_without_their_masked_rows(self, world: World) -> None:
        for number in range(4):
            world.put(*names(f"{number}/", 50), "again")
            world.delete("0/7")
            world.fold()
            assert world.compact() is not None
            world.check()
        assert len(world.manifest.compacted) < 4

    def test_a_full_one_leaves_one_segment_and_no_mask(self, world: World) -> None:
        world.put(*names("a", 400))
        world.fold()
        world.compact()
        world.put("a3")
        world.fold()
        world.compact()
        assert len(world.manifest.compacted) == 2
        assert world.compact(full=True) is not None
        assert [(info.rows, info.mask.count) for info in world.manifest.compacted] == [(400, 0)]
        world.check()
        assert world.compact(full=True) is None

    def test_nothing_is_left_of_an_index_whose_rows_are_all_deleted(self, world: World) -> None:
        world.put(*names("a", 30))
        world.fold()
        world.compact()
        world.delete(*names("a", 30))
        world.fold()
        done = world.compact()
        assert done is not None
        assert done.rows == 0
        assert not list(world.manifest.folders)
        world.check()

    def test_a_large_mask_is_an_object(self, world: World) -> None:
        """No run of 2,500 random rows of 65,000 is short enough for the manifest."""
        keys = names("a", 20_000)
        for start in range(0, len(keys), 5_000):
            world.put(*keys[start : start + 5_000])
        world.fold()
        world.compact()
        first = world.manifest.compacted[0]
        world.delete(*keys[: 2 * MASK_INLINE_BYTES_MAX : 3])
        world.fold()
        world.compact()
        info = world.manifest.compacted[0]
        assert info.name == first.name
        assert info.mask.reference
        assert not info.mask.inline
        world.check()
        world.delete(keys[-1])
        world.fold()
        world.compact()
        assert world.manifest.compacted[0].mask.count == info.mask.count + 1
        world.check()

    def test_a_tail_beside_it_stays(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        world.put("a1", "new")
        world.delete("a2")
        world.compact()
        world.check()
        world.fold()
        world.check()

    def test_nothing_asked_nothing_due(self, world: World) -> None:
        assert world.compact() is None
        world.put(*names("a", 10))
        world.fold()
        assert world.compact(asked=False) is None
        assert not world.folder.joinpath("here").exists()

    def test_an_index_that_is_not_there(self, world: World) -> None:
        with pytest.raises(IndexNotFound):
            compact(world.database, "b", "j", Means(world.folder))

    def test_the_same_work_gives_the_same_bytes(self, world: World) -> None:
        world.put(*names("a", 300))
        world.fold()
        copies = []
        for machine in ("one", "two"):
            other = World(world.folder / machine)
            other.objects = world.objects.copy()
            other.compact(machine)
            info = other.state.compacted[0]
            copies.append((info.directory.list_crcs.tolist(), info.directory.key_crcs.tolist(), info.info.digest))
        assert copies[0] == copies[1]

    def test_ranges_in_processes(self, world: World) -> None:
        keys = names("a", FLAT_ROWS_MIN)
        for start in range(0, len(keys), 2_500):
            world.put(*keys[start : start + 2_500])
        world.fold()
        stages: dict[str, int] = {}
        with processes(1) as executor:
            done = world.compact(
                asked=False, executor=executor, progress=lambda stage, _, total: stages.update({stage: total})
            )
        assert done is not None
        assert stages[Stage.ASSIGN] == 3
        world.check()


class TestBesideOthers:
    """`at` a stage's last word something else happens to the index."""

    @staticmethod
    def when(stage: str, action: Callable[[], object]) -> Callable[[str, int, int], None]:
        happened: list[str] = []

        def progress(now: str, done: int, total: int) -> None:
            if now == stage and done == total and not happened:
                happened.append(now)
                action()

        return progress

    @pytest.mark.parametrize("stage", ["gather", Stage.WRITE, "upload"])
    def test_a_fold_takes_the_inputs_away_and_leaves_no_tombstone(self, world: World, stage: str) -> None:
        """Nothing is compacted yet, so the fold drops the tombstone: the new segment must not bring the row back."""
        world.put(*names("a", 50))
        world.fold()

        def meanwhile() -> None:
            world.delete("a1")
            world.put("a2", *names("b", 30))
            world.fold()
            assert [info.deleted for info in world.manifest.segments] == [0]

        assert world.compact(progress=self.when(stage, meanwhile)) is not None
        world.check()
        world.compact()
        world.check()

    @pytest.mark.parametrize("stage", ["gather", "upload"])
    def test_a_fold_that_leaves_the_inputs(self, world: World, stage: str) -> None:
        world.put(*names("a", 300))
        world.fold()

        def meanwhile() -> None:
            world.delete("a1")
            world.put("a2", "new")
            world.fold()
            assert len(world.manifest.segments) == 2

        assert world.compact(progress=self.when(stage, meanwhile)) is not None
        assert len(world.manifest.segments) == 1
        world.check()

    @pytest.mark.parametrize("stage", ["gather", Stage.WRITE, "upload"])
    def test_another_compaction_wins(self, world: World, stage: str) -> None:
        world.put(*names("a", 300))
        world.fold()
        world.compact()
        world.put(*names("a", 10), *names("b", 10))
        world.delete("a11")
        world.fold()
        won: list[Compaction | None] = []
        lost = world.compact("one", progress=self.when(stage, lambda: won.append(world.compact("two"))))
        assert won[0] is not None
        assert lost is None
        world.check()
        assert not files(world.folder)

    def test_another_compaction_wins_and_more_is_to_do(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()

        def meanwhile() -> None:
            world.compact("two")
            world.put("a1", *names("b", 60))
            world.delete("a2")
            world.fold()

        assert world.compact("one", progress=self.when("upload", meanwhile)) is not None
        assert not world.manifest.segments
        world.check()

    def test_another_process_of_this_machine_leaves_it_alone(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        beside: list[Compaction | None] = []
        assert world.compact(progress=self.when("gather", lambda: beside.append(world.compact()))) is not None
        assert beside == [None]
        world.check()

    def test_the_index_is_dropped(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        with pytest.raises(IndexNotFound):
            world.compact(progress=self.when("upload", lambda: world.database.delete_index("b", "i")))
        assert not files(world.folder)

    def test_the_index_is_made_anew(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()

        def meanwhile() -> None:
            world.database.delete_index("b", "i")
            config = IndexConfig(DIMENSION, Metric.COSINE, None, Encryption())
            world.database.create_index("b", "i", config, {}, quota=9)
            world.rows.clear()

        with pytest.raises(IndexNotFound):
            world.compact(progress=self.when("upload", meanwhile))
        world.check()

    @pytest.mark.parametrize("what", ["fold", "compact", "both"])
    def test_between_any_two_requests(self, world: World, what: str) -> None:
        """Writes, and a fold or a compaction of them, at one place after the other."""
        world.put(*names("a", 40))
        world.fold()
        world.compact()
        world.put("a1", "a2", *names("b", 5))
        world.delete("a3")
        world.fold()
        start, rows, place, happened = world.objects.copy(), dict(world.rows), 0, True
        while happened:
            world.objects, world.rows = start.copy(), dict(rows)
            world.database, happened = world.process(), False

            def meanwhile() -> None:
                world.delete("a1", "a4", "b1")
                world.put("a2", "a5", "b2", *names("c", 3))
                if what != "compact":
                    world.fold()
                if what != "fold":
                    world.compact("other")

            interrupted = Interrupted(MemoryStore(world.objects), place, meanwhile)
            world.compact(str(place), store=interrupted)
            happened = interrupted.happened
            world.check()
            world.fold()
            world.compact()
            world.check()
            place += 5
        assert place > 20

    def test_a_damaged_input_is_named_and_nothing_changes(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        before = world.manifest
        key = paths.flat_segment(world.state.uid, before.segments[0].name)
        found = world.objects.apply(Get(key))
        body: bytes = getattr(found, "body", b"")
        world.objects.apply(Put(key, body[:-9] + b"?" + body[-8:]))
        with pytest.raises(ObjectCorrupt, match=before.segments[0].name):
            world.compact()
        world.objects.apply(Put(key, body))
        assert world.manifest == before
        assert world.compact() is not None
        world.check()


class Interrupted:
    """A store to whose user something happens before its request number `place`."""

    def __init__(self, store: Store, place: int, action: Callable[[], None]) -> None:
        self.happened = False
        self._store, self._left, self._action = store, place, action

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        self._left -= 1
        if self._left < 0 and not self.happened:
            self.happened = True
            self._action()
        return self._store.wave(requests)
