"""A thin ASGI adapter: reads the body within bounds, runs the application on a bounded number of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from neve.api.faults import Fault
from neve.wire.application import Application, declared_length
from neve.wire.assembly import Assembly
from neve.wire.message import Request, Response
from neve.wire.routes import is_health_check

THREADS = 32  # they mostly wait for the store
WAITING_MAX = 128  # requests that wait for a thread, beyond which we shed
BODY_TIMEOUT_S = 60  # a whole body must arrive within this; 20 MiB then asks for 2.8 Mbit/s
BODIES_MAX = 32  # bodies of the largest size that one process holds at once, counted in bytes

_TOO_SLOW = Fault("RequestTimeoutException", 408, "Request timed out", ())
_TOO_BUSY = Fault("ServiceUnavailableException", 503, "Currently unable to handle the request", ())
# A body too large by no more than this is drained, so that a client that first sends it all gets to read the answer.
_DRAINED = 4

Message: TypeAlias = MutableMapping[str, Any]  # ASGI's own form
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class _Disconnected(Exception):
    """The client went away before its body was whole."""


class _Shed(Exception):
    """More is under way than this process takes on."""


class Adapter:
    """The ASGI application: assembled on start-up, closed on shutdown after all that was under way."""

    def __init__(
        self,
        assemble: Callable[[], Assembly],
        ready: Callable[[], None],
        *,
        threads: int = THREADS,
        waiting_max: int = WAITING_MAX,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        """`ready` is called once when requests can be answered."""
        self._assemble = assemble
        self._ready = ready
        self._assembly: Assembly | None = None
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="neve-request")
        self._running_max = threads + waiting_max
        self._body_timeout_s = body_timeout_s
        self._running = 0
        self._buffered_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await receive()
        try:
            self._assembly = await loop.run_in_executor(self._threads, self._assemble)
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": f"neve: {error}"})
            return
        self._ready()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await loop.run_in_executor(None, self._threads.shutdown)
        await loop.run_in_executor(None, self._assembly.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        assert self._assembly is not None  # a server starts the lifespan before it serves
        application = self._assembly.application
        headers = _headers(scope)
        try:
            response, keep = await self._respond(application, scope, headers, receive)
        except _Disconnected:
            return
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
        encoded.append((b"content-length", str(len(response.body)).encode()))
        if not keep:
            encoded.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": encoded})
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(
        self, application: Application, scope: Message, headers: Mapping[str, str], receive: Receive
    ) -> tuple[Response, bool]:
        """The response, and whether the connection can serve another request: not if its body was left unread."""
        declared = declared_length(headers)
        drained = 0 < declared <= _DRAINED * application.body_bytes_max
        try:
            application.check_size(declared)
            async with asyncio.timeout(self._body_timeout_s):
                body = await self._body(application, receive)
        except TimeoutError:
            return application.refuse(_TOO_SLOW), False
        except _Shed:
            return application.refuse(_TOO_BUSY), drained
        except _Disconnected:
            raise
        except Exception as error:
            return application.refuse(error), drained
        request = Request(
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
        )
        try:
            return await self._run(application, request), True
        except _Shed:
            return application.refuse(_TOO_BUSY), True
        finally:
            self._buffered_bytes -= len(body)

    async def _body(self, application: Application, receive: Receive) -> bytes:
        """The body, whole; counted in `_buffered_bytes` from here on. Raises ValidationFailed, _Shed, _Disconnected."""
        chunks: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Disconnected
                chunk: bytes = message.get("body", b"")
                chunks.append(chunk)
                size += len(chunk)
                self._buffered_bytes += len(chunk)
                application.check_size(size)
                if self._buffered_bytes > BODIES_MAX * application.body_bytes_max:
                    raise _Shed
                if not message.get("more_body", False):
                    return b"".join(chunks)
        except BaseException:
            self._buffered_bytes -= size
            raise

    async def _run(self, application: Application, request: Request) -> Response:
        if is_health_check(request):  # answered at once, also when every thread is taken
            return application(request)
        if self._running >= self._running_max:
            raise _Shed
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, application, request)
        finally:
            self._running -= 1


def _headers(scope: Message) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers
