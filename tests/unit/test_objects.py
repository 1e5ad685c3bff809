"""What is said of errors of a remote store."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from neve.errors import StoreDenied, StoreUnavailable
from neve.store.connect import connect
from neve.store.objects import _store_error
from neve.store.port import Failed, Get, List, Put, PutNew


def test_missing_credentials_are_named() -> None:
    error = _store_error(Get("a/b"), GenericError("Error performing PUT http://169.254.169.254/latest/api/token: 403"))
    assert isinstance(error, StoreDenied)
    assert "set AWS_ACCESS_KEY_ID" in str(error)


def test_refused_credentials_name_the_object() -> None:
    error = _store_error(Get("a/b"), PermissionDeniedError("<Error>secret details</Error>"))
    assert isinstance(error, StoreDenied)
    assert str(error) == "the store refuses Get of a/b: check its credentials and permissions"


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"])
def test_a_token_that_has_expired_is_no_passing_fault(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 answers 400, which obstore takes for an error of any kind; not even a create of unknown outcome."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>…</Message></Error>".encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Nobody needs to know."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        store = connect(f"s3://bucket?endpoint=http://127.0.0.1:{server.server_port}&region=us-east-1")
        requests = [Get("key"), List("folder/"), PutNew("key", b""), Put("key", b"")]
        replies = store.wave(requests)
        server.shutdown()
    for request, reply in zip(requests, replies, strict=True):
        assert isinstance(reply, Failed)
        assert isinstance(reply.error, StoreDenied), request


def test_other_errors_keep_their_first_line() -> None:
    error = _store_error(Get("a/b"), GenericError("connection reset\n\nDebug source: …"))
    assert isinstance(error, StoreUnavailable)
    assert str(error) == "Get of a/b failed: connection reset"
