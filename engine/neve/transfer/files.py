"""Files by path or URL: local ones, and whatever fsspec knows.

`s3://bucket/path[?endpoint=URL&region=NAME]` goes through the library that reaches neve's own stores, with the same
credentials: those of the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from neve.errors import SourceUnfit, TargetUnfit, TransferError

_READ_BYTES = 8 << 20
_RETRIES_MAX, _RETRY_TIMEOUT = 5, timedelta(seconds=60)
_S3_OPTIONS = {"endpoint", "region"}
_STAMPS = ("mtime", "e_tag", "ETag", "etag", "last_modified", "LastModified", "updated", "created")


def absolute(url: str) -> str:
    """A URL, or the absolute path of a local file."""
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    return url if "://" in url else str(Path(url).expanduser().absolute())


def is_local(url: str) -> bool:
    return "://" not in url


def s3_options(url: str) -> tuple[str, dict[str, str]]:
    """A URL without what follows `?`, and that as options; only s3 URLs have any. Raises SourceUnfit."""
    if not url.startswith("s3://") or "?" not in url:
        return url, {}
    plain, _, query = url.rpartition("?")
    options = dict(parse_qsl(query))
    if not options or options.keys() - _S3_OPTIONS:
        return url, {}  # a wildcard, not options
    if "@" in options.get("endpoint", ""):
        raise SourceUnfit("an endpoint holds no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
    return plain, options


def split_options(url: str) -> tuple[str, str]:
    """A URL without its options, and these from the `?` on."""
    plain, _ = s3_options(url)
    return plain, url[len(plain) :]


def lance_options(url: str) -> tuple[str, dict[str, str] | None]:
    """A URL or path as lance takes it, with its storage options."""
    plain, options = s3_options(url)
    storage = {f"aws_{name}": value for name, value in options.items()}
    return plain, {**storage, "allow_http": "true"} if storage else None


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL or path, and the path on it. Raises SourceUnfit for one that nobody knows."""
    import fsspec

    plain, options = s3_options(url)
    protocol = "file" if is_local(url) else plain.partition("://")[0]
    try:
        system, path = (_s3(options), plain[5:]) if protocol == "s3" else fsspec.core.url_to_fs(plain)
    except (ImportError, ValueError) as error:
        raise SourceUnfit(f"cannot open {protocol}:// URLs: {error}") from error
    system.dircache.clear()  # a listing that it remembers may be older than a file
    return system, path


def _s3(options: dict[str, str]) -> Any:
    from obstore import fsspec

    store: Any = fsspec.FsspecStore
    return store(
        "s3",
        config=options,
        client_options={"allow_http": True},  # an endpoint says by its scheme whether to
        retry_config={"max_retries": _RETRIES_MAX, "retry_timeout": _RETRY_TIMEOUT},
    )


@contextmanager
def reading(url: str) -> Iterator[None]:
    """What reading a source raises becomes SourceUnfit with its URL, and what is wrong in one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceUnfit(f"there is no {url}") from error
    except TransferError:
        raise
    except _failures() as error:
        raise SourceUnfit(f"cannot read {url}: {_first_line(error)}") from error


@contextmanager
def writing(url: str) -> Iterator[None]:
    """What writing to a target raises becomes TargetUnfit with its URL, and what is wrong in one line."""
    try:
        yield
    except _failures() as error:
        raise TargetUnfit(f"cannot write {url}: {_first_line(error)}") from error


def fingerprint(url: str) -> str:
    """Size and time of change or etag: another one says that the file has changed. 1 request; raises SourceUnfit."""
    with reading(url):
        system, path = filesystem(url)
        info = system.info(path)
        stamps = [str(info[name]) for name in _STAMPS if info.get(name) is not None]
        return f"{info['size']} {stamps[0] if stamps else ''}"


def size_of(url: str) -> int:
    """Bytes of a file. 1 request."""
    system, path = filesystem(url)
    return int(system.info(path)["size"])


def read_range(url: str, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of a file. 1 request."""
    system, path = filesystem(url)
    raw: bytes = system.cat_file(path, start=start, end=stop)
    return raw


def open_bytes(url: str) -> IO[bytes]:
    """A file to read and seek in."""
    system, path = filesystem(url)
    file: IO[bytes] = system.open(path, "rb")
    return file


def ranges(url: str, start: int, stop: int) -> Iterator[bytes]:
    """Bytes [start, stop) of a file in pieces of 8 MiB, one request each."""
    for first in range(start, stop, _READ_BYTES):
        yield read_range(url, first, min(stop, first + _READ_BYTES))


def create(url: str) -> IO[bytes]:
    """A new file to write from its start to its end, with the folders that it lies in."""
    system, path = filesystem(url)
    if is_local(url):
        system.makedirs(str(Path(path).parent), exist_ok=True)
    file: IO[bytes] = system.open(path, "wb")
    return file


def remove(url: str) -> None:
    """Delete a file, or a folder with all that is in it."""
    system, path = filesystem(url)
    system.rm(path, recursive=True)


def _failures() -> tuple[type[Exception], ...]:
    """What libraries raise over files, their content included; lance raises OSError and ValueError."""
    import pyarrow as pa
    from obstore.exceptions import BaseError

    return OSError, ValueError, EOFError, pa.ArrowException, BaseError


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
