"""Tells of every wave as it ends: when it was sent, how long it took, what came of it, for metrics and traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from neve.dataclass import dataclass
from neve.runtime import Instant, Runtime
from neve.store.counting import Bill, bill
from neve.store.port import Exists, Failed, PutNew, Reply, Request, Store, Unknown


@dataclass(frozen=True, slots=True)
class Wave:
    """One wave: its bill (which holds no other), and how many creates came too late or were left in doubt.

    `failed` requests are those whose reply is Failed or Unknown.
    """

    began: Instant
    seconds: float
    bill: Bill
    races_lost: int
    failed: int


_SEEN: ContextVar[list[Wave] | None] = ContextVar("neve waves", default=None)


@contextmanager
def seen_waves() -> Iterator[list[Wave]]:
    """The waves that this context, or a copy of it, sends within the block through a WatchedStore, as they end."""
    waves: list[Wave] = []
    token = _SEEN.set(waves)
    try:
        yield waves
    finally:
        _SEEN.reset(token)


class WatchedStore:
    """A store whose waves are told to `tell`, whoever sends them, and to who wants to see those of its context."""

    def __init__(self, store: Store, runtime: Runtime, tell: Callable[[Wave], None] | None = None) -> None:
        """`tell` is called on the thread that sent the wave, and raises nothing."""
        self._store = store
        self._runtime = runtime
        self._tell = tell

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        seen = _SEEN.get()
        if seen is None and self._tell is None:
            return self._store.wave(requests)
        began = self._runtime.now()
        with bill() as billed:
            replies = self._store.wave(requests)
        seconds = self._runtime.now().monotonic_s - began.monotonic_s
        billed.add(requests, replies)
        lost = sum(
            isinstance(reply, Exists) and isinstance(request, PutNew)
            for request, reply in zip(requests, replies, strict=True)
        )
        wave = Wave(began, seconds, billed, lost, sum(isinstance(reply, Failed | Unknown) for reply in replies))
        if self._tell is not None:
            self._tell(wave)
        if seen is not None:
            seen.append(wave)
        return replies
