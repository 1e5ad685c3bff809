"""Bodies that are no request at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.catalogue.cases import WORDS, query


@dataclass(frozen=True, slots=True)
class BrokenBody:
    """A body that is not JSON, or whose members have the wrong JSON type: SerializationException, 400."""

    name: str
    operation: str
    body: bytes


def _wrong_type(name: str, operation: str, members: object) -> BrokenBody:
    return BrokenBody(name, operation, json.dumps(members).encode())


def _text(name: str, body: str) -> BrokenBody:
    return BrokenBody(name, "QueryVectors", body.encode())


_QUERY_TEXT = '{"vectorBucketName":"library","indexName":"words","topK":1,"queryVector":{"float32":[1,1,1,1]},%s}'

BROKEN_BODIES: Sequence[BrokenBody] = (
    _text("cut", '{"a":'),
    _text("trailing", "{}{}"),
    _text("single-quotes", "{'a':1}"),
    _text("bare-nan", _QUERY_TEXT % '"filter":{"a":NaN}'),
    _text("bare-infinity", _QUERY_TEXT % '"filter":{"a":-Infinity}'),
    _text("beyond-doubles", _QUERY_TEXT % '"filter":{"a":1e400}'),
    _text("integer-beyond-doubles", _QUERY_TEXT % f'"filter":{{"a":1{"0" * 400}}}'),
    _text("endless-integer", _QUERY_TEXT % f'"filter":{{"a":{"7" * 100_000}}}'),
    _text("lone-surrogate", _QUERY_TEXT % r'"filter":{"a":"\ud800"}'),
    _text("lone-low-surrogate", _QUERY_TEXT % r'"filter":{"a":"\udc00x"}'),
    _text("lone-surrogate-in-ignored-member", _QUERY_TEXT % r'"other":"\ud83d"'),
    _text("deep-array", "[" * 100_000),
    _text("deep-object", '{"a":' * 100_000),
    _text("deep-and-whole", _QUERY_TEXT % f'"filter":{"[" * 5000}{"]" * 5000}'),
    BrokenBody("not-utf8", "QueryVectors", b'{"a":"\xff"}'),
    BrokenBody("surrogate-as-utf8", "QueryVectors", b'{"a":"\xed\xa0\x80"}'),
    BrokenBody("byte-order-mark", "ListVectorBuckets", b"\xef\xbb\xbf{}"),
    _wrong_type("body-array", "ListVectorBuckets", []),
    _wrong_type("body-null", "ListVectorBuckets", None),
    _wrong_type("body-text", "ListVectorBuckets", "x"),
    _wrong_type("text-as-number", "CreateVectorBucket", {"vectorBucketName": 5}),
    _wrong_type("integer-as-text", "ListVectorBuckets", {"maxResults": "5"}),
    _wrong_type("integer-as-boolean", "ListVectorBuckets", {"maxResults": True}),
    _wrong_type("integer-with-fraction", "ListVectorBuckets", {"maxResults": 5.5}),
    _wrong_type("integer-beyond-32-bits", "ListVectorBuckets", {"maxResults": 2**31}),
    _wrong_type("boolean-as-number", "QueryVectors", query(returnDistance=1)),
    _wrong_type("boolean-as-text", "QueryVectors", query(returnDistance="true")),
    _wrong_type("list-as-object", "GetVectors", {**WORDS, "keys": {}}),
    _wrong_type("list-as-text", "GetVectors", {**WORDS, "keys": "abc"}),
    _wrong_type("null-in-list", "GetVectors", {**WORDS, "keys": [None]}),
    _wrong_type("map-as-list", "CreateVectorBucket", {"vectorBucketName": "new", "tags": []}),
    _wrong_type("null-in-map", "CreateVectorBucket", {"vectorBucketName": "new", "tags": {"a": None}}),
    _wrong_type("structure-as-text", "CreateVectorBucket", {"vectorBucketName": "new", "encryptionConfiguration": ""}),
    _wrong_type("vector-as-list", "QueryVectors", query(queryVector=[1, 1, 1, 1])),
    _wrong_type("vector-of-no-type", "QueryVectors", query(queryVector={})),
    _wrong_type("vector-of-unknown-type", "QueryVectors", query(queryVector={"int8": [1]})),
    _wrong_type("vector-of-two-types", "QueryVectors", query(queryVector={"float32": [1], "int8": [1]})),
    _wrong_type("component-as-text", "QueryVectors", query(queryVector={"float32": [1, 1, 1, "1"]})),
    _wrong_type("component-as-boolean", "QueryVectors", query(queryVector={"float32": [1, 1, 1, True]})),
    _wrong_type("component-as-null", "QueryVectors", query(queryVector={"float32": [1, 1, 1, None]})),
    _wrong_type("component-as-list", "QueryVectors", query(queryVector={"float32": [[1], [1], [1], [1]]})),
    _wrong_type("types-before-constraints", "CreateIndex", {"indexName": "", "dimension": "4"}),
)
