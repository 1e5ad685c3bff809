"""Violations of the service's model: each with the text of its constraint."""

from __future__ import annotations

from collections.abc import Sequence

from tests.catalogue.cases import (
    BUCKET_ARN,
    BUCKET_PATTERN,
    INDEX_PATTERN,
    KMS_PATTERN,
    LIBRARY,
    NO_INDEX,
    ONES,
    SHAPE,
    TAG_PATTERN,
    WORDS,
    Case,
    constraints,
    length,
    query,
    vectors,
)

NULL = "Value at Member must not be null"
CONSTRAINTS: Sequence[Case] = (
    constraints("bucket-name-missing", "CreateVectorBucket", {}, ("/vectorBucketName", NULL)),
    constraints("null-is-absent", "CreateVectorBucket", {"vectorBucketName": None}, ("/vectorBucketName", NULL)),
    constraints(
        "bucket-name-short", "CreateVectorBucket", {"vectorBucketName": "ab"}, ("/vectorBucketName", length(2, 3, 63))
    ),
    constraints(
        "bucket-name-long",
        "CreateVectorBucket",
        {"vectorBucketName": "b" * 64},
        ("/vectorBucketName", length(64, 3, 63)),
    ),
    constraints(
        "vector-key-empty",
        "PutVectors",
        {**WORDS, "vectors": [{"key": "", "data": ONES}]},
        ("/vectors/0/key", length(0, 1, 1024)),
    ),
    constraints(
        "vector-key-long",
        "PutVectors",
        {**WORDS, "vectors": [{"key": "a", "data": ONES}, {"key": "k" * 1025, "data": ONES}]},
        ("/vectors/1/key", length(1025, 1, 1024)),
    ),
    constraints(
        "vector-without-members",
        "PutVectors",
        {**WORDS, "vectors": [{}]},
        ("/vectors/0/key", NULL),
        ("/vectors/0/data", NULL),
    ),
    constraints("vectors-missing", "PutVectors", WORDS, ("/vectors", NULL)),
    constraints("vectors-empty", "PutVectors", {**WORDS, "vectors": []}, ("/vectors", length(0, 1, 500))),
    constraints(
        "vectors-too-many", "PutVectors", {**WORDS, "vectors": vectors(501)}, ("/vectors", length(501, 1, 500))
    ),
    constraints(
        "delete-too-many",
        "DeleteVectors",
        {**WORDS, "keys": [str(n) for n in range(501)]},
        ("/keys", length(501, 1, 500)),
    ),
    constraints(
        "get-too-many", "GetVectors", {**WORDS, "keys": [str(n) for n in range(101)]}, ("/keys", length(101, 1, 100))
    ),
    constraints("get-empty-key", "GetVectors", {**WORDS, "keys": ["a", ""]}, ("/keys/1", length(0, 1, 1024))),
    constraints(
        "dimension-zero",
        "CreateIndex",
        {**NO_INDEX, **SHAPE, "dimension": 0},
        ("/dimension", "Value at Member must be between 1 and 4096, inclusive"),
    ),
    constraints(
        "dimension-large",
        "CreateIndex",
        {**NO_INDEX, **SHAPE, "dimension": 4097},
        ("/dimension", "Value at Member must be between 1 and 4096, inclusive"),
    ),
    constraints(
        "top-k-zero", "QueryVectors", query(topK=0), ("/topK", "Value at Member must be greater than or equal to 1")
    ),
    constraints("top-k-missing", "QueryVectors", {**WORDS, "queryVector": ONES}, ("/topK", NULL)),
    constraints(
        "max-results-large",
        "ListVectors",
        {**WORDS, "maxResults": 1001},
        ("/maxResults", "Value at Member must be between 1 and 1000, inclusive"),
    ),
    constraints(
        "names-page-large",
        "ListVectorBuckets",
        {"maxResults": 501},
        ("/maxResults", "Value at Member must be between 1 and 500, inclusive"),
    ),
    constraints("prefix-long", "ListIndexes", {**LIBRARY, "prefix": "p" * 64}, ("/prefix", length(64, 1, 63))),
    constraints("token-empty", "ListVectorBuckets", {"nextToken": ""}, ("/nextToken", length(0, 1, 512))),
    constraints("token-long", "ListVectors", {**WORDS, "nextToken": "t" * 2049}, ("/nextToken", length(2049, 1, 2048))),
    constraints("query-token-long", "QueryVectors", query(nextToken="t" * 4097), ("/nextToken", length(4097, 1, 4096))),
    constraints(
        "segment-count-large",
        "ListVectors",
        {**WORDS, "segmentCount": 17, "segmentIndex": 16},
        ("/segmentCount", "Value at Member must be between 1 and 16, inclusive"),
        ("/segmentIndex", "Value at Member must be between 0 and 15, inclusive"),
    ),
    constraints(
        "data-type",
        "CreateIndex",
        {**NO_INDEX, **SHAPE, "dataType": "float64"},
        ("/dataType", "Value at Member must satisfy enum value set: [float32]"),
    ),
    constraints(
        "metric",
        "CreateIndex",
        {**NO_INDEX, **SHAPE, "distanceMetric": "dot"},
        ("/distanceMetric", "Value at Member must satisfy enum value set: [euclidean, cosine]"),
    ),
    constraints(
        "several-at-once",
        "CreateIndex",
        {**LIBRARY, "indexName": "ab", "dataType": "int8", "dimension": 9999, "distanceMetric": "dot"},
        ("/indexName", length(2, 3, 63)),
        ("/dataType", "Value at Member must satisfy enum value set: [float32]"),
        ("/dimension", "Value at Member must be between 1 and 4096, inclusive"),
        ("/distanceMetric", "Value at Member must satisfy enum value set: [euclidean, cosine]"),
    ),
    constraints(
        "sse-type",
        "CreateVectorBucket",
        {"vectorBucketName": "new", "encryptionConfiguration": {"sseType": "none"}},
        ("/encryptionConfiguration/sseType", "Value at Member must satisfy enum value set: [AES256, aws:kms]"),
    ),
    constraints(
        "kms-key-pattern",
        "CreateVectorBucket",
        {"vectorBucketName": "new", "encryptionConfiguration": {"sseType": "aws:kms", "kmsKeyArn": "alias/x"}},
        (
            "/encryptionConfiguration/kmsKeyArn",
            f"Value at Member must satisfy regular expression pattern: {KMS_PATTERN}",
        ),
    ),
    constraints(
        "index-mode",
        "UpdateIndexMode",
        {**WORDS, "indexMode": "TURBO"},
        ("/indexMode", "Value at Member must satisfy enum value set: [CLASSIC, ENHANCED]"),
    ),
    constraints(
        "text-language",
        "UpdateMetadataConfiguration",
        {**WORDS, "add": {"textSearchConfigurations": [{"metadataKey": "t", "language": "la"}]}},
        (
            "/add/textSearchConfigurations/0/language",
            "Value at Member must satisfy enum value set: [en, fr, es, pt, it, de, nl, zh, ja, ko]",
        ),
    ),
    constraints(
        "non-filterable-too-many",
        "CreateIndex",
        {**NO_INDEX, **SHAPE, "metadataConfiguration": {"nonFilterableMetadataKeys": [str(n) for n in range(11)]}},
        ("/metadataConfiguration/nonFilterableMetadataKeys", length(11, 0, 10)),
    ),
    constraints(
        "non-filterable-long",
        "CreateIndex",
        {**NO_INDEX, **SHAPE, "metadataConfiguration": {"nonFilterableMetadataKeys": ["n" * 64]}},
        ("/metadataConfiguration/nonFilterableMetadataKeys/0", length(64, 1, 63)),
    ),
    constraints("query-texts-empty", "QueryVectors", query(queryTexts=[]), ("/queryTexts", length(0, 1, 10))),
    constraints(
        "tag-value",
        "CreateVectorBucket",
        {"vectorBucketName": "new", "tags": {"k": "a;b"}},
        ("/tags/k", f"Value at Member must satisfy regular expression pattern: {TAG_PATTERN}"),
    ),
    constraints(
        "tag-value-long",
        "TagResource",
        {"resourceArn": BUCKET_ARN, "tags": {"k": "v" * 257}},
        ("/tags/k", length(257, 0, 256)),
    ),
    constraints(
        "tag-key",
        "TagResource",
        {"resourceArn": BUCKET_ARN, "tags": {"a;b": ""}},
        ("/tags", f"Value at Member must satisfy regular expression pattern: {TAG_PATTERN}"),
    ),
    constraints(
        "bucket-arn-pattern",
        "GetVectorBucket",
        {"vectorBucketArn": "arn:aws:s3:::library"},
        ("/vectorBucketArn", f"Value at Member must satisfy regular expression pattern: {BUCKET_PATTERN}"),
    ),
    constraints(
        "index-arn-pattern",
        "GetIndex",
        {"indexArn": BUCKET_ARN},
        ("/indexArn", f"Value at Member must satisfy regular expression pattern: {INDEX_PATTERN}"),
    ),
    constraints("constraint-before-address", "GetVectors", {"keys": []}, ("/keys", length(0, 1, 100))),
)
