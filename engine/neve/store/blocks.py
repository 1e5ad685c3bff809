"""Blocks of immutable objects: memory over local disk over store.

A block is asked for by plan, read in whatever wave the caller sends, and kept decoded in memory and raw on disk. Its
bytes are checked wherever they come from: by the store layer on their way from the store, here when from disk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, TypeAlias

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt, ObjectGone
from neve.store.port import Block, Get, Reply, body
from neve.store.ranges import SPACING, Spacing, coalesce

if TYPE_CHECKING:
    from neve.store.disk import DiskTier  # needs POSIX; whoever wants it makes it

__all__ = ["Block", "BlockId", "Blocks", "Decode", "Reading", "Slab", "Tally", "Wanted"]

BlockId: TypeAlias = tuple[str, int]
"""Key of the object, and where the block starts in it."""
Decode: TypeAlias = Callable[..., object]
"""From a block's bytes, and the room of its slab where it has one, to the value that is kept; pure but for the room. It
copies what it keeps (the bytes are part of a larger read), never returns None, and raises ValueError or LookupError if
the bytes make no sense."""

VALUE_OVERHEAD_BYTES = 512
"""What a value costs beyond its own content: object headers, its id, its places in the tables (measured: 430)."""


@dataclass(frozen=True, slots=True)
class Slab:
    """One piece of memory for the values of neighbouring blocks, which are dropped together; its id is no block's.

    Threads may fill places of the room that `make` makes at the same time: one place always with the same bytes.
    """

    id: BlockId
    make: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A block, how to decode it, the bytes of memory that its value takes, and the slab that it belongs to, if any."""

    block: Block
    decode: Decode
    size_bytes: int
    slab: Slab | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Where blocks came from. Bytes are those of the blocks as stored; `read_bytes` is what was asked of the store."""

    memory_blocks: int = 0
    memory_bytes: int = 0
    disk_blocks: int = 0
    disk_bytes: int = 0
    store_blocks: int = 0
    store_bytes: int = 0
    requests: int = 0
    read_bytes: int = 0


class Blocks:
    """The tiers above a store; safe for threads. Makes no request itself: a Reading says what to send."""

    def __init__(self, memory_bytes: int, disk: DiskTier | None = None, spacing: Spacing = SPACING) -> None:
        self._memory = _Memory(memory_bytes)
        self._disk = disk
        self._spacing = spacing
        self.get = self._memory.get
        """`get(block_id)`: the value in memory, None if it is not there. No I/O."""
        self.get_many = self._memory.get_many
        """`get_many(block_ids)`: their values in memory in that order, None for each that is not there. No I/O."""

    @property
    def memory_bytes(self) -> int:
        """Bytes that the values in memory take."""
        return self._memory.held_bytes

    @property
    def memory_bytes_max(self) -> int:
        """Bytes that they may take."""
        return self._memory.bytes_max

    @property
    def disk_bytes_max(self) -> int:
        """Bytes that the disk may hold; 0 where there is none."""
        return 0 if self._disk is None else self._disk.bytes_max

    def without_memory(self) -> Blocks:
        """The same disk, and no memory."""
        return Blocks(0, self._disk, self._spacing)

    def plan(self, wanted: Sequence[Wanted], spacing: Spacing | None = None) -> Reading:
        """Take from memory and disk what is there and plan requests for the rest. No request, reads of local files.

        Raises ObjectCorrupt where bytes that match their checksum cannot be decoded.
        """
        values = self._memory.get_many([(one.block.key, one.block.start) for one in wanted])
        absent = {one.block: one for one, value in zip(wanted, values, strict=True) if value is None}
        found: dict[Block, object] = {}
        if self._disk is not None and absent:
            for block, raw in self._disk.read(absent).items():
                found[block] = self.keep(absent[block], memoryview(raw))
        missing = [block for block in absent if block not in found]
        requests = tuple(coalesce(missing, spacing or self._spacing))
        return Reading(self, wanted, values, found, requests)

    def keep(self, wanted: Wanted, raw: memoryview) -> object:
        """The value of a block's checked bytes, from now on in memory. Raises ObjectCorrupt if it cannot be decoded."""
        block, slab, size_bytes = wanted.block, wanted.slab, wanted.size_bytes + VALUE_OVERHEAD_BYTES
        room = None if slab is None else self._memory.room(slab)
        try:
            value = wanted.decode(raw) if slab is None else wanted.decode(raw, room)
        except (ValueError, LookupError) as error:
            raise ObjectCorrupt(f"bytes {block.start} to {block.stop} of {block.key} cannot be decoded") from error
        if slab is None:
            self._memory.put((block.key, block.start), value, size_bytes)
        else:
            self._memory.put_in(slab, room, (block.key, block.start), value, size_bytes)
        return value

    def keep_raw(self, get: Get, raw: bytes) -> None:
        """Write what was read to disk, some time soon."""
        if self._disk is not None:
            self._disk.write(get.key, get.start, raw)

    def close(self) -> None:
        """Write to disk what waits for it."""
        if self._disk is not None:
            self._disk.close()


class Reading:
    """Blocks on their way: send `requests` in a wave, then ask for the `values`; `tally` says which tier had them."""

    __slots__ = ("_blocks", "_found", "_values", "_wanted", "requests", "tally")

    def __init__(
        self,
        blocks: Blocks,
        wanted: Sequence[Wanted],
        values: list[object | None],
        found: dict[Block, object],
        requests: tuple[Get, ...],
    ) -> None:
        self._blocks = blocks
        self._wanted = wanted
        self._values = values
        self._found = found
        self.requests = requests
        memory = [one.block for one, value in zip(wanted, values, strict=True) if value is not None]
        store = [block for get in requests for block in get.blocks]
        self.tally = Tally(
            *_extent(memory),
            *_extent(found),
            *_extent(store),
            len(requests),
            sum((get.stop or 0) - get.start for get in requests),
        )

    def values(self, replies: Sequence[Reply]) -> list[object]:
        """The values in the order of what was wanted; `replies` are those to `requests`, from a SteadyStore.

        Raises ObjectCorrupt with the object and the range, ObjectGone, and what else has befallen a request.
        """
        decoders = {one.block: one for one in self._wanted}
        for get, reply in zip(self.requests, replies, strict=True):
            raw = body(reply)
            if raw is None:
                raise ObjectGone(f"{get.key} is gone")
            view = memoryview(raw)
            for block in get.blocks:
                part = view[block.start - get.start : block.stop - get.start]
                self._found[block] = self._blocks.keep(decoders[block], part)
            self._blocks.keep_raw(get, raw)
        found = self._found
        return [
            found[one.block] if value is None else value for one, value in zip(self._wanted, self._values, strict=True)
        ]


@dataclass(slots=True)
class _Shared:
    """The room of a slab, and the sizes of the values in it."""

    room: object
    sizes: dict[BlockId, int] = field(default_factory=dict)


class _Memory:
    """Values by block id within a bound of bytes; the ones not asked for lately go first (second chance, in turn).

    A hit takes no lock: it is a dict lookup, and a note in a set that the next eviction reads. What goes is a value, or
    a slab with all that is in it.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._values: dict[BlockId, object] = {}
        self._sizes: OrderedDict[BlockId, int] = OrderedDict()
        self._slabs: dict[BlockId, _Shared] = {}
        self._used: set[BlockId] = set()
        self._lock = threading.Lock()
        self.held_bytes = 0

    def get(self, block_id: BlockId) -> object | None:
        self._used.add(block_id)
        return self._values.get(block_id)

    def get_many(self, block_ids: Sequence[BlockId]) -> list[object | None]:
        self._used.update(block_ids)
        return list(map(self._values.get, block_ids))

    def room(self, slab: Slab) -> object:
        """The room of a slab; a new one where it is not in memory."""
        with self._lock:
            shared = self._slabs.get(slab.id)
            if shared is None:
                shared = self._slabs[slab.id] = _Shared(slab.make())
                self._sizes[slab.id] = 0
        return shared.room

    def put(self, block_id: BlockId, value: object, size_bytes: int) -> None:
        with self._lock:
            self._values[block_id] = value
            self._grow(block_id, size_bytes - self._sizes.get(block_id, 0))
            self._used.discard(block_id)  # the miss that brought it here is not a use of it
            self._evict()

    def put_in(self, slab: Slab, room: object, block_id: BlockId, value: object, size_bytes: int) -> None:
        with self._lock:
            shared = self._slabs.get(slab.id)
            if shared is None or shared.room is not room:  # it was dropped while this was decoded
                return
            self._values[block_id] = value
            self._grow(slab.id, size_bytes - shared.sizes.get(block_id, 0))
            shared.sizes[block_id] = size_bytes
            self._used.discard(block_id)
            self._evict()

    def _grow(self, id_: BlockId, more_bytes: int) -> None:
        self._sizes[id_] = self._sizes.get(id_, 0) + more_bytes
        self.held_bytes += more_bytes

    def _evict(self) -> None:
        if self.held_bytes <= self.bytes_max:
            return
        if len(self._used) > 2 * len(self._values):
            self._used.intersection_update(list(self._values))  # ids that were asked for in vain
        while self.held_bytes > self.bytes_max:
            oldest = next(iter(self._sizes))
            shared = self._slabs.get(oldest)
            blocks = (oldest,) if shared is None else tuple(shared.sizes)
            if not self._used.isdisjoint(blocks):
                self._used.difference_update(blocks)
                self._sizes.move_to_end(oldest)
                continue
            self.held_bytes -= self._sizes.pop(oldest)
            self._slabs.pop(oldest, None)
            for block in blocks:
                del self._values[block]


def _extent(blocks: Iterable[Block]) -> tuple[int, int]:
    """How many blocks, how many bytes."""
    lengths = [block.stop - block.start for block in blocks]
    return len(lengths), sum(lengths)
