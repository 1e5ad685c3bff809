"""Every exception that neve raises, one tree.

NeveError
├── RequestInvalid               the request itself is wrong, whatever the state
│   ├── Malformed                not JSON, or a member of the wrong JSON type
│   ├── ValidationFailed         a constraint, a limit or a rule of the API is broken; names the fields
│   ├── OperationUnknown         no operation has that route or name
│   └── NotAuthentic             the signature or the key is missing, wrong, expired or not allowed
├── Refused                      the caller asked for something that is not so
│   ├── BucketNotFound           no open vector bucket has that name
│   ├── IndexNotFound            no index has that name (or its bucket is missing)
│   ├── BucketExists             a vector bucket already has that name
│   ├── IndexExists              an index already has that name
│   ├── BucketNotEmpty           a bucket with indexes cannot be deleted
│   ├── PolicyNotFound           the bucket has no policy
│   ├── ResourceNotFound         no bucket and no index has that ARN
│   ├── KeyUnusable              a KMS key was named, and none can be used here
│   ├── PageTokenInvalid         a page token that is altered, foreign or too old
│   ├── ImportOpen               an import of another source is open
│   ├── ImportEnded              an import was abandoned, or another process has ended it
│   └── LimitExceeded            a stated limit would be passed
├── ShardLost                    a share of a query was asked for in vain: the query has no answer now
├── StoreError                   the object store did not do what was asked
│   ├── StoreUnavailable         a request failed for as long as we were willing to try
│   ├── StoreDenied              the store refused the credentials or the permission
│   ├── StoreUnfit               the store failed its self-test, or its URL is unusable
│   ├── StoreForeign             the store holds a newer format, or something else than neve
│   ├── ObjectCorrupt            an object's bytes do not match their checksum
│   └── ObjectGone               an object named by a manifest is not there
├── TransferError                an import or an export cannot go on
│   ├── SourceUnfit              what is to be imported is missing, unreadable, or has no such columns
│   ├── SourceChanged            what is imported has changed since the import began
│   ├── TargetUnfit              where an export is to go is not empty, or cannot be written
│   └── TransferIncomplete       what arrived is not what was sent
├── ClusterLost                  the machines that work was given to are out of reach, or have ended
└── OutcomeUnknown               a write may or may not have happened; reading tells
"""

from __future__ import annotations

from typing import ClassVar

from neve.dataclass import dataclass


class NeveError(Exception):
    """Base of every exception of this package."""


class RequestInvalid(NeveError):
    """The request itself is wrong, whatever the state of the store."""


class Malformed(RequestInvalid):
    """The body is not JSON, or a member has the wrong JSON type."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One entry of a ValidationException's `fieldList`."""

    path: str
    message: str


class ValidationFailed(RequestInvalid):
    """A constraint, a limit or a rule of the API is broken."""

    def __init__(self, message: str, *fields: FieldError) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class OperationUnknown(RequestInvalid):
    """No operation has that route or that name."""


class NotAuthentic(RequestInvalid):
    """The request's signature or key is missing, wrong, expired or not allowed; `code` is the AWS name of the case."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Refused(NeveError):
    """The request is well formed, but cannot be granted in the present state."""


class _Named(Refused):
    """A refusal that concerns one bucket or index; made with its name."""

    _text: ClassVar[str]

    def __init__(self, name: str) -> None:
        super().__init__(self._text.format(name))


class BucketNotFound(_Named):
    """No open vector bucket has that name."""

    _text = "no vector bucket is named {}"


class IndexNotFound(_Named):
    """No index has that name, or its bucket is missing."""

    _text = "there is no index {}"


class BucketExists(_Named):
    """A vector bucket already has that name."""

    _text = "a vector bucket named {} exists already"


class IndexExists(_Named):
    """An index already has that name."""

    _text = "the index {} exists already"


class BucketNotEmpty(_Named):
    """A vector bucket that still holds indexes cannot be deleted."""

    _text = "the vector bucket {} still holds indexes"


class PolicyNotFound(Refused):
    """The vector bucket has no policy."""


class ResourceNotFound(Refused):
    """No vector bucket and no index has that ARN."""


class KeyUnusable(Refused):
    """A KMS key was named for encryption, and this server can use none."""


class PageTokenInvalid(Refused):
    """A page token was altered, belongs to another request, or outlived the grace period."""


class ImportOpen(_Named):
    """An import of another source into the index has begun and not ended."""

    _text = "an import of another source into {0} is open: run that one again, or end it by `neve import --abandon {0}`"


class ImportEnded(_Named):
    """An import that was under way has been abandoned, or ended by another process that was at it too."""

    _text = "this import into {} was abandoned, or finished by another process: if rows are missing, run it again"


class LimitExceeded(Refused):
    """A stated limit (of buckets, indexes, vectors) would be passed."""


class ShardLost(NeveError):
    """A share of a query stayed without an answer, however often it was asked for: the query has none, for now."""


class StoreError(NeveError):
    """The object store did not do what was asked; the message names the key, never a secret."""


class StoreUnavailable(StoreError):
    """A request to the store failed for as long as the retry budget allowed."""


class StoreDenied(StoreError):
    """The store refused the credentials, or they lack a permission."""


class StoreUnfit(StoreError):
    """The store failed its self-test, or its URL cannot be used."""


class StoreForeign(StoreError):
    """The store holds a format that this version does not know."""


class ObjectCorrupt(StoreError):
    """An object's bytes do not match their checksum or their layout."""


class ObjectGone(StoreError):
    """An object that the state names is not in the store."""


class TransferError(NeveError):
    """An import or an export cannot go on; the message names the file, the column or the endpoint."""


class SourceUnfit(TransferError):
    """What is to be imported is missing, cannot be read, or does not have the columns that it needs."""


class SourceChanged(TransferError):
    """A file that is imported is not the one that the import began with."""


class TargetUnfit(TransferError):
    """The place that an export is to go to is not empty, or cannot be written."""


class TransferIncomplete(TransferError):
    """What was read back is not what was sent: by count, or by digest."""


class ClusterLost(NeveError):
    """The machines that work was given to cannot be reached, or have ended over it; what they have done is kept."""


class OutcomeUnknown(NeveError):
    """A write of unknown outcome: it has happened once or never; a later read tells which."""
