"""Events of function URLs and API Gateway: stored ones, signed at a fixed time, and the function itself."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from neve.api.limits import LIMITS
from neve.api.service import Identity, Service
from neve.index.database import Database
from neve.runtime import Instant, SystemRuntime
from neve.store.connect import connect
from neve.wire.application import Application
from neve.wire.event import handle, request_of
from neve.wire.message import Request
from neve.wire.sigv4 import Verifier, sign
from tests.golden import record_events
from tests.golden.record import DOMAIN, FILE, KEY, NOW_S, event_of
from tests.unit.wire_service import FakeService, application

Event = dict[str, Any]
EXCHANGES: list[Event] = json.loads(FILE.read_text())
KINDS: dict[str, Event] = json.loads(record_events.FILE.read_text())
ROOT = Path(__file__).parents[2]


class FixedRuntime(SystemRuntime):
    """The wall clock stands at the time when the events were signed."""

    def now(self) -> Instant:
        return Instant(NOW_S, super().now().monotonic_s)


def test_stored_events_are_answered_as_the_notes_say() -> None:
    runtime = FixedRuntime()
    database = Database.open(connect("memory://"), runtime)
    service = Service(database, Identity("us-east-1", "000000000000"), LIMITS["aws"])
    verifier = Verifier([KEY], lambda: runtime.now().wall_s)
    engine = Application(service, runtime, verifier, body_bytes_max=LIMITS["aws"].body_bytes)
    for exchange in EXCHANGES:
        answer = handle(engine, exchange["event"])
        headers: Any = answer["headers"]
        said = answer["statusCode"], headers.get("x-amzn-errortype"), json.loads(str(answer["body"]))
        assert said == (exchange["status"], exchange["error"], exchange["document"]), exchange["event"]["rawPath"]
    database.close()
    runtime.close()


@pytest.mark.parametrize("number", range(len(EXCHANGES)))
def test_every_stored_signature_holds(number: int) -> None:
    event = EXCHANGES[number]["event"]
    assert handle(application(FakeService(), keys=(KEY,)), event)["statusCode"] == 200
    http = {**event["requestContext"]["http"], "method": "PATCH"}
    changed = {**event, "requestContext": {**event["requestContext"], "http": http}}
    assert handle(application(FakeService(), keys=(KEY,)), changed)["statusCode"] != 200


def test_an_event_as_a_request() -> None:
    event = EXCHANGES[11]["event"]
    request = request_of(
        {**event, "headers": {"Host": "h", "X-Two": "a,b"}, "body": "eyJhIjoxfQ==", "isBase64Encoded": True}
    )
    assert request == Request(
        method="DELETE",
        path="/tags/arn%3Aaws%3As3vectors%3Aus-east-1%3A000000000000%3Abucket%2Fgolden%2Findex%2Fbooks",
        query="tagKeys=k%2B&tagKeys=a%20b%2Fc",
        headers={"host": "h", "x-two": "a,b"},
        body=b'{"a":1}',
    )


def test_a_path_that_the_url_has_decoded_still_verifies() -> None:
    event = EXCHANGES[10]["event"]
    assert "%3A" in event["rawPath"]
    decoded = {**event, "rawPath": event["requestContext"]["http"]["path"]}
    assert handle(application(FakeService(), keys=(KEY,)), decoded)["statusCode"] == 200


ASKED = ("GetIndex", {"vectorBucketName": "golden", "indexName": "books"})
UNTAGGED = (
    "UntagResource",
    {"resourceArn": "arn:aws:s3vectors:us-east-1:000000000000:bucket/golden", "tagKeys": ["k+", "a b/c"]},
)
ON_THE_WIRE = [name for name in KINDS if not name.startswith(("schedule", "S3"))]


@pytest.mark.parametrize("kind", ON_THE_WIRE)
def test_every_kind_of_event_carries_the_request_as_it_was_signed(kind: str) -> None:
    service = FakeService()
    answer = handle(application(service, keys=(KEY,)), KINDS[kind])
    assert answer["statusCode"] == 200, answer["body"]
    assert [(operation, members) for operation, members, _ in service.calls] == [
        UNTAGGED if kind.endswith("tags") else ASKED
    ]


@pytest.mark.parametrize("kind", [name for name in ON_THE_WIRE if not name.endswith("IAM")])
def test_without_keys_a_caller_whom_nobody_has_authenticated_is_refused(kind: str) -> None:
    service = FakeService()
    answer = handle(application(service), KINDS[kind])
    headers: Any = answer["headers"]
    assert (answer["statusCode"], headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert service.calls == []


@pytest.mark.parametrize("kind", ["function URL, IAM", "REST API, IAM"])
def test_without_keys_a_caller_whom_iam_has_authenticated_is_answered(kind: str) -> None:
    service = FakeService()
    assert handle(application(service), KINDS[kind])["statusCode"] == 200
    assert [operation for operation, *_ in service.calls] == ["GetIndex"]


def test_a_header_that_is_given_twice_is_joined() -> None:
    rest = {**KINDS["REST API"], "headers": {"X-Two": "b"}, "multiValueHeaders": {"X-Two": ["a", "b"]}}
    assert request_of(rest).headers == {"x-two": "a,b"}
    assert request_of({**rest, "multiValueHeaders": None}).headers == {"x-two": "b"}
    assert request_of({**rest, "headers": None, "multiValueHeaders": None}).headers == {}


def test_cookies_are_ignored() -> None:
    assert KINDS["HTTP API"]["cookies"]
    assert "cookie" not in request_of(KINDS["HTTP API"]).headers


URL, REST = KINDS["function URL"], KINDS["REST API"]
SECRET = "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        {},
        KINDS["schedule"],
        KINDS["S3"],
        {**URL, "headers": SECRET},
        {**URL, "headers": {"authorization": 1, SECRET: "x"}},
        {**URL, "requestContext": {}},
        {**URL, "requestContext": SECRET},
        {**URL, "requestContext": {"http": {"path": "/"}}},
        {**URL, "rawPath": None},
        {**URL, "rawQueryString": [SECRET]},
        {**URL, "body": f"%{SECRET}", "isBase64Encoded": True},
        {**URL, "body": {SECRET: 1}},
        {**URL, "version": "3.0"},
        {**REST, "httpMethod": None},
        {**REST, "multiValueHeaders": {"host": SECRET}},
        {**REST, "multiValueHeaders": {"host": [1]}},
        {**REST, "queryStringParameters": {SECRET: 1}},
        {**REST, "requestContext": {"path": 1}},
    ],
)
def test_what_carries_no_request_is_answered_with_400_and_quoted_nowhere(
    event: object, caplog: pytest.LogCaptureFixture
) -> None:
    service = FakeService()
    answer = handle(application(service), event)
    headers: Any = answer["headers"]
    assert (answer["statusCode"], headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert "event" in json.loads(str(answer["body"]))["message"]
    assert SECRET not in str(answer) + caplog.text
    assert service.calls == []


Handler = Callable[[Mapping[str, object], object], Event]


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], Handler]:
    """The handler of lambda/api.py, started with an environment."""

    def start(environment: Mapping[str, str]) -> Handler:
        for name, value in {"NEVE_STORE": f"file://{tmp_path}/store", **environment}.items():
            monkeypatch.setenv(name, value)
        handler: Handler = runpy.run_path(str(ROOT / "lambda" / "api.py"))["handler"]
        return handler

    return start


def test_the_function_with_keys(function: Callable[[Mapping[str, str]], Handler]) -> None:
    handler = function({"NEVE_KEYS": f"{KEY.id}:{KEY.secret}"})
    headers = {"host": DOMAIN, "content-type": "application/json"}
    unsigned = Request("POST", "/ListVectorBuckets", headers=headers, body=b"{}")
    signed = sign(unsigned, KEY, "us-east-1", SystemRuntime().now().wall_s)
    for request, status in ((signed, 200), (unsigned, 403)):
        event = event_of("POST", f"https://{DOMAIN}{request.path}", dict(request.headers), request.body)
        assert handler(event, None)["statusCode"] == status


def test_the_function_without_keys(function: Callable[[Mapping[str, str]], Handler]) -> None:
    handler = function({})
    event = EXCHANGES[0]["event"]
    assert handler(event, None)["statusCode"] == 403
    answer = handler(record_events.with_iam(event), None)
    assert (answer["statusCode"], answer["body"]) == (200, '{"vectorBuckets":[]}')


@pytest.mark.parametrize("path", sorted((ROOT / "lambda").glob("*.py")), ids=lambda path: path.name)
def test_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 30


def test_the_stored_events_are_those_of_the_recorder() -> None:
    assert record_events.events() == KINDS
