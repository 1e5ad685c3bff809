"""lambda/api.py as Lambda runs it: by the real runtime interface client, in a process, over a real MinIO."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from minio.credentials import AssumeRoleProvider

from neve.testing.lambda_runtime import LambdaRuntime
from neve.wire.message import Request
from neve.wire.sigv4 import AccessKey, sign
from tests.golden.record import event_of
from tests.servers.function import URL, FunctionProcess, answer_of, function, url_event
from tests.servers.object_store import REGION, Credentials, ObjectStore

BUCKET = {"vectorBucketName": "shelf"}
INDEX = {**BUCKET, "indexName": "books"}
CREATED = {**INDEX, "dataType": "float32", "dimension": 2, "distanceMetric": "euclidean"}
NEAREST = {**INDEX, "queryVector": {"float32": [3, 0]}, "topK": 2, "returnDistance": True}
FOUND = {"distanceMetric": "euclidean", "vectors": [{"key": "v3", "distance": 0.0}, {"key": "v2", "distance": 1.0}]}
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
DENIED = {"message": "The server is not permitted to use its object store"}


def vectors(numbers: range) -> list[dict[str, object]]:
    return [{"key": f"v{number}", "data": {"float32": [number, 0]}} for number in numbers]


def fill(store: str) -> None:
    """An index of five vectors, written by a function of its own."""
    with function("api", {"NEVE_STORE": store}) as api:
        for operation, members in (("CreateVectorBucket", BUCKET), ("CreateIndex", CREATED)):
            assert api.call(operation, members)[0] == 200
        assert api.call("PutVectors", {**INDEX, "vectors": vectors(range(4))}) == (200, {})


@pytest.fixture(scope="module")
def filled(minio: ObjectStore) -> str:
    """The URL of a store with that index, which tests leave as it is."""
    url = minio.fresh_url()
    fill(url)
    return url


def test_put_and_query_by_one_function_and_the_next(filled: str) -> None:
    with function("api", {"NEVE_STORE": filled}) as api:
        assert api.call("QueryVectors", NEAREST) == (200, FOUND)
        status, found = api.call("QueryVectors", {**NEAREST, "topK": 0})
        assert (status, found["fieldList"][0]["path"]) == (400, "/topK")
        assert answer_of(api.invoke({"Records": []}))[0] == 400
        assert api.output() == ""


def test_keys_are_verified_and_stay_secret(filled: str) -> None:
    key = AccessKey("AKIDEXAMPLE", SECRET)
    host = URL.removeprefix("https://")
    request = Request("POST", "/QueryVectors", headers={"host": host}, body=json.dumps(NEAREST).encode())
    signed = sign(request, key, "us-east-1", time.time())
    with function("api", {"NEVE_STORE": filled, "NEVE_KEYS": f"{key.id}:{SECRET}"}) as api:
        for sent, status in ((signed, 200), (request, 403)):
            event = event_of("POST", f"{URL}/QueryVectors", dict(sent.headers), sent.body)
            assert answer_of(api.invoke(event))[0] == status
        assert SECRET not in api.output()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "store is not set: give --store URL, NEVE_STORE or `store` in the settings file"),
        ({"NEVE_STORE": "ftp://nowhere"}, "not a store URL: 'ftp'"),
        ({"NEVE_STORE": f"s3://AKID:{SECRET}@bucket"}, "a store URL holds no credentials"),
        ({"NEVE_STORE": "memory://", "NEVE_KEYS": SECRET}, "key 1 in NEVE_KEYS must have id and secret"),
    ],
)
def test_settings_that_are_wrong_are_told_once_and_clearly(settings: dict[str, str], reason: str) -> None:
    with function("api", settings) as api:
        assert api.wait(30) == 1
        [error] = api.runtime.init_errors
        assert error.type == "Runtime.ImportModuleError"
        assert reason in error.message
        assert error.stack == []
        assert SECRET not in error.message + api.output()


def role(store: ObjectStore, *actions: str) -> dict[str, str]:
    """Credentials for a quarter of an hour that allow so much, as those of a function's role are."""
    resources = [f"arn:aws:s3:::{store.bucket}", f"arn:aws:s3:::{store.bucket}/*"]
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resources}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    found = AssumeRoleProvider(
        sts_endpoint=store.endpoint,
        access_key=store.user.access_key,
        secret_key=store.user.secret_key,
        duration_seconds=900,
        policy=policy,
        region=REGION,
    ).retrieve()
    assert found.session_token is not None
    user = Credentials(found.access_key, found.secret_key)
    return {**user.environment(), "AWS_SESSION_TOKEN": found.session_token}


def test_a_function_that_may_only_read_answers_queries(minio: ObjectStore, filled: str) -> None:
    with function("api", {"NEVE_STORE": filled, **role(minio, "s3:GetObject", "s3:ListBucket")}) as api:
        assert api.call("QueryVectors", NEAREST) == (200, FOUND)
        assert api.call("GetVectors", {**INDEX, "keys": ["v1"]}) == (200, {"vectors": [{"key": "v1"}]})
        assert api.call("PutVectors", {**INDEX, "vectors": vectors(range(1))}) == (403, DENIED)
        [line] = api.output().splitlines()
        assert "the store refuses PutNew of data/" in line
        assert "check its credentials and permissions" in line


def test_store_credentials_that_are_wrong_are_one_clear_error(filled: str) -> None:
    wrong = Credentials.random()
    with function("api", {"NEVE_STORE": filled, **wrong.environment()}) as api:
        for _ in range(2):
            assert api.call("QueryVectors", NEAREST) == (403, DENIED)
        lines = api.output().splitlines()
        assert len(lines) == 2  # one for each request
        assert all("the store refuses Get of neve.json: check its credentials" in line for line in lines)
        assert wrong.secret_key not in api.output()


def test_a_function_that_was_frozen_answers_with_what_was_written_meanwhile(minio: ObjectStore) -> None:
    store = minio.fresh_url()
    fill(store)
    with function("api", {"NEVE_STORE": store}) as frozen, function("api", {"NEVE_STORE": store}) as other:
        assert frozen.call("QueryVectors", NEAREST) == (200, FOUND)
        os.kill(frozen.pid, signal.SIGSTOP)
        assert other.call("DeleteVectors", {**INDEX, "keys": ["v3"]}) == (200, {})
        invocation = frozen.runtime.hand_in(url_event("QueryVectors", NEAREST))
        assert other.call("PutVectors", {**INDEX, "vectors": vectors(range(9, 10))}) == (200, {})
        os.kill(frozen.pid, signal.SIGCONT)
        status, found = answer_of(frozen.answered(invocation))
        assert (status, [hit["key"] for hit in found["vectors"]]) == (200, ["v2", "v1"])


def test_an_event_that_is_handed_over_twice_is_applied_once(minio: ObjectStore) -> None:
    """Lambda repeats what it has no answer for; so do SDKs, with the same invocation id."""
    store = minio.fresh_url()
    fill(store)
    event = url_event("PutVectors", {**INDEX, "vectors": vectors(range(7, 8))})
    event["headers"]["amz-sdk-invocation-id"] = "f6d4a2a5-0000-4000-8000-000000000000"
    with LambdaRuntime() as runtime:
        with FunctionProcess("api", runtime, {"NEVE_STORE": store}) as killed:
            assert answer_of(killed.invoke(event)) == (200, {})
            killed.kill()
        with FunctionProcess("api", runtime, {"NEVE_STORE": store}) as next_one:
            assert answer_of(next_one.invoke(event)) == (200, {})
            found = next_one.call("ListVectors", INDEX)[1]["vectors"]
            assert sorted(vector["key"] for vector in found) == ["v0", "v1", "v2", "v3", "v7"]
