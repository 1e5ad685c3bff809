"""A store behind the delay proxy, and what was asked of it."""

from __future__ import annotations

import json
import math
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from scripts.benchmarks.delay_proxy import LOG_TARGET, Far
from tests.servers.object_store import ObjectStore
from tests.servers.process import ServerProcess
from tests.servers.tools import ROOT

from neve.store.prices import GET, WRITE_OR_LIST


@dataclass(frozen=True, slots=True)
class Logged:
    """One request, from its first byte to the last of its answer; `size` is that of the answer, head included."""

    method: str
    target: str
    range: str
    status: int
    size: int
    start_s: float
    end_s: float

    @property
    def reads(self) -> bool:
        """Whether it is charged as a read of an object."""
        return self.method in ("GET", "HEAD") and "list-type=" not in self.target


@dataclass(frozen=True, slots=True)
class Asked:
    """What some requests come to."""

    requests: int
    size_bytes: int
    waves: int
    dollars: float

    @classmethod
    def of(cls, log: Sequence[Logged]) -> Asked:
        dollars = sum(GET if logged.reads else WRITE_OR_LIST for logged in log)
        return cls(len(log), sum(logged.size for logged in log), waves(log), dollars)


def waves(log: Iterable[Logged]) -> int:
    """How many dependent rounds a log shows: a wave begins with a request that comes when all earlier ones are over."""
    count, over_s = 0, -math.inf
    for logged in sorted(log, key=lambda logged: logged.start_s):
        count += logged.start_s >= over_s
        over_s = max(over_s, logged.end_s)
    return count


@dataclass(frozen=True, slots=True)
class FarStore:
    """An object store as it looks from afar; its log is that of all who ask it."""

    store: ObjectStore
    pid: int

    def taken_log(self) -> list[Logged]:
        """What was asked since the last time, in the order of the answers."""
        with urllib.request.urlopen(self.store.endpoint + LOG_TARGET, timeout=30) as answer:
            return [Logged(*fields) for fields in json.load(answer)]


@contextmanager
def far_store(near: ObjectStore, far: Far, seconds: float = 3600.0) -> Iterator[FarStore]:
    """The same store behind a proxy of its own, which ends with the context, or by itself after `seconds`."""
    options = {"--median-ms": far.median_ms, "--p99-ms": far.p99_ms, "--bytes-per-s": far.bytes_per_s}
    options |= {"--seed": far.seed, "--seconds": seconds, "--upstream": near.address}
    told = [str(part) for option in options.items() for part in option]
    command = [sys.executable, "-m", "scripts.benchmarks.delay_proxy", *told]
    with ServerProcess(command, {"PYTHONPATH": str(ROOT)}) as process:
        listening = "listening on http://"
        process.until(lambda: (listening in process.output() and process.output().endswith("\n")) or None)
        address = process.output().split(listening)[1].split()[0]
        yield FarStore(replace(near, address=address), process.pid)
