"""A strong read is at work on what is known while a wave confirms it, and again where it was not so any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from neve.errors import IndexNotFound
from neve.index.database import Database
from neve.index.index import Index
from neve.index.state import State
from neve.runtime import SystemRuntime
from neve.store.port import Reply, Request, Store
from neve.testing.objects import MemoryStore
from tests.unit.compact_world import World

WAIT_S = 60


class Gate:
    """A store whose waves wait until `passed` is set."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.passed = threading.Event()
        self.passed.set()

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        assert self.passed.wait(WAIT_S)
        return self._store.wave(requests)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.put("first")
    return world


@pytest.fixture
def gate(world: World) -> Gate:
    return Gate(MemoryStore(world.objects))


@pytest.fixture
def reader(gate: Gate) -> Iterator[Index]:
    runtime = SystemRuntime()
    index = Database.open(gate, runtime).index("b", "i")
    index.read()
    yield index
    runtime.close()


def noting(seen: list[int], gate: Gate) -> Callable[[State], int]:
    """Takes down the rows of the states that it is given, and lets the store answer once it was given one."""

    def use(state: State) -> int:
        seen.append(state.live_rows)
        gate.passed.set()
        return state.live_rows

    return use


def test_the_wave_that_confirms_is_not_waited_for(reader: Index, gate: Gate) -> None:
    gate.passed.clear()
    seen: list[int] = []
    assert reader.read_with(noting(seen, gate)) == 1
    assert seen == [1]


def test_what_was_written_meanwhile_is_seen(world: World, reader: Index, gate: Gate) -> None:
    world.put("second")
    gate.passed.clear()
    seen: list[int] = []
    assert reader.read_with(noting(seen, gate)) == 2
    assert seen == [1, 2]


def test_after_news_nothing_is_guessed_until_a_quiet_wave(world: World, reader: Index, gate: Gate) -> None:
    seen: list[int] = []
    for key in ("second", "third", "fourth"):
        world.put(key)
        if key == "second":
            gate.passed.clear()  # only who guesses opens it
        reader.read_with(noting(seen, gate))
    assert seen == [1, 2, 3, 4]
    reader.read_with(noting(seen, gate))
    gate.passed.clear()
    reader.read_with(noting(seen, gate))
    assert seen == [1, 2, 3, 4, 4, 4]


def test_an_error_of_a_guess_counts_only_if_it_was_right(world: World, reader: Index) -> None:
    def only_two(state: State) -> int:
        if state.live_rows != 2:
            raise LookupError(state.live_rows)
        return state.live_rows

    with pytest.raises(LookupError):
        reader.read_with(only_two)
    world.put("second")
    assert reader.read_with(only_two) == 2


def test_a_guess_does_not_outlive_the_index(world: World, reader: Index) -> None:
    world.database.delete_index("b", "i")
    with pytest.raises(IndexNotFound):
        reader.read_with(lambda state: state.live_rows)


def test_a_closed_runtime_still_reads(world: World, gate: Gate) -> None:
    runtime = SystemRuntime()
    index = Database.open(gate, runtime).index("b", "i")
    index.read()
    runtime.close()
    assert index.read_with(lambda state: state.live_rows) == 1
