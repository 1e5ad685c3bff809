"""Spans as OpenTelemetry's own SDK gets them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from neve.errors import StoreUnavailable
from neve.wire.tracing import tracer
from tests.unit.watched_engine import INDEX, engine
from tests.unit.wire_service import FakeService, application, post

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def finished(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def test_a_query_is_a_span_with_one_below_for_each_wave(spans: InMemorySpanExporter) -> None:
    with engine() as running:
        running.make_index()
        running.put("a")
        spans.clear()
        response = running.ask("QueryVectors", {**INDEX, "queryVector": {"float32": [1, 0]}, "topK": 1})
    [query], [wave] = finished(spans, "QueryVectors"), finished(spans, "store wave")
    assert dict(query.attributes or {}) == {
        "rpc.service": "S3Vectors",
        "rpc.method": "QueryVectors",
        "http.response.status_code": 200,
        "neve.request_id": response.headers["x-amz-request-id"],
        "neve.index": "library/books",
        "neve.plan": "recent rows",
        "neve.waves": 1,
        "neve.requests": 3,
        "neve.hedges": 0,
        "neve.bytes_read": 0,
        "neve.bytes_written": 0,
    }
    assert dict(wave.attributes or {}) == {
        "neve.verbs": ("Get",),
        "neve.requests": 3,
        "neve.hedges": 0,
        "neve.bytes_read": 0,
        "neve.bytes_written": 0,
        "neve.failed": 0,
    }
    assert (query.kind, wave.kind, query.parent) == (SpanKind.SERVER, SpanKind.CLIENT, None)
    assert wave.parent == query.context
    assert query.start_time <= wave.start_time <= wave.end_time
    assert query.status.status_code is StatusCode.UNSET


def test_a_trace_that_the_client_began_goes_on(spans: InMemorySpanExporter) -> None:
    traced = application(FakeService(), watchers=[watcher()])
    traced(post("/ListVectorBuckets", traceparent=f"00-{TRACE}-{PARENT}-01"))
    [span] = finished(spans, "ListVectorBuckets")
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)


@pytest.mark.parametrize(
    "wrong", ["", "00", f"00-{TRACE}-{PARENT}", f"00-{'0' * 32}-{PARENT}-01", "x" * 9000, "é,\x00"]
)
def test_a_trace_header_that_is_none_is_ignored(spans: InMemorySpanExporter, wrong: str) -> None:
    assert application(FakeService(), watchers=[watcher()])(post("/ListVectorBuckets", traceparent=wrong)).status == 200
    [span] = finished(spans, "ListVectorBuckets")
    assert span.parent is None


def test_a_trace_that_is_not_sampled_has_no_spans(spans: InMemorySpanExporter) -> None:
    application(FakeService(), watchers=[watcher()])(post("/ListVectorBuckets", traceparent=f"00-{TRACE}-{PARENT}-00"))
    assert spans.get_finished_spans() == ()


def test_failures_of_ours_are_errors_and_refusals_are_not(spans: InMemorySpanExporter) -> None:
    application(FakeService(StoreUnavailable("x")), watchers=[watcher()])(post("/GetIndex"))
    application(FakeService(), watchers=[watcher()])(post("/Nothing"))
    [failed], [refused] = finished(spans, "GetIndex"), finished(spans, "request")
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "ServiceUnavailableException")
    assert (failed.attributes or {})["error.type"] == "ServiceUnavailableException"
    assert refused.status.status_code is StatusCode.UNSET
    assert (refused.attributes or {})["http.response.status_code"] == 404


def test_without_opentelemetry_there_is_nothing() -> None:
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from neve.wire.assembly import application_over
from neve.wire.settings import Settings
from neve.wire.tracing import tracer
assert tracer() is None
assert application_over(None, Settings("memory:"), None)._watchers == []
assert "prometheus_client" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def watcher():  # type: ignore[no-untyped-def]
    found = tracer()
    assert found is not None
    return found
