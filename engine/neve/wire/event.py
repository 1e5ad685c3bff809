"""Function-URL events (payload version 2.0) as requests, and responses as what a function returns."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from neve.api.faults import Fault
from neve.wire.application import Application
from neve.wire.message import Request, Response

_CLOSED = Fault(
    "AccessDeniedException",
    403,
    "This function has no keys: set NEVE_KEYS, or give its URL the authorization type AWS_IAM",
    (),
)


def handle(application: Application, event: Mapping[str, object]) -> dict[str, object]:
    """Answer one event. Raises ValueError for what is no function-URL event.

    A function without keys is open to the world, unless its URL has authenticated the caller: only then it answers.
    """
    request = request_of(event)
    if application.anonymous and not _authorized(event):
        return document_of(application.refuse(_CLOSED))
    return document_of(application(request))


def request_of(event: Mapping[str, object]) -> Request:
    """The request that an event carries; raises ValueError for what is no function-URL event."""
    context = event.get("requestContext")
    http = context.get("http") if isinstance(context, Mapping) else None
    path, headers, query = event.get("rawPath"), event.get("headers"), event.get("rawQueryString", "")
    if (
        event.get("version") != "2.0"
        or not isinstance(http, Mapping)
        or not isinstance(headers, Mapping)
        or not isinstance(path, str)
        or not isinstance(query, str)
    ):
        raise ValueError("not a function-URL event of payload version 2.0")
    return Request(
        method=str(http.get("method", "")),
        path=path,
        query=query,
        headers={str(name).lower(): str(value) for name, value in headers.items()},
        body=_body(event),
    )


def document_of(response: Response) -> dict[str, object]:
    """What a function returns for a response."""
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }


def _body(event: Mapping[str, object]) -> bytes:
    body = event.get("body") or ""
    if not isinstance(body, str):
        raise ValueError("the body of the event is not text")
    if not event.get("isBase64Encoded"):
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the body of the event is not base64") from None


def _authorized(event: Mapping[str, object]) -> bool:
    """Whether the URL has verified the caller by AWS_IAM before the function saw the event."""
    context = event.get("requestContext")
    authorizer = context.get("authorizer") if isinstance(context, Mapping) else None
    return isinstance(authorizer, Mapping) and bool(authorizer.get("iam"))
