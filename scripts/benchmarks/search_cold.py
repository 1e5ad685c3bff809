"""Searches and fetches from a store that is far away, with empty caches, and what they ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from obstore.store import S3Store
from scripts.benchmarks.datasets import Dataset
from scripts.benchmarks.engines import Engine, Session
from scripts.benchmarks.far_store import Asked, FarStore
from scripts.benchmarks.figure import Figure, Param, Target
from scripts.benchmarks.search_warm import K, Settings
from tests.servers.object_store import REGION, ObjectStore

CORES = 2
QUERIES_PER_PROCESS = 10


@dataclass(frozen=True, slots=True)
class Cold:
    """An engine's index of a set in a store far away."""

    engine: Engine
    dataset: Dataset
    far: FarStore
    settings: Settings = field(default_factory=dict)

    @property
    def place(self) -> dict[str, str]:
        uri = f"s3://{self.far.store.bucket}/{self.dataset.name}/{self.engine.folder}"
        return {"uri": uri, "endpoint": self.far.store.endpoint}


def s3(store: ObjectStore, prefix: str = "") -> S3Store:
    """A plain client of a store."""
    keys = {"access_key_id": store.user.access_key, "secret_access_key": store.user.secret_key}
    options = {"endpoint": store.endpoint, "region": REGION, "client_options": {"allow_http": True}}
    return S3Store(store.bucket, prefix=prefix or None, **keys, **options)


def cold_figures(suite: str, cold: Cold, origin: str, count: int) -> list[Figure]:
    """A first query of a process that is up: time, requests, bytes, waves, each of so many queries by itself."""
    numbers = cold.dataset.by_origin(origin, count)
    seconds: list[float] = []
    found: list[Sequence[str]] = []
    asked: list[Asked] = []
    for start in range(0, len(numbers), QUERIES_PER_PROCESS):
        with Session(cold.engine, CORES, cold.engine.far) as session:
            for number in numbers[start : start + QUERIES_PER_PROCESS]:
                session.call("connect", place=cold.place)
                cold.far.taken_log()
                query = {"queries": str(cold.dataset.queries), "number": number, "k": K}
                told = session.call("ask_cold", settings=dict(cold.settings), **query)
                asked.append(Asked.of(cold.far.taken_log()))
                seconds.append(told["seconds"])
                found.append(told["keys"])
    params: dict[str, Param] = {"set": cold.dataset.name, "origin": origin, "k": K, "store": "far", "cores": CORES}
    params |= {**dict(cold.engine.far), **cold.settings, "queries": len(numbers)}
    recall = float(cold.dataset.recalls(numbers, K, found).mean())
    return [
        *_cold_times(suite, cold, origin, seconds, params),
        *_cold_asked(suite, cold, origin, asked, params),
        Figure(suite, "recall", recall, "", params, cold.engine.name),
    ]


def _cold_times(
    suite: str, cold: Cold, origin: str, seconds: Sequence[float], params: dict[str, Param]
) -> list[Figure]:
    """The targets are those of the prose set; p99 is to be at most twice the median of its own row."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    wanted = cold.engine.ours and cold.dataset.name == "prose"
    limit = Target(300.0 if origin == "member" else 600.0) if wanted else None
    twice = Target(2.0) if wanted and origin == "member" else None
    name = cold.engine.name
    figures = [Figure(suite, "cold p50", float(p50), "ms", params, name, limit)]
    if len(seconds) >= 100:
        figures.append(Figure(suite, "cold p99", float(p99), "ms", params, name))
        figures.append(Figure(suite, "cold p99 / p50", float(p99 / p50), "×", params, name, twice))
    return figures


def _cold_asked(suite: str, cold: Cold, origin: str, asked: Sequence[Asked], params: dict[str, Param]) -> list[Figure]:
    name = cold.engine.name
    wanted = cold.engine.ours and cold.dataset.name == "prose"
    member = wanted and origin == "member"
    waves = [one.waves for one in asked]
    most = Target(3.0 if member else 4.0) if wanted else None
    requests = float(np.median([one.requests for one in asked]))
    megabytes = float(np.median([one.size_bytes for one in asked])) / 1e6
    return [
        Figure(suite, "cold waves, median", float(np.median(waves)), "", params, name, most),
        Figure(suite, "cold waves, most", max(waves), "", params, name, most),
        Figure(suite, "cold requests, median", requests, "", params, name, Target(90.0) if member else None),
        Figure(suite, "cold bytes, median", megabytes, "MB", params, name, Target(12.0) if member else None),
    ]


def get_figures(suite: str, cold: Cold, count: int) -> list[Figure]:
    """GetVectors of one key of a process that is up, with empty caches; keys from all over the set."""
    keys = cold.dataset.corpus.keys[:: max(1, len(cold.dataset.corpus.keys) // count)][:count]
    seconds, waves = [], []
    with Session(cold.engine, CORES) as session:
        for key in keys:
            session.call("connect", place=cold.place)
            cold.far.taken_log()
            seconds.append(session.call("get", key=key))
            waves.append(Asked.of(cold.far.taken_log()).waves)
    params: dict[str, Param] = {"set": cold.dataset.name, "store": "far", "calls": len(keys)}
    return [
        Figure(suite, "cold GetVectors p50", float(np.median(seconds)) * 1000, "ms", params),
        Figure(suite, "cold GetVectors waves, most", max(waves), "", params, target=Target(3.0)),
    ]


def page_figures(suite: str, cold: Cold, local: str, k: int, count: int, target_ms: float | None) -> list[Figure]:
    """All pages of large answers: recall and time of a warm process beside its store, then what a far one is asked."""
    numbers = cold.dataset.by_origin(cold.dataset.corpus.origins[0], count)
    params: dict[str, Param] = {"set": cold.dataset.name, "k": k, "queries": len(numbers)}
    figures = []
    for store, place in {"folder": {"uri": local, "endpoint": ""}, "far": cold.place}.items():
        with Session(cold.engine, CORES) as session:
            session.call("connect", place=place)
            ask = {"queries": str(cold.dataset.queries), "k": k, "settings": {}}
            for number in numbers:  # warms the process up
                session.call("pages", number=number, **ask)
            cold.far.taken_log()
            told = [session.call("pages", number=number, **ask) for number in numbers]
            asked = Asked.of(cold.far.taken_log())
        here = {**params, "store": store}
        first = float(np.median([one["first_seconds"] for one in told])) * 1000
        wanted = target_ms if store == "folder" else None
        figures.append(Figure(suite, "first page, warm p50", first, "ms", here, target=wanted and Target(wanted)))
        whole = float(np.median([one["seconds"] for one in told])) * 1000
        figures.append(Figure(suite, f"all {told[0]['pages']} pages, warm p50", whole, "ms", here))
        if store == "far":
            each = asked.requests / len(numbers)
            figures.append(Figure(suite, "requests of all pages", each, "", here))
        else:
            recalls = cold.dataset.recalls(numbers, k, [one["keys"] for one in told])
            goal = Target(0.98, at_least=True)
            figures.append(Figure(suite, "recall, mean", float(recalls.mean()), "", here, target=goal))
    return figures
