"""Events of function URLs and API Gateway as requests, and responses as what a function returns.

Payload 2.0 is that of function URLs and HTTP APIs, payload 1.0 that of REST APIs (and of HTTP APIs that ask for it).
Cookies are ignored.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import quote

from neve.api.faults import Fault
from neve.wire.application import Application
from neve.wire.message import Request, Response

_CLOSED = Fault(
    "AccessDeniedException",
    403,
    "This function has no keys: set NEVE_KEYS, or give its URL the authorization type AWS_IAM",
    (),
)


class EventInvalid(ValueError):
    """What a function was invoked with is no request; the message quotes nothing of it."""


def handle(application: Application, event: object) -> dict[str, object]:
    """Answer one event; what is none that carries a request is answered with 400. Raises nothing.

    A function without keys is open to the world, unless whoever hands it events has authenticated the caller by IAM:
    only then it answers.
    """
    try:
        request = request_of(event)
    except EventInvalid as error:
        return document_of(application.refuse(Fault("ValidationException", 400, str(error))))
    if application.anonymous and not _authorized(_mapping(event, "requestContext")):
        return document_of(application.refuse(_CLOSED))
    return document_of(application(request))


def request_of(event: object) -> Request:
    """The request that an event carries, its path as the client sent it, stage and base path included.

    Raises EventInvalid.
    """
    context = _mapping(event, "requestContext")
    if not isinstance(event, Mapping) or not context:
        raise EventInvalid("not an event of a function URL or of API Gateway")
    if event.get("version") == "2.0":
        return _request_of_2(event, _mapping(context, "http"))
    return _request_of_1(event, context)


def document_of(response: Response) -> dict[str, object]:
    """What a function returns for a response: the same for all kinds of events."""
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }


def _request_of_2(event: Mapping[str, object], http: Mapping[str, object]) -> Request:
    method, path, query = http.get("method"), event.get("rawPath"), event.get("rawQueryString") or ""
    if not (isinstance(method, str) and isinstance(path, str) and isinstance(query, str)):
        raise EventInvalid("an event of payload version 2.0 has a method, rawPath and rawQueryString")
    return Request(method, path, query, _headers(event), _body(event))


def _request_of_1(event: Mapping[str, object], context: Mapping[str, object]) -> Request:
    """`path` lacks the stage, which the client has signed; the query comes decoded."""
    method, path = event.get("httpMethod"), context.get("path") or event.get("path")
    if not (isinstance(method, str) and isinstance(path, str)):
        raise EventInvalid("an event of payload version 1.0 has an httpMethod and a path")
    pairs = _multiple(event, "queryStringParameters", "multiValueQueryStringParameters")
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, values in pairs.items() for value in values)
    return Request(method, path, query, _headers(event), _body(event))


def _headers(event: Mapping[str, object]) -> dict[str, str]:
    """By their names in lower case; one that was given more than once is joined by commas."""
    return {name.lower(): ",".join(values) for name, values in _multiple(event, "headers", "multiValueHeaders").items()}


def _multiple(event: Mapping[str, object], single: str, multiple: str) -> dict[str, list[str]]:
    """The values of each name: all of them where the event has all, else the one it has."""
    found = {name: [value] for name, value in _mapping(event, single).items()}
    for name, values in _mapping(event, multiple).items():
        if not isinstance(values, list):
            raise EventInvalid(f"{multiple} of the event holds something else than lists")
        found[name] = values
    if not all(isinstance(value, str) for values in found.values() for value in values):
        raise EventInvalid(f"{single} of the event holds something else than text")
    return found  # type: ignore[return-value]  # just checked


def _mapping(outer: object, name: str) -> Mapping[str, object]:
    """A member that is an object; {} where it is absent or null."""
    inner = (outer.get(name) if isinstance(outer, Mapping) else None) or {}
    if not isinstance(inner, Mapping):
        raise EventInvalid(f"{name} of the event is not an object")
    return inner


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~", errors="surrogatepass")


def _body(event: Mapping[str, object]) -> bytes:
    body = event.get("body") or ""
    if not isinstance(body, str):
        raise EventInvalid("the body of the event is not text")
    if not event.get("isBase64Encoded"):
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise EventInvalid("the body of the event is not base64") from None


def _authorized(context: Mapping[str, object]) -> bool:
    """Whether IAM has verified the caller before the function saw the event."""
    authorizer, identity = context.get("authorizer"), context.get("identity")
    if isinstance(authorizer, Mapping) and authorizer.get("iam"):
        return True
    return isinstance(identity, Mapping) and bool(identity.get("userArn")) and bool(identity.get("accessKey"))
