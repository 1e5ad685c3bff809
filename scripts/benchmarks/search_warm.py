"""Warm searches in a process of their own: recall by query origin, and how long they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Self, TypeVar

import numpy as np
from scripts.benchmarks.builds import built, uri
from scripts.benchmarks.datasets import Dataset
from scripts.benchmarks.engines import Engine, Session
from scripts.benchmarks.figure import Figure, Param, Target
from scripts.benchmarks.peers.lancedb_settings import ROWS_PER_LIST

K = 10
EQUAL_RECALL = 0.98
LISTS_SHARES = (0.06, 0.12, 0.2, 0.3, 0.45, 0.7, 1.0)
REFINES = {"IVF_RQ": (1, 2, 3), "IVF_PQ": (3, 6, 12, 25)}
TUNING_QUERIES = 80
TARGETS = (0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99)

BOUNDED = "bounded;seconds=3600"

Settings = Mapping[str, Param]


@dataclass(frozen=True, slots=True)
class Answers:
    """What some queries were answered with."""

    seconds: Sequence[float]
    recalls: np.ndarray

    @property
    def p50_ms(self) -> float:
        return float(np.median(self.seconds)) * 1000

    @property
    def recall(self) -> float:
        return float(self.recalls.mean())


@dataclass(frozen=True, slots=True)
class Asking:
    """A session that has opened its index of a set, and how it is asked for the k nearest."""

    session: Session
    dataset: Dataset
    k: int = K
    settings: Settings = field(default_factory=dict)

    def ask(self, numbers: Sequence[int]) -> Answers:
        asked = {"queries": str(self.dataset.queries), "numbers": list(numbers), "k": self.k}
        told = self.session.call("ask", settings=dict(self.settings), **asked)
        return Answers(told["seconds"], self.dataset.recalls(numbers, self.k, told["keys"]))

    def with_settings(self, settings: Settings) -> Self:
        return replace(self, settings=settings)


A = TypeVar("A", bound=Asking)


@contextmanager
def asking(engine: Engine, dataset: Dataset, cores: int) -> Iterator[Asking]:
    """A process that has opened the index of a folder."""
    folder, _ = built(engine, dataset)
    with Session(engine, cores) as session:
        session.call("connect", place={"uri": uri(engine, folder), "endpoint": ""})
        session.call("open")
        yield Asking(session, dataset)


def recall_figures(suite: str, asking: Asking, quick: bool) -> list[Figure]:
    """Recall with default settings: of every origin by itself, and of all queries together."""
    dataset, figures, together = asking.dataset, [], []
    for origin in dataset.origins:
        recalls = asking.ask(dataset.by_origin(origin, 50 if quick else None)).recalls
        together.append(recalls)
        figures += _recall(suite, asking, origin, recalls, 0.975)
    return figures + _recall(suite, asking, "all", np.concatenate(together), 0.98)


def _recall(suite: str, asking: Asking, origin: str, recalls: np.ndarray, mean: float) -> list[Figure]:
    params = {"set": asking.dataset.name, "origin": origin, "k": asking.k, "queries": len(recalls)}
    name = asking.session.engine.name
    low = float(np.percentile(recalls, 5))
    return [
        Figure(suite, "recall, mean", float(recalls.mean()), "", params, name, Target(mean, at_least=True)),
        Figure(suite, "recall, 5th percentile", low, "", params, name, Target(0.8, at_least=True)),
    ]


def settings_grid(asking: Asking) -> list[list[Settings]]:
    """Settings to choose from, in groups that each go from low recall to high."""
    engine = asking.session.engine
    if engine.peer == "lancedb":
        lists = max(1, len(asking.dataset.corpus.keys) // ROWS_PER_LIST)
        probes = sorted({max(1, round(lists * share)) for share in LISTS_SHARES})
        refines = REFINES[engine.how.partition("-")[0]]
        return [[{"nprobes": count, "refine": refine} for count in probes] for refine in refines]
    return [[{"recall": target} for target in TARGETS]] if engine.ours else []


def tuned(asking: Asking, origin: str) -> Asking:
    """The fastest settings at EQUAL_RECALL for the queries of one origin, else those of the best recall.

    Of LanceDB nprobes and the refine factor, of ours the recall target; infino has none. All are tuned to each origin
    by itself, which no application could do.
    """
    return tuned_by(asking, asking.dataset.by_origin(origin, TUNING_QUERIES), settings_grid(asking))


def tuned_by(asking: A, numbers: Sequence[int], grid: Sequence[Sequence[Settings]]) -> A:
    """The fastest settings of a grid at EQUAL_RECALL for some queries, else those of the best recall."""
    tried = []
    for group in grid:
        for settings in group:
            candidate = asking.with_settings({**asking.settings, **settings})
            answers = candidate.ask(numbers)
            tried.append((answers, candidate))
            if answers.recall >= EQUAL_RECALL:
                break
    if not tried:
        return asking
    return min(tried, key=lambda one: (max(0.0, EQUAL_RECALL - one[0].recall), one[0].p50_ms))[1]


def timed(asking: Asking, numbers: Sequence[int], count: int) -> Answers:
    """At least `count` searches, the queries in turn; a first round of them all is not counted."""
    asking.ask(numbers)
    return asking.ask(list(islice(cycle(numbers), max(count, len(numbers)))))


def warm_figures(
    suite: str, asking: Asking, origin: str, answers: Answers, cores: int, target_ms: float | None
) -> list[Figure]:
    params: dict[str, Param] = {"set": asking.dataset.name, "origin": origin, "k": asking.k, "cores": cores}
    params |= {**asking.settings, "queries": len(answers.seconds)}
    name = asking.session.engine.name
    own = [Figure(suite, "warm p50", answers.p50_ms, "ms", params, name, Target(target_ms) if target_ms else None)]
    if len(answers.seconds) >= 1_000:
        p99 = float(np.percentile(answers.seconds, 99)) * 1000
        own.append(Figure(suite, "warm p99", p99, "ms", params, name))
    equal = Target(EQUAL_RECALL, at_least=True) if asking.session.engine.ours else None
    return [*own, Figure(suite, "recall", answers.recall, "", params, name, equal)]
