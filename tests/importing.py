"""Imports as tests make them: sources of rows in memory, and no import so small that it is written as by PutVectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from neve.compaction.build import Means
from neve.index.database import Database
from neve.segments.rows import Puts
from neve.transfer import import_
from neve.transfer.import_ import Imported, import_rows
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rejects import Reject
from neve.transfer.sources.parts import Source, SourcePart

PART_ROWS = 4
Item = tuple[str, Sequence[float], bytes]
"""Key, vector, metadata."""


@dataclass(eq=False)
class Given:
    """A source in memory, in parts of a few rows; rows of `bad` keys are rejected. Notes which parts are read."""

    items: Sequence[Item]
    dimension: int
    name: str = "given"
    bad: frozenset[str] = frozenset()
    read: list[int] = field(default_factory=list)

    @property
    def source(self) -> Source:
        starts = range(0, len(self.items), PART_ROWS)
        parts = [SourcePart(self.name, "memory", start, start + PART_ROWS, "same", start) for start in starts]
        return Source.of(parts, len(self.items), self.dimension, ColumnMapping())

    def read_part(self, part: SourcePart) -> Iterator[tuple[Puts, list[Reject]]]:
        """In two blocks."""
        self.read.append(part.start)
        items = self.items[part.start : part.stop]
        for some in (items[:1], items[1:]):
            good = [item for item in some if item[0] not in self.bad]
            rejects = [Reject(part.url, part.start, key, "bad") for key, _, _ in some if key in self.bad]
            vectors = np.array([vector for _, vector, _ in good], np.float32).reshape(-1, self.dimension)
            yield Puts([key for key, _, _ in good], vectors, [raw for _, _, raw in good]), rejects


def given(rows: Mapping[str, tuple[Sequence[float], bytes]], dimension: int, name: str = "given") -> Given:
    return Given([(key, vector, raw) for key, (vector, raw) in rows.items()], dimension, name)


def import_in(
    database: Database, folder: Path, bucket: str, index: str, rows: Given, **options: Any
) -> Imported | None:
    """An import, its workspace below `folder`; `options` as those of `import_rows` and `Means`."""
    means = {name: options.pop(name) for name in ("progress", "executor") if name in options}
    return import_rows(database, bucket, index, rows.source, rows.read_part, Means(folder, **means), **options)


@contextmanager
def all_large() -> Iterator[None]:
    """No import is so small that it is one write."""
    with patch.object(import_, "SMALL_ROWS", 0):
        yield
