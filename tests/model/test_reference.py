"""The engine against the oracle: any sequence of operations, upkeep, time and new processes gives the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from neve.compaction.collect import collect
from neve.compaction.verify import verify
from neve.filters.parse import parse
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.records import Encryption, IndexConfig
from neve.index.state import State
from neve.query.fetch import fetch
from neve.query.listing import Page, list_rows
from neve.query.search import Query
from neve.query.session import Session
from neve.segments.rows import Puts
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from neve.testing.reference import ReferenceIndex, meets
from neve.testing.strategies import HUGE, crowds, filters, keys, metadata, vectors
from neve.vectors.metric import Metric
from tests.compacting import compact_in, live_set, short_calibrations, workspaces
from tests.reading import nearest, session

DIMENSION = 3
FILTER_CONSTRAINTS_MAX = 100


class Machine(RuleBasedStateMachine):
    """Two processes on one store, and the oracle beside them. Every rule asks one of the processes, by chance."""

    metric = Metric.EUCLIDEAN

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(short_calibrations())
        self.folder = self.stack.enter_context(workspaces())
        self.clock = ManualClock()
        self.store = MemoryStore(Objects(self.clock))
        self.opened = 0
        self.processes = [self.open(), self.open()]
        self.reference = ReferenceIndex(DIMENSION, self.metric)

    def open(self) -> tuple[Database, ManualRuntime]:
        self.opened += 1
        runtime = ManualRuntime(self.clock, self.opened)
        return Database.open(self.store, runtime), runtime

    def state(self, process: int) -> State:
        return self.processes[process][0].index("shelf", "books").read()

    def session(self, process: int) -> Session:
        return session(self.processes[process][0])

    def hits(self, process: int, query: Query) -> list[tuple[str, float, bytes]]:
        return nearest(self.processes[process][0], self.state(process), query)

    @initialize()
    def make(self) -> None:
        self.processes[0][0].create_bucket("shelf", Encryption(), {}, quota=10)
        self.create(0)

    def create(self, process: int) -> None:
        config = IndexConfig(DIMENSION, self.metric, None, Encryption())
        self.processes[process][0].create_index("shelf", "books", config, {}, quota=10)

    # What clients do

    @rule(data=st.data(), process=st.integers(0, 1))
    def write(self, data: st.DataObject, process: int) -> None:
        crowd = data.draw(crowds(DIMENSION, self.metric, size_max=8), label="vectors")
        named = data.draw(st.lists(keys(), min_size=len(crowd), max_size=len(crowd), unique=True), label="keys")
        documents = [data.draw(metadata(), label="metadata") for _ in crowd]
        known = sorted(self.reference.keys() - set(named))
        doomed = data.draw(st.lists(st.sampled_from([*known, "never there"]), max_size=3, unique=True), label="deletes")
        puts = Puts(named, np.stack(crowd), [orjson.dumps(document) for document in documents])
        deletes = [key for key in doomed if key not in named]
        self.processes[process][0].index("shelf", "books").write(lambda _: Write(puts, deletes))
        self.reference.put(zip(named, crowd, documents, strict=True))
        self.reference.delete(deletes)

    @rule(data=st.data(), process=st.integers(0, 1))
    def get(self, data: st.DataObject, process: int) -> None:
        wanted = data.draw(
            st.lists(st.one_of(keys(), st.sampled_from([*sorted(self.reference.keys()), "x"])), min_size=1)
        )
        found = {row.key: row for row in fetch(self.session(process), self.state(process), wanted)}
        expected = self.reference.get(wanted)
        assert found.keys() == expected.keys()
        for key, row in found.items():
            assert row.vector.tobytes() == expected[key].vector.tobytes()
            assert orjson.loads(row.metadata) == expected[key].metadata

    @rule(data=st.data(), process=st.integers(0, 1), k=st.sampled_from([1, 2, 5, 100, 10_000]))
    def query(self, data: st.DataObject, process: int, k: int) -> None:
        near, far = vectors(DIMENSION, self.metric), vectors(DIMENSION, self.metric, bound=HUGE)
        vector = data.draw(st.one_of(near, near, far), label="query")
        hits = self.hits(process, Query(vector, k))
        self.reference.check_hits(vector, k, [(key, distance) for key, distance, _ in hits])

    @rule(data=st.data(), process=st.integers(0, 1), document=filters(), k=st.sampled_from([1, 3, 100]))
    def query_with_a_filter(self, data: st.DataObject, process: int, document: dict[str, object], k: int) -> None:
        vector = data.draw(vectors(DIMENSION, self.metric), label="query")
        condition = parse(document, (), FILTER_CONSTRAINTS_MAX)

        def wanted(values: Mapping[str, object]) -> bool:
            return meets(document, values)

        hits = self.hits(process, Query(vector, k, condition))
        self.reference.check_hits(vector, k, [(key, distance) for key, distance, _ in hits], wanted)
        for key, _, raw in hits:
            assert orjson.loads(raw) == self.reference.rows[key].metadata

    @rule(
        process=st.integers(0, 1),
        limit=st.sampled_from([1, 3, 1000]),
        segments=st.sampled_from([1, 2, 16]),
        compacts=st.booleans(),
    )
    def list_in_pages(self, process: int, limit: int, segments: int, compacts: bool) -> None:
        """Page by page; `compacts`: the other process does, after the first page."""
        listed: list[str] = []
        for segment in range(segments):
            page = Page(limit, None, segment, segments)
            rows, cursor = list_rows(self.session(process), self.state(process), page)
            listed += [row.key for row in rows]
            if compacts and cursor is not None:
                self.compact(1 - process, full=False)
                compacts = False
            while cursor is not None:
                rows, cursor = list_rows(self.session(process), self.state(process), replace(page, after=cursor))
                assert rows, "a cursor promises more"
                listed += [row.key for row in rows]
        assert sorted(listed) == sorted(self.reference.keys())

    # What happens to them

    @rule(process=st.integers(0, 1))
    def fold(self, process: int) -> None:
        self.processes[process][0].index("shelf", "books").fold()

    @rule(process=st.integers(0, 1), full=st.booleans())
    def compact(self, process: int, full: bool) -> None:
        database = self.processes[process][0]
        database.index("shelf", "books").fold()
        before = live_set(database, self.state(process))
        compact_in(database, self.folder / str(process), "shelf", "books", full=full)
        state = self.state(process)
        assert live_set(database, state) == before
        assert (state.segments, state.tail) == ((), ())
        assert state.live_rows == len(self.reference.rows)
        assert len(state.compacted) <= 1 or not full

    @rule(process=st.integers(0, 1), hours=st.sampled_from([0, 2, 25, 24 * 31]))
    def collect(self, process: int, hours: int) -> None:
        self.clock.advance(hours * 3600)
        assert collect(self.processes[process][0]).left == []

    @rule(process=st.integers(0, 1))
    def run_what_waits_in_the_background(self, process: int) -> None:
        self.processes[process][1].settle()

    @rule(process=st.integers(0, 1))
    def drop_and_make_again(self, process: int) -> None:
        self.processes[process][0].delete_index("shelf", "books")
        self.create(process)
        self.reference = ReferenceIndex(DIMENSION, self.metric)

    @rule(process=st.integers(0, 1))
    def start_a_new_process(self, process: int) -> None:
        self.processes[process] = self.open()

    @invariant()
    def both_processes_hold_what_the_oracle_holds(self) -> None:
        """By count an upper bound where recent keys hide compacted rows."""
        for process, (database, _) in enumerate(self.processes):
            if self.store.objects.all_keys("catalog/"):
                state = self.state(process)
                live = {key.decode() for key in live_set(database, state)}
                assert live == self.reference.keys()
                assert state.live_rows == len(live) or (state.compacted and state.live_rows > len(live))

    def teardown(self) -> None:
        with self.stack:
            assert verify(self.processes[0][0]).findings == []


class CosineMachine(Machine):
    metric = Metric.COSINE


TestEuclidean = Machine.TestCase
TestCosine = CosineMachine.TestCase
TestEuclidean.settings = TestCosine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
