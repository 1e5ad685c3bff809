"""What a compaction reads from the store: its inputs, and which rows of the segments that stay they hide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from neve.compaction.workspace import Job, Workspace
from neve.errors import ObjectCorrupt, ObjectGone
from neve.index import paths
from neve.index.held import flat_batch
from neve.index.manifest import CompactedInfo, SegmentInfo
from neve.segments.directory import Directory
from neve.segments.flat import Batch, no_keys
from neve.segments.keyblocks import KeyBlock, match_rows
from neve.segments.layout import KEY_ENTRY
from neve.segments.masks import decode_mask
from neve.segments.rows import Keys, Rows, live_digest, merge_keys
from neve.segments.stream import Fetch, key_blocks, row_blocks, row_entries
from neve.store.envelope import unseal
from neve.store.port import Get, Store, body

AHEAD_BYTES = 64 << 20
"""Flat segments are read in waves of about so many bytes."""
_MATCHED_KEYS = 1 << 16
"""Keys looked up in a key index at a time."""


def gather(store: Store, workspace: Workspace, job: Job, progress: Callable[[int, int], None]) -> None:
    """Read what of the inputs is not in the workspace yet. 1 GET a flat segment; others once, in ranges of 8 MiB.

    Raises ObjectGone, ObjectCorrupt, StoreError.
    """
    plan, done = job.plan, len(workspace.starts) - 1
    inputs = len(plan.flat) + len(plan.merged)
    progress(done, inputs)
    while done < len(plan.flat):
        some = ahead(plan.flat[done:])
        keys = [paths.flat_segment(job.uid, info.name) for info in some]
        for info, key, raw in zip(some, keys, read_all(store, keys), strict=True):
            workspace.gather([flat_batch(key, raw, job.dimension, info)])
            progress(done := done + 1, inputs)
    for compacted in plan.merged[done - len(plan.flat) :]:
        directory, mask = read_directory(store, job.uid, compacted), read_mask(store, job.uid, compacted)
        workspace.gather(compacted_rows(store, directory, mask, workspace.folder))
        progress(done := done + 1, inputs)


def read_directory(store: Store, uid: str, info: CompactedInfo) -> Directory:
    """The directory of a compacted segment. 1 GET; raises as `gather`."""
    key = paths.segment_directory(uid, info.name)
    return Directory.decode(key, read_all(store, [key])[0], paths.segment_folder(uid, info.name))


def read_mask(store: Store, uid: str, info: CompactedInfo) -> bytes:
    """The mask of a compacted segment; b"" masks nothing. At most 1 GET; raises as `gather`."""
    return mask_at(store, paths.mask(uid, info.mask.reference)) if info.mask.reference else info.mask.inline


def mask_at(store: Store, key: str) -> bytes:
    """The mask in an object. 1 GET; raises as `gather`."""
    try:
        return unseal(key, read_all(store, [key])[0]).sections["mask"].tobytes()
    except LookupError as error:
        raise ObjectCorrupt(f"{key} is not a mask") from error


def recent_keys(workspace: Workspace, job: Job) -> Keys:
    """Keys of the rows and tombstones of all flat inputs, sorted; one that several hold is repeated."""
    inputs = workspace.inputs(job.dimension)
    rows = np.arange(workspace.starts[len(job.plan.flat)])
    return merge_keys([inputs.rows.keys.take(rows), inputs.deleted])[0]


def hidden(
    store: Store, directory: Directory, masked: np.ndarray, keys: Keys, before: int | None = None
) -> tuple[np.ndarray, int]:
    """Rows uint32 [n] of a segment that have one of some sorted keys and are not `masked` (bool [rows]); their digest.

    Only those with a position below `before`, where that is given. Reads the blocks of the key index in question.
    Raises as `gather`.
    """
    fetch = fetching(store)
    found: list[np.ndarray] = [np.empty(0, KEY_ENTRY)]
    for start in range(0, len(keys), _MATCHED_KEYS):
        some = keys.take(np.arange(start, min(len(keys), start + _MATCHED_KEYS)))
        read = _Recorded(directory, fetch)
        rows = np.unique(match_rows(some, directory.key_heads, read))
        entries = read.entries()
        found.append(entries[np.isin(entries["row"], rows[~masked[rows]])])
    entries = np.concatenate(found)
    entries = entries[np.unique(entries["row"], return_index=True)[1]]
    if before is not None:
        entries = entries[entries["position"] < before]
    return entries["row"], live_digest(entries["hash"], entries["position"])


class _Recorded:
    """Reads blocks of a key index, and remembers their entries."""

    def __init__(self, directory: Directory, fetch: Fetch) -> None:
        self._directory, self._fetch = directory, fetch
        self._entries: list[np.ndarray] = [np.empty(0, KEY_ENTRY)]

    def __call__(self, blocks: Sequence[int]) -> Iterator[KeyBlock]:
        for block in key_blocks(self._directory, self._fetch, blocks):
            self._entries.append(block.entries)
            yield block

    def entries(self) -> np.ndarray:
        return np.concatenate(self._entries)


def ahead(flat: Sequence[SegmentInfo]) -> Sequence[SegmentInfo]:
    """The first few segments, at least one, within AHEAD_BYTES."""
    within = int(np.searchsorted(np.cumsum([info.size_bytes for info in flat]), AHEAD_BYTES, side="right"))
    return flat[: max(1, within)]


def compacted_rows(
    store: Store, directory: Directory, mask: bytes, folder: Path, start: int = 0, stop: int | None = None
) -> Iterator[Batch]:
    """The unmasked ones of rows [start, stop) of a compacted segment, in blocks; `folder` for a file of 42 bytes a row.

    Reads the key index, and each row once, in ranges of 8 MiB. Raises as `gather`.
    """
    fetch, masked = fetching(store), decode_mask(directory.name, mask, directory.rows)
    with TemporaryFile(dir=folder) as file:
        entries = row_entries(directory, fetch, np.memmap(file, KEY_ENTRY, "w+", shape=directory.rows))
        for block in row_blocks(directory, fetch, entries, start, stop):
            rows = Rows(Keys(block.hashes, block.keys, block.positions), block.vectors, block.metadata)
            live = np.flatnonzero(~masked[start : start + len(block)])
            start += len(block)
            yield Batch(rows if len(live) == len(block) else rows.take(live), no_keys())


def fetching(store: Store) -> Fetch:
    """Reads ranges of objects that are there: 1 GET each; ObjectGone where one is not."""

    def fetch(key: str, start: int, stop: int) -> bytes:
        raw = body(store.wave([Get(key, start, stop)])[0])
        if raw is None:
            raise ObjectGone(f"{key} is named but not there")
        return raw

    return fetch


def read_all(store: Store, keys: Sequence[str]) -> list[bytes]:
    """Some whole objects, in one wave. Raises ObjectGone, ObjectCorrupt, StoreError."""
    raws = []
    for key, reply in zip(keys, store.wave([Get(key) for key in keys]), strict=True):
        raw = body(reply)
        if raw is None:
            raise ObjectGone(f"{key} is named but not there")
        raws.append(raw)
    return raws
