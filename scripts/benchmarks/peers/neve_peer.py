"""neve in process, by its public client; a place's uri is a store URL without its options."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from answering import Engine, answer, loaded

import neve

INDEX = {"vectorBucketName": "bench", "indexName": "corpus"}
PUT_MAX = 500
HOLDING = "8GiB"


class Neve(Engine):
    version = version("neve")

    def __init__(self) -> None:
        self._client: neve.Client | None = None

    def build(self, rows: str, place: Mapping[str, str], how: str, non_filterable: Sequence[str]) -> None:
        """Puts alone: compaction is a command of its own, and so is import."""
        file = pq.ParquetFile(rows)
        self.connect(place)
        shape = {"dataType": "float32", "distanceMetric": "cosine"}
        shape["dimension"] = file.schema_arrow.field("vector").type.list_size
        if non_filterable:
            shape["metadataConfiguration"] = {"nonFilterableMetadataKeys": list(non_filterable)}
        self._client.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
        self._client.create_index(**INDEX, **shape)
        for batch in file.iter_batches(PUT_MAX):
            self._client.put_vectors(**INDEX, vectors=_vectors(batch))

    def connect(self, place: Mapping[str, str]) -> None:
        """A place may have a local folder for blocks, too: its `disk`."""
        self._connect(place, disk=place.get("disk", ""))

    def hold(self, place: Mapping[str, str]) -> None:
        """Begin anew with the whole index in memory."""
        self._connect(place, memory=HOLDING)
        self._client.warm_index(**INDEX)

    def _connect(self, place: Mapping[str, str], **tiers: str) -> None:
        if self._client is not None:
            self._client.close()
        options = f"?endpoint={place['endpoint']}&region={os.environ['AWS_REGION']}" if place["endpoint"] else ""
        self._client = neve.client(store=place["uri"] + options, **tiers)

    def open(self) -> None:
        """The first query does it."""

    def search(self, query: np.ndarray, k: int, *, filter: str = "", **options: Any) -> Sequence[str]:
        """`filter` is JSON."""
        return [hit["key"] for page in self._pages(query, k, options, filter) for hit in page]

    def pages(self, queries: str, number: int, k: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All pages of one search: keys, how many pages, seconds of the first and of all."""
        begun = time.perf_counter()
        pages = iter(self._pages(loaded(queries)[number], k, settings))
        first, first_seconds = next(pages), time.perf_counter() - begun
        found = [first, *pages]
        seconds = time.perf_counter() - begun
        keys = [hit["key"] for hit in chain.from_iterable(found)]
        return {"keys": keys, "pages": len(found), "first_seconds": first_seconds, "seconds": seconds}

    def get(self, key: str) -> float:
        """Seconds of one GetVectors of a key with everything."""
        begun = time.perf_counter()
        answered = self._client.get_vectors(**INDEX, keys=[key], returnData=True, returnMetadata=True)
        seconds = time.perf_counter() - begun
        assert [vector["key"] for vector in answered["vectors"]] == [key]
        return seconds

    def _pages(
        self, query: np.ndarray, k: int, options: Mapping[str, Any], condition: str = ""
    ) -> Iterable[list[dict[str, Any]]]:
        asked = {**INDEX, "queryVector": {"float32": query}, "topK": k, "neve": options}
        if condition:
            asked["filter"] = json.loads(condition)
        token = {}
        while True:
            page = self._client.query_vectors(**asked, **token, returnMetadata=True, returnDistance=True)
            yield page["vectors"]
            if "nextToken" not in page:
                return
            token = {"nextToken": page["nextToken"]}


def _vectors(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    column = batch.column("vector")
    matrix = column.flatten().to_numpy().reshape(len(column), -1)
    texts = batch.column("metadata").to_pylist()
    return [
        {"key": key, "data": {"float32": vector}, "metadata": json.loads(text)}
        for key, vector, text in zip(batch.column("key").to_pylist(), matrix, texts, strict=True)
    ]


if __name__ == "__main__":
    answer(Neve)
