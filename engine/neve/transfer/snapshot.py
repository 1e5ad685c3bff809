"""All rows of one state of an index, in blocks; and a digest by which two sets of rows are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson

from neve.api.document import dump_json, parse_json
from neve.compaction.gather import fetching
from neve.errors import Malformed, ObjectGone, TransferError
from neve.index.database import Database
from neve.index.state import Compacted, State
from neve.segments.layout import KEY_ENTRY
from neve.segments.rows import Puts
from neve.segments.stream import row_blocks, row_entries

_BLOCK_BYTES = 8 << 20
_EXACT = float(1 << 53)


@dataclass(slots=True)
class Tally:
    """How many rows, and the order-free digest of their keys, vectors and metadata: a sum modulo 2^64."""

    rows: int = 0
    digest: int = 0

    def add(self, digests: np.ndarray) -> None:
        """Digests of some rows, uint64 [n]."""
        self.rows += len(digests)
        self.digest = (self.digest + int(np.sum(digests, dtype=np.uint64))) % 2**64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of an index, which goes on to be readable for as long as its files are there: an hour at least."""

    database: Database
    state: State

    @classmethod
    def of(cls, database: Database, bucket: str, name: str) -> Snapshot:
        """The newest state. Raises IndexNotFound, StoreError."""
        return cls(database, database.index(bucket, name).read())

    @property
    def rows(self) -> int:
        """How many rows there are, or some more: compacted ones that are overwritten recently are counted twice."""
        return self.state.live_rows

    def blocks(self) -> Iterator[Puts]:
        """All rows, each once, in blocks of at most 8 MiB of vectors and of records each; in no order that matters.

        Reads each compacted segment once, in ranges of 8 MiB; memory: a block, and the recent rows. Raises
        TransferError where compactions have had a file collected meanwhile, ObjectCorrupt, StoreError, OSError.
        """
        try:
            yield from self._recent()
            for compacted in self.state.compacted:
                yield from self._compacted(compacted)
        except ObjectGone as error:
            problem = "was compacted while it was read, and what was superseded has been collected"
            raise TransferError(f"{self.state.record.path} {problem} ({error}): start again") from error

    def _recent(self) -> Iterator[Puts]:
        step = max(1, _BLOCK_BYTES // (4 * self.state.config.dimension))
        for part in self.state.parts:
            live = np.flatnonzero(part.live)
            for start in range(0, len(live), step):
                rows = part.rows.take(live[start : start + step])
                yield Puts([key.decode() for key in rows.keys.keys], rows.vectors, list(rows.metadata))

    def _compacted(self, compacted: Compacted) -> Iterator[Puts]:
        directory, fetch = compacted.directory, fetching(self.database.store)
        with TemporaryDirectory(prefix="neve-") as scratch:
            entries = np.memmap(Path(scratch) / "entries", KEY_ENTRY, "w+", shape=directory.rows)
            start = 0
            for block in row_blocks(directory, fetch, row_entries(directory, fetch, entries)):
                alive = np.ones(len(block), np.bool_)
                if compacted.masked is not None:
                    alive = ~compacted.masked[start : start + len(block)]
                for row in np.flatnonzero(alive & self.state.may_hide(block.hashes)).tolist():
                    alive[row] = not self.state.hides(int(block.hashes[row]), block.keys[row])
                start += len(block)
                live = np.flatnonzero(alive).tolist()
                keys, metadata = (column.pick(live) for column in (block.keys, block.metadata))
                yield Puts([key.decode() for key in keys], block.vectors[live], metadata)


def digests(puts: Puts) -> np.ndarray:
    """A 64-bit digest of each row, uint64 [n], by what it says: order and spelling of its metadata do not matter."""
    width = 4 * puts.vectors.shape[1]
    vectors = memoryview(np.ascontiguousarray(puts.vectors, "<f4").tobytes())
    found = bytearray()
    for row, (key, metadata) in enumerate(zip(puts.keys, puts.metadata, strict=True)):
        raw = key.encode()
        parts = (len(raw).to_bytes(4, "little"), raw, vectors[row * width : (row + 1) * width], canonical(metadata))
        found += hashlib.blake2b(b"".join(parts), digest_size=8).digest()
    return np.frombuffer(found, "<u8")


def canonical(metadata: bytes) -> bytes:
    """Metadata as every equal document is spelled: members in order, and 5.0 as 5."""
    document = parse_json(metadata)
    if not isinstance(document, dict):
        raise Malformed("Metadata is an object")
    for name, value in document.items():
        if value.__class__ is float:
            if value.is_integer():
                document[name] = _plain(value)
        elif value.__class__ is list:
            document[name] = [_plain(element) for element in value]
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer beyond 64 bits
        return dump_json(dict(sorted(document.items())))


def _plain(value: object) -> object:
    """A number without fraction as an integer, as long as doubles tell integers apart."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value


def tally(blocks: Iterator[Puts]) -> Tally:
    """The tally of all rows of some blocks."""
    found = Tally()
    for puts in blocks:
        found.add(digests(puts))
    return found


def sorted_among(run: np.ndarray, have: np.ndarray) -> np.ndarray:
    """Mask [n] of the values of a run that are in a sorted array."""
    if not len(have):
        return np.zeros(len(run), np.bool_)
    near = np.minimum(np.searchsorted(have, run), len(have) - 1)
    mask: np.ndarray = have[near] == run
    return mask
