"""Searching the prose and Debian sets: recall by query origin, warm and cold, beside LanceDB and infino in one run.

Cold is a store with S3's delays (delay_proxy) and a process that is up, whose caches are empty; metadata is returned.
Warm is a process of its own on a folder, one after the other. Indexes are built once and kept (builds).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from scripts.benchmarks.builds import built, uri
from scripts.benchmarks.datasets import Dataset, datasets
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.engines import INFINO, LANCEDB, NEVE, Engine, available
from scripts.benchmarks.far_store import FarStore, far_store
from scripts.benchmarks.figure import Figure, Param, Target
from scripts.benchmarks.near_store import near_store
from scripts.benchmarks.search_cold import Cold, cold_figures, get_figures, page_figures
from scripts.benchmarks.search_http import http_figures, proxy_figures
from scripts.benchmarks.search_warm import (
    BOUNDED,
    EQUAL_RECALL,
    Answers,
    Asking,
    K,
    asking,
    recall_figures,
    timed,
    tuned,
    warm_figures,
)
from scripts.benchmarks.stand import Stand
from tests.servers.tools import Unavailable

SUITE = "search"
TUNED = f"{BOUNDED}, tuned"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many queries make a figure."""

    warm_member: int
    warm_other: int
    cold: int
    cold_peer: int
    gets: int
    pages: int


FULL = Counts(warm_member=1_000, warm_other=200, cold=200, cold_peer=6, gets=50, pages=20)
QUICK = Counts(warm_member=100, warm_other=20, cold=8, cold_peer=1, gets=4, pages=2)
RECALL_SLACK = 0.005
"""A peer is tuned on some of the queries; on all of them it may come out so much lower, and still be compared with."""


def run(stand: Stand) -> list[Figure]:
    counts = QUICK if stand.quick else FULL
    peers = available([LANCEDB] if stand.quick else [LANCEDB, INFINO])
    sets = datasets(stand.data, stand.quick)
    figures: list[Figure] = []
    for dataset in sets:
        for engine in (NEVE, *peers):
            figures += built(engine, dataset)[1].figures(SUITE, engine, dataset)
        figures += warm(dataset, peers, counts, stand.quick)
    try:
        with near_store(stand) as near, far_store(near.store, Far()) as far:
            figures += proxy_figures(SUITE, near.store)
            for dataset in sets:
                for engine in (NEVE, *peers):
                    near.take(dataset, engine)
                figures += cold(dataset, peers, far, counts)
    except Unavailable as error:
        print(f"NOT MEASURED: a far store: {error}", file=sys.stderr)
    return figures


def warm(dataset: Dataset, peers: Sequence[Engine], counts: Counts, quick: bool) -> list[Figure]:
    """Our own recall at k = 10 and 100; times of all, and how many times faster than the faster peer we are.

    Peers do not look for news: beside our default, a strong query, stands a bounded one, which does not either, and a
    bounded one tuned to the recall that peers are tuned to.
    """
    figures: list[Figure] = []
    own: dict[tuple[str, str], Answers] = {}
    with asking(NEVE, dataset, 1) as ours:
        for k in (K, 10 * K):
            figures += recall_figures(SUITE, Asking(ours.session, dataset, k), quick)
        for how, origin in product(("strong", BOUNDED, TUNED), dataset.origins):
            asked = ours.with_settings({"consistency": BOUNDED if how == TUNED else how})
            asked = tuned(asked, origin) if how == TUNED else asked
            answers = own[how, origin] = timed(asked, *_rounds(dataset, origin, counts))
            target_ms = 1.5 if dataset.name == "prose" and origin == "member" else None
            figures += warm_figures(SUITE, asked, origin, answers, 1, target_ms)
    fastest_ms: dict[str, float] = {}
    for peer, cores in product(peers, (1, 2)):
        with asking(peer, dataset, cores) as theirs:
            for origin in dataset.origins:
                best = tuned(theirs, origin)
                answers = timed(best, *_rounds(dataset, origin, counts))
                figures += warm_figures(SUITE, best, origin, answers, cores, None)
                if answers.recall >= EQUAL_RECALL - RECALL_SLACK:
                    fastest_ms[origin] = min(fastest_ms.get(origin, answers.p50_ms), answers.p50_ms)
    return figures + _warm_ratios(dataset, own, fastest_ms)


def _warm_ratios(
    dataset: Dataset, own: Mapping[tuple[str, str], Answers], fastest_ms: Mapping[str, float]
) -> list[Figure]:
    """Against the faster peer at equal recall, with whichever number of cores is its best."""
    figures = []
    for (how, origin), answers in own.items():
        if origin in fastest_ms:
            params: dict[str, Param] = {"set": dataset.name, "origin": origin, "k": K, "ours": how}
            wanted = dataset.name == "prose" and origin == "member"
            target = Target(5.0, at_least=True) if wanted else None
            ratio = fastest_ms[origin] / answers.p50_ms
            figures.append(Figure(SUITE, "warm p50, the faster peer's / ours", ratio, "×", params, target=target))
    return figures


def _rounds(dataset: Dataset, origin: str, counts: Counts) -> tuple[list[int], int]:
    """Which queries of an origin are timed, and how many searches are made of them."""
    first = origin == dataset.corpus.origins[0]
    count = counts.warm_member if first else counts.warm_other
    return dataset.by_origin(origin, count), count


def cold(dataset: Dataset, peers: Sequence[Engine], far: FarStore, counts: Counts) -> list[Figure]:
    """First queries, fetches, pages and HTTP on the far store."""
    ours = Cold(NEVE, dataset, far)
    figures = [figure for origin in dataset.origins for figure in cold_figures(SUITE, ours, origin, counts.cold)]
    figures += get_figures(SUITE, ours, counts.gets)
    local = uri(NEVE, built(NEVE, dataset)[0])
    for k, target_ms in ((1_000, None), (10_000, 150.0 if dataset.name == "prose" else None)):
        figures += page_figures(SUITE, ours, local, k, counts.pages, target_ms)
    figures += http_figures(SUITE, ours, counts.cold)
    for peer in peers:
        origin = dataset.corpus.origins[0]
        with asking(peer, dataset, 1) as theirs:
            settings = tuned(theirs, origin).settings
        figures += cold_figures(SUITE, Cold(peer, dataset, far, settings), origin, counts.cold_peer)
    return figures
