"""How fast the corpus goes in: through unmodified boto3 over HTTP, and through the client in this process."""

from __future__ import annotations

import time

import numpy as np
from scripts.benchmarks.figure import Figure, Param
from scripts.benchmarks.stand import INDEX, Stand
from tests.clients.corpus import PUT_MAX
from tests.servers.neve import NeveServer

import neve

SUITE = "ingest"


def run(stand: Stand) -> list[Figure]:
    figures = []
    for kind, url in stand.stores().items():
        figures += over_http(stand, kind, url)
    for kind, url in stand.stores().items():
        figures.append(in_process(stand, kind, url))
    return figures


def over_http(stand: Stand, kind: str, url: str) -> list[Figure]:
    """One client, one put after the other; and the processor time that the client itself takes of it."""
    corpus = stand.corpus
    rows = len(corpus.keys)
    with NeveServer(url) as server:
        client = server.client()
        client.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
        client.create_index(**INDEX, **corpus.shape)
        begun, busy = time.perf_counter(), time.process_time()
        for vectors in corpus.puts(0, rows):
            client.put_vectors(**INDEX, vectors=vectors)
        seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    params = _params(stand, kind, "boto3 over HTTP")
    return [
        Figure(SUITE, "ingest", rows / seconds, "vectors/s", params),
        Figure(SUITE, "of that boto3's own processor time", 100 * busy / seconds, "%", params),
    ]


def in_process(stand: Stand, kind: str, url: str) -> Figure:
    corpus = stand.corpus
    with neve.client(store=url) as client:
        client.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
        client.create_index(**INDEX, **corpus.shape)
        begun = time.perf_counter()
        for vectors in corpus.puts(0, len(corpus.keys), vector=np.asarray):
            client.put_vectors(**INDEX, vectors=vectors)
        seconds = time.perf_counter() - begun
    return Figure(SUITE, "ingest", len(corpus.keys) / seconds, "vectors/s", _params(stand, kind, "in process"))


def _params(stand: Stand, kind: str, client: str) -> dict[str, Param]:
    return {"client": client, "store": kind, "set": stand.corpus.name, "rows": len(stand.corpus.keys), "put": PUT_MAX}
