"""Function-URL events: stored ones, signed by botocore at a fixed time, and the function itself."""

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
from tests.golden.record import DOMAIN, FILE, KEY, NOW_S, event_of
from tests.unit.wire_service import FakeService, application

Event = dict[str, Any]
EXCHANGES: list[Event] = json.loads(FILE.read_text())
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


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": []},
        {**EXCHANGES[0]["event"], "version": "1.0"},
        {**EXCHANGES[0]["event"], "headers": None},
        {**EXCHANGES[0]["event"], "requestContext": {}},
        {**EXCHANGES[0]["event"], "body": "%", "isBase64Encoded": True},
        {**EXCHANGES[0]["event"], "body": 1},
    ],
)
def test_what_is_no_function_url_event(event: Event) -> None:
    with pytest.raises(ValueError, match="event"):
        handle(application(FakeService()), event)


def with_iam(event: Event) -> Event:
    iam = {"iam": {"accessKey": "AKIA", "accountId": "111122223333", "userId": "u", "userArn": "arn:aws:iam::1:user/u"}}
    return {**event, "requestContext": {**event["requestContext"], "authorizer": iam}}


def test_without_keys_only_callers_whom_the_url_has_authenticated_are_answered() -> None:
    service = FakeService()
    answer = handle(application(service), EXCHANGES[0]["event"])
    headers: Any = answer["headers"]
    assert (answer["statusCode"], headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert service.calls == []
    assert handle(application(service), with_iam(EXCHANGES[0]["event"]))["statusCode"] == 200


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
    answer = handler(with_iam(event), None)
    assert (answer["statusCode"], answer["body"]) == (200, '{"vectorBuckets":[]}')


def test_the_function_is_short() -> None:
    assert len((ROOT / "lambda" / "api.py").read_text().splitlines()) <= 30
