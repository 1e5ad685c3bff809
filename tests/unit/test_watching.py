"""Waves as they are told to who watches, and requests as they are told to watchers."""

from __future__ import annotations

import threading
from contextvars import copy_context

import pytest

from neve.errors import IndexNotFound, StoreUnavailable
from neve.query.explain import Explain
from neve.store.counting import count_hedges
from neve.store.port import Failed, Get, Put, PutNew, Reply, Request, Unknown
from neve.store.watching import WatchedStore, Wave, seen_waves
from neve.testing.objects import MemoryStore
from neve.wire.served import Served
from tests.unit.watched_engine import INDEX, engine
from tests.unit.wire_service import NOW_S, FakeService, StillRuntime, application, post

SECRET = "planted"


def test_a_wave_is_told_with_all_that_came_of_it() -> None:
    told: list[Wave] = []
    store = WatchedStore(MemoryStore(), StillRuntime(), told.append)
    store.wave([Put("a", b"1234"), PutNew("b", b"56")])
    store.wave([Get("a"), Get("absent"), PutNew("b", b"78")])
    first, second = told
    assert (first.bill.waves, first.bill.bytes_written) == ([("Put", "PutNew")], 6)
    assert (second.bill.waves, second.bill.bytes_read) == ([("Get", "Get", "PutNew")], 4)
    assert (first.races_lost, second.races_lost) == (0, 1)
    assert (first.began.wall_s, first.seconds, first.failed, second.failed) == (NOW_S, 0.0, 0, 0)


def test_failures_and_hedges_are_told() -> None:
    class Trouble(MemoryStore):
        def wave(self, requests: list[Request]) -> list[Reply]:  # type: ignore[override]
            count_hedges(2)
            return [Failed(StoreUnavailable("no")), Unknown("lost"), *super().wave(requests[2:])]

    told: list[Wave] = []
    WatchedStore(Trouble(), StillRuntime(), told.append).wave([Get("a"), PutNew("b", b""), Get("c")])
    assert [(wave.failed, wave.bill.hedges, wave.bill.requests) for wave in told] == [(2, 2, 3)]


def test_each_context_sees_its_own_waves() -> None:
    store = WatchedStore(MemoryStore(), StillRuntime())
    with seen_waves() as outer:
        store.wave([Get("a")])
        beside = threading.Thread(target=copy_context().run, args=(store.wave, [Get("b")]))
        other = threading.Thread(target=store.wave, args=([Get("c"), Get("d"), Get("e")],))
        for thread in (beside, other):
            thread.start()
            thread.join()
        with seen_waves() as inner:
            store.wave([Get("f"), Get("g")])
    store.wave([Get("h")])
    assert [wave.bill.requests for wave in outer] == [1, 1]
    assert [wave.bill.requests for wave in inner] == [2]


def test_a_request_is_told_with_its_waves() -> None:
    served: list[Served] = []
    waves: list[Wave] = []
    with engine(served.append, tell=waves.append) as running:
        running.make_index()
        running.put("a", "b")
        waves.clear()
        response = running.ask("QueryVectors", {**INDEX, "queryVector": {"float32": [1, 0]}, "topK": 2})
    last = served[-1]
    assert [one.operation for one in served] == ["CreateVectorBucket", "CreateIndex", "PutVectors", "QueryVectors"]
    assert (last.status, last.error, last.request_id) == (200, "", response.headers["x-amz-request-id"])
    assert (last.explain.index, last.explain.plan) == ("library/books", "recent rows")
    assert [wave.bill.waves for wave in last.waves] == [[("Get", "Get", "Get")]] == [wave.bill.waves for wave in waves]
    assert (last.requests, last.hedges, last.bytes_read, last.bytes_written) == (3, 0, 0, 0)
    put = served[2]
    assert put.bytes_written > 16
    assert "x-neve-explain" not in response.headers


@pytest.mark.parametrize(
    ("operation", "members", "told"),
    [
        ("GetIndex", {"vectorBucketName": "library", "indexName": "none"}, (404, "NotFoundException", "library/none")),
        ("GetIndex", {"indexArn": "arn:nobody"}, (400, "ValidationException", "")),
        ("GetIndex", {"vectorBucketName": "no good", "indexName": "x" * 4000}, (400, "ValidationException", "")),
        ("Nothing", {}, (404, "UnknownOperationException", "")),
    ],
)
def test_what_fails_is_told_too(operation: str, members: object, told: tuple[int, str, str]) -> None:
    served: list[Served] = []
    with engine(served.append) as running:
        running.ask(operation, members, told[0])
    [one] = served
    assert (one.status, one.error, one.explain.index) == told
    assert one.operation == ("-" if operation == "Nothing" else operation)


def test_a_watcher_that_fails_does_not_fail_the_request(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Served) -> None:
        raise RuntimeError(SECRET)

    served: list[Served] = []
    told = application(FakeService(), watchers=[broken, served.append])
    assert told(post("/ListVectorBuckets")).status == 200
    assert len(served) == 1
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_without_watchers_nothing_is_counted() -> None:
    class Service(FakeService):
        def call(self, operation, members, options, explain=None):  # type: ignore[no-untyped-def]
            assert explain is None
            return super().call(operation, members, options)

    assert application(Service())(post("/ListVectorBuckets")).status == 200

    class Watched(FakeService):
        def call(self, operation, members, options, explain=None):  # type: ignore[no-untyped-def]
            assert isinstance(explain, Explain)
            raise IndexNotFound("i")

    assert application(Watched(), watchers=[lambda _: None])(post("/GetIndex")).status == 404
