"""One case of the catalogue, the state that all of them start from, and the shapes that most of them have.

Indexes: `words` is cosine and cannot filter on `raw`, `points` is euclidean; both have dimension 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Members = Mapping[str, Any]

ARN = "arn:aws:s3vectors:us-east-1:000000000000:bucket/"
BUCKET_ARN = ARN + "library"
INDEX_ARN = ARN + "library/index/words"
FOREIGN_REGION = BUCKET_ARN.replace("us-east-1", "eu-west-1")
FOREIGN_ACCOUNT = INDEX_ARN.replace("000000000000", "123456789012")
KMS_KEY = "arn:aws:kms:us-east-1:000000000000:key/1"
TAG_PATTERN = r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$"
BUCKET_PATTERN = r"^arn:aws[-a-z0-9]*:s3vectors:[a-z0-9-]+:[0-9]{12}:bucket/[a-z0-9][a-z0-9-.]{1,61}[a-z0-9]$"
INDEX_PATTERN = BUCKET_PATTERN[:-1] + "/index/[a-z0-9][a-z0-9-.]{1,61}[a-z0-9]$"
KMS_PATTERN = r"^(arn:aws[-a-z0-9]*:kms:[-a-z0-9]*:[0-9]{12}:key/.+)$"

LIBRARY: Members = {"vectorBucketName": "library"}
WORDS: Members = {"vectorBucketName": "library", "indexName": "words"}
POINTS: Members = {"vectorBucketName": "library", "indexName": "points"}
NOWHERE: Members = {"vectorBucketName": "nowhere", "indexName": "words"}
NO_INDEX: Members = {"vectorBucketName": "library", "indexName": "nothing"}
SHAPE: Members = {"dataType": "float32", "dimension": 4, "distanceMetric": "cosine"}
ONES: Members = {"float32": [1, 1, 1, 1]}

SETUP: Sequence[tuple[str, Members]] = (
    ("CreateVectorBucket", LIBRARY),
    (
        "CreateIndex",
        {**WORDS, **SHAPE, "metadataConfiguration": {"nonFilterableMetadataKeys": ["raw"]}, "tags": {"team": "ice"}},
    ),
    ("CreateIndex", {**POINTS, **SHAPE, "distanceMetric": "euclidean"}),
    ("PutVectors", {**WORDS, "vectors": [{"key": "a", "data": ONES, "metadata": {"year": 2020, "raw": "text"}}]}),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One request and the refusal that it must meet; `fields` are (path, message) of the fieldList."""

    name: str
    operation: str
    members: Members
    code: str
    status: int
    message: str
    fields: Sequence[tuple[str, str]] = ()


def constraints(name: str, operation: str, members: Members, *violations: tuple[str, str]) -> Case:
    """Violations of the model, as (path, text of the rule, from "Value" on)."""
    count = len(violations)
    head = f"{count} validation error{'' if count == 1 else 's'} detected. "
    texts = [(path, text.replace(" at ", f" at '{path}' failed to satisfy constraint: ")) for path, text in violations]
    return invalid(name, operation, members, head + "; ".join(text for _, text in texts), *texts)


def invalid(name: str, operation: str, members: Members, message: str, *fields: tuple[str, str]) -> Case:
    return Case(name, operation, members, "ValidationException", 400, message, fields)


def record(name: str, item: Members, problem: str, path: str = "", index: Members = WORDS) -> Case:
    key = item["key"]
    message = f"Invalid record for key '{key}': {problem}"
    before = {"key": "good", "data": ONES}
    return invalid(name, "PutVectors", {**index, "vectors": [before, item]}, message, (f"vectors[1]{path}", problem))


def metadata(name: str, document: object, problem: str) -> Case:
    return record(name, {"key": "bad", "data": ONES, "metadata": document}, problem, ".metadata")


def missing(name: str, operation: str, members: Members, what: str) -> Case:
    return Case(name, operation, members, "NotFoundException", 404, f"The specified {what} could not be found")


def conflict(name: str, operation: str, members: Members, message: str) -> Case:
    return Case(name, operation, members, "ConflictException", 409, message)


def length(found: int, low: int, high: int) -> str:
    return f"Value with length {found} at Member must have length between {low} and {high}, inclusive"


def vectors(count: int) -> list[Members]:
    return [{"key": str(number), "data": ONES} for number in range(count)]


def query(**members: object) -> Members:
    return {**WORDS, "topK": 1, "queryVector": ONES, **members}


def tags(count: int) -> Members:
    return {str(number): "" for number in range(count)}
