"""The client in this process: boto3's names, arguments, results and errors."""

from __future__ import annotations

import pickle
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import botocore
import numpy as np
import pytest

import neve
from neve.api.service import EXTENSIONS, OPERATIONS
from neve.inprocess import Client, ClientError, ParamValidationError
from tests.catalogue import CASES, SETUP, Case
from tests.catalogue.cases import LIBRARY, ONES, SHAPE, WORDS

ROOT = Path(__file__).parents[2]


def method_of(client: Client, operation: str) -> object:
    return getattr(client, botocore.xform_name(operation))


@pytest.fixture
def client() -> Iterator[Client]:
    with neve.client("memory://") as client:
        for operation, members in SETUP:
            method_of(client, operation)(**members)
        yield client


@pytest.fixture(scope="module")
def shared_client() -> Iterator[Client]:
    with neve.client("memory://") as client:
        for operation, members in SETUP:
            method_of(client, operation)(**members)
        yield client


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusals_are_those_of_the_catalogue(shared_client: Client, case: Case) -> None:
    with pytest.raises(ClientError) as caught:
        method_of(shared_client, case.operation)(**case.members)
    response = caught.value.response
    assert response["Error"] == {"Code": case.code, "Message": case.message}
    assert response["ResponseMetadata"]["HTTPStatusCode"] == case.status
    fields = [(field["path"], field["message"]) for field in response.get("fieldList", [])]
    assert fields == list(case.fields)
    assert type(caught.value) is getattr(shared_client.exceptions, case.code)


def test_every_operation_and_exception_of_boto3_is_there(client: Client) -> None:
    theirs = boto3.client("s3vectors", region_name="us-east-1")
    assert {botocore.xform_name(name) for name in OPERATIONS} == set(theirs.meta.method_to_api_mapping)
    for name in theirs.meta.method_to_api_mapping:
        assert callable(getattr(client, name))
        assert client.can_paginate(name) == theirs.can_paginate(name)
    for name in EXTENSIONS:
        assert callable(method_of(client, name))
    for shape in theirs.meta.service_model.error_shapes:
        assert issubclass(getattr(client.exceptions, shape.name), client.exceptions.ClientError)


def test_a_store_in_a_folder_outlives_its_client(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    with neve.client(url, region="eu-west-1", account="123456789012") as first:
        arn = first.create_vector_bucket(**LIBRARY)["vectorBucketArn"]
        assert arn == "arn:aws:s3vectors:eu-west-1:123456789012:bucket/library"
        first.create_index(**WORDS, **SHAPE)
        first.put_vectors(**WORDS, vectors=[{"key": "a", "data": ONES}])
    with neve.client(store=url) as second:
        assert second.get_vectors(**WORDS, keys=["a"])["vectors"] == [{"key": "a"}]


def test_results_look_like_boto3s(client: Client) -> None:
    bucket = client.get_vector_bucket(**LIBRARY)
    metadata = bucket["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 200
    assert metadata["RetryAttempts"] == 0
    assert isinstance(metadata["RequestId"], str)
    created = bucket["vectorBucket"]["creationTime"]
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=10)
    found = client.get_vectors(**WORDS, keys=["a"], returnData=True, returnMetadata=True)
    assert found["vectors"] == [{"key": "a", "data": {"float32": [1.0] * 4}, "metadata": {"year": 2020, "raw": "text"}}]
    assert type(found["vectors"][0]["data"]["float32"][0]) is float
    assert set(client.delete_vectors(**WORDS, keys=["a"])) == {"ResponseMetadata"}


def test_numpy_stands_for_lists(client: Client) -> None:
    rows = np.arange(8, dtype=np.float64).reshape(2, 4) / 10
    vectors = [{"key": str(number), "data": {"float32": row}} for number, row in enumerate(rows)]
    client.put_vectors(**WORDS, vectors=vectors)
    found = client.get_vectors(**WORDS, keys=["1"], returnData=True)["vectors"][0]["data"]["float32"]
    assert found == rows[1].astype(np.float32).tolist()
    hits = client.query_vectors(**WORDS, topK=1, queryVector={"float32": rows[1].astype(np.float32)})
    assert [hit["key"] for hit in hits["vectors"]] == ["1"]


def test_errors_look_like_boto3s(client: Client) -> None:
    with pytest.raises(client.exceptions.NotFoundException) as caught:
        client.get_index(**LIBRARY, indexName="nothing")
    expected = "An error occurred (NotFoundException) when calling the GetIndex operation: "
    assert str(caught.value) == expected + "The specified index could not be found"
    assert caught.value.operation_name == "GetIndex"
    with pytest.raises(client.exceptions.ClientError):
        client.get_vector_bucket()
    with pytest.raises(AttributeError, match="NotFoundException"):
        _ = client.exceptions.NoSuchException


def test_an_unknown_argument_is_told(client: Client) -> None:
    with pytest.raises(ParamValidationError, match=r'Unknown parameter in input: "topk", must be one of: .*topK'):
        client.query_vectors(**WORDS, topk=1)


@pytest.mark.parametrize(
    "metadata",
    [{"a": float("nan")}, {"a": "\ud800"}, {"\udc00": 1}, {"a": object()}, {"a": {1, 2}}, {"a": 10**400}],
    ids=["nan", "surrogate", "surrogate-key", "object", "set", "integer"],
)
def test_what_http_could_not_carry_is_refused(client: Client, metadata: object) -> None:
    with pytest.raises(ClientError) as caught:
        client.put_vectors(**WORDS, vectors=[{"key": "b", "data": ONES, "metadata": metadata}])
    assert caught.value.response["Error"]["Code"] == "SerializationException"
    with pytest.raises(ClientError) as caught:
        client.query_vectors(**WORDS, topK=1, queryVector=ONES, filter=metadata)
    assert caught.value.response["Error"]["Code"] == "SerializationException"


def test_endless_documents_are_refused(client: Client) -> None:
    loop: list[object] = []
    loop.append(loop)
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    for document in (loop, deep):
        with pytest.raises(ClientError) as caught:
            client.query_vectors(**WORDS, topK=1, queryVector=ONES, filter={"a": document})
        assert caught.value.response["Error"]["Code"] == "SerializationException"


@pytest.mark.parametrize("key", ["\ud800", "a\udfff"])
def test_lone_surrogates_in_keys_are_refused(client: Client, key: str) -> None:
    for call in (
        lambda: client.put_vectors(**WORDS, vectors=[{"key": key, "data": ONES}]),
        lambda: client.get_vectors(**WORDS, keys=[key]),
        lambda: client.delete_vectors(**WORDS, keys=[key]),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == "SerializationException"


def test_consistency_is_an_option_of_every_call(tmp_path: Path) -> None:
    with neve.client(tmp_path.as_uri()) as one, neve.client(tmp_path.as_uri()) as other:
        one.create_vector_bucket(**LIBRARY)
        one.create_index(**WORDS, **SHAPE)
        assert other.list_vectors(**WORDS)["vectors"] == []
        one.put_vectors(**WORDS, vectors=[{"key": "a", "data": ONES}])
        assert other.list_vectors(**WORDS, neve={"consistency": "bounded;seconds=3600"})["vectors"] == []
        assert other.list_vectors(**WORDS, neve={"consistency": "strong"})["vectors"] == [{"key": "a"}]


@pytest.mark.parametrize(
    "options", [{"consistency": "weak"}, {"colour": "blue"}, "strong", {"recall": 0}, {"recall": 1.1}, {"explain": 1}]
)
def test_an_unknown_option_is_refused(client: Client, options: object) -> None:
    with pytest.raises(client.exceptions.ValidationException):
        client.list_vectors(**WORDS, neve=options)


def test_an_explanation_is_a_member_of_the_answer(client: Client) -> None:
    client.put_vectors(**WORDS, vectors=[{"key": "a", "data": ONES}])
    query = {**WORDS, "topK": 1, "queryVector": ONES}
    plain, explained = (client.query_vectors(**query, neve={"explain": asked}) for asked in (False, True))
    told = explained.pop("neve")["explain"]
    assert {**explained, "ResponseMetadata": None} == {**plain, "ResponseMetadata": None}
    assert (told["waves"], told["requests"], told["plan"], told["recall"]) == (1, 3, "recent rows", 0.98)
    assert set(client.list_vectors(**WORDS, neve={"explain": True})["neve"]["explain"]) == {
        *("milliseconds", "waves", "requests", "hedges", "dollars", "memory", "disk", "store")
    }


def test_sizes_of_tiers_are_checked(tmp_path: Path) -> None:
    with neve.client("memory://", memory="1MiB", disk=str(tmp_path), disk_size="64MiB") as client:
        client.create_vector_bucket(**LIBRARY)
    for sizes in ({"memory": "much"}, {"disk_size": "1GB"}):
        with pytest.raises(ValueError, match="is not a size such as"):
            neve.client("memory://", **sizes)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="limits must be one of aws, wide"):
        neve.client("memory://", limits="none")


class TestPaginator:
    @pytest.fixture
    def client(self) -> Iterator[Client]:
        with neve.client("memory://") as client:
            client.create_vector_bucket(**LIBRARY)
            client.create_index(**WORDS, **SHAPE)
            rows = [{"key": f"k{n}", "data": {"float32": [1, n / 100, 0, 0]}} for n in range(250)]
            client.put_vectors(**WORDS, vectors=rows)
            yield client

    def test_pages_hold_everything(self, client: Client) -> None:
        pages = list(client.get_paginator("list_vectors").paginate(**WORDS, PaginationConfig={"PageSize": 100}))
        assert [len(page["vectors"]) for page in pages] == [100, 100, 50]
        assert len({row["key"] for page in pages for row in page["vectors"]}) == 250

    def test_full_result(self, client: Client) -> None:
        query = {**WORDS, "topK": 210, "queryVector": {"float32": [1, 0, 0, 0]}}
        whole = client.get_paginator("query_vectors").paginate(**query).build_full_result()
        assert [row["key"] for row in whole.pop("vectors")] == [f"k{n}" for n in range(210)]
        assert whole == {"distanceMetric": "cosine"}

    @pytest.mark.parametrize("size", [30, 70, 100])
    def test_what_was_cut_off_can_be_resumed(self, client: Client, size: int) -> None:
        paginator = client.get_paginator("list_vectors")
        keys: list[str] = []
        token = None
        for _ in range(6):
            config = {"MaxItems": 50, "PageSize": size, "StartingToken": token}
            part = paginator.paginate(**WORDS, PaginationConfig=config).build_full_result()
            keys += [row["key"] for row in part["vectors"]]
            token = part.get("NextToken")
            if token is None:
                break
        assert len(keys) == len(set(keys)) == 250
        assert token is None

    def test_a_token_of_the_service_starts_a_listing(self, client: Client) -> None:
        page = client.list_vectors(**WORDS, maxResults=240)
        config = {"StartingToken": page["nextToken"]}
        rest = client.get_paginator("list_vectors").paginate(**WORDS, PaginationConfig=config).build_full_result()
        assert len(rest["vectors"]) == 10

    def test_what_cannot_be_paginated(self, client: Client) -> None:
        with pytest.raises(ValueError, match="Operation cannot be paginated: get_vectors"):
            client.get_paginator("get_vectors")
        with pytest.raises(ValueError, match="PageSize parameter is not supported"):
            client.get_paginator("query_vectors").paginate(**WORDS, PaginationConfig={"PageSize": 5})
        with pytest.raises(ValueError, match="Unknown member of PaginationConfig: MaxItem"):
            client.get_paginator("list_vectors").paginate(**WORDS, PaginationConfig={"MaxItem": 5})


def test_the_package_exports_what_it_says() -> None:
    assert neve.__all__ == ["__version__", "client"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert neve.__version__ == project["version"]
    public = {name for name in dir(neve) if not name.startswith("_")} - {"annotations", "TYPE_CHECKING"}
    modules = {name for name in public if type(getattr(neve, name)) is type(neve)}
    assert public - modules == {"client"}
    with pytest.raises(AttributeError, match="no attribute 'server'"):
        _ = neve.server


def test_errors_survive_the_way_to_another_process() -> None:
    with neve.client(store="memory://") as client:
        with pytest.raises(client.exceptions.NotFoundException) as caught:
            client.get_vector_bucket(vectorBucketName="absent")
        copy = pickle.loads(pickle.dumps(caught.value))
        assert type(copy) is client.exceptions.NotFoundException
        assert (str(copy), copy.response) == (str(caught.value), caught.value.response)
