"""What HTTP adds to a warm, strongly consistent query, and what the delay proxy adds by itself."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import time
from io import BytesIO
from statistics import median
from urllib.parse import urlsplit

from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.far_store import Asked, far_store
from scripts.benchmarks.figure import Figure, Param, Target
from scripts.benchmarks.search_cold import Cold, s3
from scripts.benchmarks.search_warm import K
from tests.servers.neve import NeveServer
from tests.servers.object_store import REGION, ObjectStore

OBJECT = "ranges"
ROUNDS = 20
BURST = 100
RANGE_BYTES = 60_000


def http_figures(suite: str, cold: Cold, count: int) -> list[Figure]:
    """Queries over one kept connection, unsigned, so that it is the server that is measured and no SDK."""
    corpus = cold.dataset.corpus
    numbers = cold.dataset.by_origin(corpus.origins[0], count)
    place = cold.place
    seconds, beyond, waves = [], [], []
    with NeveServer(f"{place['uri']}?endpoint={place['endpoint']}&region={REGION}") as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        bodies = [_body(corpus.queries[number].tolist()) for number in numbers]
        for body in bodies:
            _ask(connection, body)
        for body in bodies:
            cold.far.taken_log()
            took = _ask(connection, body)
            log = cold.far.taken_log()
            wave_s = max(one.end_s for one in log) - min(one.start_s for one in log)
            seconds.append(took)
            beyond.append(took - wave_s)
            waves.append(Asked.of(log).waves)
        connection.close()
    params: dict[str, Param] = {"set": cold.dataset.name, "k": K, "store": "far", "queries": len(numbers)}
    return [
        Figure(suite, "warm over HTTP, strong, p50", median(seconds) * 1000, "ms", params),
        Figure(suite, "of that beyond the store's wave, p50", median(beyond) * 1000, "ms", params, target=Target(3.0)),
        Figure(suite, "waves, median", median(waves), "", params, target=Target(1.0)),
    ]


def _body(vector: list[float]) -> bytes:
    asked = {"vectorBucketName": "bench", "indexName": "corpus", "queryVector": {"float32": vector}, "topK": K}
    return json.dumps({**asked, "returnMetadata": True, "returnDistance": True}).encode()


def _ask(connection: http.client.HTTPConnection, body: bytes) -> float:
    begun = time.perf_counter()
    connection.request("POST", "/QueryVectors", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    seconds = time.perf_counter() - begun
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {text.decode(errors='replace')}")
    return seconds


def proxy_figures(suite: str, near: ObjectStore) -> list[Figure]:
    """What the proxy costs when it delays nothing: one small read after the other, and many at once."""
    figures = []
    data = bytes(RANGE_BYTES * BURST)
    near.client().put_object(near.bucket, OBJECT, BytesIO(data), len(data))
    with far_store(near, Far(0.0, 0.0, math.inf)) as nothing, far_store(near, Far()) as far:
        for name, store in {"direct": near, "proxy without delays": nothing.store, "proxy as S3": far.store}.items():
            one, burst = asyncio.run(_read(store))
            params: dict[str, Param] = {"through": name, "store": "versitygw"}
            figures += [
                Figure(suite, "GET of 4 KiB, p50", one * 1000, "ms", params),
                Figure(suite, f"{BURST} GETs of {RANGE_BYTES // 1000} KB at once, p50", burst * 1000, "ms", params),
            ]
    return figures


async def _read(store: ObjectStore) -> tuple[float, float]:
    """Median seconds of one read by itself, and of a burst of them."""
    reader = s3(store)
    ones, bursts = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await reader.get_range_async(OBJECT, start=0, length=4096)
        ones.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        parts = range(BURST)
        await asyncio.gather(
            *(reader.get_range_async(OBJECT, start=part * RANGE_BYTES, length=RANGE_BYTES) for part in parts)
        )
        bursts.append(time.perf_counter() - begun)
    return median(ones), median(bursts)
