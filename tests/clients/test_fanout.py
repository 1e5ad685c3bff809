"""Queries whose shards are a function behind Lambda's Invoke API: answers, failures, what is told and what is paid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from neve.api.faults import fault
from neve.errors import ObjectGone, ShardLost, StoreDenied
from neve.query.shards import Threads
from neve.store.connect import connect
from neve.wire import fanout
from neve.wire.assembly import open_service
from neve.wire.fanout import SHARDS_MAX, LambdaFanOut
from neve.wire.settings import SHARD_BYTES, Settings, SettingsInvalid
from neve.wire.shard import Shard
from neve.wire.sigv4 import AccessKey
from tests.compacting import compact_in, short_calibrations, workspaces
from tests.conftest import USER, StartNeve
from tests.servers.function import function
from tests.servers.invocations import BROKEN, CRASHED, THROTTLED, Fate, InvokeApi
from tests.servers.object_store import ObjectStore
from tests.unit.api_calls import MovableRuntime
from tests.unit.compacted_index import ADDRESS, DIMENSION, calls_of, compacted_calls
from tests.unit.test_shards import ask, service

NAME = "neve-shard"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEY = AccessKey("AKIDEXAMPLE", SECRET)
FILTERS = (None, {"odd": True}, {"number": {"$lt": 1_000}}, None)
SIGNS = {"AWS_ACCESS_KEY_ID": KEY.id, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "a-session"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of an index of two compacted segments and recent rows."""
    url = tmp_path_factory.mktemp("store").as_uri()
    with compacted_calls(tmp_path_factory.mktemp("work"), store=connect(url)):
        return url


@pytest.fixture
def api(url: str) -> Iterator[InvokeApi]:
    with InvokeApi(NAME, Shard({"NEVE_STORE": url}), KEY) as api:
        yield api


class Runtime(MovableRuntime):
    """Sleeps only in its own mind."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Sharded:
    """A service with shards behind the API, beside a plain one; `ask` holds their answers against each other."""

    def __init__(self, url: str, endpoint: str, environment: dict[str, str]) -> None:
        self.url = url
        self.runtime = Runtime()
        settings = Settings(url, shard_function=NAME, shard_endpoint=endpoint)
        self.fan_out = LambdaFanOut(settings, self.runtime, environment)
        self.fan_out._bytes_min = 1

    def ask(self, **members: object) -> dict[str, Any]:
        members = {"queryVector": {"float32": [1.0] * DIMENSION}, "topK": 10} | members
        store = connect(self.url)
        with service(store) as plain, service(store, lambda _: self.fan_out) as sharded:
            expected, _ = ask(plain, **members)
            try:
                found, told = ask(sharded, **members)
            finally:
                sharded._fan_out = None  # the next call goes on with it
            assert found == expected
            return told


@contextmanager
def sharded(url: str, endpoint: str, environment: dict[str, str] | None = None) -> Iterator[Sharded]:
    sharded = Sharded(url, endpoint, SIGNS if environment is None else environment)
    try:
        yield sharded
    finally:
        sharded.fan_out.close()


def test_answers_over_http_are_those_without_shards(minio: ObjectStore, start_neve: StartNeve, tmp_path: Path) -> None:
    """Shards are lambda/shard.py in a process of its own, by the real runtime interface client."""
    store = minio.fresh_url()
    rows, dimension = 1_500, 1_024
    vectors = np.random.default_rng(3).standard_normal((rows, dimension)).astype(np.float32)
    fill(store, vectors)
    key = AccessKey(USER.access_key, USER.secret_key)
    with function("shard", {"NEVE_STORE": store}) as shard, InvokeApi(NAME, shard.invoke, key) as api:
        environment = {
            "NEVE_SHARD_FUNCTION": NAME,
            "NEVE_SHARD_ENDPOINT": api.endpoint,
            "NEVE_SHARD_BYTES": "1MiB",
            "NEVE_MEMORY": "1MiB",
        }
        plain, sharded = start_neve(store).client(), start_neve(store, environment=environment)
        client = sharded.client()
        for vector, filter_ in zip(vectors[:4] + 0.5, FILTERS, strict=True):
            asked = {**ADDRESS, "queryVector": {"float32": vector.tolist()}, "topK": 100, "returnDistance": True}
            asked |= {} if filter_ is None else {"filter": filter_}
            expected, found = plain.query_vectors(**asked), client.query_vectors(**asked)
            assert found["vectors"] == expected["vectors"]
            assert len(found["vectors"]) == 100
        assert len(api.events) >= 8
        last = lists_of(api.events[-1])
        api.doomed = lambda event: BROKEN if lists_of(event) == last else None
        with pytest.raises(ClientError) as told:
            client.query_vectors(**asked)
        answer = told.value.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert answer["Error"]["Code"] == "ServiceUnavailableException"
        assert "ShardLost: a shard was asked 3 times in vain, the last time with status 500" in sharded.output()
        assert USER.secret_key not in sharded.output() + shard.output()


def lists_of(event: Any) -> str:
    return str(event["portions"])


def fill(url: str, vectors: np.ndarray) -> None:
    with calls_of(connect(url)) as calls, workspaces() as folder, short_calibrations():
        calls("CreateVectorBucket", vectorBucketName="library")
        calls("CreateIndex", **ADDRESS, dataType="float32", dimension=vectors.shape[1], distanceMetric="cosine")
        for start in range(0, len(vectors), 400):
            records = [
                {
                    "key": f"key-{n}",
                    "data": {"float32": vectors[n].tolist()},
                    "metadata": {"number": n, "odd": n % 2 > 0},
                }
                for n in range(start, min(start + 400, len(vectors)))
            ]
            calls("PutVectors", **ADDRESS, vectors=records)
        assert compact_in(calls.service.database, folder, "library", "books") is not None


def test_what_shards_read_is_told_and_paid(url: str, api: InvokeApi) -> None:
    with sharded(url, api.endpoint) as asked:
        told = asked.ask()
        assert told["shards"] == len(api.events) == 2
        assert told["store"]["blocks"] > told["lists"] > 0
        gets = told["requests"]
        warm = asked.ask()
        assert warm["memory"]["blocks"] >= warm["lists"], "the function has kept them"
        assert warm["requests"] < gets


def test_events_say_what_is_asked_and_nothing_else(url: str, api: InvokeApi) -> None:
    with sharded(url, api.endpoint) as asked:
        asked.ask(filter={"third": True})
    for event in api.events:
        assert set(event) == {"version", "uid", "point", "filter", "count", "portions"}
        assert event["filter"] == '{"third":{"$in":[true]}}'


@pytest.mark.parametrize(
    "fates",
    [[THROTTLED], [BROKEN, BROKEN], [CRASHED], [THROTTLED, CRASHED]],
    ids=["throttled", "broken", "crashed", "both"],
)
def test_what_passes_is_asked_again(url: str, api: InvokeApi, fates: list[Fate]) -> None:
    with sharded(url, api.endpoint) as asked:
        api.fates.extend(fates)
        told = asked.ask()
        assert told["shards"] == 2
        assert len(api.events) == 2 + len(fates)
        pauses = asked.runtime.slept
        assert len(pauses) == len(fates)
        assert all(0.1 <= pause <= 0.6 for pause in pauses)


def test_an_answer_that_does_not_come_is_asked_for_again(
    url: str, api: InvokeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "ATTEMPT_S", 0.25)
    with sharded(url, api.endpoint) as asked:
        api.fates.append(1.0)
        asked.ask()
        assert len(api.events) == 3


def test_an_answer_that_comes_after_a_long_sleep_is_dropped(url: str, api: InvokeApi) -> None:
    """As when the function that asks was frozen between asking and hearing."""
    with sharded(url, api.endpoint) as asked:
        answer, runtime = api._function, asked.runtime
        api.wall_s = lambda: runtime.now().wall_s
        slept = iter([3600.0, 0.0, 0.0, 0.0])

        def late(event: Any) -> Any:
            runtime.ahead_s += next(slept)
            return answer(event)

        api._function = late
        asked.ask()
        assert 3 <= len(api.events) <= 4


@pytest.mark.parametrize(
    ("fate", "reason", "tries"),
    [
        (BROKEN, "asked 3 times in vain, the last time with status 500", 3),
        (THROTTLED, "asked 3 times in vain, the last time with status 429", 3),
        (CRASHED, "asked 3 times in vain, the last time by an error of its function, ExitError", 3),
        ((200, {}, b"nonsense"), "cannot be understood: it answers in another version than 1", 1),
        ((200, {}, b"[]"), "cannot be understood: it answers in another version than 1", 1),
        ((200, {}, b'{"version":1}'), "cannot be understood: it answers with no result of version 1", 1),
        ((200, {}, b'{"version":2,"error":"TaskInvalid","message":"m"}'), "does not do its task, TaskInvalid: m", 1),
        ((200, {"X-Amz-Function-Error": "x"}, b"\xff"), "by an error of its function, one without a name", 3),
        ((404, {}, b"{}"), "cannot be invoked: Lambda answers 404", 1),
        ((413, {}, b"{}"), "cannot be invoked: Lambda answers 413", 1),
        ((200, {}, b" " * (fanout.ANSWER_BYTES_MAX + 1)), "cannot be understood", 1),
    ],
)
def test_a_shard_that_stays_lost_fails_the_query(url: str, api: InvokeApi, fate: Fate, reason: str, tries: int) -> None:
    with sharded(url, api.endpoint) as asked:
        asked.ask()
        last = max(map(lists_of, api.events))
        api.events.clear()
        api.doomed = lambda event: fate if lists_of(event) == last else None
        with pytest.raises(ShardLost) as told:
            asked.ask()
        assert reason in str(told.value)
        assert sum(lists_of(event) == last for event in api.events) == tries
        assert (fault(told.value).status, fault(told.value).code) == (503, "ServiceUnavailableException")
        api.doomed = lambda event: None
        asked.ask()


@pytest.mark.parametrize(
    ("error", "kind"), [("ObjectGone", ObjectGone), ("StoreDenied", StoreDenied), ("StoreUnavailable", ShardLost)]
)
def test_what_befalls_a_shard_befalls_the_query(url: str, api: InvokeApi, error: str, kind: type[Exception]) -> None:
    with sharded(url, api.endpoint) as asked:
        told = b'{"version":1,"error":"%s","message":"the store says so"}' % error.encode()
        api.doomed = lambda event: (200, {}, told)
        with pytest.raises(kind):
            asked.ask()


def test_wrong_keys_are_a_lost_shard_that_names_no_secret(
    url: str, api: InvokeApi, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong in ({**SIGNS, "AWS_SECRET_ACCESS_KEY": "another"}, {}):
        with sharded(url, api.endpoint, wrong) as asked, pytest.raises(ShardLost, match="Lambda answers 403") as told:
            asked.ask()
        assert "another" not in str(told.value) + caplog.text
    assert api.events == []


def test_nobody_there_is_a_lost_shard(url: str) -> None:
    with (
        sharded(url, "http://127.0.0.1:9") as asked,
        pytest.raises(ShardLost, match="asked 3 times in vain, the last time by ConnectionRefusedError"),
    ):
        asked.ask()


def test_connections_are_kept_while_they_are_young(url: str, api: InvokeApi) -> None:
    with sharded(url, api.endpoint) as asked:
        for _ in range(3):
            asked.ask()
        assert api.connections <= 2
        asked.runtime.ahead_s += fanout.IDLE_S + 1
        asked.ask()
        assert 2 < api.connections + 1 <= 5
        assert len(api.events) == 8


def test_a_connection_that_was_closed_meanwhile_costs_no_try(url: str, api: InvokeApi) -> None:
    with sharded(url, api.endpoint) as asked:
        asked.ask()
        for connection, _ in asked.fan_out._idle:
            connection.sock.shutdown(2)
        asked.ask()
        assert len(api.events) == 4
        assert asked.runtime.slept == []


@pytest.mark.parametrize(
    ("asked", "kind"),
    [({}, type(None)), ({"shard_threads": 2}, Threads), ({"shard_threads": 2, "shard_function": NAME}, LambdaFanOut)],
)
def test_settings_say_who_shares(url: str, asked: dict[str, Any], kind: type[object]) -> None:
    opened = open_service(Settings(url, **asked), MovableRuntime(), connect(url))
    assert type(opened._fan_out) is kind
    opened.close()


def test_shards_by_bytes() -> None:
    settings = Settings("memory://", shard_function="arn:aws:lambda:us-east-1:000000000000:function:neve-shard:live")
    fan_out = LambdaFanOut(settings, MovableRuntime(), {})
    shards = [fan_out.shards(size) for size in (0, SHARD_BYTES - 1, SHARD_BYTES, 2 * SHARD_BYTES, 1 << 40)]
    assert shards == [1, 1, 4, 8, SHARDS_MAX]
    fan_out.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"shard_function": "a b"},
        {"shard_function": "x/../../y"},
        {"shard_endpoint": "http://lambda.example.com"},
        {"shard_endpoint": "https://user:password@host"},
        {"shard_bytes": 1000},
    ],
)
def test_settings_of_shards_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsInvalid, match=next(iter(wrong))):
        Settings("memory://", **wrong)


@pytest.mark.parametrize("event", [None, {}, [], {"version": 1, "portions": "planted"}, {"version": 2, "portions": []}])
def test_hostile_events_are_errors_by_name(url: str, event: object, caplog: pytest.LogCaptureFixture) -> None:
    answer = Shard({"NEVE_STORE": url})(event)
    assert (answer["version"], answer["error"]) == (1, "TaskInvalid")
    assert "planted" not in str(answer) + caplog.text


def test_a_segment_that_is_gone_is_told_by_name(url: str, api: InvokeApi, tmp_path: Path) -> None:
    with sharded(url, api.endpoint) as asked:
        asked.ask()
    answer = Shard({"NEVE_STORE": tmp_path.as_uri()})(api.events[0])
    assert answer["error"] == "ObjectGone"
