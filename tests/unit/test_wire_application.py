"""The application over a small service: routes, order of checks, options, errors, and what is logged."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve import errors
from neve.api.options import CallOptions
from neve.api.results import Explained, Nothing, OutputVector, VectorPage
from neve.api.service import EXTENSIONS, OPERATIONS
from neve.errors import FieldError, ValidationFailed
from neve.index.consistency import Consistency
from neve.query.explain import Explain, Plan, Reason
from neve.store.blocks import Tally
from neve.store.counting import Bill
from neve.wire.message import Request, Response
from neve.wire.sigv4 import sign
from tests.unit.wire_service import BODY_BYTES_MAX, KEY, NOW_S, FakeService, application, ask, post

ARN = "arn:aws:s3vectors:us-east-1:000000000000:bucket/b"
ENCODED_ARN = "arn%3Aaws%3As3vectors%3Aus-east-1%3A000000000000%3Abucket%2Fb"
TAG_OPERATIONS = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}


def called(request: Request) -> tuple[str, dict[str, object], CallOptions]:
    """What reached the service; the answer must have been a success."""
    service = FakeService()
    response = application(service)(request)
    assert (response.status, response.body) == (200, b"{}")
    assert len(service.calls) == 1
    return service.calls[0]


def error_of(response: Response) -> tuple[int, str, str | None]:
    return response.status, response.headers["x-amzn-errortype"], json.loads(response.body).get("message")


def test_there_are_22_operations() -> None:
    assert len(OPERATIONS) == 22


@pytest.mark.parametrize("base", ["", "/base", "/a/b"])
@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - set(TAG_OPERATIONS.values())))
def test_operations_are_posted_to_their_name(operation: str, base: str) -> None:
    assert called(post(f"{base}/{operation}", b'{"a": 1}')) == (operation, {"a": 1}, CallOptions())


@pytest.mark.parametrize("base", ["", "/base", "/neve"])
@pytest.mark.parametrize("operation", sorted(EXTENSIONS))
def test_our_own_operations_are_posted_below_neve(operation: str, base: str) -> None:
    assert called(post(f"{base}/neve/{operation}", b'{"a": 1}')) == (operation, {"a": 1}, CallOptions())
    for request in (post(f"/base/{operation}"), post(operation), Request("GET", f"/neve/{operation}")):
        assert error_of(ask(request)) == (404, "UnknownOperationException", None)


@pytest.mark.parametrize("base", ["", "/base"])
@pytest.mark.parametrize("arn", [ARN, ENCODED_ARN])
def test_tags_have_the_arn_in_the_path(arn: str, base: str) -> None:
    path = f"{base}/tags/{arn}"
    members = {"resourceArn": ARN}
    assert called(Request("GET", path)) == ("ListTagsForResource", members, CallOptions())
    body = b'{"tags": {"a": "b"}, "resourceArn": "another"}'
    assert called(Request("POST", path, body=body)) == (
        "TagResource",
        {"tags": {"a": "b"}, **members},
        CallOptions(),
    )
    query = "tagKeys=a%20b%2Fc&x=y&tagKeys=k+l&tagKeys="
    assert called(Request("DELETE", path, query)) == (
        "UntagResource",
        {"tagKeys": ["a b/c", "k+l", ""], **members},
        CallOptions(),
    )
    assert called(Request("DELETE", path)) == ("UntagResource", members, CallOptions())


def test_an_index_may_be_tagged_by_a_decoded_path() -> None:
    arn = ARN + "/index/tags"
    assert called(Request("GET", f"/tags/{arn}"))[1] == {"resourceArn": arn}


@pytest.mark.parametrize("arn", [ARN, ENCODED_ARN])
def test_a_proxy_may_decode_the_path_that_was_signed(arn: str) -> None:
    request = sign(Request("GET", f"/tags/{ENCODED_ARN}", headers={"host": "h"}), KEY, "us-east-1", NOW_S)
    assert application(FakeService(), keys=(KEY,))(replace(request, path=f"/tags/{arn}")).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ListVectorBuckets"),
        ("PUT", f"/tags/{ARN}"),
        ("POST", "/"),
        ("POST", ""),
        ("POST", "/listvectorbuckets"),
        ("POST", "/ListVectorBuckets/"),
        ("POST", "/TagResource"),
        ("POST", "/neve/Nothing"),
        ("GET", "/tags"),
        ("POST", "/healthz"),
    ],
)
def test_unknown_operations(method: str, path: str) -> None:
    response = ask(Request(method, path))
    assert error_of(response) == (404, "UnknownOperationException", None)
    assert response.body == b"{}"


def test_responses_carry_type_and_request_ids() -> None:
    for response in (ask(post("/ListVectorBuckets")), ask(post("/Unknown"))):
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["x-amz-request-id"] == "00000000-0000-0000-0000-000000000001"
        assert response.headers["x-amzn-RequestId"] == "00000000-0000-0000-0000-000000000001"


def test_results_are_rendered_exactly() -> None:
    data = np.array([0.1, 1], np.float32)
    page = VectorPage((OutputVector("k", data, b'{"year":2020,"n":12345678901234567890123}'),), None)
    assert ask(post("/GetVectors"), page).body == (
        b'{"vectors":[{"key":"k","data":{"float32":[0.10000000149011612,1.0]},'
        b'"metadata":{"year":2020,"n":12345678901234567890123}}]}'
    )


def test_an_empty_body_is_an_empty_object() -> None:
    assert called(post("/ListVectorBuckets", b"")) == ("ListVectorBuckets", {}, CallOptions())


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b"null", b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff", b"[" * 100_000, b'{"a": 1e999}x']
)
def test_what_is_no_json_object(body: bytes) -> None:
    assert error_of(ask(post("/ListVectorBuckets", body)))[:2] == (400, "SerializationException")


def test_paths_and_queries_that_are_no_text() -> None:
    assert error_of(ask(Request("GET", "/tags/%ff")))[:2] == (400, "SerializationException")
    assert error_of(ask(Request("DELETE", "/tags/a", "tagKeys=%ff")))[:2] == (400, "SerializationException")


def test_content_encodings_are_refused_clearly() -> None:
    refused = error_of(ask(post("/ListVectorBuckets", content_encoding="aws-chunked")))
    assert refused[:2] == (400, "ValidationException")
    assert "aws-chunked" in str(refused[2])
    assert ask(post("/ListVectorBuckets", content_encoding="identity")).status == 200


def test_the_body_limit_is_inclusive() -> None:
    body = b'{"a":"' + b"x" * (BODY_BYTES_MAX - 8) + b'"}'
    assert len(body) == BODY_BYTES_MAX
    assert ask(post("/PutVectors", body)).status == 200
    too_large = (400, "ValidationException", "Request body exceeds max allowed size")
    assert error_of(ask(post("/PutVectors", body + b" "))) == too_large
    assert error_of(ask(post("/Unknown", b"{}", content_length=str(BODY_BYTES_MAX + 1)))) == too_large


class TestOrderOfChecks:
    """Size, route, signature, form, options, then the service."""

    def code(self, body: bytes, *, signed: bool, **headers: str) -> str:
        request = post("/GetIndex", body, **headers)
        checked = application(FakeService(errors.IndexNotFound("i")), keys=(KEY,))
        return error_of(checked(sign(request, KEY, "us-east-1", NOW_S) if signed else request))[1]

    def test_size_before_signature(self) -> None:
        length = str(BODY_BYTES_MAX + 1)
        assert self.code(b"{", signed=False, content_length=length) == "ValidationException"

    def test_signature_before_form(self) -> None:
        code = self.code(b"{", signed=False, x_neve_consistency="sometimes")
        assert code == "MissingAuthenticationTokenException"

    def test_form_before_options(self) -> None:
        assert self.code(b"{", signed=True, x_neve_consistency="sometimes") == "SerializationException"

    def test_options_before_the_service(self) -> None:
        assert self.code(b"{}", signed=True, x_neve_consistency="sometimes") == "ValidationException"

    def test_the_service_last(self) -> None:
        assert self.code(b"{}", signed=True) == "NotFoundException"


def test_health_needs_neither_key_nor_service() -> None:
    service = FakeService()
    response = application(service, keys=(KEY,))(Request("GET", "/healthz"))
    assert (response.status, response.body, service.calls) == (200, b'{"status":"ok"}', [])


def test_consistency_is_asked_for_by_header() -> None:
    assert called(post("/GetIndex", x_neve_consistency="strong"))[2].consistency == Consistency()
    assert called(post("/GetIndex", x_neve_consistency="bounded;seconds=5"))[2].consistency == Consistency(5.0)
    for text in ("", "weak", "bounded", "bounded;seconds=-1", "bounded;seconds=nan", "bounded;seconds=x"):
        assert error_of(ask(post("/GetIndex", x_neve_consistency=text)))[:2] == (400, "ValidationException")


RECALL_RULE = "recall must be a number greater than 0 and at most 1"


def test_recall_is_asked_for_by_header() -> None:
    assert called(post("/QueryVectors", x_neve_recall="0.995"))[2] == CallOptions(recall=0.995)
    assert called(post("/QueryVectors", x_neve_recall="1"))[2] == CallOptions(recall=1.0)
    for text in ("", "0", "-0.5", "1.0001", "nan", "inf", "high", "0,9"):
        assert error_of(ask(post("/QueryVectors", x_neve_recall=text))) == (400, "ValidationException", RECALL_RULE)


def test_an_explanation_is_asked_for_by_header() -> None:
    assert called(post("/QueryVectors", x_neve_explain="true"))[2] == CallOptions(explain=True)
    assert called(post("/QueryVectors", x_neve_explain="False"))[2] == CallOptions()
    for text in ("", "1", "yes"):
        refused = error_of(ask(post("/QueryVectors", x_neve_explain=text)))
        assert refused == (400, "ValidationException", "explain must be 'true' or 'false'")


def test_an_explanation_is_ascii_whatever_the_filter_names() -> None:
    named = 'n\u00e9v\u00e9 \u96ea \U0001f600 \n\0\x7f"'
    explain = Explain(why=[Reason(named, 0, 0, named)])
    text = ask(post("/DeleteIndex"), Explained(Nothing(), explain, Bill(), 0.0)).headers["x-neve-explain"]
    assert all(" " <= character <= "~" for character in text)
    assert json.loads(text)["why"] == [{"condition": named, "rows": 0, "together": 0, "note": named}]


def test_an_explanation_is_answered_in_a_header() -> None:
    explain = Explain({Plan.LISTS: None}, 0.98, 3, lists=2, lists_total=5, rows_scored=100, candidates=10)
    explain.add(Tally(1, 2, 3, 4, 5, 6))
    billed = Bill([("Get", "Get", "List"), ("Get",)], bytes_read=9, hedges=1)
    response = ask(post("/DeleteIndex"), Explained(Nothing(), explain, billed, 0.0123456))
    assert (response.status, response.body) == (200, b"{}")
    assert json.loads(response.headers["x-neve-explain"]) == {
        "milliseconds": 12.346,
        "waves": 2,
        "requests": 4,
        "hedges": 1,
        "dollars": 6.6e-06,
        "memory": {"blocks": 1, "bytes": 2},
        "disk": {"blocks": 3, "bytes": 4},
        "store": {"blocks": 5, "bytes": 9},
        "plan": "lists",
        "recall": 0.98,
        "recentRows": 3,
        "lists": 2,
        "listsTotal": 5,
        "rowsScored": 100,
        "shards": 0,
        "candidates": 10,
    }


def test_unknown_options_are_refused() -> None:
    assert error_of(ask(post("/GetIndex", x_neve_consistensy="strong"))) == (
        400,
        "ValidationException",
        "Unknown request option 'x-neve-consistensy'",
    )


class TestInvocation:
    """The SDK's id of a call marks its repeats, and only those."""

    def of(self, request: Request) -> str | None:
        return called(request)[2].invocation

    def test_a_repeat_has_the_same(self) -> None:
        first, second = (self.of(post("/PutVectors", amz_sdk_invocation_id="i", attempt=str(n))) for n in (1, 2))
        assert first == second
        assert len(first or "") == 32

    def test_other_calls_have_another(self) -> None:
        first = post("/PutVectors", amz_sdk_invocation_id="i")
        others = [
            post("/PutVectors", amz_sdk_invocation_id="j"),
            post("/PutVectors", b'{"a":1}', amz_sdk_invocation_id="i"),
            post("/DeleteVectors", amz_sdk_invocation_id="i"),
        ]
        assert len({self.of(request) for request in (first, *others)}) == 4

    def test_its_length_is_bounded(self) -> None:
        assert len(self.of(post("/PutVectors", amz_sdk_invocation_id="i" * 100_000)) or "") == 32

    def test_none_where_none_was_given(self) -> None:
        assert self.of(post("/PutVectors")) is None


def test_validation_names_its_fields() -> None:
    response = ask(post("/PutVectors"), ValidationFailed("bad", FieldError("/a", "first"), FieldError("/b", "s\ud800")))
    assert error_of(response) == (400, "ValidationException", "bad")
    assert json.loads(response.body)["fieldList"] == [
        {"path": "/a", "message": "first"},
        {"path": "/b", "message": "s?"},
    ]


def test_no_field_list_where_no_field_is_named() -> None:
    assert json.loads(ask(post("/PutVectors"), ValidationFailed("bad")).body) == {"message": "bad"}


UNAVAILABLE = (503, "ServiceUnavailableException", "Currently unable to handle the request")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            errors.BucketExists("b"),
            (409, "ConflictException", "A vector bucket with the specified name already exists"),
        ),
        (
            errors.StoreUnavailable("at s3://secret"),
            (503, "ServiceUnavailableException", "Currently unable to handle the request"),
        ),
        (ZeroDivisionError("boom"), (500, "InternalServerException", "Internal server error")),
        (RecursionError(), (500, "InternalServerException", "Internal server error")),
    ],
)
def test_errors_of_the_service(error: Exception, expected: tuple[int, str, str]) -> None:
    assert error_of(ask(post("/GetIndex"), error, signed=True)) == expected


def test_failures_are_logged_without_what_the_request_held(caplog: pytest.LogCaptureFixture) -> None:
    request = post("/PutVectors", b'{"body-text": 1}', x_header="header-text")
    response = ask(request, ValueError("body-text header-text"), signed=True)
    assert response.status == 500
    assert "ValueError" in caplog.text
    assert response.headers["x-amz-request-id"] in caplog.text
    assert "in call" in caplog.text  # where it happened
    for secret in ("body-text", "header-text", KEY.secret, "Signature="):
        assert secret not in caplog.text


def test_modelled_errors_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    ask(post("/GetIndex"), errors.IndexNotFound("i"))
    assert caplog.text == ""


paths = st.sampled_from(["/QueryVectors", f"/tags/{ENCODED_ARN}", "/tags/", "/healthz", "/", ""]) | st.text(max_size=30)
names = st.sampled_from(
    [
        "host",
        "authorization",
        "x-amz-date",
        "x-amz-content-sha256",
        "content-length",
        "content-encoding",
        "x-neve-consistency",
        "amz-sdk-invocation-id",
        "x-amz-security-token",
    ]
) | st.text(max_size=10).map(str.lower)
values = st.text(st.characters(), max_size=40) | st.sampled_from(
    [
        f"AWS4-HMAC-SHA256 Credential={KEY.id}/20270115/r/s3vectors/aws4_request, SignedHeaders=host, Signature=00",
        "20270115T080000Z",
        "00010101T000000Z",
        "bounded;seconds=1e400",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    ]
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
bodies = st.binary(max_size=60) | documents.map(lambda document: json.dumps(document).encode())
queries = st.text(st.characters(), max_size=30) | st.sampled_from(
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY.id}%2F20270115%2Fr%2Fs3vectors%2Faws4_request"
        "&X-Amz-Date=20270115T080000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=%ff",
        "tagKeys=%ed%a0%80",
    ]
)


@settings(max_examples=600, deadline=None)
@given(
    st.builds(
        Request,
        method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", ""]) | st.text(max_size=5),
        path=paths,
        query=queries,
        headers=st.dictionaries(names, values, max_size=6),
        body=bodies,
    ),
    st.booleans(),
)
def test_nothing_a_client_sends_is_a_failure_of_ours(request: Request, keyed: bool) -> None:
    response = application(FakeService(), keys=(KEY,) if keyed else ())(request)
    assert response.status in (200, 400, 403, 404)
    json.loads(response.body)
    assert (response.status == 200) == ("x-amzn-errortype" not in response.headers)
