"""The immutable objects that make up the segments of a manifest, as far as they are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum, auto

import numpy as np

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt, StoreError
from neve.index import paths
from neve.index.hint import Hint
from neve.index.manifest import CompactedInfo, Manifest, SegmentInfo
from neve.index.records import IndexRecord
from neve.index.state import Compacted, State, base_state
from neve.segments.directory import Directory
from neve.segments.flat import Batch, unpack
from neve.segments.masks import decode_mask
from neve.store.envelope import unseal
from neve.store.port import Reply, body


class _Kind(Enum):
    BATCH = auto()
    DIRECTORY = auto()
    MASK = auto()


@dataclass(frozen=True, slots=True)
class Piece:
    """One object that a state needs in memory."""

    key: str
    kind: _Kind
    info: SegmentInfo | CompactedInfo
    record: IndexRecord


def pieces(record: IndexRecord, manifest: Manifest) -> Iterator[Piece]:
    """The objects that a state of a manifest is made of, beside the manifest and the log."""
    for flat in manifest.segments:
        yield Piece(paths.flat_segment(record.uid, flat.name), _Kind.BATCH, flat, record)
    seen: set[str] = set()
    for info in (*manifest.compacted, *(manifest.pending or ())):  # a segment may be among both, with another mask
        for piece in _compacted_pieces(record, info):
            if piece.key not in seen:
                yield piece
            seen.add(piece.key)


def _compacted_pieces(record: IndexRecord, info: CompactedInfo) -> Iterator[Piece]:
    yield Piece(paths.segment_directory(record.uid, info.name), _Kind.DIRECTORY, info, record)
    if info.mask.reference:
        yield Piece(paths.mask(record.uid, info.mask.reference), _Kind.MASK, info, record)


class Held:
    """Decoded objects by key."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}
        self._directories: dict[str, Directory] = {}
        self._masks: dict[str, np.ndarray] = {}

    @classmethod
    def of(cls, state: State) -> Held:
        """What a state holds."""
        held, uid = cls(), state.uid
        for segment in state.segments:
            held._batches[paths.flat_segment(uid, segment.info.name)] = Batch(segment.part.rows, segment.deleted)
        for one in (*state.compacted, *state.pending):
            held._directories[paths.segment_directory(uid, one.info.name)] = one.directory
            if one.info.mask.reference and one.masked is not None:
                held._masks[paths.mask(uid, one.info.mask.reference)] = one.masked
        return held

    def __contains__(self, key: str) -> bool:
        return key in self._batches or key in self._directories or key in self._masks

    def add(self, piece: Piece, raw: bytes) -> None:
        """Take an object whose checksum has been verified; raises ObjectCorrupt."""
        if isinstance(piece.info, SegmentInfo):
            self._batches[piece.key] = flat_batch(piece.key, raw, piece.record.config.dimension, piece.info)
        elif piece.kind is _Kind.DIRECTORY:
            self._directories[piece.key] = _directory(piece.key, raw, piece.record, piece.info)
        else:
            self._masks[piece.key] = segment_mask(piece.key, raw, piece.info)

    def take(self, asked: Sequence[Piece], replies: Sequence[Reply]) -> None:
        """Take what was read on a hint's word; what failed or is gone is simply not in hand."""
        for piece, reply in zip(asked, replies, strict=True):
            with suppress(StoreError):
                if (raw := body(reply)) is not None:
                    self.add(piece, raw)

    def take_directories(self, hint: Hint) -> None:
        """Take the directories that a hint embeds."""
        for piece in pieces(hint.record, hint.manifest):
            raw = hint.directories.get(piece.info.name)
            if piece.kind is _Kind.DIRECTORY and raw is not None:
                with suppress(StoreError):
                    self.add(piece, raw)

    def directories(self, record: IndexRecord, manifest: Manifest) -> list[Directory]:
        """Those of all compacted segments of a manifest; none where one is missing."""
        keys = [paths.segment_directory(record.uid, info.name) for info in manifest.compacted]
        return [self._directories[key] for key in keys] if all(key in self._directories for key in keys) else []

    def base_state(self, record: IndexRecord, manifest: Manifest) -> State:
        """The state that a manifest describes; all its pieces are held."""
        batches = {flat.name: self._batches[paths.flat_segment(record.uid, flat.name)] for flat in manifest.segments}
        compacted, pending = self.compacted(record, manifest.compacted), manifest.pending or ()
        return base_state(record, manifest, batches, compacted, self.compacted(record, pending))

    def compacted(self, record: IndexRecord, infos: Sequence[CompactedInfo]) -> tuple[Compacted, ...]:
        """Some compacted segments; none where a piece of one is missing."""
        if any(piece.key not in self for info in infos for piece in _compacted_pieces(record, info)):
            return ()
        return tuple(
            Compacted(info, self._directories[paths.segment_directory(record.uid, info.name)], self._mask(record, info))
            for info in infos
        )

    def _mask(self, record: IndexRecord, info: CompactedInfo) -> np.ndarray | None:
        if not info.mask.count:
            return None
        key = paths.mask(record.uid, info.mask.reference)
        return self._masks[key] if info.mask.reference else decode_mask(key, info.mask.inline, info.rows)


def flat_batch(key: str, raw: bytes, dimension: int, info: SegmentInfo) -> Batch:
    """The flat segment that a manifest names; raises ObjectCorrupt where the object is not that one."""
    try:
        envelope = unseal(key, raw)
        batch = unpack(envelope.sections, dimension)
        if (envelope.fields["name"], len(batch.rows), len(batch.deleted)) == (info.name, info.rows, info.deleted):
            return batch
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{key} is not a segment of an index of dimension {dimension}") from error
    raise ObjectCorrupt(f"{key} is not the segment that its manifest names")


def _directory(key: str, raw: bytes, record: IndexRecord, info: CompactedInfo) -> Directory:
    directory = Directory.decode(key, raw, paths.segment_folder(record.uid, info.name))
    expected = (info.name, info.rows, record.config.dimension, record.config.metric)
    if (directory.name, directory.rows, directory.dimension, directory.metric) != expected:
        raise ObjectCorrupt(f"{key} is not the directory of the segment that its manifest names")
    return directory


def segment_mask(key: str, raw: bytes, info: CompactedInfo) -> np.ndarray:
    """The mask bool [rows] that a manifest refers to; raises ObjectCorrupt where the object is not that one."""
    try:
        section = unseal(key, raw).sections["mask"]
    except LookupError as error:
        raise ObjectCorrupt(f"{key} is not a mask") from error
    masked = decode_mask(key, section.tobytes(), info.rows)
    if int(np.count_nonzero(masked)) != info.mask.count:
        raise ObjectCorrupt(f"{key} is not the mask that its manifest names")
    return masked
