"""Two servers on one store agree at every moment, on a folder and on a real object store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from tests.conftest import StartNeve

Pair = tuple[BaseClient, BaseClient]
SHAPE = {"dataType": "float32", "dimension": 2, "distanceMetric": "euclidean"}
GONE = "The specified index could not be found"


@pytest.fixture(params=["folder", "minio"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, start_neve: StartNeve) -> Pair:
    """Clients of two servers on one store."""
    minio = request.param == "minio"
    store = request.getfixturevalue("minio").fresh_url() if minio else tmp_path.as_uri()
    return start_neve(store).client(), start_neve(store).client()


@pytest.fixture
def index(pair: Pair) -> dict:
    names = {"vectorBucketName": f"b-{uuid.uuid4()}", "indexName": "shared"}
    pair[0].create_vector_bucket(vectorBucketName=names["vectorBucketName"])
    pair[0].create_index(**names, **SHAPE)
    return names


def put(client: BaseClient, index: dict, key: str, x: float = 1.0) -> None:
    client.put_vectors(**index, vectors=[{"key": key, "data": {"float32": [x, 0.0]}}])


def nearest(client: BaseClient, index: dict, x: float, k: int = 1) -> list[str]:
    found = client.query_vectors(**index, queryVector={"float32": [x, 0.0]}, topK=k)
    return [vector["key"] for vector in found["vectors"]]


def error_of(call: Callable[..., object], **members: object) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def test_a_put_is_seen_by_the_next_query_elsewhere(pair: Pair, index: dict) -> None:
    for number in range(150):  # long enough for the tail to be folded under way, twice
        writer, reader = pair if number % 2 else pair[::-1]
        put(writer, index, f"k{number}", float(number))
        assert nearest(reader, index, float(number)) == [f"k{number}"]
    for number in range(0, 150, 10):
        writer, reader = pair if number % 20 else pair[::-1]
        writer.delete_vectors(**index, keys=[f"k{number}"])
        assert nearest(reader, index, float(number)) != [f"k{number}"]


def test_a_deleted_index_is_gone_elsewhere_and_a_new_one_is_empty(pair: Pair, index: dict) -> None:
    for number in range(5):
        here, there = pair if number % 2 else pair[::-1]
        put(there, index, "old")
        assert nearest(here, index, 1.0) == ["old"]
        here.delete_index(**index)
        vector = {"key": "late", "data": {"float32": [1.0, 0.0]}}
        assert error_of(there.put_vectors, **index, vectors=[vector]) == ("NotFoundException", GONE)
        here.create_index(**index, **SHAPE)
        assert nearest(there, index, 1.0, k=10) == []
        assert there.list_vectors(**index)["vectors"] == []
        put(there, index, f"new{number}")
        assert nearest(here, index, 1.0, k=10) == [f"new{number}"]
        there.delete_vectors(**index, keys=[f"new{number}"])


def test_a_re_created_index_may_have_another_shape(pair: Pair, index: dict) -> None:
    here, there = pair
    put(there, index, "flat")
    here.delete_index(**index)
    here.create_index(**index, **SHAPE | {"dimension": 3})
    there.put_vectors(**index, vectors=[{"key": "deep", "data": {"float32": [1.0, 2.0, 3.0]}}])
    assert there.get_index(**index)["index"]["dimension"] == 3


def race(*calls: Callable[[], object]) -> list[str]:
    """Run the calls at once; for each "" or its error code."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], object]) -> str:
        barrier.wait()
        try:
            call()
        except ClientError as error:
            return error.response["Error"]["Code"]
        return ""

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def test_a_bucket_is_never_deleted_under_an_acknowledged_index(pair: Pair) -> None:
    here, there = pair
    outcomes = set()
    for number in range(30):
        bucket = {"vectorBucketName": f"b-{uuid.uuid4()}"}
        index = {**bucket, "indexName": "claimed"}
        here.create_vector_bucket(**bucket)
        creator, deleter = pair if number % 2 else pair[::-1]
        created, deleted = race(
            lambda creator=creator, index=index: creator.create_index(**index, **SHAPE),
            lambda deleter=deleter, bucket=bucket: deleter.delete_vector_bucket(**bucket),
        )
        outcomes.add((created, deleted))
        if created == "":
            assert deleted == "ConflictException"
            put(here, index, "kept")
            assert nearest(there, index, 1.0) == ["kept"]
        else:
            assert (created, deleted) in (("NotFoundException", ""), ("NotFoundException", "ConflictException"))
            exists = deleted != ""
            assert (error_of(there.get_index, **index)[0]) == "NotFoundException"
            listed = there.list_vector_buckets(prefix=bucket["vectorBucketName"])["vectorBuckets"]
            assert len(listed) == exists
    print(f"outcomes of the race: {outcomes}")


def test_one_of_two_creators_wins(pair: Pair) -> None:
    here, there = pair
    bucket = {"vectorBucketName": f"b-{uuid.uuid4()}"}
    assert sorted(race(*(lambda c=c: c.create_vector_bucket(**bucket) for c in pair))) == ["", "ConflictException"]
    for number in range(10):
        index = {**bucket, "indexName": f"contended-{number}"}
        shapes = [SHAPE | {"dimension": dimension} for dimension in (2, 3)]
        calls = [lambda c=c, s=s, i=index: c.create_index(**i, **s) for c, s in zip(pair, shapes, strict=True)]
        outcome = race(*calls)
        assert sorted(outcome) == ["", "ConflictException"]
        winner = shapes[outcome.index("")]["dimension"]
        assert [client.get_index(**index)["index"]["dimension"] for client in (here, there)] == [winner, winner]
