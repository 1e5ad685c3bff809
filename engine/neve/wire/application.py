"""The application: a request in, a response out, whatever carried them. Thread-safe; never raises.

Order of checks: size, route, signature, form of the body, options; what follows is the service's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Protocol

import orjson

from neve.api.document import parse_json
from neve.api.faults import Fault, fault
from neve.api.options import OPTIONS, CallOptions, call_options
from neve.api.render import extras, to_json
from neve.api.results import Result
from neve.errors import Malformed, NeveError, ValidationFailed
from neve.query.explain import Explain
from neve.runtime import Instant, Runtime
from neve.store.watching import Wave, seen_waves
from neve.wire.message import Request, Response
from neve.wire.routes import Route, is_health_check, route_of
from neve.wire.served import Served, Watcher
from neve.wire.sigv4 import Verifier

_log = logging.getLogger("neve.wire")

_OPTION_PREFIX = "x-neve-"
_INVOCATION = "amz-sdk-invocation-id"
_ERROR_TYPE = "x-amzn-errortype"


class Answering(Protocol):
    """The part of the service that the wire needs."""

    def call(
        self,
        operation: str,
        members: Mapping[str, object],
        options: CallOptions,
        explain: Explain | None = None,
    ) -> Result: ...


class Application:
    """Routes, authenticates, parses, calls the service, renders. Without a verifier anyone may call."""

    def __init__(
        self,
        service: Answering,
        runtime: Runtime,
        verifier: Verifier | None,
        *,
        body_bytes_max: int,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """`watchers` are told of each request, and cost nothing where there are none."""
        self._service = service
        self._runtime = runtime
        self._verifier = verifier
        self._watchers = watchers
        self.body_bytes_max = body_bytes_max

    @property
    def anonymous(self) -> bool:
        """Whether it takes requests without knowing who signed them."""
        return self._verifier is None

    def __call__(self, request: Request) -> Response:
        """The response to a request, errors included; takes as long as the operation does."""
        if is_health_check(request):
            return _response(200, b'{"status":"ok"}', self._request_id())
        if not self._watchers:
            return self._respond(request, self._request_id(), None)[1]
        started, request_id, explain = self._runtime.now(), self._request_id(), Explain()
        with seen_waves() as waves:
            operation, response = self._respond(request, request_id, explain)
        self._tell(request_id, operation, response, started, explain, waves, request.headers)
        return response

    def check_size(self, length: int) -> None:
        """Raises ValidationFailed if a body of that length is too large."""
        if length > self.body_bytes_max:
            raise ValidationFailed("Request body exceeds max allowed size")

    def refuse(self, reason: Fault | Exception) -> Response:
        """The response to a request that its carrier could not hand over: too large, too slow, or one too many."""
        started, request_id = self._runtime.now(), self._request_id()
        if isinstance(reason, Exception):
            response = self._failure(reason, "-", request_id)
        else:
            response = _refusal(reason, request_id)
        self._tell(request_id, "-", response, started)
        return response

    def _respond(self, request: Request, request_id: str, explain: Explain | None) -> tuple[str, Response]:
        """The operation, "-" if none is recognised, and the response."""
        operation = "-"
        try:
            self.check_size(len(request.body))
            self.check_size(declared_length(request.headers))
            route = route_of(request)
            operation = route.operation
            return operation, self._answer(route, request, request_id, explain)
        except Exception as error:
            return operation, self._failure(error, operation, request_id)

    def _answer(self, route: Route, request: Request, request_id: str, explain: Explain | None) -> Response:
        if self._verifier is not None:
            self._verifier.verify(request, route.aliases)
        members = {**(_document(request) if route.has_body else {}), **route.members}
        result = self._service.call(route.operation, members, _options(route.operation, request), explain)
        body = orjson.dumps(to_json(result), option=orjson.OPT_SERIALIZE_NUMPY)
        added = {_OPTION_PREFIX + name: _header(extra) for name, extra in extras(result).items()}
        return _response(200, body, request_id, added)

    def _failure(self, error: Exception, operation: str, request_id: str) -> Response:
        reason = fault(error)
        if reason.status >= 500:
            _log_failure(error, operation, request_id)
        return _refusal(reason, request_id)

    def _request_id(self) -> str:
        token = self._runtime.token()
        return f"{token[:8]}-{token[8:12]}-{token[12:16]}-{token[16:20]}-{token[20:]}"

    def _tell(
        self,
        request_id: str,
        operation: str,
        response: Response,
        began: Instant,
        explain: Explain | None = None,
        waves: Sequence[Wave] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        seconds = self._runtime.now().monotonic_s - began.monotonic_s
        served = Served(
            request_id,
            operation,
            response.status,
            response.headers.get(_ERROR_TYPE, ""),
            began,
            seconds,
            explain or Explain(),
            tuple(waves),
            headers or {},
        )
        for watcher in self._watchers:
            try:
                watcher(served)
            except Exception as error:  # who watches must not decide what is answered
                _log_failure(error, operation, request_id)


def declared_length(headers: Mapping[str, str]) -> int:
    """The length that the headers give the body; 0 where they give none that makes sense."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdecimal() and len(declared) < 20 else 0


def _document(request: Request) -> Mapping[str, object]:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise ValidationFailed(f"Content-Encoding '{encoding[:64]}' is not supported: send the body as it is")
    document = parse_json(request.body) if request.body else {}
    if not isinstance(document, dict):
        raise Malformed("the body must be a JSON object")
    return document


def _options(operation: str, request: Request) -> CallOptions:
    texts = {}
    for header, text in request.headers.items():
        if header.startswith(_OPTION_PREFIX):
            name = header.removeprefix(_OPTION_PREFIX)
            if name not in OPTIONS:
                raise ValidationFailed(f"Unknown request option '{header[:64]}'")
            texts[name] = text
    invocation = request.headers.get(_INVOCATION)
    return call_options(texts, None if invocation is None else _invocation(invocation, operation, request.body))


def _invocation(invocation: str, operation: str, body: bytes) -> str:
    """The SDK's id together with what was asked: 32 hex digits.

    An SDK repeats a call byte by byte. A client that gives every call the same id must not have its writes taken for
    repeats of the first.
    """
    digest = hashlib.sha256(f"{invocation}\0{operation}\0".encode("utf-8", "surrogatepass"))
    digest.update(body)
    return digest.hexdigest()[:32]


def _refusal(reason: Fault, request_id: str) -> Response:
    document: dict[str, object] = {}
    if reason.message is not None and reason.code != "UnknownOperationException":  # the service answers that with {}
        document["message"] = _printable(reason.message)
    if reason.fields:
        fields = ({"path": _printable(field.path), "message": _printable(field.message)} for field in reason.fields)
        document["fieldList"] = list(fields)
    return _response(reason.status, orjson.dumps(document), request_id, {_ERROR_TYPE: reason.code})


def _header(value: object) -> str:
    """JSON that a header can carry: ASCII without control characters."""
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")


def _response(status: int, body: bytes, request_id: str, extra: Mapping[str, str] | None = None) -> Response:
    ids = {"x-amz-request-id": request_id, "x-amzn-RequestId": request_id}
    return Response(status, {"Content-Type": "application/json", **ids, **(extra or {})}, body)


def _printable(text: str) -> str:
    """Text that JSON can carry: a lone surrogate cannot be."""
    return text.encode("utf-8", "replace").decode()


def _log_failure(error: Exception, operation: str, request_id: str) -> None:
    """Log where it failed and how; a foreign exception's own text may quote the request, so it is left out."""
    reason = f": {error}" if isinstance(error, NeveError) else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    ids = {"request": request_id, "operation": operation}
    message = "request %s %s failed: %s%s\n%s"
    _log.error(message, request_id, operation, type(error).__name__, reason, frames, extra=ids)
