"""One meaning of a filter: queries find the rows that a naive evaluator finds, wherever these rows lie."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neve.compaction.verify import verify
from neve.filters.parse import parse
from neve.query import matching
from neve.query.search import Query, search
from neve.query.selection import Selection, count_rows
from neve.query.session import Session
from neve.segments import writer
from neve.segments.term_writer import TermRows
from neve.store.blocks import Blocks
from neve.store.steady import SteadyStore
from neve.testing.clock import ManualRuntime
from tests.compacting import short_calibrations, workspaces
from tests.unit.compact_world import DIMENSION, World, names
from tests.unit.filter_segment import TEXTS, as_json, filters_with, small_blocks, stored, texts
from tests.unit.test_filters import naive

Document = dict[str, Any]
asked = filters_with(texts) | st.builds(
    lambda number, test: {f"own{number}": test},
    st.integers(0, 30),
    st.sampled_from([{"$exists": True}, {"$exists": False}, {"$gte": 7}, {"$ne": 3}, 5]),
)
pools = st.lists(stored, min_size=1, max_size=12)


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Small blocks, and short calibrations."""
    with small_blocks(), short_calibrations():
        yield


def metadata(pool: list[Document], keys: list[str], chance: random.Random) -> list[bytes]:
    """Of each key one of a pool, and a key that no other row has."""
    return [as_json({**chance.choice(pool), f"own{chance.randrange(30)}": chance.randrange(10)}) for _ in keys]


def tail(world: World, pool: list[Document], chance: random.Random) -> None:
    for keys in (names("k", 20), names("k", 8)):
        world.put(*keys, metadata=metadata(pool, keys, chance))
    world.delete("k0", "k19")


def flat(world: World, pool: list[Document], chance: random.Random) -> None:
    tail(world, pool, chance)
    world.fold()
    tail(world, pool, chance)
    world.fold()


def compacted(world: World, pool: list[Document], chance: random.Random) -> None:
    keys = names("k", 60)
    world.put(*keys, metadata=metadata(pool, keys, chance))
    world.compact()


def mixed(world: World, pool: list[Document], chance: random.Random) -> None:
    """Overwrites and deletes of what is compacted, compacted anew, with a flat segment and a tail above."""
    compacted(world, pool, chance)
    for step in range(3):
        keys = chance.sample(names("k", 60), 12) + names(f"n{step}-", 3)
        world.put(*keys, metadata=metadata(pool, keys, chance))
        world.delete(*chance.sample(names("k", 60), 5))
        if step < 2:
            world.compact(full=chance.random() < 0.3)
    world.fold()
    tail(world, pool, chance)


def found(world: World, document: Document, recall: float | None) -> list[str]:
    """Keys of all hits, by a process that knows nothing."""
    session = Session(SteadyStore(world.store, ManualRuntime(world.clock)), Blocks(1 << 24))
    state, condition = world.state, parse(document, (), 1000)
    vector = np.linspace(-1, 1, DIMENSION, dtype=np.float32)
    with patch.object(matching, "_remembered", matching._Remembered()):  # segments of other worlds have the same names
        hits = search(session, state, Query(vector, 200, condition, recall))
        count = count_rows(session, state, Selection(condition))
    keys = sorted(key.decode() for key, _ in hits.named(session, 0, len(hits)))
    assert hits.distances.tolist() == sorted(hits.distances.tolist())
    assert count == len(keys)
    return keys


def truth(world: World, document: Document) -> list[str]:
    return sorted(key for key, (_, raw) in world.rows.items() if naive(document, orjson.loads(raw)))


@pytest.mark.parametrize("lay", [tail, flat, compacted, mixed])
def test_finds_what_a_naive_evaluator_finds(lay: Callable[[World, list[Document], random.Random], None]) -> None:
    @settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
    @given(pools, st.lists(asked, min_size=4, max_size=8), st.randoms(use_true_random=False))
    def check(pool: list[Document], documents: list[Document], chance: random.Random) -> None:
        with workspaces() as folder:
            world = World(folder)
            lay(world, pool, chance)
            world.check()
            for document in documents:
                for recall in (None, 1.0):
                    assert found(world, document, recall) == truth(world, document), document

    check()


def test_prefixes_of_every_length(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.put(*names("k", len(TEXTS)), metadata=[as_json({"t": [text, "other"]}) for text in TEXTS])
    world.compact()
    for text in TEXTS:
        for prefix in {text, text[:-1], text + "\0", text[:45], text[:49]}:
            document = {"t": {"$startsWith": prefix}}
            assert found(world, document, None) == truth(world, document), prefix


def test_filters_that_name_more_than_memory_may_hold_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.put(*names("k", 200), metadata=[as_json({"n": [row, 400 - row], "m": row}) for row in range(200)])
    world.compact()
    document = {"$and": [{"n": {"$gte": 30}}, {"m": {"$lt": 170}}, {"n": {"$ne": 40}}]}
    whole = found(world, document, None)
    read: list[int] = []
    look = Session.look

    def looking(session: Session, wanted: Any) -> list[Any]:
        read.append(sum(want.size_bytes for want in wanted))
        return look(session, wanted)

    monkeypatch.setattr(Session, "look", looking)
    monkeypatch.setattr(matching, "TERMS_BYTES_MAX", 3000)
    assert found(world, document, None) == whole == truth(world, document)
    assert len(read) > 5
    assert max(read) <= 3000


def test_verification_finds_an_index_that_does_not_say_what_the_records_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(folder: Path, ignored: Collection[str]) -> TermRows:
        return TermRows(folder, {*ignored, "n"})

    world = World(tmp_path)
    world.put(*names("k", 60), metadata=[as_json({"n": row, "m": row}) for row in range(60)])
    with monkeypatch.context() as patched:
        patched.setattr(writer, "TermRows", forgetful)
        world.compact()
    assert found(world, {"n": 7}, None) == []
    [finding] = verify(world.process()).findings
    assert finding.invariant == "segment"
    assert "/filters has other terms than the records: b'n" in finding.detail
