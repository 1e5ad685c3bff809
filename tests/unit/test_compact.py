"""Compaction changes how an index is stored and nothing that it holds, whatever happens beside it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.cli import main
from neve.compaction.background import RETRY_S, Background
from neve.compaction.compact import MASK_INLINE_BYTES_MAX, Compaction, Means, compact
from neve.compaction.executors import Inline, inline, processes
from neve.compaction.plan import FLAT_ROWS_MIN
from neve.compaction.tasks import Stage, Task
from neve.errors import IndexNotFound, ObjectCorrupt
from neve.index import paths
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.index import Index
from neve.index.manifest import Manifest
from neve.index.records import Encryption, IndexConfig
from neve.index.state import Compacted, State
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.segments.stream import row_blocks, row_entries, verify_segment
from neve.store.connect import connect
from neve.store.port import Get, Put, Reply, Request, Store
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.faults import Crash, Fate, FaultStore
from neve.testing.objects import MemoryStore, Objects
from neve.vectors.metric import Metric

DIMENSION = 4
Row = tuple[bytes, bytes]
"""A vector's bytes and its metadata."""


@dataclass
class World:
    """A store with one index, a process that writes, and what the index must hold."""

    folder: Path
    metric: Metric = Metric.EUCLIDEAN
    clock: ManualClock = field(default_factory=ManualClock)
    rows: dict[str, Row] = field(default_factory=dict)
    versions: int = 0

    def __post_init__(self) -> None:
        self.objects = Objects(self.clock)
        self.database = self.process()
        self.database.create_bucket("b", Encryption(), {}, quota=9)
        config = IndexConfig(DIMENSION, self.metric, None, Encryption())
        self.database.create_index("b", "i", config, {}, quota=9)

    def process(self, store: Store | None = None) -> Database:
        self.versions += 1
        return Database.open(store or MemoryStore(self.objects), ManualRuntime(self.clock, self.versions))

    @property
    def index(self) -> Index:
        return self.database.index("b", "i")

    @property
    def state(self) -> State:
        return self.process().index("b", "i").read()

    @property
    def manifest(self) -> Manifest:
        return self.state.base

    def put(self, *keys: str) -> None:
        self.versions += 1
        vectors = np.random.default_rng(self.versions).normal(size=(len(keys), DIMENSION)).astype(np.float32)
        metadata = [b'{"version":%d}' % self.versions for _ in keys]
        self.index.write(lambda _: Write(Puts(keys, vectors, metadata)))
        self.rows |= {key: (v.tobytes(), m) for key, v, m in zip(keys, vectors, metadata, strict=True)}

    def delete(self, *keys: str) -> None:
        self.index.write(lambda _: Write(Puts((), np.empty((0, DIMENSION), np.float32), ()), keys))
        for key in keys:
            self.rows.pop(key, None)

    def fold(self) -> None:
        self.index.fold()

    def compact(self, machine: str = "here", **options: Any) -> Compaction | None:
        """As a fresh process of a machine does it."""
        store, executor = options.pop("store", None), options.pop("executor", Inline())
        progress = options.pop("progress", lambda _stage, _done, _total: None)
        means = Means(self.folder / machine, executor=executor, progress=progress)
        return compact(self.process(store), "b", "i", means, **{"asked": True, **options})

    def check(self) -> None:
        """What a fresh process reads is what must be there; a manifest without flat segments counts it right."""
        state = self.state
        assert contents(MemoryStore(self.objects), state) == self.rows
        if not (state.segments or state.tail):
            assert state.base.live_rows == len(self.rows)


def contents(store: Store, state: State) -> dict[str, Row]:
    """All live rows of a state, read without any index; each key once."""
    found: list[tuple[bytes, Row]] = []
    for part in state.parts:
        for row in np.flatnonzero(part.live).tolist():
            vector = np.ascontiguousarray(part.rows.vectors[row], np.float32).tobytes()
            found.append((part.rows.keys.keys[row], (vector, part.rows.metadata[row])))
    for segment in state.compacted:
        found += [(key, row) for hash_, key, row in unmasked(store, segment) if not state.hides(hash_, key)]
    assert len({key for key, _ in found}) == len(found), "a key is live twice"
    return {key.decode(): row for key, row in found}


def unmasked(store: Store, segment: Compacted) -> list[tuple[int, bytes, Row]]:
    """Hash, key and row of each unmasked row of a segment, which is whole."""

    def fetch(key: str, start: int, stop: int) -> bytes:
        reply = store.wave([Get(key, start, stop)])[0]
        body: bytes = getattr(reply, "body", b"")
        return body

    verify_segment(segment.directory, fetch)
    masked = segment.masked if segment.masked is not None else np.zeros(segment.info.rows, np.bool_)
    found, row = [], 0
    for block in row_blocks(segment.directory, fetch, row_entries(segment.directory, fetch)):
        for place in range(len(block)):
            if not masked[row]:
                values = (block.vectors[place].tobytes(), block.metadata[place])
                found.append((int(block.hashes[place]), block.keys[place], values))
            row += 1
    return found


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestRoundTrip:
    @pytest.mark.parametrize("metric", list(Metric))
    def test_what_was_put_is_in_one_segment(self, tmp_path: Path, metric: Metric) -> None:
        world = World(tmp_path, metric)
        world.put(*names("a", 200))
        world.fold()
        world.put(*names("b", 150), "a7")
        world.delete("a8", "b9", "nobody")
        world.fold()
        done = world.compact()
        assert done is not None
        assert (done.rows, done.flat_rows) == (348, 348)
        assert not world.manifest.segments
        assert [(info.rows, info.mask.count) for info in world.manifest.compacted] == [(348, 0)]
        world.check()

    def test_a_second_one_masks_what_was_overwritten_and_deleted(self, world: World) -> None:
        world.put(*names("a", 400))
        world.fold()
        world.compact()
        first = world.manifest.compacted[0]
        world.put("a3", "a4", *names("b", 20))
        world.delete("a5", "b6", "nobody")
        world.fold()
        world.check()
        assert world.compact() is not None
        assert {info.name: info.mask.count for info in world.manifest.compacted}[first.name] == 3
        world.check()
        world.put("a6", "b1", "a3")
        world.fold()
        world.compact()
        assert {info.name: info.mask.count for info in world.manifest.compacted}[first.name] == 4
        world.check()

    def test_small_segments_are_merged_without_their_masked_rows(self, world: World) -> None:
        for number in range(4):
            world.put(*names(f"{number}/", 50), "again")
            world.delete("0/7")
            world.fold()
            assert world.compact() is not None
            world.check()
        assert len(world.manifest.compacted) < 4

    def test_a_full_one_leaves_one_segment_and_no_mask(self, world: World) -> None:
        world.put(*names("a", 400))
        world.fold()
        world.compact()
        world.put("a3")
        world.fold()
        world.compact()
        assert len(world.manifest.compacted) == 2
        assert world.compact(full=True) is not None
        assert [(info.rows, info.mask.count) for info in world.manifest.compacted] == [(400, 0)]
        world.check()
        assert world.compact(full=True) is None

    def test_nothing_is_left_of_an_index_whose_rows_are_all_deleted(self, world: World) -> None:
        world.put(*names("a", 30))
        world.fold()
        world.compact()
        world.delete(*names("a", 30))
        world.fold()
        done = world.compact()
        assert done is not None
        assert done.rows == 0
        assert not list(world.manifest.folders)
        world.check()

    def test_a_large_mask_is_an_object(self, world: World) -> None:
        """No run of 2,500 random rows of 65,000 is short enough for the manifest."""
        keys = names("a", 20_000)
        for start in range(0, len(keys), 5_000):
            world.put(*keys[start : start + 5_000])
        world.fold()
        world.compact()
        first = world.manifest.compacted[0]
        world.delete(*keys[: 2 * MASK_INLINE_BYTES_MAX : 3])
        world.fold()
        world.compact()
        info = world.manifest.compacted[0]
        assert info.name == first.name
        assert info.mask.reference
        assert not info.mask.inline
        world.check()
        world.delete(keys[-1])
        world.fold()
        world.compact()
        assert world.manifest.compacted[0].mask.count == info.mask.count + 1
        world.check()

    def test_a_tail_beside_it_stays(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        world.put("a1", "new")
        world.delete("a2")
        world.compact()
        world.check()
        world.fold()
        world.check()

    def test_nothing_asked_nothing_due(self, world: World) -> None:
        assert world.compact() is None
        world.put(*names("a", 10))
        world.fold()
        assert world.compact(asked=False) is None
        assert not world.folder.joinpath("here").exists()

    def test_an_index_that_is_not_there(self, world: World) -> None:
        with pytest.raises(IndexNotFound):
            compact(world.database, "b", "j", Means(world.folder))

    def test_the_same_work_gives_the_same_bytes(self, world: World) -> None:
        world.put(*names("a", 300))
        world.fold()
        copies = []
        for machine in ("one", "two"):
            other = World(world.folder / machine)
            other.objects = world.objects.copy()
            other.compact(machine)
            info = other.state.compacted[0]
            copies.append((info.directory.list_crcs.tolist(), info.directory.key_crcs.tolist(), info.info.digest))
        assert copies[0] == copies[1]

    def test_ranges_in_processes(self, world: World) -> None:
        keys = names("a", FLAT_ROWS_MIN)
        for start in range(0, len(keys), 2_500):
            world.put(*keys[start : start + 2_500])
        world.fold()
        stages: dict[str, int] = {}
        with processes(1) as executor:
            done = world.compact(
                asked=False, executor=executor, progress=lambda stage, _, total: stages.update({stage: total})
            )
        assert done is not None
        assert stages[Stage.ASSIGN] == 3
        world.check()


class TestBesideOthers:
    """`at` a stage's last word something else happens to the index."""

    @staticmethod
    def when(stage: str, action: Callable[[], object]) -> Callable[[str, int, int], None]:
        happened: list[str] = []

        def progress(now: str, done: int, total: int) -> None:
            if now == stage and done == total and not happened:
                happened.append(now)
                action()

        return progress

    @pytest.mark.parametrize("stage", ["gather", Stage.WRITE, "upload"])
    def test_a_fold_takes_the_inputs_away_and_leaves_no_tombstone(self, world: World, stage: str) -> None:
        """Nothing is compacted yet, so the fold drops the tombstone: the new segment must not bring the row back."""
        world.put(*names("a", 50))
        world.fold()

        def meanwhile() -> None:
            world.delete("a1")
            world.put("a2", *names("b", 30))
            world.fold()
            assert [info.deleted for info in world.manifest.segments] == [0]

        assert world.compact(progress=self.when(stage, meanwhile)) is not None
        world.check()
        world.compact()
        world.check()

    @pytest.mark.parametrize("stage", ["gather", "upload"])
    def test_a_fold_that_leaves_the_inputs(self, world: World, stage: str) -> None:
        world.put(*names("a", 300))
        world.fold()

        def meanwhile() -> None:
            world.delete("a1")
            world.put("a2", "new")
            world.fold()
            assert len(world.manifest.segments) == 2

        assert world.compact(progress=self.when(stage, meanwhile)) is not None
        assert len(world.manifest.segments) == 1
        world.check()

    @pytest.mark.parametrize("stage", ["gather", Stage.WRITE, "upload"])
    def test_another_compaction_wins(self, world: World, stage: str) -> None:
        world.put(*names("a", 300))
        world.fold()
        world.compact()
        world.put(*names("a", 10), *names("b", 10))
        world.delete("a11")
        world.fold()
        won: list[Compaction | None] = []
        lost = world.compact("one", progress=self.when(stage, lambda: won.append(world.compact("two"))))
        assert won[0] is not None
        assert lost is None
        world.check()
        assert not files(world.folder)

    def test_another_compaction_wins_and_more_is_to_do(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()

        def meanwhile() -> None:
            world.compact("two")
            world.put("a1", *names("b", 60))
            world.delete("a2")
            world.fold()

        assert world.compact("one", progress=self.when("upload", meanwhile)) is not None
        assert not world.manifest.segments
        world.check()

    def test_another_process_of_this_machine_leaves_it_alone(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        beside: list[Compaction | None] = []
        assert world.compact(progress=self.when("gather", lambda: beside.append(world.compact()))) is not None
        assert beside == [None]
        world.check()

    def test_the_index_is_dropped(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        with pytest.raises(IndexNotFound):
            world.compact(progress=self.when("upload", lambda: world.database.delete_index("b", "i")))
        assert not files(world.folder)

    def test_the_index_is_made_anew(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()

        def meanwhile() -> None:
            world.database.delete_index("b", "i")
            config = IndexConfig(DIMENSION, Metric.COSINE, None, Encryption())
            world.database.create_index("b", "i", config, {}, quota=9)
            world.rows.clear()

        with pytest.raises(IndexNotFound):
            world.compact(progress=self.when("upload", meanwhile))
        world.check()

    @pytest.mark.parametrize("what", ["fold", "compact", "both"])
    def test_between_any_two_requests(self, world: World, what: str) -> None:
        """Writes, and a fold or a compaction of them, at one place after the other."""
        world.put(*names("a", 40))
        world.fold()
        world.compact()
        world.put("a1", "a2", *names("b", 5))
        world.delete("a3")
        world.fold()
        start, rows, place, happened = world.objects.copy(), dict(world.rows), 0, True
        while happened:
            world.objects, world.rows = start.copy(), dict(rows)
            world.database, happened = world.process(), False

            def meanwhile() -> None:
                world.delete("a1", "a4", "b1")
                world.put("a2", "a5", "b2", *names("c", 3))
                if what != "compact":
                    world.fold()
                if what != "fold":
                    world.compact("other")

            interrupted = Interrupted(MemoryStore(world.objects), place, meanwhile)
            world.compact(str(place), store=interrupted)
            happened = interrupted.happened
            world.check()
            world.fold()
            world.compact()
            world.check()
            place += 5
        assert place > 20

    def test_a_damaged_input_is_named_and_nothing_changes(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        before = world.manifest
        key = paths.flat_segment(world.state.uid, before.segments[0].name)
        found = world.objects.apply(Get(key))
        body: bytes = getattr(found, "body", b"")
        world.objects.apply(Put(key, body[:-9] + b"?" + body[-8:]))
        with pytest.raises(ObjectCorrupt, match=before.segments[0].name):
            world.compact()
        world.objects.apply(Put(key, body))
        assert world.manifest == before
        assert world.compact() is not None
        world.check()


class Interrupted:
    """A store to whose user something happens before its request number `place`."""

    def __init__(self, store: Store, place: int, action: Callable[[], None]) -> None:
        self.happened = False
        self._store, self._left, self._action = store, place, action

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        self._left -= 1
        if self._left < 0 and not self.happened:
            self.happened = True
            self._action()
        return self._store.wave(requests)


class Killed(BaseException):
    """The process ends."""


class Mortal(Executor):
    """Runs tasks until one of a stage comes, which kills the process before or after it; notes what it runs."""

    def __init__(self, stage: str = "", *, after: bool = False) -> None:
        self.ran: list[Stage] = []
        self._stage, self._after = stage, after
        self._inline = Inline()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        task: Task = args[0]
        if task.stage == self._stage and not self._after:
            raise Killed
        self.ran.append(task.stage)
        future = self._inline.submit(fn, *args, **kwargs)
        if task.stage == self._stage:
            raise Killed
        return future


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


class TestBackground:
    def test_compacts_what_is_due_and_nothing_else(self, world: World) -> None:
        runtime = ManualRuntime(world.clock, "background")
        background = Background(Database.open(MemoryStore(world.objects), runtime), Means(world.folder), inline)
        world.put("a")
        world.fold()
        background.offer(world.state)
        assert runtime.settle() == 0
        world.put(*names("a", FLAT_ROWS_MIN))
        world.fold()
        for _ in range(3):
            background.offer(world.state)
        assert runtime.settle() == 1
        assert not world.manifest.segments
        world.check()

    def test_a_failure_is_told_once_and_tried_later(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        runtime, refused = ManualRuntime(world.clock, "background"), [True]

        def fates(_place: int, request: Request) -> Fate:
            uploaded = isinstance(request, Put) and "/segments/" in request.key
            return Fate.UNAVAILABLE if refused[0] and uploaded else Fate.SERVED

        store = FaultStore(MemoryStore(world.objects), fates)
        background = Background(Database.open(store, runtime), Means(world.folder), inline)
        world.put(*names("a", FLAT_ROWS_MIN))
        world.fold()
        state = world.state
        ran = []
        for _ in range(4):
            background.offer(state)
            ran.append(runtime.settle())
            world.clock.advance(RETRY_S / 2 + 1)
        assert ran == [1, 0, 1, 0]
        assert len([entry for entry in caplog.records if "b/i could not be compacted" in entry.message]) == 1
        refused[0] = False
        background.offer(state)
        runtime.settle()
        assert not world.manifest.segments
        world.check()

    def test_ends_with_its_present_task(self, world: World) -> None:
        runtime, executor = ManualRuntime(world.clock, "background"), Closing()
        background = Background(
            Database.open(MemoryStore(world.objects), runtime), Means(world.folder), lambda: nullcontext(executor)
        )
        executor.close = background.close
        world.put(*names("a", FLAT_ROWS_MIN))
        world.fold()
        background.offer(world.state)
        assert runtime.settle() == 1
        assert executor.ran == [Stage.SELECT]
        background.offer(world.state)
        assert runtime.settle() == 0
        world.check()


class Closing(Mortal):
    """Runs one task, while which the server is told to end."""

    close: Callable[[], None]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.close()
        return super().submit(fn, *args, **kwargs)


class TestCommand:
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """A store in a folder, with two indexes of 300 vectors; the cache lies beside it."""
        monkeypatch.setenv("NEVE_CACHE", str(tmp_path / "cache"))
        url = f"file://{tmp_path}/store"
        runtime = SystemRuntime()
        database = Database.open(connect(url), runtime)
        database.create_bucket("b", Encryption(), {}, quota=9)
        vectors = np.random.default_rng(1).normal(size=(300, DIMENSION)).astype(np.float32)
        for name in ("i", "j"):
            database.create_index("b", name, IndexConfig(DIMENSION, Metric.COSINE, None, Encryption()), {}, quota=9)
            write = Write(Puts(names("k", 300), vectors, [b"{}"] * 300))
            database.index("b", name).write(lambda _, write=write: write)
            database.index("b", name).fold()
        runtime.close()
        return url

    def test_an_index_by_name(self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compact", "--store", store, "b/i"]) == 0
        assert "300" in capsys.readouterr().out
        assert not files(tmp_path / "cache")
        assert main(["compact", "--store", store, "b/i", "--memory", "64MiB"]) == 0
        assert "nothing to compact" in capsys.readouterr().out

    def test_what_is_due(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compact", "--store", store]) == 0
        assert "nothing to compact" in capsys.readouterr().out
        assert main(["compact", "--store", store, "b", "--full"]) == 0
        assert "b/i" in (out := capsys.readouterr().out)
        assert "b/j" in out

    @pytest.mark.parametrize("name", ["b/other", "other"])
    def test_what_is_not_there(self, store: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compact", "--store", store, name]) == 1
        assert name in capsys.readouterr().err

    def test_a_damaged_index_does_not_keep_the_others_from_it(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        segment = next((tmp_path / "store").rglob("flat"))
        segment.write_bytes(segment.read_bytes()[:-1])
        assert main(["compact", "--store", store, "b", "--full"]) == 1
        shown = capsys.readouterr()
        assert segment.parent.name in shown.err
        assert "300" in shown.out

    @pytest.mark.parametrize("size", ["1KiB", "much", "-1GiB"])
    def test_memory_that_is_no_size(self, store: str, size: str) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["compact", "--store", store, f"--memory={size}"])

    @pytest.mark.parametrize("count", ["two", "-1", "1000"])
    def test_workers_that_are_no_number(self, store: str, count: str) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["compact", "--store", store, f"--workers={count}"])

    def test_watches_until_it_is_told_to_end(self, store: str) -> None:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        before = signal.getsignal(signal.SIGTERM)
        assert main(["compact", "--store", store, "--watch"]) == 0
        timer.join()
        assert signal.getsignal(signal.SIGTERM) is before
