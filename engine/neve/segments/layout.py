"""What the bytes of a segment mean: rows of codes, entries of the key index, and records (key and metadata of a row).

All numbers are little-endian, and no row has padding, so that one range of bytes is a NumPy array.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import orjson

from neve.errors import ObjectCorrupt

ROWS_MAX = 2**32 - 1
"""Rows of one segment: row numbers have 32 bits."""

KEY_ENTRY = np.dtype(
    [
        ("hash", "<u8"),
        ("position", "<u8"),
        ("row", "<u4"),
        ("record_at", "<u8"),
        ("record_bytes", "<u4"),
        ("record_crc", "<u4"),
        ("vector_crc", "<u4"),
        ("key_bytes", "<u2"),
    ]
)
"""A row in the key index: the hash of its key, the log entry that wrote it, its number, and where its record lies."""

LOCATION = ("hash", "record_at", "record_bytes", "record_crc", "vector_crc")
"""Fields that a code row and a key entry share: with the row's number all that reading a hit needs."""

_HEAD, _MIDDLE, _TAIL = b'{"key":', b',"metadata":', b"}"


def code_bytes(dimension: int) -> int:
    """Bytes of a code: 4 bits a dimension."""
    return (dimension + 1) // 2


@cache
def code_row(dimension: int) -> np.dtype[np.void]:
    """dtype of a row of `codes.lance`: the code, its score's factor and bias, its vector's row, and `LOCATION`."""
    return np.dtype(
        [
            ("code", "u1", (code_bytes(dimension),)),
            ("factor", "<f4"),
            ("bias", "<f4"),
            ("row", "<u4"),
            ("hash", "<u8"),
            ("record_at", "<u8"),
            ("record_bytes", "<u4"),
            ("record_crc", "<u4"),
            ("vector_crc", "<u4"),
        ]
    )


def join_record(key: bytes, metadata: bytes) -> bytes:
    """JSON text of a row: `{"key":…,"metadata":…}`; `key` is UTF-8, `metadata` a JSON object, kept as it is."""
    return b"".join((_HEAD, orjson.dumps(key.decode()), _MIDDLE, metadata, _TAIL))


def split_record(name: str, record: bytes) -> tuple[bytes, bytes]:
    """Key (UTF-8) and metadata (the very bytes that were joined) of a record.

    Raises ObjectCorrupt with the object's `name` if it is none. A quote inside a JSON string follows a backslash, so
    the first `","metadata":` is where the key's string ends.
    """
    end = record.find(b'"' + _MIDDLE)
    if end < len(_HEAD) + 1 or not (record.startswith(_HEAD + b'"') and record.endswith(_TAIL)):
        raise ObjectCorrupt(f"{name} holds a record that is not laid out as one")
    key = record[len(_HEAD) + 1 : end]
    if b"\\" in key:
        try:
            key = orjson.loads(b'"%b"' % key).encode()
        except ValueError as error:
            raise ObjectCorrupt(f"{name} holds a record whose key is no JSON string") from error
    return key, record[end + 1 + len(_MIDDLE) : -len(_TAIL)]
