"""Operations on vector buckets."""

from __future__ import annotations

from neve.api import requests
from neve.api.address import bucket_of, checked_bucket_name
from neve.api.context import Context
from neve.api.document import parse_json
from neve.api.results import BucketCreated, BucketDescription, BucketPage, BucketSummary, Nothing
from neve.api.tags import check_new_tags
from neve.errors import FieldError, KeyUnusable, LimitExceeded, Malformed, PolicyNotFound, ValidationFailed
from neve.index.records import BucketRecord, Encryption

NAMES_PAGE = 500


def create_vector_bucket(context: Context, request: requests.CreateVectorBucket) -> BucketCreated:
    """Raises BucketExists, LimitExceeded, KeyUnusable, ValidationFailed."""
    name = checked_bucket_name(request.vector_bucket_name)
    encryption = chosen_encryption(request.encryption_configuration, Encryption())
    tags = request.tags or {}
    check_new_tags(tags, context.limits)
    try:
        context.database.create_bucket(name, encryption, tags, quota=context.limits.buckets)
    except LimitExceeded as error:
        raise LimitExceeded("You have reached the maximum number of vector buckets") from error
    return BucketCreated(context.identity.bucket_arn(name))


def get_vector_bucket(context: Context, request: requests.GetVectorBucket) -> BucketDescription:
    """Raises BucketNotFound, ValidationFailed."""
    record = context.database.bucket(bucket_of(context.identity, request))
    return BucketDescription(_summary(context, record), record.encryption)


def list_vector_buckets(context: Context, request: requests.ListVectorBuckets) -> BucketPage:
    """One page, ascending by name; raises PageTokenInvalid."""
    prefix = request.prefix or ""
    after = "" if request.next_token is None else context.tokens.name(request.next_token, "buckets", prefix)
    records, more = context.database.list_buckets(prefix, after, request.max_results or NAMES_PAGE)
    next_token = context.tokens.of_name(records[-1].name, "buckets", prefix) if more and records else None
    return BucketPage(tuple(_summary(context, record) for record in records), next_token)


def delete_vector_bucket(context: Context, request: requests.DeleteVectorBucket) -> Nothing:
    """Raises BucketNotFound, BucketNotEmpty, ValidationFailed."""
    context.database.delete_bucket(bucket_of(context.identity, request))
    return Nothing()


def put_default_index_mode(context: Context, request: requests.PutVectorBucketDefaultIndexMode) -> Nothing:
    """Always refused: ENHANCED is the only mode here, and it is never changed."""
    _existing(context, request)
    if request.default_index_mode == "CLASSIC":
        raise ValidationFailed(
            "defaultIndexMode cannot be set to CLASSIC because this vector bucket does not support CLASSIC mode"
        )
    raise ValidationFailed("defaultIndexMode cannot be changed: it is ENHANCED for every vector bucket of this server")


def put_bucket_policy(context: Context, request: requests.PutVectorBucketPolicy) -> Nothing:
    """Always refused: a policy that is not enforced is not accepted."""
    _existing(context, request)
    try:
        policy = parse_json(request.policy.encode())
    except Malformed:
        policy = None
    if not isinstance(policy, dict):
        raise ValidationFailed("Invalid policy document", FieldError("policy", "Invalid policy document"))
    message = "Vector bucket policies are not supported: this server would not enforce them"
    raise ValidationFailed(message, FieldError("policy", message))


def get_bucket_policy(context: Context, request: requests.GetVectorBucketPolicy) -> Nothing:
    """Always PolicyNotFound, since none is ever accepted."""
    _existing(context, request)
    raise PolicyNotFound


def delete_bucket_policy(context: Context, request: requests.DeleteVectorBucketPolicy) -> Nothing:
    """Always PolicyNotFound, since none is ever accepted."""
    _existing(context, request)
    raise PolicyNotFound


def chosen_encryption(asked: requests.EncryptionConfiguration | None, default: Encryption) -> Encryption:
    """The encryption to record; raises ValidationFailed where the members contradict, KeyUnusable for a KMS key."""
    if asked is None:
        return default
    if asked.sse_type == "aws:kms":
        if asked.kms_key_arn is None:
            raise _encryption_invalid("kmsKeyArn must be specified when sseType is set to aws:kms")
        raise KeyUnusable(
            "This server cannot use KMS keys: leave out encryptionConfiguration, or set sseType to AES256"
        )
    if asked.kms_key_arn is not None:
        raise _encryption_invalid("kmsKeyArn must not be specified when sseType is AES256.")
    return default if asked.sse_type is None else Encryption(asked.sse_type)


def _encryption_invalid(message: str) -> ValidationFailed:
    return ValidationFailed(message, FieldError("EncryptionConfiguration", message))


def _existing(context: Context, request: requests.OfBucket) -> BucketRecord:
    return context.database.bucket(bucket_of(context.identity, request))


def _summary(context: Context, record: BucketRecord) -> BucketSummary:
    return BucketSummary(record.name, context.identity.bucket_arn(record.name), record.created_s)
