"""Import beside everything else: whatever others do between any two of its requests, the newest row of a key counts.

What must be there is told by the log alone: which entries were created, and that the rows of an import stand at the
number of its begin and are there from its attach on. First every request of an import with the same few things done
before it, then any history that chance makes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.compaction.verify import verify
from neve.errors import ImportEnded, ImportOpen, IndexNotFound, ObjectGone, StoreUnavailable
from neve.index import paths
from neve.index.database import Database
from neve.index.grace import GRACE
from neve.index.state import State
from neve.store.envelope import unseal
from neve.store.port import Created, PutNew, Reply, Request, Store
from tests.compacting import short_calibrations, workspaces
from tests.importing import Given, all_large, import_in
from tests.model import test_compaction as compacting
from tests.model.test_compaction import DIMENSION, KEYS, Interrupted, check

IMPORTED = [*KEYS[3:9], "large-1", "large-2", "large-5", "k77"]


@dataclass(slots=True)
class Started:
    """An import that began: its rows, as the number of their put, and where it stands in the log."""

    begun: int
    rows: dict[str, int]
    attached: int | None = None


@dataclass(slots=True)
class Log:
    """All that was ever created in the log of the index: by number, which put each key had (None: deleted)."""

    writes: dict[int, dict[str, int | None]] = field(default_factory=dict)
    imports: list[Started] = field(default_factory=list)

    @property
    def attached(self) -> bool:
        """Whether the last import is."""
        return bool(self.imports) and self.imports[-1].attached is not None

    def rows(self, position: int) -> dict[str, int]:
        """What the index holds as of an entry: of each key the highest position."""
        versions = [(number, write) for number, write in self.writes.items() if number <= position]
        versions += [(one.begun, one.rows) for one in self.imports if one.attached and one.attached <= position]
        found: dict[str, int | None] = {}
        for _, rows in sorted(versions, key=lambda version: version[0]):
            found |= rows
        return {key: put for key, put in found.items() if put is not None}


class Watched:
    """A store that keeps the log of imports as they are created."""

    def __init__(self, store: Store, world: World) -> None:
        self._store, self._world = store, world

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        replies = self._store.wave(requests)
        for request, reply in zip(requests, replies, strict=True):
            if isinstance(request, PutNew) and isinstance(reply, Created) and "/log/" in request.key:
                self._note(request)
        return replies

    def _note(self, request: PutNew) -> None:
        fields, number, log = unseal(request.key, request.body).fields, paths.number(request.key) or 0, self._world.log
        self._world.last = number
        if fields["kind"] == "begin":
            rows = self._world.rows_of[fields["source"]]
            log.imports.append(Started(number, rows))
        elif fields["kind"] == "attach":
            log.imports[-1].attached = number


class World(compacting.World):
    """As of compaction, beside imports."""

    def __init__(self, folder: Path) -> None:
        self.log, self.last = Log(), 0
        self.rows_of: dict[str, dict[str, int]] = {}
        self.given = Given([], DIMENSION)
        super().__init__(folder)

    def copy(self) -> Self:
        one = super().copy()
        one.log = Log(dict(self.log.writes), [replace(started) for started in self.log.imports])
        return one

    def process(self, store: Store | None = None) -> Database:
        return super().process(Watched(store or self.store, self))

    def write(self, puts: Sequence[str], deletes: Sequence[str] = ()) -> None:
        super().write(puts, deletes)
        self.log.writes[self.last] = dict.fromkeys(puts, self.puts) | dict.fromkeys(deletes)

    def make_again(self) -> None:
        super().make_again()
        self.log = Log()

    def source(self, keys: Sequence[str]) -> Given:
        """Rows that nobody has yet."""
        self.puts += 1
        items = [(key, compacting.vector_of(key, self.puts), orjson.dumps({"put": self.puts})) for key in keys]
        found = Given(items, DIMENSION, f"source-{self.puts}")
        self.rows_of[found.source.digest] = dict.fromkeys(keys, self.puts)
        return found

    def load(self, given: Given, machine: str, happens: Callable[[int], None] | None = None) -> int:
        """Import by a process of its own; `happens` before each of its waves, whose number is returned."""
        store = Interrupted(self.store)
        database = self.process(store)
        store.begin(happens)
        import_in(database, self.folder / machine, "b", "i", given)
        return store.waves

    def look(self) -> None:
        database = self.process()
        state = database.index("b", "i").read()
        self.readers.append((database, state, self.log.rows(state.position), self.clock.now_s))

    def check(self) -> None:
        reader = self.process()
        state = reader.index("b", "i").read()
        check(reader, state, self.log.rows(state.position))
        for database, seen, rows, seen_s in self.readers:
            self._check_reader(database, seen, rows, seen_s)
        assert verify(self.process()).findings == []

    def _check_reader(self, database: Database, seen: State, rows: dict[str, int], seen_s: float) -> None:
        try:
            check(self.process(), seen, rows)
        except ObjectGone:
            assert self.clock.now_s - seen_s >= GRACE.segments_s, "a reader's rows went before their time"
        state = database.index("b", "i").read()
        check(database, state, self.log.rows(state.position))


@contextmanager
def world() -> Iterator[World]:
    with workspaces() as folder, short_calibrations(), all_large():
        yield World(folder)


def quiet(world: World) -> None:
    """Few rows, none of them compacted."""
    world.write(KEYS[:6])
    world.fold()
    world.write(["k1", "k8"], ["k2"])


def compacted(world: World) -> None:
    """Two segments with masks, a flat one that hides rows of both, and a tail."""
    compacting.compacted_before(world)


def write_and_fold(world: World) -> None:
    world.write(["k4", "k8", "k2"], ["k1", "k6", "large-2"])
    world.fold()
    world.look()
    world.write(["k7"], ["large-5"])


def compact_too(world: World) -> None:
    world.write(["k4", "k8", "k2"], ["k1", "k6", "large-2"])
    world.fold()
    world.compact("other")
    world.look()


def age(world: World) -> None:
    compacting.age(world)
    compact_too(world)
    world.collect()


def import_too(world: World) -> None:
    """Another machine is at it, and is faster; then somebody writes."""
    world.load(world.given, "other")
    world.look()
    world.write(["k4"], ["k77", "large-1"])


def abandon(world: World) -> None:
    world.process().index("b", "i").abandon_import()
    write_and_fold(world)


def make_again(world: World) -> None:
    compacting.make_again(world)


MEANWHILE = [
    (compacted, compact_too, 1),
    (quiet, write_and_fold, 3),
    (compacted, write_and_fold, 4),
    (quiet, compact_too, 4),
    (compacted, age, 3),
    (quiet, import_too, 2),
    (quiet, abandon, 3),
    (quiet, make_again, 4),
]
"""Where the index stands, what happens, and before each so many waves of an import it does."""


@pytest.mark.parametrize(("before", "meanwhile", "step"), MEANWHILE, ids=lambda step: getattr(step, "__name__", step))
def test_before_each_wave_something_else_happens(
    before: Callable[[World], None], meanwhile: Callable[[World], None], step: int
) -> None:
    with world() as start:
        before(start)
        start.given = start.source(IMPORTED)
        waves = start.copy().load(start.given, "here")
        assert waves > 15
        for number in range(0, waves, step):
            _interrupt(start.copy(), number, meanwhile)


def _interrupt(one: World, number: int, meanwhile: Callable[[World], None]) -> None:
    """Import, and before that wave something happens; then the index goes on."""
    one.look()
    happened = []

    def happens(wave: int) -> None:
        if wave == number and not happened:
            happened.append(wave)
            meanwhile(one)

    try:
        with suppress(StoreUnavailable):  # by the time that another has won the number it was late
            one.load(one.given, "here", happens)
        if not one.log.attached:
            one.load(one.given, "here")
        assert one.log.attached
    except IndexNotFound:
        assert meanwhile is make_again
    except ImportEnded:
        assert meanwhile is abandon or (meanwhile is import_too and one.log.attached)
    assert happened
    one.check()
    one.write(["k0", "k9"], ["k4"])
    one.compact("here")
    one.collect()
    one.check()


WRITES = st.tuples(st.just("write"), st.lists(st.sampled_from([*IMPORTED, *KEYS]), min_size=1, max_size=5, unique=True))
LOADS = st.tuples(st.just("load"), st.lists(st.sampled_from(IMPORTED), min_size=1, max_size=6))
ACTIONS = st.one_of(
    WRITES,
    WRITES,
    LOADS,
    st.tuples(st.sampled_from(["fold", "fold", "compact", "collect", "look", "wait", "same", "abandon"]), st.just([])),
)


def act(world: World, action: tuple[str, list[str]]) -> None:
    name, keys = action
    match name:
        case "load":
            with suppress(ImportOpen, ImportEnded, StoreUnavailable):
                world.load(world.source(keys), "other")
        case "same":  # as is under way, perhaps
            with suppress(ImportOpen, ImportEnded, StoreUnavailable):
                world.load(world.given, "second")
        case "abandon":
            world.process().index("b", "i").abandon_import()
        case _:
            compacting.act(world, action)


@settings(max_examples=25, deadline=None)
@given(
    before=st.lists(ACTIONS, max_size=8),
    beside=st.lists(st.tuples(st.integers(0, 80), ACTIONS), max_size=10),
    after=st.lists(ACTIONS, max_size=4),
)
def test_any_history(
    before: list[tuple[str, list[str]]],
    beside: list[tuple[int, tuple[str, list[str]]]],
    after: list[tuple[str, list[str]]],
) -> None:
    with world() as one:
        one.write(KEYS[:3])
        for action in before:
            act(one, action)
        one.look()
        one.given = one.source(IMPORTED)
        waiting = sorted(beside, key=lambda pair: pair[0])

        def happens(wave: int) -> None:
            while waiting and waiting[0][0] <= wave:
                act(one, waiting.pop(0)[1])

        with suppress(ImportOpen, ImportEnded, StoreUnavailable):
            one.load(one.given, "here", happens)
        one.check()
        for action in after:
            act(one, action)
        one.check()
