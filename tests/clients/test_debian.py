"""Recall on real data, for queries of every origin: exact search finds every true neighbour, under every filter; what
is compacted is searched at the recall that is promised."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from botocore.client import BaseClient

import neve
from tests.clients.corpus import Corpus, Truth, debian_or_sample
from tests.servers.neve import NeveServer

Masks = dict[str, np.ndarray]
RecordProperty = Callable[[str, object], None]
INDEX = {"vectorBucketName": "real", "indexName": "corpus"}
OVER_HTTP = 10_000  # rows that go through boto3, whose own arithmetic takes most of an ingest; the others in process
QUERIES_BY_ORIGIN = 5
COMPACTED_QUERIES_BY_ORIGIN = 100
RECALL, RECALL_OF_AN_ORIGIN, RECALL_PERCENTILE_5 = 0.98, 0.975, 0.8
DISTANCE_ERROR_MAX = 1e-6


@pytest.fixture(scope="module")
def corpus(data_dir: Path) -> Corpus:
    return debian_or_sample(data_dir)


@pytest.fixture(scope="module")
def passing(corpus: Corpus) -> Masks:
    """The rows that pass each filter, and all of them under no name."""
    return {name: corpus.passing(condition) for name, condition in {"": None, **corpus.filters}.items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tmp_path_factory.mktemp("real").as_uri()


@pytest.fixture(scope="module")
def client(corpus: Corpus, store: str) -> Iterator[BaseClient]:
    """boto3 on a server whose index holds the corpus, put by two writers: the server, and a client in process.

    Nothing is compacted but by the last test.
    """
    with NeveServer(store, "--no-compact") as server:
        over_http = server.client()
        over_http.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
        over_http.create_index(**INDEX, **corpus.shape)
        for vectors in corpus.puts(0, OVER_HTTP):
            over_http.put_vectors(**INDEX, vectors=vectors)
        with neve.client(store=store) as in_process:
            for vectors in corpus.puts(OVER_HTTP, len(corpus.keys), vector=np.asarray):
                in_process.put_vectors(**INDEX, vectors=vectors)
        yield over_http


def test_everything_was_loaded(client: BaseClient, corpus: Corpus) -> None:
    pages = client.get_paginator("list_vectors").paginate(**INDEX)
    listed = [vector["key"] for page in pages for vector in page["vectors"]]
    assert sorted(listed) == sorted(corpus.keys)


def test_filters_keep_what_the_data_say(corpus: Corpus, passing: Masks) -> None:
    counts = {name: int(passing[name].sum()) for name in corpus.filters}
    assert counts == {**counts, **corpus.kept}
    assert all(0 < count < len(corpus.keys) for count in counts.values())


def test_recall_is_one(client: BaseClient, corpus: Corpus, passing: Masks, record_property: RecordProperty) -> None:
    numbers = corpus.by_origin(QUERIES_BY_ORIGIN)
    truth = Truth(corpus, corpus.queries[numbers])
    recalls: dict[tuple[str, int], list[float]] = {}
    for name, k in product(passing, (10, 100)):
        asked = {"topK": k, "returnDistance": True, **({"filter": corpus.filters[name]} if name else {})}
        for place, number in enumerate(numbers):
            answer = client.query_vectors(**INDEX, **asked, queryVector={"float32": corpus.queries[number].tolist()})
            found = check_hits(answer["vectors"], truth, place, k, passing[name])
            recalls.setdefault((name, k), []).append(truth.recall(place, k, passing[name], found))
    assert set(recalls) == set(product(["", *corpus.filters], (10, 100)))
    assert {asked: shares for asked, shares in recalls.items() if set(shares) != {1.0}} == {}
    origins = ", ".join(dict.fromkeys(corpus.origins))
    told = (
        f"recall 1.0 on {corpus.name}, {len(corpus.keys):,} rows: {len(numbers)} queries ({origins}), "
        f"without filter and with {len(corpus.filters)}, k = 10 and 100"
    )
    record_property("recall", told)
    print(told)


def test_recall_after_compaction(
    client: BaseClient, store: str, corpus: Corpus, record_property: RecordProperty
) -> None:
    command = [sys.executable, "-m", "neve", "compact", "/".join(INDEX.values()), "--store", store]
    subprocess.run(command, check=True, timeout=300)
    numbers = corpus.by_origin(COMPACTED_QUERIES_BY_ORIGIN)
    truth, everything = Truth(corpus, corpus.queries[numbers]), np.ones(len(corpus.keys), np.bool_)
    for k in (10, 100):
        recalls: dict[str, list[float]] = {}
        for place, number in enumerate(numbers):
            asked = {"topK": k, "returnDistance": True, "queryVector": {"float32": corpus.queries[number].tolist()}}
            found = check_hits(client.query_vectors(**INDEX, **asked)["vectors"], truth, place, k, everything)
            recalls.setdefault(corpus.origins[number], []).append(truth.recall(place, k, everything, found))
        means = {origin: float(np.mean(shares)) for origin, shares in recalls.items()}
        record_property(f"recall after compaction, k = {k}", means)
        assert min(means.values()) >= RECALL_OF_AN_ORIGIN, means
        shares = np.concatenate(list(recalls.values()))
        assert float(np.mean(shares)) >= RECALL, means
        assert float(np.percentile(shares, 5)) >= RECALL_PERCENTILE_5


def check_hits(hits: list[dict], truth: Truth, query: int, k: int, passing: np.ndarray) -> np.ndarray:
    """The rows found: distinct, all that there can be, passing, at their distances, nearest first."""
    found = truth.rows([hit["key"] for hit in hits])
    distances = np.array([hit["distance"] for hit in hits])
    assert len(np.unique(found)) == len(found) == min(k, np.count_nonzero(passing))
    assert passing[found].all()
    assert np.all(np.diff(distances) >= 0)
    assert np.abs(distances - (1 - truth.similarities[query][found])).max(initial=0.0) < DISTANCE_ERROR_MAX
    return found
