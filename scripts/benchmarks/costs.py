"""What neve costs as functions over S3, beside the hosted service: counted requests, measured time, list prices.

Behind a store with S3's delays (delay_proxy) a function answers: one in a new environment, whose start is charged too,
and one that has its index in memory. Puts bear their share of folds, of the compaction that follows, and of collection.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
from scripts.benchmarks import prices
from scripts.benchmarks.builds import CORES, built
from scripts.benchmarks.datasets import Dataset, datasets
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.engines import NEVE
from scripts.benchmarks.far_store import Asked, FarStore, far_store
from scripts.benchmarks.figure import Figure, Param
from scripts.benchmarks.near_store import near_store
from scripts.benchmarks.search_cold import Cold
from scripts.benchmarks.search_warm import K
from scripts.benchmarks.stand import INDEX, Stand
from tests.compacting import compact_in
from tests.servers.function import FunctionProcess, function
from tests.servers.object_store import REGION, Credentials

from neve.compaction.collect import collect
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.grace import TAIL_ENTRIES_MAX
from neve.index.records import Encryption, IndexConfig
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store import prices as store_prices
from neve.store.counting import CountingStore
from neve.store.objects import memory_store
from neve.vectors.metric import Metric

SUITE = "costs"
HOSTED = "S3 Vectors"
MEMORY_MB = 1769
"""As infra/aws/template.yaml has it by default; Lambda gives one core with it."""
STARTS, WARM = 10, 50
PUT_ROWS = (1, 500)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a vector of a set, on average: all of it, and what a query of the hosted service processes of it."""

    whole: float
    processed: float

    @classmethod
    def of(cls, dataset: Dataset) -> Sizes:
        corpus = dataset.corpus
        some = range(0, len(corpus.keys), max(1, len(corpus.keys) // 5_000))
        keys = [len(corpus.keys[row].encode()) for row in some]
        filterable = [
            len(orjson.dumps({k: v for k, v in corpus.metadata[row].items() if k not in corpus.non_filterable}))
            for row in some
        ]
        vector = 4.0 * corpus.vectors.shape[1]
        return cls(dataset.size_bytes / len(corpus.keys), vector + float(np.mean(keys)) + float(np.mean(filterable)))


def run(stand: Stand) -> list[Figure]:
    dataset = max(datasets(stand.data, stand.quick), key=lambda dataset: len(dataset.corpus.keys))
    sizes, stored = Sizes.of(dataset), built(NEVE, dataset)[1]
    rows = len(dataset.corpus.keys)
    params: dict[str, Param] = {"set": dataset.name, "vectors": rows, "dimension": dataset.corpus.vectors.shape[1]}
    with near_store(stand) as near, far_store(near.store, Far()) as far:
        near.take(dataset, NEVE)
        figures = list(queries(Cold(NEVE, dataset, far), params, stand.user, 2 if stand.quick else STARTS))
        seconds = put_seconds(far, stand.user)
    figures.append(dollars("query", prices.hosted_query(rows, sizes.processed), params, HOSTED))
    for count in PUT_ROWS:
        here: dict[str, Param] = {**params, "vectors a put": count}
        per_put, requests = put_dollars(count)
        figures.append(Figure(SUITE, "requests of a put and its upkeep", requests, "", here))
        figures.append(dollars("put, requests alone", per_put, here))
        figures.append(dollars("put", per_put + prices.invocation(seconds, MEMORY_MB), here))
        figures.append(dollars("put", prices.hosted_put(count * sizes.whole), here, HOSTED))
    compacted = stored.seconds / rows * prices.GB_SECOND * CORES * MEMORY_MB / 1024
    figures.append(dollars("vector compacted once", compacted, params))
    ratio = stored.size_bytes / dataset.size_bytes
    month = "a GB-month of vectors and metadata"
    figures.append(Figure(SUITE, month, store_prices.GB_MONTH * ratio, "$", {**params, "stored": f"× {ratio:.2f}"}))
    figures.append(Figure(SUITE, month, prices.HOSTED_GB_MONTH, "$", params, HOSTED))
    return figures


def dollars(what: str, each: float, params: dict[str, Param], engine: str = "neve") -> Figure:
    return Figure(SUITE, f"a million: {what}", each * 1e6, "$", params, engine)


def queries(cold: Cold, params: dict[str, Param], user: Credentials, starts: int) -> Iterator[Figure]:
    """A first query of new environments, and queries of one that is warm; each for another vector of the set's kind."""
    numbers = iter(cold.dataset.by_origin(cold.dataset.origins[0], starts + WARM))
    environment = settings(cold.place["uri"], cold.far, user)
    first = []
    for _ in range(starts):
        begun = time.perf_counter()
        with function("api", environment) as api:
            first.append(answered(api, cold, next(numbers), begun))
    with function("api", environment) as api:
        api.call("neve/WarmIndex", INDEX, seconds=300)
        cold.far.taken_log()
        warm = [answered(api, cold, next(numbers), time.perf_counter()) for _ in range(WARM)]
    for state, found in {"cold, in a new environment": first, "warm": warm}.items():
        seconds, requests, of_store = np.median(found, axis=0).tolist()
        each = of_store + prices.invocation(seconds, MEMORY_MB)
        here: dict[str, Param] = {**params, "query": state, "queries": len(found)}
        yield Figure(SUITE, "requests, median", requests, "", here)
        yield Figure(SUITE, "charged for, median", seconds * 1000, "ms", here)
        yield dollars("query, requests alone", of_store, here)
        yield dollars("query", each, here)


def answered(api: FunctionProcess, cold: Cold, number: int, begun: float) -> tuple[float, int, float]:
    """Seconds since `begun` to the answer to a query, requests of the store, and what these cost."""
    vector = {"float32": np.load(cold.dataset.queries, mmap_mode="r")[number].tolist()}
    asked = {**INDEX, "queryVector": vector, "topK": K, "returnMetadata": True, "returnDistance": True}
    status, found = api.call("QueryVectors", asked)
    seconds = time.perf_counter() - begun
    assert (status, len(found["vectors"])) == (200, K)
    log = Asked.of(cold.far.taken_log())
    return seconds, log.requests, log.dollars


def put_seconds(far: FarStore, user: Credentials) -> float:
    """Median of puts of a warm function to a store far away."""
    names = {"vectorBucketName": "costs", "indexName": "puts"}
    with function("api", settings(f"s3://{far.store.bucket}/costs", far, user)) as api:
        api.call("CreateVectorBucket", {"vectorBucketName": "costs"})
        api.call("CreateIndex", {**names, "dataType": "float32", "dimension": 384, "distanceMetric": "cosine"})
        seconds = []
        for number in range(20):
            vector = np.random.default_rng(number).random(384).tolist()
            begun = time.perf_counter()
            status, _ = api.call("PutVectors", {**names, "vectors": [{"key": "a", "data": {"float32": vector}}]})
            seconds.append(time.perf_counter() - begun)
            assert status == 200
    return float(np.median(seconds))


def put_dollars(rows: int) -> tuple[float, float]:
    """Dollars and number of the requests of a put of so many vectors, with folds, one compaction and collection."""
    store = CountingStore(memory_store())
    database = Database.open(store, SystemRuntime())
    database.create_bucket("costs", Encryption(), {}, quota=10)
    database.create_index("costs", "puts", IndexConfig(8, Metric.EUCLIDEAN, None, Encryption()), {}, quota=10)
    index = database.index("costs", "puts")
    index.read()
    store.new_bill()
    puts = 4 * TAIL_ENTRIES_MAX
    for number in range(puts):
        keys = [f"{number}-{row}" for row in range(rows)]
        vectors = np.random.default_rng(number).random((rows, 8), np.float32)
        put = Write(Puts(keys, vectors, [b"{}"] * rows))
        index.write(lambda _, put=put: put)
    database.close()  # waits for folds
    database = Database.open(store, SystemRuntime())
    with TemporaryDirectory() as folder:
        assert compact_in(database, Path(folder), "costs", "puts") is not None
    collect(database)
    bill = store.new_bill()
    database.close()
    return bill.dollars / puts, (bill.requests + bill.upload_requests - bill.count("Upload")) / puts


def settings(store: str, far: FarStore, user: Credentials) -> dict[str, str]:
    place = f"{store}?endpoint={far.store.endpoint}&region={REGION}"
    return {"NEVE_STORE": place, "NEVE_MEMORY": "1GiB", **user.environment()}
