"""Compaction whose work is done on other machines: planned and committed here, with names and ranges in between.

Which rows are live is decided here, from keys alone: recent keys, which every reader of the index holds in memory, and
the blocks of key indexes that they are looked up in. So memory is bounded by what is recent, however large the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neve.compaction.build import Means, NewSegment
from neve.compaction.compact import ATTEMPTS_MAX, Compaction, Run, fold_tail, newest
from neve.compaction.elsewhere import GROUP_BYTES, Elsewhere, begin_job, do_job
from neve.compaction.gather import ahead, hidden, read_all, read_directory, read_mask
from neve.compaction.jobs import JOB, Job, JobFolder, begun_jobs
from neve.compaction.parts import FlatPart, SegmentPart, part_of
from neve.compaction.plan import Plan, plan_compaction
from neve.errors import IndexNotFound, ObjectCorrupt, ObjectGone, StoreError, StoreUnavailable
from neve.index import paths
from neve.index.database import Database
from neve.index.held import flat_batch
from neve.index.hint import DIRECTORIES_BYTES_MAX
from neve.index.manifest import Manifest, SegmentInfo
from neve.index.records import IndexRecord
from neve.segments.columns import Column
from neve.segments.directory import Directory
from neve.segments.flat import no_keys
from neve.segments.masks import decode_mask, encode_mask, widen_mask
from neve.segments.rows import Keys, live_masks, merge_keys
from neve.store.envelope import Envelope

_PLAN = "plan"


def compact_elsewhere(
    database: Database,
    bucket: str,
    name: str,
    means: Means,
    elsewhere: Elsewhere,
    *,
    asked: bool = False,
    full: bool = False,
) -> Compaction | None:
    """As `compact`, with several new segments where one would be too large. Goes on with a job that was broken off.

    Here it reads the flat inputs, and of key indexes the blocks that hold their keys. Raises as `compact`, and
    ClusterLost.
    """
    record, _ = newest(database.store, bucket, name)
    lost: StoreError = StoreUnavailable(f"{record.path} is compacted by others faster than here")
    for _ in range(ATTEMPTS_MAX):
        job = _job(database, record, means, elsewhere, asked=asked, full=full)
        if job is None:
            return None
        try:
            compaction = Run(database, record, Scattered(database, job, means, elsewhere), means.progress).run()
        except IndexNotFound:
            job.delete()
            raise
        except ObjectGone as error:  # others have compacted, or it took so long that something was collected
            job.delete()
            lost = error
            continue
        job.delete()
        if compaction is not None:
            return compaction
    raise lost


def _job(
    database: Database, record: IndexRecord, means: Means, elsewhere: Elsewhere, *, asked: bool, full: bool
) -> JobFolder | None:
    """The job to do now, broken off earlier or new; None when there is none to do. Jobs that came to nothing go."""
    manifest = _manifest(database, record)
    for name in begun_jobs(database.store, record.uid):
        folder = JobFolder(database.store, database.runtime, record.uid, name)
        plan = _read_plan(folder)
        if plan is None:
            continue
        in_time = paths.segment_planned_on(name) >= manifest.work_floor
        if in_time and plan.holds_on(manifest) and not (full and plan.kept):
            return folder
        folder.delete()
    if asked or full:
        fold_tail(database, record)
        manifest = _manifest(database, record)
    planned = plan_compaction(manifest, asked=asked, full=full)
    if planned is None:
        return None
    partitions = elsewhere.partitions(planned.rows, record.config.dimension, means.memory_bytes)
    if full and _is_full(manifest, partitions):
        return None
    return _begin(database, record, manifest, planned, means.memory_bytes, partitions)


def _manifest(database: Database, record: IndexRecord) -> Manifest:
    current, manifest = newest(database.store, record.bucket, record.name)
    if current.uid != record.uid:
        raise IndexNotFound(record.path)
    return manifest


def _is_full(manifest: Manifest, segments: int) -> bool:
    """Whether an index is in as few segments as it can be."""
    masked = any(segment.mask.count for segment in manifest.compacted)
    return not manifest.segments and not masked and len(manifest.compacted) <= segments


def _read_plan(folder: JobFolder) -> Plan | None:
    """What a job of a compaction was planned to do; None where it is another kind of job."""
    found = folder.read(_PLAN)
    try:
        return None if found is None else Plan.from_fields(found.fields["plan"])
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{folder.key(_PLAN)} is no plan of this version") from error


def _begin(
    database: Database, record: IndexRecord, manifest: Manifest, plan: Plan, memory_bytes: int, partitions: int
) -> JobFolder:
    """Write a new job: first what is recent and which rows it hides, then the parts, then the job itself."""
    store, config = database.store, record.config
    name = paths.segment_name(manifest.number, database.runtime.token())
    folder = JobFolder(store, database.runtime, record.uid, name)
    recent = _Recent.read(database, record.uid, config.dimension, plan.flat)
    folder.create(_PLAN, {"plan": plan.to_fields()}, recent.sections())
    parts: list[FlatPart | SegmentPart] = []
    for place, flat in enumerate(plan.flat):
        mask = _keep_mask(folder, f"mask-flat-{place}", encode_mask(recent.hidden[place]))
        parts.append(FlatPart(record.uid, config.dimension, flat, mask))
    rows_max = max(1, GROUP_BYTES // (4 * config.dimension))
    for place, info in enumerate(plan.merged):
        directory, own = read_directory(store, record.uid, info), read_mask(store, record.uid, info)
        rows, _ = hidden(store, directory, decode_mask(info.name, own, info.rows), recent.keys)
        wide = widen_mask(info.name, own, rows) if len(rows) else b""
        mask = _keep_mask(folder, f"mask-compacted-{place}", wide)
        cuts = range(0, info.rows, rows_max)
        parts += [SegmentPart(record.uid, info, cut, min(info.rows, cut + rows_max), mask) for cut in cuts]
    groups = [[part.to_fields() for part in group] for group in _groups(parts, rows_max)]
    shape = config.dimension, config.metric, config.non_filterable or ()
    begin_job(folder, Job(*shape, memory_bytes, partitions, len(groups)), groups)
    return folder


class Scattered:
    """The work of one compaction, done elsewhere (see compact.Work)."""

    def __init__(self, database: Database, folder: JobFolder, means: Means, elsewhere: Elsewhere) -> None:
        self._store, self._folder, self._means = database.store, folder, means
        self._elsewhere, self._identity = elsewhere, database.identity
        found = folder.read_all([_PLAN])[0]
        self.uid, self.plan = folder.uid, Plan.from_fields(found.fields["plan"])
        self._recent = _Recent.of(found)
        self._new: Sequence[NewSegment] = ()

    def build(self) -> None:
        self._new = do_job(self._folder, part_of, self._means, self._elsewhere, self._identity).segments

    def recent_keys(self) -> Keys:
        return self._recent.keys

    def upload(self, planned_on: int, work_floor: int) -> tuple[Sequence[NewSegment], Mapping[str, bytes]]:
        if paths.segment_planned_on(self._folder.name) < work_floor:
            raise ObjectGone(f"{self._folder.key(JOB)} took so long that its segments may have been collected")
        directories: dict[str, bytes] = {}
        for segment in self._new:
            if sum(map(len, directories.values())) <= DIRECTORIES_BYTES_MAX:
                key = paths.segment_directory(self.uid, segment.name)
                directories[segment.name] = read_all(self._store, [key])[0]
        return self._new, directories

    def rows_of(self, segment: NewSegment, flat: Sequence[int]) -> tuple[np.ndarray, int]:
        """By their keys: a key is live in one input alone, so the new segments have it from there."""
        key = paths.segment_directory(self.uid, segment.name)
        folder = paths.segment_folder(self.uid, segment.name)
        directory = Directory.decode(key, read_all(self._store, [key])[0], folder)
        return hidden(self._store, directory, np.zeros(directory.rows, np.bool_), self._recent.live_in(flat))


@dataclass(frozen=True, slots=True, eq=False)
class _Recent:
    """Keys of the flat inputs, their tombstones too, sorted; a key that several hold is repeated."""

    keys: Keys
    places: np.ndarray
    """int32 [n]: the flat input that has the key's live row, by its place in the plan; -1 where this is not it."""
    hidden: Sequence[np.ndarray] = ()
    """Of each flat input, the rows that are not live."""

    @classmethod
    def read(cls, database: Database, uid: str, dimension: int, flat: Sequence[SegmentInfo]) -> _Recent:
        """Reads all flat inputs, a few at a time, and keeps their keys."""
        runs: list[Keys] = []
        deleted: list[Keys] = []
        while len(runs) < len(flat):
            some = ahead(flat[len(runs) :])
            keys = [paths.flat_segment(uid, info.name) for info in some]
            for info, key, raw in zip(some, keys, read_all(database.store, keys), strict=True):
                batch = flat_batch(key, raw, dimension, info)
                runs.append(_own(batch.rows.keys))
                deleted.append(_own(batch.deleted))
        if not runs:
            return cls(no_keys(), np.empty(0, np.int32))
        masks = live_masks([*runs, *deleted])[: len(runs)]
        places = [np.where(mask, place, -1) for place, mask in enumerate(masks)]
        places += [np.full(len(keys), -1) for keys in deleted]
        merged, order = merge_keys([*runs, *deleted])
        return cls(merged, np.concatenate(places).astype(np.int32)[order], [np.flatnonzero(~mask) for mask in masks])

    @classmethod
    def of(cls, found: Envelope) -> _Recent:
        sections = found.sections
        column = Column(sections["keys"], sections["key_offsets"])
        return cls(Keys(sections["hashes"], column, sections["positions"]), sections["live_in"])

    def sections(self) -> dict[str, np.ndarray]:
        return {
            "hashes": self.keys.hashes,
            "positions": self.keys.positions,
            "keys": self.keys.keys.data,
            "key_offsets": self.keys.keys.offsets,
            "live_in": self.places,
        }

    def live_in(self, flat: Sequence[int]) -> Keys:
        """Keys of the live rows of some flat inputs."""
        return self.keys.take(np.flatnonzero(np.isin(self.places, flat)))


def _own(keys: Keys) -> Keys:
    """A copy, so that the object which they are read from need not stay."""
    return Keys(keys.hashes.copy(), Column(keys.keys.data.copy(), keys.keys.offsets.copy()), keys.positions.copy())


def _keep_mask(folder: JobFolder, name: str, mask: bytes) -> str:
    """The key of a mask that is kept for a job; "" for one that masks nothing."""
    if not mask:
        return ""
    folder.create(name, {}, {"mask": np.frombuffer(mask, np.uint8)})
    return folder.key(name)


def _groups(parts: Sequence[FlatPart | SegmentPart], rows_max: int) -> Iterator[list[FlatPart | SegmentPart]]:
    """Parts that follow one another, together of about so many rows at most."""
    group: list[FlatPart | SegmentPart] = []
    rows = 0
    for part in parts:
        if group and rows + part.rows > rows_max:
            yield group
            group, rows = [], 0
        group.append(part)
        rows += part.rows
    if group:
        yield group
