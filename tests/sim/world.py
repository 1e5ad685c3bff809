"""One run: writers, readers, folders, compactors, collectors, creators and droppers of indexes and buckets, the check.

Everything is drawn from the seed: the faults, the pace (seconds to days between operations), the thresholds. Processes
die and are started again; each actor goes on until it has done its share. Then the faults end, everything is read
once more, folded and collected down to what is live, read again, and verified.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeAlias
from unittest.mock import patch

from neve.compaction import compact as compaction
from neve.compaction import plan
from neve.compaction.build import Progress
from neve.compaction.collect import collect
from neve.compaction.verify import verify
from neve.errors import NeveError
from neve.index import fold
from neve.index.database import Database
from neve.index.grace import GRACE
from neve.testing.faults import CALM
from neve.testing.simulation import Process, Simulation
from neve.transfer import import_
from tests.compacting import compact_in, live_set, short_calibrations, workspaces
from tests.sim.client import KEYS, Client, Record, Sighting
from tests.sim.history import Outcome, Violation
from tests.sim.setting import BUCKETS, INDEXES, Setting, drawn

HOURS_MAX = 200_000
Duty: TypeAlias = Callable[[Client, Random], None]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run amounted to, once it has been found right."""

    seed: int
    requests: int
    hours: float
    outcomes: Counter[str]
    trace: tuple[str, ...]


def run(seed: int, setting: Setting | None = None, *, trace: bool = False) -> Report:
    """Simulate one seed; raises Violation, or whatever the engine should not have raised. Deterministic."""
    setting = setting or drawn(seed)
    with small(setting) as folder, Simulation(seed, setting.faults, trace=trace) as simulation:
        world = World(simulation, setting, Random(f"world/{seed}"), folder)
        try:
            world.play()
            world.settle()
            world.judge()
        except BaseException as error:
            if simulation.trace is not None:
                error.add_note("\n".join(simulation.trace))
            raise
        hours = (simulation.now_s - world.begun_s) / 3600
        return Report(seed, simulation.requests, hours, world.record.outcomes, tuple(simulation.trace or ()))


@contextmanager
def small(setting: Setting) -> Iterator[Path]:
    """Few log entries are folded, and segments of few rows kept; and a folder for the disks of all machines."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(fold, "TAIL_ENTRIES_MAX", setting.fold_entries))
        stack.enter_context(patch.object(plan, "GROWTH", 1))
        stack.enter_context(patch.object(plan, "MASKED_SHARE_MAX", 0.7))
        stack.enter_context(patch.object(compaction, "MASK_INLINE_BYTES_MAX", setting.mask_bytes))
        stack.enter_context(patch.object(import_, "SMALL_ROWS", setting.small_rows))
        stack.enter_context(short_calibrations())
        yield stack.enter_context(workspaces())


class World:
    """The actors and their processes."""

    def __init__(self, simulation: Simulation, setting: Setting, random: Random, folder: Path) -> None:
        self.simulation = simulation
        self.record = Record(simulation)
        self.begun_s = simulation.now_s
        self._setting = setting
        self._folder = folder
        self._random = random
        self._names = setting.indexes()
        self._busy: dict[str, int] = {}
        self._duties: dict[str, Duty] = {
            "administer": self._administer,
            "write": self._write,
            "read": self._read,
            "page": self._page,
            "fold": self._fold,
            "collect": self._collect,
            "compact": self._compact,
            "import": self._import,
        }

    def play(self) -> None:
        """Let all actors do their share; raises AssertionError when they do not come to an end."""
        for name, tasks in self._setting.crew.items():
            self._launch(name, [share for _, share in tasks], [self._duties[duty] for duty, _ in tasks], generation=0)
        while any(self._busy.values()):
            assert self.simulation.now_s - self.begun_s < HOURS_MAX * 3600, f"actors never finish: {self._busy}"
            self.simulation.run(hours=10)

    def settle(self) -> None:
        """Without faults: late requests land, everything is read, folded, collected, read again, verified."""
        self.simulation.set_faults(CALM)
        self.simulation.run(hours=12)
        process = self.simulation.process("last")
        self._do(process, self._look_around)
        for pause_h in (2, 26, 24 * 31):
            self.simulation.run(hours=pause_h)
            self._do(process, self._keep_house)
        self._do(process, self._look_around)
        fresh = self.simulation.process("fresh")
        self._do(fresh, self._look_around)

    def judge(self) -> None:
        """Raise Violation where what was seen cannot be explained."""
        self.record.history.check()
        by_index: defaultdict[str, list[Sighting]] = defaultdict(list)
        for sighting in self.record.sightings:
            by_index[sighting.uid].append(sighting)
            self._check_epoch(sighting)
        for sightings in by_index.values():
            check_positions(sightings, self._may_repeat)

    # Processes

    def _launch(self, name: str, left: list[int], duties: list[Duty], generation: int) -> None:
        """Start a process whose tasks do what is left of their shares, and start another one should it die."""
        process = self.simulation.process(f"{name}.{generation}", self._random.uniform(*self._setting.clocks_s))
        clients: list[Client] = []

        def die() -> None:
            for client in clients:
                client.died()
            again_s = self.simulation.now_s + self._random.choice([1, 30, 900, 8000])
            self.simulation.at(again_s, lambda: self._launch(name, left, duties, generation + 1))

        def work(place: int) -> None:
            random = Random(f"{name}/{generation}/{place}/{self._random.random()}")
            while left[place] > 0:
                left[place] -= 1
                duties[place](clients[0], random)
                process.runtime.sleep(self._pause_s(random))
            self._busy[name] -= 1

        def begin() -> None:
            clients.append(Client(self.record, process, self._open(process)))
            for place, share in enumerate(left):
                if share > 0:
                    process.start(lambda place=place: work(place), f"{place}")

        self._busy[name] = sum(share > 0 for share in left)
        process.on_death = die
        process.start(begin, "begin")

    def _open(self, process: Process) -> Database:
        while True:
            try:
                return Database.open(process.store, process.runtime, GRACE)
            except NeveError as error:
                self.record.outcomes[f"open {type(error).__name__}"] += 1
                process.runtime.sleep(5)

    def _do(self, process: Process, task: Callable[[Process], None]) -> None:
        self.simulation.join([process.start(lambda: task(process))])

    def _pause_s(self, random: Random) -> float:
        if random.random() < self._setting.short:
            return random.uniform(0, 2) * self._setting.stretch
        return random.uniform(0, random.choice([600, 600, 7200])) * self._setting.stretch

    # Duties

    def _administer(self, client: Client, random: Random) -> None:
        bucket, index = random.choice(self._names)
        dice = random.random()
        if dice < 0.3:
            self._create(client, bucket, index)
        elif dice < 0.7:
            client.drop_index(bucket, index)
            if random.random() < 0.8:
                self._create(client, bucket, index)
        elif dice < 0.8:
            for index in INDEXES:
                client.drop_index(bucket, index)
            client.drop_bucket(bucket, INDEXES)
        elif dice < 0.9:
            client.drop_bucket(bucket, INDEXES)
        else:
            client.tag_bucket(bucket)

    def _create(self, client: Client, bucket: str, index: str) -> None:
        client.create_bucket(bucket)
        client.create_index(bucket, index)

    def _write(self, client: Client, random: Random) -> None:
        bucket, index = random.choice(self._names)
        dice = random.random()
        if dice < 0.15:
            client.read(bucket, index)
        elif dice < 0.25:
            client.tag(bucket, index)
        else:
            keys = random.sample(KEYS, random.choice([1, 1, 2, 4]))
            puts = [key for key in keys if random.random() < 0.75]
            deletes = [key for key in keys if key not in puts]
            outcome = client.write(bucket, index, puts, deletes, again=random.random() < 0.3)
            if outcome is Outcome.REFUSED and random.random() < 0.5:
                self._create(client, bucket, index)

    def _read(self, client: Client, random: Random) -> None:
        bucket, index = random.choice(self._names)
        dice = random.random()
        if dice < 0.65:
            client.read(bucket, index)
        elif dice < 0.8:
            client.read(bucket, index, bounded_s=random.choice([0.0, 1.0, 60.0, 3000.0, 30_000.0]))
        elif dice < 0.9:
            client.read_bucket(bucket)
        else:
            client.list_indexes(bucket, INDEXES)

    def _page(self, client: Client, random: Random) -> None:
        """Read, and some time later the very same state again."""
        bucket, index = random.choice(self._names)
        seen_s = self.simulation.now_s
        state = client.read(bucket, index)
        if state is not None:
            client.read_again(bucket, index, state, seen_s)
            client.sleep(random.choice([10, 1000, 3000, 8000]))
            client.read_again(bucket, index, state, seen_s)

    def _fold(self, client: Client, random: Random) -> None:
        client.keep(lambda database: database.index(*random.choice(self._names)).fold(), "fold")

    def _collect(self, client: Client, random: Random) -> None:
        client.keep(collect, "collect")

    def _compact(self, client: Client, random: Random) -> None:
        """On the machine of the process, whose disk outlives it."""
        name = random.choice([self._names[0], random.choice(self._names)])
        client.sleep(random.uniform(0, 1200) * self._setting.stretch)  # while others are at work, too
        if random.random() < 0.7:
            client.keep(lambda database: database.index(*name).fold(), "fold")
        machine, progress, full = self._machine(client), self._progress(client, random), random.random() < 0.3
        client.keep(lambda database: compact_in(database, machine, *name, progress=progress, full=full), "compact")

    def _import(self, client: Client, random: Random) -> None:
        """Begin an import, or go on with one that another process has begun, or give it up."""
        bucket, index = random.choice([self._names[0], random.choice(self._names)])
        client.sleep(random.uniform(0, 1200) * self._setting.stretch)
        load = self.record.loads.get(f"{bucket}/{index}")
        if load is None or load.is_done or random.random() < 0.2:
            load = client.new_load(bucket, index, random.choices(KEYS, k=random.choice([1, 3, 9])))
        machine, progress = self._machine(client), self._progress(client, random)
        outcome = client.load(bucket, index, load, machine, progress)
        if outcome is Outcome.REFUSED and random.random() < 0.7:
            client.keep(lambda database: database.index(bucket, index).abandon_import(), "abandon")
            client.load(bucket, index, load, machine, progress)

    def _machine(self, client: Client) -> Path:
        """The disk of a process's machine."""
        return self._folder / client.process.name.split(".")[0]

    def _progress(self, client: Client, random: Random) -> Progress:
        """Each stage may take its time, or be the last."""
        process, lasts_s = client.process, random.choice([0, 30, 300, 1200]) * self._setting.stretch

        def progress(stage: str, done: int, total: int) -> None:
            if random.random() < self.simulation.faults.kill:
                process.kill()
            if lasts_s and done < total:
                client.sleep(random.uniform(0, lasts_s))

        return progress

    # The end

    def _look_around(self, process: Process) -> None:
        client = Client(self.record, process, self._open(process), strict=True)
        for bucket in BUCKETS:
            client.read_bucket(bucket)
            client.list_indexes(bucket, INDEXES)
            for index in INDEXES:
                client.read(bucket, index)
        verify_whole(client.database)

    def _keep_house(self, process: Process) -> None:
        client = Client(self.record, process, self._open(process), strict=True)
        for bucket, index in self._names:
            client.write(bucket, index, list(KEYS[:2]), list(KEYS[2:3]), again=False)
            client.keep(lambda database, name=(bucket, index): database.index(*name).fold(), "fold")
        bucket, index = self._random.choice(self._names)
        for name in self._names:
            client.keep(lambda database, name=name: database.index(*name).abandon_import(), "abandon")
        if client.read(bucket, index) is not None:
            load = client.new_load(bucket, index, self._random.sample(KEYS, 3))
            client.load(bucket, index, load, self._folder / "last", lambda _stage, _done, _total: None)
        client.keep(lambda database: self._compact_calmly(database, *self._random.choice(self._names)), "compact")
        client.keep(collect_whole, "collect")
        verify_whole(client.database)

    def _compact_calmly(self, database: Database, bucket: str, index: str) -> None:
        """A compaction that nothing disturbs changes nothing but the arrangement, and leaves nothing on the disk."""
        handle, machine = database.index(bucket, index), self._folder / "last"
        before = live_set(database, handle.read())
        compact_in(database, machine, bucket, index)
        if live_set(database, handle.read()) != before:
            raise Violation(f"a compaction has changed the rows of {bucket}/{index}")
        if any(machine.iterdir()):
            raise Violation(f"a compaction of {bucket}/{index} has left {list(machine.rglob('*'))}")

    def _may_repeat(self, register: str, value: str) -> bool:
        return self.record.history.writer(register, value).repeated

    def _check_epoch(self, sighting: Sighting) -> None:
        """A re-created index shows nothing of a write that had been answered, however, before it was made."""
        creation = self.record.creations[sighting.creation]
        for register, value in sighting.values.items():
            if value is None or value == sighting.creation:
                continue
            writer = self.record.history.writer(register, value)
            if writer.returned_s < creation.begun_s:
                raise Violation(f"{register} = {value} of {writer.name} shows in an index of {creation.name}")


def collect_whole(database: Database) -> None:
    """Collect, and leave nothing: in a world without faults nothing keeps an index from being collected."""
    if left := collect(database).left:
        raise Violation(f"collection left {left}")


def verify_whole(database: Database) -> None:
    if findings := verify(database).findings:
        raise Violation("\n".join(f"{f.invariant} {f.where}: {f.detail}" for f in findings))


def check_positions(sightings: Sequence[Sighting], may_repeat: Callable[[str, str], bool]) -> None:
    """States of one index are in one order: equal ones are equal, none is followed by an older one, none comes back."""
    in_order = sorted(sightings, key=lambda sighting: sighting.position)
    for before, after in pairwise(in_order):
        if before.position == after.position and before.values != after.values:
            raise Violation(f"two states at position {after.position}: {before} {after}")
    past: defaultdict[str, list[str | None]] = defaultdict(list)
    for sighting in in_order:
        for register, value in sighting.values.items():
            if past[register][-1:] == [value]:
                continue
            if value is not None and value in past[register] and not may_repeat(register, value):
                raise Violation(f"{register} = {value} came back at position {sighting.position}")
            past[register].append(value)
    strong = [sighting for sighting in sightings if sighting.strong]
    for earlier in strong:
        for later in strong:
            if earlier.ended_s < later.begun_s and earlier.position > later.position:
                raise Violation(f"a strong read went back from {earlier} to {later}")
