"""Query vectors, filters, options and page tokens that are refused."""

from __future__ import annotations

from collections.abc import Sequence

from tests.catalogue.cases import LIBRARY, WORDS, Case, Members, invalid, query
from tests.catalogue.records import NOT_FINITE, ZERO_NORM

_QUERY = "Query vector contains invalid values or is invalid for this index"


def _bad_vector(name: str, values: Sequence[object], problem: str) -> Case:
    members = query(queryVector={"float32": list(values)})
    return invalid(name, "QueryVectors", members, _QUERY, ("vector", f"Invalid input: {problem}"))


def _bad_filter(name: str, document: object, message: str = "Invalid filter") -> Case:
    return invalid(name, "QueryVectors", query(filter=document), message, ("filter", message))


def _bad_query(name: str, message: str, path: str, **members: object) -> Case:
    return invalid(name, "QueryVectors", query(**members), message, *([(path, message)] if path else []))


def nested(depth: int) -> Members:
    """A filter of `depth` condition objects within each other."""
    document: Members = {"a": 1}
    for _ in range(depth - 1):
        document = {"$and": [document]}
    return document


_NON_FILTERABLE = "Invalid use of non-filterable metadata in filter"
_CONSTRAINTS = "Filter must have at most 100 constraints"
QUERIES: Sequence[Case] = (
    _bad_vector("query-dimension", [1, 2], "vector must have length 4, but has length 2"),
    _bad_vector("query-empty", [], "vector must have length 4, but has length 0"),
    _bad_vector("query-zero", [0, 0, 0, 0], ZERO_NORM),
    _bad_vector("query-nan", ["NaN", 0, 0, 0], NOT_FINITE),
    _bad_vector("query-infinite-as-float32", [1e39, 0, 0, 0], NOT_FINITE),
    _bad_filter("filter-empty", {}),
    _bad_filter("filter-two-keys", {"a": 1, "b": 2}),
    _bad_filter("filter-text", "a"),
    _bad_filter("filter-array", []),
    _bad_filter("filter-number", 1),
    _bad_filter("filter-true", True),
    _bad_filter("filter-null-operand", {"a": None}),
    _bad_filter("filter-null-equal", {"a": {"$eq": None}}),
    _bad_filter("filter-array-shorthand", {"a": ["x"]}),
    _bad_filter("filter-array-equal", {"a": {"$eq": ["x"]}}),
    _bad_filter("filter-no-operator", {"a": {}}),
    _bad_filter("filter-field-in-field", {"a": {"x": 1}}),
    _bad_filter("filter-operator-and-field", {"a": {"$eq": "a", "x": 1}}),
    _bad_filter("filter-and-in-field", {"a": {"$and": [{"b": 1}]}}),
    _bad_filter("filter-and-empty", {"$and": []}),
    _bad_filter("filter-and-of-empty", {"$and": [{}]}),
    _bad_filter("filter-and-of-text", {"$and": ["x"]}),
    _bad_filter("filter-and-object", {"$and": {"a": 1}}),
    _bad_filter("filter-and-beside-field", {"$and": [{"a": 1}], "b": 1}),
    _bad_filter("filter-and-beside-or", {"$and": [{"a": 1}], "$or": [{"a": 1}]}),
    _bad_filter("filter-or-empty", {"$or": []}),
    _bad_filter("filter-two-keys-inside", {"$or": [{"a": 1, "b": 2}]}),
    _bad_filter("filter-operator-as-field", {"$eq": "a"}),
    _bad_filter("filter-not", {"$not": {"a": 1}}),
    _bad_filter("filter-nor", {"$nor": [{"a": 1}]}),
    _bad_filter("filter-regex", {"a": {"$regex": "x"}}),
    _bad_filter("filter-all", {"a": {"$all": ["x"]}}),
    _bad_filter("filter-exists-text", {"a": {"$exists": "yes"}}),
    _bad_filter("filter-exists-number", {"a": {"$exists": 1}}),
    _bad_filter("filter-range-text", {"a": {"$gt": "1"}}),
    _bad_filter("filter-range-boolean", {"a": {"$lte": True}}),
    _bad_filter("filter-range-nan", {"a": {"$lt": "NaN"}}),
    _bad_filter("filter-in-empty", {"a": {"$in": []}}),
    _bad_filter("filter-in-text", {"a": {"$in": "a"}}),
    _bad_filter("filter-in-null", {"a": {"$in": [None]}}),
    _bad_filter("filter-in-array", {"a": {"$in": [["a"]]}}),
    _bad_filter("filter-nin-empty", {"a": {"$nin": []}}),
    _bad_filter("filter-starts-with-number", {"a": {"$startsWith": 1}}),
    _bad_filter("filter-deep", nested(33)),
    _bad_filter("filter-non-filterable", {"raw": {"$eq": "hello"}}, _NON_FILTERABLE),
    _bad_filter("filter-non-filterable-exists", {"$or": [{"a": 1}, {"raw": {"$exists": True}}]}, _NON_FILTERABLE),
    _bad_filter("filter-malformed-first", {"$or": [{"raw": 1}, {}]}),
    _bad_filter("filter-in-101", {"a": {"$in": list(range(101))}}, _CONSTRAINTS),
    _bad_filter("filter-101", {"$or": [{"a": number} for number in range(101)]}, _CONSTRAINTS),
    _bad_query("top-k-large", "topK must be between 1 and 10000", "topK", topK=10_001),
    _bad_query("classic", "queryMode cannot be CLASSIC when indexMode is ENHANCED", "queryMode", queryMode="CLASSIC"),
    _bad_query("nothing-asked", "Must specify at least one of queryVector or queryTexts", "", queryVector=None),
    _bad_query(
        "query-text",
        "Metadata key 'title' is not configured for text search",
        "queryTexts[0].metadataKey",
        queryTexts=[{"text": "ice", "metadataKey": "title"}],
    ),
    _bad_query("query-token", "Invalid page token", "", nextToken="AAAA"),
    invalid("list-token", "ListVectors", {**WORDS, "nextToken": "no token!"}, "Invalid page token"),
    invalid("buckets-token", "ListVectorBuckets", {"nextToken": "AAAA"}, "Invalid page token"),
    invalid("indexes-token", "ListIndexes", {**LIBRARY, "nextToken": "é"}, "Invalid page token"),
    invalid(
        "segment-count-alone",
        "ListVectors",
        {**WORDS, "segmentCount": 2},
        "segmentCount and segmentIndex must be specified together",
        ("segmentIndex", "segmentCount and segmentIndex must be specified together"),
    ),
    invalid(
        "segment-index-alone",
        "ListVectors",
        {**WORDS, "segmentIndex": 0},
        "segmentCount and segmentIndex must be specified together",
        ("segmentCount", "segmentCount and segmentIndex must be specified together"),
    ),
    invalid(
        "segment-index-large",
        "ListVectors",
        {**WORDS, "segmentCount": 2, "segmentIndex": 2},
        "segmentIndex must be less than segmentCount",
        ("segmentIndex", "segmentIndex must be less than segmentCount"),
    ),
)
