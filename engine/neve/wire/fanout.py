"""Shares of queries scored by a function of AWS Lambda, which is invoked once for each and answers at once.

POST /2015-03-31/functions/{name}/invocations of the Lambda API, signed by our own keys: no SDK. A share is asked for
TRIES times at most; one that stays without an answer fails the query, never shortens its answer. What is asked never
changes, so it does no harm that a share is asked for twice, or that an answer comes after its query has ended: a thread
that was frozen in the middle finds its answer too old, and drops it.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import orjson

from neve.errors import ObjectCorrupt, ObjectGone, ShardLost, StoreDenied, StoreError, StoreForeign, StoreUnavailable
from neve.index.state import Compacted
from neve.query.shard_tasks import ResultInvalid, ShardResult, ShardTask
from neve.runtime import Instant, Runtime
from neve.store.counting import count_elsewhere
from neve.wire.message import Request
from neve.wire.settings import Settings
from neve.wire.sigv4 import AccessKey, sign

SHARE_BYTES = 8 << 20
"""What one function reads in 0.11 s, at 75 MB/s: about as long as its first byte and its invocation take."""
SHARDS_MAX = 32
TRIES = 3
PAUSE_S = 0.1
ATTEMPT_S = 8.0
"""What a share may take: three times that, and the pauses, are less than the 30 s that a function has for a query."""
ANSWER_BYTES_MAX = 6_300_000
"""Lambda's limit is 6 MB; results stay below it (HITS_MAX)."""
IDLE_S = 20.0
"""How long a connection is kept: whoever was frozen finds it older, and makes another."""
_THREADS = 2 * SHARDS_MAX
_NAME = re.compile(r"[A-Za-z]{1,64}", re.ASCII)
_RAISED: Mapping[str, type[StoreError]] = {
    kind.__name__: kind for kind in (ObjectGone, ObjectCorrupt, StoreDenied, StoreForeign)
}
"""What asking again does not mend: it is raised as if it had befallen who asks."""


class _MayPass(Exception):
    """A try has failed, and the next one may not."""


class LambdaFanOut:
    """Shards of one function in one region. Its credentials are those of the environment, read for each request."""

    apart = True

    def __init__(self, settings: Settings, runtime: Runtime, environment: Mapping[str, str]) -> None:
        """No request. `settings` name a function."""
        parts = urlsplit(settings.shard_endpoint or f"https://lambda.{settings.region}.amazonaws.com")
        self._host, self._port = parts.hostname or "", parts.port
        self._authority = parts.netloc
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = f"/2015-03-31/functions/{quote(settings.shard_function, safe='')}/invocations"
        self._bytes_min = settings.shard_bytes
        self._region = settings.region
        self._runtime = runtime
        self._environment = environment
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="neve-shards")
        self._idle: list[tuple[HTTPConnection, Instant]] = []
        self._lock = threading.Lock()

    def shards(self, size_bytes: int) -> int:
        return 1 if size_bytes < self._bytes_min else min(SHARDS_MAX, max(2, -(-size_bytes // SHARE_BYTES)))

    def scan(self, tasks: Sequence[ShardTask], opened: Sequence[Compacted]) -> list[ShardResult]:
        """See FanOut. Bills of the caller get what shards read; what Lambda charges is on none."""
        given_up = threading.Event()
        asked = [self._threads.submit(self._result, task, given_up) for task in tasks]
        try:
            results = [one.result() for one in asked]
        finally:
            given_up.set()
            for one in asked:
                one.cancel()
        for result in results:
            count_elsewhere(result.gets, result.bytes_read, result.hedges)
        return results

    def close(self) -> None:
        """Wait for what is under way, and close connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for connection, _ in self._idle:
                connection.close()
            self._idle.clear()

    def _result(self, task: ShardTask, given_up: threading.Event) -> ShardResult:
        event, last = orjson.dumps(task.to_fields()), ""
        for attempt in range(TRIES):
            if attempt:
                self._runtime.sleep(self._runtime.uniform(0.5, 1.5) * PAUSE_S * 2**attempt)
            if given_up.is_set():
                break
            try:
                return ShardResult.from_fields(self._invoked(event), task)
            except ResultInvalid as error:
                raise ShardLost(f"a shard cannot be understood: {error}") from None
            except _MayPass as error:
                last = str(error)
        raise ShardLost(f"a shard was asked {TRIES} times in vain, the last time {last}")

    def _invoked(self, event: bytes) -> Mapping[str, Any]:
        """What the function answers to an event. Raises _MayPass, ShardLost, and what the shard has met."""
        sent = self._runtime.now()
        try:
            status, failed, body = self._exchanged(self._signed(event, sent))
        except (OSError, HTTPException) as error:
            raise _MayPass(f"by {type(error).__name__}") from None
        if sent.until(self._runtime.now()) > ATTEMPT_S:
            raise _MayPass("by an answer that came too late")
        if status == 429 or status >= 500:
            raise _MayPass(f"with status {status}")
        if status != 200:
            raise ShardLost(f"its function cannot be invoked: Lambda answers {status}")
        document = _object(body)
        if failed:
            raise _MayPass(f"by an error of its function, {_named(document.get('errorType'))}")
        if "error" in document:
            _raise(_named(document["error"]), f"{document.get('message')!s:.300}")
        return document

    def _signed(self, event: bytes, now: Instant) -> Request:
        found = self._environment.get
        key = AccessKey(found("AWS_ACCESS_KEY_ID", ""), found("AWS_SECRET_ACCESS_KEY", ""))
        headers = {"host": self._authority, "content-type": "application/json"}
        headers["x-amz-invocation-type"] = "RequestResponse"
        request = Request("POST", self._path, headers=headers, body=event)
        token = found("AWS_SESSION_TOKEN") or None
        return sign(request, key, self._region, now.wall_s, service="lambda", token=token)

    def _exchanged(self, request: Request) -> tuple[int, bool, bytes]:
        """Status, whether the function has failed, and body; over a connection that is there, or a new one."""
        connection = self._waiting()
        if connection is not None:
            try:
                return self._asked(connection, request)
            except (ConnectionError, HTTPException):  # it was closed while nobody looked
                pass
        return self._asked(self._connection(), request)

    def _asked(self, connection: HTTPConnection, request: Request) -> tuple[int, bool, bytes]:
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            answer = connection.getresponse()
            body = answer.read(ANSWER_BYTES_MAX + 1)
        except BaseException:
            connection.close()
            raise
        if len(body) > ANSWER_BYTES_MAX or answer.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append((connection, self._runtime.now()))
        return answer.status, answer.getheader("X-Amz-Function-Error") is not None, body

    def _waiting(self) -> HTTPConnection | None:
        """A connection that was lately of use; older ones are closed."""
        now = self._runtime.now()
        with self._lock:
            while self._idle:
                connection, since = self._idle.pop()
                if since.until(now) <= IDLE_S:
                    return connection
                connection.close()
        return None

    def _connection(self) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=ATTEMPT_S)
        return HTTPSConnection(self._host, self._port, timeout=ATTEMPT_S, context=self._tls)


def _object(body: bytes) -> Mapping[str, Any]:
    """The object of an answer; an empty one, which no shard answers with, where it is none."""
    try:
        document = orjson.loads(body)
    except ValueError:  # or it was cut, since it is too long
        return {}
    return document if isinstance(document, dict) else {}


def _raise(kind: str, message: str) -> NoReturn:
    """Raise what a shard tells that it has met."""
    if kind in _RAISED:
        raise _RAISED[kind](f"a shard has met an error: {message}")
    if kind == StoreUnavailable.__name__:
        raise _MayPass("since its store was unavailable")
    raise ShardLost(f"a shard does not do its task, {kind}: {message}")


def _named(kind: object) -> str:
    """The class of an error that another process has told of."""
    name = kind.rsplit(".", 1)[-1] if isinstance(kind, str) else ""
    return name if _NAME.fullmatch(name) else "one without a name"
