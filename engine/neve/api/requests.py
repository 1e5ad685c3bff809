"""The inputs of the 22 operations and of our own ones, decoded. Absent members are None; booleans default to False."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from neve.dataclass import dataclass

Float32s: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionConfiguration:
    sse_type: str | None = None
    kms_key_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSearchConfiguration:
    metadata_key: str
    language: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSearch:
    """`add` or `delete` of UpdateMetadataConfiguration."""

    text_search_configurations: tuple[TextSearchConfiguration, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataConfiguration:
    non_filterable_metadata_keys: tuple[str, ...] | None = None
    text_search_configurations: tuple[TextSearchConfiguration, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutVector:
    """One record of PutVectors: `data` is already rounded to float32; `metadata` is any JSON document."""

    key: str
    data: Float32s
    metadata: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryText:
    text: str
    metadata_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfBucket:
    """Addresses a bucket: by its name or its ARN."""

    vector_bucket_name: str | None = None
    vector_bucket_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfIndex:
    """Addresses an index: by its ARN, or by the names of bucket and index."""

    vector_bucket_name: str | None = None
    index_name: str | None = None
    index_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVectorBucket:
    vector_bucket_name: str
    encryption_configuration: EncryptionConfiguration | None = None
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetVectorBucket(OfBucket):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVectorBuckets:
    max_results: int | None = None
    next_token: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteVectorBucket(OfBucket):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class PutVectorBucketDefaultIndexMode(OfBucket):
    default_index_mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutVectorBucketPolicy(OfBucket):
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GetVectorBucketPolicy(OfBucket):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteVectorBucketPolicy(OfBucket):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateIndex(OfBucket):
    index_name: str
    data_type: str
    dimension: int
    distance_metric: str
    metadata_configuration: MetadataConfiguration | None = None
    encryption_configuration: EncryptionConfiguration | None = None
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetIndex(OfIndex):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ListIndexes(OfBucket):
    max_results: int | None = None
    next_token: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteIndex(OfIndex):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateIndexMode(OfIndex):
    index_mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMetadataConfiguration(OfIndex):
    add: TextSearch | None = None
    delete: TextSearch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutVectors(OfIndex):
    vectors: tuple[PutVector, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetVectors(OfIndex):
    keys: tuple[str, ...]
    return_data: bool = False
    return_metadata: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteVectors(OfIndex):
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVectors(OfIndex):
    max_results: int | None = None
    next_token: str | None = None
    segment_count: int | None = None
    segment_index: int | None = None
    return_data: bool = False
    return_metadata: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryVectors(OfIndex):
    top_k: int
    query_vector: Float32s | None = None
    filter: object = None
    query_mode: str | None = None
    return_metadata: bool = False
    return_distance: bool = False
    query_texts: tuple[QueryText, ...] | None = None
    return_scores: bool = False
    next_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTagsForResource:
    resource_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagResource:
    resource_arn: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UntagResource:
    resource_arn: str
    tag_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureIndex(OfIndex):
    """`settings`: any JSON document, whose rules are the operation's."""

    settings: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRecall(OfIndex):
    top_k: int | None = None
    queries: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmIndex(OfIndex):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class CountVectors(OfIndex):
    filter: object = None
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteVectorsByFilter(OfIndex):
    filter: object
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One record of PatchMetadata; `metadata` is any JSON document but null."""

    key: str
    metadata: object


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchMetadata(OfIndex):
    vectors: tuple[Patch, ...]
    mode: str = "merge"
