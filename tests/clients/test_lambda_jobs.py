"""lambda/compact.py and lambda/collect.py as Lambda runs them: ended at any moment, handed events twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import neve
from neve.compaction.verify import verify
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.testing.lambda_runtime import FunctionError, LambdaRuntime
from tests.clients.test_lambda import role
from tests.golden import record_events
from tests.servers.function import FunctionProcess, function
from tests.servers.object_store import ObjectStore

INDEX = {"vectorBucketName": "golden", "indexName": "books"}
DIRECT = {"bucket": "golden", "index": "books"}
ROWS, DIMENSION = 1_500, 32
EVENTS = json.loads(record_events.FILE.read_text())
VECTORS = np.random.default_rng(1).normal(size=(ROWS, DIMENSION)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with an index that nobody has compacted, and one of two vectors."""
    url = (tmp_path / "store").as_uri()
    write(url)
    return url


def write(url: str) -> None:
    with neve.client(store=url) as client:
        client.create_vector_bucket(vectorBucketName="golden")
        for index, rows in (("books", ROWS), ("films", 2)):
            names = {"vectorBucketName": "golden", "indexName": index}
            client.create_index(**names, dataType="float32", dimension=DIMENSION, distanceMetric="euclidean")
            for start in range(0, rows, 500):
                some = [{"key": f"{n}", "data": {"float32": VECTORS[n]}} for n in range(start, min(rows, start + 500))]
                client.put_vectors(**names, vectors=some)


def whole(url: str) -> int:
    """How many rows are in compacted segments; no invariant is broken, and each vector is its own nearest."""
    database = Database.open(connect(url), SystemRuntime())
    assert verify(database, "", "").findings == []
    compacted = sum(info.live for info in database.index("golden", "books").read().base.compacted)
    database.close()
    with neve.client(store=url) as client:
        for row in range(0, ROWS, 500):
            found = client.query_vectors(**INDEX, queryVector={"float32": VECTORS[row]}, topK=1)
            assert [hit["key"] for hit in found["vectors"]] == [f"{row}"]
    return compacted


def environment(url: str, cache: Path) -> dict[str, str]:
    return {"NEVE_STORE": url, "NEVE_CACHE": str(cache)}


def test_what_is_asked_for_is_compacted_and_what_is_not_due_is_not(store: str, tmp_path: Path) -> None:
    with function("compact", environment(store, tmp_path / "cache")) as compact:
        for kind in ("schedule", "scheduler", "S3", "S3, other keys", "S3, test"):
            assert compact.invoke(EVENTS[kind], seconds=120) == {"compacted": []}
        [done] = compact.invoke(DIRECT, seconds=120)["compacted"]
        assert (done["index"], done["rows"]) == ("golden/books", ROWS)
        assert compact.invoke(DIRECT, seconds=120) == {"compacted": []}
    assert whole(store) == ROWS
    assert list((tmp_path / "cache").rglob("*")) == [tmp_path / "cache" / "compact"]


def test_it_stops_in_time_and_the_next_one_goes_on(store: str, tmp_path: Path) -> None:
    with function("compact", environment(store, tmp_path / "cache")) as compact:
        assert compact.invoke(DIRECT, seconds=0.3) == {"compacted": [], "stoppedAt": "golden/books"}
        assert compact.output() == ""
        [done] = compact.invoke(DIRECT, seconds=120)["compacted"]
        assert done["rows"] == ROWS
    assert whole(store) == ROWS


@pytest.mark.parametrize("there", ["job.json", "lists", "calibrate.0"])
def test_one_that_is_killed_is_gone_on_with(store: str, tmp_path: Path, there: str) -> None:
    """Once for the whole index, however often the event is handed over; the disk outlives the process."""
    settings = environment(store, tmp_path / "cache")
    with LambdaRuntime() as runtime:
        with FunctionProcess("compact", runtime, settings) as killed:
            invocation = runtime.hand_in(DIRECT, seconds=120)
            killed.until(lambda: any((tmp_path / "cache").rglob(there)) or None)
            killed.kill()
        assert not invocation.answer.done()
        runtime.hand_in_again()
        with FunctionProcess("compact", runtime, settings) as next_one:
            next_one.answered(invocation)
    assert whole(store) == ROWS


def test_an_event_that_two_environments_are_handed_at_once(store: str, tmp_path: Path) -> None:
    with LambdaRuntime() as runtime:
        settings = [environment(store, tmp_path / name) for name in ("one", "two")]
        with FunctionProcess("compact", runtime, settings[0]), FunctionProcess("compact", runtime, settings[1]) as two:
            both = [runtime.hand_in(DIRECT, seconds=120) for _ in range(2)]
            done = [row for invocation in both for row in two.answered(invocation)["compacted"]]
    assert [row["rows"] for row in done] == [ROWS]
    assert whole(store) == ROWS


def test_collection(store: str) -> None:
    with function("collect", {"NEVE_STORE": store}) as collect:
        told = collect.invoke(EVENTS["schedule"])
    assert set(told.values()) == {0}
    assert set(told) == {"log_entries", "segments", "jobs", "manifests", "records", "dropped_indexes"}


def test_what_cannot_be_done_is_told_in_one_line(minio: ObjectStore, tmp_path: Path) -> None:
    url = minio.fresh_url()
    write(url)
    may_read = role(minio, "s3:GetObject", "s3:ListBucket")
    with function("compact", {**environment(url, tmp_path / "cache"), **may_read}) as compact:
        with pytest.raises(FunctionError) as refused:
            compact.invoke(DIRECT)
        assert (refused.value.type, refused.value.message.split(": ", 1)[0]) == ("JobFailed", "golden/books")
        assert "the store refuses PutNew of data/" in refused.value.message
        assert "check its credentials and permissions" in refused.value.message
        assert may_read["AWS_SECRET_ACCESS_KEY"] not in compact.output()
        with pytest.raises(FunctionError, match="JobFailed: there is no index golden/nothing"):
            compact.invoke({**DIRECT, "index": "nothing"})
        with pytest.raises(FunctionError, match="EventInvalid: an event that names an index is"):
            compact.invoke({"bucket": "golden"})
