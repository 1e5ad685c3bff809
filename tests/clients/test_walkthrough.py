"""The published walkthrough with unmodified clients, old and new, against servers on every kind of store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tests.conftest import StartNeve
from tests.servers.neve import NeveServer
from tests.servers.object_store import ObjectStore
from tests.servers.tools import NODE_PACKAGE, Unavailable, node_modules, oldest_boto3, pin, program

WALKTHROUGH = Path(__file__).with_name("walkthrough.py")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints; fails the test with both of its streams when it does not end with 0."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def or_not_run(make: Callable[[], Path | str]) -> str:
    try:
        return str(make())
    except Unavailable as error:
        pytest.skip(str(error))


def test_newest_boto3(neve_server: NeveServer) -> None:
    assert boto3.__version__ in run(sys.executable, WALKTHROUGH, neve_server.url)


def test_oldest_boto3(neve_server: NeveServer) -> None:
    assert pin("boto3_oldest") in run(or_not_run(oldest_boto3), WALKTHROUGH, neve_server.url)


def test_node(neve_server: NeveServer, tmp_path: Path) -> None:
    modules = or_not_run(node_modules)
    shutil.copy(NODE_PACKAGE / "walkthrough.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    node = program("node", "which runs the Node.js SDK")
    assert "walked through" in run(node, "walkthrough.mjs", neve_server.url, cwd=tmp_path)


def test_memory(start_neve: StartNeve) -> None:
    run(sys.executable, WALKTHROUGH, start_neve("memory://").url)


def test_minio(minio: ObjectStore, start_neve: StartNeve) -> None:
    run(sys.executable, WALKTHROUGH, start_neve(minio.fresh_url()).url)


def test_versitygw(versitygw: ObjectStore, start_neve: StartNeve) -> None:
    run(sys.executable, WALKTHROUGH, start_neve(versitygw.fresh_url()).url)


def test_a_base_path_before_the_route(neve_server: NeveServer) -> None:
    run(sys.executable, WALKTHROUGH, f"{neve_server.url}/behind/a/proxy")


def test_aws_cli(neve_server: NeveServer, tmp_path: Path) -> None:
    bucket = ["--vector-bucket-name", f"walkthrough-{uuid.uuid4()}"]
    index = [*bucket, "--index-name", "documents"]

    def aws(operation: str, *options: str) -> dict:
        command = [Path(sys.executable).with_name("aws"), "s3vectors", operation, *options]
        return json.loads(run(*command, "--endpoint-url", neve_server.url, "--output", "json") or "{}")

    vector = json.dumps({"float32": [0.1, 0, 0]})
    vectors = tmp_path / "vectors.json"
    vectors.write_text(json.dumps([{"key": "doc1", "data": json.loads(vector), "metadata": {"year": 2021}}]))
    aws("create-vector-bucket", *bucket)
    configuration = ["--metadata-configuration", "nonFilterableMetadataKeys=raw_text"]
    shape = ["--data-type", "float32", "--dimension", "3", "--distance-metric", "euclidean"]
    aws("create-index", *index, *shape, *configuration)
    aws("put-vectors", *index, "--vectors", f"file://{vectors}")
    [doc1] = aws("get-vectors", *index, "--keys", "doc1", "--return-data", "--return-metadata")["vectors"]
    assert doc1["data"]["float32"][0] == 0.10000000149011612
    assert doc1["metadata"] == {"year": 2021}
    asked = [*index, "--query-vector", vector, "--top-k", "3", "--return-distance"]
    found = aws("query-vectors", *asked, "--filter", '{"year": {"$gte": 2021}}')
    assert found == {"vectors": [{"key": "doc1", "distance": 0.0}], "distanceMetric": "euclidean"}
    assert aws("query-vectors", *asked, "--filter", '{"year": {"$lt": 2021}}')["vectors"] == []
    aws("delete-vectors", *index, "--keys", "doc1")
    assert aws("list-vectors", *index) == {"vectors": []}
    aws("delete-index", *index)
    aws("delete-vector-bucket", *bucket)
