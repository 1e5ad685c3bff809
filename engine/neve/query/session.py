"""What one request reads of compacted segments: blocks that stay at hand for its duration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from neve.errors import ObjectGone, StoreError
from neve.index.records import IndexRecord
from neve.index.state import Compacted
from neve.segments.directory import Directory
from neve.store.blocks import BlockId, Blocks, Reading, Wanted
from neve.store.port import Get, Reply, Request, Store, body

if TYPE_CHECKING:
    from neve.query.shard_tasks import ShardResult, ShardTask
    from neve.query.shards import FanOut


class Session:
    """Reads blocks through the tiers; what it has read stays at hand, whatever the tiers evict meanwhile.

    Where lists are many, shards behind `fan_out` may score them instead.
    """

    __slots__ = ("_pinned", "blocks", "fan_out", "store")

    def __init__(self, store: Store, blocks: Blocks, fan_out: FanOut | None = None) -> None:
        self.store = store
        self.blocks = blocks
        self.fan_out = fan_out
        self._pinned: dict[BlockId, Any] = {}

    def held(self, ids: Sequence[BlockId]) -> list[Any]:
        """Values of blocks in memory, None where one is not there. No request."""
        if not self._pinned:
            return self.blocks.get_many(ids)
        return [self._pinned[id_] if id_ in self._pinned else self.blocks.get(id_) for id_ in ids]

    def read(self, wanted: Sequence[Wanted]) -> list[Any]:
        """Values of blocks, from memory, disk or store: at most one wave. Raises StoreError."""
        missing = [want for want in wanted if (want.block.key, want.block.start) not in self._pinned]
        if missing:
            reading = self.plan(missing)
            self.pin(missing, reading, self.store.wave(reading.requests) if reading.requests else [])
        return [self._pinned[want.block.key, want.block.start] for want in wanted]

    def look(self, wanted: Sequence[Wanted]) -> list[Any]:
        """As `read`, of what need not stay at hand."""
        reading = self.plan(wanted)
        return self.values(reading, self.store.wave(reading.requests) if reading.requests else [])

    def scan(self, fan_out: FanOut, tasks: Sequence[ShardTask], opened: Sequence[Compacted]) -> list[ShardResult]:
        """What shards answer to some tasks; raises as the fan-out does."""
        return fan_out.scan(tasks, opened)

    def fetch(self, key: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object, past the tiers: 1 GET. Raises StoreError."""
        raw = body(self.store.wave([Get(key, start, stop)])[0])
        if raw is None:
            raise ObjectGone(f"{key} is named but not there")
        return raw

    def plan(self, wanted: Sequence[Wanted]) -> Reading:
        """What it takes to read some blocks. No request."""
        return self.blocks.plan(wanted)

    def forget(self) -> None:
        """Let go of what is at hand: what is wanted again comes from the tiers. For who reads through an index."""
        self._pinned.clear()

    def pin(self, wanted: Sequence[Wanted], reading: Reading, replies: Sequence[Reply]) -> None:
        """Keep at hand what a plan has read. Raises StoreError."""
        for want, value in zip(wanted, self.values(reading, replies), strict=True):
            self._pinned[want.block.key, want.block.start] = value

    def values(self, reading: Reading, replies: Sequence[Reply]) -> list[Any]:
        """The values of a plan whose requests have been sent. Raises StoreError."""
        return reading.values(replies)


class Prefetch:
    """Blocks read beside the opening of an index, on the word of its hint: what lies `ahead` for a Reader.

    `first` says which by the directories; `then`, where there is time for more, by the segments.
    """

    def __init__(
        self,
        session: Session,
        first: Callable[[IndexRecord, Sequence[Directory]], Sequence[Wanted]],
        then: Callable[[Sequence[Compacted]], Sequence[Wanted]] = lambda _: (),
    ) -> None:
        self._session = session
        self._first = first
        self._then = then
        self._wanted: Sequence[Wanted] = ()
        self._reading: Reading | None = None

    def requests(self, record: IndexRecord, directories: Sequence[Directory]) -> Sequence[Request]:
        return self._plan(self._first(record, directories))

    def more(self, compacted: Sequence[Compacted]) -> Sequence[Request]:
        return self._plan(self._then(compacted))

    def take(self, replies: Sequence[Reply]) -> None:
        if self._reading is not None:
            with suppress(StoreError):  # what is wrong or gone is asked for again by who needs it
                self._session.pin(self._wanted, self._reading, replies)
            self._reading = None

    def _plan(self, wanted: Sequence[Wanted]) -> Sequence[Request]:
        self._wanted, self._reading = wanted, self._session.plan(wanted)
        return self._reading.requests
