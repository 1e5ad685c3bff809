"""Filters as large as they may be, and larger: how much they read and hold at a time is bounded by formula."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import orjson
import pytest

from neve.filters.parse import DEPTH_MAX, parse
from neve.query import matching
from neve.query.session import Session
from neve.segments.term_writer import BLOCK_POSTINGS
from neve.store.blocks import Blocks
from tests.unit.api_calls import Calls, calls_on
from tests.unit.filter_segment import Indexed

ROWS = 120_000
ADDRESS = {"vectorBucketName": "library", "indexName": "books"}
BLOCKS_BYTES = 256 << 10
ROW_BYTES = 10


@pytest.fixture(scope="module")
def indexed() -> Indexed:
    """Rows with a number of their own, arrays of numbers, a few shared words and two booleans."""
    numbers = np.random.default_rng(3).integers(0, 100_000, (ROWS, 3)).tolist()
    rows = [
        orjson.dumps({"n": row, "some": some, "word": f"w{row % 7}", "even": row % 2 == 0, "odd": row % 2 == 1})
        for row, some in enumerate(numbers)
    ]
    return Indexed(rows, step=20_000)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few blocks at a time, and nothing remembered."""
    monkeypatch.setattr(matching, "_remembered", matching._Remembered())
    monkeypatch.setattr(matching, "TERMS_BYTES_MAX", BLOCKS_BYTES)


def nested(depth: int) -> dict[str, object]:
    """Conditions within each other, an $and and an $or in turn, each with a test of its own."""
    document: dict[str, object] = {"n": {"$ne": 5}}
    for level in range(depth - 1):
        document = {("$and", "$or")[level % 2]: [{"some": {"$gt": 100 * level}}, document]}
    return document


ADVERSARIAL = {
    "a hundred ranges over arrays": {"$or": [{"some": {"$gt": 500 * bound, "$lt": 99_000}} for bound in range(50)]},
    "a hundred negations": {"$and": [{"word": {"$ne": f"w{number % 9}"}} for number in range(100)]},
    "a hundred dense terms": {"$or": [{"odd": True}, {"even": True}] * 50},
    "a hundred values": {"n": {"$in": list(range(0, ROWS, ROWS // 100))[:100]}},
    "as deep as can be": nested(DEPTH_MAX - 1),
    "everything": {"n": {"$gte": -1e300}},
    "nothing": {"n": {"$gte": 1e300}},
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_memory_is_bounded_whatever_the_filter(indexed: Indexed, name: str) -> None:
    """By the blocks that are held at a time, and 10 bytes a row: row sets of a bit a row, and one mask of a byte."""
    condition = parse(ADVERSARIAL[name], (), 100)
    reading = indexed.session()
    session = Session(reading.store, Blocks(0))
    tracemalloc.start()
    try:
        [found] = matching.matching(session, [indexed.directory], condition)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * BLOCKS_BYTES + ROW_BYTES * ROWS + (512 << 10)
    assert found.count == np.count_nonzero(~found.failing)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_blocks_are_read_once_at_most(indexed: Indexed, name: str) -> None:
    wanted = matching.want_terms(indexed.directory, parse(ADVERSARIAL[name], (), 100))
    assert len(wanted) == len({want.block.start for want in wanted}) <= len(indexed.index)


def test_a_value_costs_a_block_or_two(indexed: Indexed) -> None:
    for document in ({"n": 77}, {"n": {"$ne": 77}}, {"word": "w3"}, {"word": "none"}, {"even": True}, {"x": 1}):
        assert len(matching.want_terms(indexed.directory, parse(document, (), 9))) <= 2
    values = list(range(0, ROWS, ROWS // 100))[:100]
    assert len(matching.want_terms(indexed.directory, parse({"n": {"$in": values}}, (), 100))) <= 100


def test_a_range_reads_what_is_inside_or_outside_whichever_is_less(indexed: Indexed) -> None:
    for below in (0, 1000, ROWS // 4, ROWS // 2, 3 * ROWS // 4, ROWS - 1000, ROWS):
        wanted = matching.want_terms(indexed.directory, parse({"n": {"$lt": below}}, (), 9))
        assert len(wanted) <= min(below, ROWS - below) // BLOCK_POSTINGS + 4, below


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls = calls_on()
    calls("CreateVectorBucket", vectorBucketName="library")
    calls("CreateIndex", **ADDRESS, dataType="float32", dimension=2, distanceMetric="cosine")
    row = {"key": "a", "data": {"float32": [1.0, 0.0]}, "metadata": {"n": 1}}
    calls("PutVectors", **ADDRESS, vectors=[row])
    yield calls
    calls.service.database.close()


def query(filter_: object) -> dict[str, object]:
    return {**ADDRESS, "topK": 1, "queryVector": {"float32": [1.0, 0.0]}, "filter": filter_}


@pytest.mark.parametrize("wide", [lambda n: {"n": {"$in": [*range(n)]}}, lambda n: {"$or": [{"n": 1}] * n}])
def test_the_101st_constraint_is_refused(calls: Calls, wide: object) -> None:
    assert callable(wide)
    assert [hit["key"] for hit in calls("QueryVectors", **query(wide(100)))["vectors"]] == ["a"]
    refusal = calls.refused("QueryVectors", query(wide(101)))
    assert (refusal.status, refusal.message) == (400, "Filter must have at most 100 constraints")
    for operation, members in (("CountVectors", {}), ("DeleteVectorsByFilter", {})):
        assert calls.refused(operation, {**ADDRESS, **members, "filter": wide(101)}).status == 400


def test_the_33rd_level_is_refused(calls: Calls) -> None:
    assert calls("QueryVectors", **query(nested(DEPTH_MAX)))["vectors"] == []
    assert calls.refused("QueryVectors", query(nested(DEPTH_MAX + 1))).message == "Invalid filter"
