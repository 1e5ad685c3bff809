"""Processes that fall asleep at the worst moment, and what the others do meanwhile: one promise for each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from neve.compaction.collect import collect
from neve.compaction.verify import verify
from neve.errors import BucketNotFound, IndexNotFound, OutcomeUnknown
from neve.index import paths
from neve.index.entry import Write
from neve.index.grace import GRACE
from neve.index.records import Encryption, IndexRecord
from neve.segments.rows import Puts
from neve.store.folder import FolderStore
from neve.store.port import Delete, List, Listed, Put, PutNew, Reply, Request, Store, Unknown
from neve.testing.faults import Crash, Fate, Fates, FaultStore
from tests.crash.world import CONFIG, DIMENSION, Process, World, check_whole

LONG_S = 2 * GRACE.segments_s
"""Longer than what is superseded stays."""
BOOKS = "library/books"


class Moment(StrEnum):
    """When a process falls asleep."""

    BEFORE = "before the create"
    AFTER = "after the create, before its reply"
    NEXT = "after the reply, before the next wave"


class SleepingStore:
    """A store whose process sleeps once, around its next create of a key that has a given part."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._moment = Moment.BEFORE
        self._part: str | None = None
        self._meanwhile: Callable[[], object] | None = None
        self._loses = False

    def sleep(self, moment: Moment, part: str, meanwhile: Callable[[], object], *, loses: bool = False) -> None:
        """Sleep then, while `meanwhile` happens; `loses`: the reply to the create is lost."""
        self._moment, self._part, self._meanwhile, self._loses = moment, part, meanwhile, loses

    @property
    def slept(self) -> bool:
        return self._meanwhile is None

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        part = self._part
        if part is None:
            if self._moment is Moment.NEXT:
                self._dream()
            return self._store.wave(requests)
        mine = [isinstance(request, PutNew) and part in request.key for request in requests]
        if not any(mine):
            return self._store.wave(requests)
        self._part = None
        if self._moment is Moment.BEFORE:
            self._dream()
        replies = self._store.wave(requests)
        if self._moment is Moment.AFTER:
            self._dream()
        lost = [of_create and self._loses for of_create in mine]
        return [Unknown("the reply was lost") if gone else reply for gone, reply in zip(lost, replies, strict=True)]

    def _dream(self) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()


class OneByOne:
    """A store that is asked to delete each key by itself, so that a crash may come between any two."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        match requests:
            case [Delete(keys)]:
                return [self._store.wave([Delete((key,))])[0] for key in keys][-1:]
        return self._store.wave(requests)


@pytest.fixture
def world() -> World:
    """A store with an empty bucket."""
    world = World()
    world.process().database.create_bucket("library", Encryption(), {}, quota=9)
    return world


@pytest.fixture
def other(world: World) -> Process:
    """A process that is always awake."""
    return world.process()


def sleeper(world: World) -> tuple[Process, SleepingStore]:
    store = SleepingStore(world.store)
    return world.process(store), store


def create(process: Process) -> IndexRecord:
    return process.database.create_index("library", "books", CONFIG, {}, quota=9)


def drop(process: Process) -> None:
    process.database.delete_index("library", "books")


def fold(process: Process) -> None:
    process.database.index("library", "books").fold()


def read_uid(process: Process) -> str:
    return process.database.index("library", "books").read().uid


def rows(world: World) -> dict[str, bytes]:
    """What a process that knows nothing reads."""
    found = world.snapshot()[BOOKS][1]
    assert found is not None
    return found


def catalog(world: World) -> list[int | None]:
    return [paths.number(key) for key in world.objects.all_keys(paths.catalog_chain("library", "books"))]


def collect_after(world: World, seconds: float) -> None:
    world.clock.advance(seconds)
    assert collect(world.process().database).left == []


def call(process: Process, invocation: str, key: str, value: bytes) -> None:
    """A write by an SDK that names its call."""
    write = Write(Puts([key], np.ones((1, DIMENSION), np.float32), [value]))
    process.database.index("library", "books").write(lambda _: write, invocation)


def fate_of(kind: type[Request], part: str, fate: Fate) -> Fates:
    """That fate for each request of that kind whose key has that part."""

    def decide(_: int, request: Request) -> Fate:
        return fate if isinstance(request, kind) and part in getattr(request, "key", "") else Fate.SERVED

    return decide


class TestWriters:
    def test_a_write_into_a_wiped_log_is_refused(self, world: World, other: Process) -> None:
        create(other)
        stale = world.process()
        stale.put({"a": b"{}"})
        drop(other)
        collect_after(world, LONG_S)
        with pytest.raises(IndexNotFound):
            stale.put({"lost": b"{}"})
        with pytest.raises(IndexNotFound):
            world.process().database.index("library", "books").read()

    @pytest.mark.parametrize(
        ("folded", "deletes"), [*((False, n) for n in range(1, 5)), *((True, n) for n in range(1, 7))]
    )
    def test_a_write_into_a_half_wiped_log_is_refused(
        self, world: World, other: Process, folded: bool, deletes: int
    ) -> None:
        """A collector dies after so many deletes of 4 log entries, and of a segment and a manifest before them."""
        create(other)
        other.put({"a": b"{}"})
        if folded:
            fold(other)
        stale = world.process()
        stale.put({"b": b"{}"})
        drop(other)
        world.clock.advance(LONG_S)
        done = 0

        def dies(_: int, request: Request) -> Fate:
            nonlocal done
            done += isinstance(request, Delete) and request.keys[0].startswith("data/")
            return Fate.CRASH_AFTER if done == deletes else Fate.SERVED

        with pytest.raises(Crash):
            collect(world.process(OneByOne(FaultStore(world.store, dies))).database)
        with pytest.raises(IndexNotFound):
            stale.put({"lost": b"{}"})
        assert BOOKS not in world.snapshot()

    def test_a_write_goes_to_the_index_that_has_the_name_now(self, world: World, other: Process) -> None:
        create(other)
        stale = world.process()
        stale.put({"a": b"{}"})
        drop(other)
        create(other)
        other.put({"new": b"{}"})
        stale.put({"b": b"{}"})
        assert rows(world) == {"new": b"{}", "b": b"{}"}

    def test_a_drop_is_of_the_index_that_has_the_name_now(self, world: World, other: Process) -> None:
        create(other)
        stale = world.process()
        stale.put({"a": b"{}"})
        drop(other)
        create(other)
        drop(stale)
        assert BOOKS not in world.snapshot()
        assert catalog(world) == [1, 2, 3, 4]

    def test_a_write_read_back_after_the_grace_period_is_not_applied_again(self, world: World, other: Process) -> None:
        create(other)
        other.put({"z": b"{}"})
        late = world.process()
        read_uid(late)
        writer, store = sleeper(world)
        read_uid(writer)

        def meanwhile() -> None:
            """The write has landed and is overwritten; folded and collected, its number is taken by a ghost."""
            other.put({"k": b'"new"'})
            fold(other)
            collect_after(world, LONG_S)
            late.put({"ghost": b"{}"})

        store.sleep(Moment.AFTER, "/log/", meanwhile, loses=True)
        with pytest.raises(OutcomeUnknown):
            writer.put({"k": b'"old"'})
        assert rows(world) == {"z": b"{}", "k": b'"new"', "ghost": b"{}"}

    def test_a_write_is_not_applied_in_two_lives_of_an_index(self, world: World, other: Process) -> None:
        create(other)
        other.put({"z": b"{}"})
        writer, store = sleeper(world)
        read_uid(writer)
        fold(other)  # so that the wave of the create does not prove it

        def meanwhile() -> None:
            assert "k" in rows(world)
            drop(other)
            collect_after(world, LONG_S)
            create(other)

        store.sleep(Moment.NEXT, "/log/", meanwhile)
        with pytest.raises(OutcomeUnknown):
            writer.put({"k": b"{}"})
        assert store.slept
        assert rows(world) == {}

    def test_a_write_that_stands_and_cannot_be_confirmed_is_of_unknown_outcome(
        self, world: World, other: Process
    ) -> None:
        create(other)
        writer = world.process()
        writer.put({"a": b"{}"})
        state = writer.database.index("library", "books").read()
        below = paths.log_entry(state.uid, state.position + 1)
        world.store.wave([PutNew(below, b"damaged")])
        with pytest.raises(OutcomeUnknown):
            writer.put({"b": b"{}"})
        assert world.objects.get(paths.log_entry(state.uid, state.position + 2)) is not None

    def test_a_repeat_is_answered_after_a_work_floor_was_raised(self, world: World, other: Process) -> None:
        create(other)
        for key in ("z", "y"):
            other.put({key: b"{}"})
            fold(other)  # the second merges the first one's segment away
        world.clock.advance(LONG_S)
        call(other, "call-1", "k", b'"first"')
        call(other, "call-2", "k", b'"second"')
        fold(other)
        world.clock.advance(1)
        assert collect(world.process().database).segments == 1
        call(world.process(), "call-1", "k", b'"first"')
        assert rows(world)["k"] == b'"second"'


class TestCreators:
    def test_a_creator_that_slept_before_it_opened_makes_the_index_anew(self, world: World, other: Process) -> None:
        creator, store = sleeper(world)
        store.sleep(Moment.AFTER, "catalog/", lambda: self._live_and_die(world, other))
        assert create(creator).seq == 5
        assert rows(world) == {}
        creator.put({"a": b"{}"})
        assert rows(world) == {"a": b"{}"}

    def test_a_creator_that_slept_while_it_opened_does_not_acknowledge_a_ghost(
        self, world: World, other: Process
    ) -> None:
        creator, store = sleeper(world)
        store.sleep(Moment.BEFORE, "/log/", lambda: self._live_and_die(world, other))
        with pytest.raises(OutcomeUnknown):
            create(creator)
        assert BOOKS not in world.snapshot()
        assert catalog(world) == [1, 2, 3, 4]
        check_whole(world, world.snapshot())

    @staticmethod
    def _live_and_die(world: World, other: Process) -> None:
        """Somebody ends the announcement, makes the index, drops it, and all is wiped."""
        create(other)
        drop(other)
        collect_after(world, LONG_S)

    def test_an_index_dropped_before_its_creator_is_answered_was_created_once(
        self, world: World, other: Process
    ) -> None:
        creator, store = sleeper(world)
        store.sleep(Moment.AFTER, "/log/", lambda: drop(other))
        assert create(creator).seq == 1
        assert store.slept
        assert catalog(world) == [1, 2]
        assert BOOKS not in world.snapshot()

    def test_a_bucket_dropped_before_an_index_is_announced_gets_none(self, world: World, other: Process) -> None:
        creator, store = sleeper(world)
        store.sleep(Moment.BEFORE, "catalog/", lambda: other.database.delete_bucket("library"))
        with pytest.raises(BucketNotFound):
            create(creator)
        assert catalog(world) == [1, 2]
        with pytest.raises(IndexNotFound):
            other.put({"a": b"{}"})

    def test_an_index_that_is_not_yet_opened_takes_no_write(self, world: World, other: Process) -> None:
        creator, store = sleeper(world)

        def meanwhile() -> None:
            with pytest.raises(IndexNotFound):
                other.put({"a": b"{}"})

        store.sleep(Moment.AFTER, "catalog/", meanwhile)
        create(creator)
        assert store.slept
        assert rows(world) == {}

    def test_a_bucket_dropped_before_an_index_is_opened_gets_none(self, world: World, other: Process) -> None:
        creator, store = sleeper(world)
        store.sleep(Moment.BEFORE, "/log/", lambda: other.database.delete_bucket("library"))
        with pytest.raises(BucketNotFound):
            create(creator)
        assert world.snapshot() == {}
        check_whole(world, {})

    def test_an_index_announced_beside_the_drop_of_its_bucket_never_exists(self, world: World, other: Process) -> None:
        """The record comes after the deleter has looked for indexes, and its creator dies."""
        creator = world.process(FaultStore(world.store, fate_of(PutNew, "catalog/", Fate.CRASH_AFTER)))
        deleter, store = sleeper(world)

        def meanwhile() -> None:
            with pytest.raises(Crash):
                create(creator)

        store.sleep(Moment.BEFORE, paths.bucket_record("library", 3), meanwhile)
        deleter.database.delete_bucket("library")
        assert (store.slept, catalog(world)) == (True, [1])
        with pytest.raises(IndexNotFound):
            other.put({"a": b"{}"})
        other.database.create_bucket("library", Encryption(), {}, quota=9)
        assert other.database.list_indexes("library", "", "", 9) == ([], False)
        assert create(other).seq == 3

    def test_a_name_is_a_new_index_whatever_is_known_of_its_last_life(self, world: World, other: Process) -> None:
        create(other)
        other.put({"old": b"{}"})
        fold(other)
        stale = world.process()
        before = read_uid(stale)
        drop(other)
        for _ in range(2):
            collect_after(world, GRACE.records_s + 1)
        made = create(world.process())
        assert (made.seq, made.uid == before) == (3, False)
        assert read_uid(stale) == read_uid(world.process()) == made.uid
        assert rows(world) == {}


class TestDeleters:
    def test_a_deleted_index_can_be_made_again_though_the_catalog_missed_the_drop(
        self, world: World, other: Process
    ) -> None:
        create(other)
        other.put({"a": b"{}"})
        even = paths.catalog_record("library", "books", 2)
        drop(world.process(FaultStore(world.store, fate_of(PutNew, even, Fate.UNAVAILABLE))))
        assert catalog(world) == [1]
        assert create(world.process()).seq == 3
        assert rows(world) == {}

    def test_an_empty_bucket_is_deleted_though_somebody_tags_it(self, world: World, other: Process) -> None:
        deleter, store = sleeper(world)
        third = paths.bucket_record("library", 3)
        store.sleep(Moment.BEFORE, third, lambda: other.database.tag_bucket("library", lambda _: {"new": "yes"}))
        deleter.database.delete_bucket("library")
        assert store.slept
        with pytest.raises(BucketNotFound):
            other.database.bucket("library")


class TestReaders:
    def test_a_hint_beyond_the_newest_manifest_is_not_believed_and_found(self, world: World, other: Process) -> None:
        create(other)
        other.put({"a": b"{}"})
        fold(other)
        elsewhere = world.copy()
        stranger = elsewhere.process()
        stranger.put({"never": b"{}"})
        fold(stranger)
        uid, hint = read_uid(other), paths.hint("library", "books")
        for key in [hint, *elsewhere.objects.all_keys(paths.segments_folder(uid))]:
            held = elsewhere.objects.get(key)
            assert held is not None
            world.store.wave([Put(key, held.body)])
        other.put({"b": b"{}"})
        assert rows(world) == {"a": b"{}", "b": b"{}"}
        assert {finding.invariant for finding in verify(world.process().database).findings} == {"newest"}


class TestFolders:
    def test_an_object_is_as_young_as_its_name_however_long_its_creator_slept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link = os.link

        def sleepy(staged: str, path: str) -> None:
            os.utime(staged, (time.time() - LONG_S,) * 2)
            link(staged, path)

        monkeypatch.setattr(os, "link", sleepy)
        store = FolderStore(tmp_path)
        store.wave([PutNew("a/1", b"x")])
        [page] = store.wave([List("a/")])
        assert isinstance(page, Listed)
        assert abs(page.entries[0].modified_s - time.time()) < 60
