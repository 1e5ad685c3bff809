"""Many processes of the engine on one scheduler, in virtual time, over one store, under seeded faults.

A process runs its tasks as greenlets: code runs alone between two calls into its store or its runtime, and whoever
waits (for a wave, for time, for a signal) lets the others run. Every request of a wave reaches the store at a moment
of its own. All chance comes from the seed: the same seed, faults and code give the same run, step by step (with
PYTHONHASHSEED set, where code iterates over sets of strings). A virtual hour costs nothing.

    with Simulation(seed=7, faults=ROUGH) as simulation:
        writer = simulation.process("writer", clock_offset_s=-3600)
        writer.start(lambda: work(writer.store, writer.runtime))
        simulation.run(hours=2)
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from random import Random
from typing import TypeAlias

from greenlet import greenlet

from neve.errors import NeveError
from neve.runtime import Instant, Result, Signal
from neve.store.port import Exists, Reply, Request, Store
from neve.testing.faults import CALM, Fate, FaultPlan, damaged, describe, draw, refused, unanswered
from neve.testing.objects import Objects, on_its_way

START_S = 1_750_000_000.0
"""The true time at which every simulation begins."""

_Action: TypeAlias = Callable[[], None]


class Killed(BaseException):
    """The process of this task is dead; thrown into tasks when the simulation ends, never to be handled."""


class Stuck(AssertionError):
    """A task waits for something that nobody will bring about, or longer than the simulation allows."""


class Simulation:
    """The world: true time, the store's content, the processes, and the one queue of things to come."""

    def __init__(self, seed: int | str, faults: FaultPlan = CALM, *, trace: bool = False) -> None:
        self.random = Random(f"simulation/{seed}")
        self.now_s = START_S
        self.objects = Objects(self._store_clock)
        self.processes: list[Process] = []
        self.requests = 0
        self.running: Task | None = None
        self.trace: list[str] | None = [] if trace else None
        self._seed = seed
        self._store_offset_s = self.random.uniform(-3600, 3600)
        self._queue: list[tuple[float, int, _Action]] = []
        self._order = 0
        self._hub = greenlet.getcurrent()
        self._failure: BaseException | None = None
        self.set_faults(faults)

    def set_faults(self, faults: FaultPlan) -> None:
        """From now on these faults; what is already under way stays as it was drawn."""
        self.faults = faults
        self.chances = faults.request_chances()

    def process(self, name: str, clock_offset_s: float = 0.0) -> Process:
        """A new process with its own store port and runtime; its wall clock is off by `clock_offset_s`."""
        process = Process(self, name, clock_offset_s, Random(f"process/{self._seed}/{len(self.processes)}/{name}"))
        self.processes.append(process)
        return process

    def at(self, moment_s: float, action: _Action) -> None:
        """Do `action` at that true time."""
        self._order += 1
        heapq.heappush(self._queue, (moment_s, self._order, action))

    def run(self, *, hours: float) -> None:
        """Let that much virtual time pass; raises what a task raised."""
        stop_s = self.now_s + hours * 3600
        while self._queue and self._queue[0][0] <= stop_s:
            self._step()
        self.now_s = stop_s

    def join(self, tasks: Sequence[Task], *, hours: float = 1000) -> None:
        """Run until those tasks have ended, or their processes; raises Stuck, and what a task raised."""
        stop_s = self.now_s + hours * 3600
        while not all(task.over for task in tasks):
            if not self._queue or self._queue[0][0] > stop_s:
                waiting = [task.name for task in tasks if not task.over]
                raise Stuck(f"{', '.join(waiting)} still waiting after {(self.now_s - START_S) / 3600:.1f} h")
            self._step()

    def note(self, text: str) -> None:
        """A line for the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now_s - START_S:12.3f} {text}")

    def fail(self, error: BaseException) -> None:
        """Stop the run with that error at its next step."""
        self._failure = self._failure or error

    def close(self) -> None:
        """End every task that has not ended; their `finally` clauses run, their calls into store and runtime raise."""
        for process in self.processes:
            process.alive = False
            process.end_tasks()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def yield_to_hub(self) -> None:
        """Wait, in a task, until somebody resumes it."""
        self._hub.switch()

    def new_greenlet(self, body: _Action) -> greenlet:
        return greenlet(body, parent=self._hub)

    def _step(self) -> None:
        moment_s, _, action = heapq.heappop(self._queue)
        self.now_s = max(self.now_s, moment_s)
        action()
        if self._failure is not None:
            raise self._failure

    def _store_clock(self) -> float:
        error_s = self.faults.store_clock_error_s
        return self.now_s + self._store_offset_s + (self.random.uniform(-error_s, error_s) if error_s else 0.0)


class Process:
    """One process: its tasks, its clocks, its ways to the store. A dead one sends nothing and runs nothing any more.

    `hold` is for scenarios by hand: how many seconds later than usual a request of this process reaches the store.
    """

    def __init__(self, simulation: Simulation, name: str, clock_offset_s: float, random: Random) -> None:
        self.name = name
        self.store: Store = SimStore(simulation, self)
        self.runtime = SimRuntime(simulation, self, random)
        self.alive = True
        self.thaws_s = 0.0
        self.wall_offset_s = clock_offset_s
        self.monotonic_offset_s = random.uniform(0, 1e6) - START_S
        self.tasks: list[Task] = []
        self._started = 0
        self.on_death: _Action = _nothing
        self.hold: Callable[[Request], float] = _not_at_all
        self._simulation = simulation

    def start(self, body: Callable[[], object], name: str = "") -> Task:
        """Begin a task, at this virtual moment."""
        self._started += 1
        task = Task(self._simulation, self, f"{self.name}/{name or self._started}", body)
        self.tasks.append(task)
        self._simulation.at(self._simulation.now_s, task.resume)
        return task

    def freeze(self, seconds: float) -> None:
        """Nothing of this process runs for that long; one of its clocks may stand still meanwhile, or none."""
        assert self.thaws_s <= self._simulation.now_s, "already frozen"
        self.thaws_s = self._simulation.now_s + seconds
        match self._simulation.random.randrange(3):
            case 0:
                self.monotonic_offset_s -= seconds
            case 1:
                self.wall_offset_s -= seconds
        self._simulation.note(f"{self.name} frozen for {seconds:.0f} s")

    def kill(self) -> None:
        """End the process at this moment; what it has sent may still land. Calls `on_death`.

        Its tasks end next, so that locks that it holds on its machine are free.
        """
        if self.alive:
            self.alive = False
            self._simulation.note(f"{self.name} killed")
            self._simulation.at(self._simulation.now_s, self.end_tasks)
            self.on_death()

    def end_tasks(self) -> None:
        """Throw Killed into every task that has not ended."""
        for task in list(self.tasks):
            task.end()


class Task:
    """A thread of a process."""

    def __init__(self, simulation: Simulation, process: Process, name: str, body: Callable[[], object]) -> None:
        self.name = name
        self.process = process
        self.finished = False
        self._simulation = simulation
        self._body = body
        self._greenlet = simulation.new_greenlet(self._run)

    @property
    def over(self) -> bool:
        return self.finished or not self.process.alive

    def resume(self) -> None:
        """Run on, in the hub: at once, when the process thaws, or never if it is dead."""
        if not self.process.alive:
            return
        if self.process.thaws_s > self._simulation.now_s:
            self._simulation.at(self.process.thaws_s, self.resume)
            return
        self._simulation.running = self
        self._greenlet.switch()
        self._simulation.running = None

    def end(self) -> None:
        if self._greenlet:  # true while it has begun and not ended
            self._greenlet.throw(Killed)

    def _run(self) -> None:
        try:
            self._body()
        except Killed:
            pass
        except BaseException as error:
            self._simulation.note(f"{self.name} raised {error!r}")
            self._simulation.fail(error)
        finally:
            self.finished = True
            if self in self.process.tasks:
                self.process.tasks.remove(self)


class SimStore:
    """The store as one process reaches it."""

    def __init__(self, simulation: Simulation, process: Process) -> None:
        self._simulation = simulation
        self._process = process

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        """As the port says; the task waits until the last reply is in."""
        simulation, process = self._simulation, self._process
        if not process.alive:
            raise Killed
        wave = _Wave(simulation, process, [on_its_way(request) for request in requests])
        random, faults = simulation.random, simulation.faults
        dice, places = random.random(), list(range(len(requests)))
        if dice < faults.kill + faults.freeze:
            random.shuffle(places)  # the requests of a wave leave in no order
            sent = random.randrange(len(requests) + 1)
            wave.send(places[:sent])
            if dice < faults.kill:
                process.kill()
            else:
                process.freeze(random.uniform(*faults.freeze_s))
                simulation.at(process.thaws_s, lambda: wave.send(places[sent:]))
        else:
            wave.send(places)
        if requests:
            simulation.yield_to_hub()
        if not process.alive:
            raise Killed
        return wave.replies


class _Wave:
    """A wave under way: collects replies and resumes its task at the moment of the last one."""

    __slots__ = ("_missing", "_process", "_ready_s", "_requests", "_simulation", "_task", "replies")

    def __init__(self, simulation: Simulation, process: Process, requests: Sequence[Request]) -> None:
        self.replies: list[Reply] = [_NO_REPLY] * len(requests)
        self._simulation = simulation
        self._process = process
        self._requests = requests
        self._missing = len(requests)
        self._ready_s = 0.0
        self._task = process.runtime.current_task()

    def send(self, places: Sequence[int]) -> None:
        if self._process.alive:
            for place in places:
                self._send(place)

    def _send(self, place: int) -> None:
        simulation, request = self._simulation, self._requests[place]
        random, faults = simulation.random, simulation.faults
        fate = draw(random, simulation.chances, request)
        simulation.requests += 1
        if simulation.trace is not None:
            simulation.note(f"{self._task.name} {describe(request)}{'' if fate is Fate.SERVED else f' … {fate}'}")
        lands_s = simulation.now_s + self._process.hold(request) + _skewed(random, faults.latency_s)
        gives_up_s = simulation.now_s + random.uniform(*faults.timeout_s) if fate in _UNANSWERED else 0.0
        match fate:
            case Fate.UNAVAILABLE:
                self._receive(place, refused(request), lands_s)
            case Fate.CONFLICT:
                self._receive(place, Exists(), lands_s)
            case Fate.LOST_REQUEST:
                self._receive(place, unanswered(request), gives_up_s)
            case Fate.LOST_REPLY:
                simulation.at(lands_s, lambda: self._land(request))
                self._receive(place, unanswered(request), gives_up_s)
            case Fate.LATE:
                simulation.at(gives_up_s + random.uniform(*faults.late_s), lambda: self._land(request))
                self._receive(place, unanswered(request), gives_up_s)
            case _:
                slow_s = random.uniform(*faults.slow_s) if fate is Fate.SLOW else 0.0
                simulation.at(lands_s + slow_s * random.random(), lambda: self._serve(place, fate, slow_s))

    def _land(self, request: Request) -> None:
        """The request reaches the store; its reply goes nowhere."""
        self._apply(request)

    def _apply(self, request: Request) -> Reply:
        reply = self._simulation.objects.apply(request)
        if self._simulation.trace is not None:
            self._simulation.note(f"  {self._task.name} {describe(request)} → {type(reply).__name__}")
        return reply

    def _serve(self, place: int, fate: Fate, slow_s: float) -> None:
        simulation = self._simulation
        reply = self._apply(self._requests[place])
        if fate in (Fate.CUT, Fate.FLIPPED):
            reply = damaged(reply, fate, simulation.random)
        back_s = slow_s * simulation.random.random() + _skewed(simulation.random, simulation.faults.latency_s)
        self._receive(place, reply, simulation.now_s + back_s)

    def _receive(self, place: int, reply: Reply, moment_s: float) -> None:
        self.replies[place] = reply
        self._ready_s = max(self._ready_s, moment_s)
        self._missing -= 1
        if not self._missing:
            self._simulation.at(self._ready_s, self._task.resume)


class SimRuntime:
    """Time, chance and threads of one simulated process."""

    def __init__(self, simulation: Simulation, process: Process, random: Random) -> None:
        self._simulation = simulation
        self._process = process
        self._random = random

    def now(self) -> Instant:
        now_s = self._simulation.now_s
        return Instant(now_s + self._process.wall_offset_s, now_s + self._process.monotonic_offset_s)

    def sleep(self, seconds: float) -> None:
        self._simulation.at(self._simulation.now_s + max(0.0, seconds), self.current_task().resume)
        self.wait()

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def token(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def signal(self) -> Signal:
        return _SimSignal(self._simulation, self)

    def spawn(self, task: Callable[[], None]) -> None:
        """As the runtime says. Errors of the engine's tree end the task in silence, any other ends the simulation."""
        process, simulation = self._process, self._simulation

        def background() -> None:
            try:
                task()
            except NeveError as error:
                simulation.note(f"{process.name} background: {error!r}")

        if process.alive:
            process.start(background, "background")

    def beside(self, task: Callable[[], Result], work: Callable[[], None]) -> Result:
        outcome: Future[Result] = Future()
        landed = self.signal()

        def aside() -> None:
            try:
                outcome.set_result(task())
            except Exception as error:
                outcome.set_exception(error)
            landed.set()

        self._process.start(aside, "beside")
        work()
        landed.wait()
        return outcome.result()

    def close(self) -> None:
        """Nothing to wait for: background work of a simulated process ends with it."""

    def current_task(self) -> Task:
        """The task that is running; it must be one of this process."""
        task = self._simulation.running
        assert task is not None, "only a task of a process can wait"
        assert task.process is self._process, f"a task of {task.process.name} uses a port of {self._process.name}"
        return task

    def wait(self) -> None:
        """Wait until resumed; raises Killed in a dead process."""
        if self._process.alive:
            self._simulation.yield_to_hub()
        if not self._process.alive:
            raise Killed


class _SimSignal:
    __slots__ = ("_runtime", "_set", "_simulation", "_waiting")

    def __init__(self, simulation: Simulation, runtime: SimRuntime) -> None:
        self._simulation = simulation
        self._runtime = runtime
        self._waiting: list[Task] = []
        self._set = False

    def set(self) -> None:
        self._set = True
        for task in self._waiting:
            self._simulation.at(self._simulation.now_s, task.resume)
        self._waiting.clear()

    def wait(self) -> None:
        if not self._set:
            self._waiting.append(self._runtime.current_task())
            self._runtime.wait()


def _skewed(random: Random, bounds: tuple[float, float]) -> float:
    """Mostly near the shortest, now and then near the longest."""
    dice = random.random()
    return bounds[0] + (bounds[1] - bounds[0]) * dice * dice * dice


def _not_at_all(request: Request) -> float:
    return 0.0


def _nothing() -> None:
    """What happens at a death that nobody watches."""


_UNANSWERED = frozenset({Fate.LOST_REQUEST, Fate.LOST_REPLY, Fate.LATE})
_NO_REPLY = Exists()
