"""The page that Prometheus reads: of one process, or of all workers of a server, whichever of them is asked."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, Metric, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from neve.wire.metrics import Metrics

WORKER_TIMEOUT_S = 5.0
"""A worker that does not answer in time is left out of the page."""

Family: TypeAlias = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]
"""Name, help, type, and the samples: name, labels, value."""


class Exposition:
    """Metrics as text. Workers tell each other theirs by sockets in a folder that is theirs alone; "" for one process.

    Each worker's series have its process id as the label `worker`: sums over it are the server's. One that ends takes
    its series along, so no counter ever falls.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, metrics: Metrics, folder: str = "") -> None:
        self.metrics = metrics
        self._folder = Path(folder) if folder else None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """From now on tell other workers."""
        if self._folder is not None:
            self._server = await asyncio.start_unix_server(self._tell, self._folder / str(os.getpid()))

    async def close(self) -> None:
        """No longer tell them."""
        if self._server is not None and self._folder is not None:
            self._server.close()
            (self._folder / str(os.getpid())).unlink(missing_ok=True)

    async def page(self) -> bytes:
        """All metrics in Prometheus's text format 0.0.4."""
        if self._folder is None:
            return generate_latest(_Merged({"": await self._own()}))
        workers = sorted(self._folder.iterdir())
        told = await asyncio.gather(*map(_ask, workers))
        found = {path.name: families for path, families in zip(workers, told, strict=True) if families is not None}
        return generate_latest(_Merged(found))

    async def _own(self) -> list[Family]:
        return await asyncio.to_thread(lambda: list(_families(self.metrics)))

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(json.dumps(await self._own()).encode())
            await writer.drain()
        finally:
            writer.close()


async def _ask(path: Path) -> list[Family] | None:
    """What a worker tells; None, and its socket removed, where it is gone."""
    try:
        async with asyncio.timeout(WORKER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                families: list[Family] = json.loads(await reader.read())
            finally:
                writer.close()
            return families
    except ConnectionRefusedError:  # it was killed: who ends in order removes its socket
        with suppress(FileNotFoundError):
            path.unlink()
    except (OSError, TimeoutError, ValueError):
        pass
    return None


def _families(metrics: Metrics) -> Iterator[Family]:
    for metric in metrics.registry.collect():
        samples = [(s.name, s.labels, s.value) for s in metric.samples if not s.name.endswith("_created")]
        yield metric.name, metric.documentation, metric.type, samples


class _Merged(Collector):
    """The families of some processes as one set."""

    def __init__(self, told: dict[str, list[Family]]) -> None:
        self._told = told

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for worker, families in self._told.items():
            for name, documentation, kind, samples in families:
                metric = merged.setdefault(name, Metric(name, documentation, kind))
                for sample, labels, value in samples:
                    own = {**labels, "worker": worker} if worker else labels
                    metric.samples.append(Sample(sample, own, value))
        return merged.values()
