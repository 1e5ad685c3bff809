"""The ASGI adapter, spoken to directly: bounds on bodies, threads and time, and its life from start to end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from neve.api.options import CallOptions
from neve.api.results import Nothing, Result
from neve.query.explain import Explain
from neve.wire import asgi
from neve.wire.asgi import Adapter
from neve.wire.assembly import Assembly
from tests.unit.wire_service import BODY_BYTES_MAX, FakeService, application

Message = dict[str, Any]


def request_scope(path: str = "/PutVectors", *headers: tuple[bytes, bytes], method: str = "POST") -> Message:
    return {
        "type": "http",
        "method": method,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
    }


def chunk(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Client:
    """Plays the server's side of ASGI against an adapter that is running."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    async def send(self, scope: Message, *messages: Message, endless: bool = False) -> tuple[int, Message, Message]:
        """Status, headers and document of the answer; after `messages` the client says nothing, or goes on for ever."""
        status, headers, body = await self.fetch(scope, *messages, endless=endless)
        return status, headers, json.loads(body)

    async def fetch(self, scope: Message, *messages: Message, endless: bool = False) -> tuple[int, Message, bytes]:
        """As `send`, the body as it is."""
        waiting, sent = list(messages), []

        async def receive() -> Message:
            if waiting:
                return waiting.pop(0)
            if not endless:
                await asyncio.Event().wait()
            return chunk(b"x" * 65536, more=True)

        async def send(message: Message) -> None:
            sent.append(message)

        await self._adapter(scope, receive, send)
        start, body = sent
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        assert headers["content-length"] == str(len(body["body"]))
        return start["status"], headers, body["body"]


def running(adapter: Adapter, test: Callable[[Client], Awaitable[None]]) -> list[Message]:
    """Run `test` between start-up and shutdown; the lifespan's messages."""
    said: list[Message] = []

    async def live() -> None:
        asked: asyncio.Queue[Message] = asyncio.Queue()

        async def send(message: Message) -> None:
            said.append(message)

        asked.put_nowait({"type": "lifespan.startup"})
        life = asyncio.create_task(adapter({"type": "lifespan"}, asked.get, send))
        while not said:
            await asyncio.sleep(0.001)
        if said[0]["type"] == "lifespan.startup.complete":
            await test(Client(adapter))
            asked.put_nowait({"type": "lifespan.shutdown"})
        await life

    asyncio.run(asyncio.wait_for(live(), 30))
    return said


def adapter(service: FakeService | None = None, **bounds: float) -> Adapter:
    assembly = Assembly(application(service or FakeService()), lambda: None)
    return Adapter(lambda: assembly, lambda: None, **bounds)  # type: ignore[arg-type]


def test_a_request_reaches_the_service_whole() -> None:
    service = FakeService()

    async def test(client: Client) -> None:
        scope = request_scope(
            "/base/PutVectors",
            (b"AMZ-SDK-Invocation-Id", b"i"),
            (b"x-neve-consistency", b"bounded;"),
            (b"X-Neve-Consistency", b"seconds=5"),
        )
        status, headers, document = await client.send(scope, chunk(b'{"a":', more=True), chunk(b" 1}"))
        # the header given twice is one value with a comma, which is no consistency
        assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
        status, headers, document = await client.send(
            request_scope("/base/PutVectors", (b"AMZ-SDK-Invocation-Id", b"i")),
            chunk(b'{"a":', more=True),
            chunk(b" 1}"),
        )
        assert (status, document) == (200, {})
        assert headers["Content-Type"] == "application/json"

    running(adapter(service), test)
    assert [(operation, members) for operation, members, _ in service.calls] == [("PutVectors", {"a": 1})]
    assert service.calls[0][2].invocation is not None


def test_start_and_end() -> None:
    events: list[str] = []
    service = FakeService()

    def assemble() -> Assembly:
        events.append("assembled")
        return Assembly(application(service), lambda: events.append("closed"))

    async def test(client: Client) -> None:
        await client.send(request_scope(), chunk(b"{}"))
        events.append("served")

    said = running(Adapter(assemble, lambda: events.append("ready")), test)
    assert events == ["assembled", "ready", "served", "closed"]
    assert [message["type"] for message in said] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_start_that_fails_is_said_and_never_ready() -> None:
    def assemble() -> Assembly:
        raise OSError("no such store")

    async def test(client: Client) -> None:
        raise AssertionError("it has not started")

    def ready() -> None:
        raise AssertionError("it is not ready")

    assert running(Adapter(assemble, ready), test) == [
        {"type": "lifespan.startup.failed", "message": "neve: no such store"}
    ]


def test_a_declared_length_is_judged_without_reading() -> None:
    async def test(client: Client) -> None:
        for length, connection in ((BODY_BYTES_MAX + 1, None), (BODY_BYTES_MAX * 5, "close")):
            scope = request_scope("/PutVectors", (b"content-length", str(length).encode()))
            status, headers, document = await client.send(scope)
            assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
            assert document == {"message": "Request body exceeds max allowed size"}
            assert headers.get("connection") == connection

    running(adapter(), test)


def test_a_body_without_length_is_read_no_further_than_the_limit() -> None:
    async def test(client: Client) -> None:
        status, headers, document = await client.send(request_scope(), endless=True)
        assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
        assert document == {"message": "Request body exceeds max allowed size"}
        assert headers["connection"] == "close"

    tested = adapter()
    running(tested, test)
    assert tested._buffered_bytes == 0


def test_a_slow_body_times_out() -> None:
    async def test(client: Client) -> None:
        status, headers, document = await client.send(request_scope(), chunk(b"{", more=True))
        assert (status, headers["x-amzn-errortype"]) == (408, "RequestTimeoutException")
        assert document == {"message": "Request timed out"}
        assert headers["connection"] == "close"

    tested = adapter(body_timeout_s=0.05)
    running(tested, test)
    assert tested._buffered_bytes == 0


def test_a_client_that_goes_away_gets_nothing() -> None:
    service = FakeService()

    async def test(client: Client) -> None:
        with pytest.raises(ValueError, match="unpack"):  # nothing was sent
            await client.send(request_scope(), chunk(b"{", more=True), {"type": "http.disconnect"})

    tested = adapter(service)
    running(tested, test)
    assert service.calls == []
    assert tested._buffered_bytes == 0


class Gate(FakeService):
    """Holds every call until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def call(
        self, operation: str, members: Mapping[str, object], options: CallOptions, explain: Explain | None = None
    ) -> Result:
        self.open.wait(20)
        return Nothing()


def test_more_than_fits_is_shed_and_health_still_answered() -> None:
    gate = Gate()

    async def test(client: Client) -> None:
        under_way = [asyncio.create_task(client.send(request_scope(), chunk(b"{}"))) for _ in range(5)]
        await asyncio.sleep(0.05)
        status, headers, document = await client.send(request_scope(), chunk(b"{}"))
        assert (status, headers["x-amzn-errortype"]) == (429, "TooManyRequestsException")
        assert document == {"message": "Rate exceeded"}
        assert "connection" not in headers
        assert (await client.send(request_scope("/healthz", method="GET"), chunk(b"")))[0] == 200
        gate.open.set()
        assert [status for status, _, _ in await asyncio.gather(*under_way)] == [200] * 5
        assert (await client.send(request_scope(), chunk(b"{}")))[0] == 200

    running(adapter(gate, threads=2, waiting_max=3), test)


def test_few_large_bodies_are_worked_on_at_once() -> None:
    """Since each may take many times its size in memory; small ones go on beside them."""

    class Service(Gate):
        working = 0

        def call(
            self, operation: str, members: Mapping[str, object], options: CallOptions, explain: Explain | None = None
        ) -> Result:
            if not members:
                return Nothing()
            self.working += 1
            return super().call(operation, members, options)

    service = Service()
    large = json.dumps({"large": "x" * asgi.LARGE_BYTES}).encode()

    async def test(client: Client) -> None:
        count = asgi.LARGE_AT_ONCE + 3
        under_way = [asyncio.create_task(client.send(request_scope(), chunk(large))) for _ in range(count)]
        while service.working < asgi.LARGE_AT_ONCE:
            await asyncio.sleep(0.01)
        assert (await client.send(request_scope(), chunk(b"{}")))[0] == 200
        assert service.working == asgi.LARGE_AT_ONCE
        service.open.set()
        assert [status for status, _, _ in await asyncio.gather(*under_way)] == [200] * count
        assert service.working == count

    running(adapter(service), test)


def test_bodies_held_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODIES_MAX", 2)
    gate = Gate()
    large = b" " * (BODY_BYTES_MAX - 2) + b"{}"

    async def test(client: Client) -> None:
        under_way = [asyncio.create_task(client.send(request_scope(), chunk(large))) for _ in range(2)]
        await asyncio.sleep(0.05)
        status, headers, _ = await client.send(request_scope("/", (b"content-length", b"2")), chunk(b"{}"))
        assert (status, headers["x-amzn-errortype"]) == (429, "TooManyRequestsException")
        gate.open.set()
        assert [status for status, _, _ in await asyncio.gather(*under_way)] == [200] * 2
        assert (await client.send(request_scope(), chunk(b"{}")))[0] == 200

    running(adapter(gate), test)


def test_shutdown_waits_for_what_is_under_way() -> None:
    gate, closed = Gate(), threading.Event()
    answers: list[int] = []

    async def test(client: Client) -> None:
        async def ask() -> None:
            answers.append((await client.send(request_scope(), chunk(b"{}")))[0])
            assert not closed.is_set()

        test.task = asyncio.create_task(ask())  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        threading.Timer(0.1, gate.open.set).start()

    running(Adapter(lambda: Assembly(application(gate), closed.set), lambda: None), test)
    assert answers == [200]
    assert closed.is_set()
