"""More than a server takes on: what does not fit is turned away as SDKs repeat it, and memory keeps its bound."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.far_store import far_store

import neve
from neve.api.limits import LIMITS
from neve.wire.asgi import BODIES_MAX, THREADS, WAITING_MAX
from tests.clients.test_metrics import fetch, sums
from tests.conftest import StartNeve
from tests.servers.neve import NeveServer
from tests.servers.object_store import ObjectStore

INDEX = {"vectorBucketName": "library", "indexName": "books"}
CONNECTIONS = 2 * (THREADS + WAITING_MAX)
ROUNDS = 2
QUERY = json.dumps({**INDEX, "queryVector": {"float32": [1.0, 0.0]}, "topK": 1}).encode()
TOO_MANY = 4
BODY_BYTES_MAX = LIMITS["aws"].body_bytes
CALM = Config(retries={"total_max_attempts": 10, "mode": "standard"}, max_pool_connections=8)
BUSY = (429, "TooManyRequestsException")


@pytest.fixture
def slow_server(minio: ObjectStore, start_neve: StartNeve) -> Iterator[NeveServer]:
    """A server whose store takes half a second for each wave."""
    with far_store(minio, Far(median_ms=500, p99_ms=510, bytes_per_s=1e9)) as far:
        url = far.store.fresh_url()
        with neve.client(store=url.replace(far.store.address, minio.address)) as client:
            client.create_vector_bucket(vectorBucketName="library")
            client.create_index(**INDEX, dataType="float32", dimension=2, distanceMetric="cosine")
        yield start_neve(url)


def test_a_flood_is_answered_or_turned_away_and_sdks_get_through(slow_server: NeveServer) -> None:
    client = slow_server.client(config=CALM)
    client.query_vectors(**INDEX, queryVector={"float32": [1.0, 0.0]}, topK=1)
    before = sums(fetch(slow_server.url + "/metrics"), "neve_requests_total", "status")["200"]

    def put(number: int) -> int:
        vector = {"key": str(number), "data": {"float32": [1.0, float(number)]}}
        answer = client.put_vectors(**INDEX, vectors=[vector])
        retries: int = answer["ResponseMetadata"]["RetryAttempts"]
        return retries

    with ThreadPoolExecutor(9) as threads:
        flooding = threads.submit(lambda: asyncio.run(flood(slow_server, CONNECTIONS)))
        slow_server.until(lambda: shed(slow_server) or None)
        retries = list(threads.map(put, range(24)))
        answers = flooding.result()
    assert set(answers) == {(200, ""), BUSY}
    assert sum(answers.values()) == CONNECTIONS * ROUNDS
    assert answers[200, ""] >= THREADS + WAITING_MAX, "so many are taken on at once"
    assert sum(retries) > 0, "the SDK was turned away too, and asked again"
    keys = {one["key"] for one in client.list_vectors(**INDEX)["vectors"]}
    assert keys == {str(number) for number in range(24)}
    page = fetch(slow_server.url + "/metrics")
    assert shed(slow_server) == answers[BUSY] + sum(retries)
    assert sums(page, "neve_requests_total", "status") == {
        "200": before + answers[200, ""] + 24 + 1,
        "429": answers[BUSY] + sum(retries),
    }
    assert re.findall(r"^neve_requests_(?:running|waiting) (\S+)$", page, re.M) == ["0.0", "0.0"]


def shed(server: NeveServer) -> int:
    return sums(fetch(server.url + "/metrics"), "neve_requests_shed_total", "reason")["threads"]


async def flood(server: NeveServer, connections: int) -> Counter[tuple[int, str]]:
    """Ask over so many connections at once, on each of them ROUNDS times; how often which answer came."""
    address = urlsplit(server.url)
    answers: Counter[tuple[int, str]] = Counter()
    request = b"POST /QueryVectors HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%s" % (len(QUERY), QUERY)

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for _ in range(ROUNDS):
            writer.write(request)
            answers[await answer_of(reader)] += 1
        writer.close()

    await asyncio.gather(*(ask() for _ in range(connections)))
    return answers


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and error code of the answer that comes next."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    [length] = re.findall(r"(?im)^content-length: (\d+)", head)
    await reader.readexactly(int(length))
    code = re.findall(r"(?im)^x-amzn-errortype: (\S+)", head)
    return int(head.split()[1]), "".join(code)


def test_bodies_take_no_more_memory_than_their_bound(start_neve: StartNeve, tmp_path: Path) -> None:
    """Clients that send all of a large body but its end, and wait: some are turned away, the others are held."""
    server = start_neve(tmp_path.as_uri())
    idle = memory(server, "VmRSS")
    asyncio.run(hold(server))
    peak = memory(server, "VmHWM")
    bodies = BODIES_MAX * BODY_BYTES_MAX
    assert bodies < peak - idle < bodies + 128 * 2**20, "bodies, and what connections have under way"
    assert server.client().list_vector_buckets()["vectorBuckets"] == []


async def hold(server: NeveServer) -> None:
    address = urlsplit(server.url)
    head = b"POST /PutVectors HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % BODY_BYTES_MAX
    part = b" " * 2**20

    async def send() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head)
        for _ in range(BODY_BYTES_MAX // len(part) - 1):
            writer.write(part)
            await writer.drain()
        writer.write(part[:-1])
        await writer.drain()
        return reader, writer

    connections = [await send() for _ in range(BODIES_MAX + TOO_MANY)]
    answers = [asyncio.create_task(answer_of(reader)) for reader, _ in connections]
    refused: set[asyncio.Task[tuple[int, str]]] = set()
    while len(refused) < TOO_MANY:
        refused, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    assert {await answer for answer in refused} == {BUSY}
    page = await asyncio.to_thread(fetch, server.url + "/metrics")
    assert "neve_request_body_bytes 6.71088608e+08" in page
    for answer, (_, writer) in zip(answers, connections, strict=True):
        answer.cancel()
        writer.close()
    while "neve_request_body_bytes 0.0" not in page:
        page = await asyncio.to_thread(fetch, server.url + "/metrics")


def memory(server: NeveServer, name: str) -> int:
    """Bytes that the server takes, or has taken at most."""
    text = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) * 1024
