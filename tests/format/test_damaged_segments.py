"""Damaged files of compacted segments: a named error or the right answer, never a wrong one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from neve.compaction import compact as compaction
from neve.compaction import tasks
from neve.compaction.verify import verify
from neve.errors import ObjectCorrupt, StoreForeign
from neve.filters.parse import parse
from neve.index.entry import Write
from neve.index.records import Encryption
from neve.index.state import State
from neve.query import matching
from neve.query.fetch import fetch
from neve.query.listing import Page, list_rows
from neve.query.search import Query, search
from neve.query.session import Session
from neve.segments.rows import Puts
from neve.store.blocks import Blocks
from neve.store.port import Delete, Put, Store
from neve.store.steady import SteadyStore
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from tests.compacting import compact_in, short_calibrations, workspaces
from tests.format.small_store import CONFIG, database

SAMPLED = 400
"""Of a larger file so many bytes at random are damaged, and all of both ends; of others every byte."""
ENDS_BYTES = 64
RIGHT, CORRUPT = "right", "ObjectCorrupt"
FILES = ("codes.lance/data/rows.lance", "vectors.lance/data/rows.lance", "rows.parquet", "keys", "filters")
KEYS = [f"k{number}" for number in range(60)]
ASKED = np.array([0.5, -0.25, 1.0], np.float32)


def put(store: Store, keys: list[str], seed: int, deletes: list[str]) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(keys), 3)).astype(np.float32)
    documents = [b'{"seed":%d,"place":%d}' % (seed, place) for place in range(len(keys))]
    database(store, f"writer {seed}").index("library", "books").write(
        lambda _: Write(Puts(keys, vectors, documents), deletes)
    )


@pytest.fixture(scope="module")
def healthy() -> Objects:
    """Two compacted segments, the first of several lists and with a mask that is an object; a tail; no hint."""
    objects = Objects(ManualClock())
    store = MemoryStore(objects)
    one = database(store, "maker")
    one.create_bucket("library", Encryption(), {}, quota=9)
    one.create_index("library", "books", CONFIG, {}, quota=9)
    with (
        workspaces() as folder,
        short_calibrations(),
        patch.object(tasks, "LIST_ROWS", 8),
        patch.object(compaction, "MASK_INLINE_BYTES_MAX", 0),
    ):
        put(store, KEYS, 1, [])
        compact_in(one, folder, "library", "books")
        put(store, ["k1", "k2", "new"], 2, ["k3"])
        compact_in(one, folder, "library", "books")
    put(store, ["k4", "newer"], 3, ["k5"])
    objects.apply(Delete(tuple(objects.all_keys("hints/"))))
    return objects


@pytest.fixture(scope="module")
def state(healthy: Objects) -> State:
    found = database(MemoryStore(healthy)).index("library", "books").read()
    assert [len(compacted.directory.list_crcs) for compacted in found.compacted] == [8, 1]
    assert [bool(compacted.info.mask.reference) for compacted in found.compacted] == [True, False]
    return found


def listed(session: Session, state: State) -> Any:
    rows, _ = list_rows(session, state, Page(1000))
    return [(row.key, None if row.vector is None else row.vector.tolist(), row.metadata) for row in rows]


def fetched(session: Session, state: State) -> Any:
    return [(row.key, row.metadata) for row in fetch(session, state, [*KEYS[::7], "new", "nobody"])]


def found(recall: float | None) -> Callable[[Session, State], Any]:
    def ask(session: Session, state: State) -> Any:
        hits = search(session, state, Query(ASKED, 10, recall=recall))
        return hits.distances.tolist(), hits.named(session, 0, len(hits))

    return ask


def filtered(session: Session, state: State) -> Any:
    condition = parse({"$and": [{"seed": {"$lte": 2}}, {"place": {"$gte": 5, "$lt": 50}}]}, (), 9)
    hits = search(session, state, Query(ASKED, 10, condition))
    return hits.distances.tolist(), hits.named(session, 0, len(hits))


QUESTIONS = (listed, fetched, found(None), found(1.0), filtered)


def answers(store: Store, state: State) -> list[Any]:
    """What each question is answered with, or the error, by processes that have read nothing but the state."""
    steady = SteadyStore(store, ManualRuntime(ManualClock()))
    told: list[Any] = []
    for ask in QUESTIONS:
        try:
            with patch.object(matching, "_remembered", matching._Remembered()):
                told.append(ask(Session(steady, Blocks(1 << 24)), state))
        except ObjectCorrupt as error:
            told.append(error)
    return told


@pytest.fixture(scope="module")
def right(healthy: Objects, state: State) -> list[Any]:
    told = answers(MemoryStore(healthy), state)
    assert not any(isinstance(answer, ObjectCorrupt) for answer in told)
    return told


def outcomes(healthy: Objects, state: State, right: list[Any], key: str, body: bytes) -> list[str]:
    """For each question `right`, or the name of the error; fails on a wrong answer and on any other error."""
    damaged = healthy.copy()
    damaged.apply(Put(key, body))
    told = []
    for answer, expected in zip(answers(MemoryStore(damaged), state), right, strict=True):
        if isinstance(answer, ObjectCorrupt):
            assert key in str(answer)
            told.append(CORRUPT)
        else:
            assert answer == expected, f"{key} was damaged, and the answer was another"
            told.append(RIGHT)
    return told


def body_of(objects: Objects, key: str) -> bytes:
    stored = objects.get(key)
    assert stored is not None
    return stored.body


def files(healthy: Objects, *ends: str) -> list[str]:
    """Keys of the files of the larger segment with those names."""
    keys = [key for key in healthy.all_keys("data/") if key.endswith(ends)]
    return sorted(keys)[: len(ends)]


def flipped(body: bytes, random: Random) -> list[bytes]:
    """One byte changed, at many places."""
    places = range(len(body))
    if len(body) > SAMPLED:
        inner = random.sample(places[ENDS_BYTES:-ENDS_BYTES], SAMPLED)
        places = sorted([*places[:ENDS_BYTES], *inner, *places[-ENDS_BYTES:]])
    return [body[:place] + bytes([body[place] ^ random.randrange(1, 256)]) + body[place + 1 :] for place in places]


@pytest.mark.parametrize(
    ("name", "needed_by"),
    [
        ("codes.lance/data/rows.lance", (False, False, True, False, True)),
        ("vectors.lance/data/rows.lance", (True, True, True, True, True)),
        ("rows.parquet", (True, True, True, True, True)),
        ("keys", (True, True, False, True, False)),
        ("filters", (False, False, False, False, True)),
    ],
)
def test_flipped_bytes_of_what_is_read_in_ranges(
    healthy: Objects, state: State, right: list[Any], name: str, needed_by: tuple[bool, ...]
) -> None:
    """What is read is needed; what is not, ends and columns that others read, does not matter."""
    [key] = files(healthy, f"/{name}")
    counts = [Counter[str]() for _ in QUESTIONS]
    for body in flipped(body_of(healthy, key), Random(name)):
        for count, outcome in zip(counts, outcomes(healthy, state, right, key, body), strict=True):
            count[outcome] += 1
    for count, needed in zip(counts, needed_by, strict=True):
        assert (count[CORRUPT] > 0) == needed, (name, counts)
    if name == "keys":
        assert counts[0][RIGHT] == 0, "a file without an end that nobody needs"


def test_every_byte_of_directories_and_masks_counts(healthy: Objects, state: State) -> None:
    """They are read as the index is opened: without them there is no answer."""
    for key in healthy.all_keys("data/"):
        if key.endswith(("/directory", "/mask")):
            for body in flipped(body_of(healthy, key), Random(key)):
                damaged = healthy.copy()
                damaged.apply(Put(key, body))
                with pytest.raises((ObjectCorrupt, StoreForeign), match=key):
                    database(MemoryStore(damaged)).index("library", "books").read()


def test_cut_files(healthy: Objects, state: State, right: list[Any]) -> None:
    for name in FILES:
        [key] = files(healthy, f"/{name}")
        body = body_of(healthy, key)
        for length in (0, 1, len(body) // 8):
            assert CORRUPT in outcomes(healthy, state, right, key, body[:length])
        for longer in (body + b"\0", body + body):
            assert set(outcomes(healthy, state, right, key, longer)) == {RIGHT}


def test_files_of_two_segments_swapped(healthy: Objects, state: State, right: list[Any]) -> None:
    for name in FILES:
        one, two = [key for key in healthy.all_keys("data/") if key.endswith(f"/{name}")]
        assert CORRUPT in outcomes(healthy, state, right, one, body_of(healthy, two))
        assert CORRUPT in outcomes(healthy, state, right, two, body_of(healthy, one))


def test_what_only_other_programs_read_is_not_missed(healthy: Objects, state: State, right: list[Any]) -> None:
    others = [key for key in healthy.all_keys("data/") if "/_versions/" in key or "/_transactions/" in key]
    assert len(others) >= 8
    damaged = healthy.copy()
    damaged.apply(Delete(tuple(others)))
    assert answers(MemoryStore(damaged), state) == right


@pytest.mark.parametrize("name", FILES)
def test_verification_names_the_file(healthy: Objects, name: str) -> None:
    [key] = files(healthy, f"/{name}")
    body, damaged = body_of(healthy, key), healthy.copy()
    place = len(body) * 3 // 5  # past the columns that others read
    damaged.apply(Put(key, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]))
    findings = verify(database(MemoryStore(damaged))).findings
    assert {finding.invariant for finding in findings} >= {"segment"}
    assert any(key in finding.detail for finding in findings)
