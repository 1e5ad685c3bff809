"""Retries of everything but creates, and the check of all that is read: the one place for both."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from neve.errors import ObjectCorrupt, StoreUnavailable
from neve.runtime import Runtime
from neve.store.envelope import intact
from neve.store.port import Failed, Found, Get, Reply, Request, Store

ATTEMPTS_MAX = 6
BUDGET_S = 20.0
PAUSE_S = 0.05


class SteadyStore:
    """A store whose reads, lists, deletes and overwrites are tried again while that may help.

    A whole object or a block whose checksum fails is read again too: bytes may be cut on the way. One that stays wrong
    is Failed(ObjectCorrupt). A create that the store is known to have refused is tried again; one whose outcome is not
    known is handed on, since only who knows the bytes can settle it.
    """

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store = store
        self._runtime = runtime

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        begun = self._runtime.now()
        replies = self._verified(requests)
        for attempt in range(1, ATTEMPTS_MAX):
            again = [i for i, reply in enumerate(replies) if _may_pass(reply)]
            if not again or begun.until(self._runtime.now()) > BUDGET_S:
                break
            self._runtime.sleep(self._runtime.uniform(0.5, 1.5) * PAUSE_S * 2 ** (attempt - 1))
            for i, reply in zip(again, self._verified([requests[i] for i in again]), strict=True):
                replies[i] = reply
        return replies

    def _verified(self, requests: Sequence[Request]) -> list[Reply]:
        replies = self._store.wave(requests)
        for i, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            if isinstance(request, Get) and isinstance(reply, Found) and (wrong := _damage(request, reply.body)):
                replies[i] = Failed(ObjectCorrupt(wrong))
        return replies


def _damage(get: Get, body: bytes) -> str:
    """What is wrong with the bytes that were got, "" if nothing is."""
    if get.whole:
        return "" if intact(body) else f"{get.key} does not match its checksum"
    view = memoryview(body)
    for block in get.blocks:
        part = view[block.start - get.start : block.stop - get.start]
        if len(part) != block.stop - block.start or zlib.crc32(part) != block.crc:
            return f"bytes {block.start} to {block.stop} of {block.key} do not match their checksum"
    return ""


def _may_pass(reply: Reply) -> bool:
    return isinstance(reply, Failed) and isinstance(reply.error, StoreUnavailable | ObjectCorrupt)
