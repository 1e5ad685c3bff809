"""Imports: which rows win, what is reported, what is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neve.compaction import compact as compaction
from neve.compaction.build import Progress
from neve.compaction.collect import collect
from neve.compaction.executors import Inline
from neve.compaction.tasks import Stage
from neve.compaction.verify import verify
from neve.errors import ImportEnded, ImportOpen, IndexNotFound, ObjectGone, SourceChanged, TransferError
from neve.index import manifest as manifests
from neve.index.entry import Kind, LogEntry, Write
from neve.index.grace import GRACE
from neve.index.records import Encryption, IndexConfig
from neve.segments.rows import Puts
from neve.store.port import Delete, PutNew, Reply, Request, Store, Upload
from neve.testing.faults import Fate, FaultStore
from neve.testing.objects import MemoryStore
from neve.transfer import import_
from neve.transfer.import_ import Imported
from neve.transfer.rejects import Reject
from neve.transfer.sources.parts import SourcePart
from neve.vectors.metric import Metric
from tests.compacting import short_calibrations
from tests.importing import Given, all_large, import_in
from tests.unit.compact_world import DIMENSION, Killed, Mortal, World, contents, files, names

CONFIG = IndexConfig(DIMENSION, Metric.EUCLIDEAN, None, Encryption())


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with short_calibrations(), all_large():
        yield


def source(world: World, *keys: str, name: str = "given") -> Given:
    """Rows that nobody has yet."""
    world.versions += 1
    vectors = np.random.default_rng(world.versions).normal(size=(len(keys), DIMENSION)).astype(np.float32)
    metadata = b'{"import":%d}' % world.versions
    return Given([(key, vector, metadata) for key, vector in zip(keys, vectors, strict=True)], DIMENSION, name)


def rows_of(given: Given) -> dict[str, tuple[bytes, bytes]]:
    return {key: (np.asarray(vector, np.float32).tobytes(), raw) for key, vector, raw in given.items}


def do_import(world: World, given: Given, machine: str = "here", **options: Any) -> Imported | None:
    return import_in(world.process(options.pop("store", None)), world.folder / machine, "b", "i", given, **options)


class TestQuietIndex:
    def test_an_empty_index_has_its_rows_in_a_segment(self, world: World) -> None:
        given = source(world, *names("a", 30))
        imported = do_import(world, given)
        world.rows |= rows_of(given)
        assert imported is not None
        assert imported == Imported(30, 0, 0, lists=imported.lists, size_bytes=imported.size_bytes)
        assert not world.manifest.imports
        assert [info.live for info in world.manifest.compacted] == [30]
        assert not list((world.folder / "here").iterdir())
        world.check()
        assert verify(world.process()).findings == []

    def test_its_rows_replace_older_ones_wherever_they_are(self, world: World) -> None:
        world.put(*names("a", 60))
        world.fold()
        world.compact()
        world.put("a1", "b1", "b2")
        world.fold()
        world.put("a2", "c1", "c2")
        world.delete("a3", "c2")
        given = source(world, "a1", "a2", "a3", "a4", "b1", "c1", "c2", "d")
        imported = do_import(world, given)
        world.rows |= rows_of(given)
        assert imported is not None
        assert imported.rows == 8
        world.check()
        assert world.manifest.live_rows == len(world.rows)
        assert verify(world.process()).findings == []

    def test_of_rows_of_one_key_the_last_in_the_source_counts(self, world: World) -> None:
        """In one block, in two of a part, and in two parts."""
        given = source(world, "a", "b", "b", "a", "c", "a", "d", "d")
        imported = do_import(world, given)
        world.rows |= rows_of(given)
        assert imported is not None
        assert (imported.rows, imported.repeated) == (4, 4)
        world.check()

    def test_rows_that_cannot_be_held_are_reported_and_the_others_are_there(self, world: World) -> None:
        given = source(world, *names("a", 11))
        given.bad = frozenset({"a0", "a5", "a10"})
        told: list[Reject] = []
        imported = do_import(world, given, report=told.extend)
        world.rows |= {key: row for key, row in rows_of(given).items() if key not in given.bad}
        assert imported is not None
        assert (imported.rows, imported.rejected) == (8, 3)
        assert [reject.key for reject in told] == ["a0", "a5", "a10"]
        world.check()

    def test_nothing_but_rejects_is_an_import_of_nothing(self, world: World) -> None:
        world.put("a1")
        given = source(world, "a1", "a2")
        given.bad = frozenset({"a1", "a2"})
        imported = do_import(world, given)
        assert imported is not None
        assert (imported.rows, imported.rejected, imported.lists) == (0, 2, 0)
        assert not world.state.imports
        world.check()

    def test_a_second_import_replaces_rows_of_the_first(self, world: World) -> None:
        for keys in (names("a", 60), ["a1", "a2", *names("b", 10)], ["a1", "b1", "b2"]):
            given = source(world, *keys)
            imported = do_import(world, given)
            assert imported is not None
            assert imported.replaced == len(set(keys) & world.rows.keys())
            world.rows |= rows_of(given)
            world.check()
        assert verify(world.process()).findings == []

    def test_large_masks_are_objects_of_their_own(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compaction, "MASK_INLINE_BYTES_MAX", 0)
        do_import(world, first := source(world, *names("a", 60)))
        do_import(world, second := source(world, "a1", "a2"), executor=Inline())
        world.rows |= rows_of(first) | rows_of(second)
        assert [bool(info.mask.reference) for info in world.manifest.compacted] == [True, False]
        world.check()
        assert verify(world.process()).findings == []


class TestSmall:
    def test_is_one_write(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_, "SMALL_ROWS", 10)
        world.put("a1")
        given = source(world, "a1", "b", "c", "b", "bad")
        given.bad = frozenset({"bad"})
        told: list[Reject] = []
        assert do_import(world, given, report=told.extend) == Imported(3, 1, 1)
        world.rows |= {key: row for key, row in rows_of(given).items() if key != "bad"}
        assert [entry.kind for entry in world.state.tail] == [Kind.OPEN, Kind.WRITE, Kind.WRITE]
        assert [reject.key for reject in told] == ["bad"]
        world.check()

    def test_is_no_more_than_a_write_can_hold(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_, "SMALL_ROWS", 10)
        monkeypatch.setattr(import_, "SMALL_BYTES", 100)
        do_import(world, given := source(world, *names("a", 8)))
        world.rows |= rows_of(given)
        assert len(world.manifest.compacted) == 1
        world.check()

    def test_of_nothing_writes_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_, "SMALL_ROWS", 10)
        assert do_import(world, source(world)) == Imported(0, 0, 0)
        assert [entry.kind for entry in world.state.tail] == [Kind.OPEN]

    def test_goes_beside_an_open_import(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is a write like any other: newer than the import."""
        large, small = source(world, *names("a", 12)), source(world, "a1", "b", name="small")
        monkeypatch.setattr(import_, "SMALL_ROWS", 5)
        do_import(world, large, progress=at("train", lambda: do_import(world, small, "there")))
        world.rows |= rows_of(large) | rows_of(small)
        world.check()


class TestResumed:
    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize("stage", list(Stage))
    def test_goes_on_where_it_was(self, world: World, stage: Stage, after: bool) -> None:
        world.put("a1", "a2")
        given = source(world, *names("a", 30))
        with pytest.raises(Killed):
            do_import(world, given, executor=Mortal(stage, after=after))
        world.check()
        read = len(given.read)
        executor = Mortal()
        imported = do_import(world, given, executor=executor)
        mine = executor.ran[: len(Stage)]  # the rest is a compaction of what is older
        assert mine == (list(Stage)[list(Stage).index(stage) + after :] + list(Stage))[: len(Stage)]
        assert len(given.read) == read
        assert imported is not None
        assert imported.rows == 30
        world.rows |= rows_of(given)
        world.check()

    def test_reads_parts_that_were_not_gathered(self, world: World) -> None:
        given = source(world, *names("a", 30))
        given.bad = frozenset({"a1", "a29"})
        with pytest.raises(Killed):
            do_import(world, given, progress=at("gather", killed, 5))
        world.check()
        assert len(given.read) == 5
        told: list[Reject] = []
        imported = do_import(world, given, report=told.extend)
        assert given.read == list(range(0, 30, 4))
        assert [reject.key for reject in told] == ["a1", "a29"]
        assert imported is not None
        assert (imported.rows, imported.rejected) == (28, 2)
        world.rows |= {key: row for key, row in rows_of(given).items() if key not in given.bad}
        world.check()

    def test_on_another_machine_gathers_again(self, world: World) -> None:
        given = source(world, *names("a", 30))
        with pytest.raises(Killed):
            do_import(world, given, executor=Mortal(Stage.WRITE))
        do_import(world, given, "there")
        world.rows |= rows_of(given)
        world.check()
        assert given.read == 2 * list(range(0, 30, 4))

    def test_uploads_once(self, world: World) -> None:
        """What was uploaded before the process was killed is not sent again."""
        world.put("a1")
        given = source(world, *names("a", 30))
        with pytest.raises(Killed):
            do_import(world, given, store=Stopping(MemoryStore(world.objects), names_pending))
        watched = FaultStore(MemoryStore(world.objects), lambda _place, _request: Fate.SERVED)
        do_import(world, given, store=watched)
        assert not [request for request in watched.requests if isinstance(request, Upload)]
        world.rows |= rows_of(given)
        world.check()

    def test_a_pending_import_is_attached_by_whoever_comes(self, world: World) -> None:
        given = pending(world)
        assert do_import(world, given, "elsewhere") is not None
        world.rows |= rows_of(given)
        assert not world.state.imports
        world.check()


class TestOpen:
    def test_another_source_has_to_wait(self, world: World) -> None:
        with pytest.raises(Killed):
            do_import(world, source(world, *names("a", 8)), executor=Mortal(Stage.TRAIN))
        other = source(world, "b", "c", name="other")
        with pytest.raises(ImportOpen, match="neve import --abandon b/i"):
            do_import(world, other)
        assert world.index.abandon_import() is not None
        assert world.index.abandon_import() is None
        do_import(world, other)
        world.rows |= rows_of(other)
        world.check()
        assert not [path for path in (world.folder / "here").iterdir() if path.is_dir()]

    def test_abandoned_while_under_way(self, world: World) -> None:
        given = source(world, *names("a", 8))
        with pytest.raises(ImportEnded):
            do_import(world, given, progress=at("train", lambda: world.process().index("b", "i").abandon_import()))
        world.check()
        assert not list((world.folder / "here").iterdir())

    @pytest.mark.parametrize("again", [False, True])
    def test_dropped_while_under_way(self, world: World, again: bool) -> None:
        def drop() -> None:
            world.database.delete_index("b", "i")
            if again:
                world.database.create_index("b", "i", CONFIG, {}, quota=9)

        with pytest.raises(IndexNotFound):
            do_import(world, source(world, *names("a", 8)), progress=at("train", drop))
        assert not list((world.folder / "here").iterdir())

    def test_a_source_that_changes_leaves_nothing_visible(self, world: World) -> None:
        world.put("a1")
        given = source(world, *names("a", 12))
        read = given.read_part

        def changed(part: SourcePart) -> Iterator[tuple[Puts, list[Reject]]]:
            yield from read(part)
            if part.start:
                raise SourceChanged("given has changed")

        given.read_part = changed  # type: ignore[method-assign]
        with pytest.raises(SourceChanged):
            do_import(world, given)
        world.check()
        assert len(world.state.imports) == 1

    def test_at_the_same_time_on_one_machine(self, world: World) -> None:
        given = source(world, *names("a", 8))

        def meanwhile() -> None:
            with pytest.raises(TransferError, match="another process of this machine"):
                do_import(world, given)

        do_import(world, given, progress=at("train", meanwhile))
        world.rows |= rows_of(given)
        world.check()

    def test_at_the_same_time_on_two_machines(self, world: World) -> None:
        """One of them attaches; the other learns of it."""
        given = source(world, *names("a", 8))
        outcomes: list[Imported | None] = []
        late = do_import(world, given, progress=at("train", lambda: outcomes.append(do_import(world, given, "there"))))
        assert late is None
        assert outcomes[0] is not None
        assert outcomes[0].rows == 8
        assert not files(world.folder)
        world.rows |= rows_of(given)
        world.check()


class TestPending:
    """Between the manifest that names the segments and the entry that attaches them."""

    def test_nobody_compacts(self, world: World) -> None:
        world.put(*names("x", 20))
        given = pending(world)
        world.put("a1", "new")
        world.delete("a2")
        world.fold()
        assert world.compact() is None
        assert world.compact(full=True) is None
        assert len(world.manifest.segments) == 1
        world.check()
        rows = rows_of(given)
        do_import(world, given)
        del rows["a1"], rows["a2"]
        world.rows |= rows
        world.check()
        world.fold()
        assert world.compact() is not None
        world.check()
        assert verify(world.process()).findings == []

    def test_a_compaction_under_way_is_given_up(self, world: World) -> None:
        world.put(*names("a", 20))
        world.fold()
        begun: list[Given] = []
        assert world.compact("there", progress=at("train", lambda: begun.append(pending(world)))) is None
        assert not files(world.folder / "there")
        do_import(world, begun[0])
        world.rows |= rows_of(begun[0])
        world.check()

    def test_an_attach_that_nobody_has_folded_is_folded_before_a_compaction(self, world: World) -> None:
        given = pending(world)
        state = world.index.attach_import(world.state.imports[0].id)
        assert state.base.pending is not None
        world.rows |= rows_of(given)
        world.check()
        world.put("a1")
        assert world.compact() is not None
        assert not world.manifest.imports
        world.check()

    def test_one_that_is_abandoned_leaves_the_rows_as_they_were(self, world: World) -> None:
        world.put("a1", *names("x", 20))
        given = pending(world)
        world.put("a2")
        assert world.index.abandon_import() is not None
        world.check()
        world.fold()
        world.check()
        assert world.manifest.imports == ()
        with pytest.raises(ImportEnded):
            world.index.attach_import("0" * 32)
        do_import(world, given)
        world.rows |= rows_of(given)
        world.check()

    def test_a_tombstone_that_hides_only_what_is_pending_stays(self, world: World) -> None:
        """Without compacted segments a fold would drop it."""
        given = pending(world)
        world.delete("a1")
        world.fold()
        world.delete("a2")
        world.fold()
        do_import(world, given)
        world.rows |= rows_of(given)
        del world.rows["a1"], world.rows["a2"]
        world.check()

    def test_a_reader_of_an_older_manifest_takes_the_newest(self, world: World) -> None:
        reader = world.process().index("b", "i")
        writer = world.process().index("b", "i")
        given = source(world, *names("a", 8))
        reader.read()
        writer.read()
        do_import(world, given)
        world.rows |= rows_of(given)
        world.put("a1")
        assert contents(MemoryStore(world.objects), reader.read()) == world.rows
        world.versions += 1
        writer.write(lambda _: Write(Puts(["z"], np.zeros((1, DIMENSION), np.float32), [b"{}"])))
        world.rows["z"] = (np.zeros(DIMENSION, np.float32).tobytes(), b"{}")
        world.check()

    def test_a_known_state_without_the_segments_cannot_take_an_attach(self, world: World) -> None:
        handle = world.process().index("b", "i")
        _, opened = handle.begin_import("digest")
        state = world.state
        entry = LogEntry(state.position + 1, "x", Kind.ATTACH, (), state.tail[-1].batch, {}, {}, 10, opened.id)
        with pytest.raises(ObjectGone):
            state.apply(entry)
        another = replace(entry, import_id="another")
        assert state.apply(another).imports == state.imports


class TestCollected:
    def test_what_an_open_import_needs_is_kept(self, world: World) -> None:
        """The log since it began, to learn which keys have been written, and what it has uploaded."""
        world.put("old")
        given = source(world, *names("a", 20))
        with pytest.raises(Killed):
            do_import(world, given, store=Stopping(MemoryStore(world.objects), names_pending))
        for key in ("a1", "a2", "x"):
            world.put(key)
            world.fold()
            world.clock.advance(2 * GRACE.manifests_s)
        world.delete("a3")
        assert collect(world.process()).left == []
        assert verify(world.process()).findings == []
        imported = do_import(world, given)
        assert imported is not None
        assert (imported.rows, imported.overtaken) == (17, 3)
        world.rows |= {key: row for key, row in rows_of(given).items() if key not in ("a1", "a2", "a3")}
        world.check()
        assert verify(world.process()).findings == []

    def test_once_it_has_ended_it_goes_like_everything_else(self, world: World) -> None:
        pending(world)
        world.index.abandon_import()
        world.put("x")
        for _ in range(2):
            world.put("y")
            world.fold()
            world.clock.advance(2 * GRACE.manifests_s)
            collect(world.process())
        keys = world.objects.all_keys()
        kept = {key.split("/")[3] for key in keys if "/segments/" in key}
        assert kept == {info.name for info in world.manifest.segments}
        assert sum("/log/" in key for key in keys) < 3
        world.check()

    def test_verification_misses_entries_that_an_import_needs(self, world: World) -> None:
        world.index.begin_import("digest")
        world.put("a")
        world.put("b")
        world.fold()
        entry = next(key for key in world.objects.all_keys() if key.endswith("/log/0000000000000003"))
        world.objects.apply(Delete((entry,)))
        assert [finding.invariant for finding in verify(world.process()).findings] == ["import"]


class Stopping:
    """A store that kills whoever is about to create something; else it does nothing."""

    def __init__(self, store: Store, is_it: Callable[[PutNew], bool]) -> None:
        self._store, self._is_it = store, is_it

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        if any(isinstance(request, PutNew) and self._is_it(request) for request in requests):
            raise Killed
        return self._store.wave(requests)


def names_pending(request: PutNew) -> bool:
    return "/manifest/" in request.key and manifests.decode(request.key, request.body).pending is not None


def attaches(request: PutNew) -> bool:
    return "/log/" in request.key and b'"attach"' in request.body


def pending(world: World) -> Given:
    """An import of `a0` to `a11` whose process is killed before it attaches what it has made."""
    given = source(world, *names("a", 12))
    with pytest.raises(Killed):
        do_import(world, given, "pending", store=Stopping(MemoryStore(world.objects), attaches))
    assert world.manifest.pending is not None
    return given


def at(stage: str, action: Callable[[], object], done: int = 0) -> Progress:
    """Progress that does something once, when a stage has got so far."""
    happened: list[str] = []

    def progress(name: str, so_far: int, _total: int) -> None:
        if name == stage and so_far == done and not happened:
            happened.append(name)
            action()

    return progress


def killed() -> None:
    raise Killed
