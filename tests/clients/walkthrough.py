"""The published walkthrough of S3 Vectors, with unmodified boto3 from 1.39.5 on: `python walkthrough.py ENDPOINT_URL`.

Needs boto3 alone, so that it runs in an environment of any age. Credentials come from the standard variables.
"""

import math
import sys
import uuid

import boto3
from botocore.client import BaseClient
from botocore.exceptions import ClientError

DIMENSION = 1024
MYSTERY = {"genre": "mystery", "year": 2020, "raw_text": "hello"}


def first(value: float, dimension: int = DIMENSION) -> dict:
    """(value, 0, 0, …) as the API takes it."""
    return {"float32": [value] + [0.0] * (dimension - 1)}


def refused(call, **members) -> ClientError:
    """The error that a call answers."""
    try:
        answer = call(**members)
    except ClientError as error:
        return error
    raise AssertionError(f"expected an error, got {answer}")


def cosine(s3vectors: BaseClient, bucket: str) -> None:
    s3vectors.create_index(
        vectorBucketName=bucket,
        indexName="documents",
        dataType="float32",
        dimension=DIMENSION,
        distanceMetric="cosine",
        metadataConfiguration={"nonFilterableMetadataKeys": ["raw_text"]},
    )
    index = {"vectorBucketName": bucket, "indexName": "documents"}
    described = s3vectors.get_index(**index)["index"]
    assert described["dimension"] == DIMENSION
    assert described["distanceMetric"] == "cosine"
    assert described["metadataConfiguration"]["nonFilterableMetadataKeys"] == ["raw_text"]
    assert [found["indexName"] for found in s3vectors.list_indexes(vectorBucketName=bucket)["indexes"]] == ["documents"]

    s3vectors.put_vectors(**index, vectors=[{"key": "doc1", "data": first(0.1), "metadata": MYSTERY}])
    [doc1] = s3vectors.get_vectors(**index, keys=["doc1", "absent"], returnData=True, returnMetadata=True)["vectors"]
    assert doc1["data"]["float32"][0] == 0.10000000149011612
    assert len(doc1["data"]["float32"]) == DIMENSION
    assert doc1["metadata"] == MYSTERY
    assert type(doc1["metadata"]["year"]) is int

    found = s3vectors.query_vectors(**index, queryVector=first(0.19), topK=5, returnDistance=True)
    assert found["vectors"] == [{"key": "doc1", "distance": 0.0}]
    metric = "distanceMetric" in s3vectors.meta.service_model.operation_model("QueryVectors").output_shape.members
    assert found.get("distanceMetric") == ("cosine" if metric else None)

    by_arn = {"indexArn": described["indexArn"]}
    newer = MYSTERY | {"year": 2021}
    s3vectors.put_vectors(**by_arn, vectors=[{"key": "doc1", "data": first(0.1), "metadata": newer}])
    both = {"$and": [{"genre": {"$eq": "mystery"}}, {"year": {"$gte": 2021}}]}
    asked = {**by_arn, "queryVector": first(0.19), "topK": 5, "returnMetadata": True}
    assert s3vectors.query_vectors(**asked, filter=both)["vectors"] == [{"key": "doc1", "metadata": newer}]
    assert s3vectors.query_vectors(**asked, filter={"year": 2020})["vectors"] == []

    error = refused(s3vectors.query_vectors, **asked, filter={"raw_text": {"$eq": "hello"}})
    assert error.response["Error"]["Code"] == "ValidationException"
    assert error.response["Error"]["Message"] == "Invalid use of non-filterable metadata in filter"

    s3vectors.delete_vectors(**index, keys=["doc1"])
    answer = s3vectors.list_vectors(**index)
    assert answer["vectors"] == []
    assert "nextToken" not in answer


def euclidean(s3vectors: BaseClient, bucket: str) -> None:
    """Distances are squared."""
    names = {"vectorBucketName": bucket, "indexName": "squares"}
    s3vectors.create_index(**names, dataType="float32", dimension=3, distanceMetric="euclidean")
    corners = {"1": [1, 1, 1], "2": [2, 2, 2], "3": [1, 1, 2]}
    s3vectors.put_vectors(**names, vectors=[{"key": k, "data": {"float32": v}} for k, v in corners.items()])
    asked = {**names, "topK": 3, "returnDistance": True}
    found = s3vectors.query_vectors(**asked, queryVector={"float32": [1, 1, 1]})["vectors"]
    assert [(hit["key"], hit["distance"]) for hit in found] == [("1", 0), ("3", 1), ("2", 3)]

    s3vectors.put_vectors(**names, vectors=[{"key": "4", "data": first(0.1, 3)}])
    [nearest] = s3vectors.query_vectors(**asked | {"topK": 1}, queryVector=first(0.19, 3))["vectors"]
    assert nearest["key"] == "4"
    assert math.isclose(nearest["distance"], 0.0081, rel_tol=1e-5)


def pages(s3vectors: BaseClient, bucket: str) -> None:
    """A listing in pages, and in segments, has every key once."""
    names = {"vectorBucketName": bucket, "indexName": "squares"}
    keys = {f"key-{number}" for number in range(300)}
    s3vectors.put_vectors(**names, vectors=[{"key": key, "data": {"float32": [1, 2, 3]}} for key in sorted(keys)])
    paginator = s3vectors.get_paginator("list_vectors")

    def listed(**options: int) -> list:
        listing = paginator.paginate(**names, **options, PaginationConfig={"PageSize": 70})
        return [vector["key"] for page in listing for vector in page["vectors"]]

    assert sorted(listed()) == sorted(keys | {"1", "2", "3", "4"})
    assert sorted(key for n in range(3) for key in listed(segmentCount=3, segmentIndex=n)) == sorted(listed())


def ending(s3vectors: BaseClient, bucket: str) -> None:
    error = refused(s3vectors.delete_vector_bucket, vectorBucketName=bucket)
    assert error.response["Error"]["Code"] == "ConflictException"
    for name in ("documents", "squares"):
        s3vectors.delete_index(vectorBucketName=bucket, indexName=name)
    squares = {"vectorBucketName": bucket, "indexName": "squares"}
    error = refused(s3vectors.query_vectors, **squares, queryVector=first(1, 3), topK=1)
    assert isinstance(error, s3vectors.exceptions.NotFoundException)
    assert error.response["Error"]["Message"] == "The specified index could not be found"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    s3vectors.delete_vector_bucket(vectorBucketName=bucket)
    error = refused(s3vectors.get_vector_bucket, vectorBucketName=bucket)
    assert error.response["Error"]["Code"] == "NotFoundException"


def main(endpoint_url: str) -> None:
    s3vectors = boto3.client("s3vectors", endpoint_url=endpoint_url)
    bucket = f"walkthrough-{uuid.uuid4()}"
    s3vectors.create_vector_bucket(vectorBucketName=bucket)
    assert s3vectors.get_vector_bucket(vectorBucketName=bucket)["vectorBucket"]["vectorBucketName"] == bucket
    error = refused(s3vectors.create_vector_bucket, vectorBucketName=bucket)
    assert error.response["Error"]["Code"] == "ConflictException"
    for part in (cosine, euclidean, pages, ending):
        part(s3vectors, bucket)
    print(f"walked through with boto3 {boto3.__version__}")


if __name__ == "__main__":
    main(sys.argv[1])
