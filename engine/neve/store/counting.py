"""Counts what a store is asked: waves, requests by verb, bytes. Prices and cost tests rest on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from neve.store.port import Found, Put, PutNew, Reply, Request, Store


@dataclass(slots=True)
class Bill:
    """What has been asked so far; `waves` lists each wave's verbs in the order sent."""

    waves: list[tuple[str, ...]] = field(default_factory=list)
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def requests(self) -> int:
        return sum(map(len, self.waves))

    def count(self, verb: str) -> int:
        return sum(wave.count(verb) for wave in self.waves)


class CountingStore:
    """A store that keeps a bill; retries that it sees count as requests of their own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.bill = Bill()

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        bill = self.bill
        replies = self._store.wave(requests)
        bill.waves.append(tuple(type(request).__name__ for request in requests))
        bill.bytes_written += sum(len(request.body) for request in requests if isinstance(request, Put | PutNew))
        bill.bytes_read += sum(len(reply.body) for reply in replies if isinstance(reply, Found))
        return replies

    def new_bill(self) -> Bill:
        """Start a fresh bill and return the finished one."""
        finished, self.bill = self.bill, Bill()
        return finished
