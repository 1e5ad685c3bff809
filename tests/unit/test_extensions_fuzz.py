"""Random bodies and options of our own operations through the wire to the real engine: never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neve.api.limits import LIMITS
from neve.api.service import Identity, Service
from neve.wire.application import Application
from neve.wire.message import Request
from tests.compacting import compact_in, short_calibrations
from tests.unit.api_calls import calls_on
from tests.unit.test_wire_fuzz import address, conditions, documents, floats, names, numbers, texts
from tests.unit.wire_service import post

INDEX = {"vectorBucketName": "fuzzed", "indexName": "index"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An index with compacted and recent rows."""
    calls = calls_on()
    calls("CreateVectorBucket", vectorBucketName="fuzzed")
    calls("CreateIndex", **INDEX, dataType="float32", dimension=2, distanceMetric="cosine")
    records = [
        {"key": key, "data": {"float32": [1, 0]}, "metadata": {"a": [1, 2], "b": "x"}} for key in ("k", "a", "x" * 1000)
    ]
    calls("PutVectors", **INDEX, vectors=records)
    database = calls.service.database
    database.index("fuzzed", "index").fold()
    with short_calibrations():
        compact_in(database, Path(tmp_path_factory.mktemp("work")), "fuzzed", "index")
    calls("PutVectors", **INDEX, vectors=records[1:])
    limits = LIMITS["aws"]
    yield Application(Service(database, Identity(), limits), calls.runtime, None, body_bytes_max=limits.body_bytes)
    database.close()


known = st.sampled_from(["k", "a", "x" * 1000]) | texts
patched = st.fixed_dictionaries({"key": known, "metadata": st.dictionaries(names, documents, max_size=3) | documents})
asked = st.one_of(
    st.tuples(
        st.just("neve/CountVectors"),
        st.fixed_dictionaries(address, optional={"filter": conditions | documents, "prefix": known | documents}),
    ),
    st.tuples(
        st.just("neve/DeleteVectorsByFilter"),
        st.fixed_dictionaries(
            {**address, "filter": conditions | documents}, optional={"dryRun": st.booleans() | documents}
        ),
    ),
    st.tuples(
        st.just("neve/PatchMetadata"),
        st.fixed_dictionaries(
            {**address, "vectors": st.lists(patched | documents, max_size=3) | documents},
            optional={"mode": st.sampled_from(["merge", "replace"]) | documents},
        ),
    ),
    st.tuples(
        st.just("ListVectors"),
        st.fixed_dictionaries(address, optional={"maxResults": st.integers(1, 3), "nextToken": texts}),
    ),
    st.tuples(st.just("QueryVectors"), st.fixed_dictionaries({**address, "topK": st.just(3), "queryVector": floats})),
)
headers = st.dictionaries(
    st.sampled_from(["x_neve_filter", "x_neve_prefix", "x_neve_distance", "x_neve_explain", "x_neve_consistency"]),
    st.one_of(
        conditions.map(json.dumps),
        st.text(st.characters(max_codepoint=255), max_size=12),
        numbers.map(str),
        st.sampled_from(["{}", "%6b", "%", "k", "true", "bounded;seconds=9", "[" * 5000, "%F0%9F", "9" * 5000]),
    ),
    max_size=2,
)
posted = st.builds(
    lambda call, named: post(f"/{call[0]}", json.dumps(call[1]).encode("utf-8", "surrogatepass"), **named),
    asked,
    headers,
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(posted)
@example(post("/neve/PatchMetadata", b'{"vectors": [{"key": "k", "metadata": ' + b'{"a":' * 900 + b"1" + b"}" * 903))
@example(post("/neve/CountVectors", b'{"filter": ' + b'{"$and":[' * 400 + b"{}" + b"]}" * 400 + b"}"))
@example(post("/ListVectors", json.dumps(INDEX).encode(), x_neve_filter='{"$or":[' * 400 + "{}" + "]}" * 400))
@example(post("/ListVectors", json.dumps(INDEX).encode(), x_neve_prefix="\\udc80"))
def test_nothing_that_is_sent_is_a_failure_of_ours(engine: Application, request: Request) -> None:
    response = engine(request)
    document = json.loads(response.body)
    if response.status != 200:
        assert response.status in (400, 404), response.body
        assert response.headers["x-amzn-errortype"].endswith("Exception")
        assert isinstance(document["message"], str)
