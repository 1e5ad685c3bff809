"""Filters at any selectivity: recall, warm and cold times against the query without one, and beside LanceDB.

On the Debian and prose sets with their own filters, and on synthetic sets of 100,000 and a million rows whose filters
keep from half of the rows to one of ten thousand. Warm, filters are used again and again, the whole index is in
memory, and rounds of all filters follow one another, so that a busy machine slows all alike. Cold, each query is the
first of a new handle behind a store with S3's delays; a process asks with each filter once, so that it remembers none.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import urlsplit

import numpy as np
from scripts.benchmarks.builds import built, uri
from scripts.benchmarks.datasets import Dataset, real
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.engines import Session
from scripts.benchmarks.far_store import Asked, far_store
from scripts.benchmarks.figure import Figure, Param, Target
from scripts.benchmarks.filter_peers import ENGINES, FilteredAsking, tries
from scripts.benchmarks.filter_sets import KS, NO_FILTER, Filter, filtered, filters, mixed
from scripts.benchmarks.filter_sizes import sizes
from scripts.benchmarks.near_store import near_store
from scripts.benchmarks.search_cold import CORES, Cold
from scripts.benchmarks.search_warm import BOUNDED, Asking, K, Settings, asking
from scripts.benchmarks.sides import (
    COLD,
    MEGABYTES,
    MILLION,
    RECALL,
    REQUESTS,
    WARM,
    WAVES,
    Side,
    build_figures,
    engines,
    ready,
)
from scripts.benchmarks.stand import Stand

SUITE = "filter"
SIZES = {"100k": (100_000, 768), "1m": (1_000_000, 768)}
QUICK_SIZES = {"100k": (15_000, 768), "1m": (30_000, 768)}
FILTERS_OBJECT = "/filters"
ALL_ORIGINS = "all"
HITS = "fewest hits / min(k, matches)"
MORE_WAVES = "waves beyond unfiltered"
INDEX_READ = "filter index read, most"
FRESH = "its first query, warm p50"
MEAN, WORST = Target(0.98, at_least=True), Target(0.97, at_least=True)
TWICE, ONE_MORE, WHOLE, INDEX_MB = Target(2.0), Target(1.0), Target(1.0, at_least=True), Target(2.0)
INDEX_SHARE = Target(0.15)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many queries make a figure; `recall` are those of each origin, `warm` those of each of `rounds` rounds."""

    recall: int
    tuning: int
    warm: int
    rounds: int
    fresh: int
    cold: int
    cold_peer: int


FULL = Counts(recall=200, tuning=30, warm=60, rounds=5, fresh=20, cold=20, cold_peer=4)
QUICK = Counts(recall=7, tuning=6, warm=12, rounds=2, fresh=3, cold=2, cold_peer=1)


def measure(stand: Stand, dataset: Dataset) -> list[Figure]:
    """All figures of every engine on one set. Raises Unavailable where there is no far store."""
    counts = QUICK if stand.quick else FULL
    known = filters(dataset)
    figures: list[Figure] = []
    for side in ready([Side(SUITE, engine, dataset) for engine in engines(stand, ENGINES)]):
        figures += build_figures(side)
        if side.engine.ours:
            figures += size_figures(side)
            figures += recall_figures(side, known, counts)
        settings = best(side, known, counts)
        figures += warm_figures(side, known, settings, counts)
        figures += cold_figures(stand, side, known, settings, counts)
    return figures


def size_figures(side: Side) -> list[Figure]:
    """The filter index against the metadata that it covers: all of it, and that of each kind of keys."""
    share = "filter index / its metadata"
    found = sizes(built(side.engine, side.dataset)[0], side.dataset.corpus)
    metadata_bytes, index_bytes = (sum(getattr(one, name) for one in found) for name in ("metadata", "index"))
    return [
        side.with_targets({share: INDEX_SHARE}).figure(share, index_bytes / metadata_bytes, "×", kind="all"),
        *(side.figure(share, one.index / one.metadata, "×", kind=one.kind, keys=", ".join(one.keys)) for one in found),
    ]


def recall_figures(side: Side, known: Mapping[str, Filter], counts: Counts) -> list[Figure]:
    """Recall as it is without settings: of each filter over all origins and for each, then of all filters."""
    own = side.with_targets({"mean of the filters": MEAN, "worst filter": WORST})
    figures = []
    with asking(side.engine, side.dataset, 1) as asked:
        for k in KS:
            means = []
            for name, one in known.items():
                if name != NO_FILTER:
                    asker = FilteredAsking(asked.session, side.dataset, k, filter=one)
                    found = _recalls(side, asker, counts.recall)
                    figures += found
                    means.append(found[0].value)
            figures += [
                own.figure("mean of the filters", float(np.mean(means)), k=k, of="recall"),
                own.figure("worst filter", min(means), k=k, of="recall"),
            ]
    return figures


def _recalls(side: Side, asker: FilteredAsking, each: int) -> list[Figure]:
    """Of one filter, the recall over all origins first."""
    told = {origin: asker.ask(side.dataset.by_origin(origin, each)) for origin in side.dataset.origins}
    recalls = np.concatenate([answers.recalls for answers in told.values()])
    fewest = min(answers.fewest for answers in told.values())
    own = side.with_targets({"recall": wanted(asker.filter.matches), HITS: WHOLE})
    params = {**_told(asker.filter), "k": asker.k}
    together = {**params, "origin": ALL_ORIGINS, "queries": len(recalls)}
    return [
        own.figure("recall", float(recalls.mean()), **together),
        own.figure("recall, 5th percentile", float(np.percentile(recalls, 5)), **together),
        own.figure(HITS, fewest, **together),
        *(side.figure("recall", answers.recall, **params, origin=origin) for origin, answers in told.items()),
    ]


def wanted(matches: int) -> Target:
    """What the recall with a filter is to be that keeps so many rows."""
    if matches <= 1_000:
        return Target(1.0, at_least=True)
    return Target(0.995, at_least=True) if matches <= 10_000 else WORST


def best(side: Side, known: Mapping[str, Filter], counts: Counts) -> dict[str, Settings]:
    """Each filter's settings."""
    numbers = mixed(side.dataset)[: counts.tuning]
    with asking(side.engine, side.dataset, 1) as asked:
        return {
            name: FilteredAsking(asked.session, side.dataset, filter=one).best(numbers) for name, one in known.items()
        }


def warm_figures(
    side: Side, known: Mapping[str, Filter], settings: Mapping[str, Settings], counts: Counts
) -> list[Figure]:
    """Times of one thread on a folder; of ours those, too, of the first query with a filter that is not remembered."""
    relaxed = {"consistency": BOUNDED} if side.engine.ours else {}
    numbers = mixed(side.dataset)[: counts.warm]
    seconds: dict[str, list[float]] = {name: [] for name in known}
    fresh: dict[str, list[float]] = {name: [] for name in known if side.engine.ours and name != NO_FILTER}
    recalls = {}
    with _holding(side) as asked:
        askers = {
            name: FilteredAsking(asked.session, side.dataset, K, {**settings[name], **relaxed}, filter=one)
            for name, one in known.items()
        }
        for round_ in range(1 + counts.rounds):
            for name, asker in askers.items():
                answers = asker.ask(numbers)
                recalls[name] = answers.recall
                seconds[name] += answers.seconds if round_ else ()  # the first round warms up
        for place, number in enumerate(numbers[: counts.fresh], 1):
            for name, times in fresh.items():
                times += replace(askers[name], filter=known[name].again(place)).ask([number]).seconds
    figures = []
    for name, one in known.items():
        params = {**_told(one), **settings[name], **relaxed}
        figures.append(side.figure(RECALL, recalls[name], **params))
        figures += _against_none(side, WARM, seconds, name, params)
        if name in fresh:
            figures += _against_none(side, FRESH, {**seconds, name: fresh[name]}, name, params)
    return figures


@contextmanager
def _holding(side: Side) -> Iterator[Asking]:
    """A process of one thread with an index in memory."""
    with asking(side.engine, side.dataset, 1) as asked:
        if side.engine.ours:
            place = {"uri": uri(side.engine, built(side.engine, side.dataset)[0]), "endpoint": ""}
            asked.session.call("hold", place=place)
        yield asked


def _against_none(
    side: Side, name: str, seconds: Mapping[str, Sequence[float]], filter_: str, params: Mapping[str, Param]
) -> list[Figure]:
    """p50 with a filter, and against that without one."""
    p50, without = (float(np.median(seconds[one])) * 1000 for one in (filter_, NO_FILTER))
    figures = [side.figure(name, p50, "ms", **params)]
    if filter_ != NO_FILTER:
        own = side.with_targets({f"{one} / unfiltered": TWICE for one in (WARM, COLD)})
        figures.append(own.figure(f"{name} / unfiltered", p50 / without, "×", **params))
    return figures


@dataclass(frozen=True, slots=True)
class Round:
    """A first query of a handle; `index_bytes` of what it was answered with were filter index."""

    seconds: float
    recall: float
    asked: Asked
    index_bytes: int


@dataclass(frozen=True, slots=True)
class Try:
    """A filter, the settings that it is asked with, and what came of it."""

    filter: Filter
    settings: Settings
    rounds: list[Round] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [one.seconds for one in self.rounds]

    @property
    def p50_s(self) -> float:
        return float(np.median(self.seconds))


def cold_figures(
    stand: Stand, side: Side, known: Mapping[str, Filter], settings: Mapping[str, Settings], counts: Counts
) -> list[Figure]:
    """First queries of new handles behind a far store, and what they ask of it. Raises Unavailable.

    Of the settings of `tries`, where an engine has several, those are told of that were the fastest here.
    """
    numbers = mixed(side.dataset)[: counts.cold if side.engine.ours else counts.cold_peer]
    tried: list[Try] = [
        Try(one, some) for name, one in known.items() for some in tries(side.engine, one, settings[name])
    ]
    with near_store(stand) as near, far_store(near.store, Far()) as far:
        near.take(side.dataset, side.engine)
        cold = Cold(side.engine, side.dataset, far)
        for number in numbers:
            with Session(side.engine, CORES, side.engine.far) as session:
                _round(cold, session, tried[0], number)  # what a process does but once is not counted
                for one in tried:
                    one.rounds.append(_round(cold, session, one, number))
    tried.sort(key=lambda one: one.p50_s)
    fastest = {name: next(one for one in tried if one.filter.name == name) for name in known}
    seconds = {name: one.seconds for name, one in fastest.items()}
    figures = []
    for name, one in fastest.items():
        params = {**_told(one.filter), **one.settings, "queries": len(one.rounds)}
        figures += _against_none(side, COLD, seconds, name, params)
        figures += _asked(side, one.rounds, fastest[NO_FILTER].rounds, params)
    return figures


def _asked(side: Side, found: Sequence[Round], without: Sequence[Round], params: Mapping[str, Param]) -> list[Figure]:
    """Medians of what some queries ask of the store, and how much more that is than without a filter."""
    million = len(side.dataset.corpus.keys) >= MILLION
    own = side.with_targets({MORE_WAVES: ONE_MORE} | ({INDEX_READ: INDEX_MB} if million else {}))
    waves, waves_without = (float(np.median([one.asked.waves for one in some])) for some in (found, without))
    figures = [
        side.figure(WAVES, waves, **params),
        side.figure(REQUESTS, float(np.median([one.asked.requests for one in found])), **params),
        side.figure(MEGABYTES, float(np.median([one.asked.size_bytes for one in found])) / 1e6, "MB", **params),
        side.figure("recall of these", float(np.mean([one.recall for one in found])), **params),
    ]
    if found is not without:
        figures.append(own.figure(MORE_WAVES, waves - waves_without, **params))
        if side.engine.ours:
            figures.append(own.figure(INDEX_READ, max(one.index_bytes for one in found) / 1e6, "MB", **params))
    return figures


def _round(cold: Cold, session: Session, one: Try, number: int) -> Round:
    asker = FilteredAsking(session, cold.dataset, K, one.settings, filter=one.filter)
    session.call("connect", place=cold.place)
    cold.far.taken_log()
    asked = {"queries": str(cold.dataset.queries), "number": number, "k": K}
    told = session.call("ask_cold", settings=asker.told, **asked)
    log = cold.far.taken_log()
    of_index = sum(logged.size for logged in log if urlsplit(logged.target).path.endswith(FILTERS_OBJECT))
    recalls, _ = one.filter.judged([number], K, [told["keys"]])
    return Round(told["seconds"], float(recalls[0]), Asked.of(log), of_index)


def _told(one: Filter) -> dict[str, Param]:
    return {"filter": one.name, "matches": one.matches}


def of_real(stand: Stand, name: str) -> list[Figure]:
    return measure(stand, real(stand.data, name))


def of_synthetic(stand: Stand, size: str) -> list[Figure]:
    dataset = filtered(stand.data, *(QUICK_SIZES if stand.quick else SIZES)[size])
    figures = measure(stand, dataset)
    if stand.drop:
        shutil.rmtree(dataset.folder)
    return figures


PIECES: Mapping[str, Callable[[Stand], list[Figure]]] = {
    **{name: partial(of_real, name=name) for name in ("debian", "prose")},
    **{size: partial(of_synthetic, size=size) for size in SIZES},
}


def run(stand: Stand) -> list[Figure]:
    """Raises Unavailable where there is no far store."""
    return [figure for piece in PIECES.values() for figure in piece(stand)]
