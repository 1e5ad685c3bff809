"""How long a store's first byte may take before the same read is worth sending again."""

from __future__ import annotations

from collections import deque

SAMPLES_MAX = 512
SAMPLES_MIN = 32
_REFRESH = 16
QUANTILE = 0.95
MEDIANS_MIN = 1.3
"""Never sooner than this many medians: of ninety reads some are always beyond any quantile, and cost money again."""
UNKNOWN_S = 0.5
FLOOR_S = 0.01
"""Nor sooner than this: below, the machine's own threads are what is slow."""


class Patience:
    """Learns from the first bytes of recent reads; safe for threads.

    The first byte, not the last: it does not depend on the size of what is read, and it is where stores are slow now
    and then. `bound_s` is UNKNOWN_S until enough reads have been seen.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._fresh = 0
        self.bound_s = UNKNOWN_S

    def learn(self, first_byte_s: float) -> None:
        """Note one read; cost: a sort of the recent ones now and then."""
        self._recent.append(first_byte_s)
        self._fresh += 1
        if self._fresh >= _REFRESH and len(self._recent) >= SAMPLES_MIN:
            self._fresh = 0
            recent = sorted(self._recent.copy())
            median, late = recent[len(recent) // 2], recent[int(len(recent) * QUANTILE)]
            self.bound_s = max(late, MEDIANS_MIN * median, FLOOR_S)
