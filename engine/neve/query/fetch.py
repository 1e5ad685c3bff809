"""Rows by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neve.index.state import State
from neve.segments.rows import hash_key


@dataclass(frozen=True, slots=True)
class Row:
    """One live row; `vector` float32 [d], `metadata` a JSON object as stored."""

    key: str
    vector: np.ndarray
    metadata: bytes


def fetch(state: State, keys: Sequence[str]) -> list[Row]:
    """The live rows of some keys, each once, in the order of first mention; what is absent is left out. No request."""
    found = []
    for key in dict.fromkeys(keys):
        raw = key.encode()
        hash_ = hash_key(raw)
        for part in state.parts:
            row = part.rows.keys.find(hash_, raw)
            if row is not None and part.live[row]:
                found.append(Row(key, part.rows.vectors[row], part.rows.metadata[row]))
                break
    return found
