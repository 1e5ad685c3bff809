"""How puts per second fall as independent writer processes share one index.

The store is a folder in memory behind `FarStore`, which adds the stated delay to every wave: what is measured is the
protocol, not a disk.
"""

from __future__ import annotations

from itertools import product

from scripts.benchmarks.figure import Figure, percentiles
from scripts.benchmarks.stand import Stand
from tests.clients.writers import Job, create_index
from tests.clients.writers import run as run_writers

SUITE = "writers"
DELAYS_MS = (5, 63)
WRITERS = (1, 2, 4, 8)
SECONDS = 10.0
SECONDS_QUICK = 1.5


def run(stand: Stand) -> list[Figure]:
    return [figure for delay_ms, writers in product(DELAYS_MS, WRITERS) for figure in measure(stand, delay_ms, writers)]


def measure(stand: Stand, delay_ms: int, writers: int) -> list[Figure]:
    """Single-vector puts of all writers together; one is over when the last of them is acknowledged."""
    seconds = SECONDS_QUICK if stand.quick else SECONDS
    with stand.folder_in_memory() as url:
        create_index(url)
        outcomes = run_writers(Job(url, seconds_max=seconds, delay_s=delay_ms / 1000), writers)
    latencies_s = [latency for outcome in outcomes for latency in outcome.latencies_s]
    rate = sum(len(outcome.keys) / outcome.seconds for outcome in outcomes)
    lost = sum(outcome.races_lost for outcome in outcomes)
    params = {"writers": writers, "store": f"folder in memory + {delay_ms} ms"}
    return [
        Figure(SUITE, "puts of all writers", rate, "puts/s", params),
        *percentiles(SUITE, "put", latencies_s, params),
        Figure(SUITE, "lost races", lost / len(latencies_s), "a put", params),
    ]
