"""From a new process to its first answer: our function as it is deployed, and our peers' import and first query.

Ours is the unpacked zip of `scripts/package`, run by the real runtime interface client: its event waits as the process
is started. Peers count from the start of their process to their engine being imported, and from connecting to their
first answer; what lies between, and what the tool that starts them takes, they are not charged for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scripts import package
from scripts.benchmarks.datasets import Dataset, real
from scripts.benchmarks.delay_proxy import Far
from scripts.benchmarks.engines import IMPORTED, INFINO, LANCEDB, Session
from scripts.benchmarks.far_store import Logged, far_store
from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.growth import QUICK_SIZES, SIZES
from scripts.benchmarks.near_store import near_store
from scripts.benchmarks.search_cold import Cold
from scripts.benchmarks.search_warm import K, Settings
from scripts.benchmarks.sides import CORES, Side, best, engines, ready
from scripts.benchmarks.stand import INDEX, Stand
from scripts.benchmarks.synthetic import synthetic
from tests.servers.function import ALONE, FunctionProcess, answer_of, client_alone, url_event
from tests.servers.object_store import REGION

from neve.testing.lambda_runtime import LambdaRuntime

SUITE = "coldstart"
FIRST_ANSWER = "new process → first answer, p50"
STARTS, STARTS_PEER = 20, 4
TARGET = Target(650.0)
FASTER = Target(4.0, at_least=True)
MEASURED = (IMPORTED, LANCEDB, INFINO)


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds of one start. Of a function: until its handler is imported, then while the store is being asked, and the
    rest of the time to its answer. Of others the first number is their import, the last all that comes after.
    """

    imported: float
    store: float
    rest: float
    keys: Sequence[str]

    @property
    def seconds(self) -> float:
        return self.imported + self.store + self.rest


def measure(stand: Stand, dataset: Dataset) -> list[Figure]:
    """Of every engine, by queries of the set's own kind, at equal recall; each start is another query."""
    origin, figures = dataset.origins[0], []
    medians: dict[str, float] = {}
    path = deployed(stand)
    with near_store(stand) as near, far_store(near.store, Far()) as far:
        for side in ready([Side(SUITE, engine, dataset) for engine in engines(stand, MEASURED)]):
            near.take(dataset, side.engine)
            cold = Cold(side.engine, dataset, far, best(side, [origin])[origin])
            count = 2 if stand.quick else STARTS if side.engine.ours else STARTS_PEER
            numbers = dataset.by_origin(origin, count)
            starts = [_ours(cold, number, path) if side.engine.ours else _peer(cold, number) for number in numbers]
            medians[side.engine.name] = float(np.median([start.seconds for start in starts])) * 1000
            figures += _figures(side, cold.settings, numbers, starts)
    if "neve" in medians:
        for name, ms in medians.items():
            ratio, faster = ms / medians["neve"], FASTER if name == LANCEDB.name else None
            if name != "neve":
                figures.append(Figure(SUITE, f"{name} / neve", ratio, "×", {"set": dataset.name}, target=faster))
    return figures


def deployed(stand: Stand) -> tuple[Path, Path]:
    """What a function's process finds: the unpacked package, and the runtime interface client."""
    folder = stand.scratch / "function"
    if not folder.exists():
        package.stage(folder, f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64")
        (stand.scratch / "client").mkdir()
        client_alone(stand.scratch / "client")
    return folder, stand.scratch / "client"


def _figures(side: Side, settings: Settings, numbers: Sequence[int], starts: Sequence[Start]) -> list[Figure]:
    where = {**settings, "starts": len(starts), "cores": CORES}
    wanted = side.with_targets({FIRST_ANSWER: TARGET} if side.dataset.name.startswith("synthetic-1000000") else {})

    def p50(name: str, seconds: Iterable[float]) -> Figure:
        return wanted.figure(name, float(np.median(list(seconds))) * 1000, "ms", **where)

    recalls = side.dataset.recalls(numbers, K, [start.keys for start in starts])
    figures = [
        p50(FIRST_ANSWER, (start.seconds for start in starts)),
        side.figure("recall of these", float(recalls.mean()), **where),
    ]
    if not side.engine.ours:
        return [*figures, p50("import", (start.imported for start in starts))]
    interpreter = float(np.median([_interpreter() for _ in starts]))
    return [
        *figures,
        p50("interpreter", [interpreter]),
        p50("runtime client and imports", (start.imported - interpreter for start in starts)),
        p50("waiting for the store", (start.store for start in starts)),
        p50("scoring and all else", (start.rest for start in starts)),
    ]


def _interpreter() -> float:
    """Seconds of a Python that has nothing to do."""
    with _on_cores():
        begun = time.monotonic()
        subprocess.run([sys.executable, *ALONE, "-c", ""], check=True)
        return time.monotonic() - begun


def _ours(cold: Cold, number: int, path: tuple[Path, Path]) -> Start:
    asked = {**INDEX, "topK": K, "queryVector": {"float32": np.load(cold.dataset.queries)[number].tolist()}}
    event = url_event("QueryVectors", {**asked, "returnMetadata": True, "returnDistance": True})
    event["headers"] |= {f"x-neve-{name}": str(value) for name, value in cold.settings.items()}
    url = f"{cold.place['uri']}?endpoint={cold.far.store.endpoint}&region={REGION}"
    cold.far.taken_log()
    with LambdaRuntime() as runtime:
        answered: list[float] = []
        invocation = runtime.hand_in(event)
        invocation.answer.add_done_callback(lambda _: answered.append(time.monotonic()))
        with _on_cores():
            begun = time.monotonic()
            process = FunctionProcess("api", runtime, {"NEVE_STORE": url}, options=ALONE, path=path)
        with process:
            status, found = answer_of(process.answered(invocation))
    if status != 200:
        raise RuntimeError(f"the function answered {status}: {found}")
    log = cold.far.taken_log()
    imported = runtime.asked_s[0]
    waited = _covered(log, answered[0] - imported)
    keys = [hit["key"] for hit in found["vectors"]]
    return Start(imported - begun, waited, answered[0] - imported - waited, keys)


def _covered(log: Sequence[Logged], most_s: float) -> float:
    """For how many of the last seconds of a log some request was under way."""
    end_s = max((one.end_s for one in log), default=0.0)
    covered, until = 0.0, end_s - most_s
    for one in sorted(log, key=lambda one: one.start_s):
        covered += max(0.0, one.end_s - max(until, one.start_s))
        until = max(until, one.end_s)
    return covered


def _peer(cold: Cold, number: int) -> Start:
    with Session(cold.engine, CORES, cold.engine.far) as session:
        imported = _age_s(session.pid)
        asked = {"queries": str(cold.dataset.queries), "number": number, "k": K, "settings": dict(cold.settings)}
        told = session.call("ask_cold", place=cold.place, **asked)
    return Start(imported, 0.0, told["seconds"], told["keys"])


def _age_s(pid: int) -> float:
    """For how long a process has been there."""
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


@contextmanager
def _on_cores() -> Iterator[None]:
    """What is started within has as many cores as the others have."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[:CORES])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


def _prose(stand: Stand) -> list[Figure]:
    return measure(stand, real(stand.data, "debian" if stand.quick else "prose"))


def _synthetic(size: str) -> Callable[[Stand], list[Figure]]:
    return lambda stand: measure(stand, synthetic(stand.data, *(QUICK_SIZES if stand.quick else SIZES)[size]))


PIECES: Mapping[str, Callable[[Stand], list[Figure]]] = {
    "prose": _prose,
    "100k": _synthetic("100k"),
    "1m": _synthetic("1m"),
}


def run(stand: Stand) -> list[Figure]:
    """Raises Unavailable where there is no far store."""
    return [figure for piece in PIECES.values() for figure in piece(stand)]
