"""The query path stays small: a wheel with its own few dependencies opens a store that a full environment wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import neve
from tests.servers.function import url_event
from tests.servers.tools import ROOT, Unavailable, program

ASK = Path(__file__).with_name("ask.py")
BUCKET = "small"
INDEXES = ("written", "compacted")
BATCH_MODULES = {
    "pyarrow",
    "lance",
    "pandas",
    "boto3",
    "botocore",
    "s3fs",
    "fsspec",
    "uvicorn",
    "rich",
    "dask",
    "minio",
    "prometheus_client",
    "opentelemetry",
}
NEAREST_ODD = [
    {"key": "3", "distance": 0.0, "metadata": {"odd": True}},
    {"key": "5", "distance": 4.0, "metadata": {"odd": True}},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with two indexes of the same 90 vectors, some in the tail and some folded, or all in one segment."""
    url = tmp_path_factory.mktemp("store").as_uri()
    with neve.client(store=url) as client:
        client.create_vector_bucket(vectorBucketName=BUCKET)
        for index in INDEXES:
            names = {"vectorBucketName": BUCKET, "indexName": index}
            client.create_index(**names, dataType="float32", dimension=2, distanceMetric="euclidean")
            for number in [*range(100, 180), *range(10)]:
                vector = {"key": str(number), "data": {"float32": [number, 0]}, "metadata": {"odd": number % 2 == 1}}
                client.put_vectors(**names, vectors=[vector])
    run(sys.executable, "-m", "neve", "compact", f"{BUCKET}/compacted", "--store", url)
    return url


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which nothing but the built wheel was asked for."""
    try:
        uv = program(os.environ.get("UV", "uv"), "which builds and installs the wheel")
    except Unavailable as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("bare")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
    [wheel] = folder.glob("neve-*.whl")
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--python", python, wheel)
    return python


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def asked(python: Path, store: str, index: str, cwd: Path) -> dict:
    return json.loads(run(python, "-I", ASK, store, BUCKET, index, cwd=cwd))


@pytest.mark.parametrize("index", INDEXES)
def test_a_wheel_with_its_dependencies_alone_answers(bare_python: Path, store: str, index: str, tmp_path: Path) -> None:
    told = asked(bare_python, store, index, tmp_path)
    assert told["answer"]["vectors"] == NEAREST_ODD
    assert told["answer"]["distanceMetric"] == "euclidean"
    allowed = {"neve", "numkong", "numpy", "obstore", "orjson", "pyroaring", "typing-extensions"}
    assert set(told["installed"]) <= allowed


@pytest.mark.parametrize("index", INDEXES)
def test_the_query_path_leaves_batch_libraries_alone(store: str, index: str, tmp_path: Path) -> None:
    told = asked(Path(sys.executable), store, index, tmp_path)
    assert told["answer"]["vectors"] == NEAREST_ODD
    assert BATCH_MODULES & set(told["modules"]) == set()
    assert set(told["installed"]) >= {"boto3", "uvicorn", "rich"}, "they are there to be imported by mistake"


LATE = """
import json, sys
import neve.wire.function
before = sorted(name.partition(".")[0] for name in sys.modules)
from api import handler
answer = handler(json.loads(sys.argv[1]), None)
print(json.dumps({"before": before, "status": answer["statusCode"], "modules": sorted(sys.modules)}))
"""
LAYERS = ("neve.cli", "neve.compaction", "neve.inprocess", "neve.testing", "neve.transfer", "neve.wire.server")
"""Which a function that answers queries does without."""
PACKAGES = {"neve", "numkong", "numpy", "obstore", "orjson", "pyroaring"}


def test_a_function_asks_its_store_before_it_imports_what_takes_long(store: str) -> None:
    told = json.loads(run_function(store))
    assert {"obstore"} <= set(told["before"])
    assert {"numpy", "numkong", "tomllib"} & set(told["before"]) == set()


def test_a_function_imports_no_more_than_it_needs(store: str) -> None:
    told = json.loads(run_function(store))
    assert told["status"] == 200
    assert [name for name in told["modules"] if name.startswith(LAYERS)] == []
    tops = {name.partition(".")[0] for name in told["modules"]} - set(sys.stdlib_module_names)
    brought = {
        "cython_runtime",
        "typing_extensions",
        "opentelemetry",
    }  # by pyroaring, by obstore, where it is installed
    assert {name for name in tops if not name.startswith("_")} - PACKAGES - brought == {"api"}


def run_function(store: str) -> str:
    """What LATE tells, run beside the handlers with the environment of the tests."""
    where = {**os.environ, "NEVE_STORE": store, "PYTHONPATH": str(ROOT / "lambda")}
    asked = {"vectorBucketName": BUCKET, "indexName": INDEXES[1], "queryVector": {"float32": [3.0, 0.0]}, "topK": 1}
    command = [sys.executable, "-c", LATE, json.dumps(url_event("QueryVectors", asked))]
    done = subprocess.run(command, env=where, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_classes_of_the_query_path_are_made_late() -> None:
    """By neve.dataclass: the standard library's take half a millisecond each, whether they are used or not."""
    layers = ("api", "filters", "index", "query", "segments", "store", "vectors", "wire")
    files = [path for layer in layers for path in (ROOT / "engine" / "neve" / layer).rglob("*.py")]
    assert len(files) > 80
    eager = [
        path.name for path in files if re.search(r"^from dataclasses import .*\bdataclass\b", path.read_text(), re.M)
    ]
    assert eager == []
