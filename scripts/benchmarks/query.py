"""How long an exact query takes, over HTTP and in process, with and without filters, strong and bounded; and recall."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from scripts.benchmarks.figure import Figure, Param, percentiles
from scripts.benchmarks.stand import INDEX, Stand
from tests.clients.corpus import Corpus, Truth
from tests.servers.neve import NeveServer

import neve

SUITE = "query"
K = 10
QUERIES_BY_ORIGIN = 70
QUERIES_BY_ORIGIN_QUICK = 8
BOUNDED = "bounded;seconds=3600"

Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One query, its number among the queries and the name of its filter ("" for none)."""

    query: int
    vector: np.ndarray
    filter: str


def run(stand: Stand) -> list[Figure]:
    corpus = stand.corpus
    numbers = corpus.by_origin(QUERIES_BY_ORIGIN_QUICK if stand.quick else QUERIES_BY_ORIGIN)
    vectors = corpus.queries[numbers]
    plans = {
        "none": [Asked(place, vector, "") for place, vector in enumerate(vectors)],
        "each in turn": [
            Asked(place, vector, name) for (place, vector), name in zip(enumerate(vectors), cycle(corpus.filters))
        ],
    }
    judge = Judge(corpus, vectors)
    figures = []
    for kind, url in stand.stores().items():
        load(corpus, url)
        params: dict[str, Param] = {"store": kind, "set": corpus.name, "rows": len(corpus.keys), "k": K}
        with neve.client(store=url) as client:
            ways = {
                "strong": client.query_vectors,
                "bounded": lambda **asked: client.query_vectors(**asked, neve={"consistency": BOUNDED}),
            }
            figures += measure(plans, ways, judge, {"client": "in process", **params})
        with NeveServer(url) as server:
            relaxed = server.client()
            relaxed.meta.events.register("before-call.s3vectors.QueryVectors", _ask_for_bounded)
            ways = {"strong": server.client().query_vectors, "bounded": relaxed.query_vectors}
            figures += measure(plans, ways, judge, {"client": "boto3 over HTTP", **params})
    return figures


class Judge:
    """Says what recall an answer has; knows what the engine does not."""

    def __init__(self, corpus: Corpus, vectors: np.ndarray) -> None:
        self.filters = corpus.filters
        self._truth = Truth(corpus, vectors)
        self._passing = {name: corpus.passing(condition) for name, condition in {"": None, **corpus.filters}.items()}

    def recall(self, asked: Asked, keys: Sequence[str]) -> float:
        return self._truth.recall(asked.query, K, self._passing[asked.filter], self._truth.rows(keys))


def load(corpus: Corpus, url: str) -> None:
    with neve.client(store=url) as client:
        client.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
        client.create_index(**INDEX, **corpus.shape)
        for vectors in corpus.puts(0, len(corpus.keys), vector=np.asarray):
            client.put_vectors(**INDEX, vectors=vectors)


def measure(
    plans: dict[str, list[Asked]], ways: dict[str, Ask], judge: Judge, params: dict[str, Param]
) -> list[Figure]:
    """Figures of every plan and consistency; the first query of all, which opens the index, is one of its own."""
    opening = _answer(ways["strong"], plans["none"][0], judge)[0]
    figures = [Figure(SUITE, "first query, opens the index", opening * 1000, "ms", params)]
    for name, plan in plans.items():
        warming = {asked.filter: asked for asked in plan}
        first = [_answer(ways["strong"], asked, judge)[0] for asked in warming.values()]
        if name != "none":
            figures.append(
                Figure(SUITE, "first query with a filter, median", float(np.median(first)) * 1000, "ms", params)
            )
        for consistency, ask in ways.items():
            answers = [_answer(ask, asked, judge) for asked in plan]
            here = {**params, "filter": name, "consistency": consistency, "queries": len(plan)}
            figures += percentiles(SUITE, "exact query", [seconds for seconds, _ in answers], here)
            figures.append(Figure(SUITE, "recall, mean", float(np.nanmean([r for _, r in answers])), "", here))
    return figures


def _answer(ask: Ask, asked: Asked, judge: Judge) -> tuple[float, float]:
    """Seconds that a query took, and its recall."""
    condition = {"filter": judge.filters[asked.filter]} if asked.filter else {}
    vector = {"float32": asked.vector.tolist()}
    begun = time.perf_counter()
    answer = ask(**INDEX, **condition, queryVector=vector, topK=K, returnDistance=True)
    seconds = time.perf_counter() - begun
    return seconds, judge.recall(asked, [hit["key"] for hit in answer["vectors"]])


def _ask_for_bounded(params: dict[str, Any], **_: object) -> None:
    params["headers"]["x-neve-consistency"] = BOUNDED
