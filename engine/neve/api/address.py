"""Which bucket or index a request means: names, ARNs, and the ways to say it wrongly."""

from __future__ import annotations

import re

from neve.api.requests import CreateIndex, OfBucket, OfIndex
from neve.dataclass import dataclass
from neve.errors import BucketNotFound, IndexNotFound, ResourceNotFound, ValidationFailed

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]*[a-z0-9]")
_INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose server this is; it makes the ARNs."""

    region: str = "us-east-1"
    account: str = "000000000000"
    partition: str = "aws"

    @property
    def _prefix(self) -> str:
        return f"arn:{self.partition}:s3vectors:{self.region}:{self.account}:bucket/"

    def bucket_arn(self, bucket: str) -> str:
        return self._prefix + bucket

    def index_arn(self, bucket: str, index: str) -> str:
        return f"{self._prefix}{bucket}/index/{index}"

    def names(self, arn: str) -> tuple[str, str | None] | None:
        """Bucket and, where the ARN is one of an index, index; None for ARNs of others and what is no ARN."""
        if not arn.startswith(self._prefix):
            return None
        bucket, separator, index = arn.removeprefix(self._prefix).partition("/index/")
        if not _BUCKET_NAME.fullmatch(bucket) or (separator and not _INDEX_NAME.fullmatch(index)):
            return None
        return bucket, index if separator else None


def checked_bucket_name(name: str) -> str:
    """The name; raises ValidationFailed where its characters are none of a bucket's."""
    if not _BUCKET_NAME.fullmatch(name):
        raise ValidationFailed("Invalid vector bucket name")
    return name


def checked_index_name(name: str) -> str:
    """The name; raises ValidationFailed where its characters are none of an index's."""
    if not _INDEX_NAME.fullmatch(name):
        raise ValidationFailed("Invalid index name")
    return name


def bucket_of(identity: Identity, request: OfBucket) -> str:
    """Name of the addressed bucket; raises ValidationFailed, and BucketNotFound for an ARN of another account."""
    if request.vector_bucket_name is not None and request.vector_bucket_arn is not None:
        raise ValidationFailed("Must specify either vectorBucketName or vectorBucketArn but not both")
    if request.vector_bucket_name is not None:
        return checked_bucket_name(request.vector_bucket_name)
    if request.vector_bucket_arn is None:
        raise ValidationFailed("Must specify either vectorBucketName or vectorBucketArn")
    names = identity.names(request.vector_bucket_arn)
    if names is None:
        raise BucketNotFound(request.vector_bucket_arn)
    return names[0]


def index_of(identity: Identity, request: OfIndex) -> tuple[str, str]:
    """Names of bucket and index; raises ValidationFailed, and IndexNotFound for an ARN of another account."""
    named = request.vector_bucket_name is not None or request.index_name is not None
    if request.index_arn is not None and not named:
        names = identity.names(request.index_arn)
        if names is None or names[1] is None:
            raise IndexNotFound(request.index_arn)
        return names[0], names[1]
    if request.index_arn is not None or request.vector_bucket_name is None or request.index_name is None:
        raise ValidationFailed("Must specify either indexArn or both vectorBucketName and indexName")
    return checked_bucket_name(request.vector_bucket_name), checked_index_name(request.index_name)


def new_index_of(identity: Identity, request: CreateIndex) -> tuple[str, str]:
    """Names of the bucket and of the index to create in it; every name is checked before an ARN is looked at."""
    if request.vector_bucket_name is None:
        checked_index_name(request.index_name)
    return bucket_of(identity, request), checked_index_name(request.index_name)


def resource_of(identity: Identity, arn: str) -> tuple[str, str | None]:
    """Names behind the ARN of a tag operation; raises ResourceNotFound."""
    names = identity.names(arn)
    if names is None:
        raise ResourceNotFound(arn)
    return names
