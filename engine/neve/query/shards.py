"""Large indexes: the lists that a query probes are split into shares, which shards score, and their best put together.

A share is a run of lists in the order of segments and of their numbers. Whoever scores one answers with the best of its
rows by the coarser query, and with their scores by the finer one. Of equal scores the first place counts, in a share as
in the whole; so the best of all shares are the rows, in the order, that one scan of all lists would have found. All
that a task names is immutable: it may be done late, twice, or by whoever has it at hand.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import fields
from functools import partial
from typing import Any, Protocol

import numpy as np

from neve.dataclass import dataclass
from neve.errors import ObjectGone
from neve.filters.expression import Condition
from neve.index import paths
from neve.index.held import segment_mask
from neve.index.state import Compacted
from neve.query.explain import Explain, ExplainedSession
from neve.query.lists import Scanned, held_lists, skimmed_rows, want_lists
from neve.query.matching import matching, want_terms
from neve.query.session import Session
from neve.query.shard_tasks import (
    CONDITION_BYTES_MAX,
    HIT,
    HITS_MAX,
    LISTS_MAX,
    PORTIONS_MAX,
    SHARE_BYTES_MAX,
    Portion,
    Scored,
    ShardResult,
    ShardTask,
    TaskInvalid,
)
from neve.query.termspans import Unindexed, bind
from neve.runtime import Runtime
from neve.segments.directory import Directory
from neve.segments.layout import code_row
from neve.segments.masks import decode_mask
from neve.store.blocks import Blocks, Tally, Wanted
from neve.store.counting import bill
from neve.store.port import Get, Store, body
from neve.vectors.codes import CodedQuery, best

TERMS_BYTES_MAX = 8 << 20
"""Each shard reads the terms of a filter for itself; where they are more it is not worth its while."""
THREADS_BYTES_MIN = 8 << 20
"""Threads of one process do not share less: a wave each, and the interpreter, cost what they win."""
OPENED_BYTES_MAX = 256 << 20
"""Directories and masks that a shard keeps, as stored: that of a million rows of 768 dimensions is 8 MB."""


class FanOut(Protocol):
    """Where shares are scored. Safe for threads."""

    apart: bool
    """Whether shards read by themselves: then nothing is read ahead that they are going to read."""

    def shards(self, size_bytes: int) -> int:
        """Into how many shares lists of so many bytes, not at hand, are split; below 2 they are read by who asks."""
        ...

    def scan(self, tasks: Sequence[ShardTask], opened: Sequence[Compacted]) -> list[ShardResult]:
        """The results of some tasks, in their order; `opened` are the segments that they name, as the caller has them.

        Raises ShardLost where one has none, StoreError.
        """
        ...

    def close(self) -> None:
        """Wait for what is under way."""
        ...


class Threads:
    """Shares are scored by so many threads of this process, through its own tiers."""

    apart = False

    def __init__(self, store: Store, blocks: Blocks, runtime: Runtime, threads: int) -> None:
        self._store = store
        self._blocks = blocks
        self._runtime = runtime
        self._threads = threads

    def shards(self, size_bytes: int) -> int:
        return self._threads if size_bytes >= THREADS_BYTES_MIN else 1

    def scan(self, tasks: Sequence[ShardTask], opened: Sequence[Compacted]) -> list[ShardResult]:
        by_name = {compacted.info.name: compacted for compacted in opened}

        def open_(task: ShardTask) -> list[Compacted]:
            return [by_name[portion.info.name] for portion in task.portions]

        jobs = [partial(scan_share, self._store, self._blocks, task, open_) for task in tasks]
        return _beside_each_other(self._runtime, jobs)

    def close(self) -> None:
        """The threads are the runtime's."""


class Opened:
    """Directories and masks of the segments that a shard was lately asked of."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[Directory | np.ndarray, int]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, task: ShardTask) -> list[Compacted]:
        """The segments of a task's portions. One wave for what is not here.

        Raises StoreError, and TaskInvalid where the portions are not of these segments.
        """
        decoders: dict[str, Callable[[bytes], Directory | np.ndarray]] = {}
        for portion in task.portions:
            info, folder = portion.info, paths.segment_folder(task.uid, portion.info.name)
            key = paths.segment_directory(task.uid, info.name)
            decoders[key] = partial(Directory.decode, key, folder=folder)
            if info.mask.reference:
                key = paths.mask(task.uid, info.mask.reference)
                decoders[key] = partial(segment_mask, key, info=info)
        held = self._held(decoders)
        return [_opened(task, portion, held) for portion in task.portions]

    def _held(self, decoders: Mapping[str, Callable[[bytes], Directory | np.ndarray]]) -> dict[str, Any]:
        """What is decoded of some objects, by key."""
        with self._lock:
            found = {key: self._kept.pop(key) for key in decoders if key in self._kept}
        missing = [key for key in decoders if key not in found]
        replies = self._store.wave([Get(key) for key in missing]) if missing else []
        for key, reply in zip(missing, replies, strict=True):
            raw = body(reply)
            if raw is None:
                raise ObjectGone(f"{key} is named but not there")
            found[key] = decoders[key](raw), len(raw)
        with self._lock:
            self._kept.update(found)
            while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > OPENED_BYTES_MAX:
                self._kept.popitem(last=False)
        return {key: value for key, (value, _) in found.items()}


def _opened(task: ShardTask, portion: Portion, held: Mapping[str, Any]) -> Compacted:
    """The segment of a portion; raises TaskInvalid where that is not of it."""
    info = portion.info
    directory: Directory = held[paths.segment_directory(task.uid, info.name)]
    if (directory.rows, directory.dimension) != (info.rows, len(task.point)):
        raise TaskInvalid("the task is not of the segments that it names")
    if portion.lists[-1] >= directory.lists:
        raise TaskInvalid("the task names lists that its segments do not have")
    rows = int(np.diff(directory.list_starts.astype(np.int64))[portion.lists].sum())
    if rows * code_row(directory.dimension).itemsize > SHARE_BYTES_MAX:
        raise TaskInvalid("the task is of more lists than a shard reads")
    if info.mask.reference:
        return Compacted(info, directory, held[paths.mask(task.uid, info.mask.reference)])
    masked = decode_mask(directory.folder, info.mask.inline, info.rows) if info.mask.count else None
    return Compacted(info, directory, masked)


def scan_share(
    store: Store, blocks: Blocks, task: ShardTask, open_: Callable[[ShardTask], Sequence[Compacted]]
) -> ShardResult:
    """What comes of a task; `open_` gives the segments of its portions, in their order.

    At most two waves, of terms and of lists, beside those that opening takes. Raises StoreError, and what `open_` does.
    """
    explain = Explain()
    session = ExplainedSession(store, blocks, explain)
    with bill() as billed:
        opened = open_(task)
        masks = [compacted.masked for compacted in opened]
        if task.condition is not None:
            found = matching(session, [compacted.directory for compacted in opened], task.condition)
            pairs = zip(masks, found, strict=True)
            masks = [one.failing if mask is None else mask | one.failing for mask, one in pairs]
        directories = [compacted.directory for compacted in opened]
        lists = [portion.lists.astype(np.intp) for portion in task.portions]
        session.read([want for pair in zip(directories, lists, strict=True) for want in want_lists(*pair)])
        scored = tuple(
            _scored(session, directory, some, mask, task)
            for directory, some, mask in zip(directories, lists, masks, strict=True)
        )
    session.settle()
    tally = Tally(*(getattr(explain, field.name, 0) for field in fields(Tally)))
    return ShardResult(scored, tally, tuple(map(len, billed.waves)), billed.bytes_read, billed.hedges)


def _scored(
    session: Session, directory: Directory, lists: np.ndarray, mask: np.ndarray | None, task: ShardTask
) -> Scored:
    runs = [run for run in held_lists(session, directory, lists) if run is not None]
    scanned = Scanned(runs, CodedQuery.of(task.point, directory.center), mask)
    places, coarse = scanned.skimmed(task.count)
    hits = np.empty(len(places), HIT)
    hits["coarse"], hits["fine"] = coarse, scanned.scored(places)
    hits["row"], hits["location"] = scanned.rows(places), scanned.locations(places)
    return Scored(len(scanned), hits)


class Gathered:
    """What shards found in the lists of one segment, as `Scanned` would have; for at most `count` rows."""

    __slots__ = ("_asked", "_hits", "_rows")

    def __init__(self, parts: Sequence[Scored], count: int) -> None:
        """`parts` are in the order of their lists."""
        hits = np.concatenate([part.hits for part in parts])
        self._asked = skimmed_rows(count)
        self._hits = hits[best(hits["coarse"], hits["row"], self._asked)]
        self._rows = sum(part.rows for part in parts)

    def __len__(self) -> int:
        return self._rows

    def suffices(self, count: int) -> bool:
        """Whether it tells the best so many rows."""
        return skimmed_rows(count) <= self._asked or len(self._hits) < self._asked

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        scores = self._hits["fine"][: skimmed_rows(count)]
        order = np.argsort(-scores, kind="stable")[:count]
        return order, scores[order]

    def rows(self, places: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._hits["row"][places]
        return found

    def locations(self, places: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._hits["location"][places]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """Lists of one segment that a query is to scan, and the blocks that hold them."""

    compacted: Compacted
    lists: np.ndarray
    blocks: Sequence[Wanted]


def left_to_shards(session: Session, wanted: Sequence[Wanted]) -> bool:
    """Whether lists are rather not read ahead, since shards will score them where they are not at hand."""
    fan_out = session.fan_out
    return fan_out is not None and fan_out.apart and fan_out.shards(_bytes(wanted)) > 1


def scatter(
    session: Session, shares: Sequence[Share], point: np.ndarray, condition: Condition | None, count: int
) -> list[Gathered] | None:
    """What shards found in some segments' lists, for `count` rows of each; None where they are to be read here.

    Then they may have been. Raises ShardLost, StoreError.
    """
    fan_out, wanted = session.fan_out, [block for share in shares for block in share.blocks]
    if fan_out is None or fan_out.shards(_bytes(wanted)) < 2 or not _fit(shares, condition, count):
        return None
    reading = session.plan(wanted)
    shards = fan_out.shards(reading.tally.store_bytes)
    if shards < 2:  # the rest was in memory or on disk
        session.pin(wanted, reading, session.store.wave(reading.requests) if reading.requests else [])
        return None
    uid, skimmed = paths.uid_of(shares[0].compacted.directory.folder), skimmed_rows(count)
    cuts = split(shares, shards)
    tasks = [ShardTask(uid, point, condition, skimmed, tuple(portion for _, portion in cut)) for cut in cuts]
    found: list[list[Scored]] = [[] for _ in shares]
    for cut, result in zip(cuts, session.scan(fan_out, tasks, [share.compacted for share in shares]), strict=True):
        for (share, _), scored in zip(cut, result.scored, strict=True):
            found[share].append(scored)
    return [Gathered(parts, count) for parts in found]


def split(shares: Sequence[Share], shards: int) -> list[list[tuple[int, Portion]]]:
    """At most so many runs of lists of about the same bytes: of each the portions, with the places of their shares."""
    lists = [np.sort(share.lists) for share in shares]
    sizes = [np.diff(share.compacted.directory.list_starts)[some] for share, some in zip(shares, lists, strict=True)]
    lists = [some[size > 0] for some, size in zip(lists, sizes, strict=True)]
    ends = np.cumsum(np.concatenate([size[size > 0] for size in sizes]).astype(np.int64))
    inner = 1 + np.searchsorted(ends, ends[-1] * np.arange(1, shards) // shards)
    cuts = np.unique([0, *inner.tolist(), len(ends)])
    starts = np.cumsum([0, *map(len, lists)])
    runs = []
    for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        run = []
        for place, share in enumerate(shares):
            some = lists[place][max(0, first - starts[place]) : max(0, last - starts[place])]
            if len(some):
                run.append((place, Portion(share.compacted.info, some.astype(np.uint32))))
        runs.append(run)
    return runs


def _fit(shares: Sequence[Share], condition: Condition | None, count: int) -> bool:
    """Whether tasks and results keep within their bounds, and shards do not have to read what takes longer."""
    if len(shares) * skimmed_rows(count) > HITS_MAX or len(shares) > PORTIONS_MAX:
        return False
    if sum(len(share.lists) for share in shares) > LISTS_MAX:
        return False
    if condition is None:
        return True
    if len(condition.text) > CONDITION_BYTES_MAX:
        return False
    directories = [share.compacted.directory for share in shares]
    try:
        for directory in directories:
            if directory.filters is None:
                return False
            bind(condition.root, directory.filters)
    except Unindexed:
        return False
    return _bytes([want for one in directories for want in want_terms(one, condition)]) <= TERMS_BYTES_MAX


def _bytes(wanted: Sequence[Wanted]) -> int:
    return sum(want.block.stop - want.block.start for want in wanted)


def _beside_each_other(runtime: Runtime, jobs: Sequence[Callable[[], ShardResult]]) -> list[ShardResult]:
    """What some jobs return, each on a thread of its own where there are any."""
    if len(jobs) == 1:
        return [jobs[0]()]
    half = len(jobs) // 2
    later: Future[list[ShardResult]] = Future()

    def work() -> None:
        try:
            later.set_result(_beside_each_other(runtime, jobs[half:]))
        except Exception as error:
            later.set_exception(error)

    first = runtime.beside(lambda: _beside_each_other(runtime, jobs[:half]), work)
    if not later.done():
        work()
    return [*first, *later.result()]
