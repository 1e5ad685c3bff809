"""Serve an application over HTTP with uvicorn: one process, or several that share a listening socket."""

from __future__ import annotations

import ipaddress
import multiprocessing
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, TypeAlias

import uvicorn
from uvicorn.supervisors import Multiprocess

from neve.errors import NeveError
from neve.wire.asgi import Adapter
from neve.wire.assembly import assemble
from neve.wire.exposition import Exposition
from neve.wire.logs import log_to_stderr
from neve.wire.metrics import Metrics
from neve.wire.settings import Settings

BACKLOG = 2048
KEEP_ALIVE_S = 75  # longer than SDKs pool an idle connection, so that they do not meet a closing one
HANG_S = 30  # a worker that says nothing for longer is replaced; on a busy machine one may take 10 s to start
GRACE_S = 30  # what is under way on SIGTERM gets this long


_Address: TypeAlias = tuple[Any, ...]  # as the socket module has them


class Unservable(NeveError):
    """The address cannot be bound, or may not be without keys."""


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises Unservable, and StoreError for an unusable store."""
    _check_certificate(settings)
    with ExitStack() as opened:
        listener = opened.enter_context(_listen(settings))
        sockets = [listener]
        if settings.metrics:
            sockets.append(opened.enter_context(_bind(*_resolve(*settings.metrics_address))))
        assemble(settings).close()  # a store that cannot be served is told here, once, and not by each worker
        line = f"neve listening on {_address(settings, listener)} (store {settings.store})"
        if settings.metrics:
            line = f"neve shows metrics on {_address(settings, sockets[1])}/metrics\n{line}"
        run = _serve_by_workers if settings.workers > 1 else _serve_here
        return run(settings, sockets, line)


def _serve_here(settings: Settings, sockets: list[socket.socket], line: str) -> int:
    # uvicorn raises the signal that stopped it once more; stopping as asked is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignored)
    server = uvicorn.Server(_config(settings, sockets, "", partial(_announce, line)))
    try:
        server.run(sockets=sockets)
    except SystemExit:
        return 1
    return 0 if server.started else 1


def _serve_by_workers(settings: Settings, sockets: list[socket.socket], line: str) -> int:
    ready = multiprocessing.get_context("spawn").Event()
    announced = threading.Event()

    def announce() -> None:
        ready.wait()
        announced.set()
        _announce(line)

    threading.Thread(target=announce, daemon=True).start()
    with TemporaryDirectory(prefix="neve-", ignore_cleanup_errors=True) as folder:
        Multiprocess(_config(settings, sockets, folder, ready.set), sockets=sockets).run()
    return 0 if announced.is_set() else 1


def _config(settings: Settings, sockets: list[socket.socket], folder: str, ready: Callable[[], None]) -> uvicorn.Config:
    """How uvicorn runs. Workers get it pickled over a private pipe: keys meet neither arguments nor environment.

    In `folder` they tell each other their metrics, which the second of the sockets is for.
    """
    metrics_port = sockets[1].getsockname()[1] if len(sockets) > 1 else None
    return uvicorn.Config(
        partial(_adapter, settings, folder, metrics_port, ready),
        factory=True,
        interface="asgi3",
        http="httptools",
        ws="none",
        lifespan="on",
        workers=settings.workers,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        timeout_worker_healthcheck=HANG_S,
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


def _adapter(settings: Settings, folder: str, metrics_port: int | None, ready: Callable[[], None]) -> Adapter:
    """What each serving process runs; a worker ends when its parent is gone."""
    log_to_stderr(settings.log, access=settings.access_log)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.join,), daemon=True).start()
    metrics = Metrics()
    watched = partial(assemble, settings, background=True, watchers=[metrics.served], tell=metrics.wave)
    return Adapter(watched, ready, Exposition(metrics, folder), metrics_port)


def _end_with(parent_ends: Callable[[], None]) -> None:
    parent_ends()
    os.kill(os.getpid(), signal.SIGTERM)


def _check_certificate(settings: Settings) -> None:
    if settings.tls_cert:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Unservable(f"cannot use tls_cert {settings.tls_cert} with its tls_key: {reason}") from None


def _listen(settings: Settings) -> socket.socket:
    """The API's socket. A server without keys serves whoever reaches it, so only this machine may."""
    family, address = _resolve(settings.host, settings.port)
    if not settings.keys and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise Unservable(
            f"host {settings.host!r} can be reached from other machines, and without keys anyone may call: "
            "add [[keys]] to the settings file (--settings), or serve on 127.0.0.1"
        )
    return _bind(family, address)


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, _Address]:
    """Where to listen; raises Unservable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unservable(f"cannot resolve host {host!r}: {error.strerror}") from None
    family, _, _, _, address = found[0]
    return family, address


def _bind(family: socket.AddressFamily, address: _Address) -> socket.socket:
    """A listening socket; raises Unservable."""
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer waits 40 ms for an ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Unservable(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from None
    return listener


def _address(settings: Settings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _announce(line: str) -> None:
    print(line, flush=True)


def _ignored(number: int, frame: FrameType | None) -> None:
    """Take a signal and do nothing."""
