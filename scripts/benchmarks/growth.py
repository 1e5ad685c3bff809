"""How time, requests, bytes and memory grow with the number of rows: synthetic sets, all engines at equal recall."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial

from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.engines import IMPORTED
from scripts.benchmarks.far_store import far_store
from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.near_store import near_store
from scripts.benchmarks.sides import (
    ALL,
    BUILD_MEMORY,
    COLD,
    MEGABYTES,
    RECALL,
    REQUESTS,
    WARM,
    WAVES,
    Counts,
    Side,
    best,
    build_figures,
    cold_figures,
    engines,
    ready,
    warm_figures,
)
from scripts.benchmarks.stand import Stand
from scripts.benchmarks.synthetic import synthetic

SUITE = "growth"
FULL = Counts(warm=1_000, recall=200, cold=20, cold_peer=3, sweep=0)
QUICK = Counts(warm=40, recall=20, cold=2, cold_peer=1, sweep=0)
LARGEST = "5m"
SIZES = {
    "100k": (100_000, 768),
    "300k": (300_000, 768),
    "500k": (500_000, 768),
    "1m": (1_000_000, 768),
    LARGEST: (5_000_000, 384),
}
"""Rows and dimensions."""
QUICK_SIZES = {
    "100k": (15_000, 768),
    "300k": (20_000, 768),
    "500k": (25_000, 768),
    "1m": (30_000, 768),
    LARGEST: (40_000, 384),
}
COMPARED = ("100k", "300k", "500k", "1m")
"""Where the others are measured, too."""
TARGETS = {
    COLD: Target(330.0),
    WAVES: Target(3.0),
    REQUESTS: Target(90.0),
    MEGABYTES: Target(16.0),
    WARM: Target(2.5),
    RECALL: Target(0.98, at_least=True),
    BUILD_MEMORY: Target(1.5),
}
"""Those of a million rows."""


def measure(stand: Stand, size: str) -> list[Figure]:
    """Build, warm and cold figures of every engine on one set; cold and warm ones of its own kind of queries."""
    rows, dimension = (QUICK_SIZES if stand.quick else SIZES)[size]
    dataset = synthetic(stand.data, rows, dimension)
    origin = dataset.origins[0]
    some = engines(stand, ALL if size in COMPARED else (IMPORTED,))
    sides = [Side(SUITE, engine, dataset).with_targets(TARGETS if size == "1m" else {}) for engine in some]
    counts = QUICK if stand.quick else FULL
    figures = []
    with near_store(stand) as near, far_store(near.store, Far()) as far:
        for side in ready(sides):
            settings = best(side, [origin])
            figures += build_figures(side)
            figures += warm_figures(side, settings, counts)
            figures += cold_figures(side, near, far, origin, settings[origin], counts)
    if stand.drop:
        shutil.rmtree(dataset.folder)
    return figures


PIECES: Mapping[str, Callable[[Stand], list[Figure]]] = {size: partial(measure, size=size) for size in SIZES}


def run(stand: Stand) -> list[Figure]:
    """All sizes but the largest, which is asked for by itself. Raises Unavailable where there is no far store."""
    return [figure for size, piece in PIECES.items() if size != LARGEST for figure in piece(stand)]
