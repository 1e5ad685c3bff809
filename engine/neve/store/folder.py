"""A folder as an object store: durable by fsync, create-if-absent by hard link, no locks."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from neve.errors import StoreDenied, StoreUnavailable, StoreUnfit
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
    Upload,
)

_STAGING = ".staging"
_STAGING_SECONDS_MAX = 86_400.0
_COPY_BYTES = 1 << 20
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FolderStore:
    """The store of a folder. A file is whole when its name appears, and on disk before its reply does."""

    def __init__(self, root: Path) -> None:
        """Create the folder if it is absent; raises StoreUnfit if that fails."""
        self._root = str(root)
        self._staging = os.path.join(self._root, _STAGING)
        self._durable: dict[str, int] = {}
        try:
            os.makedirs(self._staging, exist_ok=True)
            self._sweep_staging()
        except OSError as error:
            raise StoreUnfit(f"cannot use the folder {root}: {error.strerror}") from error

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Reply:
        try:
            match request:
                case Get():
                    return self._get(request)
                case PutNew(key, body):
                    return self._put_new(key, body)
                case Put(key, body):
                    os.replace(self._stage(body), self._make_parent(key))
                    self._sync_parent(key)
                    return Done()
                case Upload(key, path):
                    os.replace(self._stage_file(path), self._make_parent(key))
                    self._sync_parent(key)
                    return Done()
                case List():
                    return self._list(request)
                case Delete(keys):
                    for key in keys:
                        self._delete(key)
                    return Done()
        except PermissionError as error:
            return Failed(StoreDenied(f"the folder refuses access to {error.filename}"))
        except OSError as error:
            return Failed(StoreUnavailable(f"{type(request).__name__} failed in the folder: {error.strerror}"))

    def _get(self, request: Get) -> Reply:
        try:
            with open(self._path(request.key), "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                start, stop = request.start, size if request.stop is None else min(request.stop, size)
                if request.suffix is not None:
                    start = max(0, size - request.suffix)
                file.seek(start)
                return Found(_read_exactly(file.fileno(), max(0, stop - start)))
        except _MISSING:
            return Missing()

    def _put_new(self, key: str, body: bytes) -> Reply:
        staged = self._stage(body)
        try:
            while True:
                try:
                    os.link(staged, self._make_parent(key))
                    break
                except FileExistsError:
                    return Exists()
                except FileNotFoundError:
                    if not os.path.exists(staged):
                        raise
                    continue  # a deleter removed the emptied folder between mkdir and link
        finally:
            with suppress(OSError):  # what stays is swept later; the outcome of the create is not in it
                os.unlink(staged)
        try:
            self._sync_parent(key)
        except OSError as error:
            return Unknown(f"the folder of {key} could not be flushed: {error.strerror}")
        return Created()

    def _list(self, request: List) -> Listed:
        found = list(islice(self._walk(request.prefix, request.after), request.limit + 1))
        return Listed(tuple(found[: request.limit]), complete=len(found) <= request.limit)

    def _walk(self, prefix: str, after: str) -> Iterator[Entry]:
        """Entries below the folder `prefix` in byte order of their keys: "a.b/" sorts before "a/"."""
        try:
            with os.scandir(self._path(prefix)) as scan:
                children = sorted((child.name + "/" if child.is_dir() else child.name) for child in scan)
        except _MISSING:
            return
        for child in children:
            key = prefix + child
            if child.endswith("/"):
                if (key > after or after.startswith(key)) and child != _STAGING + "/":
                    yield from self._walk(key, after)
            elif key > after:
                try:
                    status = os.stat(self._path(key))
                except _MISSING:
                    continue
                # not st_mtime, which is the staged file's: who sleeps before the link must not make an old object
                yield Entry(key, status.st_size, status.st_ctime)

    def _delete(self, key: str) -> None:
        path = self._path(key)
        with suppress(*_MISSING):
            os.unlink(path)
        with suppress(OSError):  # not empty, or gone already
            while len(path := os.path.dirname(path)) > len(self._root):
                os.rmdir(path)
                self._durable.pop(path, None)

    def _stage(self, body: bytes) -> str:
        path = os.path.join(self._staging, secrets.token_hex(16))
        with open(path, "xb", buffering=0) as file:
            view = memoryview(body)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        return path

    def _stage_file(self, source: Path) -> str:
        path = os.path.join(self._staging, secrets.token_hex(16))
        try:
            with open(source, "rb") as whole, open(path, "xb") as file:
                shutil.copyfileobj(whole, file, _COPY_BYTES)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):  # half of a large file is not to fill the disk until it is swept
                os.unlink(path)
            raise
        return path

    def _make_parent(self, key: str) -> str:
        path = self._path(key)
        parent = os.path.dirname(path)
        os.makedirs(parent, exist_ok=True)
        inode = os.stat(parent).st_ino
        if self._durable.get(parent) != inode:  # new: whoever made it may not have flushed it yet
            above = os.path.dirname(parent)
            while len(above) >= len(self._root):
                _sync_folder(above)
                above = os.path.dirname(above)
            self._durable[parent] = inode
        return path

    def _sync_parent(self, key: str) -> None:
        _sync_folder(os.path.dirname(self._path(key)))

    def _path(self, key: str) -> str:
        return os.path.join(self._root, key)

    def _sweep_staging(self) -> None:
        """Remove what killed writers left behind a day ago or longer."""
        with os.scandir(self._staging) as scan:
            for child in scan:
                if time.time() - child.stat().st_mtime > _STAGING_SECONDS_MAX:
                    os.unlink(child.path)


def _read_exactly(descriptor: int, size: int) -> bytes:
    chunks: list[bytes] = []
    while size and (chunk := os.read(descriptor, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
