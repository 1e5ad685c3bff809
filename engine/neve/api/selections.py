"""Operations on the rows that a filter or a prefix selects, and on metadata without vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from neve.api import requests
from neve.api.address import index_of
from neve.api.context import Context
from neve.api.document import dump_json, parse_json
from neve.api.limits import Limits
from neve.api.records import check_distinct, check_keys, invalid_record, metadata_problem
from neve.api.results import Counted, Deleted, Nothing
from neve.errors import FieldError, IndexNotFound, ValidationFailed
from neve.filters.parse import parse
from neve.index.entry import Write
from neve.index.records import IndexConfig
from neve.index.state import State
from neve.query.fetch import Row, fetch
from neve.query.listing import Cursor, Page, list_rows
from neve.query.selection import Selection, count_rows
from neve.segments.rows import Puts

DELETED_AT_ONCE = 10_000
"""Rows that one log entry of DeleteVectorsByFilter deletes at most: 1.3 MB of tombstones for keys of 100 bytes."""


def select(state: State, limits: Limits, filter_: object, prefix: str) -> Selection:
    """What a request selects of an index; raises ValidationFailed."""
    condition = None
    if filter_ is not None:
        condition = parse(filter_, state.config.non_filterable or (), limits.filter_constraints)
    return Selection(condition, prefix.encode())


def count_vectors(context: Context, request: requests.CountVectors) -> Counted:
    """How many rows are live now, or as old as asked. Raises IndexNotFound, ValidationFailed."""
    return Counted(_count(context, request, request.filter, request.prefix))


def _count(context: Context, address: requests.OfIndex, filter_: object, prefix: str = "") -> int:
    index = context.database.index(*index_of(context.identity, address))

    def counted(state: State) -> int:
        selection = select(state, context.limits, filter_, prefix)
        count = count_rows(context.session, state, selection)
        if not prefix:
            context.explain_filter(state, selection.condition, count)
        return count

    return index.read_with(counted, context.options.consistency)


def delete_vectors_by_filter(context: Context, request: requests.DeleteVectorsByFilter) -> Deleted:
    """Delete what matches, batch by batch in hash order of the keys; each batch is one entry of the log.

    A row is deleted only as it is right before its batch's entry. A repeat after a failure goes on. Raises
    IndexNotFound, also where another index takes the name meanwhile, OutcomeUnknown, ValidationFailed.
    """
    if request.dry_run:
        return Deleted(_count(context, request, request.filter))
    index = context.database.index(*index_of(context.identity, request))
    batch, deleted = _Batch(context, request.filter), 0
    while True:
        index.rewrite(batch.decide)
        deleted += len(batch.keys)
        if batch.cursor is None:
            return Deleted(deleted)
        context.session.forget()
        batch = _Batch(context, request.filter, batch.uid, batch.cursor)


class _Batch:
    """The next rows to delete after a cursor, as the state that is written on has them."""

    def __init__(self, context: Context, filter_: object, uid: str = "", after: Cursor | None = None) -> None:
        self.uid = uid
        self.keys: Sequence[str] = ()
        self.cursor: Cursor | None = None
        self._context = context
        self._filter = filter_
        self._after = after
        self._first: tuple[frozenset[str], Cursor | None] | None = None

    def decide(self, state: State) -> Write:
        """Deletes of what matches; asked again, of what matched the first time too, up to where both have looked."""
        if self.uid not in ("", state.uid):
            raise IndexNotFound(state.record.path)
        self.uid = state.uid
        selection = select(state, self._context.limits, self._filter, "")
        page = Page(DELETED_AT_ONCE, self._after, vectors=False, metadata=False, selection=selection)
        rows, cursor = list_rows(self._context.session, state, page)
        keys = [row.key for row in rows]
        named, edge = self._first = self._first or (frozenset(keys), cursor)
        self.keys = [key for key in keys if key in named]
        edges = [one for one in (edge, cursor) if one is not None]
        self.cursor = min(edges, key=lambda one: one.order, default=None)
        return Write(Puts((), np.empty((0, state.config.dimension), np.float32), ()), self.keys)


def patch_metadata(context: Context, request: requests.PatchMetadata) -> Nothing:
    """Change the metadata of some rows, of all or of none; what is changed is the version that is replaced.

    Raises IndexNotFound, OutcomeUnknown, ValidationFailed, and StoreUnavailable as Index.rewrite does.
    """
    keys = [patch.key for patch in request.vectors]

    def decide(state: State) -> Write:
        check_keys(keys, "vectors[{}].key")
        check_distinct(keys, "vectors")
        rows = fetch(context.session, state, keys)
        _check_present(keys, rows)
        stored = [row.metadata or b"{}" for row in rows]
        metadata = _patched(request, stored, state.config, context.limits)
        return Write(Puts(keys, np.stack([row.vector for row in rows if row.vector is not None]), metadata))

    context.database.index(*index_of(context.identity, request)).rewrite(decide, context.options.invocation)
    return Nothing()


def _check_present(keys: Sequence[str], rows: Sequence[Row]) -> None:
    """Raises ValidationFailed where a key has no row, with all such keys as its fields."""
    missing = set(keys) - {row.key for row in rows}
    if missing:
        problem = "the index has no vector with this key"
        fields = [FieldError(f"vectors[{place}].key", problem) for place, key in enumerate(keys) if key in missing]
        first = next(key for key in keys if key in missing)
        raise ValidationFailed(f"Invalid record for key '{first}': {problem}", *fields)


def _patched(
    request: requests.PatchMetadata, stored: Sequence[bytes], config: IndexConfig, limits: Limits
) -> list[bytes]:
    """The metadata after the patches; raises ValidationFailed where an index may not hold them.

    A merge is that of RFC 7396 for objects whose values are no objects: what would have one is refused anyway.
    """
    non_filterable = frozenset(config.non_filterable or ())
    patched = []
    for place, (patch, raw) in enumerate(zip(request.vectors, stored, strict=True)):
        document = patch.metadata
        if request.mode == "merge" and isinstance(document, dict):
            merged = {**cast("dict[str, object]", parse_json(raw)), **document}
            document = {name: value for name, value in merged.items() if value is not None}
        if (problem := metadata_problem(document, non_filterable, limits)) is not None:
            raise invalid_record(patch.key, problem, f"vectors[{place}].metadata")
        patched.append(dump_json(document))
    return patched
