"""Readers that go by old knowledge: right while the grace period holds, and afterwards by a fresh look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neve.compaction.collect import collect
from neve.errors import ObjectGone
from neve.index.consistency import AS_KNOWN
from neve.index.database import Database
from neve.index.state import State
from neve.query.search import Query
from neve.segments.rows import hash_key
from neve.store.port import Delete
from neve.vectors.metric import Metric
from tests.reading import everything, nearest
from tests.unit.compact_world import DIMENSION, World, names

HOUR_S = 3600
ROWS = 700
"""More than are scored one by one."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, Metric.COSINE)
    world.put(*names("k", ROWS))
    world.compact()
    return world


def asked(database: Database, state: State) -> list[str]:
    return [key for key, _, _ in nearest(database, state, Query(np.ones(DIMENSION, np.float32), 10))]


def compact_again(world: World) -> None:
    world.put("new")
    world.compact(full=True)


def collect_after(world: World, seconds: float) -> int:
    world.clock.advance(seconds)
    return collect(world.process()).segments


def test_a_state_answers_within_the_grace_period_after_a_compaction(world: World) -> None:
    reader = world.process()
    state = reader.index("b", "i").read()
    before = asked(world.process(), state)
    compact_again(world)
    assert collect_after(world, HOUR_S / 2) == 0
    assert asked(reader, state) == before
    assert len(everything(reader, state)) == ROWS


def test_who_is_too_late_looks_again(world: World) -> None:
    reader = world.process()
    index = reader.index("b", "i")
    old = index.read()
    compact_again(world)
    assert collect_after(world, HOUR_S) > 0
    with pytest.raises(ObjectGone):
        asked(reader, old)
    assert index.read(AS_KNOWN) is old
    keys = [row.key for row in index.read_with(lambda state: everything(reader, state), AS_KNOWN)]
    assert sorted(keys) == sorted([*names("k", ROWS), "new"])
    assert keys == sorted(keys, key=lambda key: hash_key(key.encode()))


def test_what_is_really_gone_is_named(world: World) -> None:
    state = world.state
    folder = state.compacted[0].directory.folder
    gone = [key for key in world.objects.all_keys(folder) if "codes.lance" in key]
    world.objects.apply(Delete(tuple(gone)))
    reader = world.process()
    with pytest.raises(ObjectGone, match=r"codes\.lance"):
        reader.index("b", "i").read_with(lambda state: asked(reader, state))
