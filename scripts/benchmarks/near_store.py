"""A store of this machine that holds built indexes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.builds import built
from scripts.benchmarks.datasets import Dataset
from scripts.benchmarks.engines import Engine
from scripts.benchmarks.stand import Stand
from tests.servers.object_store import ObjectStore
from tests.servers.process import free_port
from tests.servers.tools import go_binary
from tests.servers.versitygw import versitygw


@dataclass(frozen=True, slots=True)
class NearStore:
    """A store and the folder where it keeps its bucket, each object a file."""

    store: ObjectStore
    folder: Path

    def take(self, dataset: Dataset, engine: Engine) -> None:
        """Put an engine's index of a set where Cold looks for it."""
        place = self.folder / self.store.bucket / dataset.name / engine.folder
        if not place.exists():
            shutil.copytree(
                built(engine, dataset)[0], place, copy_function=_link, ignore=shutil.ignore_patterns(".staging")
            )


def _link(source: str, target: str) -> None:
    """The same file under another name, which costs nothing; a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def near_store(stand: Stand) -> Iterator[NearStore]:
    """A store that takes little of this machine: versitygw needs two thirds of MinIO's processor time for ranges.

    Raises Unavailable.
    """
    folder = stand.empty_folder()
    with versitygw(go_binary("versitygw"), folder, free_port(), stand.user) as store:
        yield NearStore(store, folder)
