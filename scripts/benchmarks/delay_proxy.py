"""Makes a near store far: an HTTP/1.1 proxy with S3's delays and a log of what was asked.

The first byte of an answer leaves when a seeded lognormal delay has passed since the request was whole, the rest at so
many bytes per second of its connection. Requests go on at once and unchanged: what the near store takes is part of
the delay, and the Host header stays, so that signatures hold. `GET /-/log` gives the log as JSON and empties it. What
the model lacks: TLS and connection set-up, limits on uploads, a limit on all connections together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import signal
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from statistics import NormalDist

import httptools

LOG_TARGET = "/-/log"


@dataclass(frozen=True, slots=True)
class Far:
    """How far away the store is: what S3 takes in its own region, unless something else is said."""

    median_ms: float = 63.0
    p99_ms: float = 78.0
    bytes_per_s: float = 75e6
    seed: float = 1.0

    def delays_s(self) -> Iterator[float]:
        """First-byte delays, lognormal, the same for the same seed."""
        chance = random.Random(self.seed)
        sigma = math.log(self.p99_ms / self.median_ms) / NormalDist().inv_cdf(0.99) if self.median_ms else 0.0
        while True:
            yield self.median_ms / 1000 * math.exp(chance.gauss(0.0, sigma))


class Proxy:
    """What all connections share: idle connections to the near store, chance, and the log."""

    def __init__(self, upstream: tuple[str, int], far: Far) -> None:
        self.loop = asyncio.get_running_loop()
        self.bytes_per_s = far.bytes_per_s
        self.delays_s = far.delays_s()
        self.idle: list[Near] = []
        self.log: list[tuple[str, str, str, int, int, float, float]] = []
        self._upstream = upstream

    def send_on(self, exchange: Exchange) -> None:
        """Give an exchange a connection to the near store, an idle one where there is one."""
        if self.idle:
            self.idle.pop().take(exchange)
        else:
            exchange.connecting = self.loop.create_task(self._connect(exchange))

    async def _connect(self, exchange: Exchange) -> None:
        near = Near(self)
        try:
            near.transport, _ = await self.loop.create_connection(lambda: near, *self._upstream)
            near.take(exchange)
        except OSError:
            exchange.client.abort()


class Exchange:
    """One request and its answer, which waits here, in memory, until it is due."""

    def __init__(self, proxy: Proxy, client: asyncio.Transport) -> None:
        self.client = client
        self.near: Near | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.method = self.target = self.range = ""
        self.asked: list[bytes] = []  # what waits for a connection
        self._proxy = proxy
        self._start_s = proxy.loop.time()
        self.first_byte_s = math.inf
        self._pieces: deque[bytes] = deque()
        self.status = self._sent = 0
        self.over = self._whole = False
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, data: bytes, whole: bool) -> None:
        """Send a part of the request on, the last one if it is `whole` now."""
        if self.near is None:
            self.asked.append(data)
        else:
            self.near.transport.write(data)
        if whole:
            self.first_byte_s = self._proxy.loop.time() + next(self._proxy.delays_s)
            self._send_due()

    def answer(self, data: bytes, whole: bool) -> None:
        """Take a part of the answer, the last one if it is `whole` now."""
        self._pieces.append(data)
        self._whole = whole
        if whole:
            self.near = None
        if self._timer is None:
            self._send_due()

    def _send_due(self) -> None:
        """Send what is due: a piece leaves when its last byte would have come."""
        self._timer = None
        while self._pieces:
            size = len(self._pieces[0])
            due_s = self.first_byte_s + (self._sent + size) / self._proxy.bytes_per_s
            if due_s > self._proxy.loop.time():
                if due_s < math.inf:
                    self._timer = self._proxy.loop.call_at(due_s, self._send_due)
                return
            self.client.write(self._pieces.popleft())
            self._sent += size
        if self._whole:
            self.end()

    def end(self) -> None:
        """The answer is sent, or its client gone."""
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        if self.near is not None:
            self.near.transport.abort()
        told = (self.method, self.target, self.range, self.status, self._sent)
        self._proxy.log.append((*told, self._start_s, self._proxy.loop.time()))


class Client(asyncio.Protocol):
    """A client's connection: one request after the other."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def data_received(self, data: bytes) -> None:
        known, self._whole = self._exchange, False
        self._parser.feed_data(data)  # what it raises ends the connection
        if self._exchange.target == LOG_TARGET:
            log = json.dumps(self._proxy.log).encode()
            self._proxy.log.clear()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(log), log))
            self._exchange = None
            return
        if self._exchange is not known:
            self._proxy.send_on(self._exchange)
        self._exchange.ask(data, self._whole)

    def on_message_begin(self) -> None:
        self._exchange = Exchange(self._proxy, self._transport)

    def on_url(self, url: bytes) -> None:
        self._exchange.method = self._parser.get_method().decode()
        self._exchange.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"range":
            self._exchange.range = value.decode("latin-1")

    def on_message_complete(self) -> None:
        self._whole = True

    def connection_lost(self, error: Exception | None) -> None:
        if self._exchange is not None and not self._exchange.over:
            self._exchange.end()


class Near(asyncio.Protocol):
    """A connection to the near store, for one exchange after the other."""

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._exchange: Exchange | None = None

    def take(self, exchange: Exchange) -> None:
        """Ask for an exchange; for none that is over before the connection was there."""
        if exchange.over:
            self.transport.close()
            return
        self._exchange, exchange.near = exchange, self
        self._parser = httptools.HttpResponseParser(self)  # a new one, since that of a HEAD waits for a body
        self._whole = False
        self.transport.writelines(exchange.asked)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        self._parser.feed_data(data)
        if exchange.status < 200:  # 100 Continue is no answer yet
            exchange.client.write(data)
            return
        exchange.answer(data, self._whole)
        if self._whole:
            self._exchange = None
            if self._parser.should_keep_alive() and exchange.first_byte_s < math.inf:  # else a part of it is to come
                self._proxy.idle.append(self)
            else:
                self.transport.close()

    def on_headers_complete(self) -> None:
        self._exchange.status = self._parser.get_status_code()
        self._whole = self._exchange.method == "HEAD"

    def on_message_complete(self) -> None:
        self._whole = self._exchange.status >= 200

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._proxy.idle:
            self._proxy.idle.remove(self)
        if self._exchange is not None:
            self._exchange.client.abort()


async def serve(upstream: tuple[str, int], far: Far, seconds: float) -> None:
    """Serve on a free loopback port, which is printed, until SIGTERM, and no longer than so many seconds."""
    loop = asyncio.get_running_loop()
    proxy, over = Proxy(upstream, far), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    server = await loop.create_server(lambda: Client(proxy), "127.0.0.1", 0, backlog=1024)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    loop.call_later(seconds, over.set)
    await over.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT", help="the near store")
    parser.add_argument("--seconds", type=float, default=3600.0, help="ends by itself then; default: %(default)s")
    for name, default in {field.name: field.default for field in fields(Far)}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help="default: %(default)s")
    chosen = parser.parse_args()
    host, _, port = chosen.upstream.rpartition(":")
    far = Far(chosen.median_ms, chosen.p99_ms, chosen.bytes_per_s, chosen.seed)
    asyncio.run(serve((host, int(port)), far, chosen.seconds))


if __name__ == "__main__":
    main()
