"""Independent writer processes that share one index, each with an engine of its own, and what they met."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.synchronize import Barrier

import neve
from neve.api.limits import LIMITS
from neve.api.service import Identity, Service
from neve.errors import StoreUnavailable
from neve.index.database import Database
from neve.inprocess import Client, ClientError
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.store.port import Exists, PutNew, Reply, Request, Store

BUCKET = "shared"
INDEX = {"vectorBucketName": BUCKET, "indexName": "contended"}
DIMENSION = 8
_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Job:
    """Single-vector puts, one after the other, until there are `puts_max` or `seconds_max` are over."""

    store: str
    puts_max: int = 1 << 30
    seconds_max: float = float("inf")
    delay_s: float = 0.0
    """Added to every wave: the store is then as far away as that."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one writer met; a race is lost when another's entry has the number that a create asked for.

    A put is refused when it wins no number in time; the writer then asks again, as an SDK does.
    """

    keys: Sequence[str]
    latencies_s: Sequence[float]
    races_lost: int
    refused: int
    seconds: float


class FarStore:
    """A store some way off: half of the delay before the wave, half after. Counts lost races for log numbers."""

    def __init__(self, store: Store, delay_s: float) -> None:
        self._store = store
        self._delay_s = delay_s
        self.races_lost = 0

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        time.sleep(self._delay_s / 2)
        replies = self._store.wave(requests)
        time.sleep(self._delay_s / 2)
        self.races_lost += sum(
            isinstance(reply, Exists) and isinstance(request, PutNew) and "/log/" in request.key
            for request, reply in zip(requests, replies, strict=True)
        )
        return replies


def client_on(store: Store) -> Client:
    """A client in this process on a store that no URL names."""
    database = Database.open(store, SystemRuntime())
    return Client(Service(database, Identity(), LIMITS["aws"]), database.close)


def create_index(store: str) -> None:
    with neve.client(store=store) as client:
        client.create_vector_bucket(vectorBucketName=BUCKET)
        client.create_index(**INDEX, dataType="float32", dimension=DIMENSION, distanceMetric="cosine")


def run(job: Job, writers: int) -> list[Outcome]:
    """Run a job in so many processes at once, which begin together on an index that each has opened before."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(writers)
    # Nobody passes the barrier before all tasks are taken, so every process gets one of them.
    with ProcessPoolExecutor(writers, context, initializer=_join, initargs=(barrier,)) as processes:
        return list(processes.map(partial(_write, job), range(writers)))


_together: list[Barrier] = []


def _join(barrier: Barrier) -> None:
    _together[:] = [barrier]


def _write(job: Job, writer: int) -> Outcome:
    store = FarStore(connect(job.store), job.delay_s)
    latencies_s: list[float] = []
    keys: list[str] = []
    refused = 0
    with client_on(store) as client:
        client.query_vectors(**INDEX, queryVector={"float32": [1.0] * DIMENSION}, topK=1)
        _together[0].wait(_START_TIMEOUT_S)
        begun = time.perf_counter()
        while len(keys) < job.puts_max and time.perf_counter() - begun < job.seconds_max:
            key = f"{writer}-{len(keys)}"
            vector = [1.0 + writer, 1.0 + len(keys), *([1.0] * (DIMENSION - 2))]
            sent = time.perf_counter()
            refused += _put(client, {"key": key, "data": {"float32": vector}})
            latencies_s.append(time.perf_counter() - sent)
            keys.append(key)
        seconds = time.perf_counter() - begun
    return Outcome(keys, latencies_s, store.races_lost, refused, seconds)


def _put(client: Client, vector: dict) -> int:
    """How often the put was refused before it was done; RuntimeError where its outcome is anything else."""
    for refused in count():
        try:
            client.put_vectors(**INDEX, vectors=[vector])
        except ClientError as error:
            if not isinstance(error.__cause__, StoreUnavailable):  # only then nothing was written
                raise RuntimeError(str(error)) from error.__cause__
            continue
        return refused
    raise AssertionError
