"""Compaction as tests ask for it, and the live set of a state as its segments define it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from neve.compaction.build import Means
from neve.compaction.compact import Compaction, compact
from neve.errors import ObjectGone
from neve.index.database import Database
from neve.index.state import State
from neve.segments.stream import key_blocks
from neve.store.port import Get, body
from neve.vectors import probing


@contextmanager
def short_calibrations(queries: int = 6) -> Iterator[None]:
    """So few pseudo-queries (a multiple of 6) that a compaction takes 30 ms; few rows are scored exactly anyway."""
    with patch.object(probing, "QUERIES", queries):
        yield


@contextmanager
def workspaces() -> Iterator[Path]:
    """A folder for workspaces, in memory where there is such a place."""
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="neve-", dir=in_memory if in_memory.is_dir() else None) as folder:
        yield Path(folder)


def compact_in(database: Database, folder: Path, bucket: str, index: str, **options: Any) -> Compaction | None:
    """A compaction that is asked for, its workspace below `folder`; `options` as those of `compact` and `Means`."""
    means = {name: options.pop(name) for name in ("progress", "executor") if name in options}
    return compact(database, bucket, index, Means(folder, **means), **{"asked": True, **options})


def live_set(database: Database, state: State) -> dict[bytes, int]:
    """Position by key of all live rows: what no fold and no compaction may change. Each key is live once."""
    live = {}
    for part in state.parts:
        for row in np.flatnonzero(part.live).tolist():
            assert part.rows.keys.keys[row] not in live, "a key is live twice"
            live[part.rows.keys.keys[row]] = int(part.rows.keys.positions[row])
    recent = {key for keys in state.recent_keys for key in keys.keys}

    def fetch(key: str, start: int, stop: int) -> bytes:
        raw = body(database.store.wave([Get(key, start, stop)])[0])
        if raw is None:
            raise ObjectGone(key)
        return raw

    for compacted in state.compacted:
        masked = compacted.masked if compacted.masked is not None else np.zeros(compacted.info.rows, np.bool_)
        for block in key_blocks(compacted.directory, fetch):
            for key, entry in zip(block.keys, block.entries, strict=True):
                if not masked[entry["row"]] and key not in recent:
                    assert key not in live, "a key is live twice"
                    live[key] = int(entry["position"])
    return live
