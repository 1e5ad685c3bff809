"""A real Dask cluster on this machine: a scheduler and workers, each a process of its own with a disk of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers.process import ServerProcess

ADDRESS = re.compile(r"Scheduler at:\s+(tcp://\S+)")


class DaskScheduler(ServerProcess):
    """A scheduler that answers; it calls a worker dead after a few seconds of silence."""

    def __init__(self) -> None:
        program = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        super().__init__([*program, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"], {})
        self.address = self.until(lambda: (found := ADDRESS.search(self.output())) and found[1])


class DaskWorker(ServerProcess):
    """A worker that has joined: one thread, its cache below a folder that no other worker sees."""

    def __init__(
        self, address: str, folder: Path, environment: Mapping[str, str], file_bytes_max: int | None = None
    ) -> None:
        program = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--host", "127.0.0.1"]
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "20", "--memory-limit", "0"]
        command = [*program, *options, "--local-directory", str(folder / "dask")]
        if file_bytes_max is not None:
            command = ["prlimit", f"--fsize={file_bytes_max}", *command]
        own = {"NEVE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        super().__init__(command, own | dict(environment))
        self.until(lambda: "Registered to:" in self.output() or None)


class DaskCluster:
    """A scheduler and its workers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.scheduler = stack.enter_context(DaskScheduler())
        self.workers: list[DaskWorker] = []

    @property
    def address(self) -> str:
        return self.scheduler.address

    def add(self, environment: Mapping[str, str] | None = None, **options: int) -> DaskWorker:
        """One worker more, with an empty folder."""
        folder = self._folder / f"worker-{self.scheduler.pid}-{len(self.workers)}"
        folder.mkdir(parents=True)
        worker = self._stack.enter_context(DaskWorker(self.address, folder, environment or {}, **options))
        self.workers.append(worker)
        return worker


@contextmanager
def dask(folder: Path, workers: int) -> Iterator[DaskCluster]:
    """A cluster of so many workers; it ends with the context, the workers first."""
    with ExitStack() as stack:
        cluster = DaskCluster(folder, stack)
        for _ in range(workers):
            cluster.add()
        yield cluster
