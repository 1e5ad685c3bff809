"""Columns of byte strings: one run of bytes and the offsets into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True, slots=True)
class Column:
    """Immutable byte strings; `data` uint8 [bytes], `offsets` uint64 [n + 1]."""

    data: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, values: Sequence[bytes]) -> Column:
        offsets = np.zeros(len(values) + 1, np.uint64)
        np.cumsum(np.fromiter(map(len, values), np.uint64, len(values)), out=offsets[1:])
        return cls(np.frombuffer(b"".join(values), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.data[int(self.offsets[row]) : int(self.offsets[row + 1])].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        raw = self.data.tobytes()
        return (raw[start:stop] for start, stop in pairwise(self.offsets.tolist()))

    def pick(self, rows: Iterable[int]) -> list[bytes]:
        """The values of some rows, in the order asked."""
        return [self[row] for row in rows]

    def take(self, rows: np.ndarray) -> Column:
        """A column of some rows, in the order asked."""
        values = list(self) if 4 * len(rows) > len(self) else None
        return Column.of([values[row] for row in rows] if values is not None else self.pick(rows))


def concatenate(columns: Sequence[Column]) -> Column:
    """All values of several columns, one after the other."""
    if not columns:
        return Column.of([])
    offsets, base = [np.zeros(1, np.uint64)], np.uint64(0)
    for column in columns:
        offsets.append(column.offsets[1:] + base)
        base += column.offsets[-1]
    return Column(np.concatenate([column.data for column in columns]), np.concatenate(offsets))
