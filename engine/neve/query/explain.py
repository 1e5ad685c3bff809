"""What a call did, and which tiers it read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from neve.dataclass import dataclass
from neve.index.state import Compacted
from neve.query.lists import CodeRun
from neve.query.session import Session
from neve.segments.layout import code_bytes, code_row
from neve.store.blocks import BlockId, Blocks, Reading, Tally
from neve.store.port import Reply, Store

if TYPE_CHECKING:
    from neve.query.shard_tasks import ShardResult, ShardTask
    from neve.query.shards import FanOut

_BESIDE = code_row(1).itemsize - code_bytes(1)
"""Bytes of a code row beside its code."""


class Plan(StrEnum):
    """How the rows of an index, or of one of its segments, were searched."""

    RECENT = "recent rows"
    """There is nothing but recent rows."""
    LISTS = "lists"
    """The lists that the target asks for, or more until enough rows were found."""
    EVERY_LIST = "every list"
    MATCHES = "matches"
    """The rows that satisfy the filter, by their vectors."""
    EXHAUSTIVE = "exhaustive"
    """All rows, by their vectors."""
    HELD = "held"
    """Not at all: an earlier page had the hits found already."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What a condition of a filter comes to: the rows that satisfy it, and those that satisfy all before it, too.

    `condition` is as in a filter; `together` is None for one within an $or.
    """

    condition: str
    rows: int
    together: int | None
    note: str


@dataclass(slots=True)
class Explain:
    """Counts of one call; `lists` of `lists_total` were probed, `rows_scored` by code, `candidates` exactly.

    Blocks of the store are those that were asked for; bytes are those of the blocks as stored.
    """

    plans: dict[Plan, None] = field(default_factory=dict)
    recall: float | None = None
    recent_rows: int = 0
    matches: int | None = None
    """Rows of compacted segments that satisfy the filter, dead ones included; None without one."""
    why: Sequence[Reason] = ()
    """Of a filter that nothing satisfies."""
    lists: int = 0
    lists_total: int = 0
    rows_scored: int = 0
    shards: int = 0
    """Shares of the lists that others scored."""
    candidates: int = 0
    memory_blocks: int = 0
    memory_bytes: int = 0
    disk_blocks: int = 0
    disk_bytes: int = 0
    store_blocks: int = 0
    store_bytes: int = 0
    index: str = ""
    """BUCKET/INDEX that was addressed; "" where none was, or not in a form that can be right."""

    @property
    def plan(self) -> str:
        """Each plan once, in the order taken; "" where nothing was searched."""
        return ", ".join(self.plans)

    def restart(self) -> None:
        """Forget the search that was counted: it is done again, on a newer state. What it read stays counted."""
        self.plans.clear()
        self.lists = self.lists_total = self.rows_scored = self.shards = self.candidates = 0
        self.matches, self.why = None, ()

    def goes_by(self, plan: Plan) -> None:
        """Enter a plan."""
        self.plans[plan] = None

    def add(self, tally: Tally) -> None:
        """Enter where blocks came from."""
        self.memory_blocks += tally.memory_blocks
        self.memory_bytes += tally.memory_bytes
        self.disk_blocks += tally.disk_blocks
        self.disk_bytes += tally.disk_bytes
        self.store_blocks += tally.store_blocks
        self.store_bytes += tally.store_bytes


class ExplainedSession(Session):
    """A session that enters in `explain` where its blocks come from.

    Blocks in memory are noted as they are found, which costs some 10 µs for 130 of them, and counted by `settle`.
    """

    __slots__ = ("_explain", "_held")

    def __init__(self, store: Store, blocks: Blocks, explain: Explain, fan_out: FanOut | None = None) -> None:
        super().__init__(store, blocks, fan_out)
        self._explain = explain
        self._held: dict[BlockId, CodeRun | np.ndarray | None] = {}

    def held(self, ids: Sequence[BlockId]) -> list[Any]:
        found = super().held(ids)
        self._held.update(zip(ids, found, strict=True))
        return found

    def values(self, reading: Reading, replies: Sequence[Reply]) -> list[Any]:
        self._explain.add(reading.tally)
        return super().values(reading, replies)

    def scan(self, fan_out: FanOut, tasks: Sequence[ShardTask], opened: Sequence[Compacted]) -> list[ShardResult]:
        results = super().scan(fan_out, tasks, opened)
        self._explain.shards += len(results)
        for result in results:
            self._explain.add(result.tally)
        return results

    def settle(self) -> None:
        """Enter the blocks that were in memory, once, at the end; others have been entered as they were read."""
        found = [one for id_, one in self._held.items() if one is not None and id_ not in self._pinned]
        sizes = [_stored_bytes(one) for one in found]
        self._explain.add(Tally(memory_blocks=len(found), memory_bytes=sum(sizes)))


def _stored_bytes(value: CodeRun | np.ndarray) -> int:
    """Bytes of a list or a vector as stored."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    return (value.slab.codes.width_bytes + _BESIDE) * len(value)
