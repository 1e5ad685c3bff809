"""The content of an object store as a value machine: one request at a time, each atomic."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neve.errors import StoreUnavailable
from neve.store.port import (
    Created,
    Delete,
    Done,
    Entry,
    Exists,
    Failed,
    Found,
    Get,
    List,
    Listed,
    Missing,
    Put,
    PutNew,
    Reply,
    Request,
    Upload,
)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The bytes under one key, and when the store, by its own clock, took them."""

    body: bytes
    modified_s: float


class Objects:
    """What a store holds. `apply` answers one request; nothing is ever between two requests."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._objects: dict[str, StoredObject] = {}
        self._keys: list[str] = []  # sorted; code point order is the byte order of UTF-8

    def apply(self, request: Request) -> Reply:
        """Do the request and say what a faultless store would answer."""
        match request:
            case Get(key):
                found = self._objects.get(key)
                return Missing() if found is None else Found(_cut_out(found.body, request))
            case PutNew(key, body):
                if key in self._objects:
                    return Exists()
                self._set(key, body)
                return Created()
            case Put(key, body):
                self._set(key, body)
                return Done()
            case Upload():
                carried = on_its_way(request)
                return _NO_FILE if carried is request else self.apply(carried)
            case List():
                return self._list(request)
            case Delete(keys):
                for key in keys:
                    self._remove(key)
                return Done()

    def all_keys(self, prefix: str = "") -> list[str]:
        """All keys that start with `prefix`, in order."""
        return self._keys[bisect_left(self._keys, prefix) : bisect_left(self._keys, _after_all(prefix))]

    def get(self, key: str) -> StoredObject | None:
        return self._objects.get(key)

    def copy(self) -> Objects:
        """The same content, from here on apart; cost: one dict copy, the bytes are shared."""
        twin = Objects(self._clock)
        twin._objects = dict(self._objects)
        twin._keys = list(self._keys)
        return twin

    def _set(self, key: str, body: bytes) -> None:
        if key not in self._objects:
            insort(self._keys, key)
        self._objects[key] = StoredObject(bytes(body), self._clock())

    def _remove(self, key: str) -> None:
        if self._objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def _list(self, request: List) -> Listed:
        first = max(bisect_left(self._keys, request.prefix), bisect_right(self._keys, request.after))
        stop = bisect_left(self._keys, _after_all(request.prefix))
        page = self._keys[first : min(first + request.limit, stop)]
        entries = tuple(Entry(key, len(self._objects[key].body), self._objects[key].modified_s) for key in page)
        return Listed(entries, complete=first + request.limit >= stop)


class MemoryStore:
    """A faultless store over `Objects`; safe for threads."""

    def __init__(self, objects: Objects | None = None) -> None:
        self.objects = Objects() if objects is None else objects
        self._lock = threading.Lock()

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        with self._lock:
            return [self.objects.apply(request) for request in requests]


def on_its_way(request: Request) -> Request:
    """The request as it travels: an upload is a Put of the bytes that the file had when it was sent."""
    if not isinstance(request, Upload):
        return request
    try:
        return Put(request.key, request.path.read_bytes())
    except OSError:
        return request


def _cut_out(body: bytes, request: Get) -> bytes:
    if request.suffix is not None:
        return body[max(0, len(body) - request.suffix) :]
    return body if request.whole else body[request.start : request.stop]


def _after_all(prefix: str) -> str:
    """A string above every key with that prefix."""
    return prefix + chr(0x10FFFF)


_NO_FILE = Failed(StoreUnavailable("the file to upload cannot be read"))
