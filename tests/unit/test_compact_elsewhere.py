"""Compaction whose work is done by others, who find the store by themselves: as one here, in several segments."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.compaction import compact_elsewhere as elsewhere
from neve.compaction.build import Means
from neve.compaction.compact import Compaction
from neve.compaction.compact_elsewhere import compact_elsewhere
from neve.compaction.elsewhere import Elsewhere
from neve.compaction.executors import Inline
from neve.compaction.jobs import begun_jobs
from neve.compaction.scatter import Stage, Task
from neve.errors import IndexNotFound, StoreUnfit
from neve.index import paths
from neve.index.chain import list_all
from neve.index.entry import Write
from neve.segments.rows import Puts
from neve.store.connect import connect
from neve.store.port import Delete, Store
from neve.vectors.metric import Metric
from tests.unit.compact_world import DIMENSION, Killed, World, names
from tests.unit.test_compact_killed import STEPS

SEGMENT_ROWS = 120


class Afar(World):
    """A world in a folder, compacted by workers that are handed its URL."""

    @property
    def url(self) -> str:
        return (self.folder / "store").as_uri()

    @property
    def store(self) -> Store:
        return connect(self.url)

    def compact(self, machine: str = "here", **options: Any) -> Compaction | None:
        executor = options.pop("executor", None) or Workers()
        progress = options.pop("progress", lambda _stage, _done, _total: None)
        elsewhere = Elsewhere(options.pop("url", self.url), options.pop("segment_rows", SEGMENT_ROWS))
        means = Means(self.folder / machine, executor=executor, progress=progress)
        return compact_elsewhere(self.process(), "b", "i", means, elsewhere, **{"asked": True, **options})

    def check(self) -> None:
        super().check()
        assert not list(list_all(self.store, paths.work_folder(self.state.uid))), "no job's folder stays"
        assert not [path for path in (self.folder / "cache").rglob("*") if path.is_file()], "no scratch stays"

    def shape(self) -> list[tuple[int, int]]:
        return sorted((info.rows, info.mask.count) for info in self.manifest.compacted)


class Workers(Inline):
    """Does tasks at once, each `times` over; the whole job is killed at task number `last`."""

    def __init__(self, last: int = 10**9, times: int = 1) -> None:
        self.done: list[Task] = []
        self._last, self._times = last, times

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if len(self.done) == self._last:
            raise Killed
        self.done.append(Task.decode(args[0]))
        for _ in range(self._times - 1):
            super().submit(fn, *args, **kwargs).result()
        return super().submit(fn, *args, **kwargs)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Afar:
    monkeypatch.setenv("NEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(elsewhere, "GROUP_BYTES", 100 * 4 * DIMENSION)
    return Afar(tmp_path)


def when(stage: str, action: Callable[[], object]) -> Callable[[str, int, int], None]:
    """At a stage's last word something else happens."""
    happened: list[str] = []

    def progress(now: str, done: int, total: int) -> None:
        if now == stage and done == total and not happened:
            happened.append(now)
            action()

    return progress


class TestOutcome:
    @pytest.mark.parametrize("metric", list(Metric))
    @pytest.mark.parametrize("segments", [1, 3])
    def test_what_was_put_is_in_segments_of_neighbours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: Metric, segments: int
    ) -> None:
        monkeypatch.setenv("NEVE_CACHE", str(tmp_path / "cache"))
        world = Afar(tmp_path, metric)
        world.put(*names("a", 200))
        world.fold()
        world.put(*names("b", 150), "a7")
        world.delete("a8", "b9", "nobody")
        world.fold()
        done = world.compact(segment_rows=-(-348 // segments))
        assert done is not None
        assert (done.rows, done.flat_rows) == (348, 348)
        assert not world.manifest.segments
        rows = [info.rows for info in world.manifest.compacted]
        assert (len(rows), sum(rows)) == (segments, 348)
        assert max(rows) <= 2 * 348 / segments
        world.check()

    def test_it_masks_what_stays_and_merges_what_is_small(self, world: Afar) -> None:
        world.put(*names("a", 400))
        world.fold()
        world.compact()
        before = world.shape()
        assert len(before) == 4
        world.put("a3", "a4", *names("b", 5))
        world.delete("a5", "b1", "nobody")
        world.fold()
        assert world.compact() is not None
        assert sum(masked for _, masked in world.shape()) == 3
        world.check()
        for number in range(3):
            world.put(*names(f"c{number}/", 60), "again", "a1")
            world.delete("a9", f"c{number}/3")
            world.fold()
            assert world.compact() is not None
            world.check()

    def test_a_full_one_leaves_as_few_as_can_be(self, world: Afar) -> None:
        world.put(*names("a", 400))
        world.fold()
        world.compact()
        world.put("a3")
        world.fold()
        assert world.compact(full=True) is not None
        assert [masked for _, masked in world.shape()] == [0] * 4
        world.check()
        assert world.compact(full=True) is None
        assert world.compact(full=True, segment_rows=400) is not None
        assert world.shape() == [(400, 0)]
        world.check()

    def test_nothing_is_left_of_an_index_whose_rows_are_all_deleted(self, world: Afar) -> None:
        world.put(*names("a", 300))
        world.compact()
        world.delete(*names("a", 300))
        done = world.compact()
        assert done is not None
        assert done.rows == 0
        assert not list(world.manifest.folders)
        world.check()

    def test_rows_that_are_alike(self, world: Afar) -> None:
        """Centroids on one spot: a partition may stay empty."""
        keys, vectors = names("a", 300), np.ones((300, 4), np.float32)
        world.index.write(lambda _: Write(Puts(keys, vectors, [b"{}"] * 300)))
        world.rows |= dict.fromkeys(keys, (vectors[0].tobytes(), b"{}"))
        assert world.compact() is not None
        world.check()

    def test_an_index_that_is_not_there(self, world: Afar) -> None:
        with pytest.raises(IndexNotFound):
            compact_elsewhere(world.database, "b", "j", Means(world.folder), Elsewhere(world.url))

    def test_workers_that_see_another_store(self, world: Afar) -> None:
        world.put(*names("a", 300))
        other = world.folder / "other"
        with pytest.raises(StoreUnfit, match=r"no store at .* workers have to reach the one"):
            world.compact(url=(other / "store").as_uri())
        with pytest.raises(StoreUnfit, match="another store here: workers have to reach the one"):
            world.compact(url=Afar(other, versions=99).url)
        assert world.compact() is not None
        world.check()

    def test_tasks_that_are_done_twice(self, world: Afar) -> None:
        world.put(*names("a", 300))
        assert world.compact(executor=Workers(times=2)) is not None
        world.check()


class TestBesideOthers:
    @pytest.mark.parametrize("stage", [Stage.SAMPLE, Stage.PARTITION, Stage.BUILD, "upload"])
    def test_a_fold_takes_inputs_away(self, world: Afar, stage: str) -> None:
        world.put(*names("a", 300))
        world.fold()

        def meanwhile() -> None:
            world.delete("a1")
            world.put("a2", *names("b", 90))
            world.fold()
            assert [info.rows for info in world.manifest.segments] == [389]

        assert world.compact(progress=when(stage, meanwhile)) is not None
        assert world.manifest.segments
        world.check()
        assert world.compact() is not None
        world.check()

    @pytest.mark.parametrize("stage", [Stage.PARTITION, "upload"])
    def test_a_fold_beside_inputs_that_stay(self, world: Afar, stage: str) -> None:
        world.put(*names("a", 300))
        world.fold()

        def meanwhile() -> None:
            world.delete("a1")
            world.put("a2", "new")
            world.fold()

        assert world.compact(progress=when(stage, meanwhile)) is not None
        assert len(world.manifest.segments) == 1
        world.check()

    @pytest.mark.parametrize("stage", [Stage.SAMPLE, Stage.BUILD, "upload"])
    def test_another_compaction_wins(self, world: Afar, stage: str) -> None:
        world.put(*names("a", 300))
        won: list[Compaction | None] = []
        lost = world.compact(progress=when(stage, lambda: won.append(World.compact(world, "two"))))
        assert won[0] is not None
        assert lost is None
        world.check()

    @pytest.mark.parametrize("stage", [Stage.SAMPLE, Stage.TRAIN, Stage.PARTITION, Stage.BUILD])
    def test_its_folder_is_deleted(self, world: Afar, stage: str) -> None:
        """As the collector does with what nobody has touched for a day; it begins anew."""
        world.put(*names("a", 300))
        uid = world.state.uid

        def meanwhile() -> None:
            keys = [entry.key for entry in list_all(world.store, paths.work_folder(uid))]
            world.store.wave([Delete(tuple(keys))])

        assert world.compact(progress=when(stage, meanwhile)) is not None
        world.check()

    def test_the_index_is_dropped(self, world: Afar) -> None:
        world.put(*names("a", 300))
        uid = world.state.uid
        with pytest.raises(IndexNotFound):
            world.compact(progress=when("upload", lambda: world.database.delete_index("b", "i")))
        assert not list(list_all(world.store, paths.work_folder(uid)))


class TestKilled:
    def test_goes_on_where_it_was(self, world: Afar) -> None:
        world.put(*names("a", 300))
        world.fold()
        for stage in (Stage.SAMPLE, Stage.TRAIN, Stage.PARTITION, Stage.BUILD, Stage.BUILD):
            workers = Workers(1)
            with pytest.raises(Killed):
                world.compact(executor=workers)
            assert [task.stage for task in workers.done] == [stage]
            world.put("new")  # to the tail
            assert len(begun_jobs(world.store, world.state.uid)) == 1
        workers = Workers()
        assert world.compact(executor=workers) is not None
        assert [task.stage for task in workers.done] == [Stage.BUILD]
        world.check()

    @pytest.mark.parametrize("last", range(6))
    def test_starts_anew_when_others_have_compacted_since(self, world: Afar, last: int) -> None:
        world.put(*names("a", 300))
        with pytest.raises(Killed):
            world.compact(executor=Workers(last))
        World.compact(world, "elsewhere")
        world.delete("a1")
        world.put("a2", *names("b", 200))
        assert world.compact() is not None
        world.check()

    def test_goes_on_when_inputs_were_folded_away_since(self, world: Afar) -> None:
        world.put(*names("a", 300))
        world.fold()
        with pytest.raises(Killed):
            world.compact(executor=Workers(4))
        world.delete("a1")
        world.put("a2", *names("b", 90))
        world.fold()
        workers = Workers()
        assert world.compact(executor=workers) is not None
        assert {task.stage for task in workers.done} == {Stage.BUILD}
        world.check()


@settings(deadline=None, max_examples=10)
@given(st.lists(STEPS, max_size=10))
def test_any_history_holds_what_a_dict_would(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEVE_CACHE", str(folder / "cache"))
        world = Afar(folder)
        for step, keys in steps:
            match step:
                case "put":
                    world.put(*keys)
                case "delete":
                    world.delete(*keys)
                case "fold":
                    world.fold()
                case _:
                    world.compact(full=step == "full", segment_rows=5)
            world.check()
