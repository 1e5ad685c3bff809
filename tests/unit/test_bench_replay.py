"""Signed requests that were built beforehand, sent over kept connections."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from scripts.benchmarks.replay import replay, responder, signed

from neve.errors import NotAuthentic
from neve.wire.message import Request
from neve.wire.sigv4 import AccessKey, Verifier

KEY = AccessKey("KEY", "secret")
NOW_S = 1_790_000_000.0


class Careful(BaseHTTPRequestHandler):
    """Answers with the body of a request whose signature holds, and 403 to others."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        try:
            Verifier([KEY], lambda: NOW_S).verify(Request("POST", self.path, "", headers, body))
            self.send_response(200)
        except NotAuthentic:
            self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def careful() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Careful) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def made(url: str, count: int) -> list[bytes]:
    bodies = [b"%d" % number * 5000 for number in range(count)]
    return [signed(url, "/QueryVectors", body, KEY, "r", NOW_S, {"x-neve-recall": "0.9"}) for body in bodies]


@pytest.mark.parametrize("connections", [1, 3])
def test_each_request_is_sent_once_with_a_signature_that_holds(connections: int) -> None:
    with careful() as url:
        done = replay(url, made(url, 7), connections)
    assert sorted((answer.number, answer.body) for answer in done.answers) == [
        (number, b"%d" % number * 5000) for number in range(7)
    ]
    assert all(latency > 0 for latency in done.latencies_s)
    assert done.rate == pytest.approx(7 / done.seconds)


def test_a_refused_request_ends_the_replay() -> None:
    with careful() as url, pytest.raises(RuntimeError, match="403"):
        replay(url, [made(url, 1)[0].replace(b"0.9", b"0.8")], 1)


def test_for_a_time_requests_come_again_in_turn() -> None:
    with responder(17) as url:
        done = replay(url, made(url, 3), 2, seconds=0.3)
    counted = Counter(answer.number for answer in done.answers)
    assert set(counted) == {0, 1, 2}
    assert max(counted.values()) - min(counted.values()) <= 1
    assert {answer.body for answer in done.answers} == {b" " * 17}
