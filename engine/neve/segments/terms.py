"""Terms of the filter index: what rows can be asked for by, as byte strings in the order of the values they stand for.

A term is a metadata key, the kind of a value, and the value; terms of one key and kind follow one another. The rows of
neighbouring terms share a block. Numbers are doubles, as filters compare them.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from bisect import bisect_left
from enum import IntEnum

import numpy as np
from pyroaring import BitMap

from neve.dataclass import dataclass
from neve.segments.columns import Column

TEXT_BYTES_MAX = 64
"""A longer string is known by its first TEXT_BYTES bytes and a hash of all: BLAKE2b of 16 bytes."""
TEXT_BYTES = 48
BLOCK_BYTES_MAX = 1 << 26
"""What a block may have decompressed; the largest holds one term of a segment of 2^27 rows."""
DENSE_SHARE = 16
"""A term that one row in so many has, or more, is a bitmap in a block of its own: a tenth of the time to decode."""
_HEAD = struct.Struct("<IIII")
END = b"\0\0"
"""Between key and kind; within a key no zero byte follows another."""


class Kind(IntEnum):
    """Kinds of values. ROWS stands for none: its terms are the rows that have the key, and those with each kind."""

    ROWS = 0
    BOOLEAN = 1
    NUMBER = 2
    STRING = 3
    LONG = 4
    """A string of more than TEXT_BYTES_MAX bytes."""


def stem(key: str, kind: Kind) -> bytes:
    """What all terms of a key and kind begin with, and no other term."""
    return key.encode().replace(b"\0", b"\0\xff") + END + bytes([kind])


def stem_of(term: bytes) -> bytes:
    """The stem that a term begins with."""
    return term[: term.index(END) + len(END) + 1]


def number_bytes(number: float) -> bytes:
    """8 bytes whose order is that of doubles; -0.0 is 0.0."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", number + 0.0))
    return struct.pack(">Q", bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63))


def text_term(key: str, text: str) -> bytes:
    """The term of a string."""
    raw = text.encode()
    if len(raw) <= TEXT_BYTES_MAX:
        return stem(key, Kind.STRING) + raw
    return stem(key, Kind.LONG) + raw[:TEXT_BYTES] + hashlib.blake2b(raw, digest_size=16).digest()


def after(prefix: bytes) -> bytes:
    """The least byte string above all that begin with `prefix`, which is not all 0xff."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


@dataclass(frozen=True, slots=True, eq=False)
class TermBlock:
    """Rows of some terms that follow one another: term i is `prefix` and `suffixes[i]`; its rows rise.

    `ends` uint32 [terms + 1]: its rows are those from `ends[i]` to before `ends[i + 1]` of `rows`, uint32.
    """

    prefix: bytes
    suffixes: Column
    ends: np.ndarray
    rows: np.ndarray

    def encode(self, segment_rows: int) -> bytes:
        """Bytes of the block; deterministic."""
        dense = len(self.suffixes) == 1 and len(self.rows) * DENSE_SHARE >= segment_rows
        parts = [
            _HEAD.pack(len(self.suffixes), len(self.rows), len(self.prefix), dense),
            np.diff(self.ends).astype("<u4").tobytes(),
            np.diff(self.suffixes.offsets).astype("<u4").tobytes(),
            self.prefix,
            self.suffixes.data.tobytes(),
            _bitmap(self.rows) if dense else _planes(self.rows),
        ]
        return zlib.compress(b"".join(parts))

    @classmethod
    def decode(cls, segment_rows: int, raw: bytes | memoryview) -> TermBlock:
        """The block of some bytes of a segment of so many rows; raises ValueError if they make no sense."""
        inflater = zlib.decompressobj()
        try:
            body = memoryview(inflater.decompress(raw, BLOCK_BYTES_MAX))
            terms, count, prefix_bytes, dense = _HEAD.unpack_from(body)
        except (zlib.error, struct.error) as error:
            raise ValueError("it is no block of terms") from error
        if not inflater.eof or 8 * terms > len(body):
            raise ValueError("it has fewer bytes than it says")
        starts = np.zeros((2, terms + 1), np.uint64)
        place = _HEAD.size
        for start in starts:
            np.cumsum(np.frombuffer(body, "<u4", terms, place), out=start[1:])
            place += 4 * terms
        ends, offsets = starts
        prefix = bytes(body[place : place + prefix_bytes])
        place += prefix_bytes
        suffixes = Column(np.frombuffer(body, np.uint8, int(offsets[-1]), place).copy(), offsets)
        rest = body[place + int(offsets[-1]) :]
        rows = _of_bitmap(rest) if dense else _of_planes(rest)
        if len(rows) != count or ends[-1] != count or (count and rows.max() >= segment_rows):
            raise ValueError("it has other rows than it says")
        return cls(prefix, suffixes, ends.astype(np.uint32), rows)

    def __len__(self) -> int:
        return len(self.suffixes)

    def term(self, number: int) -> bytes:
        return self.prefix + self.suffixes[number]

    def between(self, low: bytes, high: bytes) -> np.ndarray:
        """Rows of the terms from `low` to before `high`, term by term; uint32."""
        first, last = (bisect_left(range(len(self)), bound, key=self.term) for bound in (low, high))
        return self.rows[self.ends[first] : self.ends[last]]


def _bitmap(rows: np.ndarray) -> bytes:
    bitmap = BitMap(rows)
    bitmap.run_optimize()
    return bytes(bitmap.serialize())


def _of_bitmap(raw: memoryview) -> np.ndarray:
    try:
        return np.frombuffer(BitMap.deserialize(bytes(raw)).to_array(), np.uint32)
    except (IndexError, OverflowError) as error:  # the first where it has no row
        raise ValueError("it has no bitmap of rows") from error


def _planes(rows: np.ndarray) -> bytes:
    """Differences between neighbours, modulo 2^32, byte by byte: first all lowest bytes, at last all highest."""
    steps = np.diff(rows.astype("<u4"), prepend=np.uint32(0))
    return np.ascontiguousarray(steps.view(np.uint8).reshape(-1, 4).T).tobytes()


def _of_planes(raw: memoryview) -> np.ndarray:
    steps = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(4, -1).T).view("<u4")
    rows: np.ndarray = np.cumsum(steps.ravel(), dtype=np.uint32)
    return rows
