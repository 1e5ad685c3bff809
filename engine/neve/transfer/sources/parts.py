"""What a source is made of: parts that a worker can read on its own, named by file and range."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson

from neve.transfer.mapping import ColumnMapping
from neve.transfer.rules import Raw

PART_BYTES = 64 << 20
PART_ROWS = 100_000
"""A part has no more vectors than that, unless a row group has."""


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A range of one file, with which it stands for rows: names and numbers only.

    [start, stop) counts rows; in JSONL bytes, where lines that begin in the range belong to it, and of a remote index
    list segments. `base` rows come before it in the source: rows without keys are numbered on from there.
    """

    url: str
    format: str
    start: int
    stop: int
    fingerprint: str
    base: int = 0

    def to_fields(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> SourcePart:
        """Raises TypeError on what is none."""
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Source:
    """A planned import. `rows` is an estimate for JSONL and remote indexes; `dimension` that of its first vector."""

    parts: tuple[SourcePart, ...]
    rows: int
    dimension: int
    digest: str
    """Of all parts and the mapping: the same source, unchanged, read the same way."""

    @classmethod
    def of(cls, parts: Sequence[SourcePart], rows: int, dimension: int, mapping: ColumnMapping) -> Source:
        fields = [[part.to_fields() for part in parts], mapping.to_fields()]
        digest = hashlib.blake2b(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
        return cls(tuple(parts), rows, dimension, digest)


@dataclass(frozen=True, slots=True)
class Head:
    """What planning learns of a file: rows, dimension (0: there is no vector), where parts may end (ascending, the
    last is the end of the file), and how long they should be at most.
    """

    rows: int
    dimension: int
    cuts: Sequence[int]
    step: int


class Format(Protocol):
    """One format of files."""

    def fingerprint(self, url: str, mapping: ColumnMapping) -> str:
        """Another one says that the file has changed. Raises SourceUnfit."""
        ...

    def head(self, url: str, mapping: ColumnMapping) -> Head:
        """Reads as little as the format allows. Raises SourceUnfit."""
        ...

    def read(self, part: SourcePart, mapping: ColumnMapping, dimension: int, block_rows: int) -> Iterator[Raw]:
        """The rows of a part in blocks of at most `block_rows`. Raises SourceUnfit."""
        ...


def part_rows(dimension: int) -> int:
    """The most rows that a part should have."""
    return max(1, min(PART_ROWS, PART_BYTES // (4 * max(1, dimension))))


def even_cuts(length: int, step: int) -> list[int]:
    """Where parts end of what may be cut anywhere."""
    return [*range(step, length, step), length] if length else []


def split(head: Head, url: str, format_: str, fingerprint: str, base: int) -> Iterator[SourcePart]:
    """The parts of a file: each has as many stretches between cuts as are within its step, and at least one."""
    start = stop = 0
    for cut in head.cuts:
        if stop > start and cut - start > head.step:
            yield SourcePart(url, format_, start, stop, fingerprint, base + start)
            start = stop
        stop = cut
    if stop > start:
        yield SourcePart(url, format_, start, stop, fingerprint, base + start)
