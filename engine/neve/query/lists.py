"""Lists of codes in memory, and the best of the rows that a query has scanned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise

import numpy as np

from neve.dataclass import dataclass
from neve.query.session import Session
from neve.segments.directory import Directory
from neve.segments.layout import LOCATION, code_bytes, code_row
from neve.store.blocks import Slab, Wanted
from neve.vectors.codes import CodedQuery, PackedCodes, best, levels_of

SLAB_BYTES = 1 << 20
"""Codes that share a slab: some twenty lists of 384 dimensions. Of 160 lists that a query reads 85 then
follow another one in memory; larger slabs join few more, and one is evicted whole."""
_SKIMMED = 1.6
_SKIMMED_MIN = 8
"""The finer query scores so many times the rows wanted, and a few more: what the coarser one ranks among them holds
the best (real embeddings: 31 rows for the best 17, 201 for 130)."""
LOCATION_ROW = np.dtype([(name, code_row(1)[name]) for name in LOCATION])
"""Where a row's vector and record lie."""


@dataclass(frozen=True, slots=True, eq=False)
class CodeSlab:
    """Room for the code rows from `first` on: codes; `numbers` float32 [3, n]; and where each row lies.

    The numbers are factors, biases, and the bits of row numbers uint32: one array, since a query joins those of many.
    """

    first: int
    codes: PackedCodes
    numbers: np.ndarray
    locations: np.ndarray

    @classmethod
    def room(cls, first: int, count: int, dimension: int) -> CodeSlab:
        codes = PackedCodes.room(count, code_bytes(dimension))
        return cls(first, codes, np.empty((3, count), np.float32), np.empty(count, LOCATION_ROW))

    @property
    def size_bytes(self) -> int:
        return self.codes.nibbles.nbytes + self.numbers.nbytes + self.locations.nbytes

    @property
    def whole(self) -> CodeRun:
        """All its rows."""
        return CodeRun(self, 0, len(self.locations))


@dataclass(frozen=True, slots=True, eq=False)
class CodeRun:
    """Neighbouring rows of a slab: those of a list, or of several that follow one another."""

    slab: CodeSlab
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def numbers(self) -> np.ndarray:
        return self.slab.numbers[:, self.start : self.stop]


def skimmed_rows(count: int) -> int:
    """How many rows are scored by the finer query for the `count` best."""
    return int(_SKIMMED * count) + _SKIMMED_MIN


def decode_list(dimension: int, first: int, raw: memoryview, slab: CodeSlab) -> CodeRun:
    """Put the bytes of a list, whose first code row that is, in its place in a slab."""
    table = np.frombuffer(raw, code_row(dimension))
    start = first - slab.first
    run = CodeRun(slab, start, start + len(table))
    slab.codes.put(start, table["code"])
    run.numbers[0], run.numbers[1] = table["factor"], table["bias"]
    run.numbers[2].view("<u4")[:] = table["row"]
    slab.locations[run.start : run.stop] = table[list(LOCATION)]
    return run


def want_lists(directory: Directory, lists: np.ndarray) -> list[Wanted]:
    """The blocks of some lists that have rows."""
    lists = _with_rows(directory, lists)
    dimension, row_bytes = directory.dimension, code_row(directory.dimension).itemsize
    value_bytes = code_bytes(dimension) + 12 + LOCATION_ROW.itemsize
    wanted = []
    for block in directory.list_blocks(lists):
        first, rows = (block.start - directory.codes_offset) // row_bytes, (block.stop - block.start) // row_bytes
        decode = partial(decode_list, dimension, first)
        wanted.append(Wanted(block, decode, rows * value_bytes, _slab(directory, block.key, first)))
    return wanted


def _slab(directory: Directory, key: str, row: int) -> Slab:
    """The slab of the list that begins at a code row: it ends where the first list begins that has another."""
    step = max(1, SLAB_BYTES // code_bytes(directory.dimension))
    number = row // step

    def make() -> CodeSlab:
        bounds = np.array([number, number + 1], np.uint64) * np.uint64(step)
        edges = np.searchsorted(directory.list_starts, bounds).clip(max=directory.lists)
        first, stop = directory.list_starts[edges]
        return CodeSlab.room(int(first), int(stop - first), directory.dimension)

    return Slab((key, -1 - number), make)


def held_lists(session: Session, directory: Directory, lists: np.ndarray) -> list[CodeRun | None]:
    """Some lists in the order of their numbers, without empty ones; None for those that are not in memory."""
    lists = np.sort(_with_rows(directory, lists))
    starts = directory.list_starts[lists] * np.uint64(code_row(directory.dimension).itemsize)
    starts += np.uint64(directory.codes_offset)
    key = directory.folder + directory.codes_object
    return session.held([(key, start) for start in starts.tolist()])


def gather(session: Session, directory: Directory, rows: np.ndarray) -> CodeSlab | None:
    """The codes of some rows, ascending, side by side; None unless their lists are all in memory. No request."""
    lists = np.searchsorted(directory.primary_starts, rows, side="right") - 1
    some, firsts = np.unique(lists, return_index=True)
    held = [one for one in held_lists(session, directory, some) if one is not None]
    if len(held) < len(some):
        return None
    places = directory.list_starts[lists].astype(np.int64) + (rows - directory.primary_starts[lists])
    slab = CodeSlab.room(0, len(rows), directory.dimension)
    edges = [*firsts.tolist(), len(rows)]
    list_ = 0
    while list_ < len(held):
        source, first = held[list_].slab, edges[list_]
        while list_ < len(held) and held[list_].slab is source:
            list_ += 1
        here, there = slice(first, edges[list_]), places[first : edges[list_]] - source.first
        slab.codes.nibbles[here] = source.codes.nibbles[there]
        slab.numbers[:, here] = source.numbers[:, there]
        slab.locations[here] = source.locations[there]
    return slab


def _with_rows(directory: Directory, lists: np.ndarray) -> np.ndarray:
    some: np.ndarray = lists[directory.list_starts[lists] < directory.list_starts[lists + 1]]
    return some


def _joined(lists: Sequence[CodeRun]) -> list[CodeRun]:
    """The same rows in fewer runs, since each costs a call of the kernel."""
    runs: list[CodeRun] = []
    for one in lists:
        last = runs[-1] if runs else None
        if last is not None and last.slab is one.slab and last.stop == one.start:
            runs[-1] = CodeRun(one.slab, last.start, one.stop)
        else:
            runs.append(one)
    return runs


class Scanned:
    """The rows of some lists of one segment, scored by their codes, but for those that are `masked` (bool [rows])."""

    __slots__ = ("_numbers", "_query", "_rows", "_runs", "_scores", "_shifts", "_starts")

    def __init__(self, lists: Sequence[CodeRun], query: CodedQuery, masked: np.ndarray | None) -> None:
        """`lists` are in the order of their numbers."""
        runs = self._runs = _joined(lists)
        self._query = query
        starts = list(accumulate((one.stop - one.start for one in runs), initial=0))
        self._starts = np.array(starts)
        self._shifts = self._starts[:-1] - [one.start for one in runs]
        numbers = np.concatenate([np.empty((3, 0), np.float32), *(one.numbers for one in runs)], axis=1)
        self._numbers = numbers
        self._rows = numbers[2].view("<u4")
        codes = [one.slab.codes.rows(one.start, one.stop) for one in runs]
        self._scores = query.skim(codes, starts, numbers[0], numbers[1])
        if masked is not None:
            self._scores[masked[self._rows]] = -np.inf

    def __len__(self) -> int:
        return len(self._scores)

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and scores of the `count` best rows, each once, best first; all where there are fewer.

        The best by the skim, and some more, are scored by the finer query.
        """
        places, _ = self.skimmed(skimmed_rows(count))
        scores = self.scored(places)
        order = np.argsort(-scores, kind="stable")[:count]
        return places[order], scores[order]

    def skimmed(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and scores of the `count` best rows by the coarser query, each once, best first."""
        places = best(self._scores, self._rows, count)
        return places, self._scores[places]

    def scored(self, places: np.ndarray) -> np.ndarray:
        """Scores float32 [n] of some places by the finer query."""
        if not len(places):
            return np.empty(0, np.float32)
        nibbles = self._gathered(places, lambda slab: slab.codes.nibbles)
        levels = levels_of(nibbles, self._query.levels.shape[1])
        return self._query.scan([levels], self._numbers[0][places], self._numbers[1][places])

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Row numbers uint32 [n] of some places."""
        found: np.ndarray = self._rows[places]
        return found

    def locations(self, places: np.ndarray) -> np.ndarray:
        """Locations [n] (see LOCATION) of some places."""
        if not len(places):
            return np.empty(0, LOCATION_ROW)
        return self._gathered(places, lambda slab: slab.locations)

    def _gathered(self, places: np.ndarray, column: Callable[[CodeSlab], np.ndarray]) -> np.ndarray:
        """What a column of the slabs holds for some places, at least one."""
        sample = column(self._runs[0].slab)
        found = np.empty((len(places), *sample.shape[1:]), sample.dtype)
        runs = np.searchsorted(self._starts, places, side="right") - 1
        order = np.argsort(runs, kind="stable")
        runs, rows = runs[order], (places - self._shifts[runs])[order]
        edges = np.flatnonzero(runs[1:] != runs[:-1]) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(runs)]):
            found[order[start:stop]] = column(self._runs[runs[start]].slab)[rows[start:stop]]
        return found
