"""One engine on one set, as it stands beside the others: what the suites peers and growth have in common.

Every engine's nprobes, refine factor or recall target is tuned to the same recall, for each query origin by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scripts.benchmarks.builds import CORES, IMPORT_MEMORY, Build, built
from scripts.benchmarks.datasets import Dataset
from scripts.benchmarks.engines import IMPORTED, INFINO, LANCEDB, LANCEDB_PQ, Engine, Session, available
from scripts.benchmarks.far_store import Asked, FarStore
from scripts.benchmarks.figure import Figure, Param, Target
from scripts.benchmarks.near_store import NearStore
from scripts.benchmarks.search_cold import Cold
from scripts.benchmarks.search_warm import BOUNDED, Asking, K, Settings, asking, settings_grid, timed, tuned
from scripts.benchmarks.stand import Stand

from neve.store.prices import GB_MONTH

ALL = (IMPORTED, LANCEDB, LANCEDB_PQ, INFINO)
COLD_WAYS = ("new process", "new handle", "second query")
MILLION = 1_000_000

# The names of figures that ratios are made of.
BUILD = "import + index ready from Parquet"
BUILD_MEMORY = "peak anonymous memory of the build"
WARM = "warm p50, one thread"
COLD = "cold p50"
WAVES = "waves"
REQUESTS = "requests"
MEGABYTES = "bytes"
RECALL = "recall@10"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many queries make a figure; `sweep` are the cold ones of one setting."""

    warm: int
    recall: int
    cold: int
    cold_peer: int
    sweep: int


@dataclass(frozen=True, slots=True)
class Side:
    """An engine on a set, and what its figures are to reach, by their names."""

    suite: str
    engine: Engine
    dataset: Dataset
    targets: Mapping[str, Target] = field(default_factory=dict)

    def figure(self, name: str, value: float, unit: str = "", **params: Param) -> Figure:
        rows, dimension = self.dataset.corpus.vectors.shape
        where: dict[str, Param] = {"set": self.dataset.name, "rows": rows, "dimension": dimension}
        return Figure(self.suite, name, value, unit, where | params, self.engine.name, self.targets.get(name))

    def with_targets(self, targets: Mapping[str, Target]) -> Side:
        """Targets are ours alone."""
        return replace(self, targets=targets if self.engine.ours else {})


def engines(stand: Stand, some: Sequence[Engine] = ALL) -> list[Engine]:
    """Those that are asked for and start here."""
    return available([engine for engine in some if not stand.engines or engine.option in stand.engines])


def ready(sides: Sequence[Side]) -> Iterator[Side]:
    """Those whose index is built, now or earlier; of the others it is said that they are not measured."""
    for side in sides:
        try:
            built(side.engine, side.dataset)
        except RuntimeError as error:
            print(f"NOT MEASURED: {side.engine.name} on {side.dataset.name}: {error}", file=sys.stderr)
        else:
            yield side


def build_figures(side: Side) -> list[Figure]:
    """What an index takes to build, from Parquet, and to keep."""
    build: Build = built(side.engine, side.dataset)[1]
    rows = len(side.dataset.corpus.keys)
    params: dict[str, Param] = {"cores": CORES, "built": build.at}
    if side.engine.ours:
        params["memory"] = IMPORT_MEMORY
    month = build.size_bytes / rows * MILLION / 1e9 * GB_MONTH
    return [
        side.figure(BUILD, build.seconds, "s", **params),
        side.figure("import rate", rows / build.seconds, "vectors/s", **params),
        side.figure(BUILD_MEMORY, build.peak_bytes / 2**30, "GiB", **params),
        side.figure("stored per vector", build.size_bytes / rows, "bytes", **params),
        side.figure("stored / (float32 + metadata)", build.size_bytes / side.dataset.size_bytes, "×", **params),
        side.figure("a month of a million vectors", month, "$", **params),
    ]


def best(side: Side, origins: Sequence[str]) -> dict[str, Settings]:
    """The settings that reach the common recall for each origin's queries at k = 10."""
    with asking(side.engine, side.dataset, 1) as asked:
        return {origin: tuned(asked, origin).settings for origin in origins}


def warm_figures(side: Side, settings: Mapping[str, Settings], counts: Counts) -> list[Figure]:
    """Times of a warm process on a folder, one query after the other, and recall at k = 10 and 100, by origin.

    Peers do not look for news; neither do we here, for as long as queries may be behind by an hour.
    """
    figures = []
    relaxed = {"consistency": BOUNDED} if side.engine.ours else {}
    with asking(side.engine, side.dataset, 1) as asked:
        for origin, chosen in settings.items():
            here = {**chosen, **relaxed}
            params: dict[str, Param] = {"origin": origin, **here}
            numbers = side.dataset.by_origin(origin, counts.recall)
            answers = timed(asked.with_settings(here), numbers, counts.warm)
            hundred = Asking(asked.session, side.dataset, 10 * K, here).ask(numbers)
            figures += [
                side.figure(WARM, answers.p50_ms, "ms", **params),
                side.figure(RECALL, answers.recall, **params),
                side.figure("recall@100", hundred.recall, **params),
                side.figure("warm p50 at k = 100", hundred.p50_ms, "ms", **params),
            ]
    return figures


@dataclass(frozen=True, slots=True)
class Round:
    """One query on a far store: how long it took, what it found and what was asked for it."""

    number: int
    seconds: float
    keys: Sequence[str]
    asked: Asked


def cold_figures(
    side: Side, near: NearStore, far: FarStore, origin: str, settings: Settings, counts: Counts
) -> list[Figure]:
    """The first query of a new process and of a new handle, and the second one of a handle, behind a far store.

    A new process counts from connecting on, a handle from opening the table. Each process gives one of each.
    """
    near.take(side.dataset, side.engine)
    cold = Cold(side.engine, side.dataset, far, settings)
    every = side.dataset.by_origin(origin)
    count = counts.cold if side.engine.ours else counts.cold_peer
    rounds = [_process(cold, number, every[(place + 1) % len(every)]) for place, number in enumerate(every[:count])]
    figures = []
    for way, told in zip(COLD_WAYS, zip(*rounds, strict=True), strict=True):
        params: dict[str, Param] = {"origin": origin, "way": way, **settings, "queries": len(told)}
        figures += _far_figures(side if way == "new handle" else side.with_targets({}), told, params)
    return figures


def _process(cold: Cold, number: int, second: int) -> tuple[Round, Round, Round]:
    """What a process asks, in the order of COLD_WAYS."""
    with Session(cold.engine, CORES, cold.engine.far) as session:
        first = _round(cold, session, number, "ask_cold", place=cold.place)
        session.call("connect", place=cold.place)
        return first, _round(cold, session, number, "ask_cold"), _round(cold, session, second, "ask_again")


def _round(cold: Cold, session: Session, number: int, do: str, **more: object) -> Round:
    cold.far.taken_log()
    asked = {"queries": str(cold.dataset.queries), "number": number, "k": K, "settings": dict(cold.settings)}
    told = session.call(do, **asked, **more)
    return Round(number, told["seconds"], told["keys"], Asked.of(cold.far.taken_log()))


def _far_figures(side: Side, rounds: Sequence[Round], params: Mapping[str, Param]) -> list[Figure]:
    """Medians of some queries."""
    asked = [one.asked for one in rounds]
    recalls = side.dataset.recalls([one.number for one in rounds], K, [one.keys for one in rounds])
    return [
        side.figure(COLD, float(np.median([one.seconds for one in rounds])) * 1000, "ms", **params),
        side.figure(WAVES, float(np.median([one.waves for one in asked])), **params),
        side.figure(REQUESTS, float(np.median([one.requests for one in asked])), **params),
        side.figure(MEGABYTES, float(np.median([one.size_bytes for one in asked])) / 1e6, "MB", **params),
        side.figure("a million queries", float(np.mean([one.dollars for one in asked])) * MILLION, "$", **params),
        side.figure("recall of these", float(recalls.mean()), **params),
    ]


def sweep_figures(side: Side, near: NearStore, far: FarStore, origin: str, counts: Counts) -> list[Figure]:
    """Recall against latency and bytes: an engine with one setting after the other.

    Recall and warm times of many queries, requests and bytes of a few, each by a new handle.
    """
    near.take(side.dataset, side.engine)
    numbers = side.dataset.by_origin(origin, counts.recall)
    figures = []
    with asking(side.engine, side.dataset, 1) as asked, Session(side.engine, CORES, side.engine.far) as session:
        for settings in _sweep(asked):
            relaxed = {"consistency": BOUNDED} if side.engine.ours else {}
            answers = timed(asked.with_settings({**settings, **relaxed}), numbers, counts.recall)
            cold = Cold(side.engine, side.dataset, far, settings)
            rounds = []
            for number in numbers[: counts.sweep]:
                session.call("connect", place=cold.place)
                rounds.append(_round(cold, session, number, "ask_cold"))
            told = ", ".join(f"{name} {value}" for name, value in settings.items())
            params: dict[str, Param] = {"origin": origin, "sweep": told or "as it is", "queries": len(rounds)}
            bare = side.with_targets({})
            figures += [
                bare.figure(RECALL, answers.recall, **params),
                bare.figure(WARM, answers.p50_ms, "ms", **params),
                *(one for one in _far_figures(bare, rounds, params) if one.figure in (COLD, REQUESTS, MEGABYTES)),
            ]
    return figures


def _sweep(asked: Asking) -> list[Settings]:
    """A curve's settings: those of the refine factor, where there are several, in the middle of them."""
    groups = settings_grid(asked)
    return groups[len(groups) // 2] if groups else [{}]
