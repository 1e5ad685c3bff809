"""What a query takes by where the index is: in the store alone, on the local disk too, or in memory.

The store has S3's delays (delay_proxy). Cold and on disk, each query is the first of a new handle of a process that is
up; in memory, one handle that has loaded the index answers them all, looking for news (strong) or not (bounded).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scripts.benchmarks.builds import INDEX
from scripts.benchmarks.datasets import Dataset, datasets
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.engines import IMPORTED, Session
from scripts.benchmarks.far_store import Asked, far_store
from scripts.benchmarks.figure import Figure, Param, percentiles
from scripts.benchmarks.near_store import near_store
from scripts.benchmarks.search_cold import CORES, QUERIES_PER_PROCESS, Cold
from scripts.benchmarks.search_warm import BOUNDED, K, Settings
from scripts.benchmarks.stand import Stand
from tests.servers.object_store import ObjectStore

SUITE = "tiers"
COLD, ON_DISK, IN_MEMORY, NO_NEWS = "cold", "on disk", "in memory", "in memory, bounded"
TIERS = (COLD, ON_DISK, IN_MEMORY, NO_NEWS)
LATENCY = "query"
QUERIES, QUERIES_QUICK = 200, 8


@dataclass(frozen=True, slots=True)
class Answered:
    """What some queries took, asked of the store, and found."""

    seconds: list[float] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    keys: list[Sequence[str]] = field(default_factory=list)

    def ask(self, cold: Cold, session: Session, how: str, number: int, settings: Settings) -> None:
        """Ask one query, by `ask_cold` or `ask_again`, and enter it."""
        cold.far.taken_log()
        query = {"queries": str(cold.dataset.queries), "number": number, "k": K}
        told = session.call(how, settings=dict(settings), **query)
        self.asked.append(Asked.of(cold.far.taken_log()))
        self.seconds.append(told["seconds"])
        self.keys.append(told["keys"])


def run(stand: Stand) -> list[Figure]:
    """Figures of queries of the prose set, of another one in a hurry. Raises Unavailable."""
    dataset = datasets(stand.data, stand.quick)[-1]
    numbers = dataset.by_origin(dataset.corpus.origins[0], QUERIES_QUICK if stand.quick else QUERIES)
    figures = []
    with near_store(stand) as near, far_store(near.store, Far()) as far:
        near.take(dataset, IMPORTED)
        cold = Cold(IMPORTED, dataset, far)
        disk = stand.empty_folder()
        fill(disk, near.store, cold)
        figures += tier_figures(COLD, dataset, numbers, first_queries(cold, numbers, {}))
        figures += tier_figures(ON_DISK, dataset, numbers, first_queries(cold, numbers, {"disk": str(disk)}))
        with Session(IMPORTED, CORES) as session:
            session.call("hold", place=cold.place)
            for tier, settings in ((IN_MEMORY, {}), (NO_NEWS, {"consistency": BOUNDED})):
                figures += tier_figures(tier, dataset, numbers, held_queries(session, cold, numbers, settings))
    return figures


def fill(disk: Path, near: ObjectStore, cold: Cold) -> None:
    """Load an index into a folder for blocks, from the store as it is near."""
    store = f"{cold.place['uri']}?endpoint={near.endpoint}"
    command = [sys.executable, "-m", "neve", "warm", INDEX, "--store", store, "--disk", str(disk)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def first_queries(cold: Cold, numbers: Sequence[int], tiers: Mapping[str, str]) -> Answered:
    """Each query the first of a new handle; few to a process, so that no process gets used to them."""
    answered = Answered()
    for start in range(0, len(numbers), QUERIES_PER_PROCESS):
        with Session(IMPORTED, CORES) as session:
            for number in numbers[start : start + QUERIES_PER_PROCESS]:
                session.call("connect", place={**cold.place, **tiers})
                answered.ask(cold, session, "ask_cold", number, {})
    return answered


def held_queries(session: Session, cold: Cold, numbers: Sequence[int], settings: Settings) -> Answered:
    """Each query of a handle that has the index in memory; a first round is not counted."""
    for answered in (Answered(), Answered()):
        for number in numbers:
            answered.ask(cold, session, "ask_again", number, settings)
    return answered


def tier_figures(tier: str, dataset: Dataset, numbers: Sequence[int], answered: Answered) -> list[Figure]:
    params: dict[str, Param] = {"set": dataset.name, "rows": len(dataset.corpus.keys), "tier": tier, "k": K}
    params |= {"cores": CORES, "queries": len(numbers)}
    asked = answered.asked
    recall = float(dataset.recalls(numbers, K, answered.keys).mean())
    return [
        *percentiles(SUITE, LATENCY, answered.seconds, params),
        Figure(SUITE, "waves, median", float(np.median([one.waves for one in asked])), "", params),
        Figure(SUITE, "requests, median", float(np.median([one.requests for one in asked])), "", params),
        Figure(SUITE, "read, median", float(np.median([one.size_bytes for one in asked])) / 1e6, "MB", params),
        Figure(SUITE, "a million queries", float(np.mean([one.dollars for one in asked])) * 1e6, "dollars", params),
        Figure(SUITE, "recall", recall, "", params),
    ]
