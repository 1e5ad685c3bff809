"""Chains of small records: a chain grows only by creating its next number, and its newest record is its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neve.index.paths import number
from neve.store.port import Entry, List, Store, listed


def list_all(store: Store, prefix: str, after: str = "") -> Iterator[Entry]:
    """Every key below `prefix` after `after`, in order. 1 LIST for each 1,000 keys, as far as the caller goes."""
    while True:
        page = listed(store.wave([List(prefix, after)])[0])
        yield from page.entries
        if page.complete:
            return
        after = page.entries[-1].key


def newest_number(entries: Iterable[Entry]) -> int:
    """The highest number of a chain's listing, 0 where it has none."""
    return max((seq for entry in entries if (seq := number(entry.key)) is not None), default=0)
