"""Operations on indexes."""

from __future__ import annotations

from neve.api import requests
from neve.api.address import bucket_of, index_of, new_index_of
from neve.api.buckets import NAMES_PAGE, chosen_encryption
from neve.api.context import Context
from neve.api.results import IndexCreated, IndexDescription, IndexPage, IndexSummary, Nothing
from neve.api.tags import check_new_tags
from neve.errors import FieldError, LimitExceeded, ValidationFailed
from neve.index.records import IndexConfig, IndexRecord
from neve.vectors.metric import Metric

_TEXT_SEARCH = "Text search is not supported by this server"


def create_index(context: Context, request: requests.CreateIndex) -> IndexCreated:
    """Raises BucketNotFound, IndexExists, LimitExceeded, KeyUnusable, ValidationFailed."""
    bucket, name = new_index_of(context.identity, request)
    defaults = context.database.bucket(bucket)
    asked = request.metadata_configuration
    if asked is not None and asked.text_search_configurations:
        raise _without_text_search("metadataConfiguration.textSearchConfigurations")
    config = IndexConfig(
        request.dimension,
        Metric(request.distance_metric),
        None if asked is None else asked.non_filterable_metadata_keys or (),
        chosen_encryption(request.encryption_configuration, defaults.encryption),
    )
    tags = request.tags or {}
    check_new_tags(tags, context.limits)
    try:
        context.database.create_index(bucket, name, config, tags, quota=context.limits.indexes_per_bucket)
    except LimitExceeded as error:
        raise LimitExceeded("You have reached the maximum number of indexes") from error
    return IndexCreated(context.identity.index_arn(bucket, name))


def get_index(context: Context, request: requests.GetIndex) -> IndexDescription:
    """Raises IndexNotFound, ValidationFailed."""
    record = _existing(context, request)
    config = record.config
    summary = _summary(context, record)
    return IndexDescription(summary, config.dimension, config.metric, config.non_filterable, config.encryption)


def list_indexes(context: Context, request: requests.ListIndexes) -> IndexPage:
    """One page, ascending by name; raises BucketNotFound, PageTokenInvalid, ValidationFailed."""
    bucket = bucket_of(context.identity, request)
    prefix = request.prefix or ""
    after = ""
    if request.next_token is not None:
        context.database.bucket(bucket)  # a missing bucket is told before a bad token
        after = context.tokens.name(request.next_token, "indexes", bucket, prefix)
    records, more = context.database.list_indexes(bucket, prefix, after, request.max_results or NAMES_PAGE)
    next_token = context.tokens.of_name(records[-1].name, "indexes", bucket, prefix) if more and records else None
    return IndexPage(tuple(_summary(context, record) for record in records), next_token)


def delete_index(context: Context, request: requests.DeleteIndex) -> Nothing:
    """Raises IndexNotFound, ValidationFailed."""
    context.database.delete_index(*index_of(context.identity, request))
    return Nothing()


def update_index_mode(context: Context, request: requests.UpdateIndexMode) -> Nothing:
    """Always refused: ENHANCED is the only mode here, and it is never changed."""
    _existing(context, request)
    if request.index_mode == "CLASSIC":
        raise ValidationFailed(
            "indexMode cannot be set to CLASSIC because the vector bucket does not support CLASSIC mode"
        )
    raise ValidationFailed("indexMode cannot be changed: it is ENHANCED for every index of this server")


def update_metadata_configuration(context: Context, request: requests.UpdateMetadataConfiguration) -> Nothing:
    """Always refused: there is no text search to configure."""
    _existing(context, request)
    if (request.add is None) == (request.delete is None):
        raise ValidationFailed("Must specify either add or delete but not both")
    raise _without_text_search("add" if request.delete is None else "delete")


def _without_text_search(path: str) -> ValidationFailed:
    return ValidationFailed(_TEXT_SEARCH, FieldError(path, _TEXT_SEARCH))


def _existing(context: Context, request: requests.OfIndex) -> IndexRecord:
    return context.database.index(*index_of(context.identity, request)).read(context.options.consistency).record


def _summary(context: Context, record: IndexRecord) -> IndexSummary:
    arn = context.identity.index_arn(record.bucket, record.name)
    return IndexSummary(record.bucket, record.name, arn, record.created_s)
