"""A reverse dictionary on a server of its own: loads 12,000 glosses with unmodified boto3 and asks in plain English.

Each ask should find its word among the first ten. Shows filters, get, list and delete, and how long a query takes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
from botocore.client import BaseClient
from rich.console import Console
from rich.table import Table
from tests.servers.neve import NeveServer
from tests.servers.object_store import Credentials
from tests.servers.tools import ROOT

DATA = ROOT / "tests" / "data"
BUCKET = "dictionaries"
INDEX = {"vectorBucketName": BUCKET, "indexName": "wordnet"}
PUT_MAX = 500
TOP_K = 10


def glosses() -> list[dict]:
    """The vectors of the sample as PutVectors takes them, of unit length."""
    table = pq.read_table(DATA / "wordnet-sample.parquet")
    data = unit_vectors(table)
    rows = table.drop_columns(["key", "vector"]).to_pylist()
    keys = table["key"].to_pylist()
    return [
        {"key": key, "data": {"float32": vector.tolist()}, "metadata": row}
        for key, vector, row in zip(keys, data, rows, strict=True)
    ]


def asks() -> Iterator[tuple[str, str, list[float]]]:
    """Plain-English descriptions, the word each of them means, and its vector."""
    table = pq.read_table(DATA / "wordnet-sample-asks.parquet")
    vectors = unit_vectors(table)
    for ask, word, vector in zip(table["ask"].to_pylist(), table["word"].to_pylist(), vectors, strict=True):
        yield ask, word, vector.tolist()


def unit_vectors(table: pq.lib.Table) -> np.ndarray:
    column = table["vector"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), -1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Dictionary:
    """One index, asked by word; keeps how long each query took."""

    def __init__(self, client: BaseClient) -> None:
        self.client = client
        self.latencies_ms: list[float] = []

    def load(self, vectors: list[dict]) -> None:
        self.client.create_vector_bucket(vectorBucketName=BUCKET)
        self.client.create_index(
            **INDEX,
            dataType="float32",
            dimension=len(vectors[0]["data"]["float32"]),
            distanceMetric="cosine",
            metadataConfiguration={"nonFilterableMetadataKeys": ["gloss"]},
        )
        for start in range(0, len(vectors), PUT_MAX):
            self.client.put_vectors(**INDEX, vectors=vectors[start : start + PUT_MAX])

    def ask(self, vector: list[float], **condition: object) -> list[dict]:
        asked = {**INDEX, "queryVector": {"float32": vector}, "topK": TOP_K, "returnMetadata": True}
        begun = time.perf_counter()
        answer = self.client.query_vectors(**asked, returnDistance=True, **condition)
        self.latencies_ms.append((time.perf_counter() - begun) * 1000)
        return answer["vectors"]


def show_asks(dictionary: Dictionary, console: Console) -> bool:
    """Asks everything without a filter; True when each word is among the first ten."""
    table = Table("ask", "word", "among ten", "nearest words", title="Plain-English descriptions")
    found_all = True
    for ask, word, vector in asks():
        hits = dictionary.ask(vector)
        place = next((n for n, hit in enumerate(hits, 1) if word in hit["metadata"]["words"]), None)
        found_all &= place is not None
        nearest = ", ".join(f"{hit['metadata']['word']} {hit['distance']:.2f}" for hit in hits[:4])
        table.add_row(ask, word, f"[green]{place}[/]" if place else "[red]no[/]", nearest)
    console.print(table)
    return found_all


def show_filters(dictionary: Dictionary, console: Console) -> bool:
    """Asks one thing under filters; True when every hit passes its filter."""
    ask, _, vector = next(asks())
    table = Table("filter", "nearest words", title=f"“{ask}”, filtered")
    domain = dictionary.ask(vector)[0]["metadata"]["domain"]
    conditions = {
        "any": {},
        "pos is verb": {"pos": "verb"},
        f"domain is {domain}": {"domain": {"$eq": domain}},
        f"pos is noun, domain is not {domain}": {"$and": [{"pos": "noun"}, {"domain": {"$ne": domain}}]},
        "used ≥ 100 times": {"used": {"$gte": 100}},
    }
    right = True
    for name, condition in conditions.items():
        hits = dictionary.ask(vector, **({"filter": condition} if condition else {}))
        words = [f"{hit['metadata']['word']} ({hit['metadata']['pos']}, {hit['metadata']['domain']})" for hit in hits]
        right &= len(hits) == TOP_K
        table.add_row(name, ", ".join(words[:4]))
    verbs = dictionary.ask(vector, filter={"pos": "verb"})
    right &= {hit["metadata"]["pos"] for hit in verbs} == {"verb"}
    console.print(table)
    return right


def show_upkeep(dictionary: Dictionary, console: Console, count: int) -> bool:
    """Get, list and delete; True when each has the effect it should."""
    client = dictionary.client
    nearest = dictionary.ask(next(asks())[2])[0]["key"]
    [got] = client.get_vectors(**INDEX, keys=[nearest], returnData=True, returnMetadata=True)["vectors"]
    console.print(f"get    {nearest}: {got['metadata']['word']}, {len(got['data']['float32'])} dimensions")
    listed = [v["key"] for page in client.get_paginator("list_vectors").paginate(**INDEX) for v in page["vectors"]]
    console.print(f"list   {len(listed):,} keys, {len(set(listed)):,} of them different")
    client.delete_vectors(**INDEX, keys=[nearest])
    gone = nearest not in {hit["key"] for hit in dictionary.ask(got["data"]["float32"])}
    console.print(f"delete {nearest}: {'gone from the next query' if gone else 'STILL FOUND'}")
    return len(listed) == len(set(listed)) == count and gone


def main() -> int:
    # A polite kill ends the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console(width=None if sys.stdout.isatty() else 120)
    for name, value in Credentials.random().environment().items():
        os.environ[name] = value
    for name in [name for name in os.environ if name.startswith("NEVE_") and name != "NEVE_CACHE"]:
        del os.environ[name]
    with TemporaryDirectory(prefix="neve-demo-") as folder, NeveServer(Path(folder).as_uri()) as server:
        console.print(f"server {server.url}, store {Path(folder).as_uri()}, client boto3")
        dictionary = Dictionary(server.client())
        vectors = glosses()
        begun = time.perf_counter()
        dictionary.load(vectors)
        seconds = time.perf_counter() - begun
        console.print(f"loaded {len(vectors):,} glosses in {seconds:.1f} s, {len(vectors) / seconds:,.0f} a second\n")
        right = show_asks(dictionary, console)
        right &= show_filters(dictionary, console)
        right &= show_upkeep(dictionary, console, len(vectors))
    p50, p99 = np.percentile(dictionary.latencies_ms, [50, 99])
    console.print(f"query  p50 {p50:.1f} ms, p99 {p99:.1f} ms over HTTP, {len(dictionary.latencies_ms)} queries, exact")
    console.print("[green]everything as it should be[/]" if right else "[red]something is not as it should be[/]")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
