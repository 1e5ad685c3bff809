"""The inputs of the 22 operations as the service's model declares them, and of our own ones in its manner.

`limits` puts in the numbers of a profile.
"""

from __future__ import annotations

from neve.api import requests
from neve.api.limits import Limits
from neve.api.shapes import (
    TAG_PATTERN,
    Boolean,
    Document,
    Float32Vector,
    Integer,
    ListOf,
    MapOf,
    Member,
    Structure,
    Text,
    expression,
    structure,
)

_BUCKET_ARN = r"arn:aws[-a-z0-9]*:s3vectors:[a-z0-9-]+:[0-9]{12}:bucket/[a-z0-9][a-z0-9-.]{1,61}[a-z0-9]"
_INDEX_ARN = _BUCKET_ARN + r"/index/[a-z0-9][a-z0-9-.]{1,61}[a-z0-9]"
_KMS_KEY_ARN = r"(arn:aws[-a-z0-9]*:kms:[-a-z0-9]*:[0-9]{12}:key/.+)"

_NAME = Text(length=(3, 63))
_MODE = Text(enum=("CLASSIC", "ENHANCED"))
_METADATA_KEY = Text(length=(1, 63))
_VECTOR_KEY = Text(length=(1, 1024))
_BOOLEAN = Boolean()
_TAG_KEY = Text(length=(1, 128), pattern=TAG_PATTERN)
_TAGS = Member("tags", MapOf(_TAG_KEY, Text(length=(0, 256), pattern=TAG_PATTERN)))

_BUCKET_NAME = Member("vectorBucketName", _NAME)
_BUCKET = (_BUCKET_NAME, Member("vectorBucketArn", Text(pattern=expression(_BUCKET_ARN))))
_INDEX = (_BUCKET_NAME, Member("indexName", _NAME), Member("indexArn", Text(pattern=expression(_INDEX_ARN))))
_RESOURCE = Member("resourceArn", Text(length=(0, 1011)), required=True)

_ENCRYPTION = Member(
    "encryptionConfiguration",
    structure(
        requests.EncryptionConfiguration,
        Member("sseType", Text(enum=("AES256", "aws:kms"))),
        Member("kmsKeyArn", Text(length=(1, 2048), pattern=expression(_KMS_KEY_ARN))),
    ),
)
_TEXT_SEARCH = structure(
    requests.TextSearchConfiguration,
    Member("metadataKey", _METADATA_KEY, required=True),
    Member("language", Text(enum=("en", "fr", "es", "pt", "it", "de", "nl", "zh", "ja", "ko"))),
    Member("status", Text(enum=("ACTIVE", "BUILDING"))),
)
_TEXT_SEARCH_KEY = structure(requests.TextSearchConfiguration, Member("metadataKey", _METADATA_KEY, required=True))
_NAMES_PAGE = (
    Member("maxResults", Integer(1, 500)),
    Member("nextToken", Text(length=(1, 512))),
    Member("prefix", Text(length=(1, 63))),
)
MEASURED_K_MAX = 1000
MEASURED_QUERIES_MAX = 2000
"""Of MeasureRecall, which holds the true neighbours of all its queries in memory."""
PATCHES_MAX = 500
"""Of PatchMetadata, which reads and writes the rows whole."""

_RETURNS = (Member("returnData", _BOOLEAN), Member("returnMetadata", _BOOLEAN))


def inputs(limits: Limits) -> dict[str, Structure]:
    """The shape of every operation's input, by the operation's name."""
    return {
        **_bucket_inputs(),
        **_index_inputs(limits),
        **_vector_inputs(limits),
        **_tag_inputs(),
        **_extension_inputs(limits),
        **_selection_inputs(),
    }


def _bucket_inputs() -> dict[str, Structure]:
    return {
        "CreateVectorBucket": structure(
            requests.CreateVectorBucket, Member("vectorBucketName", _NAME, required=True), _ENCRYPTION, _TAGS
        ),
        "GetVectorBucket": structure(requests.GetVectorBucket, *_BUCKET),
        "ListVectorBuckets": structure(requests.ListVectorBuckets, *_NAMES_PAGE),
        "DeleteVectorBucket": structure(requests.DeleteVectorBucket, *_BUCKET),
        "PutVectorBucketDefaultIndexMode": structure(
            requests.PutVectorBucketDefaultIndexMode, *_BUCKET, Member("defaultIndexMode", _MODE, required=True)
        ),
        "PutVectorBucketPolicy": structure(
            requests.PutVectorBucketPolicy, *_BUCKET, Member("policy", Text(), required=True)
        ),
        "GetVectorBucketPolicy": structure(requests.GetVectorBucketPolicy, *_BUCKET),
        "DeleteVectorBucketPolicy": structure(requests.DeleteVectorBucketPolicy, *_BUCKET),
    }


def _index_inputs(limits: Limits) -> dict[str, Structure]:
    metadata = structure(
        requests.MetadataConfiguration,
        Member("nonFilterableMetadataKeys", ListOf(_METADATA_KEY, (0, limits.non_filterable_keys))),
        Member("textSearchConfigurations", ListOf(_TEXT_SEARCH, (0, 10))),
    )
    added = structure(requests.TextSearch, Member("textSearchConfigurations", ListOf(_TEXT_SEARCH, (0, 10))))
    deleted = structure(requests.TextSearch, Member("textSearchConfigurations", ListOf(_TEXT_SEARCH_KEY, (1, 10))))
    return {
        "CreateIndex": structure(
            requests.CreateIndex,
            *_BUCKET,
            Member("indexName", _NAME, required=True),
            Member("dataType", Text(enum=("float32",)), required=True),
            Member("dimension", Integer(1, limits.dimension), required=True),
            Member("distanceMetric", Text(enum=("euclidean", "cosine")), required=True),
            Member("metadataConfiguration", metadata),
            _ENCRYPTION,
            _TAGS,
        ),
        "GetIndex": structure(requests.GetIndex, *_INDEX),
        "ListIndexes": structure(requests.ListIndexes, *_BUCKET, *_NAMES_PAGE),
        "DeleteIndex": structure(requests.DeleteIndex, *_INDEX),
        "UpdateIndexMode": structure(requests.UpdateIndexMode, *_INDEX, Member("indexMode", _MODE, required=True)),
        "UpdateMetadataConfiguration": structure(
            requests.UpdateMetadataConfiguration, *_INDEX, Member("add", added), Member("delete", deleted)
        ),
    }


def _vector_inputs(limits: Limits) -> dict[str, Structure]:
    record = structure(
        requests.PutVector,
        Member("key", _VECTOR_KEY, required=True),
        Member("data", Float32Vector(), required=True),
        Member("metadata", Document()),
    )
    query_text = structure(
        requests.QueryText,
        Member("text", Text(length=(1, 1024)), required=True),
        Member("metadataKey", _METADATA_KEY, required=True),
    )
    return {
        "PutVectors": structure(
            requests.PutVectors, *_INDEX, Member("vectors", ListOf(record, (1, limits.put_vectors)), required=True)
        ),
        "GetVectors": structure(
            requests.GetVectors,
            *_INDEX,
            Member("keys", ListOf(_VECTOR_KEY, (1, limits.get_keys)), required=True),
            *_RETURNS,
        ),
        "DeleteVectors": structure(
            requests.DeleteVectors,
            *_INDEX,
            Member("keys", ListOf(_VECTOR_KEY, (1, limits.delete_keys)), required=True),
        ),
        "ListVectors": structure(
            requests.ListVectors,
            *_INDEX,
            Member("maxResults", Integer(1, limits.list_page)),
            Member("nextToken", Text(length=(1, 2048))),
            Member("segmentCount", Integer(1, 16)),
            Member("segmentIndex", Integer(0, 15)),
            *_RETURNS,
        ),
        "QueryVectors": structure(
            requests.QueryVectors,
            *_INDEX,
            Member("topK", Integer(1), required=True),
            Member("queryVector", Float32Vector()),
            Member("filter", Document()),
            Member("queryMode", _MODE),
            Member("returnMetadata", _BOOLEAN),
            Member("returnDistance", _BOOLEAN),
            Member("queryTexts", ListOf(query_text, (1, 10))),
            Member("returnScores", _BOOLEAN),
            Member("nextToken", Text(length=(1, 4096))),
        ),
    }


def _tag_inputs() -> dict[str, Structure]:
    return {
        "ListTagsForResource": structure(requests.ListTagsForResource, _RESOURCE),
        "TagResource": structure(requests.TagResource, _RESOURCE, Member("tags", _TAGS.shape, required=True)),
        "UntagResource": structure(
            requests.UntagResource, _RESOURCE, Member("tagKeys", ListOf(_TAG_KEY), required=True)
        ),
    }


def _extension_inputs(limits: Limits) -> dict[str, Structure]:
    return {
        "ConfigureIndex": structure(requests.ConfigureIndex, *_INDEX, Member("settings", Document())),
        "MeasureRecall": structure(
            requests.MeasureRecall,
            *_INDEX,
            Member("topK", Integer(1, min(limits.top_k, MEASURED_K_MAX))),
            Member("queries", Integer(2, MEASURED_QUERIES_MAX)),
            Member("seed", Integer(0)),
        ),
        "WarmIndex": structure(requests.WarmIndex, *_INDEX),
    }


def _selection_inputs() -> dict[str, Structure]:
    patch = structure(
        requests.Patch, Member("key", _VECTOR_KEY, required=True), Member("metadata", Document(), required=True)
    )
    return {
        "CountVectors": structure(
            requests.CountVectors, *_INDEX, Member("filter", Document()), Member("prefix", _VECTOR_KEY)
        ),
        "DeleteVectorsByFilter": structure(
            requests.DeleteVectorsByFilter,
            *_INDEX,
            Member("filter", Document(), required=True),
            Member("dryRun", _BOOLEAN),
        ),
        "PatchMetadata": structure(
            requests.PatchMetadata,
            *_INDEX,
            Member("vectors", ListOf(patch, (1, PATCHES_MAX)), required=True),
            Member("mode", Text(enum=("merge", "replace"))),
        ),
    }
