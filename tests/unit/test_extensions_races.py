"""Writes that are made of a state, while others write: nothing that others did is undone, nothing is done twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson
import pytest

from neve.api import selections
from neve.errors import NeveError, OutcomeUnknown
from neve.index import fold
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.records import Encryption, IndexConfig
from neve.index.state import State
from neve.query.fetch import fetch
from neve.segments.rows import Puts
from neve.store.port import PutNew, Reply, Request, Store
from neve.testing.faults import CALM, ROUGH
from neve.testing.objects import MemoryStore, Objects
from neve.testing.simulation import Process, Simulation
from neve.vectors.metric import Metric
from tests.reading import session
from tests.unit.api_calls import Calls, calls_on

ADDRESS = {"vectorBucketName": "library", "indexName": "books"}


class Interrupted:
    """A store that lets something happen right before the next entry of a log is created."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.meanwhile: list[Callable[[], object]] = []

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        if self.meanwhile and any(isinstance(request, PutNew) and "/log/" in request.key for request in requests):
            self.meanwhile.pop(0)()
        return self._store.wave(requests)


class Two:
    """A process whose writes are interrupted, and another one, on one store."""

    def __init__(self) -> None:
        objects = Objects()
        self.store = Interrupted(MemoryStore(objects))
        self.one, self.other = calls_on(store=self.store), calls_on(store=MemoryStore(objects))
        self.one("CreateVectorBucket", vectorBucketName="library")
        self.create()

    def create(self) -> None:
        self.other("CreateIndex", **ADDRESS, dataType="float32", dimension=2, distanceMetric="euclidean")

    def put(self, key: str, vector: list[float], **metadata: object) -> None:
        self.other("PutVectors", **ADDRESS, vectors=[{"key": key, "data": {"float32": vector}, "metadata": metadata}])

    def rows(self) -> dict[str, tuple[list[float], dict[str, Any]]]:
        listed = self.other("ListVectors", **ADDRESS, returnData=True, returnMetadata=True)["vectors"]
        return {row["key"]: (row["data"]["float32"], row["metadata"]) for row in listed}

    def interrupt(self, *meanwhile: Callable[[], object]) -> None:
        self.one("GetIndex", **ADDRESS)
        self.store.meanwhile = list(meanwhile)


@pytest.fixture
def two() -> Iterator[Two]:
    pair = Two()
    yield pair
    assert not pair.store.meanwhile
    for calls in (pair.one, pair.other):
        calls.service.database.close()


def test_a_patch_is_made_of_the_version_that_it_replaces(two: Two) -> None:
    two.put("a", [1, 1], x=1, gone=1)
    two.interrupt(lambda: two.put("a", [2, 2], y=1, gone=1), lambda: two.put("b", [0, 0]), lambda: two.put("a", [3, 3]))
    two.one("PatchMetadata", **ADDRESS, vectors=[{"key": "a", "metadata": {"z": 1, "gone": None}}])
    assert two.rows() == {"a": ([3, 3], {"z": 1}), "b": ([0, 0], {})}


def test_a_patch_of_what_is_deleted_meanwhile_is_refused_whole(two: Two) -> None:
    two.put("a", [1, 1])
    two.put("b", [1, 1])
    two.interrupt(lambda: two.other("DeleteVectors", **ADDRESS, keys=["b"]))
    patches = [{"key": key, "metadata": {"z": 1}} for key in "ab"]
    found = two.one.refused("PatchMetadata", {**ADDRESS, "vectors": patches})
    assert found.message == "Invalid record for key 'b': the index has no vector with this key"
    assert two.rows() == {"a": ([1, 1], {})}


def test_what_no_longer_matches_is_not_deleted(two: Two) -> None:
    for key in "abc":
        two.put(key, [1, 1], old=True)
    two.interrupt(
        lambda: two.put("a", [2, 2], old=False),
        lambda: two.put("b", [2, 2], old=True),
        lambda: two.put("new", [2, 2], old=True),
    )
    assert two.one("DeleteVectorsByFilter", **ADDRESS, filter={"old": True}) == {"deleted": 2}
    assert two.rows() == {"a": ([2, 2], {"old": False}), "new": ([2, 2], {"old": True})}


def test_what_is_put_meanwhile_moves_no_row_out_of_its_batch(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selections, "DELETED_AT_ONCE", 3)
    first = [f"a{number}" for number in range(10)]
    for key in first:
        two.put(key, [1, 1], old=True)

    def more(number: int) -> None:
        for place in range(10):
            two.put(f"b{number}{place}", [1, 1], old=place > 0)
        two.put(f"a{number}", [1, 1], old=False)

    two.interrupt(*(lambda number=number: more(number) for number in range(4)))
    deleted = two.one("DeleteVectorsByFilter", **ADDRESS, filter={"old": True})["deleted"]
    left = two.rows()
    assert not [key for key in first if key in left and left[key][1]["old"]], "what matched throughout"
    assert {f"b{number}0" for number in range(4)} < set(left), "what never matched"
    assert len(left) == 10 + 40 - deleted


def test_what_was_deleted_by_another_is_not_counted_and_not_written(two: Two) -> None:
    two.put("a", [1, 1], old=True)
    two.interrupt(lambda: two.other("DeleteVectors", **ADDRESS, keys=["a"]))
    assert two.one("DeleteVectorsByFilter", **ADDRESS, filter={"old": True}) == {"deleted": 0}
    state = two.other.service.database.index("library", "books").read()
    assert [len(entry.batch.deleted) for entry in state.tail] == [0, 0, 1]


def test_an_index_that_takes_the_name_meanwhile_is_left_alone(two: Two) -> None:
    two.put("a", [1, 1], old=True)

    def again() -> None:
        two.other("DeleteIndex", **ADDRESS)
        two.create()
        two.put("a", [2, 2], old=True)

    two.interrupt(again)
    found = two.one.refused("DeleteVectorsByFilter", {**ADDRESS, "filter": {"old": True}})
    assert (found.code, found.message) == ("NotFoundException", "The specified index could not be found")
    assert two.rows() == {"a": ([2, 2], {"old": True})}


def test_a_patch_that_waits_in_a_group_is_made_of_the_state_before_it(two: Two) -> None:
    """Four threads of a process, on shared keys, with plain writes between them."""
    two.put("a", [1, 1])
    two.put("b", [1, 1])

    def write(number: int) -> None:
        key = "ab"[number % 2]
        two.one("PatchMetadata", **ADDRESS, vectors=[{"key": key, "metadata": {f"m{number}": number}}])
        two.one("PutVectors", **ADDRESS, vectors=[{"key": f"c{number}", "data": {"float32": [1, 1]}}])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(40)))
    rows = two.rows()
    for place, key in enumerate("ab"):
        assert rows[key] == ([1, 1], {f"m{number}": number for number in range(place, 40, 2)})
    assert len(rows) == 42


def test_two_processes_lose_no_patch(two: Two) -> None:
    two.put("a", [1, 1])
    begun = threading.Barrier(2)

    def write(calls: Calls, name: str) -> None:
        begun.wait()
        for number in range(20):
            patches = [{"key": "a", "metadata": {f"{name}{number}": number}}]
            calls("PatchMetadata", **ADDRESS, vectors=patches)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, (two.one, two.other), "pq"))
    assert two.rows()["a"] == ([1, 1], {f"{name}{number}": number for name in "pq" for number in range(20)})


# In simulated worlds, under all faults


COUNTERS = ("a", "b")
CONFIG = IndexConfig(2, Metric.EUCLIDEAN, None, Encryption())


class Count:
    """What was acknowledged of the increments of counters, and what may have happened."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.reached: Counter[tuple[str, int]] = Counter()

    def increment(self, process: Process, database: Database, key: str) -> None:
        """One more, in one of the ways in which it may end."""
        self.unknown[key] += 1  # until we know better: the process may die
        number = 0

        def decide(state: State) -> Write:
            nonlocal number
            [row] = fetch(session(database), state, [key])
            assert row.vector is not None
            number = orjson.loads(row.metadata or b"{}")["n"] + 1
            return Write(Puts([key], row.vector[None, :], [b'{"n":%d}' % number]))

        try:
            database.index("shelf", "books").rewrite(decide, process.runtime.token())
        except OutcomeUnknown:
            return
        except NeveError:
            self.unknown[key] -= 1
            return
        self.unknown[key] -= 1
        self.done[key] += 1
        self.reached[key, number] += 1


def write_all(process: Process, database: Database) -> None:
    """Writes of other keys, so that increments share groups with them; what becomes of them is no matter here."""
    for number in range(8):
        process.runtime.sleep(process.runtime.uniform(0, 2))
        rows = Puts([f"{process.name}{number}"], np.zeros((1, 2), np.float32), [b"{}"])
        with suppress(NeveError):
            database.index("shelf", "books").write(lambda _, rows=rows: Write(rows))


@pytest.mark.parametrize("seed", range(20))
def test_no_increment_is_lost_and_none_happens_twice(seed: int) -> None:
    """Three processes with three threads each."""
    count, values = Count(), dict[str, int]()

    def increment_all(process: Process, database: Database, key: str) -> None:
        for _ in range(8):
            process.runtime.sleep(process.runtime.uniform(0, 2))
            count.increment(process, database, key)

    def make(database: Database) -> None:
        database.create_bucket("shelf", Encryption(), {}, quota=9)
        database.create_index("shelf", "books", CONFIG, {}, quota=9)
        rows = Puts(COUNTERS, np.zeros((2, 2), np.float32), [b'{"n":0}'] * 2)
        database.index("shelf", "books").write(lambda _: Write(rows))

    def look(database: Database) -> None:
        for row in fetch(session(database), database.index("shelf", "books").read(), COUNTERS):
            values[row.key] = orjson.loads(row.metadata or b"{}")["n"]

    with Simulation(f"increments/{seed}") as simulation, patch.object(fold, "TAIL_ENTRIES_MAX", 5):
        processes = [simulation.process(name) for name in ("first", "p", "q", "r")]
        opened: list[Database] = []
        for process in processes:
            task = process.start(lambda process=process: opened.append(Database.open(process.store, process.runtime)))
            simulation.join([task])
        simulation.join([processes[0].start(lambda: make(opened[0]))])
        simulation.set_faults(ROUGH)
        tasks = []
        for process, database in zip(processes[1:], opened[1:], strict=True):
            works = [partial(increment_all, process, database, key) for key in COUNTERS]
            tasks += [process.start(work) for work in (*works, partial(write_all, process, database))]
        simulation.join(tasks)
        simulation.set_faults(CALM)
        simulation.run(hours=12)
        simulation.join([processes[0].start(lambda: look(opened[0]))])
    assert sum(count.done.values()) > 0
    for key in COUNTERS:
        assert count.done[key] <= values[key] <= count.done[key] + count.unknown[key]
    assert max(count.reached.values()) == 1, "two increments to one number"
