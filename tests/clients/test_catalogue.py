"""The error catalogue over HTTP, on each kind of store: code, message, fieldList, and nothing changed."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson
import pytest

from tests.catalogue import BROKEN_BODIES, CASES, SETUP
from tests.conftest import StartNeve

STORES = ("memory", "folder", "minio", "versitygw")


class Wire:
    """One connection to a server; requests are not signed, which a server without keys accepts."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def __call__(self, operation: str, members: Mapping[str, Any] | bytes) -> tuple[int, str | None, dict[str, Any]]:
        """Status, error code and document of an answer."""
        method, path, body = _route(operation, members)
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.headers.get("x-amzn-errortype"), orjson.loads(response.read())

    def close(self) -> None:
        self._connection.close()


def _route(operation: str, members: Mapping[str, Any] | bytes) -> tuple[str, str, bytes | None]:
    if isinstance(members, bytes) or "resourceArn" not in members:
        return "POST", f"/{operation}", members if isinstance(members, bytes) else orjson.dumps(members)
    path = "/tags/" + quote(members["resourceArn"], safe="")
    match operation:
        case "ListTagsForResource":
            return "GET", path, None
        case "UntagResource":
            return "DELETE", f"{path}?{urlencode({'tagKeys': members.get('tagKeys', [])}, doseq=True)}", None
    return "POST", path, orjson.dumps({name: value for name, value in members.items() if name != "resourceArn"})


def _on_the_wire(operation: str, members: Mapping[str, Any]) -> bool:
    """Whether a request can say it: an ARN that stands in the path can be neither absent nor empty."""
    return not operation.endswith(("TagResource", "TagsForResource")) or bool(members.get("resourceArn"))


@pytest.fixture(params=STORES)
def wire(request: pytest.FixtureRequest, start_neve: StartNeve, tmp_path: Any) -> Iterator[Wire]:
    match request.param:
        case "memory":
            url = "memory://"
        case "folder":
            url = f"file://{tmp_path}/store"
        case name:
            url = request.getfixturevalue(name).fresh_url()
    wire = Wire(start_neve(url).url)
    for operation, members in SETUP:
        assert wire(operation, members)[0] == 200
    yield wire
    wire.close()


def test_every_refusal_and_nothing_changed(wire: Wire) -> None:
    before = _everything(wire)
    cases = [case for case in CASES if _on_the_wire(case.operation, case.members)]
    assert len(cases) >= 0.95 * len(CASES)
    for case in cases:
        status, code, document = wire(case.operation, case.members)
        fields = [(field["path"], field["message"]) for field in document.get("fieldList", [])]
        found = (code, status, document.get("message"), fields)
        assert found == (case.code, case.status, case.message, list(case.fields)), case.name
    for broken in BROKEN_BODIES:
        if not broken.operation.startswith("Tag"):
            assert wire(broken.operation, broken.body)[:2] == (400, "SerializationException"), broken.name
    assert _everything(wire) == before


def _everything(wire: Wire) -> list[object]:
    shown: list[object] = [wire("ListVectorBuckets", {})]
    for index in ("words", "points"):
        named = {"vectorBucketName": "library", "indexName": index}
        shown += [wire("GetIndex", named), wire("ListVectors", {**named, "returnData": True, "returnMetadata": True})]
    return shown
