"""Time, chance and threads: the one module that knows them, so that a simulation can stand in its place."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from random import Random
from typing import Protocol, TypeVar

from neve.dataclass import dataclass

_log = logging.getLogger("neve")

_BESIDE_MAX = 64
"""Works done beside tasks at a time; more wait their turn."""
_HEAD_START_S = 0.001
"""What a task has before the work beside it begins: its requests get on their way before they have to share the
interpreter (a wave of three then starts 0.8 ms earlier), and one that is answered at once needs no work beside it."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of both clocks of a process, in seconds."""

    wall_s: float
    monotonic_s: float

    def until(self, later: Instant) -> float:
        """Seconds from this reading to `later`: the larger of the two clocks, since either may stand still in sleep."""
        return max(later.wall_s - self.wall_s, later.monotonic_s - self.monotonic_s)


class Signal(Protocol):
    """A latch: threads wait until it is set, once."""

    def set(self) -> None: ...
    def wait(self) -> None: ...


class Runtime(Protocol):
    """What a process of the engine is handed instead of reaching for clocks, dice and threads itself.

    Between two calls into the store or the runtime, code of one simulated process is not interrupted;
    on threads it is, so shared fields still need a lock (held across no such call).
    """

    def now(self) -> Instant: ...
    def sleep(self, seconds: float) -> None: ...
    def uniform(self, low: float, high: float) -> float: ...
    def token(self) -> str:
        """A fresh unique id of 128 random bits, as 32 hexadecimal digits."""
        ...

    def signal(self) -> Signal: ...
    def spawn(self, task: Callable[[], None]) -> None:
        """Run `task` in the background, some time soon; its exceptions are the task's own affair."""
        ...

    def beside(self, task: Callable[[], Result], work: Callable[[], None]) -> Result:
        """What `task` returns or raises; `work`, which raises nothing, is done while it waits, or left out."""
        ...

    def close(self) -> None:
        """Wait for background work that has begun; what has not is dropped, and later work too."""
        ...


class _EventSignal:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self) -> None:
        self._event.wait()


def _logged(task: Callable[[], None]) -> None:
    try:
        task()
    except Exception:
        _log.exception("a background task failed")


class SystemRuntime:
    """The runtime of a real process: system clocks, system randomness, a small thread pool."""

    def __init__(self) -> None:
        self._random = Random(secrets.randbits(128))
        self._background = ThreadPoolExecutor(max_workers=2, thread_name_prefix="neve-background")
        self._beside = ThreadPoolExecutor(max_workers=_BESIDE_MAX, thread_name_prefix="neve-beside")

    def now(self) -> Instant:
        return Instant(time.time(), time.monotonic())

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def token(self) -> str:
        return secrets.token_hex(16)

    def signal(self) -> Signal:
        return _EventSignal()

    def spawn(self, task: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # closed
            self._background.submit(_logged, task)

    def beside(self, task: Callable[[], Result], work: Callable[[], None]) -> Result:
        landed = threading.Event()

        def aside() -> None:
            if not landed.wait(_HEAD_START_S):
                work()

        try:
            working = self._beside.submit(copy_context().run, aside)
        except RuntimeError:  # closed
            return task()
        try:
            return task()
        finally:
            landed.set()
            if not working.cancel():  # else every thread may be waiting for another one to begin
                working.result()

    def close(self) -> None:
        self._background.shutdown(wait=True, cancel_futures=True)
        self._beside.shutdown(wait=True)
