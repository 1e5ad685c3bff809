"""Blocks on a local disk, shared by the processes of a machine, never trusted and never needed.

Each object is mirrored in sparse files of CHUNK_BYTES of its range. What was read from the store is written at its own
offset; a block that is read back must match its checksum, so a hole, a torn write, a flipped bit or a file of another
object are all the same: the block is not there. No table says what is present, and nothing is ever flushed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import stat
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from neve.runtime import Instant, Runtime
from neve.store.port import Block

CHUNK_BYTES = 64 << 20
FOLDER = "neve-blocks-1"
WAITING_BYTES_MAX = 32 << 20
PAUSE_S = 60.0
"""A tier whose disk failed is left alone that long."""
TOUCH_S = 60.0
"""A file's time of use is noted at most that often."""
_SHARE_KEPT = 0.9
_CHECKS = 16
"""A process looks at the whole tier each time that it has written this part of the bound."""

_log = logging.getLogger("neve")


class DiskTier:
    """Blocks under a folder, within about `bytes_max` of disk; safe for threads and processes. Raises nothing.

    An error of the disk pauses reading or writing, with one warning in the life of the tier.
    """

    def __init__(self, folder: Path, bytes_max: int, runtime: Runtime) -> None:
        self._root = os.path.join(folder, FOLDER)
        self.bytes_max = bytes_max
        self._runtime = runtime
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._waiting_bytes = 0
        self._writing = False
        self._unchecked_bytes = bytes_max  # look at what earlier processes left at the first write
        self._folder_is_ready = False
        self._failed: dict[str, Instant] = {}
        self._warned = False

    def read(self, blocks: Iterable[Block]) -> dict[Block, bytes]:
        """Those of the blocks that are here and whole. Opens one file for each CHUNK_BYTES of an object touched."""
        found: dict[Block, bytes] = {}
        if self._usable("reading"):
            try:
                self._make_folder()
                ordered = sorted(blocks, key=lambda block: (block.key, block.start))
                for (key, chunk), group in groupby(ordered, lambda block: (block.key, block.start // CHUNK_BYTES)):
                    self._read_chunk(key, chunk, list(group), found)
            except OSError as error:
                self._pause("reading", error)
        return found

    def write(self, key: str, start: int, raw: bytes) -> None:
        """Have an object's bytes from `start` on written in the background; dropped when too much waits already."""
        with self._lock:
            if not self._usable("writing") or self._waiting_bytes + len(raw) > WAITING_BYTES_MAX:
                return
            self._waiting.append((key, start, raw))
            self._waiting_bytes += len(raw)
            if self._writing:
                return
            self._writing = True
        self._runtime.spawn(self._drain)

    def close(self) -> None:
        """Write what waits."""
        self._drain()

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._writing = False
                    return
                key, start, raw = self._waiting.popleft()
                self._waiting_bytes -= len(raw)
            if self._usable("writing"):
                try:
                    self._make_folder()
                    self._write(key, start, raw)
                except OSError as error:
                    self._pause("writing", error)

    def _write(self, key: str, start: int, raw: bytes) -> None:
        try:
            self._write_chunks(key, start, raw)
        except OSError:
            with suppress(OSError):  # a full disk: give up old files for new ones, and some space to others
                self._evict(sum(_disk_bytes(status) for status, _ in self._files()) - 1)
            raise
        self._unchecked_bytes += len(raw)
        if self._unchecked_bytes * _CHECKS >= self.bytes_max:
            self._unchecked_bytes = 0
            self._evict(self.bytes_max)

    def _write_chunks(self, key: str, start: int, raw: bytes) -> None:
        view = memoryview(raw)
        for chunk, offset, length in _pieces(start, start + len(raw)):
            part, view = view[:length], view[length:]
            descriptor = os.open(self._path(key, chunk), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                while part:
                    written = os.pwrite(descriptor, part, offset)
                    part, offset = part[written:], offset + written
            finally:
                os.close(descriptor)

    def _read_chunk(self, key: str, chunk: int, blocks: Sequence[Block], found: dict[Block, bytes]) -> None:
        try:
            descriptor = os.open(self._path(key, chunk), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            before = len(found)
            for block in blocks:
                (_, offset, length), *rest = _pieces(block.start, block.stop)
                raw = os.pread(descriptor, length, offset)
                for later, _, length in rest:  # the block goes on in the next file
                    raw += self._head(key, later, length)
                if len(raw) == block.stop - block.start and zlib.crc32(raw) == block.crc:
                    found[block] = raw
            if len(found) > before and self._runtime.now().wall_s - os.fstat(descriptor).st_mtime > TOUCH_S:
                os.utime(descriptor)
        finally:
            os.close(descriptor)

    def _head(self, key: str, chunk: int, length: int) -> bytes:
        try:
            descriptor = os.open(self._path(key, chunk), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(descriptor, length, 0)
        finally:
            os.close(descriptor)

    def _evict(self, bytes_max: int) -> None:
        """If there are more bytes, remove files until well below, the longest unused first; one process at a time."""
        lock = os.open(os.path.join(self._root, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files = sorted(self._files(), key=lambda file: file[0].st_mtime)
            held = sum(_disk_bytes(status) for status, _ in files)
            kept = bytes_max * _SHARE_KEPT if held > bytes_max else held
            for status, path in files:
                if held <= kept:
                    break
                with suppress(FileNotFoundError):
                    os.unlink(path)
                held -= _disk_bytes(status)
        except BlockingIOError:
            pass  # another process is at it
        finally:
            os.close(lock)

    def _files(self) -> list[tuple[os.stat_result, str]]:
        with os.scandir(self._root) as scan:
            paths = [child.path for child in scan if child.name != "lock"]
        files = []
        for path in paths:
            with suppress(FileNotFoundError):  # somebody else cleans up here
                files.append((os.stat(path, follow_symlinks=False), path))
        return files

    def _path(self, key: str, chunk: int) -> str:
        return os.path.join(self._root, f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}-{chunk}")

    def _usable(self, side: str) -> bool:
        failed = self._failed.get(side)
        return failed is None or failed.until(self._runtime.now()) > PAUSE_S

    def _pause(self, side: str, error: OSError) -> None:
        self._failed[side] = self._runtime.now()
        self._folder_is_ready = False
        if not self._warned:
            self._warned = True
            _log.warning("%s of blocks in %s fails, the store is asked instead: %s", side, self._root, error.strerror)

    def _make_folder(self) -> None:
        """Make the tier's own folder; raises PermissionError if it is open to others, who could plant blocks in it."""
        if self._folder_is_ready:
            return
        os.makedirs(os.path.dirname(self._root), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self._root, 0o700)
        status = os.stat(self._root, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "it is not a folder of this user alone", self._root)
        self._folder_is_ready = True


def _pieces(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """The (chunk, offset in the chunk, length) that the bytes [start, stop) of an object lie in."""
    while start < stop:
        chunk, offset = divmod(start, CHUNK_BYTES)
        length = min(stop - start, CHUNK_BYTES - offset)
        yield chunk, offset, length
        start += length


def _disk_bytes(status: os.stat_result) -> int:
    return status.st_blocks * 512  # whatever the block size of the disk: POSIX
