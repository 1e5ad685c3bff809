"""Jobs that several machines work on: each has a folder in the store, where what has been done is kept by fixed names.

    job                      what all tasks have in common, written last: with it the job has begun
    inputs                   the parts that it reads, by group
    plan, mask-…             what who began it keeps for itself
    sample-<input>           points of a group of inputs
    train-0                  centroids of the partitions
    partition-<input>        which bytes of run-<input>-<token> hold the rows of which partition; of keys-… likewise
    repeats-<partition>      rows to leave out, since their keys come again
    build-<partition>        the segment that a partition has become, or none

An output is created once: of two machines at the same task one finds its own superfluous. Nothing here is ever named
by a manifest; the folder is deleted when the job is committed or given up, and collected where it was forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.errors import ObjectCorrupt, ObjectGone
from neve.index import paths
from neve.index.chain import list_all
from neve.runtime import Runtime
from neve.store.create import create
from neve.store.envelope import Envelope, seal, unseal
from neve.store.port import Delete, Get, PutNew, Store, body, done
from neve.vectors.metric import Metric

JOB, INPUTS = "job", "inputs"
_DELETE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks of a job have in common."""

    dimension: int
    metric: Metric
    non_filterable: tuple[str, ...]
    memory_bytes: int
    """Of one task."""
    partitions: int
    groups: int
    """Of inputs: each is read by one task."""
    position: int | None = None
    """Of all rows, of which the last in the order of inputs counts where a key is repeated. None: each has its own,
    and no key is repeated."""

    def to_fields(self) -> list[Any]:
        numbers = (self.memory_bytes, self.partitions, self.groups, self.position)
        return [self.dimension, self.metric.value, list(self.non_filterable), *numbers]

    @classmethod
    def from_fields(cls, fields: list[Any]) -> Job:
        dimension, metric, non_filterable, *numbers = fields
        return cls(dimension, Metric(metric), tuple(non_filterable), *numbers)


class JobFolder:
    """The folder of one job in the store."""

    def __init__(self, store: Store, runtime: Runtime, uid: str, name: str) -> None:
        self.store, self.runtime, self.uid, self.name = store, runtime, uid, name

    def key(self, name: str) -> str:
        return paths.job_folder(self.uid, self.name) + name

    def names(self) -> set[str]:
        """What is there. 1 LIST for each 1,000 objects."""
        return {entry.key.rsplit("/", 1)[-1] for entry in list_all(self.store, self.key(""))}

    def read(self, name: str) -> Envelope | None:
        """One output; None where it is not there. 1 GET. Raises ObjectCorrupt, StoreError."""
        key = self.key(name)
        raw = body(self.store.wave([Get(key)])[0])
        return None if raw is None else unseal(key, raw)

    def read_all(self, names: Sequence[str]) -> list[Envelope]:
        """Some outputs that are there, in one wave. Raises ObjectGone, ObjectCorrupt, StoreError."""
        found = []
        for name, reply in zip(names, self.store.wave([Get(self.key(name)) for name in names]), strict=True):
            raw = body(reply)
            if raw is None:
                raise ObjectGone(f"{self.key(name)} is not there: the job was given up, or another store is looked at")
            found.append(unseal(self.key(name), raw))
        return found

    def create(self, name: str, fields: Mapping[str, Any], sections: Mapping[str, np.ndarray] | None = None) -> None:
        """Keep an output, unless another machine has. 1 PUT. Raises OutcomeUnknown, StoreError."""
        create(self.store, self.runtime, PutNew(self.key(name), seal({"id": self.runtime.token(), **fields}, sections)))

    def job(self) -> Job:
        """Raises ObjectGone, ObjectCorrupt, StoreError. 1 GET."""
        try:
            return Job.from_fields(self.read_all([JOB])[0].fields["job"])
        except (LookupError, ValueError, TypeError) as error:
            raise ObjectCorrupt(f"{self.key(JOB)} is no job of this version") from error

    def delete(self) -> None:
        """Delete what is there; the job first, so that nobody goes on with the rest."""
        names = sorted(self.names(), key=lambda name: name != JOB)
        for start in range(0, len(names), _DELETE_MAX):
            keys = tuple(self.key(name) for name in names[start : start + _DELETE_MAX])
            done(self.store.wave([Delete(keys)])[0])


def begun_jobs(store: Store, uid: str) -> list[str]:
    """Names of an index's jobs, in order. 1 LIST for each 1,000 objects."""
    keys = (entry.key for entry in list_all(store, paths.work_folder(uid)))
    return sorted(name for key in keys if key.endswith(f"/{JOB}") and (name := paths.job_of(key)) is not None)
