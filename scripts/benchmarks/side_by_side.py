"""Ourselves and our peers on the prose set, side by side in one run: LanceDB by two indexes, and infino."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scripts.benchmarks.datasets import Dataset, real
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.far_store import far_store
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.near_store import near_store
from scripts.benchmarks.sides import (
    Counts,
    Side,
    best,
    build_figures,
    cold_figures,
    engines,
    ready,
    sweep_figures,
    warm_figures,
)
from scripts.benchmarks.stand import Stand

SUITE = "peers"
FULL = Counts(warm=1_000, recall=200, cold=20, cold_peer=6, sweep=3)
QUICK = Counts(warm=40, recall=20, cold=2, cold_peer=1, sweep=1)


def counts(stand: Stand) -> Counts:
    return QUICK if stand.quick else FULL


def dataset(stand: Stand) -> Dataset:
    """The prose set; in a hurry the Debian set; the sample of WordNet where there are none."""
    return real(stand.data, "debian" if stand.quick else "prose")


def sides(stand: Stand) -> list[Side]:
    """Of the engines whose index is built, now or earlier."""
    rows = dataset(stand)
    return list(ready([Side(SUITE, engine, rows) for engine in engines(stand)]))


def build(stand: Stand) -> list[Figure]:
    return [figure for side in sides(stand) for figure in build_figures(side)]


def warm(stand: Stand) -> list[Figure]:
    return [
        figure
        for side in sides(stand)
        for figure in warm_figures(side, best(side, side.dataset.origins), counts(stand))
    ]


def cold(stand: Stand) -> list[Figure]:
    """Of the set's own kind of queries; of ours also those of the other kinds."""
    figures = []
    with near_store(stand) as near, far_store(near.store, Far()) as far:
        for side in sides(stand):
            origins = side.dataset.origins if side.engine.ours else side.dataset.origins[:1]
            for origin, settings in best(side, origins).items():
                figures += cold_figures(side, near, far, origin, settings, counts(stand))
    return figures


def sweep(stand: Stand) -> list[Figure]:
    figures = []
    with near_store(stand) as near, far_store(near.store, Far()) as far:
        for side in sides(stand):
            figures += sweep_figures(side, near, far, side.dataset.origins[0], counts(stand))
    return figures


PIECES: Mapping[str, Callable[[Stand], list[Figure]]] = {"build": build, "warm": warm, "cold": cold, "sweep": sweep}


def run(stand: Stand) -> list[Figure]:
    """Raises Unavailable where there is no far store."""
    return [figure for piece in PIECES.values() for figure in piece(stand)]
