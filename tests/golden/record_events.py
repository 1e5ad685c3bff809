"""Records events.json: one signed question as each kind of event carries it, and events of schedules and of S3.

Run `python -m tests.golden.record_events` to record anew. Members are those of the AWS documentation's examples; where
an example has an account, an address or a name, these have ones that are reserved for such use.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from neve.wire.message import Request
from neve.wire.sigv4 import sign
from tests.golden.record import KEY, NOW_S, event_of

FILE = Path(__file__).with_name("events.json")
API = "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com"
CUSTOM = "vectors.example.com"
BODY = b'{"vectorBucketName": "golden", "indexName": "books"}'
TAGS = "/tags/arn%3Aaws%3As3vectors%3Aus-east-1%3A000000000000%3Abucket%2Fgolden"
QUERY = "tagKeys=k%2B&tagKeys=a%20b%2Fc"

Event = dict[str, Any]


def main() -> None:
    FILE.write_text(json.dumps(events(), indent=1, ensure_ascii=False) + "\n")


def events() -> dict[str, Event]:
    """By kind. Those of the wire are signed; their path is the one that the client has sent."""
    plain, staged, mapped = (
        signed("POST", f"https://{host}{base}/GetIndex", BODY)
        for host, base in ((API, ""), (API, "/prod"), (CUSTOM, "/v1"))
    )
    untag = signed("DELETE", f"https://{API}/prod{TAGS}?{QUERY}")
    own = event_of("POST", f"https://{API}/GetIndex", dict(plain.headers), BODY)
    return {
        "function URL": own,
        "function URL, base64": {**own, "body": base64.b64encode(BODY).decode(), "isBase64Encoded": True},
        "function URL, IAM": with_iam(own),
        "HTTP API": http_api(plain, "$default"),
        "HTTP API, stage": http_api(staged, "prod"),
        "HTTP API, stage, tags": http_api(untag, "prod"),
        "HTTP API, payload 1.0": {"version": "1.0", **rest_api(plain, "")},
        "REST API": rest_api(staged, "/prod"),
        "REST API, base64": {
            **rest_api(staged, "/prod"),
            "body": base64.b64encode(BODY).decode(),
            "isBase64Encoded": True,
        },
        "REST API, tags": rest_api(untag, "/prod"),
        "REST API, base path": rest_api(mapped, ""),
        "REST API, IAM": with_identity(rest_api(staged, "/prod")),
        "schedule": schedule("aws.events"),
        "scheduler": schedule("aws.scheduler"),
        "S3": s3("neve/hints/golden/books", "neve/hints/golden/films", "neve/hints/golden/books"),
        "S3, other keys": s3("neve/data/0123456789abcdef0123456789abcdef/log/0000000000000001"),
        "S3, test": {
            "Service": "Amazon S3",
            "Event": "s3:TestEvent",
            "Time": "2027-01-15T08:00:00.000Z",
            "Bucket": "amzn-s3-demo-bucket",
            "RequestId": "5582815E1AEA5ADF",
            "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
        },
    }


def signed(method: str, url: str, body: bytes = b"") -> Request:
    parts = urlsplit(url)
    headers = {"host": parts.netloc, "content-type": "application/json", "user-agent": "Boto3/golden"}
    return sign(Request(method, parts.path, parts.query, headers, body), KEY, "us-east-1", NOW_S)


def http_api(request: Request, stage: str) -> Event:
    """Payload 2.0 of API Gateway."""
    event = event_of(
        request.method, f"https://{API}{request.path}?{request.query}".rstrip("?"), dict(request.headers), request.body
    )
    context = event["requestContext"] | {
        "accountId": "123456789012",
        "apiId": "a1b2c3d4e5",
        "domainName": API,
        "domainPrefix": "a1b2c3d4e5",
        "stage": stage,
    }
    return {**event, "cookies": ["cookie1=1", "cookie2=2"], "requestContext": context}


def rest_api(request: Request, stage: str) -> Event:
    """Payload 1.0: the path without its stage, names and values of the query decoded."""
    query = parse_qs(request.query)
    path = unquote(request.path)
    headers = {_cased(name): value for name, value in request.headers.items()}
    headers |= {"X-Forwarded-For": "192.0.2.1, 198.51.100.7", "X-Forwarded-Proto": "https", "Cookie": "cookie1=1"}
    return {
        "resource": "/{proxy+}",
        "path": path.removeprefix(stage),
        "httpMethod": request.method,
        "headers": headers,
        "multiValueHeaders": {
            name: value.split(", ") if name == "X-Forwarded-For" else [value] for name, value in headers.items()
        },
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": path.removeprefix(stage).strip("/")},
        "stageVariables": None,
        "requestContext": {
            "resourceId": "123456",
            "resourcePath": "/{proxy+}",
            "httpMethod": request.method,
            "extendedRequestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "requestTime": "15/Jan/2027:08:00:00 +0000",
            "path": path,
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": stage.strip("/") or "$default",
            "domainName": request.headers["host"],
            "requestTimeEpoch": NOW_S * 1000,
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {
                "cognitoIdentityPoolId": None,
                "accountId": None,
                "cognitoIdentityId": None,
                "caller": None,
                "sourceIp": "192.0.2.1",
                "accessKey": None,
                "cognitoAuthenticationType": None,
                "cognitoAuthenticationProvider": None,
                "userArn": None,
                "userAgent": "Boto3/golden",
                "user": None,
            },
            "apiId": "a1b2c3d4e5",
        },
        "body": request.body.decode() or None,
        "isBase64Encoded": False,
    }


def with_iam(event: Event) -> Event:
    """As a URL with the authorization type AWS_IAM hands it over."""
    iam = {
        "accessKey": "AKIAIOSFODNN7EXAMPLE",
        "accountId": "111122223333",
        "callerId": "AIDACKCEVSQ6C2EXAMPLE",
        "cognitoIdentity": None,
        "principalOrgId": "o-example",
        "userArn": "arn:aws:iam::111122223333:user/example",
        "userId": "AIDACKCEVSQ6C2EXAMPLE",
    }
    return {**event, "requestContext": {**event["requestContext"], "authorizer": {"iam": iam}}}


def with_identity(event: Event) -> Event:
    """As a REST API's method with the authorization type AWS_IAM hands it over."""
    caller = {
        "accountId": "111122223333",
        "caller": "AIDACKCEVSQ6C2EXAMPLE",
        "accessKey": "AKIAIOSFODNN7EXAMPLE",
        "userArn": "arn:aws:iam::111122223333:user/example",
        "user": "AIDACKCEVSQ6C2EXAMPLE",
    }
    context = event["requestContext"]
    return {**event, "requestContext": {**context, "identity": {**context["identity"], **caller}}}


def schedule(source: str) -> Event:
    """Of EventBridge: a rule's, whose detail is an object, or a schedule's, whose detail is text."""
    scheduler = source == "aws.scheduler"
    resource = (
        "scheduler:eu-west-1:123456789012:schedule/default" if scheduler else "events:eu-west-1:123456789012:rule"
    )
    return {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": source,
        "account": "123456789012",
        "time": "2027-01-15T08:00:00Z",
        "region": "eu-west-1",
        "resources": [f"arn:aws:{resource}/compact"],
        "detail": "{}" if scheduler else {},
    }


def s3(*keys: str) -> Event:
    """A notification of objects that were created; keys are encoded as a form's."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "eu-west-1",
                "eventTime": "2027-01-15T08:00:00.000Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
                "requestParameters": {"sourceIPAddress": "192.0.2.1"},
                "responseElements": {
                    "x-amz-request-id": "C3D13FE58DE4C810",
                    "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
                },
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "compact",
                    "bucket": {
                        "name": "amzn-s3-demo-bucket",
                        "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                        "arn": "arn:aws:s3:::amzn-s3-demo-bucket",
                    },
                    "object": {
                        "key": key.replace("/", "%2F") if number % 2 else key,
                        "size": 1024,
                        "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                        "sequencer": "0055AED6DCD90281E5",
                    },
                },
            }
            for number, key in enumerate(keys)
        ]
    }


def _cased(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


if __name__ == "__main__":
    main()
