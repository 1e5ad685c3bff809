"""A span for each request and one below it for each wave of the store, by OpenTelemetry where that is installed.

Spans are made when the answer is ready, with the times at which things happened, so nothing is on a request's way.
Where they go is the business of the process's SDK, which `opentelemetry-instrument` sets up from OTEL_* variables; an
API without an SDK costs some microseconds a request.
"""

from __future__ import annotations

from collections.abc import Mapping

from neve import __version__
from neve.runtime import Instant
from neve.wire.served import Served, Watcher


def tracer() -> Watcher | None:
    """What makes spans of requests; None where OpenTelemetry's API is not installed."""
    try:
        from opentelemetry import propagate, trace
        from opentelemetry.propagators.textmap import Getter
        from opentelemetry.trace import SpanKind, Status, StatusCode
    except ModuleNotFoundError:
        return None

    class Headers(Getter[Mapping[str, str]]):
        """Reads headers whose names are in lower case, however a propagator spells them."""

        def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
            value = carrier.get(key.lower())
            return None if value is None else [value]

        def keys(self, carrier: Mapping[str, str]) -> list[str]:
            return list(carrier)

    getter = Headers()
    spans = trace.get_tracer("neve", __version__)

    def watch(served: Served) -> None:
        context = propagate.extract(served.headers, getter=getter)
        name = "request" if served.operation == "-" else served.operation
        began = _nanoseconds(served.began)
        span = spans.start_span(name, context, SpanKind.SERVER, start_time=began)
        if span.is_recording():
            span.set_attributes(_attributes(served))
            if served.status >= 500:
                span.set_status(Status(StatusCode.ERROR, served.error))
            parent = trace.set_span_in_context(span, context)
            for wave in served.waves:
                begun = _nanoseconds(wave.began)
                child = spans.start_span("store wave", parent, SpanKind.CLIENT, start_time=begun)
                child.set_attributes(
                    {
                        "neve.verbs": tuple(verb for verbs in wave.bill.waves for verb in sorted(set(verbs))),
                        "neve.requests": wave.bill.requests,
                        "neve.hedges": wave.bill.hedges,
                        "neve.bytes_read": wave.bill.bytes_read,
                        "neve.bytes_written": wave.bill.bytes_written,
                        "neve.failed": wave.failed,
                    }
                )
                child.end(begun + int(wave.seconds * 1e9))
        span.end(began + int(served.seconds * 1e9))

    return watch


def _attributes(served: Served) -> dict[str, str | int]:
    """Names, numbers and codes; what is not known is left out."""
    explain = served.explain
    known: dict[str, str | int] = {
        "neve.index": explain.index,
        "neve.plan": explain.plan,
        "error.type": served.error,
    }
    return {name: value for name, value in known.items() if value} | {
        "rpc.service": "S3Vectors",
        "rpc.method": served.operation,
        "http.response.status_code": served.status,
        "neve.request_id": served.request_id,
        "neve.waves": len(served.waves),
        "neve.requests": served.requests,
        "neve.hedges": served.hedges,
        "neve.bytes_read": served.bytes_read,
        "neve.bytes_written": served.bytes_written,
    }


def _nanoseconds(instant: Instant) -> int:
    return int(instant.wall_s * 1e9)
