"""What a compaction takes in, decided from a manifest alone.

A compaction takes all flat segments, so that what stays recent is newer than anything compacted, and of the compacted
segments those that are small beside what is merged already, or mostly dead. So sizes grow from segment to segment and
there are few. A row is written anew when at least a GROWTHth of its segment's size comes to it: at most
log(N / b) / log(1 + 1 / GROWTH) times on its way from b rows to N. Batches of 10,000 inserts: 3.7 times up to 300,000
rows, 4.8 times to 1 M, 7.3 times to 10 M, in at most 3, 4 and 6 segments (GROWTH 2: 2.6, 3.8 and 5.1 times in 4, 6 and
9; GROWTH 4: 4.4, 6.4 and 9.5 times in 3, 3 and 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neve.index.manifest import CompactedInfo, Manifest, SegmentInfo

FLAT_ROWS_MIN = 10_000
"""Flat rows and tombstones that make a compaction due: about what one query can score exactly in a millisecond."""
FLAT_BYTES_MIN = 64 << 20
"""Or bytes of flat segments, which whoever opens the index reads whole."""
GROWTH = 3
"""A compacted segment is merged while it is less than this many times as large as what is merged so far."""
MERGED_ROWS_MAX = 16 << 20
"""Segments are not merged into larger ones, but by a full compaction: the parts of an index that was built on several
machines are as large as each other, and must not all be merged as soon as something a third as large has come."""
MASKED_SHARE_MAX = 0.25
"""A compacted segment with a larger share of masked rows is merged whatever its size."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The inputs of one compaction, and the compacted segments that it leaves as they are but for their masks."""

    flat: tuple[SegmentInfo, ...]
    merged: tuple[CompactedInfo, ...]
    kept: tuple[CompactedInfo, ...]

    @property
    def rows(self) -> int:
        """Live rows of the inputs, where those of compacted segments that a flat segment hides are still counted."""
        return sum(segment.live for segment in self.flat) + sum(segment.live for segment in self.merged)

    @property
    def seed(self) -> int:
        """64 bits from the names of the inputs: chance is the same for who does the same work."""
        names = "/".join([*self.flat_names, *(segment.name for segment in self.merged)])
        return int.from_bytes(hashlib.blake2b(names.encode(), digest_size=8).digest(), "big")

    def holds_on(self, manifest: Manifest) -> bool:
        """Whether the work may still be committed: nobody has compacted meanwhile, and no import is to be attached.

        Flat segments may have been folded into others meanwhile; compacted segments and their masks change by
        compactions alone, and when an import is attached, to what has been decided before.
        """
        return manifest.pending is None and {*self.merged, *self.kept} == set(manifest.compacted)

    def inputs_stand(self, manifest: Manifest) -> bool:
        """Whether the work may also be begun, or gone on with: all inputs are still named."""
        return self.holds_on(manifest) and set(self.flat_names) <= {segment.name for segment in manifest.segments}

    @property
    def flat_names(self) -> list[str]:
        return [segment.name for segment in self.flat]

    def to_fields(self) -> dict[str, Any]:
        """JSON members."""
        return {
            "flat": [segment.to_fields() for segment in self.flat],
            "merged": [segment.to_fields() for segment in self.merged],
            "kept": [segment.to_fields() for segment in self.kept],
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Plan:
        """The plan of JSON members; raises LookupError, ValueError or TypeError where they are not one."""
        return cls(
            tuple(SegmentInfo.from_fields(segment) for segment in fields["flat"]),
            tuple(CompactedInfo.from_fields(segment) for segment in fields["merged"]),
            tuple(CompactedInfo.from_fields(segment) for segment in fields["kept"]),
        )


def is_due(manifest: Manifest) -> bool:
    """Whether flat segments have become so large that a compaction pays; never while one could not be committed."""
    if manifest.pending is not None:
        return False
    rows = sum(segment.rows + segment.deleted for segment in manifest.segments)
    return rows >= FLAT_ROWS_MIN or sum(segment.size_bytes for segment in manifest.segments) >= FLAT_BYTES_MIN


def plan_compaction(manifest: Manifest, *, asked: bool = False, full: bool = False) -> Plan | None:
    """The compaction of a manifest, None when there is nothing to do. Pure.

    Without being `asked` for it is made when it is due. A `full` one leaves a single segment without a mask. There is
    none while an import may be attached at any moment: what it would take in by then is decided already.
    """
    if manifest.pending is not None:
        return None
    if full:
        whole = len(manifest.compacted) <= 1 and not any(segment.mask.count for segment in manifest.compacted)
        return None if whole and not manifest.segments else Plan(manifest.segments, manifest.compacted, ())
    if not (asked or is_due(manifest)):
        return None
    chosen = choose_segments(manifest.compacted, sum(segment.live for segment in manifest.segments))
    if not manifest.segments and not chosen:
        return None
    kept = tuple(segment for segment in manifest.compacted if segment not in chosen)
    return Plan(manifest.segments, chosen, kept)


def choose_segments(segments: Sequence[CompactedInfo], rows: int) -> tuple[CompactedInfo, ...]:
    """Which compacted segments are merged with that many rows: the mostly dead ones, then the smallest. Pure."""
    chosen = [segment for segment in segments if segment.mask.count > MASKED_SHARE_MAX * segment.rows]
    rows += sum(segment.live for segment in chosen)
    rest = [segment for segment in segments if segment not in chosen]
    for segment in sorted(rest, key=lambda segment: (segment.live, segment.name)):
        if segment.live >= GROWTH * rows or rows + segment.live > MERGED_ROWS_MAX:
            break
        chosen.append(segment)
        rows += segment.live
    return tuple(chosen)
