"""What a warm strong query and a warm write ask of the store: counted, and held against what is promised."""

from __future__ import annotations

from collections.abc import Callable

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.stand import INDEX, Stand
from tests.clients.writers import client_on

from neve.store.counting import CountingStore
from neve.store.objects import memory_store

SUITE = "wave"
ROUNDS = 20
QUERY = [("Get", "Get", "Get")]
WRITE = [("PutNew", "Get", "Get")]


def run(stand: Stand) -> list[Figure]:
    corpus = stand.corpus.head(ROUNDS)
    store = CountingStore(memory_store())
    with client_on(store) as client:
        client.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
        client.create_index(**INDEX, **corpus.shape)
        vector = corpus.vectors[0]
        client.query_vectors(**INDEX, queryVector={"float32": vector}, topK=1)
        batches = [[{"key": key, "data": {"float32": vector}}] for key in corpus.keys]
        writes = (lambda batch=batch: client.put_vectors(**INDEX, vectors=batch) for batch in batches)
        figures = counted("warm write", store, list(writes), WRITE)
        query = [lambda: client.query_vectors(**INDEX, queryVector={"float32": vector}, topK=10)] * ROUNDS
        return figures + counted("warm strong query", store, query, QUERY)


def counted(
    name: str, store: CountingStore, calls: list[Callable[[], object]], promised: list[tuple[str, ...]]
) -> list[Figure]:
    """Figures of one call; AssertionError when any of the calls asks anything but the promised waves."""
    store.new_bill()
    bills = []
    for call in calls:
        call()
        bills.append(store.new_bill())
    asked = {tuple(bill.waves) for bill in bills}
    assert asked == {tuple(promised)}, f"{name}: {asked}, promised {promised}"
    requests = " ".join(promised[0])
    params = {"calls": len(calls), "requests": requests}
    return [
        Figure(SUITE, f"{name}: waves", len(promised), "waves", params),
        Figure(SUITE, f"{name}: requests", sum(map(len, promised)), "requests", params),
    ]
