"""kill -9 of the server during a stream of puts, and of a compaction: what was acknowledged is there, and whole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError

from neve.index.database import Database
from neve.index.entry import Write
from neve.index.records import Encryption, IndexConfig
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store.connect import connect
from neve.vectors.metric import Metric
from tests.conftest import StartNeve
from tests.reading import everything
from tests.servers.object_store import ObjectStore

INDEX = {"vectorBucketName": "killed", "indexName": "stream"}
WRITERS = 4
BATCH = 5
Put = tuple[int, int, int]  # writer, round, number


@dataclass
class Writer:
    """Puts batches one after another; each has keys of its own and one key that every put of the writer overwrites."""

    number: int
    begun: list[Put] = field(default_factory=list)
    acknowledged: list[Put] = field(default_factory=list)

    def stream(self, client: BaseClient, round_number: int, flowing: Event) -> None:
        """Until the server is gone: the fate of the last put begun is then unknown."""
        while True:
            put = (self.number, round_number, len(self.begun))
            self.begun.append(put)
            try:
                client.put_vectors(**INDEX, vectors=vectors_of(put))
            except (BotoCoreError, ClientError):
                return
            self.acknowledged.append(put)
            flowing.set()


def name(put: Put) -> str:
    return "-".join(map(str, put))


def vectors_of(put: Put) -> list[dict]:
    keys = [f"{name(put)}-{place}" for place in range(BATCH)] + [f"newest-{put[0]}"]
    return [
        {"key": key, "data": {"float32": [float(part) for part in (*put, place)]}, "metadata": {"put": name(put)}}
        for place, key in enumerate(keys)
    ]


@pytest.mark.parametrize(("kind", "rounds"), [("folder", 8), ("minio", 4)])
def test_kill(kind: str, rounds: int, tmp_path: Path, start_neve: StartNeve, request: pytest.FixtureRequest) -> None:
    minio: ObjectStore | None = request.getfixturevalue("minio") if kind == "minio" else None
    store = minio.fresh_url() if minio else tmp_path.as_uri()
    seed = random.randrange(1 << 32)
    print(f"moments of seed {seed}")
    moments = random.Random(seed)
    writers = [Writer(number) for number in range(WRITERS)]

    server = start_neve(store)
    server.client().create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
    server.client().create_index(**INDEX, dataType="float32", dimension=4, distanceMetric="euclidean")
    for number in range(rounds):
        client, flowing = server.client(), Event()
        threads = [Thread(target=writer.stream, args=(client, number, flowing)) for writer in writers]
        for thread in threads:
            thread.start()
        assert flowing.wait(30), server.output()
        time.sleep(moments.uniform(0, 1.5))
        server.kill()
        for thread in threads:
            thread.join(60)
        server = start_neve(store)
        check(server.client(), writers)
    verified = subprocess.run(
        [sys.executable, "-m", "neve", "verify", "--store", store], capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


def check(client: BaseClient, writers: list[Writer]) -> None:
    """Every acknowledged put is there; each that is there is there whole; the newest one overwrites."""
    found = defaultdict(list)
    pages = client.get_paginator("list_vectors").paginate(**INDEX, returnData=True, returnMetadata=True)
    for vector in (vector for page in pages for vector in page["vectors"]):
        found[vector["metadata"]["put"]].append(vector)
    for writer in writers:
        there = [put for put in writer.begun if name(put) in found]
        assert set(writer.acknowledged) <= set(there)
        for put in there:
            whole = vectors_of(put) if put == there[-1] else vectors_of(put)[:BATCH]
            assert sorted(found.pop(name(put)), key=_key) == sorted(whole, key=_key)
    assert not found, "nobody put these"


def _key(vector: dict) -> str:
    return vector["key"]


ROWS, DIMENSION = 4_000, 32


def test_kill_of_a_compaction(tmp_path: Path) -> None:
    """At any moment: its workers end with it, no row is lost, and the next one goes on to the end."""
    store, runtime = (tmp_path / "store").as_uri(), SystemRuntime()
    database = Database.open(connect(store), runtime)
    database.create_bucket("b", Encryption(), {}, quota=9)
    database.create_index("b", "i", IndexConfig(DIMENSION, Metric.COSINE, None, Encryption()), {}, quota=9)
    keys = [f"k{number}" for number in range(ROWS)]
    vectors = np.random.default_rng(1).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    database.index("b", "i").write(lambda _: Write(Puts(keys, vectors, [b"{}"] * ROWS)))
    seed = random.randrange(1 << 32)
    print(f"moments of seed {seed}")
    moments = random.Random(seed)
    command = [sys.executable, "-m", "neve", "compact", "--store", store, "--full", "--workers", "1", "b/i"]
    environment = {**os.environ, "NEVE_CACHE": str(tmp_path / "cache")}
    for _ in range(5):
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.5, 5))
        process.kill()
        process.wait()
        assert _all_end(process.pid), "a worker has outlived its compaction"
        rows = everything(database, database.index("b", "i").read())
        assert {row.key for row in rows} == set(keys)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    state = database.index("b", "i").read()
    assert [compacted.info.rows for compacted in state.compacted] == [ROWS]
    rows = {row.key: row.vector for row in everything(database, state)}
    assert all(np.array_equal(rows[key], vector) for key, vector in zip(keys, vectors, strict=True))
    verified = subprocess.run([*command[:3], "verify", "--store", store], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    runtime.close()


def _all_end(group: int) -> bool:
    """Whether no process of a group is left, after ten seconds at most."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
