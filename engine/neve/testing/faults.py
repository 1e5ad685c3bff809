"""What can befall a request to an object store: as data, seeded or scripted, and a store that makes it happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TypeAlias

from neve.errors import StoreUnavailable
from neve.store.port import (
    Delete,
    Exists,
    Failed,
    Found,
    Get,
    List,
    Put,
    PutNew,
    Reply,
    Request,
    Store,
    Unknown,
    Upload,
)
from neve.testing.objects import on_its_way


class Fate(StrEnum):
    """What happens to one request."""

    SERVED = "served"
    UNAVAILABLE = "unavailable"
    """The store refuses (a 503): not done, and the sender knows."""
    CONFLICT = "conflict"
    """A create is answered with `Exists` although nothing is there (a 409): not done."""
    LOST_REQUEST = "lost request"
    """Never arrives; the sender learns nothing."""
    LOST_REPLY = "lost reply"
    """Done; the sender learns nothing."""
    LATE = "late"
    """The sender learns nothing and gives up; done minutes or hours later."""
    SLOW = "slow"
    """Done and answered, after a wait of seconds or longer."""
    CUT = "cut"
    """A read's body ends early."""
    FLIPPED = "flipped"
    """A bit of a read's body is wrong."""
    CRASH_BEFORE = "crash before"
    """The process ends; of this wave only the requests before this one have reached the store."""
    CRASH_AFTER = "crash after"
    """The process ends; of this wave this request alone has reached the store."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Chances of faults, and how long they last; the default is a faultless world.

    Chances of a request: the first eight. Chances of a process, each time that it sends a wave: `freeze` (some of
    the wave's requests leave before, the others after) and `kill`. Pairs are the shortest and the longest time.
    """

    unavailable: float = 0.0
    conflict: float = 0.0
    lost_request: float = 0.0
    lost_reply: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    cut: float = 0.0
    flipped: float = 0.0
    freeze: float = 0.0
    kill: float = 0.0
    latency_s: tuple[float, float] = (0.002, 0.05)
    timeout_s: tuple[float, float] = (1.0, 60.0)
    late_s: tuple[float, float] = (60.0, 21_600.0)
    slow_s: tuple[float, float] = (1.0, 4_000.0)
    freeze_s: tuple[float, float] = (600.0, 14_400.0)
    store_clock_error_s: float = 0.0
    """The store's times differ from the truth by at most this much, either way."""

    def request_chances(self) -> tuple[tuple[float, Fate], ...]:
        """The fates of requests with their cumulated chances, those that can happen at all."""
        chances = (
            (self.unavailable, Fate.UNAVAILABLE),
            (self.conflict, Fate.CONFLICT),
            (self.lost_request, Fate.LOST_REQUEST),
            (self.lost_reply, Fate.LOST_REPLY),
            (self.late, Fate.LATE),
            (self.slow, Fate.SLOW),
            (self.cut, Fate.CUT),
            (self.flipped, Fate.FLIPPED),
        )
        cumulated: list[tuple[float, Fate]] = []
        total = 0.0
        for chance, fate in chances:
            total += chance
            if chance > 0:
                cumulated.append((total, fate))
        assert total <= 1.0, "the chances of a request's faults add up to more than 1"
        return tuple(cumulated)


CALM = FaultPlan()
ROUGH = FaultPlan(
    unavailable=0.01,
    conflict=0.005,
    lost_request=0.01,
    lost_reply=0.015,
    late=0.01,
    slow=0.005,
    cut=0.005,
    flipped=0.005,
    freeze=0.003,
    kill=0.002,
    store_clock_error_s=450.0,
)

Fates: TypeAlias = Callable[[int, Request], Fate]
"""Decides the fate of a store's n-th request (from 0, in the order of sending)."""


class SeededFates:
    """Fates by chance: the same seed and the same requests give the same fates."""

    def __init__(self, seed: int | str, plan: FaultPlan) -> None:
        self._random = Random(f"fates/{seed}")
        self._chances = plan.request_chances()

    def __call__(self, number: int, request: Request) -> Fate:
        return draw(self._random, self._chances, request)


class ScriptedFates:
    """Fates by number: the requests that the script does not name are served."""

    def __init__(self, script: Mapping[int, Fate]) -> None:
        self._script = dict(script)

    def __call__(self, number: int, request: Request) -> Fate:
        return self._script.get(number, Fate.SERVED)


def draw(random: Random, chances: tuple[tuple[float, Fate], ...], request: Request) -> Fate:
    """The fate of one request by `FaultPlan.request_chances`; a fate that makes no sense for it becomes SERVED."""
    if not chances:
        return Fate.SERVED
    dice = random.random()
    for bound, fate in chances:
        if dice < bound:
            return fate if possible(fate, request) else Fate.SERVED
    return Fate.SERVED


def possible(fate: Fate, request: Request) -> bool:
    """Whether that can happen to such a request."""
    match fate:
        case Fate.CONFLICT:
            return isinstance(request, PutNew)
        case Fate.CUT | Fate.FLIPPED:
            return isinstance(request, Get)
        case Fate.LATE:
            return not isinstance(request, Get | List)
    return True


def unanswered(request: Request) -> Reply:
    """What the sender has in hand when no reply came: a create may have happened, any other request has failed."""
    if isinstance(request, PutNew):
        return Unknown(f"no reply to the create of {request.key}")
    return Failed(StoreUnavailable(f"no reply to {describe(request)}"))


def refused(request: Request) -> Reply:
    """What the sender of a request gets from a store that is too busy."""
    return Failed(StoreUnavailable(f"503 for {describe(request)}"))


def damaged(reply: Reply, fate: Fate, random: Random) -> Reply:
    """A read's reply with its body cut short or one bit of it flipped."""
    if not isinstance(reply, Found) or not reply.body:
        return reply
    at = random.randrange(len(reply.body))
    if fate is Fate.CUT:
        return Found(reply.body[:at])
    body = bytearray(reply.body)
    body[at] ^= 1 << random.randrange(8)
    return Found(bytes(body))


def describe(request: Request) -> str:
    """One short line for a trace."""
    match request:
        case Get(key):
            part = f" -{request.suffix}" if request.suffix is not None else f" [{request.start}:{request.stop})"
            return f"get {key}{'' if request.whole else part}"
        case PutNew(key, body):
            return f"create {key} ({len(body)} bytes)"
        case Put(key, body):
            return f"put {key} ({len(body)} bytes)"
        case Upload(key, path):
            return f"upload {key} from {path.name}"
        case List(prefix, after):
            return f"list {prefix} after {after!r}"
        case Delete(keys):
            return f"delete {' '.join(keys[:3])}{' …' if len(keys) > 3 else ''}"


class Crash(BaseException):
    """The process has ended at a request to the store; not an Exception, so that no handler of errors survives it."""


class FaultStore:
    """A store whose requests meet the fates that `fates` decides. After a crash every wave crashes again.

    Late requests wait in `late` until the test calls `land`. Waiting costs no time here: SLOW is served at once.
    """

    def __init__(self, store: Store, fates: Fates, seed: int | str = 0) -> None:
        self._store = store
        self._fates = fates
        self._random = Random(f"damage/{seed}")
        self.requests: list[Request] = []
        self.late: list[Request] = []
        self.crashed = False

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        """As the port says; raises Crash when the script ends the process."""
        if self.crashed:
            raise Crash("the process has ended before")
        requests = [on_its_way(request) for request in requests]
        fates = [self._fates(len(self.requests) + place, request) for place, request in enumerate(requests)]
        self.requests.extend(requests)
        for place, fate in enumerate(fates):
            if fate in (Fate.CRASH_BEFORE, Fate.CRASH_AFTER):
                self._crash(requests, place, fate)
        sent = [place for place, fate in enumerate(fates) if fate not in _NEVER_ARRIVE]
        answers = dict(zip(sent, self._store.wave([requests[place] for place in sent]), strict=True))
        return [self._reply(request, fates[place], answers.get(place)) for place, request in enumerate(requests)]

    def land(self) -> int:
        """Let the late requests reach the store, in the order of sending; their replies interest nobody."""
        landing, self.late = self.late, []
        for request in landing:
            self._store.wave([request])
        return len(landing)

    def _crash(self, requests: Sequence[Request], place: int, fate: Fate) -> None:
        self.crashed = True
        self._store.wave(requests[:place] if fate is Fate.CRASH_BEFORE else requests[place : place + 1])
        raise Crash(f"{fate} {describe(requests[place])}")

    def _reply(self, request: Request, fate: Fate, answer: Reply | None) -> Reply:
        match fate:
            case Fate.UNAVAILABLE:
                return refused(request)
            case Fate.CONFLICT:
                return Exists()
            case Fate.LATE:
                self.late.append(request)
                return unanswered(request)
            case Fate.LOST_REQUEST | Fate.LOST_REPLY:
                return unanswered(request)
        assert answer is not None
        return damaged(answer, fate, self._random) if fate in (Fate.CUT, Fate.FLIPPED) else answer


_NEVER_ARRIVE = frozenset({Fate.UNAVAILABLE, Fate.CONFLICT, Fate.LOST_REQUEST, Fate.LATE})
