"""What a stack is there for, however it runs: takes vectors, answers, compacts by itself, and keeps them."""

from __future__ import annotations

import json
import time
from typing import Any

import boto3
import numpy as np
from botocore.client import BaseClient

INDEX = {"vectorBucketName": "media", "indexName": "films"}
PUTS, PUT_ROWS = 66, 500  # 64 puts are folded, and make compaction due
ANGLES = np.linspace(0.0, 2 * np.pi, PUTS * PUT_ROWS, endpoint=False)


def client_of(exported: dict[str, str]) -> BaseClient:
    """boto3 with what a stack has told to export, asking each answer to explain itself."""
    client = boto3.client(
        "s3vectors",
        endpoint_url=exported["AWS_ENDPOINT_URL_S3VECTORS"],
        region_name=exported["AWS_DEFAULT_REGION"],
        aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
    )
    explained = {"x-neve-explain": "true"}
    client.meta.events.register("before-call.s3vectors", lambda params, **_: params["headers"].update(explained))
    return client


def fill(client: BaseClient) -> None:
    """33,000 points of the unit circle, each with its number."""
    client.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
    client.create_index(**INDEX, dataType="float32", dimension=2, distanceMetric="euclidean")
    points = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32).tolist()
    for start in range(0, len(points), PUT_ROWS):
        numbers = range(start, start + PUT_ROWS)
        vectors = [{"key": str(n), "data": {"float32": points[n]}, "metadata": {"number": n}} for n in numbers]
        client.put_vectors(**INDEX, vectors=vectors)


def explained_query(client: BaseClient, number: int) -> dict[str, Any]:
    """Asks for one of the points, which must be found; the explanation."""
    point = [float(np.cos(ANGLES[number])), float(np.sin(ANGLES[number]))]
    answer = client.query_vectors(**INDEX, queryVector={"float32": point}, topK=1, returnMetadata=True)
    assert answer["vectors"] == [{"key": str(number), "metadata": {"number": number}}]
    return json.loads(answer["ResponseMetadata"]["HTTPHeaders"]["x-neve-explain"])


def until_compacted(client: BaseClient, timeout_s: float = 120.0) -> None:
    """Ask until queries go by lists, which compaction makes."""
    deadline = time.monotonic() + timeout_s
    while explained_query(client, 12_345)["listsTotal"] == 0:
        assert time.monotonic() < deadline, "nobody compacts"
        time.sleep(1)
