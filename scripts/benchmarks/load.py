"""Queries and writes a second over HTTP: connections that replay signed requests, and boto3 beside them.

The server verifies signatures and shares the cores of this machine with its clients; what the client alone could reach
is measured too, against a server that does nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import orjson
from scripts.benchmarks import side_by_side
from scripts.benchmarks.builds import built, uri
from scripts.benchmarks.datasets import Dataset, Numbered, source
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.engines import IMPORTED
from scripts.benchmarks.far_store import far_store
from scripts.benchmarks.figure import Figure, Param, Target, percentiles
from scripts.benchmarks.near_store import near_store
from scripts.benchmarks.replay import Replay, replay, responder, signed
from scripts.benchmarks.search_warm import BOUNDED, EQUAL_RECALL, K, asking, tuned
from scripts.benchmarks.stand import INDEX, Stand
from scripts.benchmarks.synthetic import BLOCK_ROWS, Recipe, Repeated
from tests.servers.neve import NeveServer
from tests.servers.object_store import REGION

from neve.wire.sigv4 import AccessKey

SUITE = "load"
CONNECTIONS = (1, 4, 16)
WORKERS = (1, 2)
SECONDS, SECONDS_QUICK = 8.0, 1.0
QUERIES, QUERIES_QUICK = 500, 50
PUT_CONNECTIONS = 4
PUT_ROWS = 500
PUTS, PUTS_QUICK = 60, 6
PUTS_BOTO3, PUTS_BOTO3_QUICK = 20, 4
DIMENSION = 768
BOTO3, SHORTEST = "as boto3 writes them", "shortest"
PUT_WAYS: Sequence[tuple[str, Sequence[str]]] = ((BOTO3, ()), (BOTO3, ("--no-compact",)), (SHORTEST, ()))
"""How a request writes floats, and options of the server."""
QPS = Target(400.0, at_least=True)
PUT_RATE = Target(5_000.0, at_least=True)


def query(stand: Stand) -> list[Figure]:
    """Member queries of the prose set at the common recall, bounded staleness: the index lies in a folder."""
    dataset = side_by_side.dataset(stand)
    origin = dataset.origins[0]
    numbers = dataset.by_origin(origin, QUERIES_QUICK if stand.quick else QUERIES)
    with asking(IMPORTED, dataset, 1) as asked:
        target = tuned(asked, origin).settings["recall"]
    headers = {"x-neve-consistency": BOUNDED, "x-neve-recall": str(target)}
    bodies = [_question(dataset.corpus.queries[number]) for number in numbers]
    store = uri(IMPORTED, built(IMPORTED, dataset)[0])
    seconds = SECONDS_QUICK if stand.quick else SECONDS
    params: dict[str, Param] = {"set": dataset.name, "origin": origin, "k": K, **headers}
    figures: list[Figure] = []
    for workers in WORKERS:
        with server(stand, store, "--workers", str(workers), "--no-compact") as (running, key):
            made = _signed(running, "/QueryVectors", bodies, key, headers)
            for _ in range(2 * workers):  # so that every worker has seen every query
                warming = replay(running.url, made, CONNECTIONS[-1])
            for connections in CONNECTIONS:
                done = replay(running.url, made, connections, seconds)
                here = {**params, "workers": workers, "connections": connections}
                figures += _query_figures(done, dataset, numbers, here)
                rate = boto3_rate(running, dataset, numbers, headers, connections, seconds)
                figures.append(Figure(SUITE, "QPS of boto3", rate, "queries/s", here))
    return [*figures, *_ceilings(made, len(warming.answers[0].body), seconds, {"set": dataset.name})]


def _question(vector: np.ndarray) -> bytes:
    asked = {**INDEX, "queryVector": {"float32": vector.tolist()}, "topK": K}
    return json.dumps({**asked, "returnMetadata": True, "returnDistance": True}).encode()


@contextmanager
def server(stand: Stand, store: str, *options: str) -> Iterator[tuple[NeveServer, AccessKey]]:
    """A server that takes only what is signed by the stand's user, whose key boto3 signs with."""
    key = AccessKey(stand.user.access_key, stand.user.secret_key, "bench")
    with NeveServer(store, *options, environment={"NEVE_KEYS": f"{key.id}:{key.secret}:{key.name}"}) as running:
        yield running, key


def _signed(
    running: NeveServer, path: str, bodies: Iterable[bytes], key: AccessKey, headers: Mapping[str, str]
) -> list[bytes]:
    return [signed(running.url, path, body, key, REGION, time.time(), headers) for body in bodies]


def _query_figures(done: Replay, dataset: Dataset, numbers: Sequence[int], params: Mapping[str, Param]) -> list[Figure]:
    """Queries a second and what they took; recall of the first answer to each query."""
    first = {answer.number: answer for answer in reversed(done.answers)}
    found = [[hit["key"] for hit in orjson.loads(first[place].body)["vectors"]] for place in sorted(first)]
    recall = float(dataset.recalls([numbers[place] for place in sorted(first)], K, found).mean())
    wanted = dataset.name == "prose" and params["connections"] == CONNECTIONS[-1]
    return [
        Figure(SUITE, "QPS", done.rate, "queries/s", params, target=QPS if wanted else None),
        *percentiles(SUITE, "query over HTTP", done.latencies_s, params),
        Figure(SUITE, "recall", recall, "", params, target=Target(EQUAL_RECALL, at_least=True)),
    ]


def boto3_rate(
    running: NeveServer,
    dataset: Dataset,
    numbers: Sequence[int],
    headers: Mapping[str, str],
    threads: int,
    seconds: float,
) -> float:
    """Queries a second of one boto3 client that so many threads share."""
    client = running.client()
    client.meta.events.register(
        "before-call.s3vectors.QueryVectors", lambda params, **_: params["headers"].update(headers)
    )
    vectors = [{"float32": dataset.corpus.queries[number].tolist()} for number in numbers]
    work = cycle(vectors)
    deadline = time.perf_counter() + seconds

    def ask(_: int) -> int:
        done = 0
        while time.perf_counter() < deadline:
            client.query_vectors(**INDEX, queryVector=next(work), topK=K, returnMetadata=True, returnDistance=True)
            done += 1
        return done

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(ask, range(threads)))
    return done / (time.perf_counter() - begun)


def _ceilings(made: Sequence[bytes], body_bytes: int, seconds: float, params: Mapping[str, Param]) -> list[Figure]:
    """What the client reaches with the same requests and answers of the same size, where nothing is done for them."""
    figures = []
    with responder(body_bytes) as url:
        for connections in CONNECTIONS:
            rate = replay(url, made, connections, min(seconds, 3.0)).rate
            here = {**params, "connections": connections, "request bytes": len(made[0]), "answer bytes": body_bytes}
            figures.append(Figure(SUITE, "the client's own ceiling", rate, "requests/s", here))
    return figures


def put(stand: Stand) -> list[Figure]:
    """PutVectors of new keys of 768 dimensions and their metadata, into one index behind a store with S3's delays."""
    figures: list[Figure] = []
    batches = _batches(stand, PUTS_QUICK if stand.quick else PUTS)
    with near_store(stand) as near, far_store(near.store, Far()) as far:
        for digits, options in PUT_WAYS:
            bodies = [_puts(batch, digits) for batch in batches]
            how = "left to others" if options else "in the background"
            params: dict[str, Param] = {"dimension": DIMENSION, "put": PUT_ROWS, "compaction": how, "store": "far"}
            params |= {"floats": digits, "request bytes": len(bodies[0]), "puts": len(bodies)}
            with fresh_index(stand, far.store.fresh_url(), *options) as (running, key):
                made = _signed(running, "/PutVectors", bodies, key, {})
                done = replay(running.url, made, PUT_CONNECTIONS)
            here = {**params, "connections": PUT_CONNECTIONS}
            rate = done.rate * PUT_ROWS
            figures.append(Figure(SUITE, "PutVectors over HTTP", rate, "vectors/s", here, target=PUT_RATE))
            figures += percentiles(SUITE, "PutVectors over HTTP", done.latencies_s, here)
        with fresh_index(stand, far.store.fresh_url()) as (running, _):
            some = batches[: PUTS_BOTO3_QUICK if stand.quick else PUTS_BOTO3]
            rate = _boto3_puts(running, some)
            here = {"dimension": DIMENSION, "put": PUT_ROWS, "compaction": "in the background", "store": "far"}
            here |= {"threads": PUT_CONNECTIONS, "puts": len(some)}
            figures.append(Figure(SUITE, "PutVectors by boto3", rate, "vectors/s", here))
    with responder(2) as url:
        ceiling = replay(url, made, PUT_CONNECTIONS).rate * PUT_ROWS
    here = {"request bytes": len(made[0]), "connections": PUT_CONNECTIONS}
    return [*figures, Figure(SUITE, "the client's own ceiling", ceiling, "vectors/s", here)]


@contextmanager
def fresh_index(stand: Stand, store: str, *options: str) -> Iterator[tuple[NeveServer, AccessKey]]:
    """A server on a store that has one empty index."""
    with server(stand, store, *options) as (running, key):
        client = running.client()
        client.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
        client.create_index(**INDEX, dataType="float32", dimension=DIMENSION, distanceMetric="cosine")
        yield running, key


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one put."""

    keys: Sequence[str]
    vectors: np.ndarray
    metadata: Sequence[Mapping[str, object]]


def _batches(stand: Stand, count: int) -> list[Batch]:
    """Rows of the synthetic recipe."""
    base, _ = source(stand.data, "prose")
    recipe = Recipe(base.vectors, DIMENSION)
    metadata = Repeated(base.metadata, base.non_filterable, recipe.order, range(count * PUT_ROWS))
    blocks = -(-count * PUT_ROWS // BLOCK_ROWS)
    vectors = np.concatenate([recipe.block(number) for number in range(blocks)])
    rows = [slice(start, start + PUT_ROWS) for start in range(0, count * PUT_ROWS, PUT_ROWS)]
    keys = Numbered(range(count * PUT_ROWS))
    return [Batch(list(keys[some]), vectors[some], list(metadata[some])) for some in rows]


def _puts(batch: Batch, digits: str) -> bytes:
    """The body of a put; boto3 writes a float32 with the digits of a float64."""
    vectors = batch.vectors.astype(np.float64) if digits == BOTO3 else batch.vectors
    rows = zip(batch.keys, vectors, batch.metadata, strict=True)
    asked = [{"key": key, "data": {"float32": vector}, "metadata": metadata} for key, vector, metadata in rows]
    return orjson.dumps({**INDEX, "vectors": asked}, option=orjson.OPT_SERIALIZE_NUMPY)


def _boto3_puts(running: NeveServer, batches: Sequence[Batch]) -> float:
    """Vectors a second of one boto3 client that PUT_CONNECTIONS threads share; its encoding counts."""
    client = running.client()

    def ask(batch: Batch) -> int:
        rows = zip(batch.keys, batch.vectors, batch.metadata, strict=True)
        vectors = [{"key": key, "data": {"float32": row.tolist()}, "metadata": told} for key, row, told in rows]
        client.put_vectors(**INDEX, vectors=vectors)
        return len(vectors)

    begun = time.perf_counter()
    with ThreadPoolExecutor(PUT_CONNECTIONS) as pool:
        rows = sum(pool.map(ask, batches))
    return rows / (time.perf_counter() - begun)


PIECES: Mapping[str, Callable[[Stand], list[Figure]]] = {"query": query, "put": put}


def run(stand: Stand) -> list[Figure]:
    """Raises Unavailable where there is no far store."""
    return [figure for piece in PIECES.values() for figure in piece(stand)]
