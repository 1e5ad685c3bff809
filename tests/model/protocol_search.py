"""Exhaustive search over every order in which the steps of some actors can happen.

An actor is a generator: straight-line code that yields a `Wave` of requests and is sent the `Replies`, or yields a
`Tell` of what its client hears. Between two yields it only computes, so a step of the world is one of:

- one request of one actor is executed by the store (the requests of a wave in any order, each its own step);
- a create times out: its sender hears `unknown`, and it may land at any later moment, or never;
- a create is told `exists` though nothing is there (the 409 of two creates at once);
- a delete times out likewise; its sender asks again, so it is executed twice;
- a unit of time passes.

An actor between two steps may sleep for ever: that needs no step of its own. Processes that crash are those that sleep
for ever. Search is breadth first, so a trace is a shortest one.

A generator cannot be copied, but its frame tells its state: where it stands, and its local names. `Automaton` keys on
that, and runs a program again from its start only to learn a step it has not seen. Hence the rule for programs (a test
holds it): every `yield` stands alone on the right of an assignment, a statement or a return,
outside of `for`, `with` and `try`.
"""

from __future__ import annotations

import dis
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import CodeType
from typing import Any, NamedTuple

from tests.model.protocol_store import (
    CREATED,
    EXISTS,
    UNKNOWN,
    Arrive,
    Broken,
    Delete,
    Erase,
    PutNew,
    Request,
    Store,
    Truth,
    View,
    judge,
    observe,
    show,
)


class Wave(NamedTuple):
    """Requests sent together; the store executes them in any order, or only in theirs where that shows all there is.

    It does for the GETs of what one LIST showed: such objects never change, and one that a collector took is missing
    whether it went before or after its neighbour was read.
    """

    requests: tuple[Request, ...]
    starts: bool = True  # the age of the knowledge it brings counts from here, else from an earlier wave
    arrives: bool = False  # a client's call begins as this wave is sent
    ordered: bool = False


class Tell(NamedTuple):
    """The client hears this."""

    outcome: str
    what: str | View


class Confirmed(NamedTuple):
    """What the actor knows was confirmed by the last wave that started."""


class Replies(NamedTuple):
    """The answers, in the order of the requests, and what the actor's clocks say now that the last one is here."""

    answers: tuple[Any, ...]
    young: bool  # the wave that started last took no longer than G/2
    recent: bool  # what the actor knew before is no older than 12 h
    prompt: bool  # the client's call is no older than G/2


Program = Generator[Wave | Tell | Confirmed, Any, None]


@dataclass(frozen=True, slots=True)
class Ages:
    """Time in abstract units. An age that an actor judges is at most its number; one a collector waits for, at least.

    Units pass at any moment, so 0 and 1 for G/2 and G already tell a wave that was young from one that outlived a
    grace. A finer unit (1 and 2, as the deep run has it) also shows young waves that overlap in a row longer than G.
    """

    half: int = 0
    grace: int = 1  # log entries, segments, a dropped uid
    knowledge: int = 1
    day: int = 2  # manifests
    month: int = 3  # catalog


class Scenario(NamedTuple):
    """Actors by name, the store and truth they start on, and how much may go wrong."""

    actors: Mapping[str, Callable[[], Program]]
    store: Store
    truth: Truth
    ages: Ages = Ages()
    limits: Mapping[str, int] = {}  # ages kept of objects, by kind; no entry: its age is of no interest
    late: frozenset[Request] = frozenset()  # creates sent long ago, which may still land
    timeouts: int = 0
    conflicts: int = 0
    knowledge_ages: bool = False  # whether the age of an actor's knowledge matters here
    calls_age: bool = False  # whether the age of a client's call matters here


class Actor(NamedTuple):
    point: int  # in its automaton
    answers: tuple[Any, ...]  # of the wave under way; WAITING where none has come
    wave: int = 0
    knowledge: int = 0
    call: int = 0
    arrived: int = 0  # length of the history when the client's call began


WAITING = "waiting"
FINISHED = Actor(-1, ())


class World(NamedTuple):
    store: Store
    truth: int
    actors: tuple[int, ...]
    late: frozenset[Request]
    timeouts: int
    conflicts: int


@dataclass(slots=True)
class Table:
    """Values by small numbers, so that a world is cheap to hash."""

    values: list[Any] = field(default_factory=list)
    numbers: dict[Any, int] = field(default_factory=dict)

    def number(self, value: Any) -> int:
        found = self.numbers.get(value)
        if found is None:
            found = self.numbers[value] = len(self.values)
            self.values.append(value)
        return found


class Point(NamedTuple):
    """Where a program stands: the wave it waits for, or None at its end; what it told before it."""

    wave: Wave | None
    told: tuple[Tell | Confirmed, ...]


class Automaton:
    """A program's points and steps, learned as the search asks for them."""

    def __init__(self, program: Callable[[], Program]) -> None:
        self.program = program
        self.points: list[Point] = []
        self._paths: list[tuple[Replies, ...]] = []
        self._known: dict[Any, int] = {}
        self._steps: dict[tuple[int, Replies], int] = {}
        self.start = self._learn(())

    def step(self, point: int, replies: Replies) -> int:
        key = (point, replies)
        if key not in self._steps:
            self._steps[key] = self._learn((*self._paths[point], replies))
        return self._steps[key]

    def _learn(self, path: tuple[Replies, ...]) -> int:
        running = self.program()
        point = self._run(running, None)
        for replies in path:
            point = self._run(running, replies)
        key = (point, _frames(running))
        if key not in self._known:
            self._known[key] = len(self.points)
            self.points.append(point)
            self._paths.append(path)
        return self._known[key]

    @staticmethod
    def _run(running: Program, replies: Replies | None) -> Point:
        told: list[Tell | Confirmed] = []
        try:
            said = running.send(replies)
            while not isinstance(said, Wave):
                told.append(said)
                said = running.send(None)
        except StopIteration:
            return Point(None, tuple(told))
        return Point(said, tuple(told))


def _frames(running: Any) -> tuple[Any, ...]:
    """The whole state of a program at a yield: of each generator in the chain the place and the locals still needed."""
    frames: list[Any] = []
    while running is not None and running.gi_frame is not None:
        frame = running.gi_frame
        needed = _needed(frame.f_code)[frame.f_lasti]
        names = tuple((name, _frozen(value)) for name, value in frame.f_locals.items() if name in needed)
        frames.append((frame.f_code.co_qualname, frame.f_lasti, names))
        running = running.gi_yieldfrom
    return tuple(frames)


@cache
def _needed(code: CodeType) -> dict[int, frozenset[str]]:
    """By instruction, the locals that may be read after it: the rest of a frame is no part of its state."""
    steps = list(dis.get_instructions(code))
    at = {step.offset: i for i, step in enumerate(steps)}
    always = frozenset(code.co_cellvars + code.co_freevars)
    follows: list[list[int]] = []
    for i, step in enumerate(steps):
        jump = [at[step.argval]] if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs else []
        ends = step.opname.startswith(("RETURN_VALUE", "RETURN_CONST", "RAISE", "RERAISE", "JUMP_"))
        ends = ends and "_IF_" not in step.opname
        follows.append(jump if ends or i + 1 == len(steps) else [*jump, i + 1])
    after, before = [always] * len(steps), [always] * len(steps)
    changed = True
    while changed:
        changed = False
        for i in reversed(range(len(steps))):
            step, live = steps[i], always.union(*(before[j] for j in follows[i]))
            named = (step.argval,) if isinstance(step.argval, str) else step.argval
            names = frozenset[str](named if step.opcode in dis.haslocal else ())
            reads = live - names if step.opname == "STORE_FAST" else live | names
            changed = changed or (live, reads) != (after[i], before[i])
            after[i], before[i] = live, reads
    return {step.offset: after[i] for i, step in enumerate(steps)}


def _frozen(value: object) -> object:
    match value:
        case dict():
            return tuple((key, _frozen(item)) for key, item in value.items())
        case set():
            return frozenset(value)
        case list() | tuple() if type(value) in (list, tuple):
            return tuple(map(_frozen, value))
        case _:
            return value


class Step(NamedTuple):
    """What happened, for the trace."""

    actor: str
    text: str
    request: Request | None = None
    reply: object = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: how many worlds there are, and the broken promise with its shortest trace, if any."""

    worlds: int
    broken: str = ""
    trace: tuple[Step, ...] = ()
    told: frozenset[str] = frozenset()  # outcomes that clients heard somewhere

    def __str__(self) -> str:
        if not self.broken:
            return f"{self.worlds} worlds, every promise kept"
        width = max(len(step.actor) for step in self.trace)
        lines = [f"{number:3}  {step.actor:{width}}  {_say(step)}" for number, step in enumerate(self.trace, 1)]
        return "\n".join([f"broken: {self.broken}", *lines])


class Search:
    """One exhaustive search of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.names = list(scenario.actors)
        self.automata = [Automaton(program) for program in scenario.actors.values()]
        self.truths, self.actors = Table(), Table()
        self.told: set[str] = set()
        self._step = Step("", "")
        self._executed: dict[tuple[Store, type, Request], tuple[Store, object]] = {}
        self._olders: dict[Store, Store] = {}
        self._advanced: dict[tuple[int, int, int, object, int, int], tuple[int, int]] = {}
        self._observed: dict[tuple[Store, Store, Request, int], int] = {}

    def run(self, worlds_max: int = 5_000_000) -> Found:
        """Every world that can be reached. Cost: memory and time in proportion to their number."""
        start = self._start()
        parents: dict[World, tuple[World, Step] | None] = {start: None}
        queue = deque([start])
        while queue:
            world = queue.popleft()
            try:
                for after in self._successors(world):
                    if after not in parents:
                        parents[after] = (world, self._step)
                        queue.append(after)
            except Broken as broken:
                return self._found(parents, world, str(broken))
            if len(parents) > worlds_max:
                raise MemoryError(f"more than {worlds_max} worlds: make the scenario smaller")
        return Found(len(parents), told=frozenset(self.told))

    def _found(self, parents: Mapping[World, tuple[World, Step] | None], world: World, broken: str) -> Found:
        trace = [self._step]
        while (link := parents[world]) is not None:
            world, step = link
            trace.append(step)
        return Found(len(parents), broken, tuple(reversed(trace)), frozenset(self.told))

    def _start(self) -> World:
        scenario, actors = self.scenario, []
        for automaton in self.automata:
            wave = automaton.points[automaton.start].wave
            assert wave is not None
            actors.append(self.actors.number(Actor(automaton.start, (WAITING,) * len(wave.requests))))
        truth = self.truths.number(scenario.truth)
        return World(scenario.store, truth, tuple(actors), scenario.late, scenario.timeouts, scenario.conflicts)

    def _successors(self, world: World) -> Iterator[World]:
        """Every world one step later. `_step` names the step under way, also while it raises Broken."""
        for i, number in enumerate(world.actors):
            actor: Actor = self.actors.values[number]
            wave = self.automata[i].points[actor.point].wave if actor is not FINISHED else None
            for j, request in enumerate(wave.requests if wave else ()):
                if actor.answers[j] is WAITING:
                    yield from self._outcomes(world, i, j, request)
                    if wave and wave.ordered:
                        break
        for request in world.late:
            after, reply = self._execute(world.store, request)
            self._step = Step("(network)", "lands late", request, reply)
            truth = self._observe(world, after, request)
            yield world._replace(store=after, truth=truth, late=world.late - {request})
        self._step = Step("(time)", "passes")
        yield self._later(world)

    def _outcomes(self, world: World, i: int, j: int, request: Request) -> Iterator[World]:
        """What can become of the j-th request of actor i's wave."""
        name, (after, reply) = self.names[i], self._execute(world.store, request)
        self._step = Step(name, "", request, reply)
        yield self._answer(world, i, j, after, reply)
        if isinstance(request, PutNew) and world.timeouts and request.path.kind != "segment":
            self._step = Step(name, "times out, may land later", request, UNKNOWN)
            lost = world._replace(late=world.late | {request}, timeouts=world.timeouts - 1)
            yield self._answer(lost, i, j, world.store, UNKNOWN)
        if isinstance(request, Delete) and world.timeouts and after is not world.store:
            self._step = Step(name, "is sent twice, once may land later", request, reply)
            twice = world._replace(late=world.late | {request}, timeouts=world.timeouts - 1)
            yield self._answer(twice, i, j, after, reply)
        if isinstance(request, PutNew) and world.conflicts and reply == CREATED:
            self._step = Step(name, "meets a conflict", request, EXISTS)
            conflict = world._replace(conflicts=world.conflicts - 1)
            yield self._answer(conflict, i, j, world.store, EXISTS)

    def _execute(self, store: Store, request: Request) -> tuple[Store, object]:
        key = (store, type(request), request)  # tuples of different types compare equal
        if key not in self._executed:
            self._executed[key] = store.apply(store.concrete(request))
        return self._executed[key]

    def _observe(self, world: World, after: Store, request: Request) -> int:
        if after is world.store:
            return world.truth
        key = (world.store, after, request, world.truth)
        if key not in self._observed:
            assert isinstance(request, PutNew | Delete | Erase)
            truth = observe(world.store, after, request, self.truths.values[world.truth])
            self._observed[key] = self.truths.number(truth)
        return self._observed[key]

    def _answer(self, world: World, i: int, j: int, after: Store, reply: object) -> World:
        """Actor i hears the answer to the j-th request of its wave; with the last one it goes on to its next wave."""
        actor: Actor = self.actors.values[world.actors[i]]
        wave = self.automata[i].points[actor.point].wave
        assert wave is not None
        truth = self._observe(world, after, world.store.concrete(wave.requests[j]))
        key = (i, j, world.actors[i], reply, world.truth, truth)
        if key not in self._advanced:
            begun = len(self.truths.values[world.truth].history)  # a call begins before its first request is executed
            self._advanced[key] = self._advance(i, self._heard(actor, wave, j, reply, begun), truth)
        number, truth = self._advanced[key]
        actors = (*world.actors[:i], number, *world.actors[i + 1 :])
        return World(after, truth, actors, world.late, world.timeouts, world.conflicts)

    @staticmethod
    def _heard(actor: Actor, wave: Wave, j: int, reply: object, begun: int) -> Actor:
        if all(answer is WAITING for answer in actor.answers):
            actor = actor._replace(wave=0) if wave.starts else actor
            actor = actor._replace(call=0, arrived=begun) if wave.arrives else actor
        if isinstance(wave.requests[j], Arrive):
            actor = actor._replace(arrived=begun)
        return actor._replace(answers=(*actor.answers[:j], reply, *actor.answers[j + 1 :]))

    def _advance(self, i: int, actor: Actor, truth: int) -> tuple[int, int]:
        """The actor and the truth after its answers: with the last one its program goes on, and its client may hear."""
        if WAITING in actor.answers:
            return self.actors.number(actor), truth
        automaton, ages = self.automata[i], self.scenario.ages
        young, recent, prompt = (
            actor.wave <= ages.half,
            actor.knowledge <= ages.knowledge,
            actor.call <= ages.half,
        )
        point = automaton.step(actor.point, Replies(actor.answers, young, recent, prompt))
        known: Truth = self.truths.values[truth]
        for said in automaton.points[point].told:
            if isinstance(said, Confirmed):
                actor = actor._replace(knowledge=actor.wave)
            else:
                self.told.add(said.outcome)
                known = judge(said.outcome, said.what, known, actor.arrived)
        following = automaton.points[point].wave
        if following is None:
            return self.actors.number(FINISHED), self.truths.number(known)
        actor = actor._replace(point=point, answers=(WAITING,) * len(following.requests))
        return self.actors.number(actor), self.truths.number(known)

    def _later(self, world: World) -> World:
        """The world one unit of time older."""
        ages, scenario, actors = self.scenario.ages, self.scenario, []
        for automaton, number in zip(self.automata, world.actors, strict=True):
            actor: Actor = self.actors.values[number]
            if actor is FINISHED:
                actors.append(number)
                continue
            wave = automaton.points[actor.point].wave
            assert wave is not None
            sent = not wave.starts or any(answer is not WAITING for answer in actor.answers)
            called = scenario.calls_age and (sent or not wave.arrives)
            aged = actor._replace(
                wave=min(actor.wave + 1, ages.half + 1) if sent else 0,
                knowledge=min(actor.knowledge + 1, ages.knowledge + 1) if scenario.knowledge_ages else 0,
                call=min(actor.call + 1, ages.half + 1) if called else 0,
            )
            actors.append(self.actors.number(aged))
        if world.store not in self._olders:
            self._olders[world.store] = world.store.older(scenario.limits)
        return world._replace(store=self._olders[world.store], actors=tuple(actors))


def _say(step: Step) -> str:
    if step.request is None:
        return step.text
    verb, parts = type(step.request).__name__, tuple(step.request)
    body = " = ".join(show(part) for part in parts if part != "")
    arrow = f" → {show(step.reply)}" if step.reply is not None or verb == "Get" else ""
    return f"{verb} {body}{arrow}" + (f"  ({step.text})" if step.text else "")
