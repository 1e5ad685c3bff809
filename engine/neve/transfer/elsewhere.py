"""Import whose work is done on other machines: each reads parts of the source by itself, with its own credentials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from neve.api.limits import LIMITS
from neve.compaction.build import Means, NewSegment
from neve.compaction.elsewhere import GROUP_BYTES, Built, Elsewhere, begin_job, do_job
from neve.compaction.gather import read_all
from neve.compaction.jobs import Job, JobFolder, begun_jobs
from neve.compaction.parts import sample_of
from neve.errors import ObjectGone
from neve.index import paths
from neve.index.database import Database
from neve.index.hint import DIRECTORIES_BYTES_MAX
from neve.index.manifest import Import
from neve.index.records import IndexRecord
from neve.segments.flat import Batch, no_keys
from neve.segments.rows import Rows
from neve.store.envelope import seal
from neve.store.port import Store, Upload, done
from neve.transfer.import_ import Report
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rejects import Reject
from neve.transfer.rules import Rules
from neve.transfer.sources import read_part
from neve.transfer.sources.parts import PART_BYTES, Source, SourcePart
from neve.vectors.metric import Metric

_IMPORT, _REJECTS = "import", "rejects-"
_SAMPLE_BLOCKS = 1
"""Blocks of 8 MiB of a part that its sample is taken from: parts are many, and small."""


@dataclass(frozen=True, slots=True)
class ImportPart:
    """A part of a source, how it is read, the position of its rows, and where its rejects are kept."""

    part: SourcePart
    mapping: ColumnMapping
    rules: Rules
    profile: str
    position: int
    rejects: str

    def to_fields(self) -> list[Any]:
        rules = [self.rules.dimension, self.rules.metric.value, sorted(self.rules.non_filterable), self.profile]
        return [self.part.to_fields(), self.mapping.to_fields(), rules, self.position, self.rejects]

    @classmethod
    def from_fields(cls, fields: list[Any]) -> ImportPart:
        part, mapping, (dimension, metric, non_filterable, profile), position, rejects = fields
        rules = Rules(dimension, Metric(metric), frozenset(non_filterable), LIMITS[profile])
        mapping = ColumnMapping.from_fields(mapping)
        return cls(SourcePart.from_fields(part), mapping, rules, profile, position, rejects)

    def blocks(self, store: Store, folder: Path) -> Iterator[Batch]:
        """Its rows; rejects are kept before the last of them counts. Raises SourceChanged, SourceUnfit, StoreError."""
        rejects: list[Reject] = []
        for puts, bad in read_part(self.part, self.mapping, self.rules):
            rejects += bad
            if puts.keys:
                yield Batch(Rows.of(puts, self.position), no_keys())
        if rejects:
            path = folder / self.rejects.rsplit("/", 1)[-1]
            path.write_bytes(seal({"rejects": [reject.to_fields() for reject in rejects]}))
            done(store.wave([Upload(self.rejects, path)])[0])
            path.unlink()

    def sample(self, store: Store, rows: int, seed: int, folder: Path) -> np.ndarray:
        read = islice(read_part(self.part, self.mapping, self.rules), _SAMPLE_BLOCKS)
        vectors = [np.empty((0, self.rules.dimension), np.float32), *(puts.vectors for puts, _ in read)]
        return sample_of(np.concatenate(vectors), rows, seed)


@dataclass(frozen=True, slots=True)
class Reading:
    """How workers read a source, and where they work."""

    mapping: ColumnMapping
    rules: Rules
    profile: str
    means: Means
    elsewhere: Elsewhere


class ScatteredWork:
    """The work of an import, done elsewhere (see import_.Work); groups of parts of the source are its inputs."""

    def __init__(
        self, database: Database, record: IndexRecord, opened: Import, source: Source, reading: Reading
    ) -> None:
        self._database, self._store = database, database.store
        self._record, self._opened, self._source, self._reading = record, opened, source, reading
        self._folder: JobFolder | None = None
        self._built = Built((), 0)

    def build(self) -> None:
        folder = self._folder = self._begun() or self._begin()
        reading = self._reading
        decode, identity = ImportPart.from_fields, self._database.identity
        self._built = do_job(folder, decode, reading.means, reading.elsewhere, identity)

    def upload(self, planned_on: int, work_floor: int) -> tuple[Sequence[NewSegment], Mapping[str, bytes]]:
        """What the job has made: it stays while the import is open."""
        if self._folder is None:
            self.build()
        if self._opened.since < work_floor:
            raise ObjectGone(f"segments of the import into {self._record.path} may have been collected")
        directories: dict[str, bytes] = {}
        for segment in self._built.segments:
            if sum(map(len, directories.values())) <= DIRECTORIES_BYTES_MAX:
                key = paths.segment_directory(self._record.uid, segment.name)
                directories[segment.name] = read_all(self._store, [key])[0]
        return self._built.segments, directories

    def report(self, report: Report) -> tuple[int, int]:
        """Tell all rejects in the order of the source, and end the job; how many rejects, and rows of repeated keys."""
        folder = self._folder
        if folder is None:
            return 0, 0
        names = sorted(name for name in folder.names() if name.startswith(_REJECTS))
        rejected = 0
        for name in names:
            rejects = [Reject.from_fields(one) for one in folder.read_all([name])[0].fields["rejects"]]
            report(rejects)
            rejected += len(rejects)
        folder.delete()
        return rejected, self._built.gathered - sum(segment.rows for segment in self._built.segments)

    def _begun(self) -> JobFolder | None:
        """The job of this import that an earlier run has begun."""
        for name in begun_jobs(self._store, self._record.uid):
            folder = JobFolder(self._store, self._database.runtime, self._record.uid, name)
            found = folder.read(_IMPORT)
            if found is not None and found.fields["import"] == self._opened.id:
                return folder
        return None

    def _begin(self) -> JobFolder:
        runtime, reading, config = self._database.runtime, self._reading, self._record.config
        name = paths.segment_name(self._opened.since, runtime.token())
        folder = JobFolder(self._store, runtime, self._record.uid, name)
        folder.create(_IMPORT, {"import": self._opened.id})
        inputs = [
            ImportPart(
                part,
                reading.mapping,
                reading.rules,
                reading.profile,
                self._opened.begun,
                folder.key(f"{_REJECTS}{number:08d}"),
            ).to_fields()
            for number, part in enumerate(self._source.parts)
        ]
        together = max(1, GROUP_BYTES // PART_BYTES)
        groups = [inputs[start : start + together] for start in range(0, len(inputs), together)]
        memory = reading.means.memory_bytes
        partitions = reading.elsewhere.partitions(self._source.rows, config.dimension, memory)
        shape = config.dimension, config.metric, config.non_filterable or ()
        job = Job(*shape, memory, partitions, len(groups), self._opened.begun)
        begin_job(folder, job, groups)
        return folder
