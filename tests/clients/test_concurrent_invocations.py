"""200 invocations at once, in 4 processes, put, delete, query and compact one index on a real object store."""

from __future__ import annotations

from collections.abc import Callable

import neve
from neve.compaction.verify import verify
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from tests.clients.invocations import BUCKET, INDEX, NAME, Crowd, create_index, run
from tests.servers.object_store import ObjectStore

PROCESSES = 4
CROWD = Crowd(writers=36, readers=12, compactors=2, reads=3, engines=2)


def test_what_was_acknowledged_is_there_and_nothing_else(
    minio: ObjectStore, record_property: Callable[[str, object], None]
) -> None:
    url = minio.fresh_url()
    create_index(url)
    told = run(url, CROWD, PROCESSES)
    assert PROCESSES * (CROWD.writers + CROWD.readers + CROWD.compactors) == 200
    assert [line for one in told for line in one.wrong] == []

    expected = {key: value for one in told for key, value in one.acknowledged.items()}
    unknown = {key: values for one in told for key, values in one.unknown.items()}
    assert len({*expected, *unknown}) == 2 * PROCESSES * CROWD.writers
    found = everything(url)
    assert found.keys() <= expected.keys() | unknown.keys()
    for key in expected.keys() - unknown.keys():
        assert found.get(key) == expected[key], key
    for key, values in unknown.items():
        assert found.get(key) in values, key

    database = Database.open(connect(url), SystemRuntime())
    state = database.index(BUCKET, NAME).read()
    assert verify(database).findings == []
    database.close()
    compactions = sum(one.compactions for one in told)
    assert compactions > 0
    assert state.compacted, "what was compacted is searched by lists"
    report = (
        f"{len(expected)} keys, {sum(one.refused for one in told)} refused writes asked again, {len(unknown)} unknown, "
        f"{sum(one.reads for one in told)} reads, {compactions} compactions, "
        f"{sum(one.overtaken for one in told)} overtaken, {state.position} entries, manifest {state.manifest}"
    )
    record_property("invocations", report)
    print(report)


def everything(url: str) -> dict[str, list[float]]:
    """All live vectors by key."""
    with neve.client(store=url) as client:
        pages = client.get_paginator("list_vectors").paginate(**INDEX, returnData=True)
        vectors = [one for page in pages for one in page["vectors"]]
    found = {one["key"]: one["data"]["float32"] for one in vectors}
    assert len(found) == len(vectors)
    return found
