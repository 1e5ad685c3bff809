"""Scenarios by hand: the interleavings that chance meets too seldom, each raising Violation where it goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

from neve.compaction.collect import collect
from neve.compaction.verify import verify
from neve.index import fold, paths
from neve.index import hint as hints
from neve.index.commit import commit
from neve.index.database import Database
from neve.index.manifest import SegmentInfo
from neve.store.envelope import seal
from neve.store.port import Found, Get, List, PutNew, Reply, Request, Store, Unknown
from neve.testing.simulation import Process, Simulation, Task
from tests.compacting import compact_in, short_calibrations, workspaces
from tests.importing import all_large
from tests.sim.client import KEYS, Client, Record
from tests.sim.history import Violation

HOUR_S = 3600.0
CROWD = tuple(f"old{number}" for number in range(60))
"""Keys of so many rows that their segment is kept, whatever is folded or compacted beside it."""
T = TypeVar("T")


@dataclass(slots=True)
class Actor:
    """A process with its client."""

    simulation: Simulation
    process: Process
    client: Client

    def begin(self, task: Callable[[Client], object]) -> Task:
        return self.process.start(lambda: task(self.client))

    def do(self, task: Callable[[Client], T]) -> T:
        """Do a task to its end, while everybody else goes on."""
        results: list[T] = []
        self.simulation.join([self.begin(lambda client: results.append(task(client)))])
        return results[0]

    def write(self, *keys: str) -> None:
        self.do(lambda client: client.write("b0", "i0", list(keys), [], again=False))

    def fold(self) -> None:
        self.do(lambda client: client.keep(lambda database: database.index("b0", "i0").fold(), "fold"))

    def collect(self) -> None:
        self.do(lambda client: client.keep(collect, "collect"))

    def read(self) -> None:
        self.do(lambda client: client.read("b0", "i0"))

    def delete(self, *keys: str) -> None:
        self.do(lambda client: client.write("b0", "i0", [], list(keys), again=False))

    def compact(self, machine: Path) -> None:
        self.simulation.join([self.begin_compact(machine)])

    def begin_import(self, machine: Path, *keys: str, asleep_at: str = "", seconds: float = 0.0) -> Task:
        """Import rows of some keys, asleep for so long when a stage begins."""

        def progress(stage: str, done: int, _total: int) -> None:
            if stage == asleep_at and done == 0:
                self.client.sleep(seconds)

        def work(client: Client) -> None:
            client.load("b0", "i0", client.new_load("b0", "i0", keys), machine, progress)

        return self.begin(work)

    def begin_compact(
        self, machine: Path, asleep_after: str = "", seconds: float = 0.0, *, in_vain: bool = False
    ) -> Task:
        """Compact in a folder, asleep for so long after a stage; `in_vain`: it may find that it must not commit."""

        def progress(stage: str, done: int, total: int) -> None:
            if stage == asleep_after and done == total:
                self.client.sleep(seconds)

        def compact(database: Database) -> None:
            if compact_in(database, machine, "b0", "i0", progress=progress) is None and not in_vain:
                raise Violation("there was nothing to compact")

        return self.begin(lambda client: client.keep(compact, "compact"))


@dataclass(slots=True)
class Stage:
    """A calm world with the index b0/i0 of two entries, for `actor` to enter."""

    simulation: Simulation
    record: Record
    actors: list[Actor] = field(default_factory=list)

    def actor(
        self,
        name: str,
        clock_offset_s: float = 0.0,
        port: Callable[[Store], Store] = lambda store: store,
        *,
        strict: bool = True,
    ) -> Actor:
        """Enter; `strict`: nothing but a refusal may keep it from what it does."""
        process = self.simulation.process(name, clock_offset_s)
        store = port(process.store)
        databases: list[Database] = []
        self.simulation.join([process.start(lambda: databases.append(Database.open(store, process.runtime)))])
        return Actor(self.simulation, process, Client(self.record, process, databases[0], strict=strict))

    def pass_time(self, seconds: float) -> None:
        self.simulation.run(hours=seconds / HOUR_S)


@contextmanager
def stage() -> Iterator[Stage]:
    """Set the stage; at the end of the scenario everything is read by a fresh process, verified and judged."""
    with Simulation("directed") as simulation:
        world = Stage(simulation, Record(simulation))
        maker = world.actor("maker")
        maker.do(lambda client: client.create_bucket("b0"))
        maker.do(lambda client: client.create_index("b0", "i0"))
        maker.write("k0")
        maker.write("k1")
        yield world
        judge = world.actor("judge")
        judge.read()
        findings = judge.do(lambda client: verify(client.database).findings)
        if findings:
            raise Violation(str(findings))
        world.record.history.check()


@contextmanager
def machine() -> Iterator[Path]:
    """A folder to compact and to import in, by short calibrations; no import is small."""
    with workspaces() as folder, short_calibrations(), all_large():
        yield folder


def holding(kind: type[Request], part: str, seconds: float) -> Callable[[Request], float]:
    """Holds requests of that kind whose key has that part."""

    def hold(request: Request) -> float:
        return seconds if isinstance(request, kind) and part in getattr(request, "key", "") else 0.0

    return hold


def writer_asleep_within_its_wave() -> None:
    """A create is under way for three hours; others win its number, it is folded, collected, and free when it lands."""
    with stage() as world:
        sleeper, other = world.actor("sleeper"), world.actor("other")
        sleeper.read()
        sleeper.process.hold = holding(PutNew, "/log/", 3 * HOUR_S)
        write = sleeper.begin(lambda client: client.write("b0", "i0", ["k5"], [], again=False))
        world.pass_time(1)
        sleeper.process.hold = holding(PutNew, "/log/", 0)
        supersede(other)
        world.pass_time(2 * HOUR_S)
        other.collect()
        world.simulation.join([write])


def writer_beside_a_collector_with_a_fast_clock() -> None:
    """The same within ten minutes: nothing is older than its grace, whatever a collector's own clock says."""
    with stage() as world:
        slow, other = world.actor("slow"), world.actor("other", clock_offset_s=3 * HOUR_S)
        slow.read()
        slow.process.hold = holding(PutNew, "/log/", 600)
        write = slow.begin(lambda client: client.write("b0", "i0", ["k5"], [], again=False))
        world.pass_time(1)
        slow.process.hold = holding(PutNew, "/log/", 0)
        supersede(other)
        other.collect()
        world.simulation.join([write])


def reader_arriving_during_a_wave() -> None:
    """A freshness wave is under way, a write is acknowledged, then another reader of that process asks."""
    with stage() as world:
        readers, other = world.actor("readers"), world.actor("other")
        readers.read()
        readers.process.hold = holding(Get, "/manifest/", 60)
        first = readers.begin(lambda client: client.read("b0", "i0"))
        world.pass_time(5)
        other.write("k0")
        world.pass_time(5)
        second = readers.begin(lambda client: client.read("b0", "i0"))
        world.simulation.join([first, second])


def collector_asleep_beside_another() -> None:
    """A collector sleeps while it asks for the store's time, and another one clears away what it asked with."""
    with stage() as world:
        sleeper, other = world.actor("sleeper", strict=False), world.actor("other")
        sleeper.process.hold = holding(List, "", 2 * HOUR_S)
        collecting = sleeper.begin(lambda client: client.keep(collect, "collect"))
        world.pass_time(1.5 * HOUR_S)
        other.collect()
        world.simulation.join([collecting])


def read_back_with_a_flipped_version_digit() -> None:
    """The reply to a drop is lost, and what is read back differs from what was sent in one bit of its first line."""
    with stage() as world:
        writer = world.actor("writer", port=_FlippingStore)
        writer.read()
        writer.do(lambda client: client.drop_index("b0", "i0"))


class _FlippingStore:
    """Loses the reply to the first create of a log entry, and flips a bit of the first read of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lost: str | None = None
        self._flipped = False

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        replies = self._store.wave(requests)
        for place, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            if self._lost is None and isinstance(request, PutNew) and "/log/" in request.key:
                self._lost = request.key
                replies[place] = Unknown("lost")
            elif isinstance(reply, Found) and getattr(request, "key", "") == self._lost and not self._flipped:
                self._flipped = True
                replies[place] = Found(reply.body.replace(b'{"neve":1', b'{"neve":3', 1))
        return replies


def old_work_on_a_new_manifest() -> None:
    """A segment planned hours ago, and collected since, is committed on the newest manifest, as a compaction would."""
    with stage() as world:
        worker, other = world.actor("worker"), world.actor("other")
        name = paths.segment_name(0, "0" * 32)
        uid = worker.do(lambda client: client.database.index("b0", "i0").read()).uid
        put = PutNew(paths.flat_segment(uid, name), seal({"id": "planned long ago"}))
        worker.do(lambda client: client.database.store.wave([put]))
        supersede(other)
        world.pass_time(2 * HOUR_S)
        other.collect()
        worker.do(lambda client: _commit_segment(client, name))


def index_dropped_and_made_again_under_a_writer() -> None:
    """Two know an index that was dropped, wiped and made again since: what they ask for befalls the new one."""
    with stage() as world:
        writer, dropper, admin = world.actor("writer"), world.actor("dropper"), world.actor("admin")
        writer.read()
        dropper.read()
        admin.do(lambda client: client.drop_index("b0", "i0"))
        admin.do(lambda client: client.create_index("b0", "i0"))
        world.pass_time(2 * HOUR_S)
        admin.collect()
        writer.write("k3")
        writer.read()
        dropper.do(lambda client: client.drop_index("b0", "i0"))


def index_forgotten_by_all_but_a_writer() -> None:
    """The same, but the name lay idle between, for long enough that its data were wiped."""
    with stage() as world:
        writer, admin = world.actor("writer"), world.actor("admin")
        writer.read()
        admin.do(lambda client: client.drop_index("b0", "i0"))
        world.pass_time(2 * HOUR_S)
        admin.collect()
        admin.do(lambda client: client.create_index("b0", "i0"))
        writer.write("k3")


def token_of_collected_entries() -> None:
    """The entries that a page token needs were collected, and one of their numbers was taken by a late request."""
    with stage() as world:
        pager, late, other = world.actor("pager"), world.actor("late"), world.actor("other")
        other.write(*CROWD)  # too many to be merged: their segment stays
        other.fold()
        late.read()
        other.write("k2")
        seen_s = world.simulation.now_s
        state = pager.do(lambda client: client.read("b0", "i0"))
        assert state is not None
        supersede(other)
        world.pass_time(2 * HOUR_S)
        other.collect()
        late.write("k5")
        fresh = world.actor("fresh")
        fresh.do(lambda client: client.read_again("b0", "i0", state, seen_s))


def ghost_of_a_folded_entry() -> None:
    """A late writer creates an entry whose number was folded and collected: it counts nowhere, and is no damage."""
    with stage() as world:
        late, other = world.actor("late"), world.actor("other")
        other.write(*CROWD)  # too many to be merged: their segment stays
        other.fold()
        late.read()
        for key in KEYS[:3]:
            other.write(key)
            other.fold()
        world.pass_time(2 * HOUR_S)
        other.collect()
        late.write("k5")


def index_made_while_collected() -> None:
    """A collector has listed the catalog when an index is made, and lists the data afterwards."""
    with stage() as world:
        collector, admin = world.actor("collector"), world.actor("admin")
        collector.process.hold = lambda request: 20.0 if isinstance(request, List) else 0.0
        collecting = collector.begin(lambda client: [client.keep(collect, "collect") for _ in range(9)])
        for lives_s in cycle([40, 60, 80, 100, 120]):
            if collecting.over:
                break
            admin.do(lambda client: client.drop_index("b0", "i0"))
            admin.do(lambda client: client.create_index("b0", "i0"))
            admin.write("k0")
            world.pass_time(lives_s)
            world.actor("visitor").read()


def compaction_of_overwritten_rows() -> None:
    """Of a segment that stays, one row is overwritten, one deleted, and what tells so is compacted."""
    with stage() as world, machine() as folder:
        actor = world.actor("actor")
        actor.write(*CROWD)
        actor.fold()
        actor.compact(folder)
        actor.write("k0")
        actor.delete("k1")
        actor.fold()
        actor.compact(folder)
        actor.read()


def compaction_beside_another() -> None:
    """A compaction sleeps before its commit, and another one compacts the same and more."""
    with stage() as world, machine() as folder:
        sleeper, other = world.actor("sleeper"), world.actor("other")
        other.write(*CROWD)
        other.fold()
        other.compact(folder / "other")
        other.write("k0", "k2")
        other.fold()
        compacting = sleeper.begin_compact(folder / "sleeper", "upload", 600)
        world.pass_time(60)
        other.delete("k1")
        other.fold()
        other.compact(folder / "other")
        other.write("k3")
        other.fold()
        world.simulation.join([compacting])


def inputs_folded_away_under_a_compaction() -> None:
    """While a first compaction is under way a fold merges its input with a tombstone, which it need not keep."""
    with stage() as world, machine() as folder:
        compactor, other = world.actor("compactor"), world.actor("other")
        other.fold()
        compacting = compactor.begin_compact(folder, "upload", 600)
        world.pass_time(60)
        other.delete("k1")
        other.write("k2")
        other.fold()
        world.simulation.join([compacting])
        other.read()


def tombstone_of_a_compacted_row() -> None:
    """What is deleted after a compaction stays deleted, however often it is folded."""
    with stage() as world, machine() as folder:
        actor = world.actor("actor")
        actor.fold()
        actor.compact(folder)
        actor.delete("k1")
        for key in KEYS[2:4]:
            actor.write(key)
            actor.fold()
        actor.read()


def tombstone_older_than_a_compacted_row() -> None:
    """A tombstone, superseded by a row that is being compacted, lies in a segment that a fold merges meanwhile."""
    with stage() as world, machine() as folder, patch.object(fold, "FLAT_ROWS_MAX", 50):
        compactor, other = world.actor("compactor"), world.actor("other")
        other.fold()
        other.compact(folder)
        other.delete("k1")
        other.write("k2")
        other.fold()
        other.write("k1", *CROWD[:49])  # too many to be merged with that segment
        other.fold()
        compacting = compactor.begin_compact(folder, "upload", 600)
        world.pass_time(60)
        other.write("k3")
        other.fold()
        world.simulation.join([compacting])
        other.read()


def compaction_asleep_before_its_commit() -> None:
    """Others' folds age meanwhile, and what it has uploaded is collected."""
    with stage() as world, machine() as folder:
        compactor, other = world.actor("compactor"), world.actor("other")
        other.write(*CROWD)
        other.fold()
        compactor.process.hold = holding(PutNew, "/manifest/", 3 * HOUR_S)
        compacting = compactor.begin_compact(folder)
        world.pass_time(60)
        compactor.process.hold = holding(PutNew, "/manifest/", 0)
        supersede(other)
        world.pass_time(2 * HOUR_S)
        other.collect()
        world.simulation.join([compacting])
        other.read()


def hint_with_anothers_directories() -> None:
    """A hint embeds the directory of one segment under the name of another."""
    with stage() as world, machine() as folder:
        actor, fresh = world.actor("actor"), world.actor("fresh")
        for keys in (CROWD, CROWD[:2]):
            actor.write(*keys)
            actor.fold()
            actor.compact(folder)
        key = paths.hint("b0", "i0")
        stored = world.simulation.objects.get(key)
        hint = hints.read_hint(key, Found(stored.body)) if stored is not None else None
        assert hint is not None
        swapped = dict(zip(hint.directories, reversed(hint.directories.values()), strict=True))
        assert len(swapped) == 2
        actor.do(lambda client: hints.write_hint(client.database.store, hint.record, hint.manifest, swapped))
        fresh.read()


def supersede(actor: Actor) -> None:
    """Write on, fold, and fold again, so that the first fold is superseded and may age."""
    for key in KEYS[:3]:
        actor.write(key)
    actor.fold()
    actor.write(KEYS[3])
    actor.fold()


def _commit_segment(client: Client, name: str) -> None:
    database = client.database
    state = database.index("b0", "i0").read()
    segment = SegmentInfo(name, 0, 0, 0, 0, 0)
    manifest = replace(
        state.base,
        number=state.manifest + 1,
        write_id=database.runtime.token(),
        parent=state.base.write_id,
        folded=(),
        segments=(*state.base.segments, segment),
    )
    commit(database.store, database.runtime, state.record, state.base, manifest, {})
