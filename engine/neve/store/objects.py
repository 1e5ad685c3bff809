"""S3-compatible stores and memory, by obstore.

Its own retries are off: waves are retried in one place, above. Only a part of an upload is tried again here, since
above there is only the whole, which may take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from functools import cache, partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import MemoryStore, S3Store

from neve.errors import StoreDenied, StoreError, StoreUnavailable
from neve.store.counting import count_hedges
from neve.store.patience import Patience
from neve.store.port import (
    UPLOAD_WHOLE_BYTES_MAX,
    Created,
    Delete,
    Done,
    Entry,
    Exists,
    Failed,
    Found,
    Get,
    List,
    Listed,
    Missing,
    Put,
    PutNew,
    Reply,
    Request,
    Unknown,
    Upload,
    upload_part_bytes,
)

REQUEST_TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=5)
CONCURRENT_REQUESTS_MAX = 128
"""Ninety reads of 80 KB at 63 ms take 82 ms on 128 threads and 140 ms on 64, at the same 20 ms of CPU time."""
HEDGES_MAX = 3
"""Slow reads of a wave that are sent again."""
UPLOAD_PARTS_AT_ONCE = 6
UPLOAD_RETRIES_MAX = 6
UPLOAD_RETRY_TIMEOUT = timedelta(minutes=3)
_METADATA_SERVICE = "169.254.169.254"
"""Where a machine's role is asked for, last of all: an error from there means that no other credentials were found."""
_BEYOND_THE_END = ("status code: 416", "Wanted range starting at")
"""How S3 and obstore's memory say that a range begins beyond the end of its object."""
_DENIED = (PermissionDeniedError, UnauthenticatedError)
_TOKEN_REFUSED = ("<Code>ExpiredToken<", "<Code>InvalidToken<", "<Code>TokenRefreshRequired<")
"""What S3 says of the token of a role with status 400, as if the request were malformed."""
_LISTING_OR_DELETION_REFUSED = ("status code: 403", "(code: AccessDenied)")
"""What is told of a LIST, and within an answer of 200 of an object to delete: obstore has no class for these."""


class ObjectStore:
    """An obstore store behind the port; requests of a wave run on threads where the store is remote."""

    def __init__(
        self, store: Any, *, prefix: str = "", concurrent: bool = True, uploading: Callable[[], Any] | None = None
    ) -> None:
        """`uploading` makes the client of uploads when the first one comes; without it they go through `store`."""
        self._store = store
        self._uploading = cache(uploading or (lambda: store))
        self._prefix = prefix
        self._patience = Patience()
        self._pool = ThreadPoolExecutor(CONCURRENT_REQUESTS_MAX, "neve-store") if concurrent else None

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        if self._pool is None:
            return [self._answer(request) for request in requests]
        calls = [self._call(request) for request in requests]
        reads = [call for call in calls if isinstance(call.request, Get)]
        if reads:
            self._hedge(reads, self._patience.bound_s)
        return [call.reply() for call in calls]

    def _hedge(self, reads: Sequence[_Call], bound_s: float) -> None:
        """Send reads again whose first byte is late; where many are, wait a little to see which are the slow ones."""
        slow = reads
        for wait_s in (bound_s, bound_s / 4, bound_s / 4):
            wait([call.future for call in slow], wait_s)
            slow = [call for call in slow if call.unanswered_for(bound_s / 2)]
            if len(slow) <= HEDGES_MAX:
                break
        for call in slow[:HEDGES_MAX]:
            call.hedge = self._call(call.request)
        count_hedges(min(len(slow), HEDGES_MAX))

    def _call(self, request: Request) -> _Call:
        call = _Call(request)
        assert self._pool is not None
        call.future = self._pool.submit(self._answer, request, call)
        return call

    def _answer(self, request: Request, call: _Call | None = None) -> Reply:
        try:
            match request:
                case Get():
                    return self._get(request, call or _Call(request))
                case PutNew(key, body):
                    return self._put_new(key, body)
                case Put(key, body):
                    self._store.put(self._prefix + key, body, use_multipart=False)
                    return Done()
                case Upload(key, path):
                    return self._upload(key, path)
                case List():
                    return self._list(request)
                case Delete(keys):
                    return self._delete(keys)
        except (BaseError, OSError, ValueError) as error:
            return Failed(_store_error(request, error))

    def _get(self, request: Get, call: _Call) -> Reply:
        options: dict[str, Any] | None = None
        if request.suffix is not None:
            options = {"range": {"suffix": request.suffix}}
        elif request.stop is not None:
            options = {"range": (request.start, request.stop)}
        elif request.start:
            options = {"range": {"offset": request.start}}
        call.sent_s = monotonic()
        try:
            found = self._store.get(self._prefix + request.key, options=options)
            call.answered = True
            self._patience.learn(monotonic() - call.sent_s)
            return Found(bytes(found.bytes()))
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise
            return Missing()
        except GenericError as error:
            if any(sign in str(error) for sign in _BEYOND_THE_END):
                return Found(b"")
            raise

    def _put_new(self, key: str, body: bytes) -> Reply:
        try:
            self._store.put(self._prefix + key, body, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return Exists()
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            if _is_denied(error):
                raise
            return Unknown(_first_line(error))
        return Created()

    def _upload(self, key: str, path: Path) -> Reply:
        size = path.stat().st_size
        self._uploading().put(
            self._prefix + key,
            path,
            use_multipart=size > UPLOAD_WHOLE_BYTES_MAX,
            chunk_size=upload_part_bytes(size),
            max_concurrency=UPLOAD_PARTS_AT_ONCE,
        )
        return Done()

    def _list(self, request: List) -> Listed:
        after = self._prefix + request.after if request.after > request.prefix else None
        pages = self._store.list(self._prefix + request.prefix, offset=after, chunk_size=request.limit)
        page = next(iter(pages), ())
        skip = len(self._prefix)
        entries = tuple(Entry(e["path"][skip:], e["size"], e["last_modified"].timestamp()) for e in page)
        return Listed(entries, complete=len(entries) < request.limit)

    def _delete(self, keys: Sequence[str]) -> Reply:
        try:
            self._store.delete([self._prefix + key for key in keys])
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise
        return Done()


class _Call:
    """One request on its way, and what the wave must know of it to send a slow read again."""

    __slots__ = ("answered", "future", "hedge", "request", "sent_s")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.future: Future[Reply]
        self.hedge: _Call | None = None
        self.sent_s = inf
        self.answered = False

    def unanswered_for(self, seconds: float) -> bool:
        """Whether it was sent that long ago and no first byte has come."""
        return not self.answered and not self.future.done() and monotonic() - self.sent_s >= seconds

    def reply(self) -> Reply:
        """The first good reply of the two, if it was sent twice."""
        if self.hedge is None:
            return self.future.result()
        both = (self.future, self.hedge.future)
        first = wait(both, return_when=FIRST_COMPLETED).done
        replies = [future.result() for future in both if future in first]
        good = [reply for reply in replies if not isinstance(reply, Failed)]
        return good[0] if good else (both[1] if both[0] in first else both[0]).result()


def memory_store() -> ObjectStore:
    """A store that lives and dies with this process."""
    return ObjectStore(MemoryStore(), concurrent=False)


def s3_store(bucket: str, *, prefix: str, endpoint: str | None, region: str | None) -> ObjectStore:
    """A bucket of an S3-compatible store; credentials come from the standard AWS environment or the machine's role."""
    config: dict[str, Any] = {"virtual_hosted_style_request": endpoint is None}
    if endpoint is not None:
        config["endpoint"] = endpoint
    if region is not None:
        config["region"] = region
    client = partial(
        S3Store,
        bucket,
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "timeout": REQUEST_TIMEOUT,
            "connect_timeout": CONNECT_TIMEOUT,
        },
        **config,
    )
    store = client(retry_config={"max_retries": 0, "retry_timeout": REQUEST_TIMEOUT})
    uploading = partial(client, retry_config={"max_retries": UPLOAD_RETRIES_MAX, "retry_timeout": UPLOAD_RETRY_TIMEOUT})
    return ObjectStore(store, prefix=prefix, uploading=uploading)


def _store_error(request: Request, error: Exception) -> StoreError:
    name = getattr(request, "key", None) or getattr(request, "prefix", None) or "objects"
    if _is_denied(error):
        return StoreDenied(
            f"the store refuses {type(request).__name__} of {name}: check its credentials and permissions"
        )
    if _METADATA_SERVICE in str(error):
        return StoreDenied(
            "the store has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a role"
        )
    return StoreUnavailable(f"{type(request).__name__} of {name} failed: {_first_line(error)}")


def _is_denied(error: Exception) -> bool:
    signs = (*_TOKEN_REFUSED, *_LISTING_OR_DELETION_REFUSED)
    return isinstance(error, _DENIED) or any(sign in str(error) for sign in signs)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:300]
