"""What is logged: the form of the lines, and that no secret is in any of them, nor in metrics or traces."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest

from neve import errors
from neve.store.objects import memory_store
from neve.store.port import Get, Reply, Request, Store
from neve.wire.logs import JsonLines, access_log, log_access
from neve.wire.message import Request as Asked
from neve.wire.metrics import Metrics
from tests.unit.watched_engine import INDEX, engine
from tests.unit.wire_service import KEY, NOW_S, FakeService, application, post

SECRETS = {
    "authorization": f"AWS4-HMAC-SHA256 Credential={KEY.id}/planted-credential, Signature=planted-signature",
    "x_amz_security_token": "planted-token",
    "x_neve_planted_option": "planted-option-value",
    "baggage": "who=planted-baggage",
    "cookie": "planted-cookie",
}
PLANTED = "planted-in-a-failure"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, a line for each request included."""
    with caplog.at_level(logging.INFO, access_log.name):
        yield caplog


def test_a_request_is_one_line_of_json(logged: pytest.LogCaptureFixture) -> None:
    refusing = application(FakeService(errors.IndexNotFound("i")), watchers=[log_access])
    refusing(post("/GetIndex", b'{"text": 1}'))
    assert [json.loads(record.getMessage()) for record in logged.records] == [
        {
            "time": NOW_S,
            "request": "00000000-0000-0000-0000-000000000001",
            "operation": "GetIndex",
            "status": 404,
            "ms": 0.0,
            "waves": 0,
            "requests": 0,
            "hedges": 0,
            "bytesRead": 0,
            "bytesWritten": 0,
            "error": "NotFoundException",
        }
    ]


def test_the_line_of_a_query_says_what_it_cost(logged: pytest.LogCaptureFixture) -> None:
    with engine(access_log=True) as running:
        running.make_index()
        running.put("a")
        running.ask("QueryVectors", {**INDEX, "queryVector": {"float32": [1, 0]}, "topK": 1})
    told = json.loads(logged.records[-1].getMessage())
    assert (told["index"], told["plan"]) == ("library/books", "recent rows")
    assert (told["waves"], told["requests"], told["bytesRead"]) == (1, 3, 0)
    assert len(logged.records) == 4


def test_other_lines_as_json(caplog: pytest.LogCaptureFixture) -> None:
    response = application(FakeService(ValueError("planted")))(post("/PutVectors"))
    [record] = caplog.records
    told = json.loads(JsonLines().format(record))
    assert {name: told[name] for name in ("level", "logger", "request", "operation")} == {
        "level": "error",
        "logger": "neve.wire",
        "request": response.headers["x-amz-request-id"],
        "operation": "PutVectors",
    }
    assert "ValueError" in told["message"]
    assert "planted" not in told["message"]


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        record = logging.LogRecord("neve", logging.WARNING, __file__, 1, "a %s", ("b",), sys.exc_info())
    line = JsonLines().format(record)
    told = json.loads(line)
    assert "\n" not in line
    assert (told["message"], told["traceback"].splitlines()[-1]) == ("a b", "KeyError: 'gone'")


def test_a_function_logs_its_requests_too() -> None:
    """To standard error as they are, whatever the platform has made of the root logger."""
    program = """
import logging, sys
logging.basicConfig(stream=sys.stdout)
from neve.wire.function import Function
context = {"http": {"method": "POST"}, "authorizer": {"iam": {"userId": "x"}}}
event = {"version": "2.0", "rawPath": "/ListVectorBuckets", "headers": {}, "requestContext": context}
answer = Function({"NEVE_STORE": "memory:", "NEVE_ACCESS_LOG": "true"})(event)
print(answer["headers"]["x-amz-request-id"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told = json.loads(done.stderr)
    assert (told["request"], told["operation"], told["status"]) == (done.stdout.strip(), "ListVectorBuckets", 200)


class Failing:
    """A store that fails every read of data with an error that quotes what it should not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.broken = False

    def wave(self, requests: list[Request]) -> list[Reply]:
        if self.broken and any(isinstance(request, Get) for request in requests):
            raise ValueError(PLANTED)
        return self._store.wave(requests)


def test_no_secret_is_told(
    logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], spans: InMemorySpanExporter
) -> None:
    store = Failing(memory_store())
    metrics = Metrics()
    with engine(metrics.served, tell=metrics.wave, store=store, access_log=True) as running:
        running.make_index()
        metadata = {"planted-name": "planted-value"}
        running.put("planted-key", metadata=metadata)
        query = {**INDEX, "queryVector": {"float32": [7.125, 3.0]}, "topK": 1, "filter": {"planted-name": "planted-x"}}
        running.ask("QueryVectors", query)
        running.ask("QueryVectors", query, 400, **SECRETS)
        running.ask("PutVectors", {**INDEX, "vectors": [{"key": "planted-key", "data": {"float32": "planted"}}]}, 400)
        running.ask("GetVectors", {**INDEX, "keys": ["planted-key"], "nextToken": "planted-page"})
        running.ask("QueryVectors", {**query, "filter": {"$planted-x": 1}}, 400)
        running.ask("CreateIndex", {**INDEX, "planted-member": "planted"}, 400)
        running.application(Asked("GET", "/planted-path/tags/planted-arn", "planted=query", {}))
        running.application(Asked("POST", "/planted-path", "X-Amz-Signature=planted-signature", {}, b"planted"))
        store.broken = True
        running.ask("QueryVectors", query, 500, traceparent="planted-trace")
    page = generate_latest(metrics.registry).decode()
    told = [repr(vars(record)) + JsonLines().format(record) for record in logged.records]
    told += [span.to_json() for span in spans.get_finished_spans()]
    assert len(logged.records) == 12 + 1, "a line for each request, and one for the failure"
    assert len(spans.get_finished_spans()) > 12
    for text in (*told, page, *capfd.readouterr()):
        assert "planted" not in text
        assert "7.125" not in text
