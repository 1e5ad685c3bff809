"""Operations on the vectors of an index, other than queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neve.api import requests
from neve.api.address import index_of
from neve.api.context import Context
from neve.api.records import check_distinct, check_keys, checked_puts
from neve.api.results import Nothing, OutputVector, VectorPage
from neve.api.selections import select
from neve.errors import FieldError, LimitExceeded, ValidationFailed
from neve.index.consistency import AS_KNOWN
from neve.index.entry import Write
from neve.index.records import IndexRecord
from neve.index.state import State
from neve.query.fetch import Row, fetch, key_blocks_ahead
from neve.query.listing import Cursor, Page, list_rows
from neve.query.selection import EVERYTHING
from neve.segments.rows import Puts

# Of a listing's page, counted rather than measured: a float32 widened to a double prints in 20 bytes or so,
# and a row has braces and member names around it.
_COMPONENT_BYTES = 20
_ROW_BYTES = 64


def put_vectors(context: Context, request: requests.PutVectors) -> Nothing:
    """All of the records or none. Raises IndexNotFound, LimitExceeded, OutcomeUnknown, ValidationFailed."""
    index = context.database.index(*index_of(context.identity, request))
    if index.read(AS_KNOWN).live_rows + len(request.vectors) > context.limits.vectors_per_index:
        raise LimitExceeded("You have reached the maximum number of vectors")
    index.write(
        lambda record: Write(checked_puts(request.vectors, record.config, context.limits)), context.options.invocation
    )
    return Nothing()


def delete_vectors(context: Context, request: requests.DeleteVectors) -> Nothing:
    """Missing keys are no error. Raises IndexNotFound, OutcomeUnknown, ValidationFailed."""

    def prepare(record: IndexRecord) -> Write:
        check_keys(request.keys)
        check_distinct(request.keys)
        return Write(Puts((), np.empty((0, record.config.dimension), np.float32), ()), request.keys)

    context.database.index(*index_of(context.identity, request)).write(prepare, context.options.invocation)
    return Nothing()


def get_vectors(context: Context, request: requests.GetVectors) -> VectorPage:
    """Missing keys are left out, repeats collapse. Raises IndexNotFound, ValidationFailed."""
    index, session = context.database.index(*index_of(context.identity, request)), context.session

    def found(state: State) -> list[Row]:
        check_keys(request.keys)
        return fetch(session, state, request.keys)

    rows = index.read_with(found, context.options.consistency, key_blocks_ahead(session, request.keys))
    return VectorPage(_shown(rows, request))


def list_vectors(context: Context, request: requests.ListVectors) -> VectorPage:
    """One page in hash order of the keys. Raises IndexNotFound, PageTokenInvalid, ValidationFailed."""
    index = context.database.index(*index_of(context.identity, request))
    return index.read_with(lambda state: _listed(context, request, state), context.options.consistency)


def _listed(context: Context, request: requests.ListVectors, state: State) -> VectorPage:
    segment, segments = _segment(request)
    selection = select(state, context.limits, context.options.filter, context.options.prefix)
    belonging: tuple[object, ...] = ("vectors", state.record.uid, segment, segments)
    if selection != EVERYTHING:
        belonging += (selection.condition and selection.condition.text, selection.prefix)
    after = None if request.next_token is None else context.tokens.cursor(request.next_token, *belonging)
    limit = min(request.max_results or context.limits.list_page_default, context.limits.list_page)
    if request.return_data:
        row_bytes = _ROW_BYTES + _COMPONENT_BYTES * state.record.config.dimension
        limit = min(limit, max(1, context.limits.list_page_bytes // row_bytes))
    page = Page(limit, after, segment, segments, request.return_data, request.return_metadata, selection)
    rows, cursor = list_rows(context.session, state, page)
    shown = _shown(rows, request)
    fitting = _fitting(shown, context.limits.list_page_bytes)
    if fitting < len(shown):
        cursor = Cursor.at(shown[fitting - 1].key)
    return VectorPage(shown[:fitting], None if cursor is None else context.tokens.of_cursor(cursor, *belonging))


def _segment(request: requests.ListVectors) -> tuple[int, int]:
    """Number of the asked segment and how many there are; the whole index is segment 0 of 1."""
    if request.segment_count is None and request.segment_index is None:
        return 0, 1
    if request.segment_count is None or request.segment_index is None:
        message = "segmentCount and segmentIndex must be specified together"
        raise ValidationFailed(
            message, FieldError("segmentIndex" if request.segment_index is None else "segmentCount", message)
        )
    if request.segment_index >= request.segment_count:
        message = "segmentIndex must be less than segmentCount"
        raise ValidationFailed(message, FieldError("segmentIndex", message))
    return request.segment_index, request.segment_count


def _shown(rows: Sequence[Row], request: requests.GetVectors | requests.ListVectors) -> tuple[OutputVector, ...]:
    return tuple(
        OutputVector(
            row.key, row.vector if request.return_data else None, row.metadata if request.return_metadata else None
        )
        for row in rows
    )


def _fitting(vectors: Sequence[OutputVector], page_bytes: int) -> int:
    """How many of them a page holds, at least one."""
    held = 0
    for place, vector in enumerate(vectors):
        held += _ROW_BYTES + len(vector.key.encode()) + len(vector.metadata or b"")
        held += 0 if vector.data is None else _COMPONENT_BYTES * len(vector.data)
        if held > page_bytes and place:
            return place
    return len(vectors)
