"""Encryption, tags, modes, text search, policies: settings that are refused."""

from __future__ import annotations

from collections.abc import Sequence

from tests.catalogue.cases import (
    BUCKET_ARN,
    INDEX_ARN,
    KMS_KEY,
    LIBRARY,
    NO_INDEX,
    SHAPE,
    WORDS,
    Case,
    Members,
    invalid,
    tags,
)

_KEY_FORBIDDEN = "kmsKeyArn must not be specified when sseType is AES256."
_KEY_NEEDED = "kmsKeyArn must be specified when sseType is set to aws:kms"


def _encrypted(**encryption: str) -> Members:
    return {"vectorBucketName": "new", "encryptionConfiguration": encryption}


CONFIGURATION: Sequence[Case] = (
    invalid(
        "key-with-aes",
        "CreateVectorBucket",
        _encrypted(sseType="AES256", kmsKeyArn=KMS_KEY),
        _KEY_FORBIDDEN,
        ("EncryptionConfiguration", _KEY_FORBIDDEN),
    ),
    invalid(
        "key-without-type",
        "CreateVectorBucket",
        _encrypted(kmsKeyArn=KMS_KEY),
        _KEY_FORBIDDEN,
        ("EncryptionConfiguration", _KEY_FORBIDDEN),
    ),
    invalid(
        "kms-without-key",
        "CreateVectorBucket",
        _encrypted(sseType="aws:kms"),
        _KEY_NEEDED,
        ("EncryptionConfiguration", _KEY_NEEDED),
    ),
    invalid(
        "kms-without-key-on-index",
        "CreateIndex",
        {**NO_INDEX, **SHAPE, "encryptionConfiguration": {"sseType": "aws:kms"}},
        _KEY_NEEDED,
        ("EncryptionConfiguration", _KEY_NEEDED),
    ),
    Case(
        "kms",
        "CreateVectorBucket",
        _encrypted(sseType="aws:kms", kmsKeyArn=KMS_KEY),
        "KmsNotFoundException",
        400,
        "This server cannot use KMS keys: leave out encryptionConfiguration, or set sseType to AES256",
    ),
    invalid(
        "tags-on-bucket",
        "CreateVectorBucket",
        {"vectorBucketName": "new", "tags": tags(51)},
        "Too many tags specified",
    ),
    invalid("tags-on-index", "CreateIndex", {**NO_INDEX, **SHAPE, "tags": tags(51)}, "Too many tags specified"),
    invalid("tags-together", "TagResource", {"resourceArn": INDEX_ARN, "tags": tags(50)}, "Too many tags specified"),
    invalid(
        "tag-of-the-system",
        "TagResource",
        {"resourceArn": BUCKET_ARN, "tags": {"aws:x": "y"}},
        "System tags cannot be added/updated by requester",
    ),
    invalid(
        "tag-like-the-system",
        "TagResource",
        {"resourceArn": BUCKET_ARN, "tags": {"AWS:x": "y"}},
        'Invalid System Tag: AWS:x must be prefixed with "aws:" in lowercase.',
    ),
    invalid(
        "text-search",
        "CreateIndex",
        {**NO_INDEX, **SHAPE, "metadataConfiguration": {"textSearchConfigurations": [{"metadataKey": "t"}]}},
        "Text search is not supported by this server",
        ("metadataConfiguration.textSearchConfigurations", "Text search is not supported by this server"),
    ),
    invalid(
        "classic-index",
        "UpdateIndexMode",
        {**WORDS, "indexMode": "CLASSIC"},
        "indexMode cannot be set to CLASSIC because the vector bucket does not support CLASSIC mode",
    ),
    invalid(
        "classic-bucket",
        "PutVectorBucketDefaultIndexMode",
        {**LIBRARY, "defaultIndexMode": "CLASSIC"},
        "defaultIndexMode cannot be set to CLASSIC because this vector bucket does not support CLASSIC mode",
    ),
    invalid(
        "enhanced-index",
        "UpdateIndexMode",
        {**WORDS, "indexMode": "ENHANCED"},
        "indexMode cannot be changed: it is ENHANCED for every index of this server",
    ),
    invalid(
        "enhanced-bucket",
        "PutVectorBucketDefaultIndexMode",
        {**LIBRARY, "defaultIndexMode": "ENHANCED"},
        "defaultIndexMode cannot be changed: it is ENHANCED for every vector bucket of this server",
    ),
    invalid("add-nor-delete", "UpdateMetadataConfiguration", WORDS, "Must specify either add or delete but not both"),
    invalid(
        "add-and-delete",
        "UpdateMetadataConfiguration",
        {**WORDS, "add": {}, "delete": {}},
        "Must specify either add or delete but not both",
    ),
    invalid(
        "add",
        "UpdateMetadataConfiguration",
        {**WORDS, "add": {"textSearchConfigurations": [{"metadataKey": "t"}]}},
        "Text search is not supported by this server",
        ("add", "Text search is not supported by this server"),
    ),
    invalid(
        "policy-not-json",
        "PutVectorBucketPolicy",
        {**LIBRARY, "policy": "allow"},
        "Invalid policy document",
        ("policy", "Invalid policy document"),
    ),
    invalid(
        "policy",
        "PutVectorBucketPolicy",
        {**LIBRARY, "policy": "{}"},
        "Vector bucket policies are not supported: this server would not enforce them",
        ("policy", "Vector bucket policies are not supported: this server would not enforce them"),
    ),
)
