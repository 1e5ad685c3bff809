"""Random documents through the wire to the real engine: a modelled answer each time, never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neve.api.limits import LIMITS
from neve.api.model import inputs
from neve.api.service import EXTENSIONS, OPERATIONS, Identity, Service
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.wire.application import Application
from neve.wire.message import Request
from tests.unit.wire_service import post

BUCKET = "arn:aws:s3vectors:us-east-1:000000000000:bucket/fuzzed"
MEMBERS = sorted({name for shape in inputs(LIMITS["aws"]).values() for name, *_ in shape.members})


@pytest.fixture(scope="module")
def engine() -> Iterator[Application]:
    runtime = SystemRuntime()
    database = Database.open(connect("memory://"), runtime)
    service = Service(database, Identity(), LIMITS["aws"])
    application = Application(service, runtime, None, body_bytes_max=LIMITS["aws"].body_bytes)
    index = {"vectorBucketName": "fuzzed", "indexName": "index"}
    kind = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
    record = {"key": "k", "data": {"float32": [1, 0]}, "metadata": {"a": [1, 2], "b": "x"}}
    for operation, members in (
        ("CreateVectorBucket", {"vectorBucketName": "fuzzed"}),
        ("CreateIndex", {**index, **kind}),
        ("PutVectors", {**index, "vectors": [record]}),
    ):
        assert application(post(f"/{operation}", json.dumps(members).encode())).status == 200
    yield application
    runtime.close()


numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, 1, 2, 2**31, 2**63, 2**64, 10**400, 1e308, -1e308, 3.5e38, 1e-46, -0.0, True])
)
texts = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["", "fuzzed", "index", BUCKET, BUCKET + "/index/index", "k", "float32", "cosine", "NaN", "Infinity", "x" * 1025]
)
names = (
    st.sampled_from(["a", "b", "key", "data", "float32", "metadata", "", "$and", "$or", "$eq", "$in", "$gt", "$exists"])
    | texts
)
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
address = {"vectorBucketName": st.just("fuzzed"), "indexName": st.just("index")}
floats = st.fixed_dictionaries({"float32": st.lists(numbers, min_size=2, max_size=2)}) | st.just({"float32": [0.5, 1]})
records = st.fixed_dictionaries(
    {"key": texts, "data": floats}, optional={"metadata": st.dictionaries(names, documents, max_size=3)}
)
conditions = st.dictionaries(names, documents, min_size=1, max_size=1)
settings_of_indexes = st.sampled_from(["recall", "compact"]) | texts
plausible = {
    "PutVectors": st.fixed_dictionaries({**address, "vectors": st.lists(records, min_size=1, max_size=3)}),
    "QueryVectors": st.fixed_dictionaries(
        {**address, "topK": st.integers(1, 200), "queryVector": floats},
        optional={"filter": conditions, "returnDistance": documents, "nextToken": texts},
    ),
    "GetVectors": st.fixed_dictionaries(
        {**address, "keys": st.lists(texts, min_size=1, max_size=3)},
        optional={"returnData": st.booleans(), "returnMetadata": st.booleans()},
    ),
    "DeleteVectors": st.fixed_dictionaries({**address, "keys": st.lists(texts, min_size=1, max_size=3)}),
    "ListVectors": st.fixed_dictionaries(
        address,
        optional={
            "maxResults": numbers,
            "nextToken": texts,
            "segmentCount": st.integers(0, 17),
            "segmentIndex": st.integers(-1, 16),
        },
    ),
}
plausible |= {
    "neve/ConfigureIndex": st.fixed_dictionaries(
        {**address, "settings": st.dictionaries(settings_of_indexes, documents)}
    ),
    "neve/MeasureRecall": st.fixed_dictionaries(
        address, optional={"topK": numbers, "queries": numbers, "seed": numbers}
    ),
    "neve/WarmIndex": st.fixed_dictionaries(address),
}
wild = st.dictionaries(st.sampled_from(MEMBERS) | texts, documents, max_size=5)
# deleting the index would leave the rest of the search without one
operations = st.sampled_from(sorted({*OPERATIONS, *(f"neve/{name}" for name in EXTENSIONS)} - {"DeleteIndex"}))
by_tags = st.builds(
    Request,
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.sampled_from([BUCKET, BUCKET + "/index/index", BUCKET + "/index/none", ""]).map("/tags/".__add__)
    | texts.map("/tags/".__add__),
    query=st.lists(texts, max_size=3).map(lambda keys: "&".join(f"tagKeys={key}" for key in keys)),
    body=st.fixed_dictionaries({"tags": st.dictionaries(texts, texts, max_size=3) | documents}).map(
        lambda document: json.dumps(document).encode()
    ),
)
asked = st.tuples(operations, wild) | st.one_of(
    *(st.tuples(st.just(operation), members) for operation, members in plausible.items())
)
posted = st.builds(
    lambda call, escaped: post(
        f"/{call[0]}", json.dumps(call[1], ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    ),
    asked,
    st.booleans(),
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(posted | by_tags)
@example(post("/QueryVectors", b"[" * 200_000))
@example(post("/QueryVectors", b'{"a":' * 100_000 + b"1" + b"}" * 100_000))
@example(post("/PutVectors", b'{"vectors": ' + b"9" * 100_000 + b"}"))
@example(post("/PutVectors", b'{"vectors": [{"key": "\\udc00"}]}'))
def test_nothing_that_is_sent_is_a_failure_of_ours(engine: Application, request: Request) -> None:
    response = engine(request)
    document = json.loads(response.body)
    if response.status == 200:
        assert "x-amzn-errortype" not in response.headers
    else:
        assert response.status in (400, 403, 404, 409), response.body
        assert response.headers["x-amzn-errortype"].endswith("Exception")
        assert isinstance(document.get("message", ""), str)
