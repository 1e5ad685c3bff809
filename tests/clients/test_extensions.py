"""Our own operations and options with the clients that there are: raw signed HTTP, boto3 with a header, in process."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import neve
from tests.conftest import USER
from tests.servers.neve import NeveServer

ROWS = 1200


class Signed:
    """Requests as any program can send them, signed by botocore."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._signer = SigV4Auth(Credentials(USER.access_key, USER.secret_key), "s3vectors", "us-east-1")

    def __call__(self, operation: str, members: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
        """Status, and the JSON of the answer."""
        named = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        request = AWSRequest("POST", f"{self._url}/{operation}", named, json.dumps(members).encode())
        self._signer.add_auth(request)
        asked = urllib.request.Request(request.url, request.body, dict(request.headers.items()), method="POST")
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())


@pytest.fixture(scope="module")
def signed(neve_server: NeveServer) -> Signed:
    return Signed(neve_server.url)


@pytest.fixture
def index(neve_server: NeveServer) -> Iterator[dict[str, str]]:
    """An index of ROWS rows; every third is `old`."""
    client = neve_server.client()
    address = {"vectorBucketName": f"b-{uuid.uuid4()}", "indexName": "rows"}
    client.create_vector_bucket(vectorBucketName=address["vectorBucketName"])
    client.create_index(**address, dataType="float32", dimension=2, distanceMetric="euclidean")
    for start in range(0, ROWS, 400):
        client.put_vectors(
            **address,
            vectors=[
                {"key": f"k{n}", "data": {"float32": [n, 0]}, "metadata": {"n": n, "old": n % 3 == 0}}
                for n in range(start, start + 400)
            ],
        )
    yield address
    client.delete_index(**address)


def test_raw_signed_http(signed: Signed, index: dict[str, str]) -> None:
    assert signed("neve/CountVectors", index) == (200, {"count": ROWS})
    assert signed("neve/CountVectors", {**index, "filter": {"old": True}}) == (200, {"count": 400})
    assert signed("neve/CountVectors", {**index, "prefix": "k11"}) == (200, {"count": 111})

    chosen = {"x_neve_filter": '{"old": true}', "x_neve_prefix": "k%31"}
    keys: list[str] = []
    members = {**index, "maxResults": 100}
    while True:
        status, page = signed("ListVectors", members, **chosen)
        assert status == 200
        keys += [vector["key"] for vector in page["vectors"]]
        if "nextToken" not in page:
            break
        members["nextToken"] = page["nextToken"]
    assert sorted(keys) == sorted(f"k{n}" for n in range(0, ROWS, 3) if str(n).startswith("1"))
    assert signed("ListVectors", members)[1]["message"] == "Invalid page token"

    query = {**index, "queryVector": {"float32": [50, 0]}, "topK": 100, "returnDistance": True}
    status, page = signed("QueryVectors", query, x_neve_distance="4")
    assert (status, sorted(hit["key"] for hit in page["vectors"])) == (200, ["k48", "k49", "k50", "k51", "k52"])

    patches = [{"key": "k0", "metadata": {"old": None, "title": "Névé ❄"}}, {"key": "k3", "metadata": {"n": -3}}]
    assert signed("neve/PatchMetadata", {**index, "vectors": patches}) == (200, {})
    found = signed("GetVectors", {**index, "keys": ["k0", "k3"], "returnMetadata": True, "returnData": True})[1]
    assert {row["key"]: row["metadata"] for row in found["vectors"]} == {
        "k0": {"n": 0, "title": "Névé ❄"},
        "k3": {"n": -3, "old": True},
    }

    doomed = {**index, "filter": {"old": True}}
    assert signed("neve/DeleteVectorsByFilter", {**doomed, "dryRun": True}) == (200, {"deleted": 399})
    assert signed("neve/DeleteVectorsByFilter", doomed) == (200, {"deleted": 399})
    assert signed("neve/CountVectors", index) == (200, {"count": ROWS - 399})

    status, refused = signed("neve/DeleteVectorsByFilter", index)
    assert (status, refused["fieldList"][0]["path"]) == (400, "/filter")
    status, refused = signed("PutVectors", {**index, "vectors": []}, x_neve_filter="{}")
    assert (status, refused["message"]) == (400, "filter is an option of ListVectors only")


def test_boto3_with_a_header(neve_server: NeveServer, index: dict[str, str]) -> None:
    """An unmodified client carries an option by an event hook; its paginator goes through the pages."""
    client = neve_server.client()

    def choose(params: dict[str, Any], **_: object) -> None:
        params["headers"]["x-neve-filter"] = json.dumps({"n": {"$lt": 150}})

    client.meta.events.register("before-call.s3vectors.ListVectors", choose)
    pages = client.get_paginator("list_vectors").paginate(**index, PaginationConfig={"PageSize": 40})
    keys = [vector["key"] for page in pages for vector in page["vectors"]]
    assert sorted(keys) == sorted(f"k{n}" for n in range(150))


def test_in_process(tmp_path: Path) -> None:
    index = {"vectorBucketName": "library", "indexName": "books"}
    with neve.client(tmp_path.as_uri()) as client:
        client.create_vector_bucket(vectorBucketName="library")
        client.create_index(**index, dataType="float32", dimension=2, distanceMetric="euclidean")
        rows = [{"key": f"é{n}", "data": {"float32": [n, 1]}, "metadata": {"n": n}} for n in range(30)]
        client.put_vectors(**index, vectors=rows)
        assert client.count_vectors(**index, prefix="é1")["count"] == 11
        assert client.count_vectors(**index, filter={"n": {"$gte": 10}})["count"] == 20
        pages = client.get_paginator("list_vectors").paginate(
            **index, neve={"filter": {"n": {"$lt": 20}}, "prefix": "%C3%A91"}, PaginationConfig={"PageSize": 3}
        )
        assert sorted(row["key"] for row in pages.build_full_result()["vectors"]) == sorted(
            ["é1", *(f"é{n}" for n in range(10, 20))]
        )
        near = client.query_vectors(**index, topK=9, queryVector={"float32": [5, 1]}, neve={"distance": 1.5})
        assert sorted(hit["key"] for hit in near["vectors"]) == ["é4", "é5", "é6"]
        client.patch_metadata(**index, vectors=[{"key": "é5", "metadata": {"n": None, "tag": ["x"]}}])
        [found] = client.get_vectors(**index, keys=["é5"], returnMetadata=True)["vectors"]
        assert found["metadata"] == {"tag": ["x"]}
        with pytest.raises(client.exceptions.ValidationException, match="the index has no vector with this key"):
            client.patch_metadata(**index, vectors=[{"key": "absent", "metadata": {}}])
        deleted = client.delete_vectors_by_filter(**index, filter={"n": {"$exists": True}}, neve={"explain": True})
        assert deleted["deleted"] == 29
        assert deleted["neve"]["explain"]["requests"] > 0
        assert client.count_vectors(**index)["count"] == 1
