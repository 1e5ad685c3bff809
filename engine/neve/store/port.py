"""The object store port: one verb, `wave`, since a wave of concurrent requests is the unit of cost.

A store needs only: read-after-write, a lexicographic LIST that shows a create at once, and create-if-absent.
Requests and replies are values, so planners, counters, faults and simulations need no store at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from neve.dataclass import dataclass
from neve.errors import StoreError


@dataclass(frozen=True, slots=True)
class Block:
    """The bytes [start, stop) of an immutable object, at least one, and their CRC-32 (zlib.crc32)."""

    key: str
    start: int
    stop: int
    crc: int

    def __post_init__(self) -> None:
        assert self.start < self.stop, "an empty block cannot be asked for, and shares its start with another"


@dataclass(frozen=True, slots=True)
class Get:
    """Read an object: the whole of it, or the bytes [start, stop), or its last `suffix` bytes.

    The part of a range that lies beyond the end is left out of the reply.
    `blocks` of [start, stop) are what the bytes are checked by on their way, as a whole object is by its envelope.
    """

    key: str
    start: int = 0
    stop: int | None = None
    suffix: int | None = None
    blocks: tuple[Block, ...] = ()

    @property
    def whole(self) -> bool:
        return self.start == 0 and self.stop is None and self.suffix is None


@dataclass(frozen=True, slots=True)
class PutNew:
    """Create an object if its key is absent; at most one creator of a key ever succeeds."""

    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Put:
    """Write an object over whatever is there. Only hints are ever overwritten."""

    key: str
    body: bytes


UPLOAD_WHOLE_BYTES_MAX = 32 << 20
"""A larger file goes in parts: one that fails or stalls is not the whole, and memory holds a few parts at most."""
_PART_BYTES_MIN = 8 << 20
_PARTS_MAX = 9_000
"""S3 takes 10,000 (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Write a local file as an object, in parts where it is large.

    The key is unique: whoever writes it again writes the same bytes.
    """

    key: str
    path: Path

    @property
    def size_bytes(self) -> int:
        """Size of the file now, 0 if it is not there."""
        return self.path.stat().st_size if self.path.exists() else 0


def upload_part_bytes(size_bytes: int) -> int:
    """The size of the parts of a file that is too large to go in one."""
    return max(_PART_BYTES_MIN, -(-size_bytes // _PARTS_MAX))


def upload_requests(size_bytes: int) -> int:
    """Requests that an upload is billed for: one, or one for each part beside the first and the last word."""
    return 1 if size_bytes <= UPLOAD_WHOLE_BYTES_MAX else 2 + -(-size_bytes // upload_part_bytes(size_bytes))


@dataclass(frozen=True, slots=True)
class List:
    """One page of the keys that start with `prefix` (a path ending in "/") and sort after `after`, at most `limit`."""

    prefix: str
    after: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete objects, at most 1,000; absent ones are no error."""

    keys: tuple[str, ...]


Request: TypeAlias = Get | PutNew | Put | Upload | List | Delete


@dataclass(frozen=True, slots=True)
class Found:
    body: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    pass


@dataclass(frozen=True, slots=True)
class Created:
    pass


@dataclass(frozen=True, slots=True)
class Exists:
    """The create was refused: another object has the key, or (on some stores) is just being created."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The create was sent and its outcome never learned: it may have happened, may yet happen, or never."""

    cause: str


@dataclass(frozen=True, slots=True)
class Done:
    pass


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a LIST; `modified_s` is the store's own time, seconds since 1970."""

    key: str
    size_bytes: int
    modified_s: float


@dataclass(frozen=True, slots=True)
class Listed:
    """One page in lexicographic order of keys; `complete` when no key follows."""

    entries: tuple[Entry, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed for good as far as this layer is concerned."""

    error: StoreError


Reply: TypeAlias = Found | Missing | Created | Exists | Unknown | Done | Listed | Failed


class Store(Protocol):
    """An object store, or a decorator of one."""

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        """Send all requests at once and wait for all replies, in the order of the requests.

        Get → Found, Missing. PutNew → Created, Exists, Unknown. Put, Upload, Delete → Done. List → Listed.
        Any of them → Failed. Raises nothing: one failed request must not hide the fate of another.
        """
        ...


def body(reply: Reply) -> bytes | None:
    """Bytes of a Get's reply, None where the object is missing; raises the StoreError of a failed one."""
    match reply:
        case Found(found):
            return found
        case Missing():
            return None
    raise _error(reply)


def listed(reply: Reply) -> Listed:
    """A List's reply; raises the StoreError of a failed one."""
    if isinstance(reply, Listed):
        return reply
    raise _error(reply)


def done(reply: Reply) -> None:
    """A Put's, Upload's or Delete's reply; raises the StoreError of a failed one."""
    if not isinstance(reply, Done):
        raise _error(reply)


def _error(reply: Reply) -> StoreError:
    return reply.error if isinstance(reply, Failed) else StoreError(f"unexpected reply {reply!r}")
