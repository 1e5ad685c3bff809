"""Invocations that run at the same time in several processes, a few of them in each engine."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory

import neve
from neve.api.limits import LIMITS
from neve.api.service import Identity, Service
from neve.errors import OutcomeUnknown, StoreUnavailable
from neve.index.database import Database
from neve.inprocess import Client, ClientError
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from tests.compacting import compact_in, short_calibrations

BUCKET, NAME = "shared", "invoked"
INDEX = {"vectorBucketName": BUCKET, "indexName": NAME}
DIMENSION = 4
EXACT = {"recall": 1}
_START_TIMEOUT_S = 120.0
_TRIES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many invocations of each kind every process runs at once, how often a reader reads, and the engines of a
    process that writers and readers share; a compactor has its own."""

    writers: int
    readers: int
    compactors: int
    reads: int
    engines: int


@dataclass(slots=True)
class Told:
    """What one process was told: vectors of live keys, None of deleted ones; and all that an answer may be instead.

    `unknown` are writes of unknown outcome, `refused` those that wrote nothing and were asked for again.
    """

    acknowledged: dict[str, list[float] | None] = field(default_factory=dict)
    unknown: dict[str, list[list[float] | None]] = field(default_factory=dict)
    refused: int = 0
    reads: int = 0
    compactions: int = 0
    overtaken: int = 0
    wrong: list[str] = field(default_factory=list)


def vector(writer: int, version: int) -> list[float]:
    """What a writer puts: its versions lie within 2 of each other, and other writers' at least 10 away."""
    return [10.0 * writer, float(version), 1.0, 0.5]


def create_index(store: str) -> None:
    with neve.client(store=store) as client:
        client.create_vector_bucket(vectorBucketName=BUCKET)
        client.create_index(**INDEX, dataType="float32", dimension=DIMENSION, distanceMetric="euclidean")


def run(store: str, crowd: Crowd, processes: int) -> list[Told]:
    """Run a crowd in each of some processes; all begin together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, initializer=_join, initargs=(barrier,)) as pool:
        return list(pool.map(partial(_run_here, store, crowd), range(processes)))


_together: list[Barrier] = []


def _join(barrier: Barrier) -> None:
    _together[:] = [barrier]


def _run_here(store: str, crowd: Crowd, process: int) -> Told:
    told, lock = Told(), threading.Lock()
    clients = cycle([_client(store) for _ in range(crowd.engines)])
    writers = range(process * crowd.writers, (process + 1) * crowd.writers)
    tasks: list[Callable[[], None]] = [partial(_write, next(clients), told, lock, writer) for writer in writers]
    tasks += [partial(_read, next(clients), told, lock, crowd.reads) for _ in range(crowd.readers)]
    tasks += [partial(_compact, store, told, lock)] * crowd.compactors
    here = threading.Barrier(len(tasks), action=lambda: _together[0].wait(_START_TIMEOUT_S))

    def begin(task: Callable[[], None]) -> None:
        here.wait(_START_TIMEOUT_S)
        task()

    with short_calibrations(), ThreadPoolExecutor(len(tasks)) as threads:
        list(threads.map(begin, tasks))
    for _ in range(crowd.engines):
        next(clients).close()
    return told


def _client(store: str) -> Client:
    database = Database.open(connect(store), SystemRuntime())
    return Client(Service(database, Identity(), LIMITS["aws"]), database.close)


def _write(client: Client, told: Told, lock: threading.Lock, writer: int) -> None:
    """Put two keys, put one anew, delete the other; after each acknowledgement read them as they must be."""
    one, other = f"w{writer}-one", f"w{writer}-other"
    for changes in ({one: vector(writer, 1), other: vector(writer, 2)}, {one: vector(writer, 3)}, {other: None}):
        _acknowledged(partial(_change, client, changes), changes, told, lock)
        with lock:
            known = {key: told.acknowledged.get(key) for key in (one, other) if key not in told.unknown}
        live = {key: value for key, value in known.items() if value is not None}
        found = client.get_vectors(**INDEX, keys=[one, other], returnData=True)["vectors"]
        shown = {hit["key"]: hit["data"]["float32"] for hit in found if hit["key"] in known}
        query = {"queryVector": {"float32": vector(writer, 3)}, "topK": 3, "returnDistance": True, "neve": EXACT}
        nearest = client.query_vectors(**INDEX, **query)["vectors"]
        own = {hit["key"] for hit in nearest if hit["distance"] <= 4 and hit["key"] in known}
        with lock:
            told.reads += 2
            if shown != live or own != set(live):
                told.wrong.append(f"writer {writer} read {shown} and found {own}, for {live}")


def _change(client: Client, changes: dict[str, list[float] | None]) -> None:
    """Put the keys that are given vectors; delete them where none is."""
    puts = [{"key": key, "data": {"float32": value}} for key, value in changes.items() if value is not None]
    if puts:
        client.put_vectors(**INDEX, vectors=puts)
    else:
        client.delete_vectors(**INDEX, keys=list(changes))


def _acknowledged(
    call: Callable[[], object], changes: dict[str, list[float] | None], told: Told, lock: threading.Lock
) -> None:
    """Have a write done, as an SDK has: a refusal is asked again. What came of it is entered."""
    for _ in range(_TRIES_MAX):
        try:
            call()
        except ClientError as error:
            if isinstance(error.__cause__, StoreUnavailable):
                with lock:
                    told.refused += 1
                continue
            if not isinstance(error.__cause__, OutcomeUnknown):
                raise RuntimeError(str(error)) from error.__cause__
            with lock:
                for key, value in changes.items():
                    told.unknown.setdefault(key, [told.acknowledged.get(key)]).append(value)
            return
        with lock:
            told.acknowledged.update(changes)
        return
    raise RuntimeError(f"refused {_TRIES_MAX} times")


def _read(client: Client, told: Told, lock: threading.Lock, times: int) -> None:
    """Query over and over: each hit is a vector that somebody has put, at its distance, and none comes twice."""
    for _ in range(times):
        hits = client.query_vectors(
            **INDEX, queryVector={"float32": [0.0, 0.0, 1.0, 0.5]}, topK=100, returnDistance=True, neve=EXACT
        )["vectors"]
        distances = [hit["distance"] for hit in hits]
        wrong = [hit for hit in hits if hit["distance"] not in _possible(hit["key"])]
        with lock:
            told.reads += 1
            if wrong or distances != sorted(distances) or len({hit["key"] for hit in hits}) != len(hits):
                told.wrong.append(f"a reader got {hits}")


def _possible(key: str) -> set[float]:
    """Squared distances from [0, 0, 1, 0.5] that a key's vectors have had."""
    writer, _, which = key.removeprefix("w").partition("-")
    return {(10.0 * int(writer)) ** 2 + version**2 for version in ((1.0, 3.0) if which == "one" else (2.0,))}


def _compact(store: str, told: Told, lock: threading.Lock) -> None:
    """Compact what there is, twice, in a folder of its own: so compactors meet only in the store."""
    database = Database.open(connect(store), SystemRuntime())
    with TemporaryDirectory(prefix="neve-") as folder:
        for _ in range(2):
            try:
                done = compact_in(database, Path(folder), BUCKET, NAME)
            except StoreUnavailable:
                with lock:
                    told.overtaken += 1
            else:
                with lock:
                    told.compactions += done is not None
    database.close()
