"""How fresh a read has to be."""

from __future__ import annotations

from neve.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Consistency:
    """Strong where `bounded_s` is None; else state confirmed no more than that many seconds ago may answer."""

    bounded_s: float | None = None


STRONG = Consistency()
AS_KNOWN = Consistency(float("inf"))
