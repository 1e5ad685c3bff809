"""Lists of codes in memory, and the best of the rows that a query has scanned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from neve.query.session import Session
from neve.segments.directory import Directory
from neve.segments.layout import LOCATION, code_bytes, code_row
from neve.store.blocks import Wanted
from neve.vectors.codes import CodedQuery, PackedCodes, best, levels_of

_SKIMMED = 1.6
_SKIMMED_MIN = 8
"""The finer query scores so many times the rows wanted, and a few more: what the coarser one ranks among them holds
the best (real embeddings: 31 rows for the best 17, 201 for 130)."""


@dataclass(frozen=True, slots=True, eq=False)
class CodeList:
    """One list: its codes; `numbers` float32 [3, n]; and where each row lies.

    The numbers are factors, biases, and the bits of row numbers uint32: one array, since a query joins those of many.
    """

    codes: PackedCodes
    numbers: np.ndarray
    locations: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)


def decode_list(dimension: int) -> Callable[[memoryview], CodeList]:
    """How the bytes of a list become one."""

    def decode(raw: memoryview) -> CodeList:
        table = np.frombuffer(raw, code_row(dimension))
        numbers = np.stack([table["factor"], table["bias"], table["row"].copy().view("<f4")])
        return CodeList(PackedCodes.of(table["code"]), numbers, table[list(LOCATION)].astype(_LOCATION))

    return decode


_LOCATION = np.dtype([(name, code_row(1)[name]) for name in LOCATION])


def want_lists(directory: Directory, lists: np.ndarray) -> list[Wanted]:
    """The blocks of some lists that have rows."""
    lists = _with_rows(directory, lists)
    dimension = directory.dimension
    decode = decode_list(dimension)
    value_bytes = code_bytes(dimension) + 12 + _LOCATION.itemsize
    row_bytes = code_row(dimension).itemsize
    return [
        Wanted(block, decode, (block.stop - block.start) // row_bytes * value_bytes)
        for block in directory.list_blocks(lists)
    ]


def held_lists(session: Session, directory: Directory, lists: np.ndarray) -> list[CodeList | None]:
    """Some lists, in the order asked, without empty ones; None for those that are not in memory."""
    lists = _with_rows(directory, lists)
    starts = directory.list_starts[lists] * np.uint64(code_row(directory.dimension).itemsize)
    starts += np.uint64(directory.codes_offset)
    key = directory.folder + directory.codes_object
    return session.held([(key, start) for start in starts.tolist()])


def _with_rows(directory: Directory, lists: np.ndarray) -> np.ndarray:
    some: np.ndarray = lists[directory.list_starts[lists] < directory.list_starts[lists + 1]]
    return some


class Scanned:
    """The rows of some lists of one segment, scored by their codes, but for those that are `masked` (bool [rows])."""

    __slots__ = ("_lists", "_numbers", "_query", "_rows", "_scores", "_starts")

    def __init__(self, lists: Sequence[CodeList], query: CodedQuery, masked: np.ndarray | None) -> None:
        self._lists = lists
        self._query = query
        starts = list(accumulate((one.codes.nibbles.shape[0] for one in lists), initial=0))
        self._starts = np.array(starts)
        numbers = np.concatenate([np.empty((3, 0), np.float32), *(one.numbers for one in lists)], axis=1)
        self._numbers = numbers
        self._rows = numbers[2].view("<u4")
        self._scores = query.skim([one.codes for one in lists], starts, numbers[0], numbers[1])
        if masked is not None:
            self._scores[masked[self._rows]] = -np.inf

    def __len__(self) -> int:
        return len(self._scores)

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and scores of the `count` best rows, each once, best first; all where there are fewer.

        The best by the skim, and some more, are scored by the finer query.
        """
        places = best(self._scores, self._rows, int(_SKIMMED * count) + _SKIMMED_MIN)
        if not len(places):
            return places, np.empty(0, np.float32)
        nibbles = np.empty((len(places), self._lists[0].codes.nibbles.shape[1]), np.uint8)
        for some, list_, within in self._by_list(places):
            nibbles[some] = list_.codes.nibbles[within]
        levels = levels_of(nibbles, self._query.levels.shape[1])
        scores = self._query.scan([levels], self._numbers[0][places], self._numbers[1][places])
        order = np.argsort(-scores, kind="stable")[:count]
        return places[order], scores[order]

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Row numbers uint32 [n] of some places."""
        found: np.ndarray = self._rows[places]
        return found

    def locations(self, places: np.ndarray) -> np.ndarray:
        """Locations [n] (see LOCATION) of some places."""
        found = np.empty(len(places), _LOCATION)
        for some, list_, within in self._by_list(places):
            found[some] = list_.locations[within]
        return found

    def _by_list(self, places: np.ndarray) -> Iterator[tuple[np.ndarray, CodeList, np.ndarray]]:
        """Some places grouped by list: which of `places`, the list, and the rows within it."""
        lists = np.searchsorted(self._starts, places, side="right") - 1
        within = places - self._starts[lists]
        order = np.argsort(lists, kind="stable")
        edges = np.flatnonzero(np.diff(lists[order], prepend=-1, append=-1))
        for start, stop in pairwise(edges.tolist()):
            some = order[start:stop]
            yield some, self._lists[lists[some[0]]], within[some]
