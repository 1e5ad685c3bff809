"""The settings of an index: the one table of their names, ranges and defaults.

They are news like any other: a log entry sets them, so whoever reads the index afterwards goes by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from neve.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """A number from `low` to `high`, both included."""

    name: str
    low: float
    high: float
    default: float
    whole: bool = False

    @property
    def range(self) -> str:
        """What it may be, in words."""
        return f"{'a whole number' if self.whole else 'a number'} from {self.low:g} to {self.high:g}"

    def allows(self, value: object) -> bool:
        """Whether it may have a value."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and not (self.whole and value % 1)

    def of(self, settings: Mapping[str, float]) -> float:
        """Its value among the settings of an index."""
        return settings.get(self.name, self.default)


RECALL = Setting("recall", 0.5, 0.999, 0.98)
"""The share of the true nearest vectors that a query is to find, on average."""
COMPACT = Setting("compact", 0, 1, 1, whole=True)
"""Whether servers compact the index in the background."""

SETTINGS: Mapping[str, Setting] = MappingProxyType({setting.name: setting for setting in (RECALL, COMPACT)})


def effective(settings: Mapping[str, float]) -> dict[str, float]:
    """Every setting with its value."""
    return {name: setting.of(settings) for name, setting in SETTINGS.items()}
