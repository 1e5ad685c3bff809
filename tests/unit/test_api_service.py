"""What operations answer when all is well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from neve.api.limits import LIMITS
from neve.api.options import CallOptions, parse_consistency
from neve.errors import ValidationFailed
from neve.index.consistency import STRONG, Consistency
from tests.catalogue.cases import INDEX_ARN, LIBRARY, ONES, SHAPE, WORDS
from tests.unit.api_calls import Calls, calls_on


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls = calls_on()
    calls("CreateVectorBucket", **LIBRARY)
    calls("CreateIndex", **WORDS, **SHAPE, metadataConfiguration={"nonFilterableMetadataKeys": ["raw"]})
    yield calls
    calls.runtime.close()


def put(calls: Calls, *vectors: object) -> None:
    assert calls("PutVectors", **WORDS, vectors=list(vectors)) == {}


def vector(key: str, *components: float, **metadata: object) -> dict[str, object]:
    return {"key": key, "data": {"float32": list(components or (1, 1, 1, 1))}, "metadata": metadata}


def get(calls: Calls, *keys: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = calls("GetVectors", **WORDS, keys=keys, returnData=True, returnMetadata=True)[
        "vectors"
    ]
    return found


def test_bucket_round_trip(calls: Calls) -> None:
    arn = "arn:aws:s3vectors:us-east-1:000000000000:bucket/other"
    tags = {"team": "ice"}
    assert calls("CreateVectorBucket", vectorBucketName="other", tags=tags) == {"vectorBucketArn": arn}
    shown = calls("GetVectorBucket", vectorBucketArn=arn)["vectorBucket"]
    assert shown.pop("creationTime") == pytest.approx(calls.runtime.now().wall_s, abs=5)
    assert shown == {
        "vectorBucketName": "other",
        "vectorBucketArn": arn,
        "encryptionConfiguration": {"sseType": "AES256"},
        "defaultIndexMode": "ENHANCED",
    }
    assert calls("ListTagsForResource", resourceArn=arn) == {"tags": tags}
    assert calls("DeleteVectorBucket", vectorBucketArn=arn) == {}
    assert calls("ListVectorBuckets", prefix="other") == {"vectorBuckets": []}


def test_index_round_trip(calls: Calls) -> None:
    shown = calls("GetIndex", indexArn=INDEX_ARN)["index"]
    assert isinstance(shown.pop("creationTime"), int)
    assert shown == {
        **WORDS,
        **SHAPE,
        "indexArn": INDEX_ARN,
        "metadataConfiguration": {"nonFilterableMetadataKeys": ["raw"]},
        "encryptionConfiguration": {"sseType": "AES256"},
        "indexMode": "ENHANCED",
    }
    assert calls("DeleteIndex", **WORDS) == {}
    assert calls.refused("GetIndex", WORDS).status == 404
    assert calls("CreateIndex", **WORDS, **SHAPE) == {"indexArn": INDEX_ARN}
    assert "metadataConfiguration" not in calls("GetIndex", **WORDS)["index"]
    assert calls("ListVectors", **WORDS) == {"vectors": []}


def test_an_index_of_another_shape_under_a_known_name(calls: Calls) -> None:
    put(calls, vector("a"))
    calls("DeleteIndex", **WORDS)
    calls("CreateIndex", **{**WORDS, **SHAPE, "dimension": 2, "distanceMetric": "euclidean"})
    put(calls, {"key": "b", "data": {"float32": [0, 0]}})
    assert [found["key"] for found in calls("ListVectors", **WORDS)["vectors"]] == ["b"]


def test_names_are_listed_in_pages(calls: Calls) -> None:
    names = sorted(f"many-{number}" for number in range(7))
    for name in names:
        calls("CreateVectorBucket", vectorBucketName=name)
        calls("CreateIndex", **LIBRARY, indexName=name, **SHAPE)
    for operation, scope, member, key in (
        ("ListVectorBuckets", {}, "vectorBuckets", "vectorBucketName"),
        ("ListIndexes", LIBRARY, "indexes", "indexName"),
    ):
        first = calls(operation, **scope, prefix="many-", maxResults=3)
        second = calls(operation, **scope, prefix="many-", maxResults=4, nextToken=first["nextToken"])
        assert [shown[key] for shown in first[member] + second[member]] == names
        assert "nextToken" not in second
        foreign = calls.refused(operation, {**scope, "prefix": "m", "nextToken": first["nextToken"]})
        assert (foreign.code, foreign.message) == ("ValidationException", "Invalid page token")


def test_vectors_come_back_as_stored(calls: Calls) -> None:
    body = orjson.dumps({**WORDS, "vectors": [vector("doc", 0.1, 0, 0, 1)]})
    body = body.replace(
        b'"metadata":{}', '"metadata":{"year":2020,"big":12345678901234567890123,"x":1.50,"é":"☃"}'.encode()
    )
    calls.text("PutVectors", body)
    assert get(calls, "doc", "doc", "absent") == [
        {
            "key": "doc",
            "data": {"float32": [0.10000000149011612, 0.0, 0.0, 1.0]},
            "metadata": {"year": 2020, "big": 1.2345678901234568e22, "x": 1.5, "é": "☃"},
        }
    ]
    stored = calls.service.call("GetVectors", {**WORDS, "keys": ["doc"], "returnMetadata": True}, CallOptions())
    assert stored.vectors[0].metadata == '{"year":2020,"big":12345678901234567890123,"x":1.5,"é":"☃"}'.encode()
    assert calls("GetVectors", **WORDS, keys=["doc"]) == {"vectors": [{"key": "doc"}]}


def test_a_put_replaces_the_whole_vector_and_the_last_of_equal_keys_wins(calls: Calls) -> None:
    put(calls, vector("a", year=1), vector("b"), vector("a", 2, 2, 2, 2))
    assert get(calls, "a") == [{"key": "a", "data": {"float32": [2, 2, 2, 2]}, "metadata": {}}]
    put(calls, {"key": "a", "data": ONES, "metadata": None})
    assert get(calls, "a")[0]["metadata"] == {}


@pytest.mark.parametrize(
    "metadata",
    [
        {"f": "x" * 2035},
        {"ffffffffff": "x" * 2026},
        {"raw": "x" * 40_945},
        {"": "", "$eq": 0, "a.b": [1, 1.5], "x" * 1024: True},
        {str(number): number for number in range(50)},
        {"f": [0] * 254},
        {"a": ["", ""]},
    ],
    ids=["text", "key", "raw", "names", "count", "numbers", "equal-elements"],
)
def test_metadata_at_the_limit(calls: Calls, metadata: dict[str, object]) -> None:
    put(calls, {"key": "a", "data": ONES, "metadata": metadata})
    assert get(calls, "a")[0]["metadata"] == metadata


def test_keys_and_numbers_at_the_limit(calls: Calls) -> None:
    keys = ["é" * 512, "k" * 1024, "\u0000", " ", "a/b"]
    put(calls, *(vector(key, 3.4028235e38, 1e-45, 0, -1) for key in keys))
    assert sorted(found["key"] for found in get(calls, *keys)) == sorted(keys)
    assert get(calls, " ")[0]["data"]["float32"] == [3.4028234663852886e38, 1.401298464324817e-45, 0.0, -1.0]


def test_a_zero_vector_is_euclidean(calls: Calls) -> None:
    calls("CreateIndex", **{**LIBRARY, "indexName": "points", **SHAPE, "distanceMetric": "euclidean"})
    points = {**LIBRARY, "indexName": "points"}
    calls("PutVectors", **points, vectors=[vector("zero", 0, 0, 0, 0)])
    query = calls("QueryVectors", **points, topK=1, queryVector={"float32": [0.3, 0, 0, 0]}, returnDistance=True)
    assert query == {"vectors": [{"key": "zero", "distance": pytest.approx(0.09)}], "distanceMetric": "euclidean"}


def test_query_shows_what_is_asked_for(calls: Calls) -> None:
    put(calls, vector("a", 1, 0, 0, 0, year=2020), vector("b", 1, 1, 0, 0, year=2021), vector("c", -1, 0, 0, 0))
    query = {**WORDS, "topK": 3, "queryVector": {"float32": [0.19, 0, 0, 0]}}
    assert calls("QueryVectors", **query) == {
        "vectors": [{"key": "a"}, {"key": "b"}, {"key": "c"}],
        "distanceMetric": "cosine",
    }
    shown = calls("QueryVectors", **query, returnDistance=True, returnMetadata=True, queryMode="ENHANCED")["vectors"]
    assert shown == [
        {"key": "a", "distance": 0.0, "metadata": {"year": 2020}},
        {"key": "b", "distance": pytest.approx(0.29289323), "metadata": {"year": 2021}},
        {"key": "c", "distance": 2.0, "metadata": {}},
    ]
    assert orjson.loads(orjson.dumps(shown[1]["distance"])) == float(f"{shown[1]['distance']:.17g}")
    assert calls("QueryVectors", **query, filter={"year": {"$gte": 2021}})["vectors"] == [{"key": "b"}]
    assert calls("QueryVectors", **query, filter=None)["vectors"] == [{"key": "a"}, {"key": "b"}, {"key": "c"}]


def test_delete_forgets_and_ignores_what_is_absent(calls: Calls) -> None:
    put(calls, vector("a"), vector("b"))
    assert calls("DeleteVectors", **WORDS, keys=["a", "absent"]) == {}
    assert [found["key"] for found in get(calls, "a", "b")] == ["b"]


def test_tags_merge_and_leave(calls: Calls) -> None:
    for arn in (INDEX_ARN, INDEX_ARN.split("/index")[0]):
        assert calls("TagResource", resourceArn=arn, tags={"a": "1", "b": "aws:2"}) == {}
        assert calls("TagResource", resourceArn=arn, tags={"b": "3", **{str(n): "" for n in range(48)}}) == {}
        assert calls("UntagResource", resourceArn=arn, tagKeys=["a", "absent", *map(str, range(48))]) == {}
        assert calls("ListTagsForResource", resourceArn=arn) == {"tags": {"b": "3"}}


def test_a_repeat_with_the_same_invocation_is_not_applied_again(calls: Calls) -> None:
    first = CallOptions(invocation="one")
    members = {"vectors": [vector("a")]}
    calls("PutVectors", first, **WORDS, **members)
    calls("DeleteVectors", **WORDS, keys=["a"])
    calls("PutVectors", first, **WORDS, **members)
    assert get(calls, "a") == []


@pytest.mark.parametrize(
    ("limits", "operation", "members", "what"),
    [
        ({"buckets": 1}, "CreateVectorBucket", {"vectorBucketName": "second"}, "vector buckets"),
        ({"indexes_per_bucket": 1}, "CreateIndex", {**LIBRARY, "indexName": "second", **SHAPE}, "indexes"),
        ({"vectors_per_index": 1}, "PutVectors", {**WORDS, "vectors": [vector("b")]}, "vectors"),
    ],
)
def test_quotas(limits: dict[str, int], operation: str, members: dict[str, object], what: str) -> None:
    calls = calls_on(replace(LIMITS["aws"], **limits))
    calls("CreateVectorBucket", **LIBRARY)
    calls("CreateIndex", **WORDS, **SHAPE)
    calls("PutVectors", **WORDS, vectors=[vector("a")])
    fault = calls.refused(operation, members)
    assert (fault.code, fault.status) == ("ServiceQuotaExceededException", 402)
    assert fault.message == f"You have reached the maximum number of {what}"
    calls.runtime.close()


def test_wide_limits() -> None:
    calls = calls_on(LIMITS["wide"])
    calls("CreateVectorBucket", **LIBRARY)
    calls("CreateIndex", **{**WORDS, **SHAPE, "dimension": 16_384})
    data = {"float32": [1.5] * 16_384}
    calls("PutVectors", **WORDS, vectors=[{"key": "a", "data": data, "metadata": {"f": "x" * 60_000}}])
    assert calls("QueryVectors", **WORDS, topK=100_000, queryVector=data)["vectors"] == [{"key": "a"}]
    fault = calls.refused("QueryVectors", {**WORDS, "topK": 100_001, "queryVector": data})
    assert fault.message == "topK must be between 1 and 100000"
    calls.runtime.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("strong", STRONG),
        (" Strong ", STRONG),
        ("bounded;seconds=5", Consistency(5.0)),
        ("bounded; seconds = 0.5", Consistency(0.5)),
        ("bounded;seconds=0", Consistency(0.0)),
    ],
)
def test_consistency(text: str, expected: Consistency) -> None:
    assert parse_consistency(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "weak", "bounded", "bounded;seconds=", "bounded;seconds=-1", "bounded;seconds=nan", "bounded;seconds=inf"],
)
def test_consistency_that_is_none(text: str) -> None:
    with pytest.raises(ValidationFailed, match="consistency must be 'strong' or 'bounded;seconds=N'"):
        parse_consistency(text)


def test_bounded_reads_may_be_old_and_strong_ones_are_not(calls: Calls) -> None:
    put(calls, vector("a"))
    elsewhere = calls_on(store=calls.service.database.store)
    elsewhere("DeleteVectors", **WORDS, keys=["a"])
    bounded = CallOptions(consistency=Consistency(3600.0))
    assert calls("ListVectors", bounded, **WORDS)["vectors"] == [{"key": "a"}]
    assert calls("ListVectors", **WORDS)["vectors"] == []
    elsewhere.runtime.close()


def test_calls_from_many_threads(calls: Calls) -> None:
    def work(number: int) -> None:
        for step in range(10):
            put(calls, vector(f"{number}-{step}"))
            calls("QueryVectors", **WORDS, topK=5, queryVector=ONES)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls("ListVectors", **WORDS)["vectors"]) == 80
