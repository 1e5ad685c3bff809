"""What a store must do before it is trusted with data, tried on scratch keys."""

from __future__ import annotations

from neve.errors import StoreUnfit
from neve.runtime import Runtime
from neve.store.envelope import seal
from neve.store.port import Created, Delete, Failed, Get, List, PutNew, Reply, Store, Unknown, body, done, listed

CREATORS = 8
ROUNDS = 6
RACES_MAX = 3
"""Races for one key while nobody wins it: a store may refuse all of a race (409), and replies may be lost."""
SCRATCH = "scratch/"


def self_test(store: Store, runtime: Runtime) -> dict[str, int]:
    """Race creators on scratch keys and check LIST; returns what was tried, for the record in the store.

    Raises StoreUnfit with the reason; StoreDenied or StoreUnavailable when the store cannot be asked.
    Cost: about ROUNDS x (CREATORS PUT + 2) requests, once in the life of a store.
    """
    folder = f"{SCRATCH}{runtime.token()}/"
    keys = [f"{folder}{name}" for name in ("10", "9", "a-b", "a.b", "a", "b/c")][:ROUNDS]
    try:
        for key in keys:
            _race(store, runtime, key)
        page = listed(store.wave([List(folder)])[0])
        names = [entry.key for entry in page.entries]
        if sorted(names) != sorted(keys):
            raise StoreUnfit("the store's LIST does not show objects that were just created")
        if names != sorted(keys):
            raise StoreUnfit("the store's LIST is not in lexicographic order of the keys")
        later = listed(store.wave([List(folder, after=sorted(keys)[2])])[0])
        if [entry.key for entry in later.entries] != sorted(keys)[3:]:
            raise StoreUnfit("the store's LIST does not start after a given key")
    finally:
        done(store.wave([Delete(tuple(keys))])[0])
    return {"rounds": len(keys), "creators": CREATORS}


def _race(store: Store, runtime: Runtime, key: str) -> None:
    puts = [PutNew(key, seal({"id": runtime.token()})) for _ in range(CREATORS)]
    unknown: list[bytes] = []  # of all races: what was sent in an earlier one may land in a later one
    for _ in range(RACES_MAX):
        replies = store.wave(puts)
        _raise_failures(replies)
        winners = [put.body for put, reply in zip(puts, replies, strict=True) if isinstance(reply, Created)]
        unknown += [put.body for put, reply in zip(puts, replies, strict=True) if isinstance(reply, Unknown)]
        found = body(store.wave([Get(key)])[0])
        if len(winners) > 1:
            raise StoreUnfit(f"{len(winners)} of {CREATORS} racing creators of one key were told that they made it")
        if winners and found != winners[0]:
            raise StoreUnfit("a store that answered a create holds other bytes than the creator's")
        if found is not None and found not in winners + unknown:
            raise StoreUnfit("a store holds an object of which every creator was told that it had lost")
        if found is not None:
            break
    else:
        raise StoreUnfit(f"none of {CREATORS} racing creators of one key made it, {RACES_MAX} times")
    late = store.wave([PutNew(key, puts[0].body)])
    _raise_failures(late)
    if isinstance(late[0], Created):
        raise StoreUnfit("the store creates over an object that exists (If-None-Match is ignored)")


def _raise_failures(replies: list[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, Failed):
            raise reply.error
