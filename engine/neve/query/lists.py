"""Lists of codes in memory, and the best of the rows that a query has scanned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from neve.query.session import Session
from neve.segments.directory import Directory
from neve.segments.layout import LOCATION, code_row
from neve.store.blocks import Wanted
from neve.vectors.codes import CodedQuery, best, unpack


@dataclass(frozen=True, slots=True, eq=False)
class CodeList:
    """One list: levels int8 [n, d]; `numbers` float32 [3, n]; and where each row lies.

    The numbers are factors, biases, and the bits of row numbers uint32: one array, since a query joins those of many.
    """

    levels: np.ndarray
    numbers: np.ndarray
    locations: np.ndarray

    def __len__(self) -> int:
        return len(self.levels)


def decode_list(dimension: int) -> Callable[[memoryview], CodeList]:
    """How the bytes of a list become one."""

    def decode(raw: memoryview) -> CodeList:
        table = np.frombuffer(raw, code_row(dimension))
        numbers = np.stack([table["factor"], table["bias"], table["row"].copy().view("<f4")])
        return CodeList(unpack(table["code"], dimension), numbers, table[list(LOCATION)].astype(_LOCATION))

    return decode


_LOCATION = np.dtype([(name, code_row(1)[name]) for name in LOCATION])


def want_lists(directory: Directory, lists: np.ndarray) -> list[Wanted]:
    """The blocks of some lists that have rows."""
    lists = _with_rows(directory, lists)
    dimension = directory.dimension
    decode = decode_list(dimension)
    value_bytes = dimension + 12 + _LOCATION.itemsize
    row_bytes = code_row(dimension).itemsize
    return [
        Wanted(block, decode, (block.stop - block.start) // row_bytes * value_bytes)
        for block in directory.list_blocks(lists)
    ]


def missing_lists(session: Session, directory: Directory, lists: np.ndarray) -> list[Wanted]:
    """The blocks of those of some lists that are not in memory."""
    lists = _with_rows(directory, lists)
    missing = [place for place, value in enumerate(_held(session, directory, lists)) if value is None]
    return want_lists(directory, lists[missing]) if missing else []


def read_lists(session: Session, directory: Directory, lists: np.ndarray) -> list[CodeList]:
    """Some lists, in the order asked, without empty ones; in memory, or read in one wave. Raises StoreError."""
    lists = _with_rows(directory, lists)
    held = _held(session, directory, lists)
    missing = [place for place, value in enumerate(held) if value is None]
    if missing:
        for place, value in zip(missing, session.read(want_lists(directory, lists[missing])), strict=True):
            held[place] = value
    return [value for value in held if value is not None]


def _held(session: Session, directory: Directory, lists: np.ndarray) -> list[CodeList | None]:
    """Lists that are in memory, None for the others."""
    starts = directory.list_starts[lists] * np.uint64(code_row(directory.dimension).itemsize)
    starts += np.uint64(directory.codes_offset)
    key = directory.folder + directory.codes_object
    return session.held([(key, start) for start in starts.tolist()])


def _with_rows(directory: Directory, lists: np.ndarray) -> np.ndarray:
    some: np.ndarray = lists[directory.list_starts[lists] < directory.list_starts[lists + 1]]
    return some


class Scanned:
    """The rows of some lists of one segment, scored by their codes, but for those that are `masked` (bool [rows])."""

    __slots__ = ("_lists", "_rows", "_starts", "scores")

    def __init__(self, lists: Sequence[CodeList], query: CodedQuery, masked: np.ndarray | None) -> None:
        self._lists = lists
        self._starts = np.cumsum([0, *map(len, lists)])
        numbers = np.concatenate([np.empty((3, 0), np.float32), *(one.numbers for one in lists)], axis=1)
        self._rows = numbers[2].view("<u4")
        self.scores = query.scan([one.levels for one in lists], numbers[0], numbers[1])
        if masked is not None:
            self.scores[masked[self._rows]] = -np.inf

    def __len__(self) -> int:
        return len(self.scores)

    def best(self, count: int) -> np.ndarray:
        """Places of the `count` best rows, each once, best first; all where there are fewer."""
        return best(self.scores, self._rows, count)

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Row numbers uint32 [n] of some places."""
        found: np.ndarray = self._rows[places]
        return found

    def locations(self, places: np.ndarray) -> np.ndarray:
        """Locations [n] (see LOCATION) of some places."""
        found = np.empty(len(places), _LOCATION)
        lists = np.searchsorted(self._starts, places, side="right") - 1
        within = places - self._starts[lists]
        order = np.argsort(lists, kind="stable")
        edges = np.flatnonzero(np.diff(lists[order], prepend=-1, append=-1))
        for start, stop in pairwise(edges.tolist()):
            some = order[start:stop]
            found[some] = self._lists[lists[some[0]]].locations[within[some]]
        return found
