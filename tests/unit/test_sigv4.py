"""SigV4 against botocore's own signer, and every way in which a signature can be wrong."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import replace
from unittest import mock
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.errors import NotAuthentic
from neve.wire import sigv4
from neve.wire.message import Request
from neve.wire.sigv4 import AccessKey, Verifier, presign, sign

NOW_S = 1_800_000_000.0
KEY = AccessKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "tester")
OTHER = AccessKey("AKIDOTHER", "other-secret")
HOST = "vectors.example:7070"


def by_botocore(
    request: Request, *, expires_s: int | None = None, service: str = "s3vectors", token: str | None = None
) -> Request:
    """The request as botocore signs it at NOW_S: in its header, or in its query if `expires_s` is given."""
    aws = AWSRequest(
        method=request.method,
        url=f"http://{HOST}{request.path}" + (f"?{request.query}" if request.query else ""),
        headers={name: value for name, value in request.headers.items() if name != "host"},
        data=request.body,
    )
    credentials = Credentials(KEY.id, KEY.secret, token)
    moment = datetime.datetime.fromtimestamp(NOW_S, datetime.UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=moment):
        if expires_s is None:
            SigV4Auth(credentials, service, "us-east-1").add_auth(aws)
        else:
            SigV4QueryAuth(credentials, service, "us-east-1", expires_s).add_auth(aws)
    signed = {name.lower(): value for name, value in aws.headers.items()}
    return replace(request, query=urlsplit(aws.url).query, headers={"host": HOST, **signed})


def verifier(now_s: float = NOW_S, **options: tuple[str, ...]) -> Verifier:
    return Verifier([KEY, OTHER], lambda: now_s, **options)


def refusal(request: Request, check: Verifier | None = None) -> NotAuthentic:
    with pytest.raises(NotAuthentic) as caught:
        (check or verifier()).verify(request)
    return caught.value


PUT = Request("POST", "/PutVectors", headers={"host": HOST, "content-type": "application/json"}, body=b'{"a": 1}')
TAGS = "/tags/arn%3Aaws%3As3vectors%3Aus-east-1%3A000000000000%3Abucket%2Fb"

text = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cs"]), max_size=12)
encoded = text.map(lambda value: quote(value, safe="-_.~"))
requests = st.builds(
    Request,
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.lists(st.sampled_from(["", ".", "..", "base", "QueryVectors"]) | encoded, max_size=5).map(
        lambda segments: "/" + "/".join(segments)
    ),
    query=st.lists(st.tuples(encoded.filter(bool), encoded), max_size=4).map(
        lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
    ),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "accept", "x-neve-consistency", "amz-sdk-request", "user-agent"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).map(str.strip),
    ).map(lambda headers: {"host": HOST, **headers}),
    body=st.binary(max_size=50),
)


@settings(max_examples=300, deadline=None)
@given(requests)
def test_header_form_agrees_with_botocore(request: Request) -> None:
    signed = by_botocore(request)
    assert sign(request, KEY, "us-east-1", NOW_S).headers["authorization"] == signed.headers["authorization"]
    assert verifier().verify(signed) == KEY


@settings(max_examples=200, deadline=None)
@given(requests, st.integers(1, 604800))
def test_query_form_agrees_with_botocore(request: Request, expires_s: int) -> None:
    # botocore moves a body into the query and merges repeated names, so it is given neither
    names = [part.partition("=")[0] for part in request.query.split("&")]
    request = replace(request, body=b"", query=request.query if len(set(names)) == len(names) else "")
    request = replace(request, query="&".join(part for part in request.query.split("&") if not part.endswith("=")))
    signed = by_botocore(request, expires_s=expires_s)
    assert verifier().verify(signed) == KEY
    assert presign(request, KEY, "us-east-1", NOW_S, expires_s=expires_s).query == signed.query


@settings(max_examples=100, deadline=None)
@given(requests, st.data())
def test_any_change_breaks_the_signature(request: Request, data: st.DataObject) -> None:
    signed = sign(request, KEY, "us-east-1", NOW_S)
    change = data.draw(st.sampled_from(["method", "path", "query", "body", "host"]))
    changed = {
        "method": lambda: replace(signed, method="PATCH"),
        "path": lambda: replace(signed, path=signed.path + "x"),
        "query": lambda: replace(signed, query=signed.query + ("&" if signed.query else "") + "zz=1"),
        "body": lambda: replace(signed, body=signed.body + b" "),
        "host": lambda: replace(signed, headers={**signed.headers, "host": "elsewhere"}),
    }[change]()
    assert refusal(changed).code == "InvalidSignatureException"


def test_session_token_is_signed_and_otherwise_ignored() -> None:
    signed = by_botocore(PUT, token="a-token")
    assert verifier().verify(signed) == KEY
    assert sign(PUT, KEY, "us-east-1", NOW_S, token="a-token").headers == signed.headers
    assert refusal(replace(signed, headers={**signed.headers, "x-amz-security-token": "another"}))


def test_presigned_post_covers_the_body() -> None:
    signed = presign(PUT, KEY, "us-east-1", NOW_S, expires_s=60)
    assert verifier().verify(signed) == KEY
    assert refusal(replace(signed, body=b"{}")).code == "InvalidSignatureException"


def test_path_is_encoded_twice_and_an_alias_may_be_what_was_signed() -> None:
    signed = sign(Request("GET", TAGS, headers={"host": HOST}), KEY, "us-east-1", NOW_S)
    decoded = replace(signed, path=TAGS.replace("%3A", ":").replace("%2F", "/"))
    assert verifier().verify(signed) == KEY
    assert refusal(decoded).code == "InvalidSignatureException"
    assert verifier().verify(decoded, [TAGS]) == KEY


def test_path_may_be_signed_as_it_is() -> None:
    """SDKs that do not drop empty segments sign the path with them."""
    request = Request("POST", "/base//ListVectorBuckets", headers={"host": HOST})
    with mock.patch.object(sigv4, "_normalised", lambda path: path):
        signed = sign(request, KEY, "us-east-1", NOW_S)
    assert verifier().verify(signed) == KEY


def test_host_may_be_any_name_but_must_be_signed() -> None:
    signed = sign(replace(PUT, headers={"host": "any.name"}), KEY, "us-east-1", NOW_S)
    assert verifier().verify(signed) == KEY
    authorization = signed.headers["authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
    error = refusal(replace(signed, headers={**signed.headers, "authorization": authorization}))
    assert error.message == "'Host' must be a 'SignedHeader' in the AWS Authorization."


def test_content_hash_header_must_agree_with_the_body() -> None:
    wrong = replace(PUT, headers={**PUT.headers, "x-amz-content-sha256": "0" * 64})
    assert "does not match" in refusal(sign(wrong, KEY, "us-east-1", NOW_S)).message
    right = replace(PUT, headers={**PUT.headers, "x-amz-content-sha256": hashlib.sha256(PUT.body).hexdigest()})
    assert verifier().verify(sign(right, KEY, "us-east-1", NOW_S)) == KEY


@pytest.mark.parametrize("value", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])
def test_bodies_that_are_not_signed_are_refused(value: str) -> None:
    request = replace(PUT, headers={**PUT.headers, "x-amz-content-sha256": value})
    error = refusal(sign(request, KEY, "us-east-1", NOW_S))
    assert error.code == "InvalidSignatureException"
    assert value in error.message


@pytest.mark.parametrize("skew_s", [-299, 0, 299])
def test_clocks_may_differ_by_five_minutes(skew_s: int) -> None:
    assert verifier(NOW_S + skew_s).verify(by_botocore(PUT)) == KEY


def test_old_and_future_signatures_are_refused() -> None:
    signed = by_botocore(PUT)
    assert refusal(signed, verifier(NOW_S + 301)).message == (
        "Signature expired: 20270115T080000Z is now earlier than 20270115T080001Z (20270115T080501Z - 5 min.)"
    )
    assert refusal(signed, verifier(NOW_S - 301)).message == (
        "Signature not yet current: 20270115T080000Z is still later than 20270115T075959Z (20270115T075459Z + 5 min.)"
    )


def test_presigned_life() -> None:
    signed = presign(PUT, KEY, "us-east-1", NOW_S, expires_s=600)
    assert verifier(NOW_S + 600).verify(signed) == KEY
    assert refusal(signed, verifier(NOW_S + 601)).message.startswith("Signature expired: 20270115T081000Z is now ear")
    assert refusal(signed, verifier(NOW_S - 301)).message.startswith("Signature not yet current")


@pytest.mark.parametrize("expires_s", [0, -1, 604801])
def test_presigned_life_is_bounded(expires_s: int) -> None:
    error = refusal(presign(PUT, KEY, "us-east-1", NOW_S, expires_s=expires_s))
    assert error.message == "X-Amz-Expires must be between 1 and 604800 seconds."


def test_regions() -> None:
    signed = by_botocore(PUT)
    assert verifier(regions=("us-east-1",)).verify(signed) == KEY
    error = refusal(signed, verifier(regions=("eu-west-1",)))
    assert error.message == "Credential should be scoped to a valid region: eu-west-1."


def test_service() -> None:
    assert "correct service: 's3vectors'" in refusal(by_botocore(PUT, service="s3")).message


def test_keys() -> None:
    assert verifier().verify(sign(PUT, OTHER, "us-east-1", NOW_S)) == OTHER
    unknown = refusal(sign(PUT, AccessKey("AKIDUNKNOWN", "x"), "us-east-1", NOW_S))
    assert (unknown.code, unknown.message) == (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )
    wrong = refusal(sign(PUT, AccessKey(KEY.id, "wrong"), "us-east-1", NOW_S))
    assert wrong.code == "InvalidSignatureException"
    assert wrong.message.startswith("The request signature we calculated does not match the signature you provided.")


def test_no_signature() -> None:
    error = refusal(PUT)
    assert (error.code, error.message) == ("MissingAuthenticationTokenException", "Missing Authentication Token")


def test_both_forms_at_once() -> None:
    signed = replace(sign(PUT, KEY, "us-east-1", NOW_S), query="X-Amz-Algorithm=AWS4-HMAC-SHA256")
    assert refusal(signed).message.startswith("Only one form")


def damaged(credential: str, signed: str = "host", signature: str = "0", date: str = "20270115T080000Z") -> Request:
    authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}"
    return replace(PUT, headers={"host": HOST, "x-amz-date": date, "authorization": authorization})


def authorized(authorization: str) -> Request:
    return replace(PUT, headers={**PUT.headers, "authorization": authorization})


TODAY = f"{KEY.id}/20270115/us-east-1/s3vectors/aws4_request"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (authorized("Basic dXNlcjpwYXNz"), "Unsupported signing algorithm"),
        (authorized("AWS4-ECDSA-P256-SHA256 Credential=a"), "Unsupported signing algorithm"),
        (authorized("AWS4-HMAC-SHA256"), "requires 'Credential'"),
        (authorized("AWS4-HMAC-SHA256 Credential=a, Credential=b"), "more than once"),
        (damaged("a"), "Credential must be"),
        (damaged(TODAY, signed="Host"), "lower-case"),
        (damaged(TODAY, signed="host;"), "lower-case"),
        (damaged(TODAY, date=""), "X-Amz-Date"),
        (damaged(TODAY, date="20270231T080000Z"), "X-Amz-Date"),
        (damaged(TODAY.replace("0115", "0116")), "does not match YYYYMMDD"),
        (damaged(TODAY, signature="\xe9"), "does not match the signature"),
        (replace(PUT, query="X-Amz-Algorithm=AWS4-HMAC-SHA256"), "must include 'X-Amz-Credential' once"),
    ],
)
def test_malformed_signatures(request_: Request, words: str) -> None:
    error = refusal(request_)
    assert error.code == "InvalidSignatureException"
    assert words in error.message


def test_key_cache_is_bounded_and_secrets_stay_out_of_reprs() -> None:
    assert sigv4._signing_key.cache_info().maxsize == 256
    assert KEY.secret not in repr(KEY)
    assert "wJalr" not in repr(sign(PUT, KEY, "us-east-1", NOW_S))
    assert "Signature" not in repr(presign(PUT, KEY, "us-east-1", NOW_S))
