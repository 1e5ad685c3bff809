"""Starts the processes of the engines that are measured side by side, and watches their memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tests.servers.tools import ROOT, Unavailable, pin, program

PEERS = ROOT / "scripts" / "benchmarks" / "peers"
CALL_SECONDS_MAX = 900.0


@dataclass(frozen=True, slots=True)
class Engine:
    """`peer` names its module. `packages` are the distributions of its environment, of versions pinned in
    scripts/versions; () is our own. `how` says how its index is built, where there is a choice.

    `far` are variables that make it faster on a far store.
    """

    name: str
    peer: str
    packages: tuple[str, ...] = ()
    how: str = ""
    far: tuple[tuple[str, str], ...] = ()

    @property
    def ours(self) -> bool:
        return self.peer == "neve"

    @property
    def option(self) -> str:
        """How the command line calls it."""
        return self.name.replace(" ", "-").lower()

    @property
    def folder(self) -> str:
        """Of what it builds."""
        return f"{self.peer}-{self.how}" if self.how else self.peer

    @property
    def module(self) -> Path:
        return PEERS / f"{self.peer}_peer.py"

    def command(self, cores: int) -> list[str | Path]:
        """What starts its process; raises Unavailable."""
        if not self.packages:
            return [sys.executable, self.module, str(cores)]
        uv = program(os.environ.get("UV", "uv"), f"which installs {self.peer}")
        needed = [f"--with={package}=={pin(package)}" for package in self.packages]
        return [uv, "run", "--quiet", "--no-project", f"--python={sys.executable}", *needed, self.module, str(cores)]


NEVE = Engine("neve", "neve")
"""Puts, then `neve compact`."""
IMPORTED = Engine("neve", "neve", how="import")
"""`neve import`."""
_LANCEDB = ("lancedb", "pylance", "numpy")
# With as many threads as cores it reads its lists nearly one after the other: 82 waves in place of 13.
_THREADS = (("LANCE_CPU_THREADS", "32"),)
LANCEDB = Engine("lancedb IVF_RQ", "lancedb", _LANCEDB, "IVF_RQ", _THREADS)
LANCEDB_PQ = Engine("lancedb IVF_PQ", "lancedb", _LANCEDB, "IVF_PQ", _THREADS)
INFINO = Engine("infino", "infino", ("infino", "numpy"))


class Session:
    """One process of an engine; leaving the context ends it."""

    def __init__(self, engine: Engine, cores: int, environment: Iterable[tuple[str, str]] = ()) -> None:
        self._told = TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            engine.command(cores),
            env=os.environ | dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
        )
        self.engine = engine
        try:
            hello = self._answer(CALL_SECONDS_MAX)
        except BaseException:
            self.close()
            raise
        self.pid: int = hello["pid"]
        self.version: str = hello["version"]

    def call(self, do: str, *, seconds_max: float = CALL_SECONDS_MAX, **arguments: object) -> Any:
        """What a method of the engine answers; RuntimeError, with what it printed, when its process ends instead,
        as it is made to after `seconds_max`.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer(seconds_max)

    def _answer(self, seconds_max: float) -> Any:
        assert self._process.stdout is not None
        patience = threading.Timer(seconds_max, self._process.terminate)
        patience.start()
        try:
            line = self._process.stdout.readline()
        finally:
            patience.cancel()
        if not line:
            told = os.pread(self._told.fileno(), 1 << 20, 0).decode(errors="replace")
            raise RuntimeError(f"{self.engine.name} ended:\n{told[-4000:]}")
        return json.loads(line)

    def close(self) -> None:
        """End of input ends it; SIGTERM, where that does not help for 20 s."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        self._process.stdout.close()
        self._told.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Memory:
    """Anonymous memory of a process, sampled: `peak_bytes` is the most that was seen."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._over.wait(0.01):
            try:
                found = re.search(r"^RssAnon:\s*(\d+) kB", self._status.read_text(), re.M)
            except OSError:
                return
            if found:
                self.peak_bytes = max(self.peak_bytes, int(found[1]) << 10)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def available(engines: Sequence[Engine]) -> list[Engine]:
    """Those that start on this machine; the others are told of on stderr, once."""
    return [engine for engine in engines if _starts(engine)]


@cache
def _starts(engine: Engine) -> bool:
    try:
        Session(engine, 1).close()
    except (Unavailable, RuntimeError) as error:
        print(f"NOT MEASURED: {engine.name}: {error}", file=sys.stderr)
        return False
    return True
