"""What operations cost: waves and requests as exact numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neve.errors import IndexNotFound
from neve.index import paths
from neve.index.consistency import Consistency
from neve.index.entry import Write
from neve.index.records import encode_created
from neve.index.state import State
from neve.segments.rows import Puts
from neve.store.port import Delete, PutNew
from tests.cost.world import DIMENSION, Process, World, vectors
from tests.reading import nearest_keys

PROBES = ("Get", "Get", "Get")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def warm(world: World) -> Process:
    world.first.put(["a"])
    world.first.waves()
    return world.first


def test_warm_strong_read_is_one_wave_of_three_small_gets(warm: Process) -> None:
    warm.index.read()
    assert warm.waves() == [PROBES]


def test_warm_write_is_one_wave_of_one_put_and_two_gets(warm: Process) -> None:
    warm.put(["b", "c"])
    assert warm.waves() == [("PutNew", "Get", "Get")]


def test_read_within_its_bound_asks_nothing(warm: Process) -> None:
    warm.index.read(Consistency(bounded_s=60))
    assert warm.waves() == []


def test_read_after_anothers_write_is_two_waves(world: World, warm: Process) -> None:
    other = world.process()
    other.put(["b"])
    assert warm.index.read().live_rows == 2
    assert warm.waves() == [PROBES, ("List", *["Get"] * 7)]


def test_lost_race_takes_the_next_number_beside_reading_the_winner(world: World, warm: Process) -> None:
    world.process().put(["b"])
    warm.put(["c"])
    assert warm.waves() == [("PutNew", "Get", "Get"), ("PutNew", "Get", "Get", "Get")]
    assert world.process().index.read().live_rows == 3


def test_two_losses_are_followed_by_a_look_at_the_head(world: World, warm: Process) -> None:
    other = world.process()
    other.put(["b"])
    other.put(["c"])
    warm.put(["d"])
    waves = warm.waves()
    assert waves[:2] == [("PutNew", "Get", "Get"), ("PutNew", "Get", "Get", "Get")]
    assert waves[2:] == [PROBES, ("List", *["Get"] * 7), ("PutNew", "Get", "Get")]


def test_a_write_made_from_a_state_reads_first(world: World, warm: Process) -> None:
    rows = Puts(["a"], vectors(["a"]), [b"{}"])
    warm.index.rewrite(lambda _: Write(rows))
    assert warm.waves() == [PROBES, ("PutNew", "Get", "Get")]
    others = [world.process()]

    def late(_: State) -> Write:
        if others:
            others.pop().put(["b"])
        return Write(rows)

    warm.index.rewrite(late)
    lost = [PROBES, ("PutNew", "Get", "Get")]
    assert warm.waves() == [*lost, PROBES, ("List", *["Get"] * 7), ("PutNew", "Get", "Get")]


def test_cold_open_without_a_hint(world: World) -> None:
    """Catalog beside hint, its record, LIST of the data, the tail: one wave more than with a hint."""
    world.first.put(["a"])
    world.objects.wave([Delete((paths.hint("library", "books"),))])
    cold = world.process()
    assert cold.index.read().live_rows == 1
    assert cold.waves() == [("List", "Get"), ("Get",), ("List", "List"), ("Get", "Get")]


def test_cold_open_of_a_young_index_is_three_waves(world: World) -> None:
    world.first.put(["a"])
    cold = world.process()
    assert cold.index.read().live_rows == 1
    assert cold.waves() == [("List", "Get"), ("List",), ("Get", "Get")]


def test_cold_open_with_a_hint_is_three_waves(world: World) -> None:
    for key in range(63):
        world.first.put([str(key)])
    world.first.settle()
    for key in range(63, 69):
        world.first.put([str(key)])
    cold = world.process()
    assert cold.index.read().live_rows == 69
    assert cold.waves() == [("List", "Get"), ("List", "Get"), ("Get",) * 6]


def test_absence_is_asked_anew_each_time(world: World) -> None:
    process = world.process()
    for _ in range(2):
        with pytest.raises(IndexNotFound):
            process.database.index("library", "none").read()
    assert process.waves() == [("List", "Get")] * 2


def test_delete_index_is_a_log_entry_and_a_catalog_record(warm: Process) -> None:
    warm.database.delete_index("library", "books")
    assert warm.waves() == [("PutNew", "Get", "Get"), ("PutNew",)]


def test_listing_neither_shows_nor_ends_an_announcement(world: World) -> None:
    """An index that its creator has announced and not opened: who lists only reads, who creates ends it."""
    announced = replace(world.first.index.read().record, name="maps", uid="0" * 32)
    key = paths.catalog_record("library", "maps", 1)
    world.objects.wave([PutNew(key, encode_created(announced, "1" * 32))])
    process = world.process()
    assert [record.name for record in process.database.list_indexes("library", "", "", 10)[0]] == ["books"]
    assert not any(verb in ("PutNew", "Put", "Delete") for wave in process.waves() for verb in wave)
    made = process.database.create_index("library", "maps", announced.config, {}, quota=10)
    assert made.seq == 3
    assert [record.name for record in process.database.list_indexes("library", "", "", 10)[0]] == ["books", "maps"]


def test_readers_at_once_share_waves(warm: Process) -> None:
    """Ten threads that arrive while a wave is under way share the next one: three waves at most, not ten."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    gate = Barrier(10)

    def read() -> int:
        gate.wait()
        return warm.index.read().live_rows

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda _: read(), range(10))) == [1] * 10
    waves = warm.waves()
    assert set(waves) == {PROBES}
    assert 1 <= len(waves) <= 10


def test_opening_is_bounded_by_the_rows_and_not_by_the_history(world: World) -> None:
    """50,000 puts of one vector each, over 20,000 keys: what a new process needs to open the index and answer."""
    puts, keys = 50_000, 20_000
    for number in range(puts):
        world.first.put([f"k{number * 7919 % keys}"])
    world.first.settle()
    cold = world.process()
    state = cold.index.read()
    assert state.live_rows == keys
    assert len(state.tail) <= 64
    assert len(state.segments) <= keys / 2_500 + 8
    assert len(nearest_keys(cold.database, state, np.ones(DIMENSION, np.float32), 10)) == 10
    bill = cold.store.new_bill()
    assert len(bill.waves) <= 3
    assert bill.requests <= 4 + len(state.tail) + len(state.segments)
    assert state.digest() == world.first.index.read().digest()
