"""What a serving process counts for Prometheus; engine/docs/monitoring.md lists the names.

Every label has a bounded number of values: operations, statuses, verbs, tiers and plans are closed sets, and of the
indexes that a process knows the INDEXES_MAX with the largest compaction debt are shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from heapq import nlargest

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from neve import __version__
from neve.compaction.background import Background
from neve.compaction.plan import FLAT_BYTES_MIN, FLAT_ROWS_MIN
from neve.index.database import Database
from neve.index.state import State
from neve.store.watching import Wave
from neve.wire.assembly import Assembly
from neve.wire.served import Served

INDEXES_MAX = 100
"""Indexes of one process that are shown one by one."""
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WAVE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
VERBS = {"Get": "get", "PutNew": "create", "Put": "put", "Upload": "upload", "List": "list", "Delete": "delete"}
TIERS = ("memory", "disk", "store")
SHED = ("threads", "bodies")
"""Why requests are turned away: too many are under way, or the bodies that are held are too large together."""


class Metrics:
    """The counts of one process. Thread-safe; `served` and `wave` take some ten microseconds each."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests()
        self._store()
        self._blocks = self._counters("blocks", "Blocks of segments that requests read, by who had them", "tier", TIERS)
        self._block_bytes = self._counters("block_bytes", "Their bytes as stored", "tier", TIERS)
        self._plans = self._counter("query_plans", "Ways in which queries were answered", "plan")
        build = Info("neve_build", "The engine and the Python that runs it", registry=self.registry)
        build.info({"version": __version__, "python": sys.version.split()[0]})
        ProcessCollector(registry=self.registry)

    def watch(self, assembly: Assembly, load: Callable[[], tuple[int, int, int]]) -> None:
        """Show as well what an assembly knows; `load` is requests running and waiting, and bytes of bodies held."""
        self._gauge("requests_running", "Requests that a thread works on").set_function(lambda: load()[0])
        self._gauge("requests_waiting", "Requests that wait for a thread").set_function(lambda: load()[1])
        self._gauge("request_body_bytes", "Bytes of the bodies that are held").set_function(lambda: load()[2])
        if assembly.database is not None:
            blocks = assembly.database.blocks
            self._gauge("memory_bytes", "Bytes of blocks in memory").set_function(lambda: blocks.memory_bytes)
            self._gauge("memory_bytes_max", "How many there may be").set(blocks.memory_bytes_max)
            self.registry.register(_Indexes(assembly.database))
        self.registry.register(_Compactions(assembly.background))

    def served(self, served: Served) -> None:
        """Enter a request."""
        self._answers.labels(served.operation, str(served.status)).inc()
        self._seconds.labels(served.operation).observe(served.seconds)
        explain = served.explain
        for tier in TIERS:
            if count := getattr(explain, f"{tier}_blocks"):
                self._blocks[tier].inc(count)
                self._block_bytes[tier].inc(getattr(explain, f"{tier}_bytes"))
        for plan in explain.plans:
            self._plans.labels(plan.value).inc()

    def wave(self, wave: Wave) -> None:
        """Enter a wave of the store."""
        bill = wave.bill
        self._waves.inc()
        self._wave_seconds.observe(wave.seconds)
        for verbs in bill.waves:
            for verb in set(verbs):
                self._store_requests[VERBS[verb]].inc(verbs.count(verb))
        for counter, count in (
            (self._store_bytes["read"], bill.bytes_read),
            (self._store_bytes["written"], bill.bytes_written),
            (self._hedges, bill.hedges),
            (self._races_lost, wave.races_lost),
            (self._store_failures, wave.failed),
        ):
            if count:
                counter.inc(count)

    def shed(self, reason: str) -> None:
        """Enter a request that is turned away, for one of SHED."""
        self._shed[reason].inc()

    def waited(self, seconds: float) -> None:
        """Enter how long a request waited for a thread."""
        self._wait_seconds.observe(seconds)

    def _requests(self) -> None:
        self._answers = self._counter("requests", "Requests answered", "operation", "status")
        self._seconds = self._histogram(
            "request_duration_seconds", "From a thread's taking a request to its answer", REQUEST_BUCKETS_S, "operation"
        )
        self._wait_seconds = self._histogram(
            "request_wait_seconds", "From a request's last byte to a thread's taking it", REQUEST_BUCKETS_S
        )
        self._shed = self._counters("requests_shed", "Requests turned away with 429 for want of room", "reason", SHED)

    def _store(self) -> None:
        self._waves = self._counter("store_waves", "Waves of the store, those of background work included")
        self._wave_seconds = self._histogram(
            "store_wave_duration_seconds", "From a wave's sending to its last reply", WAVE_BUCKETS_S
        )
        verbs = tuple(VERBS.values())
        self._store_requests = self._counters(
            "store_requests", "Requests of the waves, hedges not counted", "verb", verbs
        )
        self._store_bytes = self._counters("store_bytes", "Bytes of objects", "direction", ("read", "written"))
        self._store_failures = self._counter("store_failures", "Requests refused, lost or of unknown outcome")
        self._hedges = self._counter("store_hedges", "Reads that were sent again because they were slow")
        self._races_lost = self._counter("store_races_lost", "Creates of a key that somebody else had created")

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"neve_{name}", told, labels, registry=self.registry)

    def _counters(self, name: str, told: str, label: str, values: tuple[str, ...]) -> dict[str, Counter]:
        """The counters of all values of a label; looking one up by its value takes longer than counting."""
        counter = self._counter(name, told, label)
        return {value: counter.labels(value) for value in values}

    def _gauge(self, name: str, told: str) -> Gauge:
        return Gauge(f"neve_{name}", told, registry=self.registry)

    def _histogram(self, name: str, told: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"neve_{name}", told, labels, buckets=buckets, registry=self.registry)


class _Indexes(Collector):
    """The indexes that a process knows, as it knows them at the moment that they are asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        states = self._database.known()
        known = GaugeMetricFamily("neve_indexes_known", "Indexes that this process works with")
        known.add_metric((), len(states))
        yield known
        shown = nlargest(INDEXES_MAX, states, key=lambda state: (debt(state), len(state.tail)))
        gauges: dict[str, tuple[str, Callable[[State], float]]] = {
            "index_tail_entries": ("Entries of the log that are not folded", lambda state: len(state.tail)),
            "index_tail_bytes": ("Their bytes", lambda state: state.tail_bytes),
            "index_flat_rows": ("Rows and deletions that are folded and not compacted", _flat_rows),
            "index_flat_bytes": ("Their bytes", _flat_bytes),
            "index_compaction_debt": ("Both as a share of what makes a compaction due; from 1 it is", debt),
        }
        for name, (told, value) in gauges.items():
            gauge = GaugeMetricFamily(f"neve_{name}", told, labels=("bucket", "index"))
            for state in shown:
                gauge.add_metric((state.record.bucket, state.record.name), value(state))
            yield gauge


class _Compactions(Collector):
    """Those in the background of a process; none where there is no such background."""

    def __init__(self, background: Background | None) -> None:
        self._background = background

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        background = self._background
        ended = CounterMetricFamily("neve_compactions", "Compactions that have ended", labels=("outcome",))
        ended.add_metric(("done",), background.compacted if background else 0)
        ended.add_metric(("failed",), background.failures if background else 0)
        yield ended
        running = GaugeMetricFamily("neve_compactions_running", "Compactions under way")
        running.add_metric((), background.busy if background else 0)
        yield running


def debt(state: State) -> float:
    """How far an index is on its way to the next compaction: from 1 on one is due."""
    return max(_flat_rows(state) / FLAT_ROWS_MIN, _flat_bytes(state) / FLAT_BYTES_MIN)


def _flat_rows(state: State) -> int:
    return sum(segment.rows + segment.deleted for segment in state.base.segments)


def _flat_bytes(state: State) -> int:
    return sum(segment.size_bytes for segment in state.base.segments)
