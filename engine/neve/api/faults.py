"""The one table from exceptions to the API's codes."""

from __future__ import annotations

from neve import errors
from neve.dataclass import dataclass
from neve.errors import FieldError


@dataclass(frozen=True, slots=True)
class Answer:
    """What an exception is answered with; `message` None: the exception's own words, which were made for clients."""

    code: str
    status: int
    message: str | None


@dataclass(frozen=True, slots=True)
class Fault:
    """One error as a client sees it."""

    code: str
    status: int
    message: str | None
    fields: tuple[FieldError, ...] = ()


_UNAVAILABLE = "Currently unable to handle the request"
_INTERNAL = "Internal server error"

# Looked up by the exception's own class, then by its ancestors. SDKs retry 500 and 503 and nothing else here: repeats
# of a write carry its invocation id, so an unknown outcome is safe to retry; a refused credential is not worth it.
# Texts of the store never leave: they name keys, hosts and paths.
ERRORS: dict[type[Exception], Answer] = {
    errors.Malformed: Answer("SerializationException", 400, None),
    errors.ValidationFailed: Answer("ValidationException", 400, None),
    errors.OperationUnknown: Answer("UnknownOperationException", 404, "The requested operation does not exist"),
    errors.NotAuthentic: Answer("AccessDeniedException", 403, None),  # the code is the exception's own
    errors.BucketNotFound: Answer("NotFoundException", 404, "The specified vector bucket could not be found"),
    errors.IndexNotFound: Answer("NotFoundException", 404, "The specified index could not be found"),
    errors.PolicyNotFound: Answer("NotFoundException", 404, "The specified vector bucket policy could not be found"),
    errors.ResourceNotFound: Answer("NotFoundException", 404, "The specified resource could not be found"),
    errors.BucketExists: Answer("ConflictException", 409, "A vector bucket with the specified name already exists"),
    errors.IndexExists: Answer("ConflictException", 409, "An index with the specified name already exists"),
    errors.BucketNotEmpty: Answer("ConflictException", 409, "The specified vector bucket is not empty"),
    errors.KeyUnusable: Answer("KmsNotFoundException", 400, None),
    errors.PageTokenInvalid: Answer("ValidationException", 400, "Invalid page token"),
    errors.LimitExceeded: Answer("ServiceQuotaExceededException", 402, None),
    errors.ShardLost: Answer("ServiceUnavailableException", 503, _UNAVAILABLE),
    errors.StoreUnavailable: Answer("ServiceUnavailableException", 503, _UNAVAILABLE),
    errors.StoreDenied: Answer("AccessDeniedException", 403, "The server is not permitted to use its object store"),
    errors.StoreError: Answer("InternalServerException", 500, _INTERNAL),
    errors.OutcomeUnknown: Answer(
        "InternalServerException", 500, "The outcome of this write is not known: it happened once or not at all"
    ),
    Exception: Answer("InternalServerException", 500, _INTERNAL),
}


def fault(error: Exception) -> Fault:
    """The error as a client sees it; whatever is not in the table is an internal error without details."""
    answer = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    message = str(error) if answer.message is None else answer.message
    code = error.code if isinstance(error, errors.NotAuthentic) else answer.code
    fields = error.fields if isinstance(error, errors.ValidationFailed) else ()
    return Fault(code, answer.status, message, fields)
