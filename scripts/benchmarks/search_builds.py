"""Indexes for the search suite: built once, kept in the cache by what they are made of and with."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.benchmarks.datasets import Dataset
from scripts.benchmarks.engines import NEVE, PEERS, Engine, Memory, Session
from scripts.benchmarks.figure import Figure, Target
from tests.servers.tools import ROOT, pin

CORES = 2
COMPACTION_SECONDS_MAX = 600.0
_ENGINE = ROOT / "engine" / "neve"
_MAKERS = ("api", "compaction", "index", "segments", "store", "vectors")
"""The layers whose change may change what is stored."""


@dataclass(frozen=True, slots=True)
class Build:
    """What it took, and when that was: peak memory is anonymous memory. Nothing but puts are `ingest_seconds`."""

    at: str
    seconds: float
    ingest_seconds: float
    peak_bytes: int
    size_bytes: int

    def figures(self, suite: str, engine: Engine, dataset: Dataset) -> list[Figure]:
        params = {"set": dataset.name, "cores": CORES, "built": self.at}
        ours = engine is NEVE
        wanted = ours and dataset.name == "prose"
        what = "compaction of the whole log" if ours else "import + index"
        size = Target(1.45) if ours else None
        own: list[Figure] = []
        if ours:
            rate = len(dataset.corpus.keys) / self.ingest_seconds
            own = [Figure(suite, "ingest before it, in process, folder", rate, "vectors/s", params, engine.name)]
        return [
            *own,
            Figure(suite, what, self.seconds, "s", params, engine.name, Target(25.0) if wanted else None),
            Figure(
                suite,
                f"{what}, peak anonymous memory",
                self.peak_bytes / 2**30,
                "GiB",
                params,
                engine.name,
                Target(1.0) if wanted else None,
            ),
            Figure(
                suite,
                "stored / (float32 + metadata)",
                self.size_bytes / dataset.size_bytes,
                "×",
                params,
                engine.name,
                size,
            ),
        ]


def built(engine: Engine, dataset: Dataset) -> tuple[Path, Build]:
    """The folder of an engine's index of a set, and what building it took, then or now."""
    folder = dataset.folder / f"{engine.name}-{_identity(engine)}"
    told = folder / "build.json"
    if not told.exists():
        for old in dataset.folder.glob(f"{engine.name}-*"):
            shutil.rmtree(old)
        (folder / "store").mkdir(parents=True)
        build = _build(engine, dataset, folder / "store")
        told.write_text(json.dumps(asdict(build)))
    return folder / "store", Build(**json.loads(told.read_text()))


def uri(engine: Engine, folder: Path) -> str:
    return folder.as_uri() if engine is NEVE else str(folder)


def _build(engine: Engine, dataset: Dataset, folder: Path) -> Build:
    place = {"uri": uri(engine, folder), "endpoint": ""}
    with Session(engine, CORES) as session, Memory(session.pid) as memory:
        begun = time.perf_counter()
        session.call("build", rows=str(dataset.rows), place=place, non_filterable=list(dataset.corpus.non_filterable))
        seconds = ingest_seconds = time.perf_counter() - begun
    if engine is NEVE:
        seconds, memory = _compact(place["uri"])
    at = datetime.now(UTC).isoformat(" ", "minutes")
    return Build(at, seconds, ingest_seconds, memory.peak_bytes, _size_bytes(engine, folder))


def _compact(store: str) -> tuple[float, Memory]:
    """Seconds and memory of `neve compact`, the process's start included."""
    command = [sys.executable, "-m", "neve", "compact", "bench/corpus", "--store", store]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with process, Memory(process.pid) as memory:
        status = process.wait(COMPACTION_SECONDS_MAX)
    if status:
        raise subprocess.CalledProcessError(status, command)
    return time.perf_counter() - begun, memory


def _size_bytes(engine: Engine, folder: Path) -> int:
    """What stays: not the log and the flat segments that compaction has superseded, which wait to be collected."""
    if engine is not NEVE:
        return _tree_bytes(folder)
    return sum(_tree_bytes(directory.parent) for directory in folder.glob("data/*/segments/*/directory"))


def _tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _identity(engine: Engine) -> str:
    """Of all that an engine's index depends on beside the set."""
    digest = hashlib.sha256("".join(pin(package) for package in engine.packages).encode())
    for path in [*_sources(engine), engine.module, PEERS / "answering.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(engine: Engine) -> Iterable[Path]:
    return sorted(path for layer in _MAKERS for path in (_ENGINE / layer).rglob("*.py")) if engine is NEVE else ()
