"""Eight processes that know nothing of each other write to one index on a real object store: nothing is lost."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neve.compaction.verify import verify
from neve.index import entry as entries
from neve.index import manifest as manifests
from neve.index import paths
from neve.index.chain import list_all
from neve.index.database import Database
from neve.index.entry import Kind, LogEntry
from neve.index.manifest import FoldedEntry
from neve.index.state import State
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.store.port import Get, Store, body
from tests.clients.writers import INDEX, Job, Outcome, create_index, run
from tests.servers.object_store import ObjectStore

RecordProperty = Callable[[str, object], None]
WRITERS = 8
PUTS_EACH = int(os.environ.get("WRITES_EACH", "100"))
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Written:
    """What is in the store after all writers have ended."""

    state: State
    log: list[LogEntry]
    folded: list[FoldedEntry]


def test_no_put_is_lost_and_no_number_is_used_twice(minio: ObjectStore, record_property: RecordProperty) -> None:
    url = minio.fresh_url()
    create_index(url)
    outcomes = run(Job(url, puts_max=PUTS_EACH), WRITERS)
    expected = [key for outcome in outcomes for key in outcome.keys]
    assert len(set(expected)) == len(expected) == WRITERS * PUTS_EACH

    database = Database.open(connect(url), SystemRuntime())
    written = read_back(database)
    assert [entry.number for entry in written.log] == list(range(1, len(written.log) + 1))
    assert unique([entry.write_id for entry in written.log])
    writes = [entry for entry in written.log if entry.kind is Kind.WRITE]
    assert {entry.kind for entry in written.log} <= {Kind.OPEN, Kind.WRITE, Kind.EMPTY}
    assert len(writes) == len(expected)
    number_of = {key.decode(): entry.number for entry in writes for key in entry.batch.rows.keys.keys}
    assert sorted(number_of) == sorted(expected)

    folded = [(entry.number, entry.write_id) for entry in written.folded]
    assert folded == [(entry.number, entry.write_id) for entry in written.log[: written.state.base.folded_to]]
    assert live_rows(written.state) == number_of
    assert verify(database).findings == []
    database.close()
    report(outcomes, record_property)


def read_back(database: Database) -> Written:
    state = database.index(INDEX["vectorBucketName"], INDEX["indexName"]).read()
    keys = [found.key for found in list_all(database.store, paths.log_folder(state.uid))]
    log = [
        entries.decode(key, raw, paths.number(key) or 0, state.config.dimension)
        for key, raw in zip(keys, read_all(database.store, keys), strict=True)
    ]
    keys = [paths.manifest(state.uid, number) for number in range(1, state.manifest + 1)]
    chain = [manifests.decode(key, raw) for key, raw in zip(keys, read_all(database.store, keys), strict=True)]
    return Written(state, log, [entry for manifest in chain for entry in manifest.folded])


def read_all(store: Store, keys: list[str]) -> list[bytes]:
    raws = []
    for start in range(0, len(keys), _AT_ONCE):
        for reply in store.wave([Get(key) for key in keys[start : start + _AT_ONCE]]):
            raw = body(reply)
            assert raw is not None
            raws.append(raw)
    return raws


def live_rows(state: State) -> dict[str, int]:
    """Position of every live key; a key that is live twice is found by its count."""
    found = [
        (part.rows.keys.keys[row].decode(), int(part.rows.keys.positions[row]))
        for part in state.parts
        for row in np.flatnonzero(part.live).tolist()
    ]
    assert len(dict(found)) == len(found) == state.live_rows
    return dict(found)


def unique(values: list[str]) -> bool:
    return max(Counter(values).values()) == 1


def report(outcomes: list[Outcome], record_property: RecordProperty) -> None:
    latencies_ms = np.concatenate([outcome.latencies_s for outcome in outcomes]) * 1000
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    lost = sum(outcome.races_lost for outcome in outcomes)
    refused = sum(outcome.refused for outcome in outcomes)
    rate = len(latencies_ms) / max(outcome.seconds for outcome in outcomes)
    told = (
        f"{WRITERS} x {len(latencies_ms) // WRITERS} puts on MinIO: {rate:.0f} a second in all, "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {latencies_ms.max():.0f} ms, "
        f"{lost} lost races ({lost / len(latencies_ms):.2f} a put), {refused} refused and asked again"
    )
    record_property("writers", told)
    print(told)
