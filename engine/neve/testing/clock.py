"""A runtime whose time is moved by hand, for tests of one process without threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from neve.runtime import Instant, Result, Signal

EPOCH_S = 1_750_000_000.0


class ManualClock:
    """One time for a store and its processes; moves only when told."""

    def __init__(self, now_s: float = EPOCH_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        assert seconds >= 0, "time goes forward"
        self.now_s += seconds


class ManualRuntime:
    """The runtime of one process on a `ManualClock`: sleep moves the clock, background work waits for `settle`."""

    def __init__(self, clock: ManualClock, seed: int | str = 0) -> None:
        self._clock = clock
        self._random = Random(f"manual/{seed}")
        self._background: deque[Callable[[], None]] = deque()

    def now(self) -> Instant:
        return Instant(self._clock.now_s, self._clock.now_s - EPOCH_S)

    def sleep(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def token(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def signal(self) -> Signal:
        return _Latch()

    def spawn(self, task: Callable[[], None]) -> None:
        self._background.append(task)

    def beside(self, task: Callable[[], Result], work: Callable[[], None]) -> Result:
        result = task()
        work()
        return result

    def close(self) -> None:
        self._background.clear()

    def settle(self) -> int:
        """Run all background work, and what that starts; returns how many tasks ran, raises what they raise."""
        ran = 0
        while self._background:
            self._background.popleft()()
            ran += 1
        return ran


class _Latch:
    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def wait(self) -> None:
        assert self._set, "one process without threads would wait for itself for ever"
