"""Results as the JSON members that clients know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import orjson

from neve.api.requests import Float32s
from neve.api.results import (
    BucketCreated,
    BucketDescription,
    BucketPage,
    BucketSummary,
    Counted,
    Deleted,
    Explained,
    Hit,
    HitPage,
    IndexCreated,
    IndexDescription,
    IndexPage,
    IndexSettings,
    IndexSummary,
    Nothing,
    OutputVector,
    Result,
    Tags,
    VectorPage,
)
from neve.dataclass import dataclass
from neve.index.records import Encryption
from neve.query.explain import Reason
from neve.query.recall import Measured, Origin
from neve.query.warm import Warmed, WarmedPart


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
        case IndexSettings(values):
            return {"settings": dict(values)}
        case Counted(count):
            return {"count": count}
        case Deleted(count):
            return {"deleted": count}
        case Measured():
            return _measured(result)
        case Warmed(parts):
            return {"parts": [_warmed(part) for part in parts]}
        case Explained(explained):
            return to_json(explained, style)


def extras(result: Result) -> dict[str, object]:
    """What neve adds to an answer of the service, by name."""
    return {"explain": _explanation(result)} if isinstance(result, Explained) else {}


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


def _measured(measured: Measured) -> dict[str, object]:
    low, high = measured.interval
    return {
        "topK": measured.k,
        "target": measured.target,
        **_origin(measured.overall),
        "confidenceInterval": {"low": round(low, 6), "high": round(high, 6)},
        "origins": {name: _origin(origin) for name, origin in measured.origins.items()},
    }


def _origin(origin: Origin) -> dict[str, object]:
    recalls = {"mean": round(origin.mean, 6), "percentile5": round(origin.percentile5, 6)}
    return {"queries": len(origin.recalls), **recalls}


def _warmed(part: WarmedPart) -> dict[str, object]:
    return {
        "part": part.name,
        "blocks": part.blocks,
        "bytes": part.size_bytes,
        "memoryBytes": part.memory_bytes,
        "diskBytes": part.disk_bytes,
        "leftBytes": part.left_bytes,
    }


def _explanation(explained: Explained) -> dict[str, object]:
    explain, bill = explained.explain, explained.bill
    members: dict[str, object] = {
        "milliseconds": round(1000 * explained.seconds, 3),
        "waves": len(bill.waves),
        "requests": bill.requests,
        "hedges": bill.hedges,
        "dollars": round(bill.dollars, 10),
        "memory": {"blocks": explain.memory_blocks, "bytes": explain.memory_bytes},
        "disk": {"blocks": explain.disk_blocks, "bytes": explain.disk_bytes},
        "store": {"blocks": explain.store_blocks, "bytes": bill.bytes_read},
    }
    if explain.plan:
        members |= {
            "plan": explain.plan,
            "recall": explain.recall,
            "recentRows": explain.recent_rows,
            "lists": explain.lists,
            "listsTotal": explain.lists_total,
            "rowsScored": explain.rows_scored,
            "shards": explain.shards,
            "candidates": explain.candidates,
        }
    if explain.matches is not None:
        members["matches"] = explain.matches
    if explain.why:
        members["why"] = [_reason(reason) for reason in explain.why]
    return members


def _reason(reason: Reason) -> dict[str, object]:
    told: dict[str, object] = {"condition": reason.condition, "rows": reason.rows}
    if reason.together is not None:
        told["together"] = reason.together
    return told | ({"note": reason.note} if reason.note else {})
