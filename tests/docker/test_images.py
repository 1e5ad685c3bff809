"""The images of the functions under a Docker engine, by the real runtime interface client in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from neve.testing.lambda_runtime import FunctionError, LambdaRuntime
from tests.conftest import USER
from tests.servers.containers import Container
from tests.servers.engine import Engine
from tests.servers.function import answer_of, url_event
from tests.servers.object_store import ObjectStore

BUCKET = {"vectorBucketName": "shelf"}
INDEX = {**BUCKET, "indexName": "books"}
CREATED = {**INDEX, "dataType": "float32", "dimension": 8, "distanceMetric": "euclidean"}
VECTORS = np.random.default_rng(3).normal(size=(400, 8)).astype(np.float32)
SECONDS = 120.0


class FunctionContainer(Container):
    """One execution environment in a container; it takes events from a runtime on this machine."""

    def __init__(self, engine: Engine, image: str, store: str, *handler: str) -> None:
        self.runtime = LambdaRuntime()
        settings = {"NEVE_STORE": store, **USER.environment(), **self.runtime.environment}
        super().__init__(engine, image, settings, *handler)

    def invoke(self, event: object) -> Any:
        invocation = self.runtime.hand_in(event, seconds=SECONDS)
        self.until(lambda: invocation.answer.done() or None, SECONDS)
        return invocation.result()

    def call(self, operation: str, members: Mapping[str, object]) -> Any:
        status, document = answer_of(self.invoke(url_event(operation, members)))
        assert status == 200, document
        return document

    def __enter__(self) -> FunctionContainer:
        self.runtime.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.runtime.close()


@pytest.fixture
def filled(docker_engine: Engine, minio: ObjectStore) -> str:
    """The URL of a store that the query image has filled, and answered from."""
    store = minio.fresh_url()
    with FunctionContainer(docker_engine, "query", store) as api:
        api.call("CreateVectorBucket", BUCKET)
        api.call("CreateIndex", CREATED)
        vectors = [{"key": f"v{n}", "data": {"float32": vector.tolist()}} for n, vector in enumerate(VECTORS)]
        api.call("PutVectors", {**INDEX, "vectors": vectors})
        assert nearest(api) == [f"v{n}" for n in range(0, 400, 100)]
    return store


def nearest(api: FunctionContainer) -> list[str]:
    """The nearest vector of some of those that were put."""
    asked = [{**INDEX, "queryVector": {"float32": VECTORS[n].tolist()}, "topK": 1} for n in range(0, 400, 100)]
    return [api.call("QueryVectors", members)["vectors"][0]["key"] for members in asked]


def test_one_image_compacts_and_the_other_answers_and_collects(docker_engine: Engine, filled: str) -> None:
    with FunctionContainer(docker_engine, "compaction", filled) as compact:
        [done] = compact.invoke({"bucket": "shelf", "index": "books"})["compacted"]
        assert (done["index"], done["rows"]) == ("shelf/books", 400)
    with FunctionContainer(docker_engine, "query", filled) as api:
        assert nearest(api) == [f"v{n}" for n in range(0, 400, 100)]
        assert api.output() == ""
    with FunctionContainer(docker_engine, "query", filled, "collect.handler") as collect:
        assert set(collect.invoke({}).values()) == {0}


def test_a_function_without_a_store_says_so(docker_engine: Engine) -> None:
    with FunctionContainer(docker_engine, "query", "") as api:
        api.until(lambda: api.runtime.init_errors or None)
        [error] = api.runtime.init_errors
        assert isinstance(error, FunctionError)
        assert "store is not set" in error.message


@pytest.mark.parametrize("image", ["query", "compaction", "server"])
def test_images_hold_bytecode(docker_engine: Engine, image: str) -> None:
    """A function's folder is read-only: without bytecode each new environment would compile everything anew."""
    code = "import neve.api, numpy, os; print(all(os.path.exists(m.__cached__) for m in (neve.api, numpy)))"
    alone = ["run", "--rm", "--network", "none", "--entrypoint", "python3", docker_engine.image(image)]
    assert docker_engine.docker(*alone, "-c", code).strip() == "True"
