"""The key index of a segment: its rows in the order of (hash of the key, key), in blocks of about 16 KiB.

A block is the number of its entries (4 bytes), the entries (`KEY_ENTRY`), and the UTF-8 of their keys, one after
another. Keys of equal hash share a block, so a lookup reads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt
from neve.segments.columns import Column
from neve.segments.layout import KEY_ENTRY
from neve.segments.rows import Keys

BLOCK_BYTES = 16_384
"""A block is closed by the first key that begins beyond so many bytes: small beside the time of a request, and one
block in a thousand rows' worth of directory."""
_COUNT_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class KeyBlock:
    """Rows of a segment in (hash, key) order; `entries` KEY_ENTRY [n]."""

    entries: np.ndarray
    keys: Column

    @classmethod
    def decode(cls, name: str, raw: bytes) -> KeyBlock:
        """The block of a range of bytes; raises ObjectCorrupt with the object's `name` if it is not laid out as one."""
        count = int.from_bytes(raw[:_COUNT_BYTES], "little")
        keys_at = _COUNT_BYTES + count * KEY_ENTRY.itemsize
        if not count or keys_at > len(raw):
            raise ObjectCorrupt(f"{name} holds a key block of {len(raw)} bytes that cannot have {count} keys")
        entries = np.frombuffer(raw, KEY_ENTRY, count, _COUNT_BYTES)
        offsets = np.zeros(count + 1, np.uint64)
        np.cumsum(entries["key_bytes"], out=offsets[1:])
        if keys_at + int(offsets[-1]) != len(raw) or np.any(entries["hash"][1:] < entries["hash"][:-1]):
            raise ObjectCorrupt(f"{name} holds a key block whose keys are out of place")
        return cls(entries, Column(np.frombuffer(raw, np.uint8, offset=keys_at), offsets))

    def encode(self) -> bytes:
        count = len(self.entries).to_bytes(_COUNT_BYTES, "little")
        return b"".join((count, self.entries.tobytes(), self.keys.data.tobytes()))

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in memory."""
        return int(self.entries.nbytes + self.keys.data.nbytes + self.keys.offsets.nbytes)

    def as_keys(self) -> Keys:
        """Hashes, keys and positions, for what works on keys alike in tails and segments."""
        return Keys(
            np.ascontiguousarray(self.entries["hash"]), self.keys, np.ascontiguousarray(self.entries["position"])
        )

    def find(self, hash_: int, key: bytes) -> np.void | None:
        """The entry of a key; None where it is not."""
        place = int(np.searchsorted(self.entries["hash"], np.uint64(hash_)))
        while place < len(self) and self.entries["hash"][place] == hash_:
            if self.keys[place] == key:
                entry: np.void = self.entries[place]
                return entry
            place += 1
        return None


def block_edges(hashes: np.ndarray, key_bytes: np.ndarray, block_bytes: int = BLOCK_BYTES) -> np.ndarray:
    """Where to cut sorted rows into blocks: int64 [blocks + 1]; never between equal hashes."""
    begins = np.cumsum(key_bytes + np.int64(KEY_ENTRY.itemsize)) - key_bytes - KEY_ENTRY.itemsize
    turn = np.flatnonzero(np.diff(begins // block_bytes)) + 1
    repeated = np.zeros(len(hashes) + 1, np.bool_)
    repeated[1:-1] = hashes[1:] == hashes[:-1]
    while np.any(late := repeated[turn]):
        turn = turn + late
    return np.unique(np.concatenate([[0], turn, [len(hashes)]]))


def match_rows(keys: Keys, heads: np.ndarray, read: Callable[[Sequence[int]], Iterator[KeyBlock]]) -> np.ndarray:
    """Rows uint32 of a segment whose key is among `keys`; the order says nothing.

    `heads` is the directory's key_heads; `read` is handed the numbers of the blocks in question, ascending.
    """
    near = np.searchsorted(heads, keys.hashes, side="right") - 1
    numbers, firsts = np.unique(near, return_index=True)
    firsts = np.append(firsts, len(keys))[np.searchsorted(numbers, 0) :]
    rows = [np.empty(0, np.uint32)]
    for block, (start, stop) in zip(read(numbers[numbers >= 0].tolist()), pairwise(firsts.tolist()), strict=True):
        ours, _ = block.as_keys().match(keys.take(np.arange(start, stop)))
        rows.append(block.entries["row"][ours])
    return np.concatenate(rows)
