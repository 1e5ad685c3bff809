"""QueryVectors: one search, answered in pages."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial

import numpy as np

from neve.api import requests
from neve.api.address import index_of
from neve.api.context import Context
from neve.api.pages import SearchId
from neve.api.records import check_query
from neve.api.requests import Float32s
from neve.api.results import Hit, HitPage
from neve.api.tokens import Position
from neve.errors import FieldError, ObjectGone, PageTokenInvalid, ValidationFailed
from neve.filters.expression import Condition
from neve.filters.parse import parse
from neve.index.index import Index
from neve.index.records import IndexConfig
from neve.index.state import State
from neve.query.explain import Plan
from neve.query.hits import Hits
from neve.query.search import Query, reads_ahead, search
from neve.query.session import Prefetch, Session

TOKEN_LIFE_S = 3600.0  # the state that a token names is kept at least so long (design §4, G)


def query_vectors(context: Context, request: requests.QueryVectors) -> HitPage:
    """The next page of the topK nearest vectors. Raises IndexNotFound, PageTokenInvalid, ValidationFailed.

    Pages after the first cost no second search while its hits are held here.
    """
    index = context.database.index(*index_of(context.identity, request))
    ahead = _ahead(context.session, request, context)
    return index.read_with(lambda state: _answer(context, request, index, state), context.options.consistency, ahead)


def _answer(context: Context, request: requests.QueryVectors, index: Index, state: State) -> HitPage:
    session = context.session
    vector = _checked_vector(request, state, context)
    condition = _condition(request, context, state.record.config)
    query = Query(vector, request.top_k, condition, context.options.recall)
    digest = _digest(request, query, context.options.distance)
    now_s = context.database.runtime.now().wall_s
    if request.next_token is None:
        start = Position(state.record.uid, state.manifest, state.position, state.arrangement(), now_s, 0)
    else:
        start = context.tokens.position(request.next_token, "query", digest)
        if start.uid != state.record.uid or now_s - start.issued_s > TOKEN_LIFE_S:
            raise PageTokenInvalid
    try:
        hits = _searched(context, session, index, state, start, query, digest)
        return _page(context, session, request, state, start, hits, digest)
    except ObjectGone as error:
        if start.offset:
            raise PageTokenInvalid("the state that the page token names has been collected") from error
        raise


def _ahead(session: Session, request: requests.QueryVectors, context: Context) -> Prefetch | None:
    """What a first page reads beside the opening of a cold index, unless the request is going to be refused."""
    vector = request.query_vector
    if vector is None or request.next_token is not None:
        return None
    if not 1 <= request.top_k <= context.limits.top_k or not np.isfinite(vector).all() or not vector.any():
        return None
    query = Query(vector, request.top_k, None, context.options.recall)
    return reads_ahead(session, query, partial(_condition, request, context))


def _condition(request: requests.QueryVectors, context: Context, config: IndexConfig) -> Condition | None:
    """The filter of a request, for an index of this shape. Raises ValidationFailed."""
    if request.filter is None:
        return None
    return parse(request.filter, config.non_filterable or (), context.limits.filter_constraints)


def _checked_vector(request: requests.QueryVectors, state: State, context: Context) -> Float32s:
    """The query vector of a request whose members fit each other and the index."""
    if request.query_texts:
        key = request.query_texts[0].metadata_key
        message = f"Metadata key '{key}' is not configured for text search"
        raise ValidationFailed(message, FieldError("queryTexts[0].metadataKey", message))
    if request.query_vector is None:
        raise ValidationFailed("Must specify at least one of queryVector or queryTexts")
    if request.top_k > context.limits.top_k:
        message = f"topK must be between 1 and {context.limits.top_k}"
        raise ValidationFailed(message, FieldError("topK", message))
    if request.query_mode == "CLASSIC":
        message = "queryMode cannot be CLASSIC when indexMode is ENHANCED"
        raise ValidationFailed(message, FieldError("queryMode", message))
    check_query(request.query_vector, state.record.config)
    return request.query_vector


def _digest(request: requests.QueryVectors, query: Query, distance: float | None) -> str:
    """Names everything that was asked but the page."""
    digest = hashlib.blake2b(query.vector.tobytes(), digest_size=16)
    asked = (
        query.k,
        None if query.condition is None else query.condition.text,
        query.recall,
        distance,
        request.query_mode,
        request.return_metadata,
        request.return_distance,
        request.return_scores,
    )
    digest.update(repr(asked).encode())
    return digest.hexdigest()


def _searched(
    context: Context, session: Session, index: Index, state: State, start: Position, query: Query, digest: str
) -> Hits:
    """All hits of the search that `start` continues, from here if held, else found again on that very state."""
    found = SearchId(start.uid, start.manifest, start.position, digest)
    hits = context.searches.get(found) if start.offset else None
    if hits is not None:
        context.explain.goes_by(Plan.HELD)
    else:
        if start.offset:
            state = index.read_at(start.uid, start.manifest, start.position, start.arrangement)
        hits = search(session, state, query, context.explain)
        context.explain_filter(state, query.condition, len(hits))
        hits = hits.within(context.options.distance)
        if len(hits) > context.limits.query_page:
            context.searches.put(found, hits)
    return hits


def _page(
    context: Context,
    session: Session,
    request: requests.QueryVectors,
    state: State,
    start: Position,
    hits: Hits,
    digest: str,
) -> HitPage:
    stop = min(start.offset + context.limits.query_page, len(hits))
    distances = hits.distances[start.offset : stop].tolist()
    shown = tuple(
        Hit(key.decode(), distance if request.return_distance else None, metadata if request.return_metadata else None)
        for (key, metadata), distance in zip(hits.named(session, start.offset, stop), distances, strict=True)
    )
    next_token = None
    if stop < len(hits):
        onward = replace(start, offset=stop)
        next_token = context.tokens.of_position(onward, "query", digest)
    return HitPage(shown, state.record.config.metric, next_token)
