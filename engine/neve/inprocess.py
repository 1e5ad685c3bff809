"""The engine without a server: a client with the method names, arguments, results and errors of boto3's `s3vectors`.

    with neve.client(store="file:///var/lib/neve") as vectors:
        vectors.create_vector_bucket(vectorBucketName="library")

NumPy vectors may stand wherever a list of floats does. One keyword more than boto3's, on every operation:
`neve={"consistency": "bounded;seconds=5", "recall": 0.99, "explain": True}`, the options that HTTP requests carry in
`x-neve-*` headers. What HTTP answers add in such headers is the member `neve` of an answer.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, TypeAlias

from neve.api.document import dump_json, parse_json
from neve.api.faults import Fault, fault
from neve.api.limits import LIMITS
from neve.api.options import OPTIONS, CallOptions, call_options
from neve.api.render import Style, extras, to_json
from neve.api.service import Identity, Service
from neve.errors import NeveError, ValidationFailed
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.store.tiers import Tiers, parse_size

__all__ = ["Client", "ClientError", "PageIterator", "Paginator", "ParamValidationError", "client"]

Members: TypeAlias = dict[str, Any]

_PYTHON = Style(
    document=parse_json,
    vector=lambda vector: vector.tolist(),
    time=lambda seconds: datetime.fromtimestamp(seconds, UTC),
)


class ParamValidationError(NeveError):
    """An argument that the operation does not have."""


class ClientError(NeveError):
    """An error answer of an operation, with boto3's `response` and `operation_name`."""

    def __init__(self, response: Mapping[str, Any], operation_name: str) -> None:
        error = response["Error"]
        super().__init__(
            f"An error occurred ({error['Code']}) when calling the {operation_name} operation: {error['Message']}"
        )
        self.response = response
        self.operation_name = operation_name

    def __reduce__(self) -> tuple[Callable[..., ClientError], tuple[object, ...]]:
        return _revived, (type(self).__name__, self.response, self.operation_name)


_MODELLED = (
    "AccessDeniedException",
    "ConflictException",
    "InternalServerException",
    "KmsDisabledException",
    "KmsInvalidKeyUsageException",
    "KmsInvalidStateException",
    "KmsNotFoundException",
    "NotFoundException",
    "RequestTimeoutException",
    "ServiceQuotaExceededException",
    "ServiceUnavailableException",
    "TooManyRequestsException",
    "ValidationException",
)


_CLASSES: dict[str, type[ClientError]] = {name: type(name, (ClientError,), {}) for name in _MODELLED}
_CLASSES["ClientError"] = ClientError


def _revived(name: str, response: Mapping[str, Any], operation_name: str) -> ClientError:
    """An error as another process raised it."""
    return _CLASSES[name](response, operation_name)


class Exceptions:
    """`client.exceptions`: a class for every error of the service's model, all of them ClientErrors."""

    def __getattr__(self, name: str) -> type[ClientError]:
        try:
            return _CLASSES[name]
        except KeyError:
            raise AttributeError(f"no exception is named {name!r}; there are: {', '.join(_CLASSES)}") from None

    def from_code(self, code: str) -> type[ClientError]:
        """The class of an error code, ClientError itself where the model has none."""
        return _CLASSES.get(code, ClientError)


# One set for all clients, so that `except a.exceptions.NotFoundException` also catches what another client raised.
_EXCEPTIONS = Exceptions()


class Client:
    """Operations on one store, in this process; may be shared by threads. Close it to end its background work."""

    def __init__(self, service: Service, close: Callable[[], None] = lambda: None) -> None:
        self.exceptions = _EXCEPTIONS
        self._service = service
        self._close = close

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for background work that has begun; the client is not used afterwards."""
        self._close()

    def create_vector_bucket(self, **members: Any) -> Members:
        return self._call("CreateVectorBucket", members)

    def get_vector_bucket(self, **members: Any) -> Members:
        return self._call("GetVectorBucket", members)

    def list_vector_buckets(self, **members: Any) -> Members:
        return self._call("ListVectorBuckets", members)

    def delete_vector_bucket(self, **members: Any) -> Members:
        return self._call("DeleteVectorBucket", members)

    def put_vector_bucket_default_index_mode(self, **members: Any) -> Members:
        return self._call("PutVectorBucketDefaultIndexMode", members)

    def put_vector_bucket_policy(self, **members: Any) -> Members:
        return self._call("PutVectorBucketPolicy", members)

    def get_vector_bucket_policy(self, **members: Any) -> Members:
        return self._call("GetVectorBucketPolicy", members)

    def delete_vector_bucket_policy(self, **members: Any) -> Members:
        return self._call("DeleteVectorBucketPolicy", members)

    def create_index(self, **members: Any) -> Members:
        return self._call("CreateIndex", members)

    def get_index(self, **members: Any) -> Members:
        return self._call("GetIndex", members)

    def list_indexes(self, **members: Any) -> Members:
        return self._call("ListIndexes", members)

    def delete_index(self, **members: Any) -> Members:
        return self._call("DeleteIndex", members)

    def update_index_mode(self, **members: Any) -> Members:
        return self._call("UpdateIndexMode", members)

    def update_metadata_configuration(self, **members: Any) -> Members:
        return self._call("UpdateMetadataConfiguration", members)

    def put_vectors(self, **members: Any) -> Members:
        return self._call("PutVectors", members)

    def get_vectors(self, **members: Any) -> Members:
        return self._call("GetVectors", members)

    def delete_vectors(self, **members: Any) -> Members:
        return self._call("DeleteVectors", members)

    def list_vectors(self, **members: Any) -> Members:
        return self._call("ListVectors", members)

    def query_vectors(self, **members: Any) -> Members:
        return self._call("QueryVectors", members)

    def list_tags_for_resource(self, **members: Any) -> Members:
        return self._call("ListTagsForResource", members)

    def tag_resource(self, **members: Any) -> Members:
        return self._call("TagResource", members)

    def untag_resource(self, **members: Any) -> Members:
        return self._call("UntagResource", members)

    def configure_index(self, **members: Any) -> Members:
        return self._call("ConfigureIndex", members)

    def measure_recall(self, **members: Any) -> Members:
        return self._call("MeasureRecall", members)

    def warm_index(self, **members: Any) -> Members:
        return self._call("WarmIndex", members)

    def count_vectors(self, **members: Any) -> Members:
        return self._call("CountVectors", members)

    def delete_vectors_by_filter(self, **members: Any) -> Members:
        return self._call("DeleteVectorsByFilter", members)

    def patch_metadata(self, **members: Any) -> Members:
        return self._call("PatchMetadata", members)

    def can_paginate(self, operation_name: str) -> bool:
        """Whether an operation, by its method's name, has a paginator."""
        return operation_name in _PAGINATED

    def get_paginator(self, operation_name: str) -> Paginator:
        """The paginator of an operation, by its method's name; raises ValueError where there is none."""
        if operation_name not in _PAGINATED:
            raise ValueError(f"Operation cannot be paginated: {operation_name}")
        return Paginator(getattr(self, operation_name), *_PAGINATED[operation_name])

    def _call(self, operation: str, members: Members) -> Members:
        extension = members.pop("neve", None)
        if unknown := sorted(set(members) - self._service.accepts(operation)):
            accepted = ", ".join(sorted(self._service.accepts(operation)))
            raise ParamValidationError(
                f'Parameter validation failed:\nUnknown parameter in input: "{unknown[0]}", must be one of: {accepted}'
            )
        request_id = self._service.database.runtime.token()
        try:
            result = self._service.call(operation, _with_documents(members), _call_options(extension))
        except Exception as error:
            raise self._client_error(fault(error), operation, request_id) from error
        answer = {**to_json(result, _PYTHON), "ResponseMetadata": _response_metadata(request_id, 200)}
        added = extras(result)
        return {**answer, "neve": added} if added else answer

    def _client_error(self, found: Fault, operation: str, request_id: str) -> ClientError:
        message = found.message or ""
        response: Members = {
            "Error": {"Message": message, "Code": found.code},
            "ResponseMetadata": _response_metadata(request_id, found.status),
            "message": message,
        }
        if found.fields:
            response["fieldList"] = [{"path": field.path, "message": field.message} for field in found.fields]
        return self.exceptions.from_code(found.code)(response, operation)


class Paginator:
    """Turns an operation with page tokens into an iterator of its answers."""

    def __init__(self, method: Callable[..., Members], result_key: str, limit_key: str | None) -> None:
        self._method = method
        self._result_key = result_key
        self._limit_key = limit_key

    def paginate(self, PaginationConfig: Mapping[str, Any] | None = None, **members: Any) -> PageIterator:
        """The pages; `PaginationConfig` takes MaxItems, PageSize and StartingToken as boto3's does."""
        config = PaginationConfig or {}
        if unknown := sorted(set(config) - {"MaxItems", "PageSize", "StartingToken"}):
            raise ValueError(f"Unknown member of PaginationConfig: {unknown[0]}")
        page_size = config.get("PageSize")
        if page_size is not None:
            if self._limit_key is None:
                raise ValueError("PageSize parameter is not supported for this operation")
            members[self._limit_key] = int(page_size)
        max_items = config.get("MaxItems")
        return PageIterator(
            self._method,
            members,
            self._result_key,
            None if max_items is None else int(max_items),
            config.get("StartingToken"),
        )


class PageIterator:
    """The pages of one listing; may be iterated again. After a stop at MaxItems, `resume_token` names the rest."""

    def __init__(
        self,
        method: Callable[..., Members],
        members: Members,
        result_key: str,
        max_items: int | None,
        starting_token: str | None,
    ) -> None:
        self.resume_token: str | None = None
        self._method = method
        self._members = members
        self._result_key = result_key
        self._max_items = max_items
        self._starting_token = starting_token

    def __iter__(self) -> Iterator[Members]:
        token, skip = _parse_resume_token(self._starting_token)
        left = self._max_items
        while True:
            page = self._method(**self._members, nextToken=token)
            items = page[self._result_key][skip:]
            page[self._result_key] = items if left is None else items[:left]
            onward = page.get("nextToken")
            if left is not None and len(items) > left:
                self.resume_token = _resume_token(token, skip + left)
                yield page
                return
            yield page
            if onward is None:
                return
            if onward == token:
                raise ValueError(f"The same next token was received twice: {onward}")
            if left is not None:
                left -= len(items)
                if left == 0:
                    self.resume_token = _resume_token(onward, 0)
                    return
            token, skip = onward, 0

    def build_full_result(self) -> Members:
        """All items in one answer, with the other members of the first page, and NextToken where items are left."""
        whole: Members = {}
        items: list[object] = []
        for page in self:
            items.extend(page[self._result_key])
            whole = whole or {
                name: value for name, value in page.items() if name not in ("nextToken", "ResponseMetadata")
            }
        whole[self._result_key] = items
        if self.resume_token is not None:
            whole["NextToken"] = self.resume_token
        return whole


# Method → the member that holds the items, the member that asks for a page size.
_PAGINATED: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "list_vector_buckets": ("vectorBuckets", "maxResults"),
        "list_indexes": ("indexes", "maxResults"),
        "list_vectors": ("vectors", "maxResults"),
        "query_vectors": ("vectors", None),
    }
)


def client(
    store: str,
    *,
    region: str = "us-east-1",
    account: str = "000000000000",
    limits: str = "aws",
    memory: str = "1GiB",
    disk: str = "",
    disk_size: str = "10GiB",
) -> Client:
    """A client on the store of a URL: memory://, file:///path, or s3://bucket[/prefix][?endpoint=URL&region=NAME].

    `region` and `account` make the ARNs; `limits` is "aws" (the service's) or "wide". So much `memory` holds blocks of
    segments, and `disk_size` of the local folder `disk`, which processes may share, unless that is "".
    Raises ValueError for another profile or size, StoreUnfit, StoreForeign, StoreDenied, StoreUnavailable.
    """
    if limits not in LIMITS:
        raise ValueError(f"limits must be one of {', '.join(LIMITS)}")
    tiers = Tiers(parse_size(memory), disk, parse_size(disk_size))
    runtime = SystemRuntime()
    try:
        database = Database.open(connect(store), runtime, blocks=tiers.open(runtime))
    except BaseException:
        runtime.close()
        raise
    return Client(Service(database, Identity(region, account), LIMITS[limits]), database.close)


def _response_metadata(request_id: str, status: int) -> Members:
    return {"RequestId": request_id, "HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}


def _call_options(extension: object) -> CallOptions:
    if extension is None:
        return CallOptions()
    if not isinstance(extension, Mapping) or set(extension) - set(OPTIONS):
        raise ValidationFailed(f"neve must be a dict; its members are {', '.join(OPTIONS)}")
    return call_options({name: _option(value) for name, value in extension.items() if value is not None})


def _option(value: object) -> str:
    """The text of an option's value; of a dict its JSON."""
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _with_documents(members: Members) -> Members:
    """The members with each free document as it would arrive over HTTP: only JSON's types, bounded and well formed."""
    if members.get("filter") is not None:
        members = {**members, "filter": _document(members["filter"])}
    vectors = members.get("vectors")
    if isinstance(vectors, list | tuple):
        members = {**members, "vectors": [_with_document(vector) for vector in vectors]}
    return members


def _with_document(vector: object) -> object:
    if isinstance(vector, Mapping) and vector.get("metadata") is not None:
        return {**vector, "metadata": _document(vector["metadata"])}
    return vector


def _document(value: object) -> object:
    return parse_json(dump_json(value))


def _resume_token(token: str | None, skip: int) -> str:
    """boto3's form: the page's own token, and how many items of that page were already given."""
    document: Members = {"nextToken": token, "boto_truncate_amount": skip} if skip else {"nextToken": token}
    return base64.b64encode(json.dumps(document).encode()).decode()


def _parse_resume_token(text: str | None) -> tuple[str | None, int]:
    if text is None:
        return None, 0
    try:
        document = json.loads(base64.b64decode(text, validate=True))
        return document["nextToken"], int(document.get("boto_truncate_amount", 0))
    except (binascii.Error, ValueError, LookupError, TypeError, AttributeError):
        return text, 0  # a page token as the service gave it
