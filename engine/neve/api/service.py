"""The dispatcher: one call of one operation, from JSON members to a result value. Thread-safe.

Order of checks, for every operation: JSON types (Malformed) → constraints of the model, all of them at once →
form of the address → characters of names → existence → everything that depends on the index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from neve.api import buckets, extensions, indexes, queries, selections, tags, vectors
from neve.api.address import Identity, index_of
from neve.api.context import Context
from neve.api.limits import Limits
from neve.api.model import inputs
from neve.api.options import CallOptions
from neve.api.pages import SearchCache
from neve.api.requests import OfIndex
from neve.api.results import Explained, Result
from neve.api.shapes import decode
from neve.api.tokens import Tokens
from neve.dataclass import dataclass
from neve.errors import NeveError, OperationUnknown
from neve.index.database import Database
from neve.query.explain import Explain, ExplainedSession
from neve.query.session import Session
from neve.store.counting import bill

if TYPE_CHECKING:
    from neve.query.shards import FanOut

__all__ = ["EXTENSIONS", "OPERATIONS", "CallOptions", "Identity", "Operation", "Service"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the service; `run` takes the request that its input's shape decodes into."""

    name: str
    run: Callable[[Context, Any], Result]


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        operation.name: operation
        for operation in (
            Operation("CreateVectorBucket", buckets.create_vector_bucket),
            Operation("GetVectorBucket", buckets.get_vector_bucket),
            Operation("ListVectorBuckets", buckets.list_vector_buckets),
            Operation("DeleteVectorBucket", buckets.delete_vector_bucket),
            Operation("PutVectorBucketDefaultIndexMode", buckets.put_default_index_mode),
            Operation("PutVectorBucketPolicy", buckets.put_bucket_policy),
            Operation("GetVectorBucketPolicy", buckets.get_bucket_policy),
            Operation("DeleteVectorBucketPolicy", buckets.delete_bucket_policy),
            Operation("CreateIndex", indexes.create_index),
            Operation("GetIndex", indexes.get_index),
            Operation("ListIndexes", indexes.list_indexes),
            Operation("DeleteIndex", indexes.delete_index),
            Operation("UpdateIndexMode", indexes.update_index_mode),
            Operation("UpdateMetadataConfiguration", indexes.update_metadata_configuration),
            Operation("PutVectors", vectors.put_vectors),
            Operation("GetVectors", vectors.get_vectors),
            Operation("DeleteVectors", vectors.delete_vectors),
            Operation("ListVectors", vectors.list_vectors),
            Operation("QueryVectors", queries.query_vectors),
            Operation("ListTagsForResource", tags.list_tags_for_resource),
            Operation("TagResource", tags.tag_resource),
            Operation("UntagResource", tags.untag_resource),
        )
    }
)

EXTENSIONS: Mapping[str, Operation] = MappingProxyType(
    {
        operation.name: operation
        for operation in (
            Operation("ConfigureIndex", extensions.configure_index),
            Operation("MeasureRecall", extensions.measure_recall),
            Operation("WarmIndex", extensions.warm_index),
            Operation("CountVectors", selections.count_vectors),
            Operation("DeleteVectorsByFilter", selections.delete_vectors_by_filter),
            Operation("PatchMetadata", selections.patch_metadata),
        )
    }
)
"""Operations that only neve has."""


class Service:
    """The operations over one database, in the name of one account, within one profile of limits."""

    def __init__(self, database: Database, identity: Identity, limits: Limits, fan_out: FanOut | None = None) -> None:
        """Where there is a fan-out, its shards score what queries need of large indexes."""
        self.database = database
        self._fan_out = fan_out
        self.identity = identity
        self.limits = limits
        self._inputs = inputs(limits)
        self._tokens = Tokens(database.identity)
        self._searches = SearchCache()

    def call(self, operation: str, members: object, options: CallOptions, explain: Explain | None = None) -> Result:
        """Run an operation on its JSON members. Raises OperationUnknown, and what the operation raises.

        In `explain` is entered what the call does, for who watches it; also when it fails.
        """
        known = OPERATIONS.get(operation) or EXTENSIONS.get(operation)
        if known is None:
            raise OperationUnknown(operation)
        options.check(operation)
        request = decode(self._inputs[operation], members)
        store, blocks = self.database.store, self.database.blocks
        if explain is None and not options.explain:
            return known.run(self._context(Session(store, blocks, self._fan_out), options, Explain()), request)
        explain = explain or Explain()
        explain.index = self._index_name(request)
        session, runtime = ExplainedSession(store, blocks, explain, self._fan_out), self.database.runtime
        begun = runtime.now()
        try:
            with bill() as billed:
                result = known.run(self._context(session, options, explain), request)
        finally:
            ended = runtime.now()
            session.settle()
        if not options.explain:
            return result
        return Explained(result, explain, billed, ended.monotonic_s - begun.monotonic_s)

    def close(self) -> None:
        """Close the database, after what shards are under way with."""
        if self._fan_out is not None:
            self._fan_out.close()
        self.database.close()

    def _context(self, session: Session, options: CallOptions, explain: Explain) -> Context:
        return Context(
            self.database, session, self.identity, self.limits, self._tokens, self._searches, options, explain
        )

    def _index_name(self, request: object) -> str:
        """BUCKET/INDEX that a request addresses, "" where it addresses none in a form that can be right."""
        try:
            return "/".join(index_of(self.identity, request)) if isinstance(request, OfIndex) else ""
        except NeveError:
            return ""

    def accepts(self, operation: str) -> frozenset[str]:
        """Names of the members that an operation's input has."""
        return frozenset(name for name, *_ in self._inputs[operation].members)
