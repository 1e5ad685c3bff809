"""Collection keeps what a grace period protects and deletes what it does not; verification finds what is planted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from neve.compaction.collect import Collected, collect
from neve.compaction.verify import Verified, verify
from neve.errors import BucketNotFound, IndexNotFound, PageTokenInvalid
from neve.index import entry as entries
from neve.index import manifest as manifests
from neve.index import paths
from neve.index.database import Database
from neve.index.entry import Kind, Write, encode_bare
from neve.index.grace import Grace
from neve.index.index import Index
from neve.index.manifest import Manifest
from neve.index.records import Encryption, IndexConfig
from neve.index.state import State
from neve.query.fetch import fetch
from neve.segments.flat import pack, unpack
from neve.segments.rows import Puts
from neve.store.envelope import seal, unseal
from neve.store.port import Delete, Listed, Put, PutNew, Reply, Request, Store
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from neve.vectors.metric import Metric
from tests.reading import session

GRACE = Grace(segments_s=10, manifests_s=100, records_s=1000, knowledge_s=50)
CONFIG = IndexConfig(2, Metric.EUCLIDEAN, None, Encryption())
TOKEN = "f" * 32


@dataclass
class World:
    """One store, the processes on it, and one time for all."""

    clock: ManualClock = field(default_factory=ManualClock)
    objects: Objects = field(init=False)
    processes: int = 0

    def __post_init__(self) -> None:
        self.objects = Objects(self.clock)
        self.database = self.process()
        self.database.create_bucket("b", Encryption(), {}, quota=9)
        self.database.create_index("b", "i", CONFIG, {}, quota=9)

    def process(self, store: Store | None = None) -> Database:
        self.processes += 1
        return Database.open(store or MemoryStore(self.objects), ManualRuntime(self.clock, self.processes), GRACE)

    @property
    def index(self) -> Index:
        return self.database.index("b", "i")

    @property
    def state(self) -> State:
        return self.process().index("b", "i").read()

    def put(self, *keys: str, value: float = 1.0) -> None:
        vectors = np.full((len(keys), 2), value, np.float32)
        self.index.write(lambda _: Write(Puts(keys, vectors, [b"{}"] * len(keys))))

    def delete(self, *keys: str) -> None:
        self.index.write(lambda _: Write(Puts((), np.empty((0, 2), np.float32), ()), keys))

    def fold(self) -> None:
        """The tail becomes a manifest, a second after it was written and a second before anything else."""
        self.clock.advance(1)
        self.index.fold()
        self.clock.advance(1)

    def collect(self, after_s: float = 0.0) -> Collected:
        self.clock.advance(after_s)
        return collect(self.process())

    def verify(self) -> Verified:
        return verify(self.process())

    def keys(self, kind: str) -> list[str]:
        return [key for key in self.objects.all_keys() if f"/{kind}/" in key or key.startswith(kind)]


@pytest.fixture
def world() -> World:
    return World()


class TestCollect:
    def test_nothing_is_collected_before_there_is_a_manifest(self, world: World) -> None:
        world.put("a")
        before = world.objects.all_keys()
        assert world.collect(after_s=10_000) == Collected()
        assert world.objects.all_keys() == before

    def test_log_entries_go_a_grace_period_after_they_were_folded(self, world: World) -> None:
        world.put("a")
        world.fold()
        world.put("b")
        assert world.collect(after_s=8).log_entries == 0
        assert world.collect(after_s=2).log_entries == 2
        assert [paths.number(key) for key in world.keys("log")] == [3]
        assert world.collect(after_s=10_000).log_entries == 0
        assert world.state.live_rows == 2

    def test_ages_are_the_stores_and_not_the_collectors(self, world: World) -> None:
        """A collector whose own clocks are hours ahead deletes nothing early, and one behind is not late."""
        world.put("a")
        world.fold()
        ahead, behind = ManualClock(world.clock() + 36_000), ManualClock(world.clock() - 36_000)
        for clock in (ahead, behind):
            found = collect(Database.open(MemoryStore(world.objects), ManualRuntime(clock), GRACE))
            assert found.log_entries == 0
        world.clock.advance(12)
        late = collect(Database.open(MemoryStore(world.objects), ManualRuntime(behind), GRACE))
        assert late.log_entries == 2

    def test_times_of_the_store_decide_whatever_they_are(self, world: World) -> None:
        """A manifest that the store calls old is old, and one that it calls new protects what it superseded."""
        world.put("a")
        world.fold()
        world.clock.advance(1000)
        shifted = ShiftedTimes(MemoryStore(world.objects), {"/manifest/": 1000.0})
        assert collect(world.process(shifted)).log_entries == 0
        assert collect(world.process(ShiftedTimes(MemoryStore(world.objects), {"/log/": 1000.0}))).log_entries == 2

    def test_segments_go_after_a_work_floor_has_been_committed(self, world: World) -> None:
        for key in "abc":
            world.put(key)
            world.fold()
        assert len(world.keys("segments")) == 3
        assert world.state.manifest == 3
        assert world.collect(after_s=4).segments == 0
        assert world.collect(after_s=10).segments == 2
        state = world.state
        assert (state.manifest, state.base.work_floor) == (4, 3)
        assert [entry.number for entry in state.base.folded] == [4], "repeats of calls are still answered"
        assert [segment.info.name for segment in state.segments] == [world.keys("segments")[0].split("/")[3]]
        assert world.collect(after_s=10).segments == 0

    def test_a_segment_whose_commit_never_came_goes_too(self, world: World) -> None:
        world.put("a")
        world.fold()
        uid = world.state.uid
        orphan = paths.flat_segment(uid, paths.segment_name(0, TOKEN))
        recent = paths.flat_segment(uid, paths.segment_name(1, TOKEN))
        world.objects.apply(Put(orphan, seal({"id": TOKEN})))
        world.objects.apply(Put(recent, seal({"id": TOKEN})))
        assert world.collect(after_s=20).segments == 1
        assert orphan not in world.keys("segments")
        assert recent in world.keys("segments"), "work planned on the newest manifest may still be committed"

    @pytest.mark.parametrize("under_way", [True, False])
    def test_what_a_job_has_made_stays_until_nobody_goes_on_with_it(self, world: World, under_way: bool) -> None:
        """One of several machines takes longer than any grace period; what it has written last tells that it lives."""
        world.put("a")
        world.fold()
        uid, planned_on = world.state.uid, world.state.manifest
        job = paths.job_folder(uid, paths.segment_name(planned_on, TOKEN))
        segment = paths.segment_directory(uid, paths.segment_name(planned_on, TOKEN))
        world.objects.apply(Put(segment, seal({"id": TOKEN})))
        if under_way:
            world.objects.apply(Put(job + "job", b"a job"))
        for _ in range(3):
            world.put("b")
            world.fold()
            collected = world.collect(after_s=40)
            assert (segment in world.objects.all_keys()) is under_way
            assert collected.jobs == 0
            assert not world.verify().findings
            if under_way:
                world.objects.apply(Put(job + "build-1", b"a build"))
        assert world.collect(after_s=101).jobs == under_way
        assert not world.keys("work")
        assert segment not in world.objects.all_keys()

    def test_what_a_page_rests_on_is_kept_for_the_grace_period(self, world: World) -> None:
        world.put("a")
        world.fold()
        world.put("b")
        named = world.state
        world.put("c")
        world.fold()
        world.collect(after_s=8)
        reader = world.process().index("b", "i")
        again = reader.read_at(named.uid, named.manifest, named.position, named.arrangement())
        assert (again.live_rows, again.digest()) == (2, named.digest())
        world.collect(after_s=3)
        with pytest.raises(PageTokenInvalid):
            world.process().index("b", "i").read_at(named.uid, named.manifest, named.position, named.arrangement())

    def test_manifests_stay_longer_and_the_newest_for_ever(self, world: World) -> None:
        for key in "ab":
            world.put(key)
            world.fold()
        world.collect(after_s=50)  # raises the work floor: a third manifest
        assert len(world.keys("manifest")) == 3
        assert world.collect(after_s=60).manifests == 1
        assert world.collect(after_s=40).manifests == 1
        assert world.collect(after_s=100_000).manifests == 0
        assert [paths.manifest_number(key) for key in world.keys("manifest")] == [3]

    def test_a_ghost_below_what_is_folded_is_deleted_again(self, world: World) -> None:
        world.put("a")
        world.fold()
        world.collect(after_s=20)
        uid = world.state.uid
        ghost = paths.log_entry(uid, 1)
        world.objects.apply(PutNew(ghost, encode_bare(Kind.DROP, TOKEN)))
        assert world.state.live_rows == 1
        assert world.collect().log_entries == 1
        assert world.keys("log") == []

    def test_a_manifest_that_does_not_count_supersedes_nothing(self, world: World) -> None:
        """A sleeper's manifest at a number long collected: it looks new, names another parent, and is passed over."""
        for key in "ab":
            world.put(key)
            world.fold()
        world.collect(after_s=200)
        world.collect(after_s=200)
        state = world.state
        ghost = replace(state.base, number=1, write_id=TOKEN, parent="", segments=(), folded_to=99)
        world.objects.apply(PutNew(paths.manifest(state.uid, 1), ghost.encode()))
        world.put("c")
        assert world.collect(after_s=50).left == []
        assert world.state.live_rows == 3

    def test_a_dropped_index_is_wiped_and_its_record_stays(self, world: World) -> None:
        world.put("a")
        uid = world.state.uid
        world.database.delete_index("b", "i")
        assert world.collect(after_s=9).dropped_indexes == 0
        assert world.collect(after_s=1).dropped_indexes == 1
        assert world.objects.all_keys(paths.data_folder(uid)) == []
        assert [paths.number(key) for key in world.keys("catalog/")] == [1, 2]

    def test_data_that_reappear_under_a_dropped_uid_are_wiped_again(self, world: World) -> None:
        uid = world.state.uid
        world.database.delete_index("b", "i")
        world.collect(after_s=20)
        world.objects.apply(PutNew(paths.log_entry(uid, 1), encode_bare(Kind.OPEN, TOKEN)))
        with pytest.raises(IndexNotFound):
            world.process().index("b", "i").read()
        assert world.collect().dropped_indexes == 1
        assert world.objects.all_keys(paths.data_folder(uid)) == []

    def test_data_that_no_record_names_are_left_alone(self, world: World) -> None:
        """Garbage is what a record calls dropped, never what none calls living: that record may be under way."""
        stray = paths.log_entry(TOKEN, 1)
        world.objects.apply(PutNew(stray, encode_bare(Kind.OPEN, TOKEN)))
        world.collect(after_s=100_000)
        assert stray in world.objects.all_keys()

    def test_a_recreated_index_keeps_its_data(self, world: World) -> None:
        world.put("a")
        world.database.delete_index("b", "i")
        world.database.create_index("b", "i", CONFIG, {}, quota=9)
        world.put("b", "c")
        assert world.collect(after_s=100).dropped_indexes == 1
        assert world.state.live_rows == 2
        assert world.collect(after_s=1000).records == 2
        assert [paths.number(key) for key in world.keys("catalog/")] == [3]
        assert world.state.live_rows == 2

    def test_superseded_bucket_records_go(self, world: World) -> None:
        world.database.tag_bucket("b", lambda _: {"a": "b"})
        assert world.collect(after_s=999).records == 0
        assert world.collect(after_s=1).records == 1
        assert world.process().bucket("b").tags == {"a": "b"}

    def test_names_are_free_before_and_after_their_records_go(self, world: World) -> None:
        """The last record of a name stays for ever: no number comes twice."""
        world.database.delete_index("b", "i")
        world.database.delete_bucket("b")
        for pause_s in (0, 10_000):
            world.collect(after_s=pause_s)
            with pytest.raises(BucketNotFound):
                world.process().bucket("b")
        assert world.process().list_buckets("", "", 9) == ([], False)
        assert [paths.number(key) for key in (*world.keys("buckets/"), *world.keys("catalog/"))] == [3, 2]
        world.process().create_bucket("b", Encryption(), {}, quota=9)
        assert world.process().bucket("b").tags == {}

    def test_a_collector_leaves_nothing_of_its_own(self, world: World) -> None:
        before = world.objects.all_keys()
        world.collect()
        assert world.objects.all_keys() == before

    def test_a_damaged_record_of_a_drop_is_left_alone_and_named(self, world: World) -> None:
        world.database.create_index("b", "zz", CONFIG, {}, quota=9)
        for name in ("i", "zz"):
            world.database.delete_index("b", name)
        damaged = world.keys("catalog/b/i/")[-1]
        world.objects.apply(Put(damaged, body_of(world, damaged)[:-1] + b"?"))
        found = world.collect(after_s=20)
        assert (found.dropped_indexes, len(found.left)) == (1, 1)
        assert damaged in found.left[0]

    def test_an_index_that_cannot_be_read_does_not_keep_the_others_from_it(self, world: World) -> None:
        world.put("a")
        world.fold()
        world.database.create_index("b", "broken", CONFIG, {}, quota=9)
        broken = world.database.index("b", "broken")
        broken.write(lambda _: Write(Puts(("x",), np.ones((1, 2), np.float32), (b"{}",))))
        broken.fold()
        key = paths.manifest(broken.read().uid, 1)
        world.objects.apply(Put(key, b"damaged"))
        found = world.collect(after_s=20)
        assert found.log_entries == 2
        assert len(found.left) == 1
        assert key in found.left[0]


class TestVerify:
    @pytest.fixture(autouse=True)
    def content(self, world: World) -> None:
        """Two segments, the smaller one hiding rows of the larger, three manifests at hand, and a tail."""
        world.put(*(f"k{number}" for number in range(20)))
        world.fold()
        world.put("k1", "new", value=2.0)
        world.delete("k2", "k3")
        world.fold()
        world.put("k4", "newer", value=3.0)
        world.delete("k5")

    def test_what_nobody_damaged_is_whole(self, world: World) -> None:
        found = world.verify()
        assert (found.findings, found.indexes, found.rows) == ([], 1, 19)
        assert found.objects == len([key for key in world.objects.all_keys() if key.startswith(("b", "c", "d"))])
        world.collect(after_s=500)
        assert world.verify().findings == []

    def test_one_bucket_and_one_index_can_be_asked_for(self, world: World) -> None:
        world.database.create_index("b", "other", CONFIG, {}, quota=9)
        assert world.process().index("b", "other").read().live_rows == 0
        assert [verify(world.process(), *names).indexes for names in (("b", "i"), ("b",), ("c",))] == [1, 2, 0]

    @pytest.mark.parametrize("kind", ["log", "segments", "manifest"])
    def test_checksum(self, world: World, kind: str) -> None:
        for key in world.keys(kind):
            good = body_of(world, key)
            world.objects.apply(Put(key, good[:-1] + bytes([good[-1] ^ 1])))
            assert "checksum" in found_in(world), key
            world.objects.apply(Put(key, good))
        assert found_in(world) == set()

    def test_a_segment_that_is_gone(self, world: World) -> None:
        world.objects.apply(Delete((world.keys("segments")[0],)))
        assert found_in(world) == {"readable"}

    def test_a_row_that_is_gone_from_a_segment(self, world: World) -> None:
        rewrite_segment(world, 0, keep=lambda rows: np.arange(1, len(rows)))
        assert found_in(world) == {"readable"}

    def test_a_key_that_stands_twice_in_the_place_of_another(self, world: World) -> None:
        rewrite_segment(world, 0, keep=lambda rows: np.array([0, 0, *range(2, len(rows))]))
        assert {"sorted", "live-set"} <= found_in(world)

    def test_segments_in_each_others_place(self, world: World) -> None:
        one, other = world.keys("segments")
        body_one, body_other = body_of(world, one), body_of(world, other)
        world.objects.apply(Put(one, body_other))
        world.objects.apply(Put(other, body_one))
        assert found_in(world) == {"readable"}

    def test_a_manifest_in_the_place_of_another(self, world: World) -> None:
        newest, older = world.keys("manifest")
        world.objects.apply(Put(newest, body_of(world, older)))
        world.objects.apply(Delete(tuple(world.keys("hints/"))))
        assert found_in(world) == {"readable"}

    @pytest.mark.parametrize("kind", ["buckets/", "catalog/"])
    def test_a_damaged_record_does_not_hide_other_damage(self, world: World, kind: str) -> None:
        world.database.create_index("b", "zz", CONFIG, {}, quota=9)
        segment = world.keys("segments")[0]
        for key in (world.keys(kind)[0], segment):
            world.objects.apply(Put(key, body_of(world, key)[:-1] + b"?"))
        found = {finding.where for finding in world.verify().findings if finding.invariant == "checksum"}
        assert world.keys(kind)[0] in found
        assert kind == "catalog/" or segment in found

    def test_rows_out_of_order_and_so_live_twice(self, world: World) -> None:
        """What the tail overwrites is not found there, and stays live."""
        rewrite_segment(world, 0, keep=lambda rows: np.arange(len(rows))[::-1])
        assert {"sorted", "unique"} <= found_in(world)

    def test_a_row_from_the_future(self, world: World) -> None:
        rewrite_segment(world, 0, keep=lambda rows: np.arange(len(rows)), later=1000)
        assert {"positions", "live-set"} <= found_in(world)

    @pytest.mark.parametrize(
        ("invariant", "change"),
        [
            ("live-set", lambda base: with_segment(base, live=base.segments[0].live + 1)),
            ("live-set", lambda base: with_segment(base, digest=base.segments[0].digest ^ 1)),
            ("live-set", lambda base: replace(base, segments=base.segments[:1])),
            ("live-set", lambda base: with_segment(base, live=1)),
            ("readable", lambda base: replace(base, segments=(replace(base.segments[0], rows=1), base.segments[1]))),
            ("readable", lambda base: replace(base, number=3)),
            ("parent", lambda base: replace(base, parent=TOKEN)),
            ("fold", lambda base: replace(base, folded=base.folded[1:])),
            ("positions", lambda base: replace(base, folded_to=base.folded_to - 1)),
        ],
    )
    def test_a_manifest_that_is_not_true(
        self, world: World, invariant: str, change: Callable[[Manifest], Manifest]
    ) -> None:
        state = world.state
        world.objects.apply(Put(paths.manifest(state.uid, 2), change(state.base).encode()))
        world.objects.apply(Delete(tuple(world.keys("hints/"))))
        assert invariant in found_in(world)

    def test_a_segment_from_below_the_work_floor(self, world: World) -> None:
        state = world.state
        key = paths.manifest(state.uid, 1)
        first = manifests.decode(key, body_of(world, key))
        world.objects.apply(Put(key, replace(first, work_floor=2).encode()))
        assert found_in(world) == {"work-floor"}

    def test_a_fold_that_lost_a_write(self, world: World) -> None:
        """The segments agree with their manifest, and yet the log says otherwise."""
        key = next(key for key in world.keys("log") if paths.number(key) == 3)
        state = world.state
        write_id = entries.decode(key, body_of(world, key), 3, CONFIG.dimension).write_id
        other = Write(Puts(("z",), np.ones((1, CONFIG.dimension), np.float32), (b"{}",)))
        found = entries.encode_writes([other], (), write_id)
        world.objects.apply(Put(key, found))
        assert (found_in(world), world.state.digest()) == ({"fold"}, state.digest())

    def test_readers_agree_with_what_was_written(self, world: World) -> None:
        rows = fetch(session(world.database), world.state, ["k1", "k2", "k4", "k5", "k6"])
        assert [(row.key, float(row.vector[0])) for row in rows] == [("k1", 2.0), ("k4", 3.0), ("k6", 1.0)]


class ShiftedTimes:
    """A store whose LIST tells other times for some keys: later by the seconds of the first fragment that fits."""

    def __init__(self, store: Store, later_s: dict[str, float]) -> None:
        self._store = store
        self._later_s = later_s

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return [self._shifted(reply) for reply in self._store.wave(requests)]

    def _shifted(self, reply: Reply) -> Reply:
        if not isinstance(reply, Listed):
            return reply
        entries = [replace(entry, modified_s=entry.modified_s + self._shift(entry.key)) for entry in reply.entries]
        return replace(reply, entries=tuple(entries))

    def _shift(self, key: str) -> float:
        return next((seconds for fragment, seconds in self._later_s.items() if fragment in key), 0.0)


def body_of(world: World, key: str) -> bytes:
    found = world.objects.get(key)
    assert found is not None
    return found.body


def with_segment(base: Manifest, **changes: int) -> Manifest:
    """A manifest that says something else of its first segment."""
    return replace(base, segments=(replace(base.segments[0], **changes), *base.segments[1:]))


def found_in(world: World) -> set[str]:
    return {finding.invariant for finding in world.verify().findings}


def rewrite_segment(
    world: World, place: int, *, keep: Callable[[Sequence[object]], np.ndarray], later: int = 0
) -> None:
    """A segment with a right checksum and other rows."""
    key = world.keys("segments")[place]
    envelope = unseal(key, body_of(world, key))
    batch = unpack(envelope.sections, 2)
    rows = batch.rows.take(keep(range(len(batch.rows))))
    rows = replace(rows, keys=replace(rows.keys, positions=rows.keys.positions + np.uint64(later)))
    world.objects.apply(Put(key, seal(envelope.fields, pack(replace(batch, rows=rows)))))
