"""The one frame of every object that neve writes: two lines of JSON, then binary sections.

Line 1 is `{"neve":1,"blake2b":"<32 hex digits>"}`: the format's version, and the BLAKE2b-128 of that number in decimal,
a newline, and all that follows the line.
Line 2 is the object's own JSON, padded with spaces so that what follows starts at a multiple of 64 bytes.
Its member `sections` maps a name to [numpy dtype, shape, offset]; offsets count from the first byte after line 2.
A reader needs numpy and a JSON parser, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt, StoreForeign

FORMAT_VERSION = 1
ALIGNMENT_BYTES = 64
_SEAL = b'{"neve":%d,"blake2b":"%s"}\n'
_SEAL_BYTES = len(_SEAL % (FORMAT_VERSION, b"0" * 32))


@dataclass(frozen=True, slots=True)
class Envelope:
    """An object's JSON members and its binary sections (read-only views of the object's bytes)."""

    fields: Mapping[str, Any]
    sections: Mapping[str, np.ndarray]


def seal(fields: Mapping[str, Any], sections: Mapping[str, np.ndarray] | None = None) -> bytes:
    """Bytes of an object; `fields` must be JSON-ready and have no member `sections`. Deterministic for equal input."""
    table: dict[str, tuple[str, tuple[int, ...], int]] = {}
    chunks: list[bytes] = []
    offset = 0
    for name, array in (sections or {}).items():
        raw = np.ascontiguousarray(array).tobytes()
        table[name] = (array.dtype.str, array.shape, offset)
        chunks += (raw, bytes(-len(raw) % ALIGNMENT_BYTES))
        offset += len(raw) + len(chunks[-1])
    document = orjson.dumps({**fields, "sections": table} if table else fields)
    padding = b" " * (-(_SEAL_BYTES + len(document) + 1) % ALIGNMENT_BYTES)
    payload = b"".join((document, padding, b"\n", *chunks))
    return _SEAL % (FORMAT_VERSION, _digest(FORMAT_VERSION, payload)) + payload


def intact(body: bytes) -> bool:
    """Whether the bytes are whole and unchanged, as far as their checksum tells; of any version of the format."""
    line, newline, payload = body.partition(b"\n")
    try:
        head = orjson.loads(line)
        return bool(newline) and head["blake2b"].encode() == _digest(head["neve"], payload)
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return False


def unseal(key: str, body: bytes) -> Envelope:
    """The members and sections of an object whose checksum the store layer has verified.

    Raises ObjectCorrupt if the layout makes no sense, StoreForeign if the format is newer than ours.
    """
    try:
        first = body.index(b"\n") + 1
        version = orjson.loads(body[:first])["neve"]
        if version > FORMAT_VERSION:
            raise StoreForeign(
                f"{key} is written in format {version}; this version of neve reads up to {FORMAT_VERSION}"
            )
        second = body.index(b"\n", first) + 1
        fields = orjson.loads(body[first:second])
        sections = {
            name: np.frombuffer(body, dtype, int(np.prod(shape)), second + offset).reshape(shape)
            for name, (dtype, shape, offset) in fields.pop("sections", {}).items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, SyntaxError) as error:  # SyntaxError: NumPy, of a dtype
        raise ObjectCorrupt(f"{key} is not laid out as an object of neve") from error
    return Envelope(fields, sections)


def _digest(version: int, payload: bytes) -> bytes:
    digest = hashlib.blake2b(b"%d\n" % version, digest_size=16)
    digest.update(payload)
    return digest.hexdigest().encode()
