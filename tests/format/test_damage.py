"""Damaged objects: a named error or the unchanged right answer, never a wrong one."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from neve.errors import ObjectCorrupt, StoreForeign
from neve.store.port import Delete, Put
from neve.testing.objects import MemoryStore, Objects
from tests.format.small_store import WatchedStore, content, small_store

HEAD_BYTES = 300
PLACES_BEYOND = 40
PLACES_SAMPLED = 30
RIGHT = "right"
FIRST_ENTRY = "/log/0000000000000001"
"""A listing of indexes asks a folded first entry whether it opened the index, and the index where it cannot tell."""


@pytest.fixture(scope="module", params=["with the hint", "without a hint"])
def healthy(request: pytest.FixtureRequest) -> Objects:
    objects = small_store()
    if request.param == "without a hint":
        objects.apply(Delete(tuple(objects.all_keys("hints/"))))
    return objects


@pytest.fixture(scope="module")
def right(healthy: Objects) -> tuple[Any, ...]:
    return content(MemoryStore(healthy.copy()))


@pytest.fixture(scope="module")
def needed(healthy: Objects) -> set[str]:
    """Keys of the objects without which a reader cannot answer."""
    watched = WatchedStore(MemoryStore(healthy.copy()))
    content(watched)
    stored = set(healthy.all_keys())
    return {key for key in watched.read & stored if not key.startswith("hints/") and not key.endswith(FIRST_ENTRY)}


def outcome(healthy: Objects, right: tuple[Any, ...], key: str, body: bytes) -> str:
    """`right`, or the name of the error; fails on a wrong answer and on any other error."""
    damaged = healthy.copy()
    damaged.apply(Put(key, body))
    found: tuple[Any, ...] | ObjectCorrupt | StoreForeign
    try:
        found = content(MemoryStore(damaged))
    except (ObjectCorrupt, StoreForeign) as error:
        found = error
    if isinstance(found, tuple):
        assert found == right, f"{key} was damaged, and the answer was another"
        return RIGHT
    assert key in str(found)
    return type(found).__name__


def body_of(healthy: Objects, key: str) -> bytes:
    found = healthy.get(key)
    assert found is not None
    return found.body


def places(body: bytes, random: Random, *, thorough: bool) -> list[int]:
    """Each of the head and some at random beyond, or just some anywhere."""
    if not thorough:
        return random.sample(range(len(body)), PLACES_SAMPLED)
    beyond = range(min(HEAD_BYTES, len(body)), len(body))
    return [*range(min(HEAD_BYTES, len(body))), *random.sample(beyond, min(PLACES_BEYOND, len(beyond)))]


def flipped(body: bytes, random: Random, *, thorough: bool) -> Iterator[bytes]:
    """One byte changed."""
    for place in places(body, random, thorough=thorough):
        wrong = bytearray(body)
        wrong[place] ^= random.randrange(1, 256)
        yield bytes(wrong)


def cut(body: bytes) -> Iterator[bytes]:
    lines = body.index(b"\n"), body.index(b"\n", body.index(b"\n") + 1)
    for length in (0, 1, lines[0], lines[0] + 1, lines[1], lines[1] + 1, len(body) // 2, len(body) - 1):
        if length < len(body):
            yield body[:length]
    yield body + b"\0"
    yield body + body


def test_every_kind_of_object_is_needed_by_a_reader(needed: set[str]) -> None:
    kinds = {re.sub("/[0-9a-f]{32}/", "/U/", key).rsplit("/", 1)[0] for key in needed}
    assert {"neve.json", "buckets/library", "catalog/library/books", "data/U/log"} <= kinds
    assert sum("segments/" in key for key in needed) == 2


def test_flipped_bytes(healthy: Objects, right: tuple[Any, ...], needed: set[str]) -> None:
    """Every byte of a head, of all that a reader without a hint needs, and of the hint."""
    random = Random(7)
    hinted = bool(healthy.all_keys("hints/"))
    for key in healthy.all_keys():
        thorough = key.startswith("hints/") if hinted else key in needed
        bodies = flipped(body_of(healthy, key), random, thorough=thorough)
        found = Counter(outcome(healthy, right, key, body) for body in bodies)
        if key in needed:  # the version may have become 0, which nobody asks
            assert found[RIGHT] <= 1, (key, found)
            assert found["ObjectCorrupt"] >= 0.9 * found.total(), (key, found)
        else:
            assert set(found) == {RIGHT}, (key, found)


def test_cut_and_prolonged_objects(healthy: Objects, right: tuple[Any, ...], needed: set[str]) -> None:
    for key in healthy.all_keys():
        found = {outcome(healthy, right, key, body) for body in cut(body_of(healthy, key))}
        assert found == ({"ObjectCorrupt"} if key in needed else {RIGHT}), (key, found)


def test_two_objects_swapped(healthy: Objects, right: tuple[Any, ...], needed: set[str]) -> None:
    """Whole objects of another kind or another name do not pass."""
    log = max(key for key in needed if "/log/" in key)
    bucket = next(key for key in needed if key.startswith("buckets/"))
    one, two = sorted(key for key in needed if "/segments/" in key)
    for key, other in ((log, bucket), (bucket, log), (one, bucket), (one, two), (two, one)):
        assert outcome(healthy, right, key, body_of(healthy, other)) == "ObjectCorrupt"


def test_a_newer_format_is_foreign_and_says_so(healthy: Objects, right: tuple[Any, ...], needed: set[str]) -> None:
    for key in healthy.all_keys():
        rest = body_of(healthy, key).split(b"\n", 1)[1][::-1]
        digest = hashlib.blake2b(b"2\n" + rest, digest_size=16).hexdigest()
        newer = b'{"neve":2,"blake2b":"%s"}\n' % digest.encode() + rest
        if key not in needed:
            assert outcome(healthy, right, key, newer) == RIGHT
            continue
        damaged = healthy.copy()
        damaged.apply(Put(key, newer))
        said = f"{key} is written in format 2; this version of neve reads up to 1"
        with pytest.raises(StoreForeign, match=re.escape(said)):
            content(MemoryStore(damaged))
