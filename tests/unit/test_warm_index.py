"""WarmIndex: everything is read once, where there is room, and what it reports is so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neve.filters.parse import parse
from neve.index.state import State
from neve.query.fetch import fetch
from neve.query.search import Query, search
from neve.query.session import Session
from neve.query.warm import WarmedPart, warm
from neve.runtime import SystemRuntime
from neve.store.blocks import Blocks
from neve.store.counting import bill
from neve.store.tiers import Tiers
from tests.unit.api_calls import Calls
from tests.unit.compacted_index import ADDRESS, DIMENSION, cold, compacted_calls, rows_of, state_of

NAMES = ["codes", "keys", "filters", "vectors", "records"]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    with compacted_calls(tmp_path_factory.mktemp("work")) as calls:
        yield calls


def parts_of(session: Session, state: State) -> list[WarmedPart]:
    parts = list(warm(session, state).parts)
    assert [part.name for part in parts] == NAMES
    assert all(part.size_bytes == part.memory_bytes + part.disk_bytes + part.left_bytes for part in parts)
    return parts


def test_a_warm_index_is_asked_without_a_request(calls: Calls) -> None:
    state, blocks = state_of(calls), Blocks(1 << 30)
    parts = codes, keys, filters, vectors, records = parts_of(cold(calls, blocks), state)
    live = sum(compacted.info.live for compacted in state.compacted)
    assert (vectors.blocks, vectors.size_bytes) == (live, 4 * DIMENSION * live)
    assert records.blocks == live
    assert codes.blocks == sum(compacted.directory.lists for compacted in state.compacted)
    assert keys.blocks == sum(compacted.directory.key_blocks for compacted in state.compacted)
    assert filters.size_bytes == sum(int(compacted.directory.filters.starts[-1]) for compacted in state.compacted)
    assert sum(part.memory_bytes for part in parts) > 0
    assert sum(part.left_bytes + part.disk_bytes for part in parts) == 0
    rows = list(rows_of(calls))
    with bill() as billed:
        for query in np.random.default_rng(1).standard_normal((10, DIMENSION)).astype(np.float32):
            search(cold(calls, blocks), state, Query(query, 20))
            search(cold(calls, blocks), state, Query(query, 20, parse({"version": {"$lte": 1}}, (), 9)))
        assert len(fetch(cold(calls, blocks), state, rows)) == len(rows)
    assert billed.requests == 0


def test_what_is_there_is_not_read_again(calls: Calls) -> None:
    state, blocks = state_of(calls), Blocks(1 << 30)
    first = parts_of(cold(calls, blocks), state)
    with bill() as billed:
        assert parts_of(cold(calls, blocks), state) == first
    assert billed.requests == 0


def test_a_small_memory_holds_what_comes_first_and_no_more(calls: Calls) -> None:
    state = state_of(calls)
    whole = Blocks(1 << 30)
    warm(cold(calls, whole), state)
    blocks = Blocks(whole.memory_bytes // 3)
    codes, _, _, vectors, records = parts_of(cold(calls, blocks), state)
    assert codes.memory_bytes == codes.size_bytes
    assert 0 < vectors.memory_bytes < vectors.size_bytes
    assert records.memory_bytes == 0
    assert blocks.memory_bytes <= blocks.memory_bytes_max
    with bill() as billed:  # nothing was pushed out again
        assert parts_of(cold(calls, blocks), state)[0] == codes
    assert billed.requests == 0


def test_a_disk_serves_the_next_process(calls: Calls, tmp_path: Path) -> None:
    state, runtime = state_of(calls), SystemRuntime()
    tiers = Tiers(0, str(tmp_path), 256 << 20)
    filled = tiers.open(runtime)
    parts = parts_of(cold(calls, filled), state)
    assert all(part.disk_bytes == part.size_bytes for part in parts)
    filled.close()
    other = Tiers(1 << 30, str(tmp_path), 256 << 20).open(runtime)
    with bill() as billed:
        search(cold(calls, other), state, Query(np.ones(DIMENSION, np.float32), 20))
        assert all(part.memory_bytes == part.size_bytes for part in parts_of(cold(calls, other), state))
    assert billed.requests == 0
    other.close()
    runtime.close()


def test_a_small_disk_holds_what_comes_first(calls: Calls, tmp_path: Path) -> None:
    state, runtime = state_of(calls), SystemRuntime()
    sizes = [part.size_bytes for part in parts_of(cold(calls), state)]
    room = sum(sizes[:3]) + sizes[3] // 2
    blocks = Tiers(0, str(tmp_path), int(room / 0.9)).open(runtime)
    parts = codes, keys, filters, vectors, _ = parts_of(cold(calls, blocks), state)
    assert (codes.left_bytes, keys.left_bytes, filters.left_bytes) == (0, 0, 0)
    assert 0 < vectors.disk_bytes < vectors.size_bytes
    assert sum(part.disk_bytes for part in parts) <= room
    blocks.close()
    runtime.close()


def test_the_operation_reports_each_part(calls: Calls) -> None:
    answer = calls("WarmIndex", **ADDRESS)
    assert [part["part"] for part in answer["parts"]] == NAMES
    assert {name for part in answer["parts"] for name in part} == {
        *("part", "blocks", "bytes", "memoryBytes", "diskBytes", "leftBytes")
    }
    assert all(part["memoryBytes"] == part["bytes"] > 0 for part in answer["parts"])
