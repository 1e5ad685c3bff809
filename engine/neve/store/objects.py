"""S3-compatible stores and memory, by obstore. Its own retries are off: waves are retried in one place, above."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import MemoryStore, S3Store

from neve.errors import StoreDenied, StoreError, StoreUnavailable
from neve.store.port import (
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
)

REQUEST_TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=5)
CONCURRENT_REQUESTS_MAX = 64
_METADATA_SERVICE = "169.254.169.254"
"""Where a machine's role is asked for, last of all: an error from there means that no other credentials were found."""
_DENIED = (PermissionDeniedError, UnauthenticatedError)


class ObjectStore:
    """An obstore store behind the port; requests of a wave run on threads where the store is remote."""

    def __init__(self, store: Any, *, prefix: str = "", concurrent: bool = True) -> None:
        self._store = store
        self._prefix = prefix
        self._pool = ThreadPoolExecutor(CONCURRENT_REQUESTS_MAX, "neve-store") if concurrent else None

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        if self._pool is None or len(requests) < 2:
            return [self._answer(request) for request in requests]
        others = [self._pool.submit(self._answer, request) for request in requests[1:]]
        return [self._answer(requests[0]), *(other.result() for other in others)]

    def _answer(self, request: Request) -> Reply:
        try:
            match request:
                case Get():
                    return self._get(request)
                case PutNew(key, body):
                    return self._put_new(key, body)
                case Put(key, body):
                    self._store.put(self._prefix + key, body, use_multipart=False)
                    return Done()
                case List():
                    return self._list(request)
                case Delete(keys):
                    return self._delete(keys)
        except (BaseError, OSError, ValueError) as error:
            return Failed(_store_error(request, error))

    def _get(self, request: Get) -> Reply:
        options: dict[str, Any] | None = None
        if request.suffix is not None:
            options = {"range": {"suffix": request.suffix}}
        elif request.stop is not None:
            options = {"range": (request.start, request.stop)}
        elif request.start:
            options = {"range": {"offset": request.start}}
        try:
            return Found(bytes(self._store.get(self._prefix + request.key, options=options).bytes()))
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise
            return Missing()

    def _put_new(self, key: str, body: bytes) -> Reply:
        try:
            self._store.put(self._prefix + key, body, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return Exists()
        except (*_DENIED, FileNotFoundError):
            raise
        except (BaseError, OSError) as error:
            return Unknown(_first_line(error))
        return Created()

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
    store = S3Store(
        bucket,
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "timeout": REQUEST_TIMEOUT,
            "connect_timeout": CONNECT_TIMEOUT,
        },
        retry_config={"max_retries": 0, "retry_timeout": REQUEST_TIMEOUT},
        **config,
    )
    return ObjectStore(store, prefix=prefix)


def _store_error(request: Request, error: Exception) -> StoreError:
    name = getattr(request, "key", None) or getattr(request, "prefix", None) or "objects"
    if isinstance(error, _DENIED):
        return StoreDenied(
            f"the store refuses {type(request).__name__} of {name}: check its credentials and permissions"
        )
    if _METADATA_SERVICE in str(error):
        return StoreDenied(
            "the store has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a role"
        )
    return StoreUnavailable(f"{type(request).__name__} of {name} failed: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:300]
