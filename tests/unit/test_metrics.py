"""Metrics: what is counted, exactly; what is shown, to whom; and that the page of the guide names all of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import neve
from neve.cli import main
from neve.cli.upkeep import write_collected
from neve.compaction.collect import Collected
from neve.compaction.plan import FLAT_ROWS_MIN
from neve.wire.application import Application
from neve.wire.asgi import Adapter
from neve.wire.assembly import Assembly, assemble
from neve.wire.exposition import Exposition
from neve.wire.metrics import INDEXES_MAX, Metrics
from neve.wire.settings import Settings
from tests.servers.tools import ROOT
from tests.unit.test_wire_asgi import Client, Gate, chunk, request_scope, running
from tests.unit.watched_engine import INDEX, Engine, engine
from tests.unit.wire_service import KEY, FakeService, application

PAGE = ROOT / "engine" / "docs" / "monitoring.md"
QUERY = {**INDEX, "queryVector": {"float32": [1, 0]}, "topK": 1}


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


def test_requests_and_waves_are_counted() -> None:
    metrics = Metrics()
    with engine(metrics.served, tell=metrics.wave) as running:
        running.make_index()
        running.put("a", "b")
        before = {verb: value(metrics.registry, "neve_store_requests_total", verb=verb) for verb in ("get", "create")}
        waves = value(metrics.registry, "neve_store_waves_total")
        lost = value(metrics.registry, "neve_store_races_lost_total")  # by the self-test of a new store
        written = value(metrics.registry, "neve_store_bytes_total", direction="written")
        running.put("c")
        for _ in range(3):
            running.ask("QueryVectors", QUERY)
        running.ask("QueryVectors", {}, 400)
        running.ask("Nonsense", {}, 404)
    registry = metrics.registry
    answers = {
        (sample.labels["operation"], sample.labels["status"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "neve_requests_total"
    }
    assert answers == {
        ("CreateVectorBucket", "200"): 1,
        ("CreateIndex", "200"): 1,
        ("PutVectors", "200"): 2,
        ("QueryVectors", "200"): 3,
        ("QueryVectors", "400"): 1,
        ("-", "404"): 1,
    }
    assert value(registry, "neve_request_duration_seconds_count", operation="QueryVectors") == 4
    assert value(registry, "neve_store_waves_total") == waves + 1 + 3
    assert value(registry, "neve_store_wave_duration_seconds_count") == waves + 4
    assert value(registry, "neve_store_requests_total", verb="create") == before["create"] + 1
    assert value(registry, "neve_store_requests_total", verb="get") == before["get"] + 2 + 3 * 3
    assert value(registry, "neve_store_bytes_total", direction="written") > written
    assert value(registry, "neve_query_plans_total", plan="recent rows") == 3
    assert value(registry, "neve_store_races_lost_total") == lost > 0
    assert value(registry, "neve_store_hedges_total") == value(registry, "neve_store_failures_total") == 0


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with an index of which some rows are compacted."""
    url = tmp_path_factory.mktemp("store").as_uri()
    with neve.client(store=url) as client:
        client.create_vector_bucket(vectorBucketName="library")
        client.create_index(**INDEX, dataType="float32", dimension=2, distanceMetric="cosine")
        vectors = [{"key": str(number), "data": {"float32": [number, 1]}} for number in range(300)]
        client.put_vectors(**INDEX, vectors=vectors)
    assert main(["compact", "library/books", "--store", url]) == 0
    return url


def watched(url: str, metrics: Metrics) -> Assembly:
    return assemble(Settings(url), watchers=[metrics.served], tell=metrics.wave)


def test_blocks_are_counted_by_the_tier_that_had_them(compacted: str) -> None:
    metrics = Metrics()
    assembly = watched(compacted, metrics)
    metrics.watch(assembly, lambda: (1, 2, 3))
    running = Engine(assembly.application)
    registry = metrics.registry
    seen = []
    for _ in range(2):
        running.ask("QueryVectors", QUERY)
        seen.append({tier: value(registry, "neve_blocks_total", tier=tier) for tier in ("memory", "disk", "store")})
    cold, warm = seen
    assert cold["memory"] == cold["disk"] == warm["disk"] == 0
    assert warm["store"] == cold["store"] > 0
    assert warm["memory"] > 0
    assert value(registry, "neve_block_bytes_total", tier="store") > value(registry, "neve_blocks_total", tier="store")
    assert value(registry, "neve_memory_bytes") == assembly.database.blocks.memory_bytes > 0  # type: ignore[union-attr]
    assert value(registry, "neve_memory_bytes_max") == 1 << 30
    assert value(registry, "neve_requests_running") == 1
    assert value(registry, "neve_requests_waiting") == 2
    assert value(registry, "neve_request_body_bytes") == 3
    assert value(registry, "neve_indexes_known") == 1
    assert value(registry, "neve_index_flat_rows", bucket="library", index="books") == 0
    running.put("new")
    assert value(registry, "neve_index_tail_entries", bucket="library", index="books") == 1
    assert value(registry, "neve_index_tail_bytes", bucket="library", index="books") > 16
    assembly.close()


def state(name: str, rows: int, tail: int = 0) -> Any:
    segment = SimpleNamespace(rows=rows, deleted=0, size_bytes=0)
    base = SimpleNamespace(segments=(segment,))
    return SimpleNamespace(
        record=SimpleNamespace(bucket="b", name=name), base=base, tail=(None,) * tail, tail_bytes=tail
    )


def test_of_many_indexes_those_with_the_most_debt_are_shown() -> None:
    states = [state(f"i{number}", number * 10, tail=1) for number in range(INDEXES_MAX + 50)]
    blocks = SimpleNamespace(memory_bytes=0, memory_bytes_max=0)
    metrics = Metrics()
    database: Any = SimpleNamespace(known=lambda: states, blocks=blocks)
    metrics.watch(Assembly(application(FakeService()), lambda: None, database), lambda: (0, 0, 0))
    shown = {
        sample.labels["index"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "neve_index_compaction_debt"
    }
    assert shown == {f"i{number}": number * 10 / FLAT_ROWS_MIN for number in range(50, INDEXES_MAX + 50)}
    assert value(metrics.registry, "neve_indexes_known") == INDEXES_MAX + 50


def test_compactions_are_counted_as_they_end() -> None:
    background: Any = SimpleNamespace(compacted=4, failures=1, busy=True)
    metrics = Metrics()
    metrics.watch(Assembly(application(FakeService()), lambda: None, None, background), lambda: (0, 0, 0))
    assert value(metrics.registry, "neve_compactions_total", outcome="done") == 4
    assert value(metrics.registry, "neve_compactions_total", outcome="failed") == 1
    assert value(metrics.registry, "neve_compactions_running") == 1


def test_the_guide_names_all_of_them_and_no_other(compacted: str) -> None:
    metrics = Metrics()
    assembly = watched(compacted, metrics)
    metrics.watch(assembly, lambda: (0, 0, 0))
    assembly.close()
    page = asyncio.run(Exposition(metrics).page()).decode()
    families = {family.name for family in text_string_to_metric_families(page)}
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    assert len(kinds) == len(families)
    assert named(PAGE, "## Metrics", "### What to be woken for") == set(kinds)


def test_a_collection_leaves_its_metrics(compacted: str, tmp_path: Path) -> None:
    file = tmp_path / "neve.prom"
    assert main(["collect", "--store", compacted, "--metrics", str(file)]) == 0
    page = file.read_text()
    values = dict(re.findall(r"^(neve_\S+) (\S+)$", page, re.M))
    kinds = ("log_entries", "segments", "jobs", "manifests", "records", "dropped_indexes")
    assert {f'neve_collected_objects{{kind="{kind}"}}': "0.0" for kind in kinds}.items() <= values.items()
    assert values["neve_collection_left"] == "0.0"
    assert float(values["neve_collection_time_seconds"]) > 1.7e9
    assert named(PAGE, "### Collection", "## A line for each request") == {name.partition("{")[0] for name in values}
    assert [path.name for path in tmp_path.iterdir()] == ["neve.prom"]
    written = Collected(log_entries=5, segments=2, left=["an index: why"])
    write_collected(written, str(file))
    assert 'neve_collected_objects{kind="log_entries"} 5.0' in file.read_text()
    assert "neve_collection_left 1.0" in file.read_text()


def named(page: Path, start: str, stop: str) -> set[str]:
    """Names in the first column of the tables between two headings."""
    part = page.read_text().partition(f"\n{start}\n")[2].partition(f"\n{stop}\n")[0]
    rows = re.findall(r"^\| ([^|]*)\|", part, re.M)
    return {name for row in rows for name in re.findall(r"`((?:neve|process)_\w+)`", row)}


# Who is shown them


def shown(
    exposed: Application, test: Callable[[Client], Awaitable[None]], metrics_port: int | None = None, **bounds: int
) -> Metrics:
    metrics = Metrics()
    adapter = Adapter(
        lambda: Assembly(exposed, lambda: None), lambda: None, Exposition(metrics), metrics_port, **bounds
    )
    running(adapter, test)
    return metrics


def at(path: str, port: int, method: str = "GET") -> dict[str, Any]:
    return {**request_scope(path, method=method), "server": ("127.0.0.1", port)}


@pytest.mark.parametrize(
    ("keys", "apart", "path", "port", "expected"),
    [
        ((), None, "/metrics", 1, 200),
        ((), None, "/base/metrics", 1, 404),
        ((KEY,), None, "/metrics", 1, 404),
        ((), 2, "/metrics", 1, 404),
        ((KEY,), 2, "/metrics", 1, 404),
        ((KEY,), 2, "/metrics", 2, 200),
        ((KEY,), 2, "/healthz", 2, 200),
        ((), 2, "/ListVectorBuckets", 2, 404),
        ((KEY,), 2, "/", 2, 404),
    ],
)
def test_who_may_see_them(keys: tuple, apart: int | None, path: str, port: int, expected: int) -> None:
    async def test(client: Client) -> None:
        method = "POST" if path == "/ListVectorBuckets" else "GET"
        assert (await client.fetch(at(path, port, method), chunk(b"")))[0] == expected

    shown(application(FakeService(), keys=keys), test, apart)


def test_they_are_shown_while_requests_are_turned_away() -> None:
    gate = Gate()

    async def test(client: Client) -> None:
        under_way = [asyncio.create_task(client.send(at("/PutVectors", 1, "POST"), chunk(b"{}"))) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert (await client.send(at("/PutVectors", 1, "POST"), chunk(b"{}")))[0] == 429
        page = (await client.fetch(at("/metrics", 1)))[2].decode()
        assert "neve_requests_running 1.0" in page
        assert "neve_requests_waiting 2.0" in page
        assert 'neve_requests_shed_total{reason="threads"} 1.0' in page
        assert 'neve_requests_shed_total{reason="bodies"} 0.0' in page
        gate.open.set()
        await asyncio.gather(*under_way)
        assert "neve_request_wait_seconds_count 3.0" in (await client.fetch(at("/metrics", 1)))[2].decode()

    shown(application(gate), test, threads=1, waiting_max=2)


def test_an_index_may_be_named_like_a_page() -> None:
    service = FakeService()

    async def test(client: Client) -> None:
        arn = "arn:aws:s3vectors:us-east-1:000000000000:bucket/library/index/"
        for name in ("healthz", "metrics"):
            await client.send(at(f"/tags/{arn}{name}", 1), chunk(b""))

    shown(application(service), test)
    assert [operation for operation, _, _ in service.calls] == ["ListTagsForResource"] * 2


# Several workers


def test_workers_tell_each_other(tmp_path: Path) -> None:
    async def test() -> None:
        ours, other = Metrics(), Metrics()
        ours.shed("threads")
        other.shed("threads")
        other.shed("threads")
        first, second = Exposition(ours, str(tmp_path)), Exposition(other, str(tmp_path))
        await first.open()
        [own] = tmp_path.iterdir()
        own.rename(tmp_path / "7")  # as if another process had opened it
        await second.open()
        (tmp_path / "8").touch()  # what a killed worker leaves
        for exposition in (first, second):
            page = (await exposition.page()).decode()
            shed = dict(re.findall(r'neve_requests_shed_total\{reason="threads",worker="(\d+)"\} (\S+)', page))
            assert sorted(map(float, shed.values())) == [1.0, 2.0]
            assert shed["7"] == "1.0"
            assert page.count("# TYPE neve_requests_shed_total counter") == 1
        await second.close()
        assert 'worker="7"' in (await first.page()).decode()
        assert {path.name for path in tmp_path.iterdir()} == {"7"}
        await first.close()

    asyncio.run(test())
