"""A server compacts what it serves, while clients go on; and every command works on what it has made."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from botocore.client import BaseClient

import neve
from tests.conftest import StartNeve

NAMES = {"vectorBucketName": "library", "indexName": "books"}
PATH = "library/books"
ROWS, EACH, DIMENSION = 13_500, 90, 16
"""In 150 puts: the tail is folded twice, and what is then flat is more than a compaction waits for."""
WAIT_S = 120
LIKELY = 7
"""Of the ten nearest among random points, for which lists are worst, so many are found with hardly an exception."""
QUERY = {"queryVector": {"float32": [1.0] * DIMENSION}, "topK": 10}


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    minio = getattr(request, "param", "folder") == "minio"
    url = request.getfixturevalue("minio").fresh_url() if minio else tmp_path.joinpath("store").as_uri()
    chance = np.random.default_rng(8)
    with neve.client(store=url) as client:
        client.create_vector_bucket(vectorBucketName=NAMES["vectorBucketName"])
        client.create_index(**NAMES, dataType="float32", dimension=DIMENSION, distanceMetric="cosine")
        for start in range(0, ROWS, EACH):
            vectors = chance.standard_normal((EACH, DIMENSION)).astype(np.float32)
            client.put_vectors(
                **NAMES,
                vectors=[
                    {"key": f"k{start + i}", "data": {"float32": vector}, "metadata": {"n": start + i}}
                    for i, vector in enumerate(vectors)
                ],
            )
    return url


def command(store: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "neve", *words, "--store", store], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answer(client: BaseClient) -> list[tuple[str, float]]:
    found = client.query_vectors(**NAMES, **QUERY, returnDistance=True)
    return [(vector["key"], vector["distance"]) for vector in found["vectors"]]


def wait_until_compacted(store: str, client: BaseClient) -> None:
    deadline = time.monotonic() + WAIT_S
    while "ivf" not in command(store, "inspect", PATH):
        assert time.monotonic() < deadline, "nothing was compacted"
        answer(client)
        time.sleep(1)


@pytest.mark.parametrize("store", ["folder", "minio"], indirect=True)
def test_a_server_compacts_in_the_background(store: str, start_neve: StartNeve, tmp_path: Path) -> None:
    client = start_neve(store, environment={"NEVE_CACHE": str(tmp_path / "cache")}).client()
    before = answer(client)
    wait_until_compacted(store, client)
    client.delete_vectors(**NAMES, keys=[before[0][0]])
    assert before[0] not in answer(client)
    assert len({*answer(client)} & {*before[1:]}) >= LIKELY - 1
    assert command(store, "verify", PATH).startswith("whole")
    assert not list((tmp_path / "cache" / "compact").glob("*/")), "no workspace stays"


def test_a_setting_turns_it_off_and_commands_do_it(store: str, start_neve: StartNeve, tmp_path: Path) -> None:
    client = start_neve(store, "--no-compact", "--memory", "64MiB", "--disk", str(tmp_path / "tier")).client()
    before = answer(client)
    assert "ivf" not in command(store, "inspect", PATH)
    assert "13,500" in command(store, "compact", PATH)
    assert len({*answer(client)} & {*before}) >= LIKELY
    told = json.loads(command(store, "recall", PATH, "--queries", "40", "--json"))
    assert told["mean"] >= 0.9, told
    command(store, "warm", PATH, "--disk", str(tmp_path / "tier"))
    asked = command(store, "query", PATH, "--key", before[0][0], "--explain")
    assert before[0][0] in asked
    assert "waves" in asked
    command(store, "configure", PATH, "recall=0.9")
    assert "0.9" in command(store, "configure", PATH)
    assert len(answer(client)) == 10
