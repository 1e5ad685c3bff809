"""`/metrics` of real servers: sums over workers, an address of its own, and nothing without one where keys are."""

from __future__ import annotations

import os
import re
import signal
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import StartNeve
from tests.servers.neve import NeveServer

INDEX = {"vectorBucketName": "shared", "indexName": "between"}
PUTS = 120


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text: str = response.read().decode()
    return text


def sums(page: str, name: str, label: str) -> Counter[str]:
    """Sums of a metric's samples by one of its labels."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels[label]] += int(sample.value)
    return found


def test_whichever_worker_is_asked_answers_for_all(start_neve: StartNeve, tmp_path: Path) -> None:
    server = start_neve(tmp_path.as_uri(), "--workers", "2")
    workers = server.until(lambda: two_workers(server))
    fill(server)
    pages = [fetch(server.url + "/metrics") for _ in range(6)]
    for page in pages:
        operations = sums(page, "neve_requests_total", "operation")
        assert operations == {"CreateVectorBucket": 1, "CreateIndex": 1, "PutVectors": PUTS, "QueryVectors": 1}
        assert sums(page, "neve_request_duration_seconds_count", "operation") == operations
        assert sums(page, "neve_requests_total", "status") == {"200": PUTS + 3}
        assert sums(page, "neve_store_requests_total", "verb")["create"] > 0
        assert set(sums(page, "process_resident_memory_bytes", "worker")) == workers
        assert sums(page, "neve_index_tail_entries", "index")["between"] > 0
    asked = 0
    while min(shares := [answered(server)[worker] for worker in sorted(workers)]) == 0:
        server.client().list_vector_buckets()  # over a connection of its own
        asked += 1
        assert asked < 200, "one worker gets all connections"
    assert sum(shares) == PUTS + 3 + asked

    victim = min(workers)
    os.kill(int(victim), signal.SIGKILL)
    after = server.until(lambda: two_workers(server, without=victim))
    assert len(after & workers) == 1
    assert answered(server)[victim] == 0
    server.end()
    assert server.output().count("neve ") == 1, "nothing but the address"


def two_workers(server: NeveServer, without: str = "") -> set[str] | None:
    """The process ids of the workers, once there are two and another one is gone."""
    try:
        found = set(sums(fetch(server.url + "/metrics"), "neve_build_info", "worker"))
    except OSError:  # the worker that took the connection is gone
        return None
    return found if len(found) == 2 and without not in found else None


def answered(server: NeveServer) -> Counter[str]:
    return sums(fetch(server.url + "/metrics"), "neve_requests_total", "worker")


def fill(server: NeveServer) -> None:
    client = server.client()
    client.create_vector_bucket(vectorBucketName="shared")
    client.create_index(**INDEX, dataType="float32", dimension=2, distanceMetric="euclidean")

    def put(number: int) -> None:
        vector = {"key": str(number), "data": {"float32": [float(number), 1.0]}}
        client.put_vectors(**INDEX, vectors=[vector])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(PUTS)))
    client.query_vectors(**INDEX, queryVector={"float32": [1.0, 1.0]}, topK=1)


def test_with_keys_they_have_an_address_of_their_own(start_neve: StartNeve, tmp_path: Path) -> None:
    keys = {"NEVE_KEYS": f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}"}
    options = "--metrics", "127.0.0.1:0", "--workers", "2"
    server = start_neve(tmp_path.as_uri(), *options, environment=keys)
    server.client().create_vector_bucket(vectorBucketName="shared")
    [page] = re.findall(r"neve shows metrics on (http://\S+)", server.output())
    assert sums(fetch(page), "neve_requests_total", "operation") == {"CreateVectorBucket": 1}
    for refused in (server.url + "/metrics", page.removesuffix("metrics"), page.removesuffix("metrics") + "x/metrics"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(refused)
    there = server.client(endpoint_url=page.removesuffix("/metrics"))
    with pytest.raises(there.exceptions.ClientError) as caught:
        there.list_vector_buckets()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
