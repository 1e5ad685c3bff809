"""Requests that address nothing, wrongly, or what is taken."""

from __future__ import annotations

from collections.abc import Sequence

from tests.catalogue.cases import (
    ARN,
    BUCKET_ARN,
    FOREIGN_ACCOUNT,
    FOREIGN_REGION,
    INDEX_ARN,
    LIBRARY,
    NO_INDEX,
    NOWHERE,
    ONES,
    POINTS,
    SHAPE,
    WORDS,
    Case,
    conflict,
    invalid,
    missing,
    query,
    vectors,
)

_INDEX_FORM = "Must specify either indexArn or both vectorBucketName and indexName"
ADDRESSES: Sequence[Case] = (
    invalid("arn-and-names", "GetIndex", {**WORDS, "indexArn": INDEX_ARN}, _INDEX_FORM),
    invalid("arn-and-bucket", "GetIndex", {**LIBRARY, "indexArn": INDEX_ARN}, _INDEX_FORM),
    invalid("arn-and-index", "ListVectors", {"indexName": "words", "indexArn": INDEX_ARN}, _INDEX_FORM),
    invalid("bucket-alone", "DeleteIndex", LIBRARY, _INDEX_FORM),
    invalid("index-alone", "QueryVectors", {"indexName": "words", "topK": 1, "queryVector": ONES}, _INDEX_FORM),
    invalid("no-index", "PutVectors", {"vectors": vectors(1)}, _INDEX_FORM),
    invalid(
        "both-bucket-forms",
        "GetVectorBucket",
        {**LIBRARY, "vectorBucketArn": BUCKET_ARN},
        "Must specify either vectorBucketName or vectorBucketArn but not both",
    ),
    invalid("no-bucket", "ListIndexes", {}, "Must specify either vectorBucketName or vectorBucketArn"),
    invalid(
        "no-bucket-for-index",
        "CreateIndex",
        {**SHAPE, "indexName": "new"},
        "Must specify either vectorBucketName or vectorBucketArn",
    ),
    invalid("bucket-characters", "CreateVectorBucket", {"vectorBucketName": "a_b"}, "Invalid vector bucket name"),
    invalid("bucket-upper-case", "CreateVectorBucket", {"vectorBucketName": "Library"}, "Invalid vector bucket name"),
    invalid("bucket-dot", "CreateVectorBucket", {"vectorBucketName": "a.b"}, "Invalid vector bucket name"),
    invalid("bucket-edge", "CreateVectorBucket", {"vectorBucketName": "-ab"}, "Invalid vector bucket name"),
    invalid("bucket-characters-get", "GetVectorBucket", {"vectorBucketName": "a&b"}, "Invalid vector bucket name"),
    invalid("index-characters", "CreateIndex", {**LIBRARY, **SHAPE, "indexName": "a/b"}, "Invalid index name"),
    invalid("index-edge", "GetIndex", {**LIBRARY, "indexName": "ab."}, "Invalid index name"),
    invalid(
        "index-characters-by-arn",
        "CreateIndex",
        {**SHAPE, "vectorBucketArn": FOREIGN_REGION, "indexName": "a b"},
        "Invalid index name",
    ),
)

_BUCKET, _INDEX, _RESOURCE = "vector bucket", "index", "resource"
MISSING: Sequence[Case] = (
    missing("get-bucket", "GetVectorBucket", {"vectorBucketName": "nowhere"}, _BUCKET),
    missing("delete-bucket", "DeleteVectorBucket", {"vectorBucketName": "nowhere"}, _BUCKET),
    missing("bucket-of-other-region", "GetVectorBucket", {"vectorBucketArn": FOREIGN_REGION}, _BUCKET),
    missing("index-in-nowhere", "CreateIndex", {**NOWHERE, **SHAPE}, _BUCKET),
    missing("indexes-of-nowhere", "ListIndexes", {"vectorBucketName": "nowhere"}, _BUCKET),
    missing("policy-of-nowhere", "GetVectorBucketPolicy", {"vectorBucketName": "nowhere"}, _BUCKET),
    missing("get-index", "GetIndex", NO_INDEX, _INDEX),
    missing("get-index-of-nowhere", "GetIndex", NOWHERE, _INDEX),
    missing("delete-index", "DeleteIndex", NO_INDEX, _INDEX),
    missing("delete-index-of-nowhere", "DeleteIndex", NOWHERE, _INDEX),
    missing("index-of-other-account", "GetIndex", {"indexArn": FOREIGN_ACCOUNT}, _INDEX),
    missing("put", "PutVectors", {**NO_INDEX, "vectors": vectors(1)}, _INDEX),
    missing(
        "put-before-record", "PutVectors", {**NO_INDEX, "vectors": [{"key": "a", "data": {"float32": []}}]}, _INDEX
    ),
    missing("get", "GetVectors", {**NOWHERE, "keys": ["a"]}, _INDEX),
    missing("list", "ListVectors", NO_INDEX, _INDEX),
    missing("list-before-token", "ListVectors", {**NO_INDEX, "nextToken": "x"}, _INDEX),
    missing("delete", "DeleteVectors", {**NO_INDEX, "keys": ["a"]}, _INDEX),
    missing("delete-before-duplicates", "DeleteVectors", {**NO_INDEX, "keys": ["a", "a"]}, _INDEX),
    missing("query", "QueryVectors", {**query(), **NO_INDEX}, _INDEX),
    missing("query-before-filter", "QueryVectors", {**query(filter={}), **NOWHERE}, _INDEX),
    missing("query-before-top-k", "QueryVectors", {**query(topK=10_001), **NO_INDEX}, _INDEX),
    missing("update-mode", "UpdateIndexMode", {**NO_INDEX, "indexMode": "CLASSIC"}, _INDEX),
    missing("tags-of-nothing", "ListTagsForResource", {"resourceArn": ARN + "nowhere"}, _RESOURCE),
    missing("tag-nothing", "TagResource", {"resourceArn": INDEX_ARN + "x", "tags": {"a": "b"}}, _RESOURCE),
    missing("untag-foreign", "UntagResource", {"resourceArn": FOREIGN_ACCOUNT, "tagKeys": ["a"]}, _RESOURCE),
    missing("tags-of-no-arn", "ListTagsForResource", {"resourceArn": "library"}, _RESOURCE),
    missing("get-policy", "GetVectorBucketPolicy", LIBRARY, "vector bucket policy"),
    missing("delete-policy", "DeleteVectorBucketPolicy", LIBRARY, "vector bucket policy"),
)

CONFLICTS: Sequence[Case] = (
    conflict("bucket-exists", "CreateVectorBucket", LIBRARY, "A vector bucket with the specified name already exists"),
    conflict("index-exists", "CreateIndex", {**POINTS, **SHAPE}, "An index with the specified name already exists"),
    conflict("bucket-not-empty", "DeleteVectorBucket", LIBRARY, "The specified vector bucket is not empty"),
)
