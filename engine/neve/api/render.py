"""Results as the JSON members that clients know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import orjson

from neve.api.requests import Float32s
from neve.api.results import (
    BucketCreated,
    BucketDescription,
    BucketPage,
    BucketSummary,
    Hit,
    HitPage,
    IndexCreated,
    IndexDescription,
    IndexPage,
    IndexSummary,
    Nothing,
    OutputVector,
    Result,
    Tags,
    VectorPage,
)
from neve.index.records import Encryption


@dataclass(frozen=True, slots=True)
class Style:
    """How to show what JSON has no type for: stored JSON documents, vectors, and times in whole seconds since 1970."""

    document: Callable[[bytes], object]
    vector: Callable[[Float32s], object]
    time: Callable[[int], object]


# For orjson with OPT_SERIALIZE_NUMPY. It prints float32 arrays in float32's shortest form (0.1), which reads back as
# another double than the one stored: hence float64.
WIRE = Style(orjson.Fragment, lambda vector: vector.astype(np.float64), lambda seconds: seconds)


def to_json(result: Result, style: Style = WIRE) -> dict[str, object]:
    """The members of a result; absent ones are left out."""
    match result:
        case Nothing():
            return {}
        case BucketCreated(arn):
            return {"vectorBucketArn": arn}
        case BucketDescription(summary, encryption):
            details = {"encryptionConfiguration": _encryption(encryption), "defaultIndexMode": "ENHANCED"}
            return {"vectorBucket": {**_bucket(summary, style), **details}}
        case BucketPage(buckets, next_token):
            return _page("vectorBuckets", [_bucket(summary, style) for summary in buckets], next_token)
        case IndexCreated(arn):
            return {"indexArn": arn}
        case IndexDescription():
            return {"index": _described(result, style)}
        case IndexPage(indexes, next_token):
            return _page("indexes", [_index(summary, style) for summary in indexes], next_token)
        case VectorPage(vectors, next_token):
            return _page("vectors", [_vector(vector, style) for vector in vectors], next_token)
        case HitPage(hits, metric, next_token):
            page: dict[str, object] = {"vectors": [_hit(hit, style) for hit in hits], "distanceMetric": metric.value}
            return page if next_token is None else {**page, "nextToken": next_token}
        case Tags(tags):
            return {"tags": dict(tags)}


def _page(name: str, members: list[dict[str, object]], next_token: str | None) -> dict[str, object]:
    page: dict[str, object] = {} if next_token is None else {"nextToken": next_token}
    return {**page, name: members}


def _bucket(summary: BucketSummary, style: Style) -> dict[str, object]:
    return {
        "vectorBucketName": summary.name,
        "vectorBucketArn": summary.arn,
        "creationTime": style.time(int(summary.created_s)),
    }


def _index(summary: IndexSummary, style: Style) -> dict[str, object]:
    return {
        "vectorBucketName": summary.bucket,
        "indexName": summary.name,
        "indexArn": summary.arn,
        "creationTime": style.time(int(summary.created_s)),
    }


def _described(index: IndexDescription, style: Style) -> dict[str, object]:
    members = _index(index.summary, style)
    members["dataType"] = "float32"
    members["dimension"] = index.dimension
    members["distanceMetric"] = index.metric.value
    if index.non_filterable is not None:
        members["metadataConfiguration"] = {"nonFilterableMetadataKeys": list(index.non_filterable)}
    members["encryptionConfiguration"] = _encryption(index.encryption)
    members["indexMode"] = "ENHANCED"
    return members


def _encryption(encryption: Encryption) -> dict[str, object]:
    members: dict[str, object] = {"sseType": encryption.sse_type}
    if encryption.kms_key_arn is not None:
        members["kmsKeyArn"] = encryption.kms_key_arn
    return members


def _vector(vector: OutputVector, style: Style) -> dict[str, object]:
    members: dict[str, object] = {"key": vector.key}
    if vector.data is not None:
        members["data"] = {"float32": style.vector(vector.data)}
    if vector.metadata is not None:
        members["metadata"] = style.document(vector.metadata)
    return members


def _hit(hit: Hit, style: Style) -> dict[str, object]:
    members: dict[str, object] = {"key": hit.key}
    if hit.distance is not None:
        members["distance"] = hit.distance
    if hit.metadata is not None:
        members["metadata"] = style.document(hit.metadata)
    return members
