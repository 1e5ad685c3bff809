"""The grace periods of the protocol and the sizes that trigger its upkeep (design: state of one index)."""

from __future__ import annotations

from neve.dataclass import dataclass

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Grace:
    """How long superseded objects stay, by the store's own clock, and what follows from it for a process."""

    segments_s: float = HOUR_S
    """G: superseded log entries and segments, and what a page token may rest on."""
    manifests_s: float = 24 * HOUR_S
    records_s: float = 30 * 24 * HOUR_S
    """Catalog and bucket records; the last one of a chain stays for ever, so that no number comes twice."""
    knowledge_s: float = 12 * HOUR_S
    """Older knowledge of an index is not probed but read anew: what it would probe may have been collected."""

    @property
    def wave_s(self) -> float:
        """A wave that took longer proves nothing: what it saw may have been superseded and collected meanwhile."""
        return self.segments_s / 2


GRACE = Grace()

TAIL_ENTRIES_MAX = 64
TAIL_BYTES_MAX = 16 << 20
GROUP_BYTES_MAX = 16 << 20
FLAT_ROWS_MAX = 10_000
FLAT_GROWTH = 4
"""A fold merges flat segments that are less than this many times as large as what it has merged so far."""
FLAT_ROWS_PER_SEGMENT = 2_500
FLAT_SEGMENTS_SPARE = 8
"""Flat segments are at most live rows / FLAT_ROWS_PER_SEGMENT + FLAT_SEGMENTS_SPARE."""
