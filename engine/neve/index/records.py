"""What the chains of buckets and indexes record, as values and as objects."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt
from neve.store.envelope import seal, unseal
from neve.vectors.metric import Metric


@dataclass(frozen=True, slots=True)
class Encryption:
    """The `encryptionConfiguration` as the client sees it; the store encrypts, we keep and echo."""

    sse_type: str = "AES256"
    kms_key_arn: str | None = None


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """What is fixed when an index is created; `non_filterable` is None when no metadata configuration was given."""

    dimension: int
    metric: Metric
    non_filterable: tuple[str, ...] | None
    encryption: Encryption


class BucketState(StrEnum):
    OPEN = "open"
    CLOSING = "closing"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """One record of a bucket's chain, whole: the newest one is the bucket."""

    name: str
    state: BucketState
    created_s: float
    encryption: Encryption
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """A creation in the catalog: number `seq` of the chain of its name; `tags` are those given at creation."""

    bucket: str
    name: str
    seq: int
    uid: str
    created_s: float
    config: IndexConfig
    tags: Mapping[str, str]

    @property
    def path(self) -> str:
        return f"{self.bucket}/{self.name}"


def encode_bucket(record: BucketRecord, write_id: str) -> bytes:
    return seal(
        {
            "id": write_id,
            "name": record.name,
            "state": record.state,
            "created_s": record.created_s,
            "encryption": _encryption_fields(record.encryption),
            "tags": dict(record.tags),
        }
    )


def decode_bucket(key: str, body: bytes) -> BucketRecord:
    """Raises ObjectCorrupt, StoreForeign."""
    fields = unseal(key, body).fields
    try:
        return BucketRecord(
            fields["name"],
            BucketState(fields["state"]),
            fields["created_s"],
            _encryption(fields["encryption"]),
            fields["tags"],
        )
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{key} is not a bucket record") from error


def index_fields(record: IndexRecord) -> dict[str, Any]:
    config = record.config
    return {
        "bucket": record.bucket,
        "name": record.name,
        "uid": record.uid,
        "created_s": record.created_s,
        "dimension": config.dimension,
        "metric": config.metric,
        "non_filterable": None if config.non_filterable is None else list(config.non_filterable),
        "encryption": _encryption_fields(config.encryption),
        "tags": dict(record.tags),
    }


def index_record(fields: dict[str, Any], seq: int) -> IndexRecord:
    """The record of JSON members; raises LookupError, ValueError or TypeError where they are not one."""
    names = fields["non_filterable"]
    config = IndexConfig(
        fields["dimension"],
        Metric(fields["metric"]),
        None if names is None else tuple(names),
        _encryption(fields["encryption"]),
    )
    return IndexRecord(
        fields["bucket"], fields["name"], seq, fields["uid"], fields["created_s"], config, fields["tags"]
    )


def encode_created(record: IndexRecord, write_id: str) -> bytes:
    return seal({"id": write_id, **index_fields(record)})


def encode_dropped(uid: str, write_id: str) -> bytes:
    return seal({"id": write_id, "uid": uid})


def decode_created(key: str, body: bytes, seq: int) -> IndexRecord:
    """Raises ObjectCorrupt, StoreForeign."""
    fields = dict(unseal(key, body).fields)
    try:
        return index_record(fields, seq)
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{key} is not a catalog record") from error


def dropped_uid(key: str, body: bytes) -> str:
    """The uid that a catalog record of a drop names; raises ObjectCorrupt, StoreForeign."""
    uid = unseal(key, body).fields.get("uid")
    if not isinstance(uid, str):
        raise ObjectCorrupt(f"{key} names no uid")
    return uid


def _encryption_fields(encryption: Encryption) -> dict[str, str | None]:
    return {"sse_type": encryption.sse_type, "kms_key_arn": encryption.kms_key_arn}


def _encryption(fields: dict[str, str | None]) -> Encryption:
    return Encryption(fields["sse_type"] or "AES256", fields["kms_key_arn"])
