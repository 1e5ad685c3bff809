"""Counts what a store is asked: waves, requests by verb, bytes, dollars. Explanations and cost tests rest on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field

from neve.dataclass import dataclass
from neve.store import prices
from neve.store.port import Found, Put, PutNew, Reply, Request, Store, Upload, upload_requests


@dataclass(slots=True)
class Bill:
    """What has been asked so far; `waves` lists each wave's verbs in the order sent.

    `hedges` are reads that were sent again because they were slow; `requests` and `waves` leave them out, `dollars` do
    not. `upload_requests` are the requests that the uploads among the verbs came to.
    """

    waves: list[tuple[str, ...]] = field(default_factory=list)
    bytes_read: int = 0
    bytes_written: int = 0
    hedges: int = 0
    upload_requests: int = 0

    @property
    def requests(self) -> int:
        return sum(map(len, self.waves))

    @property
    def dollars(self) -> float:
        """List price of the requests; bytes cost nothing within a region."""
        dear = self.count("Put") + self.count("PutNew") + self.count("List") + self.upload_requests
        return (self.count("Get") + self.hedges) * prices.GET + dear * prices.WRITE_OR_LIST

    def count(self, verb: str) -> int:
        return sum(wave.count(verb) for wave in self.waves)

    def add(self, requests: Sequence[Request], replies: Sequence[Reply]) -> None:
        """Enter one wave."""
        self.waves.append(tuple(type(request).__name__ for request in requests))
        for request, reply in zip(requests, replies, strict=True):
            match request:
                case Put() | PutNew():
                    self.bytes_written += len(request.body)
                case Upload():
                    self.bytes_written += request.size_bytes
                    self.upload_requests += upload_requests(request.size_bytes)
            if isinstance(reply, Found):
                self.bytes_read += len(reply.body)


_entering = threading.Lock()
"""One bill may be that of two threads: of a read, and of what it does meanwhile."""
_OPEN: ContextVar[tuple[Bill, ...]] = ContextVar("neve bills", default=())


@contextmanager
def bill() -> Iterator[Bill]:
    """A bill of the waves that this thread (this context) sends within the block, through any BilledStore.

    A thread that works in a copy of the context enters its waves too. A wave that another thread sends for both is on
    that thread's bill alone.
    """
    opened = Bill()
    token = _OPEN.set((*_OPEN.get(), opened))
    try:
        yield opened
    finally:
        _OPEN.reset(token)


def count_hedges(number: int) -> None:
    """Enter reads that were sent again on the bills that are open in this context."""
    with _entering:
        for one in _OPEN.get():
            one.hedges += number


def count_elsewhere(gets: Sequence[int], bytes_read: int, hedges: int) -> None:
    """Enter waves of so many reads, which another process sent for who is billed, on the bills open in this context."""
    with _entering:
        for one in _OPEN.get():
            one.waves += [("Get",) * count for count in gets]
            one.bytes_read += bytes_read
            one.hedges += hedges


class BilledStore:
    """A store that enters its waves on the bills open in the caller's context; costs next to nothing without one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        replies = self._store.wave(requests)
        if opened := _OPEN.get():
            with _entering:
                for one in opened:
                    one.add(requests, replies)
        return replies


class CountingStore:
    """A store that keeps one bill of all that any thread asks; retries that it sees count as requests of their own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.bill = Bill()

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        with bill() as own:
            replies = self._store.wave(requests)
        with self._lock:
            self.bill.add(requests, replies)
            self.bill.hedges += own.hedges
        return replies

    def new_bill(self) -> Bill:
        """Start a fresh bill and return the finished one."""
        with self._lock:
            finished, self.bill = self.bill, Bill()
        return finished
