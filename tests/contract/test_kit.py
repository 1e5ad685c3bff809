"""The kit's own store passes the contract, and the contract fails stores that break a law."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from neve.store.port import Created, Exists, Get, List, Listed, Put, PutNew, Reply, Request, Store
from neve.testing.objects import MemoryStore
from neve.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class ConditionIgnored(MemoryStore):
    """Accepts `If-None-Match` and overwrites."""

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return [self.careless(request) for request in requests]

    def careless(self, request: Request) -> Reply:
        if isinstance(request, PutNew):
            self.objects.apply(Put(request.key, request.body))
            return Created()
        return self.objects.apply(request)


class CheckedThenWritten(MemoryStore):
    """Looks whether the key is there, and writes later: two creators may both win."""

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        present = {r.key for r in requests if isinstance(r, PutNew) and self.objects.get(r.key) is not None}
        time.sleep(0.01)
        return [self.late(request, present) for request in requests]

    def late(self, request: Request, present: set[str]) -> Reply:
        if not isinstance(request, PutNew):
            return self.objects.apply(request)
        if request.key in present:
            return Exists()
        self.objects.apply(Put(request.key, request.body))
        return Created()


class UnsortedList(MemoryStore):
    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return [
            replace(reply, entries=reply.entries[::-1]) if isinstance(reply, Listed) else reply
            for reply in super().wave(requests)
        ]


class LateList(MemoryStore):
    """Shows a create only to the second LIST after it."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: set[str] = set()

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        replies = super().wave(requests)
        for place, reply in enumerate(replies):
            if isinstance(reply, Listed):
                replies[place] = Listed(tuple(e for e in reply.entries if e.key in self.shown), reply.complete)
                self.shown.update(entry.key for entry in reply.entries)
        return replies


class ShuffledReplies(MemoryStore):
    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return super().wave(requests[::-1]) if len(requests) > 1 else super().wave(requests)


class LeakyPrefix(MemoryStore):
    """Lists `log-old/` for `log/`."""

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return super().wave([replace(r, prefix=r.prefix.rstrip("/")) if isinstance(r, List) else r for r in requests])


class InclusiveAfter(MemoryStore):
    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return super().wave([replace(r, after=r.after[:-1]) if isinstance(r, List) else r for r in requests])


class ShortRange(MemoryStore):
    """Takes the end of a range for its last byte, wrongly."""

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return super().wave([replace(r, stop=r.stop - 1) if isinstance(r, Get) and r.stop else r for r in requests])


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (ConditionIgnored, StoreContract.test_put_new_succeeds_once),
        (CheckedThenWritten, StoreContract.test_racing_creators_have_exactly_one_winner),
        (UnsortedList, StoreContract.test_list_is_in_the_order_of_the_bytes),
        (LateList, StoreContract.test_list_sees_a_create_at_once),
        (ShuffledReplies, StoreContract.test_a_wave_of_mixed_requests_replies_in_their_order),
        (LeakyPrefix, StoreContract.test_list_of_a_prefix_takes_no_neighbours),
        (InclusiveAfter, StoreContract.test_list_after_a_key_leaves_out_that_key),
        (ShortRange, StoreContract.test_get_of_ranges),
    ],
)
def test_the_contract_fails_a_store_that_breaks_it(broken: type[MemoryStore], law: object) -> None:
    with pytest.raises(AssertionError):
        law(StoreContract(), broken())  # type: ignore[operator]
