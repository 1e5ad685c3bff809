"""A stand-in for AWS Lambda around one function: the documented Runtime API on a loopback port.

Any runtime interface client may ask it, such as `python -m awslambdaric MODULE.HANDLER`. Events wait in a queue; the
client takes one, answers it, takes the next. Paths, headers and codes are those of the Lambda developer guide
(Using the Lambda runtime API for custom runtimes), version 2018-06-01.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from typing import Any

ARN = "arn:aws:lambda:us-east-1:000000000000:function:neve"
ANSWER_BYTES_MAX = 6 << 20
"""Of an answer that is not streamed; a larger one is refused with 413, as Lambda does."""
_VERSION = "/2018-06-01/runtime/"
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"


class FunctionError(Exception):
    """What a function has reported instead of an answer: its error's type and message, and the lines of its stack."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(f"{document.get('errorType')}: {document.get('errorMessage')}")
        self.type: str = document.get("errorType", "")
        self.message: str = document.get("errorMessage", "")
        self.stack: list[str] = document.get("stackTrace", [])


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event that was handed in: its answer, or a FunctionError, comes by the future."""

    event: object
    seconds: float
    answer: Future[Any] = field(default_factory=Future)
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def result(self, timeout_s: float | None = None) -> Any:
        """The answer. Raises FunctionError, and TimeoutError after `timeout_s`, or when the time of the event is over
        and as much again.
        """
        return self.answer.result(2 * self.seconds if timeout_s is None else timeout_s)


class LambdaRuntime:
    """The Runtime API of one execution environment; leaving the context ends it, and its client with it.

    `init_errors` are what clients reported because they could not begin; `asked_s` when one asked for an event, by
    `time.monotonic`: the first time it does, its handler has been imported.
    """

    def __init__(self) -> None:
        self.init_errors: list[FunctionError] = []
        self.asked_s: list[float] = []
        self._waiting: Queue[Invocation] = Queue()
        self._taken: dict[str, Invocation] = {}
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a client's process needs of Lambda's own variables; it must have no proxy for loopback addresses."""
        host, port = self._server.server_address[:2]
        return {
            "AWS_LAMBDA_RUNTIME_API": f"{host!s}:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": "neve",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/neve",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2018/06/01/[$LATEST]neve",
        }

    def hand_in(self, event: object, *, seconds: float = 30.0) -> Invocation:
        """Queue an event, to be answered within so many seconds from when it is taken: that is its deadline."""
        invocation = Invocation(event, seconds)
        self._waiting.put(invocation)
        return invocation

    def invoke(self, event: object, *, seconds: float = 30.0) -> Any:
        """Hand in an event and wait for its answer. Raises as `Invocation.result`."""
        return self.hand_in(event, seconds=seconds).result()

    def hand_in_again(self) -> None:
        """Queue what was taken and not answered once more, as Lambda does with events whose function was killed."""
        for invocation in list(self._taken.values()):
            del self._taken[invocation.request_id]
            self._waiting.put(invocation)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> LambdaRuntime:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the client asks

    def _next(self, client: socket.socket) -> Invocation | None:
        """The next event, when there is one; None when this is closed, or the client is gone."""
        self.asked_s.append(time.monotonic())
        while not self._closing.is_set() and not _gone(client):
            try:
                invocation = self._waiting.get(timeout=0.05)
            except Empty:
                continue
            if _gone(client):  # it was killed while it waited: the event is for the next one
                self._waiting.put(invocation)
                return None
            self._taken[invocation.request_id] = invocation
            return invocation
        return None

    def _post(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        """Status and document for what a client posts."""
        if path == "init/error":
            self.init_errors.append(_reported(body, headers))
            return 202, {"status": "OK"}
        request_id, _, what = path.removeprefix("invocation/").partition("/")
        invocation = self._taken.get(request_id)
        if invocation is None or what not in ("response", "error"):
            return 400, {"errorMessage": "no such invocation", "errorType": "InvalidRequestID"}
        if len(body) > ANSWER_BYTES_MAX:
            return 413, {"errorMessage": "the answer is too large", "errorType": "RequestEntityTooLarge"}
        del self._taken[request_id]
        if what == "error":
            invocation.answer.set_exception(_reported(body, headers))
        else:
            invocation.answer.set_result(json.loads(body) if body else None)
        return 202, {"status": "OK"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                invocation = runtime._next(self.connection) if self.path == _VERSION + "invocation/next" else None
                if invocation is None:
                    self._answer(404 if self.path != _VERSION + "invocation/next" else 500, {})
                    self.close_connection = True
                    return
                root = uuid.uuid4().hex
                self._answer(
                    200,
                    invocation.event,
                    {
                        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                        "Lambda-Runtime-Deadline-Ms": str(int((time.time() + invocation.seconds) * 1000)),
                        "Lambda-Runtime-Invoked-Function-Arn": ARN,
                        "Lambda-Runtime-Trace-Id": f"Root=1-{root[:8]}-{root[8:]};Sampled=0",
                    },
                )

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    body = self._chunks()
                self._answer(*runtime._post(self.path.removeprefix(_VERSION), dict(self.headers), body))

            def _chunks(self) -> bytes:
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _answer(self, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Requests are told of by their answers."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed in the middle of a request; what else goes wrong is told as ever."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _gone(client: socket.socket) -> bool:
    """Whether the other side has closed the connection, without reading what it may have sent."""
    readable, _, _ = select.select([client], [], [], 0)
    return bool(readable) and not client.recv(1, socket.MSG_PEEK)


def _reported(body: bytes, headers: Mapping[str, str]) -> FunctionError:
    document = json.loads(body) if body else {}
    return FunctionError({"errorType": headers.get(_ERROR_TYPE, ""), **document})
