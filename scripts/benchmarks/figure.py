"""Figures: what a measurement comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Param = str | int | float


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach."""

    limit: float
    at_least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:,g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, measured in this run; `params` are what it depends on."""

    suite: str
    figure: str
    value: float
    unit: str
    params: Mapping[str, Param] = field(default_factory=dict)
    engine: str = "neve"
    target: Target | None = None


def percentiles(suite: str, figure: str, seconds: Sequence[float], params: Mapping[str, Param]) -> list[Figure]:
    """p50 and p99 of some durations, in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return [
        Figure(suite, f"{figure} p50", float(p50), "ms", params),
        Figure(suite, f"{figure} p99", float(p99), "ms", params),
    ]
