"""Serve an application over HTTP with uvicorn: one process, or several that share a listening socket."""

from __future__ import annotations

import ipaddress
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from neve.errors import NeveError
from neve.wire.application import access_log
from neve.wire.asgi import Adapter
from neve.wire.assembly import assemble
from neve.wire.settings import Settings

BACKLOG = 2048
KEEP_ALIVE_S = 75  # longer than SDKs pool an idle connection, so that they do not meet a closing one
GRACE_S = 30  # what is under way on SIGTERM gets this long


class Unservable(NeveError):
    """The address cannot be bound, or may not be without keys."""


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises Unservable, and StoreError for an unusable store."""
    _check_certificate(settings)
    with _listen(settings) as listener:
        assemble(settings).close()  # a store that cannot be served is told here, once, and not by each worker
        line = f"neve listening on {_address(settings, listener)} (store {settings.store})"
        run = _serve_by_workers if settings.workers > 1 else _serve_here
        return run(settings, listener, line)


def _serve_here(settings: Settings, listener: socket.socket, line: str) -> int:
    # uvicorn raises the signal that stopped it once more; stopping as asked is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignored)
    server = uvicorn.Server(_config(settings, partial(_announce, line)))
    try:
        server.run(sockets=[listener])
    except SystemExit:
        return 1
    return 0 if server.started else 1


def _serve_by_workers(settings: Settings, listener: socket.socket, line: str) -> int:
    ready = multiprocessing.get_context("spawn").Event()
    announced = threading.Event()

    def announce() -> None:
        ready.wait()
        announced.set()
        _announce(line)

    threading.Thread(target=announce, daemon=True).start()
    Multiprocess(_config(settings, ready.set), sockets=[listener]).run()
    return 0 if announced.is_set() else 1


def _config(settings: Settings, ready: Callable[[], None]) -> uvicorn.Config:
    """How uvicorn runs. Workers get it pickled over a private pipe: keys meet neither arguments nor environment."""
    return uvicorn.Config(
        partial(_adapter, settings, ready),
        factory=True,
        interface="asgi3",
        http="httptools",
        ws="none",
        lifespan="on",
        workers=settings.workers,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


def _adapter(settings: Settings, ready: Callable[[], None]) -> Adapter:
    """What each serving process runs; a worker ends when its parent is gone."""
    _log_to_stderr(settings)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.join,), daemon=True).start()
    return Adapter(partial(assemble, settings, background=True), ready)


def _end_with(parent_ends: Callable[[], None]) -> None:
    parent_ends()
    os.kill(os.getpid(), signal.SIGTERM)


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if settings.access_log:
        lines = logging.StreamHandler(sys.stderr)
        lines.setFormatter(logging.Formatter("%(message)s"))
        access_log.addHandler(lines)
        access_log.setLevel(logging.INFO)
        access_log.propagate = False


def _check_certificate(settings: Settings) -> None:
    if settings.tls_cert:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Unservable(f"cannot use tls_cert {settings.tls_cert} with its tls_key: {reason}") from None


def _listen(settings: Settings) -> socket.socket:
    """A listening socket. A server without keys serves whoever reaches it, so only this machine may."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unservable(f"cannot resolve host {settings.host!r}: {error.strerror}") from None
    family, _, _, _, address = found[0]
    if not settings.keys and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise Unservable(
            f"host {settings.host!r} can be reached from other machines, and without keys anyone may call: "
            "add [[keys]] to the settings file (--settings), or serve on 127.0.0.1"
        )
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer waits 40 ms for an ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Unservable(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return listener


def _address(settings: Settings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _announce(line: str) -> None:
    print(line, flush=True)


def _ignored(number: int, frame: FrameType | None) -> None:
    """Take a signal and do nothing."""
