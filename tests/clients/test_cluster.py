"""Compaction and import on a Dask cluster: a scheduler and workers of their own, that share nothing but the store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

import neve
from neve.compaction.build import Means
from neve.compaction.cluster import dask_cluster
from neve.compaction.compact import Compaction
from neve.compaction.compact_elsewhere import compact_elsewhere
from neve.compaction.elsewhere import Elsewhere
from neve.compaction.jobs import begun_jobs
from neve.compaction.scatter import Stage
from neve.compaction.verify import verify
from neve.errors import ClusterLost, StoreDenied
from neve.index import paths
from neve.index.chain import list_all
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.records import Encryption, IndexConfig
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store.connect import connect
from neve.vectors.metric import Metric
from tests.compacting import live_set
from tests.servers.dask import DaskCluster, dask
from tests.servers.object_store import Credentials, ObjectStore

BUCKET, INDEX = "library", "books"
PATH = f"{BUCKET}/{INDEX}"
ROWS, DIMENSION, SEGMENTS = 2_400, 16, 6


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    minio = getattr(request, "param", "folder") == "minio"
    url: str = request.getfixturevalue("minio").fresh_url() if minio else tmp_path.joinpath("store").as_uri()
    return filled(url)


def filled(url: str) -> str:
    chance, database = np.random.default_rng(5), Database.open(connect(url), SystemRuntime())
    database.create_bucket(BUCKET, Encryption(), {}, quota=1)
    database.create_index(BUCKET, INDEX, IndexConfig(DIMENSION, Metric.COSINE, None, Encryption()), {}, quota=1)
    index = database.index(BUCKET, INDEX)
    for start in range(0, ROWS, 400):
        vectors = chance.normal(size=(400, DIMENSION)).astype(np.float32)
        keys = [f"k{number}" for number in range(start, start + 400)]
        write = Write(Puts(keys, vectors, [b'{"n":%d}' % number for number in range(400)]))
        index.write(lambda _, write=write: write)
    index.write(lambda _: Write(Puts((), np.empty((0, DIMENSION), np.float32), ()), ("k7", "k8")))
    index.fold()
    database.close()
    return url


def contents(url: str) -> Mapping[bytes, int]:
    """The position of each live key, as a fresh process reads it; the index is whole."""
    database = Database.open(connect(url), SystemRuntime())
    state = database.index(BUCKET, INDEX).read()
    found = live_set(database, state)
    assert not verify(database, BUCKET, INDEX).findings
    database.close()
    return found


def work_left(url: str) -> list[str]:
    database = Database.open(connect(url), SystemRuntime())
    uid = database.index(BUCKET, INDEX).read().uid
    keys = [entry.key for entry in list_all(database.store, paths.work_folder(uid))]
    database.close()
    return keys


def command(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "neve", *words, "--store", url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300)


def compacted(
    cluster: DaskCluster, url: str, folder: Path, progress: Callable[[str, int, int], None] = lambda _s, _d, _t: None
) -> Compaction | None:
    """Compacted by the cluster, asked by this process."""
    database = Database.open(connect(url), SystemRuntime())
    try:
        with dask_cluster(cluster.address) as executor:
            means = Means(folder, executor=executor, progress=progress)
            elsewhere = Elsewhere(url, -(-ROWS // SEGMENTS))
            return compact_elsewhere(database, BUCKET, INDEX, means, elsewhere, asked=True)
    finally:
        database.close()


@pytest.mark.parametrize("store", ["folder", "minio"], indirect=True)
def test_a_command_compacts_on_workers_that_share_nothing(store: str, tmp_path: Path) -> None:
    before = contents(store)
    assert len(before) == ROWS - 2
    with dask(tmp_path, workers=2) as cluster:
        done = command(store, "compact", PATH, "--on", cluster.address, "--segment-rows", "400")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2,398" in done.stdout
    assert contents(store) == before
    assert not work_left(store)
    told = json.loads(command(store, "recall", PATH, "--queries", "60", "--json").stdout)
    assert told["mean"] >= 0.95, told
    assert not [path for path in tmp_path.glob("worker-*/cache/**/*") if path.is_file()], "no scratch stays"


@pytest.mark.parametrize("stage", [Stage.PARTITION, Stage.BUILD])
def test_a_worker_is_killed_and_another_does_its_task(store: str, tmp_path: Path, stage: Stage) -> None:
    before = contents(store)
    with dask(tmp_path, workers=2) as cluster:

        def progress(now: str, done: int, _total: int) -> None:
            if (now, done) == (stage, 1):
                cluster.workers[0].kill()

        done = compacted(cluster, store, tmp_path, progress)
    assert done is not None
    assert done.rows == ROWS - 2
    assert contents(store) == before
    assert not work_left(store)


def test_a_scheduler_is_killed_and_the_next_run_goes_on(store: str, tmp_path: Path) -> None:
    before = contents(store)
    with dask(tmp_path, workers=2) as cluster:

        def progress(now: str, done: int, _total: int) -> None:
            if (now, done) == (Stage.BUILD, 2):
                cluster.scheduler.kill()

        with pytest.raises(ClusterLost, match="was lost; what has been done is kept"):
            compacted(cluster, store, tmp_path, progress)
    assert contents(store) == before
    todo: dict[str, int] = {}
    with dask(tmp_path, workers=2) as cluster:
        assert compacted(cluster, store, tmp_path, lambda stage, _, total: todo.update({stage: total})) is not None
    assert (todo[Stage.SAMPLE], todo[Stage.TRAIN], todo[Stage.PARTITION]) == (0, 0, 0)
    assert todo[Stage.BUILD] <= SEGMENTS - 2
    assert contents(store) == before
    assert not work_left(store)


def test_no_scheduler_is_there(store: str, tmp_path: Path) -> None:
    done = command(store, "compact", PATH, "--on", "tcp://127.0.0.1:9")
    assert done.returncode == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_credentials_of_a_worker_have_expired(minio: ObjectStore, tmp_path: Path) -> None:
    store = filled(minio.fresh_url())
    before = contents(store)
    with dask(tmp_path, workers=0) as cluster:
        cluster.add(Credentials.random().environment())
        with pytest.raises(StoreDenied, match=r"^on "):
            compacted(cluster, store, tmp_path)
        assert contents(store) == before
        cluster.workers[0].kill()
        cluster.add()
        assert compacted(cluster, store, tmp_path) is not None
    assert contents(store) == before


@pytest.mark.parametrize("store", ["minio"], indirect=True)
def test_the_disk_of_a_worker_is_full(store: str, tmp_path: Path) -> None:
    """As a limit on the size of its files has it."""
    before = contents(store)
    with dask(tmp_path, workers=0) as cluster:
        cluster.add(file_bytes_max=16_384)
        with pytest.raises(OSError, match=r"on .*File too large"):
            compacted(cluster, store, tmp_path)
        database = Database.open(connect(store), SystemRuntime())
        assert len(begun_jobs(database.store, database.index(BUCKET, INDEX).read().uid)) == 1
        database.close()
        assert contents(store) == before
        cluster.workers[0].kill()
        cluster.add()
        assert compacted(cluster, store, tmp_path) is not None
    assert contents(store) == before
    assert not work_left(store)


def test_an_import_is_read_and_built_by_workers(minio: ObjectStore, tmp_path: Path) -> None:
    """Of a file in two row groups, where the later row of a key counts, and one row cannot be had."""
    import pyarrow as pa
    from pyarrow import parquet

    store, path, rows = minio.fresh_url(), tmp_path / "books.parquet", 12_000
    vectors = np.random.default_rng(3).normal(size=(rows, DIMENSION)).astype(np.float32)
    vectors[77] = 0.0
    keys = [f"k{number % (rows - 500)}" for number in range(rows)]
    columns = {"key": keys, "vector": list(vectors), "n": list(range(rows))}
    parquet.write_table(pa.table(columns), path, row_group_size=rows // 2)
    with dask(tmp_path, workers=2) as cluster:
        words = ("--create", "--on", cluster.address, "--segment-rows", "4000", "--max-rejects", "1")
        done = command(store, "import", PATH, str(path), *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "rejected 1: cosine distance does not support vectors with zero norm" in done.stderr
    assert len(contents(store)) == rows - 500
    assert not work_left(store)
    with neve.client(store=store) as client:
        asked = {"vectorBucketName": BUCKET, "indexName": INDEX, "keys": ["k3", "k77", "k11499"]}
        found = client.get_vectors(**asked, returnData=True, returnMetadata=True)["vectors"]
    assert {one["key"]: one["metadata"]["n"] for one in found} == {"k3": 11_503, "k77": 11_577, "k11499": 11_499}
    for one in found:
        assert np.array_equal(np.float32(one["data"]["float32"]), vectors[one["metadata"]["n"]])
