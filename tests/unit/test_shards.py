"""Shards: what they find together is what one scan finds, whatever is split, masked, filtered or tied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neve.api.limits import LIMITS
from neve.api.options import CallOptions
from neve.api.render import extras
from neve.api.results import Explained, Hit, HitPage
from neve.api.service import Identity, Service
from neve.filters.expression import Condition
from neve.filters.parse import parse
from neve.index.manifest import CompactedInfo, Mask
from neve.index.state import Compacted
from neve.query import compacted, shards
from neve.query.lists import skimmed_rows, want_lists
from neve.query.shard_tasks import (
    CONDITION_BYTES_MAX,
    DIMENSION_MAX,
    HIT,
    HITS_MAX,
    LISTS_MAX,
    PORTIONS_MAX,
    Portion,
    ResultInvalid,
    Scored,
    ShardResult,
    ShardTask,
    TaskInvalid,
)
from neve.query.shards import FanOut, Gathered, Opened, Share, Threads, scan_share, scatter, split
from neve.store.blocks import Blocks, Tally
from neve.store.counting import BilledStore, CountingStore, count_elsewhere
from neve.store.objects import memory_store
from neve.store.port import Store
from neve.vectors.codes import best
from tests.unit.compacted_index import ADDRESS, DIMENSION, calls_of, cold, compacted_calls, state_of
from tests.unit.test_filters import filters

LAMBDA_BYTES_MAX = 6_000_000
"""Of what a function is invoked with, and of what it answers."""


class Split:
    """Shards that know nothing but the store, each task over JSON; it splits whatever is not at hand."""

    apart = True

    def __init__(self, store: Store, into: int) -> None:
        self.into = into
        self.tasks: list[ShardTask] = []
        self._store = BilledStore(store)

    def shards(self, size_bytes: int) -> int:
        return self.into if size_bytes else 1

    def scan(self, tasks: Sequence[ShardTask], opened: Sequence[Compacted]) -> list[ShardResult]:
        self.tasks += tasks
        results = [Context().run(self._scored, task) for task in tasks]  # on no bill of who asks
        for result in results:
            count_elsewhere(result.gets, result.bytes_read, result.hedges)
        return results

    def close(self) -> None:
        pass

    def _scored(self, task: ShardTask) -> ShardResult:
        read = ShardTask.from_fields(orjson.loads(orjson.dumps(task.to_fields())))
        answer = scan_share(self._store, Blocks(1 << 24), read, Opened(self._store).of).to_fields()
        return ShardResult.from_fields(orjson.loads(orjson.dumps(answer)), task)


@pytest.fixture(scope="module", params=["cosine", "euclidean"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with an index of two compacted segments, one with a mask, and recent rows that hide others."""
    store = CountingStore(memory_store())
    with compacted_calls(tmp_path_factory.mktemp("work"), request.param, store):
        yield store


@pytest.fixture(autouse=True)
def _little_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "THREADS_BYTES_MIN", 1)


@contextmanager
def service(store: Store, fan_out: Callable[[Service], FanOut] | None = None) -> Iterator[Service]:
    """The service of a process that has read nothing."""
    with calls_of(store) as calls:
        opened = calls.service
        yield Service(opened.database, Identity(), LIMITS["wide"], None if fan_out is None else fan_out(opened))


def threads(opened: Service) -> Threads:
    database = opened.database
    return Threads(database.store, database.blocks, database.runtime, 3)


def ask(asked: Service, recall: float | None = None, **members: object) -> tuple[tuple[Hit, ...], dict[str, Any]]:
    """Hits of a query whose process has nothing in memory, and what is told of it."""
    asked.database.blocks = Blocks(1 << 24)
    members = {**ADDRESS, "returnDistance": True, "returnMetadata": True, **members}
    result = asked.call("QueryVectors", members, CallOptions(recall=recall, explain=True))
    assert isinstance(result, Explained)
    assert isinstance(result.result, HitPage)
    told = extras(result)["explain"]
    assert isinstance(told, dict)
    return result.result.hits, told


def queries(count: int, seed: int) -> Iterator[tuple[float, dict[str, object]]]:
    """Recall and members of queries of all kinds."""
    chance = np.random.default_rng(seed)
    for number in range(count):
        vector = chance.standard_normal(DIMENSION).astype(np.float32).tolist()
        members = {"queryVector": {"float32": vector}, "topK": int(chance.choice([1, 10, 90, 400]))}
        if filter_ := FILTERS[number % len(FILTERS)]:
            members["filter"] = filter_
        yield float(chance.choice([0.5, 0.9, 0.99])), members


FILTERS: Sequence[object] = (
    None,
    {"version": 0},
    {"third": True},
    {"$and": [{"version": {"$lt": 2}}, {"third": {"$ne": True}}]},
    {"version": {"$gt": 5}},
    {"absent": {"$exists": False}},
)


@pytest.mark.parametrize("into", [2, 5, 40])
def test_answers_are_those_of_one_scan(store: Store, into: int) -> None:
    fan_out = Split(store, into)
    with service(store) as plain, service(store, lambda _: fan_out) as apart, service(store, threads) as beside:
        for recall, members in queries(18, into):
            expected, told = ask(plain, recall, **members)
            for sharded in (apart, beside):
                found, also = ask(sharded, recall, **members)
                assert found == expected
                for name in ("plan", "lists", "rowsScored", "candidates"):
                    assert also[name] == told[name]
    portions = [portion for task in fan_out.tasks for portion in task.portions]
    assert len({portion.info.name for portion in portions}) == 2
    assert any(portion.info.mask.count for portion in portions)
    assert any(task.condition for task in fan_out.tasks)
    assert any(len(task.portions) > 1 for task in fan_out.tasks) or into > 5


def test_more_rows_than_shards_were_asked_for_are_asked_for_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when so many candidates turn out to be hidden by recent keys that too few are left."""
    monkeypatch.setattr(compacted, "_candidates_wanted", lambda probes: 5)
    fan_out = Split(store, 3)
    with service(store) as plain, service(store, lambda _: fan_out) as sharded:
        for recall, members in queries(6, 1):
            fan_out.tasks.clear()
            asked = {**members, "topK": 18}
            assert ask(sharded, recall, **asked)[0] == ask(plain, recall, **asked)[0]
            if fan_out.tasks:
                assert {task.count for task in fan_out.tasks} >= {skimmed_rows(count) for count in (5, 10, 20)}


def test_what_shards_read_is_on_the_bill(store: CountingStore) -> None:
    with service(store, lambda _: Split(store, 3)) as apart, service(store, threads) as beside:
        for sharded in (apart, beside):
            _, told = ask(sharded, queryVector={"float32": [1.0] * DIMENSION}, topK=10)
            assert bool(told["shards"]) == (sharded is apart), "threads find read ahead what opening had time for"
            store.new_bill()
            _, told = ask(sharded, queryVector={"float32": [1.0] * DIMENSION}, topK=10)
            billed = store.new_bill()
            assert 2 <= told["shards"] <= 3
            assert (told["waves"], told["requests"]) == (len(billed.waves), billed.requests)
            assert told["store"]["bytes"] == billed.bytes_read
            assert told["dollars"] == pytest.approx(billed.dollars)
            assert told["store"]["blocks"] > told["lists"]


def test_what_is_at_hand_is_scanned_here(store: Store) -> None:
    fan_out = Split(store, 3)
    vector = {"float32": [1.0] * DIMENSION}
    with service(store) as plain, service(store, lambda _: fan_out) as sharded:
        expected, _ = ask(plain, queryVector=vector, topK=10)
        sharded.database.blocks = plain.database.blocks
        members = {**ADDRESS, "queryVector": vector, "topK": 10, "returnDistance": True, "returnMetadata": True}
        for blocks in (plain.database.blocks, Blocks(1 << 24)):
            sharded.database.blocks = blocks
            result = sharded.call("QueryVectors", members, CallOptions())
            assert isinstance(result, HitPage)
            assert result.hits == expected
            assert bool(fan_out.tasks) == (blocks is not plain.database.blocks)


def test_a_filter_that_needs_every_record_is_evaluated_here(store: Store) -> None:
    """Of terms only the beginning is indexed."""
    fan_out = Split(store, 3)
    with service(store, lambda _: fan_out) as sharded:
        vector = {"float32": [1.0] * DIMENSION}
        hits, _ = ask(sharded, queryVector=vector, topK=10, filter={"absent": {"$startsWith": "x" * 100}})
        assert hits == ()
        hits, _ = ask(sharded, queryVector=vector, topK=10, filter={"third": True})
        assert len(hits) == 10
    assert {task.condition and task.condition.text for task in fan_out.tasks} <= {'{"third":{"$in":[true]}}'}


# The order in which the best are taken


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, list[int]]:
    """Scores of few values, rows that stand in one place or in two, how many are wanted, and where to cut."""
    rows = draw(st.lists(st.integers(0, 40), max_size=120))
    rows = [row for place, row in enumerate(rows) if rows[:place].count(row) < 2]
    values = draw(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0]), min_size=41, max_size=41))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    scores = np.array([values[row] for row in rows], np.float32)  # both places of a row have the same code
    return scores, np.array(rows, np.uint32), draw(st.integers(1, 30)), [0, *cuts, len(rows)]


@given(scored_rows())
def test_the_best_of_parts_are_the_best(given: tuple[np.ndarray, np.ndarray, int, list[int]]) -> None:
    scores, rows, count, cuts = given
    parts = [place + best(scores[place:stop], rows[place:stop], count) for place, stop in pairwise(cuts)]
    places = np.concatenate(parts)
    merged = places[best(scores[places], rows[places], count)]
    assert merged.tolist() == best(scores, rows, count).tolist()
    ordered = sorted((-score, place) for place, score in enumerate(scores.tolist()) if score > -np.inf)
    first = list(dict.fromkeys(int(rows[place]) for _, place in ordered))[:count]
    assert rows[merged].tolist() == first


def test_equal_scores_beyond_the_floor_are_taken_in_order() -> None:
    """So many that `best` looks at groups of them first."""
    scores = np.repeat(np.array([1.0, 0.5], np.float32), [30, 5_000])[::-1].copy()
    assert best(scores, np.arange(len(scores)), 100).tolist() == [*range(5_000, 5_030), *range(70)]


@given(st.integers(1, 12), st.integers(1, 60), st.data())
def test_a_split_is_of_all_lists_once_in_order(segments: int, into: int, data: st.DataObject) -> None:
    given = []
    for number in range(segments):
        sizes = np.array(data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=12)))
        lists = data.draw(st.permutations(range(len(sizes))))
        directory = _Lists(np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64))
        info = CompactedInfo(f"{number}", 1, 1, 1, 0)
        given.append(Share(Compacted(info, directory, None), np.array(lists), ()))  # type: ignore[arg-type]
    full = [
        (place, list_)
        for place, share in enumerate(given)
        for list_ in range(len(share.compacted.directory.list_starts) - 1)
        if np.diff(share.compacted.directory.list_starts)[list_] > 0
    ]
    if not full:
        return
    runs = split(given, into)
    assert 1 <= len(runs) <= into
    assert [(place, list_) for run in runs for place, portion in run for list_ in portion.lists.tolist()] == full
    sizes_of = [np.diff(share.compacted.directory.list_starts).astype(int) for share in given]
    totals = [sum(int(sizes_of[place][portion.lists].sum()) for place, portion in run) for run in runs]
    assert max(totals) <= sum(totals) / into + 300


class _Lists:
    def __init__(self, list_starts: np.ndarray) -> None:
        self.list_starts = list_starts


# On the wire


def task_of(store: Store, **changes: object) -> ShardTask:
    """A task of the larger segment of the index."""
    with calls_of(store) as calls:
        state = state_of(calls)
        largest = max(state.compacted, key=lambda one: one.info.rows)
    portion = Portion(largest.info, np.array([0, 2], np.uint32))
    task = ShardTask(state.uid, np.ones(DIMENSION, np.float32), None, 20, (portion,))
    return replace(task, **changes)  # type: ignore[arg-type]


@given(filters)
def test_a_condition_goes_over_the_wire(document: dict[str, object]) -> None:
    condition = parse(document, (), 1000)
    assert Condition.from_text(condition.text) == condition


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "1", '{"$and":' * 100_000, '{"$not":[]}', '{"$and":{"a":{"$exists":true}}}'),
        *('{"a":1}', '{"a":{"$in":[1]}}', '{"a":{"$in":[null]}}', '{"a":{"$in":["b","a"]}}', '{"a": {"$in":[1.0]}}'),
        *('{"a":{"$gt":1}}', '{"a":{"$gt":true}}', '{"a":{"$no":1.0}}', '{"a":{"$gt":1.0,"$lt":2.0}}'),
        '{"a":{"$exists":1}}',
    ],
)
def test_what_is_no_text_of_a_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"condition|char|line|Order"):
        Condition.from_text(text)


HOSTILE = "planted-secret"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uid", "../../other/index/data"),
        ("uid", 7),
        ("uid", HOSTILE),
        ("point", "AAAA!"),
        ("point", "AAA="),
        ("point", ""),
        ("point", "AADAfw=="),
        ("filter", HOSTILE),
        ("filter", 7),
        ("filter", '{"a":' * 50_000),
        ("count", 0),
        ("count", -1),
        ("count", True),
        ("count", 1e3),
        ("count", HITS_MAX + 1),
        ("portions", []),
        ("portions", None),
        ("portions", [[["name"], ""]]),
        ("portions", {HOSTILE: HOSTILE}),
        ("portions", [[["../../hints/x", 1, 1, 1, "0", [0, "", ""]], "AAAAAA=="]]),
        ("portions", [[["0" * 16 + "-" + "a" * 32, 1, 1, 1, "0", [1, "", "../x"]], "AAAAAA=="]]),
        ("portions", [[["0" * 16 + "-" + "a" * 32, 0, 1, 1, "0", [0, "", ""]], "AAAAAA=="]]),
        ("portions", [[["0" * 16 + "-" + "a" * 32, 1, 1, 1, "0", [0, "", ""]], "AQAAAAAAAAA="]]),
        ("portions", [[["0" * 16 + "-" + "a" * 32, 1, 1, 1, "0", [0, "", ""]], ""]]),
    ],
)
def test_hostile_tasks_are_refused_by_name(store: Store, name: str, value: object) -> None:
    document = {**task_of(store).to_fields(), name: value}
    with pytest.raises(TaskInvalid) as told:
        ShardTask.from_fields(document)
    assert HOSTILE not in str(told.value)


@pytest.mark.parametrize("event", [None, 1, "text", [], {}, {"version": 1}, {"portions": [], "version": "1"}])
def test_what_is_no_task_is_refused(event: object) -> None:
    with pytest.raises(TaskInvalid):
        ShardTask.from_fields(event)


def test_other_versions_refuse_each_other(store: Store) -> None:
    task = task_of(store)
    with pytest.raises(TaskInvalid, match="tasks of version 1, and was given another"):
        ShardTask.from_fields({**task.to_fields(), "version": 2})
    with pytest.raises(ResultInvalid, match="another version than 1"):
        ShardResult.from_fields({"version": 2}, task)


def test_a_task_of_another_segment_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(store)
    for wrong in (
        replace(task, point=np.ones(DIMENSION + 1, np.float32)),
        replace(task, portions=(replace(task.portions[0], lists=np.array([0, 10_000], np.uint32)),)),
        replace(task, portions=(replace(task.portions[0], info=replace(task.portions[0].info, rows=7)),)),
    ):
        with pytest.raises(TaskInvalid):
            Opened(store).of(ShardTask.from_fields(wrong.to_fields()))
    monkeypatch.setattr(shards, "SHARE_BYTES_MAX", 100)
    with pytest.raises(TaskInvalid, match="more lists than a shard reads"):
        Opened(store).of(task)


def test_results_that_cannot_be_are_refused(store: Store) -> None:
    task = task_of(store)
    billed = BilledStore(store)
    result = scan_share(billed, Blocks(1 << 24), task, Opened(billed).of)
    [scored] = result.scored
    assert 8 < len(scored.hits) <= 20
    assert ShardResult.from_fields(result.to_fields(), task).scored[0].hits.tolist() == scored.hits.tolist()
    beyond, infinite, disordered = (scored.hits.copy() for _ in range(3))
    beyond["row"][3] = task.portions[0].info.rows
    infinite["fine"][3] = np.inf
    disordered["coarse"][0] = -1e30
    for hits in (beyond, infinite, disordered, np.concatenate([scored.hits, scored.hits[-1:]] * 2)):
        wrong = replace(result, scored=(Scored(scored.rows, hits),))
        with pytest.raises(ResultInvalid, match="something else than it was asked"):
            ShardResult.from_fields(wrong.to_fields(), task)
    for name, value in (("scored", []), ("scored", None), ("tally", [-1]), ("gets", [None]), ("bytes", "many")):
        with pytest.raises(ResultInvalid):
            ShardResult.from_fields({**result.to_fields(), name: value}, task)


def test_the_largest_task_and_the_largest_result_are_less_than_lambda_hands_over() -> None:
    mask = Mask(2**32 - 1, b"\0" * 4096, "")
    info = CompactedInfo("0" * 16 + "-" + "a" * 32, 2**32 - 1, 2**32 - 1, 2**53, 2**64 - 1, mask)
    text = '"' * (CONDITION_BYTES_MAX // 2)
    condition = Condition(parse({"a": 1}, (), 9).root, text + "\\" * (CONDITION_BYTES_MAX // 2), frozenset())
    lists = [np.zeros(LISTS_MAX // PORTIONS_MAX, np.uint32)] * PORTIONS_MAX
    portions = tuple(Portion(info, some) for some in lists)
    task = ShardTask("a" * 32, np.ones(DIMENSION_MAX, np.float32), condition, 312, portions)
    assert LAMBDA_BYTES_MAX * 0.8 < len(json.dumps(task.to_fields())) < LAMBDA_BYTES_MAX
    scored = Scored(2**53, np.zeros(HITS_MAX, HIT))
    result = ShardResult((scored,), Tally(*[2**53] * 8), (10**6,) * 100, 2**53, 2**53)
    assert LAMBDA_BYTES_MAX * 0.7 < len(json.dumps(result.to_fields())) < LAMBDA_BYTES_MAX


def test_what_would_not_fit_is_scanned_here(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fan_out = Split(store, 3)
    with calls_of(store) as calls:
        first = state_of(calls).compacted[0]
        lists = np.arange(first.directory.lists)
        share = Share(first, lists, want_lists(first.directory, lists))
        point, few = np.ones(DIMENSION, np.float32), parse({"third": True}, (), 9)

        def scattered(condition: Condition | None = None, count: int = 10, shares: int = 1) -> bool:
            session = cold(calls)
            session.fan_out = fan_out
            return scatter(session, [share] * shares, point, condition, count) is not None

        assert scattered()
        assert scattered(few)
        assert not scattered(count=HITS_MAX)
        assert not scattered(count=HITS_MAX // 2, shares=2)
        assert not scattered(Condition(few.root, "x" * (CONDITION_BYTES_MAX + 1), few.keys))
        for limit in ("LISTS_MAX", "TERMS_BYTES_MAX", "PORTIONS_MAX"):
            with monkeypatch.context() as patch:
                patch.setattr(shards, limit, 0)
                assert not scattered(few)
        monkeypatch.setattr(fan_out, "into", 1)
        assert not scattered()


def test_a_shard_keeps_what_it_opened_within_bounds(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first, opened = task_of(store), Opened(store)
    with calls_of(store) as calls:
        least = min(state_of(calls).compacted, key=lambda one: one.info.rows).info
    other = replace(first, portions=(Portion(least, np.array([0], np.uint32)),))

    def requests(*tasks: ShardTask) -> list[int]:
        store.new_bill()
        for task in tasks:
            opened.of(task)
        return [len(wave) for wave in store.new_bill().waves]

    assert requests(first, first, other, first, other) == [1, 1]
    monkeypatch.setattr(shards, "OPENED_BYTES_MAX", 1)
    assert requests(first, other, first, first) == [1, 1]


def test_gathered_says_whether_it_tells_enough() -> None:
    hits = np.zeros(skimmed_rows(10), HIT)
    hits["row"] = np.arange(len(hits))
    whole, part = Gathered([Scored(99, hits)], 10), Gathered([Scored(99, hits[:-1])], 10)
    assert (whole.suffices(10), whole.suffices(11), part.suffices(11)) == (True, False, True)
