"""A thin ASGI adapter: reads the body within bounds, runs the application on a bounded number of threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

from neve.api.faults import Fault
from neve.wire.application import Application, declared_length
from neve.wire.assembly import Assembly
from neve.wire.message import Request, Response
from neve.wire.routes import is_health_check, is_metrics

if TYPE_CHECKING:
    from neve.wire.exposition import Exposition

THREADS = 32  # they mostly wait for the store
WAITING_MAX = 128  # requests that wait for a thread, beyond which we shed
LARGE_BYTES = 1 << 20
LARGE_AT_ONCE = 4  # requests with a larger body that are worked on at once: JSON can grow 24 times when it is parsed
BODY_TIMEOUT_S = 60  # a whole body must arrive within this; 20 MiB then asks for 2.8 Mbit/s
BODIES_MAX = 32  # bodies of the largest size that one process holds at once, counted in bytes

_TOO_SLOW = Fault("RequestTimeoutException", 408, "Request timed out", ())
# As throttling, not as 503: SDKs then begin with a second between tries instead of 50 ms, and try three times as often.
_TOO_BUSY = Fault("TooManyRequestsException", 429, "Rate exceeded", ())
_NOT_HERE = Fault("UnknownOperationException", 404, None)
# A body too large by no more than this is drained, so that a client that first sends it all gets to read the answer.
_DRAINED = 4

Message: TypeAlias = MutableMapping[str, Any]  # ASGI's own form
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class _Disconnected(Exception):
    """The client went away before its body was whole."""


class _Shed(Exception):
    """More is under way than this process takes on; what there is too much of is a value of metrics.SHED."""


class Adapter:
    """The ASGI application: assembled on start-up, closed on shutdown after all that was under way."""

    def __init__(
        self,
        assemble: Callable[[], Assembly],
        ready: Callable[[], None],
        exposition: Exposition | None = None,
        metrics_port: int | None = None,
        *,
        threads: int = THREADS,
        waiting_max: int = WAITING_MAX,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        """`ready` is called once when requests can be answered.

        The metrics of `exposition` are shown on `metrics_port`, where nothing else is; without one beside all else, but
        only as long as anyone may call.
        """
        self._assemble = assemble
        self._ready = ready
        self._assembly: Assembly | None = None
        self._exposition = exposition
        self._metrics_port = metrics_port
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="neve-request")
        self._large = ThreadPoolExecutor(min(LARGE_AT_ONCE, threads), thread_name_prefix="neve-large-request")
        self._under_way_max = threads + waiting_max
        self._body_timeout_s = body_timeout_s
        self._under_way = 0
        self._running = 0
        self._running_lock = threading.Lock()
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
        if self._exposition is not None:
            self._exposition.metrics.watch(self._assembly, self._load)
            await self._exposition.open()
        self._ready()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._exposition is not None:
            await self._exposition.close()
        for pool in (self._threads, self._large):
            await loop.run_in_executor(None, pool.shutdown)
        await loop.run_in_executor(None, self._assembly.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        assert self._assembly is not None  # a server starts the lifespan before it serves
        application = self._assembly.application
        headers = _headers(scope)
        try:
            response = await self._watched(application, scope)
            keep = not declared_length(headers)
            if response is None:
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
        except _Shed as shed:
            return self._turned_away(application, shed), drained
        except _Disconnected:
            raise
        except Exception as error:
            return application.refuse(error), drained
        try:
            return await self._run(application, _request(scope, headers, body)), True
        except _Shed as shed:
            return self._turned_away(application, shed), True
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
                    raise _Shed("bodies")
                if not message.get("more_body", False):
                    return b"".join(chunks)
        except BaseException:
            self._buffered_bytes -= size
            raise

    async def _run(self, application: Application, request: Request) -> Response:
        if is_health_check(request):  # answered at once, also when every thread is taken
            return application(request)
        if self._under_way >= self._under_way_max:
            raise _Shed("threads")
        self._under_way += 1
        loop = asyncio.get_running_loop()
        came_s = loop.time()

        def answer() -> Response:
            if self._exposition is not None:
                self._exposition.metrics.waited(loop.time() - came_s)
            with self._running_lock:
                self._running += 1
            try:
                return application(request)
            finally:
                with self._running_lock:
                    self._running -= 1

        try:
            return await loop.run_in_executor(self._large if len(request.body) > LARGE_BYTES else self._threads, answer)
        finally:
            self._under_way -= 1

    async def _watched(self, application: Application, scope: Message) -> Response | None:
        """The answer to who asks for metrics, or for anything where there are only metrics; None: not so."""
        if self._exposition is None:
            return None
        request, apart = _request(scope), self._metrics_port is not None
        if apart and scope["server"][1] != self._metrics_port:
            return None
        if is_metrics(request) and (apart or application.anonymous):
            return Response(200, {"Content-Type": self._exposition.content_type}, await self._exposition.page())
        if not apart:
            return None
        return application(request) if is_health_check(request) else application.refuse(_NOT_HERE)

    def _turned_away(self, application: Application, shed: _Shed) -> Response:
        if self._exposition is not None:
            self._exposition.metrics.shed(str(shed))
        return application.refuse(_TOO_BUSY)

    def _load(self) -> tuple[int, int, int]:
        """Requests that run, requests that wait, and bytes of bodies held."""
        running = self._running
        return running, self._under_way - running, self._buffered_bytes


def _request(scope: Message, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Request:
    return Request(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers or {},
        body=body,
    )


def _headers(scope: Message) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers
