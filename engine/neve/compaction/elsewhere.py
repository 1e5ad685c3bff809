"""Work that is done on other machines: who hands it out needs to know no more than names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from neve.compaction.build import Means, NewSegment, do_all
from neve.compaction.jobs import INPUTS, JOB, Job, JobFolder
from neve.compaction.parts import Input
from neve.compaction.scatter import Place, Stage, output, stages, work

SEGMENT_ROWS = 4 << 20
"""Rows of a segment, on average: what one machine builds in hours, with a directory of some tens of megabytes."""
ROW_BYTES = 100
"""Memory that building takes for each row of a segment, beside the sample that its clustering learns from."""
GROUP_BYTES = 2 << 30
"""Vectors that one task reads and splits."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where work is done that is not done here; the executor of its means hands it out."""

    url: str
    """The store's, as each worker finds it: without secrets."""
    segment_rows: int = SEGMENT_ROWS

    def partitions(self, rows: int, dimension: int, memory_bytes: int) -> int:
        """Into how many segments so many rows go, each built in the memory of one worker.

        An eighth of it has a sample of 16 points a list, or an eighth of the vectors. On the prose set the 128 best
        lists have 0.946 of the true ten then, with 8 points 0.928, and with the 64 that training takes at most 0.956.
        """
        rows_max = memory_bytes // (ROW_BYTES + 4 * dimension)
        return max(1, -(-rows // max(1, min(self.segment_rows, rows_max))))


@dataclass(frozen=True, slots=True)
class Built:
    """What a job has made out of so many `gathered` rows; of rows of the same key one is in a segment."""

    segments: Sequence[NewSegment]
    gathered: int


def begin_job(folder: JobFolder, job: Job, inputs: Sequence[Sequence[list[Any]]]) -> None:
    """Write what the tasks of a job need, groups of inputs as fields; it has begun when this returns. 2 PUT."""
    folder.create(INPUTS, {"inputs": inputs})
    folder.create(JOB, {"job": job.to_fields()})


def do_job(
    folder: JobFolder, decode: Callable[[list[Any]], Input], means: Means, elsewhere: Elsewhere, identity: str
) -> Built:
    """Have all tasks of a job done that are not, and tell what it has made.

    Raises ObjectGone when the job was given up, ClusterLost, and what tasks raise.
    """
    place = Place(elsewhere.url, identity, folder.uid, folder.name)
    job, inputs = folder.job(), folder.read_all([INPUTS])[0].fields["inputs"]
    there, done = folder.names(), set()
    for stage, tasks in stages(job, inputs, place):
        done.add(stage)
        do_all(means, stage, partial(work, decode), [task.encode() for task in tasks if output(task) not in there])
    outputs = folder.read_all([f"{Stage.BUILD}-{number}" for number in range(job.partitions)])
    segments = [NewSegment.from_fields(found.fields["segment"]) for found in outputs if found.fields["segment"]]
    gathered = sum(found.fields["gathered"] for found in outputs)
    if Stage.REPEATS in done:
        left_out = folder.read_all([f"{Stage.REPEATS}-{number}" for number in range(job.partitions)])
        gathered += sum(len(found.sections["rows"]) for found in left_out)
    return Built(segments, gathered)
