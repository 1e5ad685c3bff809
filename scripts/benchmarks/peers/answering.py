"""An engine under measurement, in a process of its own that takes JSON lines and answers each with one.

Runs in the engine's environment, so it needs numpy and pyarrow alone. {"do": METHOD, ARGUMENT: …} calls a method of
the engine below. Times are taken here, without the lines' own cost.
"""

from __future__ import annotations

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

COLUMNS = ("key", "metadata", "vector")
BATCH_ROWS = 10_000


class Engine(ABC):
    """What every engine can be told to do. A place is {"uri": …, "endpoint": … or ""}; credentials are AWS_*."""

    version: str

    @abstractmethod
    def build(self, rows: str, place: Mapping[str, str], how: str, non_filterable: Sequence[str]) -> None:
        """Store and index the COLUMNS of a Parquet file; metadata is JSON. `how` is one of the engine's own ways."""

    @abstractmethod
    def connect(self, place: Mapping[str, str]) -> None:
        """Begin anew with empty caches, as far as a process goes before its first query."""

    @abstractmethod
    def open(self) -> None:
        """What comes before a first query."""

    @abstractmethod
    def search(self, query: np.ndarray, k: int, **settings: Any) -> Sequence[str]:
        """Keys of the nearest k, nearest first; their distances and metadata have been read, too."""

    def ask(self, queries: str, numbers: Sequence[int], k: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Search one query after the other: keys and seconds of each."""
        keys, seconds = [], []
        for query in loaded(queries)[numbers]:
            begun = time.perf_counter()
            found = self.search(query, k, **settings)
            seconds.append(time.perf_counter() - begun)
            keys.append(list(found))
        return {"keys": keys, "seconds": seconds}

    def ask_cold(
        self, queries: str, number: int, k: int, settings: Mapping[str, Any], place: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Open and search once: keys and seconds of both together, and of connecting if a place is given."""
        query = loaded(queries)[number]
        begun = time.perf_counter()
        if place is not None:
            self.connect(place)
        self.open()
        found = self.search(query, k, **settings)
        return {"keys": list(found), "seconds": time.perf_counter() - begun}

    def ask_again(self, queries: str, number: int, k: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Search once with what is open: keys and seconds."""
        told = self.ask(queries, [number], k, settings)
        return {name: each[0] for name, each in told.items()}


@cache
def loaded(path: str) -> np.ndarray:
    return np.load(path)


def answer(make: Callable[[], Engine]) -> None:
    """Answer lines until they end, on so many cores as the first argument says."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])  # before the engine counts them
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints is no answer
    engine = make()
    print(json.dumps({"pid": os.getpid(), "version": engine.version}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        told = getattr(engine, asked.pop("do"))(**asked)
        print(json.dumps(told), file=answers, flush=True)
