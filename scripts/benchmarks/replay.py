"""Asks a server over kept connections with requests that were built and signed beforehand: the client does no work.

As a program it is a server, too, that answers all requests alike, to find out what this client could reach.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import urlsplit

import httptools
from tests.servers.process import ServerProcess
from tests.servers.tools import ROOT

from neve.wire.message import Request
from neve.wire.sigv4 import AccessKey, sign

SERVING_SECONDS_MAX = 600.0
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one request: times as of time.perf_counter."""

    number: int
    status: int
    body: bytes
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of some requests."""

    answers: Sequence[Answered]
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.seconds

    @property
    def latencies_s(self) -> list[float]:
        return [answer.end_s - answer.start_s for answer in self.answers]


def signed(
    url: str, path: str, body: bytes, key: AccessKey, region: str, now_s: float, headers: dict[str, str] | None = None
) -> bytes:
    """A POST as it goes over the wire. It is good for five minutes."""
    host = {"host": urlsplit(url).netloc, "content-type": "application/json", "content-length": str(len(body))}
    request = sign(Request("POST", path, "", host | (headers or {}), body), key, region, now_s)
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def replay(url: str, requests: Sequence[bytes], connections: int, seconds: float | None = None) -> Replay:
    """Each connection sends the next request when its last one is answered: for so long, or each request once.

    RuntimeError when an answer is not 200 or a connection ends.
    """
    return asyncio.run(_replay(url, requests, connections, seconds))


async def _replay(url: str, requests: Sequence[bytes], connections: int, seconds: float | None) -> Replay:
    loop = asyncio.get_running_loop()
    where = urlsplit(url)
    told: list[Answered] = []
    begun = time.perf_counter()
    work = enumerate(requests) if seconds is None else _until(begun + seconds, cycle(enumerate(requests)))
    over = []
    for _ in range(connections):
        _, connection = await loop.create_connection(lambda: Connection(work, told), where.hostname, where.port)
        over.append(connection.over)
    await asyncio.gather(*over)
    return Replay(told, max(answer.end_s for answer in told) - begun)


def _until(deadline_s: float, work: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    for one in work:
        if time.perf_counter() >= deadline_s:
            return
        yield one


class Connection(asyncio.Protocol):
    """A client's connection, which sends what is next until there is nothing more."""

    def __init__(self, work: Iterator[tuple[int, bytes]], told: list[Answered]) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work, self._told = work, told
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        try:
            self._number, request = next(self._work)
        except StopIteration:
            self.over.set_result(None)
            self._transport.close()
            return
        self._start_s = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self._body = []
        if status != 200:
            self.over.set_exception(RuntimeError(f"{status}: {body.decode(errors='replace')}"))
            self._transport.close()
            return
        self._told.append(Answered(self._number, status, body, self._start_s, time.perf_counter()))
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(RuntimeError(f"the server has ended a connection: {error}"))


class Responder(asyncio.Protocol):
    """Answers every request with the same bytes as soon as it is whole."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(self._answer)


@contextmanager
def responder(body_bytes: int) -> Iterator[str]:
    """URL of a server of its own process that answers so many bytes, whatever it is asked."""
    command = [sys.executable, "-m", "scripts.benchmarks.replay", "--body-bytes", str(body_bytes)]
    with ServerProcess(command, {"PYTHONPATH": str(ROOT)}) as process:
        yield process.until(lambda: re.search(r"listening on (\S+)\n", process.output()))[1]


async def _respond(body_bytes: int) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    answer = _ANSWER % body_bytes + b" " * body_bytes
    server = await loop.create_server(lambda: Responder(answer), "127.0.0.1", 0)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    loop.call_later(SERVING_SECONDS_MAX, over.set)
    await over.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--body-bytes", type=int, default=2)
    asyncio.run(_respond(parser.parse_args().body_bytes))
