"""Rows by key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neve.dataclass import dataclass
from neve.index.records import IndexRecord
from neve.index.state import Compacted, State
from neve.query.hits import want_record, want_vector
from neve.query.session import Prefetch, Session
from neve.segments.directory import Directory
from neve.segments.keyblocks import KeyBlock
from neve.segments.rows import hash_key
from neve.store.blocks import Wanted


@dataclass(frozen=True, slots=True)
class Row:
    """One live row; `vector` float32 [d], `metadata` a JSON object as stored; None where they were not asked for."""

    key: str
    vector: np.ndarray | None
    metadata: bytes | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a live compacted row lies: its segment's directory and its key entry."""

    directory: Directory
    entry: np.void

    def want(self, *, vector: bool = True, record: bool = True) -> list[Wanted]:
        """The blocks of the row."""
        wanted = []
        if vector:
            wanted.append(want_vector(self.directory, int(self.entry["row"]), int(self.entry["vector_crc"])))
        if record:
            wanted.append(want_record(self.directory, self.entry))
        return wanted


def want_key_block(directory: Directory, block: int) -> Wanted:
    """A block of a segment's key index."""
    asked = directory.key_block(block)
    return Wanted(asked, lambda raw: KeyBlock.decode(asked.key, bytes(raw)), 2 * (asked.stop - asked.start))


def fetch(session: Session, state: State, keys: Sequence[str]) -> list[Row]:
    """The live rows of some keys, each once, in the order of first mention; what is absent is left out.

    No request for recent rows; for others two waves: blocks of the key index, then the rows. Raises StoreError.
    """
    named = {key: hash_key(key.encode()) for key in dict.fromkeys(keys)}
    found: dict[str, Row] = {}
    for key, hash_ in named.items():
        row = _recent(state, hash_, key)
        if row is not None:
            found[key] = row
    asked = {key: h for key, h in named.items() if key not in found and not state.hides(h, key.encode())}
    if state.compacted and asked:
        found |= read_rows(session, _places(session, state.compacted, asked), vectors=True, metadata=True)
    return [found[key] for key in named if key in found]


def key_blocks_ahead(session: Session, keys: Sequence[str]) -> Prefetch:
    """The blocks of the key index that some keys need, and then the rows, read beside the opening of their index."""
    named = {key: hash_key(key.encode()) for key in dict.fromkeys(keys)}
    begun: set[str] = set()

    def first(_: IndexRecord, directories: Sequence[Directory]) -> list[Wanted]:
        begun.update(directory.folder for directory in directories)
        hashes = list(named.values())
        return [want for directory in directories for want in _key_blocks(directory, hashes)]

    def then(segments: Sequence[Compacted]) -> list[Wanted]:
        if not begun.issuperset(compacted.directory.folder for compacted in segments):
            return []
        return [want for place in _places(session, segments, named).values() for want in place.want()]

    return Prefetch(session, first, then)


def read_rows(session: Session, places: dict[str, Place], *, vectors: bool, metadata: bool) -> dict[str, Row]:
    """Compacted rows by key, with what was asked for of them. At most one wave. Raises StoreError."""
    wanted = [want for place in places.values() for want in place.want(vector=vectors, record=metadata)]
    values = iter(session.read(wanted))
    return {key: Row(key, next(values) if vectors else None, next(values)[1] if metadata else None) for key in places}


def _recent(state: State, hash_: int, key: str) -> Row | None:
    raw = key.encode()
    for part in state.parts:
        row = part.rows.keys.find(hash_, raw)
        if row is not None and part.live[row]:
            return Row(key, part.rows.vectors[row], part.rows.metadata[row])
    return None


def _places(session: Session, segments: Sequence[Compacted], asked: dict[str, int]) -> dict[str, Place]:
    """Where the unmasked rows of some keys (with their hashes) are. At most one wave."""
    wanted = {
        (compacted.directory.folder, block): want_key_block(compacted.directory, block)
        for compacted in segments
        for block in _block_numbers(compacted.directory, list(asked.values()))
    }
    blocks = dict(zip(wanted, session.read(list(wanted.values())), strict=True))
    found: dict[str, Place] = {}
    for compacted in segments:
        directory = compacted.directory
        for key, hash_ in asked.items():
            number = directory.key_block_of(hash_)
            block: KeyBlock | None = blocks.get((directory.folder, -1 if number is None else number))
            entry = None if block is None else block.find(hash_, key.encode())
            if entry is not None and _is_live(compacted, entry):
                found[key] = Place(directory, entry)
    return found


def _key_blocks(directory: Directory, hashes: Sequence[int]) -> list[Wanted]:
    return [want_key_block(directory, block) for block in _block_numbers(directory, hashes)]


def _block_numbers(directory: Directory, hashes: Sequence[int]) -> list[int]:
    return sorted({block for hash_ in hashes if (block := directory.key_block_of(hash_)) is not None})


def _is_live(compacted: Compacted, entry: np.void) -> bool:
    return compacted.masked is None or not compacted.masked[entry["row"]]
