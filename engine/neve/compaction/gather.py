"""What a compaction reads from the store: its inputs, and which rows of the segments that stay they hide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from neve.compaction.workspace import Job, Workspace
from neve.errors import ObjectCorrupt, ObjectGone
from neve.index import paths
from neve.index.manifest import CompactedInfo, SegmentInfo
from neve.segments.directory import Directory
from neve.segments.flat import Batch, no_keys, unpack
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
        some = _ahead(plan.flat[done:])
        raws = _read(store, [paths.flat_segment(job.uid, info.name) for info in some])
        for info, raw in zip(some, raws, strict=True):
            workspace.gather([_flat(job, info, raw)])
            progress(done := done + 1, inputs)
    for compacted in plan.merged[done - len(plan.flat) :]:
        workspace.gather(_compacted(store, workspace, job, compacted))
        progress(done := done + 1, inputs)


def read_directory(store: Store, uid: str, info: CompactedInfo) -> Directory:
    """The directory of a compacted segment. 1 GET; raises as `gather`."""
    key = paths.segment_directory(uid, info.name)
    return Directory.decode(key, _read(store, [key])[0], paths.segment_folder(uid, info.name))


def read_mask(store: Store, uid: str, info: CompactedInfo) -> bytes:
    """The mask of a compacted segment; b"" masks nothing. At most 1 GET; raises as `gather`."""
    if not info.mask.reference:
        return info.mask.inline
    key = paths.mask(uid, info.mask.reference)
    try:
        return unseal(key, _read(store, [key])[0]).sections["mask"].tobytes()
    except LookupError as error:
        raise ObjectCorrupt(f"{key} is not a mask") from error


def recent_keys(workspace: Workspace, job: Job) -> Keys:
    """Keys of the rows and tombstones of all flat inputs, sorted; one that several hold is repeated."""
    inputs = workspace.inputs(job.dimension)
    rows = np.arange(workspace.starts[len(job.plan.flat)])
    return merge_keys([inputs.rows.keys.take(rows), inputs.deleted])[0]


def hidden(store: Store, directory: Directory, masked: np.ndarray, keys: Keys) -> tuple[np.ndarray, int]:
    """Rows uint32 [n] of a segment that have one of some sorted keys and are not `masked` (bool [rows]); their digest.

    Reads the blocks of the key index in question. Raises as `gather`.
    """
    fetch = _fetch(store)
    found: list[np.ndarray] = [np.empty(0, KEY_ENTRY)]
    for start in range(0, len(keys), _MATCHED_KEYS):
        some = keys.take(np.arange(start, min(len(keys), start + _MATCHED_KEYS)))
        read = _Recorded(directory, fetch)
        rows = np.unique(match_rows(some, directory.key_heads, read))
        entries = read.entries()
        found.append(entries[np.isin(entries["row"], rows[~masked[rows]])])
    entries = np.concatenate(found)
    entries = entries[np.unique(entries["row"], return_index=True)[1]]
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


def _ahead(flat: Sequence[SegmentInfo]) -> Sequence[SegmentInfo]:
    """The first few segments, at least one, within AHEAD_BYTES."""
    within = int(np.searchsorted(np.cumsum([info.size_bytes for info in flat]), AHEAD_BYTES, side="right"))
    return flat[: max(1, within)]


def _flat(job: Job, info: SegmentInfo, raw: bytes) -> Batch:
    key = paths.flat_segment(job.uid, info.name)
    try:
        envelope = unseal(key, raw)
        batch = unpack(envelope.sections, job.dimension)
        if (envelope.fields["name"], len(batch.rows), len(batch.deleted)) == (info.name, info.rows, info.deleted):
            return batch
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{key} is not a segment of an index of dimension {job.dimension}") from error
    raise ObjectCorrupt(f"{key} is not the segment that its manifest names")


def _compacted(store: Store, workspace: Workspace, job: Job, info: CompactedInfo) -> Iterator[Batch]:
    """The unmasked rows of a compacted segment, in blocks."""
    directory, fetch = read_directory(store, job.uid, info), _fetch(store)
    masked = decode_mask(info.name, read_mask(store, job.uid, info), info.rows)
    path = workspace.path("entries")
    entries = row_entries(directory, fetch, np.memmap(path, KEY_ENTRY, "w+", shape=directory.rows))
    start = 0
    for block in row_blocks(directory, fetch, entries):
        rows = Rows(Keys(block.hashes, block.keys, block.positions), block.vectors, block.metadata)
        live = np.flatnonzero(~masked[start : start + len(block)])
        start += len(block)
        yield Batch(rows if len(live) == len(block) else rows.take(live), no_keys())
    path.unlink()


def _fetch(store: Store) -> Fetch:
    def fetch(key: str, start: int, stop: int) -> bytes:
        raw = body(store.wave([Get(key, start, stop)])[0])
        if raw is None:
            raise ObjectGone(f"{key} is named but not there")
        return raw

    return fetch


def _read(store: Store, keys: Sequence[str]) -> list[bytes]:
    raws = []
    for key, reply in zip(keys, store.wave([Get(key) for key in keys]), strict=True):
        raw = body(reply)
        if raw is None:
            raise ObjectGone(f"{key} is named but not there")
        raws.append(raw)
    return raws
