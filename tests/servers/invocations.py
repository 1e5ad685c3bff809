"""A stand-in for the Invoke API of AWS Lambda: checks signatures as Lambda does, and fails as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from neve.errors import NotAuthentic
from neve.wire.message import Request
from neve.wire.sigv4 import AccessKey, Verifier

Fate = tuple[int, dict[str, str], bytes] | float
"""What befalls an invocation instead of its answer: status, headers and body; or seconds that it hangs for."""
THROTTLED: Fate = (429, {"x-amzn-ErrorType": "TooManyRequestsException"}, b'{"Reason":"ReservedConcurrency"}')
BROKEN: Fate = (500, {"x-amzn-ErrorType": "ServiceException"}, b'{"message":"An error occurred"}')
CRASHED: Fate = (200, {"X-Amz-Function-Error": "Unhandled"}, b'{"errorType":"Runtime.ExitError","errorMessage":"exit"}')


class InvokeApi:
    """One function behind the API, on a loopback port; leaving the context ends it.

    `fates` befall invocations one by one; `doomed` befalls every one whose event it returns a fate for.
    """

    def __init__(self, name: str, function: Callable[[Any], Any], key: AccessKey) -> None:
        self.fates: deque[Fate] = deque()
        self.doomed: Callable[[Any], Fate | None] = lambda event: None
        self.events: list[Any] = []
        self.connections = 0
        self.wall_s: Callable[[], float] = time.time
        self._path = f"/2015-03-31/functions/{name}/invocations"
        self._function = function
        self._verifier = Verifier([key], self._now_s, ["us-east-1"], service="lambda")
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> InvokeApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _now_s(self) -> float:
        return self.wall_s()

    def _invoke(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        if (request.method, request.path) != ("POST", self._path):
            return 404, {"x-amzn-ErrorType": "ResourceNotFoundException"}, b"{}"
        try:
            self._verifier.verify(request)
        except NotAuthentic as error:
            return 403, {"x-amzn-ErrorType": error.code}, json.dumps({"message": error.message}).encode()
        event = json.loads(request.body)
        self.events.append(event)
        fate = self.fates.popleft() if self.fates else self.doomed(event)
        if isinstance(fate, float):
            time.sleep(fate)
        elif fate is not None:
            return fate
        return 200, {"X-Amz-Executed-Version": "$LATEST"}, json.dumps(self._function(event)).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                api.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, more, answer = api._invoke(Request("POST", self.path, headers=headers, body=body))
                self.send_response(status)
                for name, value in {**more, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Tests look at `events`."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients give up on what hangs: that is what is tested."""
