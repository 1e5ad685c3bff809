"""The proxy that makes a store far away: it changes no byte, keeps its delays, and its log tells what was asked."""

from __future__ import annotations

import http.client
import math
import statistics
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from urllib.parse import urlsplit

import pytest
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.far_store import Asked, FarStore, Logged, far_store, waves

from neve.store.prices import GET, WRITE_OR_LIST
from tests.servers.object_store import Credentials, ObjectStore

BODY = bytes(range(256)) * 1200
"""More than one piece."""


class Near(BaseHTTPRequestHandler):
    """Answers a GET with BODY or a range of it, whole or in chunks, and a PUT with what it got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        start, stop = 0, len(BODY)
        if found := self.headers.get("Range"):
            first, last = found.removeprefix("bytes=").split("-")
            start, stop = int(first), int(last) + 1
        self._answer(206 if found else 200, BODY[start:stop])

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self._answer(200, self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("X-Host", self.headers["Host"])
        chunked = self.path.startswith("/chunked")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(body), 1000) if chunked else ():
            part = body[start : start + 1000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n" if chunked else body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def near() -> Iterator[ObjectStore]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Near)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield ObjectStore(f"127.0.0.1:{server.server_port}", "bucket", Credentials("", ""))
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def at_once(near: ObjectStore) -> Iterator[FarStore]:
    """A proxy that delays nothing."""
    with far_store(near, Far(0.0, 0.0, math.inf), seconds=120) as far:
        yield far


@contextmanager
def connected(far: FarStore) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(far.store.endpoint).netloc, timeout=30)
    yield connection
    connection.close()


def asked(connection: http.client.HTTPConnection, method: str, target: str, **more: object) -> tuple[str, bytes]:
    """The Host header that the near store saw, and the body."""
    connection.request(method, target, **more)
    answer = connection.getresponse()
    return answer.headers["X-Host"], answer.read()


@pytest.mark.parametrize("target", ["/whole", "/chunked"])
def test_answers_come_unchanged_over_a_kept_connection(at_once: FarStore, target: str) -> None:
    at_once.taken_log()
    with connected(at_once) as connection:
        for _ in range(3):
            host, body = asked(connection, "GET", target)
            assert body == BODY
            assert host == at_once.store.address
            assert asked(connection, "HEAD", target)[1] == b""
    assert [logged.method for logged in at_once.taken_log()] == ["GET", "HEAD"] * 3


def test_uploads_come_unchanged(at_once: FarStore) -> None:
    with connected(at_once) as connection:
        assert asked(connection, "PUT", "/object", body=BODY)[1] == BODY


def test_the_log_tells_what_was_asked_and_is_emptied(at_once: FarStore) -> None:
    at_once.taken_log()
    with connected(at_once) as connection:
        assert asked(connection, "GET", "/a?b=c", headers={"Range": "bytes=10-19"})[1] == BODY[10:20]
    [logged] = at_once.taken_log()
    assert (logged.method, logged.target, logged.range, logged.status) == ("GET", "/a?b=c", "bytes=10-19", 206)
    assert logged.size > 10
    assert logged.end_s > logged.start_s
    assert at_once.taken_log() == []


def test_delays_are_kept_by_concurrent_requests(near: ObjectStore) -> None:
    size, far = 40_000, Far(median_ms=60.0, p99_ms=70.0, bytes_per_s=1e6)
    with far_store(near, far, seconds=120) as store:

        def read(part: int) -> bytes:
            with connected(store) as connection:
                wanted = {"Range": f"bytes={part}-{part + size - 1}"}
                return asked(connection, "GET", "/object", headers=wanted)[1]

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(read, range(8))) == [BODY[part : part + size] for part in range(8)]
        log = store.taken_log()
    assert len(log) == 8
    delays = list(islice(far.delays_s(), 8))
    assert min(logged.end_s - logged.start_s for logged in log) >= min(delays) + size / far.bytes_per_s


def test_a_client_that_leaves_ends_its_request_and_no_other(near: ObjectStore) -> None:
    with far_store(near, Far(median_ms=100.0, p99_ms=110.0), seconds=120) as store:
        with connected(store) as connection:
            connection.request("GET", "/left")
        with connected(store) as connection:
            assert asked(connection, "GET", "/stayed")[1] == BODY
        told = {logged.target: logged.size for logged in store.taken_log()}
    assert told["/left"] == 0
    assert told["/stayed"] > len(BODY)


def test_the_proxy_ends_by_itself(near: ObjectStore) -> None:
    with far_store(near, Far(), seconds=0.5) as store, pytest.raises((http.client.HTTPException, OSError)):
        ask_for_ever(store)


def ask_for_ever(far: FarStore) -> None:
    with connected(far) as connection:
        while True:
            asked(connection, "GET", "/object", headers={"Range": "bytes=0-0"})


def test_delays_have_the_median_and_p99_that_are_asked_for() -> None:
    delays = sorted(islice(Far(median_ms=63.0, p99_ms=78.0).delays_s(), 20_000))
    assert statistics.median(delays) == pytest.approx(0.063, rel=0.01)
    assert delays[int(0.99 * len(delays))] == pytest.approx(0.078, rel=0.01)
    assert list(islice(Far(seed=7).delays_s(), 5)) == list(islice(Far(seed=7).delays_s(), 5))
    assert list(islice(Far(seed=7).delays_s(), 5)) != list(islice(Far(seed=8).delays_s(), 5))


def test_waves_are_counted_by_overlap() -> None:
    spans = [(0, 5), (1, 2), (4, 7), (6, 8), (8, 9), (10, 11), (10, 14), (13, 15)]
    log = [Logged("GET", "/", "", 200, 10, float(start), float(end)) for start, end in reversed(spans)]
    assert waves(log) == 3
    assert Asked.of(log) == Asked(requests=8, size_bytes=80, waves=3, dollars=pytest.approx(8 * GET))
    assert Asked.of([]) == Asked(0, 0, 0, 0)


def test_a_listing_costs_more_than_a_read() -> None:
    asked = [("GET", "/neve/?list-type=2&prefix=a"), ("PUT", "/neve/a"), ("HEAD", "/neve/a"), ("GET", "/neve/a")]
    log = [Logged(method, target, "", 200, 10, 0.0, 1.0) for method, target in asked]
    assert Asked.of(log).dollars == pytest.approx(2 * GET + 2 * WRITE_OR_LIST)
