"""Indexes to search in: built once, kept in the cache by what they are made of and with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

from scripts.benchmarks.datasets import Dataset
from scripts.benchmarks.engines import PEERS, Engine, Memory, Session
from scripts.benchmarks.figure import Figure, Target
from tests.servers.tools import ROOT, pin

CORES = 2
BUILD_SECONDS_MAX = 3600.0
IMPORT_MEMORY = "1GiB"
INDEX = "bench/corpus"
_IDENTITY_DIGITS = 16
_ENGINE = ROOT / "engine" / "neve"
_MAKERS = ("api", "compaction", "index", "segments", "store", "transfer", "vectors")
"""The layers whose change may change what is stored."""


@dataclass(frozen=True, slots=True)
class Build:
    """What it took, and when that was: peak memory is anonymous memory. Nothing but puts are `ingest_seconds`, which
    are all of it where nothing else is done.
    """

    at: str
    seconds: float
    ingest_seconds: float
    peak_bytes: int
    size_bytes: int

    def figures(self, suite: str, engine: Engine, dataset: Dataset) -> list[Figure]:
        params = {"set": dataset.name, "cores": CORES, "built": self.at}
        ours = engine.ours
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
    """The folder of an engine's index of a set, and what building it took, then or now.

    RuntimeError when the engine fails, or is not done after BUILD_SECONDS_MAX; nothing is left of it then.
    """
    folder = dataset.folder / f"{engine.folder}-{_identity(engine)}"
    told = folder / "build.json"
    if not told.exists():
        for old in dataset.folder.glob(f"{engine.folder}-{'[0-9a-f]' * _IDENTITY_DIGITS}"):
            shutil.rmtree(old)
        (folder / "store").mkdir(parents=True)
        try:
            build = _build(engine, dataset, folder / "store")
        except BaseException:
            shutil.rmtree(folder)
            raise
        told.write_text(json.dumps(asdict(build)))
    return folder / "store", Build(**json.loads(told.read_text()))


def uri(engine: Engine, folder: Path) -> str:
    return folder.as_uri() if engine.ours else str(folder)


def _build(engine: Engine, dataset: Dataset, folder: Path) -> Build:
    place = {"uri": uri(engine, folder), "endpoint": ""}
    hidden = list(dataset.corpus.non_filterable)
    if engine.how == "import":
        some = ["--non-filterable", ",".join(hidden)] if hidden else []
        imported = ["import", INDEX, str(dataset.rows), "--create", *some, "--memory", IMPORT_MEMORY]
        seconds, memory = _ran([*imported, "--store", place["uri"]])
        ingest_seconds = seconds
    else:
        with Session(engine, CORES) as session, Memory(session.pid) as memory:
            begun = time.perf_counter()
            told = {"rows": str(dataset.rows), "place": place, "how": engine.how, "non_filterable": hidden}
            session.call("build", seconds_max=BUILD_SECONDS_MAX, **told)
            seconds = ingest_seconds = time.perf_counter() - begun
        if engine.ours:
            seconds, memory = _ran(["compact", INDEX, "--store", place["uri"]])
    at = datetime.now(UTC).isoformat(" ", "minutes")
    return Build(at, seconds, ingest_seconds, memory.peak_bytes, _size_bytes(engine, folder))


def _ran(arguments: Sequence[str]) -> tuple[float, Memory]:
    """Seconds and memory of a command of ours, the process's start included; RuntimeError when it fails."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "neve", *arguments]
    with TemporaryFile() as told:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        with process, Memory(process.pid) as memory:
            try:
                status = process.wait(BUILD_SECONDS_MAX)
            finally:
                process.terminate()
        seconds = time.perf_counter() - begun
        if status:
            text = os.pread(told.fileno(), 1 << 20, 0).decode(errors="replace")
            raise RuntimeError(f"neve {' '.join(arguments)} ended with {status}:\n{text[-4000:]}")
    return seconds, memory


def _size_bytes(engine: Engine, folder: Path) -> int:
    """What stays: not the log and the flat segments that compaction has superseded, which wait to be collected."""
    if not engine.ours:
        return _tree_bytes(folder)
    return sum(_tree_bytes(directory.parent) for directory in folder.glob("data/*/segments/*/directory"))


def _tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _identity(engine: Engine) -> str:
    """Of all that an engine's index depends on beside the set."""
    digest = hashlib.sha256("".join(pin(package) for package in engine.packages).encode())
    for path in [*_sources(engine), *sorted(PEERS.glob(f"{engine.peer}_*.py")), PEERS / "answering.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:_IDENTITY_DIGITS]


def _sources(engine: Engine) -> Iterable[Path]:
    return sorted(path for layer in _MAKERS for path in (_ENGINE / layer).rglob("*.py")) if engine.ours else ()
