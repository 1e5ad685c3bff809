"""Why nothing matched: counts of each condition and of those before it, and kinds of values, wherever the rows lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neve.api.options import CallOptions
from neve.api.render import extras
from neve.cli import main
from neve.filters.parse import parse
from neve.query.why import REASONS_MAX, TEXT_MAX, why
from neve.store.connect import connect
from tests.compacting import short_calibrations, workspaces
from tests.reading import session
from tests.unit.api_calls import Calls
from tests.unit.compact_world import World, names
from tests.unit.compacted_index import ADDRESS, DIMENSION, calls_of, compact_now, compacted_calls
from tests.unit.filter_segment import TEXTS, as_json, filters_with, small_blocks, stored
from tests.unit.test_filters import naive

COMPARED = "of the rows that have it, the filter compares with"
BOOKS = [
    *({"year": 1800 + row, "title": f"b{row}", "read": row % 2 == 0} for row in range(40)),
    *({"year": str(1800 + row), "tags": ["x", 5]} for row in range(10)),
]


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with small_blocks(), short_calibrations():
        yield


def tail(_world: World) -> None: ...


def flat(world: World) -> None:
    world.fold()


def compacted(world: World) -> None:
    world.compact()


@pytest.fixture(params=[tail, flat, compacted])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    made = World(tmp_path)
    made.put(*names("b", len(BOOKS)), metadata=[as_json(book) for book in BOOKS])
    lay: Callable[[World], None] = request.param
    lay(made)
    return made


def told(world: World, document: object) -> list[tuple[str, int, int | None, str]]:
    database = world.process()
    reasons = why(session(database), database.index("b", "i").read(), parse(document, (), 1000))
    return [(one.condition, one.rows, one.together, one.note) for one in reasons]


def test_each_condition_and_those_before_it_are_counted(world: World) -> None:
    document = {"$and": [{"year": {"$gte": 1810}}, {"read": True}, {"title": {"$in": ["b3", "b5"]}}, {"year": 1990}]}
    assert told(world, document) == [
        ('{"year":{"$gte":1810}}', 30, 30, ""),
        ('{"read":true}', 20, 15, ""),
        ('{"title":{"$in":["b3","b5"]}}', 2, 0, ""),
        (
            '{"year":1990}',
            0,
            0,
            f"`year` holds strings in 20 % and numbers in 80 % {COMPARED} a number",
        ),
    ]


def test_tests_within_an_or_are_counted_alone(world: World) -> None:
    document = {"$or": [{"title": "B1"}, {"$and": [{"read": {"$ne": True}}, {"tags": {"$exists": True}}]}]}
    assert [one[1:] for one in told(world, document)][1:] == [(0, None, ""), (30, None, ""), (10, None, "")]
    assert told(world, document)[0][1:] == (10, 10, "newer rows, not compacted yet, replace or delete what matches")


@pytest.mark.parametrize(
    ("document", "note"),
    [
        ({"yaer": 1}, "no row has the key `yaer`"),
        (
            {"title": {"$gt": 3}},
            f"`title` holds strings in 100 % {COMPARED} a number",
        ),
        (
            {"title": {"$in": [1, True]}},
            f"`title` holds strings in 100 % {COMPARED} a number or a boolean",
        ),
        (
            {"read": {"$startsWith": "t"}},
            f"`read` holds booleans in 100 % {COMPARED} a string",
        ),
        (
            {"tags": "y"},
            f"`tags` holds strings in 100 % and numbers in 100 % {COMPARED} a string",
        ),
        ({"title": "nobody's"}, ""),
        ({"title": {"$startsWith": "z" * 49}}, ""),
    ],
)
def test_notes(world: World, document: object, note: str) -> None:
    assert [(rows, together, said) for _, rows, together, said in told(world, document)] == [(0, 0, note)]


def test_a_small_share_is_not_called_none(tmp_path: Path) -> None:
    made = World(tmp_path)
    made.put(*names("b", 3000), metadata=[b'{"a":"x"}'] * 2999 + [b'{"a":1}'])
    [(_, _, _, note)] = told(made, {"a": 2})
    assert "strings in 99.9 % and numbers in 0.1 %" in note


def test_an_index_without_rows(tmp_path: Path) -> None:
    assert told(World(tmp_path), {"a": 1}) == [('{"a":1}', 0, 0, "the index has no rows")]


def test_masked_rows_do_not_count_and_hidden_ones_are_told_of(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.put(*names("b", 30), metadata=[b'{"a":1}'] * 30)
    world.compact()
    world.delete(*names("b", 10))
    world.compact()
    assert told(world, {"a": 1})[0][1:3] == (20, 20)
    world.delete(*names("b", 30))
    [(_, rows, together, note)] = told(world, {"a": 1})
    assert (rows, together) == (20, 20)
    assert note.startswith("newer rows")


def test_long_filters_are_told_in_short(world: World) -> None:
    document = {"$and": [*({"year": {"$gte": number}} for number in range(90)), {"yaer": "x" * 900}, {"year": 1}]}
    reasons = told(world, document)
    assert len(reasons) == REASONS_MAX
    assert [rows for _, rows, _, _ in reasons] == [40] * (REASONS_MAX - 2) + [0, 0]
    assert max(len(condition) for condition, *_ in reasons) == TEXT_MAX


@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    st.lists(stored, min_size=1, max_size=8),
    st.lists(filters_with(st.sampled_from(TEXTS)), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_counts_are_those_of_a_naive_evaluator(pool: list[dict[str, Any]], parts: list[Any], chance: Any) -> None:
    with workspaces() as folder:
        world = World(folder)
        rows = [chance.choice(pool) for _ in range(60)]
        world.put(*names("a", 30), metadata=[as_json(row) for row in rows[:30]])
        world.compact()
        world.put(*names("b", 30), metadata=[as_json(row) for row in rows[30:]])
        with patch("neve.query.why.REASONS_MAX", 1000):
            reasons = told(world, {"$and": parts})
    prefixes = [reason for reason in reasons if reason[2] is not None]
    assert prefixes[-1][2] == sum(all(naive(part, row) for part in parts) for row in rows)
    assert all(one[2] >= other[2] for one, other in pairwise(prefixes))
    for condition, count, _, _ in reasons:
        if not condition.endswith("…"):
            assert sum(naive(orjson.loads(condition), row) for row in rows) == count, condition


class TestAnswers:
    """What a call tells."""

    @pytest.fixture
    def calls(self, tmp_path: Path) -> Iterator[Calls]:
        with compacted_calls(tmp_path) as calls:
            yield calls

    @staticmethod
    def explained(calls: Calls, operation: str, **members: object) -> dict[str, Any]:
        result = calls.service.call(operation, ADDRESS | members, CallOptions(explain=True))
        explanation = extras(result)["explain"]
        assert isinstance(explanation, dict)
        return explanation

    def query(self, calls: Calls, filter_: object, **members: object) -> dict[str, Any]:
        asked = {"topK": 5, "queryVector": {"float32": [1.0] * DIMENSION}, "filter": filter_}
        return self.explained(calls, "QueryVectors", **asked | members)

    def test_a_query_that_finds_nothing_says_why(self, calls: Calls) -> None:
        explanation = self.query(calls, {"$and": [{"third": True}, {"version": "1"}]})
        assert explanation["matches"] == 0
        third, version = explanation["why"]
        assert third["rows"] == third["together"] > 400
        assert (version["rows"], version["together"]) == (0, 0)
        assert version["note"] == (f"`version` holds numbers in 100 % {COMPARED} a string")

    def test_a_query_that_finds_something_does_not(self, calls: Calls) -> None:
        explanation = self.query(calls, {"third": True})
        assert explanation["matches"] > 400
        assert "why" not in explanation
        plain = self.explained(calls, "QueryVectors", topK=5, queryVector={"float32": [1.0] * DIMENSION})
        assert "matches" not in plain

    def test_so_does_a_count(self, calls: Calls) -> None:
        [reason] = self.explained(calls, "CountVectors", filter={"verzion": 1})["why"]
        assert reason == {
            "condition": '{"verzion":1}',
            "rows": 0,
            "together": 0,
            "note": "no row has the key `verzion`",
        }
        assert "why" not in self.explained(calls, "CountVectors", filter={"version": 1})

    def test_it_costs_nothing_unless_it_is_asked_for(self, calls: Calls) -> None:
        with patch("neve.query.why.why", side_effect=AssertionError):
            asked = {"topK": 5, "queryVector": {"float32": [1.0] * DIMENSION}, "filter": {"verzion": 1}}
            assert calls("QueryVectors", **ADDRESS, **asked)["vectors"] == []


def test_the_command_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    url = (tmp_path / "store").as_uri()
    with calls_of(connect(url)) as calls:
        calls("CreateVectorBucket", vectorBucketName="library")
        calls("CreateIndex", **ADDRESS, dataType="float32", dimension=2, distanceMetric="cosine")
        rows = [{"key": f"k{n}", "data": {"float32": [1.0, n]}, "metadata": {"year": str(n)}} for n in range(9)]
        calls("PutVectors", **ADDRESS, vectors=rows)
        (tmp_path / "work").mkdir()
        compact_now(calls, tmp_path / "work")
    (tmp_path / "asked.json").write_text("[1, 2]")
    arguments = ["library/books", "--vector", str(tmp_path / "asked.json"), "--filter", '{"year": {"$lt": 5}}']
    assert main(["query", *arguments, "--explain", "--store", url]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Why nothing matched" in printed
    assert "holds strings in 100 %" in printed
