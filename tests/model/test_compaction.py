"""Compaction beside everything else: whatever others do between any two of its requests, no row is lost or comes back.

First every request of a compaction with the same few things done before it, then any history that chance makes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.compaction.collect import collect
from neve.compaction.verify import verify
from neve.errors import IndexNotFound, ObjectGone
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.grace import GRACE
from neve.index.records import Encryption, IndexConfig
from neve.index.state import State
from neve.query.listing import Page, list_rows
from neve.query.search import Query
from neve.segments.rows import Puts
from neve.store.port import Reply, Request, Store
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from neve.testing.reference import ReferenceIndex
from neve.vectors.metric import Metric
from tests.compacting import compact_in, live_set, short_calibrations, workspaces
from tests.reading import everything, nearest, session

DIMENSION = 2
CONFIG = IndexConfig(DIMENSION, Metric.EUCLIDEAN, None, Encryption())
KEYS = [f"k{number}" for number in range(10)]
LARGE = [f"large-{number}" for number in range(40)]
"""Keys of a segment that is kept, whatever is compacted beside it."""
Rows = dict[str, int]
"""What an index must hold: number of the put by key."""


class World:
    """A store, one index, what it must hold, and what readers hold of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.store = MemoryStore(Objects(self.clock))
        self.rows: Rows = {}
        self.puts = 0
        self.readers: list[tuple[Database, State, Rows, float]] = []
        self._processes = self._copies = 0
        self.writer = self.process()
        self.writer.create_bucket("b", Encryption(), {}, quota=9)
        self.writer.create_index("b", "i", CONFIG, {}, quota=9)

    def copy(self) -> Self:
        """Another with the same past; without readers."""
        self._copies += 1
        one = type(self).__new__(type(self))
        one.__dict__ |= self.__dict__
        one.folder, one.rows, one.readers = self.folder / f"copy-{self._copies}", dict(self.rows), []
        one.store = MemoryStore(self.store.objects.copy())
        one.writer = one.process()
        return one

    def process(self, store: Store | None = None) -> Database:
        self._processes += 1
        return Database.open(store or self.store, ManualRuntime(self.clock, self._processes))

    def write(self, puts: Sequence[str], deletes: Sequence[str] = ()) -> None:
        self.puts += 1
        vectors = np.array([vector_of(key, self.puts) for key in puts], np.float32).reshape(-1, DIMENSION)
        write = Write(Puts(puts, vectors, [orjson.dumps({"put": self.puts})] * len(puts)), deletes)
        self.writer.index("b", "i").write(lambda _: write)
        self.rows |= dict.fromkeys(puts, self.puts)
        for key in deletes:
            self.rows.pop(key, None)

    def fold(self) -> None:
        self.writer.index("b", "i").fold()

    def compact(self, machine: str, happens: Callable[[int], None] | None = None) -> int:
        """By a process of its own; `happens` before each of its waves, of which it tells the number."""
        store = Interrupted(self.store)
        database = self.process(store)
        store.begin(happens)
        compact_in(database, self.folder / machine, "b", "i")
        return store.waves

    def collect(self) -> None:
        """Once what is superseded is old enough."""
        self.clock.advance(2 * GRACE.segments_s)
        assert collect(self.process()).left == []

    def make_again(self) -> None:
        self.writer.delete_index("b", "i")
        self.writer.create_index("b", "i", CONFIG, {}, quota=9)
        self.rows.clear()

    def look(self) -> None:
        """A reader comes, and keeps the state that it sees."""
        database = self.process()
        state = database.index("b", "i").read()
        self.readers.append((database, state, dict(self.rows), self.clock.now_s))

    def check(self) -> None:
        """What is read is right, by new readers and by old ones; verification finds nothing."""
        check(reader := self.process(), reader.index("b", "i").read(), self.rows)
        for database, state, rows, seen_s in self.readers:
            cold = self.process()
            try:
                check(cold, state, rows)
            except ObjectGone:
                assert self.clock.now_s - seen_s >= GRACE.segments_s, "a reader's rows went before their time"
            check(database, database.index("b", "i").read(), self.rows)
        assert verify(self.process()).findings == []


def check(database: Database, state: State, rows: Rows) -> None:
    """The rows of a state as listed, as found by a query, and as its segments define them."""
    assert {row.key: orjson.loads(row.metadata)["put"] for row in everything(database, state)} == rows
    asked = np.array([3, 4], np.float32)
    hits = [(key, far) for key, far, _ in nearest(database, state, Query(asked, 100))]
    reference = ReferenceIndex(DIMENSION, CONFIG.metric)
    reference.put((key, vector_of(key, number), {}) for key, number in rows.items())
    reference.check_hits(asked, 100, hits)
    assert {key.decode() for key in live_set(database, state)} == rows.keys()


def vector_of(key: str, number: int) -> list[float]:
    return [float(int(key.strip("klarge-"))), float(number)]


class Interrupted:
    """A store at which something happens before each wave, from `begin` on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._happens: Callable[[int], None] | None = None
        self.waves = 0

    def begin(self, happens: Callable[[int], None] | None) -> None:
        self.waves, self._happens = 0, happens

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        self.waves += 1
        if self._happens is not None:
            self._happens(self.waves - 1)
        return self._store.wave(requests)


@contextmanager
def world() -> Iterator[World]:
    with workspaces() as folder, short_calibrations():
        yield World(folder)


def compacted_before(world: World) -> None:
    """A large segment of which some rows are masked, a small one, a flat one that hides rows of both, and a tail."""
    world.write([*KEYS[:6], *LARGE])
    world.fold()
    world.compact("other")
    world.write([*KEYS[4:8], "large-1"], ["k0", "large-2"])
    world.fold()
    world.compact("other")
    world.write(["k1", "k8"], ["k2", "k5", "large-3"])
    world.fold()
    world.write(["k9"], ["k3"])


def first(world: World) -> None:
    """Nothing is compacted yet: a flat segment and a tail."""
    world.write(KEYS[:6])
    world.fold()
    world.write(["k1", "k8"], ["k2"])


def write_and_fold(world: World) -> None:
    world.write(["k4", "k8", "k2"], ["k1", "k6", "large-4"])
    world.fold()


def compact_too(world: World) -> None:
    write_and_fold(world)
    world.compact("other")


def compact_twice(world: World) -> None:
    """So that what is under way may rest on segments that are gone for good."""
    compact_too(world)
    world.write(["k7", "k2"], ["k8", "large-6"])
    world.fold()
    world.compact("other")
    world.collect()


def age(world: World) -> None:
    """Folds age, and a collector raises the work floor."""
    for key in KEYS[:3]:
        world.write([key], ["k3"])
        world.fold()
    world.collect()


def make_again(world: World) -> None:
    world.make_again()
    world.write(KEYS[5:])
    world.fold()


MEANWHILE = [
    (first, write_and_fold),
    (first, compact_too),
    (compacted_before, write_and_fold),
    (compacted_before, compact_twice),
    (compacted_before, age),
    (compacted_before, make_again),
]


@pytest.mark.parametrize(("before", "meanwhile"), MEANWHILE, ids=lambda step: step.__name__)
def test_before_each_wave_something_else_happens(
    before: Callable[[World], None], meanwhile: Callable[[World], None]
) -> None:
    with world() as start:
        before(start)
        waves = start.copy().compact("here")
        assert waves > 15
        for number in range(waves):
            _interrupt(start.copy(), number, meanwhile)


def _interrupt(one: World, number: int, meanwhile: Callable[[World], None]) -> None:
    """Compact, and before that wave something happens; then the index goes on."""
    one.look()
    happened = []

    def happens(wave: int) -> None:
        if wave == number and not happened:
            happened.append(wave)
            meanwhile(one)

    dropped = meanwhile is make_again
    with suppress(IndexNotFound) if dropped else nullcontext():
        one.compact("here", happens)
    assert happened
    one.check()
    one.write(["k0", "k9"], ["k4"])
    one.compact("here")
    one.collect()
    one.check()


WRITES = st.tuples(
    st.just("write"), st.lists(st.sampled_from([*KEYS, *LARGE[:4]]), min_size=1, max_size=5, unique=True)
)
ACTIONS = st.one_of(
    WRITES,
    WRITES,
    st.tuples(st.sampled_from(["fold", "fold", "compact", "collect", "look", "wait"]), st.just([])),
)


def act(world: World, action: tuple[str, list[str]]) -> None:
    name, keys = action
    match name:
        case "write":
            cut = len(keys) // 2 + 1
            world.write(keys[:cut], keys[cut:])
        case "compact":
            world.fold()
            world.compact("other")
        case "wait":
            world.clock.advance(GRACE.segments_s / 4)
        case _:
            getattr(world, name)()


@settings(max_examples=25, deadline=None)
@given(
    large=st.booleans(),
    before=st.lists(ACTIONS, max_size=8),
    beside=st.lists(st.tuples(st.integers(0, 40), ACTIONS), max_size=10),
    after=st.lists(ACTIONS, max_size=4),
)
def test_any_history(
    large: bool,
    before: list[tuple[str, list[str]]],
    beside: list[tuple[int, tuple[str, list[str]]]],
    after: list[tuple[str, list[str]]],
) -> None:
    with world() as one:
        if large:
            compacted_before(one)
        one.write(KEYS[:3])
        for action in before:
            act(one, action)
        one.look()
        waiting = sorted(beside, key=lambda pair: pair[0])

        def happens(wave: int) -> None:
            while waiting and waiting[0][0] <= wave:
                act(one, waiting.pop(0)[1])

        one.compact("here", happens)
        one.check()
        for action in after:
            act(one, action)
        one.check()


def test_a_listing_with_a_cursor_stays_whole() -> None:
    """Every row that is there throughout is listed once, whatever arranges the index between two pages."""
    with world() as one:
        one.write([*KEYS, *LARGE])
        one.fold()
        listed: list[str] = []
        page: Page | None = Page(7)
        changes: list[Callable[[], object]] = [
            lambda: one.compact("here"),
            lambda: one.write(["k1", "large-1", "large-30"]),
            one.fold,
            lambda: one.compact("here"),
            one.collect,
        ]
        reader = one.process()
        while page is not None:
            rows, cursor = list_rows(session(reader), reader.index("b", "i").read(), page)
            listed += [row.key for row in rows]
            page = None if cursor is None else replace(page, after=cursor)
            if changes:
                changes.pop(0)()
        assert not changes
        assert sorted(listed) == sorted(one.rows)
