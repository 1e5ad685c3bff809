"""Results of searches whose pages are still being asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict

from neve.dataclass import dataclass
from neve.query.hits import Hits

_CACHE_BYTES = 64 * 1024 * 1024
_SOURCE_BYTES = 400  # what a hit's Python objects cost beside its text


@dataclass(frozen=True, slots=True)
class SearchId:
    """One search: the state that it was made on, and the digest of what was asked."""

    uid: str
    manifest: int
    position: int
    digest: str


class SearchCache:
    """The hits of the latest searches, bounded in bytes; forgetting one costs a second search, never an answer."""

    def __init__(self, capacity_bytes: int = _CACHE_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._held_bytes = 0
        self._entries: OrderedDict[SearchId, tuple[Hits, int]] = OrderedDict()

    def get(self, search: SearchId) -> Hits | None:
        with self._lock:
            entry = self._entries.get(search)
            if entry is None:
                return None
            self._entries.move_to_end(search)
            return entry[0]

    def put(self, search: SearchId, hits: Hits) -> None:
        """Keep the hits, and forget the oldest ones to make room; hits beyond the capacity are not kept."""
        size = _size_bytes(hits)
        if size > self._capacity_bytes:
            return
        with self._lock:
            known = self._entries.pop(search, None)
            self._held_bytes += size - (known[1] if known else 0)
            self._entries[search] = (hits, size)
            while self._held_bytes > self._capacity_bytes:
                _, (_, freed) = self._entries.popitem(last=False)
                self._held_bytes -= freed


def _size_bytes(hits: Hits) -> int:
    return sum(_SOURCE_BYTES + (sum(map(len, one)) if isinstance(one, tuple) else 0) for one in hits.sources)
