"""Records function_url.json: requests of boto3, and of the shape of a JavaScript SDK's, signed at a fixed time.

Run `python -m tests.golden.record` to record anew; the answers are written by hand below, from the API notes.
"""

from __future__ import annotations

import base64
import datetime
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials

from neve.wire.sigv4 import AccessKey

FILE = Path(__file__).with_name("function_url.json")
NOW_S = 1_800_000_000
KEY = AccessKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
DOMAIN = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-west-1.on.aws"
BUCKET_ARN = "arn:aws:s3vectors:us-east-1:000000000000:bucket/golden"
INDEX_ARN = BUCKET_ARN + "/index/books"
NON_FILTERABLE = "Invalid use of non-filterable metadata in filter"
INDEX = {"vectorBucketName": "golden", "indexName": "books"}

Event = dict[str, Any]
ok = 200, None
VECTORS = [
    {"key": "doc1", "data": {"float32": [0.1, 0, 0]}, "metadata": {"title": "Névé", "year": 2020, "raw_text": "hello"}},
    {"key": "doc2", "data": {"float32": [0, 1.5, 0]}},
]
# (what is asked, status and error, the answer's document)
STORY: list[tuple[Callable[[Any], object], tuple[int, str | None], object]] = [
    (lambda s3v: s3v.list_vector_buckets(), ok, {"vectorBuckets": []}),
    (lambda s3v: s3v.create_vector_bucket(vectorBucketName="golden"), ok, {"vectorBucketArn": BUCKET_ARN}),
    (
        lambda s3v: s3v.create_vector_bucket(vectorBucketName="golden"),
        (409, "ConflictException"),
        {"message": "A vector bucket with the specified name already exists"},
    ),
    (
        lambda s3v: s3v.create_index(
            **INDEX,
            dataType="float32",
            dimension=3,
            distanceMetric="cosine",
            metadataConfiguration={"nonFilterableMetadataKeys": ["raw_text"]},
        ),
        ok,
        {"indexArn": INDEX_ARN},
    ),
    (
        lambda s3v: s3v.get_index(indexArn=INDEX_ARN),
        ok,
        {
            "index": {
                **INDEX,
                "indexArn": INDEX_ARN,
                "creationTime": NOW_S,
                "dataType": "float32",
                "dimension": 3,
                "distanceMetric": "cosine",
                "metadataConfiguration": {"nonFilterableMetadataKeys": ["raw_text"]},
                "encryptionConfiguration": {"sseType": "AES256"},
                "indexMode": "ENHANCED",
            }
        },
    ),
    (lambda s3v: s3v.put_vectors(**INDEX, vectors=VECTORS), ok, {}),
    (
        lambda s3v: s3v.get_vectors(**INDEX, keys=["doc1", "none"], returnData=True, returnMetadata=True),
        ok,
        {
            "vectors": [
                {
                    "key": "doc1",
                    "data": {"float32": [0.10000000149011612, 0.0, 0.0]},
                    "metadata": {"title": "Névé", "year": 2020, "raw_text": "hello"},
                }
            ]
        },
    ),
    (
        lambda s3v: s3v.query_vectors(
            **INDEX,
            topK=5,
            queryVector={"float32": [0.19, 0, 0]},
            filter={"$and": [{"title": {"$eq": "Névé"}}, {"year": {"$gte": 2020}}]},
            returnDistance=True,
        ),
        ok,
        {"vectors": [{"key": "doc1", "distance": 0.0}], "distanceMetric": "cosine"},
    ),
    (
        lambda s3v: s3v.query_vectors(
            **INDEX, topK=5, queryVector={"float32": [1, 0, 0]}, filter={"raw_text": {"$eq": "hello"}}
        ),
        (400, "ValidationException"),
        {"message": NON_FILTERABLE, "fieldList": [{"path": "filter", "message": NON_FILTERABLE}]},
    ),
    (lambda s3v: s3v.tag_resource(resourceArn=INDEX_ARN, tags={"a b/c": "1", "k+": "é"}), ok, {}),
    (lambda s3v: s3v.list_tags_for_resource(resourceArn=INDEX_ARN), ok, {"tags": {"a b/c": "1", "k+": "é"}}),
    (lambda s3v: s3v.untag_resource(resourceArn=INDEX_ARN, tagKeys=["k+", "a b/c"]), ok, {}),
    (lambda s3v: s3v.list_tags_for_resource(resourceArn=INDEX_ARN), ok, {"tags": {}}),
    (lambda s3v: s3v.delete_vectors(**INDEX, keys=["doc1"]), ok, {}),
    (lambda s3v: s3v.list_vectors(**INDEX), ok, {"vectors": [{"key": "doc2"}]}),
    (
        lambda s3v: s3v.delete_vector_bucket(vectorBucketName="golden"),
        (409, "ConflictException"),
        {"message": "The specified vector bucket is not empty"},
    ),
    (lambda s3v: s3v.delete_index(**INDEX), ok, {}),
    (
        lambda s3v: s3v.delete_index(**INDEX),
        (404, "NotFoundException"),
        {"message": "The specified index could not be found"},
    ),
    (lambda s3v: s3v.delete_vector_bucket(vectorBucketName="golden"), ok, {}),
]


def main() -> None:
    """Write the file."""
    clock = mock.patch("botocore.auth.get_current_datetime", return_value=_moment())
    with clock:
        exchanges = [
            {"event": _by_boto3(ask), "status": status, "error": error, "document": document}
            for ask, (status, error), document in STORY
        ]
        exchanges += [
            {"event": event, "status": 200, "error": None, "document": {"vectorBuckets": []}} for event in _variants()
        ]
    FILE.write_text(json.dumps(exchanges, indent=1, ensure_ascii=False) + "\n")


def _by_boto3(ask: Callable[[Any], object]) -> Event:
    """The event of the one request that `ask` makes of a client."""
    client = boto3.client(
        "s3vectors",
        endpoint_url=f"https://{DOMAIN}",
        region_name="us-east-1",
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
        config=Config(user_agent="Boto3/golden"),
    )
    caught: list[Event] = []

    def intercept(request: Any, **_: object) -> AWSResponse:
        headers = {name: _text(value) for name, value in request.headers.items()}
        caught.append(event_of(request.method, request.url, headers, request.body or b""))
        empty = mock.Mock(stream=lambda: iter([b"{}"]))
        return AWSResponse(request.url, 200, {}, empty)

    client.meta.events.register("before-send.s3vectors.*", intercept)
    ask(client)
    return caught[0]


def _variants() -> list[Event]:
    """The same question as other clients and carriers put it."""
    javascript = AWSRequest(
        "POST",
        f"https://{DOMAIN}/ListVectorBuckets",
        {
            "content-type": "application/json",
            "x-amz-content-sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "x-amz-user-agent": "aws-sdk-js/3",
        },
        b"{}",
    )
    SigV4Auth(Credentials(KEY.id, KEY.secret), "s3vectors", "us-east-1").add_auth(javascript)
    plain = event_of("POST", javascript.url, dict(javascript.headers), b"{}")
    encoded = {**plain, "body": base64.b64encode(b"{}").decode(), "isBase64Encoded": True}
    return [plain, encoded]


def event_of(method: str, url: str, headers: dict[str, str], body: bytes) -> Event:
    """The function-URL event (payload 2.0) that carries a request."""
    parts = urlsplit(url)
    lower = {"host": DOMAIN, **{name.lower(): value for name, value in headers.items()}}
    event: Event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": {**lower, "x-forwarded-proto": "https", "x-forwarded-port": "443", "x-forwarded-for": "192.0.2.1"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": DOMAIN.partition(".")[0],
            "domainName": DOMAIN,
            "domainPrefix": DOMAIN.partition(".")[0],
            "http": {
                "method": method,
                "path": unquote(parts.path),
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": lower.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid5(uuid.NAMESPACE_URL, url)),
            "routeKey": "$default",
            "stage": "$default",
            "time": _moment().strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": NOW_S * 1000,
        },
        "isBase64Encoded": False,
    }
    if body:
        event["body"] = body.decode()
    return event


def _moment() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(NOW_S, datetime.UTC)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
