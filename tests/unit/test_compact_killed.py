"""A compaction that is killed goes on where it was, or starts anew; and any history holds what a dict would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.compaction.tasks import Stage
from neve.store.port import Get, Request
from neve.testing.faults import Crash, Fate, FaultStore
from neve.testing.objects import MemoryStore
from tests.unit.compact_world import (
    Killed,
    Mortal,
    World,
    files,
    names,
)


class TestKilled:
    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize("stage", list(Stage))
    def test_goes_on_where_it_was(self, world: World, stage: Stage, after: bool) -> None:
        world.put(*names("a", 60))
        world.fold()
        with pytest.raises(Killed):
            world.compact(executor=Mortal(stage, after=after))
        world.put("a1", "new")  # to the tail
        watched = FaultStore(MemoryStore(world.objects), lambda _place, _request: Fate.SERVED)
        executor = Mortal()
        assert world.compact(store=watched, executor=executor) is not None
        assert executor.ran == list(Stage)[list(Stage).index(stage) + after :]
        gathered = [r for r in watched.requests if isinstance(r, Get) and r.key.endswith("/flat")]
        assert not gathered
        assert not files(world.folder)
        world.check()

    def test_starts_anew_when_others_have_compacted_since(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        with pytest.raises(Killed):
            world.compact(executor=Mortal(Stage.WRITE, after=True))
        world.compact("elsewhere")
        world.delete("a1")
        world.put("a2", *names("b", 60))
        world.fold()
        executor = Mortal()
        assert world.compact(executor=executor) is not None
        assert executor.ran == list(Stage)
        assert not files(world.folder)
        world.check()

    def test_has_nothing_to_do_when_others_have_done_it(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        with pytest.raises(Killed):
            world.compact(executor=Mortal(Stage.WRITE))
        world.compact("elsewhere")
        assert world.compact() is None
        assert not files(world.folder)
        world.check()

    def test_is_not_enough_when_more_is_asked(self, world: World) -> None:
        world.put(*names("a", 300))
        world.fold()
        world.compact()
        world.put("a1")
        world.fold()
        with pytest.raises(Killed):
            world.compact(executor=Mortal(Stage.WRITE))
        assert world.compact(full=True) is not None
        assert [(info.rows, info.mask.count) for info in world.manifest.compacted] == [(300, 0)]
        world.check()

    def test_half_an_input_does_not_count(self, world: World) -> None:
        """Killed while it appends what it has gathered, before it says so."""
        for prefix in "abc":
            world.put(*names(prefix, 40))
            world.fold()
        with pytest.raises(Killed):
            world.compact(executor=Mortal(Stage.SELECT))
        vectors = next(world.folder.rglob("vectors"))
        vectors.write_bytes(vectors.read_bytes() + b"more")
        (vectors.parent / ".half.1").mkdir()
        assert world.compact() is not None
        world.check()

    def test_after_every_request(self, world: World) -> None:
        """The index is right after each, and the next compaction goes on or starts anew."""
        world.put(*names("a", 60))
        world.fold()
        world.compact()
        world.put("a1", *names("b", 5))
        world.delete("a2")
        world.fold()
        start, place, crashed = world.objects.copy(), 0, True
        while crashed:
            world.objects = start.copy()
            store = FaultStore(MemoryStore(world.objects), crash_at(place))
            try:
                world.compact(str(place), store=store)
            except Crash:
                world.check()
                world.compact(str(place))
            crashed = store.crashed
            assert not world.manifest.segments
            world.check()
            place += 1
        assert place > 20


def crash_at(place: int) -> Callable[[int, Request], Fate]:
    return lambda number, _request: Fate.CRASH_AFTER if number == place else Fate.SERVED


KEYS = st.lists(st.sampled_from(names("k", 12)), min_size=1, max_size=6, unique=True)
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.sampled_from(["fold", "compact", "full"]), st.just([])),
)


@settings(deadline=None, max_examples=15)
@given(st.lists(STEPS, max_size=14))
def test_any_history_holds_what_a_dict_would(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    for step, keys in steps:
        match step:
            case "put":
                world.put(*keys)
            case "delete":
                world.delete(*keys)
            case "fold":
                world.fold()
            case _:
                world.fold()
                world.compact(full=step == "full")
        world.check()
