"""What tests of compaction and of commands start with, and those of tracing end with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from neve.cli import main
from neve.store.connect import connect
from tests.unit.api_calls import Calls
from tests.unit.compact_world import World
from tests.unit.compacted_index import compacted_calls

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that are made during a test, by the SDK of OpenTelemetry."""
    exporter = _exporter()
    exporter.clear()
    yield exporter
    exporter.clear()


@cache
def _exporter() -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # once in a process
    return exporter


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tmp_path_factory.mktemp("store").as_uri()


@pytest.fixture(scope="module")
def calls(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """The index of all kinds of rows, in the store of the URL."""
    with compacted_calls(tmp_path_factory.mktemp("work"), store=connect(url)) as calls:
        yield calls


@pytest.fixture
def run(calls: Calls, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on the index's store; its status and what it printed."""
    monkeypatch.setenv("NEVE_STORE", url)
    monkeypatch.setenv("COLUMNS", "200")

    def _run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = int(str(ended.code))
        return status, *capsys.readouterr()

    return _run
