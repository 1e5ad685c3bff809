"""Writing the filter index of a segment: rows by term, in bounded memory, then blocks in the order of terms."""

from __future__ import annotations

import heapq
import struct
import zlib
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import orjson

from neve.segments.columns import Column
from neve.segments.filters import ALONE, MANY, FilterIndex
from neve.segments.terms import DENSE_SHARE, Kind, TermBlock, number_bytes, stem, stem_of, text_term

BLOCK_POSTINGS = 8192
"""Rows of a block, unless it is a bitmap: about 8 KiB, which cost a request less than its wait."""
BLOCK_TEXT_BYTES = 1 << 16
MEMORY_BYTES = 128 << 20
_TERM_BYTES, _KEY_BYTES = 200, 1600
"""What a term, and a metadata key, take in memory beside text and rows."""
_RUN_HEAD = struct.Struct("<II")

_KINDS = (Kind.BOOLEAN, Kind.NUMBER, Kind.STRING)
_KIND_OF: Mapping[type, Kind] = {bool: Kind.BOOLEAN, int: Kind.NUMBER, float: Kind.NUMBER, str: Kind.STRING}

Posting: TypeAlias = tuple[bytes, np.ndarray]
"""A term and its rows uint32, rising."""


class _KeyRows:
    """Rows by value of one metadata key; `kinds` are the rows with any value of a kind."""

    __slots__ = ("kinds", "rows", "values")

    def __init__(self) -> None:
        self.rows = array("I")
        self.kinds: dict[Kind, array[int]] = {kind: array("I") for kind in _KINDS}
        self.values: dict[Kind, dict[Any, array[int]]] = {kind: {} for kind in _KINDS}

    def add_all(self, row: int, values: Sequence[object]) -> int:
        """Enter a row under the elements of an array; the bytes that new terms take, but for their rows."""
        new = 0
        for value in values:
            kind = _KIND_OF.get(type(value))
            if kind is None:
                continue
            if kind is Kind.NUMBER and isinstance(value, int):
                value = float(value)  # of integers beyond 2^53 several are one double
            with_kind, table = self.kinds[kind], self.values[kind]
            if not with_kind or with_kind[-1] != row:
                with_kind.append(row)
            rows = table.get(value)
            if rows is None:
                table[value] = array("I", (row,))
                new += _TERM_BYTES + (len(value) if isinstance(value, str) else 0)
            elif rows[-1] != row:
                rows.append(row)
        return new

    def postings(self, key: str) -> Iterator[tuple[bytes, array[int]]]:
        """In no order."""
        yield stem(key, Kind.ROWS), self.rows
        yield from ((stem(key, Kind.ROWS) + bytes([kind]), rows) for kind, rows in self.kinds.items() if rows)
        booleans, numbers, texts = (self.values[kind].items() for kind in _KINDS)
        yield from ((stem(key, Kind.BOOLEAN) + bytes([value]), rows) for value, rows in booleans)
        yield from ((stem(key, Kind.NUMBER) + number_bytes(float(value)), rows) for value, rows in numbers)
        yield from ((text_term(key, value), rows) for value, rows in texts)


class TermRows:
    """The rows of each term of some metadata, gathered in about MEMORY_BYTES, the rest in files of a folder."""

    def __init__(self, folder: Path, ignored: Collection[str]) -> None:
        """`ignored`: metadata keys that cannot be filtered on."""
        folder.mkdir()
        self._folder = folder
        self._ignored = frozenset(ignored)
        self._keys: dict[str, _KeyRows] = {}
        self._bytes = 0
        self._runs: list[Path] = []
        self.rows = 0
        """How many have been entered."""

    def add(self, first: int, metadata: Iterable[bytes]) -> None:
        """Enter rows from number `first` on; `metadata` are JSON objects. Raises OSError."""
        keys, ignored, kind_of, loads = self._keys, self._ignored, _KIND_OF, orjson.loads
        new = postings = 0
        for row, raw in enumerate(metadata, first):
            self.rows = row + 1
            for key, value in loads(raw).items():
                if key in ignored:
                    continue
                rows = keys.get(key)
                if rows is None:
                    rows = keys[key] = _KeyRows()
                    new += _KEY_BYTES
                rows.rows.append(row)
                postings += 3
                kind = kind_of.get(type(value))
                if kind is None:
                    if isinstance(value, list):
                        postings += len(value)
                        new += rows.add_all(row, value)
                    continue
                if kind is Kind.NUMBER:
                    value = float(value)
                rows.kinds[kind].append(row)  # what add_all does, without a call for each of millions of scalars
                table = rows.values[kind]
                with_value = table.get(value)
                if with_value is None:
                    table[value] = array("I", (row,))
                    new += _TERM_BYTES + (len(value) if kind is Kind.STRING else 0)
                else:
                    with_value.append(row)
        self._bytes += new + 4 * postings
        if self._bytes >= MEMORY_BYTES:
            self._spill()

    def postings(self) -> Iterator[Posting]:
        """All terms in ascending order, once each. Raises OSError."""
        runs = [_read_run(path) for path in self._runs]
        held = ((term, np.frombuffer(rows, np.uint32)) for term, rows in self._sorted())
        merged = heapq.merge(*runs, held, key=lambda posting: posting[0])  # stable: runs are in the order of rows
        for term, parts in groupby(merged, key=lambda posting: posting[0]):
            rows = [rows for _, rows in parts]
            yield term, rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _sorted(self) -> list[tuple[bytes, array[int]]]:
        found = [posting for key, rows in self._keys.items() for posting in rows.postings(key)]
        found.sort(key=lambda posting: posting[0])
        return found

    def _spill(self) -> None:
        path = self._folder / str(len(self._runs))
        with path.open("wb") as file:
            for term, rows in self._sorted():
                file.write(_RUN_HEAD.pack(len(term), len(rows)) + term)
                rows.tofile(file)
        self._runs.append(path)
        self._keys, self._bytes = {}, 0


def _read_run(path: Path) -> Iterator[Posting]:
    with path.open("rb") as file:
        while head := file.read(_RUN_HEAD.size):
            term_bytes, rows = _RUN_HEAD.unpack(head)
            yield file.read(term_bytes), np.frombuffer(file.read(4 * rows), np.uint32)


def write_terms(path: Path, postings: Iterable[Posting], segment_rows: int) -> FilterIndex:
    """Write the blocks of ascending terms of a segment of so many rows; what the directory says of them."""
    with path.open("wb") as file:
        blocks = _Blocks(file, segment_rows)
        for term, rows in postings:
            blocks.add(term, rows)
        return blocks.commit(path.name)


class _Blocks:
    """Blocks of terms as they are written."""

    def __init__(self, file: IO[bytes], segment_rows: int) -> None:
        self._file, self._segment_rows = file, segment_rows
        self._terms: list[bytes] = []
        self._parts: list[np.ndarray] = []
        self._text_bytes = self._postings = 0
        self._last = b""
        self._heads: list[bytes] = []
        self._sizes, self._crcs, self._counts = [0], list[int](), list[int]()
        self._flags: list[int] = []
        self._stem = b""
        self._stem_block = self._stem_postings = self._numbers = 0

    def add(self, term: bytes, rows: np.ndarray) -> None:
        self._count(term, len(rows))
        if len(rows) * DENSE_SHARE >= self._segment_rows and len(rows) > BLOCK_POSTINGS // DENSE_SHARE:
            self._flush()
            self._take(term, rows)
            self._flush()
            return
        for start in range(0, len(rows), BLOCK_POSTINGS):
            some = rows[start : start + BLOCK_POSTINGS]
            if self._postings + len(some) > BLOCK_POSTINGS or self._text_bytes > BLOCK_TEXT_BYTES:
                self._flush()
            self._take(term, some)

    def commit(self, name: str) -> FilterIndex:
        self._count(b"\xff" + b"\0\0\0", 0)
        self._flush()
        return FilterIndex(
            name,
            self._heads,
            np.cumsum(self._sizes, dtype=np.uint64),
            np.array(self._crcs, np.uint32),
            np.array(self._counts, np.uint32),
            np.array(self._flags, np.uint8),
        )

    def _count(self, term: bytes, count: int) -> None:
        """Flag the blocks of the numbers of a key, once they are over, if they are more than its rows with numbers."""
        begins = stem_of(term)
        if begins != self._stem:
            if self._stem[-1:] == bytes([Kind.NUMBER]) and self._stem_postings > self._numbers:
                self._flush()
                for block in range(self._stem_block, len(self._flags)):
                    self._flags[block] |= MANY
            self._stem, self._stem_block, self._stem_postings = begins, len(self._flags), 0
        self._stem_postings += count
        if term[-2:] == bytes([Kind.ROWS, Kind.NUMBER]) and term[:-1] == begins:
            self._numbers = count

    def _take(self, term: bytes, rows: np.ndarray) -> None:
        self._terms.append(term)
        self._parts.append(rows)
        self._postings += len(rows)
        self._text_bytes += len(term)

    def _flush(self) -> None:
        if not self._terms:
            return
        first, last = self._terms[0], self._terms[-1]
        prefix = first[: _shared(first, last)]
        suffixes = Column.of([term[len(prefix) :] for term in self._terms])
        ends = np.cumsum([0, *map(len, self._parts)]).astype(np.uint32)
        raw = TermBlock(prefix, suffixes, ends, np.concatenate(self._parts)).encode(self._segment_rows)
        self._sizes.append(self._file.write(raw))
        self._crcs.append(zlib.crc32(raw))
        self._counts.append(self._postings)
        alone = len(self._terms) == 1
        self._flags.append(ALONE if alone else 0)
        self._heads.append(first if alone else first[: _shared(self._last, first) + 1])
        self._last = last
        self._terms, self._parts, self._postings, self._text_bytes = [], [], 0, 0


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    return next(
        (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )
